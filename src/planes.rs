//! The two planes: which path leads to which face, and who may take it.
//!
//! The *data plane* is the agents': the proxy and the decision API. The *admin plane* is people's: the audit API, explanations,
//! simulation and the metrics. They have listeners of their own, so that an agent can never reach the ledger.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::watch;

use crate::access::routes::{self, May};
use crate::access::{Blocking, Guest, Tokens};
use crate::api::audit::bad_parameter;
use crate::api::contract::{self, Side};
use crate::api::export::{self, Exports};
use crate::api::query::decode_path;
use crate::api::replay::Question;
use crate::api::{
    audit, authzen, blocks, cerbos, explain, health, keeping, policies, proof, recorded_tests, replay,
    simulate, stats, stream, summary, tiles, tokens,
};
use crate::config::Plane;
use crate::gate::Gate;
use crate::ledger::filter::parameters::MAX_QUOTED_BYTES;
use crate::ledger::{AUTH_FAILED, Entry, Keeper, Kind, Reader};
use crate::principal::Principal;
use crate::proxy::Proxy;
use crate::publish::{HookPublisher, Publisher};
use crate::replay::Replayer;
use crate::text::truncated;
use crate::web::{self, Body, Face, Places, Problem, ProblemType, Reception, Turns, Visit, cors};

/// The agents' side.
pub struct DataPlane {
    /// The MCP proxy, with the gate behind it.
    pub proxy: Arc<Proxy>,
    /// Who may call.
    pub tokens: Arc<Tokens>,
    /// Where it listens and what it answers to.
    pub plane: Plane,
    /// What puts policies in force.
    pub publisher: Arc<Publisher>,
    /// What puts redaction hooks in force.
    pub hooks: Arc<HookPublisher>,
    /// Requests under way.
    pub requests: Arc<Places>,
    /// Turns true when docket is about to stop.
    pub stopping: watch::Receiver<bool>,
}

/// Requests of an agent under way while it is blocked: enough to be told, and too few to be in anybody's way.
const MAX_BLOCKED_REQUESTS: usize = 8;

/// What machines ask for every second, and what says nothing about anybody: neither reads nor logins, or the log would grow by
/// being watched.
const UNWATCHED: [&str; 5] =
    ["/metrics", "/v1/checkpoint", "/v1/ledger/key", "/v1/proof/inclusion", "/v1/proof/consistency"];

fn is_unwatched(path: &str) -> bool {
    UNWATCHED.contains(&path) || tiles::is_of_hashes(path)
}

/// The people's side.
pub struct AdminPlane {
    /// The gate, for the ledger and the metrics.
    pub gate: Arc<Gate>,
    /// Reads the ledger.
    pub reader: Reader,
    /// Likewise, for questions that may take only so long.
    pub queries: Reader,
    /// Exports under way.
    pub exports: Exports,
    /// Requests under way.
    pub requests: Arc<Places>,
    /// Bytes of answers that wait to be read.
    pub answers: Arc<Places>,
    /// Where questions to the ledger are worked on.
    pub turns: Arc<Turns>,
    /// Prunes, erases and holds.
    pub keeper: Keeper,
    /// Stops calls whatever policies say.
    pub blocking: Arc<Blocking>,
    /// Evaluates recorded and imagined calls.
    pub replayer: Arc<Replayer>,
    /// Where bodies are received.
    pub reception: Reception,
    /// Who may look.
    pub tokens: Arc<Tokens>,
    /// Where it listens and what it answers to.
    pub plane: Plane,
    /// What puts policies in force.
    pub publisher: Arc<Publisher>,
    /// What puts redaction hooks in force.
    pub hooks: Arc<HookPublisher>,
    /// Turns true when docket is about to stop.
    pub stopping: watch::Receiver<bool>,
}

impl Face for DataPlane {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let gate = &self.proxy.gate;
        let visit = Visit::new(gate, request.headers(), peer);
        let (request_id, origin) = (visit.request_id.clone(), cors::origin(&self.plane, request.headers()));
        let state = State { gate, publisher: &self.publisher, hooks: &self.hooks, stopping: &self.stopping };
        let response = match state.public(Side::Data, &request, &visit) {
            Some(response) => response,
            None => self.guarded(request, visit).await,
        };
        web::with_request_id(cors::readable(response, origin), &request_id)
    }

    fn unreadable(self: Arc<Self>, peer: SocketAddr, error: String) {
        note_unreadable(&self.proxy.gate, peer, error);
    }

    fn crowded_out(&self) {
        self.proxy.gate.metrics.refused.with_label_values(&["crowded_out"]).inc();
    }
}

impl DataPlane {
    async fn guarded(&self, request: Request<Incoming>, mut visit: Visit) -> Response<Body> {
        let gate = &self.proxy.gate;
        if let Err(error) = web::guard(&self.plane, "data", request.headers()) {
            return forbidden(gate, &visit, error);
        }
        if let Some(preflight) = cors::preflight(&self.plane, request.method(), request.headers()) {
            return preflight;
        }
        match self.tokens.identify(request.headers()) {
            Ok((caller, ended)) => {
                visit.ended = ended;
                self.placed(request, caller, visit).await
            }
            Err(rejection) => *web::unauthorized(gate, &visit, rejection),
        }
    }

    /// Answers in a place of the agent's.
    async fn placed(
        &self,
        request: Request<Incoming>,
        caller: Arc<crate::call::Caller>,
        visit: Visit,
    ) -> Response<Body> {
        let agent = &caller.agent;
        let place = match self.proxy.gate.blocked(&caller, None) {
            Some(_) => self.requests.take_for_blocked(agent, MAX_BLOCKED_REQUESTS),
            None => self.requests.take_for(agent, 1),
        };
        match place {
            Ok(place) => {
                let mut response = self.route(request, caller, visit).await;
                response.body_mut().hold(place);
                response
            }
            Err(full) => web::too_many(&self.proxy.gate, &visit, &full),
        }
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        caller: Arc<crate::call::Caller>,
        visit: Visit,
    ) -> Response<Body> {
        let path = request.uri().path().to_owned();
        if let Some(server) = path.strip_prefix("/mcp/").map(|name| name.trim_end_matches('/')) {
            return self.proxy.answer(request, server, caller, visit).await;
        }
        match (request.method(), path.as_str()) {
            (&Method::POST, "/access/v1/evaluation" | "/access/v1/evaluations") => {
                let gate = &self.proxy.gate;
                match self.proxy.reception.of_agent(request.into_body(), gate, &caller, &visit).await {
                    Ok(body) if path.ends_with('s') => authzen::evaluations(gate, &body, caller, visit).await,
                    Ok(body) => authzen::evaluation(gate, &body, caller, visit).await,
                    Err(error) => {
                        if let Some(refused) = error.refused(&visit) {
                            gate.note_refusal(refused.of(&caller));
                        }
                        error.response(gate, &visit)
                    }
                }
            }
            (&Method::GET, "/.well-known/authzen-configuration") => {
                let host =
                    request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
                authzen::configuration(host)
            }
            (_, "/access/v1/evaluation" | "/access/v1/evaluations") => {
                Problem::method_not_allowed("POST", &visit)
            }
            (_, "/.well-known/authzen-configuration") => Problem::method_not_allowed("GET", &visit),
            _ => Problem::not_found(
                format!("there is nothing at `{path}`; agents use `/mcp/SERVER` and `/access/v1/evaluation`"),
                &visit,
            )
            .response(),
        }
    }
}

impl Face for AdminPlane {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let visit = Visit::new(&self.gate, request.headers(), peer);
        let (request_id, origin) = (visit.request_id.clone(), cors::origin(&self.plane, request.headers()));
        let state = State {
            gate: &self.gate,
            publisher: &self.publisher,
            hooks: &self.hooks,
            stopping: &self.stopping,
        };
        let response = match state.public(Side::Admin, &request, &visit) {
            Some(response) => response,
            None => self.guarded(request, visit).await,
        };
        web::with_request_id(cors::readable(response, origin), &request_id)
    }

    fn unreadable(self: Arc<Self>, peer: SocketAddr, error: String) {
        note_unreadable(&self.gate, peer, error);
    }

    fn crowded_out(&self) {
        self.gate.metrics.refused.with_label_values(&["crowded_out"]).inc();
    }
}

impl AdminPlane {
    async fn guarded(&self, request: Request<Incoming>, mut visit: Visit) -> Response<Body> {
        if let Err(error) = web::guard(&self.plane, "admin", request.headers()) {
            return forbidden(&self.gate, &visit, error);
        }
        if let Some(preflight) = cors::preflight(&self.plane, request.method(), request.headers()) {
            return preflight;
        }
        match self.tokens.admit(request.headers()) {
            Ok(Guest { principal, ended }) => {
                (visit.principal, visit.ended) = (principal, Some(ended));
                (visit.turns, visit.looks) = (Some(self.turns.clone()), Some(Arc::default()));
                self.placed(request, &visit).await
            }
            Err(rejection) => {
                let mut response = *web::unauthorized(&self.gate, &visit, rejection);
                if request.uri().path().starts_with(cerbos::PATH) {
                    // Cerbos' clients know nothing else. Elsewhere a browser would ask its user, and remember the token.
                    let basic = HeaderValue::from_static("Basic realm=\"docket\"");
                    response.headers_mut().append(WWW_AUTHENTICATE, basic);
                }
                response
            }
        }
    }

    /// Answers in a place of the principal's, which is taken until the answer was read, as is the memory that it has.
    async fn placed(&self, request: Request<Incoming>, visit: &Visit) -> Response<Body> {
        let place = match self.requests.take(&visit.principal, 1) {
            Ok(place) => place,
            Err(full) => return web::too_many(&self.gate, visit, &full),
        };
        let looking = audit::Looking { gate: &self.gate, visit };
        let mut response = self.route(request, visit).await;
        let bytes = response.body().waiting_bytes();
        if bytes > web::PIECE_BYTES {
            match self.answers.take(&visit.principal, bytes) {
                Ok(memory) => response.body_mut().hold(memory),
                Err(full) => response = web::too_many(&self.gate, visit, &full),
            }
        }
        response.body_mut().hold(place);
        looking.ended(response.status()).await;
        response
    }

    async fn route(&self, request: Request<Incoming>, visit: &Visit) -> Response<Body> {
        // Decoded once, so that who may ask and what is answered are decided on the same text.
        let Some(path) = decode_path(request.uri().path()) else {
            return nowhere(request.uri().path(), visit);
        };
        match routes::may(&visit.principal, request.method(), &path) {
            May::Go => {}
            May::NotThey => return not_permitted(&self.gate, &path, visit),
            May::NotSo(methods) => return Problem::method_not_allowed(methods, visit),
            May::Nowhere => return nowhere(&path, visit),
        }
        let query = request.uri().query().unwrap_or_default();
        let takes_query = request.method() == Method::GET && routes::takes_query(&path);
        if !query.is_empty() && !takes_query {
            let shown = truncated(query, MAX_QUOTED_BYTES);
            return bad_parameter(format!("`{path}` takes no parameters, and was given `{shown}`"), visit);
        }
        if !is_unwatched(&path) && self.tokens.is_login(&visit.principal) {
            self.note_login(visit);
        }
        if request.method() == Method::POST {
            return match self.reception.of_principal(request.into_body(), visit).await {
                Ok(body) => self.post(&path, &body, visit).await,
                Err(error) => error.response(&self.gate, visit),
            };
        }
        let (path, query) = (path.as_str(), request.uri().query().unwrap_or_default());
        if let Some(request_id) = path.strip_prefix("/v1/explain/").filter(|id| !id.is_empty()) {
            return explain::answer(&self.replayer, request_id, query, visit).await;
        }
        if let Some(id) = path.strip_prefix("/v1/entries/").and_then(|rest| rest.strip_suffix("/proof")) {
            return proof::entry(&self.gate, &self.reader, id, visit).await;
        }
        if let Some(tile) = path.strip_prefix(tiles::PREFIX).filter(|rest| *rest != "checkpoint") {
            return tiles::answer(&self.reader, tile, request.headers(), visit).await;
        }
        if let Some(digest) = path.strip_prefix("/v1/policies/files/") {
            return policies::file(&self.reader, digest, request.headers(), visit).await;
        }
        match path {
            "/v1/checkpoint" | "/v1/tlog/checkpoint" => {
                proof::checkpoint(&self.gate, &self.reader, visit).await
            }
            "/v1/policies" => policies::list(&self.gate, request.headers()),
            "/v1/ledger/key" => proof::key(&self.gate),
            "/v1/ledger/holds" => keeping::holds(&self.keeper, visit).await,
            "/v1/tokens" => tokens::list(&self.tokens, visit),
            "/v1/blocks" => blocks::list(&self.blocking, visit),
            "/v1/ledger/stats" => stats::answer(&self.gate, &self.reader, visit).await,
            "/v1/proof/inclusion" => proof::inclusion(&self.gate, &self.reader, query, visit).await,
            "/v1/proof/consistency" => proof::consistency(&self.gate, &self.reader, query, visit).await,
            "/metrics" => {
                let mut response = web::text_response(
                    StatusCode::OK,
                    self.gate.metrics.render(self.gate.ledger.queue_length()),
                );
                let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(http::header::CONTENT_TYPE, format);
                response
            }
            "/v1/audit" => audit::list(&self.gate, &self.queries, query, visit).await,
            "/v1/audit/export" => export::answer(&self.exports, &self.gate, query, visit).await,
            "/v1/audit/stats" => summary::answer(&self.gate, &self.queries, query, visit).await,
            "/v1/audit/stream" => {
                let last =
                    request.headers().get("last-event-id").map(|id| String::from_utf8_lossy(id.as_bytes()));
                let stopping = self.stopping.clone();
                stream::stream(&self.gate, &self.exports.reader, query, last.as_deref(), stopping, visit)
            }
            _ => self.audited(path, query, visit).await,
        }
    }

    /// Records that somebody looks for the first time today. Nobody waits for it.
    fn note_login(&self, visit: &Visit) {
        let metadata = json!({
            "principal": visit.principal.name, "role": visit.principal.role, "peer": visit.peer.to_string(),
            "user_agent": visit.user_agent,
        });
        let content = self.gate.redactor.record(vec![("metadata", metadata)]);
        let entry = Entry::event(Kind::Auth, "auth.login", visit.moment.time_ns / 1_000_000, content);
        self.gate.ledger.note(Entry { request_id: Some(visit.request_id.clone()), ..entry });
    }

    /// Answers what has a name in its path below `/v1/audit`, or is nowhere.
    async fn audited(&self, path: &str, query: &str, visit: &Visit) -> Response<Body> {
        if let Some(kind) = path.strip_prefix(cerbos::PATH) {
            return cerbos::answer(&self.exports, &self.gate, &self.queries, kind, query, visit).await;
        }
        match path.strip_prefix("/v1/audit/").filter(|rest| !rest.is_empty() && !rest.contains('/')) {
            Some(name) => match audit::picker(name) {
                Some(columns) => {
                    audit::values(&self.gate, &self.queries, (path, columns), query, visit).await
                }
                None => audit::one(&self.queries, name, visit).await,
            },
            None => nowhere(path, visit),
        }
    }

    /// Answers what is asked with a body, or changes something.
    async fn post(&self, path: &str, body: &Bytes, visit: &Visit) -> Response<Body> {
        let (gate, replayer) = (&self.gate, &self.replayer);
        if let Some(asked) = keeping::Asked::of(path) {
            return keeping::answer(&self.keeper, asked, body, visit).await;
        }
        if let Some(asked) = blocks::Asked::of(path) {
            return blocks::answer(gate, &self.blocking, asked, body, visit).await;
        }
        if let Some(asked) = tokens::Asked::of(path) {
            return tokens::answer(gate, &self.tokens, asked, body, visit).await;
        }
        match path {
            "/v1/policies/reload" => policies::reload(&self.publisher, visit).await,
            "/v1/tests" => recorded_tests::answer(gate, replayer, body, visit).await,
            "/v1/replay" => replay::answer(Question::Flips, gate, replayer, body, visit).await,
            "/v1/cover" => replay::answer(Question::Rules, gate, replayer, body, visit).await,
            "/v1/simulate" => simulate::answer(gate, replayer, body, visit).await,
            _ => nowhere(path, visit),
        }
    }
}

/// Says what there is.
fn nowhere(path: &str, visit: &Visit) -> Response<Body> {
    let detail = format!(
        "there is nothing at `{path}`; see `/v1/audit`, `/v1/explain/REQUEST_ID`, `/v1/simulate`, `/v1/tests` and `/metrics`"
    );
    Problem::not_found(detail, visit).response()
}

/// Refuses what is for others.
fn not_permitted(gate: &Arc<Gate>, path: &str, visit: &Visit) -> Response<Body> {
    let Principal { name, role, .. } = &*visit.principal;
    let mut refused = visit.refused(Kind::Auth, AUTH_FAILED, "not_permitted", format!("`{path}`"));
    refused.facts.insert("principal".into(), name.clone().into());
    gate.note_refusal(refused);
    let detail = format!("`{path}` is not for a token of role `{}` and its zones", role.as_str());
    Problem::new(StatusCode::FORBIDDEN, ProblemType::NotPermitted, detail, visit).response()
}

/// What says how docket is.
struct State<'a> {
    gate: &'a Gate,
    publisher: &'a Publisher,
    hooks: &'a HookPublisher,
    stopping: &'a watch::Receiver<bool>,
}

impl State<'_> {
    /// Answers what everybody may ask on either plane; `None` where it is something else.
    fn public(&self, side: Side, request: &Request<Incoming>, visit: &Visit) -> Option<Response<Body>> {
        let response = match request.uri().path() {
            "/healthz" => health::alive(),
            "/readyz" => health::ready(self.gate, self.publisher, self.hooks, self.stopping),
            path => contract::answer(side, path, request.headers())?,
        };
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        Some(if is_read { response } else { Problem::method_not_allowed("GET, HEAD", visit) })
    }
}

fn forbidden(gate: &Arc<Gate>, visit: &Visit, error: String) -> Response<Body> {
    gate.note_refusal(visit.refused(Kind::Auth, AUTH_FAILED, "foreign_host_or_origin", error.clone()));
    Problem::new(StatusCode::FORBIDDEN, ProblemType::ForeignHost, error, visit).response()
}

fn note_unreadable(gate: &Arc<Gate>, peer: SocketAddr, error: String) {
    let visit = Visit::new(gate, &HeaderMap::new(), peer);
    gate.note_refusal(visit.refused(Kind::Decision, "request.unreadable", "not_http", error));
}
