//! Compiled patterns for `regex.match` and `glob.match`.
//!
//! regorus hands out *clones* of its cached matchers, and a cloned matcher rebuilds its lazy automaton on every call:
//! most of an evaluation's time went there. These caches are per thread, so they need no lock and share no scratch space.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use globset::{GlobBuilder, GlobMatcher};
use regex::{Regex, RegexBuilder};

/// Compiled patterns kept by each thread, of each kind. A policy's patterns are constants, so few sets ever have more;
/// a policy that builds patterns from its input empties the cache and pays for compiling.
const MAX_CACHED_PATTERNS: usize = 256;
/// Bound on a compiled pattern, as regorus has it: it bounds the time to compile and to match.
const MAX_REGEX_BYTES: usize = 100 * 1024;
/// Stands for a `/` that is not a delimiter, as in regorus.
const PLACEHOLDER: &str = "\0";

thread_local! {
    static REGEXES: RefCell<HashMap<String, Rc<Regex>>> = RefCell::default();
    static GLOBS: RefCell<HashMap<String, Rc<GlobMatcher>>> = RefCell::default();
}

/// Whether `text` matches `pattern` anywhere.
pub(super) fn regex_match(pattern: &str, text: &str) -> Result<bool, String> {
    Ok(regex(pattern)?.is_match(text))
}

/// A compiled regex, from the cache.
pub(super) fn regex(pattern: &str) -> Result<Rc<Regex>, String> {
    cached(&REGEXES, pattern, || {
        RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).build().map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                format!("regex exceeds {MAX_REGEX_BYTES} bytes when compiled; use a smaller one")
            }
            _ => "invalid regex".to_owned(),
        })
    })
}

/// `glob.match`: `None` means that nothing delimits, an empty list means `.`; `*` stops at delimiters, `**` does not.
pub(super) fn glob_match(pattern: &str, delimiters: Option<&[&str]>, text: &str) -> Result<bool, String> {
    let (pattern, text) = match delimiters {
        None => (pattern.replace('/', PLACEHOLDER), text.replace('/', PLACEHOLDER)),
        Some(delimiters) => {
            let mut chars = Vec::with_capacity(delimiters.len());
            for delimiter in delimiters {
                let mut each = delimiter.chars();
                match (each.next(), each.next()) {
                    (Some(delimiter), None) if delimiter.is_ascii() => chars.push(delimiter),
                    (None, _) => {}
                    _ => return Err("delimiters must be single ASCII characters".to_owned()),
                }
            }
            if delimiters.is_empty() {
                chars.push('.');
            }
            (delimited(pattern, &chars)?, delimited(text, &chars)?)
        }
    };
    let glob = cached(&GLOBS, &pattern, || {
        let glob = GlobBuilder::new(&pattern).literal_separator(true).build();
        glob.map(|glob| glob.compile_matcher()).map_err(|_| "invalid glob".to_owned())
    })?;
    Ok(glob.is_match(&text))
}

/// Rewrites text so that its delimiters are what `globset` knows: path separators.
fn delimited(text: &str, delimiters: &[char]) -> Result<String, String> {
    if text.contains(PLACEHOLDER) {
        return Err("globs and the text they match must not contain a NUL character".to_owned());
    }
    let mut out = if delimiters.contains(&'/') { text.to_owned() } else { text.replace('/', PLACEHOLDER) };
    for delimiter in delimiters {
        match delimiter {
            '/' => {}
            ':' => out = out.replace(':', PLACEHOLDER),
            other => out = out.replace(*other, &format!("/{other}/")),
        }
    }
    Ok(out)
}

fn cached<T>(
    cache: &'static std::thread::LocalKey<RefCell<HashMap<String, Rc<T>>>>,
    pattern: &str,
    compile: impl FnOnce() -> Result<T, String>,
) -> Result<Rc<T>, String> {
    if let Some(found) = cache.with_borrow(|cache| cache.get(pattern).cloned()) {
        return Ok(found);
    }
    let compiled = Rc::new(compile()?);
    cache.with_borrow_mut(|cache| {
        if cache.len() >= MAX_CACHED_PATTERNS {
            cache.clear();
        }
        cache.insert(pattern.to_owned(), compiled.clone());
    });
    Ok(compiled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Equal to regorus' own built-ins, errors included.
    #[test]
    fn agrees_with_regorus() {
        let mut engine = regorus::Engine::new();
        let mut stock = |query: String| {
            let results = engine.eval_query(query, false).ok()?;
            results.result.first()?.expressions.first()?.value.as_bool().ok().copied()
        };
        let globs =
            ["*", "**", "*.github.com", "a/*", "a:**:c", "{x,y}.z", "[a-c]*", "a*c", "[", "/workspace/**"];
        let texts = [
            "",
            "api.github.com",
            "a/b",
            "a/b/c",
            "a:b:c",
            "x.z",
            "abc",
            "api.cdn.github.com",
            "/workspace/k",
        ];
        for glob in globs {
            for text in texts {
                for (list, delimiters) in [
                    ("null", None),
                    ("[]", Some(vec![])),
                    ("[\"/\"]", Some(vec!["/"])),
                    ("[\":\"]", Some(vec![":"])),
                    ("[\".\", \"/\"]", Some(vec![".", "/"])),
                    ("[\"::\"]", Some(vec!["::"])),
                ] {
                    let ours = glob_match(glob, delimiters.as_deref(), text).ok();
                    assert_eq!(
                        ours,
                        stock(format!("glob.match(`{glob}`, {list}, `{text}`)")),
                        "{glob} {list} {text}"
                    );
                }
            }
        }
        for pattern in ["^a+$", "(?i)ABC", r"\d{1,3}", "[", "é", r"(\w{100}){100}"] {
            for text in ["aaa", "xabcx", "127", "é", ""] {
                let ours = regex_match(pattern, text).ok();
                assert_eq!(ours, stock(format!("regex.match(`{pattern}`, `{text}`)")), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn the_cache_is_bounded() {
        for n in 0..1000 {
            assert_eq!(regex_match(&format!("^{n}$"), &n.to_string()), Ok(true));
        }
        assert!(REGEXES.with_borrow(HashMap::len) <= MAX_CACHED_PATTERNS);
    }
}
