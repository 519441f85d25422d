//! The audit API: `GET /v1/audit`, one entry of it, and the values its filters take.
//!
//! Every read is itself an entry (`kind = "access"`), written before the first byte of the answer. Reads go on when the
//! ledger cannot append, since an incident is no time to lock its investigators out; their entries follow.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::page::Listed;
use super::query::{Query, filters, number, recorded};
use crate::gate::Gate;
use crate::ledger::filter::Scope;
use crate::ledger::rollup::Named;
use crate::ledger::{Column, Entry, Filter, Kind, LedgerError, Reader};
use crate::text::truncated;
use crate::web::turns::{Lane, Unasked, Work};
use crate::web::{self, Body, Look, Problem, ProblemType, Visit};

/// Values a picker offers unless it is asked for another number, of each column.
const DEFAULT_VALUES: usize = 100;

/// Values it offers at most.
const MAX_VALUES: usize = 1_000;

/// What pickers are asked by, besides filters.
const PICKING: [&str; 2] = ["q", "limit"];

/// The pickers: path, and the columns whose values it offers.
const PICKERS: [(&str, &[Column]); 4] = [
    ("members", &[Column::User, Column::Agent, Column::Subject, Column::Team]),
    ("services", &[Column::Server]),
    ("tools", &[Column::Tool]),
    ("policies", &[Column::Policy]),
];

/// Answers `GET /v1/audit`.
pub async fn list(gate: &Arc<Gate>, reader: &Reader, query: &str, visit: &Visit) -> Response<Body> {
    let parsed = match Query::parse(query, (gate.clock.now_ms)()) {
        Ok(mut parsed) => {
            parsed.filter.scope = Scope::of(&visit.principal);
            parsed
        }
        Err(detail) => return bad_parameter(detail, visit),
    };
    visit.look("ledger.read", "/v1/audit", &recorded(query));
    let filter = parsed.filter.clone();
    // Writing a thousand entries takes as long as reading them: it is done in the same turn.
    let asked = move |reader: &Reader| {
        let page = reader.page(&parsed.filter, parsed.start)?;
        Ok(serde_json::to_vec(&Listed::of(page, &parsed)).unwrap_or_default())
    };
    match blocking(reader, visit, asked).await {
        Ok(page) => web::json_bytes(StatusCode::OK, page),
        Err(error) => failed(&error, &filter, visit),
    }
}

/// The values of a picker.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Values {
    /// The most frequent first.
    pub values: Vec<Named>,
}

/// Answers `GET /v1/audit/{id}`: one entry, bare.
pub async fn one(reader: &Reader, id: &str, visit: &Visit) -> Response<Body> {
    let mut filter = Filter { limit: Some(1), scope: Scope::of(&visit.principal), ..Filter::default() };
    let shown = truncated(id, 64);
    if filter.set("id", id, 0).is_err() {
        let detail = format!("`{shown}` is not the id of an entry, which is a ULID of 26 characters");
        return Problem::not_found(detail, visit).response();
    }
    visit.look("ledger.read", "/v1/audit/ID", shown);
    let asked = filter.clone();
    match blocking(reader, visit, move |reader| reader.entries(&asked)).await {
        Ok(entries) => match entries.first() {
            Some(entry) => web::json_response(StatusCode::OK, entry),
            None => Problem::not_found(format!("no entry has the id `{shown}`"), visit).response(),
        },
        Err(error) => failed(&error, &filter, visit),
    }
}

/// The columns that `GET /v1/audit/{name}` offers the values of, if it is a picker's name.
#[must_use]
pub fn picker(name: &str) -> Option<&'static [Column]> {
    PICKERS.into_iter().find(|(picker, _)| *picker == name).map(|(_, columns)| columns)
}

/// Answers a picker: the values of these columns among the decisions of a filter, the most frequent first.
pub async fn values(
    gate: &Arc<Gate>,
    reader: &Reader,
    (path, columns): (&str, &'static [Column]),
    query: &str,
    visit: &Visit,
) -> Response<Body> {
    let (mut part, mut limit) = (None, DEFAULT_VALUES);
    let parsed = filters(query, (gate.clock.now_ms)(), &PICKING, |name, value, _| {
        match name {
            "q" => part = Some(value.to_owned()),
            "limit" => limit = number(name, value, 1, MAX_VALUES)?,
            _ => return Ok(false),
        }
        Ok(true)
    });
    let filter = match parsed {
        Ok(filter) => Filter { scope: Scope::of(&visit.principal), ..filter },
        Err(detail) => return bad_parameter(detail, visit),
    };
    visit.look("ledger.read", path, &recorded(query));
    let asked = filter.clone();
    match blocking(reader, visit, move |reader| reader.named(&asked, columns, part.as_deref(), limit)).await {
        Ok(values) => web::json_response(StatusCode::OK, &Values { values }),
        Err(error) => failed(&error, &filter, visit),
    }
}

/// Somebody who looks, until it is written down how that ended: after the answer is known, and before its first byte. Of
/// whoever goes before that it is written down too.
pub struct Looking<'a> {
    /// Where it is written down.
    pub gate: &'a Arc<Gate>,
    /// Who, and what they look at.
    pub visit: &'a Visit,
}

impl Looking<'_> {
    /// Writes down what was looked at.
    pub async fn ended(self, status: StatusCode) {
        for entry in self.entries(Some(status)) {
            if let Err(error) = self.gate.ledger.append_eventually(entry).await {
                let request_id = &self.visit.request_id;
                tracing::error!(%request_id, error = %error, "that somebody read the ledger is not recorded yet");
            }
        }
    }

    /// What has not been written down.
    fn entries(&self, status: Option<StatusCode>) -> Vec<Entry> {
        let Self { gate, visit } = self;
        let entry = |look: Look| {
            let metadata = json!({
                "principal": visit.principal.name, "path": look.path, "query": look.query,
                "status": status.map(|status| status.as_u16()),
                "peer": visit.peer.to_string(), "user_agent": visit.user_agent,
            });
            let content = gate.redactor.record(vec![("metadata", metadata)]);
            let time_ms = visit.moment.time_ns / 1_000_000;
            Entry {
                request_id: Some(visit.request_id.clone()),
                ..Entry::event(Kind::Access, look.event_type, time_ms, content)
            }
        };
        visit.looks().into_iter().map(entry).collect()
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        for entry in self.entries(None) {
            self.gate.ledger.note(entry);
        }
    }
}

/// Puts a question to the ledger for whoever looks, when it is their turn.
pub(super) async fn blocking<T: Send + 'static>(
    reader: &Reader,
    visit: &Visit,
    query: impl FnOnce(&Reader) -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, LedgerError> {
    let reader = reader.clone();
    beside(visit, Work::Brief, move || query(&reader)).await?
}

/// Works on what somebody asks for, when it is their turn.
pub(super) async fn beside<T: Send + 'static>(
    visit: &Visit,
    length: Work,
    question: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LedgerError> {
    // Nobody has been let in.
    let Some(turns) = &visit.turns else { return Err(LedgerError::Closed) };
    turns.ask(&visit.principal.name, length, question).await.map_err(unasked)
}

/// Evaluates policies for whoever looks, when the lane is free: an evaluation that does not end holds up no question.
pub(super) async fn evaluated<T: Send + 'static>(
    lane: Lane,
    visit: &Visit,
    evaluation: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LedgerError> {
    let Some(turns) = &visit.turns else { return Err(LedgerError::Closed) };
    turns.evaluate(lane, &visit.principal.name, evaluation).await.map_err(unasked)
}

pub(super) fn unasked(unasked: Unasked) -> LedgerError {
    match unasked {
        Unasked::Waited(wait_ms) => LedgerError::Waited(wait_ms),
        Unasked::Endless(wait_ms) => LedgerError::Endless(wait_ms),
        Unasked::Failed(why) => LedgerError::Unreadable(why),
    }
}

/// Refuses a question that is not put as it should be.
#[must_use]
pub fn bad_parameter(detail: String, visit: &Visit) -> Response<Body> {
    Problem::new(StatusCode::BAD_REQUEST, ProblemType::InvalidParameter, detail, visit).response()
}

/// A question that could not be answered. Where it took too long, says what would narrow it.
pub(super) fn failed(error: &LedgerError, filter: &Filter, visit: &Visit) -> Response<Body> {
    if let LedgerError::TooLarge { entries, .. } = error {
        let fewer = (entries / 2).max(1);
        let detail = format!(
            "{error}, which is all one may have waiting to be read (a quarter of `admin.max_answer_bytes`); ask for fewer at \
             once, as `limit={fewer}`, or export them"
        );
        return bad_parameter(detail, visit);
    }
    if !matches!(error, LedgerError::TooSlow(_)) {
        return unreadable(error, visit);
    }
    let detail = format!("{error}; {} (`admin.query_timeout_ms` is the limit)", filter.advice());
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, ProblemType::QueryTimeout, detail, visit).response()
}

pub(super) fn unreadable(error: &LedgerError, visit: &Visit) -> Response<Body> {
    if let LedgerError::Waited(_) = error {
        let detail =
            format!("{error}; ask less at once (`admin.query_timeout_ms` is how long a question waits)");
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, ProblemType::TooManyQuestions, detail, visit)
            .response();
    }
    if let LedgerError::Endless(_) = error {
        tracing::warn!(request_id = %visit.request_id, error = %error, "an evaluation for a reader keeps its lane");
        let detail = format!(
            "{error}; until it ends, no other of its kind begins (`admin.query_timeout_ms` is the limit)"
        );
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, ProblemType::QueryTimeout, detail, visit)
            .response();
    }
    tracing::error!(request_id = %visit.request_id, error = %error, "the ledger cannot be read");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, ProblemType::LedgerUnreadable, error.to_string(), visit)
        .response()
}
