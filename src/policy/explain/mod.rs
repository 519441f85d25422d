//! Explaining one decision: which conditions of which rules held, and which were missing.
//!
//! Reading order: `rules` (what is defined where) → `syntax` and `reader` (one condition, ready to be asked by itself) →
//! `frame` (what stands before it) → `probe` (asking) → `walk` (a body) → `descent` (the way down to the condition that
//! failed) → `under` (the same under a `with`) → `shadow` (what may be shown of it); `failure` asks the same of tests. The
//! interpreter that decides also answers every question here; this module only chooses what to ask. Where the engine gives
//! no answer, the explanation says that it cannot tell. Nothing here knows where the call came from or who asks.

mod descent;
pub(super) mod failure;
mod frame;
mod inputs;
mod probe;
mod reader;
pub(super) mod rules;
mod shadow;
mod span;
mod syntax;
#[cfg(test)]
mod tests;
mod under;
mod walk;

use std::cmp::Reverse;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::bundle::SourceFile;
use super::library::Library;
use super::set::{Policy, PolicySet};
use super::{builtins, deep, value};
use crate::call::{Call, Moment};
use crate::decision::{Decision, Effect};
use crate::json::Object;
use probe::{Probe, Side};
use rules::{Definition, Place, Rules};
use shadow::Shadow;
pub(super) use span::{range, range_of};
use walk::{Walker, bodies};

/// An explanation may take this many times as long as a decision may.
const TIME_FACTOR: u32 = 4;
/// Rules an explanation speaks of, in each of its lists.
const MAX_RULES: usize = 500;
/// Lines of source quoted for one rule.
const MAX_EXCERPT_LINES: usize = 40;

/// Why a call is decided as it is.
#[derive(Debug)]
pub struct Explanation {
    /// What the policies decide now.
    pub decision: Decision,
    /// The rules that produced the effect.
    pub why: Vec<RuleTrace>,
    /// For a call that was denied by default or held: what each `allow` rule lacked, the nearest first.
    pub why_not: Vec<Missing>,
    /// Every rule of every policy the call is a target of, where that was asked for.
    pub trace: Option<Vec<RuleTrace>>,
}

/// One rule, condition by condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RuleTrace {
    /// The policy it belongs to.
    pub policy_id: String,
    /// The exact version of that policy.
    pub policy_version: String,
    /// The policy's title.
    pub title: Option<String>,
    /// What it argues for.
    pub effect: Effect,
    /// What it calls itself: its constant `rule`, else its METADATA title, else its name.
    pub rule: String,
    /// Where it stands.
    pub file: String,
    /// First line, from 1.
    pub line: u32,
    /// Last line.
    pub end_line: u32,
    /// Its source; left out of what is recorded, since the policies are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub excerpt: String,
    /// Whether it applied; `null` where that cannot be told.
    pub applies: Option<bool>,
    /// Its conditions, in the order in which they are evaluated.
    pub conditions: Vec<Condition>,
    /// Why something cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncertain: Option<String>,
}

/// One condition with what it came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Condition {
    /// Where it stands.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// Its last line.
    pub end_line: u32,
    /// As written.
    pub condition: String,
    /// Whether it held; `null` where that cannot be told.
    pub holds: Option<bool>,
    /// What it reads, as written, with the value that had.
    pub values: Object,
    /// What it reads that has no value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undefined: Vec<String>,
    /// How many bindings were tried, where there were several; the values are those of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bindings: Option<usize>,
    /// Anything else to know, such as why it cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A condition passed on the way to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Step {
    /// The rule or function it stands in.
    pub rule: String,
    /// Its file.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
    /// As written.
    pub condition: String,
}

/// What an `allow` rule lacked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Missing {
    /// The policy.
    pub policy_id: String,
    /// The rule, as in [`RuleTrace::rule`].
    pub rule: String,
    /// The condition that failed. Where the rule's own condition leads to a helper rule or function, the one in there.
    #[serde(flatten)]
    pub condition: Condition,
    /// The conditions that led to it, from the rule's own inwards.
    pub via: Vec<Step>,
    /// Other definitions of the same helper that would have done: the first condition that failed in each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Step>,
    /// How many of the rule's own conditions are false when each is tested alone.
    pub conditions_false: usize,
    /// How many hold.
    pub conditions_true: usize,
    /// Why it cannot be told which condition was missing, where it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncertain: Option<String>,
}

/// What redaction left of a call that is to be explained.
pub struct Redaction<'a> {
    /// The call without what was taken away; `None` where that is no call any more, so that none of its values is shown.
    pub call: Option<&'a Call>,
    /// What to show in place of a value.
    pub mark: &'a str,
}

/// The parsed files of a set, kept once somebody has asked for an explanation.
#[derive(Default)]
pub(super) struct Sources(OnceLock<Option<Arc<Parsed>>>);

struct Parsed {
    library: Library,
    rules: Rules,
    /// What each module reads of `input`.
    inputs: Vec<Vec<Vec<String>>>,
}

impl PolicySet {
    /// Decides a call as [`PolicySet::decide`] does, and says why. Never panics; what cannot be told is said to be so.
    #[must_use]
    pub fn explain(&self, call: &Call, moment: &Moment) -> Explanation {
        self.explained(call, moment, false, None)
    }

    /// As [`PolicySet::explain`], with every condition of every rule besides.
    #[must_use]
    pub fn trace(&self, call: &Call, moment: &Moment) -> Explanation {
        self.explained(call, moment, true, None)
    }

    /// As [`PolicySet::trace`], showing no value that the redacted call would not give as well, and of everything else its
    /// truth only. The decision it comes with is not for showing.
    #[must_use]
    pub fn trace_redacted(&self, call: &Call, moment: &Moment, redaction: &Redaction<'_>) -> Explanation {
        self.explained(call, moment, true, Some(redaction))
    }

    /// Quotes the source of a rule that was traced without.
    pub fn quote(&self, rule: &mut RuleTrace) {
        let file = self.files().find(|(path, ..)| *path == rule.file);
        let text = file.and_then(|(.., bytes)| std::str::from_utf8(bytes).ok()).unwrap_or_default();
        rule.excerpt = excerpt(text, rule.line, rule.end_line);
    }

    /// Those of some places in a call (RFC 6901 pointers from its root) that a policy for this call reads. Generous: where
    /// it cannot be told which part of something is read, all of it is.
    #[must_use]
    pub fn read_among(&self, call: &Call, pointers: Vec<String>) -> Vec<String> {
        if pointers.is_empty() {
            return pointers;
        }
        let Some(sources) = self.sources.0.get_or_init(|| self.parse()).clone() else { return pointers };
        let targeted: Vec<&Policy> =
            self.policies.iter().filter(|policy| policy.targets.include(call)).collect();
        let in_closure =
            |file: &str| targeted.iter().any(|policy| policy.files.iter().any(|path| path == file));
        let modules = sources.library.modules.iter().zip(&sources.inputs);
        let read = modules.filter(|(module, _)| in_closure(&module.path));
        let paths: Vec<&Vec<String>> = read.flat_map(|(_, paths)| paths).collect();
        let is_read = |pointer: &String| {
            let unescaped = |part: &str| part.replace("~1", "/").replace("~0", "~");
            let segments: Vec<String> = pointer.split('/').skip(1).map(unescaped).collect();
            paths.iter().any(|path| path.iter().zip(&segments).all(|(one, other)| one == other))
        };
        pointers.into_iter().filter(is_read).collect()
    }

    fn explained(
        &self,
        call: &Call,
        moment: &Moment,
        trace: bool,
        redaction: Option<&Redaction<'_>>,
    ) -> Explanation {
        let decision = self.decide(call, moment);
        let mut explanation =
            Explanation { decision, why: Vec::new(), why_not: Vec::new(), trace: trace.then(Vec::new) };
        let Some(sources) = self.sources.0.get_or_init(|| self.parse()).clone() else { return explanation };
        let deadline = Instant::now() + self.limits.timeout * TIME_FACTOR;
        // Walking recurses as deep as rules lead to rules, with an evaluation at the bottom.
        let filled = deep::run(|| {
            builtins::during(moment, deadline, || {
                self.fill(&mut explanation, call, &sources, redaction, deadline);
            });
            explanation
        });
        filled.unwrap_or_else(|_| Explanation {
            decision: self.decide(call, moment),
            why: Vec::new(),
            why_not: Vec::new(),
            trace: None,
        })
    }

    fn parse(&self) -> Option<Arc<Parsed>> {
        let file =
            |(path, _, bytes): (&str, &str, &[u8])| SourceFile { path: path.into(), bytes: bytes.to_vec() };
        let files: Vec<SourceFile> = self.files().map(file).collect();
        let library = deep::run(|| Library::read(&files)).ok()?.ok()?;
        let rules = Rules::new(&library);
        let inputs = (0..library.modules.len()).map(|module| inputs::paths(&library, module)).collect();
        Some(Arc::new(Parsed { library, rules, inputs }))
    }

    /// Whether the rules of a policy for an effect say why a decision came out as it did, and what it lacked.
    fn asks(&self, decision: &Decision, policy: &Policy, effect: Effect) -> (bool, bool) {
        let is_determined = !decision.determining.is_empty();
        if self.has_entrypoint {
            // One rule says it all, under whatever name the policy gives itself.
            return (is_determined, decision.effect != Effect::Allow);
        }
        let determines = decision.determining.iter().any(|determining| determining.policy_id == policy.id);
        let by_default =
            decision.effect == Effect::Deny && decision.diagnostics.iter().all(|d| d.policy_id.is_none());
        let lacks = by_default || decision.effect == Effect::RequireApproval;
        (determines && effect == decision.effect, effect == Effect::Allow && lacks)
    }

    fn fill(
        &self,
        explanation: &mut Explanation,
        call: &Call,
        parsed: &Parsed,
        redaction: Option<&Redaction<'_>>,
        deadline: Instant,
    ) {
        let side = if redaction.is_some() { Side::Silent } else { Side::Actual };
        let mut lacking = Vec::new();
        for policy in self.policies.iter().filter(|policy| policy.targets.include(call)) {
            let probe = Probe::new(&policy.engine, Some(value::from_call(call)), side, deadline);
            let shadow = redaction.map(|redaction| Shadow::new(policy, redaction, deadline));
            let mut walker = Walker::new(&parsed.library, &parsed.rules, probe, shadow);
            for effect in [Effect::Deny, Effect::RequireApproval, Effect::Allow] {
                let (is_why, is_missing) = self.asks(&explanation.decision, policy, effect);
                if is_why || is_missing || explanation.trace.is_some() {
                    explanation.add(&mut walker, policy, effect, (is_why, is_missing), &mut lacking);
                }
            }
        }
        // Of those with as many conditions false, the one with the most that hold says more.
        let nearness =
            |m: &Missing| (m.conditions_false.max(1), Reverse(m.conditions_true), m.uncertain.is_some());
        lacking.sort_by_key(nearness);
        lacking.truncate(MAX_RULES);
        explanation.why_not = lacking;
    }
}

impl Explanation {
    /// Adds what the rules of one policy for one effect have to say.
    fn add(
        &mut self,
        walker: &mut Walker<'_>,
        policy: &Policy,
        effect: Effect,
        (is_why, is_missing): (bool, bool),
        lacking: &mut Vec<Missing>,
    ) {
        for place in definitions(walker.rules, policy, effect) {
            let Some(definition) = Definition::of(walker.library, place).filter(|d| !d.is_default()) else {
                continue;
            };
            let rule = rule_name(walker.library, &definition, effect);
            for body in bodies(definition.rule) {
                let tested = walker.definition(&definition, body, &[]);
                if is_why || self.trace.is_some() {
                    let fired = walker.fired(&definition, body, &tested);
                    let mut found = trace_of(policy, effect, &rule, &definition);
                    found.conditions = walker.conditions(&tested);
                    found.applies = fired.as_ref().ok().copied();
                    found.uncertain = fired.err();
                    if is_why && found.applies != Some(false) && self.why.len() < MAX_RULES {
                        self.why.push(found.clone());
                    }
                    if let Some(trace) = self.trace.as_mut().filter(|trace| trace.len() < MAX_RULES) {
                        trace.push(found);
                    }
                }
                if is_missing && let Some(lacked) = walker.missing(&definition, body, &tested, &rule) {
                    lacking.push(missing_of(policy, rule.clone(), &definition, &tested, lacked));
                }
            }
        }
    }
}

/// Where the rules stand that argue for an effect.
fn definitions(rules: &Rules, policy: &Policy, effect: Effect) -> Vec<Place> {
    let entries = policy.entries.iter().filter(|entry| entry.effect == effect);
    let found = entries.flat_map(|entry| &entry.explained).filter_map(|path| {
        let (length, found) = rules.find(path)?;
        (length == path.len()).then_some(found)
    });
    found.flatten().copied().collect()
}

/// What a rule calls itself: its constant `rule`, else its METADATA title.
pub(super) fn own_name(library: &Library, module: usize, rule: usize) -> Option<String> {
    let definition = Definition::of(library, Place { module, rule })?;
    definition.own_name().or_else(|| definition.metadata(library).and_then(|block| block.title.clone()))
}

fn rule_name(library: &Library, definition: &Definition<'_>, effect: Effect) -> String {
    let title = || definition.metadata(library).and_then(|block| block.title.clone());
    definition.own_name().or_else(title).unwrap_or_else(|| effect.as_str().to_owned())
}

fn trace_of(policy: &Policy, effect: Effect, rule: &str, definition: &Definition<'_>) -> RuleTrace {
    let (line, end_line) = definition.lines();
    let span = definition.rule.span();
    RuleTrace {
        policy_id: policy.id.to_string(),
        policy_version: policy.version.to_string(),
        title: policy.title.as_deref().map(str::to_owned),
        effect,
        rule: rule.to_owned(),
        file: span.source.get_path().clone(),
        line,
        end_line,
        excerpt: excerpt(span.source.get_contents(), line, end_line),
        applies: None,
        conditions: Vec::new(),
        uncertain: None,
    }
}

/// Some lines of a source, from 1.
fn excerpt(text: &str, line: u32, end_line: u32) -> String {
    let skip = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    let lines = usize::try_from(end_line.saturating_sub(line)).unwrap_or(0).saturating_add(1);
    text.lines().skip(skip).take(lines.min(MAX_EXCERPT_LINES)).collect::<Vec<_>>().join("\n")
}

fn missing_of(
    policy: &Policy,
    rule: String,
    definition: &Definition<'_>,
    tested: &walk::Walked<'_>,
    lacked: Result<descent::Leaf, String>,
) -> Missing {
    let (leaf, uncertain) = match lacked {
        // What comes before the first that fails, and cannot be told, may have been what was missing.
        Ok(leaf) => (leaf, tested.unknown_before_first().map(str::to_owned)),
        Err(why) => (descent::whole(definition), Some(why)),
    };
    Missing {
        policy_id: policy.id.to_string(),
        rule,
        condition: leaf.condition,
        via: leaf.via,
        alternatives: leaf.alternatives,
        conditions_false: tested.fails(),
        conditions_true: tested.holds(),
        uncertain,
    }
}
