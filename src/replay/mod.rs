//! Replay: the evaluation of a recorded call once more, on the policies that were recorded with it.
//!
//! A decision entry holds the call, its moment and the digest of the manifest that was in force; the ledger holds every
//! file of that manifest. So explaining needs nothing but the database file, and asks nothing that the data plane waits
//! for. The recorded call is the redacted one: what redaction took away is gone, and cannot come back here. Where a policy
//! reads such a place, the answer is approximate and names it; unless the call was refused and explained live, before it was
//! gone: then what was recorded of that is the answer.

pub mod recorded_tests;
mod traffic;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use ulid::Ulid;

use crate::call::{Action, Call, Entity, Moment};
use crate::decision::{Determining, Diagnostic, Effect, EvaluationStatus};
use crate::json::Object;
use crate::ledger::filter::Scope;
use crate::ledger::{Filter, Order, Reader, Removal, Stored};
use crate::policy::explain::{Missing, RuleTrace};
use crate::policy::{Explanation, Limits, PolicySet};
use crate::trace::Told;

pub use traffic::{Event, Flip, Side, Totals, Traffic};

/// Policy sets kept compiled.
const MAX_SETS: usize = 4;

/// Replays of traffic of one kind at once: they share the machine with the data plane.
const MAX_REPLAYS: usize = 1;

/// Evaluates recorded calls.
pub struct Replayer {
    reader: Reader,
    limits: Limits,
    /// Compiled sets by manifest digest, the one used last at the back.
    sets: Mutex<VecDeque<Arc<PolicySet>>>,
    /// To be held by whoever replays traffic beside a data plane, under policies that were put in force.
    pub replays: Arc<Semaphore>,
    /// Likewise under policies that somebody only tries, and that may never come to an end.
    pub candidates: Arc<Semaphore>,
}

/// A recorded call, explained.
pub struct Replayed {
    /// The rules that produced the effect.
    pub why: Vec<RuleTrace>,
    /// What each `allow` rule lacked, the nearest first.
    pub why_not: Vec<Missing>,
    /// Every condition of every rule, where that was asked for and is known.
    pub trace: Option<Vec<RuleTrace>>,
    /// Whether the recorded effect came out.
    pub reproduced: bool,
    /// Redacted places of the call which a policy reads (RFC 6901 pointers). Generous: where it cannot be told which part
    /// of something a policy reads, all of it is.
    pub approximate: Vec<String>,
    /// Whether it was explained live, with what redaction has taken away since.
    pub live: bool,
    /// What else there is to say, in words.
    pub notes: Vec<String>,
}

/// Why a recorded decision cannot be evaluated again.
#[derive(Debug, thiserror::Error)]
pub enum Unreplayable {
    /// No policy was asked.
    #[error("the request never reached the policies, so there is nothing to evaluate again")]
    NoCall,
    /// The content was removed, and an entry says so.
    #[error("its content was {0}")]
    Removed(Removal),
    /// The content was withheld, or is gone without a word.
    #[error("the recorded call has no `{0}` that could be read; it was withheld, erased or pruned")]
    Incomplete(&'static str),
    /// The policies are not all there, or do not compile any more.
    #[error("the recorded policies cannot be used: {0}")]
    Policies(String),
}

impl Replayer {
    /// Replays from a ledger.
    #[must_use]
    pub fn new(reader: Reader, limits: Limits) -> Self {
        let [replays, candidates] = [(); 2].map(|()| Arc::new(Semaphore::new(MAX_REPLAYS)));
        Self { reader, limits, sets: Mutex::default(), replays, candidates }
    }

    /// The ledger it replays from.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The newest decision under a request id that can be evaluated again, with its moment and the digest of its manifest.
    /// Blocks.
    ///
    /// # Errors
    /// Says why there is none.
    pub fn recorded(
        &self,
        request_id: &str,
        scope: &Scope,
    ) -> Result<Option<(Call, Moment, String)>, String> {
        let filter = Filter {
            scope: scope.clone(),
            request_id: Some(request_id.to_owned()),
            order: Order::Newest,
            limit: Some(1),
            ..Filter::default().decisions()
        };
        let entries = self.reader.entries(&filter).map_err(|error| error.to_string())?;
        let Some(entry) = entries.first() else { return Ok(None) };
        let (call, moment) = call_of(entry).map_err(|error| error.to_string())?;
        let manifest = entry.policy_set.as_ref().map(|set| set.manifest_sha.clone()).unwrap_or_default();
        Ok(Some((call, moment, manifest)))
    }

    /// Explains a decision entry, with every condition of every rule if `trace` says so: by its live trace if one is given,
    /// else by evaluating it again. Blocks.
    ///
    /// # Errors
    /// [`Unreplayable`].
    pub fn replay(
        &self,
        entry: &Stored,
        live: Option<&Stored>,
        trace: bool,
    ) -> Result<Replayed, Unreplayable> {
        if let Some(told) = live.and_then(|live| Told::read(&live.metadata)) {
            return Ok(self.told(entry, told, trace));
        }
        let (call, moment) = call_of(entry)?;
        let recorded = entry.policy_set.as_ref().ok_or(Unreplayable::NoCall)?;
        let set = self.set(&recorded.manifest_sha)?;
        let found = if trace { set.trace(&call, &moment) } else { set.explain(&call, &moment) };
        let Explanation { decision, why, why_not, trace } = found;
        let reproduced = entry.decision.as_deref() == Some(decision.effect.as_str());
        let approximate = set.read_among(&call, redacted(entry.redactions.get()));
        let mut notes = Vec::new();
        if !reproduced {
            let because =
                if approximate.is_empty() { "" } else { "; what was redacted is missing from the call" };
            let now = decision.effect.as_str();
            notes.push(format!("evaluated again, the recorded call comes out as `{now}`{because}"));
        }
        if !approximate.is_empty() && entry.decision.as_deref() != Some(Effect::Allow.as_str()) {
            notes.push(match live {
                Some(_) => "its live trace was withheld, erased or pruned".into(),
                None => "no live trace of this call is recorded: it is still being taken, or was skipped because too many \
                         calls waited for theirs or docket ended first (`docket_traces_skipped_total`)"
                    .into(),
            });
        }
        // Rules that produced another effect are no reason for the recorded one.
        let why = if reproduced { why } else { Vec::new() };
        Ok(Replayed { why, why_not, trace, reproduced, approximate, live: false, notes })
    }

    /// What was explained live, with the source it was recorded without.
    fn told(&self, entry: &Stored, told: Told, trace: bool) -> Replayed {
        let Told { reproduced, mut why, why_not, rules, left_out } = told;
        let mut notes = Vec::new();
        if !reproduced {
            notes.push("explained live, the call did not come out as it was decided".into());
        }
        if left_out > 0 {
            notes.push(format!("{left_out} more rules were too long to be kept in the live trace"));
        }
        let mut trace = trace.then(|| {
            if rules.is_none() {
                notes.push("the live trace of every rule was too long to be kept".into());
            }
            rules.unwrap_or_default()
        });
        let manifest = entry.policy_set.as_ref().map(|set| set.manifest_sha.as_str()).unwrap_or_default();
        match self.set(manifest) {
            Ok(set) => why.iter_mut().chain(trace.iter_mut().flatten()).for_each(|rule| set.quote(rule)),
            Err(error) => notes.push(error.to_string()),
        }
        Replayed { why, why_not, trace, reproduced, approximate: Vec::new(), live: true, notes }
    }

    /// The set with that manifest, rebuilt from the ledger unless it is still at hand.
    ///
    /// # Errors
    /// [`Unreplayable::Policies`].
    pub fn set(&self, manifest_sha: &str) -> Result<Arc<PolicySet>, Unreplayable> {
        {
            let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(at) = sets.iter().position(|set| set.reference().manifest_sha == manifest_sha)
                && let Some(set) = sets.remove(at)
            {
                sets.push_back(set.clone());
                return Ok(set);
            }
        }
        let unusable = |why: String| Unreplayable::Policies(why);
        let manifest = self.reader.digest(manifest_sha).map_err(|error| unusable(error.to_string()))?;
        let manifest =
            manifest.ok_or_else(|| unusable(format!("manifest `{manifest_sha}` is not stored")))?;
        let file = |digest: &str| self.reader.digest(digest).ok().flatten();
        let set = PolicySet::from_stored(&manifest, file, self.limits)
            .map_err(|error| unusable(error.to_string()))?;
        let set = Arc::new(set);
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.push_back(set.clone());
        while sets.len() > MAX_SETS {
            sets.pop_front();
        }
        Ok(set)
    }
}

/// The call of a decision entry, as policies saw it but for what was redacted.
///
/// # Errors
/// [`Unreplayable`].
pub fn call_of(entry: &Stored) -> Result<(Call, Moment), Unreplayable> {
    if let Some(removal) = &entry.removed {
        return Err(Unreplayable::Removed(removal.clone()));
    }
    let context = match entry.metadata.get("context") {
        Some(Value::Object(context)) => context.clone(),
        Some(_) => return Err(Unreplayable::Incomplete("context")),
        None => Object::new(),
    };
    let text = |raw: &'_ Option<Box<RawValue>>| raw.as_deref().map(|raw| raw.get().to_owned());
    let (subject, resource, action) = (text(&entry.subject), text(&entry.resource), text(&entry.action_part));
    let diagnostics = text(&entry.diagnostics);
    let parts = Parts {
        call_id: entry.call_id.as_deref().filter(|_| entry.kind == "decision"),
        occurred_at: &entry.occurred_at,
        subject: subject.as_deref(),
        resource: resource.as_deref(),
        action: action.as_deref(),
        diagnostics: diagnostics.as_deref(),
    };
    parts.call(context)
}

/// What a recorded call is put together from.
struct Parts<'a> {
    call_id: Option<&'a str>,
    occurred_at: &'a str,
    subject: Option<&'a str>,
    resource: Option<&'a str>,
    action: Option<&'a str>,
    diagnostics: Option<&'a str>,
}

impl Parts<'_> {
    fn call(&self, context: Object) -> Result<(Call, Moment), Unreplayable> {
        /// Of a diagnostic, what tells docket's own refusals from the policies'.
        #[derive(serde::Deserialize)]
        struct Said<'a> {
            #[serde(borrow)]
            policy_id: Option<Cow<'a, str>>,
            #[serde(borrow)]
            rule: Option<Cow<'a, str>>,
        }
        // Refusals that nobody waited for have no call id.
        let call_id = self.call_id.ok_or(Unreplayable::NoCall)?;
        let said: Vec<Said<'_>> = self.diagnostics.and_then(parsed).unwrap_or_default();
        let by_docket =
            |said: &Said<'_>| said.policy_id.is_none() && said.rule.as_deref() != Some("default_deny");
        if said.iter().any(by_docket) {
            return Err(Unreplayable::NoCall);
        }
        let subject: Entity = self.subject.and_then(parsed).ok_or(Unreplayable::Incomplete("subject"))?;
        let resource: Entity = self.resource.and_then(parsed).ok_or(Unreplayable::Incomplete("resource"))?;
        let action: Action = self.action.and_then(parsed).ok_or(Unreplayable::Incomplete("action"))?;
        let call_id = Ulid::from_string(call_id).map_err(|_| Unreplayable::Incomplete("call_id"))?;
        let time: Timestamp =
            self.occurred_at.parse().map_err(|_| Unreplayable::Incomplete("occurred_at"))?;
        let moment = Moment { call_id, time_ns: time.as_millisecond().saturating_mul(1_000_000) };
        Ok((Call { subject, action, resource, context }, moment))
    }
}

/// What a simulated call comes to (DESIGN §9).
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Simulation)]
pub struct Simulated {
    /// `allow`, `deny` or `require_approval`.
    pub decision: Effect,
    /// `complete`, `error` or `timeout`.
    pub evaluation_status: EvaluationStatus,
    /// The policies that produced the effect.
    pub determining_policies: Vec<Determining>,
    /// What the winning rules said.
    pub diagnostics: Vec<Diagnostic>,
    /// The rules that produced the effect, condition by condition.
    pub why: Vec<RuleTrace>,
    /// What each `allow` rule lacked, the nearest first.
    pub why_not: Vec<Missing>,
    /// Every condition of every rule, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Vec<RuleTrace>>,
    /// The manifest of the policies that were asked.
    pub manifest_sha: String,
}

/// Decides a call that nobody made. Touches neither a ledger nor a tool.
#[must_use]
pub fn simulate(set: &PolicySet, call: &Call, moment: &Moment, trace: bool) -> Simulated {
    let Explanation { decision, why, why_not, trace } =
        if trace { set.trace(call, moment) } else { set.explain(call, moment) };
    Simulated {
        decision: decision.effect,
        evaluation_status: decision.status,
        determining_policies: decision.determining,
        diagnostics: decision.diagnostics,
        why,
        why_not,
        trace,
        manifest_sha: decision.policy_set.manifest_sha.clone(),
    }
}

/// Puts a value into a call at an RFC 6901 pointer from the call's root; missing objects on the way are made.
///
/// # Errors
/// Says why there is no such place.
pub fn put(call: Call, pointer: &str, value: Value) -> Result<Call, String> {
    let mut whole = serde_json::to_value(call).map_err(|error| error.to_string())?;
    let Some(parts) = pointer.strip_prefix('/').filter(|parts| !parts.is_empty()) else {
        return Err(format!("`{pointer}` is not a place in a call; write it as `/context/arguments/path`"));
    };
    let mut at = &mut whole;
    for part in parts.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")) {
        at = match at {
            Value::Object(fields) => fields.entry(part).or_insert_with(|| Value::Object(Object::new())),
            Value::Array(items) => {
                let length = items.len();
                let index = if part == "-" { Some(length) } else { part.parse::<usize>().ok() };
                let index = index.filter(|index| *index <= length);
                let index =
                    index.ok_or_else(|| format!("`{pointer}`: there is no item `{part}` among {length}"))?;
                if index == length {
                    items.push(Value::Object(Object::new()));
                }
                items.get_mut(index).ok_or_else(|| format!("`{pointer}`: there is no item `{part}`"))?
            }
            _ => return Err(format!("`{pointer}` leads into a value that has no parts, at `{part}`")),
        };
    }
    *at = value;
    serde_json::from_value(whole).map_err(|error| format!("with `{pointer}` set, the call is none: {error}"))
}

/// When a simulated call happens: at its own `context.time` if it has one, else now.
#[must_use]
pub fn moment_of(call: &Call, now: &Moment) -> Moment {
    let own =
        call.context.get("time").and_then(Value::as_str).and_then(|time| time.parse::<Timestamp>().ok());
    let time_ns = own.and_then(|time| i64::try_from(time.as_nanosecond()).ok());
    Moment { time_ns: time_ns.unwrap_or(now.time_ns), call_id: now.call_id }
}

/// The places of the call among the edits of an entry, as stored.
fn redacted(redactions: &str) -> Vec<String> {
    #[derive(serde::Deserialize)]
    struct Edit<'a> {
        #[serde(borrow)]
        path: Cow<'a, str>,
    }
    let edits: Vec<Edit<'_>> = parsed(redactions).unwrap_or_default();
    let of_call = |path: &str| {
        let root = path.split('/').nth(1).unwrap_or_default();
        ["subject", "action", "resource", "context"].contains(&root)
    };
    let mut paths: Vec<String> =
        edits.into_iter().filter(|edit| of_call(&edit.path)).map(|edit| edit.path.into_owned()).collect();
    paths.sort();
    paths.dedup();
    paths
}

fn parsed<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_put_into_calls() {
        let call = || -> Call {
            serde_json::from_value(json!({
                "subject": {"type": "identity", "id": "a"}, "action": {"name": "tools/call"},
                "resource": {"type": "tool", "id": "x"}, "context": {"arguments": {"list": [1]}},
            }))
            .unwrap()
        };
        let put = |pointer: &str, value: Value| put(call(), pointer, value);
        assert_eq!(put("/context/arguments/path", json!("/x")).unwrap().context["arguments"]["path"], "/x");
        assert_eq!(put("/context/a/b~1c", json!(5)).unwrap().context["a"]["b/c"], 5);
        assert_eq!(
            put("/context/arguments/list/0", json!(2)).unwrap().context["arguments"]["list"],
            json!([2])
        );
        assert_eq!(
            put("/context/arguments/list/-", json!(2)).unwrap().context["arguments"]["list"],
            json!([1, 2])
        );
        assert_eq!(put("/resource/id", json!("y")).unwrap().resource.id, "y");
        for (pointer, says) in [
            ("context", "not a place"),
            ("/", "not a place"),
            ("/context/arguments/list/7", "no item `7`"),
            ("/resource/id/x", "no parts"),
            ("/resource", "the call is none"),
        ] {
            let error = put(pointer, json!({})).unwrap_err();
            assert!(error.contains(says), "{pointer}: {error}");
        }
    }
}
