//! A server's answer on its way to the client: passed on as it comes, and judged as it passes.
//!
//! The outcome of a call is known at the end of its answer's body. [`Watched`] passes every frame on untouched and
//! shows it to a [`Judge`]; when the body ends it records the outcome, and when it is dropped before, that the caller
//! has gone.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Sleep;

use crate::decision::Outcome;
use crate::gate::Pending;
use crate::json::Object;
use crate::web::BodyError;

/// Largest JSON answer, or event of a stream, that is looked into, in bytes; a larger one is judged by its status alone.
const MAX_JUDGED_BYTES: usize = 1024 * 1024;

/// Waits until a call is to be cut off, and says why.
pub type Cut = Pin<Box<dyn Future<Output = String> + Send>>;

/// The body of an answer under way.
pub struct Watched {
    body: Incoming,
    cut: Cut,
    owed: Option<(Judge, Pending)>,
    timeout: Duration,
    idle: Pin<Box<Sleep>>,
}

impl Watched {
    /// Watches `body` on behalf of `pending`; a pause of more than `timeout_ms` between two frames ends it, and so does `cut`.
    #[must_use]
    pub fn new(body: Incoming, judge: Judge, pending: Pending, cut: Cut, timeout_ms: u64) -> Self {
        let timeout = Duration::from_millis(timeout_ms);
        let idle = Box::pin(tokio::time::sleep(timeout));
        let mut watched = Self { body, cut, owed: Some((judge, pending)), timeout, idle };
        // Nobody asks a body for frames that has none.
        if watched.body.is_end_stream() {
            watched.end(None);
        }
        watched
    }

    fn end(&mut self, broken: Option<&str>) {
        let Some((judge, pending)) = self.owed.take() else { return };
        let (outcome, detail) = match broken {
            Some(error) => (Outcome::Error, detail(judge.status, Some(error))),
            None => judge.verdict(),
        };
        pending.finish(outcome, detail);
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // First: an answer that always has more would not be cut off.
        if self.owed.is_some()
            && let Poll::Ready(why) = self.cut.as_mut().poll(cx)
        {
            self.end(Some(&why));
            return Poll::Ready(Some(Err(why.into())));
        }
        let polled = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending if self.idle.as_mut().poll(cx).is_ready() => {
                let error = format!("the server paused for more than {} ms", self.timeout.as_millis());
                self.end(Some(&error));
                return Poll::Ready(Some(Err(error.into())));
            }
            Poll::Pending => return Poll::Pending,
            Poll::Ready(polled) => polled,
        };
        match polled {
            Some(Ok(frame)) => {
                let deadline = tokio::time::Instant::now() + self.timeout;
                self.idle.as_mut().reset(deadline);
                if let (Some(data), Some((judge, _))) = (frame.data_ref(), self.owed.as_mut()) {
                    judge.see(data);
                }
                // Whoever reads a body of known length may not ask for what comes after its last frame.
                if self.body.is_end_stream() {
                    self.end(None);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.end(Some(&error.to_string()));
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                self.end(None);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Tells from an answer whether the call succeeded.
pub struct Judge {
    status: StatusCode,
    stream: bool,
    /// The request's id: a stream may carry answers to others.
    id: Value,
    /// Compressed, though docket does not ask for that.
    opaque: bool,
    /// The JSON answer, or the current line of an event stream.
    buffer: Vec<u8>,
    /// The `data` lines of the current event.
    event: Vec<u8>,
    overflowed: bool,
    found: Option<Answer>,
}

/// As much of a JSON-RPC response as an outcome depends on; the rest is skipped over, not built.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    id: Value,
    result: Option<ResultHead>,
    error: Option<ErrorHead>,
}

#[derive(Debug, Deserialize)]
struct ResultHead {
    #[serde(default, rename = "isError")]
    is_error: bool,
}

#[derive(Debug, Deserialize)]
struct ErrorHead {
    code: i64,
    #[serde(default)]
    message: String,
}

impl Judge {
    /// A judge of an answer to the request of this id, which is an event stream or one JSON text.
    #[must_use]
    pub fn new(status: StatusCode, stream: bool, opaque: bool, id: Value) -> Self {
        Self {
            status,
            stream,
            id,
            opaque,
            buffer: Vec::new(),
            event: Vec::new(),
            overflowed: false,
            found: None,
        }
    }

    fn see(&mut self, data: &[u8]) {
        if !self.stream {
            self.overflowed |= self.buffer.len() + data.len() > MAX_JUDGED_BYTES;
            if self.overflowed {
                self.buffer.clear();
            } else {
                self.buffer.extend_from_slice(data);
            }
            return;
        }
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            if self.buffer.len() + self.event.len() + piece.len() > MAX_JUDGED_BYTES {
                self.overflowed = true;
                self.buffer.clear();
                self.event.clear();
            }
            self.buffer.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.line();
            }
        }
    }

    /// One line of an event stream is complete (WHATWG HTML §9.2.6).
    fn line(&mut self) {
        let line = self.buffer.trim_ascii_end();
        let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        if line.is_empty() {
            if let Ok(answer) = serde_json::from_slice::<Answer>(&self.event)
                && answer.id == self.id
                && (answer.result.is_some() || answer.error.is_some())
            {
                self.found = Some(answer);
            }
            self.event.clear();
        } else if let Some(data) = line.strip_prefix(b"data:") {
            if !self.event.is_empty() {
                self.event.push(b'\n');
            }
            self.event.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
        self.buffer.clear();
    }

    /// The outcome, and what an auditor may want to know of it.
    fn verdict(mut self) -> (Outcome, Object) {
        if self.stream {
            // A last event without its blank line still counts.
            self.line();
            self.line();
        } else if !self.overflowed {
            self.found = serde_json::from_slice(&self.buffer).ok();
        }
        let status = self.status;
        match self.found {
            _ if !status.is_success() => (Outcome::Error, detail(status, None)),
            _ if self.opaque => (Outcome::Unknown, detail(status, Some("the answer is compressed"))),
            Some(Answer { error: Some(error), .. }) => {
                let mut detail = detail(status, Some(&error.message));
                detail.insert("code".into(), error.code.into());
                (Outcome::Error, detail)
            }
            Some(Answer { result: Some(ResultHead { is_error: true }), .. }) => {
                (Outcome::Error, detail(status, Some("the tool answered with isError")))
            }
            Some(Answer { result: Some(_), .. }) => (Outcome::Success, detail(status, None)),
            _ if self.overflowed => {
                (Outcome::Unknown, detail(status, Some("the answer was too large to look into")))
            }
            // A stream may end early and be resumed by the client with `Last-Event-ID`.
            _ if self.stream => {
                (Outcome::Unknown, detail(status, Some("the stream ended without an answer")))
            }
            _ => (Outcome::Error, detail(status, Some("the server's answer is not a JSON-RPC response"))),
        }
    }
}

fn detail(status: StatusCode, error: Option<&str>) -> Object {
    let mut detail = error.map(because).unwrap_or_default();
    detail.insert("status".into(), status.as_u16().into());
    detail
}

/// What an outcome says of what went wrong.
pub fn because(error: &str) -> Object {
    let mut detail = Object::new();
    // Whole: redaction cuts it, once it has seen that the cut leaves no half of a secret.
    detail.insert("error".into(), error.into());
    detail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(stream: bool, status: u16, pieces: &[&str]) -> Outcome {
        let mut judge = Judge::new(StatusCode::from_u16(status).unwrap(), stream, false, 1.into());
        for piece in pieces {
            judge.see(piece.as_bytes());
        }
        judge.verdict().0
    }

    #[test]
    fn json_answers() {
        for (status, body, expected) in [
            (200, r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#, Outcome::Success),
            (200, r#"{"jsonrpc":"2.0","id":1,"result":{"isError":true}}"#, Outcome::Error),
            (200, r#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}}"#, Outcome::Error),
            (500, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Outcome::Error),
            (200, "<html>", Outcome::Error),
            (200, "", Outcome::Error),
        ] {
            assert_eq!(judged(false, status, &[body]), expected, "{status} {body}");
            let (a, b) = body.split_at(body.len() / 2);
            assert_eq!(judged(false, status, &[a, b]), expected, "{status} {body} in two pieces");
        }
    }

    #[test]
    fn event_streams_in_any_cut() {
        let stream = "id: 1\ndata:\n\nevent: message\r\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\r\n\r\n\
                      : comment\ndata: {\"jsonrpc\":\"2.0\",\"id\":1,\ndata: \"result\":{\"isError\":true}}\n\n";
        for size in 1..stream.len() {
            let pieces: Vec<&str> =
                stream.as_bytes().chunks(size).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
            assert_eq!(judged(true, 200, &pieces), Outcome::Error, "pieces of {size}");
        }
        assert_eq!(judged(true, 200, &["data: {\"id\":1,\"result\":{}}\n\n"]), Outcome::Success);
        assert_eq!(judged(true, 200, &["\u{feff}data: {\"id\":1,\"result\":{}}"]), Outcome::Success);
        assert_eq!(judged(true, 200, &["data: {\"id\":2,\"error\":{\"code\":1}}\n\n"]), Outcome::Unknown);
        assert_eq!(judged(true, 200, &["id: 1\ndata:\n\n"]), Outcome::Unknown);
    }

    #[test]
    fn large_answers_are_bounded() {
        let large = "x".repeat(MAX_JUDGED_BYTES + 1);
        assert_eq!(judged(false, 200, &[&large]), Outcome::Unknown);
        let mut judge = Judge::new(StatusCode::OK, true, false, 1.into());
        for _ in 0..8 {
            judge.see(large.as_bytes());
        }
        assert!(judge.buffer.capacity() <= 4 * MAX_JUDGED_BYTES);
    }
}
