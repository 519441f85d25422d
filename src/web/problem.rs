//! Problem documents (RFC 9457): how every refusal that is no decision is told.

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::{Body, Visit, json_response};
use crate::ledger::LedgerError;

/// An RFC 9457 problem document.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: &'static str,
    /// HTTP status.
    pub status: u16,
    /// What was wrong this time, and what would be right.
    pub detail: String,
    /// The id of the request.
    pub request_id: String,
    /// `allow`, `deny` or `require_approval`, where a decision was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<&'static str>,
    /// How to treat the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<&'static str>,
    /// Whether trying again may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
}

impl Problem {
    /// A problem of the given slug, which is also the section of the API documentation that describes it.
    #[must_use]
    pub fn new(status: StatusCode, slug: &str, title: &'static str, detail: String, visit: &Visit) -> Self {
        Self {
            kind: format!("urn:docket:problem:{slug}"),
            title,
            status: status.as_u16(),
            detail,
            request_id: visit.request_id.to_string(),
            decision: None,
            class: None,
            retryable: None,
        }
    }

    /// The ledger could not record: nothing was decided, and trying again may help.
    #[must_use]
    pub fn unrecorded(error: &LedgerError, visit: &Visit) -> Self {
        let detail = format!("{error}; no call goes on without a record");
        let problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ledger-unavailable",
            "Ledger unavailable",
            detail,
            visit,
        );
        Self { decision: Some("deny"), class: Some("ledger_unavailable"), retryable: Some(true), ..problem }
    }

    /// There is nothing at this path, or not with this method.
    #[must_use]
    pub fn not_found(detail: String, visit: &Visit) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail, visit)
    }

    /// The response that carries it.
    #[must_use]
    pub fn response(&self) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json_response(status, self);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
