//! Scrubbing: what was taken out of one place of a record is taken out of every other.
//!
//! A deny message quotes the password it complains about, a trace binds it, a URL repeats it. Those texts have no key
//! name and no shape to go by, but by then the secret is known. A secret is looked for as it is, as JSON and as a
//! percent-encoded query would spell it, and ignoring ASCII case, as a policy may have lowered it.
//!
//! Shorter than [`MIN_SUBSTRING_BYTES`], a secret is scrubbed only where it is the whole string: taking every `no` or
//! `12` out of every sentence would destroy the record and hide little. The same holds for words that are too common
//! to be recognised as a secret, such as `password` itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use serde_json::Value;

use super::edit::{Edits, MARK, Op, Place};
use super::looks;
use super::walk::{CREDENTIAL, free_name};
use crate::json::Object;

const MIN_SUBSTRING_BYTES: usize = 4;
/// Of a longer secret the beginning is looked for, and compared from there on: an automaton over a whole megabyte would
/// take hundreds.
const MAX_BEGINNING_BYTES: usize = 256;
/// More than this to look for in one record is withheld rather than searched.
const MAX_SEARCH_BYTES: usize = 1 << 20;

/// The secrets of one record, while it is being redacted. Never shown.
#[derive(Default)]
pub(super) struct Secrets(BTreeSet<String>);

impl Secrets {
    /// Remembers a secret text.
    pub(super) fn add(&mut self, text: &str) {
        let text = text.trim();
        if !text.is_empty() && text != MARK && !looks::is_common(text) {
            self.0.insert(text.to_owned());
        }
    }

    /// The scrubber for what was remembered; `None` if there is nothing to scrub.
    ///
    /// # Errors
    /// When there is too much to look for; the record must then be withheld.
    pub(super) fn scrubber(self) -> Result<Option<Scrubber>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (mut all, mut random) = (Spellings::default(), Spellings::default());
        for secret in &self.0 {
            // Replacing a piece of the mark would tear up every mark in the record.
            let of_mark = MARK.contains(secret.to_ascii_lowercase().as_str());
            if secret.len() < MIN_SUBSTRING_BYTES || of_mark {
                continue;
            }
            for spelling in [Some(secret.clone()), json_escaped(secret), Some(percent_encoded(secret))] {
                let Some(spelling) = spelling else { continue };
                if looks::looks_random(secret) {
                    random.add(&spelling);
                }
                all.add(&spelling);
            }
        }
        let names = if random.0.len() == all.0.len() { None } else { Some(Search::build(random)?) };
        Ok(Some(Scrubber { whole: self.0, parts: Search::build(all)?, names }))
    }
}

/// What to look for: the beginning of each spelling, and with what it may go on.
#[derive(Default)]
struct Spellings(BTreeMap<String, BTreeSet<String>>);

impl Spellings {
    fn add(&mut self, spelling: &str) {
        let mut cut = spelling.len().min(MAX_BEGINNING_BYTES);
        while !spelling.is_char_boundary(cut) {
            cut -= 1;
        }
        let (beginning, rest) = spelling.split_at(cut);
        self.0.entry(beginning.to_owned()).or_default().insert(rest.to_owned());
    }
}

/// Looks for the beginnings, and takes away as much of the rest as is there: a quotation may be cut short.
struct Search {
    beginnings: AhoCorasick,
    rests: Vec<BTreeSet<String>>,
}

impl Search {
    fn build(spellings: Spellings) -> Result<Self, String> {
        let bytes = spellings.0.keys().map(String::len).sum::<usize>();
        if bytes > MAX_SEARCH_BYTES {
            return Err("more secrets in one record than can be looked for".into());
        }
        // A table over few states is soon built, and read several times as fast.
        let kind = if bytes < 512 { AhoCorasickKind::DFA } else { AhoCorasickKind::NoncontiguousNFA };
        let (beginnings, rests): (Vec<String>, Vec<BTreeSet<String>>) = spellings.0.into_iter().unzip();
        let beginnings = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(kind))
            .build(&beginnings)
            .map_err(|e| format!("scrubbing: {e}"))?;
        Ok(Self { beginnings, rests })
    }

    fn replaced(&self, text: &str) -> Option<String> {
        let mut result = String::new();
        let mut from = 0;
        for found in self.beginnings.find_iter(text) {
            if found.start() < from {
                continue;
            }
            result.push_str(text.get(from..found.start())?);
            result.push_str(MARK);
            let after = text.get(found.end()..)?;
            let rests = self.rests.get(found.pattern().as_usize())?;
            from = found.end() + rests.iter().map(|rest| common(after, rest)).max().unwrap_or_default();
        }
        if from == 0 {
            return None;
        }
        result.push_str(text.get(from..)?);
        Some(result)
    }
}

/// How many bytes two texts have in common at their beginning, ignoring ASCII case.
fn common(text: &str, other: &str) -> usize {
    let same = |(a, b): (char, char)| a.eq_ignore_ascii_case(&b).then(|| a.len_utf8());
    text.chars().zip(other.chars()).map_while(same).sum()
}

/// Takes known secrets out of values.
pub(super) struct Scrubber {
    whole: BTreeSet<String>,
    parts: Search,
    /// For the names of members only what looks random: a caller whose password is `arguments` must not be able to
    /// rename the members that give the record its structure. `None` where everything does.
    names: Option<Search>,
}

impl Scrubber {
    /// The text without the secrets, if there were any in it.
    pub(super) fn text(&self, text: &str) -> Option<String> {
        if self.whole.contains(text.trim()) {
            return Some(MARK.to_owned());
        }
        self.parts.replaced(text)
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
        let search = self.names.as_ref().unwrap_or(&self.parts);
        let named: Vec<(String, String)> =
            object.keys().filter_map(|name| Some((name.clone(), search.replaced(name)?))).collect();
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
    fn long_secrets_are_found_whole_and_cut_short() {
        let long = "é1".repeat(100_000);
        let cut: String = long.chars().take(5000).collect();
        assert_eq!(scrubbed(&[&long], json!(format!("got {long}, no"))), json!("got [redacted], no"));
        assert_eq!(scrubbed(&[&long], json!(format!("got {cut}..."))), json!("got [redacted]..."));
        let mut many = Secrets::default();
        for n in 0..200_000 {
            many.add(&format!("secret-{n}"));
        }
        assert!(many.scrubber().is_err());
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
