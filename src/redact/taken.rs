//! What was taken from a call, while more may be recorded of it.
//!
//! A call's outcome is a record of its own, and comes later: by then nobody looks at the call again, but the server's error
//! may quote it. So what was found in the call is kept, as a search and never to be shown, until the outcome is recorded.

use std::fmt;
use std::sync::Arc;

use super::Record;
use super::edit::{Edits, Place};
use super::scrub::Scrubber;
use super::withhold::{Authors, FAILED, repeating, withhold};

/// What was taken from the records of one call. Cheap to clone.
#[derive(Clone, Default)]
pub struct Taken {
    scrubbers: Vec<Arc<Scrubber>>,
    /// Whether the record was withheld, so that it is not known what may not come back.
    withheld: bool,
}

impl Taken {
    /// Keeps a search for what was found.
    pub(super) fn keep(&mut self, scrubber: Scrubber) -> Arc<Scrubber> {
        let scrubber = Arc::new(scrubber);
        self.scrubbers.push(scrubber.clone());
        scrubber
    }

    /// Says that a record was withheld.
    pub(super) fn withheld(&mut self) {
        self.withheld = true;
    }

    /// Takes it out of a later record. Where it is not known what that would be, nothing of the record passes.
    pub(super) fn scrub(&self, record: &mut Record) {
        if self.withheld {
            return withhold(record, None, FAILED);
        }
        if self.scrubbers.is_empty() {
            return;
        }
        let mut edits = Edits::resume(std::mem::take(&mut record.edits));
        let authors = Authors::of(record);
        for scrubber in &self.scrubbers {
            for (name, value) in record.roots.iter_mut().filter(|(name, _)| scrubber.is_for(name)) {
                repeating(name, value, &Place::root(name), authors, &mut |value, place, voice| {
                    scrubber.said(value, place, voice, &mut edits);
                });
            }
        }
        record.edits = edits.into_vec();
    }
}

impl fmt::Debug for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Taken")
    }
}
