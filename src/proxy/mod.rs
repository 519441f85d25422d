//! The proxy: MCP over Streamable HTTP at `/mcp/{server}`.
//!
//! Every request is decided and recorded by the gate before it goes on; what goes on are the caller's original bytes, and
//! answers come back as they arrive. The work is detached from the connection, so a client that hangs up cannot lose
//! an outcome; its hanging up is mirrored to the server by dropping the request under way.

mod answer;
mod mcp;
mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use crate::call::{Call, Caller, Fault, RequestId};
use crate::config::Server;
use crate::decision::Outcome;
use crate::gate::{Arrival, Gate, Pending, Refusal, Ruling, Target};
use crate::json;
use crate::ledger::{AUTH_FAILED, Kind, LedgerError, Permit, Plumbing};
use crate::text::truncated;
use crate::upstream::{Upstream, UpstreamError};
use crate::web::{self, Body, Problem, ProblemType, Reception, Stoppable, Unreceived, Visit};
use answer::{Cut, Judge, Watched};
use mcp::{Era, Message};
pub use sessions::Sessions;

/// Headers that concern one connection only (RFC 9110 §7.6.1), in either direction.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authorization"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers of a client that reach the server; `servers.NAME.forward_headers` adds to them. Anything else stays here: docket's
/// own token, cookies, and whatever a server might obey that no policy has seen.
const FORWARDED: [&str; 12] = [
    "accept",
    "accept-language",
    "user-agent",
    "last-event-id",
    "mcp-session-id",
    "mcp-protocol-version",
    "mcp-method",
    "mcp-name",
    "origin",
    "traceparent",
    "tracestate",
    "baggage",
];

/// Headers of this kind mirror single arguments, and are forwarded with them.
const FORWARDED_PREFIX: &str = "mcp-param-";

/// The MCP side of the data plane.
pub struct Proxy {
    /// Where calls are decided and recorded.
    pub gate: Arc<Gate>,
    /// The way to the servers.
    pub upstream: Upstream,
    /// The servers by name.
    pub servers: BTreeMap<String, Arc<Server>>,
    /// Where bodies are received.
    pub reception: Reception,
    /// Who opened which session.
    pub sessions: Sessions,
    /// Turns true when docket is about to stop.
    pub stopping: watch::Receiver<bool>,
}

impl Proxy {
    /// Answers one request to `/mcp/{name}`.
    pub async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        name: &str,
        caller: Arc<Caller>,
        visit: Visit,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let server = self.servers.get(name).cloned();
        let plumbing = match parts.method {
            Method::POST => None,
            Method::GET => Some(Plumbing::Stream),
            Method::DELETE => Some(Plumbing::EndSession),
            _ => return Problem::method_not_allowed("POST, GET, DELETE", &visit),
        };
        if let Some(server) = &server
            && self.sessions.is_foreign(&server.name, &parts.headers, &caller.agent)
        {
            return self.foreign_session(server, &caller, &visit);
        }
        if let (Some(plumbing), Some(server)) = (plumbing, &server) {
            if let Some(blocked) = self.blocked(plumbing, server, &caller, &visit) {
                return blocked;
            }
            return self.pass(plumbing, server, caller, parts, Bytes::new(), &visit).await;
        }
        let body = match self.reception.of_agent(body, &self.gate, &caller, &visit).await {
            Ok(body) => body,
            Err(error) => return self.unreceived(&error, server.as_deref(), &caller, &visit),
        };
        let Some(server) = server else { return self.unknown_server(name, caller, visit, &body).await };
        let message = match unambiguous(&parts.headers) {
            Ok(()) => mcp::read(&body, &parts.headers),
            Err(error) => Err(Fault::Unreadable(error)),
        };
        match message {
            Ok(Message::Plumbing(plumbing)) => {
                if let Some(blocked) = self.blocked(plumbing, &server, &caller, &visit) {
                    return blocked;
                }
                self.pass(plumbing, &server, caller, parts, body, &visit).await
            }
            Ok(Message::Request(request)) => {
                self.detached(Exchange { request: *request, server, caller, visit, parts, body }).await
            }
            Err(Fault::Batch) => {
                let target = target_of(&server, None);
                self.refuse(&Value::Null, Fault::Batch, caller, visit, Some(target)).await
            }
            Err(fault) => {
                let mut refused =
                    visit.refused(Kind::Decision, "request.unreadable", "unreadable", fault.to_string());
                refused.facts = web::facts_of(&body);
                refused.facts.insert("server".into(), server.name.to_string().into());
                self.gate.note_refusal(refused.of(&caller));
                let code = if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() {
                    mcp::INVALID_REQUEST
                } else {
                    mcp::PARSE_ERROR
                };
                web::json_response(
                    StatusCode::BAD_REQUEST,
                    &mcp::error(&Value::Null, code, &fault.to_string(), &visit.request_id),
                )
            }
        }
    }

    /// Runs the call in a task of its own. When the client goes away, the receiver of its answer is dropped and the task
    /// sees that: it lets go of the server and records the outcome.
    async fn detached(self: &Arc<Self>, exchange: Exchange) -> Response<Body> {
        let (mut client, answer) = oneshot::channel();
        let proxy = self.clone();
        let Exchange { request, visit, .. } = &exchange;
        let failed = mcp::error(
            &request.id,
            mcp::INTERNAL_ERROR,
            "docket failed while handling this request",
            &visit.request_id,
        );
        tokio::spawn(async move {
            let asked = exchange.asked();
            let response = proxy.call(exchange, &mut client).await;
            // A client that has gone drops the response, and with it a watched body, which then records the outcome.
            drop(client.send(response.unwrap_or_else(|stopped| stopped.response(&asked))));
        });
        answer.await.unwrap_or_else(|_| web::json_response(StatusCode::INTERNAL_SERVER_ERROR, &failed))
    }

    /// One call on its straight line: decide, record, forward, watch the answer.
    async fn call(
        &self,
        exchange: Exchange,
        client: &mut oneshot::Sender<Response<Body>>,
    ) -> Result<Response<Body>, Box<Stopped>> {
        let Exchange { request, server, caller, visit, parts, body } = exchange;
        let id = request.id.clone();
        let (call, event_type) = request.into_call(&server, &caller, &visit);
        let tool = call.as_ref().ok().filter(|call| call.resource.kind == "tool");
        let target = target_of(&server, tool.map(|call| call.resource.id.as_str()));
        let arrival = arrival(call, event_type, caller.clone(), &visit, Some(target));
        let ruling = self.gate.decide(arrival).await.map_err(Stopped::Unrecorded)?;
        let (permit, pending) = ruling.pass().map_err(|refusal| Stopped::Refused(*refusal))?;
        let mut cut: Cut = Box::pin(self.until_cut(caller.clone(), server.name.clone(), &visit));
        let outgoing =
            outgoing(&server, parts, body, &visit).map_err(|error| Stopped::Failed(error.to_string()))?;
        let forwarded = tokio::select! {
            forwarded = self.upstream.forward(permit, outgoing, server.timeout_ms) => forwarded,
            // Dropping the request under way closes its connection; dropping `pending` records `disconnected`.
            () = client.closed() => return Err(Stopped::Failed("the client disconnected".into()).into()),
            why = &mut cut => {
                pending.finish(Outcome::Error, answer::because(&why));
                return Err(Stopped::Failed(why).into());
            }
        };
        match forwarded {
            Ok(response) => {
                self.sessions.opened(&server.name, response.headers(), &caller.agent);
                incoming(response, pending, cut, &server, &visit, id)
                    .map_err(|error| Stopped::Failed(error).into())
            }
            Err(error) => {
                pending.finish(Outcome::Error, answer::because(&error.to_string()));
                Err(Stopped::Failed(format!("server `{}`: {error}", server.name)).into())
            }
        }
    }

    /// Waits until a call under way is to be cut off, and says why: the agent or the server was blocked, or the token has
    /// ended.
    fn until_cut(
        &self,
        caller: Arc<Caller>,
        server: Arc<str>,
        visit: &Visit,
    ) -> impl Future<Output = String> + Send + 'static + use<> {
        let (blocked, ended) = (self.gate.clone().until_blocked(caller, Some(server)), visit.until_ended());
        async move {
            tokio::select! {
                fault = blocked => format!("cut off: {fault}"),
                () = ended => "cut off: the token is no longer good".into(),
            }
        }
    }

    /// Passes a request that no policy is asked about.
    async fn pass(
        &self,
        plumbing: Plumbing,
        server: &Server,
        caller: Arc<Caller>,
        parts: Parts,
        body: Bytes,
        visit: &Visit,
    ) -> Response<Body> {
        let permit = Permit::plumbing(plumbing);
        let (stopping, ended) = (self.stopping.clone(), visit.until_ended());
        let cut = self.until_cut(caller, server.name.clone(), visit);
        let mut stopped = Box::pin(async move {
            tokio::select! {
                () = web::until_stopped(stopping, std::future::pending()) => {}
                () = ended => {}
                _ = cut, if !passes_blocks(plumbing) => {}
            }
        });
        let result = match outgoing(server, parts, body, visit) {
            Ok(outgoing) => tokio::select! {
                result = self.upstream.forward(permit, outgoing, server.timeout_ms) => result,
                () = &mut stopped => Err(UpstreamError::Broken("docket let go of it".into())),
            },
            Err(error) => Err(UpstreamError::Broken(error.to_string())),
        };
        match result {
            Ok(response) if !relayable(response.status()) => {
                let detail = wandering(server, &response);
                Problem::new(StatusCode::BAD_GATEWAY, ProblemType::UpstreamFailed, detail, visit).response()
            }
            Ok(response) => {
                let (mut parts, body) = response.into_parts();
                strip(&mut parts.headers);
                Response::from_parts(parts, Body::stream(Stoppable::new(body, stopped)))
            }
            Err(error) => {
                let status = match error {
                    UpstreamError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
                    UpstreamError::Unreachable(_) | UpstreamError::Broken(_) => StatusCode::BAD_GATEWAY,
                };
                let detail = format!("server `{}`: {error}", server.name);
                Problem::new(status, ProblemType::UpstreamFailed, detail, visit).response()
            }
        }
    }

    async fn unknown_server(
        &self,
        name: &str,
        caller: Arc<Caller>,
        visit: Visit,
        body: &Bytes,
    ) -> Response<Body> {
        let id = json::parse(body).ok().and_then(|mut body| body.get_mut("id").map(Value::take));
        let name = truncated(name, 64).to_owned();
        self.refuse(&id.unwrap_or_default(), Fault::UnknownServer(name), caller, visit, None).await
    }

    /// Refuses a request whose body could not be had.
    fn unreceived(
        &self,
        error: &Unreceived,
        server: Option<&Server>,
        caller: &Caller,
        visit: &Visit,
    ) -> Response<Body> {
        let Some(mut refused) = error.refused(visit) else { return error.response(&self.gate, visit) };
        refused.facts.insert("server".into(), server.map(|server| server.name.to_string()).into());
        self.gate.note_refusal(refused.of(caller));
        let code = if matches!(error, Unreceived::Blocked(_)) { mcp::DENIED } else { mcp::INVALID_REQUEST };
        let answer = mcp::error(&Value::Null, code, &error.to_string(), &visit.request_id);
        web::json_response(error.status(), &answer)
    }

    /// Refuses a request within a session that another agent opened, as a server refuses one in a session it does not know.
    fn foreign_session(&self, server: &Server, caller: &Caller, visit: &Visit) -> Response<Body> {
        let error = "the session was opened by another agent";
        let mut refused = visit.refused(Kind::Auth, AUTH_FAILED, "foreign_session", error.into());
        refused.facts.insert("server".into(), server.name.to_string().into());
        self.gate.note_refusal(refused.of(caller));
        let answer = mcp::error(&Value::Null, mcp::DENIED, "session not found", &visit.request_id);
        web::json_response(StatusCode::NOT_FOUND, &answer)
    }

    /// Refuses what no policy is asked about where the agent or the server is blocked: a notification can carry anything, and so
    /// can the parameters or the id of a ping. A session may end.
    fn blocked(
        &self,
        plumbing: Plumbing,
        server: &Server,
        caller: &Caller,
        visit: &Visit,
    ) -> Option<Response<Body>> {
        if passes_blocks(plumbing) {
            return None;
        }
        let fault = self.gate.blocked(caller, Some(&server.name))?;
        let mut refused = visit.refused(Kind::Decision, "request.blocked", fault.rule(), fault.to_string());
        refused.facts.insert("server".into(), server.name.to_string().into());
        self.gate.note_refusal(refused.of(caller));
        let answer = mcp::error(&Value::Null, mcp::DENIED, &fault.to_string(), &visit.request_id);
        Some(web::json_response(StatusCode::FORBIDDEN, &answer))
    }

    /// Records and answers a request that is refused before it became a call.
    async fn refuse(
        &self,
        id: &Value,
        fault: Fault,
        caller: Arc<Caller>,
        visit: Visit,
        target: Option<Target>,
    ) -> Response<Body> {
        let event_type = format!("request.{}", fault.rule());
        match self
            .gate
            .decide(arrival(Err(fault), event_type, caller, &visit, target))
            .await
            .map(Ruling::pass)
        {
            Ok(Err(refusal)) => {
                let (status, answer) = mcp::refusal(id, "", Era::Sessions, &refusal);
                web::json_response(status, &answer)
            }
            // A fault never passes: there is no call that could go on.
            Ok(Ok(_)) => Problem::not_found("there is nothing to forward".into(), &visit).response(),
            Err(error) => Problem::unrecorded(&error, &visit).response(),
        }
    }
}

/// One request on its way to a server.
struct Exchange {
    request: mcp::Request,
    server: Arc<Server>,
    caller: Arc<Caller>,
    visit: Visit,
    parts: Parts,
    body: Bytes,
}

/// As much of a request as an answer to it needs.
struct Asked {
    id: Value,
    method: String,
    era: Era,
    request_id: RequestId,
}

impl Exchange {
    fn asked(&self) -> Asked {
        let mcp::Request { id, method, era, .. } = &self.request;
        Asked { id: id.clone(), method: method.clone(), era: *era, request_id: self.visit.request_id.clone() }
    }
}

/// Why a request got no answer from its server.
enum Stopped {
    /// It was refused, and that is recorded.
    Refused(Refusal),
    /// Its decision could not be recorded.
    Unrecorded(LedgerError),
    /// It was permitted, and the server failed it; the outcome is recorded.
    Failed(String),
}

impl Stopped {
    /// The answer that says so. A server's failure is a JSON-RPC error under HTTP 200, which says that docket answered:
    /// every SDK hands such an error to its caller.
    fn response(&self, asked: &Asked) -> Response<Body> {
        let failed = |text: &str| mcp::error(&asked.id, mcp::INTERNAL_ERROR, text, &asked.request_id);
        match self {
            Self::Refused(refusal) => {
                let (status, answer) = mcp::refusal(&asked.id, &asked.method, asked.era, refusal);
                web::json_response(status, &answer)
            }
            Self::Failed(error) => web::json_response(StatusCode::OK, &failed(error)),
            Self::Unrecorded(error) => {
                let text = format!("{error}; no call goes on without a record");
                let mut response = web::json_response(StatusCode::SERVICE_UNAVAILABLE, &failed(&text));
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
        }
    }
}

fn arrival(
    request: Result<Call, Fault>,
    event_type: String,
    caller: Arc<Caller>,
    visit: &Visit,
    target: Option<Target>,
) -> Arrival {
    Arrival {
        request,
        event_type: event_type.into(),
        request_id: visit.request_id.clone(),
        moment: visit.moment.clone(),
        started: visit.started,
        caller,
        peer: visit.peer,
        user_agent: visit.user_agent.clone(),
        target,
    }
}

fn target_of(server: &Server, tool: Option<&str>) -> Target {
    Target {
        server: server.name.clone(),
        mode: server.mode,
        classification: tool.and_then(|tool| server.classifications.get(tool)).cloned(),
    }
}

/// Whether this goes on whoever is blocked: only what ends a session.
fn passes_blocks(plumbing: Plumbing) -> bool {
    plumbing == Plumbing::EndSession
}

/// Refuses a body that a server could decode to something else than docket reads: JSON is UTF-8 (RFC 8259 §8.1), but
/// servers exist that obey a `charset`.
fn unambiguous(headers: &HeaderMap) -> Result<(), String> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (first, second) = (types.next().and_then(|value| value.to_str().ok()), types.next());
    let content_type = first.unwrap_or_default().to_ascii_lowercase();
    let mut parameters = content_type.split(';').map(str::trim);
    let media_type = parameters.next().unwrap_or_default();
    let utf8 = parameters.all(|parameter| matches!(parameter, "" | "charset=utf-8" | "charset=\"utf-8\""));
    if second.is_some() || media_type != "application/json" || !utf8 {
        return Err("the body must be sent once as `content-type: application/json`, in UTF-8".into());
    }
    match headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(()),
        Some(_) => Err("a compressed body is not accepted; send it without `content-encoding`".into()),
    }
}

/// The request as the server gets it: the caller's bytes, and those of its headers that are meant for a server.
fn outgoing(server: &Server, parts: Parts, body: Bytes, visit: &Visit) -> http::Result<Request<Full<Bytes>>> {
    let Parts { method, headers: mut given, .. } = parts;
    strip(&mut given);
    let mut headers = HeaderMap::with_capacity(given.len() + server.headers.len());
    for (name, value) in &given {
        if FORWARDED.contains(&name.as_str())
            || name.as_str().starts_with(FORWARDED_PREFIX)
            || server.forward_headers.contains(name)
        {
            headers.append(name, value.clone());
        }
    }
    if !body.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Ok(id) = HeaderValue::from_str(visit.request_id.as_str()) {
        headers.insert(web::X_REQUEST_ID, id);
    }
    for (name, value) in &server.headers {
        headers.insert(name, value.clone());
    }
    let mut request = Request::builder().method(method).uri(server.url.clone()).body(Full::new(body))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The answer as the client gets it: the server's bytes and headers as they come, the body watched for its outcome.
fn incoming(
    response: Response<Incoming>,
    pending: Pending,
    cut: Cut,
    server: &Server,
    visit: &Visit,
    id: Value,
) -> Result<Response<Body>, String> {
    let wandering = (!relayable(response.status())).then(|| wandering(server, &response));
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers);
    let content_type =
        parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let stream = media_type == "text/event-stream";
    let nonsense = (parts.status.is_success() && !stream && media_type != "application/json")
        .then(|| format!("server `{}` answered with `{media_type}`, which is not MCP", server.name));
    if let Some(error) = wandering.or(nonsense) {
        let mut detail = answer::because(&error);
        detail.insert("status".into(), parts.status.as_u16().into());
        pending.finish(Outcome::Error, detail);
        return Err(error);
    }
    let encoding = parts.headers.get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
    let judge = Judge::new(parts.status, stream, !matches!(encoding, None | Some(b"identity")), id);
    let body = Body::stream(Watched::new(body, judge, pending, cut, server.timeout_ms));
    Ok(web::with_request_id(Response::from_parts(parts, body), &visit.request_id))
}

/// Whether an answer may be passed on. A client that followed a redirect would go past docket from then on, and a
/// connection that changed its protocol could not be looked into.
fn relayable(status: StatusCode) -> bool {
    status.is_success() || status.is_client_error() || status.is_server_error()
}

fn wandering(server: &Server, response: &Response<Incoming>) -> String {
    let location =
        response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("nowhere");
    let (name, status) = (&server.name, response.status());
    format!(
        "server `{name}` answered {status} to `{location}`; set `servers.{name}.url` to where it really is"
    )
}

/// Prefix of the headers by which a server lets pages of other origins read its answers. Which may is docket's to say.
const CORS_PREFIX: &str = "access-control-";

/// Removes what is not for the other side: hop-by-hop headers, those that `Connection` names included, and CORS.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let cors = headers.keys().filter(|name| name.as_str().starts_with(CORS_PREFIX)).cloned();
    let cors: Vec<HeaderName> = cors.collect();
    for name in HOP_BY_HOP.iter().chain(&named).chain(&cors) {
        headers.remove(name);
    }
}
