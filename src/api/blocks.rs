//! The emergency stop over HTTP: `GET` and `POST /v1/blocks`, `POST /v1/blocks/{block_id}/release`, on the
//! admin plane.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::audit::{bad_parameter, unreadable};
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

/// What is to be stopped: one of `agent`, `server` and `all`, for how long, and why.
#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = BlockWanted)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Every call of this agent.
    #[schema(example = "billing-bot")]
    agent: Option<String>,
    /// Every call to this server.
    server: Option<String>,
    /// Every call.
    #[serde(default)]
    all: bool,
    /// How long: `15m`, `1h`, `7d`. Until it is released, where neither this nor `until` is given.
    #[serde(rename = "for")]
    #[schema(example = "1h")]
    lasts: Option<String>,
    /// Until when: RFC 3339.
    until: Option<String>,
    /// Why; it is recorded, and agents are told.
    #[schema(example = "runaway loop")]
    reason: String,
}

/// Why something is released.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[schema(as = BlockRelease)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Why; it is recorded.
    reason: Option<String>,
}

/// A block, as it is shown.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Block)]
pub struct Shown {
    /// ULID; `docket unblock` takes it.
    block_id: String,
    /// `agent`, `server` or `all`.
    #[schema(value_type = String)]
    what: &'static str,
    /// Which agent or server.
    name: Option<String>,
    /// Why, as it was given.
    reason: String,
    /// Who placed it.
    principal: String,
    /// Since when: RFC 3339, UTC.
    since: String,
    /// When it is over; `null` where it lasts until it is released.
    until: Option<String>,
    /// Whether docket knows an agent or server of that name.
    known: bool,
    /// That it does not, and which name is near.
    warning: Option<String>,
}

/// Every block in force.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Blocks)]
pub struct Listed {
    /// The oldest first.
    blocks: Vec<Shown>,
}

/// Answers `GET /v1/blocks`.
pub fn list(blocking: &Blocking, visit: &Visit) -> Response<Body> {
    visit.look("block.listed", "/v1/blocks", "");
    let blocks = blocking.list().iter().map(|block| shown(block, blocking)).collect();
    web::json_response(StatusCode::OK, &Listed { blocks })
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
pub(super) fn answered<T, S: Serialize>(
    done: Result<Result<T, AccessError>, tokio::task::JoinError>,
    shown: impl FnOnce(T) -> S,
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

fn shown(block: &Block, blocking: &Blocking) -> Shown {
    let ((what, name), warning) = (block.stop.words(), blocking.warning(&block.stop));
    Shown {
        block_id: block.id.clone(),
        what,
        name: name.map(str::to_owned),
        reason: block.reason.clone(),
        principal: block.principal.clone(),
        since: rfc3339(block.since_ms),
        until: block.until_ms.map(rfc3339),
        known: warning.is_none(),
        warning,
    }
}
