//! YAML of strangers: data files, METADATA, what a policy unmarshals.
//!
//! regorus' parser looks at every open bracket again for every token, and gives up what is nested too deeply only once it has
//! read all of it: a megabyte of brackets takes it minutes. So a text with many of them is first read by a parser that can stop.

use regorus::Value;
use saphyr_parser::{Event, Parser};

/// Levels a value may have: what regorus' parser takes.
const MAX_DEPTH: usize = 128;
/// Brackets that cannot take long, however they are nested.
const MAX_UNSEEN_BRACKETS: usize = 1_000;

/// Reads a document.
///
/// # Errors
/// Says what is no YAML, or nested too deeply.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    check_depth(text)?;
    Value::from_yaml_str(text).map_err(|error| error.to_string())
}

/// Whether a document is shallow enough to be read in time that grows with its length.
///
/// # Errors
/// Says where it is nested too deeply, or is no YAML that could be looked through.
pub(super) fn check_depth(text: &str) -> Result<(), String> {
    if text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() <= MAX_UNSEEN_BRACKETS {
        return Ok(());
    }
    let mut depth = 0_usize;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels at line {}", span.start.line()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn deep_documents_are_refused_at_once() {
        let text = |piece: &str| format!("a: {}", piece.repeat(900_000 / piece.len()));
        let shielded = format!("a: |\n  '\nb: {}", "[".repeat(900_000));
        for text in [
            text("["),
            text("{"),
            text("[ # ]\n "),
            text("[\"]\", "),
            text("{a: "),
            text("[it's, "),
            shielded,
        ] {
            let started = Instant::now();
            let refused = parse(&text).unwrap_err();
            assert!(started.elapsed() < Duration::from_secs(5), "{text:.20}: {:?}", started.elapsed());
            assert!(
                refused.contains("nested deeper") || refused.contains("recursion limit"),
                "{text:.20}: {refused}"
            );
        }
    }

    #[test]
    fn long_documents_are_read() {
        let rows = "- {name: x, roles: [\"a]\", 'b[', c'd], text: it's}\n".repeat(20_000);
        assert_eq!(parse(&rows).unwrap().as_array().unwrap().len(), 20_000);
        let shown = format!("a: |\n  {}\nb: \"{}\"\n", "[".repeat(5_000), "{".repeat(5_000));
        assert_eq!(parse(&shown).unwrap().as_object().unwrap().len(), 2);
        let deepest = format!("{}{}", "[".repeat(100), "]".repeat(100));
        parse(&deepest).unwrap();
    }
}
