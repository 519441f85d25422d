//! What stays of a record when the rest has to go, and what nothing may take away.
//!
//! Content that cannot be searched is withheld; but an entry without its agent, its policies and its tool would let a
//! caller choose to be anonymous by sending too many passwords. So each root keeps its type, and with it what docket
//! wrote itself; what a caller chose stays only as far as it names the call and repeats none of the secrets. For the
//! same reason docket's own facts are not scrubbed: a caller whose password is its own name would take that name away.

use serde_json::Value;

use super::edit::{Edits, MARK, Op, Place};
use super::scrub::Secrets;
use super::{DETERMINING, DIAGNOSTICS, METADATA, Record};
use crate::json::Object;

/// Members of `metadata` that docket writes from its configuration and its own observation. What it repeats of others
/// (`user_agent`, `query`, `error`) is not among them.
const FACTS: [&str; 43] = [
    "added",
    "after",
    "agent",
    "before",
    "block_id",
    "cause",
    "changed",
    "classification",
    "code",
    "count",
    "cuts",
    "expires",
    "failed_transactions",
    "from",
    "hold_id",
    "holds",
    "key_id",
    "length",
    "name",
    "path",
    "peer",
    "principal",
    "reason",
    "removed",
    "role",
    "roles",
    "scope",
    "seqs",
    "server",
    "sha256",
    "signed_by",
    "skipped",
    "status",
    "stops",
    "subject_digest",
    "team",
    "to",
    "tree",
    "until",
    "user",
    "verified",
    "version",
    "zones",
];
/// Members of a diagnostic that no rule can choose freely.
const SAID: [&str; 2] = ["effect", "policy_id"];
/// What names a subject, an action or a resource.
const NAMES: [&str; 3] = ["type", "id", "name"];
/// What a subject's properties say of the caller, and a resource's of its server.
const PROPERTIES: [&str; 7] = ["agent", "user", "team", "zone", "roles", "verified", "server"];
/// A longer name is none. Shorter than the beginning of a secret that scrubbing looks for.
pub(super) const MAX_NAME_BYTES: usize = 200;

/// Calls `visit` with everything in a root that docket did not write itself.
pub(super) fn foreign(
    root: &str,
    value: &mut Value,
    place: &Place<'_>,
    visit: &mut impl FnMut(&mut Value, &Place<'_>),
) {
    match (root, value) {
        (DETERMINING, _) => {}
        (METADATA, Value::Object(object)) => members(object, &FACTS, place, visit),
        (DIAGNOSTICS, Value::Array(items)) => {
            for (index, item) in items.iter_mut().enumerate() {
                match item {
                    Value::Object(object) => members(object, &SAID, &place.item(index), visit),
                    item => visit(item, &place.item(index)),
                }
            }
        }
        (_, value) => visit(value, place),
    }
}

fn members(
    object: &mut Object,
    own: &[&str],
    place: &Place<'_>,
    visit: &mut impl FnMut(&mut Value, &Place<'_>),
) {
    for (name, member) in object.iter_mut().filter(|(name, _)| !own.contains(&name.as_str())) {
        visit(member, &place.member(name));
    }
}

/// Withholds a record. `secrets` are those that are known; where none can be known, no name of a caller's choice stays.
pub(super) fn withhold(record: &mut Record, secrets: Option<&Secrets>) {
    let clean = |text: &str| secrets.is_some_and(|secrets| !secrets.are_in(text));
    let mut edits = Edits::default();
    for (name, value) in &mut record.roots {
        foreign(name, value, &Place::root(name), &mut |value, place| {
            let rule = *name == DIAGNOSTICS && place.is_member("rule");
            match value {
                Value::Null | Value::Bool(_) => return,
                Value::Object(object) => {
                    let mut rest = named(object, &clean);
                    rest.insert("withheld".into(), MARK.into());
                    *object = rest;
                }
                Value::Array(items) => items.clear(),
                Value::String(text) if rule && is_name(text) && clean(text) => return,
                Value::String(_) | Value::Number(_) => *value = MARK.into(),
            }
            edits.note(place, Op::Mask, "withheld", "withheld");
        });
    }
    record.edits = edits.into_vec();
}

/// What names the thing that an object describes, as far as it may be kept.
pub(super) fn named(object: &Object, may_keep: &impl Fn(&str) -> bool) -> Object {
    let keeps = |value: &Value| match value {
        Value::String(text) => is_name(text) && may_keep(text),
        Value::Array(items) => {
            items.len() <= 64
                && items.iter().all(|item| item.as_str().is_some_and(|text| is_name(text) && may_keep(text)))
        }
        Value::Null | Value::Bool(_) => true,
        Value::Number(_) | Value::Object(_) => false,
    };
    let kept = |object: &Object, names: &[&str]| -> Object {
        let members = names.iter().filter_map(|name| object.get_key_value(*name));
        members.filter(|(_, value)| keeps(value)).map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let mut result = kept(object, &NAMES);
    if let Some(Value::Object(properties)) = object.get("properties") {
        let properties = kept(properties, &PROPERTIES);
        if !properties.is_empty() {
            result.insert("properties".into(), Value::Object(properties));
        }
    }
    result
}

fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME_BYTES
}
