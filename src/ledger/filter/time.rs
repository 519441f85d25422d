//! Times as people write them.

use jiff::civil::{DateTime, Time};
use jiff::fmt::temporal::Pieces;
use jiff::{Span, Timestamp};

/// A point in time, in milliseconds since the Unix epoch: RFC 3339, a date (UTC), or how long ago (`90s`, `15m`, `24h`, `7d`).
/// What is beyond the last time that can be written in every time zone (on 9999-12-30) counts as that.
///
/// # Errors
/// Says what is accepted.
pub fn parse_time(text: &str, now_ms: i64) -> Result<i64, String> {
    absolute(text).or_else(|| parse_span(text).map(|span_ms| now_ms.saturating_sub(span_ms))).ok_or_else(|| {
        format!(
            "`{text}` is not a time; write RFC 3339 (`2026-11-20T07:00:00Z`), a date, both from year 0000 to 9999, or how \
             long ago (`15m`, `24h`, `7d`)"
        )
    })
}

fn absolute(text: &str) -> Option<i64> {
    let pieces = Pieces::parse(text).ok()?;
    let (time, offset_s) = match (pieces.time(), pieces.to_numeric_offset()) {
        // RFC 3339 §5.6: hours of an offset are those of a day.
        (Some(time), Some(offset)) if offset.seconds().abs() < 86_400 => (time, offset.seconds()),
        (None, None) => (Time::midnight(), 0),
        // A time of day somewhere.
        _ => return None,
    };
    let time = pieces.date().to_datetime(time);
    if time.year() < 0 {
        return None;
    }
    let since_epoch = time.duration_since(DateTime::new(1970, 1, 1, 0, 0, 0, 0).ok()?).as_millis();
    let ms = i64::try_from(since_epoch).ok()?.saturating_sub(i64::from(offset_s).saturating_mul(1_000));
    Some(ms.min(Timestamp::MAX.as_millisecond()))
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
            ("9999-12-31", Timestamp::MAX.as_millisecond()),
            ("9999-12-31T23:59:59.999Z", Timestamp::MAX.as_millisecond()),
            ("9999-12-30T00:00:00Z", 253_402_128_000_000),
            ("0000-01-01", -62_167_219_200_000),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000),
        ] {
            assert_eq!(parse_time(text, now), Ok(expected), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "-5m",
            "1mo",
            "12",
            "10000-01-01",
            "-000001-01-01",
            "2026-11-20T07:00:00",
            "2026-02-30",
            "07:00",
            "2026-11-20T07:00:00+24:00",
        ] {
            assert!(parse_time(text, now).is_err(), "{text}");
        }
    }
}
