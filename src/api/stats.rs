//! The ledger in numbers over HTTP: `GET /v1/ledger/stats`. Asking is an access, and recorded.

use std::sync::Arc;

use http::{Response, StatusCode};

use super::audit::{blocking, unreadable};
use crate::gate::Gate;
use crate::ledger::Reader;
use crate::web::{self, Body, Visit};

/// Answers `GET /v1/ledger/stats`.
pub async fn answer(gate: &Arc<Gate>, reader: &Reader, visit: &Visit) -> Response<Body> {
    visit.look("ledger.measured", "/v1/ledger/stats", "");
    let now_ms = (gate.clock.now_ms)();
    match blocking(reader, visit, move |reader| reader.stats(now_ms)).await {
        Ok(stats) => web::json_response(StatusCode::OK, &stats),
        Err(error) => unreadable(&error, visit),
    }
}
