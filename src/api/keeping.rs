//! Keeping records over HTTP: `POST /v1/ledger/prune`, `/v1/ledger/erase`, `/v1/ledger/holds` and
//! `/v1/ledger/holds/{hold_id}/release`, and `GET /v1/ledger/holds`, on the admin plane.
//!
//! What is done is an entry of its own, with who asked and why; what is only looked at is an `access` entry. An id that is to be
//! erased is in neither. Once begun, an act goes on although its caller hangs up.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::audit::{bad_parameter, unreadable};
use crate::json;
use crate::ledger::filter::parse_time;
use crate::ledger::{Actor, Cut, Hold, Keeper, KeepingError, LedgerError, Scope, prunable};
use crate::web::{self, Body, Problem, ProblemType, Visit};

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Remove payloads by age.
    Prune,
    /// Remove the payloads of a subject.
    Erase,
    /// Place a hold.
    Hold,
    /// End the hold of this id.
    Release(String),
}

impl Asked {
    /// What a POST to a path asks for; `None` where it asks for something else.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        match path.strip_prefix("/v1/ledger/")? {
            "prune" => Some(Self::Prune),
            "erase" => Some(Self::Erase),
            "holds" => Some(Self::Hold),
            rest => {
                let id = rest.strip_prefix("holds/")?.strip_suffix("/release")?;
                (!id.is_empty() && !id.contains('/')).then(|| Self::Release(id.to_owned()))
            }
        }
    }
}

/// Payloads to be removed by age.
#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = PruneWanted)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// Everything older: RFC 3339, a date, or how long ago (`90d`).
    #[schema(example = "365d")]
    before: String,
    /// Only of this tenant.
    zone: Option<String>,
    /// Only entries of this kind.
    kind: Option<String>,
    /// Why; it is recorded.
    reason: Option<String>,
    /// Says what would be done, and does nothing.
    #[serde(default)]
    #[schema(example = true)]
    dry_run: bool,
}

/// A subject whose payloads are to be removed.
#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = EraseWanted)]
#[serde(deny_unknown_fields)]
pub struct Erase {
    /// The id of a subject, user or agent, exactly.
    #[schema(example = "nobody@example.org")]
    subject: String,
    /// Why; it is recorded.
    reason: Option<String>,
    /// Says what would be done, and does nothing.
    #[serde(default)]
    #[schema(example = true)]
    dry_run: bool,
}

/// What is to be held: one of `request_id`, `zone` and `subject`, and why.
#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = HoldWanted)]
#[serde(deny_unknown_fields)]
pub struct HoldBody {
    /// Every entry of this request.
    request_id: Option<String>,
    /// Every entry of this tenant.
    #[schema(example = "default")]
    zone: Option<String>,
    /// Every entry of this subject, user or agent.
    subject: Option<String>,
    /// Why; it is recorded.
    #[schema(example = "case 2026-117")]
    reason: String,
}

/// Why a hold ends.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[schema(as = HoldRelease)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Why; it is recorded.
    reason: Option<String>,
}

/// Every active hold.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Holds)]
pub struct Held {
    /// The oldest first.
    holds: Vec<Hold>,
}

/// Answers a request to prune, erase, hold or release.
pub async fn answer(keeper: &Keeper, asked: Asked, body: &Bytes, visit: &Visit) -> Response<Body> {
    let done = match asked {
        Asked::Prune => prune(keeper, body, visit).await,
        Asked::Erase => erase(keeper, body, visit).await,
        Asked::Hold => hold(keeper, body, visit).await,
        Asked::Release(id) => release(keeper, id, body, visit).await,
    };
    done.unwrap_or_else(|refused| *refused)
}

/// Answers `GET /v1/ledger/holds`.
pub async fn holds(keeper: &Keeper, visit: &Visit) -> Response<Body> {
    visit.look("ledger.holds_listed", "/v1/ledger/holds", "");
    match keeper.holds().await {
        Ok(holds) => web::json_response(StatusCode::OK, &Held { holds }),
        Err(error) => unreadable(&error, visit),
    }
}

type Answer = Result<Response<Body>, Box<Response<Body>>>;

async fn prune(keeper: &Keeper, body: &Bytes, visit: &Visit) -> Answer {
    let wanted: Prune = read(body, "{\"before\": TIME}", visit)?;
    let invalid = |detail: String| Box::new(bad_parameter(detail, visit));
    let before_ms = parse_time(&wanted.before, visit.moment.time_ns / 1_000_000)
        .map_err(|error| invalid(format!("`before`: {error}")))?;
    let kind = wanted.kind.as_deref().map(prunable).transpose();
    let kind = kind.map_err(|error| invalid(format!("`kind`: {error}")))?;
    let cut = Cut { kind, zone: wanted.zone, before_ms: Some(before_ms) };
    if wanted.dry_run {
        visit.look("ledger.prune_tried", "/v1/ledger/prune", &String::from_utf8_lossy(body));
    }
    let (keeper, actor) = (keeper.clone(), actor(visit, wanted.reason));
    let work = async move { keeper.prune(cut, &actor, wanted.dry_run).await };
    finish("/v1/ledger/prune", work, visit).await
}

async fn erase(keeper: &Keeper, body: &Bytes, visit: &Visit) -> Answer {
    let wanted: Erase = read(body, "{\"subject\": ID}", visit)?;
    if wanted.dry_run {
        // Without the subject: nothing that is kept is to name them.
        visit.look("ledger.erase_tried", "/v1/ledger/erase", "");
    }
    let (keeper, actor) = (keeper.clone(), actor(visit, wanted.reason));
    let work = async move { keeper.erase(&wanted.subject, &actor, wanted.dry_run).await };
    finish("/v1/ledger/erase", work, visit).await
}

async fn hold(keeper: &Keeper, body: &Bytes, visit: &Visit) -> Answer {
    let shape = "{\"request_id\" or \"zone\" or \"subject\": ID, \"reason\": TEXT}";
    let wanted: HoldBody = read(body, shape, visit)?;
    let scope = match (wanted.request_id, wanted.zone, wanted.subject) {
        (Some(id), None, None) => Scope::RequestId(id),
        (None, Some(zone), None) => Scope::Zone(zone),
        (None, None, Some(id)) => Scope::Subject(id),
        _ => {
            return Err(Box::new(bad_parameter(
                format!("body is not `{shape}`: give one of the three"),
                visit,
            )));
        }
    };
    let (keeper, actor) = (keeper.clone(), actor(visit, Some(wanted.reason)));
    finish("/v1/ledger/holds", async move { keeper.hold(scope, &actor).await }, visit).await
}

async fn release(keeper: &Keeper, id: String, body: &Bytes, visit: &Visit) -> Answer {
    let wanted: Release =
        if body.is_empty() { Release::default() } else { read(body, "{\"reason\": TEXT}", visit)? };
    let (keeper, actor) = (keeper.clone(), actor(visit, wanted.reason));
    let work = async move { keeper.release(&id, &actor).await };
    finish("/v1/ledger/holds/{hold_id}/release", work, visit).await
}

/// A body as a value; the answer that says what it should be, where it is none.
pub(super) fn read<T: DeserializeOwned>(
    body: &Bytes,
    shape: &str,
    visit: &Visit,
) -> Result<T, Box<Response<Body>>> {
    json::parse_as(body)
        .map_err(|error| Box::new(bad_parameter(format!("body is not `{shape}`: {error}"), visit)))
}

/// Who asks, and why.
pub(super) fn actor(visit: &Visit, reason: Option<String>) -> Actor {
    Actor {
        principal: visit.principal.name.clone(),
        peer: Some(visit.peer.to_string()),
        reason,
        request_id: Some(visit.request_id.clone()),
    }
}

/// Does it, and says what came of it. What was refused is recorded as a look: somebody tried.
async fn finish<T: Serialize + Send + 'static>(
    path: &str,
    work: impl Future<Output = Result<T, KeepingError>> + Send + 'static,
    visit: &Visit,
) -> Answer {
    let done = tokio::spawn(work).await;
    let done = done.unwrap_or_else(|error| Err(LedgerError::Unreadable(error.to_string()).into()));
    if matches!(done, Err(KeepingError::Refused(_) | KeepingError::NoHold(_))) {
        visit.look("ledger.keeping_refused", path, "");
    }
    match done {
        Ok(done) => Ok(web::json_response(StatusCode::OK, &done)),
        Err(KeepingError::Refused(detail)) => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Err(Box::new(Problem::new(status, ProblemType::NotAllowed, detail, visit).response()))
        }
        Err(error @ KeepingError::NoHold(_)) => {
            Err(Box::new(Problem::not_found(error.to_string(), visit).response()))
        }
        Err(KeepingError::Ledger(error @ (LedgerError::Unreadable(_) | LedgerError::Open { .. }))) => {
            Err(Box::new(unreadable(&error, visit)))
        }
        Err(KeepingError::Ledger(error)) => Err(Box::new(Problem::unrecorded(&error, visit).response())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart() {
        let asked = |path: &str| Asked::of(path);
        assert_eq!(asked("/v1/ledger/prune"), Some(Asked::Prune));
        assert_eq!(asked("/v1/ledger/holds/01A/release"), Some(Asked::Release("01A".into())));
        for path in
            ["/v1/ledger/key", "/v1/ledger/holds//release", "/v1/ledger/holds/a/b/release", "/v1/audit"]
        {
            assert_eq!(asked(path), None, "{path}");
        }
    }
}
