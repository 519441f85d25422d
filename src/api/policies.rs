//! The policies over HTTP, on the admin plane: `GET /v1/policies` is what is in force, `GET /v1/policies/files/{digest}` a
//! manifest or file as a decision used it, and `POST /v1/policies/reload` reads the set again and puts it in force, or says
//! why not.
//!
//! What is in force is known to docket without the ledger, and asking for it is no access. A reload answers
//! `{"result": "unchanged" | "updated", …}`; a set that is refused is a problem document (422) with the `findings` beside it.
//! Either way the ledger has an entry, `policy.updated` or `policy.rejected`.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::audit::{blocking, unreadable};
use crate::decision::{Effect, PolicySetRef};
use crate::gate::Gate;
use crate::ledger::Reader;
use crate::policy::{Changed, Changes, Finding, Policy, Version};
use crate::publish::{Cause, Published, Publisher, Update};
use crate::text::truncated;
use crate::web::cached::{Cached, Freshness};
use crate::web::{self, Body, PROBLEM_JSON, Problem, ProblemType, Visit};

/// What is in force.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = PoliciesInForce)]
pub struct InForce<'a> {
    /// The set.
    policy_set: &'a PolicySetRef,
    /// Its policies, by package.
    policies: Vec<Told<'a>>,
    /// Its files, by path: `GET /v1/policies/files/{digest}` has their bytes.
    files: Vec<File<'a>>,
}

/// A policy in force.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Policy)]
struct Told<'a> {
    /// Its id.
    #[schema(value_type = String)]
    policy_id: &'a str,
    /// `sha256:` over the digests of its files.
    #[schema(value_type = String)]
    policy_version: &'a str,
    /// `title` of its METADATA.
    #[schema(value_type = Option<String>)]
    title: Option<&'a str>,
    /// `description` of its METADATA.
    #[schema(value_type = Option<String>)]
    description: Option<&'a str>,
    /// Its package.
    #[schema(value_type = String)]
    package: &'a str,
    /// The effects it can produce.
    #[schema(value_type = Vec<Effect>)]
    effects: &'a [Effect],
    /// The calls it is evaluated for.
    targets: Targets<'a>,
    /// Every file whose change could change what it decides.
    #[schema(value_type = Vec<String>)]
    files: &'a [String],
}

/// Globs over what a policy is about; `null` is everything.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = PolicyTargets)]
struct Targets<'a> {
    #[schema(value_type = Option<Vec<String>>)]
    servers: Option<&'a [String]>,
    #[schema(value_type = Option<Vec<String>>)]
    tools: Option<&'a [String]>,
    #[schema(value_type = Option<Vec<String>>)]
    actions: Option<&'a [String]>,
}

/// A file of the set in force.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = PolicyFile)]
struct File<'a> {
    /// Its path within the set.
    #[schema(value_type = String)]
    path: &'a str,
    /// `sha256:` and hex.
    #[schema(value_type = String)]
    digest: &'a str,
    /// How many.
    bytes: usize,
}

impl<'a> Told<'a> {
    fn of(policy: &'a Policy) -> Self {
        let [servers, tools, actions] = policy.targets.written();
        Self {
            policy_id: &policy.id,
            policy_version: &policy.version,
            title: policy.title.as_deref(),
            description: policy.description.as_deref(),
            package: &policy.package,
            effects: &policy.effects,
            targets: Targets { servers, tools, actions },
            files: &policy.files,
        }
    }
}

/// Answers `GET /v1/policies`.
#[must_use]
pub fn list(gate: &Gate, headers: &HeaderMap) -> Response<Body> {
    let set = gate.policies.load_full();
    let tag = &set.reference().manifest_sha;
    Cached { tag, freshness: Freshness::Checked }.response(headers, || {
        let in_force = InForce {
            policy_set: set.reference(),
            policies: set.policies().iter().map(Told::of).collect(),
            files: set
                .files()
                .map(|(path, digest, bytes)| File { path, digest, bytes: bytes.len() })
                .collect(),
        };
        web::json_response(StatusCode::OK, &in_force)
    })
}

/// Answers `GET /v1/policies/files/{digest}`.
pub async fn file(reader: &Reader, digest: &str, headers: &HeaderMap, visit: &Visit) -> Response<Body> {
    let shown = truncated(digest, 80);
    visit.look("ledger.read", "/v1/policies/files/DIGEST", shown);
    let wanted = digest.to_owned();
    match blocking(reader, visit, move |reader| reader.digest(&wanted)).await {
        Ok(Some(bytes)) => Cached { tag: digest, freshness: Freshness::Forever }.response(headers, || {
            let mut response = Response::new(Body::whole(bytes));
            let format = HeaderValue::from_static("application/octet-stream");
            response.headers_mut().insert(CONTENT_TYPE, format);
            response
        }),
        Ok(None) => {
            let detail = format!(
                "the ledger keeps no manifest or policy file `{shown}`; `/v1/policies` lists those in force, and \
                 a decision's `policy_set` names its manifest, which lists its files (a `policy_version` is of several files)"
            );
            Problem::not_found(detail, visit).response()
        }
        Err(error) => unreadable(&error, visit),
    }
}

/// A problem document with what is wrong.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = PoliciesRejected)]
pub struct Refused<'a> {
    #[serde(flatten)]
    problem: Problem,
    /// Digest of the manifest that stays in force.
    #[schema(value_type = String)]
    manifest_sha: &'a str,
    /// What is wrong.
    #[schema(value_type = Vec<Finding>)]
    findings: &'a [Finding],
}

/// What came of reading the policies again.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Reloaded {
    /// `unchanged` or `updated`.
    #[schema(value_type = String)]
    result: &'static str,
    /// Of what is unchanged: digest of the manifest in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest_sha: Option<String>,
    /// Of an update: digest of the manifest that was in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    /// Digest of the manifest in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    /// Policies only the newer set has; absent, like the two below, where the older set can no longer be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    added: Option<Vec<Version>>,
    /// Policies only the older set has.
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<Vec<Version>>,
    /// Policies both have, in different versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<Vec<Changed>>,
}

impl Reloaded {
    fn unchanged(manifest_sha: String) -> Self {
        let manifest_sha = Some(manifest_sha);
        let (before, after, added, removed, changed) = (None, None, None, None, None);
        Self { result: "unchanged", manifest_sha, before, after, added, removed, changed }
    }

    fn updated(Update { before, after, changes }: Update) -> Self {
        let (before, after) = (Some(before), Some(after));
        let (added, removed, changed) = changes
            .map(|Changes { added, removed, changed }| (Some(added), Some(removed), Some(changed)))
            .unwrap_or_default();
        Self { result: "updated", manifest_sha: None, before, after, added, removed, changed }
    }
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
            let problem = Problem::new(status, ProblemType::PoliciesRejected, detail, visit);
            let (manifest_sha, findings) = (rejected.manifest_sha.as_str(), rejected.findings.as_slice());
            let mut response = web::json_response(status, &Refused { problem, manifest_sha, findings });
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
            response
        }
        Ok(Published::Unchanged { manifest_sha }) => {
            web::json_response(StatusCode::OK, &Reloaded::unchanged(manifest_sha))
        }
        Ok(Published::Updated(update)) => web::json_response(StatusCode::OK, &Reloaded::updated(update)),
        Err(error) => Problem::unrecorded(&error, visit).response(),
    }
}
