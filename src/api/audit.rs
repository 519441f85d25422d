//! The audit API: `GET /v1/audit`, one entry of it, and the values its filters take.
//!
//! Every read is itself an entry (`kind = "access"`), written before the first byte of the answer. Reads go on when the
//! ledger cannot append: an incident is no time to lock its investigators out.

use std::borrow::Cow;
use std::sync::Arc;

use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::openapi::schema::{AnyOfBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::query::{Query, cursor_at, filters, number};
use crate::gate::Gate;
use crate::ledger::filter::Scope;
use crate::ledger::rollup::Named;
use crate::ledger::{Column, Entry, Filter, Kind, LedgerError, Reader, Stored};
use crate::text::truncated;
use crate::web::{self, Body, Problem, ProblemType, Visit};

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
    record_access(gate, "ledger.read", "/v1/audit", query, visit).await;
    let (asked, start) = (parsed.filter.clone(), parsed.start);
    match blocking(reader, move |reader| reader.page(&asked, start)).await {
        Ok(page) => {
            let page_size = u64::from(parsed.filter.limit.unwrap_or_default()).max(1);
            let last = page.entries.last().filter(|_| page.has_more);
            let pagination = Pagination {
                page: parsed.page,
                page_size,
                total_entries: page.total,
                total_pages: page.total.div_ceil(page_size),
                next_cursor: last.map(|entry| cursor_at(parsed.filter.order, entry.seq)),
            };
            let row = |entry: Stored| match &parsed.fields {
                None => Row::Whole(Box::new(entry)),
                Some(fields) => Row::Slim(slim(&entry, fields)),
            };
            let entries = page.entries.into_iter().map(row).collect();
            web::json_response(StatusCode::OK, &Listed { entries, pagination })
        }
        Err(error) => failed(&error, &parsed.filter, visit),
    }
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
#[schema(as = EntryPage)]
pub struct Listed {
    /// Whole entries, or those members that `fields` names.
    pub entries: Vec<Row>,
    /// Where the page lies.
    pub pagination: Pagination,
}

/// One entry of a list.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Row {
    /// All of it.
    Whole(Box<Stored>),
    /// Some of its members.
    Slim(Slim),
}

impl PartialSchema for Row {
    /// Either; a whole entry is both.
    fn schema() -> RefOr<Schema> {
        let either = AnyOfBuilder::new().item(Ref::from_schema_name(Stored::name()));
        RefOr::T(Schema::AnyOf(either.item(Ref::from_schema_name(Slim::name())).build()))
    }
}

impl ToSchema for Row {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.extend([
            (Stored::name().into_owned(), Stored::schema()),
            (Slim::name().into_owned(), Slim::schema()),
        ]);
        Stored::schemas(schemas);
    }
}

/// Some members of an entry, as `fields` names them.
#[derive(Serialize)]
pub struct Slim(Value);

impl PartialSchema for Slim {
    /// That of an entry, with no member required.
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::Object(mut entry)) = Stored::schema() else { return Stored::schema() };
        entry.required = Vec::new();
        entry.description = Some("Some members of an entry, as `fields` names them.".into());
        entry.into()
    }
}

impl ToSchema for Slim {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("SlimEntry")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        Stored::schemas(schemas);
    }
}

/// Where a page lies.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pagination {
    /// From 1; always 1 with a `cursor`.
    pub page: u32,
    /// Entries on a full page.
    pub page_size: u64,
    /// Entries that match.
    pub total_entries: u64,
    /// Pages they fill.
    pub total_pages: u64,
    /// The `cursor` of the next page; `null` on the last.
    pub next_cursor: Option<String>,
}

/// The values of a picker.
#[derive(Serialize, ToSchema)]
pub struct Values {
    /// The most frequent first.
    pub values: Vec<Named>,
}

/// Answers `GET /v1/audit/{id}`: one entry, bare.
pub async fn one(gate: &Arc<Gate>, reader: &Reader, id: &str, visit: &Visit) -> Response<Body> {
    let mut filter = Filter { limit: Some(1), scope: Scope::of(&visit.principal), ..Filter::default() };
    let shown = truncated(id, 64);
    if filter.set("id", id, 0).is_err() {
        let detail = format!("`{shown}` is not the id of an entry, which is a ULID of 26 characters");
        return Problem::not_found(detail, visit).response();
    }
    record_access(gate, "ledger.read", "/v1/audit/ID", shown, visit).await;
    let asked = filter.clone();
    match blocking(reader, move |reader| reader.entries(&asked)).await {
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
    record_access(gate, "ledger.read", path, query, visit).await;
    let asked = filter.clone();
    match blocking(reader, move |reader| reader.named(&asked, columns, part.as_deref(), limit)).await {
        Ok(values) => web::json_response(StatusCode::OK, &Values { values }),
        Err(error) => failed(&error, &filter, visit),
    }
}

/// Only these members of an entry.
pub(super) fn slim(entry: &Stored, fields: &[String]) -> Slim {
    let mut value = json!(entry);
    if let Some(members) = value.as_object_mut() {
        members.retain(|name, _| fields.contains(name));
    }
    Slim(value)
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
        "principal": visit.principal.name, "path": path, "query": query,
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
    Problem::new(StatusCode::BAD_REQUEST, ProblemType::InvalidParameter, detail, visit).response()
}

/// A question that could not be answered. Where it took too long, says what would narrow it.
pub(super) fn failed(error: &LedgerError, filter: &Filter, visit: &Visit) -> Response<Body> {
    if !matches!(error, LedgerError::TooSlow(_)) {
        return unreadable(error, visit);
    }
    let detail = format!("{error}; {} (`admin.query_timeout_ms` is the limit)", filter.advice());
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, ProblemType::QueryTimeout, detail, visit).response()
}

pub(super) fn unreadable(error: &LedgerError, visit: &Visit) -> Response<Body> {
    tracing::error!(request_id = %visit.request_id, error = %error, "the ledger cannot be read");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, ProblemType::LedgerUnreadable, error.to_string(), visit)
        .response()
}
