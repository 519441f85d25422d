//! Following the ledger: `GET /v1/audit/stream`, server-sent events, one per entry.
//!
//! `id:` is the leaf index. Entries are sent in the order of the ledger, each once: whoever comes back with `Last-Event-ID` goes
//! on after it. An id that the ledger does not have yet is another ledger's, or one that was taken away. A browser's
//! `EventSource` would never come back after an error, so it gets an event `reset` that says so, and what comes from now on;
//! whoever asks by `after` is refused. Nothing is kept for a reader but a bounded queue. One that does not empty it in time is
//! told so, and let go: what it missed is in the ledger, after the id it had last.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::audit::{bad_parameter, beside};
use super::query::{filters, recorded};
use crate::gate::Gate;
use crate::ledger::filter::Scope;
use crate::ledger::{Filter, Order, Reader, Stored};
use crate::web::turns::Work;
use crate::web::{self, Body, Visit};

/// Entries read at once at most; large ones are fewer.
const BATCH: u32 = 250;

/// Events waiting for a reader.
const MAX_WAITING_EVENTS: usize = 32;

/// Whoever follows looks this often at most, in milliseconds, however often something is recorded.
const PACE_MS: u64 = 50;

/// A reader that takes nothing for this long is told so, in milliseconds, and let go: its connection is closed when it
/// still takes nothing after `data.body_timeout_ms`, which should be longer.
const STALL_MS: u64 = 15_000;

/// A comment is sent after this long without an event, in milliseconds, so that idle streams stay open.
const HEARTBEAT_MS: u64 = 15_000;

/// A stream that could not read the ledger tries again after this long, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// Answers `GET /v1/audit/stream`.
pub fn stream(
    gate: &Arc<Gate>,
    reader: &Reader,
    query: &str,
    last_event_id: Option<&str>,
    stopping: watch::Receiver<bool>,
    visit: &Visit,
) -> Response<Body> {
    let mut after = None;
    let parsed = filters(query, (gate.clock.now_ms)(), &["after"], |name, value, _| {
        if name == "after" {
            after = Some(seq_of(name, value)?);
        }
        Ok(name == "after")
    });
    let filter = match parsed {
        Ok(filter) => Filter { scope: Scope::of(&visit.principal), ..filter },
        Err(detail) => return bad_parameter(detail, visit),
    };
    let head = gate.ledger.head();
    let newest = *head.borrow();
    let (after, reset) = match last_event_id.map(|id| seq_of("Last-Event-ID", id)) {
        Some(Ok(seq)) if seq > newest => (newest, Some(reset(seq, newest))),
        Some(Ok(seq)) => (seq, None),
        Some(Err(detail)) => return bad_parameter(detail, visit),
        None => match after {
            Some(seq) if seq > newest => {
                let detail = format!("`after`: {seq} is beyond the newest entry, whose `seq` is {newest}");
                return bad_parameter(detail, visit);
            }
            after => (after.unwrap_or(newest), None),
        },
    };
    let resumed = last_event_id.map(|id| format!("{query}&last-event-id={id}"));
    let asked = resumed.as_deref().unwrap_or(query).trim_start_matches('&');
    visit.look("stream.opened", "/v1/audit/stream", &recorded(asked));
    let (events, receiver) = mpsc::channel(MAX_WAITING_EVENTS);
    if let Some(reset) = reset {
        // There is room: nothing waits yet.
        let _ = events.try_send(reset);
    }
    let stall = Duration::from_millis(STALL_MS);
    let follower = Follower { reader: reader.clone(), visit: visit.clone(), filter, events, stall };
    let (following, ended) =
        (web::until_stopped(stopping, follower.follow(after, head)), visit.until_ended());
    tokio::spawn(async move {
        tokio::select! {
            () = following => {}
            () = ended => {}
        }
    });
    let mut response = web::stream_response(Body::channel(receiver));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn seq_of(name: &str, value: &str) -> Result<i64, String> {
    let seq = value.parse().ok().filter(|seq: &i64| *seq >= -1);
    seq.ok_or_else(|| {
        format!("`{name}` must be the leaf index of an entry (its `seq`), and `{value}` is not")
    })
}

struct Follower {
    reader: Reader,
    visit: Visit,
    filter: Filter,
    events: mpsc::Sender<Bytes>,
    stall: Duration,
}

impl Follower {
    /// Sends what matches as it becomes durable, until the reader goes away or is too slow, or docket stops. What cannot be read
    /// is an event `error`, and is tried again: a stream that ended without a word would look like a ledger in which nothing
    /// happens.
    async fn follow(self, mut after: i64, mut head: watch::Receiver<i64>) {
        // The last words have a place of their own, whatever waits.
        let Ok(last_words) = self.events.clone().reserve_owned().await else { return };
        loop {
            let newest = *head.borrow_and_update();
            while after < newest {
                let filter = Filter {
                    after_seq: Some(after),
                    before_seq: Some(newest + 1),
                    limit: Some(BATCH),
                    order: Order::Oldest,
                    ..self.filter.clone()
                };
                let reader = self.reader.clone();
                let events = move || {
                    let (entries, has_more) = reader.batch(&filter)?;
                    Ok((entries.iter().map(event_of).collect::<Vec<_>>(), has_more))
                };
                // Whoever is far behind has the whole ledger read to them.
                let length = if newest - after > i64::from(BATCH) { Work::Long } else { Work::Brief };
                let (events, has_more) = match beside(&self.visit, length, events).await.flatten() {
                    Ok(found) => found,
                    Err(error) => {
                        tracing::error!(error = %error, "a stream cannot read the ledger");
                        if !self.send(error_event(&error.to_string())).await {
                            return;
                        }
                        tokio::select! {
                            () = tokio::time::sleep(Duration::from_millis(RETRY_MS)) => continue,
                            () = self.events.closed() => return,
                        }
                    }
                };
                for (seq, event) in events {
                    if !self.send(event).await {
                        // Queued events are sent before this one, so the id is the last the reader will have.
                        last_words.send(cut_off(after));
                        return;
                    }
                    after = seq;
                }
                if !has_more {
                    after = newest;
                }
            }
            let pace = tokio::time::sleep(Duration::from_millis(PACE_MS));
            tokio::select! {
                changed = async {
                    pace.await;
                    head.changed().await
                } => if changed.is_err() { return },
                () = tokio::time::sleep(Duration::from_millis(HEARTBEAT_MS)) => {
                    if !self.send(Bytes::from_static(b": still here\n\n")).await {
                        last_words.send(cut_off(after));
                        return;
                    }
                }
                () = self.events.closed() => return,
            }
        }
    }

    /// Puts an event into the queue; `false` where the reader has gone, or takes nothing.
    async fn send(&self, event: Bytes) -> bool {
        self.events.send_timeout(event, self.stall).await.is_ok()
    }
}

/// The number of an entry, and its event.
fn event_of(entry: &Stored) -> (i64, Bytes) {
    let event = match serde_json::to_string(entry) {
        Ok(data) => Bytes::from(format!("id: {}\ndata: {data}\n\n", entry.seq)),
        Err(error) => error_event(&error.to_string()),
    };
    (entry.seq, event)
}

/// Says what is wrong, as JSON, so that no line break in it can end the event.
fn error_event(message: &str) -> Bytes {
    Bytes::from(format!("event: error\ndata: {}\n\n", json!({ "error": message })))
}

/// The first event of a reader that says it had an entry which is not there. Its id is the newest there is, to come back with.
fn reset(asked: i64, newest: i64) -> Bytes {
    let error = format!(
        "Last-Event-ID {asked} is beyond the newest entry, {newest}: entries are gone, or this is another ledger; what follows is new"
    );
    let data = json!({"error": error, "last_event_id": newest});
    Bytes::from(format!("id: {newest}\nevent: reset\ndata: {data}\n\n"))
}

/// The last event of a reader that was too slow.
fn cut_off(seq: i64) -> Bytes {
    let data =
        json!({"error": "this reader is too slow; come back with Last-Event-ID", "last_event_id": seq});
    Bytes::from(format!("id: {seq}\nevent: cut_off\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Moment, RequestId};
    use crate::clock::Clock;
    use crate::ledger::{Entry, Kind, Ledger, Queue, Signing};
    use crate::principal::Principal;
    use crate::redact::Redactor;
    use crate::web::Turns;

    fn visit() -> Visit {
        let clock = Clock { now_ms: || 1, random: |buffer| getrandom::fill(buffer).unwrap() };
        Visit {
            peer: ([127, 0, 0, 1], 1).into(),
            request_id: RequestId::from_ulid(clock.ulid()),
            moment: Moment { call_id: clock.ulid(), time_ns: 1 },
            started: std::time::Instant::now(),
            user_agent: None,
            principal: Principal::nobody(),
            ended: None,
            turns: Some(Turns::new(10_000, &Arc::default())),
            looks: None,
        }
    }

    fn follower(reader: Reader, events: mpsc::Sender<Bytes>, stall: Duration) -> Follower {
        Follower { reader, visit: visit(), filter: Filter::default(), events, stall }
    }

    #[tokio::test]
    async fn a_stream_that_cannot_read_says_so_and_tries_again() {
        let (_head, newest) = watch::channel(5);
        let (sender, mut events) = mpsc::channel(2);
        let directory = tempfile::tempdir().unwrap();
        let reader = Reader::new(directory.path().join("nothing.db").into());
        let follower = follower(reader, sender, Duration::from_secs(20));
        let following = tokio::spawn(follower.follow(0, newest));
        for _ in 0..2 {
            let event = tokio::time::timeout(Duration::from_secs(20), events.recv()).await.unwrap().unwrap();
            let event = std::str::from_utf8(&event).unwrap();
            let data = event.strip_prefix("event: error\ndata: ").unwrap().trim_end();
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            assert!(data["error"].as_str().unwrap().contains("nothing.db"), "{data}");
        }
        drop(events);
        tokio::time::timeout(Duration::from_secs(20), following).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_is_let_go_with_an_id_to_come_back_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docket.db");
        let clock = Clock { now_ms: || 1, random: |buffer| getrandom::fill(buffer).unwrap() };
        let ledger = Ledger::open(&path, Queue::default(), Signing::default(), clock).unwrap();
        for _ in 0..10 {
            let content = Redactor::builtin().record(Vec::new());
            ledger.append(Entry::event(Kind::Access, "test.read", 1, content)).await.unwrap();
        }
        let (sender, mut events) = mpsc::channel(4);
        let follower = follower(ledger.reader(), sender, Duration::from_millis(50));
        tokio::time::timeout(Duration::from_secs(20), follower.follow(-1, ledger.head())).await.unwrap();
        let mut sent = Vec::new();
        while let Some(event) = events.recv().await {
            sent.push(String::from_utf8(event.to_vec()).unwrap());
        }
        assert_eq!(sent.len(), 4, "three entries, and the last words: {sent:?}");
        for (at, event) in sent.iter().take(3).enumerate() {
            assert!(event.starts_with(&format!("id: {at}\ndata: ")), "{event}");
        }
        assert!(sent[3].starts_with("id: 2\nevent: cut_off\ndata: "), "{}", sent[3]);
        ledger.close().await;
    }
}
