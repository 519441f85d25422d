//! `POST /v1/policies/reload`: reads the policy set again, and puts it in force or says why not.
//!
//! Answers `{"result": "unchanged" | "updated", …}`; a set that is refused is a problem document (422) with the `findings`
//! beside it. Either way the ledger has an entry, `policy.updated` or `policy.rejected`.

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::policy::Finding;
use crate::publish::{Cause, Published, Publisher};
use crate::web::{self, Body, Problem, Visit};

/// A problem document with what is wrong.
#[derive(Serialize)]
struct Refused<'a> {
    #[serde(flatten)]
    problem: Problem,
    manifest_sha: &'a str,
    findings: &'a [Finding],
}

/// Answers `POST /v1/policies/reload`.
pub async fn reload(publisher: &Publisher, visit: &Visit) -> Response<Body> {
    let cause = Cause::Request { principal: visit.principal.name.clone(), peer: visit.peer.to_string() };
    match publisher.publish(&cause).await {
        Ok(Published::Rejected(rejected)) => {
            let count = rejected.findings.len();
            let detail = format!(
                "the policies in `{}` cannot be put in force, and those in force stay: {count} {} found",
                publisher.path().display(),
                if count == 1 { "error was" } else { "errors were" }
            );
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            let problem = Problem::new(status, "policies-rejected", "Policies rejected", detail, visit);
            let (manifest_sha, findings) = (rejected.manifest_sha.as_str(), rejected.findings.as_slice());
            let mut response = web::json_response(status, &Refused { problem, manifest_sha, findings });
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
            response
        }
        Ok(answer) => web::json_response(StatusCode::OK, &answer),
        Err(error) => Problem::unrecorded(&error, visit).response(),
    }
}
