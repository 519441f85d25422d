//! Times as people write them.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// A point in time, in milliseconds since the Unix epoch: RFC 3339, a date (UTC), or how long ago (`90s`, `15m`, `24h`, `7d`).
///
/// # Errors
/// Says what is accepted.
pub fn parse_time(text: &str, now_ms: i64) -> Result<i64, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_millisecond());
    }
    if let Ok(date) = text.parse::<Date>()
        && let Ok(zoned) = date.to_zoned(TimeZone::UTC)
    {
        return Ok(zoned.timestamp().as_millisecond());
    }
    parse_span(text).map(|span_ms| now_ms.saturating_sub(span_ms)).ok_or_else(|| {
        format!("`{text}` is not a time; write RFC 3339 (`2026-11-20T07:00:00Z`), a date, or how long ago (`15m`, `24h`, `7d`)")
    })
}

/// A length of time such as `90s` or `1h30m`, in milliseconds. Months and years have none.
#[must_use]
pub fn parse_span(text: &str) -> Option<i64> {
    let span = text.parse::<Span>().ok()?;
    if span.get_years() != 0 || span.get_months() != 0 {
        return None;
    }
    let days = i64::from(span.get_weeks()) * 7 + i64::from(span.get_days());
    let seconds = i64::from(span.get_hours()) * 3_600 + span.get_minutes() * 60 + span.get_seconds();
    let span_ms = days.saturating_mul(86_400).saturating_add(seconds).saturating_mul(1_000);
    let span_ms = span_ms.saturating_add(span.get_milliseconds());
    (span_ms >= 0).then_some(span_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_relative() {
        let now = 1_795_158_000_000; // 2026-11-20T07:00:00Z
        for (text, expected) in [
            ("2026-11-20T07:00:00Z", now),
            ("2026-11-20T08:00:00+01:00", now),
            ("2026-11-20", now - 7 * 3_600_000),
            ("90s", now - 90_000),
            ("15m", now - 900_000),
            ("24h", now - 86_400_000),
            ("7d", now - 7 * 86_400_000),
            ("1h30m", now - 5_400_000),
        ] {
            assert_eq!(parse_time(text, now), Ok(expected), "{text}");
        }
        for text in ["", "yesterday", "-5m", "1mo", "12"] {
            assert!(parse_time(text, now).is_err(), "{text}");
        }
    }
}
