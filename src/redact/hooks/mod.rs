//! Hooks: WebAssembly components that say what else to take away, in the order of the configuration.
//!
//! The interface is `wit/redactor.wit`. A hook is asked about the fields of one record (`fields`) in an instance of its own
//! (`host`), and its edits are checked before any is applied (`edits`). What goes wrong withholds the content: no way of failing
//! lets it through. A hook is never passed over, however often it fails. How hooks come and go while docket runs is not known
//! here, except that one can be put in another's place.

mod cache;
mod edits;
mod failure;
mod fields;
mod host;
mod load;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use ulid::Ulid;

use super::edit::{Edit, Edits, MARK, Op, Place};
use super::scrub::Secrets;
use super::values::CREDENTIAL;
use super::{METADATA, Record, is_within};
use crate::call::RequestId;
use crate::decision::Effect;

pub use cache::{Cache, default_folder};
pub use failure::{Cause, OnFailure};
pub use host::{Bounds, Host, Wasi};
pub use load::{HookSpec, LoadError, Loaded, MAX_COMPONENT_BYTES, digest_at};

use failure::Failure;
use fields::{Field, Part};
use host::Line;

/// The member of `metadata` that names the hooks that ran.
const RAN: &str = "hooks";
/// The category of what is scrubbed because a hook took it somewhere.
const SCRUBBED: &str = "hook";
/// Log lines of one hook that are shown, a second.
const MAX_LINES_A_SECOND: u32 = 10;
/// Texts of a record that are kept out of a hook's log lines are at least this long: shorter ones are in every sentence.
const MIN_KEPT_OUT_BYTES: usize = 6;
/// How often a hook is tried that is only late: the machine may be busy.
const MAX_TRIES: u32 = 3;

/// What a record is about: facts that hooks may read and nothing can edit.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// The call.
    pub call_id: Option<Ulid>,
    /// The id the caller's answer carries.
    pub request_id: Option<&'a RequestId>,
    /// What was decided.
    pub decision: Option<Effect>,
    /// By which manifest.
    pub manifest_sha: Option<&'a str>,
    /// Whether a policy chose the id under which it decided, so that this may be something of the call.
    pub policy_ids_chosen: bool,
}

/// One call of a hook, for those who count.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Its name in the configuration.
    pub hook: &'a str,
    /// Why it failed, if it did.
    pub cause: Option<Cause>,
    /// How long it took.
    pub seconds: f64,
}

/// Counts calls of hooks.
pub type Observer = Box<dyn Fn(Run<'_>) + Send + Sync>;

/// A hook that failed, and refuses the call for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusing {
    /// Its name in the configuration.
    pub hook: String,
    /// Why.
    pub cause: Cause,
}

/// How a hook is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookHealth {
    /// Its name in the configuration.
    pub hook: String,
    /// Digest of the component in use.
    pub sha256: String,
    /// Failures since it last succeeded, with records that decide something or with others, whichever are more.
    pub failures_in_a_row: u32,
    /// The cause of the last failure, while there are any in a row.
    pub last_cause: Option<Cause>,
    /// Whether it failed often enough to be called unhealthy.
    pub is_unhealthy: bool,
}

/// The configured hooks.
pub struct Hooks {
    hooks: Vec<Hook>,
    observer: Observer,
}

/// One hook.
struct Hook {
    spec: HookSpec,
    loaded: ArcSwap<Loaded>,
    /// In a row: of records that decide something, and of others. A hook that fails on every call may do well with the rest.
    failures: [AtomicU32; 2],
    last_cause: Mutex<Option<Cause>>,
    lines: LineRate,
}

impl Hooks {
    /// Hooks in the order in which they run, each with its component.
    #[must_use]
    pub fn new(hooks: Vec<(HookSpec, Loaded)>, observer: Observer) -> Self {
        let hook = |(spec, loaded)| Hook {
            spec,
            loaded: ArcSwap::from_pointee(loaded),
            failures: <[AtomicU32; 2]>::default(),
            last_cause: Mutex::default(),
            lines: LineRate::default(),
        };
        Self { hooks: hooks.into_iter().map(hook).collect(), observer }
    }

    /// No hooks.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Vec::new(), Box::new(|_| {}))
    }

    /// The hooks as they are configured.
    pub fn specs(&self) -> impl Iterator<Item = &HookSpec> {
        self.hooks.iter().map(|hook| &hook.spec)
    }

    /// How each is doing.
    #[must_use]
    pub fn health(&self) -> Vec<HookHealth> {
        let health = |hook: &Hook| {
            let failures = hook.failures.iter().map(|failures| failures.load(Ordering::Relaxed));
            let failures_in_a_row = failures.max().unwrap_or_default();
            let last_cause = *hook.last_cause.lock().unwrap_or_else(PoisonError::into_inner);
            HookHealth {
                hook: hook.spec.name.clone(),
                sha256: hook.loaded.load().sha256.clone(),
                failures_in_a_row,
                last_cause: last_cause.filter(|_| failures_in_a_row > 0),
                is_unhealthy: failures_in_a_row >= hook.spec.unhealthy_after,
            }
        };
        self.hooks.iter().map(health).collect()
    }

    /// Puts another component in a hook's place; calls under way finish with the old one. Answers the old one's digest, or
    /// `None` if there is no hook of that name.
    #[must_use]
    pub fn replace(&self, name: &str, loaded: Loaded) -> Option<String> {
        let hook = self.hooks.iter().find(|hook| hook.spec.name == name)?;
        let old = hook.loaded.swap(Arc::new(loaded));
        hook.failures.iter().for_each(|failures| failures.store(0, Ordering::Relaxed));
        Some(old.sha256.clone())
    }

    /// Runs all hooks over a record. `plain` takes credentials out of a text, for what hooks log.
    pub(super) fn run(
        &self,
        record: &mut Record,
        about: &About<'_>,
        hash: &dyn Fn(&[u8]) -> (String, Op),
        plain: &dyn Fn(String) -> String,
    ) {
        let mut ran = Vec::new();
        for hook in &self.hooks {
            let loaded = hook.loaded.load_full();
            let started = Instant::now();
            let Some(result) = hook.run(&loaded, record, about, hash, plain) else { continue };
            (self.observer)(Run {
                hook: &hook.spec.name,
                cause: result.as_ref().err().copied(),
                seconds: started.elapsed().as_secs_f64(),
            });
            let (name, sha256) = (&hook.spec.name, &loaded.sha256);
            let [deciding, others] = &hook.failures;
            let failures = if about.decision.is_some() { deciding } else { others };
            ran.push(match result {
                Ok(()) => {
                    failures.store(0, Ordering::Relaxed);
                    json!({"name": name, "sha256": sha256})
                }
                Err(cause) => {
                    failures.fetch_add(1, Ordering::Relaxed);
                    *hook.last_cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
                    fail(record, &hook.spec, cause);
                    json!({"name": name, "sha256": sha256, "failed": cause.as_str()})
                }
            });
        }
        let metadata = record.roots.iter_mut().find(|(name, _)| *name == METADATA).map(|(_, value)| value);
        if let Some(Value::Object(metadata)) = metadata.filter(|_| !ran.is_empty()) {
            metadata.insert(RAN.to_owned(), ran.into());
        }
    }
}

/// Asks a hook about a small record that has nothing secret in it, so that one that cannot work at all, or does not
/// understand its settings, is known before it is put in force.
///
/// # Errors
/// It fails, three times in a row if it is only late.
pub fn try_out(spec: &HookSpec, loaded: &Loaded) -> Result<(), LoadError> {
    let roots = vec![("context", json!({"arguments": {"text": "docket tries this hook", "number": 1}}))];
    let record = Record { roots, ..Record::default() };
    let tried = || {
        let fields = fields::fields(&record)?;
        let (answer, _) = ask(spec, loaded, &About::default(), &fields);
        edits::check(answer?, &fields).map(drop)
    };
    let is_late =
        |result: &Result<(), Failure>| result.as_ref().is_err_and(|failure| failure.cause == Cause::Deadline);
    let mut result = tried();
    for _ in 1..MAX_TRIES {
        if is_late(&result) {
            result = tried();
        }
    }
    result.map_err(|failure| LoadError {
        hook: spec.name.clone(),
        component: spec.component.clone(),
        reason: format!("asked about a record with nothing secret in it, it fails: {failure}"),
    })
}

/// Asks a hook about fields.
fn ask(
    spec: &HookSpec,
    loaded: &Loaded,
    about: &About<'_>,
    fields: &[Field<'_>],
) -> (Result<Vec<host::Edit>, Failure>, Vec<Line>) {
    let record_id = about.call_id.map(|id| id.to_string()).unwrap_or_default();
    let context = host::Context {
        record_id: &record_id,
        request_id: about.request_id.map_or("", RequestId::as_str),
        decision: about.decision.map_or("", Effect::as_str),
        policy_sha: about.manifest_sha.unwrap_or_default(),
        hook: &spec.name,
        settings: &spec.settings,
    };
    let fields: Vec<host::Field<'_>> = fields.iter().map(Field::lowered).collect();
    loaded.guest.call(spec.bounds, context, &fields)
}

impl Hook {
    /// Asks the hook, if there is anything to ask about, and does as it says.
    fn run(
        &self,
        loaded: &Loaded,
        record: &mut Record,
        about: &About<'_>,
        hash: &dyn Fn(&[u8]) -> (String, Op),
        plain: &dyn Fn(String) -> String,
    ) -> Option<Result<(), Cause>> {
        let checked = match fields::fields(record) {
            Ok(fields) if fields.is_empty() => return None,
            Ok(fields) => {
                let (answer, lines) = ask(&self.spec, loaded, about, &fields);
                let checked = answer.and_then(|edits| edits::check(edits, &fields));
                self.show(&lines, checked.as_ref().err(), &fields, plain);
                checked
            }
            Err(failure) => Err(failure),
        };
        let edits = match checked {
            Ok(edits) => edits,
            Err(failure) => return Some(Err(failure.cause)),
        };
        let removed = edits::apply(record, edits, &format!("hook:{}", self.spec.name), hash);
        Some(scrub_parts(record, removed))
    }

    /// Shows what the hook logged and why it failed, without any text of the record: what it is asked about may be what it is
    /// there to hide.
    fn show(
        &self,
        lines: &[Line],
        failure: Option<&Failure>,
        fields: &[Field<'_>],
        plain: &dyn Fn(String) -> String,
    ) {
        if lines.is_empty() && failure.is_none() {
            return;
        }
        let mut secrets = Secrets::default();
        for text in fields.iter().filter_map(Field::text).filter(|text| text.len() >= MIN_KEPT_OUT_BYTES) {
            secrets.add(text);
            for word in text.split_whitespace().filter(|word| word.len() >= MIN_KEPT_OUT_BYTES) {
                secrets.add(word);
            }
        }
        let scrubber = secrets.scrubber(CREDENTIAL);
        let clean = |text: &str| match &scrubber {
            Ok(None) => plain(text.to_owned()),
            Ok(Some(scrubber)) => plain(scrubber.text(text).unwrap_or_else(|| text.to_owned())),
            Err(_) => MARK.to_owned(),
        };
        let hook = self.spec.name.as_str();
        let lines = if self.spec.log { lines } else { &[] };
        if let Some(failure) = failure
            && self.lines.admits()
        {
            tracing::warn!(
                hook,
                cause = failure.cause.as_str(),
                detail = clean(&failure.detail),
                "a redaction hook failed"
            );
        }
        for Line { level, message } in lines.iter().filter(|_| self.lines.admits()) {
            let message = clean(message);
            match *level {
                tracing::Level::ERROR => tracing::error!(hook, "{message}"),
                tracing::Level::WARN => tracing::warn!(hook, "{message}"),
                tracing::Level::INFO => tracing::info!(hook, "{message}"),
                _ => tracing::debug!(hook, "{message}"),
            }
        }
    }
}

/// Takes what went from one part out of all others, but never out of what docket itself knows: a hook that names a time or an id
/// as secret would hide them.
fn scrub_parts(record: &mut Record, removed: Secrets) -> Result<(), Cause> {
    let scrubber = match removed.scrubber(SCRUBBED) {
        Ok(None) => return Ok(()),
        Ok(Some(scrubber)) => record.taken.keep(scrubber),
        Err(_) => return Err(Cause::TooLarge),
    };
    let mut edits = Edits::resume(std::mem::take(&mut record.edits));
    for part in fields::parts(record) {
        if let Some(value) = part_of(record, &part) {
            scrubber.value(value, &Place::root(&part.pointer), &mut edits);
        }
    }
    record.edits = edits.into_vec();
    Ok(())
}

/// Replaces what the hook was asked about, as configured.
fn fail(record: &mut Record, spec: &HookSpec, cause: Cause) {
    // Nobody knows what the hook would have found, so nothing that quotes the call may pass later either.
    record.taken.withheld();
    let marker = format!("[withheld: redaction hook `{}` failed: {}]", spec.name, cause.as_str());
    for part in fields::parts(record) {
        let Some(value) = part_of(record, &part) else { continue };
        if matches!(value, Value::Null | Value::Bool(_)) {
            continue;
        }
        if spec.on_failure == OnFailure::MaskAll {
            mask_all(value);
        } else {
            *value = Value::String(marker.clone());
        }
        record.edits.retain(|edit| !is_within(&edit.path, &part.pointer));
        record.edits.push(Edit {
            path: part.pointer,
            op: Op::Mask,
            by: format!("hook:{}", spec.name),
            category: "withheld".to_owned(),
        });
    }
    if spec.on_failure == OnFailure::Deny && record.refusing.is_none() {
        record.refusing = Some(Refusing { hook: spec.name.clone(), cause });
    }
}

fn part_of<'r>(record: &'r mut Record, part: &Part) -> Option<&'r mut Value> {
    let (name, root) = record.roots.get_mut(part.root)?;
    root.pointer_mut(part.pointer.get(name.len() + 1..).unwrap_or_default())
}

fn mask_all(value: &mut Value) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(_) | Value::String(_) => *value = MARK.into(),
        Value::Array(items) => items.iter_mut().for_each(mask_all),
        Value::Object(object) => object.values_mut().for_each(mask_all),
    }
}

/// So many lines a second.
#[derive(Default)]
struct LineRate(Mutex<Option<(Instant, u32)>>);

impl LineRate {
    fn admits(&self) -> bool {
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match &mut *second {
            Some((began, lines)) if now.duration_since(*began) < Duration::from_secs(1) => {
                *lines = lines.saturating_add(1);
                *lines <= MAX_LINES_A_SECOND
            }
            second => {
                *second = Some((now, 1));
                true
            }
        }
    }
}
