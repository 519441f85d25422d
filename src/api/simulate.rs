//! `POST /v1/simulate`: what would be decided, and why. Nothing is recorded as a decision, and no tool is called.
//!
//! The body is `{"input": CALL}` or `{"from": REQUEST_ID}`, with `"set": {POINTER: VALUE}` edits, `"policies": {PATH: TEXT}`
//! in place of the set in force (with its `"id"`, its `"revision"`, and its `"entrypoint"` where one rule decides), and
//! `"trace": true` for every condition of every rule. Starting from a recorded call reads the ledger, so that is an access
//! entry like any other read.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::audit::{evaluated, unreadable};
use crate::call::{Call, Moment};
use crate::gate::Gate;
use crate::json;
use crate::ledger::filter::Scope;
use crate::policy::{Limits, PolicySet, Source, SourceFile};
use crate::replay::{Replayer, moment_of, put, simulate};
use crate::web::turns::Lane;
use crate::web::{self, Body, Problem, ProblemType, Visit};

/// Inline policy files.
const MAX_FILES: usize = 200;
/// Text of all inline policy files together.
const MAX_POLICY_BYTES: usize = 2 * 1024 * 1024;
/// Edits of one call.
const MAX_EDITS: usize = 100;

/// The body: either `input` or `from`.
#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = SimulationWanted)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The call, as a policy sees it.
    input: Option<Call>,
    /// A recorded call instead: its request id.
    from: Option<String>,
    /// Values put into the call, by RFC 6901 pointers from its root.
    #[serde(default)]
    set: BTreeMap<String, Value>,
    /// Policy files by path, in place of the set in force.
    policies: Option<BTreeMap<String, String>>,
    /// What that set is called.
    id: Option<String>,
    /// Its revision.
    revision: Option<String>,
    /// The rule that decides, where one does: `data.authz.decision`.
    entrypoint: Option<String>,
    /// Whether every condition of every rule is told.
    #[serde(default)]
    trace: bool,
}

/// Why there is no answer.
enum Refused {
    Invalid(String),
    Unknown(String),
}

/// Answers `POST /v1/simulate`.
pub async fn answer(
    gate: &Arc<Gate>,
    replayer: &Arc<Replayer>,
    body: &Bytes,
    visit: &Visit,
) -> Response<Body> {
    let wanted: Wanted = match json::parse_as(body) {
        Ok(wanted) => wanted,
        Err(error) => {
            return invalid(
                format!("body is not `{{\"input\": CALL}}` or `{{\"from\": REQUEST_ID}}`: {error}"),
                visit,
            );
        }
    };
    if let Some(request_id) = &wanted.from {
        visit.look("ledger.simulated", "/v1/simulate", request_id);
    }
    let (policies, replayer, now) = (gate.policies.load_full(), replayer.clone(), visit.moment.clone());
    let scope = Scope::of(&visit.principal);
    match evaluated(Lane::Given, visit, move || answered(wanted, &policies, &replayer, &now, &scope)).await {
        Ok(Ok(answer)) => web::json_response(StatusCode::OK, &answer),
        Ok(Err(Refused::Invalid(detail))) => invalid(detail, visit),
        Ok(Err(Refused::Unknown(detail))) => Problem::not_found(detail, visit).response(),
        Err(error) => unreadable(&error, visit),
    }
}

fn answered(
    wanted: Wanted,
    in_force: &PolicySet,
    replayer: &Replayer,
    now: &Moment,
    scope: &Scope,
) -> Result<Value, Refused> {
    let (mut call, moment) = match (wanted.input, wanted.from) {
        (Some(call), None) => (call, None),
        (None, Some(id)) => {
            let recorded = replayer.recorded(&id, scope).map_err(Refused::Invalid)?;
            let unknown = || {
                Refused::Unknown(format!(
                    "no decision has request id `{id}`; `docket tail` lists the newest ones"
                ))
            };
            let (call, moment, _) = recorded.ok_or_else(unknown)?;
            (call, Some(moment))
        }
        _ => return Err(Refused::Invalid("body must have either `input` or `from`".into())),
    };
    if wanted.set.len() > MAX_EDITS {
        return Err(Refused::Invalid(format!(
            "`set` has {} edits; at most {MAX_EDITS} are accepted",
            wanted.set.len()
        )));
    }
    for (pointer, value) in wanted.set {
        call = put(call, &pointer, value).map_err(Refused::Invalid)?;
    }
    let moment = moment.unwrap_or_else(|| moment_of(&call, now));
    let (id, revision, entrypoint) = (wanted.id, wanted.revision, wanted.entrypoint);
    let inline = wanted.policies.map(|files| compile(Inline { files, id, revision, entrypoint }));
    let inline = inline.transpose().map_err(Refused::Invalid)?;
    let simulated = simulate(inline.as_ref().unwrap_or(in_force), &call, &moment, wanted.trace);
    serde_json::to_value(simulated).map_err(|error| Refused::Invalid(error.to_string()))
}

/// Policies that came with a body.
pub(super) struct Inline {
    pub files: BTreeMap<String, String>,
    pub id: Option<String>,
    pub revision: Option<String>,
    pub entrypoint: Option<String>,
}

/// Compiles policies of a body, within bounds; the error is for its sender.
pub(super) fn compile(Inline { files, id, revision, entrypoint }: Inline) -> Result<PolicySet, String> {
    let bytes: usize = files.values().map(String::len).sum();
    if files.len() > MAX_FILES || bytes > MAX_POLICY_BYTES {
        return Err(format!(
            "`policies` has {} files of {bytes} bytes; at most {MAX_FILES} files of {MAX_POLICY_BYTES} bytes are accepted",
            files.len()
        ));
    }
    let files = files.into_iter().map(|(path, text)| SourceFile { path, bytes: text.into_bytes() }).collect();
    let id = id.unwrap_or_else(|| "inline".into());
    let source = Source { id, revision, files, entrypoint };
    PolicySet::compile(source, Limits::default()).map_err(|findings| {
        let listed: Vec<String> = findings.iter().map(ToString::to_string).collect();
        format!("`policies` do not compile\n{}", listed.join("\n"))
    })
}

/// A body that cannot be used.
pub(super) fn invalid(detail: String, visit: &Visit) -> Response<Body> {
    Problem::new(StatusCode::BAD_REQUEST, ProblemType::InvalidRequest, detail, visit).response()
}
