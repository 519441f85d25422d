//! The emergency stop over HTTP: `GET` and `POST /v1/blocks`, `POST /v1/blocks/{block_id}/release`, on the
//! admin plane.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::audit::{bad_parameter, record_access, unreadable};
use super::keeping::{actor, read};
use crate::access::{AccessError, Blocking};
use crate::block::{Block, Stop};
use crate::clock::rfc3339;
use crate::gate::Gate;
use crate::ledger::LedgerError;
use crate::ledger::filter::{parse_span, parse_time};
use crate::web::{self, Body, Problem, Visit};

/// What a body looks like.
const SHAPE: &str = "{\"agent\": NAME | \"server\": NAME | \"all\": true, \"for\": \"1h\", \"reason\": TEXT}";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    agent: Option<String>,
    server: Option<String>,
    #[serde(default)]
    all: bool,
    #[serde(rename = "for")]
    lasts: Option<String>,
    until: Option<String>,
    reason: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    reason: Option<String>,
}

/// Answers `GET /v1/blocks`.
pub async fn list(gate: &Arc<Gate>, blocking: &Blocking, visit: &Visit) -> Response<Body> {
    record_access(gate, "block.listed", "/v1/blocks", "", visit).await;
    let blocks: Vec<Value> = blocking.list().iter().map(|block| shown(block, blocking)).collect();
    web::json_response(StatusCode::OK, &json!({ "blocks": blocks }))
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Stop something.
    Add,
    /// Release the block of this id.
    Release(String),
}

impl Asked {
    /// What a POST to a path asks for; `None` where it asks for something else.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        match path.strip_prefix("/v1/blocks")? {
            "" => Some(Self::Add),
            rest => {
                let id = rest.strip_prefix('/')?.strip_suffix("/release")?;
                (!id.is_empty() && !id.contains('/')).then(|| Self::Release(id.to_owned()))
            }
        }
    }
}

/// Answers a request to stop something, or to let it go on.
pub async fn answer(
    gate: &Gate,
    blocking: &Arc<Blocking>,
    asked: Asked,
    body: &Bytes,
    visit: &Visit,
) -> Response<Body> {
    match asked {
        Asked::Add => add(gate, blocking, body, visit).await,
        Asked::Release(id) => release(blocking, &id, body, visit).await,
    }
}

async fn add(gate: &Gate, blocking: &Arc<Blocking>, body: &Bytes, visit: &Visit) -> Response<Body> {
    let wanted: Wanted = match read(body, SHAPE, visit) {
        Ok(wanted) => wanted,
        Err(refused) => return *refused,
    };
    let stop = match (wanted.agent, wanted.server, wanted.all) {
        (Some(name), None, false) => Stop::Agent(name),
        (None, Some(name), false) => Stop::Server(name),
        (None, None, true) => Stop::All,
        _ => {
            return bad_parameter(format!("body is not `{SHAPE}`: give one of agent, server and all"), visit);
        }
    };
    let until_ms = match until(wanted.lasts.as_deref(), wanted.until.as_deref(), (gate.clock.now_ms)()) {
        Ok(until_ms) => until_ms,
        Err(detail) => return bad_parameter(detail, visit),
    };
    let (adding, actor) = (blocking.clone(), actor(visit, Some(wanted.reason)));
    // Once begun, it goes on although its caller hangs up.
    let done = tokio::spawn(async move { adding.add(stop, until_ms, &actor).await }).await;
    answered(done, |block| shown(&block, blocking), visit)
}

async fn release(blocking: &Arc<Blocking>, id: &str, body: &Bytes, visit: &Visit) -> Response<Body> {
    let wanted = if body.is_empty() {
        Release::default()
    } else {
        match read(body, "{\"reason\": TEXT}", visit) {
            Ok(wanted) => wanted,
            Err(refused) => return *refused,
        }
    };
    let (releasing, id, actor) = (blocking.clone(), id.to_owned(), actor(visit, wanted.reason));
    let done = tokio::spawn(async move { releasing.release(&id, &actor).await }).await;
    answered(done, |block| shown(&block, blocking), visit)
}

/// When something that lasts so long, or until then, is over.
///
/// # Errors
/// Names the member, its value and what is accepted.
pub(super) fn until(lasts: Option<&str>, until: Option<&str>, now_ms: i64) -> Result<Option<i64>, String> {
    match (lasts, until) {
        (None, None) => Ok(None),
        (Some(text), None) => {
            let span = parse_span(text).filter(|ms| *ms > 0);
            let span = span.ok_or_else(|| {
                format!("`for` must be a length of time such as `15m`, `1h` or `7d`, not `{text}`")
            })?;
            Ok(Some(now_ms.saturating_add(span)))
        }
        (None, Some(text)) => parse_time(text, now_ms).map(Some).map_err(|error| format!("`until`: {error}")),
        (Some(_), Some(_)) => Err("give either `for` or `until`".into()),
    }
}

/// What came of a change.
pub(super) fn answered<T>(
    done: Result<Result<T, AccessError>, tokio::task::JoinError>,
    shown: impl FnOnce(T) -> Value,
    visit: &Visit,
) -> Response<Body> {
    match done.unwrap_or_else(|error| Err(LedgerError::Unreadable(error.to_string()).into())) {
        Ok(done) => web::json_response(StatusCode::OK, &shown(done)),
        Err(AccessError::Refused(detail)) => bad_parameter(detail, visit),
        Err(AccessError::Unknown(detail)) => Problem::not_found(detail, visit).response(),
        Err(AccessError::Ledger(error @ (LedgerError::Unreadable(_) | LedgerError::Open { .. }))) => {
            unreadable(&error, visit)
        }
        Err(AccessError::Ledger(error)) => Problem::unrecorded(&error, visit).response(),
    }
}

fn shown(block: &Block, blocking: &Blocking) -> Value {
    let ((what, name), warning) = (block.stop.words(), blocking.warning(&block.stop));
    json!({
        "block_id": block.id, "what": what, "name": name, "reason": block.reason, "principal": block.principal,
        "since": rfc3339(block.since_ms), "until": block.until_ms.map(rfc3339),
        "known": warning.is_none(), "warning": warning,
    })
}
