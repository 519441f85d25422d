//! Deciding one call: which policies apply, what each says, and what follows from it.
//!
//! Nothing here fails. A policy that fails, panics or takes too long is a deny that says so.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, LimitError, Value};
use serde_json::{Value as Json, json};

use super::builtins::{self, bounds};
use super::finding::{Finding, Located};
use super::groups::Group;
use super::set::{Entry, Policy, PolicySet};
use super::value;
use super::verdict::Verdict;
use crate::call::{Action, Call, Caller, Entity, Moment};
use crate::decision::{Decision, Determining, Diagnostic, Effect, EvaluationStatus};
use crate::json::Object;

/// Steps between two looks at the clock: costs about 2 %.
pub(super) const CLOCK_EVERY: std::num::NonZeroU32 = match std::num::NonZeroU32::new(64) {
    Some(steps) => steps,
    None => std::num::NonZeroU32::MIN,
};
/// Bytes all elements of one `deny`, `require_approval` or `allow` may have when written out.
const MAX_RESULT_BYTES: usize = 1024 * 1024;

/// What one effect of one policy came to.
enum Said {
    No,
    Yes(Vec<Diagnostic>),
    Failed(Failure),
}

/// A rule that could not be evaluated, and how that ends the evaluation.
pub(super) type Failure = (Diagnostic, EvaluationStatus);

impl PolicySet {
    /// Decides a call. Evaluates `deny` of every policy the call is a target of, then `require_approval`, then `allow`,
    /// and stops as soon as the effect is settled. Never panics; a failing policy denies.
    #[must_use]
    pub fn decide(&self, call: &Call, moment: &Moment) -> Decision {
        self.decide_keeping(call, moment).0
    }

    /// As [`PolicySet::decide`], with the call as the policies saw it. That copy is made for deciding anyway, so whoever may
    /// have to explain the call later need not make one.
    #[must_use]
    pub fn decide_keeping(&self, call: &Call, moment: &Moment) -> (Decision, Asked) {
        let started = Instant::now();
        let mut run = Run {
            set: self,
            input: value::from_call(call),
            deadline: started + self.limits.timeout,
            engines: Vec::new(),
            groups: BTreeMap::new(),
            determining: Vec::new(),
            diagnostics: Vec::new(),
            status: EvaluationStatus::Complete,
        };
        let candidates = self.index.candidates(call);
        let policies = candidates.into_iter().filter_map(|at| self.policies.get(at));
        run.engines
            .extend(policies.filter(|policy| policy.targets.include(call)).map(|policy| (policy, None)));
        let deadline = run.deadline;
        let mut decide = || if self.has_entrypoint { run.ask_entrypoint() } else { run.combine() };
        let effect = builtins::during(moment, deadline, &mut decide).unwrap_or_else(|| {
            run.diagnostics.push(default_deny(call));
            Effect::Deny
        });
        let Run { determining, diagnostics, status, input, .. } = run;
        let decision = Decision {
            effect,
            status,
            determining,
            diagnostics,
            evaluation_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            policy_set: Arc::clone(&self.reference),
        };
        (decision, Asked(input))
    }

    /// What every effect rule of every policy the call is a target of comes to by itself, whatever that leads to together:
    /// for tests to be written from. The error names the first that failed.
    ///
    /// # Errors
    /// A policy fails, or is not done in time.
    pub fn rule_values(&self, call: &Call, moment: &Moment) -> Result<Vec<RuleValue>, String> {
        let input = value::from_call(call);
        let deadline = Instant::now() + self.limits.timeout;
        let mut found = Vec::new();
        builtins::during(moment, deadline, || {
            for policy in self.policies.iter().filter(|policy| policy.targets.include(call)) {
                let mut engine = None;
                for entry in &policy.entries {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let evaluated = evaluated(policy, entry, &mut engine, &input, left, self.limits.timeout);
                    let spoken = evaluated.and_then(|value| {
                        let spoken = Spoken::of(&value);
                        if self.has_entrypoint {
                            return Verdict::read(policy, entry, &value).map(|_| spoken);
                        }
                        match read(policy, entry, &value) {
                            Said::Failed(failure) => Err(failure),
                            Said::No | Said::Yes(_) => Ok(spoken),
                        }
                    });
                    let value = match spoken {
                        Ok(value) => value,
                        Err((diagnostic, _)) => return Err(diagnostic.message.unwrap_or_default()),
                    };
                    let policy_id = Arc::clone(&policy.id);
                    found.push(RuleValue {
                        policy_id,
                        path: entry.path.clone(),
                        effect: entry.effect,
                        value,
                    });
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Whether a file that a policy for this call is evaluated with has a word in it.
    #[must_use]
    pub fn mentions(&self, call: &Call, word: &str) -> bool {
        let targeted: Vec<&Policy> =
            self.policies.iter().filter(|policy| policy.targets.include(call)).collect();
        let used = |path: &str| targeted.iter().any(|policy| policy.files.iter().any(|file| file == path));
        let has = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(word);
        self.files().any(|(path, _, bytes)| used(path) && has(bytes))
    }

    /// Warns where no policy would let a client connect, or see what there is, with the ordinary anonymous caller.
    pub(super) fn missing_lists(&self) -> Vec<Finding> {
        let denied = |method: &&str| {
            let subject = Caller::anonymous().subject();
            let action = Action { name: (*method).to_owned(), properties: Object::new() };
            let properties = Object::from_iter([("server".to_owned(), Json::from("probe"))]);
            let resource = Entity { kind: "mcp_server".into(), id: "probe".into(), properties };
            let mut context = Object::new();
            context.insert("arguments".into(), json!({}));
            context.insert("agent".into(), subject.id.clone().into());
            context.insert("protocol".into(), "mcp/2025-11-25".into());
            let moment = Moment { call_id: ulid::Ulid::nil(), time_ns: 0 };
            let decision = self.decide(&Call { subject, action, resource, context }, &moment);
            decision.effect == Effect::Deny && decision.determining.is_empty()
        };
        let finding = |method| {
            let message = format!(
                "no policy allows `{method}` to an ordinary caller; without it a client cannot {}: write `allow if input.action.name == \"{method}\"`",
                if method == "initialize" { "connect" } else { "see any tool" },
            );
            Finding::file("unreachable", "", message).warning()
        };
        ["initialize", "tools/list"].into_iter().filter(denied).map(finding).collect()
    }
}

/// A call as policies see it, unredacted. Nothing here shows it; it is to be asked about, and dropped.
pub struct Asked(Value);

impl Asked {
    /// The call again.
    #[must_use]
    pub fn call(&self) -> Option<Call> {
        serde_json::from_value(value::to_json(&self.0)).ok()
    }

    /// About how many bytes of memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        value::bytes(&self.0)
    }
}

/// What one effect rule comes to by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleValue {
    /// The policy it belongs to.
    pub policy_id: Arc<str>,
    /// `data.….deny`
    pub path: String,
    /// What it argues for.
    pub effect: Effect,
    /// Its value.
    pub value: Spoken,
}

/// The value of an effect rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Spoken {
    /// Undefined or `false`.
    Nothing,
    /// `true`
    True,
    /// The elements of a set, which may be none.
    Set(Vec<Json>),
    /// What the object of an entry point decides by: its `allow`, its `decision`.
    Fields(Vec<(&'static str, Json)>),
}

impl Spoken {
    fn of(value: &Value) -> Self {
        match value {
            Value::Undefined | Value::Bool(false) => Self::Nothing,
            Value::Set(items) => Self::Set(items.iter_sorted().map(value::to_json).collect()),
            Value::Object(fields) => {
                let field = |name| Some((name, value::to_json(fields.get(&Value::from(name))?)));
                Self::Fields(["allow", "decision"].into_iter().filter_map(field).collect())
            }
            _ => Self::True,
        }
    }

    /// Whether the rule argues for its effect; an object argues for what it says.
    #[must_use]
    pub fn is_yes(&self) -> bool {
        match self {
            Self::Nothing | Self::Fields(_) => false,
            Self::True => true,
            Self::Set(items) => !items.is_empty(),
        }
    }
}

/// The state of one decision.
struct Run<'a> {
    set: &'a PolicySet,
    input: Value,
    deadline: Instant,
    /// The policies the call is a target of, with their engines once there was something to ask.
    engines: Vec<(&'a Policy, Option<Engine>)>,
    /// What groups answered; `None` where a group failed and its policies must be asked by themselves.
    groups: BTreeMap<usize, Option<BTreeMap<usize, Value>>>,
    determining: Vec<Determining>,
    diagnostics: Vec<Diagnostic>,
    status: EvaluationStatus,
}

impl Run<'_> {
    /// The effect, or `None` where no policy has one.
    fn combine(&mut self) -> Option<Effect> {
        for effect in [Effect::Deny, Effect::RequireApproval, Effect::Allow] {
            self.ask_all(effect);
            if self.status != EvaluationStatus::Complete {
                // Only denies stand beside a failure: what argued for anything else did not win.
                if effect != Effect::Deny {
                    self.determining.clear();
                    self.diagnostics.retain(|diagnostic| diagnostic.effect == Effect::Deny);
                }
                return Some(Effect::Deny);
            }
            if !self.determining.is_empty() {
                return Some(effect);
            }
        }
        None
    }

    /// What the one rule of a set with an entry point decides; `None` where it is undefined or `false`.
    fn ask_entrypoint(&mut self) -> Option<Effect> {
        let (policy, engine) = self.engines.first_mut()?;
        let entry = policy.entries.first()?;
        let left = self.deadline.saturating_duration_since(Instant::now());
        let verdict = evaluated(policy, entry, engine, &self.input, left, self.set.limits.timeout)
            .and_then(|value| Verdict::read(policy, entry, &value));
        match verdict {
            Ok(None) => None,
            Ok(Some(Verdict { policy_id, effect, diagnostics })) => {
                self.diagnostics.extend(diagnostics);
                self.determining.push(Determining {
                    is_chosen: policy_id != policy.id,
                    policy_id,
                    policy_version: Arc::clone(&policy.version),
                    title: policy.title.clone(),
                    decision: effect,
                });
                Some(effect)
            }
            Err((diagnostic, status)) => {
                self.diagnostics.push(diagnostic);
                self.status = status;
                Some(Effect::Deny)
            }
        }
    }

    fn ask_all(&mut self, effect: Effect) {
        for (policy, engine) in &mut self.engines {
            let Some(entry) = policy.entries.iter().find(|entry| entry.effect == effect) else { continue };
            let left = self.deadline.saturating_duration_since(Instant::now());
            let said = if left.is_zero() {
                Said::Failed(timed_out(policy, entry, self.set.limits.timeout))
            } else if let Some(answers) = ask_group(self.set, policy, &mut self.groups, &self.input, left)
                && let Some((_, position)) = policy.group
            {
                let answer = answers.get(&Group::question(position, effect));
                read(policy, entry, answer.unwrap_or(&Value::Undefined))
            } else {
                let left = self.deadline.saturating_duration_since(Instant::now());
                match evaluated(policy, entry, engine, &self.input, left, self.set.limits.timeout) {
                    Ok(value) => read(policy, entry, &value),
                    Err(failure) => Said::Failed(failure),
                }
            };
            match said {
                Said::No => {}
                Said::Yes(diagnostics) => {
                    self.diagnostics.extend(diagnostics);
                    self.determining.push(Determining {
                        policy_id: Arc::clone(&policy.id),
                        policy_version: Arc::clone(&policy.version),
                        title: policy.title.clone(),
                        decision: effect,
                        is_chosen: false,
                    });
                }
                Said::Failed((diagnostic, status)) => {
                    self.diagnostics.push(diagnostic);
                    self.status = status;
                    if status == EvaluationStatus::Timeout {
                        // No time is left for the others either.
                        return;
                    }
                }
            }
        }
    }
}

/// What a policy's group answers, asked once for a call. A group may use half of what time is left: the other half is for
/// finding out which of its policies needs so long.
fn ask_group<'a>(
    set: &PolicySet,
    policy: &Policy,
    asked: &'a mut BTreeMap<usize, Option<BTreeMap<usize, Value>>>,
    input: &Value,
    left: Duration,
) -> Option<&'a BTreeMap<usize, Value>> {
    let (number, _) = policy.group?;
    let answers = asked.entry(number).or_insert_with(|| {
        let group = set.groups.get(number)?;
        let evaluated = catch_unwind(AssertUnwindSafe(|| {
            let mut engine = group.engine.clone();
            engine.set_input(input.clone());
            let timer = ExecutionTimerConfig { limit: left / 2, check_interval: CLOCK_EVERY };
            engine.set_execution_timer_config(timer);
            builtins::until(Instant::now() + left / 2, || engine.eval_rule(Group::PATH.to_owned()))
        }));
        Group::answers(&evaluated.ok()?.ok()?)
    });
    answers.as_ref()
}

/// The value of an effect rule.
fn evaluated(
    policy: &Policy,
    entry: &Entry,
    engine: &mut Option<Engine>,
    input: &Value,
    left: Duration,
    limit: Duration,
) -> Result<Value, Failure> {
    let evaluated = catch_unwind(AssertUnwindSafe(|| {
        let engine = engine.get_or_insert_with(|| {
            let mut engine = policy.engine.clone();
            engine.set_input(input.clone());
            engine
        });
        engine.set_execution_timer_config(ExecutionTimerConfig { limit: left, check_interval: CLOCK_EVERY });
        engine.eval_rule(entry.path.clone())
    }));
    match evaluated {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let text = error.to_string();
            let timer = match error.downcast_ref::<LimitError>() {
                Some(LimitError::TimeLimitExceeded { .. }) => true,
                // Inside a function regorus keeps only the text of an error.
                _ => text.contains(builtins::TIME_IS_UP),
            };
            if timer {
                return Err(timed_out(policy, entry, limit));
            }
            Err(failed(policy, entry, &Located::read(&text)))
        }
        Err(_) => {
            // What the panic left behind is not to be asked again.
            *engine = None;
            let message = "the policy engine panicked while evaluating this rule".to_owned();
            Err(failed(policy, entry, &Located { place: None, message }))
        }
    }
}

pub(super) fn failed(policy: &Policy, entry: &Entry, located: &Located) -> Failure {
    let place = located.place.as_ref();
    let (file, line, column) =
        place.map_or((&entry.file, entry.line, entry.column), |p| (&p.file, p.line, p.column));
    let diagnostic = Diagnostic {
        policy_id: Some(Arc::clone(&policy.id)),
        effect: Effect::Deny,
        rule: Some("policy_error".into()),
        message: Some(format!("policy `{}` failed: {}", policy.id, located.message)),
        data: Some(json!({"file": file, "line": line, "column": column})),
    };
    (diagnostic, EvaluationStatus::Error)
}

fn timed_out(policy: &Policy, entry: &Entry, limit: Duration) -> Failure {
    let diagnostic = Diagnostic {
        policy_id: Some(Arc::clone(&policy.id)),
        effect: Effect::Deny,
        rule: Some("timeout".into()),
        message: Some(format!("policy `{}` was not done within {} ms", policy.id, limit.as_millis())),
        data: Some(json!({"file": entry.file, "line": entry.line, "column": entry.column})),
    };
    (diagnostic, EvaluationStatus::Timeout)
}

/// What a rule's value means (DESIGN §5).
fn read(policy: &Policy, entry: &Entry, value: &Value) -> Said {
    match value {
        Value::Undefined | Value::Bool(false) => Said::No,
        Value::Bool(true) => Said::Yes(vec![Diagnostic {
            policy_id: Some(Arc::clone(&policy.id)),
            effect: entry.effect,
            rule: entry.rule.clone(),
            message: None,
            data: None,
        }]),
        Value::Set(items) if items.is_empty() => Said::No,
        Value::Set(items) => {
            let mut budget = MAX_RESULT_BYTES;
            if !bounds::spend(value, &mut budget) {
                let message = format!("`{}` says more than {MAX_RESULT_BYTES} bytes", entry.path);
                return Said::Failed(failed(policy, entry, &Located { place: None, message }));
            }
            Said::Yes(items.iter_sorted().map(|item| diagnostic(policy, entry.effect, item)).collect())
        }
        other => {
            let message = format!(
                "`{}` is a value of type {}; it must be `true`, `false` or a set",
                entry.path,
                value::type_name(other)
            );
            Said::Failed(failed(policy, entry, &Located { place: None, message }))
        }
    }
}

/// One element of an effect's set: an object with `rule`, `message` (or Conftest's `msg`) and `data`, or a message.
/// What has neither shape is kept as data, and so are an object's other fields where it has no `data`.
pub(super) fn diagnostic(policy: &Policy, effect: Effect, item: &Value) -> Diagnostic {
    let mut found =
        Diagnostic { policy_id: Some(Arc::clone(&policy.id)), effect, rule: None, message: None, data: None };
    let Value::Object(_) = item else {
        match item {
            Value::String(message) => found.message = Some(message.to_string()),
            other => found.data = Some(value::to_json(other)),
        }
        return found;
    };
    let Json::Object(mut fields) = value::to_json(item) else { return found };
    let take = |fields: &mut Object, key: &str| match fields.remove(key) {
        Some(Json::String(text)) => Some(text),
        Some(other) => {
            fields.insert(key.to_owned(), other);
            None
        }
        None => None,
    };
    found.rule = take(&mut fields, "rule");
    found.message = take(&mut fields, "message").or_else(|| take(&mut fields, "msg"));
    found.data = match fields.remove("data") {
        Some(data) if fields.is_empty() => Some(data),
        Some(data) => {
            fields.insert("data".into(), data);
            Some(Json::Object(fields))
        }
        None if fields.is_empty() => None,
        None => Some(Json::Object(fields)),
    };
    found
}

fn default_deny(call: &Call) -> Diagnostic {
    /// Names come from the caller, and may be long.
    const MAX_NAME_CHARS: usize = 120;
    let short = |text: &str| text.chars().take(MAX_NAME_CHARS).collect::<String>();
    let message = format!(
        "no policy allows `{}` of {} `{}`",
        short(&call.action.name),
        short(&call.resource.kind),
        short(&call.resource.id)
    );
    Diagnostic {
        policy_id: None,
        effect: Effect::Deny,
        rule: Some("default_deny".into()),
        message: Some(message),
        data: None,
    }
}
