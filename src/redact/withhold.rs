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
pub(super) const FACTS: [&str; 48] = [
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
    "settings",
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
/// Roots of a call that have a name.
const NAMED: [&str; 3] = ["action", "resource", "subject"];
/// What names a subject, an action or a resource.
pub(super) const NAMES: [&str; 3] = ["type", "id", "name"];
/// What a subject's properties say of the caller, and a resource's of its server.
pub(super) const PROPERTIES: [&str; 7] = ["agent", "user", "team", "zone", "roles", "verified", "server"];
/// What a resource's properties say where docket wrote them.
const CONFIGURED: [&str; 3] = ["classification", "definition_sha256", "server"];
/// Members of a call's context in which docket says who called.
const CALLER: [&str; 2] = ["agent", "caller"];
/// Members of a call's context that docket writes or removes, whatever a caller says.
pub(super) const CIRCUMSTANCES: [&str; 8] =
    ["agent", "approval", "caller", "listing", "peer", "protocol", "request_id", "time"];
/// Members of an explanation trace that say where something stands in the policies.
const TRACED: [&str; 10] = [
    "column",
    "effect",
    "end_line",
    "file",
    "line",
    "package",
    "policy_id",
    "policy_version",
    "rule",
    "title",
];
/// A rule or policy that calls itself by a longer name has none.
const MAX_IDENTIFIER_BYTES: usize = 64;
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

/// Who wrote those members of a record that either docket or a caller may have written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Authors {
    /// docket wrote the properties of subject and resource, as it does for MCP; on the decision API a caller asserts them.
    pub properties: bool,
    /// The policy itself chose under which id it decides, as the object of an entry point may.
    pub policy_ids: bool,
}

impl Authors {
    /// Those of a record.
    pub(super) fn of(record: &Record) -> Self {
        let context = record.roots.iter().find(|(name, _)| *name == "context").map(|(_, context)| context);
        let protocol = context.and_then(|context| context.get("protocol")).and_then(Value::as_str);
        Self {
            properties: protocol.is_some_and(|protocol| protocol.starts_with("mcp/")),
            policy_ids: record.policy_ids_chosen,
        }
    }

    /// Members of the properties of a root that docket wrote.
    pub(super) fn properties_of(self, root: &str) -> &'static [&'static str] {
        match root {
            "subject" if self.properties => &PROPERTIES,
            "resource" if self.properties => &CONFIGURED,
            _ => &[],
        }
    }
}

/// Whose words a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Voice {
    /// Source of a policy, which no password may make unreadable; a random one is no word of it.
    Policy,
    /// Anybody's.
    Any,
}

/// Calls `visit` with everything in a root that may repeat a secret: all but what docket itself knows, and what names the
/// call. A caller whose password is the name of its tool would take away which tool it called.
pub(super) fn repeating(
    root: &str,
    value: &mut Value,
    place: &Place<'_>,
    authors: Authors,
    visit: &mut impl FnMut(&mut Value, &Place<'_>, Voice),
) {
    match (root, &mut *value) {
        (DETERMINING, value) if authors.policy_ids => {
            each_policy_id(root, value, &mut |id, place| visit(id, place, Voice::Any));
        }
        (DIAGNOSTICS, Value::Array(items)) => {
            for (index, item) in items.iter_mut().enumerate() {
                let place = place.item(index);
                let Value::Object(object) = item else {
                    visit(item, &place, Voice::Any);
                    continue;
                };
                for (name, member) in object.iter_mut() {
                    let own = match name.as_str() {
                        "effect" => true,
                        "policy_id" => !authors.policy_ids,
                        "rule" => !authors.policy_ids && is_identifier(member),
                        _ => false,
                    };
                    if !own {
                        visit(member, &place.member(name), Voice::Any);
                    }
                }
            }
        }
        (_, Value::Object(object)) if NAMED.contains(&root) => {
            let names = aside(object, &NAMES);
            let own = lend_own(root, value, authors);
            visit(value, place, Voice::Any);
            return_own(value, own);
            if let Value::Object(object) = value {
                object.extend(names);
            }
        }
        ("context", Value::Object(object)) => {
            let own = aside(object, &CIRCUMSTANCES);
            visit(value, place, Voice::Any);
            if let Value::Object(object) = value {
                object.extend(own);
            }
        }
        (METADATA, Value::Object(object)) => {
            members(object, &FACTS, place, &mut |value, place| match value {
                Value::Array(items) if is_trace(place) => traced(items, place, visit),
                value => visit(value, place, Voice::Any),
            });
        }
        _ => foreign(root, value, place, &mut |value, place| visit(value, place, Voice::Any)),
    }
}

/// The same of what may be about somebody other than the caller: see [`about_others`].
pub(super) fn repeating_others(
    root: &str,
    value: &mut Value,
    place: &Place<'_>,
    authors: Authors,
    visit: &mut impl FnMut(&mut Value, &Place<'_>, Voice),
) {
    let properties = authors.properties || root == "subject";
    repeating(root, value, place, Authors { properties, ..authors }, visit);
}

/// Whether this is a member of `metadata` that lists what an explanation says.
fn is_trace(place: &Place<'_>) -> bool {
    ["why", "why_not", "rules"].iter().any(|name| place.is_member(name))
}

/// Visits what a trace says beyond the policies' own words.
fn traced(items: &mut [Value], place: &Place<'_>, visit: &mut impl FnMut(&mut Value, &Place<'_>, Voice)) {
    for (index, item) in items.iter_mut().enumerate() {
        let place = place.item(index);
        let Value::Object(object) = item else {
            visit(item, &place, Voice::Any);
            continue;
        };
        for (name, member) in object.iter_mut().filter(|(name, _)| !TRACED.contains(&name.as_str())) {
            let place = place.member(name);
            match (name.as_str(), member) {
                ("conditions" | "via" | "alternatives", Value::Array(items)) => traced(items, &place, visit),
                // They are named as the policy writes what it reads.
                ("values", Value::Object(values)) => {
                    members(values, &[], &place, &mut |value, place| visit(value, place, Voice::Any));
                }
                ("condition" | "undefined", member) => visit(member, &place, Voice::Policy),
                (_, member) => visit(member, &place, Voice::Any),
            }
        }
    }
}

/// Takes members out of an object, to be put back.
fn aside(object: &mut Object, names: &[&str]) -> Vec<(String, Value)> {
    names.iter().filter_map(|name| object.remove_entry(*name)).collect()
}

/// Whether a value is what a policy's author would call a rule or a policy, rather than a message.
pub(super) fn is_identifier(value: &Value) -> bool {
    value.as_str().is_some_and(|text| {
        text.len() <= MAX_IDENTIFIER_BYTES
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:/-".contains(&byte))
    })
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

/// Whether what a path leads to, from a root with that value, is docket's own, which nothing may take away.
pub(super) fn is_own(root: &str, value: &Value, path: &[String], authors: Authors) -> bool {
    match (root, path) {
        (DETERMINING, _) => true,
        (METADATA, [fact, ..]) => FACTS.contains(&fact.as_str()),
        (DIAGNOSTICS, [index, rule]) if rule == "rule" => {
            let said = index.parse::<usize>().ok().and_then(|index| value.get(index));
            said.and_then(|said| said.get("rule")).is_some_and(is_identifier)
        }
        (DIAGNOSTICS, [_, said, ..]) => SAID.contains(&said.as_str()),
        ("context", [circumstance, ..]) => CIRCUMSTANCES.contains(&circumstance.as_str()),
        ("resource" | "subject", [properties, own, ..]) if properties == "properties" => {
            authors.properties_of(root).contains(&own.as_str())
        }
        _ => false,
    }
}

/// Whether a path leads to what an action, a subject or a resource is called.
pub(super) fn is_name_of_call(root: &str, path: &[String]) -> bool {
    NAMED.contains(&root) && matches!(path, [name] if NAMES.contains(&name.as_str()))
}

/// Whether a path leads to a property that a reader takes for what docket knows, whoever wrote it.
pub(super) fn is_asserted(root: &str, path: &[String]) -> bool {
    let own = |name: &str| PROPERTIES.contains(&name) || CONFIGURED.contains(&name);
    matches!(path, [properties, name, ..] if NAMED.contains(&root) && properties == "properties" && own(name))
}

/// Takes what docket wrote out of the properties of a root, to be put back by [`return_own`] when something took them all.
pub(super) fn lend_own(root: &str, value: &mut Value, authors: Authors) -> Vec<(String, Value)> {
    let properties = value.get_mut("properties").and_then(Value::as_object_mut);
    properties.map(|properties| aside(properties, authors.properties_of(root))).unwrap_or_default()
}

/// Puts back what [`lend_own`] took.
pub(super) fn return_own(value: &mut Value, own: Vec<(String, Value)>) {
    let Value::Object(object) = value else { return };
    if own.is_empty() {
        return;
    }
    if !object.get("properties").is_some_and(Value::is_object) {
        object.insert("properties".into(), Value::Object(Object::new()));
    }
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.extend(own);
    }
}

/// Who withholds, and in which category.
pub(super) type By = (&'static str, &'static str);

/// The redactor itself, where it cannot do its work.
pub(super) const FAILED: By = ("builtin:withheld", "withheld");

/// Withholds a record. `secrets` are those that are known; where none can be known, no name of a caller's choice stays.
/// Where they are, what names the call stays even if it repeats one, lest a caller take it away.
pub(super) fn withhold(record: &mut Record, secrets: Option<&Secrets>, by: By) {
    let may_keep = |text: &str| secrets.is_some_and(|secrets| !secrets.are_in(text));
    let mut edits = Edits::default();
    for (name, value) in &mut record.roots {
        if record.policy_ids_chosen {
            each_policy_id(name, value, &mut |id, place| {
                if !id.as_str().is_some_and(may_keep) {
                    *id = MARK.into();
                    edits.replaced(place.pointer(), Op::Mask, by.0, by.1);
                }
            });
        }
        withhold_root(name, value, secrets.is_some(), &may_keep, by, &mut edits);
    }
    record.edits = edits.into_vec();
    record.taken.withheld();
}

/// Withholds one root. What names the call stays where it may, and other names of a caller's choice as far as they may be
/// kept.
pub(super) fn withhold_root(
    root: &str,
    value: &mut Value,
    may_name: bool,
    may_keep: &impl Fn(&str) -> bool,
    by: By,
    edits: &mut Edits,
) {
    foreign(root, value, &Place::root(root), &mut |value, place| {
        let rule = root == DIAGNOSTICS && place.is_member("rule");
        match value {
            Value::Null | Value::Bool(_) => return,
            Value::Object(object) => {
                let names_call = may_name && NAMED.contains(&root);
                let mut rest = named(object, &|text| names_call || may_keep(text), may_keep);
                rest.insert("withheld".into(), MARK.into());
                *object = rest;
            }
            Value::Array(items) => items.clear(),
            Value::String(_) if rule && may_name && is_identifier(value) => return,
            Value::String(text) if rule && is_name(text) && may_keep(text) => return,
            Value::String(_) | Value::Number(_) => *value = MARK.into(),
        }
        edits.replaced(place.pointer(), Op::Mask, by.0, by.1);
    });
}

/// What names the thing that an object describes, and what its properties say of it, each as far as it may be kept.
pub(super) fn named(
    object: &Object,
    may_name: &impl Fn(&str) -> bool,
    may_keep: &impl Fn(&str) -> bool,
) -> Object {
    let mut result = kept(object, &NAMES, may_name);
    if let Some(Value::Object(properties)) = object.get("properties") {
        let properties = kept(properties, &PROPERTIES, may_keep);
        if !properties.is_empty() {
            result.insert("properties".into(), Value::Object(properties));
        }
    }
    result
}

fn kept(object: &Object, names: &[&str], may_keep: &impl Fn(&str) -> bool) -> Object {
    let keeps = |value: &Value| match value {
        Value::String(text) => is_name(text) && may_keep(text),
        Value::Array(items) => {
            items.len() <= 64
                && items.iter().all(|item| item.as_str().is_some_and(|text| is_name(text) && may_keep(text)))
        }
        Value::Null | Value::Bool(_) => true,
        Value::Number(_) | Value::Object(_) => false,
    };
    let members = names.iter().filter_map(|name| object.get_key_value(*name));
    members.filter(|(_, value)| keeps(value)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Calls `visit` with the policy ids in a root.
pub(super) fn each_policy_id(root: &str, value: &mut Value, visit: &mut impl FnMut(&mut Value, &Place<'_>)) {
    if let (DETERMINING | DIAGNOSTICS, Value::Array(items)) = (root, value) {
        let place = Place::root(root);
        for (index, item) in items.iter_mut().enumerate() {
            if let Some(id) = item.get_mut("policy_id").filter(|id| id.is_string()) {
                visit(id, &place.item(index).member("policy_id"));
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME_BYTES
}
