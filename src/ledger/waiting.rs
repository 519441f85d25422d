//! Entries that wait for a ledger that cannot take them now: outcomes, refusals, and who looked. Nobody is refused for want of
//! them, and they follow, in front of the next transaction that succeeds.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::entry::{Kind, Sealed};

/// Entries that wait at most, so that a ledger that stays away does not take the memory with it.
const MAX_WAITING_ENTRIES: usize = 1_024;

/// The entries, oldest first.
#[derive(Default)]
pub(super) struct Waiting(Mutex<VecDeque<Box<Sealed>>>);

impl Waiting {
    /// Keeps an entry. Where there are too many one is given up: the oldest that is no outcome, or else the oldest.
    pub fn push(&self, entry: Box<Sealed>) {
        let mut entries = self.entries();
        entries.push_back(entry);
        if entries.len() <= MAX_WAITING_ENTRIES {
            return;
        }
        let spare = entries.iter().position(|entry| entry.kind != Kind::Outcome).unwrap_or(0);
        if let Some(lost) = entries.remove(spare) {
            let (id, event_type) = (lost.entry_id, lost.event_type);
            tracing::error!(id, %event_type, "an entry was not recorded: too many wait for the ledger");
        }
    }

    /// All of them, for a transaction.
    pub fn take(&self) -> VecDeque<Box<Sealed>> {
        std::mem::take(&mut self.entries())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Lets go of those that are recorded after all.
    ///
    /// # Errors
    /// Whether one is could not be found out; all are kept then.
    pub fn forget<E>(&self, is_recorded: impl FnMut(&Box<Sealed>) -> Result<bool, E>) -> Result<(), E> {
        let mut entries = self.entries();
        let recorded: Result<Vec<bool>, E> = entries.iter().map(is_recorded).collect();
        let mut recorded = recorded?.into_iter();
        entries.retain(|_| recorded.next() == Some(false));
        Ok(())
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<Box<Sealed>>> {
        // Nothing is done with the lock that could leave the entries half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let entry = Entry::event(kind, "tools.call", 1_800_000_000_000, Redacted::nothing());
        let outcome = (kind == Kind::Outcome).then_some((Outcome::Success, 1));
        Box::new(Entry { call_id: Some(ulid::Ulid::from(call)), outcome, ..entry }.seal(&CLOCK))
    }

    #[test]
    fn beyond_the_bound_whoever_looked_is_given_up_before_an_outcome_and_the_oldest_first() {
        let waiting = Waiting::default();
        let most = MAX_WAITING_ENTRIES as u128;
        let calls = |waiting: &Waiting| -> Vec<u128> {
            let call =
                |entry: &Sealed| ulid::Ulid::from_string(entry.call_id.as_deref().unwrap()).unwrap().into();
            waiting.entries().iter().map(|entry| call(entry)).collect()
        };
        waiting.push(entry(Kind::Outcome, 0));
        waiting.push(entry(Kind::Access, 1));
        (2..=most).for_each(|call| waiting.push(entry(Kind::Outcome, call)));
        assert_eq!(waiting.len(), MAX_WAITING_ENTRIES);
        assert_eq!(calls(&waiting)[..3], [0, 2, 3]);
        waiting.push(entry(Kind::Outcome, most + 1));
        assert_eq!(calls(&waiting), (2..=most + 1).collect::<Vec<_>>());
        waiting.forget(|entry| Ok::<_, ()>(entry.kind == Kind::Outcome)).unwrap();
        assert_eq!(waiting.len(), 0);
    }
}
