//! The ledger as Cerbos' admin API tells it: `GET /admin/auditlog/list/{KIND_DECISION|KIND_ACCESS}`.
//!
//! One entry a line, each as gRPC's gateway writes a streamed message: `{"result": {"decisionLogEntry": {…}}}`. Exactly one of
//! `tail`, `between.start` (with `between.end`, or until now), `since` and `lookup` says which. Unlike Cerbos, docket answers 404
//! where `lookup` finds nothing. A list without an end is written as exports are, in one of their places.

use std::io::{self, Write as _};
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use serde_json::{Value, json};

use super::audit::{bad_parameter, blocking, failed, unreadable};
use super::export::{Exports, Out};
use super::query::{number, pairs, recorded};
use crate::gate::Gate;
use crate::ledger::filter::parameters::MAX_QUOTED_BYTES;
use crate::ledger::filter::{Scope, parse_time};
use crate::ledger::{Filter, MAX_LIMIT, Order, Reader, Stored};
use crate::text::truncated;
use crate::web::{self, Body, Problem, Visit};

/// The path, up to the kind.
pub const PATH: &str = "/admin/auditlog/list/";

/// Messages within an entry that are there even where nothing is known of them.
const REQUIRED: [&str; 4] = ["peer", "resource", "principal", "auditTrail"];

/// A kind of log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Log {
    Decision,
    Access,
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    filter: Filter,
    /// At most this many, the newest.
    tail: Option<u32>,
    /// The id that was looked up.
    lookup: Option<String>,
}

/// Answers the rest of the path after [`PATH`].
pub async fn answer(
    exports: &Exports,
    gate: &Arc<Gate>,
    reader: &Reader,
    kind: &str,
    query: &str,
    visit: &Visit,
) -> Response<Body> {
    let log = match kind {
        "KIND_DECISION" => Log::Decision,
        "KIND_ACCESS" => Log::Access,
        _ => {
            let shown = truncated(kind, 64);
            let detail = format!("there is no log `{shown}`; there are `KIND_DECISION` and `KIND_ACCESS`");
            return Problem::not_found(detail, visit).response();
        }
    };
    let asked = match parse(log, query, (gate.clock.now_ms)()) {
        Ok(mut asked) => {
            asked.filter.scope = Scope::of(&visit.principal);
            asked
        }
        Err(detail) => return bad_parameter(detail, visit),
    };
    visit.look("ledger.read", &format!("{PATH}{kind}"), &recorded(query));
    let Asked { filter, tail, lookup } = asked;
    if let Some(id) = lookup {
        let (first, wanted) = (filter.clone(), id.clone());
        let found = blocking(reader, visit, move |reader| {
            // Cerbos' call id is the call's here; an entry of no call has only its own.
            let by_call = reader.entries(&Filter { call_id: Some(wanted.clone()), ..first.clone() })?;
            if by_call.is_empty() {
                return Ok(lines(log, &reader.entries(&Filter { id: Some(wanted), ..first })?));
            }
            Ok(lines(log, &by_call))
        });
        return match found.await {
            Ok(lines) if lines.is_empty() => {
                Problem::not_found(format!("no entry of this log has the id `{id}`"), visit).response()
            }
            Ok(lines) => ndjson(Body::whole(lines)),
            Err(error) => failed(&error, &filter, visit),
        };
    }
    if let Some(tail) = tail {
        let asked = Filter { limit: Some(tail), ..filter.clone() };
        let listed = move |reader: &Reader| Ok(lines(log, &reader.page(&asked, None)?.entries));
        return match blocking(reader, visit, listed).await {
            Ok(lines) => ndjson(Body::whole(lines)),
            Err(error) => failed(&error, &filter, visit),
        };
    }
    let place = match exports.place(visit) {
        Ok(place) => place,
        Err(full) => return web::too_many(gate, visit, &full),
    };
    let reader = exports.reader.clone();
    match exports.begin(place, visit, move |out| write(log, &reader, filter, out)) {
        Ok(body) => ndjson(body),
        Err(error) => unreadable(&error, visit),
    }
}

/// Writes page after page.
fn write(log: Log, reader: &Reader, mut filter: Filter, out: &mut Out) -> io::Result<()> {
    filter.limit = Some(MAX_LIMIT);
    loop {
        let (entries, has_more) = reader.batch(&filter).map_err(|error| {
            tracing::error!(error = %error, "an audit log could not be listed");
            io::Error::other(error)
        })?;
        for entry in &entries {
            out.write_all(line(log, entry).as_bytes())?;
        }
        if !has_more {
            return out.flush();
        }
        filter = filter.from(entries.last().map(|entry| entry.seq));
    }
}

fn parse(log: Log, query: &str, now_ms: i64) -> Result<Asked, String> {
    let mut asked = Asked { filter: Filter::default(), tail: None, lookup: None };
    asked.filter = asked
        .filter
        .with(crate::ledger::Column::Kind, if log == Log::Decision { "decision" } else { "access" });
    let mut given = Vec::new();
    let time = |name: &str, value: &str| {
        parse_time(&value.replace(' ', "+"), now_ms).map_err(|error| format!("`{name}`: {error}"))
    };
    for (name, value) in pairs(query)? {
        if given.contains(&name) {
            return Err(format!("`{name}` can be given once"));
        }
        match name.as_str() {
            "tail" => asked.tail = Some(number(&name, &value, 1, MAX_LIMIT)?),
            // Cerbos' ends are inclusive.
            "between.end" => asked.filter.until_ms = Some(time(&name, &value)?.saturating_add(1)),
            "since" | "between.start" => asked.filter.since_ms = Some(time(&name, &value)?),
            "lookup" => {
                let mut checked = Filter::default();
                checked.set("id", &value, now_ms).map_err(|wrong| wrong.replacen("`id`", "`lookup`", 1))?;
                asked.lookup = checked.id;
            }
            _ => {
                return Err(format!(
                    "parameter `{name}` is not known; accepted is one of `tail`, `between.start` and `between.end`, `since`, `lookup`"
                ));
            }
        }
        given.push(name);
    }
    let is = |names: &[&str]| {
        given.len() == names.len() && names.iter().all(|name| given.iter().any(|it| it == name))
    };
    let accepted: [&[&str]; 5] =
        [&["tail"], &["since"], &["lookup"], &["between.start"], &["between.start", "between.end"]];
    if !accepted.into_iter().any(is) {
        let query = truncated(query, MAX_QUOTED_BYTES);
        return Err(format!(
            "exactly one of `tail` (1 to {MAX_LIMIT}), `between.start` (with `between.end`), `since` and `lookup` must be given, and \
             `{query}` is not that"
        ));
    }
    asked.filter.between()?;
    asked.filter.order = Order::Newest;
    Ok(asked)
}

fn ndjson(body: Body) -> Response<Body> {
    let mut response = web::stream_response(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

fn lines(log: Log, entries: &[Stored]) -> String {
    entries.iter().map(|entry| line(log, entry)).collect()
}

fn line(log: Log, entry: &Stored) -> String {
    let (name, shown) = match log {
        Log::Decision => ("decisionLogEntry", decision(&json!(entry))),
        Log::Access => ("accessLogEntry", access(&json!(entry))),
    };
    format!("{}\n", json!({"result": {name: shown}}))
}

fn texts<const N: usize>(entry: &Value, pointers: [(&str, &str); N]) -> Value {
    let found = pointers.into_iter().filter_map(|(name, pointer)| {
        let value = entry.pointer(pointer).filter(|value| !value.is_null())?;
        Some((name.to_owned(), value.clone()))
    });
    Value::Object(found.collect())
}

/// A decision as `cerbos.audit.v1.DecisionLogEntry`: one input, one output, one action.
fn decision(entry: &Value) -> Value {
    let member = |pointer: &str| entry.pointer(pointer).cloned().unwrap_or(Value::Null);
    let action = entry.pointer("/action").and_then(Value::as_str).unwrap_or("unknown").to_owned();
    let is_allowed = entry.pointer("/decision").and_then(Value::as_str) == Some("allow");
    let policies =
        entry.pointer("/determining_policies").and_then(Value::as_array).cloned().unwrap_or_default();
    // One that failed denied the call and determined nothing.
    let policy = policies.first().and_then(|policy| policy.get("policy_id"));
    let policy =
        policy.or_else(|| entry.pointer("/diagnostics/0/policy_id")).filter(|id| id.is_string()).cloned();
    let mut attributes = member("/resource/properties");
    if let (Some(members), Some(arguments)) =
        (attributes.as_object_mut(), entry.pointer("/metadata/context/arguments"))
    {
        members.insert("arguments".into(), arguments.clone());
    }
    let effective: serde_json::Map<String, Value> = policies
        .iter()
        .filter_map(|policy| {
            let version = policy.get("policy_version").cloned().unwrap_or_default();
            Some((policy.get("policy_id")?.as_str()?.to_owned(), json!({"attributes": {"version": version}})))
        })
        .collect();
    told(json!({
        "callId": entry.get("call_id").filter(|id| !id.is_null()).or_else(|| entry.get("id")),
        "timestamp": member("/occurred_at"),
        "peer": texts(entry, [("address", "/peer"), ("userAgent", "/user_agent")]),
        "checkResources": {
            "inputs": [{
                "requestId": member("/request_id"),
                "resource": {
                    "kind": member("/resource/type"), "id": member("/resource/id"), "attr": attributes,
                },
                "principal": {
                    "id": member("/subject/id"),
                    "roles": member("/subject/properties/roles"),
                    "attr": member("/subject/properties"),
                },
                "actions": [&action],
            }],
            "outputs": [{
                "requestId": member("/request_id"),
                "resourceId": member("/resource/id"),
                "actions": {&action: {
                    "effect": if is_allowed { "EFFECT_ALLOW" } else { "EFFECT_DENY" },
                    "policy": policy.unwrap_or_else(|| json!("NO_MATCH")),
                }},
            }],
        },
        "auditTrail": {"effectivePolicies": effective},
    }))
}

/// A look at the ledger as `cerbos.audit.v1.AccessLogEntry`.
fn access(entry: &Value) -> Value {
    told(json!({
        "callId": entry.get("id"),
        "timestamp": entry.get("occurred_at"),
        "peer": texts(entry, [("address", "/peer"), ("userAgent", "/user_agent")]),
        "method": entry.pointer("/metadata/path").or_else(|| entry.get("event_type")),
    }))
}

/// A message as protojson writes it: a member that is not there, or has nothing in it, is left out. What a caller sent is not the
/// message's own, and stays as it is.
fn told(message: Value) -> Value {
    match message {
        Value::Object(members) => {
            let told = members.into_iter().filter_map(|(name, value)| {
                let value = if name == "attr" { value } else { told(value) };
                let is_empty = match &value {
                    Value::Null => true,
                    Value::Object(members) => members.is_empty() && !REQUIRED.contains(&name.as_str()),
                    Value::Array(items) => items.is_empty(),
                    _ => false,
                };
                (!is_empty).then_some((name, value))
            });
            Value::Object(told.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(told).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_thing_is_asked_for() {
        for query in [
            "tail=5",
            "since=1h",
            "lookup=01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "between.start=2021-07-05T07:27:01Z&between.end=2021-07-05T08:27:01Z",
            "between.start=2021-07-05T07:27:01Z",
        ] {
            assert!(parse(Log::Decision, query, 0).is_ok(), "{query}");
        }
        for query in [
            "",
            "tail=0",
            "tail=1001",
            "tail=5&since=1h",
            "between.end=2021-07-05T07:27:01Z",
            "lookup=abc",
            "page=1",
            "since=never",
        ] {
            assert!(parse(Log::Access, query, 0).is_err(), "{query}");
        }
    }

    #[test]
    fn a_policy_that_failed_is_named_and_a_deny_by_default_has_none() {
        let policy = |determining: Value, said: Value| {
            let entry = json!({
                "action": "tools/call", "decision": "deny", "determining_policies": determining,
                "diagnostics": [{"policy_id": said}], "resource": {"properties": {}},
            });
            decision(&entry)["checkResources"]["outputs"][0]["actions"]["tools/call"]["policy"].clone()
        };
        let failed = json!("acme.pay");
        assert_eq!(policy(json!([{"policy_id": "acme.files"}]), failed.clone()), "acme.files");
        assert_eq!(policy(json!([]), failed), "acme.pay");
        assert_eq!(policy(json!([]), Value::Null), "NO_MATCH");
    }
}
