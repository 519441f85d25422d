//! What a hook may do to a record: every edit is checked against the fields it was asked about, then all are applied, the last
//! field first, so that no index moves under another. An edit can only take away: the mark, the hash and what stays of a text
//! are made here.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value;

use super::failure::{Cause, Failure};
use super::fields::Field;
use super::host::{self, Action};
use crate::redact::Record;
use crate::redact::edit::{Edit, MARK, Op};
use crate::redact::scrub::Secrets;

const MAX_CATEGORY_BYTES: usize = 32;
/// Bytes of text compared with substrings, over all edits of one call.
const MAX_COMPARED_BYTES: usize = 32 << 20;

/// An edit that can be applied.
#[derive(Debug)]
pub(super) struct Checked {
    root: usize,
    pointer: String,
    action: Action,
    category: String,
}

/// Checks a hook's answer; one bad edit makes all of it unusable, since nobody knows what else is wrong.
pub(super) fn check(edits: Vec<host::Edit>, fields: &[Field<'_>]) -> Result<Vec<Checked>, Failure> {
    let invalid = |what: String| Err(Failure::new(Cause::InvalidEdit, what));
    let mut seen = BTreeSet::new();
    let mut compared = 0_usize;
    let mut checked = Vec::with_capacity(edits.len());
    for edit in edits {
        let host::Edit { field: index, action, category } = edit;
        let Some(field) = usize::try_from(index).ok().and_then(|index| fields.get(index)) else {
            return invalid(format!("field {index} of {}", fields.len()));
        };
        if !seen.insert(index) {
            return invalid(format!("field {index} is edited twice"));
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=MAX_CATEGORY_BYTES).contains(&category.len()) || !category.bytes().all(plain) {
            return invalid(format!("the category of field {index} is not 1 to 32 of a-z, 0-9, `-`"));
        }
        match (&action, field.value) {
            (Action::Remove | Action::Mask | Action::Hash, _)
            | (Action::KeepFirst(_) | Action::KeepLast(_), Value::String(_)) => {}
            (Action::MaskText(parts), Value::String(text)) => {
                compared = compared.saturating_add(text.len().saturating_mul(parts.len()));
                if compared > MAX_COMPARED_BYTES {
                    return invalid(format!("too many substrings, the last of field {index}"));
                }
                if parts.is_empty()
                    || parts.iter().any(|part| part.is_empty() || !text.contains(part.as_str()))
                {
                    return invalid(format!(
                        "a substring to mask is empty, or is not in the text of field {index}"
                    ));
                }
            }
            (Action::KeepFirst(_) | Action::KeepLast(_) | Action::MaskText(_), _) => {
                return invalid(format!("an edit of text, but field {index} is none"));
            }
        }
        checked.push((index, Checked { root: field.root, pointer: field.pointer.clone(), action, category }));
    }
    checked.sort_unstable_by_key(|(index, _)| std::cmp::Reverse(*index));
    Ok(checked.into_iter().map(|(_, edit)| edit).collect())
}

/// Applies what was checked, notes it as done `by` the hook, and answers what was taken away.
pub(super) fn apply(
    record: &mut Record,
    edits: Vec<Checked>,
    by: &str,
    hash: &dyn Fn(&[u8]) -> (String, Op),
) -> Secrets {
    let mut secrets = Secrets::default();
    let mut noted = Vec::with_capacity(edits.len());
    let mut gone = BTreeSet::new();
    for Checked { root, pointer, action, category } in edits {
        let Some((name, value)) = record.roots.get_mut(root) else { continue };
        let within = pointer.get(name.len() + 1..).unwrap_or_default();
        let held_more = value.pointer(within).is_some_and(|value| value.is_array() || value.is_object());
        let op = match &action {
            Action::Remove => remove(value, within, &mut secrets),
            action => value.pointer_mut(within).map(|value| take(value, action, hash, &mut secrets)),
        };
        let Some(op) = op else { continue };
        if held_more {
            gone.insert(pointer.clone());
        }
        noted.push(Edit { path: pointer, op, by: by.to_owned(), category });
    }
    record.edits.extend(noted.into_iter().rev());
    if !gone.is_empty() {
        // What was noted below leads nowhere now, and might tell the name of what went.
        record.edits.retain(|edit| !is_below_any(&edit.path, &gone));
    }
    secrets
}

/// Whether a path leads below one of these pointers.
fn is_below_any(path: &str, pointers: &BTreeSet<String>) -> bool {
    path.match_indices('/').any(|(at, _)| path.get(..at).is_some_and(|above| pointers.contains(above)))
}

/// Takes a member out of its object. A root stays, masked, and so does an item of an array: the others keep their places, and
/// what was noted of them its path.
fn remove(root: &mut Value, pointer: &str, secrets: &mut Secrets) -> Option<Op> {
    let Some((parent, last)) = pointer.rsplit_once('/') else {
        remember(root, secrets);
        *root = MARK.into();
        return Some(Op::Mask);
    };
    match root.pointer_mut(parent)? {
        Value::Object(object) => {
            remember(&object.remove(&last.replace("~1", "/").replace("~0", "~"))?, secrets);
            Some(Op::Remove)
        }
        Value::Array(items) => {
            let item = last.parse::<usize>().ok().and_then(|index| items.get_mut(index))?;
            remember(&std::mem::replace(item, MARK.into()), secrets);
            Some(Op::Mask)
        }
        _ => None,
    }
}

fn take(
    value: &mut Value,
    action: &Action,
    hash: &dyn Fn(&[u8]) -> (String, Op),
    secrets: &mut Secrets,
) -> Op {
    if let Value::String(text) = &*value
        && let Action::MaskText(parts) = action
    {
        for part in parts {
            secrets.add(part);
        }
        *value = Value::String(without(text, parts));
        return Op::Mask;
    }
    remember(value, secrets);
    let (left, op) = match (action, &*value) {
        (Action::KeepFirst(count), Value::String(text)) => (kept(text, *count, true), Op::Truncate),
        (Action::KeepLast(count), Value::String(text)) => (kept(text, *count, false), Op::Truncate),
        (Action::Hash, value) => hash(source(value).as_bytes()),
        _ => (MARK.to_owned(), Op::Mask),
    };
    *value = Value::String(left);
    op
}

/// The bytes that a hash is of: a text's own, a number as JSON writes it, so that `7` and `"7"` correlate; JSON without
/// spaces for the rest.
fn source(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        value => Cow::Owned(value.to_string()),
    }
}

/// The first or last `count` characters, and the mark for the rest. Of a text that is no longer nothing stays.
fn kept(text: &str, count: u32, first: bool) -> String {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let length = text.chars().count();
    if length <= count {
        return MARK.to_owned();
    }
    let at = |chars: usize| text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
    if first {
        format!("{}{MARK}", text.get(..at(count)).unwrap_or_default())
    } else {
        format!("{MARK}{}", text.get(at(length - count)..).unwrap_or_default())
    }
}

/// A text with every occurrence of the parts masked; parts that overlap or touch become one mark.
fn without(text: &str, parts: &[String]) -> String {
    let parts: BTreeSet<&str> = parts.iter().map(String::as_str).collect();
    let occurrences = |part| text.match_indices(part).map(|(at, part): (usize, &str)| (at, at + part.len()));
    let mut ranges: Vec<(usize, usize)> = parts.into_iter().flat_map(occurrences).collect();
    ranges.sort_unstable();
    let mut left = String::with_capacity(text.len());
    let mut end = 0;
    for (from, to) in ranges {
        if from > end || (from == 0 && end == 0) {
            left.push_str(text.get(end..from).unwrap_or_default());
            left.push_str(MARK);
        }
        end = end.max(to);
    }
    left.push_str(text.get(end..).unwrap_or_default());
    left
}

/// Remembers every text and number in a value that goes.
fn remember(value: &Value, secrets: &mut Secrets) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => secrets.add(&number.to_string()),
        Value::String(text) => secrets.add(text),
        Value::Array(items) => items.iter().for_each(|item| remember(item, secrets)),
        Value::Object(object) => object.values().for_each(|member| remember(member, secrets)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substrings_that_overlap_or_touch_become_one_mark() {
        let masked = |text: &str, parts: &[&str]| {
            without(text, &parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(masked("abcde", &["abc", "cd"]), "[redacted]e");
        assert_eq!(masked("xabcabcx", &["abc"]), "x[redacted]x");
        assert_eq!(masked("aaa b aaa", &["aa", "a"]), "[redacted] b [redacted]");
        assert_eq!(masked("ü4ü", &["4"]), "ü[redacted]ü");
        assert_eq!(masked("4", &["4"]), "[redacted]");
    }

    #[test]
    fn of_a_text_that_is_no_longer_nothing_is_kept() {
        assert_eq!(kept("4111111111111111", 4, false), "[redacted]1111");
        assert_eq!(kept("4111111111111111", 6, true), "411111[redacted]");
        assert_eq!(kept("äöü", 1, true), "ä[redacted]");
        assert_eq!(kept("äöü", 3, false), "[redacted]");
        assert_eq!(kept("äöü", 0, false), "[redacted]");
    }

    #[test]
    fn what_lies_below_something_that_goes_is_not_listed() {
        let arguments = serde_json::json!({"list": ["a", {"password": "p"}, "c"], "map": {"secret name": 1}, "other": "o"});
        let note = |path: &str| Edit {
            path: path.into(),
            op: Op::Mask,
            by: "builtin:key-name".into(),
            category: "credential".into(),
        };
        let noted = ["/context/list/1/password", "/context/map/secret name", "/context/other"];
        let mut record = Record {
            roots: vec![("context", arguments)],
            edits: noted.map(note).into(),
            ..Record::default()
        };
        let edit = |pointer: &str, action| Checked {
            root: 0,
            pointer: pointer.to_owned(),
            action,
            category: "c".into(),
        };
        let edits = vec![
            edit("/context/map/secret name", Action::Mask),
            edit("/context/map", Action::Remove),
            edit("/context/list/1", Action::Remove),
            edit("/context/list/0", Action::Remove),
        ];
        apply(&mut record, edits, "hook:h", &|_| (String::new(), Op::Hash));
        assert_eq!(
            record.roots,
            [("context", serde_json::json!({"list": ["[redacted]", "[redacted]", "c"], "other": "o"}))]
        );
        let paths: Vec<&str> = record.edits.iter().map(|edit| edit.path.as_str()).collect();
        assert_eq!(paths, ["/context/other", "/context/list/0", "/context/list/1", "/context/map"]);
    }
}
