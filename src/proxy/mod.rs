//! The proxy: MCP over Streamable HTTP at `/mcp/{server}`.
//!
//! Every request is decided and recorded by the gate before it goes on; what goes on are the caller's original bytes, and
//! answers come back as they arrive. The work is detached from the connection, so a client that hangs up cannot lose
//! an outcome; its hanging up is mirrored to the server by dropping the request under way.

mod answer;
mod mcp;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    RETRY_AFTER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::{oneshot, watch};

use crate::call::{Caller, Fault};
use crate::config::{Limits, Server};
use crate::decision::Outcome;
use crate::gate::{Arrival, Gate, Pending, Target};
use crate::json::Object;
use crate::ledger::{Kind, LedgerError, Permit, Plumbing};
use crate::upstream::{Upstream, UpstreamError};
use crate::web::{self, Body, Problem, Stoppable, Visit};
use answer::{Judge, Watched};
use mcp::{Era, Message};

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

/// Headers that are docket's own business: its token must not reach a server, its outcome needs a readable answer.
const NOT_FORWARDED: [HeaderName; 4] = [HOST, AUTHORIZATION, CONTENT_LENGTH, ACCEPT_ENCODING];

/// The MCP side of the data plane.
pub struct Proxy {
    /// Where calls are decided and recorded.
    pub gate: Arc<Gate>,
    /// The way to the servers.
    pub upstream: Upstream,
    /// The servers by name.
    pub servers: BTreeMap<String, Arc<Server>>,
    /// Bounds on what strangers may send.
    pub limits: Limits,
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
            _ => {
                let detail = format!("{} is not a method of MCP; send POST, GET or DELETE", parts.method);
                return Problem::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "method-not-allowed",
                    "Method not allowed",
                    detail,
                    &visit,
                )
                .response();
            }
        };
        if let (Some(plumbing), Some(server)) = (plumbing, &server) {
            return self.pass(Permit::plumbing(plumbing), server, parts, Bytes::new(), &visit).await;
        }
        let body = match web::receive(body, &self.limits).await {
            Ok(body) => body,
            Err(error) => {
                let mut refused =
                    visit.refused(Kind::Decision, "request.unreadable", "unreadable", error.to_string());
                refused.facts.insert("server".into(), name.into());
                self.gate.note_refusal(refused);
                let answer = mcp::error(&Value::Null, mcp::INVALID_REQUEST, &error.to_string(), &visit);
                return web::json_response(error.status(), &answer);
            }
        };
        let Some(server) = server else { return self.unknown_server(name, caller, visit, &body).await };
        match mcp::read(&body, &parts.headers) {
            Ok(Message::Plumbing(plumbing)) => {
                self.pass(Permit::plumbing(plumbing), &server, parts, body, &visit).await
            }
            Ok(Message::Request(request)) => {
                self.detached(*request, server, caller, visit, parts, body).await
            }
            Err(Fault::Batch) => {
                let target = target_of(&server, None);
                self.refuse(&Value::Null, Fault::Batch, caller, visit, Some(target)).await
            }
            Err(fault) => {
                let mut refused =
                    visit.refused(Kind::Decision, "request.unreadable", "unreadable", fault.to_string());
                refused.facts = web::facts_of(&body);
                refused.facts.insert("server".into(), name.into());
                refused.facts.insert("agent".into(), caller.agent.clone().into());
                self.gate.note_refusal(refused);
                let code = if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() {
                    mcp::INVALID_REQUEST
                } else {
                    mcp::PARSE_ERROR
                };
                web::json_response(
                    StatusCode::BAD_REQUEST,
                    &mcp::error(&Value::Null, code, &fault.to_string(), &visit),
                )
            }
        }
    }

    /// Runs the call in a task of its own. When the client goes away, the receiver of its answer is dropped and the task
    /// sees that: it lets go of the server and records the outcome.
    async fn detached(
        self: &Arc<Self>,
        request: mcp::Request,
        server: Arc<Server>,
        caller: Arc<Caller>,
        visit: Visit,
        parts: Parts,
        body: Bytes,
    ) -> Response<Body> {
        let (mut client, answer) = oneshot::channel();
        let proxy = self.clone();
        let failed =
            mcp::error(&request.id, mcp::INTERNAL_ERROR, "docket failed while handling this request", &visit);
        tokio::spawn(async move {
            let (id, method, era) = (request.id.clone(), request.method.clone(), request.era);
            let response = proxy.call(request, &server, &caller, &visit, parts, body, &mut client).await;
            let response = response.unwrap_or_else(|refused| {
                let (status, answer) = match *refused {
                    Stopped::Refused(refusal) => mcp::refusal(&id, &method, era, &refusal),
                    Stopped::Unrecorded(error) => {
                        let text = format!("{error}; no call goes on without a record");
                        (StatusCode::SERVICE_UNAVAILABLE, mcp::error(&id, mcp::INTERNAL_ERROR, &text, &visit))
                    }
                    // The status says that docket answered: every SDK hands a JSON-RPC error to its caller then.
                    Stopped::Failed(error) => {
                        (StatusCode::OK, mcp::error(&id, mcp::INTERNAL_ERROR, &error, &visit))
                    }
                };
                let mut response = web::json_response(status, &answer);
                if status == StatusCode::SERVICE_UNAVAILABLE {
                    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                }
                response
            });
            // A client that has gone drops the response, and with it a watched body, which then records the outcome.
            drop(client.send(response));
        });
        answer.await.unwrap_or_else(|_| web::json_response(StatusCode::INTERNAL_SERVER_ERROR, &failed))
    }

    /// One call on its straight line: decide, record, forward, watch the answer.
    #[expect(clippy::too_many_arguments, reason = "the parts of one request, used once")]
    async fn call(
        &self,
        request: mcp::Request,
        server: &Server,
        caller: &Arc<Caller>,
        visit: &Visit,
        parts: Parts,
        body: Bytes,
        client: &mut oneshot::Sender<Response<Body>>,
    ) -> Result<Response<Body>, Box<Stopped>> {
        let (call, event_type) = request.into_call(server, caller, visit);
        let tool = call
            .as_ref()
            .ok()
            .filter(|call| call.resource.kind == "tool")
            .map(|call| call.resource.id.as_str());
        let target = target_of(server, tool);
        let arrival = arrival(call, event_type, caller.clone(), visit, Some(target));
        let ruling = self.gate.decide(arrival).await.map_err(Stopped::Unrecorded)?;
        let (permit, pending) = ruling.pass().map_err(|refusal| Stopped::Refused(*refusal))?;
        let outgoing =
            outgoing(server, parts, body, visit).map_err(|error| Stopped::Failed(error.to_string()))?;
        let forwarded = tokio::select! {
            forwarded = self.upstream.forward(permit, outgoing, server.timeout_ms) => forwarded,
            // Dropping the request under way closes its connection; dropping `pending` records `disconnected`.
            () = client.closed() => return Err(Stopped::Failed("the client disconnected".into()).into()),
        };
        match forwarded {
            Ok(response) => {
                incoming(response, pending, server, visit).map_err(|error| Stopped::Failed(error).into())
            }
            Err(error) => {
                let mut detail = Object::new();
                detail.insert("error".into(), error.to_string().into());
                pending.finish(Outcome::Error, detail);
                Err(Stopped::Failed(format!("server `{}`: {error}", server.name)).into())
            }
        }
    }

    /// Passes a request that no policy is asked about.
    async fn pass(
        &self,
        permit: Permit,
        server: &Server,
        parts: Parts,
        body: Bytes,
        visit: &Visit,
    ) -> Response<Body> {
        let result = match outgoing(server, parts, body, visit) {
            Ok(outgoing) => self.upstream.forward(permit, outgoing, server.timeout_ms).await,
            Err(error) => Err(UpstreamError::Broken(error.to_string())),
        };
        match result {
            Ok(response) => {
                let (mut parts, body) = response.into_parts();
                strip(&mut parts.headers);
                Response::from_parts(
                    parts,
                    Body::Stream(Box::pin(Stoppable::new(body, self.stopping.clone()))),
                )
            }
            Err(error) => {
                let status = match error {
                    UpstreamError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
                    UpstreamError::Unreachable(_) | UpstreamError::Broken(_) => StatusCode::BAD_GATEWAY,
                };
                let detail = format!("server `{}`: {error}", server.name);
                Problem::new(status, "upstream-failed", "The server did not answer", detail, visit).response()
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
        let id = serde_json::from_slice::<Value>(body)
            .ok()
            .and_then(|mut body| body.get_mut("id").map(Value::take));
        let name = name.get(..name.floor_char_boundary(64)).unwrap_or_default().to_owned();
        self.refuse(&id.unwrap_or_default(), Fault::UnknownServer(name), caller, visit, None).await
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
            .map(crate::gate::Ruling::pass)
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

/// Why a request got no answer from its server.
enum Stopped {
    /// It was refused, and that is recorded.
    Refused(crate::gate::Refusal),
    /// Its decision could not be recorded.
    Unrecorded(LedgerError),
    /// It was permitted, and the server failed it; the outcome is recorded.
    Failed(String),
}

fn arrival(
    request: Result<crate::call::Call, Fault>,
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

/// The request as the server gets it: the caller's bytes and headers, less what concerns docket only.
fn outgoing(server: &Server, parts: Parts, body: Bytes, visit: &Visit) -> http::Result<Request<Full<Bytes>>> {
    let mut headers = parts.headers;
    strip(&mut headers);
    for name in NOT_FORWARDED {
        headers.remove(name);
    }
    if let Ok(id) = HeaderValue::from_str(visit.request_id.as_str()) {
        headers.insert(web::X_REQUEST_ID, id);
    }
    for (name, value) in &server.headers {
        headers.insert(name, value.clone());
    }
    let mut request =
        Request::builder().method(parts.method).uri(server.url.clone()).body(Full::new(body))?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The answer as the client gets it: the server's bytes and headers as they come, the body watched for its outcome.
fn incoming(
    response: Response<Incoming>,
    pending: Pending,
    server: &Server,
    visit: &Visit,
) -> Result<Response<Body>, String> {
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers);
    let content_type =
        parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let stream = media_type == "text/event-stream";
    if parts.status.is_success() && !stream && media_type != "application/json" {
        let error = format!("server `{}` answered with `{media_type}`, which is not MCP", server.name);
        let mut detail = Object::new();
        detail.insert("status".into(), parts.status.as_u16().into());
        detail.insert("error".into(), error.clone().into());
        pending.finish(Outcome::Error, detail);
        return Err(error);
    }
    let judge = Judge::new(parts.status, stream);
    let body = Body::Stream(Box::pin(Watched::new(body, judge, pending, server.timeout_ms)));
    Ok(web::with_request_id(Response::from_parts(parts, body), &visit.request_id))
}

/// Removes hop-by-hop headers, those that `Connection` names included.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}
