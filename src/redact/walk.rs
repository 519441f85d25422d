//! The walk: one pass over a record with key-name and value rules, editing in place.
//!
//! It also reads what JSON alone does not say: a string that is itself JSON, `{"name": "DB_PASSWORD", "value": …}` as
//! Kubernetes and HAR files write it, `["--token", …]` in an argument list, and a JSON Schema, whose member `password`
//! describes a password and is none. What it masks it also remembers, for scrubbing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::edit::{Edits, MARK, Op, Place};
use super::looks;
use super::names::Sensitivity;
use super::personal::{PERSONAL_DATA, Personal};
use super::scrub::Secrets;
use super::values::{self, CREDENTIAL, Finding, Values};
use crate::json::{self, Object};

pub(super) const MALFORMED: &str = "malformed";

/// Nesting beyond this is masked unread. It is what `serde_json` accepts, so only JSON inside strings gets there.
const MAX_DEPTH: usize = 128;
/// How many times a string may hold JSON that holds a string that holds JSON; deeper ones are masked unread.
const MAX_STRING_LEVELS: usize = 8;
/// A longer string is read as text, where assignments are still found.
const MAX_INNER_BYTES: usize = 2 << 20;

/// A shorter value of an assignment in a text is looked for nowhere else, unless it is a secret for sure.
const MIN_ASSIGNED_BYTES: usize = 6;

/// What is looked for.
#[derive(Clone, Copy)]
pub(super) enum Rules<'a> {
    /// Credentials, by name and by shape.
    Credentials(&'a Values),
    /// Personal data, by shape only.
    Personal(&'a Personal),
}

impl Rules<'_> {
    /// What is to go from a text: sorted, and disjoint.
    pub(super) fn find(self, text: &str) -> Vec<Finding> {
        match self {
            Self::Credentials(values) => values.find(text, values.scan(text)),
            Self::Personal(personal) => {
                let mut findings = Vec::new();
                personal.find(text, &mut findings);
                values::merge(findings)
            }
        }
    }

    /// What the name of a member says of its value.
    fn sensitivity(self, name: &str) -> Option<Sensitivity> {
        match self {
            Self::Credentials(values) => values.sensitivity(name, values.scan(name)),
            Self::Personal(_) => None,
        }
    }

    /// The same, and whether something is to go from the name itself.
    fn name(self, name: &str) -> (Option<Sensitivity>, bool) {
        match self {
            Self::Credentials(values) => {
                let hits = values.scan(name);
                (values.sensitivity(name, hits), !values.find(name, hits).is_empty())
            }
            Self::Personal(_) => (None, !self.find(name).is_empty()),
        }
    }

    /// What kind of thing these rules look for.
    pub(super) fn category(self) -> &'static str {
        match self {
            Self::Credentials(_) => CREDENTIAL,
            Self::Personal(_) => PERSONAL_DATA,
        }
    }

    fn is_on(self, rule: &str) -> bool {
        match self {
            Self::Credentials(values) => values.is_on(rule),
            Self::Personal(_) => false,
        }
    }
}

/// One pass over one record.
pub(super) struct Walk<'a> {
    pub rules: Rules<'a>,
    pub edits: Edits,
    pub secrets: Secrets,
    /// Values of assignments in texts that may be common words. They are secrets in what is said of the call, but not sure
    /// enough to be taken out of the call itself.
    pub assigned: Secrets,
}

/// How deep the walk is: in values, and in strings that hold JSON.
#[derive(Clone, Copy, Default)]
pub(super) struct Depth {
    values: usize,
    strings: usize,
}

impl Depth {
    fn down(self) -> Self {
        Self { values: self.values + 1, ..self }
    }
}

impl Walk<'_> {
    /// Redacts a value in place.
    pub(super) fn value(&mut self, value: &mut Value, place: &Place<'_>, depth: Depth) {
        match value {
            Value::String(text) => self.string(text, place, depth),
            Value::Array(_) | Value::Object(_) if depth.values >= MAX_DEPTH => {
                self.remember(value);
                *value = Value::String(MARK.to_owned());
                self.edits.note(place, Op::Mask, "depth", MALFORMED);
            }
            Value::Array(items) => self.array(items, place, depth.down()),
            Value::Object(object) => self.object(object, place, depth.down()),
            Value::Number(number) => {
                let Rules::Personal(personal) = self.rules else { return };
                let Some(finding) = personal.number(number) else { return };
                self.secrets.add(&number.to_string());
                self.edits.note(place, finding.op, finding.rule, finding.category);
                *value = Value::String(finding.mark.into_owned());
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn string(&mut self, text: &mut String, place: &Place<'_>, depth: Depth) {
        if self.inner_json(text, place, depth) {
            return;
        }
        let findings = self.rules.find(text);
        if findings.is_empty() {
            return;
        }
        for finding in &findings {
            let found = text.get(finding.range.clone()).unwrap_or_default();
            if finding.sure {
                self.secrets.add(found);
            } else if found.len() >= MIN_ASSIGNED_BYTES {
                self.assigned.add(found);
            }
        }
        self.note(place, &findings);
        *text = values::masked(text, &findings);
    }

    /// Notes by which rules something was found in one text: however often, the pointer is spelled out once for each.
    fn note(&mut self, place: &Place<'_>, findings: &[Finding]) {
        let mut noted = BTreeSet::new();
        for Finding { op, rule, category, .. } in findings {
            if noted.insert((*op, *rule)) {
                self.edits.note(place, *op, rule, category);
            }
        }
    }

    /// Whether the string was JSON, and so is done. It is written anew only if something in it was edited.
    fn inner_json(&mut self, text: &mut String, place: &Place<'_>, depth: Depth) -> bool {
        if text.len() > MAX_INNER_BYTES || !may_be_json(text) {
            return false;
        }
        if depth.strings >= MAX_STRING_LEVELS {
            MARK.clone_into(text);
            self.edits.note(place, Op::Mask, "depth", MALFORMED);
            return true;
        }
        let (mut inner, lossy) = match json::parse(text.as_bytes()) {
            Ok(inner) => (inner, false),
            // Of two equal names only the last one is seen, so the first must not stay in the text unread.
            Err(_) => match serde_json::from_str::<Value>(text) {
                Ok(inner) => (inner, true),
                Err(_) => return false,
            },
        };
        let outer = std::mem::replace(&mut self.edits, Edits::inside());
        self.value(&mut inner, &place.inside(), Depth { strings: depth.strings + 1, ..depth.down() });
        let made = std::mem::replace(&mut self.edits, outer);
        if lossy {
            self.edits.note(place, Op::Remove, "duplicate-name", MALFORMED);
        }
        if lossy || !made.is_empty() {
            *text = serde_json::to_string(&inner).unwrap_or_else(|_| MARK.to_owned());
        }
        self.edits.append(place, made);
        true
    }

    fn array(&mut self, items: &mut [Value], place: &Place<'_>, depth: Depth) {
        let mut flag = None;
        for (index, item) in items.iter_mut().enumerate() {
            let place = place.item(index);
            let announced = flag.take();
            if let Value::String(text) = item {
                if announced.is_some() && !text.starts_with('-') && self.rules.is_on("command-line") {
                    self.masked(item, Sensitivity::Full, "command-line", &place);
                    continue;
                }
                flag = text.strip_prefix('-').and_then(|name| self.rules.sensitivity(name));
            }
            self.value(item, &place, depth);
        }
    }

    fn object(&mut self, object: &mut Object, place: &Place<'_>, depth: Depth) {
        let key_names = self.rules.is_on("key-name");
        let named = self.named_value(object).filter(|_| key_names);
        let mut secret_names = false;
        for (name, member) in object.iter_mut() {
            let (by_name, is_secret) = self.rules.name(name);
            let by_name = by_name.filter(|_| key_names);
            // A name of more than one word may hold a secret; `password` as a name is none.
            if is_secret {
                secret_names = true;
                continue;
            }
            let place = place.member(name);
            let sensitivity = match named {
                Some((member_name, sensitivity)) if member_name == name => Some(sensitivity),
                _ => by_name,
            };
            self.member(member, sensitivity, &place, depth);
        }
        if secret_names {
            self.rename(object, place, depth);
        }
    }

    fn member(&mut self, value: &mut Value, by_name: Option<Sensitivity>, place: &Place<'_>, depth: Depth) {
        match by_name {
            Some(_) if is_schema(value) => self.schema(value, place, depth),
            Some(sensitivity) if self.masked(value, sensitivity, "key-name", place) => {}
            _ => self.value(value, place, depth),
        }
    }

    /// Members whose very name holds a secret get the masked name, and are then walked below it.
    fn rename(&mut self, object: &mut Object, place: &Place<'_>, depth: Depth) {
        let mut secret = Vec::new();
        for (name, member) in std::mem::take(object) {
            let findings = self.rules.find(&name);
            if findings.is_empty() {
                object.insert(name, member);
            } else {
                secret.push((name, member, findings));
            }
        }
        let mut names = FreeNames::default();
        for (name, mut member, findings) in secret {
            for finding in &findings {
                self.secrets.add(name.get(finding.range.clone()).unwrap_or_default());
            }
            let new = names.take(object, values::masked(&name, &findings));
            let below = place.member(&new);
            self.note(&below, &findings);
            let by_name = self.rules.sensitivity(&new).filter(|_| self.rules.is_on("key-name"));
            self.member(&mut member, by_name, &below, depth);
            object.insert(new, member);
        }
    }

    /// A schema describes; but an example, a default or a constant in it may be the real thing.
    fn schema(&mut self, value: &mut Value, place: &Place<'_>, depth: Depth) {
        let Value::Object(schema) = value else { return };
        for (name, member) in schema.iter_mut() {
            let place = place.member(name);
            let example = matches!(name.as_str(), "default" | "const" | "enum" | "example" | "examples");
            // What a schema says of itself is words; a single one that no language has is the secret, dressed up.
            let worded = |text: &str| text.contains(char::is_whitespace) || !looks::looks_random(text);
            let described =
                matches!(name.as_str(), "title" | "description") && !member.as_str().is_none_or(worded);
            let example = example || described;
            self.member(member, example.then_some(Sensitivity::Full), &place, depth.down());
        }
    }

    /// `{"name": "DB_PASSWORD", "value": "…"}`: the member that holds the value, and what its name says of it.
    fn named_value(&self, object: &Object) -> Option<(&'static str, Sensitivity)> {
        const VALUES: [&str; 3] = ["value", "Value", "ParameterValue"];
        const NAMES: [&str; 6] = ["name", "key", "Name", "Key", "header", "ParameterKey"];
        let value = VALUES.into_iter().find(|value| object.contains_key(*value))?;
        let sensitive =
            |name: &&str| object.get(*name)?.as_str().and_then(|name| self.rules.sensitivity(name));
        NAMES.iter().find_map(sensitive).map(|sensitivity| (value, sensitivity))
    }

    /// Masks a value whole, if it is of the kind that its name speaks of. Says whether it is done with.
    fn masked(&mut self, value: &mut Value, sensitivity: Sensitivity, rule: &str, place: &Place<'_>) -> bool {
        let masks = match value {
            Value::Null | Value::Bool(_) => return true,
            Value::String(text) if text.is_empty() || text == MARK => return true,
            Value::String(text) => match sensitivity {
                Sensitivity::NotPath => !looks::is_path(text),
                Sensitivity::Random => looks::looks_random(text),
                Sensitivity::Text => !looks::is_common(text),
                // How a browser's `fetch` is told whether to send any.
                Sensitivity::Counted => !matches!(text.as_str(), "include" | "omit" | "same-origin"),
                Sensitivity::Full => true,
            },
            Value::Number(_) => matches!(sensitivity, Sensitivity::Full | Sensitivity::NotPath),
            Value::Array(_) | Value::Object(_) => {
                matches!(sensitivity, Sensitivity::Full | Sensitivity::Counted) && says_something(value)
            }
        };
        if masks {
            self.remember(value);
            *value = Value::String(MARK.to_owned());
            self.edits.note(place, Op::Mask, rule, CREDENTIAL);
        }
        masks
    }

    /// Remembers every text and number in a value that is about to go, and the secrets inside those texts: a policy may
    /// have taken `Bearer x` apart and quote only the `x`.
    fn remember(&mut self, value: &Value) {
        let mut pending = vec![value.clone()];
        let mut budget = MAX_INNER_BYTES;
        while let Some(value) = pending.pop() {
            match value {
                Value::String(text) => {
                    self.secrets.add(&text);
                    for finding in self.rules.find(&text) {
                        self.secrets.add(text.get(finding.range).unwrap_or_default());
                    }
                    if let Some((scheme, rest)) = text.trim().split_once(' ')
                        && looks::is_scheme(scheme)
                    {
                        self.secrets.add(rest);
                        if let Some(password) = values::user_password(rest.trim()) {
                            self.secrets.add(&password);
                        }
                    }
                    let pairs = if text.contains('=') { text.as_str() } else { "" };
                    for pair in pairs.split("; ") {
                        let crumb = pair.split_once('=').map_or("", |(_, crumb)| crumb);
                        if looks::looks_random(crumb) {
                            self.secrets.add(crumb);
                        }
                    }
                    if may_be_json(&text) && text.len() <= budget {
                        budget -= text.len();
                        pending.extend(serde_json::from_str::<Value>(&text));
                    }
                }
                Value::Number(number) => self.secrets.add(&number.to_string()),
                Value::Array(items) => pending.extend(items),
                Value::Object(object) => {
                    for (name, member) in object {
                        if looks::looks_random(&name) {
                            self.secrets.add(&name);
                        }
                        pending.push(member);
                    }
                }
                Value::Null | Value::Bool(_) => {}
            }
        }
    }
}

/// Names for the members of one object that are to lose theirs.
#[derive(Default)]
pub(super) struct FreeNames {
    /// The number to go on from, for each name that was taken already: trying all again for each member would cost the
    /// square of their count.
    next: BTreeMap<String, usize>,
}

impl FreeNames {
    /// `name`, or the first of `name (2)`, `name (3)`, … that the object does not have.
    pub(super) fn take(&mut self, object: &Object, name: String) -> String {
        if !object.contains_key(&name) {
            return name;
        }
        let next = self.next.get(&name).copied().unwrap_or(2);
        // One of len + 1 different names must be free.
        let mut candidates = (next..=next + object.len()).map(|n| (n, format!("{name} ({n})")));
        let Some((n, free)) = candidates.find(|(_, name)| !object.contains_key(name)) else { return name };
        self.next.insert(name, n + 1);
        free
    }
}

fn may_be_json(text: &str) -> bool {
    let text = text.trim_ascii();
    let ends = |open, close| text.starts_with(open) && text.ends_with(close) && text.len() > 2;
    ends('{', '}') || ends('[', ']') || ends('"', '"')
}

/// Whether there is any text or number in a container: `{"enabled": true}` tells no secret.
fn says_something(value: &Value) -> bool {
    let mut pending = vec![value];
    while let Some(value) = pending.pop() {
        match value {
            Value::String(text) if text.is_empty() => {}
            Value::String(_) | Value::Number(_) => return true,
            Value::Array(items) => pending.extend(items),
            Value::Object(object) => pending.extend(object.values()),
            Value::Null | Value::Bool(_) => {}
        }
    }
    false
}

/// Whether a value is a JSON Schema for one string or number: it has a type, and nothing that a schema does not have.
fn is_schema(value: &Value) -> bool {
    const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "object", "array", "null"];
    const WORDS: [&str; 22] = [
        "type",
        "title",
        "description",
        "format",
        "pattern",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "default",
        "const",
        "enum",
        "example",
        "examples",
        "writeOnly",
        "readOnly",
        "deprecated",
        "nullable",
        "items",
        "anyOf",
        "properties",
        "required",
    ];
    let Value::Object(object) = value else { return false };
    let known = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    let typed = match object.get("type") {
        Some(Value::Array(types)) => !types.is_empty() && types.iter().all(known),
        Some(one) => known(one),
        None => false,
    };
    typed && object.keys().all(|name| WORDS.contains(&name.as_str()))
}
