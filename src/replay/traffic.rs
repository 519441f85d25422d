//! Replaying traffic: recorded calls, many of them, against a candidate set. Which decisions flip?
//!
//! Calls are read in batches and decided on several threads; what comes out comes out in the order of the ledger, and the
//! memory needed does not grow with the traffic. Nothing is written anywhere.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Parts, Unreplayable, parsed, redacted};
use crate::call::{Call, Moment};
use crate::decision::Decision;
use crate::json::Object;
use crate::ledger::{Filter, LedgerError, Reader, Recorded};
use crate::policy::PolicySet;

/// Calls read, and decided by one thread, at once.
const BATCH_CALLS: u32 = 256;
/// Batches under way for each thread.
const BATCHES_PER_THREAD: usize = 2;
/// A thread that evaluates: as deep as policies nest.
const STACK_BYTES: usize = 16 * 1024 * 1024;
/// Redacted paths that are counted one by one.
const MAX_PATHS: usize = 1_000;

/// Recorded calls to be decided by a candidate.
pub struct Traffic<'a> {
    /// The ledger.
    pub reader: &'a Reader,
    /// Which calls.
    pub filter: Filter,
    /// The newest so many of them only.
    pub newest: Option<u32>,
    /// The set that decides them now.
    pub candidate: &'a PolicySet,
    /// Threads that evaluate.
    pub threads: NonZeroUsize,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// As recorded.
    pub before: Side,
    /// As the candidate decides.
    pub after: Side,
    /// Redacted places of the call that the candidate reads: where there are any, the flip may be due to what is missing.
    pub approximate: Vec<String>,
}

/// A decision, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Side {
    /// `allow`, `deny` or `require_approval`.
    pub decision: String,
    /// Ids of the policies that produced it; none for a deny by default.
    pub policies: Vec<String>,
    /// The rules that spoke.
    pub rules: Vec<String>,
}

/// What replaying came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
    /// Replays, telling `tell` of every flip in the order of the ledger and of progress now and then. Where that answers
    /// `false`, nobody listens any more, and replaying ends early. Blocks.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn replay(self, mut tell: impl FnMut(Event<'_>) -> bool) -> Result<Totals, LedgerError> {
        let extent = self.reader.extent(&self.filter, self.newest)?;
        let mut totals =
            Totals { manifest_sha: self.candidate.reference().manifest_sha.clone(), ..Totals::default() };
        let ended = AtomicBool::new(false);
        let under_way = self.threads.get() * BATCHES_PER_THREAD;
        let (read, batches) = sync_channel::<(u64, Vec<Recorded>)>(under_way);
        let (decide, results) = sync_channel::<(u64, Vec<Replayed>)>(under_way);
        let batches = Mutex::new(batches);
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                // Deciding ends when this sender is gone.
                let batches = read;
                self.read(&batches, extent.after_seq, extent.before_seq, &ended)
            });
            for _ in 0..self.threads.get() {
                let (decide, batches) = (decide.clone(), &batches);
                let work = move || work(self.candidate, batches, &decide);
                std::thread::Builder::new()
                    .name("replay".into())
                    .stack_size(STACK_BYTES)
                    .spawn_scoped(scope, work)
                    .map_err(|error| LedgerError::Unreadable(format!("no thread can be started: {error}")))?;
            }
            drop(decide);
            let mut waiting = BTreeMap::new();
            let mut next = 0;
            for (number, batch) in results {
                waiting.insert(number, batch);
                while let Some(batch) = waiting.remove(&next) {
                    next += 1;
                    for replayed in batch {
                        let flip = totals.add(replayed);
                        if flip.is_some_and(|flip| !tell(Event::Flip(&flip))) {
                            ended.store(true, Ordering::Relaxed);
                        }
                    }
                    if !tell(Event::Progress(totals.calls, extent.count)) {
                        ended.store(true, Ordering::Relaxed);
                    }
                }
            }
            reading.join().unwrap_or_else(|_| Err(LedgerError::Unreadable("a thread panicked".into())))
        })?;
        Ok(totals)
    }

    /// Reads batch after batch until all is read or nobody wants more.
    #[expect(clippy::needless_pass_by_value, reason = "its end is what ends the threads that decide")]
    fn read(
        &self,
        batches: &SyncSender<(u64, Vec<Recorded>)>,
        mut after_seq: i64,
        before_seq: i64,
        ended: &AtomicBool,
    ) -> Result<(), LedgerError> {
        // The extent stands for the times.
        let filter = Filter {
            before_seq: Some(before_seq),
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

/// Decides batches until there are no more.
fn work(
    candidate: &PolicySet,
    batches: &Mutex<Receiver<(u64, Vec<Recorded>)>>,
    results: &SyncSender<(u64, Vec<Replayed>)>,
) {
    loop {
        let batch = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, batch)) = batch else { return };
        let decided = batch.into_iter().map(|recorded| Replayed::new(candidate, recorded)).collect();
        if results.send((number, decided)).is_err() {
            return;
        }
    }
}

/// What became of one call.
enum Replayed {
    Skipped(String),
    Decided { flip: Option<Box<Flip>>, approximate: Vec<String> },
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
                before,
                after,
                approximate: approximate.clone(),
            })
        });
        Self::Decided { flip, approximate }
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
            Replayed::Decided { flip, approximate } => (flip, approximate),
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
