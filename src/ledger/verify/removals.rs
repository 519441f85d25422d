//! Payloads that are gone, against the entries that say so.
//!
//! Both are kept as runs of sequence numbers: a pruned year is one run, and an erased subject as many as its calls lie apart.

use super::super::removals::{Runs, Told};
use super::Findings;
use super::row::{self, Fields};
use crate::tlog::Edge;

/// The check these findings belong to.
const CHECK: &str = "removals";

/// What was met so far.
#[derive(Default)]
pub(super) struct Removals {
    missing: Runs,
    removed: Runs,
}

impl Removals {
    /// Looks at an entry before its leaf is added to the tree. What acts removed before `start` is not looked at.
    pub fn meet(
        &mut self,
        seq: i64,
        fields: &Fields<'_>,
        before: &Edge,
        start: u64,
        findings: &mut Findings,
    ) {
        let is_act = matches!(fields.text(row::KIND), Some("prune" | "erase"));
        if !fields.has_payload() {
            if is_act {
                let detail =
                    "it says which payloads were removed, and its own is gone: none is removed by right";
                findings.fail(CHECK, format!("entry {seq}"), detail);
            }
            self.missing.push(seq);
            return;
        }
        if !is_act {
            return;
        }
        let Some(told) = Told::read(fields.metadata()) else {
            findings.fail(CHECK, format!("entry {seq}"), "it does not say what it removed");
            return;
        };
        if told.tree.size != before.size() || told.tree.root != hex::encode(before.root()) {
            findings.fail(
                CHECK,
                format!("entry {seq}"),
                "it was made for another tree than the one before it",
            );
        }
        if told.seqs.bounds().is_some_and(|(_, last)| last >= seq) {
            findings.fail(CHECK, format!("entry {seq}"), "it speaks of entries that come after it");
        }
        self.removed.extend(&told.seqs, start.cast_signed());
    }

    /// Compares the two once every entry was met.
    pub fn conclude(self, findings: &mut Findings) {
        let (missing, removed) = (self.missing.sorted(), self.removed.sorted());
        for (found, detail) in [
            (missing.beyond(&removed), "its payload is gone, and no entry says why"),
            (removed.beyond(&missing), "its payload was pruned or erased, as an entry says, and it is there"),
        ] {
            if let Some((seq, count)) = found {
                let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
                findings.fail(CHECK, format!("entry {seq}"), format!("{detail}{more}"));
            }
        }
    }
}
