//! The listener of a plane: connections within their bounds, and a shutdown within its own.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Sleep;

use super::Body;
use super::crowd::Crowd;
use crate::config::Limits;

/// While every connection has a request under way, whether one has ended is looked at this often, in milliseconds.
const LOOK_MS: u64 = 5;

/// A connection may wait for its request this long without making room for others, in milliseconds.
const GRACE_MS: u64 = 100;

/// Largest request head, in bytes; hyper answers 431 to a larger one.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Header fields a request may have.
const MAX_HEADERS: usize = 128;

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

    /// Counts a connection that waited for a request, and was closed to let another in.
    fn crowded_out(&self);
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

/// Accepts connections and serves them until `stop` turns true; then finishes those under way within the bound. Where there are
/// as many as there may be, one that waits for a request makes room for the next, and so does one whose request nobody was
/// admitted for.
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
    let crowd = Crowd::new(limits.max_connections, Duration::from_millis(GRACE_MS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                // Out of file descriptors, most likely: accepting again at once would only spin.
                tracing::warn!(error = %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let entered = tokio::select! {
            entered = async {
                loop {
                    if let Some(seat) = crowd.enter(peer.ip()) {
                        break seat;
                    }
                    if crowd.make_room() {
                        face.crowded_out();
                    }
                    tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
                }
            } => entered,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error = %error, "cannot set TCP_NODELAY");
        }
        let socket = Socket::new(stream, limits.body_timeout_ms);
        let unanswered = socket.unanswered.clone();
        let seat = Arc::new(entered);
        let service = {
            let (face, unanswered, seat) = (face.clone(), unanswered.clone(), seat.clone());
            hyper::service::service_fn(move |request| {
                // The head of a request is complete.
                unanswered.store(false, Ordering::Relaxed);
                let (face, answering) = (face.clone(), seat.answering());
                async move {
                    // It is being closed: nothing is begun that nobody would hear of.
                    let Some(answering) = answering else { return std::future::pending().await };
                    let mut response = face.answer(request, peer).await;
                    // What nobody was admitted for makes room while it waits to be read: strangers can ask for as much as
                    // they like.
                    if response.body().is_held() {
                        response.body_mut().hold(answering.admitted());
                    }
                    Ok::<_, Infallible>(response)
                }
            })
        };
        let connection = graceful.watch(http.serve_connection(TokioIo::new(socket), service));
        let face = face.clone();
        tokio::spawn(async move {
            let served = tokio::select! {
                served = connection => served,
                () = seat.closing() => Ok(()),
            };
            if let Err(error) = served
                && (error.is_parse() || error.is_timeout() || error.is_parse_too_large())
                // A connection that sent nothing, or idled between requests, was not refused anything.
                && unanswered.load(Ordering::Relaxed)
            {
                face.unreadable(peer, error.to_string());
            }
        });
    }
    drop(listener);
    let bound = Duration::from_millis(limits.shutdown_timeout_ms);
    if tokio::time::timeout(bound, graceful.shutdown()).await.is_err() {
        tracing::warn!(timeout_ms = limits.shutdown_timeout_ms, "some connections did not finish in time");
    }
}
