//! Readings: a text as whoever decodes it would read it, and where each byte of that stood.
//!
//! A policy that quotes a secret may encode it first, and encoders differ in what they escape: `+` or `%20`, `%C3%A9` or
//! `%c3%a9`, `\\u00e9` or `é`. So a secret is looked for in what a text decodes to. Knows no secrets.

use std::ops::Range;

/// A text that another one decodes to.
pub(super) struct Reading {
    /// What is read.
    pub text: String,
    /// Where each of its bytes begins in the other, and at last where that ends.
    origins: Vec<u32>,
}

impl Reading {
    /// Where a range of it stands in the text that was decoded.
    pub(super) fn origin(&self, range: &Range<usize>) -> Range<usize> {
        let at = |index: usize| self.origins.get(index).map_or(0, |origin| *origin as usize);
        at(range.start)..at(range.end)
    }
}

/// What a text decodes to: percent-encoded, as a form, and as JSON. Only where that differs from the text, and each in
/// linear time.
pub(super) fn readings(text: &str) -> impl Iterator<Item = Reading> {
    let percent = text.contains('%');
    let form = text.contains('+');
    let json = text.contains('\\');
    let decoders: [(bool, Decoder); 3] =
        [(percent, percent_decoded), (form, form_decoded), (json, json_decoded)];
    decoders.into_iter().filter(|(is_on, _)| *is_on).filter_map(|(_, decoder)| read(text, decoder))
}

/// What the escape at the beginning of some bytes stands for, and its length.
type Decoder = fn(&[u8]) -> Option<(Vec<u8>, usize)>;

/// Reads a text with a decoder.
fn read(text: &str, decoder: Decoder) -> Option<Reading> {
    // No text comes near four gigabytes.
    let end = u32::try_from(text.len()).ok()?;
    let (mut bytes, mut from) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len() + 1));
    let mut rest = text.as_bytes();
    let mut changed = false;
    while let Some(byte) = rest.first() {
        let at = end - u32::try_from(rest.len()).ok()?;
        let taken = if let Some((decoded, taken)) = decoder(rest) {
            changed = true;
            from.resize(from.len() + decoded.len(), at);
            bytes.extend(decoded);
            taken
        } else {
            bytes.push(*byte);
            from.push(at);
            1
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    if !changed {
        return None;
    }
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => {
            from.push(end);
            return Some(Reading { text, origins: from });
        }
        Err(error) => error.into_bytes(),
    };
    let (mut text, mut origins) = (String::with_capacity(bytes.len()), Vec::with_capacity(from.len() + 1));
    let mut from = from.into_iter();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        origins.extend(from.by_ref().take(chunk.valid().len()));
        if let Some(origin) = from.by_ref().take(chunk.invalid().len()).next() {
            text.push(char::REPLACEMENT_CHARACTER);
            origins.resize(text.len(), origin);
        }
    }
    origins.push(end);
    Some(Reading { text, origins })
}

fn percent_decoded(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let digits = bytes.strip_prefix(b"%")?.get(..2)?;
    Some((hex::decode(digits).ok()?, 3))
}

/// `application/x-www-form-urlencoded`.
fn form_decoded(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    if bytes.starts_with(b"+") { Some((vec![b' '], 1)) } else { percent_decoded(bytes) }
}

fn json_decoded(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let escaped = bytes.strip_prefix(b"\\")?;
    let plain = match escaped.first()? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'f' => 12,
        same @ (b'"' | b'\\' | b'/' | b'\'') => *same,
        b'u' => {
            let unit = |bytes: &[u8]| {
                let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
                u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
            };
            let first = unit(bytes)?;
            let second = bytes.get(6..).and_then(unit);
            let pair = second.and_then(|second| String::from_utf16(&[first, second]).ok());
            let one = || char::from_u32(u32::from(first)).map(|c| (c.to_string().into_bytes(), 6));
            return match pair {
                Some(pair) if (0xD800..0xDC00).contains(&first) => Some((pair.into_bytes(), 12)),
                _ => one(),
            };
        }
        _ => return None,
    };
    Some((vec![plain], 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_its_decoders_would() {
        for (text, expected) in [
            ("a%20b%c3%A9", vec!["a bé"]),
            ("a+b%2B", vec!["a+b+", "a b+"]),
            (r#"\u00e9\"\ud83d\ude00"#, vec!["é\"😀"]),
            (r"\ud83d!", vec![]),
            ("%ff%", vec!["\u{FFFD}%"]),
            ("100% sure", vec![]),
            ("plain", vec![]),
        ] {
            let texts: Vec<String> = readings(text).map(|reading| reading.text).collect();
            assert_eq!(texts, expected, "{text}");
        }
        let reading = readings("x%C3%A9%FF%FFy").next().unwrap();
        assert_eq!(reading.text, "xé\u{FFFD}\u{FFFD}y");
        assert_eq!(reading.origin(&(1..3)), 1..7);
        assert_eq!(reading.origin(&(3..9)), 7..13);
        assert_eq!(reading.origin(&(9..10)), 13..14);
    }
}
