//! Entries that wait for a ledger that cannot take them now: outcomes, refusals, and who looked. Nobody is refused for want of
//! them, and they follow, in front of the next transaction that succeeds.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::AUTH_FAILED;
use super::entry::{Kind, Sealed};

/// Entries that wait at most, so that a ledger that stays away does not take the memory with it.
const MAX_WAITING_ENTRIES: usize = 1_024;

/// The entries, oldest first.
#[derive(Default)]
pub(super) struct Waiting(Mutex<VecDeque<Box<Sealed>>>);

impl Waiting {
    /// Keeps an entry that comes after the others.
    pub fn push(&self, entry: Box<Sealed>) {
        let mut entries = self.entries();
        entries.push_back(entry);
        give_up(&mut entries);
    }

    /// Keeps entries that come before the others: they were taken, and could not be written.
    pub fn put_back(&self, mut earlier: VecDeque<Box<Sealed>>) {
        let mut entries = self.entries();
        earlier.append(&mut entries);
        *entries = earlier;
        give_up(&mut entries);
    }

    /// All of them, for a transaction.
    pub fn take(&self) -> VecDeque<Box<Sealed>> {
        std::mem::take(&mut self.entries())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<Box<Sealed>>> {
        // Nothing is done with the lock that could leave the entries half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where there are too many, gives up refusals, of which strangers make as many as they like, before everything else, and
/// outcomes last; of a kind the oldest first.
fn give_up(entries: &mut VecDeque<Box<Sealed>>) {
    let worth = |entry: &Sealed| match entry.kind {
        Kind::Decision => 0,
        Kind::Auth if entry.event_type == AUTH_FAILED => 0,
        Kind::Outcome => 2,
        _ => 1,
    };
    while entries.len() > MAX_WAITING_ENTRIES {
        let spare = entries.iter().enumerate().min_by_key(|(_, entry)| worth(entry)).map_or(0, |(at, _)| at);
        if let Some(lost) = entries.remove(spare) {
            let (id, event_type) = (lost.entry_id, lost.event_type);
            tracing::error!(id, %event_type, "an entry was not recorded: too many wait for the ledger");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::decision::Outcome;
    use crate::ledger::Entry;
    use crate::redact::Redacted;

    const CLOCK: Clock = Clock { now_ms: || 1_800_000_000_000, random: |buffer| buffer.fill(1) };

    fn entry(kind: Kind, call: u128) -> Box<Sealed> {
        named(kind, "tools.call", call)
    }

    fn named(kind: Kind, event_type: &'static str, call: u128) -> Box<Sealed> {
        let entry = Entry::event(kind, event_type, 1_800_000_000_000, Redacted::nothing());
        let outcome = (kind == Kind::Outcome).then_some((Outcome::Success, 1));
        Box::new(Entry { call_id: Some(ulid::Ulid::from(call)), outcome, ..entry }.seal(&CLOCK))
    }

    #[test]
    fn beyond_the_bound_refusals_are_given_up_first_and_outcomes_last() {
        let waiting = Waiting::default();
        let most = MAX_WAITING_ENTRIES as u128;
        let calls = |waiting: &Waiting| -> Vec<u128> {
            let call =
                |entry: &Sealed| ulid::Ulid::from_string(entry.call_id.as_deref().unwrap()).unwrap().into();
            waiting.entries().iter().map(|entry| call(entry)).collect()
        };
        waiting.push(entry(Kind::Outcome, 0));
        waiting.push(entry(Kind::Access, 1));
        waiting.push(named(Kind::Auth, AUTH_FAILED, 2));
        (3..=most).for_each(|call| waiting.push(entry(Kind::Outcome, call)));
        assert_eq!(waiting.len(), MAX_WAITING_ENTRIES);
        assert_eq!(calls(&waiting)[..3], [0, 1, 3]);
        waiting.push(entry(Kind::Outcome, most + 1));
        assert_eq!(calls(&waiting)[..3], [0, 3, 4]);
        waiting.push(entry(Kind::Outcome, most + 2));
        assert_eq!(calls(&waiting), (3..=most + 2).collect::<Vec<_>>());
        let taken = waiting.take();
        waiting.push(entry(Kind::Outcome, most + 3));
        waiting.put_back(taken);
        assert_eq!(calls(&waiting), (4..=most + 3).collect::<Vec<_>>());
    }

    #[test]
    fn strangers_cannot_have_what_was_done_with_tokens_given_up() {
        let waiting = Waiting::default();
        waiting.push(named(Kind::Auth, "api_key.reset", 0));
        (0..=MAX_WAITING_ENTRIES).for_each(|_| waiting.push(named(Kind::Auth, AUTH_FAILED, 1)));
        assert_eq!(waiting.entries().front().unwrap().event_type, "api_key.reset");
    }
}
