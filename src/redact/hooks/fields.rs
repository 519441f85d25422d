//! Fields: what of a record hooks are asked about, flat, and where each is.
//!
//! Offered is what strangers and policies say: arguments, captured results, messages, properties. Not offered is what docket
//! itself knows (who called, what, when, what was decided and by what), so that no edit can name it.

use std::fmt::Write as _;

use serde_json::Value;

use super::failure::{Cause, Failure};
use super::host;
use crate::json::Object;
use crate::redact::edit::push_member;
use crate::redact::withhold::{Authors, CIRCUMSTANCES, FACTS, NAMES, SAID, is_identifier};
use crate::redact::{DETERMINING, DIAGNOSTICS, METADATA, Record};

/// More fields than this are more than any hook can read in time.
const MAX_FIELDS: usize = 1 << 16;
/// Bytes of all pointers and texts together.
const MAX_BYTES: usize = 8 << 20;

/// A part of a record that hooks are asked about, with all that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Index of its root.
    pub root: usize,
    /// From the record.
    pub pointer: String,
}

/// One field.
pub(super) struct Field<'r> {
    /// Index of its root.
    pub root: usize,
    /// From the record.
    pub pointer: String,
    /// What is there.
    pub value: &'r Value,
    number: String,
}

impl Field<'_> {
    /// As it is lowered into the guest.
    pub(super) fn lowered(&self) -> host::Field<'_> {
        let length = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let value = match self.value {
            Value::Null => host::Value::Null,
            Value::Bool(truth) => host::Value::Boolean(*truth),
            Value::Number(_) => host::Value::Number(&self.number),
            Value::String(text) => host::Value::Text(text),
            Value::Array(items) => host::Value::Array(length(items.len())),
            Value::Object(object) => host::Value::Object(length(object.len())),
        };
        host::Field { pointer: &self.pointer, value }
    }

    /// The text or number that is there.
    pub(super) fn text(&self) -> Option<&str> {
        match self.value {
            Value::String(text) => Some(text),
            Value::Number(_) => Some(&self.number),
            _ => None,
        }
    }
}

/// The parts of a record that hooks are asked about.
pub(super) fn parts(record: &Record) -> Vec<Part> {
    let mut parts = Vec::new();
    each_part(record, &mut |root, pointer, _| parts.push(Part { root, pointer }));
    parts
}

/// The fields of a record: each container before its members.
pub(super) fn fields(record: &Record) -> Result<Vec<Field<'_>>, Failure> {
    let mut list = List { fields: Vec::with_capacity(64), bytes: 0 };
    let mut all = Ok(());
    each_part(record, &mut |root, pointer, value| {
        if all.is_ok() {
            all = list.add(root, pointer, value);
        }
    });
    all.map(|()| list.fields)
}

struct List<'r> {
    fields: Vec<Field<'r>>,
    bytes: usize,
}

impl<'r> List<'r> {
    /// Values nest no deeper than `serde_json` reads them.
    fn add(&mut self, root: usize, pointer: String, value: &'r Value) -> Result<(), Failure> {
        let number = if let Value::Number(number) = value { number.to_string() } else { String::new() };
        self.bytes += pointer.len() + value.as_str().map_or(0, str::len);
        if self.fields.len() >= MAX_FIELDS || self.bytes > MAX_BYTES {
            let detail = format!("a record with more than {MAX_FIELDS} fields or {} MiB", MAX_BYTES >> 20);
            return Err(Failure::new(Cause::TooLarge, detail));
        }
        self.fields.push(Field { root, pointer, value, number });
        let at = self.fields.len() - 1;
        let below = |this: &Self| this.fields.get(at).map(|field| field.pointer.clone()).unwrap_or_default();
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let mut pointer = below(self);
                    // Writing to a string cannot fail.
                    let _ = write!(pointer, "/{index}");
                    self.add(root, pointer, item)?;
                }
            }
            Value::Object(object) => {
                for (name, member) in object {
                    let mut pointer = below(self);
                    push_member(&mut pointer, name);
                    self.add(root, pointer, member)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn each_part<'r>(record: &'r Record, visit: &mut impl FnMut(usize, String, &'r Value)) {
    let authors = Authors::of(record);
    for (root, (name, value)) in record.roots.iter().enumerate() {
        let pointer = format!("/{name}");
        let mut visit = |pointer, value| visit(root, pointer, value);
        match (*name, value) {
            (DETERMINING, _) => {}
            (METADATA, Value::Object(object)) => {
                members(object, &pointer, &|name, _| FACTS.contains(&name), &mut visit);
            }
            (DIAGNOSTICS, Value::Array(items)) => {
                let own = |name: &str, value: &Value| {
                    SAID.contains(&name) || (name == "rule" && is_identifier(value))
                };
                for (index, item) in items.iter().enumerate() {
                    let pointer = format!("{pointer}/{index}");
                    match item {
                        Value::Object(object) => members(object, &pointer, &own, &mut visit),
                        item => visit(pointer, item),
                    }
                }
            }
            ("context", Value::Object(object)) => {
                members(object, &pointer, &|name, _| CIRCUMSTANCES.contains(&name), &mut visit);
            }
            ("action" | "resource" | "subject", Value::Object(object)) => {
                let own = |name: &str, value: &Value| {
                    NAMES.contains(&name) || (name == "properties" && value.is_object())
                };
                members(object, &pointer, &own, &mut visit);
                if let Some(Value::Object(properties)) = object.get("properties") {
                    let known = authors.properties_of(name);
                    let own = |name: &str, _: &Value| known.contains(&name);
                    members(properties, &format!("{pointer}/properties"), &own, &mut visit);
                }
            }
            (_, value) => visit(pointer, value),
        }
    }
}

fn members<'r>(
    object: &'r Object,
    pointer: &str,
    own: &impl Fn(&str, &Value) -> bool,
    visit: &mut impl FnMut(String, &'r Value),
) {
    for (name, value) in object.iter().filter(|(name, value)| !own(name, value)) {
        let mut pointer = pointer.to_owned();
        push_member(&mut pointer, name);
        visit(pointer, value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(protocol: &str) -> Vec<String> {
        let properties = json!({"user": "ada", "claims": {"mail": "m"}, "server": "files"});
        let thing = json!({"type": "t", "id": "i", "properties": properties});
        let context = json!({
            "arguments": {"a~b/c": [1]}, "client": {"name": "c"}, "protocol": protocol, "request_id": "r", "time": "t",
        });
        let said = |rule: &str| json!({"policy_id": "p", "effect": "deny", "rule": rule, "message": "m"});
        let diagnostics = json!([said("no_delete"), said("a whole sentence")]);
        let record = Record {
            roots: vec![
                ("action", json!({"name": "tools/call"})),
                ("subject", thing),
                ("context", context),
                ("determining_policies", json!([{"policy_id": "p"}])),
                ("diagnostics", diagnostics),
                ("metadata", json!({"agent": "a", "peer": "p", "user_agent": "u"})),
            ],
            ..Record::default()
        };
        parts(&record).into_iter().map(|part| part.pointer).collect()
    }

    #[test]
    fn hooks_are_asked_about_what_others_say_and_not_about_what_docket_knows() {
        let said = [
            "/context/arguments",
            "/context/client",
            "/diagnostics/0/message",
            "/diagnostics/1/message",
            "/diagnostics/1/rule",
            "/metadata/user_agent",
        ];
        let of = |properties: &[&str]| -> Vec<String> {
            let properties = properties.iter().map(|name| format!("/subject/properties/{name}"));
            properties.chain(said.map(str::to_owned)).collect()
        };
        assert_eq!(pointers("mcp/2025-11-25"), of(&["claims"]));
        assert_eq!(pointers("authzen/1.0"), of(&["claims", "server", "user"]));
    }
}
