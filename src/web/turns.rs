//! Readers' work beside the data plane: on threads that stand back behind it, and taking turns, so that it keeps a processor.
//!
//! A thread works while it holds a turn, and there are fewer turns than processors. Whoever works for long, or waits for a peer,
//! hands the turn on meanwhile ([`pass`], [`waiting`]): a long question does not hold up the short ones that came after it. One
//! principal has only so many questions begun, and its others wait behind those: many of one do not hold up those of others.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, oneshot};

/// How much readers' threads stand back behind the data plane's (`nice`).
const NICE: i32 = 15;

/// Questions of one principal that are begun at once.
const MAX_BEGUN: usize = 2;

/// Questions that are begun at once, whoever asks: each has a connection to the ledger, and what it has read so far.
const MAX_BEGUN_BY_ALL: usize = 16;

/// After working for this long a turn is handed on, in milliseconds.
const TURN_MS: u64 = 10;

/// Stack of a thread that evaluates: that recurses as deep as policies nest.
pub const STACK_BYTES: usize = 16 * 1024 * 1024;

thread_local! {
    /// The turn this thread works in.
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

/// Where readers' questions are worked on.
#[derive(Debug)]
pub struct Turns {
    free: Arc<Semaphore>,
    begun_by_all: Arc<Semaphore>,
    /// By principal, while it has questions.
    begun: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
    wait_ms: u64,
}

/// Why a question was not worked on.
#[derive(Debug, thiserror::Error)]
pub enum Unasked {
    /// The principal's own questions, or others', came first for that many milliseconds.
    #[error("other questions came first for {0} ms")]
    Waited(u64),
    /// The machine gives no thread, or the question ended badly.
    #[error("the question could not be worked on: {0}")]
    Failed(String),
}

struct Turn {
    turns: Arc<Semaphore>,
    runtime: Handle,
    held: Option<OwnedSemaphorePermit>,
    since: Instant,
}

impl Turn {
    /// Waits for a turn; those who waited before come first.
    fn take(&mut self) {
        self.held = self.runtime.block_on(self.turns.clone().acquire_owned()).ok();
        self.since = Instant::now();
    }
}

impl Turns {
    /// As many turns as leave the data plane half of the processors. A question that has waited for `wait_ms` is given up.
    #[must_use]
    pub fn new(wait_ms: u64) -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self::of((processors / 2).max(1), wait_ms)
    }

    fn of(turns: usize, wait_ms: u64) -> Arc<Self> {
        let [free, begun_by_all] = [turns, MAX_BEGUN_BY_ALL].map(|most| Arc::new(Semaphore::new(most)));
        Arc::new(Self { free, begun_by_all, begun: Mutex::default(), wait_ms })
    }

    /// Works on a question of a principal, and answers what came of it.
    ///
    /// # Errors
    /// [`Unasked`]; nothing was begun then, or it panicked.
    pub async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        principal: &str,
        question: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unasked> {
        let name: Arc<str> = principal.into();
        let own = {
            let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
            begun.entry(name.clone()).or_insert_with(|| Arc::new(Semaphore::new(MAX_BEGUN))).clone()
        };
        let asking = Asking { turns: self.clone(), name };
        // In this order: whoever has many waits for its own, and only two of them for others'.
        let begun =
            async { Ok((own.acquire_owned().await?, self.begun_by_all.clone().acquire_owned().await?)) };
        let waiting = tokio::time::timeout(Duration::from_millis(self.wait_ms), begun);
        let waited = waiting.await.map_err(|_| Unasked::Waited(self.wait_ms))?;
        let place = waited.map_err(|closed: AcquireError| Unasked::Failed(closed.to_string()))?;
        let (answer, answered) = oneshot::channel();
        let work = move || {
            // Whoever asked may have gone.
            let _ = answer.send(question());
            // Until here, also if nobody waits any more.
            drop(place);
            drop(asking);
        };
        self.begin("reader", work).map_err(|error| Unasked::Failed(error.to_string()))?;
        answered.await.map_err(|_| Unasked::Failed("it ended without an answer".into()))
    }

    /// Works on something in a thread of its own, taking turns.
    ///
    /// # Errors
    /// The machine gives no thread.
    pub fn begin(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let (turns, runtime) = (self.free.clone(), Handle::current());
        beside(name, move || {
            let mut turn = Turn { turns, runtime, held: None, since: Instant::now() };
            turn.take();
            TURN.set(Some(turn));
            work();
            TURN.set(None);
        })
    }
}

/// A question on its way: the principal's line is forgotten with its last.
struct Asking {
    turns: Arc<Turns>,
    name: Arc<str>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut begun = self.turns.begun.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has a place in it, or waits for one, holds it too.
        if begun.get(&self.name).is_some_and(|own| Arc::strong_count(own) == 1) {
            begun.remove(&self.name);
        }
    }
}

/// Runs work in a thread of its own that stands back behind the data plane's.
///
/// # Errors
/// The machine gives no thread.
pub fn beside(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.into()).stack_size(STACK_BYTES);
    thread
        .spawn(move || {
            stand_back(NICE);
            work();
        })
        .map(drop)
}

/// Has this thread stand back behind others: the rest of the machine is the data plane's. Where it cannot be so, it is as good as
/// any thread.
pub(super) fn stand_back(nice: i32) {
    let _ = rustix::process::nice(nice);
}

/// Hands the turn on if this thread has worked for long; whoever waited before comes first. Does nothing in other threads.
pub fn pass() {
    TURN.with_borrow_mut(|turn| {
        if let Some(turn) = turn
            && turn.since.elapsed() >= Duration::from_millis(TURN_MS)
        {
            turn.held = None;
            turn.take();
        }
    });
}

/// Waits for something with the turn handed on.
pub fn waiting<T>(wait: impl FnOnce() -> T) -> T {
    TURN.with_borrow_mut(|turn| {
        if let Some(turn) = turn {
            turn.held = None;
        }
    });
    let waited = wait();
    TURN.with_borrow_mut(|turn| {
        if let Some(turn) = turn {
            turn.take();
        }
    });
    waited
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn one(wait_ms: u64) -> Arc<Turns> {
        Turns::of(1, wait_ms)
    }

    /// Works until it is told to end, handing the turn on as it should.
    fn endless(ended: &std::sync::mpsc::Receiver<()>) {
        while ended.try_recv().is_err() {
            std::thread::sleep(Duration::from_millis(1));
            pass();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn long_questions_do_not_hold_up_short_ones() {
        let turns = one(20_000);
        let mut long = Vec::new();
        for _ in 0..2 {
            let (end, ended) = channel();
            let turns = turns.clone();
            let asked = tokio::spawn(async move { turns.ask("alice", move || endless(&ended)).await });
            long.push((end, asked));
        }
        let short = tokio::time::timeout(Duration::from_secs(20), turns.ask("bob", || 7)).await;
        assert_eq!(short.unwrap().unwrap(), 7);
        for (end, asked) in long {
            end.send(()).unwrap();
            asked.await.unwrap().unwrap();
        }
        // A line is forgotten after its last answer.
        let deadline = Instant::now() + Duration::from_secs(20);
        while !turns.begun.lock().unwrap().is_empty() {
            assert!(Instant::now() < deadline, "lines are left: {turns:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_principal_waits_for_its_own_and_not_for_ever() {
        let turns = one(50);
        let (ends, asked): (Vec<_>, Vec<_>) = (0..MAX_BEGUN)
            .map(|_| {
                let (end, ended) = channel();
                let (tell, told) = channel();
                let turns = turns.clone();
                let question = move || {
                    tell.send(()).unwrap();
                    endless(&ended);
                };
                let asked = tokio::spawn(async move { turns.ask("alice", question).await });
                told.recv_timeout(Duration::from_secs(20)).unwrap();
                (end, asked)
            })
            .unzip();
        let waited = turns.ask("alice", || ()).await;
        assert!(matches!(waited, Err(Unasked::Waited(50))), "{waited:?}");
        turns.ask("bob", || ()).await.unwrap();
        for end in ends {
            end.send(()).unwrap();
        }
        for asked in asked {
            asked.await.unwrap().unwrap();
        }
        turns.ask("alice", || ()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_waits_for_a_peer_holds_up_nobody() {
        let turns = one(20_000);
        let (end, ended) = channel::<()>();
        let (tell, told) = channel();
        let waits = move || {
            waiting(|| {
                tell.send(()).unwrap();
                ended.recv_timeout(Duration::from_secs(20)).unwrap();
            });
        };
        turns.begin("export", waits).unwrap();
        told.recv_timeout(Duration::from_secs(20)).unwrap();
        turns.ask("bob", || ()).await.unwrap();
        end.send(()).unwrap();
        let panicked = turns.ask("bob", || assert!(std::thread::panicking(), "on purpose")).await;
        assert!(matches!(panicked, Err(Unasked::Failed(_))), "{panicked:?}");
        turns.ask("bob", || ()).await.unwrap();
    }
}
