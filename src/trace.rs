//! The tracer: explains a refused call while the unredacted call is still in memory.
//!
//! Once a call is recorded, what redaction took from it is gone, and evaluating it again may come out otherwise. So where
//! redaction edited a call that was refused or held, its explanation is computed here, after its answer has left, and is
//! recorded, redacted, in an entry of its own (`kind = "trace"`). One thread does it, behind the data plane; what does not
//! fit into its queue is skipped, and whoever offered it counts that. Which values an explanation may show, `policy` knows;
//! this module only makes sure that the unredacted call goes nowhere else, and that it does not stay.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use ulid::Ulid;

use crate::call::{Call, Moment, RequestId};
use crate::clock::Clock;
use crate::decision::{Decision, Effect};
use crate::ledger::{Entry, Kind, Ledger, Mode};
use crate::policy::explain::{Missing, RuleTrace};
use crate::policy::{Asked, PolicySet, Redaction};
use crate::redact::{About, MARK, Redactor};

/// Calls waiting at most.
const MAX_WAITING_CALLS: usize = 256;
/// Memory they may take together, in bytes.
const MAX_WAITING_BYTES: usize = 32 << 20;
/// A trace begins this long after its decision was durable: by then the answer has left.
const LINGER_MS: u64 = 10;
/// How long stopping waits for what is left, in milliseconds.
const MAX_DRAIN_MS: u64 = 3_000;
/// JSON text of one recorded trace, in bytes.
const MAX_TRACE_BYTES: usize = 64 << 10;
/// Stands for what was taken away when it is computed what the redacted call gives. The mark itself has the length of many
/// a password, and a length that is right by chance would be shown.
const UNLIKELY: &str =
    "[redacted: nobody who reads the ledger knows what stood here, and hardly anything was as long as this]";
/// Stack of the worker: evaluation recurses as deep as policies nest.
const STACK_BYTES: usize = 16 << 20;

/// The roots of a record that repeat the call.
const CALL_ROOTS: [&str; 4] = ["action", "subject", "resource", "context"];
/// The root that holds the trace.
const METADATA: &str = "metadata";

/// A refused call that its record no longer explains.
pub struct Untold {
    asked: Asked,
    bytes: usize,
    moment: Moment,
    policies: Arc<PolicySet>,
    effect: Effect,
    offered: Instant,
    event_type: Cow<'static, str>,
    call_id: Option<Ulid>,
    request_id: Option<RequestId>,
    zone: String,
    mode: Option<Mode>,
    manifest_sha: Option<String>,
    server: Value,
    policy_ids_chosen: bool,
    /// What was decided with it, for masks that ask.
    said: Vec<(&'static str, Value)>,
}

impl Untold {
    /// The call of a decision entry, if it was refused or held and redaction edited it.
    #[must_use]
    pub fn of(
        asked: Asked,
        moment: Moment,
        policies: Arc<PolicySet>,
        decision: &Decision,
        entry: &Entry,
    ) -> Option<Self> {
        let content = &entry.content;
        let exact = || content.edits().is_empty() || !CALL_ROOTS.iter().any(|root| content.edited(root));
        if decision.effect == Effect::Allow || exact() {
            return None;
        }
        let server = content.get(METADATA).and_then(|metadata| metadata.get("server")).cloned();
        Some(Self {
            bytes: asked.bytes(),
            asked,
            moment,
            policies,
            effect: decision.effect,
            offered: Instant::now(),
            event_type: entry.event_type.clone(),
            call_id: entry.call_id,
            request_id: entry.request_id.clone(),
            zone: entry.zone.clone(),
            mode: entry.mode,
            manifest_sha: entry.manifest_sha.clone(),
            server: server.unwrap_or_default(),
            policy_ids_chosen: decision.determining.iter().any(|determining| determining.is_chosen),
            said: vec![
                ("determining_policies", json!(decision.determining)),
                ("diagnostics", json!(decision.diagnostics)),
            ],
        })
    }
}

/// What a trace entry says, in its metadata.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told {
    /// Whether explaining came to the recorded effect.
    pub reproduced: bool,
    /// The rules that produced the effect, without their source.
    pub why: Vec<RuleTrace>,
    /// What each `allow` rule lacked, the nearest first.
    pub why_not: Vec<Missing>,
    /// Every rule; `None` where all that was too long to be kept.
    pub rules: Option<Vec<RuleTrace>>,
    /// How many of `why` and `why_not` were too long to be kept.
    pub left_out: usize,
}

impl Told {
    /// What a trace entry says; `None` where that is not to be read.
    #[must_use]
    pub fn read(metadata: &crate::json::Object) -> Option<Self> {
        serde_json::from_value(Value::Object(metadata.clone())).ok()
    }

    /// Leaves out as much as is needed for the rest to be kept.
    fn bounded(mut self) -> Self {
        let bytes = |told: &Self| serde_json::to_vec(told).map_or(usize::MAX, |text| text.len());
        if bytes(&self) > MAX_TRACE_BYTES {
            self.rules = None;
        }
        while bytes(&self) > MAX_TRACE_BYTES {
            let (why, why_not) = (self.why.len(), self.why_not.len());
            self.why.truncate(why / 2);
            self.why_not.truncate(why_not / 2);
            self.left_out += why - self.why.len() + why_not - self.why_not.len();
        }
        self
    }
}

/// A handle to the worker.
pub struct Tracer {
    queue: Mutex<Option<SyncSender<Untold>>>,
    waiting: Arc<Waiting>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

/// What is waiting, or being worked on.
#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    calls: AtomicU64,
    is_over: AtomicBool,
}

impl Tracer {
    /// Starts the worker. To be called within the runtime.
    ///
    /// # Errors
    /// There is no thread for it.
    pub fn start(ledger: Ledger, redactor: Arc<Redactor>, clock: Clock) -> std::io::Result<Self> {
        let (queue, calls) = sync_channel(MAX_WAITING_CALLS);
        let (end, ended) = oneshot::channel();
        let waiting = Arc::<Waiting>::default();
        let worker = Worker { ledger, redactor, clock, waiting: waiting.clone(), runtime: Handle::current() };
        std::thread::Builder::new().name("tracer".into()).stack_size(STACK_BYTES).spawn(move || {
            worker.run(&calls);
            // Nobody waits for it unless docket is stopping.
            let _ = end.send(());
        })?;
        Ok(Self { queue: Mutex::new(Some(queue)), waiting, ended: Mutex::new(Some(ended)) })
    }

    /// Takes a call to be explained, unless too many wait: then it is dropped, and the answer is `false`. Never waits.
    #[must_use]
    pub fn take(&self, untold: Untold) -> bool {
        let bytes = untold.bytes;
        if self.waiting.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > MAX_WAITING_BYTES {
            self.waiting.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.waiting.calls.fetch_add(1, Ordering::Relaxed);
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = queue.as_ref().is_some_and(|queue| queue.try_send(untold).is_ok());
        if !taken {
            self.waiting.done(bytes);
        }
        taken
    }

    /// Takes no more, and waits for what is left, though not for long. Answers how many calls were given up.
    pub async fn stop(&self) -> u64 {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended
            && tokio::time::timeout(Duration::from_millis(MAX_DRAIN_MS), ended).await.is_err()
        {
            self.waiting.is_over.store(true, Ordering::Relaxed);
        }
        self.waiting.calls.load(Ordering::Relaxed)
    }
}

impl Waiting {
    fn done(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Worker {
    ledger: Ledger,
    redactor: Arc<Redactor>,
    clock: Clock,
    waiting: Arc<Waiting>,
    runtime: Handle,
}

impl Worker {
    fn run(&self, calls: &Receiver<Untold>) {
        yield_to_others();
        // A note that finds the ledger's queue full waits in a task.
        let _runtime = self.runtime.enter();
        while let Ok(untold) = calls.recv() {
            let due = untold.offered + Duration::from_millis(LINGER_MS);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.waiting.is_over.load(Ordering::Relaxed) {
                return;
            }
            let bytes = untold.bytes;
            if catch_unwind(AssertUnwindSafe(|| self.tell(untold))).is_err() {
                tracing::error!("explaining a refused call panicked");
            }
            self.waiting.done(bytes);
        }
    }

    /// Explains a call and records what may be said.
    fn tell(&self, untold: Untold) {
        let Some(call) = untold.asked.call() else { return };
        let about = About {
            call_id: untold.call_id,
            request_id: untold.request_id.as_ref(),
            decision: Some(untold.effect),
            manifest_sha: untold.manifest_sha.as_deref(),
            policy_ids_chosen: untold.policy_ids_chosen,
        };
        // The same masks apply only to who sees the same.
        let roots: Vec<_> = call_roots(&call).into_iter().chain(untold.said).collect();
        let left = redacted_call(self.redactor.record_about(&about, roots.clone()).into_inner().roots);
        let redaction = Redaction { call: left.as_ref(), mark: MARK };
        let explained = untold.policies.trace_redacted(&call, &untold.moment, &redaction);
        let unquoted = |mut rules: Vec<RuleTrace>| {
            for rule in &mut rules {
                rule.excerpt.clear();
            }
            rules
        };
        let told = Told {
            reproduced: explained.decision.effect == untold.effect,
            why: unquoted(explained.why),
            why_not: explained.why_not,
            rules: explained.trace.map(unquoted),
            left_out: 0,
        };
        let mut metadata = json!(told.bounded());
        if let Value::Object(metadata) = &mut metadata {
            metadata.insert("server".into(), untold.server);
        }
        // The call goes through once more beside what is said of it, so that what it loses is scrubbed from that.
        let roots = roots.into_iter().chain([(METADATA, metadata)]).collect();
        let content = self.redactor.record_about(&about, roots);
        self.ledger.note(Entry {
            kind: Kind::Trace,
            event_type: untold.event_type,
            time_ms: (self.clock.now_ms)(),
            call_id: untold.call_id,
            request_id: untold.request_id,
            zone: untold.zone,
            mode: untold.mode,
            decision: None,
            outcome: None,
            forwarded: false,
            manifest_sha: untold.manifest_sha,
            content: content.only(METADATA),
        });
    }
}

/// Lets every other thread go first. The thread that this one starts for deep recursion inherits that.
fn yield_to_others() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::warn!(error = %error, "the tracer runs at ordinary priority");
    }
}

fn call_roots(call: &Call) -> Vec<(&'static str, Value)> {
    CALL_ROOTS
        .into_iter()
        .zip([json!(call.action), json!(call.subject), json!(call.resource), json!(call.context)])
        .collect()
}

/// What redaction left of a call, if it is still one.
fn redacted_call(roots: Vec<(&'static str, Value)>) -> Option<Call> {
    let of_call = roots.into_iter().filter(|(name, _)| CALL_ROOTS.contains(name));
    let object = of_call.map(|(name, value)| (name.to_owned(), value)).collect();
    serde_json::from_str(&Value::Object(object).to_string().replace(MARK, UNLIKELY)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Action, Entity};
    use crate::cli::system_clock;
    use crate::decision::EvaluationStatus;
    use crate::json::Object;
    use crate::ledger::{Filter, Queue, Signing};
    use crate::policy::{Limits, Source, SourceFile};

    struct Bench {
        policies: Arc<PolicySet>,
        redactor: Arc<Redactor>,
        ledger: Ledger,
        folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let text = "package p\n\nallow if endswith(input.context.password, \"!\")\n";
            let file = SourceFile { path: "p.rego".into(), bytes: text.into() };
            let source = Source { id: "set".into(), revision: None, files: vec![file], entrypoint: None };
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("docket.db");
            Self {
                policies: Arc::new(PolicySet::compile(source, Limits::default()).unwrap()),
                redactor: Arc::new(Redactor::builtin()),
                ledger: Ledger::open(&path, Queue::default(), Signing::default(), system_clock()).unwrap(),
                folder,
            }
        }

        /// What is untold of one call with such a password.
        fn untold(&self, password: &str) -> Option<Untold> {
            let entity = |id: &str| Entity { kind: "t".into(), id: id.into(), properties: Object::new() };
            let call = Call {
                subject: entity("s"),
                action: Action { name: "a".into(), properties: Object::new() },
                resource: entity("r"),
                context: Object::from_iter([("password".to_owned(), password.into())]),
            };
            let moment = Moment { call_id: Ulid::from(7u128), time_ns: 0 };
            let (decision, asked) = self.policies.decide_keeping(&call, &moment);
            let entry = Entry {
                kind: Kind::Decision,
                event_type: "x".into(),
                time_ms: 0,
                call_id: Some(moment.call_id),
                request_id: None,
                zone: "default".into(),
                mode: None,
                decision: Some((decision.effect, EvaluationStatus::Complete, 0)),
                outcome: None,
                forwarded: false,
                manifest_sha: None,
                content: self.redactor.record(call_roots(&call)),
            };
            Untold::of(asked, moment, self.policies.clone(), &decision, &entry)
        }

        fn tracer(&self) -> Tracer {
            Tracer::start(self.ledger.clone(), self.redactor.clone(), system_clock()).unwrap()
        }

        async fn traces(&self) -> u64 {
            self.ledger.close().await;
            self.ledger.reader().count(&Filter::default().with(crate::ledger::Column::Kind, "trace")).unwrap()
        }
    }

    #[tokio::test]
    async fn only_refused_calls_that_lost_something_are_untold() {
        let bench = Bench::new();
        assert!(bench.untold("swordfish").is_some());
        assert!(bench.untold("swordfish!").is_none(), "it was allowed");
        assert!(bench.untold("").is_none(), "nothing was taken away");
    }

    #[tokio::test]
    async fn what_does_not_fit_is_skipped_and_the_rest_is_told_before_the_end() {
        let bench = Bench::new();
        let tracer = bench.tracer();
        let untold: Vec<Untold> =
            (0..MAX_WAITING_CALLS + 50).filter_map(|_| bench.untold("swordfish")).collect();
        let taken = untold.into_iter().filter_map(|untold| tracer.take(untold).then_some(())).count();
        // One may have left the queue already.
        assert!((MAX_WAITING_CALLS..=MAX_WAITING_CALLS + 1).contains(&taken), "{taken}");
        let given_up = tracer.stop().await;
        // On a slow machine the one that was being told counts as given up, and may be recorded all the same.
        let accounted = bench.traces().await + given_up;
        assert!((taken as u64..=taken as u64 + 1).contains(&accounted), "{accounted} of {taken}");
        assert!(!tracer.take(bench.untold("swordfish").unwrap()), "it has stopped");
        assert!(bench.folder.path().join("docket.db").exists());
    }

    #[tokio::test]
    async fn large_calls_wait_only_as_far_as_there_is_room() {
        let bench = Bench::new();
        let tracer = bench.tracer();
        let long = "swordfish ".repeat(MAX_WAITING_BYTES / 40);
        let untold: Vec<Untold> = (0..6).filter_map(|_| bench.untold(&long)).collect();
        assert_eq!(untold.len(), 6);
        let taken = untold.into_iter().filter_map(|untold| tracer.take(untold).then_some(())).count();
        assert_eq!(taken, 3);
        let given_up = tracer.stop().await;
        assert_eq!(bench.traces().await + given_up, 3);
    }
}
