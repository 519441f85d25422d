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
pub(super) const FACTS: [&str; 47] = [
    "added",
    "after",
    "agent",
    "before",
    "block_id",
    "bytes",
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
    "hook",
    "hooks",
    "key_id",
    "length",
    "loaded_hooks",
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
pub(super) const SAID: [&str; 2] = ["effect", "policy_id"];
/// What names a subject, an action or a resource.
pub(super) const NAMES: [&str; 3] = ["type", "id", "name"];
/// What a subject's properties say of the caller, and a resource's of its server.
pub(super) const PROPERTIES: [&str; 7] = ["agent", "user", "team", "zone", "roles", "verified", "server"];
/// Members of a call's context in which docket says who called.
const CALLER: [&str; 2] = ["agent", "caller"];
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

/// Calls `visit` with everything in a root that may be about somebody: all but what docket wrote itself, and what names the
/// caller. Whose call it was is what a ledger is for, and whose entries an erasure would look for.
pub(super) fn about_others(
    root: &str,
    value: &mut Value,
    place: &Place<'_>,
    visit: &mut impl FnMut(&mut Value, &Place<'_>),
) {
    match (root, &mut *value) {
        ("subject", Value::Object(subject)) => {
            members(subject, &NAMES, place, &mut |value, place| match value {
                Value::Object(properties) if place.is_member("properties") => {
                    members(properties, &PROPERTIES, place, visit);
                }
                value => visit(value, place),
            });
        }
        ("context", Value::Object(context)) => members(context, &CALLER, place, visit),
        _ => foreign(root, value, place, visit),
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

/// Whether what a path from a root leads to is docket's own, which nothing may take away.
pub(super) fn is_own(root: &str, path: &[String]) -> bool {
    match (root, path) {
        (DETERMINING, _) => true,
        (METADATA, [fact, ..]) => FACTS.contains(&fact.as_str()),
        (DIAGNOSTICS, [_, said, ..]) => SAID.contains(&said.as_str()),
        _ => false,
    }
}

/// Whether a path leads to what an action, a subject or a resource is called.
pub(super) fn is_name_of_call(root: &str, path: &[String]) -> bool {
    matches!((root, path), ("action" | "resource" | "subject", [name]) if NAMES.contains(&name.as_str()))
}

/// Who withholds, and in which category.
pub(super) type By = (&'static str, &'static str);

/// The redactor itself, where it cannot do its work.
pub(super) const FAILED: By = ("builtin:withheld", "withheld");

/// Withholds a record. `secrets` are those that are known; where none can be known, no name of a caller's choice stays.
pub(super) fn withhold(record: &mut Record, secrets: Option<&Secrets>, by: By) {
    let may_keep = |text: &str| secrets.is_some_and(|secrets| !secrets.are_in(text));
    let mut edits = Edits::default();
    for (name, value) in &mut record.roots {
        withhold_root(name, value, &may_keep, by, &mut edits);
    }
    record.edits = edits.into_vec();
    record.taken.withheld();
}

/// Withholds one root. Names of a caller's choice stay as far as they may be kept.
pub(super) fn withhold_root(
    root: &str,
    value: &mut Value,
    may_keep: &impl Fn(&str) -> bool,
    by: By,
    edits: &mut Edits,
) {
    foreign(root, value, &Place::root(root), &mut |value, place| {
        let rule = root == DIAGNOSTICS && place.is_member("rule");
        match value {
            Value::Null | Value::Bool(_) => return,
            Value::Object(object) => {
                let mut rest = named(object, may_keep);
                rest.insert("withheld".into(), MARK.into());
                *object = rest;
            }
            Value::Array(items) => items.clear(),
            Value::String(text) if rule && is_name(text) && may_keep(text) => return,
            Value::String(_) | Value::Number(_) => *value = MARK.into(),
        }
        edits.replaced(place.pointer(), Op::Mask, by.0, by.1);
    });
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
