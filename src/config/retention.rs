//! `[ledger.retention]`: ages in words, made into numbers.

use jiff::Span;

use super::raw::RawRetention;
use crate::ledger::{Retention, Rule, prunable};

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Checks ages and kinds; what is wrong is added to `problems`.
pub(super) fn validate(raw: &RawRetention, problems: &mut Vec<String>) -> Retention {
    let mut age = |key: &str, text: &str| {
        if text == "forever" && !key.ends_with("min_retention") {
            return None;
        }
        let age = age_ms(text);
        if age.is_none() {
            let forever = if key.ends_with("min_retention") { "" } else { ", or `forever`" };
            problems.push(format!("`{key}`: `{text}` is not an age; write `90d`, `12h` or `6y`{forever}"));
        }
        age
    };
    let key = |number: usize, name: &str| format!("ledger.retention.rules.{number}.{name}");
    let max_age_ms = raw.max_age.as_deref().and_then(|text| age("ledger.retention.max_age", text));
    let min_retention = raw.min_retention.as_deref();
    let min_retention_ms =
        min_retention.and_then(|text| age("ledger.retention.min_retention", text)).unwrap_or_default();
    let ages: Vec<Option<i64>> =
        raw.rules.iter().enumerate().map(|(at, rule)| age(&key(at, "max_age"), &rule.max_age)).collect();
    let all = ages.iter().enumerate().map(|(at, age)| (key(at, "max_age"), *age));
    for (key, age) in all.chain([("ledger.retention.max_age".into(), max_age_ms)]) {
        if age.is_some_and(|age| age < min_retention_ms) {
            problems.push(format!(
                "`{key}` undercuts `ledger.retention.min_retention`; make it at least as long"
            ));
        }
    }
    let mut rules = Vec::new();
    for (at, (rule, max_age_ms)) in raw.rules.iter().zip(ages).enumerate() {
        let kind = rule.kind.as_deref().map(prunable).transpose();
        let kind = kind.unwrap_or_else(|problem| {
            problems.push(format!("`{}`: {problem}", key(at, "kind")));
            None
        });
        rules.push(Rule { kind, zone: rule.zone.clone(), max_age_ms });
    }
    Retention { rules, max_age_ms, min_retention_ms }
}

/// An age in milliseconds. A year counts 366 days and a month 31, so that nothing goes early.
fn age_ms(text: &str) -> Option<i64> {
    let span: Span = text.parse().ok()?;
    let days = i64::from(span.get_years()) * 366
        + i64::from(span.get_months()) * 31
        + i64::from(span.get_weeks()) * 7
        + i64::from(span.get_days());
    let seconds = i64::from(span.get_hours()) * 3_600 + span.get_minutes() * 60 + span.get_seconds();
    let age = days.checked_mul(DAY_MS)?.checked_add(seconds.checked_mul(1_000)?)?;
    (age > 0).then_some(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_generous() {
        for (text, days) in [("90d", 90), ("1y", 366), ("6y", 2_196), ("3mo", 93), ("2w", 14), ("48h", 2)] {
            assert_eq!(age_ms(text), Some(days * DAY_MS), "{text}");
        }
        for text in ["", "90", "-1d", "0d", "forever", "soon"] {
            assert_eq!(age_ms(text), None, "{text}");
        }
    }
}
