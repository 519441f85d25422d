//! How docket is, on both planes: `/healthz` and `/readyz`. No token is asked for, and nobody's content is told.

use http::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::watch;

use crate::clock::rfc3339;
use crate::gate::Gate;
use crate::publish::{HookPublisher, Publisher};
use crate::redact::hooks::{Cause, HookHealth};
use crate::web::{self, Body};

/// That the process answers, or why it takes no calls.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Health)]
pub struct Health {
    /// `ok`; `stopping` and `the ledger cannot be written` come with 503.
    #[schema(value_type = String)]
    status: &'static str,
}

/// That docket takes calls, and what is not as it should be.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Readiness {
    /// `ready`.
    #[schema(value_type = String)]
    status: &'static str,
    /// Digest of the manifest in force.
    manifest_sha: String,
    /// There are newer policies, and they cannot be put in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_rejected: Option<RejectedPolicies>,
    /// Redaction hooks with which something is wrong. They run on all the same: nothing passes them by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    hooks: Vec<TroubledHook>,
}

/// Policies that cannot be put in force.
#[derive(Serialize, utoipa::ToSchema)]
struct RejectedPolicies {
    /// When that was tried last: RFC 3339, UTC.
    since: String,
    /// How many things are wrong with them.
    findings: usize,
}

/// A redaction hook with which something is wrong.
#[derive(Serialize, utoipa::ToSchema)]
struct TroubledHook {
    /// Its name in the configuration.
    name: String,
    /// Digest of the component in use.
    sha256: String,
    /// `unhealthy` or `update_rejected`.
    #[schema(value_type = String)]
    status: &'static str,
    /// Failures since it last succeeded.
    failures_in_a_row: u32,
    /// The cause of the last one.
    #[schema(value_type = Option<String>)]
    last_failure: Option<&'static str>,
    /// Why the component at its path is not the one in use.
    rejected: Option<String>,
}

/// Answers `/healthz`: the process answers.
#[must_use]
pub fn alive() -> Response<Body> {
    web::json_response(StatusCode::OK, &Health { status: "ok" })
}

/// Answers `/readyz`: docket also takes calls, and says when the newest policies are not in force.
#[must_use]
pub fn ready(
    gate: &Gate,
    publisher: &Publisher,
    hooks: &HookPublisher,
    stopping: &watch::Receiver<bool>,
) -> Response<Body> {
    let trouble = match (*stopping.borrow(), gate.ledger.health().is_failing()) {
        (true, _) => Some("stopping"),
        (false, true) => Some("the ledger cannot be written"),
        (false, false) => None,
    };
    if let Some(status) = trouble {
        return web::json_response(StatusCode::SERVICE_UNAVAILABLE, &Health { status });
    }
    let health = gate.redactor.hooks().health();
    let readiness = Readiness {
        status: "ready",
        manifest_sha: gate.policies.load().reference().manifest_sha.clone(),
        policy_rejected: publisher.rejected().map(|rejected| RejectedPolicies {
            since: rfc3339(rejected.time_ms),
            findings: rejected.findings.len(),
        }),
        hooks: health.into_iter().filter_map(|health| trouble_of(health, hooks)).collect(),
    };
    web::json_response(StatusCode::OK, &readiness)
}

/// What is wrong with a hook, if something is.
fn trouble_of(health: HookHealth, hooks: &HookPublisher) -> Option<TroubledHook> {
    let rejected = hooks.rejected(&health.hook);
    (health.is_unhealthy || rejected.is_some()).then(|| TroubledHook {
        name: health.hook,
        sha256: health.sha256,
        status: if health.is_unhealthy { "unhealthy" } else { "update_rejected" },
        failures_in_a_row: health.failures_in_a_row,
        last_failure: health.last_cause.map(Cause::as_str),
        rejected,
    })
}
