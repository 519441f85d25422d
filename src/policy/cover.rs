//! Which rules fire for a call: all of them, not only those that determined the decision.
//!
//! Every policy the call is a target of is asked for all its effects, on texts in which the value of every head has a line of
//! its own (see [`super::coverage`]); a rule fired where that line was evaluated, or the last condition of one of its `else`
//! was reached. Rules nobody asks for do not fire.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use regorus::Engine;
use regorus::utils::limits::ExecutionTimerConfig;
use serde::Serialize;

use super::bundle::SourceFile;
use super::coverage::{self, Counter};
use super::evaluate::CLOCK_EVERY;
use super::library::Library;
use super::module::{constant_prefix, head_of, written};
use super::set::{Limits, Policy, PolicySet};
use super::targets::Targets;
use super::{builtins, deep, explain, value};
use crate::call::{Call, Moment};

/// One definition of a rule, with how often it fired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RuleUse {
    /// The policy whose effect it argues for; absent for the rules and functions those are made of.
    pub policy_id: Option<String>,
    /// Its package.
    pub package: String,
    /// What it calls itself, else its name.
    pub rule: String,
    /// Its file in the set.
    pub file: String,
    /// The line it begins at.
    pub line: u32,
    /// Calls for which it fired.
    pub fired: u64,
}

/// A set prepared to be watched.
pub struct Cover {
    manifest_sha: String,
    limits: Limits,
    rules: Vec<RuleUse>,
    /// For each file, the lines of the text that is evaluated which show that a rule applied: the first, the one after the
    /// last, and the rule.
    signs: BTreeMap<String, Vec<(u32, u32, usize)>>,
    policies: Vec<Watched>,
}

/// A policy with an engine that notes what it evaluates.
struct Watched {
    targets: Targets,
    engine: Engine,
    /// The effects to ask for.
    paths: Vec<String>,
}

impl Cover {
    /// Prepares a set.
    ///
    /// # Errors
    /// Says why it cannot be watched; a set that decides can be, in practice.
    pub fn new(set: &PolicySet) -> Result<Self, String> {
        deep::run(|| prepare(set)).unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Digest of the set's manifest.
    #[must_use]
    pub fn manifest_sha(&self) -> &str {
        &self.manifest_sha
    }

    /// Its rules by file and line, none of which has fired yet.
    #[must_use]
    pub fn rules(&self) -> &[RuleUse] {
        &self.rules
    }

    /// The rules that fire for a call, by their place in [`Cover::rules`].
    ///
    /// # Errors
    /// A policy fails, or is not done in time.
    pub fn fired(&self, call: &Call, moment: &Moment) -> Result<Vec<usize>, String> {
        let input = value::from_call(call);
        let deadline = Instant::now() + self.limits.timeout;
        let mut fired = BTreeSet::new();
        for policy in self.policies.iter().filter(|policy| policy.targets.include(call)) {
            let asked = catch_unwind(AssertUnwindSafe(|| {
                let mut engine = policy.engine.clone();
                engine.set_input(input.clone());
                for path in &policy.paths {
                    let limit = deadline.saturating_duration_since(Instant::now());
                    let timer = ExecutionTimerConfig { limit, check_interval: CLOCK_EVERY };
                    engine.set_execution_timer_config(timer);
                    builtins::during(moment, deadline, || engine.eval_rule(path.clone()))?;
                }
                engine.get_coverage_report()
            }));
            let report = asked.map_err(|_| "the policy engine panicked".to_owned())?;
            let report = report.map_err(|error| {
                format!("a policy fails: {}", super::finding::Located::read(&error.to_string()).message)
            })?;
            for file in report.files {
                for (from, to, rule) in self.signs.get(&file.path).into_iter().flatten() {
                    if file.covered.range(*from..*to).next().is_some() {
                        fired.insert(*rule);
                    }
                }
            }
        }
        Ok(fired.into_iter().collect())
    }
}

fn prepare(set: &PolicySet) -> Result<Cover, String> {
    let file =
        |(path, _, bytes): (&str, &str, &[u8])| SourceFile { path: path.into(), bytes: bytes.to_vec() };
    let files: Vec<SourceFile> = set.files().map(file).collect();
    let read = Library::read(&files);
    let mut library = read.map_err(|found| found.first().map(ToString::to_string).unwrap_or_default())?;
    let counter = Counter::spread(&mut library);
    let mut rules = Vec::new();
    let mut signs_by_file: BTreeMap<String, Vec<(u32, u32, usize)>> = BTreeMap::new();
    for (at, module) in library.modules.iter().enumerate() {
        let package = written(&module.package);
        let policy = set.policies().iter().find(|policy| policy.package == package);
        for (number, rule) in module.syntax.policy.iter().enumerate() {
            let name = constant_prefix(head_of(rule)).map(|(name, _)| written(&name)).unwrap_or_default();
            let signs = coverage::signs(module, rule).into_iter();
            let lines: Vec<_> = signs.filter_map(|sign| counter.lines_of(&module.path, sign)).collect();
            if lines.is_empty() {
                continue;
            }
            let signs = signs_by_file.entry(module.path.to_string()).or_default();
            signs.extend(lines.into_iter().map(|(from, to)| (from, to, rules.len())));
            let policy_id = policy.filter(|policy| argues(policy, &name)).map(|p| p.id.to_string());
            let line = rule.span().line;
            let rule = explain::own_name(&library, at, number).unwrap_or(name);
            let (package, file) = (package.clone(), module.path.to_string());
            rules.push(RuleUse { policy_id, package, rule, file, line, fired: 0 });
        }
    }
    let mut policies = Vec::new();
    for policy in set.policies() {
        let package =
            library.modules.iter().map(|module| &module.package).find(|p| written(p) == policy.package);
        let closure = package.map(|package| library.closure(package)).unwrap_or_default();
        let mut engine = library.engine(&closure).map_err(|finding| finding.to_string())?;
        engine.set_enable_coverage(true);
        let paths = policy.entries.iter().map(|entry| entry.path.clone()).collect();
        policies.push(Watched { targets: policy.targets.clone(), engine, paths });
    }
    let manifest_sha = set.reference().manifest_sha.clone();
    Ok(Cover { manifest_sha, limits: set.limits, rules, signs: signs_by_file, policies })
}

/// Whether a rule of a policy's package is one of its effects.
fn argues(policy: &Policy, rule: &str) -> bool {
    policy
        .entries
        .iter()
        .flat_map(|entry| &entry.explained)
        .any(|path| path.last().is_some_and(|name| name == rule))
}
