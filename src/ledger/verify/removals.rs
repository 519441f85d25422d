//! Payloads that are gone, against the entries that say so.
//!
//! Both are kept as runs of sequence numbers: a pruned year is one run, and an erased subject as many as its calls lie apart.
//!
//! No act takes what is held. Of a hold on a request or a zone the leaves show whether it was honoured; whose subject a payload
//! had that is gone, nothing shows any more.

use rusqlite::Connection;

use super::super::holds::{self, Hold, Scope};
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
    /// Holds that are active where the pass has come to.
    holds: Vec<Hold>,
}

impl Removals {
    /// Looks at an entry before its leaf is added to the tree. What acts removed before `start` is not looked at.
    pub fn meet(
        &mut self,
        connection: &Connection,
        fields: &Fields<'_>,
        before: &Edge,
        start: u64,
        findings: &mut Findings,
    ) -> rusqlite::Result<()> {
        let seq = fields.seq();
        let is_act = matches!(fields.bytes(row::KIND), Some(b"prune" | b"erase"));
        if !fields.has_payload() {
            if is_act {
                let detail =
                    "it says which payloads were removed, and its own is gone: none is removed by right";
                findings.fail(CHECK, format!("entry {seq}"), detail);
            }
            self.missing.push(seq);
            return Ok(());
        }
        if fields.bytes(row::KIND) == Some(b"hold") {
            let text = |column| fields.text(column).unwrap_or_default();
            let subject = fields.text(row::SUBJECT_ID).map(str::to_owned);
            let (event_type, since) = (text(row::EVENT_TYPE), text(row::OCCURRED_AT));
            holds::follow(&mut self.holds, event_type, since, subject, fields.metadata());
        }
        if !is_act {
            return Ok(());
        }
        let Some(told) = Told::read(fields.metadata()) else {
            findings.fail(CHECK, format!("entry {seq}"), "it does not say what it removed");
            return Ok(());
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
        if let Some((taken, hold)) = self.held(connection, &told.seqs.clone().sorted())? {
            let detail =
                format!("it removed the payload of entry {taken}, which hold `{}` keeps", hold.hold_id);
            findings.fail(CHECK, format!("entry {seq}"), detail);
        }
        self.removed.extend(&told.seqs, start.cast_signed());
        Ok(())
    }

    /// An entry among these that a hold keeps, and the hold.
    fn held(&self, connection: &Connection, seqs: &Runs) -> rusqlite::Result<Option<(i64, &Hold)>> {
        for hold in &self.holds {
            let (column, wanted) = match &hold.scope {
                Scope::RequestId(id) => ("request_id", id),
                Scope::Zone(zone) => ("zone", zone),
                Scope::Subject(_) => continue,
            };
            // The unary plus leaves the search to the range, which is short.
            let sql = format!("SELECT seq FROM leaves WHERE seq >= ? AND seq <= ? AND +{column} = ? LIMIT 1");
            let mut select = connection.prepare_cached(&sql)?;
            for run in seqs.indexes() {
                let range = (run.start().cast_signed(), run.end().cast_signed());
                let mut rows = select.query(rusqlite::params![range.0, range.1, wanted])?;
                if let Some(row) = rows.next()? {
                    return Ok(Some((row.get(0)?, hold)));
                }
            }
        }
        Ok(None)
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
