//! `POST /v1/tests`: Rego unit tests written from recorded decisions.
//!
//! The body says which decisions, as [`Wanted`]; the answer is [`crate::replay::recorded_tests::Written`]. Reading the
//! recorded calls is an access entry like any other read.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::audit::{record_access, unreadable};
use crate::gate::Gate;
use crate::json;
use crate::ledger::LedgerError;
use crate::replay::Replayer;
use crate::replay::recorded_tests::{Wanted, write};
use crate::web::{self, Body, Problem, Visit};

/// Answers `POST /v1/tests`.
pub async fn answer(
    gate: &Arc<Gate>,
    replayer: &Arc<Replayer>,
    body: &Bytes,
    visit: &Visit,
) -> Response<Body> {
    let invalid = |detail: String| {
        Problem::new(StatusCode::BAD_REQUEST, "invalid-request", "Invalid request", detail, visit).response()
    };
    let wanted: Wanted = match json::parse_as(body) {
        Ok(wanted) => wanted,
        Err(error) => {
            return invalid(format!(
                "body is not `{{\"request_ids\": [ID]}}` or `{{\"since_ms\": TIME}}`: {error}"
            ));
        }
    };
    let asked = serde_json::to_string(&wanted).unwrap_or_default();
    record_access(gate, "ledger.tests_written", "/v1/tests", &asked, visit).await;
    let Ok(_worker) = replayer.workers.acquire().await else {
        return unreadable(&LedgerError::Unreadable("docket is stopping".into()), visit);
    };
    let replayer = replayer.clone();
    match tokio::task::spawn_blocking(move || write(&replayer, &wanted)).await {
        Ok(Ok(written)) => web::json_response(StatusCode::OK, &written),
        Ok(Err(detail)) => invalid(detail),
        Err(error) => unreadable(&LedgerError::Unreadable(error.to_string()), visit),
    }
}
