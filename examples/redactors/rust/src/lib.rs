//! A redaction hook for docket: takes payment cards and e-mail addresses out of what is recorded.
//!
//! What counts as a card or an address is defined in docket's `examples/redactors/README.md`, beside the same hook in C,
//! JavaScript and Python. To build it, once `rustup target add wasm32-unknown-unknown`, then `cargo build --release`.

use Rule::{Hash, KeepLast4, Mask, Off};
use docket::redaction::types::{Action, Context, Edit, Field, Value};

wit_bindgen::generate!({ path: "wit", world: "redactor" });

/// A text with more matches than this is masked as a whole: docket looks for each part in all of the text.
const MAX_PARTS: usize = 100;

/// What a match is.
#[derive(Clone, Copy)]
enum Kind {
    Card,
    Email,
}

/// What becomes of a match.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Off,
    Mask,
    Hash,
    KeepLast4,
}

/// This hook's settings in docket's configuration: `{"cards": "keep-last-4", "emails": "hash"}`.
struct Settings {
    cards: Rule,
    emails: Rule,
}

struct Hook;

export!(Hook);

impl exports::docket::redaction::hook::Guest for Hook {
    /// At most one edit for each field, in the order of the fields.
    fn redact(context: Context, fields: Vec<Field>) -> Result<Vec<Edit>, String> {
        let settings = Settings::parse(&context.settings)?;
        let edits = (0..).zip(&fields).filter_map(|(index, field)| {
            let (text, is_number) = match &field.value {
                Value::Text(text) => (text, false),
                Value::Number(digits) => (digits, true),
                _ => return None,
            };
            let found = scan(text.as_bytes(), &settings);
            let (kind, start, end) = *found.first()?;
            let is_whole = is_number || (start, end) == (0, text.len());
            let action = match settings.rule(kind) {
                Hash if is_whole => Action::Hash,
                KeepLast4 if is_whole && !is_number => Action::KeepLast(4),
                _ if is_whole || found.len() > MAX_PARTS => Action::Mask,
                _ => Action::MaskText(
                    found.iter().map(|&(_, start, end)| text[start..end].to_owned()).collect(),
                ),
            };
            let category = match kind {
                Kind::Card => "payment-card",
                Kind::Email => "email",
            };
            Some(Edit { field: index, action, category: category.to_owned() })
        });
        Ok(edits.collect())
    }
}

/// Every match from left to right, as kind, start and end. Matches that overlap become one, of the kind of the first.
fn scan(text: &[u8], settings: &Settings) -> Vec<(Kind, usize, usize)> {
    let mut found: Vec<(Kind, usize, usize)> = Vec::new();
    for at in 0..text.len() {
        let hit = if settings.cards != Off && is_digit(text, at) {
            card(text, at).map(|end| (Kind::Card, at, end))
        } else if settings.emails != Off && text[at] == b'@' {
            email(text, at).map(|(start, end)| (Kind::Email, start, end))
        } else {
            None
        };
        if let Some((mut kind, mut start, mut end)) = hit {
            while let Some(last) = found.pop_if(|last| last.2 > start) {
                (kind, start, end) = (last.0, start.min(last.1), end.max(last.2));
            }
            found.push((kind, start, end));
        }
    }
    found
}

/// Where the longest card that starts here ends.
fn card(text: &[u8], start: usize) -> Option<usize> {
    if start >= 1 && (is_digit(text, start - 1) || is_word(text, start - 1))
        || start >= 2 && text[start - 1] == b'.' && is_digit(text, start - 2)
    {
        return None;
    }
    // Luhn's sum for an even and for an odd number of digits: every other digit counts double, the last one never.
    let (mut even, mut odd) = (0, 0);
    let (mut at, mut count, mut longest) = (start, 0, None);
    loop {
        while is_digit(text, at) {
            let digit = u32::from(text[at] - b'0');
            let double = if digit < 5 { 2 * digit } else { 2 * digit - 9 };
            (even, odd) =
                if count % 2 == 0 { (even + double, odd + digit) } else { (even + digit, odd + double) };
            count += 1;
            at += 1;
            if count > 19 {
                return longest;
            }
        }
        let is_cut = is_word(text, at) || text.get(at) == Some(&b'.') && is_digit(text, at + 1);
        let sum = if count % 2 == 0 { even } else { odd };
        // No card begins with 0, and 13 digits that begin with 1 are a time in milliseconds.
        let is_other = text[start] == b'0' || count == 13 && text[start] == b'1';
        if count >= 13 && sum % 10 == 0 && !is_cut && !is_other {
            longest = Some(at);
        }
        if !matches!(text.get(at), Some(b' ' | b'-')) || !is_digit(text, at + 1) {
            return longest;
        }
        at += 1;
    }
}

/// Start and end of the address around the `@` at this place.
fn email(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let is_local = |byte: &&u8| byte.is_ascii_alphanumeric() || b"._%+-".contains(byte);
    let is_label = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'-';
    let start = at - text[..at].iter().rev().take_while(is_local).count();
    let (mut label, mut labels, mut end) = (at + 1, 0, None);
    loop {
        let length = text[label..].iter().take_while(is_label).count();
        labels += 1;
        if labels >= 2 && length >= 2 && text[label].is_ascii_alphabetic() {
            end = Some(label + length);
        }
        label += length;
        if length == 0 || text.get(label) != Some(&b'.') {
            break;
        }
        label += 1;
    }
    end.filter(|_| start < at).map(|end| (start, end))
}

fn is_digit(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(u8::is_ascii_digit)
}

/// A letter or `_`: a digit beside one belongs to a name, not to a number.
fn is_word(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
}

impl Settings {
    fn rule(&self, kind: Kind) -> Rule {
        match kind {
            Kind::Card => self.cards,
            Kind::Email => self.emails,
        }
    }

    /// Reads an object of plain strings, which is all that these settings can be.
    fn parse(json: &str) -> Result<Self, String> {
        let malformed = || "settings must be a JSON object".to_owned();
        let mut settings = Self { cards: Mask, emails: Mask };
        let mut rest = Json(json);
        rest.eat('{').ok_or_else(malformed)?;
        let mut is_first = true;
        while rest.eat('}').is_none() {
            if !is_first {
                rest.eat(',').ok_or_else(malformed)?;
            }
            is_first = false;
            let name = rest.string().ok_or_else(malformed)?;
            rest.eat(':').ok_or_else(malformed)?;
            match name {
                "cards" => {
                    settings.cards = match rest.string() {
                        Some("mask") => Mask,
                        Some("hash") => Hash,
                        Some("keep-last-4") => KeepLast4,
                        Some("off") => Off,
                        _ => return Err("`cards` must be `mask`, `hash`, `keep-last-4` or `off`".to_owned()),
                    }
                }
                "emails" => {
                    settings.emails = match rest.string() {
                        Some("mask") => Mask,
                        Some("hash") => Hash,
                        Some("off") => Off,
                        _ => return Err("`emails` must be `mask`, `hash` or `off`".to_owned()),
                    }
                }
                _ => return Err(format!("unknown setting `{name}`: there are `cards` and `emails`")),
            }
        }
        if rest.0.trim().is_empty() { Ok(settings) } else { Err(malformed()) }
    }
}

/// What is left of a JSON text.
struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    /// Steps over this character, if it is the next.
    fn eat(&mut self, wanted: char) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(wanted)?;
        Some(())
    }

    /// Steps over a string without escapes.
    fn string(&mut self) -> Option<&'a str> {
        let (string, rest) = self.0.trim_start().strip_prefix('"')?.split_once('"')?;
        self.0 = rest;
        Some(string)
    }
}
