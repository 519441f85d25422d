//! The audit API: `GET /v1/audit` and `/v1/audit/stream` on the admin plane.
//!
//! Every read is itself an entry (`kind = "access"`), written before the first byte of the answer. Reads go on when the
//! ledger cannot append: an incident is no time to lock its investigators out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use jiff::{Span, Timestamp};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use crate::decision::Effect;
use crate::gate::Gate;
use crate::ledger::{Entry, Filter, Kind, LedgerError, MAX_LIMIT, Order, Reader};
use crate::web::{self, Body, Problem, Visit};

/// Entries a page has unless it says otherwise.
pub const DEFAULT_LIMIT: u32 = 100;

/// Entries read at once for a stream.
const STREAM_BATCH: u32 = 200;

/// Events waiting for a slow reader; a reader slower than that is waited for, and the ledger with it is not.
const MAX_STREAM_EVENTS: usize = 256;

/// A comment is sent after this long without an event, in milliseconds, so that idle streams stay open.
const HEARTBEAT_MS: u64 = 15_000;

/// A stream that could not read the ledger tries again after this long, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// Parameters `/v1/audit` takes, for its error messages.
const PARAMETERS: &str = "`request_id`, `kind`, `decision`, `server`, `tool`, `agent`, `since`, `until`, `limit`, \
     `pageSize`, `page`, `cursor`, `order`, `after`";

/// Answers `GET /v1/audit`.
pub async fn list(gate: &Arc<Gate>, reader: &Reader, query: &str, visit: &Visit) -> Response<Body> {
    let parsed = match Parameters::parse(query, (gate.clock.now_ms)()) {
        Ok(parsed) => parsed,
        Err(detail) => return bad_parameter(detail, visit),
    };
    record_access(gate, "ledger.read", "/v1/audit", query, visit).await;
    let (filter, page) = (parsed.filter, parsed.page);
    let limit = filter.limit.unwrap_or(DEFAULT_LIMIT).max(1);
    let result = blocking(reader, move |reader| {
        let total = reader.count(&filter)?;
        let page_filter = Filter { skip: (page - 1).saturating_mul(limit), ..filter };
        Ok((reader.entries(&page_filter)?, total))
    })
    .await;
    match result {
        Ok((entries, total)) => {
            let limit = i64::from(limit);
            let next =
                entries.last().filter(|_| i64::from(page) * limit < total).map(|entry| entry.seq.to_string());
            let pagination = json!({
                "page": page, "pageSize": limit, "totalEntries": total,
                "totalPages": (total + limit - 1) / limit, "nextCursor": next,
            });
            web::json_response(StatusCode::OK, &json!({"entries": entries, "pagination": pagination}))
        }
        Err(error) => unreadable(&error, visit),
    }
}

/// Answers `GET /v1/audit/stream`: server-sent events, one per entry, `id:` its leaf index.
pub async fn stream(
    gate: &Arc<Gate>,
    reader: &Reader,
    query: &str,
    last_event_id: Option<&str>,
    stopping: watch::Receiver<bool>,
    visit: &Visit,
) -> Response<Body> {
    let parsed = match Parameters::parse(query, (gate.clock.now_ms)()) {
        Ok(parsed) => parsed,
        Err(detail) => return bad_parameter(detail, visit),
    };
    let head = gate.ledger.head();
    let after = match last_event_id.map(str::parse::<i64>) {
        Some(Ok(seq)) => seq,
        Some(Err(_)) => {
            return bad_parameter("`Last-Event-ID` must be the leaf index of an entry".into(), visit);
        }
        None => parsed.filter.after_seq.unwrap_or(*head.borrow()),
    };
    record_access(gate, "stream.opened", "/v1/audit/stream", query, visit).await;
    let (events, receiver) = mpsc::channel(MAX_STREAM_EVENTS);
    let following = follow(reader.clone(), parsed.filter, after, head, events);
    tokio::spawn(web::until_stopped(stopping, following));
    let mut response = Response::new(Body::channel(receiver));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Sends what matches as it becomes durable, until the reader goes away or docket stops. What cannot be read is an event
/// `error`, and is tried again: a stream that ended without a word would look like a ledger in which nothing happens.
async fn follow(
    reader: Reader,
    filter: Filter,
    mut after: i64,
    mut head: watch::Receiver<i64>,
    events: mpsc::Sender<Bytes>,
) {
    loop {
        let newest = *head.borrow_and_update();
        while after < newest {
            let filter = Filter {
                after_seq: Some(after),
                before_seq: Some(newest + 1),
                limit: Some(STREAM_BATCH),
                order: Order::Oldest,
                ..filter.clone()
            };
            let entries = match blocking(&reader, move |reader| reader.entries(&filter)).await {
                Ok(entries) => entries,
                Err(error) => {
                    tracing::error!(error = %error, "a stream cannot read the ledger");
                    if events.send(error_event(&error.to_string())).await.is_err() {
                        return;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_millis(RETRY_MS)) => continue,
                        () = events.closed() => return,
                    }
                }
            };
            after = if entries.len() < STREAM_BATCH as usize {
                newest
            } else {
                entries.last().map_or(newest, |e| e.seq)
            };
            for entry in entries {
                let event = match serde_json::to_string(&entry) {
                    Ok(data) => Bytes::from(format!("id: {}\ndata: {data}\n\n", entry.seq)),
                    Err(error) => error_event(&error.to_string()),
                };
                if events.send(event).await.is_err() {
                    return;
                }
            }
        }
        tokio::select! {
            changed = head.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(Duration::from_millis(HEARTBEAT_MS)) => {
                if events.send(Bytes::from_static(b": still here\n\n")).await.is_err() { return }
            }
            () = events.closed() => return,
        }
    }
}

/// Says what is wrong, as JSON, so that no line break in it can end the event.
fn error_event(message: &str) -> Bytes {
    Bytes::from(format!("event: error\ndata: {}\n\n", json!({ "error": message })))
}

/// The parameters of a query, checked.
#[derive(Debug)]
struct Parameters {
    filter: Filter,
    page: u32,
}

impl Parameters {
    fn parse(query: &str, now_ms: i64) -> Result<Self, String> {
        let mut parsed = Self { filter: Filter::default(), page: 1 };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value =
                decode(value).ok_or_else(|| format!("`{name}` is not valid percent-encoded UTF-8"))?;
            parsed.set(name, value, now_ms)?;
        }
        if parsed.filter.order == Order::Oldest {
            // A cursor goes on where the page before ended, whichever way the list runs.
            parsed.filter.after_seq = parsed.filter.after_seq.max(parsed.filter.before_seq.take());
        }
        Ok(parsed)
    }

    fn set(&mut self, name: &str, value: String, now_ms: i64) -> Result<(), String> {
        let number = |range: std::ops::RangeInclusive<u32>| {
            let parsed = value.parse().ok().filter(|number| range.contains(number));
            parsed.ok_or_else(|| {
                format!(
                    "`{name}` must be a number from {} to {}, and `{value}` is not",
                    range.start(),
                    range.end()
                )
            })
        };
        let one_of = |accepted: &[&str]| {
            let listed = accepted.join("`, `");
            if accepted.contains(&value.as_str()) {
                Ok(())
            } else {
                Err(format!("`{name}` must be one of `{listed}`, not `{value}`"))
            }
        };
        match name {
            "request_id" => self.filter.request_id = Some(value),
            "kind" => {
                one_of(&Kind::ALL.map(Kind::as_str))?;
                self.filter.kind = Some(value);
            }
            "decision" => {
                one_of(&Effect::ALL.map(Effect::as_str))?;
                self.filter.decision = Some(value);
            }
            "server" => self.filter.server = Some(value),
            "tool" => self.filter.tool = Some(value),
            "agent" => self.filter.agent = Some(value),
            "since" | "until" => {
                let time = parse_time(&value.replace(' ', "+"), now_ms)
                    .map_err(|error| format!("`{name}`: {error}"))?;
                *(if name == "since" { &mut self.filter.since_ms } else { &mut self.filter.until_ms }) =
                    Some(time);
            }
            "limit" | "pageSize" => self.filter.limit = Some(number(1..=MAX_LIMIT)?),
            "page" => self.page = number(1..=u32::MAX)?,
            "after" | "cursor" => {
                let seq = value
                    .parse::<i64>()
                    .map_err(|_| format!("`{name}` must be the leaf index of an entry"))?;
                if name == "after" {
                    self.filter.after_seq = Some(seq);
                } else {
                    self.filter.before_seq = Some(seq);
                }
            }
            "order" => {
                one_of(&["asc", "desc"])?;
                self.filter.order = if value == "asc" { Order::Oldest } else { Order::Newest };
            }
            _ => return Err(format!("parameter `{name}` is not known; accepted are {PARAMETERS}")),
        }
        Ok(())
    }
}

/// A point in time: RFC 3339, a date (UTC), or how long ago (`90s`, `15m`, `24h`, `7d`).
///
/// # Errors
/// Says what is accepted.
pub fn parse_time(text: &str, now_ms: i64) -> Result<i64, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_millisecond());
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && let Ok(zoned) = date.to_zoned(jiff::tz::TimeZone::UTC)
    {
        return Ok(zoned.timestamp().as_millisecond());
    }
    let ago = |seconds: i64| now_ms.saturating_sub(seconds.saturating_mul(1_000));
    let relative = text.parse::<Span>().ok().and_then(|span| {
        let days = i64::from(span.get_weeks()) * 7 + i64::from(span.get_days());
        let calendar = span.get_years() != 0 || span.get_months() != 0;
        (!calendar).then(|| {
            days * 86_400 + i64::from(span.get_hours()) * 3_600 + span.get_minutes() * 60 + span.get_seconds()
        })
    });
    relative.filter(|seconds| *seconds >= 0).map(ago).ok_or_else(|| {
        format!("`{text}` is not a time; write RFC 3339 (`2026-11-20T07:00:00Z`), a date, or how long ago (`15m`, `24h`, `7d`)")
    })
}

pub(super) fn decode(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Writes down who looked at what, before the first byte of the answer.
pub(super) async fn record_access(
    gate: &Arc<Gate>,
    event_type: &'static str,
    path: &str,
    query: &str,
    visit: &Visit,
) {
    let metadata = json!({
        "principal": "admin", "path": path, "query": query,
        "peer": visit.peer.to_string(), "user_agent": visit.user_agent,
    });
    let content = gate.redactor.record(vec![("metadata", metadata)]);
    let time_ms = visit.moment.time_ns / 1_000_000;
    let entry = Entry {
        request_id: Some(visit.request_id.clone()),
        ..Entry::event(Kind::Access, event_type, time_ms, content)
    };
    if let Err(error) = gate.ledger.append(entry).await {
        tracing::error!(request_id = %visit.request_id, error = %error, "a read of the ledger was not recorded");
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    reader: &Reader,
    query: impl FnOnce(&Reader) -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, LedgerError> {
    let reader = reader.clone();
    let task = tokio::task::spawn_blocking(move || query(&reader));
    task.await.unwrap_or_else(|error| Err(LedgerError::Unreadable(error.to_string())))
}

pub(super) fn bad_parameter(detail: String, visit: &Visit) -> Response<Body> {
    Problem::new(StatusCode::BAD_REQUEST, "invalid-parameter", "Invalid parameter", detail, visit).response()
}

pub(super) fn unreadable(error: &LedgerError, visit: &Visit) -> Response<Body> {
    tracing::error!(request_id = %visit.request_id, error = %error, "the ledger cannot be read");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "ledger-unreadable",
        "Ledger unreadable",
        error.to_string(),
        visit,
    )
    .response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_relative() {
        let now = 1_795_158_000_000; // 2026-11-20T07:00:00Z
        for (text, expected) in [
            ("2026-11-20T07:00:00Z", now),
            ("2026-11-20T08:00:00+01:00", now),
            ("2026-11-20", now - 7 * 3_600_000),
            ("90s", now - 90_000),
            ("15m", now - 900_000),
            ("24h", now - 86_400_000),
            ("7d", now - 7 * 86_400_000),
            ("1h30m", now - 5_400_000),
        ] {
            assert_eq!(parse_time(text, now), Ok(expected), "{text}");
        }
        for text in ["", "yesterday", "-5m", "1mo", "12"] {
            assert!(parse_time(text, now).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_cannot_read_says_so_and_tries_again() {
        let directory = tempfile::tempdir().unwrap();
        let reader = Reader::new(directory.path().join("nothing.db").into());
        let (_head, newest) = watch::channel(5);
        let (sender, mut events) = mpsc::channel(1);
        let following = tokio::spawn(follow(reader, Filter::default(), 0, newest, sender));
        for _ in 0..2 {
            let event = tokio::time::timeout(Duration::from_secs(20), events.recv()).await.unwrap().unwrap();
            let event = std::str::from_utf8(&event).unwrap();
            let data = event.strip_prefix("event: error\ndata: ").unwrap().trim_end();
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            assert!(data["error"].as_str().unwrap().contains("ledger"), "{data}");
        }
        drop(events);
        tokio::time::timeout(Duration::from_secs(20), following).await.unwrap().unwrap();
    }

    #[test]
    fn parameters_are_checked() {
        let parsed = Parameters::parse("request_id=a%20b&decision=deny&limit=5&page=2&order=asc", 0).unwrap();
        assert_eq!(parsed.filter.request_id.as_deref(), Some("a b"));
        assert_eq!((parsed.filter.limit, parsed.page, parsed.filter.order), (Some(5), 2, Order::Oldest));
        for (query, expected) in [
            ("limit=0", "from 1 to 1000"),
            ("limit=1001", "from 1 to 1000"),
            ("decision=denied", "one of `allow`, `deny`"),
            ("foo=1", "parameter `foo` is not known"),
            ("since=never", "is not a time"),
            ("request_id=%zz", "percent-encoded"),
        ] {
            let error = Parameters::parse(query, 0).unwrap_err();
            assert!(error.contains(expected), "{query}: {error}");
        }
    }
}
