//! Size: a part of an entry that is too large is replaced by its length and digest.
//!
//! The ledger is read far more often than such a part would be, keeps it for years, and every reader pays for it. Whoever
//! has the content can still prove by the digest that it was this. What names the call stays. Runs last, over what
//! redaction left: the digest is of redacted bytes, or it would help guessing what was taken away.

use std::io;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::edit::{Edit, Op};
use super::withhold::named;
use super::{DIAGNOSTICS, Record, is_within};
use crate::json::Object;

/// Bytes of JSON that one part of an entry may have.
pub const MAX_PART_BYTES: usize = 256 << 10;

/// Diagnostics that are kept, without their messages, where all of them are too large.
const MAX_DIAGNOSTICS: usize = 100;

/// Replaces the parts that are too large, and notes it.
pub(super) fn bound(record: &mut Record) {
    for (name, value) in &mut record.roots {
        if !is_large(value) {
            continue;
        }
        match (*name, value) {
            ("context", Value::Object(context)) => {
                // The arguments are a part of their own.
                let mut arguments = context.remove("arguments");
                let large = Value::Object(std::mem::take(context));
                *context = if is_large(&large) {
                    note(&mut record.edits, "/context", Some("/context/arguments"));
                    stub(&large)
                } else if let Value::Object(context) = large {
                    context
                } else {
                    Object::new()
                };
                if let Some(arguments) = arguments.as_mut().filter(|arguments| is_large(arguments)) {
                    note(&mut record.edits, "/context/arguments", None);
                    *arguments = Value::Object(stub(arguments));
                }
                context.extend(arguments.map(|arguments| ("arguments".to_owned(), arguments)));
            }
            (DIAGNOSTICS, value @ Value::Array(_)) => {
                let mut stub = Some(Value::Object(stub(value)));
                let Value::Array(items) = value else { continue };
                items.truncate(MAX_DIAGNOSTICS);
                for item in items.iter_mut().filter_map(Value::as_object_mut) {
                    item.retain(|name, value| {
                        matches!(name.as_str(), "policy_id" | "effect" | "rule")
                            && value.as_str().is_none_or(|text| text.len() <= 1024)
                    });
                    item.extend(stub.take().map(|stub| ("data".to_owned(), stub)));
                }
                note(&mut record.edits, "/diagnostics", None);
            }
            ("action" | "context" | "resource" | "subject", value) => {
                let mut rest = stub(value);
                rest.extend(
                    value.as_object().map(|object| named(object, &|_| true, &|_| true)).unwrap_or_default(),
                );
                *value = Value::Object(rest);
                note(&mut record.edits, &format!("/{name}"), None);
            }
            _ => {}
        }
    }
}

/// Whether what is to be redacted is so much that it takes noticeable time.
#[must_use]
pub fn is_heavy(roots: &[(&'static str, Value)]) -> bool {
    let mut left = MAX_PART_BYTES;
    !roots.iter().all(|(_, value)| fits(value, &mut left))
}

/// Whether a value has no more bytes than are left, about. Stops counting there.
fn fits(value: &Value, left: &mut usize) -> bool {
    const NODE_BYTES: usize = 8;
    let mut take = |bytes: usize| {
        *left = left.saturating_sub(bytes.saturating_add(NODE_BYTES));
        *left > 0
    };
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => take(0),
        Value::String(text) => take(text.len()),
        Value::Array(items) => take(0) && items.iter().all(|item| fits(item, left)),
        Value::Object(object) => {
            take(0)
                && object.iter().all(|(name, member)| {
                    *left = left.saturating_sub(name.len());
                    fits(member, left)
                })
        }
    }
}

fn stub(value: &Value) -> Object {
    let text = value.to_string();
    let digest = hex::encode(Sha256::digest(&text));
    let stub = json!({"truncated": true, "bytes": text.len(), "sha256": digest});
    if let Value::Object(stub) = stub { stub } else { Object::new() }
}

/// Notes that a part went. What was noted below it leads nowhere now, unless it is below `except`.
fn note(edits: &mut Vec<Edit>, path: &str, except: Option<&str>) {
    edits.retain(|edit| {
        !is_within(&edit.path, path) || except.is_some_and(|except| is_within(&edit.path, except))
    });
    edits.push(Edit {
        path: path.to_owned(),
        op: Op::Truncate,
        by: "docket:size".to_owned(),
        category: "size".to_owned(),
    });
}

/// Whether a value is longer than a part may be. Stops counting there, and keeps nothing.
fn is_large(value: &Value) -> bool {
    struct Room(usize);

    impl io::Write for Room {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    serde_json::to_writer(Room(MAX_PART_BYTES), value).is_err()
}
