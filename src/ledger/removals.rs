//! What prune and erase entries say was removed, read back: which payload is gone by right, when, and by whom.
//!
//! An act names the entries whose payloads it removed one by one, as runs of sequence numbers. So a payload that somebody
//! else took away is not excused by an act that happened to be about the same weeks.

use std::fmt;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

/// Sequence numbers as runs, each written as its first and its last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Runs(Vec<(i64, i64)>);

impl Runs {
    /// Adds a number. Numbers in ascending order make the fewest runs.
    pub fn push(&mut self, seq: i64) {
        match self.0.last_mut() {
            Some((_, last)) if *last + 1 == seq => *last = seq,
            _ => self.0.push((seq, seq)),
        }
    }

    /// Adds all of `other` from `start` on.
    pub fn extend(&mut self, other: &Self, start: i64) {
        let from_start = other.0.iter().filter(|(_, last)| *last >= start);
        self.0.extend(from_start.map(|(first, last)| ((*first).max(start), *last)));
    }

    pub fn contains(&self, seq: i64) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&seq))
    }

    /// The runs that hold a number at all, as leaf indexes: somebody else may have written them.
    pub fn indexes(&self) -> impl Iterator<Item = std::ops::RangeInclusive<u64>> {
        let index = |seq: i64| u64::try_from(seq).ok();
        let runs = self.0.iter().filter(|(first, last)| first <= last);
        runs.filter_map(move |(first, last)| Some(index(*first)?..=index(*last)?))
    }

    /// How many numbers there are, where no run overlaps another.
    pub fn count(&self) -> u64 {
        self.indexes().fold(0, |count, run| count.saturating_add(run.end() - run.start()).saturating_add(1))
    }

    /// Every number.
    pub fn iter(&self) -> impl Iterator<Item = i64> {
        self.0.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// The lowest and the highest number.
    pub fn bounds(&self) -> Option<(i64, i64)> {
        let first = self.0.iter().map(|(first, _)| *first).min()?;
        Some((first, self.0.iter().map(|(_, last)| *last).max()?))
    }

    /// The same numbers, in the fewest runs and in order.
    pub fn sorted(mut self) -> Self {
        self.0.sort_unstable();
        let mut merged: Vec<(i64, i64)> = Vec::new();
        for (first, last) in self.0 {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// The first number that is not in `other`, and how many there are. Both are sorted.
    pub fn beyond(&self, other: &Self) -> Option<(i64, u64)> {
        let (mut found, mut count) = (None, 0);
        let mut others = other.0.iter().copied().peekable();
        for (first, last) in self.0.iter().copied() {
            let mut at = first;
            while at <= last {
                while others.peek().is_some_and(|(_, end)| *end < at) {
                    others.next();
                }
                let end = match others.peek() {
                    Some((start, end)) if *start <= at => {
                        at = end.saturating_add(1);
                        continue;
                    }
                    Some((start, _)) if *start <= last => *start - 1,
                    _ => last,
                };
                found = found.or(Some(at));
                count += (end - at + 1).unsigned_abs();
                at = end.saturating_add(1);
            }
        }
        found.map(|first| (first, count))
    }
}

/// As much of an act's metadata as tells what it removed.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    #[serde(default)]
    pub seqs: Runs,
    pub tree: Head,
    principal: Option<String>,
    reason: Option<String>,
}

/// The tree before an act.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    /// Leaves.
    pub size: u64,
    /// Root, in hexadecimal.
    pub root: String,
}

impl Told {
    /// What the metadata of an act says, which is no act where it says nothing of that kind.
    pub fn read(metadata: &[u8]) -> Option<Self> {
        serde_json::from_slice(metadata).ok()
    }
}

/// Why an entry has no payload any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Removal {
    /// `prune` or `erase`.
    pub kind: String,
    /// When, RFC 3339, UTC.
    pub occurred_at: String,
    /// On whose behalf.
    pub principal: Option<String>,
    /// Why, as it was given.
    pub reason: Option<String>,
    /// Leaf index of the entry that says so.
    pub seq: i64,
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.kind == "erase" { "erased" } else { "pruned" };
        write!(
            f,
            "{what} on {}, by {}",
            self.occurred_at,
            self.principal.as_deref().unwrap_or("nobody named")
        )?;
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        write!(f, "; entry {} says so", self.seq)
    }
}

/// The acts that removed any of these entries' payloads, newest last, with what they removed.
pub(super) fn covering(connection: &Connection, missing: &Runs) -> rusqlite::Result<Vec<(Removal, Runs)>> {
    let Some((first, last)) = missing.bounds() else { return Ok(Vec::new()) };
    // The unary plus leaves the order to the index on the few acts.
    let mut select = connection.prepare_cached(
        "SELECT l.seq, l.kind, l.occurred_at, p.metadata FROM leaves l JOIN payloads p ON p.seq = l.seq \
         WHERE (l.kind = 'prune' OR l.kind = 'erase' OR l.kind = 'hold') AND l.kind <> 'hold' AND l.seq > ?1 \
         AND json_valid(p.metadata) AND json_extract(p.metadata, '$.from') <= ?2 \
         AND json_extract(p.metadata, '$.to') >= ?1 ORDER BY +l.seq",
    )?;
    let mut rows = select.query([first, last])?;
    let mut acts = Vec::new();
    while let Some(row) = rows.next()? {
        let Some(told) = row.get_ref(3)?.as_bytes().ok().and_then(Told::read) else { continue };
        let Told { seqs, principal, reason, .. } = told;
        let removal =
            Removal { seq: row.get(0)?, kind: row.get(1)?, occurred_at: row.get(2)?, principal, reason };
        acts.push((removal, seqs));
    }
    Ok(acts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(seqs: &[i64]) -> Runs {
        let mut runs = Runs::default();
        for seq in seqs {
            runs.push(*seq);
        }
        runs.sorted()
    }

    #[test]
    fn runs_are_sets_of_numbers() {
        assert_eq!(serde_json::to_string(&runs(&[1, 2, 3, 5])).unwrap(), "[[1,3],[5,5]]");
        assert_eq!(runs(&[5, 1, 2, 3, 4]), runs(&[1, 2, 3, 4, 5]));
        assert_eq!(runs(&[2, 9, 4]).bounds(), Some((2, 9)));
        assert!(runs(&[1, 2, 4]).contains(4) && !runs(&[1, 2, 4]).contains(3));
        let sets: Vec<Vec<i64>> =
            (0..64_u32).map(|bits| (0..6).filter(|at| bits & (1 << at) != 0).collect()).collect();
        for one in &sets {
            for other in &sets {
                let rest: Vec<i64> = one.iter().copied().filter(|seq| !other.contains(seq)).collect();
                let expected = rest.first().map(|first| (*first, rest.len() as u64));
                assert_eq!(runs(one).beyond(&runs(other)), expected, "{one:?} beyond {other:?}");
            }
        }
    }
}
