//! Acts: the removal of payloads, and the entry that says so, in one transaction of the writer.
//!
//! Crash order. The rows are deleted and the act is appended, leaf, payload and tree nodes, by the transaction that answers
//! the caller; a crash leaves both or neither. What was deleted may still stand in the write-ahead log and, until that is
//! copied, in pages of the file: `erasing` sees to that afterwards, and takes it up again where a crash came between. A large
//! removal is many acts, each of its own transaction, so that appends wait for none of them
//! longer than one takes.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::{Connection, params};
use serde_json::{Value, json};

use super::entry::{Entry, Kind};
use super::holds;
use super::removals::{Head, Runs};
use super::tip::Tip;
use crate::call::RequestId;
use crate::clock::Clock;
use crate::json::Object;
use crate::redact::Redactor;

/// Entries one act removes the payloads of at most: some milliseconds of the writer's time.
pub(super) const MAX_ACT_ENTRIES: usize = 512;

/// Free pages given back to the operating system in one transaction at most.
const MAX_RECLAIMED_PAGES: u32 = 256;

/// What is to be removed, and what the entry says besides.
pub(super) struct Act {
    /// `prune` or `erase`.
    pub kind: Kind,
    /// Dotted name of the event.
    pub event_type: &'static str,
    /// The request that asked for it.
    pub request_id: Option<RequestId>,
    /// Who, why, and by which plan.
    pub metadata: Object,
    /// The entries, in any order.
    pub seqs: Vec<i64>,
    /// Recorded although it removes nothing, because somebody asked: what holds kept of that.
    pub even_if_empty: Option<Removed>,
    /// What the metadata passes on its way into the ledger.
    pub redactor: Arc<Redactor>,
}

/// What an act did.
#[derive(Clone, Debug, Default)]
pub(super) struct Removed {
    /// Payloads that are gone.
    pub count: u64,
    /// Payloads that a hold kept.
    pub skipped: u64,
    /// Which holds did.
    pub holds: BTreeSet<String>,
    /// Leaf index of the act; none where nothing was to be recorded.
    pub act: Option<i64>,
}

/// What holds leave of these entries.
pub(super) fn free(connection: &Connection, seqs: &[i64]) -> rusqlite::Result<(Vec<i64>, Removed)> {
    let active = holds::active(connection)?;
    let (mut free, mut removed) = (Vec::with_capacity(seqs.len()), Removed::default());
    for seq in seqs {
        if let Some(hold) = holds::keeping(connection, &active, *seq)? {
            removed.skipped += 1;
            removed.holds.insert(hold.hold_id.clone());
        } else {
            free.push(*seq);
        }
    }
    Ok((free, removed))
}

/// Removes the payloads and appends the act.
pub(super) fn carry_out(
    connection: &Connection,
    clock: &Clock,
    tip: &mut Tip,
    act: &Act,
) -> rusqlite::Result<Removed> {
    let (mut free, mut removed) = free(connection, &act.seqs)?;
    free.sort_unstable();
    let mut gone = Runs::default();
    let mut delete = connection.prepare_cached("DELETE FROM payloads WHERE seq = ?")?;
    for seq in free {
        // One that is gone already was another act's doing.
        if delete.execute([seq])? > 0 {
            gone.push(seq);
            removed.count += 1;
        }
    }
    super::rollup::forget(connection, gone.iter())?;
    match &act.even_if_empty {
        Some(kept) => {
            removed.skipped += kept.skipped;
            removed.holds.extend(kept.holds.iter().cloned());
        }
        None if removed.count == 0 => return Ok(removed),
        None => {}
    }
    let head = Head { size: tip.edge.size(), root: hex::encode(tip.edge.root()) };
    let mut metadata = act.metadata.clone();
    let bounds = gone.bounds();
    for (name, value) in [
        ("tree", json!(head)),
        ("from", json!(bounds.map(|(first, _)| first))),
        ("to", json!(bounds.map(|(_, last)| last))),
        ("seqs", json!(gone)),
        ("count", json!(removed.count)),
        ("skipped", json!(removed.skipped)),
        ("holds", json!(removed.holds)),
    ] {
        metadata.insert(name.into(), value);
    }
    let content = act.redactor.record(vec![("metadata", Value::Object(metadata))]);
    let time_ms = (clock.now_ms)();
    let entry = Entry {
        request_id: act.request_id.clone(),
        ..Entry::event(act.kind, act.event_type, time_ms, content)
    };
    removed.act = Some(tip.append(connection, &entry.seal(clock))?);
    Ok(removed)
}

/// Gives free pages at the end of the file back to the operating system, a few at a time; answers how many are left. A file
/// that was made before docket asked SQLite for this keeps its free pages, and uses them for its next entries.
pub(super) fn reclaim(connection: &Connection) -> rusqlite::Result<i64> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    // 2: incremental.
    if pragma("auto_vacuum")? != 2 {
        return Ok(0);
    }
    let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({MAX_RECLAIMED_PAGES})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    pragma("freelist_count")
}

/// Takes payloads out and puts them in again as they were, which makes SQLite lay out their pages anew.
pub(super) fn rewrite(connection: &Connection, seqs: &[i64]) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached("SELECT * FROM payloads WHERE seq = ?")?;
    let columns = select.column_count();
    let mut rows = Vec::with_capacity(seqs.len());
    for seq in seqs {
        let mut found = select.query([seq])?;
        if let Some(row) = found.next()? {
            let values = (0..columns).map(|column| row.get::<_, rusqlite::types::Value>(column));
            rows.push(values.collect::<rusqlite::Result<Vec<_>>>()?);
        }
    }
    let mut delete = connection.prepare_cached("DELETE FROM payloads WHERE seq = ?")?;
    for seq in seqs {
        delete.execute(params![seq])?;
    }
    let places = vec!["?"; columns].join(",");
    let mut insert = connection.prepare_cached(&format!("INSERT INTO payloads VALUES ({places})"))?;
    for row in &rows {
        insert.execute(rusqlite::params_from_iter(row))?;
    }
    Ok(())
}
