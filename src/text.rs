//! Strangers' text, cut to a length that may be recorded or shown.

/// At most `max_bytes` of a text, cut between characters.
#[must_use]
pub fn truncated(text: &str, max_bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(max_bytes)).unwrap_or(text)
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
}
