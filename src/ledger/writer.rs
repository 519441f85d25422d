//! The writer: one thread owns the write connection and commits everything queued in one transaction (group commit).
//!
//! Crash order. A caller is answered only after `COMMIT` has returned, and with `synchronous=FULL` that is after the
//! write-ahead log was synced: *from there the entry is durable*. A crash before it loses the whole batch, none of which
//! was answered. Leaf, payload and the note of an open call are in the same transaction, so no crash can part them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{mpsc, oneshot, watch};

use super::entry::{Entry, Kind, Mode, Sealed};
use super::{LedgerError, schema};
use crate::call::RequestId;
use crate::clock::Clock;
use crate::decision::Outcome;
use crate::redact::Redacted;

/// Entries committed in one transaction at most.
const MAX_BATCH: usize = 512;

/// On a fast disk a commit returns before the next callers arrive, and every call pays for a sync of its own. With at
/// least this many calls under way, waiting a moment for company costs each less than it saves all.
const LINGER_FROM_CALLS: usize = 12;

/// How long one such wait is, in microseconds.
const LINGER_US: u64 = 120;

/// One thing for the writer to do.
pub(super) enum Job {
    /// Append an entry; answer with its sequence number once it is durable.
    Append(Box<Sealed>, Option<oneshot::Sender<Result<i64, LedgerError>>>),
    /// Keep manifests and policy files by digest.
    Keep(Vec<(String, Vec<u8>)>, oneshot::Sender<Result<(), LedgerError>>),
    /// Close the calls an earlier run left open as `unknown`; answer how many there were.
    CloseOpenCalls(oneshot::Sender<Result<i64, LedgerError>>),
    /// Finish: nothing is accepted after it.
    Stop(oneshot::Sender<()>),
}

pub(super) struct Writer {
    pub path: PathBuf,
    pub clock: Clock,
    pub connection: Option<Connection>,
    /// Device and inode of the file that was opened first.
    pub identity: (u64, u64),
    pub calls_in_flight: Arc<AtomicUsize>,
    /// The newest durable sequence number, for those who follow.
    pub head: watch::Sender<i64>,
    pub _lock: schema::Lock,
}

impl Writer {
    /// Serves the queue until it is told to stop or every sender is gone.
    pub fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        loop {
            batch.clear();
            if queue.blocking_recv_many(&mut batch, MAX_BATCH) == 0 {
                return self.finish(None);
            }
            if self.calls_in_flight.load(Ordering::Relaxed) >= LINGER_FROM_CALLS {
                std::thread::sleep(Duration::from_micros(LINGER_US));
                while batch.len() < MAX_BATCH {
                    let Ok(job) = queue.try_recv() else { break };
                    batch.push(job);
                }
            }
            let stop = self.serve(&mut batch);
            if stop.is_some() {
                return self.finish(stop);
            }
        }
    }

    /// Commits one batch and answers its callers; the sender of a stop, if one was in it.
    fn serve(&mut self, batch: &mut Vec<Job>) -> Option<oneshot::Sender<()>> {
        let result = self.commit(batch);
        if let Err(error) = &result {
            tracing::error!(error = %error, jobs = batch.len(), "ledger cannot append; calls are refused");
            // The connection may be beyond use (a vanished file, an I/O error): the next batch opens a new one.
            self.connection = None;
        }
        let mut stop = None;
        for (index, job) in batch.drain(..).enumerate() {
            let number = || result.clone().map(|numbers| numbers.get(index).copied().unwrap_or(0));
            // A caller that has gone away needs no answer; its entry stands all the same.
            match job {
                Job::Append(_, Some(reply)) => drop(reply.send(number())),
                Job::Append(_, None) => {}
                Job::Keep(_, reply) => drop(reply.send(number().map(|_| ()))),
                Job::CloseOpenCalls(reply) => drop(reply.send(number())),
                Job::Stop(reply) => stop = Some(reply),
            }
        }
        stop
    }

    /// Does every job in one transaction. Answers one number per job: the sequence number of an appended entry, the
    /// count of closed calls.
    fn commit(&mut self, batch: &[Job]) -> Result<Vec<i64>, LedgerError> {
        let (clock, head) = (self.clock, *self.head.borrow());
        let fail = |error: rusqlite::Error| LedgerError::Unwritable(schema::explain(&error));
        let transaction = self.connect()?.unchecked_transaction().map_err(fail)?;
        let mut next_seq = head + 1;
        let mut numbers = Vec::with_capacity(batch.len());
        for job in batch {
            numbers.push(match job {
                Job::Append(entry, _) => {
                    append(&transaction, entry, next_seq).map_err(fail)?;
                    next_seq += 1;
                    next_seq - 1
                }
                Job::Keep(files, _) => {
                    keep(&transaction, files).map_err(fail)?;
                    0
                }
                Job::CloseOpenCalls(_) => {
                    let count = close_open_calls(&transaction, &clock, next_seq).map_err(fail)?;
                    next_seq += count;
                    count
                }
                Job::Stop(_) => 0,
            });
        }
        // From here the entries are durable.
        transaction.commit().map_err(fail)?;
        if next_seq - 1 > head {
            self.head.send_replace(next_seq - 1);
        }
        Ok(numbers)
    }

    /// The write connection, opened anew after a failure. A ledger whose file was moved away or replaced is refused:
    /// SQLite would go on writing to a file that nobody can find.
    fn connect(&mut self) -> Result<&Connection, LedgerError> {
        let identity = schema::file_identity(&self.path);
        if identity != Some(self.identity) {
            let what = if identity.is_none() { "is no longer there" } else { "was replaced by another file" };
            return Err(LedgerError::Unwritable(format!("`{}` {what}", self.path.display())));
        }
        if self.connection.is_none() {
            self.connection = Some(schema::open_writer(&self.path)?);
            tracing::info!("ledger opened again");
        }
        self.connection.as_ref().ok_or(LedgerError::Closed)
    }

    fn finish(mut self, stop: Option<oneshot::Sender<()>>) {
        if let Some(connection) = self.connection.take() {
            // Best effort: what is in the write-ahead log is durable without it.
            let _ = connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);");
        }
        if let Some(stop) = stop {
            let _ = stop.send(());
        }
    }
}

/// The newest sequence number in the file; -1 where there is none.
pub(super) fn newest_seq(connection: &Connection) -> Result<i64, LedgerError> {
    connection
        .query_row("SELECT max(seq) FROM leaves", [], |row| row.get::<_, Option<i64>>(0))
        .map(|newest| newest.unwrap_or(-1))
        .map_err(|error| LedgerError::Unwritable(schema::explain(&error)))
}

fn append(connection: &Connection, entry: &Sealed, seq: i64) -> rusqlite::Result<()> {
    let clamp = |microseconds: u64| i64::try_from(microseconds).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "INSERT INTO leaves (seq, leaf, id, kind, event_type, occurred_at, call_id, request_id, zone, mode, decision, \
             evaluation_status, evaluation_us, outcome, duration_us, forwarded, manifest_sha) \
             VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        )?
        .execute(params![
            seq,
            entry.leaf(seq),
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

fn keep(connection: &Connection, files: &[(String, Vec<u8>)]) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare_cached("INSERT OR IGNORE INTO digests (digest, bytes) VALUES (?,?)")?;
    for (digest, bytes) in files {
        insert.execute(params![digest, bytes])?;
    }
    Ok(())
}

fn close_open_calls(connection: &Connection, clock: &Clock, mut seq: i64) -> rusqlite::Result<i64> {
    let mut count = 0;
    loop {
        let open = connection
            .query_row(
                "SELECT l.call_id, l.request_id, l.event_type, l.zone, l.mode FROM op_open_calls o \
                 JOIN leaves l ON l.seq = o.seq ORDER BY o.seq LIMIT 1",
                [],
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
        append(connection, &entry.seal(clock), seq)?;
        // Appending removed it by its call id; a damaged id must not keep the loop going.
        connection.execute("DELETE FROM op_open_calls WHERE call_id = ?", [call_id])?;
        seq += 1;
        count += 1;
    }
}
