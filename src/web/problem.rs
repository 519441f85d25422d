//! Problem documents (RFC 9457): how every refusal that is no decision is told.

use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::{Body, Visit, json_response};
use crate::ledger::LedgerError;

/// Where the problem types are described, on either plane; a type is a fragment of it.
pub const PROBLEMS_PATH: &str = "/v1/problems";

/// The media type of problem documents.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A kind of problem (RFC 9457 §3.1.1): what a program tells them apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemType {
    /// No token, or none that is accepted.
    Unauthenticated,
    /// A page from elsewhere may not call.
    ForeignHost,
    /// The path is for others.
    NotPermitted,
    /// There is no such thing.
    NotFound,
    /// Not with this method.
    MethodNotAllowed,
    /// The body cannot be used.
    InvalidRequest,
    /// A parameter, or a member of the body, cannot be taken.
    InvalidParameter,
    /// It must not be done.
    NotAllowed,
    /// The policies do not compile, or fail their tests.
    PoliciesRejected,
    /// As much under way as one may have, or as there may be.
    TooManyRequests,
    /// A question waited too long for its turn.
    TooManyQuestions,
    /// The query was interrupted.
    QueryTimeout,
    /// The ledger cannot record.
    LedgerUnavailable,
    /// The ledger cannot be read.
    LedgerUnreadable,
    /// The server behind the proxy did not answer.
    UpstreamFailed,
}

impl ProblemType {
    /// Every type.
    pub const ALL: [Self; 15] = [
        Self::Unauthenticated,
        Self::ForeignHost,
        Self::NotPermitted,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::InvalidRequest,
        Self::InvalidParameter,
        Self::NotAllowed,
        Self::PoliciesRejected,
        Self::TooManyRequests,
        Self::TooManyQuestions,
        Self::QueryTimeout,
        Self::LedgerUnavailable,
        Self::LedgerUnreadable,
        Self::UpstreamFailed,
    ];

    /// Its word, the fragment of its URI.
    #[must_use]
    pub fn slug(self) -> &'static str {
        self.described().0
    }

    /// Its title.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.described().1
    }

    /// The HTTP statuses it comes with.
    #[must_use]
    pub fn statuses(self) -> &'static [u16] {
        self.described().2
    }

    /// What it means, and what to do about it.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Unauthenticated => {
                "The request has no token, or one that is unknown, revoked, over, or of the other plane: agents' \
                 tokens are for the data plane, people's for the admin plane. Send `Authorization: Bearer TOKEN`, \
                 or Basic with the token as its password."
            }
            Self::ForeignHost => {
                "The `Host` or `Origin` header is not one this plane answers to, as when a web page makes a \
                 browser call it. Where that is meant, add the name to `allowed_hosts` or `allowed_origins` of \
                 the plane's section."
            }
            Self::NotPermitted => {
                "The token is good, and its role or its zones do not go that far. An admin can change that with \
                 `docket token role`, or make another token. On the data plane: the agent was blocked while its \
                 request came; `detail` has the reason."
            }
            Self::NotFound => {
                "There is nothing at this path or under this id, or nothing that this token may see: the two look \
                 the same."
            }
            Self::MethodNotAllowed => {
                "The path exists and is asked with another method; the `Allow` header names it."
            }
            Self::InvalidRequest => {
                "The body is not what is expected here, did not arrive in time (408), or is larger than allowed \
                 (413). `detail` says what is wrong and where. Nothing was done."
            }
            Self::InvalidParameter => {
                "A parameter or a member of the body is not known, or has a value it cannot have. `detail` names \
                 it, its value, and what is accepted. Nothing was done."
            }
            Self::NotAllowed => {
                "The request is well-formed and must not be carried out: a hold or the retention keeps what was \
                 to be removed. `detail` says which. Nothing was done."
            }
            Self::PoliciesRejected => {
                "The policy set does not compile, or fails its own tests. The one in force stays; `findings` says \
                 what is wrong and where."
            }
            Self::TooManyRequests => {
                "As much is under way as this token, or everybody together, may have: requests, their bodies, exports \
                 or answers that wait to be read. `detail` names the limit and its setting. Try again after \
                 `Retry-After` seconds."
            }
            Self::TooManyQuestions => {
                "Questions to the ledger take turns, and this one waited for `admin.query_timeout_ms` without \
                 having one. Ask less at once."
            }
            Self::QueryTimeout => {
                "The query was interrupted after `admin.query_timeout_ms`, and `detail` says which filter would narrow it; \
                 or an evaluation of policies has not ended by then, and is no longer waited for."
            }
            Self::LedgerUnavailable => {
                "The ledger cannot record, so nothing is decided and nothing goes on. Try again after \
                 `Retry-After` seconds; `/readyz` and docket's log say why."
            }
            Self::LedgerUnreadable => {
                "The ledger's file cannot be read, or holds something docket did not write. `docket verify` says what."
            }
            Self::UpstreamFailed => {
                "The server behind the proxy could not be reached, broke off, or took too long (504). The call \
                 was recorded; whether the server acted on it is not known."
            }
        }
    }

    /// Its URI, relative to docket: it resolves to the section of a page that docket serves itself.
    #[must_use]
    pub fn uri(self) -> String {
        format!("{PROBLEMS_PATH}#{}", self.slug())
    }

    fn described(self) -> (&'static str, &'static str, &'static [u16]) {
        match self {
            Self::Unauthenticated => ("unauthenticated", "Not authenticated", &[401]),
            Self::ForeignHost => ("foreign-host", "Foreign host or origin", &[403]),
            Self::NotPermitted => ("not-permitted", "Not permitted", &[403]),
            Self::NotFound => ("not-found", "Not found", &[404]),
            Self::MethodNotAllowed => ("method-not-allowed", "Method not allowed", &[405]),
            Self::InvalidRequest => ("invalid-request", "Invalid request", &[400, 408, 413]),
            Self::InvalidParameter => ("invalid-parameter", "Invalid parameter", &[400]),
            Self::NotAllowed => ("not-allowed", "Not allowed", &[422]),
            Self::PoliciesRejected => ("policies-rejected", "Policies rejected", &[422]),
            Self::TooManyRequests => ("too-many-requests", "Too many requests", &[429]),
            Self::TooManyQuestions => ("too-many-questions", "Too many questions", &[503]),
            Self::QueryTimeout => ("query-timeout", "Query took too long", &[503]),
            Self::LedgerUnavailable => ("ledger-unavailable", "Ledger unavailable", &[503]),
            Self::LedgerUnreadable => ("ledger-unreadable", "Ledger unreadable", &[500]),
            Self::UpstreamFailed => ("upstream-failed", "The server did not answer", &[502, 504]),
        }
    }
}

/// An RFC 9457 problem document.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// A URI that names the kind of problem, relative to docket, where it resolves to its description.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    #[schema(value_type = String)]
    pub title: &'static str,
    /// HTTP status.
    pub status: u16,
    /// What was wrong this time, and what would be right.
    pub detail: String,
    /// The id of the request.
    pub request_id: String,
    /// `allow`, `deny` or `require_approval`, where a decision was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub decision: Option<&'static str>,
    /// How to treat the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub class: Option<&'static str>,
    /// Whether trying again may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
}

impl Problem {
    /// A problem of a type.
    #[must_use]
    pub fn new(status: StatusCode, kind: ProblemType, detail: String, visit: &Visit) -> Self {
        Self {
            kind: kind.uri(),
            title: kind.title(),
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
        let problem =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, ProblemType::LedgerUnavailable, detail, visit);
        Self { decision: Some("deny"), class: Some("ledger_unavailable"), retryable: Some(true), ..problem }
    }

    /// There is nothing at this path, or nothing of this id.
    #[must_use]
    pub fn not_found(detail: String, visit: &Visit) -> Self {
        Self::new(StatusCode::NOT_FOUND, ProblemType::NotFound, detail, visit)
    }

    /// Answers that a path is asked with another method; `Allow` says which (RFC 9110 §15.5.6).
    #[must_use]
    pub fn method_not_allowed(allowed: &'static str, visit: &Visit) -> Response<Body> {
        let detail = format!("only {allowed} is answered here");
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, ProblemType::MethodNotAllowed, detail, visit);
        let mut response = problem.response();
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        response
    }

    /// The response that carries it.
    #[must_use]
    pub fn response(&self) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json_response(status, self);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
