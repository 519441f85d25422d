//! Settings: what an operator may choose of the rules that are built in.

use std::collections::BTreeSet;

use super::bulk::MAX_FIELD_BYTES;
use super::personal::PersonalData;
use super::values;

/// What an operator chose. By default every credential rule is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Built-in rules that are switched off, by name: each is one of [`rules`].
    pub disabled_rules: BTreeSet<String>,
    /// Names of members that announce a credential, besides those built in. Neither case nor separators matter.
    pub key_names: Vec<String>,
    /// Names of members that announce none, whatever they look like.
    pub allow_key_names: Vec<String>,
    /// What is done with personal data.
    pub personal_data: PersonalData,
    /// Bytes that one text may have; of a longer one the beginning is kept. [`MIN_FIELD_BYTES`](super::MIN_FIELD_BYTES) at
    /// least.
    pub max_field_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            disabled_rules: BTreeSet::new(),
            key_names: Vec::new(),
            allow_key_names: Vec::new(),
            personal_data: PersonalData::default(),
            max_field_bytes: MAX_FIELD_BYTES,
        }
    }
}

/// Rules that read the names of things rather than the shape of values.
const BY_NAME: [&str; 5] = ["key-name", "assignment", "query-parameter", "authorization", "command-line"];

/// The names of the built-in credential rules, each once, as they stand behind `builtin:` in edits. What only keeps a record
/// safe to look at (`scrub`, `depth`, `duplicate-name`) is no rule, and cannot be switched off.
#[must_use]
pub fn rules() -> BTreeSet<&'static str> {
    BY_NAME.into_iter().chain(values::rule_names()).collect()
}
