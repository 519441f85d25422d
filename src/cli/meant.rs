//! What an id belongs to that was given where another kind of id is taken.

use serde_json::Value;
use ulid::Ulid;

use super::client::{encode, runtime};
use super::{Remote, render};
use crate::ledger::{Filter, Order};

/// Says what has this id, by one of these names of it, and which command takes that; `None` where nothing has it, or nothing that
/// whoever asks may see. Each name that it could have is a look at the ledger.
pub fn meant(remote: &Remote, id: &str, names: [&'static str; 2]) -> Option<String> {
    let could_be = |name: &&str| *name == "request_id" || Ulid::from_string(id).is_ok();
    let found = |name| Some((name, first(remote, name, id).ok().flatten()?));
    let (name, entry) = names.into_iter().filter(could_be).find_map(found)?;
    let explains = |entry: &Value| match render::field(entry, "request_id") {
        request if request.is_empty() => String::new(),
        request => format!(", and `docket explain {request}` explains its request"),
    };
    Some(match name {
        "id" => format!("`{id}` is the id of an entry: `docket get {id}` prints it{}", explains(&entry)),
        "call_id" => format!(
            "`{id}` is the id of a call: `docket get {}` prints its first entry{}",
            render::field(&entry, "id"),
            explains(&entry)
        ),
        _ => format!("`{id}` is the id of a request: `docket explain {id}` explains it"),
    })
}

/// The oldest entry that a filter by an id finds.
fn first(remote: &Remote, name: &str, id: &str) -> anyhow::Result<Option<Value>> {
    if remote.ledger.is_some() {
        let mut filter = Filter { limit: Some(1), order: Order::Oldest, ..Filter::default() };
        filter.set(name, id, 0).map_err(anyhow::Error::msg)?;
        let entries = remote.reader()?.entries(&filter)?;
        return Ok(entries.first().map(serde_json::to_value).transpose()?);
    }
    let path = format!("/v1/audit?{name}={}&limit=1&order=asc", encode(id));
    let answer = runtime()?.block_on(remote.client()?.get(&path))?;
    Ok(answer.and_then(|answer| answer.pointer("/entries/0").cloned()))
}
