//! An entry as an event of OPA's decision log.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::json::Object;
use crate::ledger::{Removal, Stored};

/// An event. What the ledger holds as JSON is passed on as it is.
#[derive(Serialize)]
pub struct Event<'a> {
    labels: Labels<'a>,
    decision_id: &'a str,
    bundles: BTreeMap<&'a str, Bundle<'a>>,
    path: &'static str,
    input: Input<'a>,
    result: Answer<'a>,
    requested_by: Option<&'a str>,
    timestamp: &'a str,
    req_id: i64,
    metrics: Metrics,
    custom: Custom<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    erased: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    masked: Vec<String>,
}

#[derive(Serialize)]
struct Labels<'a> {
    app: &'static str,
    id: &'a str,
    version: &'static str,
}

#[derive(Serialize)]
struct Bundle<'a> {
    revision: Option<&'a str>,
    manifest_sha: &'a str,
}

#[derive(Serialize)]
struct Input<'a> {
    subject: Option<&'a RawValue>,
    action: Option<&'a RawValue>,
    resource: Option<&'a RawValue>,
    context: Cow<'a, Value>,
}

#[derive(Serialize)]
struct Answer<'a> {
    allow: bool,
    decision: Option<&'a str>,
    evaluation_status: Option<&'a str>,
    determining_policies: Option<&'a RawValue>,
    diagnostics: Option<&'a RawValue>,
    outcome: Option<&'a str>,
}

#[derive(Serialize)]
struct Metrics {
    timer_rego_query_eval_ns: Option<i64>,
}

#[derive(Serialize)]
struct Custom<'a> {
    id: &'a str,
    request_id: Option<&'a str>,
    server: Option<&'a str>,
    agent: Option<&'a str>,
    user: Option<&'a str>,
    team: Option<&'a str>,
    zone: &'a str,
    mode: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    damaged: &'a [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<&'a Removal>,
}

impl<'a> Event<'a> {
    /// Of an entry.
    pub fn of(entry: &'a Stored) -> Self {
        let bundle = entry.policy_set.as_ref().map(|set| {
            let bundle = Bundle { revision: set.revision.as_deref(), manifest_sha: &set.manifest_sha };
            (set.id.as_deref().unwrap_or("policies"), bundle)
        });
        let redactions: Vec<Object> = serde_json::from_str(entry.redactions.get()).unwrap_or_default();
        let edited = |removed: bool| -> Vec<String> {
            let is_removed =
                |edit: &&Object| (edit.get("op").and_then(Value::as_str) == Some("remove")) == removed;
            let path = |edit: &Object| Some(format!("/input{}", edit.get("path")?.as_str()?));
            redactions.iter().filter(is_removed).filter_map(path).collect()
        };
        let context = entry.metadata.get("context");
        Self {
            labels: Labels { app: "docket", id: &entry.zone, version: env!("CARGO_PKG_VERSION") },
            decision_id: entry.call_id.as_ref().unwrap_or(&entry.id),
            bundles: bundle.into_iter().collect(),
            path: "docket/decision",
            input: Input {
                subject: entry.subject.as_deref(),
                action: entry.action_part.as_deref(),
                resource: entry.resource.as_deref(),
                context: context.map_or_else(|| Cow::Owned(Value::Object(Map::new())), Cow::Borrowed),
            },
            result: Answer {
                allow: entry.decision.as_deref() == Some("allow"),
                decision: entry.decision.as_deref(),
                evaluation_status: entry.evaluation_status.as_deref(),
                determining_policies: entry.determining_policies.as_deref(),
                diagnostics: entry.diagnostics.as_deref(),
                outcome: entry.outcome.as_deref(),
            },
            requested_by: entry.peer.as_deref(),
            timestamp: &entry.occurred_at,
            req_id: entry.seq,
            metrics: Metrics {
                timer_rego_query_eval_ns: entry.evaluation_us.map(|us| us.saturating_mul(1_000)),
            },
            custom: Custom {
                id: &entry.id,
                request_id: entry.request_id.as_deref(),
                server: entry.server.as_deref(),
                agent: entry.agent.as_deref(),
                user: entry.user.as_deref(),
                team: entry.team.as_deref(),
                zone: &entry.zone,
                mode: entry.mode.as_deref(),
                damaged: &entry.damaged,
                removed: entry.removed.as_ref(),
            },
            erased: edited(true),
            masked: edited(false),
        }
    }
}
