//! Strangers' text: cut to a length that may be recorded or shown, in the forms in which others write it, and what was probably
//! meant by it.

use std::fmt::Write as _;

/// At most `max_bytes` of a text, cut between characters.
#[must_use]
pub fn truncated(text: &str, max_bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(max_bytes)).unwrap_or(text)
}

/// A name without its style: `requestId` and `request_id` are the same.
#[must_use]
pub fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// A text as it stands between the quotes of a JSON string.
#[must_use]
pub fn json_escaped(text: &str) -> Option<String> {
    let quoted = serde_json::to_string(text).ok()?;
    quoted.get(1..quoted.len().checked_sub(1)?).map(str::to_owned)
}

/// A text percent-encoded (RFC 3986), but for letters, digits, `-._~` and what is in `kept`.
#[must_use]
pub fn percent_encoded(text: &str, kept: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// From here on two names are near: measured on what people mistype, not on what they mean.
const NEAR: f64 = 0.84;

/// The candidate whose spelling is nearest, if one is near at all.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.into_iter().map(|known| (closeness(name, known), known));
    let best = scored.filter(|(score, _)| *score >= NEAR);
    best.max_by(|(a, x), (b, y)| a.total_cmp(b).then_with(|| y.cmp(x))).map(|(_, known)| known)
}

fn closeness(name: &str, known: &str) -> f64 {
    if plain(name) == plain(known) { 1.0 } else { strsim::jaro_winkler(name, known) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_fall_between_characters() {
        for (max_bytes, expected) in [(0, ""), (1, "a"), (2, "a"), (3, "aé"), (9, "aéz")] {
            assert_eq!(truncated("aéz", max_bytes), expected, "{max_bytes}");
        }
    }

    #[test]
    fn others_forms_of_a_text() {
        assert_eq!(percent_encoded("a:b@é ~", b":"), "a:b%40%C3%A9%20~");
        assert_eq!(percent_encoded("a:b", b""), "a%3Ab");
        assert_eq!(json_escaped("\"a\n\"").as_deref(), Some(r#"\"a\n\""#));
    }
}
