//! Scrubbing: what was taken out of one place of a record is taken out of every other.
//!
//! A deny message quotes the password it complains about, a trace binds it, a URL repeats it. Those texts have no key
//! name and no shape to go by, but by then the secret is known. A secret is looked for as it is, in what the
//! text decodes to (as JSON, as a percent-encoded query, as a form), and ignoring case, as a policy may have changed that.
//!
//! Shorter than [`MIN_SUBSTRING_BYTES`], a secret is scrubbed only where it is the whole string: taking every `no` or
//! `12` out of every sentence would destroy the record and hide little. The same holds for words that are too common
//! to be recognised as a secret, such as `password` itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};
use serde_json::Value;

use super::edit::{Edits, MARK, Op, Place};
use super::looks;
use super::readings::readings;
use super::walk::FreeNames;
use super::withhold::Voice;
use super::{DIAGNOSTICS, METADATA};
use crate::json::Object;
use crate::text::{json_escaped, percent_encoded};

const MIN_SUBSTRING_BYTES: usize = 4;
/// Of a longer secret the beginning is looked for, and compared from there on: an automaton over a whole megabyte would
/// take hundreds.
const MAX_BEGINNING_BYTES: usize = 256;
/// More beginnings than this in one record are withheld rather than searched: the automaton takes a hundred times as much.
const MAX_SEARCH_BYTES: usize = 1 << 20;
/// How often a text is decoded: a proxy and the server behind it may each have encoded.
const MAX_DECODED: usize = 2;
/// The same for whole secrets in all their spellings, of which a sorted list is kept.
const MAX_SPELLINGS_BYTES: usize = 32 << 20;

/// Up to so many bytes of beginnings are compared one by one: what is read then costs at most as many times its length.
const MAX_COMPARED_BYTES: usize = 64;

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

    /// Forgets a text: it is no secret after all.
    pub(super) fn forget(&mut self, text: &str) {
        self.0.remove(text.trim());
    }

    /// The scrubber for what was remembered, which is of that category; `None` if there is nothing to scrub.
    ///
    /// # Errors
    /// Itself when there is too much to look for; the record must then be withheld.
    pub(super) fn scrubber(self, category: &'static str) -> Result<Option<Scrubber>, Self> {
        if self.0.is_empty() {
            return Ok(None);
        }
        match self.searches() {
            Ok((parts, names)) => {
                Ok(Some(Scrubber { whole: self.0, parts, names, category, only_said: false }))
            }
            Err(_) => Err(self),
        }
    }

    /// Whether any of the secrets is in a text that is a name, hence shorter than any beginning that is looked for. Asks
    /// them one by one, for when there are too many to look for at once.
    pub(super) fn are_in(&self, text: &str) -> bool {
        let text = text.trim().to_ascii_lowercase();
        self.0.iter().filter(|secret| secret.len() <= text.len()).any(|secret| {
            if secret.len() < MIN_SUBSTRING_BYTES {
                return text.eq_ignore_ascii_case(secret);
            }
            spellings(secret).any(|spelling| text.contains(&spelling.to_ascii_lowercase()))
        })
    }

    /// The search for all of them, and the one for the names of members if it is another.
    fn searches(&self) -> Result<(Search, Option<Search>), String> {
        let (mut all, mut random) = (Spellings::default(), Spellings::default());
        for secret in &self.0 {
            // Replacing a piece of the mark would tear up every mark in the record.
            let of_mark = MARK.contains(secret.to_ascii_lowercase().as_str());
            if secret.len() < MIN_SUBSTRING_BYTES || of_mark {
                continue;
            }
            for spelling in spellings(secret) {
                if looks::looks_random(secret) {
                    random.add(&spelling);
                }
                all.add(&spelling);
            }
        }
        let names = if random.bytes == all.bytes { None } else { Some(Search::build(random)?) };
        Ok((Search::build(all)?, names))
    }
}

/// A secret as it is, in other case, and as it is usually encoded, where that differs.
fn spellings(secret: &str) -> impl Iterator<Item = String> {
    let alike = secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let encoded = (!alike).then(|| [json_escaped(secret), Some(percent_encoded(secret, b""))]);
    // The search ignores the case of ASCII only.
    let cased = (!secret.is_ascii()).then(|| [Some(secret.to_lowercase()), Some(secret.to_uppercase())]);
    let others = encoded.into_iter().chain(cased).flatten().flatten();
    std::iter::once(secret.to_owned()).chain(others)
}

/// What to look for: the beginning of each spelling, and with what it may go on.
#[derive(Default)]
struct Spellings {
    rests: BTreeMap<String, BTreeSet<String>>,
    /// Of the beginnings alone.
    beginning_bytes: usize,
    bytes: usize,
}

impl Spellings {
    fn add(&mut self, spelling: &str) {
        // More will not be looked for, so that more need not be kept.
        if self.beginning_bytes > MAX_SEARCH_BYTES {
            return;
        }
        let mut cut = spelling.len().min(MAX_BEGINNING_BYTES);
        while !spelling.is_char_boundary(cut) {
            cut -= 1;
        }
        let (beginning, rest) = spelling.split_at(cut);
        // Case is ignored, so that what differs in nothing else is one.
        let known = self.rests.len();
        let rests = self.rests.entry(beginning.to_ascii_lowercase()).or_default();
        // Most go on with nothing, and then there is no set to keep.
        let goes_on = !rest.is_empty() && rests.insert(rest.to_ascii_lowercase());
        let is_new = self.rests.len() > known;
        if is_new {
            self.beginning_bytes += beginning.len();
        }
        if goes_on || is_new {
            self.bytes += spelling.len();
        }
    }
}

/// Beginnings of spellings, in lower case, as they are looked for.
enum Beginnings {
    /// Very few: compared wherever one could begin, since an automaton costs more than reading an ordinary record.
    Few { may_begin: Box<[bool; 256]>, words: Vec<String> },
    /// One automaton.
    Many(AhoCorasick),
}

impl Beginnings {
    fn build(words: Vec<String>, bytes: usize) -> Result<Self, String> {
        if bytes <= MAX_COMPARED_BYTES {
            let mut may_begin = Box::new([false; 256]);
            for byte in words.iter().filter_map(|word| word.bytes().next()) {
                for byte in [byte, byte.to_ascii_uppercase()] {
                    may_begin.iter_mut().skip(usize::from(byte)).take(1).for_each(|may| *may = true);
                }
            }
            return Ok(Self::Few { may_begin, words });
        }
        // A table over few states is soon built, and read several times as fast.
        let kind = if bytes < 512 { AhoCorasickKind::DFA } else { AhoCorasickKind::NoncontiguousNFA };
        let built = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(kind))
            .build(&words);
        built.map(Self::Many).map_err(|e| format!("scrubbing: {e}"))
    }

    /// The first occurrence from there on, the longest of those: where it is, and which.
    fn find(&self, text: &str, from: usize) -> Option<(Range<usize>, usize)> {
        match self {
            Self::Few { may_begin, words } => {
                let at = |start: usize| {
                    let rest = text.as_bytes().get(start..)?;
                    let is_here = |word: &str| {
                        rest.get(..word.len()).is_some_and(|here| here.eq_ignore_ascii_case(word.as_bytes()))
                    };
                    let here = words.iter().enumerate().filter(|(_, word)| is_here(word));
                    let (nth, word) = here.max_by_key(|(_, word)| word.len())?;
                    Some((start..start + word.len(), nth))
                };
                let may = |byte: &u8| may_begin.get(usize::from(*byte)).copied().unwrap_or_default();
                let bytes = text.bytes().enumerate().skip(from);
                bytes.filter(|(_, byte)| may(byte)).find_map(|(start, _)| at(start))
            }
            Self::Many(automaton) => {
                let found = automaton.find(Input::new(text).range(from..))?;
                Some((found.range(), found.pattern().as_usize()))
            }
        }
    }
}

/// Looks for the beginnings, and takes away as much of the rest as is there: a quotation may be cut short.
struct Search {
    beginnings: Beginnings,
    /// With what each beginning may go on: in lower case, and sorted.
    rests: Vec<Vec<String>>,
}

impl Search {
    fn build(spellings: Spellings) -> Result<Self, String> {
        let bytes = spellings.beginning_bytes;
        if bytes > MAX_SEARCH_BYTES || spellings.bytes > MAX_SPELLINGS_BYTES {
            return Err("more secrets in one record than can be looked for".into());
        }
        let sorted =
            |(beginning, rests): (String, BTreeSet<String>)| (beginning, rests.into_iter().collect());
        let (beginnings, rests): (Vec<String>, Vec<Vec<String>>) =
            spellings.rests.into_iter().map(sorted).unzip();
        let beginnings = Beginnings::build(beginnings, bytes)?;
        Ok(Self { beginnings, rests })
    }

    /// The text without what is looked for, if there is any of it.
    fn replaced(&self, text: &str) -> Option<String> {
        let mut found = self.found(text);
        let as_it_is = found.len();
        self.found_decoded(text, MAX_DECODED, &mut |range| found.push(range));
        if found.is_empty() {
            return None;
        }
        if found.len() > as_it_is {
            found.sort_by_key(|range| range.start);
        }
        let (mut result, mut from) = (String::new(), 0);
        for range in found {
            // Two readings of one place are one; what was found beside another is another.
            if range.start >= from {
                result.push_str(text.get(from..range.start)?);
                result.push_str(MARK);
            }
            from = from.max(range.end);
        }
        result.push_str(text.get(from..)?);
        Some(result)
    }

    /// Where what is looked for stands in a text as it is.
    fn found(&self, text: &str) -> Vec<Range<usize>> {
        let (mut ranges, mut from) = (Vec::new(), 0);
        // Searched anew behind each whole secret, lest another begin there unseen.
        while let Some((found, nth)) = self.beginnings.find(text, from) {
            let after = text.get(found.end..).unwrap_or_default();
            let rests = self.rests.get(nth).map(Vec::as_slice).unwrap_or_default();
            from = found.end + longest_common(after, rests);
            ranges.push(found.start..from);
        }
        ranges
    }

    /// Where it stands in what a text decodes to, so many times over.
    fn found_decoded(&self, text: &str, times: usize, report: &mut dyn FnMut(Range<usize>)) {
        for reading in readings(text) {
            for range in self.found(&reading.text) {
                report(reading.origin(&range));
            }
            if times > 1 {
                self.found_decoded(&reading.text, times - 1, &mut |range| report(reading.origin(&range)));
            }
        }
    }
}

/// How many bytes a text has in common with the one of the sorted texts that it goes along with the longest. That one is
/// next to where the text itself would stand, so many secrets with one beginning cost little more than one.
fn longest_common(text: &str, sorted: &[String]) -> usize {
    let lower = || text.bytes().map(|byte| byte.to_ascii_lowercase());
    let at = sorted.partition_point(|other| other.bytes().cmp(lower()).is_lt());
    let neighbours = [at.checked_sub(1), Some(at)];
    let neighbours = neighbours.into_iter().flatten().filter_map(|at| sorted.get(at));
    neighbours.map(|other| common(text, other)).max().unwrap_or_default()
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
    category: &'static str,
    /// Whether only what is said of a call is scrubbed, and not the call itself.
    only_said: bool,
}

impl Scrubber {
    /// The same for what is said of a call only.
    pub(super) fn only_of_said(self) -> Self {
        Self { only_said: true, ..self }
    }

    /// Whether the root of that name is to be scrubbed.
    pub(super) fn is_for(&self, root: &str) -> bool {
        !self.only_said || matches!(root, DIAGNOSTICS | METADATA)
    }

    /// The text without the secrets, if there were any in it.
    pub(super) fn text(&self, text: &str) -> Option<String> {
        if self.whole.contains(text.trim()) {
            return Some(MARK.to_owned());
        }
        self.parts.replaced(text)
    }

    /// Scrubs what somebody said.
    pub(super) fn said(&self, value: &mut Value, place: &Place<'_>, voice: Voice, edits: &mut Edits) {
        match voice {
            Voice::Any => self.value(value, place, edits),
            Voice::Policy => self.source(value, place, edits),
        }
    }

    /// Scrubs source of a policy, as the names of members.
    fn source(&self, value: &mut Value, place: &Place<'_>, edits: &mut Edits) {
        match value {
            Value::String(text) => {
                if let Some(scrubbed) = self.names.as_ref().unwrap_or(&self.parts).replaced(text) {
                    *text = scrubbed;
                    edits.note(place, Op::Mask, "scrub", self.category);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.source(item, &place.item(index), edits);
                }
            }
            _ => {}
        }
    }

    /// Scrubs a value in place: strings, numbers, and the names of members.
    pub(super) fn value(&self, value: &mut Value, place: &Place<'_>, edits: &mut Edits) {
        match value {
            Value::String(text) => {
                if let Some(scrubbed) = self.text(text) {
                    *text = scrubbed;
                    edits.note(place, Op::Mask, "scrub", self.category);
                }
            }
            Value::Number(number) => {
                let text = number.to_string();
                if text.len() >= MIN_SUBSTRING_BYTES && self.whole.contains(&text) {
                    *value = Value::String(MARK.to_owned());
                    edits.note(place, Op::Mask, "scrub", self.category);
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
        let mut free = FreeNames::default();
        for (name, scrubbed) in named {
            if let Some(member) = object.remove(&name) {
                let new = free.take(object, scrubbed);
                edits.renamed(place, &name, &new);
                edits.note(&place.member(&new), Op::Mask, "scrub", self.category);
                object.insert(new, member);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::values::CREDENTIAL;
    use super::*;

    fn scrubbed(secrets: &[&str], mut value: Value) -> Value {
        let mut known = Secrets::default();
        for secret in secrets {
            known.add(secret);
        }
        if let Some(scrubber) = known.scrubber(CREDENTIAL).ok().unwrap() {
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
            ("p@ss/w d", "u=p%40ss/w%20d&x", "u=[redacted]&x"),
            ("p@s*/w d~", "u=p%40s*%2fw+d%7E&x", "u=[redacted]&x"),
            ("p@ss/w d", "u=p%2540ss%252Fw%2520d&x", "u=[redacted]&x"),
            ("correct horse", "correct+horse+battery", "[redacted]+battery"),
            ("pässwörd", "is PÄSSWÖRD, or p\\u00e4ssw\\u00f6rd", "is [redacted], or [redacted]"),
            ("PÄSSWÖRD", "is p%C3%A4ssw%c3%b6rd!", "is [redacted]!"),
            ("a/b\"c d", r#"{"x": "a\/b\"c d"}"#, r#"{"x": "[redacted]"}"#),
            ("hunter2x", "hunter2x and %68unter2x 100%", "[redacted] and [redacted] 100%"),
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
        assert!(many.scrubber(CREDENTIAL).is_err());
    }

    /// Every position of the text against every secret.
    fn naively(secrets: &[String], text: &str) -> String {
        let (mut result, mut at) = (String::new(), 0);
        while at < text.len() {
            let rest = &text[at..];
            let longest = secrets.iter().map(|secret| common(rest, secret)).max().unwrap_or(0);
            if longest >= MAX_BEGINNING_BYTES {
                result.push_str(MARK);
                at += longest;
            } else {
                result.push_str(&rest[..1]);
                at += 1;
            }
        }
        result
    }

    fn alike(count: usize) -> Vec<String> {
        let beginning = "x9".repeat(MAX_BEGINNING_BYTES / 2);
        (0..count).map(|n| format!("{beginning}{:x}-{n}Z", n * 7919 % 1013)).collect()
    }

    #[test]
    fn names_that_repeat_a_secret_are_known_one_by_one() {
        let mut known = Secrets::default();
        for secret in ["swordfish", "a b/c", "k7", "q\"uote"] {
            known.add(secret);
        }
        for text in ["x-SwordFish-1", "a%20b%2fc", "K7", "q\\\"uote", "A b/c!"] {
            assert!(known.are_in(text), "{text}");
        }
        for text in ["sword-fish", "k77", "", "a b"] {
            assert!(!known.are_in(text), "{text}");
        }
    }

    #[test]
    fn secrets_of_one_beginning_are_told_apart() {
        let secrets = alike(60);
        let known: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let mut text = String::new();
        for (n, secret) in secrets.iter().enumerate() {
            let cut = secret.len() - n % 4;
            text.push_str(&secret.to_ascii_uppercase()[..cut]);
            text.push_str(["", " and ", "-", "x9x9"][n / 3 % 4]);
        }
        let lower: Vec<String> = secrets.iter().map(|secret| secret.to_ascii_lowercase()).collect();
        assert_eq!(scrubbed(&known, json!(text)), json!(naively(&lower, &text)));
    }

    #[test]
    fn many_secrets_of_one_beginning_are_found_in_reasonable_time() {
        let secrets = alike(3000);
        let known: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let repeated: Vec<&str> = (0..2500).map(|n| secrets[n % 2999].as_str()).collect();
        let text = repeated.join(" ") + " ";
        let started = std::time::Instant::now();
        let result = scrubbed(&known, json!(text));
        assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
        assert_eq!(result, json!("[redacted] ".repeat(2500)));
    }

    #[test]
    fn few_secrets_are_found_as_many_are() {
        let few = ["swordfish", "sword-77", "ordfi", "é9-x", "fish-swor"];
        let bytes = few.iter().map(|word| word.len()).sum::<usize>();
        assert!(bytes <= MAX_COMPARED_BYTES);
        let fillers: Vec<String> = (0..9).map(|n| format!("nowhere-to-be-found-{n}")).collect();
        let many: Vec<&str> = few.into_iter().chain(fillers.iter().map(String::as_str)).collect();
        let pieces = ["sword", "fish", "-", "77", "SWOR", "é9", "É9-x", "-x", "ordfi", " "];
        for seed in 0..500_usize {
            let text: String =
                (0..12).map(|n| pieces[seed.wrapping_mul(2_654_435_761).rotate_left(5 * n) % 10]).collect();
            assert_eq!(scrubbed(&few, json!(text)), scrubbed(&many, json!(text)), "{text}");
        }
    }

    #[test]
    fn a_secret_right_behind_a_long_one_is_found() {
        // The long one ends as the third begins; a search that goes on from there would miss the short one.
        let long = format!("{}tail-abcd", "L1".repeat(128));
        let text = format!("{long}efgh1234");
        assert_eq!(scrubbed(&[&long, "abcdef", "efgh1234"], json!(text)), json!("[redacted][redacted]"));
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
