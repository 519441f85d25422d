//! What both planes share: listening, bounds on strangers, guards, bodies and problem documents.
//!
//! It knows HTTP and the bounds of the configuration, and nothing of what a request is about.

pub mod apart;
pub mod cached;
pub mod cors;
mod crowd;
mod places;
mod problem;
mod receive;
mod server;
pub mod turns;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN, USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};

use crate::call::{Moment, RequestId};
use crate::config::Plane;
use crate::gate::{Gate, Refused};
use crate::json::Object;
use crate::ledger::{AUTH_FAILED, Kind};
use crate::principal::{DEFAULT_ZONE, Principal};

use crate::identity::Rejection;

pub use places::{Full, Place, Places};
pub use problem::{PROBLEM_JSON, PROBLEMS_PATH, Problem, ProblemType};
pub use receive::{Reception, Unreceived};
pub use server::{Face, serve};
pub use turns::Turns;

/// As much of a `User-Agent` as is recorded, in bytes.
const MAX_USER_AGENT_BYTES: usize = 256;

/// Carries the request id both ways.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An error of a body under way.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A whole body is handed to its connection in pieces of this size, so that it counts as held until its peer has read it.
pub const PIECE_BYTES: usize = 64 * 1024;

/// A response body: whole, or a stream.
pub struct Body {
    content: Content,
    /// What is given back when the body was sent, or nobody wants it any more.
    held: Vec<Box<dyn Send>>,
}

enum Content {
    /// Known from the start.
    Whole(Bytes),
    /// As it comes.
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>>),
}

impl Body {
    /// A body without content.
    #[must_use]
    pub fn empty() -> Self {
        Self::whole(Bytes::new())
    }

    /// A body that is known from the start.
    #[must_use]
    pub fn whole(content: impl Into<Bytes>) -> Self {
        Self { content: Content::Whole(content.into()), held: Vec::new() }
    }

    /// A body that is sent as it comes.
    #[must_use]
    pub fn stream(body: impl HttpBody<Data = Bytes, Error = BodyError> + Send + 'static) -> Self {
        Self { content: Content::Stream(Box::pin(body)), held: Vec::new() }
    }

    /// A body that is sent as it comes out of a channel, and ends with it.
    #[must_use]
    pub fn channel(pieces: mpsc::Receiver<Bytes>) -> Self {
        Self::stream(Channel(pieces))
    }

    /// Likewise, and an error breaks it off, so that what is missing is noticed.
    #[must_use]
    pub fn pieces(pieces: mpsc::Receiver<Result<Bytes, BodyError>>) -> Self {
        Self::stream(Pieces(pieces))
    }

    /// Keeps something until the body was sent, or nobody wants it any more.
    pub fn hold(&mut self, held: impl Send + 'static) {
        self.held.push(Box::new(held));
    }

    /// Whether anything is kept for it, as the place of somebody who was admitted.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// How much of it waits in memory to be read, where that is known.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        match &self.content {
            Content::Whole(bytes) => bytes.len(),
            Content::Stream(_) => 0,
        }
    }
}

struct Channel(mpsc::Receiver<Bytes>);

struct Pieces(mpsc::Receiver<Result<Bytes, BodyError>>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|bytes| bytes.map(Frame::data)))
    }
}

impl HttpBody for Channel {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            // A copy: a slice would keep the whole in memory while the last of it waits to be read.
            Content::Whole(bytes) if bytes.len() > PIECE_BYTES => {
                let piece = Bytes::copy_from_slice(&bytes.split_to(PIECE_BYTES));
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Content::Whole(bytes) => {
                let rest = std::mem::take(bytes);
                // The last piece of a larger whole: likewise.
                let rest = if rest.is_unique() { rest } else { Bytes::copy_from_slice(&rest) };
                Poll::Ready(Some(Ok(Frame::data(rest))))
            }
            Content::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(stream) => stream.size_hint(),
        }
    }
}

/// One request's own facts, from the moment its head was read.
#[derive(Clone)]
pub struct Visit {
    /// Where it came from.
    pub peer: SocketAddr,
    /// The caller's id for the request, or docket's.
    pub request_id: RequestId,
    /// When it arrived and how its call is named.
    pub moment: Moment,
    /// The same moment, for measuring durations.
    pub started: Instant,
    /// The caller's `User-Agent`.
    pub user_agent: Option<String>,
    /// Who looks, once that is known: on the admin plane.
    pub principal: Arc<Principal>,
    /// Turns true when they may no longer.
    pub ended: Option<watch::Receiver<bool>>,
    /// Where what they ask of the ledger is worked on: on the admin plane.
    pub turns: Option<Arc<Turns>>,
    /// What they look at, to be recorded with how that ends: on the admin plane.
    pub looks: Option<Arc<Mutex<Vec<Look>>>>,
}

/// That somebody looked at something.
#[derive(Debug)]
pub struct Look {
    /// Dotted name of the event.
    pub event_type: &'static str,
    /// The path.
    pub path: String,
    /// What was asked for.
    pub query: String,
}

impl Visit {
    /// Takes the request's facts from its head. A request id that looks like a credential is replaced by a new one, since
    /// ids stay in the ledger for ever.
    #[must_use]
    pub fn new(gate: &Gate, headers: &HeaderMap, peer: SocketAddr) -> Self {
        let time_ms = (gate.clock.now_ms)();
        let call_id = gate.clock.ulid_at(time_ms);
        let chosen = headers.get(X_REQUEST_ID).and_then(|id| id.to_str().ok()).and_then(RequestId::parse);
        let request_id = chosen
            .filter(|id| !gate.redactor.is_secret(id.as_str()))
            .unwrap_or_else(|| RequestId::from_ulid(gate.clock.ulid_at(time_ms)));
        Self {
            peer,
            request_id,
            moment: Moment { call_id, time_ns: time_ms.saturating_mul(1_000_000) },
            started: Instant::now(),
            user_agent: headers
                .get(USER_AGENT)
                .and_then(|agent| agent.to_str().ok())
                .map(|agent| gate.redactor.cut(agent, MAX_USER_AGENT_BYTES)),
            principal: Principal::nobody(),
            ended: None,
            turns: None,
            looks: None,
        }
    }

    /// Notes that this request looks at something of the ledger, or at what only some may see.
    pub fn look(&self, event_type: &'static str, path: &str, query: &str) {
        if let Some(looks) = &self.looks {
            let look = Look { event_type, path: path.to_owned(), query: query.to_owned() };
            looks.lock().unwrap_or_else(PoisonError::into_inner).push(look);
        }
    }

    /// What it looked at; nothing the second time.
    #[must_use]
    pub fn looks(&self) -> Vec<Look> {
        let Some(looks) = &self.looks else { return Vec::new() };
        std::mem::take(&mut looks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until whoever looks may no longer; for ever where that cannot be.
    pub fn until_ended(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let ended = self.ended.clone();
        async move {
            match ended {
                Some(ended) => until_stopped(ended, std::future::pending()).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Whether whoever looks may no longer.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended.as_ref().is_some_and(|ended| *ended.borrow())
    }

    /// A refusal of this request that nobody waits to see recorded; nobody's, unless [`Refused::of`] says whose.
    #[must_use]
    pub fn refused(
        &self,
        kind: Kind,
        event_type: &'static str,
        reason: &'static str,
        error: String,
    ) -> Refused {
        Refused {
            kind,
            event_type: event_type.into(),
            reason,
            error,
            peer: self.peer,
            request_id: self.request_id.clone(),
            zone: DEFAULT_ZONE.to_owned(),
            facts: Object::new(),
        }
    }
}

/// A JSON response. Nothing docket answers may be cached: it is about this moment, or from the ledger.
pub fn json_response(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    json_bytes(status, serde_json::to_vec(value).unwrap_or_default())
}

/// Likewise, of JSON that is written already.
#[must_use]
pub fn json_bytes(status: StatusCode, json: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::whole(json));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A response from the ledger that is no single JSON value: it may not be cached either.
#[must_use]
pub fn stream_response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A plain-text response, about this moment.
#[must_use]
pub fn text_response(status: StatusCode, text: String) -> Response<Body> {
    let mut response = stream_response(Body::whole(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Puts the request id on a response.
#[must_use]
pub fn with_request_id(mut response: Response<Body>, request_id: &RequestId) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
}

/// Refuses requests that a page from elsewhere could make a browser send (DNS rebinding, cross-site calls).
///
/// # Errors
/// Says which header was not acceptable and which setting would accept it.
pub fn guard(plane: &Plane, section: &str, headers: &HeaderMap) -> Result<(), String> {
    for name in [HOST, ORIGIN] {
        if headers.get_all(&name).iter().count() > 1 {
            return Err(format!("header `{name}` is given more than once"));
        }
    }
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("(unreadable)"));
    let host = text(HOST).unwrap_or_default();
    if !plane.accepts_host(host) {
        return Err(format!("host `{host}` is not accepted here; add it to `{section}.allowed_hosts`"));
    }
    match text(ORIGIN) {
        Some(origin) if !plane.accepts_origin(origin) => {
            Err(format!("origin `{origin}` is not accepted here; add it to `{section}.allowed_origins`"))
        }
        _ => Ok(()),
    }
}

/// What is recorded of a body that could not be read: its length and digest, never its content.
#[must_use]
pub fn facts_of(body: &[u8]) -> Object {
    let mut facts = Object::new();
    facts.insert("length".into(), body.len().into());
    facts.insert("sha256".into(), hex::encode(Sha256::digest(body)).into());
    facts
}

/// Runs `work` until it ends or docket stops.
pub async fn until_stopped(mut stopping: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
}

/// A body that ends when something happens: a stream without an end of its own must not hold up the shutdown, nor go on for
/// somebody who is no longer let in.
pub struct Stoppable<B> {
    body: B,
    /// Nothing once it is done.
    stopped: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<B> Stoppable<B> {
    /// Passes `body` on until `stopped` is done.
    #[must_use]
    pub fn new(body: B, stopped: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { body, stopped: Some(Box::pin(stopped)) }
    }
}

impl<B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Unpin> HttpBody for Stoppable<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // First: a stream that always has something would never end.
        if self.stopped.as_mut().is_none_or(|stopped| stopped.as_mut().poll(cx).is_ready()) {
            self.stopped = None;
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Refuses a request for which there is no place.
#[must_use]
pub fn too_many(gate: &Gate, visit: &Visit, full: &Full) -> Response<Body> {
    gate.metrics.refused.with_label_values(&["too_many_requests"]).inc();
    Problem::new(StatusCode::TOO_MANY_REQUESTS, ProblemType::TooManyRequests, full.to_string(), visit)
        .response()
}

/// Refuses a request whose token is not accepted, and notes it.
#[must_use]
pub fn unauthorized(gate: &Arc<Gate>, visit: &Visit, rejection: Rejection) -> Box<Response<Body>> {
    gate.note_refusal(visit.refused(Kind::Auth, AUTH_FAILED, rejection.as_str(), rejection.to_string()));
    let problem =
        Problem::new(StatusCode::UNAUTHORIZED, ProblemType::Unauthenticated, rejection.to_string(), visit);
    let mut response = problem.response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"docket\""));
    Box::new(response)
}
