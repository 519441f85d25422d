//! Traffic: recorded calls, many of them, decided again by a candidate set (which decisions flip?) or looked through for the
//! rules that fire.
//!
//! Calls are read in batches and worked on by several threads; what comes out comes out in the order of the ledger, and the
//! memory needed does not grow with the traffic. Nothing is written anywhere.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Parts, Unreplayable, parsed, redacted};
use crate::call::{Call, Moment};
use crate::decision::{Decision, EvaluationStatus};
use crate::json::Object;
use crate::ledger::{Extent, Filter, LedgerError, Reader, Recorded};
use crate::policy::{Cover, PolicySet, RuleUse};

/// Calls read, and decided by one thread, at once.
const BATCH_CALLS: u32 = 256;
/// Batches under way for each thread.
const BATCHES_PER_THREAD: usize = 2;
/// A thread that evaluates: as deep as policies nest.
const STACK_BYTES: usize = 16 * 1024 * 1024;
/// Redacted paths that are counted one by one.
const MAX_PATHS: usize = 1_000;

/// Recorded calls.
pub struct Traffic<'a> {
    /// The ledger.
    pub reader: &'a Reader,
    /// Which calls.
    pub filter: Filter,
    /// The newest so many of them only.
    pub newest: Option<u32>,
    /// Threads that evaluate.
    pub threads: NonZeroUsize,
}

/// Calls, or what came of them, with the number of their batch.
type Batch<T> = (u64, Vec<T>);

/// What working through traffic hands over.
enum Done<T> {
    /// What came of one call.
    Call(T),
    /// So many calls of so many are done.
    Batch(u64, u64),
}

/// What is told while traffic is replayed.
#[derive(Debug)]
pub enum Event<'a> {
    /// A decision comes out otherwise.
    Flip(&'a Flip),
    /// So many calls of so many are done.
    Progress(u64, u64),
}

/// One decision that comes out otherwise: with another effect, or with the same by other policies.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(tag = "type", rename = "flip")]
pub struct Flip {
    /// The request.
    pub request_id: Option<String>,
    /// Joins the entries of the call.
    pub call_id: Option<String>,
    /// RFC 3339, UTC.
    pub occurred_at: String,
    /// The MCP method or HTTP method.
    pub action: String,
    /// The configured server.
    pub server: Option<String>,
    /// The tool, or what else the call was about.
    pub resource: String,
    /// What it was called with, as recorded.
    #[schema(value_type = Option<Object>)]
    pub arguments: Option<Box<RawValue>>,
    /// As recorded.
    pub before: Side,
    /// As the candidate decides.
    pub after: Side,
    /// Redacted places of the call that the candidate reads: where there are any, the flip may be due to what is missing.
    pub approximate: Vec<String>,
}

impl Flip {
    /// The same for somebody who may not see what the call was about: its arguments, its resource, and the rules, whose names a
    /// policy can make from both.
    #[must_use]
    pub fn without_content(&self) -> Self {
        // The object of an entry point names its policies and rules itself.
        let side = |side: &Side| Side { policies: Vec::new(), rules: Vec::new(), ..side.clone() };
        Self {
            resource: String::new(),
            arguments: None,
            before: side(&self.before),
            after: side(&self.after),
            approximate: Vec::new(),
            ..self.clone()
        }
    }
}

/// A decision, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = FlipSide)]
pub struct Side {
    /// `allow`, `deny` or `require_approval`.
    pub decision: String,
    /// Ids of the policies that produced it; none for a deny by default.
    pub policies: Vec<String>,
    /// The rules that spoke.
    pub rules: Vec<String>,
}

/// What replaying came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = ReplayTotals)]
#[serde(tag = "type", rename = "totals")]
pub struct Totals {
    /// Decisions that were looked at.
    pub calls: u64,
    /// Those that could be decided again.
    pub replayed: u64,
    /// Those with the same effect by the same policies.
    pub unchanged: u64,
    /// Those without.
    pub flips: u64,
    /// Flips by `before:after`.
    pub by_effect: BTreeMap<String, u64>,
    /// Calls for which a policy of the candidate fails or takes too long: each is denied.
    pub failed: u64,
    /// Calls in which nothing a policy reads was redacted.
    pub exact: u64,
    /// Calls in which something was.
    pub approximate: u64,
    /// The redacted places, with the number of calls each was missing from.
    pub approximate_paths: BTreeMap<String, u64>,
    /// Calls that could not be decided again, by why.
    pub skipped: BTreeMap<String, u64>,
    /// Digest of the candidate's manifest.
    pub manifest_sha: String,
}

impl Traffic<'_> {
    /// Decides every call by a candidate, telling `tell` of every flip in the order of the ledger and of progress now and
    /// then. Where that answers `false`, nobody listens any more, and replaying ends early. Blocks.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn replay(
        &self,
        candidate: &PolicySet,
        mut tell: impl FnMut(Event<'_>) -> bool,
    ) -> Result<Totals, LedgerError> {
        let manifest_sha = candidate.reference().manifest_sha.clone();
        let mut totals = Totals { manifest_sha, ..Totals::default() };
        let work = |recorded| Replayed::new(candidate, recorded);
        self.each(work, |done| match done {
            Done::Call(replayed) => totals.add(replayed).is_none_or(|flip| tell(Event::Flip(&flip))),
            Done::Batch(done, of) => tell(Event::Progress(done, of)),
        })?;
        Ok(totals)
    }

    /// Counts in how many calls each rule of a set fires; `tell` hears of progress, and ends it by answering `false`. Blocks.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn cover(
        &self,
        cover: &Cover,
        mut tell: impl FnMut(Event<'_>) -> bool,
    ) -> Result<Covered, LedgerError> {
        let mut covered = Covered::new(cover);
        let work = |recorded: Recorded| {
            let (call, moment) = call_of(&recorded).map_err(|error| error.to_string())?;
            cover.fired(&call, &moment)
        };
        self.each(work, |done| match done {
            Done::Call(fired) => {
                covered.add(fired);
                true
            }
            Done::Batch(done, of) => tell(Event::Progress(done, of)),
        })?;
        Ok(covered)
    }

    /// Works on every call, on several threads, and hands over what comes of it in the order of the ledger, until `take`
    /// answers `false`.
    fn each<T: Send>(
        &self,
        work: impl Fn(Recorded) -> T + Sync,
        mut take: impl FnMut(Done<T>) -> bool,
    ) -> Result<(), LedgerError> {
        let extent = self.reader.extent(&self.filter, self.newest)?;
        let ended = AtomicBool::new(false);
        let under_way = self.threads.get() * BATCHES_PER_THREAD;
        let (read, batches) = sync_channel::<Batch<Recorded>>(under_way);
        let (give, results) = sync_channel::<Batch<T>>(under_way);
        let (batches, work) = (Mutex::new(batches), &work);
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                // Working ends when this sender is gone.
                let batches = read;
                self.read(&batches, extent, &ended)
            });
            for _ in 0..self.threads.get() {
                let (give, batches) = (give.clone(), &batches);
                std::thread::Builder::new()
                    .name("replay".into())
                    .stack_size(STACK_BYTES)
                    .spawn_scoped(scope, move || work_on(batches, work, &give))
                    .map_err(|error| LedgerError::Unreadable(format!("no thread can be started: {error}")))?;
            }
            drop(give);
            let (mut waiting, mut next, mut done) = (BTreeMap::new(), 0, 0);
            for (number, batch) in results {
                waiting.insert(number, batch);
                while let Some(batch) = waiting.remove(&next) {
                    next += 1;
                    done += batch.len() as u64;
                    let goes_on = batch.into_iter().all(|one| take(Done::Call(one)));
                    if !goes_on || !take(Done::Batch(done, extent.count)) {
                        ended.store(true, Ordering::Relaxed);
                    }
                }
            }
            reading.join().unwrap_or_else(|_| Err(LedgerError::Unreadable("a thread panicked".into())))
        })
    }

    /// Reads batch after batch until all is read or nobody wants more.
    fn read(
        &self,
        batches: &SyncSender<Batch<Recorded>>,
        extent: Extent,
        ended: &AtomicBool,
    ) -> Result<(), LedgerError> {
        let mut after_seq = extent.after_seq;
        // The extent stands for the times.
        let filter = Filter {
            before_seq: Some(extent.before_seq),
            limit: Some(BATCH_CALLS),
            since_ms: None,
            until_ms: None,
            ..self.filter.clone()
        };
        for number in 0.. {
            let batch = self.reader.recorded(&Filter { after_seq: Some(after_seq), ..filter.clone() })?;
            let Some(last) = batch.last() else { break };
            after_seq = last.seq;
            let is_last = batch.len() < BATCH_CALLS as usize;
            if ended.load(Ordering::Relaxed) || batches.send((number, batch)).is_err() || is_last {
                break;
            }
        }
        Ok(())
    }
}

/// Works on batches until there are no more.
fn work_on<T>(
    batches: &Mutex<Receiver<Batch<Recorded>>>,
    work: impl Fn(Recorded) -> T,
    results: &SyncSender<Batch<T>>,
) {
    loop {
        let batch = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, batch)) = batch else { return };
        if results.send((number, batch.into_iter().map(&work).collect())).is_err() {
            return;
        }
    }
}

/// What became of one call.
enum Replayed {
    Skipped(String),
    Decided { flip: Option<Box<Flip>>, approximate: Vec<String>, failed: bool },
}

impl Replayed {
    fn new(candidate: &PolicySet, recorded: Recorded) -> Self {
        let (call, moment) = match call_of(&recorded) {
            Ok(read) => read,
            Err(error) => return Self::Skipped(error.to_string()),
        };
        let decision = candidate.decide(&call, &moment);
        let edits = recorded.redactions.as_deref().map(redacted).unwrap_or_default();
        let approximate = candidate.read_among(&call, edits);
        let flip = flip(&recorded, &decision).map(|(before, after)| {
            Box::new(Flip {
                request_id: recorded.request_id,
                call_id: recorded.call_id,
                occurred_at: recorded.occurred_at,
                server: call.resource.properties.get("server").and_then(Value::as_str).map(str::to_owned),
                action: call.action.name,
                resource: call.resource.id,
                arguments: recorded.arguments.and_then(|text| RawValue::from_string(text).ok()),
                before,
                after,
                approximate: approximate.clone(),
            })
        });
        let failed = decision.status != EvaluationStatus::Complete;
        Self::Decided { flip, approximate, failed }
    }
}

impl Totals {
    fn add(&mut self, replayed: Replayed) -> Option<Box<Flip>> {
        self.calls += 1;
        let (flip, approximate) = match replayed {
            Replayed::Skipped(why) => {
                *self.skipped.entry(why).or_default() += 1;
                return None;
            }
            Replayed::Decided { flip, approximate, failed } => {
                self.failed += u64::from(failed);
                (flip, approximate)
            }
        };
        self.replayed += 1;
        if approximate.is_empty() {
            self.exact += 1;
        } else {
            self.approximate += 1;
        }
        for path in approximate {
            if self.approximate_paths.len() < MAX_PATHS || self.approximate_paths.contains_key(&path) {
                *self.approximate_paths.entry(path).or_default() += 1;
            }
        }
        match &flip {
            Some(flip) => {
                self.flips += 1;
                *self.by_effect.entry(flip.kind()).or_default() += 1;
            }
            None => self.unchanged += 1,
        }
        flip
    }
}

/// Which rules fired, over traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = CoverTotals)]
#[serde(tag = "type", rename = "cover")]
pub struct Covered {
    /// Decisions that were looked at.
    pub calls: u64,
    /// Those that could be evaluated again.
    pub replayed: u64,
    /// Those that could not, by why.
    pub skipped: BTreeMap<String, u64>,
    /// Digest of the set's manifest.
    pub manifest_sha: String,
    /// Its rules, by file and line, each with the number of calls it fired for.
    pub rules: Vec<RuleUse>,
}

impl Covered {
    fn new(cover: &Cover) -> Self {
        let (manifest_sha, rules) = (cover.manifest_sha().to_owned(), cover.rules().to_vec());
        Self { calls: 0, replayed: 0, skipped: BTreeMap::new(), manifest_sha, rules }
    }

    fn add(&mut self, fired: Result<Vec<usize>, String>) {
        self.calls += 1;
        match fired {
            Ok(fired) => {
                self.replayed += 1;
                for rule in fired {
                    if let Some(rule) = self.rules.get_mut(rule) {
                        rule.fired += 1;
                    }
                }
            }
            Err(why) => *self.skipped.entry(why).or_default() += 1,
        }
    }
}

impl Flip {
    /// `before:after`, as `allow:deny`.
    #[must_use]
    pub fn kind(&self) -> String {
        format!("{}:{}", self.before.decision, self.after.decision)
    }
}

/// Both sides, where they differ.
fn flip(recorded: &Recorded, decision: &Decision) -> Option<(Side, Side)> {
    #[derive(Deserialize)]
    struct Policy<'a> {
        #[serde(borrow)]
        policy_id: Cow<'a, str>,
    }
    #[derive(Deserialize)]
    struct Said<'a> {
        #[serde(borrow)]
        rule: Option<Cow<'a, str>>,
    }
    let recorded_policies: Vec<Policy<'_>> =
        recorded.determining_policies.as_deref().and_then(parsed).unwrap_or_default();
    let before: BTreeSet<&str> = recorded_policies.iter().map(|policy| &*policy.policy_id).collect();
    let after: BTreeSet<&str> = decision.determining.iter().map(|policy| &*policy.policy_id).collect();
    if recorded.decision == decision.effect.as_str() && before == after {
        return None;
    }
    let said: Vec<Said<'_>> = recorded.diagnostics.as_deref().and_then(parsed).unwrap_or_default();
    let names = |names: BTreeSet<&str>| names.into_iter().map(str::to_owned).collect();
    let before = Side {
        decision: recorded.decision.clone(),
        policies: names(before),
        rules: names(said.iter().filter_map(|said| said.rule.as_deref()).collect()),
    };
    let after = Side {
        decision: decision.effect.as_str().to_owned(),
        policies: names(after),
        rules: names(decision.diagnostics.iter().filter_map(|said| said.rule.as_deref()).collect()),
    };
    Some((before, after))
}

/// The call, as policies saw it but for what was redacted.
fn call_of(recorded: &Recorded) -> Result<(Call, Moment), Unreplayable> {
    let parts = Parts {
        call_id: recorded.call_id.as_deref(),
        occurred_at: &recorded.occurred_at,
        subject: recorded.subject.as_deref(),
        resource: recorded.resource.as_deref(),
        action: recorded.action.as_deref(),
        diagnostics: recorded.diagnostics.as_deref(),
    };
    let mut context = match recorded.context.as_deref() {
        Some(text) => parsed::<Object>(text).ok_or(Unreplayable::Incomplete("context"))?,
        None => Object::new(),
    };
    if let Some(text) = recorded.arguments.as_deref() {
        let arguments = parsed(text).ok_or(Unreplayable::Incomplete("arguments"))?;
        context.insert("arguments".into(), arguments);
    }
    parts.call(context)
}
