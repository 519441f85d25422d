//! A page of entries, as `GET /v1/audit` answers it.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::openapi::schema::{AnyOfBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::query::{Query, cursor_at};
use crate::ledger::{Page, Stored};

/// A page of a list.
#[derive(Serialize, ToSchema)]
#[schema(as = EntryPage)]
pub struct Listed {
    /// Whole entries, or those members that `fields` names.
    pub entries: Vec<Row>,
    /// Where the page lies.
    pub pagination: Pagination,
}

impl Listed {
    /// What was read, as it was asked for.
    #[must_use]
    pub fn of(page: Page, query: &Query) -> Self {
        let page_size = u64::from(query.filter.limit.unwrap_or_default()).max(1);
        let last = page.entries.last().filter(|_| page.has_more);
        let pagination = Pagination {
            page: query.page,
            page_size,
            total_entries: page.total,
            total_pages: page.total.div_ceil(page_size),
            next_cursor: last.map(|entry| cursor_at(query.filter.order, entry.seq)),
        };
        let row = |entry: Stored| match &query.fields {
            None => Row::Whole(Box::new(entry)),
            Some(fields) => Row::Slim(Slim::of(&entry, fields)),
        };
        Self { entries: page.entries.into_iter().map(row).collect(), pagination }
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

impl Slim {
    fn of(entry: &Stored, fields: &[String]) -> Self {
        let mut value = json!(entry);
        if let Some(members) = value.as_object_mut() {
            members.retain(|name, _| fields.contains(name));
        }
        Self(value)
    }
}

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
