//! What both planes share: listening, bounds on strangers, guards, bodies and problem documents.
//!
//! It knows HTTP and the bounds of the configuration, and nothing of what a request is about.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST, ORIGIN, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Sleep;

use crate::call::{Moment, RequestId};
use crate::config::{Limits, Plane};
use crate::gate::{Gate, Refused};
use crate::json::Object;
use crate::ledger::{Kind, LedgerError};

/// Largest request head, in bytes; hyper answers 431 to a larger one.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Header fields a request may have.
const MAX_HEADERS: usize = 128;

/// As much of a `User-Agent` as is recorded, in bytes.
const MAX_USER_AGENT_BYTES: usize = 256;

/// Carries the request id both ways.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An error of a body under way.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A response body: whole, or a stream.
pub enum Body {
    /// Known from the start.
    Full(Full<Bytes>),
    /// As it comes.
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>>),
}

impl Body {
    /// A body without content.
    #[must_use]
    pub fn empty() -> Self {
        Self::Full(Full::default())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(full) => Pin::new(full).poll_frame(cx).map_err(|never: Infallible| match never {}),
            Self::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(full) => full.is_end_stream(),
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(full) => full.size_hint(),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

/// One request's own facts, from the moment its head was read.
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
            user_agent: headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).map(|agent| {
                agent.get(..agent.floor_char_boundary(MAX_USER_AGENT_BYTES)).unwrap_or_default().to_owned()
            }),
        }
    }

    /// A refusal of this request that nobody waits to see recorded.
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
            facts: Object::new(),
        }
    }
}

/// An RFC 9457 problem document.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: &'static str,
    /// HTTP status.
    pub status: u16,
    /// What was wrong this time, and what would be right.
    pub detail: String,
    /// The id of the request.
    pub request_id: String,
    /// `allow`, `deny` or `require_approval`, where a decision was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<&'static str>,
    /// How to treat the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<&'static str>,
    /// Whether trying again may help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
}

impl Problem {
    /// A problem of the given slug, which is also the section of the API documentation that describes it.
    #[must_use]
    pub fn new(status: StatusCode, slug: &str, title: &'static str, detail: String, visit: &Visit) -> Self {
        Self {
            kind: format!("urn:docket:problem:{slug}"),
            title,
            status: status.as_u16(),
            detail,
            request_id: visit.request_id.to_string(),
            decision: None,
            class: None,
            retryable: None,
        }
    }

    /// The ledger could not record: nothing was decided, and trying again may help.
    #[must_use]
    pub fn unrecorded(error: &LedgerError, visit: &Visit) -> Self {
        let detail = format!("{error}; no call goes on without a record");
        let problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ledger-unavailable",
            "Ledger unavailable",
            detail,
            visit,
        );
        Self { decision: Some("deny"), class: Some("ledger_unavailable"), retryable: Some(true), ..problem }
    }

    /// There is nothing at this path, or not with this method.
    #[must_use]
    pub fn not_found(detail: String, visit: &Visit) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail, visit)
    }

    /// The response that carries it.
    #[must_use]
    pub fn response(&self) -> Response<Body> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json_response(status, self);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// A JSON response. Nothing docket answers may be cached: it is about this moment, or from the ledger.
pub fn json_response(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Body::Full(Full::from(bytes)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A plain-text response.
#[must_use]
pub fn text_response(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::Full(Full::from(text)));
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

/// Why a request's body could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreceived {
    /// It is larger than allowed.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// It did not arrive in time.
    #[error("the body did not arrive within {0} ms")]
    TooSlow(u64),
    /// The connection broke.
    #[error("the body broke off")]
    Broken,
}

impl Unreceived {
    /// The HTTP status that says so.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads a request's body within its bounds.
///
/// # Errors
/// [`Unreceived`]; what had arrived is dropped.
pub async fn receive(body: Incoming, limits: &Limits) -> Result<Bytes, Unreceived> {
    let too_large = Unreceived::TooLarge(limits.max_body_bytes);
    if body.size_hint().lower() > limits.max_body_bytes as u64 {
        return Err(too_large);
    }
    let collected = Limited::new(body, limits.max_body_bytes).collect();
    match tokio::time::timeout(Duration::from_millis(limits.body_timeout_ms), collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large),
        Ok(Err(_)) => Err(Unreceived::Broken),
        Err(_) => Err(Unreceived::TooSlow(limits.body_timeout_ms)),
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

/// A body that ends when docket stops: a stream without an end of its own must not hold up the shutdown.
pub struct Stoppable<B> {
    body: B,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<B> Stoppable<B> {
    /// Passes `body` on until docket stops.
    #[must_use]
    pub fn new(body: B, stopping: watch::Receiver<bool>) -> Self {
        Self { body, stopped: Box::pin(until_stopped(stopping, std::future::pending())) }
    }
}

impl<B: HttpBody<Data = Bytes, Error: Into<BodyError>> + Unpin> HttpBody for Stoppable<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => self.stopped.as_mut().poll(cx).map(|()| None),
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A plane's own part: answers one request.
pub trait Face: Send + Sync + 'static {
    /// Answers one request. Never fails: what goes wrong is an answer too.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> impl Future<Output = Response<Body>> + Send;

    /// Notes a connection whose bytes were not HTTP, or whose head came too slowly.
    fn unreadable(self: Arc<Self>, peer: SocketAddr, error: String);
}

/// A connection that knows whether it owes docket the rest of a request, and that gives up on a peer who does not read.
struct Socket {
    stream: TcpStream,
    /// Whether bytes arrived since the last request was complete.
    unanswered: Arc<AtomicBool>,
    timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    fn new(stream: TcpStream, timeout_ms: u64) -> Self {
        Self { stream, unanswered: Arc::default(), timeout: Duration::from_millis(timeout_ms), stalled: None }
    }

    /// Lets a write wait for its peer, but not for ever: a place and an answer's memory are held meanwhile.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.unanswered.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Accepts connections and serves them until `stop` turns true; then finishes those under way within the bound.
pub async fn serve(
    face: Arc<impl Face>,
    listener: TcpListener,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.header_timeout_ms))
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = async {
                // A closed semaphore would be a bug; refusing to accept is the safe reading of one.
                let place = places.clone().acquire_owned().await.ok()?;
                Some((place, listener.accept().await))
            } => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((place, accepted)) = accepted else { break };
        let (stream, peer) = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                // Out of file descriptors, most likely: accepting again at once would only spin.
                tracing::warn!(error = %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error = %error, "cannot set TCP_NODELAY");
        }
        let socket = Socket::new(stream, limits.body_timeout_ms);
        let unanswered = socket.unanswered.clone();
        let service = {
            let (face, unanswered) = (face.clone(), unanswered.clone());
            hyper::service::service_fn(move |request| {
                // The head of a request is complete.
                unanswered.store(false, Ordering::Relaxed);
                let face = face.clone();
                async move { Ok::<_, Infallible>(face.answer(request, peer).await) }
            })
        };
        let connection = graceful.watch(http.serve_connection(TokioIo::new(socket), service));
        let face = face.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.await
                && (error.is_parse() || error.is_timeout() || error.is_parse_too_large())
                // A connection that sent nothing, or idled between requests, was not refused anything.
                && unanswered.load(Ordering::Relaxed)
            {
                face.unreadable(peer, error.to_string());
            }
            drop(place);
        });
    }
    drop(listener);
    let bound = Duration::from_millis(limits.shutdown_timeout_ms);
    if tokio::time::timeout(bound, graceful.shutdown()).await.is_err() {
        tracing::warn!(timeout_ms = limits.shutdown_timeout_ms, "some connections did not finish in time");
    }
}
