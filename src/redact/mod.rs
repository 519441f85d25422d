//! Redaction: the one way of free-form content into the ledger.
//!
//! [`Redacted`] has no public constructor. The ledger, the logs and the streams take free-form content in no other form,
//! so that writing something unredacted does not compile. A [`Redactor`] is an ordered list of steps; each takes
//! something away and notes it as an [`Edit`]. The first is built in: credentials by key name (`names`), by their own
//! shape (`values`), and by assignment in free text (`assign`, `looks`); what was found in one place of a record is then scrubbed
//! from every other (`scrub`). Then come the rules of `personal`, where an operator switched them on in [`Settings`],
//! the operator's own in Rego (`masks`), and components in any language ([`hooks`]).
//!
//! A step that cannot do its work withholds the content (`withhold`), but never what docket itself knows: who called,
//! and which policies decided. What is left is bounded in size
//! (`bulk`, `size`). Nothing here knows who reads a record, or how it is stored.

mod assign;
mod bulk;
mod edit;
mod hash;
pub mod hooks;
mod looks;
mod masks;
mod names;
mod personal;
mod readings;
mod scrub;
mod settings;
mod size;
mod taken;
mod values;
mod walk;
mod withhold;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde_json::Value;

use crate::text::truncated;
pub use bulk::{MAX_FIELD_BYTES, MIN_FIELD_BYTES};

pub use edit::{Edit, MARK, MAX_EDITS, Op};
pub use hash::HashKey;
pub use hooks::{About, Hooks, Refusing};
pub use masks::{Masks, Said, Unanswered};
pub use personal::{PersonalData, Treatment};
pub use settings::{Settings, rules};
pub use size::{MAX_PART_BYTES, is_heavy};
pub use taken::Taken;

use edit::{Edits, Place};
use personal::Personal;
use scrub::Secrets;
use values::Values;
use walk::{Depth, MALFORMED, Rules, Walk};
use withhold::{
    Authors, FAILED, about_others, each_policy_id, is_identifier, repeating, repeating_others, withhold,
};

/// Bytes that one text may have in what is recorded after a call.
pub const MAX_LATER_BYTES: usize = 1024;

/// Bytes that masks and hooks see of one text in what is recorded after a call.
const MAX_LATER_READ_BYTES: usize = 16 << 10;

/// Roots that hold what docket itself knows, beside what it repeats of others.
const DETERMINING: &str = "determining_policies";
const DIAGNOSTICS: &str = "diagnostics";
const METADATA: &str = "metadata";

/// Content that went through a [`Redactor`]. Only this module builds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// The content, to be written or shown.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> AsRef<T> for Redacted<T> {
    fn as_ref(&self) -> &T {
        &self.0
    }
}

/// The free-form parts of one record, edited together so that what one lost, no other gives back.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Named parts, in the order in which they were given.
    pub roots: Vec<(&'static str, Value)>,
    /// What was taken away.
    pub edits: Vec<Edit>,
    /// The hook that failed and refuses the call for it.
    refusing: Option<Refusing>,
    /// What later records of the same call must not give back.
    taken: Taken,
    /// Whether policies are named in it as they chose, so that what names them may be the call's.
    policy_ids_chosen: bool,
}

impl Redacted<Record> {
    /// A record without content, for entries whose columns say it all.
    #[must_use]
    pub fn nothing() -> Self {
        Self(Record::default())
    }

    /// What was taken away, in the order in which it was.
    #[must_use]
    pub fn edits(&self) -> &[Edit] {
        &self.0.edits
    }

    /// The hook that failed and refuses the call for it, if there is one.
    #[must_use]
    pub fn refusing(&self) -> Option<&Refusing> {
        self.0.refusing.as_ref()
    }

    /// What was found in it, to be kept out of what is recorded of the same call later.
    #[must_use]
    pub fn taken(&self) -> Taken {
        self.0.taken.clone()
    }

    /// The root of that name.
    #[must_use]
    pub fn get(&self, root: &str) -> Option<&Value> {
        self.0.roots.iter().find(|(name, _)| *name == root).map(|(_, value)| value)
    }

    /// The root of that name alone, with what was taken away from it: the others were only there so that what they lost, it
    /// cannot give back.
    #[must_use]
    pub fn only(mut self, root: &str) -> Self {
        let pointer = Place::root(root).pointer();
        self.0.edits.retain(|edit| is_within(&edit.path, &pointer));
        self.0.roots.retain(|(name, _)| *name == root);
        self
    }

    /// Whether anything was taken from the root of that name. Where nothing was, it is exactly as it was given.
    #[must_use]
    pub fn edited(&self, root: &str) -> bool {
        let pointer = Place::root(root).pointer();
        self.0.edits.iter().any(|edit| is_within(&edit.path, &pointer))
    }
}

/// Whether a path is that pointer, or leads below it.
fn is_within(path: &str, pointer: &str) -> bool {
    path.strip_prefix(pointer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The redaction pipeline: compiled once, shared by every call.
pub struct Redactor {
    /// In the order in which they run; each sees what the one before it left.
    steps: Vec<Step>,
    /// An operator's own rules, which see what the steps left.
    masks: Option<Box<dyn Masks>>,
    /// What hashes are made with; without one, what should be hashed is masked.
    hash_key: Option<HashKey>,
    /// Bytes that one text may have.
    max_field_bytes: usize,
    /// What runs after them.
    hooks: Hooks,
}

enum Step {
    /// The built-in credential rules.
    Builtin(Box<Values>),
    /// The personal-data rules.
    Personal(Box<Personal>),
    /// A step that could not be built: nothing may pass unread, so nothing passes.
    Withhold,
}

impl Step {
    /// The built-in rules of this step, where it could be built.
    fn rules(&self) -> Option<Rules<'_>> {
        match self {
            Self::Builtin(values) => Some(Rules::Credentials(values)),
            Self::Personal(personal) => Some(Rules::Personal(personal)),
            Self::Withhold => None,
        }
    }
}

impl Redactor {
    /// The pipeline as configured, for the ledger that the key is of. Compiling takes some milliseconds; do it once.
    #[must_use]
    pub fn new(settings: &Settings, hash_key: HashKey) -> Self {
        Self::compile(settings, Some(hash_key))
    }

    /// The same with masks, which see what the built-in rules left.
    #[must_use]
    pub fn with_masks(self, masks: Box<dyn Masks>) -> Self {
        Self { masks: Some(masks), ..self }
    }

    /// The built-in credential rules alone, for where there is neither a configuration nor a ledger. Without a ledger there
    /// is no key, and what should be hashed is masked.
    #[must_use]
    pub fn builtin() -> Self {
        Self::compile(&Settings::default(), None)
    }

    fn compile(settings: &Settings, hash_key: Option<HashKey>) -> Self {
        let builtin =
            Values::compile(settings).map_or(Step::Withhold, |values| Step::Builtin(Box::new(values)));
        let personal = Personal::new(&settings.personal_data, hash_key.clone());
        let personal = personal.map(|personal| Step::Personal(Box::new(personal)));
        let steps = [Some(builtin), personal].into_iter().flatten().collect();
        Self { steps, masks: None, hash_key, max_field_bytes: settings.max_field_bytes, hooks: Hooks::none() }
    }

    /// The same with hooks, which see what rules and masks left.
    #[must_use]
    pub fn with_hooks(self, hooks: Hooks) -> Self {
        Self { hooks, ..self }
    }

    /// The hooks.
    #[must_use]
    pub fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// Redacts the free-form parts of one record together: the one way into the ledger.
    ///
    /// Each root has a name, which begins the pointers of its edits: `("context", …)` gives `/context/…`. Every root is
    /// read with every rule, and what is found in any of them is scrubbed from all, so that a deny message in
    /// `diagnostics` cannot give back what `context` lost. A text that is longer than is configured keeps its beginning;
    /// roots named as the parts of an entry that are then still longer than [`MAX_PART_BYTES`] are replaced by their length
    /// and digest.
    #[must_use]
    pub fn record(&self, roots: Vec<(&'static str, Value)>) -> Redacted<Record> {
        self.record_about(&About::default(), roots)
    }

    /// The same for a record that is about a call, which masks and hooks are told.
    #[must_use]
    pub fn record_about(&self, about: &About<'_>, roots: Vec<(&'static str, Value)>) -> Redacted<Record> {
        self.redacted(&Taken::default(), about, roots, None)
    }

    /// The same for a record that follows another of the same call: the error of a server may quote the password that the
    /// call had. Of such an error [`MAX_LATER_BYTES`] are kept.
    #[must_use]
    pub fn record_after(
        &self,
        taken: &Taken,
        about: &About<'_>,
        roots: Vec<(&'static str, Value)>,
    ) -> Redacted<Record> {
        self.redacted(taken, about, roots, Some(MAX_LATER_BYTES))
    }

    fn redacted(
        &self,
        taken: &Taken,
        about: &About<'_>,
        roots: Vec<(&'static str, Value)>,
        max_later_bytes: Option<usize>,
    ) -> Redacted<Record> {
        let mut record = Record { roots, policy_ids_chosen: about.policy_ids_chosen, ..Record::default() };
        if record.policy_ids_chosen {
            bound_policy_ids(&mut record);
        }
        self.steps(&mut record);
        taken.scrub(&mut record);
        if max_later_bytes.is_some() {
            // Nothing is half there any more, and a server's error must not make masks and hooks late.
            bulk::shorten(&mut record, MAX_LATER_READ_BYTES);
        }
        if let Some(masks) = &self.masks {
            // Masks that panic may have done half their work.
            if catch_unwind(AssertUnwindSafe(|| masks::apply(masks.as_ref(), about, &mut record))).is_err() {
                withhold(&mut record, Some(&Secrets::default()), FAILED);
            }
        }
        self.hooks.run(&mut record, about, &|bytes| self.hashed(bytes), &|text| self.plain(text));
        let max_field_bytes =
            max_later_bytes.map_or(self.max_field_bytes, |max| max.min(self.max_field_bytes));
        bulk::shorten(&mut record, max_field_bytes);
        size::bound(&mut record);
        Redacted(record)
    }

    /// Puts other roots in place of those of the same names. They are docket's own words, so neither masks nor hooks are asked
    /// about them.
    #[must_use]
    pub fn revised(&self, content: Redacted<Record>, roots: Vec<(&'static str, Value)>) -> Redacted<Record> {
        let mut revision = Record { roots, ..Record::default() };
        self.steps(&mut revision);
        let mut record = content.0;
        for (name, value) in revision.roots {
            let pointer = Place::root(name).pointer();
            record.edits.retain(|edit| !is_within(&edit.path, &pointer));
            record.roots.retain(|(root, _)| *root != name);
            record.roots.push((name, value));
        }
        record.edits.extend(revision.edits);
        Redacted(record)
    }

    fn steps(&self, record: &mut Record) {
        for step in &self.steps {
            match step.rules() {
                // A rule that panics may leave the record half read, so all of it is withheld then.
                Some(rules) => {
                    if catch_unwind(AssertUnwindSafe(|| pass(rules, record))).is_err() {
                        withhold(record, None, FAILED);
                    }
                }
                None => withhold(record, None, FAILED),
            }
        }
    }

    /// At most so many bytes of a text, for what is recorded only in short. Cut after the built-in rules have read it: half a
    /// credential has no shape by which it would be known.
    #[must_use]
    pub fn cut(&self, text: &str, max_bytes: usize) -> String {
        if text.len() <= max_bytes {
            return text.to_owned();
        }
        truncated(&self.plain(text.to_owned()), max_bytes).to_owned()
    }

    /// A text without what the built-in rules find: for what is kept beside entries, and shown to callers.
    #[must_use]
    pub fn plain(&self, text: String) -> String {
        let mut record = Record { roots: vec![("text", Value::String(text))], ..Record::default() };
        self.steps(&mut record);
        match record.roots.into_iter().next() {
            Some((_, Value::String(text))) => text,
            _ => MARK.to_owned(),
        }
    }

    /// Whether a value rule matches. For strings that a caller chose and that go into leaf and index columns, where
    /// nothing can be edited later: a request id, a resource.
    #[must_use]
    pub fn is_secret(&self, text: &str) -> bool {
        self.steps.iter().any(|step| step.rules().is_none_or(|rules| !rules.find(text).is_empty()))
    }

    /// Whether a credential rule matches. For names that people give to agents, tokens and tenants: they are what docket itself
    /// knows, so personal data may be in them, and they are written as they are.
    #[must_use]
    pub fn is_credential(&self, name: &str) -> bool {
        self.steps.iter().any(|step| match step.rules() {
            Some(Rules::Personal(_)) => false,
            Some(rules) => !rules.find(name).is_empty(),
            None => true,
        })
    }

    /// What stands in the place of a value that is to be hashed, of which these are the bytes: see [`HashKey::hash`].
    #[must_use]
    pub fn hashed(&self, bytes: &[u8]) -> (String, Op) {
        match &self.hash_key {
            Some(key) => (key.hash(bytes), Op::Hash),
            None => (MARK.to_owned(), Op::Mask),
        }
    }
}

/// One pass of built-in rules over a record, and what they found scrubbed from all of it.
fn pass(rules: Rules<'_>, record: &mut Record) {
    let edits = Edits::resume(std::mem::take(&mut record.edits));
    let mut walk = Walk { rules, edits, secrets: Secrets::default(), assigned: Secrets::default() };
    for (name, value) in &mut record.roots {
        match rules {
            Rules::Credentials(_) => walk.value(value, &Place::root(name), Depth::default()),
            Rules::Personal(_) => about_others(name, value, &Place::root(name), &mut |value, place| {
                walk.value(value, place, Depth::default());
            }),
        }
    }
    let Walk { mut edits, secrets, assigned, .. } = walk;
    let authors = Authors::of(record);
    for (secrets, only_said) in [(secrets, false), (assigned, true)] {
        let scrubber = match secrets.scrubber(rules.category()) {
            Ok(None) => continue,
            Ok(Some(scrubber)) => {
                record.taken.keep(if only_said { scrubber.only_of_said() } else { scrubber })
            }
            Err(secrets) => return withhold(record, Some(&secrets), FAILED),
        };
        for (name, value) in record.roots.iter_mut().filter(|(name, _)| scrubber.is_for(name)) {
            let place = Place::root(name);
            let mut scrub =
                |value: &mut Value, place: &Place<'_>, voice| scrubber.said(value, place, voice, &mut edits);
            match rules {
                Rules::Credentials(_) => repeating(name, value, &place, authors, &mut scrub),
                Rules::Personal(_) => repeating_others(name, value, &place, authors, &mut scrub),
            }
        }
    }
    record.edits = edits.into_vec();
}

/// Policies that choose under which id they decide may choose what the call gave them: what is no id is none.
fn bound_policy_ids(record: &mut Record) {
    let mut edits = Edits::resume(std::mem::take(&mut record.edits));
    for (name, value) in &mut record.roots {
        each_policy_id(name, value, &mut |id, place| {
            if !is_identifier(id) {
                *id = MARK.into();
                edits.note(place, Op::Mask, "policy-id", MALFORMED);
            }
        });
    }
    record.edits = edits.into_vec();
}

#[cfg(test)]
mod tests;
