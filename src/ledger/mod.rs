//! The ledger: one SQLite file in which every decision is durable before its call goes on.
//!
//! [`Ledger`] is a handle that may be cloned freely; one thread behind it owns the write connection. [`Ledger::append`]
//! returns a [`Receipt`] once the entry is on disk, and only a receipt yields the [`Permit`] that lets a call go on:
//! *no record, no call* is checked by the compiler. Reading goes through [`Reader`], on connections of its own.
//!
//! It knows SQLite and nothing of HTTP, MCP or Rego.

pub mod backup;
pub mod bundle;
mod entry;
mod erasing;
mod erasure;
pub mod filter;
mod gone;
mod holds;
mod keeper;
mod keeping;
pub mod key;
mod older;
mod reader;
mod registry;
mod removals;
mod retention;
pub mod rollup;
mod schema;
pub mod stats;
mod stored;
mod tip;
mod traffic;
mod tree;
pub mod verify;
mod waiting;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::decision::Effect;
use crate::redact::HashKey;
use crate::tlog::{Checkpoint, VerifierKey};
use rollup::Roller;
use waiting::Waiting;
use writer::{Job, Writer};

pub use entry::{Entry, Kind, LEAF_VERSION, Mode, PARTS, SALT_BYTES, commitment};
pub use erasure::Remains;
pub use filter::{Column, Filter, Order};
pub use gone::Gone;
pub use holds::{Covered, Hold, Placed, Scope};
pub use keeper::{Actor, Keeper, KeepingError, Summary as Kept};
pub use key::Signing;
pub use older::Readable;
pub use reader::{DEFAULT_LIMIT, MAX_LIMIT, Page, Reader};
pub use registry::Change;
pub use removals::Removal;
pub use retention::{Cut, Plan, Retention, Rule, prunable};
pub use stats::Stats as LedgerStats;
pub use stored::{FIELDS, MORE_FIELDS, Stored, StoredPolicySet};
pub use traffic::{Extent, Recorded};
pub use tree::StoredLeaf;

/// Why the ledger could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be used at all; docket does not start.
    #[error("ledger `{}` cannot be used: {reason}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The entry could not be made durable; the call must be refused.
    #[error("the ledger cannot be written: {0}")]
    Unwritable(String),
    /// The writer did not come round to it in so many milliseconds; a call must be refused, and may be tried again.
    #[error("the ledger is busy: its writer did not come round to it within {0} ms")]
    Busy(u64),
    /// docket is stopping.
    #[error("the ledger is closed")]
    Closed,
    /// A query took longer than it may, in milliseconds, and was given up.
    #[error("the query took longer than {0} ms and was given up")]
    TooSlow(u64),
    /// A query waited too long for others to end, in milliseconds, and was not begun.
    #[error("other questions came first for {0} ms")]
    Waited(u64),
    /// What was to be evaluated for an answer has not ended after so many milliseconds.
    #[error("the evaluation has not ended after {0} ms and is no longer waited for")]
    Endless(u64),
    /// The entries of a page have too much content; so many of them were already too much.
    #[error("the first {entries} entries of the page have {max_bytes} bytes or more")]
    TooLarge {
        /// How many.
        entries: usize,
        /// What a page may have.
        max_bytes: usize,
    },
    /// The file could not be read, or holds something docket never writes.
    #[error("the ledger cannot be read: {0}")]
    Unreadable(String),
}

impl LedgerError {
    fn open(path: &Path, reason: String) -> Self {
        Self::Open { path: path.to_owned(), reason }
    }
}

/// The event type of those who could not be identified, and of many of them in one entry.
pub const AUTH_FAILED: &str = "auth.failed";

/// Bounds of the writer's queue.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Entries waiting at most.
    pub max_entries: usize,
    /// How long a caller waits for a place, in milliseconds.
    pub enqueue_timeout_ms: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Self { max_entries: 1_024, enqueue_timeout_ms: 2_000 }
    }
}

/// How the writer's transactions have fared.
#[derive(Debug, Default)]
pub struct Health {
    failing: AtomicBool,
    failures: AtomicU64,
}

impl Health {
    /// Whether the last transaction failed: while it is true, calls are refused.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Transactions that failed since the start.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn note(&self, stood: bool) {
        self.failing.store(!stood, Ordering::Relaxed);
        self.failures.fetch_add(u64::from(!stood), Ordering::Relaxed);
    }
}

/// A handle to the writer. Cloning shares the one writer.
#[derive(Clone)]
pub struct Ledger {
    jobs: mpsc::Sender<Job>,
    queue: Queue,
    waiting: Arc<Waiting>,
    clock: Clock,
    calls_in_flight: Arc<AtomicUsize>,
    head: watch::Receiver<i64>,
    health: Arc<Health>,
    signed: watch::Receiver<Option<u64>>,
    verifier: Arc<VerifierKey>,
    hash_key: HashKey,
    hook_cache_key: Arc<[u8; 32]>,
    path: Arc<Path>,
    roller: Roller,
}

impl Ledger {
    /// Opens or creates the ledger at `path`, takes its lock, brings its schema and its tree up to date and starts the
    /// writer. The signing key is made where there is neither a key nor a checkpoint.
    ///
    /// # Errors
    /// [`LedgerError::Open`] when the file is locked, foreign, newer than this docket, damaged or not writable, when its
    /// key is gone or another's, or when its tree is not the one its newest checkpoint speaks of.
    pub fn open(path: &Path, queue: Queue, signing: Signing, clock: Clock) -> Result<Self, LedgerError> {
        let lock = schema::Lock::take(path)?;
        schema::create(path)?;
        let connection = schema::open_writer(path)?;
        // What an act removed before a crash may still stand in the log. Where a reader is in the way, it stays in use.
        erasure::settle(path, 1);
        let identity = schema::file_identity(path)
            .ok_or_else(|| LedgerError::open(path, "it vanished while it was being opened".into()))?;
        let fail = |reason: String| LedgerError::open(path, reason);
        let edge = tree::catch_up(&connection).map_err(|error| fail(schema::explain(&error)))?;
        let newest = tree::newest_checkpoint(&connection).map_err(|error| fail(schema::explain(&error)))?;
        let origin = match (&newest, signing.origin) {
            (None, origin) => origin,
            (Some(note), configured) => {
                let kept = Checkpoint::unverified(note)
                    .map_err(|error| fail(format!("its newest checkpoint: {error}")))?;
                if let Some(origin) = configured.filter(|origin| *origin != kept.origin) {
                    let kept = kept.origin;
                    return Err(fail(format!(
                        "its checkpoints are of `{kept}`, and `ledger.origin` says `{origin}`"
                    )));
                }
                Some(kept.origin)
            }
        };
        let key_file = signing.key_file.unwrap_or_else(|| key::default_file(path));
        let may_make = newest.is_none().then_some(&clock);
        let key = key::load(&key_file, origin.as_deref(), may_make).map_err(fail)?;
        if let Some(file) = &signing.checkpoint_file {
            key::may_publish(path, file).map_err(fail)?;
        }
        let size = tree::agrees(&connection, &edge, key.verifier()).map_err(fail)?;
        let (signed, signatures) = watch::channel(size);
        let (verifier, hash_key) = (Arc::new(key.verifier().clone()), key::hash_key(&key));
        let hook_cache_key = Arc::new(key::hook_cache_key(&key));
        let (head, followers) = watch::channel(writer::newest_seq(&connection)?);
        let calls_in_flight = Arc::new(AtomicUsize::new(0));
        let health = Arc::new(Health::default());
        let checkpointer = schema::spawn_checkpointer(path)
            .map_err(|error| LedgerError::open(path, format!("its checkpointer cannot start: {error}")))?;
        let (jobs, receiver) = mpsc::channel(queue.max_entries.max(1));
        let waiting = Arc::<Waiting>::default();
        let writer = Writer {
            path: path.to_owned(),
            clock,
            connection: Some(connection),
            identity,
            calls_in_flight: calls_in_flight.clone(),
            head,
            health: health.clone(),
            checkpointer,
            edge,
            key,
            checkpoint: newest,
            signed,
            checkpoint_file: signing.checkpoint_file,
            waiting: waiting.clone(),
            doubtful: None,
            _lock: lock,
        };
        std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || writer.run(receiver))
            .map_err(|error| LedgerError::open(path, format!("its writer thread cannot start: {error}")))?;
        let roller = Roller::start(path, jobs.downgrade(), followers.clone(), calls_in_flight.clone())
            .map_err(|error| LedgerError::open(path, format!("its rollup thread cannot start: {error}")))?;
        let (head, path) = (followers, path.into());
        Ok(Self {
            jobs,
            queue,
            waiting,
            clock,
            calls_in_flight,
            head,
            health,
            signed: signatures,
            verifier,
            hash_key,
            hook_cache_key,
            path,
            roller,
        })
    }

    /// Appends an entry. When this returns the entry is durable.
    ///
    /// # Errors
    /// [`LedgerError::Busy`], [`LedgerError::Unwritable`] or [`LedgerError::Closed`]; nothing was recorded then.
    pub async fn append(&self, entry: Entry) -> Result<Receipt, LedgerError> {
        let (effect, mode) = (entry.decision.map(|(effect, ..)| effect), entry.mode);
        let forwarded = entry.forwarded;
        let entry = Box::new(entry.seal(&self.clock));
        let seq = self.ask(|reply| Job::Append(entry, reply)).await?;
        Ok(Receipt { seq, effect, mode, forwarded })
    }

    /// Appends an entry for want of which nothing is refused: that somebody looked. When this returns `Ok` the entry is durable;
    /// after an error, unless that is [`LedgerError::Closed`], it waits in memory, and follows with the next transaction that
    /// succeeds.
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub async fn append_eventually(&self, entry: Entry) -> Result<(), LedgerError> {
        let entry = Box::new(entry.seal(&self.clock));
        let timeout_ms = self.queue.enqueue_timeout_ms;
        let deadline = tokio::time::Instant::now() + Duration::from_millis(timeout_ms);
        let (reply, answer) = oneshot::channel();
        let Ok(place) = tokio::time::timeout_at(deadline, self.jobs.reserve()).await else {
            self.waiting.push(entry);
            return Err(LedgerError::Busy(timeout_ms));
        };
        place.map_err(|_| LedgerError::Closed)?.send(Job::Note(entry, Some(reply)));
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(answer) => answer.map_err(|_| LedgerError::Closed)?.map(drop),
            Err(_) => Err(LedgerError::Busy(timeout_ms)),
        }
    }

    /// Queues an entry nobody waits for: an outcome, a request nobody could read. It is durable with the next transaction that
    /// succeeds. Of those that wait for one while the ledger cannot be written too many are not kept; what is given up is said
    /// in the log, and a call whose outcome that was is closed as `unknown` on the next start.
    pub fn note(&self, entry: Entry) {
        match self.jobs.try_send(Job::Note(Box::new(entry.seal(&self.clock)), None)) {
            // The writer has work, and takes what waits along; at the latest when the next checkpoint is signed.
            Err(TrySendError::Full(Job::Note(entry, _))) => self.waiting.push(entry),
            Err(_) => tracing::error!("an entry was not recorded: the ledger is closed"),
            Ok(()) => {}
        }
    }

    /// Keeps files by the digest of their bytes; what is kept already is left alone.
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub async fn keep(&self, files: Vec<(String, Vec<u8>)>) -> Result<(), LedgerError> {
        self.ask(|reply| Job::Keep(files, reply)).await
    }

    /// Closes every call an earlier run left without an outcome as `unknown`. To be called before the first call is
    /// accepted. Answers how many there were.
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub async fn close_open_calls(&self) -> Result<i64, LedgerError> {
        self.ask(Job::CloseOpenCalls).await
    }

    /// The newest signed tree head, a C2SP `tlog-checkpoint` as `signed-note`: a new one where there are new leaves. It
    /// is durable when this returns.
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub async fn checkpoint(&self) -> Result<String, LedgerError> {
        self.ask(Job::Checkpoint).await
    }

    /// Whether there are leaves that no checkpoint covers, or are to be.
    #[must_use]
    pub fn is_checkpoint_due(&self) -> bool {
        if self.waiting.len() > 0 {
            return true;
        }
        let size = u64::try_from(*self.head.borrow() + 1).unwrap_or(0);
        size > self.signed.borrow().unwrap_or(0)
    }

    /// What this ledger's checkpoints are verified with.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// What stands in this ledger for values that are hashed is made with this key. It is of the signing key: with another
    /// one, equal values have other hashes.
    #[must_use]
    pub fn hash_key(&self) -> HashKey {
        self.hash_key.clone()
    }

    /// What compiled redaction hooks beside this ledger are authenticated with.
    #[must_use]
    pub fn hook_cache_key(&self) -> &[u8; 32] {
        &self.hook_cache_key
    }

    /// Commits and signs what is queued, and ends the writer.
    pub async fn close(&self) {
        let roller = self.roller.clone();
        // It ends after the block it is at. An error means that the runtime is going down, and takes it along.
        let _ = tokio::task::spawn_blocking(move || roller.stop()).await;
        let (reply, answer) = oneshot::channel();
        if self.jobs.send(Job::Stop(reply)).await.is_ok() {
            // An error means that the writer has ended already.
            let _ = answer.await;
        }
    }

    /// Counts a call as under way until the guard is dropped: the writer waits for company when many are, and readers
    /// give way.
    #[must_use]
    pub fn arriving(&self) -> Arriving {
        self.calls_in_flight.fetch_add(1, Ordering::Relaxed);
        Arriving(self.calls_in_flight.clone())
    }

    /// How many calls are under way, as it changes.
    #[must_use]
    pub fn calls_in_flight(&self) -> Arc<AtomicUsize> {
        self.calls_in_flight.clone()
    }

    /// Entries waiting for the writer.
    #[must_use]
    pub fn queue_length(&self) -> usize {
        self.jobs.max_capacity() - self.jobs.capacity()
    }

    /// How transactions have fared: whether calls are refused now, and whether any were.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The newest durable sequence number, as it changes; -1 in an empty ledger.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<i64> {
        self.head.clone()
    }

    /// Opens connections of its own for reading.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(self.path.clone())
    }

    /// Has the writer do something, and waits until it is durable.
    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, LedgerError>>) -> Job,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(job(reply)).await?;
        answer.await.map_err(|_| LedgerError::Closed)?
    }

    async fn enqueue(&self, job: Job) -> Result<(), LedgerError> {
        let job = match self.jobs.try_send(job) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(LedgerError::Closed),
            Err(TrySendError::Full(job)) => job,
        };
        let timeout_ms = self.queue.enqueue_timeout_ms;
        match tokio::time::timeout(Duration::from_millis(timeout_ms), self.jobs.send(job)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(LedgerError::Closed),
            Err(_) => Err(LedgerError::Busy(timeout_ms)),
        }
    }
}

/// A call under way; see [`Ledger::arriving`].
pub struct Arriving(Arc<AtomicUsize>);

impl Drop for Arriving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Proof that an entry is durable. Only the ledger makes one.
#[derive(Debug)]
pub struct Receipt {
    seq: i64,
    effect: Option<Effect>,
    mode: Option<Mode>,
    forwarded: bool,
}

impl Receipt {
    /// The entry's sequence number: its leaf index.
    #[must_use]
    pub fn seq(&self) -> i64 {
        self.seq
    }

    /// The permit to forward, if the recorded decision allows the call.
    #[must_use]
    pub fn permit(self) -> Option<Permit> {
        (self.forwarded && self.effect == Some(Effect::Allow)).then_some(Permit(()))
    }
}

/// The right to forward one request. There are three ways to one, and each has a name.
#[derive(Debug)]
pub struct Permit(());

/// The requests that pass without a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plumbing {
    /// MCP `ping`.
    Ping,
    /// A JSON-RPC notification.
    Notification,
    /// A client's answer to a request of the server's (sampling, elicitation, roots).
    Response,
    /// The DELETE that ends a session.
    EndSession,
    /// The GET stream of server messages.
    Stream,
}

impl Permit {
    /// The permit of a call whose decision was recorded in mode `monitor`: it goes on whatever was decided.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "a receipt yields one permit, and is spent on it")]
    pub fn monitored(receipt: Receipt) -> Option<Self> {
        (receipt.forwarded && receipt.mode == Some(Mode::Monitor)).then_some(Self(()))
    }

    /// The permit of a request that no policy is asked about.
    #[must_use]
    pub fn plumbing(_method: Plumbing) -> Self {
        Self(())
    }
}
