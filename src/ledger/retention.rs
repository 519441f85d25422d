//! How long payloads are kept: rules by kind and zone, and a floor that no prune may undercut.
//!
//! Pure: what is due follows from the rules and the time that is passed in.

use rusqlite::types::Value as Sql;
use serde_json::{Value, json};

use super::Kind;
use crate::clock::rfc3339;

/// Entries carry the time their request arrived and are numbered as they become durable: this much apart at most, in
/// milliseconds. What a clock that was set back has put further away is found once it is that much older.
const DISORDER_MS: i64 = 3_600_000;

/// What is kept, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The first that matches an entry counts.
    pub rules: Vec<Rule>,
    /// What no rule matches is kept this long, in milliseconds; for ever, if absent.
    pub max_age_ms: Option<i64>,
    /// Nothing younger is pruned, whoever asks, in milliseconds.
    pub min_retention_ms: i64,
}

/// How long some entries are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only of this tenant.
    pub zone: Option<String>,
    /// In milliseconds; for ever, if absent.
    pub max_age_ms: Option<i64>,
}

impl Retention {
    /// What is due at a time; `None` where everything is kept.
    #[must_use]
    pub fn due(&self, now_ms: i64) -> Option<Plan> {
        let before = |age: Option<i64>| age.map(|age| now_ms.saturating_sub(age.max(self.min_retention_ms)));
        let rules = self.rules.iter().map(|rule| Cut {
            kind: rule.kind,
            zone: rule.zone.clone(),
            before_ms: before(rule.max_age_ms),
        });
        let rest = Cut { kind: None, zone: None, before_ms: before(self.max_age_ms) };
        let plan = Plan { cuts: rules.chain([rest]).collect() };
        plan.latest_ms().is_some().then_some(plan)
    }

    /// Whether a prune of everything before that time would take what must be kept; says so in words.
    ///
    /// # Errors
    /// It would.
    pub fn allows(&self, before_ms: i64, now_ms: i64) -> Result<(), String> {
        let floor_ms = now_ms.saturating_sub(self.min_retention_ms);
        if self.min_retention_ms > 0 && before_ms > floor_ms {
            return Err(format!(
                "`ledger.retention.min_retention` keeps everything from {} on, and {} is later; prune before that time",
                rfc3339(floor_ms),
                rfc3339(before_ms)
            ));
        }
        Ok(())
    }
}

/// The kind of that word, if its entries may be pruned.
///
/// # Errors
/// Says which kinds there are.
pub fn prunable(word: &str) -> Result<Kind, String> {
    match Kind::parse(word) {
        Some(kind) if kind.is_act() => {
            Err(format!("entries of kind `{word}` say what became of others, and are never pruned"))
        }
        Some(kind) => Ok(kind),
        None => {
            let words = Kind::ALL.map(Kind::as_str);
            let nearest = words
                .into_iter()
                .max_by(|a, b| strsim::jaro_winkler(a, word).total_cmp(&strsim::jaro_winkler(b, word)));
            Err(format!("there is no kind `{word}`; did you mean `{}`?", nearest.unwrap_or_default()))
        }
    }
}

/// What is to be pruned: the first cut that matches an entry counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are tried.
    pub cuts: Vec<Cut>,
}

/// Everything of a kind and a zone that is older than a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only of this tenant.
    pub zone: Option<String>,
    /// In milliseconds since the Unix epoch; nothing is pruned, if absent.
    pub before_ms: Option<i64>,
}

impl Plan {
    fn latest_ms(&self) -> Option<i64> {
        self.cuts.iter().filter_map(|cut| cut.before_ms).max()
    }

    /// The id that no entry of the plan reaches. Ids are ULIDs of the entry's time, and have an index.
    pub(super) fn beyond_id(&self) -> String {
        let latest_ms = self.latest_ms().unwrap_or(0).saturating_add(DISORDER_MS);
        ulid::Ulid::from_parts(u64::try_from(latest_ms).unwrap_or(0), 0).to_string()
    }

    /// An SQL expression for the time before which a row of `leaves l` is pruned, NULL where it is kept, and its parameters.
    pub(super) fn before(&self) -> (String, Vec<Sql>) {
        let (mut sql, mut values) = (String::from("CASE"), Vec::new());
        for cut in &self.cuts {
            sql.push_str(" WHEN l.kind NOT IN ('prune', 'erase', 'hold')");
            if let Some(kind) = cut.kind {
                sql.push_str(" AND l.kind = ?");
                values.push(Sql::Text(kind.as_str().into()));
            }
            if let Some(zone) = &cut.zone {
                sql.push_str(" AND l.zone = ?");
                values.push(Sql::Text(zone.clone()));
            }
            sql.push_str(" THEN ?");
            values.push(cut.before_ms.map_or(Sql::Null, |before_ms| Sql::Text(rfc3339(before_ms))));
        }
        sql.push_str(" END");
        (sql, values)
    }

    /// The plan as an act records it.
    pub(super) fn described(&self) -> Value {
        let cuts = self.cuts.iter().filter_map(|cut| {
            let before = rfc3339(cut.before_ms?);
            Some(json!({"kind": cut.kind.map(Kind::as_str), "zone": cut.zone, "before": before}))
        });
        cuts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_binds_sweeps_and_commands() {
        let retention = Retention { max_age_ms: Some(10), min_retention_ms: 30, rules: Vec::new() };
        assert_eq!(retention.due(100).unwrap().cuts.last().unwrap().before_ms, Some(70));
        assert_eq!(retention.allows(70, 100), Ok(()));
        assert!(retention.allows(71, 100).unwrap_err().contains("min_retention"));
        assert_eq!(Retention::default().due(100), None);
        assert_eq!(Retention::default().allows(100, 100), Ok(()));
    }
}
