//! `[redaction]`, validated: what the redactor takes.

use super::RawRedaction;
use super::raw::nearest;
use crate::redact::{self, Settings};

/// Checks the names of rules; what is wrong goes to `problems`.
pub(super) fn validate(raw: RawRedaction, problems: &mut Vec<String>) -> Settings {
    let rules = redact::rules();
    for name in raw.disabled_rules.iter().filter(|name| !rules.contains(name.as_str())) {
        let nearest = nearest(name, rules.iter().copied())
            .map_or_else(String::new, |rule| format!("; did you mean `{rule}`?"));
        problems.push(format!("`redaction.disabled_rules`: `{name}` is no built-in rule{nearest}"));
    }
    Settings { disabled_rules: raw.disabled_rules.into_iter().collect() }
}
