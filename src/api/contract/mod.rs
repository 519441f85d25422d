//! The API as a contract: an OpenAPI 3.1 document for each plane, and what its problem types mean.
//!
//! Schemas come from the types that are sent and received, filters from the table that reads them, and who may ask what from the
//! table that lets them; a test compares the paths with it. What is written here by hand is which of these go together. Nothing
//! here knows a request.

mod admin;
mod data;
mod operation;
mod parameters;
mod problems;

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::web::cached::{Cached, Freshness};
use crate::web::{self, Body, PROBLEMS_PATH};
use operation::Schemas;

pub use problems::{html, markdown};

/// Where the document of a plane is, on that plane.
pub const PATH: &str = "/v1/openapi.json";

static ADMIN: LazyLock<Bytes> = LazyLock::new(|| text(Side::Admin).into());
static DATA: LazyLock<Bytes> = LazyLock::new(|| text(Side::Data).into());
static PROBLEMS: LazyLock<Bytes> = LazyLock::new(|| html().into());

/// A plane, as its document is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// People's.
    Admin,
    /// Agents'.
    Data,
}

/// Answers what is public on both planes and says what the rest is: the document, and the problem types. `None` for other paths.
#[must_use]
pub fn answer(side: Side, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
    let (bytes, media_type) = match (path, side) {
        (PATH, Side::Admin) => (&*ADMIN, "application/json"),
        (PATH, Side::Data) => (&*DATA, "application/json"),
        (PROBLEMS_PATH, _) => (&*PROBLEMS, "text/html; charset=utf-8"),
        _ => return None,
    };
    let tag = crate::digest::sha256(bytes);
    Some(Cached { tag: &tag, freshness: Freshness::Checked }.response(headers, || {
        let mut response = web::stream_response(Body::whole(bytes.clone()));
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        response
    }))
}

/// The document of a plane, indented, with a line break at its end.
#[must_use]
pub fn text(side: Side) -> String {
    format!("{:#}\n", document(side))
}

/// The document of a plane.
#[must_use]
pub fn document(side: Side) -> Value {
    let (title, about, operations) = match side {
        Side::Admin => ("docket, admin plane", admin::ABOUT, admin::operations()),
        Side::Data => ("docket, data plane", data::ABOUT, data::operations()),
    };
    let (mut paths, mut schemas) = (Map::new(), Schemas::default());
    let mut tags: Vec<&str> = Vec::new();
    for operation in operations {
        if !tags.contains(&operation.tag) {
            tags.push(operation.tag);
        }
        let (path, method) = (operation.path, operation.method.as_str().to_ascii_lowercase());
        let told = operation.document(&mut schemas);
        let at = paths.entry(path).or_insert_with(|| json!({}));
        if let Some(methods) = at.as_object_mut() {
            methods.insert(method, told);
        }
    }
    let (mut parameters, mut security) =
        (parameters::all_shared(), vec![json!({"bearer": []}), json!({"basic": []})]);
    if side == Side::Data {
        parameters.retain(|name, _| name.contains('-'));
        // Bound to loopback, it takes callers without a token.
        security.push(json!({}));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": env!("CARGO_PKG_VERSION"),
            "description": about,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags.into_iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        "security": security,
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "parameters": parameters,
            "headers": operation::headers(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "The token is the password; any user name will do."},
            },
        },
    })
}

/// Every path of the admin plane that needs a token, with its method, as the table of who may ask writes it.
#[cfg(test)]
fn guarded() -> Vec<(http::Method, String)> {
    let guarded = admin::operations().into_iter().filter(|operation| !operation.is_public);
    guarded.map(|operation| (operation.method.clone(), operation.route())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::routes;

    #[test]
    fn what_is_told_is_what_is_answered() {
        let mut told = guarded();
        let mut answered: Vec<_> =
            routes::all().map(|route| (route.method(), route.path.to_owned())).collect();
        let key = |(method, path): &(http::Method, String)| format!("{path} {method}");
        told.sort_by_key(key);
        answered.sort_by_key(key);
        assert_eq!(told, answered);
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_operation_has_its_own_name() {
        for side in [Side::Admin, Side::Data] {
            let document = document(side);
            let text = document.to_string();
            let mut rest = text.as_str();
            while let Some((_, after)) = rest.split_once("\"$ref\":\"#") {
                let (pointer, after) = after.split_once('"').unwrap();
                assert!(document.pointer(pointer).is_some(), "{pointer}");
                rest = after;
            }
            let mut ids: Vec<&str> = Vec::new();
            for methods in document["paths"].as_object().unwrap().values() {
                ids.extend(
                    methods.as_object().unwrap().values().map(|it| it["operationId"].as_str().unwrap()),
                );
            }
            let count = ids.len();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), count);
            assert!(count > 5, "{side:?}");
        }
    }
}
