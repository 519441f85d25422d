//! MCP as a policy sees it: JSON-RPC messages to calls, refusals to answers. Pure: bytes and headers in, values out.
//!
//! Mapping and denial follow the COAZ binding of AuthZEN to MCP: the subject is the caller, the action is the method, the
//! resource is the tool, resource or prompt that is named, else the server. Two eras are spoken: up to 2025-11-25, with
//! sessions, and 2026-07-28, stateless, which mirrors parts of the body into headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::call::{Action, Call, Caller, Entity, Fault, RequestId};
use crate::clock::rfc3339;
use crate::config::Server;
use crate::decision::{Decision, Effect};
use crate::gate::Refusal;
use crate::json::{self, Object};
use crate::ledger::Plumbing;
use crate::methods::{ABOUT_SERVER, NAMING, PING};
use crate::text::truncated;
use crate::web::Visit;

/// The version that began the stateless era.
const STATELESS_SINCE: &str = "2026-07-28";

/// What a request that states no version speaks, by the specification.
const VERSION_UNSTATED: &str = "2025-03-26";

/// JSON-RPC: the text is not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// JSON-RPC: the JSON is not a request.
pub const INVALID_REQUEST: i64 = -32600;
/// JSON-RPC: there is no such method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC: the request lacks what its method must name.
pub const INVALID_PARAMS: i64 = -32602;
/// JSON-RPC: something failed on this side of the call.
pub const INTERNAL_ERROR: i64 = -32603;
/// COAZ-MCP: the call is denied.
pub const DENIED: i64 = -32001;
/// MCP 2026-07-28: a mirrored header disagrees with the body.
pub const HEADER_MISMATCH: i64 = -32020;

/// Notifications a client may send; they pass without a decision, so nothing else may look like one.
const NOTIFICATIONS: [&str; 5] = [
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
    "notifications/tasks/status",
];

/// Largest notification, in bytes: nobody is asked about it, so it must not become a way to carry data.
const MAX_NOTIFICATION_BYTES: usize = 16 * 1024;

/// Headers that mirror what a request's body names.
const MIRRORS: [&str; 2] = ["mcp-method", "mcp-name"];

/// Members whose meaning a message depends on. Some JSON libraries match names loosely (case, `ſ` for `s`, NUL), and
/// would read a member docket passed over.
const MEMBERS: [&str; 11] =
    ["jsonrpc", "id", "method", "params", "result", "error", "name", "uri", "arguments", "_meta", "cursor"];

/// Which rules of the wire a message follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Up to 2025-11-25: `initialize`, sessions, a GET stream.
    Sessions,
    /// From 2026-07-28: each request stands alone.
    Stateless,
}

/// One JSON-RPC message from a client.
#[derive(Debug)]
pub enum Message {
    /// A request that is decided; the fault stands in for a call no policy could be asked about.
    Request(Box<Request>),
    /// A message that passes without a decision.
    Plumbing(Plumbing),
}

/// A JSON-RPC request.
#[derive(Debug)]
pub struct Request {
    /// Its id, to be repeated in the answer.
    pub id: Value,
    /// Its method.
    pub method: String,
    /// Its parameters.
    pub params: Object,
    /// Which rules its answer follows.
    pub era: Era,
    /// The protocol version it states.
    pub version: String,
    /// Why it must be refused whatever the policies say.
    pub fault: Option<Fault>,
}

/// Reads one message. An error has no request it could answer to.
///
/// # Errors
/// The body is not one JSON-RPC 2.0 message.
pub fn read(body: &[u8], headers: &HeaderMap) -> Result<Message, Fault> {
    let unreadable = |text: &str| Fault::Unreadable(text.to_owned());
    let mut object =
        match json::parse(body).map_err(|error| Fault::Unreadable(format!("not JSON: {error}")))? {
            Value::Object(object) => object,
            Value::Array(_) => return Err(Fault::Batch),
            _ => return Err(unreadable("a JSON-RPC message is a JSON object")),
        };
    if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(unreadable("`jsonrpc` must be \"2.0\""));
    }
    check_members(&object)?;
    let (id, method) = (object.remove("id"), object.remove("method"));
    let method = match method {
        Some(Value::String(method)) => method,
        Some(_) => return Err(unreadable("`method` must be a string")),
        None if object.contains_key("result") || object.contains_key("error") => {
            // A response mirrors nothing: such headers would only tell a server something the body does not say.
            return match MIRRORS.iter().find(|name| headers.contains_key(**name)) {
                Some(name) => {
                    Err(Fault::HeaderMismatch(format!("header `{name}` does not belong to a response")))
                }
                None => Ok(Message::Plumbing(Plumbing::Response)),
            };
        }
        None => return Err(unreadable("a JSON-RPC message has a `method`, a `result` or an `error`")),
    };
    let id = match id {
        None if NOTIFICATIONS.contains(&method.as_str()) && body.len() <= MAX_NOTIFICATION_BYTES => {
            let params =
                object.remove("params").and_then(|params| params.as_object().cloned()).unwrap_or_default();
            return match disagreement(&method, &params, headers) {
                Some(fault) => Err(fault),
                None => Ok(Message::Plumbing(Plumbing::Notification)),
            };
        }
        None if method.starts_with("notifications/") => {
            let method = brief(&method);
            return Err(Fault::Unreadable(format!(
                "notification `{method}` is not one of a client's, or has more than {MAX_NOTIFICATION_BYTES} bytes"
            )));
        }
        None => {
            return Err(Fault::Unreadable(format!(
                "a request needs an `id`, and `{}` has none",
                brief(&method)
            )));
        }
        Some(id @ (Value::String(_) | Value::Number(_))) => id,
        Some(_) => return Err(unreadable("`id` must be a string or a number")),
    };
    let params = match object.remove("params") {
        None => Object::new(),
        Some(Value::Object(params)) => params,
        Some(_) => return Err(unreadable("`params` must be an object")),
    };
    let fault = disagreement(&method, &params, headers).or_else(|| unknown(&method, &params));
    if method == PING && fault.is_none() {
        return Ok(Message::Plumbing(Plumbing::Ping));
    }
    let version = version_of(&method, &params, headers);
    let dated = version.len() == STATELESS_SINCE.len() && version.starts_with("20");
    let era = if dated && version.as_str() >= STATELESS_SINCE { Era::Stateless } else { Era::Sessions };
    Ok(Message::Request(Box::new(Request { id, method, params, era, version, fault })))
}

impl Request {
    /// The call a policy is asked about, and the dotted name of its event.
    pub fn into_call(self, server: &Server, caller: &Caller, visit: &Visit) -> (Result<Call, Fault>, String) {
        let event_type = match &self.fault {
            Some(Fault::UnknownMethod(_)) => "mcp.unknown_method".to_owned(),
            Some(fault) => format!("request.{}", fault.rule()),
            None => self.method.replace('/', "."),
        };
        if let Some(fault) = self.fault {
            return (Err(fault), event_type);
        }
        let mut params = self.params;
        let meta = params.remove("_meta");
        let client = params
            .get("clientInfo")
            .or_else(|| meta.as_ref()?.get("io.modelcontextprotocol/clientInfo"))
            .cloned()
            .unwrap_or_default();
        let mut properties = Object::new();
        properties.insert("server".into(), (*server.name).into());
        let naming = NAMING.iter().find(|(method, ..)| *method == self.method);
        let resource = match naming {
            Some((_, member, kind)) => {
                let id = match params.remove(*member) {
                    Some(Value::String(id)) => id,
                    _ => String::new(),
                };
                if let Some(classification) = server.classifications.get(&id).filter(|_| *kind == "tool") {
                    properties.insert("classification".into(), classification.clone().into());
                }
                Entity { kind: (*kind).into(), id, properties }
            }
            None => Entity { kind: "mcp_server".into(), id: server.name.to_string(), properties },
        };
        let mut context = Object::new();
        context.insert("arguments".into(), params.remove("arguments").unwrap_or_else(|| json!({})));
        if !params.is_empty() {
            context.insert("params".into(), Value::Object(params));
        }
        if let Some(meta) = meta {
            context.insert("meta".into(), meta);
        }
        context.insert("agent".into(), caller.agent.clone().into());
        context.insert("request_id".into(), visit.request_id.as_str().into());
        context.insert("time".into(), rfc3339(visit.moment.time_ns / 1_000_000).into());
        context.insert("protocol".into(), format!("mcp/{}", self.version).into());
        context.insert("client".into(), client);
        context.insert("peer".into(), visit.peer.to_string().into());
        context.insert("approval".into(), Value::Null);
        let action = Action { name: self.method, properties: Object::new() };
        (Ok(Call { subject: caller.subject(), action, resource, context }), event_type)
    }
}

/// The answer to a refused request: its HTTP status and JSON-RPC body.
///
/// A denied tool call is a tool *result* with `isError`, whose text a language model can act on; anything else is a
/// JSON-RPC error. Details for programs are in `_meta` or `data`, never in `structuredContent`, which clients validate
/// against the tool's own schema.
#[must_use]
pub fn refusal(id: &Value, method: &str, era: Era, refusal: &Refusal) -> (StatusCode, Value) {
    let decision = &refusal.decision;
    let rule = decision.diagnostics.first().and_then(|diagnostic| diagnostic.rule.as_deref());
    let (status, code) = match rule {
        Some("header_mismatch") => (StatusCode::BAD_REQUEST, HEADER_MISMATCH),
        Some("batch") => (StatusCode::BAD_REQUEST, INVALID_REQUEST),
        Some("unmappable") => (StatusCode::OK, INVALID_PARAMS),
        Some("unknown_server") => (StatusCode::NOT_FOUND, DENIED),
        Some("unknown_method") if era == Era::Stateless => (StatusCode::NOT_FOUND, METHOD_NOT_FOUND),
        Some("unknown_method") => (StatusCode::OK, METHOD_NOT_FOUND),
        _ => (StatusCode::OK, DENIED),
    };
    let details = details(refusal);
    if method == "tools/call" && (status, code) == (StatusCode::OK, DENIED) {
        let mut result = json!({
            "content": [{"type": "text", "text": explanation(refusal)}],
            "isError": true,
            "_meta": {"docket/decision": details, "docket/request_id": refusal.request_id},
        });
        if let (Era::Stateless, Some(result)) = (era, result.as_object_mut()) {
            result.insert("resultType".into(), "complete".into());
        }
        return (status, json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }
    let error = json!({"code": code, "message": explanation(refusal), "data": {
        "docket/decision": details, "docket/request_id": refusal.request_id,
    }});
    (status, json!({"jsonrpc": "2.0", "id": id, "error": error}))
}

/// A JSON-RPC error that no decision stands behind.
#[must_use]
pub fn error(id: &Value, code: i64, message: &str, request_id: &RequestId) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message, "data": {
        "docket/request_id": request_id,
    }}})
}

/// What the agent reads. It says what happened, why, and what may help.
fn explanation(refusal: &Refusal) -> String {
    let Decision { effect, .. } = refusal.decision;
    let (verdict, advice) = match (effect, refusal.decision.class()) {
        (Effect::RequireApproval, _) => (
            "needs approval",
            "It was not carried out. Ask a person to approve it; do not try it another way.",
        ),
        (_, "policy_error") => {
            ("denied because a policy failed", "It was not carried out. Trying again will not help.")
        }
        (_, "blocked") => {
            ("blocked by an operator", "It was not carried out. Do not try it again until the block is over.")
        }
        (_, "invalid_request") => ("refused", "It was not carried out."),
        _ => ("denied by policy", "It was not carried out, and repeating it unchanged will not help."),
    };
    format!("{verdict}: {}\n{advice} (request id {})", refusal.decision.reason(), refusal.request_id)
}

/// The decision as programs read it.
fn details(refusal: &Refusal) -> Value {
    let decision = &refusal.decision;
    json!({
        "decision": decision.effect,
        "class": decision.class(),
        "retryable": false,
        "evaluation_status": decision.status,
        "call_id": refusal.call_id.to_string(),
        "manifest_sha": decision.policy_set.manifest_sha,
        "determining_policies": decision.determining,
        "diagnostics": decision.diagnostics,
    })
}

/// Refuses members that a looser reader than docket could take for others.
fn check_members(message: &Object) -> Result<(), Fault> {
    let stranger = message.keys().find(|name| !MEMBERS.get(..6).unwrap_or_default().contains(&name.as_str()));
    if let Some(name) = stranger {
        return Err(Fault::Unreadable(format!("`{}` is not a member of a JSON-RPC message", brief(name))));
    }
    let params = message.get("params").and_then(Value::as_object);
    let meta = params.and_then(|params| params.get("_meta")).and_then(Value::as_object);
    for object in params.into_iter().chain(meta) {
        let mut seen: Vec<String> = MEMBERS.iter().map(|&name| name.to_owned()).collect();
        for name in object.keys().filter(|name| !MEMBERS.contains(&name.as_str())) {
            let folded = fold(name);
            if seen.contains(&folded) {
                return Err(Fault::Unreadable(format!(
                    "member `{}` could be read as another one",
                    brief(name)
                )));
            }
            seen.push(folded);
        }
    }
    Ok(())
}

/// A name as the loosest reader might compare it.
fn fold(name: &str) -> String {
    let plain = |char: char| match char {
        'ſ' => 's',
        '\u{212a}' => 'k',
        other => other,
    };
    name.chars().filter(|char| *char != '\0').map(plain).flat_map(char::to_lowercase).collect()
}

/// A fault where a header that mirrors the body says something else than the body. The one that is trusted is neither.
fn disagreement(method: &str, params: &Object, headers: &HeaderMap) -> Option<Fault> {
    let meta_version = params
        .get("_meta")
        .and_then(|meta| meta.get("io.modelcontextprotocol/protocolVersion"))
        .and_then(Value::as_str);
    let name = NAMING
        .iter()
        .find(|(naming, ..)| *naming == method)
        .and_then(|(_, member, _)| params.get(*member)?.as_str());
    let name = name.or_else(|| params.get("taskId")?.as_str());
    let mirrors = [("mcp-protocol-version", meta_version), ("mcp-method", Some(method)), ("mcp-name", name)];
    for (header, body) in mirrors {
        let mut values = headers.get_all(header).iter();
        let (first, second) = (values.next(), values.next());
        if second.is_some() {
            return Some(Fault::HeaderMismatch(format!("header `{header}` is given more than once")));
        }
        let Some(first) = first else { continue };
        let Some(body) = body else {
            if header == "mcp-name" {
                return Some(Fault::HeaderMismatch(format!(
                    "header `{header}` names what `{}` does not",
                    brief(method)
                )));
            }
            continue;
        };
        let Some(decoded) = decode_header(first.as_bytes()) else {
            return Some(Fault::HeaderMismatch(format!("header `{header}` cannot be decoded")));
        };
        if decoded != body {
            return Some(Fault::HeaderMismatch(format!(
                "header `{header}` says `{}` and the body says `{}`",
                brief(&decoded),
                brief(body)
            )));
        }
    }
    None
}

/// A fault where docket cannot describe the request to a policy.
fn unknown(method: &str, params: &Object) -> Option<Fault> {
    if let Some((_, member, kind)) = NAMING.iter().find(|(naming, ..)| *naming == method) {
        let named = params.get(*member).is_some_and(Value::is_string);
        return (!named).then(|| {
            Fault::Unmappable(format!("`{method}` must name its {kind} in `params.{member}`, a string"))
        });
    }
    let known = method == PING || ABOUT_SERVER.contains(&method);
    (!known).then(|| Fault::UnknownMethod(brief(method).to_owned()))
}

fn version_of(method: &str, params: &Object, headers: &HeaderMap) -> String {
    let header = headers.get("mcp-protocol-version").and_then(|version| version.to_str().ok());
    let meta = params.get("_meta").and_then(|meta| meta.get("io.modelcontextprotocol/protocolVersion"));
    let initialize = params.get("protocolVersion").filter(|_| method == "initialize");
    let stated = meta.or(initialize).and_then(Value::as_str).or(header).unwrap_or(VERSION_UNSTATED);
    brief(stated).to_owned()
}

/// A header value as the client meant it: text, or `=?base64?…?=` where it would not survive as text.
fn decode_header(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    match text.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).ok()?).ok(),
        None => Some(text.to_owned()),
    }
}

/// At most 128 bytes of a caller's string, cut between characters, for messages.
fn brief(text: &str) -> &str {
    truncated(text, 128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn request(body: &Value, pairs: &[(&'static str, &str)]) -> Request {
        match read(body.to_string().as_bytes(), &headers(pairs)) {
            Ok(Message::Request(request)) => *request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_that_no_policy_is_asked_about() {
        let plumbing = |body: Value| match read(body.to_string().as_bytes(), &HeaderMap::new()) {
            Ok(Message::Plumbing(plumbing)) => plumbing,
            other => panic!("{other:?}"),
        };
        assert_eq!(plumbing(json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})), Plumbing::Ping);
        assert_eq!(
            plumbing(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})),
            Plumbing::Notification
        );
        assert_eq!(plumbing(json!({"jsonrpc": "2.0", "id": 1, "result": {}})), Plumbing::Response);
    }

    #[test]
    fn what_is_not_one_message_is_refused() {
        for (body, expected) in [
            ("{bad", "not JSON"),
            ("[]", "batches"),
            ("1", "JSON object"),
            (r#"{"id":1,"method":"tools/list"}"#, "`jsonrpc`"),
            (r#"{"jsonrpc":"2.0","id":1}"#, "`method`"),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, "`method` must be a string"),
            (r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"x"}}"#, "needs an `id`"),
            (r#"{"jsonrpc":"2.0","id":null,"method":"tools/list"}"#, "`id` must be"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[]}"#, "`params` must be"),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/list"}"#, "duplicate key `id`"),
            (r#"{"jsonrpc":"2.0","id":1,"result":{},"Method":"tools/call"}"#, "`Method` is not a member"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","Params":{"name":"x"}}"#, "`Params` is not a member"),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","Name":"rm"}}"#,
                "`Name` could be",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name\u0000":"rm"}}"#,
                "could be",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","argumentſ":{}}}"#,
                "could be",
            ),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"x":1,"X":2}}"#, "could be"),
            (r#"{"jsonrpc":"2.0","method":"notifications/tools/call"}"#, "is not one of a client's"),
        ] {
            let fault = read(body.as_bytes(), &HeaderMap::new()).unwrap_err().to_string();
            assert!(fault.contains(expected), "{body}: {fault}");
        }
    }

    #[test]
    fn mirrored_headers_must_agree_with_the_body() {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "écho", "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28"}}});
        let honest = [
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", "tools/call"),
            ("mcp-name", "=?base64?w6ljaG8=?="),
        ];
        let honest = request(&body, &honest);
        assert_eq!((honest.fault, honest.era), (None, Era::Stateless));
        for (name, lie) in [
            ("mcp-protocol-version", "2025-11-25"),
            ("mcp-method", "tools/list"),
            ("mcp-name", "delete_file"),
            ("mcp-name", "=?base64?!?="),
        ] {
            let fault = request(&body, &[(name, lie)]).fault;
            assert!(matches!(fault, Some(Fault::HeaderMismatch(_))), "{name}: {lie}: {fault:?}");
        }
        assert!(
            disagreement("tools/list", &Object::new(), &headers(&[("mcp-name", "delete_file")])).is_some()
        );
        let response =
            read(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#, &headers(&[("mcp-method", "tools/call")]));
        assert!(matches!(response, Err(Fault::HeaderMismatch(_))));
        let twice: HeaderMap = headers(&[("mcp-method", "tools/call")]);
        let mut twice = twice;
        twice.append("mcp-method", "tools/call".parse().unwrap());
        assert!(disagreement("tools/call", &Object::new(), &twice).is_some());
    }

    #[test]
    fn unknown_methods_and_nameless_calls_are_faults() {
        let fault = |method: &str, params: Value| {
            request(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}), &[]).fault
        };
        assert_eq!(fault("tools/list", json!({})), None);
        assert_eq!(fault("evil/method", json!({})), Some(Fault::UnknownMethod("evil/method".into())));
        assert!(matches!(fault("tools/call", json!({"name": 7})), Some(Fault::Unmappable(_))));
        assert!(matches!(fault("resources/read", json!({})), Some(Fault::Unmappable(_))));
    }
}
