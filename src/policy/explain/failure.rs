//! Why a test did not hold: the first condition of its body that failed, and what that comes down to.
//!
//! A test's body is walked as any other rule's, most often under a `with`. Where a test has several bodies each has a
//! reason of its own.

use std::collections::BTreeSet;
use std::time::Instant;

use regorus::unstable::{Expr, Rule, RuleHead};
use regorus::{Engine, Value};
use serde::Serialize;

use super::descent;
use super::probe::{Probe, Side};
use super::rules::{Definition, Place, Rules};
use super::walk::{Walked, Walker, bodies};
use super::{Condition, Step};
use crate::policy::builtins::calls_outside;
use crate::policy::library::Library;
use crate::policy::module::{constant_prefix, head_of};

/// Cases of one test that are looked at.
const MAX_CASES: usize = 1_000;

/// Why one body of a test gave no value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// The first condition of the body that failed, with the values it read.
    #[serde(flatten)]
    pub condition: Condition,
    /// The condition it comes down to, in a rule or function it leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<Because>,
    /// Why it cannot be told which condition failed, where it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncertain: Option<String>,
}

/// The end of the way from a test's condition into the policies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Because {
    /// The condition that failed there.
    #[serde(flatten)]
    pub condition: Condition,
    /// What led to it, from the test inwards.
    pub via: Vec<Step>,
    /// Other definitions that would have done: the first condition that failed in each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Step>,
}

/// One case of a test that has several (`test_x[note] if …`).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Case {
    /// What the head is keyed by.
    pub name: String,
    /// Whether the rule has it.
    pub passed: bool,
    /// Why not, if it is not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
}

/// Asks one engine about the tests of a library.
pub(in crate::policy) struct Tests<'a> {
    library: &'a Library,
    rules: &'a Rules,
    engine: &'a Engine,
}

impl<'a> Tests<'a> {
    pub fn new(library: &'a Library, rules: &'a Rules, engine: &'a Engine) -> Self {
        Self { library, rules, engine }
    }

    /// Why a test (its path without `data`) has no value, for each of its bodies.
    pub fn failures(&self, path: &[String], deadline: Instant) -> Vec<Failure> {
        let mut walker = self.walker(deadline);
        let mut failures = Vec::new();
        for (definition, body) in self.bodies(path) {
            let tested = walker.definition(&definition, body, &[]);
            failures.extend(failure(&mut walker, &definition, body, &tested));
        }
        failures
    }

    /// The cases of a test whose head is keyed, which of them its value holds, and why not the others. `None` where the
    /// head is not keyed.
    pub fn cases(
        &self,
        path: &[String],
        value: &Value,
        deadline: Instant,
    ) -> Option<Result<Vec<Case>, String>> {
        let mut walker = self.walker(deadline);
        let mut found: Vec<(Vec<Value>, Vec<Failure>, bool)> = Vec::new();
        let keyed: Vec<_> = self
            .bodies(path)
            .into_iter()
            .filter_map(|(definition, body)| {
                let keys = keys(definition.rule);
                (!keys.is_empty()).then_some((definition, body, keys))
            })
            .collect();
        if keyed.is_empty() {
            return None;
        }
        let mut seen = BTreeSet::new();
        for (definition, body, keys) in &keyed {
            let cases = match walker.cases(definition, *body, keys) {
                Ok(cases) => cases,
                Err(why) => return Some(Err(why)),
            };
            for case in cases.into_iter().take(MAX_CASES) {
                let passed = holds(value, &case);
                let mut failures = Vec::new();
                if !passed {
                    let fixed: Vec<(&Expr, &Value)> = keys.iter().copied().zip(&case).collect();
                    let tested = walker.case(definition, *body, &fixed);
                    failures.extend(failure(&mut walker, definition, *body, &tested));
                }
                if seen.insert(case.clone()) {
                    found.push((case, failures, passed));
                } else if let Some(other) = found.iter_mut().find(|(other, ..)| *other == case) {
                    other.1.extend(failures);
                }
            }
        }
        let named = |(keys, failures, passed): (Vec<Value>, Vec<Failure>, bool)| {
            let text = |key: &Value| match key {
                Value::String(text) => text.to_string(),
                other => crate::policy::value::to_json(other).to_string(),
            };
            let name = keys.iter().map(text).collect::<Vec<_>>().join(" / ");
            Case { name, passed, failures }
        };
        Some(Ok(found.into_iter().map(named).collect()))
    }

    fn walker(&self, deadline: Instant) -> Walker<'a> {
        let probe = Probe::new(self.engine, None, Side::Actual, deadline);
        Walker { replaces_functions: true, ..Walker::new(self.library, self.rules, probe, None) }
    }

    fn bodies(&self, path: &[String]) -> Vec<(Definition<'a>, Option<usize>)> {
        let places: Vec<Place> = match self.rules.find(path) {
            Some((length, places)) if length == path.len() => places.to_vec(),
            _ => Vec::new(),
        };
        let mut found = Vec::new();
        for place in places {
            let Some(rule) = Definition::of(self.library, place).filter(|d| !d.is_default()) else {
                continue;
            };
            found.extend(bodies(rule.rule).into_iter().map(|body| (Definition { ..rule }, body)));
        }
        found
    }
}

fn failure<'a>(
    walker: &mut Walker<'a>,
    definition: &Definition<'a>,
    body: Option<usize>,
    tested: &Walked<'a>,
) -> Option<Failure> {
    let name = head_of(definition.rule).span().text();
    let (own, leaf, uncertain) = match walker.failing(definition, body, tested, name, true)? {
        Ok((own, mut leaf)) => {
            if let Some(outside) = calls_outside(&leaf.condition.condition) {
                let note = format!(
                    "`{outside}` is refused, so it has no value unless the test replaces it by `with`"
                );
                leaf.condition.note.get_or_insert(note);
            }
            (own, leaf, tested.unknown_before_first().map(str::to_owned))
        }
        Err(why) => (None, descent::whole(definition), Some(why)),
    };
    Some(match own {
        None => Failure { condition: leaf.condition, because: None, uncertain },
        Some(mut own) => {
            own.holds = Some(false);
            let because =
                Because { condition: leaf.condition, via: leaf.via, alternatives: leaf.alternatives };
            Failure { condition: own, because: Some(because), uncertain }
        }
    })
}

/// What a rule's head is keyed by: the element of a set, or the indices that are no constants.
fn keys(rule: &Rule) -> Vec<&Expr> {
    if let Rule::Spec { head: RuleHead::Set { key: Some(key), .. }, .. } = rule {
        return vec![key.as_ref()];
    }
    let mut keys = Vec::new();
    let mut at = head_of(rule);
    while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = at {
        if let Expr::RefBrack { index, .. } = at
            && constant_prefix(at).is_none_or(|(_, whole)| !whole)
        {
            keys.push(index.as_ref());
        }
        at = refr;
    }
    keys.reverse();
    keys
}

/// Whether a rule's value has a case: an element of a set, or something that is not false below these keys.
fn holds(value: &Value, keys: &[Value]) -> bool {
    let mut at = value;
    for key in keys {
        at = match at {
            Value::Set(items) => return items.contains(key),
            Value::Object(fields) => match fields.get(key) {
                Some(value) => value,
                None => return false,
            },
            _ => return false,
        };
    }
    !matches!(at, Value::Undefined | Value::Bool(false))
}
