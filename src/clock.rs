//! Where time and randomness come from: two function pointers that the wiring chooses.
//!
//! Nothing below the wiring reads a wall clock or the system's entropy by itself, so that every decision can be replayed
//! and every test can choose its own time.

use jiff::Timestamp;
use ulid::Ulid;

/// The time and the entropy an engine works with.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Milliseconds since the Unix epoch, UTC.
    pub now_ms: fn() -> i64,
    /// Fills the buffer with bytes nobody can predict.
    pub random: fn(&mut [u8]),
}

impl Clock {
    /// A new ULID of this moment.
    #[must_use]
    pub fn ulid(&self) -> Ulid {
        self.ulid_at((self.now_ms)())
    }

    /// A new ULID of the given moment, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn ulid_at(&self, time_ms: i64) -> Ulid {
        let mut random = [0; 16];
        (self.random)(&mut random);
        Ulid::from_parts(u64::try_from(time_ms).unwrap_or(0), u128::from_le_bytes(random))
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-11-20T07:00:00.000Z`. What is beyond the times that can be written is the last of
/// them, or the first.
#[must_use]
pub fn rfc3339(time_ms: i64) -> String {
    let beyond = if time_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    let time = Timestamp::from_millisecond(time_ms).unwrap_or(beyond);
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_end_in_z() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_158_000_007), "2026-11-20T07:00:00.007Z");
        assert_eq!(rfc3339(i64::MAX), "9999-12-30T22:00:00.999Z");
    }

    #[test]
    fn a_ulid_carries_its_time() {
        let clock = Clock { now_ms: || 1_795_158_000_007, random: |buffer| buffer.fill(7) };
        assert_eq!(clock.ulid().timestamp_ms(), 1_795_158_000_007);
        assert_ne!(clock.ulid(), clock.ulid_at(5));
    }
}
