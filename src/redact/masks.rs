//! Masks: what an operator's own Rego takes from a record, in OPA's forms.
//!
//! `data.system.log.mask` lists pointers into OPA's decision log document, as `"/input/context/arguments/path"` or as
//! `{"op": "upsert", "path": …, "value": …}`; `data.system.log.drop` takes all. The document has the call under `input`, and
//! every other part of the record under `result`. What a mask takes from one place is scrubbed from all others. As in OPA a
//! pointer that leads nowhere is no error; one that cannot be a pointer is, and then nothing of the record passes.
//!
//! Beyond what OPA does, a mask cannot make anything up: it replaces only what is there. Nor can it take what docket itself
//! knows. Who evaluates the rules, this module does not know.

use serde_json::{Value, json};

use super::edit::{Edits, MARK, Op, Place};
use super::scrub::Secrets;
use super::withhold::{
    Authors, By, is_asserted, is_name_of_call, is_own, lend_own, repeating_others, return_own, withhold,
    withhold_root,
};
use super::{About, Record};
use crate::json::Object;
use crate::text::percent_encoded;

/// Stands in edits as what made them.
const MASK: &str = "rego:data.system.log.mask";
/// The category of what masks took, and of what is scrubbed for it.
const MASKED: &str = "masked";
const DROPPED: By = ("rego:data.system.log.drop", "dropped");
const FAILED: By = (MASK, "withheld");

/// The roots of a record that are the call, hence `input` of the document.
const CALL: [&str; 4] = ["action", "context", "resource", "subject"];
/// Masks in one answer: more are a mistake, and each costs a walk.
const MAX_MASKS: usize = 10_000;

/// What the rules in force say of one record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// Whether all of it goes.
    pub drop: bool,
    /// A list of masks, where there is one.
    pub mask: Option<Value>,
}

/// Whoever knows the rules in force.
pub trait Masks: Send + Sync {
    /// What they say of a record; `None` where there are no rules, and then the document is never made.
    ///
    /// # Errors
    /// They could not be asked. Nothing of the record may pass then; whoever implements this says and counts why.
    fn ask(&self, about: &About<'_>, document: &dyn Fn() -> Value) -> Option<Result<Said, Unanswered>>;

    /// What they said could not be used.
    fn unusable(&self, why: &str);

    /// The mask of that path took nothing, since it leads to an item of an array.
    fn idle(&self, path: &str);
}

/// The rules could not be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered;

/// Asks for masks and applies them.
pub(super) fn apply(masks: &dyn Masks, about: &About<'_>, record: &mut Record) {
    let Some(said) = masks.ask(about, &|| document(about, record)) else { return };
    let rules = match said {
        Ok(Said { drop: true, .. }) => return withhold(record, Some(&Secrets::default()), DROPPED),
        Ok(Said { mask, .. }) => read(mask).map_err(|why| masks.unusable(&why)),
        Err(Unanswered) => Err(()),
    };
    // A caller can make masks late by the size of its call, and must not become anonymous by it.
    let Ok(rules) = rules else { return withhold(record, Some(&Secrets::default()), FAILED) };
    let mut secrets = Secrets::default();
    let mut idle = None;
    for rule in &rules {
        idle = rule.apply(record, &mut secrets).or(idle);
    }
    if let Some(path) = idle {
        masks.idle(path);
    }
    scrub(record, secrets);
}

/// A record as OPA's decision log has it.
fn document(about: &About<'_>, record: &Record) -> Value {
    let mut document = json!({
        "labels": {"app": "docket", "version": env!("CARGO_PKG_VERSION")},
        "path": if about.decision.is_some() { "docket/decision" } else { "docket/event" },
    });
    let (mut input, mut result) = (Object::new(), Object::new());
    for (name, value) in &record.roots {
        let part = if CALL.contains(name) { &mut input } else { &mut result };
        part.insert((*name).to_owned(), value.clone());
    }
    if let Some(effect) = about.decision {
        result.insert("decision".into(), effect.as_str().into());
    }
    let Value::Object(members) = &mut document else { return document };
    members.extend(about.call_id.map(|id| ("decision_id".to_owned(), id.to_string().into())));
    members.extend(about.request_id.map(|id| ("request_id".to_owned(), id.as_str().into())));
    members.extend(about.manifest_sha.map(|sha| ("manifest_sha".to_owned(), sha.into())));
    if !input.is_empty() {
        members.insert("input".into(), Value::Object(input));
    }
    members.insert("result".into(), Value::Object(result));
    document
}

/// One mask.
#[derive(Debug, PartialEq)]
struct Rule {
    /// Whether it leads into the call, or into the rest.
    in_call: bool,
    /// The path behind that.
    path: Vec<String>,
    /// All of it, as it was written.
    written: String,
    /// What takes the place of what is there; nothing, where that is removed.
    value: Option<Value>,
}

/// Reads OPA's forms.
fn read(mask: Option<Value>) -> Result<Vec<Rule>, String> {
    let items = match mask {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= MAX_MASKS => items,
        Some(Value::Array(_)) => return Err(format!("it has more than {MAX_MASKS} elements")),
        Some(_) => return Err("it is neither a set nor an array".into()),
    };
    items.into_iter().map(Rule::read).collect()
}

impl Rule {
    fn read(item: Value) -> Result<Self, String> {
        let mut object = match item {
            Value::String(path) => return Self::new(&path, None),
            Value::Object(object) => object,
            _ => return Err("a mask is neither a string nor an object".into()),
        };
        let Some(Value::String(path)) = object.remove("path") else {
            return Err("a mask has no `path`, or one that is no string".into());
        };
        match object.get("op").and_then(Value::as_str) {
            Some("remove") => Self::new(&path, None),
            Some("upsert") => Self::new(&path, Some(object.remove("value").unwrap_or_default())),
            _ => Err("the `op` of a mask is neither `remove` nor `upsert`".into()),
        }
    }

    fn new(path: &str, value: Option<Value>) -> Result<Self, String> {
        let rest = path.strip_prefix('/').ok_or("the path of a mask does not begin with `/`")?;
        let mut parts = rest.split('/').map(str::to_owned);
        let in_call = match parts.next().as_deref() {
            Some("input") => true,
            Some("result") => false,
            _ => return Err("the path of a mask leads neither to `/input` nor to `/result`".into()),
        };
        Ok(Self { in_call, path: parts.collect(), written: path.to_owned(), value })
    }

    /// Applies it; answers its path if it leads to an item of an array, which stays.
    fn apply(&self, record: &mut Record, secrets: &mut Secrets) -> Option<&str> {
        let authors = Authors::of(record);
        let mut edits = Edits::resume(std::mem::take(&mut record.edits));
        let mut idle = None;
        for (root, value) in &mut record.roots {
            if CALL.contains(root) != self.in_call {
                continue;
            }
            match self.path.split_first() {
                Some((first, _)) if !is_named(first, root) => {}
                Some((_, path)) if !path.is_empty() => {
                    if is_own(root, value, path, authors) {
                        continue;
                    }
                    // A record without its tool or its caller could not be found, and one with others would be a lie.
                    let new = match &self.value {
                        _ if is_name_of_call(root, path) => Some(MARK.into()),
                        Some(_) if is_asserted(root, path) => Some(MARK.into()),
                        value => value.clone(),
                    };
                    let own = if path.len() == 1 { lend_own(root, value, authors) } else { Vec::new() };
                    match edit(value, &Place::root(root), path, new.as_ref()) {
                        Edited::Taken(before, pointer) => {
                            each_text(&before, &mut |text| secrets.add(text));
                            let op = if new.is_none() { Op::Remove } else { Op::Mask };
                            edits.replaced(pointer, op, MASK, MASKED);
                        }
                        Edited::Item => idle = Some(self.written.as_str()),
                        Edited::Nothing => {}
                    }
                    return_own(value, own);
                }
                // A whole part goes, but for what names it and what docket itself knows.
                _ => {
                    let before = value.clone();
                    withhold_root(root, value, true, &|_| true, (MASK, MASKED), &mut edits);
                    each_text(&before, &mut |text| secrets.add(text));
                    each_text(value, &mut |text| secrets.forget(text));
                }
            }
        }
        record.edits = edits.into_vec();
        idle
    }
}

/// Replaces what a path leads to, if that is a member of an object; without anything new, removes it.
fn edit(value: &mut Value, place: &Place<'_>, path: &[String], new: Option<&Value>) -> Edited {
    let Some((next, rest)) = path.split_first() else { return Edited::Nothing };
    match value {
        Value::Object(object) => {
            let name = object.keys().find(|name| *name == next);
            let name = name.or_else(|| object.keys().find(|name| is_named(next, name))).cloned();
            let Some(name) = name else { return Edited::Nothing };
            let here = place.member(&name);
            if !rest.is_empty() {
                return object.get_mut(&name).map_or(Edited::Nothing, |below| edit(below, &here, rest, new));
            }
            let before = match new {
                Some(new) if object.get(&name) == Some(new) => None,
                Some(new) => object.insert(name.clone(), new.clone()),
                None => object.remove(&name),
            };
            before.map_or(Edited::Nothing, |before| Edited::Taken(before, here.pointer()))
        }
        // As in OPA: items are passed through by their index, and never taken out.
        Value::Array(items) => {
            let found = next.parse().ok().and_then(|index: usize| Some((index, items.get_mut(index)?)));
            match found {
                Some(_) if rest.is_empty() => Edited::Item,
                Some((index, item)) => edit(item, &place.item(index), rest, new),
                None => Edited::Nothing,
            }
        }
        _ => Edited::Nothing,
    }
}

/// What a mask did.
enum Edited {
    /// It took this from that place.
    Taken(Value, String),
    /// It leads to an item of an array, which stays.
    Item,
    /// It leads nowhere, or changes nothing.
    Nothing,
}

/// Calls `visit` with every text and number in a value.
fn each_text(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Number(number) => visit(&number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, visit)),
        Value::Object(object) => object.values().for_each(|member| each_text(member, visit)),
        Value::Null | Value::Bool(_) => {}
    }
}

/// Whether a part of a path names a member: as it is, percent-encoded, or in the escapes of RFC 6901.
fn is_named(part: &str, name: &str) -> bool {
    part == name
        || (part.contains('~') && part.replace("~1", "/").replace("~0", "~") == name)
        || (part.contains('%') && part.eq_ignore_ascii_case(&percent_encoded(name, b"")))
}

/// What was taken from one place is taken from all.
fn scrub(record: &mut Record, secrets: Secrets) {
    match secrets.scrubber(MASKED) {
        Ok(None) => {}
        Ok(Some(scrubber)) => {
            let scrubber = record.taken.keep(scrubber);
            let authors = Authors::of(record);
            let mut edits = Edits::resume(std::mem::take(&mut record.edits));
            for (name, value) in &mut record.roots {
                repeating_others(name, value, &Place::root(name), authors, &mut |value, place, voice| {
                    scrubber.said(value, place, voice, &mut edits);
                });
            }
            record.edits = edits.into_vec();
        }
        Err(secrets) => withhold(record, Some(&secrets), FAILED),
    }
}

#[cfg(test)]
mod tests;
