//! The tip of the ledger: what an entry becomes in the file, within the writer's transaction.
//!
//! Leaf, payload, tree nodes and the note of an open call are written together, so that the transaction that keeps one of them
//! keeps all. Who waits for it, and when it is durable, is the writer's to know.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::entry::{Entry, Kind, Mode, Sealed};
use super::tree;
use crate::call::RequestId;
use crate::clock::Clock;
use crate::decision::Outcome;
use crate::redact::Redacted;
use crate::tlog::Edge;

/// Where the next entry goes: its number, and the tree it grows.
pub(super) struct Tip {
    pub next_seq: i64,
    pub edge: Edge,
    hashes: Vec<u8>,
}

impl Tip {
    pub fn new(next_seq: i64, edge: Edge) -> Self {
        Self { next_seq, edge, hashes: Vec::new() }
    }

    /// Appends an entry with its leaf in the tree; answers its number.
    pub fn append(&mut self, connection: &Connection, entry: &Sealed) -> rusqlite::Result<i64> {
        let seq = self.next_seq;
        let (leaf, hash) = entry.leaf(seq);
        append(connection, entry, seq, &leaf)?;
        self.hashes.clear();
        self.edge.push(hash, &mut self.hashes);
        tree::append(connection, seq, &self.hashes)?;
        self.next_seq += 1;
        Ok(seq)
    }
}

fn append(connection: &Connection, entry: &Sealed, seq: i64, leaf: &str) -> rusqlite::Result<()> {
    let clamp = |microseconds: u64| i64::try_from(microseconds).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "INSERT INTO leaves (seq, leaf, id, kind, event_type, occurred_at, call_id, request_id, zone, mode, decision, \
             evaluation_status, evaluation_us, outcome, duration_us, forwarded, manifest_sha) \
             VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        )?
        .execute(params![
            seq,
            leaf,
            entry.entry_id,
            entry.kind.as_str(),
            entry.event_type,
            entry.occurred_at,
            entry.call_id,
            entry.request_id,
            entry.zone,
            entry.mode,
            entry.decision.map(|(effect, ..)| effect.as_str()),
            entry.decision.map(|(_, status, _)| status.as_str()),
            entry.decision.map(|(.., evaluation_us)| clamp(evaluation_us)),
            entry.outcome.map(|(outcome, _)| outcome.as_str()),
            entry.outcome.map(|(_, duration_us)| clamp(duration_us)),
            entry.forwarded,
            entry.manifest_sha,
        ])?;
    let [action, arguments, context, determining, diagnostics, metadata, redactions, resource, subject] =
        &entry.parts;
    let columns = &entry.columns;
    connection
        .prepare_cached(
            "INSERT INTO payloads (seq, salts, action, arguments, context, determining_policies, diagnostics, metadata, \
             redactions, resource, subject, agent, user, team, server, subject_id, action_name, resource_type, \
             resource_id) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        )?
        .execute(params![
            seq,
            entry.salts,
            action,
            arguments,
            context,
            determining,
            diagnostics,
            metadata,
            redactions,
            resource,
            subject,
            columns.agent,
            columns.user,
            columns.team,
            columns.server,
            columns.subject_id,
            columns.action_name,
            columns.resource_type,
            columns.resource_id,
        ])?;
    match entry.kind {
        Kind::Decision if entry.forwarded => {
            connection
                .prepare_cached("INSERT INTO op_open_calls (call_id, seq) VALUES (?,?)")?
                .execute(params![entry.call_id, seq])?;
        }
        Kind::Outcome => {
            connection
                .prepare_cached("DELETE FROM op_open_calls WHERE call_id = ?")?
                .execute(params![entry.call_id])?;
        }
        _ => {}
    }
    Ok(())
}

/// Every open call, whatever number its decision has.
pub(super) const EVERY_CALL: (i64, i64) = (i64::MIN, i64::MAX);

/// Closes as `unknown` the open calls whose decisions are numbered above the first and up to the second number; answers how
/// many there were.
pub(super) fn close_open_calls(
    connection: &Connection,
    clock: &Clock,
    tip: &mut Tip,
    (above, through): (i64, i64),
) -> rusqlite::Result<i64> {
    let mut count = 0;
    loop {
        let open = connection
            .query_row(
                "SELECT l.call_id, l.request_id, l.event_type, l.zone, l.mode FROM op_open_calls o \
                 JOIN leaves l ON l.seq = o.seq WHERE o.seq > ? AND o.seq <= ? ORDER BY o.seq LIMIT 1",
                [above, through],
                |row| {
                    Ok((
                        row.get::<_, String>(0)?,
                        row.get::<_, Option<String>>(1)?,
                        row.get::<_, String>(2)?,
                        row.get::<_, String>(3)?,
                        row.get::<_, Option<String>>(4)?,
                    ))
                },
            )
            .optional()?;
        let Some((call_id, request_id, event_type, zone, mode)) = open else { return Ok(count) };
        let entry = Entry {
            kind: Kind::Outcome,
            event_type: event_type.into(),
            time_ms: (clock.now_ms)(),
            call_id: ulid::Ulid::from_string(&call_id).ok(),
            request_id: request_id.as_deref().and_then(RequestId::parse),
            zone,
            mode: mode.map(|mode| if mode == "monitor" { Mode::Monitor } else { Mode::Enforce }),
            decision: None,
            outcome: Some((Outcome::Unknown, 0)),
            forwarded: false,
            manifest_sha: None,
            content: Redacted::nothing(),
        };
        tip.append(connection, &entry.seal(clock))?;
        // Appending removed it by its call id; a damaged id must not keep the loop going.
        connection.execute("DELETE FROM op_open_calls WHERE call_id = ?", [call_id])?;
        count += 1;
    }
}
