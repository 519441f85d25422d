//! Readers' work beside the data plane: on threads that stand back behind it, and taking turns, so that it keeps a processor.
//!
//! A thread works while it holds a turn, and there are fewer turns of a kind than processors. Whoever works for long, or
//! waits for a peer, hands the turn on meanwhile ([`pass`], [`waiting`]): a long question does not hold up the short ones
//! that came after it. One principal has only so many questions begun, and its others wait behind those: many of one do
//! not hold up those of others.
//!
//! How far a thread stands back goes by how long it works ([`Work`]). Niceness alone shares the processor out and interrupts
//! nobody: a call that arrives where a nice thread runs can wait for the rest of that one's slice, some milliseconds. What is
//! long therefore runs only while nothing else would. What is brief must get through to a machine that is busy, and has
//! ended before it is in anybody's way.
//!
//! A machine with every processor busy, at whatever priority, is a slower one for those who wake up on it. While a call is
//! being decided, whoever has a turn therefore stands still, and with it whoever reads what it writes; but for no more than
//! half of the turn.
//!
//! What evaluates policies takes none of these turns, and does not stand aside. An evaluation can do arithmetic that nothing
//! interrupts, so it has a lane ([`Lane`]), one at a time, and whoever waits for it is told when it does not end: it can only
//! keep its own lane.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use thread_priority::ThreadPriority;
#[cfg(target_os = "linux")]
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use tokio::runtime::Handle;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, oneshot};

/// How much readers' threads stand back behind the data plane's (`nice`), unless they work for long.
const NICE: i32 = 15;

/// Questions of one principal that are begun at once.
const MAX_BEGUN: usize = 2;

/// Questions that are begun at once, whoever asks: each has a connection to the ledger, and what it has read so far.
const MAX_BEGUN_BY_ALL: usize = 16;

/// Evaluations of one lane at once, whoever asks.
const MAX_EVALUATIONS: usize = 1;

/// After working for this long a turn is handed on, in milliseconds.
const TURN_MS: u64 = 10;

/// A question that has taken this much of a processor is long after all, in milliseconds. Statistics of millions of entries
/// take less: on a machine that is busy they must get through.
const LONG_MS: u64 = 200;

/// What a turn gives way to calls at most, in milliseconds: whatever comes, half of it is left.
const GIVEN_MS: u64 = TURN_MS / 2;

/// Whoever gives way looks this often whether the call has been decided, in microseconds.
const LOOK_US: u64 = 200;

/// Stack of a thread that evaluates: that recurses as deep as policies nest.
pub const STACK_BYTES: usize = 16 * 1024 * 1024;

thread_local! {
    /// The turn this thread works in.
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

/// Where readers' questions are worked on.
#[derive(Debug)]
pub struct Turns {
    questions: Arc<Line>,
    /// Evaluations of what came with a request.
    given: Arc<Line>,
    /// Evaluations of what the ledger holds.
    recorded: Arc<Line>,
    wait_ms: u64,
}

/// How long something takes that readers ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// As far as one can tell, a moment.
    Brief,
    /// It reads or evaluates a great deal.
    Long,
}

/// Whose evaluations wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Of policies or calls that a body brought: anybody's, and such as never end.
    Given,
    /// Of recorded calls under recorded policies, which somebody has put in force.
    Recorded,
}

/// Those who wait for the same turns.
#[derive(Debug)]
struct Line {
    brief: Room,
    /// What is long runs only while nothing else would: what is brief must not wait until it does.
    long: Room,
    /// Whether what turns out to be long stands aside: evaluations do not, which are given a time on the clock.
    stands_aside: bool,
    /// Calls that are being decided: they come first.
    calls: Arc<AtomicUsize>,
}

/// How many may work, and may have begun.
#[derive(Debug)]
struct Room {
    free: Arc<Semaphore>,
    begun_by_all: Arc<Semaphore>,
    /// By principal, while it has questions.
    begun: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
    /// What one principal may have begun.
    most_of_one: usize,
}

/// Why a question was not worked on.
#[derive(Debug, thiserror::Error)]
pub enum Unasked {
    /// The principal's own questions, or others', came first for that many milliseconds.
    #[error("other questions came first for {0} ms")]
    Waited(u64),
    /// It was begun, and has not ended that many milliseconds later; nobody can end it.
    #[error("the evaluation has not ended after {0} ms")]
    Endless(u64),
    /// The machine gives no thread, or the question ended badly.
    #[error("the question could not be worked on: {0}")]
    Failed(String),
}

struct Turn {
    line: Arc<Line>,
    length: Work,
    runtime: Handle,
    held: Option<OwnedSemaphorePermit>,
    since: Instant,
    /// What it has given way to calls.
    given: Duration,
}

impl Turn {
    /// Stands still while a call is being decided.
    fn give_way(&mut self) {
        let most = Duration::from_millis(GIVEN_MS);
        while self.given < most && self.line.calls.load(Ordering::Relaxed) > 0 {
            let began = Instant::now();
            std::thread::sleep(Duration::from_micros(LOOK_US));
            self.given += began.elapsed();
        }
    }

    /// Waits for a turn; those who waited before come first.
    fn take(&mut self) {
        let turns = self.line.room(self.length).free.clone();
        self.held = self.runtime.block_on(turns.acquire_owned()).ok();
        self.since = Instant::now();
        self.given = Duration::ZERO;
    }
}

impl Turns {
    /// As many turns as leave the data plane half of the processors, and its `calls` under way the whole of them. A question
    /// that has waited for `wait_ms` is given up.
    #[must_use]
    pub fn new(wait_ms: u64, calls: &Arc<AtomicUsize>) -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self::of((processors / 2).max(1), wait_ms, calls)
    }

    fn of(turns: usize, wait_ms: u64, calls: &Arc<AtomicUsize>) -> Arc<Self> {
        let lane =
            || Line::new(|| Room::new(MAX_EVALUATIONS, MAX_EVALUATIONS, MAX_EVALUATIONS), false, calls);
        let questions = Line::new(|| Room::new(turns, MAX_BEGUN_BY_ALL, MAX_BEGUN), true, calls);
        Arc::new(Self { questions, given: lane(), recorded: lane(), wait_ms })
    }

    /// Works on a question of a principal, and answers what came of it.
    ///
    /// # Errors
    /// [`Unasked`]; nothing was begun then, or it panicked.
    pub async fn ask<T: Send + 'static>(
        &self,
        principal: &str,
        length: Work,
        question: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unasked> {
        let answered = self.questions.begin(principal, self.wait_ms, ("reader", length), question).await?;
        answered.await.map_err(|_| Unasked::unanswered())
    }

    /// Evaluates something for a principal, beside the questions, and answers what came of it.
    ///
    /// # Errors
    /// [`Unasked`]; one that does not end keeps its lane.
    pub async fn evaluate<T: Send + 'static>(
        &self,
        lane: Lane,
        principal: &str,
        evaluation: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unasked> {
        let others = match lane {
            Lane::Given => &self.given,
            Lane::Recorded => &self.recorded,
        };
        let answered = others.begin(principal, self.wait_ms, ("evaluation", Work::Brief), evaluation).await?;
        let answered = tokio::time::timeout(Duration::from_millis(self.wait_ms), answered).await;
        answered.map_err(|_| Unasked::Endless(self.wait_ms))?.map_err(|_| Unasked::unanswered())
    }

    /// How long a question waits for its turn, and how long an evaluation is waited for, in milliseconds.
    #[must_use]
    pub fn wait_ms(&self) -> u64 {
        self.wait_ms
    }

    /// Waits for a place that others have, as long as a question waits for its turn.
    ///
    /// # Errors
    /// [`Unasked`].
    pub async fn place(&self, places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Unasked> {
        taken(self.wait_ms, places.clone().acquire_owned()).await
    }

    /// Works on something long in a thread of its own, taking turns.
    ///
    /// # Errors
    /// The machine gives no thread.
    pub fn begin(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.questions.work((name, Work::Long), work)
    }
}

impl Unasked {
    fn unanswered() -> Self {
        Self::Failed("it ended without an answer".into())
    }
}

impl Room {
    fn new(turns: usize, most: usize, most_of_one: usize) -> Self {
        let [free, begun_by_all] = [turns, most].map(|most| Arc::new(Semaphore::new(most)));
        Self { free, begun_by_all, begun: Mutex::default(), most_of_one }
    }

    /// Where a principal's questions begin.
    fn of(&self, principal: Arc<str>) -> Arc<Semaphore> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.entry(principal).or_insert_with(|| Arc::new(Semaphore::new(self.most_of_one))).clone()
    }
}

impl Line {
    fn new(room: impl Fn() -> Room, stands_aside: bool, calls: &Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self { brief: room(), long: room(), stands_aside, calls: calls.clone() })
    }

    fn room(&self, length: Work) -> &Room {
        match length {
            Work::Brief => &self.brief,
            Work::Long => &self.long,
        }
    }

    /// Begins a question once it is the principal's turn; what comes of it is received.
    async fn begin<T: Send + 'static>(
        self: &Arc<Self>,
        principal: &str,
        wait_ms: u64,
        (thread, length): (&str, Work),
        question: impl FnOnce() -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Unasked> {
        let (room, name) = (self.room(length), Arc::<str>::from(principal));
        let (own, by_all) = (room.of(name.clone()), room.begun_by_all.clone());
        let asking = Asking { line: self.clone(), length, name };
        // In this order: whoever has many waits for its own, and only two of them for others'.
        let begun = async { Ok((own.acquire_owned().await?, by_all.acquire_owned().await?)) };
        let place = taken(wait_ms, begun).await?;
        let (answer, answered) = oneshot::channel();
        let work = move || {
            // Whoever asked may have gone.
            let _ = answer.send(question());
            // Until here, also if nobody waits any more.
            drop(place);
            drop(asking);
        };
        self.work((thread, length), work).map_err(|error| Unasked::Failed(error.to_string()))?;
        Ok(answered)
    }

    fn work(
        self: &Arc<Self>,
        (name, length): (&str, Work),
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let (line, runtime) = (self.clone(), Handle::current());
        beside(name, length, move || {
            let mut turn =
                Turn { line, length, runtime, held: None, since: Instant::now(), given: Duration::ZERO };
            turn.take();
            TURN.set(Some(turn));
            work();
            TURN.set(None);
        })
    }
}

/// Waits for places, but not for ever.
async fn taken<T>(wait_ms: u64, place: impl Future<Output = Result<T, AcquireError>>) -> Result<T, Unasked> {
    let waited = tokio::time::timeout(Duration::from_millis(wait_ms), place).await;
    waited.map_err(|_| Unasked::Waited(wait_ms))?.map_err(|closed| Unasked::Failed(closed.to_string()))
}

/// A question on its way: the principal's line is forgotten with its last.
struct Asking {
    line: Arc<Line>,
    length: Work,
    name: Arc<str>,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut begun = self.line.room(self.length).begun.lock().unwrap_or_else(PoisonError::into_inner);
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
pub fn beside(name: &str, length: Work, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name(name.into()).stack_size(STACK_BYTES);
    thread
        .spawn(move || {
            stand_back(NICE);
            if length == Work::Long {
                stand_aside();
            }
            work();
        })
        .map(drop)
}

/// Has this thread stand back behind others: the rest of the machine is the data plane's. Where it cannot be so, it is as good as
/// any thread.
pub(super) fn stand_back(nice: i32) {
    let _ = rustix::process::nice(nice);
}

/// Has this thread run only while no other would, from now on: an unprivileged thread cannot take that back. Where it cannot be
/// so, it goes on as it is.
fn stand_aside() {
    #[cfg(target_os = "linux")]
    {
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let _ = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle);
    }
}

/// How much of a processor this thread has had.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Gives way to calls, and hands the turn on if this thread has worked for long, and has it stand aside where its work turns
/// out to be long; whoever waited before comes first. Does nothing in other threads.
pub fn pass() {
    TURN.with_borrow_mut(|turn| {
        let Some(turn) = turn else { return };
        turn.give_way();
        if turn.since.elapsed() >= Duration::from_millis(TURN_MS) {
            if turn.line.stands_aside
                && turn.length == Work::Brief
                && worked() >= Duration::from_millis(LONG_MS)
            {
                stand_aside();
                turn.length = Work::Long;
            }
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
        Turns::of(1, wait_ms, &Arc::default())
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
            let asked =
                tokio::spawn(async move { turns.ask("alice", Work::Brief, move || endless(&ended)).await });
            long.push((end, asked));
        }
        let short = tokio::time::timeout(Duration::from_secs(20), turns.ask("bob", Work::Brief, || 7)).await;
        assert_eq!(short.unwrap().unwrap(), 7);
        for (end, asked) in long {
            end.send(()).unwrap();
            asked.await.unwrap().unwrap();
        }
        // A line is forgotten after its last answer.
        let deadline = Instant::now() + Duration::from_secs(20);
        while !turns.questions.brief.begun.lock().unwrap().is_empty() {
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
                let asked = tokio::spawn(async move { turns.ask("alice", Work::Brief, question).await });
                told.recv_timeout(Duration::from_secs(20)).unwrap();
                (end, asked)
            })
            .unzip();
        let waited = turns.ask("alice", Work::Brief, || ()).await;
        assert!(matches!(waited, Err(Unasked::Waited(50))), "{waited:?}");
        turns.ask("bob", Work::Brief, || ()).await.unwrap();
        for end in ends {
            end.send(()).unwrap();
        }
        for asked in asked {
            asked.await.unwrap().unwrap();
        }
        turns.ask("alice", Work::Brief, || ()).await.unwrap();
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
        turns.ask("bob", Work::Brief, || ()).await.unwrap();
        end.send(()).unwrap();
        let panicked =
            turns.ask("bob", Work::Brief, || assert!(std::thread::panicking(), "on purpose")).await;
        assert!(matches!(panicked, Err(Unasked::Failed(_))), "{panicked:?}");
        turns.ask("bob", Work::Brief, || ()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_evaluation_without_end_keeps_its_own_lane_only() {
        let turns = one(200);
        let (end, ended) = channel::<()>();
        let stuck = move || ended.recv_timeout(Duration::from_secs(20)).unwrap();
        let endless = turns.evaluate(Lane::Given, "alice", stuck).await;
        assert!(matches!(endless, Err(Unasked::Endless(200))), "{endless:?}");
        let waited = turns.evaluate(Lane::Given, "bob", || ()).await;
        assert!(matches!(waited, Err(Unasked::Waited(200))), "{waited:?}");
        turns.evaluate(Lane::Recorded, "alice", || ()).await.unwrap();
        turns.ask("alice", Work::Brief, || ()).await.unwrap();
        end.send(()).unwrap();
        turns.evaluate(Lane::Given, "bob", || ()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_brief_does_not_wait_for_what_is_long() {
        let turns = one(20_000);
        let (end, ended) = channel::<()>();
        let (tell, told) = channel();
        // It holds its turn, as one does that nobody runs; and another has begun and waits for it.
        let long = move || {
            tell.send(()).unwrap();
            ended.recv_timeout(Duration::from_secs(20)).unwrap();
        };
        let (first, second) = (turns.clone(), turns.clone());
        let first = tokio::spawn(async move { first.ask("bob", Work::Long, long).await });
        let second = tokio::spawn(async move { second.ask("bob", Work::Long, || ()).await });
        told.recv_timeout(Duration::from_secs(20)).unwrap();
        turns.ask("bob", Work::Brief, || ()).await.unwrap();
        end.send(()).unwrap();
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_has_a_turn_gives_way_to_calls_for_half_of_it() {
        let calls = Arc::new(AtomicUsize::new(0));
        let turns = Turns::of(1, 20_000, &calls);
        let works = || {
            let began = Instant::now();
            let mut most = Duration::ZERO;
            while began.elapsed() < Duration::from_millis(5 * TURN_MS) {
                pass();
                most = TURN.with_borrow(|turn| turn.as_ref().unwrap().given).max(most);
            }
            most
        };
        assert_eq!(turns.ask("alice", Work::Long, works).await.unwrap(), Duration::ZERO);
        calls.store(1, Ordering::Relaxed);
        // The call is never decided, and the question ends.
        let asked = turns.ask("alice", Work::Long, works);
        let given = tokio::time::timeout(Duration::from_secs(20), asked).await.unwrap().unwrap();
        assert!(given >= Duration::from_millis(GIVEN_MS), "{given:?}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_long_runs_only_while_nothing_else_would() {
        const SCHED_IDLE: &str = "5";
        fn policy() -> String {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            // The 41st field; the second may have spaces in it.
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(38).unwrap().to_owned()
        }
        let turns = one(20_000);
        assert_ne!(turns.ask("alice", Work::Brief, policy).await.unwrap(), SCHED_IDLE);
        assert_eq!(turns.ask("alice", Work::Long, policy).await.unwrap(), SCHED_IDLE);
        let turned_out_long = || {
            // A moment on the clock is no work.
            std::thread::sleep(Duration::from_millis(LONG_MS));
            pass();
            let before = policy();
            while worked() < Duration::from_millis(LONG_MS + 2 * TURN_MS) {
                pass();
            }
            (before, policy())
        };
        let (before, after) = turns.ask("alice", Work::Brief, turned_out_long).await.unwrap();
        assert_ne!(before, SCHED_IDLE);
        assert_eq!(after, SCHED_IDLE);
        // An evaluation has a time on the clock.
        let evaluated = turns.evaluate(Lane::Given, "alice", turned_out_long).await.unwrap();
        assert_ne!(evaluated.1, SCHED_IDLE);
        // Whoever comes next is not held to it.
        assert_ne!(turns.ask("alice", Work::Brief, policy).await.unwrap(), SCHED_IDLE);
    }
}
