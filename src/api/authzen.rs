//! AuthZEN Authorization API 1.0: `POST /access/v1/evaluation` and `/access/v1/evaluations`.
//!
//! The same gate as the proxy's, without a server behind it. Subject, action, resource and context are the policies' `input`
//! as the caller gives them, except the context keys that docket always sets itself: a caller can assert neither its own
//! approval nor the time, nor who it is.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::call::{Action, Call, Caller, Entity, RequestId};
use crate::clock::rfc3339;
use crate::decision::{Decision, Determining, Diagnostic, Effect, EvaluationStatus};
use crate::gate::{Arrival, Gate, Ruling};
use crate::json::{self, Object};
use crate::ledger::{Kind, LedgerError};
use crate::web::{self, Body, Problem, ProblemType, Visit};

/// Evaluations in one request at most.
const MAX_EVALUATIONS: usize = 1_000;

/// Evaluations under way at once for one request.
const MAX_GROUP: usize = 64;

/// What defaults may grow to when they are repeated for every evaluation, in bytes.
const MAX_REPEATED_BYTES: usize = 16 * 1024 * 1024;

/// Context keys a caller cannot set; those docket has no value for are removed.
const OWN_CONTEXT_KEYS: [&str; 9] =
    ["request_id", "time", "protocol", "peer", "client", "agent", "approval", "listing", "caller"];

/// The body of `/evaluations` (AuthZEN 1.0 §7): defaults, and what differs from one evaluation to the next.
#[derive(Deserialize, utoipa::ToSchema)]
pub struct Evaluations {
    subject: Option<Entity>,
    action: Option<Action>,
    resource: Option<Entity>,
    context: Option<Object>,
    /// One evaluation each; none stands for one by the defaults alone.
    #[serde(default, rename = "evaluations")]
    #[schema(max_items = 1000)]
    each: Vec<Evaluation>,
    #[serde(default)]
    options: Options,
}

/// One of several evaluations: what it has of its own.
#[derive(Deserialize, utoipa::ToSchema)]
struct Evaluation {
    subject: Option<Entity>,
    action: Option<Action>,
    resource: Option<Entity>,
    context: Option<Object>,
}

/// How several evaluations are done.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[schema(as = EvaluationsOptions)]
struct Options {
    #[serde(default, rename = "evaluations_semantic")]
    semantic: Semantic,
}

/// When to stop (AuthZEN 1.0 §7.1.2.1).
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[schema(as = EvaluationsSemantic)]
#[serde(rename_all = "snake_case")]
enum Semantic {
    #[default]
    ExecuteAll,
    DenyOnFirstDeny,
    PermitOnFirstPermit,
}

/// A decision (AuthZEN 1.0 §6.2); what docket adds is in `context`.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = EvaluationResponse)]
pub struct Answer<'a> {
    /// Whether the call may go on.
    decision: bool,
    context: Reasons<'a>,
}

/// Why it was decided so.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = EvaluationReasons)]
struct Reasons<'a> {
    /// The id of the request, for `docket explain`.
    #[schema(value_type = String)]
    request_id: &'a RequestId,
    /// Joins the entries of this evaluation.
    call_id: String,
    /// The effect.
    decision: Effect,
    /// How to treat the answer: `allowed`, `needs_approval`, `blocked`, and why else it may be refused.
    #[schema(value_type = String)]
    class: &'static str,
    /// How the evaluation went.
    evaluation_status: EvaluationStatus,
    /// The policies that produced the effect.
    #[schema(value_type = Vec<Determining>)]
    determining_policies: &'a [Determining],
    /// What the winning rules said.
    #[schema(value_type = Vec<Diagnostic>)]
    diagnostics: &'a [Diagnostic],
    /// Digest of the manifest of the policies that were asked.
    #[schema(value_type = String)]
    manifest_sha: &'a str,
}

/// Several decisions (AuthZEN 1.0 §7.2), in the order they were asked for.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = EvaluationsResponse)]
pub struct Answers<'a> {
    evaluations: Vec<Answer<'a>>,
}

/// Where decisions are asked for (AuthZEN 1.0 §9).
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = AuthzenConfiguration)]
pub struct Configuration {
    policy_decision_point: String,
    access_evaluation_endpoint: String,
    access_evaluations_endpoint: String,
}

/// Answers `POST /access/v1/evaluation`.
pub async fn evaluation(gate: &Arc<Gate>, body: &Bytes, caller: Arc<Caller>, visit: Visit) -> Response<Body> {
    match json::parse_as::<Call>(body) {
        Ok(call) => match decide(gate, call, &caller, &visit).await {
            Ok(ruling) => web::json_response(StatusCode::OK, &Answer::of(&ruling)),
            Err(error) => Problem::unrecorded(&error, &visit).response(),
        },
        Err(error) => unreadable(gate, body, &caller, &visit, error.to_string()),
    }
}

/// Answers `POST /access/v1/evaluations`.
pub async fn evaluations(
    gate: &Arc<Gate>,
    body: &Bytes,
    caller: Arc<Caller>,
    visit: Visit,
) -> Response<Body> {
    let request = match json::parse_as::<Evaluations>(body) {
        Ok(request) => request,
        Err(error) => return unreadable(gate, body, &caller, &visit, error.to_string()),
    };
    let semantic = request.options.semantic;
    let (single, calls) = match request.into_calls(body.len()) {
        Ok(calls) => calls,
        Err(error) => return unreadable(gate, body, &caller, &visit, error),
    };
    let mut rulings = Vec::with_capacity(calls.len());
    if semantic == Semantic::ExecuteAll {
        // Decided and queued together, so that they become durable together; in bounded groups.
        let mut calls = calls.into_iter();
        while calls.len() > 0 {
            let group = calls.by_ref().take(MAX_GROUP).map(|call| decide(gate, call, &caller, &visit));
            rulings.extend(join_all(group).await);
        }
    } else {
        for call in calls {
            let ruling = decide(gate, call, &caller, &visit).await;
            let permitted = ruling.as_ref().is_ok_and(|ruling| ruling.decision.effect == Effect::Allow);
            rulings.push(ruling);
            if permitted == (semantic == Semantic::PermitOnFirstPermit) {
                break;
            }
        }
    }
    match rulings.into_iter().collect::<Result<Vec<_>, LedgerError>>() {
        Ok(rulings) => match rulings.first() {
            Some(ruling) if single => web::json_response(StatusCode::OK, &Answer::of(ruling)),
            _ => {
                let evaluations = rulings.iter().map(Answer::of).collect();
                web::json_response(StatusCode::OK, &Answers { evaluations })
            }
        },
        Err(error) => Problem::unrecorded(&error, &visit).response(),
    }
}

/// The document at `/.well-known/authzen-configuration` (AuthZEN 1.0 §9).
#[must_use]
pub fn configuration(host: &str) -> Response<Body> {
    let base = format!("http://{host}");
    let configuration = Configuration {
        access_evaluation_endpoint: format!("{base}/access/v1/evaluation"),
        access_evaluations_endpoint: format!("{base}/access/v1/evaluations"),
        policy_decision_point: base,
    };
    web::json_response(StatusCode::OK, &configuration)
}

impl Evaluations {
    /// The calls asked about, and whether there was one only, given without `evaluations`.
    fn into_calls(self, body_bytes: usize) -> Result<(bool, Vec<Call>), String> {
        let Self { subject, action, resource, context, each: mut evaluations, .. } = self;
        if evaluations.len() > MAX_EVALUATIONS {
            let count = evaluations.len();
            return Err(format!("`evaluations` has {count} members; at most {MAX_EVALUATIONS} are accepted"));
        }
        if body_bytes.saturating_mul(evaluations.len()) > MAX_REPEATED_BYTES
            && [subject.is_some(), action.is_some(), resource.is_some(), context.is_some()].contains(&true)
        {
            return Err(
                "the defaults are too large to be repeated for so many `evaluations`; send fewer at once"
                    .into(),
            );
        }
        let single = evaluations.is_empty();
        if single {
            evaluations.push(Evaluation { subject: None, action: None, resource: None, context: None });
        }
        let calls = evaluations.into_iter().enumerate().map(|(index, evaluation)| {
            let missing =
                |member: &str| format!("`evaluations[{index}]` has no `{member}`, and there is no default");
            Ok(Call {
                subject: evaluation.subject.or_else(|| subject.clone()).ok_or_else(|| missing("subject"))?,
                action: evaluation.action.or_else(|| action.clone()).ok_or_else(|| missing("action"))?,
                resource: evaluation
                    .resource
                    .or_else(|| resource.clone())
                    .ok_or_else(|| missing("resource"))?,
                context: evaluation.context.or_else(|| context.clone()).unwrap_or_default(),
            })
        });
        Ok((single, calls.collect::<Result<_, String>>()?))
    }
}

async fn decide(
    gate: &Arc<Gate>,
    mut call: Call,
    caller: &Arc<Caller>,
    visit: &Visit,
) -> Result<Ruling, LedgerError> {
    let mut moment = visit.moment.clone();
    // Each evaluation of a request is a call of its own.
    moment.call_id = gate.clock.ulid_at(moment.time_ns / 1_000_000);
    let context = &mut call.context;
    for key in OWN_CONTEXT_KEYS {
        context.remove(key);
    }
    context.insert("agent".into(), caller.agent.clone().into());
    context.insert("request_id".into(), visit.request_id.as_str().into());
    context.insert("time".into(), rfc3339(moment.time_ns / 1_000_000).into());
    context.insert("protocol".into(), "authzen/1.0".into());
    context.insert("peer".into(), visit.peer.to_string().into());
    context.insert("approval".into(), Value::Null);
    context.insert("caller".into(), json!(caller));
    gate.decide(Arrival {
        request: Ok(call),
        event_type: "access.evaluation".into(),
        request_id: visit.request_id.clone(),
        moment,
        started: visit.started,
        caller: caller.clone(),
        peer: visit.peer,
        user_agent: visit.user_agent.clone(),
        target: None,
    })
    .await
}

impl<'a> Answer<'a> {
    fn of(ruling: &'a Ruling) -> Self {
        let Decision { effect, status, determining, diagnostics, policy_set, .. } = &ruling.decision;
        let context = Reasons {
            request_id: ruling.request_id(),
            call_id: ruling.call_id().to_string(),
            decision: *effect,
            class: ruling.decision.class(),
            evaluation_status: *status,
            determining_policies: determining,
            diagnostics,
            manifest_sha: &policy_set.manifest_sha,
        };
        Self { decision: *effect == Effect::Allow, context }
    }
}

/// Refuses a request that is no evaluation request: noted by length and digest, answered with what is wrong.
fn unreadable(
    gate: &Arc<Gate>,
    body: &Bytes,
    caller: &Caller,
    visit: &Visit,
    error: String,
) -> Response<Body> {
    let mut refused = visit.refused(Kind::Decision, "request.unreadable", "unreadable", error.clone());
    refused.facts = web::facts_of(body);
    gate.note_refusal(refused.of(caller));
    let problem = Problem::new(StatusCode::BAD_REQUEST, ProblemType::InvalidRequest, error, visit);
    Problem { decision: Some("deny"), class: Some("invalid_request"), retryable: Some(false), ..problem }
        .response()
}
