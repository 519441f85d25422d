//! Bulk: single values that are too long to be kept, and bytes that nobody reads as text.
//!
//! An image that went through a tool is recorded as its type, length and digest: whoever has it can prove that it was this
//! one. A long text keeps its beginning. Runs over what redaction left, so that no digest is of what was taken away; `size`
//! then bounds what is left of whole parts.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Record;
use super::edit::{Edit, Edits, Op, Place};
use super::withhold::foreign;
use crate::json::Object;
use crate::text::truncated;

/// Bytes that one text may have, unless it is configured otherwise.
pub const MAX_FIELD_BYTES: usize = 64 << 10;
/// The least that can be configured: a shorter text would not hold what stands for the rest.
pub const MIN_FIELD_BYTES: usize = 256;
/// From this length on a text of base64 is bytes; shorter ones may be names or keys.
const MIN_BASE64_BYTES: usize = 1024;

/// The members that hold the bytes of MCP's content, as paths end.
const CONTENT: [&str; 2] = ["/data", "/blob"];

/// The rule in edits, and the category.
const BY: (&str, &str) = ("docket:size", "size");

/// Shortens what is too long, and notes it.
pub(super) fn shorten(record: &mut Record, max_field_bytes: usize) {
    let mut edits = Edits::resume(std::mem::take(&mut record.edits));
    for (name, value) in &mut record.roots {
        foreign(name, value, &Place::root(name), &mut |value, place| {
            shorten_value(value, place, max_field_bytes, &mut edits);
        });
    }
    record.edits = edits.into_vec();
    // A mask may have put something there that is bytes as well.
    let Record { roots, edits, .. } = record;
    edits
        .retain(|edit| !CONTENT.iter().any(|name| edit.path.ends_with(name)) || leads_somewhere(edit, roots));
}

/// Whether what an edit is about is still there, or went by that edit.
fn leads_somewhere(edit: &Edit, roots: &[(&str, Value)]) -> bool {
    let is_in = |(name, value): &(&str, Value)| {
        let pointer = edit.path.strip_prefix(&Place::root(name).pointer());
        pointer.is_some_and(|pointer| value.pointer(pointer).is_some())
    };
    edit.op == Op::Remove || roots.iter().any(is_in)
}

fn shorten_value(value: &mut Value, place: &Place<'_>, max: usize, edits: &mut Edits) {
    match value {
        Value::String(text) if text.len() > max.min(MIN_BASE64_BYTES) => {
            let short = match bytes_of(text) {
                Some(stub) => Value::Object(stub),
                None if text.len() > max => Value::String(beginning(text, max)),
                None => return,
            };
            *value = short;
            edits.add(place, Op::Truncate, BY.0, BY.1);
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                shorten_value(item, &place.item(index), max, edits);
            }
        }
        Value::Object(object) => {
            if without_content(object) {
                edits.add(place, Op::Truncate, BY.0, BY.1);
            }
            for (name, member) in object.iter_mut() {
                shorten_value(member, &place.member(name), max, edits);
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Puts length and digest in the place of the bytes of MCP's image, audio and blob content, which keeps its type.
fn without_content(object: &mut Object) -> bool {
    // Nearly no object has any, and this asks every object of every record.
    if !object.keys().any(|name| name == "data" || name == "blob") {
        return false;
    }
    let is = |name: &str, values: &[&str]| {
        object.get(name).and_then(Value::as_str).is_some_and(|v| values.contains(&v))
    };
    let member = if is("type", &["image", "audio"]) {
        "data"
    } else if object.contains_key("uri") || object.contains_key("mimeType") {
        "blob"
    } else {
        return false;
    };
    let Some(bytes) = object.get(member).and_then(Value::as_str).and_then(decoded) else { return false };
    object.remove(member);
    object.extend(stub(&bytes));
    true
}

/// The stand-in for a long text that is base64, by itself or as a `data:` URI (RFC 2397).
fn bytes_of(text: &str) -> Option<Object> {
    if text.len() < MIN_BASE64_BYTES {
        return None;
    }
    let uri = text.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    let (kind, encoded) = uri.unwrap_or(("", text));
    let has = |test: fn(&u8) -> bool| encoded.as_bytes().iter().any(test);
    // Long runs of one kind of characters are something else: hexadecimal, or a drawing of dashes.
    let mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
    let bytes = decoded(encoded).filter(|_| mixed)?;
    let mut object = Object::from_iter([("type".to_owned(), "base64".into())]);
    if !kind.is_empty() {
        object.insert("mimeType".into(), truncated(kind, MIN_FIELD_BYTES).into());
    }
    object.extend(stub(&bytes));
    Some(object)
}

/// The bytes of base64, standard or URL-safe, with or without padding and line breaks.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let unpadded = text.trim_end().trim_end_matches('=');
    let joined: String;
    let unpadded = if unpadded.contains(['\r', '\n']) {
        joined = unpadded.replace(['\r', '\n'], "");
        &joined
    } else {
        unpadded
    };
    STANDARD_NO_PAD.decode(unpadded).or_else(|_| URL_SAFE_NO_PAD.decode(unpadded)).ok()
}

fn stub(bytes: &[u8]) -> [(String, Value); 2] {
    [("bytes".into(), bytes.len().into()), ("sha256".into(), hex::encode(Sha256::digest(bytes)).into())]
}

/// The beginning of a text, with the length and the digest of all of it.
fn beginning(text: &str, max: usize) -> String {
    let digest = hex::encode(Sha256::digest(text));
    let rest = format!("… [truncated: {} bytes, sha256 {digest}]", text.len());
    format!("{}{rest}", truncated(text, max.saturating_sub(rest.len())))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;
    use crate::redact::{HashKey, Redactor, Settings};

    fn shortened(value: Value) -> (Value, Vec<String>) {
        let settings = Settings { max_field_bytes: 2000, ..Settings::default() };
        let redactor = Redactor::new(&settings, HashKey::new(&[7; 32]));
        let record = redactor.record(vec![("r", value)]).into_inner();
        let again = redactor.record(record.roots.clone()).into_inner();
        assert_eq!((&again.roots, again.edits.len()), (&record.roots, 0), "it is idempotent");
        let edits =
            record.edits.iter().map(|edit| format!("{:?} {} {}", edit.op, edit.path, edit.by)).collect();
        (record.roots.into_iter().next().unwrap().1, edits)
    }

    #[test]
    fn long_texts_keep_their_beginning() {
        let text = "é words ".repeat(300);
        let (after, edits) = shortened(json!({"a": [text.clone()], "b": "é words ".repeat(200)}));
        let kept = after["a"][0].as_str().unwrap();
        let digest = hex::encode(Sha256::digest(&text));
        assert!(kept.len() <= 2000 && kept.starts_with("é words é"), "{kept}");
        assert!(kept.ends_with(&format!("… [truncated: {} bytes, sha256 {digest}]", text.len())), "{kept}");
        assert_eq!(after["b"], json!("é words ".repeat(200)));
        assert_eq!(edits, ["Truncate /r/a/0 docket:size"]);
    }

    #[test]
    fn bytes_are_their_type_length_and_digest() {
        let bytes: Vec<u8> = (0..3000u32).map(|n| (n * 7919 % 251).to_le_bytes()[0]).collect();
        let (long, short) = (STANDARD.encode(&bytes), STANDARD.encode(&bytes[..10]));
        let digest = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
        let given = json!({
            "content": [
                {"type": "image", "data": short, "mimeType": "image/png"},
                {"type": "resource", "resource": {"uri": "file:///x", "mimeType": "application/pdf", "blob": long}},
                {"type": "text", "data": short},
            ],
            "raw": long, "uri": format!("data:image/gif;base64,{long}"), "hex": hex::encode(&bytes[..500]),
            "small": short, "dashes": "-".repeat(1500),
        });
        let (after, mut edits) = shortened(given);
        assert_eq!(
            after,
            json!({
                "content": [
                    {"type": "image", "mimeType": "image/png", "bytes": 10, "sha256": digest(&bytes[..10])},
                    {"type": "resource", "resource": {"uri": "file:///x", "mimeType": "application/pdf", "bytes": 3000, "sha256": digest(&bytes)}},
                    {"type": "text", "data": short},
                ],
                "raw": {"type": "base64", "bytes": 3000, "sha256": digest(&bytes)},
                "uri": {"type": "base64", "mimeType": "image/gif", "bytes": 3000, "sha256": digest(&bytes)},
                "hex": hex::encode(&bytes[..500]), "small": short, "dashes": "-".repeat(1500),
            })
        );
        edits.sort();
        assert_eq!(
            edits,
            [
                "Truncate /r/content/0 docket:size",
                "Truncate /r/content/1/resource docket:size",
                "Truncate /r/raw docket:size",
                "Truncate /r/uri docket:size"
            ]
        );
    }
}
