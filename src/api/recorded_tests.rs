//! `POST /v1/tests`: Rego unit tests written from recorded decisions.
//!
//! The body says which decisions: `"request_ids": [ID]` or the filters of `/v1/audit` (`request_id`, `decision`, `server`,
//! `tool`, `agent`, `since`, `until`), at most `"limit": N` of the newest, and what to call the tests' `"package"`. The answer
//! is [`crate::replay::recorded_tests::Written`]. Reading the recorded calls is an access entry like any other read.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::audit::{evaluated, unreadable};
use super::selection::Selection;
use super::simulate::invalid;
use crate::gate::Gate;
use crate::json;
use crate::ledger::Filter;
use crate::ledger::filter::Scope;
use crate::replay::Replayer;
use crate::replay::recorded_tests::{Wanted, write};
use crate::web::turns::Lane;
use crate::web::{self, Body, Visit};

/// The body: request ids, or filters of `/v1/audit` as further members.
#[derive(Default, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = TestsWanted)]
#[serde(default)]
pub struct Asked {
    /// Only these requests.
    request_ids: Vec<String>,
    #[serde(flatten)]
    #[schema(ignore)]
    selection: Selection,
    /// At most so many tests, of the newest decisions; 100 if not given.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 4_294_967_295_u64)]
    limit: Option<u32>,
    /// The package of the tests; `docket_recorded_test` if not given.
    package: Option<String>,
}

/// Answers `POST /v1/tests`.
pub async fn answer(
    gate: &Arc<Gate>,
    replayer: &Arc<Replayer>,
    body: &Bytes,
    visit: &Visit,
) -> Response<Body> {
    let body: Asked = match json::parse_as(body) {
        Ok(body) => body,
        Err(error) => {
            return invalid(
                format!("body is not `{{\"request_ids\": [ID]}}` or `{{\"since\": TIME}}`: {error}"),
                visit,
            );
        }
    };
    let asked = json!(body).to_string();
    let Asked { request_ids, selection, limit, package } = body;
    let wanted = match selection.filter((gate.clock.now_ms)()) {
        Ok(filter) => {
            let filter = Filter { scope: Scope::of(&visit.principal), ..filter };
            Wanted { request_ids, filter, limit, package }
        }
        Err(detail) => return invalid(detail, visit),
    };
    visit.look("ledger.tests_written", "/v1/tests", &asked);
    let replayer = replayer.clone();
    match evaluated(Lane::Recorded, visit, move || write(&replayer, &wanted)).await {
        Ok(Ok(written)) => web::json_response(StatusCode::OK, &written),
        Ok(Err(detail)) => invalid(detail, visit),
        Err(error) => unreadable(&error, visit),
    }
}
