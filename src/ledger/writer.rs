//! The writer: one thread owns the write connection and commits everything queued in one transaction (group commit).
//!
//! Crash order, at the start. The lock, then the empty file, its schema (each step with its version in one transaction), the
//! signing key (whole under its name or not there: [`crate::files`]), and only then the first entry; the first checkpoint
//! comes after the key it is signed with is on disk. A crash between two of these leaves a file that the next start goes on
//! with. Calls that an earlier run left open are closed before the first new call is accepted.
//!
//! Crash order, in a batch. `BEGIN`; leaves, payloads, nodes and open calls; the checkpoint, signed last because it covers
//! them; `COMMIT`; only then, in memory, the new edge and head, the checkpoint's file, and the answers. A caller is answered
//! only after `COMMIT` has returned, and with `synchronous=FULL` that is after the write-ahead log was synced: *from there
//! the entry is durable*. A crash before it loses the whole batch, none of which was answered. Leaf, payload, tree nodes and
//! the note of an open call are in the same transaction, so no crash can part them. A policy set is kept with its files in one
//! batch and spoken of in the next, and is in force only after both: a crash between leaves files that no entry names, never
//! an entry whose policies are gone. A checkpoint is shown to nobody before the transaction that keeps it has returned: what
//! docket has signed and somebody has seen, it still has after a crash. `tests/it/faults.rs` ends docket at each of these
//! steps.
//!
//! A transaction that failed. Its callers are refused, and the connection is dropped: an error from `COMMIT` does not say
//! whether the write-ahead log kept the transaction, so the next batch begins with what the file says. Entries nobody is
//! refused for ([`Waiting`]) go in front of that batch; calls that were refused although their decision was kept are closed.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use rusqlite::{Connection, params};
use tokio::sync::{mpsc, oneshot, watch};

use super::entry::Sealed;
use super::keeping::{self, Act, Removed};
use super::registry::Changing;
use super::rollup::{self, Rolled};
use super::tip::{EVERY_CALL, Tip, close_open_calls};
use super::waiting::Waiting;
use super::{Health, LedgerError, schema, tree};
use crate::clock::Clock;
use crate::files;
use crate::tlog::{Checkpoint, Edge, SigningKey};

/// Entries committed in one transaction at most.
const MAX_BATCH: usize = 512;

/// On a fast disk a commit returns before the next callers arrive, and every call pays for a sync of its own. With at
/// least this many calls under way, waiting a moment for company costs each less than it saves all.
const LINGER_FROM_CALLS: usize = 12;

/// How long one such wait is, in microseconds.
const LINGER_US: u64 = 120;

/// Entries after which the checkpointer is told to copy the write-ahead log into the database.
const CHECKPOINT_ENTRIES: i64 = 1_000;

/// A checkpoint is for everybody to read.
const CHECKPOINT_FILE_MODE: u32 = 0o644;

/// One thing for the writer to do.
pub(super) enum Job {
    /// Append an entry; answer with its sequence number once it is durable.
    Append(Box<Sealed>, oneshot::Sender<Result<i64, LedgerError>>),
    /// Append an entry that follows later where it cannot be written now; whoever wants to know is told whether it is durable.
    Note(Box<Sealed>, Option<oneshot::Sender<Result<i64, LedgerError>>>),
    /// Keep manifests and policy files by digest.
    Keep(Vec<(String, Vec<u8>)>, oneshot::Sender<Result<(), LedgerError>>),
    /// Close the calls an earlier run left open as `unknown`; answer how many there were.
    CloseOpenCalls(oneshot::Sender<Result<i64, LedgerError>>),
    /// Remove payloads, and say so in an entry.
    Act(Box<Act>, oneshot::Sender<Result<Removed, LedgerError>>),
    /// Append an entry, and make the change of blocks or tokens that it speaks of.
    Change(Box<Changing>, oneshot::Sender<Result<i64, LedgerError>>),
    /// Lay out the pages of these payloads anew.
    Rewrite(Vec<i64>, oneshot::Sender<Result<(), LedgerError>>),
    /// Give free pages back; answer how many are left.
    Reclaim(oneshot::Sender<Result<i64, LedgerError>>),
    /// Store what a block of entries was rolled up to.
    Roll(Box<Rolled>, oneshot::Sender<Result<(), LedgerError>>),
    /// Sign the tree as it stands after this batch, unless that has been done; answer with the note.
    Checkpoint(oneshot::Sender<Result<String, LedgerError>>),
    /// Sign, and finish: nothing is accepted after it.
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
    /// How transactions have fared.
    pub health: Arc<Health>,
    /// Tells the checkpointer to work.
    pub checkpointer: SyncSender<()>,
    /// The right edge of the durable tree.
    pub edge: Edge,
    pub key: SigningKey,
    /// The newest durable checkpoint, and its size.
    pub checkpoint: Option<String>,
    pub signed: watch::Sender<Option<u64>>,
    pub checkpoint_file: Option<PathBuf>,
    /// Entries that follow later.
    pub waiting: Arc<Waiting>,
    /// Entries that stood although their transaction was answered with an error, above the first number and up to the
    /// second: their callers were refused, and nobody else will close their calls.
    pub doubtful: Option<(i64, i64)>,
    pub _lock: schema::Lock,
}

impl Writer {
    /// Serves the queue until it is told to stop or every sender is gone.
    pub fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        loop {
            batch.clear();
            if queue.blocking_recv_many(&mut batch, MAX_BATCH) == 0 {
                self.serve_waiting(&mut batch);
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
                queue.close();
                batch.extend(std::iter::from_fn(|| queue.try_recv().ok()));
                self.serve_waiting(&mut batch);
                return self.finish(stop);
            }
        }
    }

    /// What came while the last batch was committed, under a checkpoint of its own.
    fn serve_waiting(&mut self, batch: &mut Vec<Job>) {
        if self.waiting.len() > 0 || !batch.is_empty() {
            batch.push(Job::Checkpoint(oneshot::channel().0));
            self.serve(batch);
        }
    }

    /// Commits one batch and answers its callers; the sender of a stop, if one was in it.
    fn serve(&mut self, batch: &mut Vec<Job>) -> Option<oneshot::Sender<()>> {
        let connected = self.connect();
        // Also where nothing can be written: what waits stays before what came after it.
        batch.splice(0..0, self.waiting.take().into_iter().map(|entry| Job::Note(entry, None)));
        let mut result = connected.and_then(|()| self.commit(batch));
        self.health.note(result.is_ok());
        if let Err(error) = &result {
            tracing::error!(error = %error, jobs = batch.len(), "ledger cannot append; calls are refused");
            // The connection may be beyond use (a vanished file, an I/O error): the next batch opens a new one.
            self.connection = None;
        }
        let (mut stop, mut again) = (None, VecDeque::new());
        for (index, job) in batch.drain(..).enumerate() {
            let done = match &mut result {
                Ok(done) => done.get_mut(index).map(std::mem::take).ok_or(LedgerError::Closed),
                Err(error) => Err(error.clone()),
            };
            let number = done.as_ref().map(|done| done.number).map_err(LedgerError::clone);
            // A caller that has gone away needs no answer; its entry stands all the same.
            match job {
                Job::Append(_, reply)
                | Job::Change(_, reply)
                | Job::CloseOpenCalls(reply)
                | Job::Reclaim(reply) => {
                    drop(reply.send(number));
                }
                Job::Act(_, reply) => drop(reply.send(done.map(|done| done.removed))),
                Job::Note(entry, reply) => {
                    if result.is_err() {
                        again.push_back(entry);
                    }
                    if let Some(reply) = reply {
                        drop(reply.send(number));
                    }
                }
                Job::Keep(_, reply) | Job::Rewrite(_, reply) | Job::Roll(_, reply) => {
                    drop(reply.send(number.map(|_| ())));
                }
                Job::Checkpoint(reply) => {
                    let note = number.and_then(|_| self.checkpoint.clone().ok_or(LedgerError::Closed));
                    drop(reply.send(note));
                }
                Job::Stop(reply) => stop = Some(reply),
            }
        }
        if !again.is_empty() {
            self.waiting.put_back(again);
        }
        stop
    }

    /// Does every job in one transaction. Answers what came of each.
    fn commit(&mut self, batch: &[Job]) -> Result<Vec<Done>, LedgerError> {
        let fail = |error: rusqlite::Error| LedgerError::Unwritable(schema::explain(&error));
        let connection = self.connection.as_ref().ok_or(LedgerError::Closed)?;
        let (clock, head) = (self.clock, *self.head.borrow());
        let transaction = connection.unchecked_transaction().map_err(fail)?;
        // A copy, so that a transaction that fails leaves the edge of what is durable.
        let mut tip = Tip::new(head + 1, self.edge.clone());
        let mut done = Vec::with_capacity(batch.len());
        let mut must_sign = false;
        for job in batch {
            let number = match job {
                Job::Append(entry, _) | Job::Note(entry, _) => {
                    tip.append(&transaction, entry).map_err(fail)?
                }
                Job::Change(changing, _) => {
                    changing.change.apply(&transaction).map_err(fail)?;
                    tip.append(&transaction, &changing.entry).map_err(fail)?
                }
                Job::Keep(files, _) => {
                    keep(&transaction, files).map_err(fail)?;
                    0
                }
                Job::CloseOpenCalls(_) => {
                    close_open_calls(&transaction, &clock, &mut tip, EVERY_CALL).map_err(fail)?
                }
                Job::Act(act, _) => {
                    let removed = keeping::carry_out(&transaction, &clock, &mut tip, act).map_err(fail)?;
                    done.push(Done { number: 0, removed });
                    continue;
                }
                Job::Rewrite(seqs, _) => {
                    keeping::rewrite(&transaction, seqs).map_err(fail)?;
                    0
                }
                Job::Roll(rolled, _) => {
                    // Callers must not be refused for it: without this block, its entries are read one by one.
                    if let Err(error) = rollup::store(&transaction, rolled) {
                        tracing::warn!(error = %error, "a block of entries could not be rolled up");
                    }
                    0
                }
                Job::Reclaim(_) => keeping::reclaim(&transaction).map_err(fail)?,
                Job::Checkpoint(_) | Job::Stop(_) => {
                    must_sign = true;
                    0
                }
            };
            done.push(Done { number, removed: Removed::default() });
        }
        if let Some(range) = self.doubtful {
            // After the entries that waited: these are of now, and those of when they happened.
            close_open_calls(&transaction, &clock, &mut tip, range).map_err(fail)?;
        }
        let size = tip.edge.size();
        let mut signed = None;
        if must_sign && *self.signed.borrow() != Some(size) {
            let checkpoint =
                Checkpoint { origin: self.key.verifier().name().to_owned(), size, root: tip.edge.root() };
            let note = checkpoint.sign(&self.key);
            transaction
                .execute(
                    "INSERT INTO checkpoints (size, note) VALUES (?,?)",
                    params![size.cast_signed(), note],
                )
                .map_err(fail)?;
            signed = Some(note);
        }
        // From here the entries are durable.
        transaction.commit().map_err(fail)?;
        self.edge = tip.edge;
        self.doubtful = None;
        if tip.next_seq - 1 > head {
            self.head.send_replace(tip.next_seq - 1);
            if head / CHECKPOINT_ENTRIES != tip.next_seq / CHECKPOINT_ENTRIES {
                // One that is still at work will find these entries too.
                let _ = self.checkpointer.try_send(());
            }
        }
        if let Some(note) = signed {
            self.publish(note, size);
        }
        Ok(done)
    }

    /// Takes a durable checkpoint as the newest, and writes it where the operator wants it.
    fn publish(&mut self, note: String, size: u64) {
        if let Some(file) = &self.checkpoint_file
            && let Err(error) = files::replace(file, note.as_bytes(), CHECKPOINT_FILE_MODE)
        {
            tracing::error!(error = %error, file = %file.display(), "the checkpoint could not be written to its file");
        }
        self.checkpoint = Some(note);
        self.signed.send_replace(Some(size));
    }

    /// The write connection, opened anew after a failure. A ledger whose file was moved away or replaced is refused:
    /// SQLite would go on writing to a file that nobody can find.
    fn connect(&mut self) -> Result<(), LedgerError> {
        let identity = schema::file_identity(&self.path);
        if identity != Some(self.identity) {
            let what = if identity.is_none() { "is no longer there" } else { "was replaced by another file" };
            return Err(LedgerError::Unwritable(format!("`{}` {what}", self.path.display())));
        }
        if self.connection.is_none() {
            let connection = schema::open_writer(&self.path)?;
            let fail = |error: rusqlite::Error| LedgerError::Unwritable(schema::explain(&error));
            // What is durable is what the file says, also where a commit failed halfway and succeeded after all.
            self.edge = tree::catch_up(&connection).map_err(fail)?;
            let size = tree::agrees(&connection, &self.edge, self.key.verifier())
                .map_err(LedgerError::Unwritable)?;
            let newest = tree::newest_checkpoint(&connection).map_err(fail)?;
            match (newest, size) {
                (Some(note), Some(size)) if self.checkpoint.as_ref() != Some(&note) => {
                    self.publish(note, size);
                }
                (newest, size) => {
                    self.checkpoint = newest;
                    self.signed.send_replace(size);
                }
            }
            let (known, newest) = (*self.head.borrow(), newest_seq(&connection)?);
            self.forget_recorded(&connection).map_err(fail)?;
            if newest > known {
                let first = self.doubtful.map_or(known, |(first, _)| first);
                self.doubtful = Some((first, newest));
                tracing::warn!(entries = newest - known, "a transaction that reported an error was kept");
            }
            if newest != known {
                self.head.send_replace(newest);
            }
            self.connection = Some(connection);
            tracing::info!("ledger opened again");
        }
        Ok(())
    }

    /// Lets go of waiting entries that are in the file after all: written twice, they would fail every transaction from now on.
    fn forget_recorded(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut select = connection.prepare_cached("SELECT 1 FROM leaves WHERE id = ?")?;
        let mut waiting = self.waiting.take();
        let recorded: rusqlite::Result<Vec<bool>> =
            waiting.iter().map(|entry| select.exists([&entry.entry_id])).collect();
        let known = recorded.as_deref().unwrap_or_default();
        let mut known = known.iter();
        waiting.retain(|_| known.next() != Some(&true));
        self.waiting.put_back(waiting);
        recorded.map(drop)
    }

    fn finish(mut self, stop: Option<oneshot::Sender<()>>) {
        if self.waiting.len() > 0 {
            tracing::error!(
                entries = self.waiting.len(),
                "entries were not recorded: the ledger cannot be written"
            );
        }
        if let Some(connection) = self.connection.take() {
            // Best effort: what is in the write-ahead log is durable without it.
            let _ = connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);");
        }
        // The lock goes before the answer: whoever waited for it may open the ledger again.
        drop(self);
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

/// What came of one job.
#[derive(Default)]
struct Done {
    /// The sequence number of an appended entry, the count of closed calls, the count of free pages.
    number: i64,
    /// What an act removed.
    removed: Removed,
}

fn keep(connection: &Connection, files: &[(String, Vec<u8>)]) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare_cached("INSERT OR IGNORE INTO digests (digest, bytes) VALUES (?,?)")?;
    for (digest, bytes) in files {
        insert.execute(params![digest, bytes])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicI64;

    use super::*;
    use crate::decision::{Effect, EvaluationStatus, Outcome};
    use crate::ledger::verify::{self, Options};
    use crate::ledger::{Entry, Kind, Ledger, Mode, Queue, Signing};
    use crate::redact::Redacted;

    static NOW_MS: AtomicI64 = AtomicI64::new(1_800_000_000_000);

    /// A clock of distinct moments and no entropy: the same entry sealed twice has the same id.
    const CLOCK: Clock =
        Clock { now_ms: || NOW_MS.fetch_add(1, Ordering::Relaxed), random: |buffer| buffer.fill(1) };

    fn entry(kind: Kind, call: u128, time_ms: i64) -> Entry {
        let decided = kind == Kind::Decision;
        Entry {
            kind,
            event_type: "tools.call".into(),
            time_ms,
            call_id: Some(ulid::Ulid::from(call)),
            request_id: None,
            zone: "default".into(),
            mode: Some(Mode::Enforce),
            decision: decided.then_some((Effect::Allow, EvaluationStatus::Complete, 1)),
            outcome: (!decided).then_some((Outcome::Success, 1)),
            forwarded: decided,
            manifest_sha: None,
            content: Redacted::nothing(),
        }
    }

    fn now() -> i64 {
        (CLOCK.now_ms)()
    }

    async fn failed(ledger: &Ledger, times: u64) {
        for _ in 0..1_000 {
            if ledger.health().failures() >= times {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no transaction failed");
    }

    /// Kind, call and outcome of every entry, in order.
    fn entries(path: &Path) -> Vec<(String, u128, Option<String>)> {
        let connection = schema::open_reader(path).unwrap();
        let mut select =
            connection.prepare("SELECT kind, call_id, outcome FROM leaves ORDER BY seq").unwrap();
        let rows = select.query_map([], |row| {
            let call: String = row.get(1)?;
            Ok((row.get(0)?, ulid::Ulid::from_string(&call).unwrap().into(), row.get(2)?))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    fn row(kind: &str, call: u128, outcome: Option<&str>) -> (String, u128, Option<String>) {
        (kind.to_owned(), call, outcome.map(str::to_owned))
    }

    async fn close_and_verify(ledger: Ledger, path: &Path) {
        ledger.close().await;
        let options =
            Options { key: ledger.verifier().clone(), old_checkpoint: None, since_ms: None, now_ms: 0 };
        let report = verify::ledger(path, &options, &mut |_, _| ()).unwrap();
        assert!(report.ok, "{report:?}");
    }

    #[tokio::test]
    async fn an_entry_nobody_is_refused_for_outlives_a_failed_transaction() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docket.db");
        let queue = Queue { enqueue_timeout_ms: 60_000, ..Queue::default() };
        let ledger = Ledger::open(&path, queue, Signing::default(), CLOCK).unwrap();
        ledger.append(entry(Kind::Decision, 1, now())).await.unwrap();
        let shell = Connection::open(&path).unwrap();
        shell.execute_batch("BEGIN IMMEDIATE").unwrap();
        ledger.note(entry(Kind::Outcome, 1, now()));
        failed(&ledger, 1).await;
        let look = Entry { outcome: None, ..entry(Kind::Access, 7, now()) };
        let not_yet = ledger.append_eventually(look).await;
        assert!(matches!(not_yet, Err(LedgerError::Unwritable(_))), "{not_yet:?}");
        shell.execute_batch("ROLLBACK").unwrap();
        ledger.append(entry(Kind::Decision, 2, now())).await.unwrap();
        ledger.note(entry(Kind::Outcome, 2, now()));
        close_and_verify(ledger, &path).await;
        let expected = [
            row("decision", 1, None),
            row("outcome", 1, Some("success")),
            row("access", 7, None),
            row("decision", 2, None),
            row("outcome", 2, Some("success")),
        ];
        assert_eq!(entries(&path), expected);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_comes_while_docket_stops_is_written_and_signed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docket.db");
        let queue = Queue { max_entries: 1, ..Queue::default() };
        let ledger = Ledger::open(&path, queue, Signing::default(), CLOCK).unwrap();
        ledger.append(entry(Kind::Decision, 1, now())).await.unwrap();
        let shell = Connection::open(&path).unwrap();
        shell.execute_batch("BEGIN IMMEDIATE").unwrap();
        let stopping = tokio::spawn({
            let ledger = ledger.clone();
            async move { ledger.close().await }
        });
        // Its last transaction waits for the shell's.
        tokio::time::sleep(Duration::from_millis(200)).await;
        ledger.note(entry(Kind::Outcome, 1, now()));
        ledger.note(Entry { outcome: None, ..entry(Kind::Access, 2, now()) });
        ledger.note(Entry { outcome: None, ..entry(Kind::Access, 3, now()) });
        shell.execute_batch("ROLLBACK").unwrap();
        stopping.await.unwrap();
        assert!(!ledger.is_checkpoint_due());
        close_and_verify(ledger, &path).await;
        let mut written = entries(&path);
        written.sort();
        let expected = [
            row("access", 2, None),
            row("access", 3, None),
            row("decision", 1, None),
            row("outcome", 1, Some("success")),
        ];
        assert_eq!(written, expected);
    }

    #[tokio::test]
    async fn a_commit_that_stood_although_it_reported_an_error_is_taken_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docket.db");
        let ledger = Ledger::open(&path, Queue::default(), Signing::default(), CLOCK).unwrap();
        ledger.append(entry(Kind::Decision, 1, now())).await.unwrap();
        ledger.append(entry(Kind::Decision, 2, now())).await.unwrap();
        // To the writer, a batch whose `COMMIT` stood and reported an error is rows it does not know of: a decision whose
        // caller was refused, and a note that it holds.
        let noted_ms = now();
        let connection = schema::open_writer(&path).unwrap();
        let edge = tree::catch_up(&connection).unwrap();
        let mut tip = Tip::new(2, edge);
        let transaction = connection.unchecked_transaction().unwrap();
        tip.append(&transaction, &entry(Kind::Decision, 3, now()).seal(&CLOCK)).unwrap();
        tip.append(&transaction, &entry(Kind::Outcome, 1, noted_ms).seal(&CLOCK)).unwrap();
        transaction.commit().unwrap();
        ledger.note(entry(Kind::Outcome, 1, noted_ms));
        failed(&ledger, 1).await;
        let receipt = ledger.append(entry(Kind::Decision, 4, now())).await.unwrap();
        assert_eq!((receipt.seq(), *ledger.head().borrow()), (4, 5));
        let open: i64 =
            connection.query_row("SELECT count(*) FROM op_open_calls", [], |row| row.get(0)).unwrap();
        assert_eq!(open, 2, "calls 2 and 4 are under way");
        ledger.note(entry(Kind::Outcome, 2, now()));
        ledger.note(entry(Kind::Outcome, 4, now()));
        close_and_verify(ledger, &path).await;
        let expected = [
            row("decision", 1, None),
            row("decision", 2, None),
            row("decision", 3, None),
            row("outcome", 1, Some("success")),
            row("decision", 4, None),
            row("outcome", 3, Some("unknown")),
            row("outcome", 2, Some("success")),
            row("outcome", 4, Some("success")),
        ];
        assert_eq!(entries(&path), expected);
    }
}
