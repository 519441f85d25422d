//! Parameters as OpenAPI writes them: the filters from the table that reads them, the others by hand.

use serde_json::{Map, Value, json};

use crate::api::export::Format;
use crate::ledger::filter::parameters::{PARAMETERS, Parameter, Sets, words};
use crate::ledger::{FIELDS, MAX_LIMIT, MORE_FIELDS};

/// A ULID, as docket accepts it.
const ULID: &str = "^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$";

/// A parameter of the query.
pub(super) fn query(name: &str, about: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "query", "description": about, "schema": schema})
}

/// A header of the request.
pub(super) fn header(name: &str, about: &str) -> Value {
    json!({"name": name, "in": "header", "description": about, "schema": {"type": "string"}})
}

/// What stands in braces in a path.
pub(super) fn of_path(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|it| it.strip_prefix('{')?.strip_suffix('}'));
    let told = names.map(|name| {
        let (about, schema) = match name {
            "id" | "hold_id" | "block_id" => ("A ULID.", json!({"type": "string", "pattern": ULID})),
            "request_id" => ("The id of a request.", json!({"type": "string", "minLength": 1})),
            "kind" => ("Which log.", json!({"type": "string", "enum": ["KIND_DECISION", "KIND_ACCESS"]})),
            "digest" => (
                "`sha256:` and 64 hex digits.",
                json!({"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}),
            ),
            "level" => ("The tile level, from 0.", json!({"type": "integer", "minimum": 0, "maximum": 7})),
            "tile" => (
                "Which tile of its level, as C2SP `tlog-tiles` writes it: `007`, `x001/234`, or `007.p/17` for \
                 one that is not full. From 1,000 on it has more than one segment.",
                json!({"type": "string", "examples": ["000", "000.p/1"]}),
            ),
            "server" => (
                "The name of a configured server.",
                json!({"type": "string", "minLength": 1, "examples": ["filesystem"]}),
            ),
            _ => ("A name, or an id.", json!({"type": "string", "minLength": 1})),
        };
        json!({"name": name, "in": "path", "required": true, "description": about, "schema": schema})
    });
    told.collect()
}

/// Every filter, by reference.
pub(super) fn filters() -> impl Iterator<Item = Value> {
    PARAMETERS.iter().map(|parameter| shared(parameter.name))
}

/// A reference to one of [`all_shared`].
pub(super) fn shared(name: &str) -> Value {
    json!({"$ref": format!("#/components/parameters/{name}")})
}

/// The parameters that several operations take, by name.
pub(super) fn all_shared() -> Map<String, Value> {
    let request_id = header(
        "X-Request-Id",
        "Names the request, if it is 1 to 128 of `A-Z a-z 0-9 . _ : -`; otherwise docket does.",
    );
    let known = header("If-None-Match", "The `ETag` of what is there already.");
    let own = [("X-Request-Id", request_id), ("If-None-Match", known)];
    let filters = PARAMETERS.iter().map(|parameter| (parameter.name, filter(parameter)));
    filters.chain(own).map(|(name, parameter)| (name.to_owned(), parameter)).collect()
}

fn filter(parameter: &Parameter) -> Value {
    let any_of = |item: Value| json!({"type": "array", "items": item, "minItems": 1, "maxItems": 100});
    let text = || json!({"type": "string", "minLength": 1});
    let schema = match parameter.sets {
        Sets::Exact(column) => any_of(words(column).map_or_else(text, |words| {
            let words: Vec<&str> = words.into_iter().map(|(word, _)| word).collect();
            json!({"type": "string", "enum": words})
        })),
        Sets::Part(_) => any_of(text()),
        Sets::RequestId => text(),
        Sets::Id | Sets::CallId => json!({"type": "string", "pattern": ULID}),
        Sets::MinDuration => json!({"type": "number", "minimum": 0, "maximum": 1e12}),
        Sets::Since | Sets::Until => {
            json!({"type": "string", "minLength": 1, "examples": ["15m", "2026-11-20", "2026-11-20T08:00:00Z"]})
        }
    };
    let also = if parameter.synonyms.is_empty() {
        String::new()
    } else {
        format!(" Others' names for it are taken too: `{}`.", parameter.synonyms.join("`, `"))
    };
    let mut about = parameter.about.to_owned();
    if let Some(first) = about.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    query(parameter.name, &format!("{about}.{also}"), &schema)
}

/// Which page of a list.
pub(super) fn paging() -> impl Iterator<Item = Value> {
    let members: Vec<&str> = FIELDS.into_iter().chain(MORE_FIELDS).collect();
    let own = [
        query(
            "limit",
            "Entries on a page. `pageSize` is the same.",
            &json!({"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 100}),
        ),
        query(
            "page",
            "Which page, from 1. Not together with `cursor`.",
            &json!({"type": "integer", "minimum": 1, "maximum": u32::MAX, "default": 1}),
        ),
        json!({
            "name": "fields", "in": "query", "description": "Only these members of each entry.", "style": "form", "explode": false,
            "schema": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": members}},
        }),
    ];
    own.into_iter().chain(listing())
}

/// Order and beginning of a list.
fn listing() -> [Value; 3] {
    [
        query("order", "Newest first, or oldest first.", &json!({"type": "string", "enum": ["desc", "asc"]})),
        query(
            "cursor",
            "The `nextCursor` of the page before, or the `seq` of the last entry that was received.",
            &json!({"type": "string", "minLength": 1}),
        ),
        query(
            "after",
            "Only entries after the one of this leaf index.",
            &json!({"type": "integer", "minimum": -1}),
        ),
    ]
}

/// In which form, and how much of it.
pub(super) fn export() -> impl Iterator<Item = Value> {
    let formats = Format::ALL.map(Format::as_str);
    let own = [
        query("format", "The form.", &json!({"type": "string", "enum": formats, "default": "json"})),
        query("limit", "At most so many entries.", &json!({"type": "integer", "minimum": 1})),
        query(
            "offset",
            "Leaves out so many at the beginning.",
            &json!({"type": "integer", "minimum": 0, "default": 0}),
        ),
        query(
            "gzip",
            "Compresses a form that is not compressed anyway.",
            &json!({"type": "boolean", "default": false}),
        ),
    ];
    own.into_iter().chain(listing())
}
