//! The time series of statistics: how long its steps are, and which decisions each has.

use rusqlite::Connection;

use super::blocks::Group;
use super::plan::Segment;
use super::summary::{Bucket, Counted, SummaryWanted};
use crate::clock::rfc3339;
use crate::ledger::filter::Filter;

/// Steps of the time series, in milliseconds, from which one is chosen where none is asked for.
const STEPS_MS: [i64; 13] = [
    1_000,
    5_000,
    15_000,
    60_000,
    300_000,
    900_000,
    3_600_000,
    10_800_000,
    21_600_000,
    43_200_000,
    86_400_000,
    604_800_000,
    2_419_200_000,
];

/// As many steps there are at most where none is asked for.
const MAX_CHOSEN_STEPS: i64 = 120;

/// As many there may be at all.
pub const MAX_STEPS: i64 = 10_000;

/// The time series.
pub struct Series {
    pub start_ms: i64,
    pub bucket_ms: i64,
    steps: Vec<[u64; 3]>,
}

impl Series {
    /// The empty series: it begins with the first entry, or where the filter says, and ends now, or where that says.
    pub fn empty(
        connection: &Connection,
        segments: &[Segment],
        filter: &Filter,
        wanted: &SummaryWanted,
    ) -> rusqlite::Result<Self> {
        let mut earliest: Option<i64> = None;
        for segment in segments {
            let first_ms = match segment {
                Segment::Stored(stored) => Some(stored.first_ms),
                Segment::Entries(first, _) => {
                    let id: String = connection
                        .prepare_cached("SELECT id FROM leaves WHERE seq = ?")?
                        .query_row([first], |row| row.get(0))?;
                    ulid::Ulid::from_string(&id).ok().and_then(|id| i64::try_from(id.timestamp_ms()).ok())
                }
            };
            earliest = earliest.into_iter().chain(first_ms).min();
        }
        let end_ms = filter.until_ms.unwrap_or(wanted.now_ms);
        let from_ms = filter.since_ms.or(earliest).unwrap_or(end_ms).min(end_ms);
        let range_ms = (end_ms - from_ms).max(1);
        let chosen = || STEPS_MS.into_iter().find(|step| range_ms / step < MAX_CHOSEN_STEPS);
        let bucket_ms = wanted.bucket_ms.or_else(chosen).unwrap_or(range_ms / MAX_CHOSEN_STEPS);
        // Where that would make too many steps, they are longer.
        let bucket_ms = bucket_ms.max(range_ms / (MAX_STEPS - 1)).max(1);
        let start_ms = from_ms.div_euclid(bucket_ms) * bucket_ms;
        let steps = ((end_ms - 1).max(from_ms) - start_ms).div_euclid(bucket_ms) + 1;
        let steps = usize::try_from(steps.clamp(1, MAX_STEPS)).unwrap_or(1);
        Ok(Self { start_ms, bucket_ms, steps: vec![[0; 3]; steps] })
    }

    fn step(&mut self, time_ms: i64) -> Option<&mut [u64; 3]> {
        let at = (time_ms - self.start_ms).div_euclid(self.bucket_ms).max(0);
        let last = self.steps.len().saturating_sub(1);
        self.steps.get_mut(usize::try_from(at).unwrap_or(last).min(last))
    }

    /// Adds the decisions of a block, which are `counted`.
    pub fn add(&mut self, group: &Group<'_>, counted: Counted) -> rusqlite::Result<()> {
        let (first_ms, last_ms) = group.ends_ms;
        let bucket = |ms: i64| (ms - self.start_ms).div_euclid(self.bucket_ms);
        if bucket(first_ms) == bucket(last_ms) {
            if let Some([allow, deny, held]) = self.step(first_ms) {
                *allow += counted.allow;
                *deny += counted.deny;
                *held += counted.require_approval;
            }
            return Ok(());
        }
        let times = group.times()?;
        let places = group.decided.places_among(&group.matching);
        for (place, effect) in places.into_iter().zip(group.decided.effects(&group.decisions)) {
            let time_ms = times.get(place).copied().unwrap_or(first_ms);
            if let Some([allow, deny, held]) = self.step(time_ms) {
                let counted = effect.counted(1);
                *allow += counted.allow;
                *deny += counted.deny;
                *held += counted.require_approval;
            }
        }
        Ok(())
    }

    /// Step after step.
    pub fn shown(self) -> Vec<Bucket> {
        let times = (0..).map(|step: i64| rfc3339(self.start_ms + step * self.bucket_ms));
        let bucket = |(time, [allow, deny, require_approval]): (String, [u64; 3])| Bucket {
            time,
            allow,
            deny,
            require_approval,
        };
        times.zip(self.steps).map(bucket).collect()
    }
}
