//! Scrubbing: what was taken out of one place of a record is taken out of every other.
//!
//! A deny message quotes the password it complains about, a trace binds it, a URL repeats it. Those texts have no key
//! name and no shape to go by, but by then the secret is known. A secret is looked for as it is, as JSON and as a
//! percent-encoded query would spell it, and ignoring ASCII case, as a policy may have lowered it.
//!
//! Shorter than [`MIN_SUBSTRING_BYTES`], a secret is scrubbed only where it is the whole string: taking every `no` or
//! `12` out of every sentence would destroy the record and hide little. The same holds for words that are too common
//! to be recognised as a secret, such as `password` itself.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use serde_json::Value;

use super::assign;
use super::edit::{Edits, MARK, Op, Place};
use super::walk::{CREDENTIAL, free_name};
use crate::json::Object;

const MIN_SUBSTRING_BYTES: usize = 4;

/// The secrets of one record, while it is being redacted. Never shown.
#[derive(Default)]
pub(super) struct Secrets(BTreeSet<String>);

impl Secrets {
    /// Remembers a secret text.
    pub(super) fn add(&mut self, text: &str) {
        let text = text.trim();
        if !text.is_empty() && text != MARK && !assign::is_common(text) {
            self.0.insert(text.to_owned());
        }
    }

    /// The scrubber for what was remembered; `None` if there is nothing to scrub.
    ///
    /// # Errors
    /// When the automaton cannot be built; the record must then be withheld.
    pub(super) fn scrubber(self) -> Result<Option<Scrubber>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (mut parts, mut random) = (BTreeSet::new(), BTreeSet::new());
        for secret in &self.0 {
            // Replacing a piece of the mark would tear up every mark in the record.
            let of_mark = MARK.contains(secret.to_ascii_lowercase().as_str());
            if secret.len() < MIN_SUBSTRING_BYTES || of_mark {
                continue;
            }
            let spellings = [Some(secret.clone()), json_escaped(secret), Some(percent_encoded(secret))];
            if assign::looks_random(secret) {
                random.extend(spellings.iter().flatten().cloned());
            }
            parts.extend(spellings.into_iter().flatten());
        }
        Ok(Some(Scrubber { whole: self.0, parts: automaton(&parts)?, names: automaton(&random)? }))
    }
}

/// Takes known secrets out of values.
pub(super) struct Scrubber {
    whole: BTreeSet<String>,
    parts: AhoCorasick,
    /// For the names of members only what looks random: a caller whose password is `arguments` must not be able to
    /// rename the members that give the record its structure.
    names: AhoCorasick,
}

impl Scrubber {
    /// The text without the secrets, if there were any in it.
    pub(super) fn text(&self, text: &str) -> Option<String> {
        if self.whole.contains(text.trim()) {
            return Some(MARK.to_owned());
        }
        replaced(&self.parts, text)
    }

    /// Scrubs a value in place: strings, numbers, and the names of members.
    pub(super) fn value(&self, value: &mut Value, place: &Place<'_>, edits: &mut Edits) {
        match value {
            Value::String(text) => {
                if let Some(scrubbed) = self.text(text) {
                    *text = scrubbed;
                    edits.note(place, Op::Mask, "scrub", CREDENTIAL);
                }
            }
            Value::Number(number) => {
                let text = number.to_string();
                if text.len() >= MIN_SUBSTRING_BYTES && self.whole.contains(&text) {
                    *value = Value::String(MARK.to_owned());
                    edits.note(place, Op::Mask, "scrub", CREDENTIAL);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.value(item, &place.item(index), edits);
                }
            }
            Value::Object(object) => {
                self.names(object, place, edits);
                for (name, member) in object.iter_mut() {
                    self.value(member, &place.member(name), edits);
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn names(&self, object: &mut Object, place: &Place<'_>, edits: &mut Edits) {
        let named: Vec<(String, String)> =
            object.keys().filter_map(|name| Some((name.clone(), replaced(&self.names, name)?))).collect();
        for (name, scrubbed) in named {
            if let Some(member) = object.remove(&name) {
                let new = free_name(object, scrubbed);
                edits.renamed(place, &name, &new);
                edits.note(&place.member(&new), Op::Mask, "scrub", CREDENTIAL);
                object.insert(new, member);
            }
        }
    }
}

fn automaton(texts: &BTreeSet<String>) -> Result<AhoCorasick, String> {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::LeftmostLongest)
        .kind(Some(AhoCorasickKind::ContiguousNFA))
        .build(texts)
        .map_err(|e| format!("scrubbing: {e}"))
}

fn replaced(automaton: &AhoCorasick, text: &str) -> Option<String> {
    if !automaton.is_match(text) {
        return None;
    }
    let mut result = String::with_capacity(text.len());
    automaton.replace_all_with(text, &mut result, |_, _, result| {
        result.push_str(MARK);
        true
    });
    Some(result)
}

fn json_escaped(text: &str) -> Option<String> {
    let quoted = serde_json::to_string(text).ok()?;
    quoted.get(1..quoted.len().checked_sub(1)?).map(str::to_owned)
}

fn percent_encoded(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            result.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(result, "%{byte:02X}");
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scrubbed(secrets: &[&str], mut value: Value) -> Value {
        let mut known = Secrets::default();
        for secret in secrets {
            known.add(secret);
        }
        if let Some(scrubber) = known.scrubber().unwrap() {
            scrubber.value(&mut value, &Place::root("r"), &mut Edits::default());
        }
        value
    }

    #[test]
    fn a_secret_is_found_in_each_of_its_spellings() {
        for (secret, text, expected) in [
            ("hunter2x", "password hunter2x is weak", "password [redacted] is weak"),
            ("hunter2x", "password HUNTER2X is weak", "password [redacted] is weak"),
            ("a\"b\\c\n1", r#"{"x": "a\"b\\c\n1"}"#, r#"{"x": "[redacted]"}"#),
            ("p@ss/w d", "u=p%40ss%2Fw%20d&x", "u=[redacted]&x"),
            ("  padded\n", "got padded!", "got [redacted]!"),
            ("longer secret", "a longer secret", "a [redacted]"),
            ("abc", "abcdef abc", "abcdef abc"),
            ("abc", "abc", "[redacted]"),
            ("password", "the password is wrong", "the password is wrong"),
            ("redacted", "[redacted] is redacted", "[redacted] is redacted"),
        ] {
            assert_eq!(scrubbed(&[secret], json!(text)), json!(expected), "{secret}");
        }
        assert_eq!(scrubbed(&["secret-one", "secret-one-and-two"], json!("secret-one-and-two")), json!(MARK));
    }

    #[test]
    fn a_secret_that_is_a_plain_word_cannot_rename_members() {
        let value = json!({"arguments": {"x": "the arguments"}});
        assert_eq!(scrubbed(&["arguments"], value), json!({"arguments": {"x": "the [redacted]"}}));
    }

    #[test]
    fn numbers_and_names_of_members_are_scrubbed_too() {
        let value = json!({"pin": 482_915, "n": 12, "482915": {"x": 1}, "no 482915": 2, "[redacted]": 3});
        assert_eq!(
            scrubbed(&["482915", "12"], value),
            json!({"pin": MARK, "n": 12, "[redacted] (2)": {"x": 1}, "no [redacted]": 2, "[redacted]": 3})
        );
    }
}
