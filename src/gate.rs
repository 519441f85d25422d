//! The gate: the straight line every call takes.
//!
//! `accept → identify → extract` happen in a face, which brings an [`Arrival`]. Here come `evaluate → redact → record`, in
//! [`Gate::decide`]; a [`Ruling`] then either passes, as a permit to forward and a [`Pending`] outcome, or is a refusal.
//! What could not be read is a value on this line like any other, so refusals are recorded too. Only the ledger can stop
//! the line early.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;
use ulid::Ulid;

use crate::block::{self, Block};
use crate::call::{BLOCKED, Call, Caller, Fault, Moment, RequestId};
use crate::clock::Clock;
use crate::decision::{Decision, Effect, EvaluationStatus, Outcome};
use crate::flood::{Flood, Folded};
use crate::json::Object;
use crate::ledger::{AUTH_FAILED, Entry, Kind, Ledger, LedgerError, Mode, Permit, Receipt};
use crate::metrics::Metrics;
use crate::policy::PolicySet;
use crate::redact::{About, Record, Redacted, Redactor, Refusing, Taken, is_heavy};
use crate::trace::{Tracer, Untold};

/// As much of a refusal's error as is recorded, in bytes: with digest and length it stays below 512.
const MAX_ERROR_BYTES: usize = 256;

/// Everything a call passes through. Shared by all connections.
pub struct Gate {
    /// The policy set in force; a reload swaps it whole.
    pub policies: Arc<ArcSwap<PolicySet>>,
    /// The one way of free-form content into the ledger.
    pub redactor: Arc<Redactor>,
    /// Where every decision is durable before its call goes on.
    pub ledger: Ledger,
    /// What operators watch.
    pub metrics: Metrics,
    /// Time and randomness.
    pub clock: Clock,
    /// Refusals being folded.
    pub flood: Mutex<Flood>,
    /// What is stopped whatever policies say.
    pub blocks: ArcSwap<Vec<Block>>,
    /// Told when something more is.
    pub blocked_more: watch::Sender<()>,
    /// Explains refused calls of which redaction took something, while it is still known what.
    pub tracer: Tracer,
}

/// A request as a face extracted it.
pub struct Arrival {
    /// The call, or why there is none.
    pub request: Result<Call, Fault>,
    /// Dotted name of the event, as `tools.call`.
    pub event_type: Cow<'static, str>,
    /// The caller's id for the request, or docket's.
    pub request_id: RequestId,
    /// When it arrived and how it is named.
    pub moment: Moment,
    /// The same moment, for measuring durations.
    pub started: Instant,
    /// Who is calling.
    pub caller: Arc<Caller>,
    /// Where from.
    pub peer: SocketAddr,
    /// The caller's `User-Agent`.
    pub user_agent: Option<String>,
    /// The server it is for; decision-API calls are for none.
    pub target: Option<Target>,
}

/// The configured server a call is for.
#[derive(Clone, Debug)]
pub struct Target {
    /// The key of its `[servers.NAME]` table.
    pub server: Arc<str>,
    /// Whether decisions bind.
    pub mode: Mode,
    /// The configured classification of the tool.
    pub classification: Option<String>,
}

impl Gate {
    /// Evaluates, redacts and records one call. When this returns, the decision is durable.
    ///
    /// # Errors
    /// The ledger could not record the decision: the call must be refused, whatever was decided.
    pub async fn decide(self: &Arc<Self>, arrival: Arrival) -> Result<Ruling, LedgerError> {
        let _arriving = self.ledger.arriving();
        let policies = self.policies.load_full();
        let moment = arrival.moment.clone();
        let server = arrival.target.as_ref().map(|target| &*target.server);
        let (decision, asked) = match (&arrival.request, self.blocked(&arrival.caller, server)) {
            (Ok(_), Some(fault)) => (Decision::refused(&fault, policies.reference().clone()), None),
            (Ok(call), None) => {
                let (decision, asked) = policies.decide_keeping(call, &moment);
                (decision, Some(asked))
            }
            (Err(fault), _) => (Decision::refused(fault, policies.reference().clone()), None),
        };
        let (entry, pending, decision) = self.record(arrival, decision);
        let untold = asked.and_then(|asked| Untold::of(asked, moment, policies, &decision, &entry));
        let queued = Instant::now();
        let receipt = self.ledger.append(entry).await.inspect_err(|_| self.metrics.append_failures.inc())?;
        // From here the decision is durable.
        tracing::debug!(
            request_id = %pending.request_id,
            decision = decision.effect.as_str(),
            status = decision.status.as_str(),
            "decided"
        );
        self.metrics.append.observe(queued.elapsed().as_secs_f64());
        if untold.is_some_and(|untold| !self.tracer.take(untold)) {
            self.metrics.traces_skipped.inc();
        }
        Ok(Ruling { decision, receipt, pending })
    }

    /// Why a call is stopped before any policy is asked, if somebody stopped it. Read anew for every call.
    #[must_use]
    pub fn blocked(&self, caller: &Caller, server: Option<&str>) -> Option<Fault> {
        let blocks = self.blocks.load();
        if blocks.is_empty() {
            return None;
        }
        let block = block::stopping(&blocks, &caller.agent, server, (self.clock.now_ms)())?;
        Some(Fault::Blocked(block.message()))
    }

    /// Waits until a call that has gone on, or is on its way, would be stopped.
    pub async fn until_blocked(self: Arc<Self>, caller: Arc<Caller>, server: Option<Arc<str>>) -> Fault {
        // Before looking, or a block that comes meanwhile would be missed.
        let mut more = self.blocked_more.subscribe();
        loop {
            if let Some(fault) = self.blocked(&caller, server.as_deref()) {
                return fault;
            }
            if more.changed().await.is_err() {
                // Never: the gate holds the sender.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Lays out the entry of a decision, everything free-form redacted, and what its outcome will need. Answers the decision
    /// too: a redaction hook that fails may refuse the call.
    fn record(self: &Arc<Self>, arrival: Arrival, decision: Decision) -> (Entry, Facts, Decision) {
        let target = arrival.target.as_ref();
        let is_readable = arrival.request.is_ok();
        let mut facts = Facts {
            gate: self.clone(),
            call_id: arrival.moment.call_id,
            request_id: arrival.request_id.clone(),
            event_type: arrival.event_type.clone(),
            zone: arrival.caller.zone.clone(),
            mode: target.map_or(Mode::Enforce, |target| target.mode),
            server: target.map(|target| target.server.clone()),
            started: arrival.started,
            taken: Taken::default(),
        };
        let metadata = metadata_of(&arrival);
        let mut roots = call_roots(arrival.request, &arrival.caller, target);
        roots.push(("determining_policies", json!(decision.determining)));
        roots.push(("diagnostics", json!(decision.diagnostics)));
        roots.push(("metadata", Value::Object(metadata)));
        let about = About {
            call_id: Some(facts.call_id),
            request_id: Some(&facts.request_id),
            decision: Some(decision.effect),
            manifest_sha: Some(&decision.policy_set.manifest_sha),
            policy_ids_chosen: decision.determining.iter().any(|determining| determining.is_chosen),
        };
        let content = in_place(is_heavy(&roots), || self.redactor.record_about(&about, roots));
        facts.taken = content.taken();
        let (decision, content) = self.unless_refused(decision, content);
        self.count(&decision, target);
        let binds = target.is_some_and(|target| target.mode == Mode::Enforce);
        let forwarded = target.is_some()
            && is_readable
            && (decision.effect == Effect::Allow || !binds)
            && !decision.is_blocked();
        let entry = Entry {
            kind: Kind::Decision,
            event_type: arrival.event_type,
            time_ms: arrival.moment.time_ns / 1_000_000,
            call_id: Some(facts.call_id),
            request_id: Some(arrival.request_id),
            zone: facts.zone.clone(),
            mode: Some(facts.mode),
            decision: Some((decision.effect, decision.status, decision.evaluation_us)),
            outcome: None,
            forwarded,
            manifest_sha: Some(decision.policy_set.manifest_sha.clone()),
            content,
        };
        (entry, facts, decision)
    }

    /// The decision, unless a redaction hook failed that refuses the call then.
    fn unless_refused(&self, decision: Decision, content: Redacted<Record>) -> (Decision, Redacted<Record>) {
        let Some(Refusing { hook, cause }) = content.refusing() else { return (decision, content) };
        let fault = Fault::HookFailed { hook: hook.clone(), cause: cause.as_str() };
        let refused = Decision {
            evaluation_us: decision.evaluation_us,
            ..Decision::refused(&fault, decision.policy_set)
        };
        let roots = vec![
            ("determining_policies", json!(refused.determining)),
            ("diagnostics", json!(refused.diagnostics)),
        ];
        let content = self.redactor.revised(content, roots);
        (refused, content)
    }

    /// Records a refusal that no caller waits for (a request nobody could read, a failed authentication), folding what
    /// one peer sends too often.
    pub fn note_refusal(self: &Arc<Self>, refusal: Refused) {
        self.metrics.refused.with_label_values(&[refusal.reason]).inc();
        let now_ms = (self.clock.now_ms)();
        // Whoever looks for failed logins finds those that were folded too.
        let folds_as = if refusal.kind == Kind::Auth { AUTH_FAILED } else { "request.folded" };
        let (by_itself, folded) = self.flood.lock().unwrap_or_else(PoisonError::into_inner).admit(
            refusal.peer.ip(),
            folds_as,
            &refusal.zone,
            now_ms,
        );
        self.note_folded(folded);
        if by_itself {
            let mut metadata = refusal.facts;
            metadata.insert("peer".into(), refusal.peer.to_string().into());
            metadata.insert("reason".into(), refusal.reason.into());
            metadata.insert("error".into(), self.redactor.cut(&refusal.error, MAX_ERROR_BYTES).into());
            let content = self.redactor.record(vec![("metadata", Value::Object(metadata))]);
            // A block is no failure of anything.
            let is_blocked = refusal.reason == BLOCKED;
            let status = if is_blocked { EvaluationStatus::Complete } else { EvaluationStatus::Error };
            let noted = (refusal.kind, status, refusal.zone);
            self.note(noted, refusal.event_type, Some(refusal.request_id), content);
        }
    }

    /// Records what was folded in seconds that are over. To be called now and then, lest the last ones stay unrecorded.
    pub fn turn_flood(self: &Arc<Self>) {
        let folded = self.flood.lock().unwrap_or_else(PoisonError::into_inner).turn((self.clock.now_ms)());
        self.note_folded(folded);
    }

    fn note_folded(self: &Arc<Self>, folded: Vec<Folded>) {
        for Folded { peer, event_type, zone, count } in folded {
            let metadata = json!({"peer": peer, "count": count, "reason": "folded"});
            let content = self.redactor.record(vec![("metadata", metadata)]);
            let kind = if event_type == AUTH_FAILED { Kind::Auth } else { Kind::Decision };
            self.note((kind, EvaluationStatus::Error, zone), event_type.into(), None, content);
        }
    }

    /// Queues an entry nobody waits for. What is refused is denied.
    fn note(
        self: &Arc<Self>,
        (kind, status, zone): (Kind, EvaluationStatus, String),
        event_type: Cow<'static, str>,
        request_id: Option<RequestId>,
        content: Redacted<Record>,
    ) {
        let denied = (kind == Kind::Decision).then_some((Effect::Deny, status, 0));
        let time_ms = (self.clock.now_ms)();
        self.ledger.note(Entry {
            request_id,
            zone,
            decision: denied,
            manifest_sha: denied.map(|_| self.policies.load().reference().manifest_sha.clone()),
            ..Entry::event(kind, event_type, time_ms, content)
        });
    }

    fn count(&self, decision: &Decision, target: Option<&Target>) {
        let server = target.map_or("", |target| &target.server);
        self.metrics.decisions.with_label_values(&[decision.effect.as_str(), server]).inc();
        self.metrics
            .evaluation
            .observe(std::time::Duration::from_micros(decision.evaluation_us).as_secs_f64());
        if decision.status != EvaluationStatus::Complete {
            self.metrics.evaluation_errors.inc();
        }
    }
}

/// A request that was refused without reaching a policy, and whose sender does not wait for the record.
pub struct Refused {
    /// [`Kind::Decision`] for what could not be read, [`Kind::Auth`] for who could not be identified.
    pub kind: Kind,
    /// Dotted name of the event.
    pub event_type: Cow<'static, str>,
    /// A stable word.
    pub reason: &'static str,
    /// What was wrong, for people.
    pub error: String,
    /// Where it came from.
    pub peer: SocketAddr,
    /// The id the answer carries.
    pub request_id: RequestId,
    /// The tenant.
    pub zone: String,
    /// Length and digest of what was sent, and the like; never its content.
    pub facts: Object,
}

impl Refused {
    /// The same, of a request that this agent sent: it is for those to see who see the agent's calls.
    #[must_use]
    pub fn of(mut self, caller: &Caller) -> Self {
        self.zone.clone_from(&caller.zone);
        self.facts.insert("agent".into(), caller.agent.clone().into());
        self.facts.insert("user".into(), caller.user.clone().into());
        self.facts.insert("team".into(), caller.team.clone().into());
        self
    }
}

/// A recorded decision.
pub struct Ruling {
    /// What was decided.
    pub decision: Decision,
    receipt: Receipt,
    pending: Facts,
}

impl Ruling {
    /// The id that joins the entries of this call.
    #[must_use]
    pub fn call_id(&self) -> Ulid {
        self.pending.call_id
    }

    /// The id the answer carries.
    #[must_use]
    pub fn request_id(&self) -> &RequestId {
        &self.pending.request_id
    }

    /// The permit to forward and the outcome that is now owed, or the ruling itself when the call is refused.
    ///
    /// # Errors
    /// The refusal. In mode `monitor` nothing but an unreadable request is refused.
    pub fn pass(self) -> Result<(Permit, Pending), Box<Refusal>> {
        let Self { decision, receipt, pending } = self;
        let permit = match pending.mode {
            Mode::Enforce => receipt.permit(),
            Mode::Monitor => Permit::monitored(receipt),
        };
        match permit {
            Some(permit) => Ok((permit, Pending { facts: Some(pending), forwarded: Instant::now() })),
            None => {
                Err(Box::new(Refusal { decision, request_id: pending.request_id, call_id: pending.call_id }))
            }
        }
    }
}

/// A call that was refused, and recorded so.
#[derive(Debug)]
pub struct Refusal {
    /// What was decided.
    pub decision: Decision,
    /// The id the answer carries.
    pub request_id: RequestId,
    /// The id that joins the entries of this call.
    pub call_id: Ulid,
}

/// What an outcome entry repeats of its decision.
struct Facts {
    gate: Arc<Gate>,
    call_id: Ulid,
    request_id: RequestId,
    event_type: Cow<'static, str>,
    zone: String,
    mode: Mode,
    server: Option<Arc<str>>,
    started: Instant,
    /// What redaction took from the call.
    taken: Taken,
}

/// An outcome that is owed. Dropping it records `disconnected`: whoever held it, held it for a caller who has gone.
pub struct Pending {
    facts: Option<Facts>,
    forwarded: Instant,
}

impl Pending {
    /// Records the outcome. `detail` says what went wrong, where something did.
    pub fn finish(mut self, outcome: Outcome, detail: Object) {
        self.note(outcome, detail);
    }

    fn note(&mut self, outcome: Outcome, mut detail: Object) {
        let Some(facts) = self.facts.take() else { return };
        let Facts { gate, call_id, request_id, event_type, zone, mode, server, started, taken } = facts;
        let server = server.as_deref().unwrap_or_default();
        gate.metrics.upstream.observe(self.forwarded.elapsed().as_secs_f64());
        gate.metrics.outcomes.with_label_values(&[outcome.as_str(), server]).inc();
        detail.insert("server".into(), server.into());
        let about = About { call_id: Some(call_id), request_id: Some(&request_id), ..About::default() };
        let content = gate.redactor.record_after(&taken, &about, vec![("metadata", Value::Object(detail))]);
        let duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let time_ms = (gate.clock.now_ms)();
        gate.ledger.note(Entry {
            call_id: Some(call_id),
            request_id: Some(request_id),
            zone,
            mode: Some(mode),
            outcome: Some((outcome, duration_us)),
            ..Entry::event(Kind::Outcome, event_type, time_ms, content)
        });
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.note(Outcome::Disconnected, Object::new());
    }
}

/// Does work that takes `long` where it is, letting another thread go on with the tasks of this one meanwhile.
fn in_place<T>(long: bool, work: impl FnOnce() -> T) -> T {
    let others = || Handle::try_current().is_ok_and(|at| at.runtime_flavor() == RuntimeFlavor::MultiThread);
    if long && others() { tokio::task::block_in_place(work) } else { work() }
}

/// The free-form roots that repeat the call. What could not be read leaves only what docket knows by itself.
fn call_roots(
    request: Result<Call, Fault>,
    caller: &Caller,
    target: Option<&Target>,
) -> Vec<(&'static str, Value)> {
    match request {
        Ok(call) => vec![
            ("action", json!(call.action)),
            ("subject", call.subject.into_value()),
            ("resource", call.resource.into_value()),
            ("context", Value::Object(call.context)),
        ],
        Err(fault) => {
            let name = if let Fault::UnknownMethod(method) = &fault { method } else { fault.rule() };
            let server = target.map(|target| &*target.server);
            vec![
                ("action", json!({"name": name})),
                ("subject", caller.subject().into_value()),
                ("resource", json!({"type": "mcp_server", "id": server, "properties": {}})),
            ]
        }
    }
}

fn metadata_of(arrival: &Arrival) -> Object {
    let mut metadata = Object::new();
    let caller = &arrival.caller;
    metadata.insert("agent".into(), caller.agent.clone().into());
    metadata.insert("user".into(), caller.user.clone().into());
    metadata.insert("team".into(), caller.team.clone().into());
    metadata.insert("verified".into(), caller.verified.into());
    metadata.insert("peer".into(), arrival.peer.to_string().into());
    metadata.insert("user_agent".into(), arrival.user_agent.clone().into());
    if let Some(target) = &arrival.target {
        metadata.insert("server".into(), (*target.server).into());
        if let Some(classification) = &target.classification {
            metadata.insert("classification".into(), classification.clone().into());
        }
    }
    metadata
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn long_work_holds_up_nobody() {
        let work = || {
            let (answer, answered) = channel();
            tokio::spawn(async move { answer.send(()) });
            in_place(true, || answered.recv_timeout(Duration::from_secs(20))).is_ok()
        };
        assert!(tokio::spawn(async move { work() }).await.unwrap(), "the only worker waits for itself");
    }

    #[tokio::test]
    async fn long_work_is_done_where_there_is_one_thread_or_no_runtime() {
        assert_eq!(in_place(true, || 7), 7);
        assert_eq!(std::thread::spawn(|| in_place(true, || 7)).join().unwrap(), 7);
    }
}
