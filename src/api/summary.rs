//! Traffic in numbers: `GET /v1/audit/stats`.

use std::sync::Arc;

use http::{Response, StatusCode};

use super::audit::{bad_parameter, blocking, failed};
use super::query::{filters, number, recorded};
use crate::gate::Gate;
use crate::ledger::Reader;
use crate::ledger::filter::parameters::Wrong;
use crate::ledger::filter::{Scope, parse_span};
use crate::ledger::rollup::{MAX_STEPS, SummaryWanted};
use crate::web::{self, Body, Visit};

/// What statistics are asked by, besides filters.
const OTHERS: [&str; 2] = ["bucket", "top"];

/// Of each thing, so many are named unless another number is asked for.
const DEFAULT_TOP: usize = 10;

/// And at most.
const MAX_TOP: usize = 1_000;

/// Answers `GET /v1/audit/stats`.
pub async fn answer(gate: &Arc<Gate>, reader: &Reader, query: &str, visit: &Visit) -> Response<Body> {
    let wanted = match wanted(query, (gate.clock.now_ms)()) {
        Ok(mut wanted) => {
            wanted.filter.scope = Scope::of(&visit.principal);
            wanted
        }
        Err(detail) => return bad_parameter(detail, visit),
    };
    visit.look("ledger.read", "/v1/audit/stats", &recorded(query));
    let filter = wanted.filter.clone();
    match blocking(reader, visit, move |reader| reader.summary(&wanted)).await {
        Ok(summary) => web::json_response(StatusCode::OK, &summary),
        Err(error) => failed(&error, &filter, visit),
    }
}

/// Reads a query string.
///
/// # Errors
/// Names the parameter, its value and what is accepted.
pub fn wanted(query: &str, now_ms: i64) -> Result<SummaryWanted, Wrong> {
    let (mut bucket_ms, mut top) = (None, DEFAULT_TOP);
    let mut filter = filters(query, now_ms, &OTHERS, |name, value, _| {
        match name {
            "bucket" => {
                let span = parse_span(value).filter(|ms| *ms > 0);
                bucket_ms = Some(span.ok_or_else(|| {
                    format!("`bucket` must be a length of time such as `5m`, `1h` or `1d`, not `{value}`")
                })?);
            }
            "top" => top = number(name, value, 0, MAX_TOP)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    // No entry is older.
    filter.since_ms = filter.since_ms.map(|since_ms| since_ms.max(0));
    if let (Some(bucket_ms), Some(since_ms)) = (bucket_ms, filter.since_ms)
        && (filter.until_ms.unwrap_or(now_ms) - since_ms) / bucket_ms >= MAX_STEPS
    {
        return Err(format!(
            "`bucket` would make more than {MAX_STEPS} steps; take a longer one, or a later `since`"
        ));
    }
    Ok(SummaryWanted { filter, bucket_ms, top, now_ms })
}
