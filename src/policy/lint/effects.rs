//! Effects that are not what they look like: misspelt, always the same, or given to everybody.

use std::collections::BTreeMap;

use regorus::unstable::{Expr, Literal, Rule, RuleHead};

use super::super::finding::Finding;
use super::super::graph::full;
use super::super::module::written;
use super::super::refs::Definition;
use super::Set;
use crate::decision::Effect;
use crate::text::plain;

/// Names that say what an effect says, in other words or other systems.
const OTHER_WORDS: [(Effect, &[&str]); 3] = [
    (
        Effect::Deny,
        &[
            "block",
            "blocked",
            "blocks",
            "denial",
            "denials",
            "denied",
            "denies",
            "deny_reason",
            "deny_reasons",
            "forbid",
            "forbidden",
            "refuse",
            "refused",
            "reject",
            "rejected",
            "violation",
            "violations",
            "warn",
            "warnings",
        ],
    ),
    (
        Effect::Allow,
        &[
            "accept",
            "allowed",
            "allows",
            "authorise",
            "authorised",
            "authorize",
            "authorized",
            "grant",
            "granted",
            "is_allowed",
            "permit",
            "permits",
            "permitted",
        ],
    ),
    (
        Effect::RequireApproval,
        &[
            "approval",
            "approval_required",
            "ask",
            "confirm",
            "escalate",
            "hold",
            "need_approval",
            "needs_approval",
            "needs_confirmation",
            "require_approvals",
            "require_confirmation",
            "require_review",
            "required_approval",
            "requires_approval",
        ],
    ),
];

/// The findings of this family.
pub(super) fn check(set: &Set<'_>) -> Vec<Finding> {
    let mut findings = misspelt(set);
    for (package, names) in &set.names {
        for effect in [Effect::Allow, Effect::Deny, Effect::RequireApproval] {
            let rules = names.get(effect.as_str()).map(Vec::as_slice).unwrap_or_default();
            findings.extend(constant(set, effect, rules));
            if effect == Effect::Allow {
                findings.extend(open(set, package, rules));
            }
        }
        if set.is_policy(package) {
            findings.extend(nameless(set, package));
        }
    }
    findings
}

/// The effect a rule was probably meant to be.
pub(super) fn meant(name: &str) -> Option<Effect> {
    let plain = plain(name);
    let said = OTHER_WORDS.iter().find(|(_, words)| words.iter().any(|word| self::plain(word) == plain));
    let slips = |effect: &Effect| {
        let right = effect.as_str();
        let distance = strsim::osa_distance(name, right);
        name != right && (self::plain(right) == plain || distance <= right.len().div_ceil(6))
    };
    said.map(|(effect, _)| *effect)
        .or_else(|| [Effect::Allow, Effect::Deny, Effect::RequireApproval].into_iter().find(slips))
}

/// Rules that nobody in force uses and that are named almost like an effect.
fn misspelt(set: &Set<'_>) -> Vec<Finding> {
    let in_force = |module: &usize| set.in_force.contains(module);
    let mut findings = Vec::new();
    for (path, definitions, referrers) in set.library.graph.referrers() {
        let Some(definition) = first_in_force(set, definitions) else { continue };
        let [name] = definition.name.as_slice() else { continue };
        if definition.arity.is_some() || referrers.iter().any(in_force) {
            continue;
        }
        let Some(effect) = meant(name) else { continue };
        let message = format!(
            "`{}` is no effect, and nothing refers to it; did you mean `{}`?",
            full(path),
            effect.as_str()
        );
        findings.push(Finding::at("misspelt_effect", &definition.span, message).warning());
    }
    findings
}

/// The first of some definitions that stands in a package in force.
pub(super) fn first_in_force<'l>(set: &Set<'l>, definitions: &[usize]) -> Option<&'l Definition> {
    let graph = &set.library.graph;
    let in_force = |definition: &&Definition| set.in_force.contains(&definition.module);
    definitions.iter().filter_map(|number| graph.definitions.get(*number)).find(in_force)
}

/// An effect that is `false`, or the empty set, whatever the call is.
fn constant(set: &Set<'_>, effect: Effect, rules: &[usize]) -> Option<Finding> {
    let first = set.library.graph.definitions.get(*rules.first()?)?;
    let all = rules.iter().all(|number| set.syntax_of(*number).is_some_and(says_no));
    all.then(|| {
        let word = effect.as_str();
        let message = format!(
            "`{word}` is never true here, so it decides nothing; give it a rule with `if`, or take it away"
        );
        Finding::at("constant_effect", &first.span, message).warning()
    })
}

/// Whether a rule has no value but `false` or the empty set.
fn says_no(rule: &Rule) -> bool {
    let no = |expr: &Expr| match expr {
        Expr::Bool { span, .. } => span.text() == "false",
        Expr::Set { items, .. } => items.is_empty(),
        _ => false,
    };
    match rule {
        Rule::Default { value, .. } => no(value),
        Rule::Spec { head: RuleHead::Compr { refr, assign, .. }, bodies, .. } => {
            matches!(refr.as_ref(), Expr::Var { .. })
                && assign.as_ref().is_some_and(|assign| no(&assign.value))
                && bodies.iter().all(|body| match (&body.assign, body.is_else) {
                    (Some(assign), _) => no(&assign.value),
                    (None, is_else) => !is_else,
                })
        }
        Rule::Spec { .. } => false,
    }
}

/// An `allow` that holds for every call.
fn open(set: &Set<'_>, package: &[String], rules: &[usize]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for number in rules {
        let Some(definition) = set.library.graph.definitions.get(*number) else { continue };
        match set.syntax_of(*number) {
            Some(Rule::Default { value, .. }) if is_true(value) => {
                let message = "`default allow := true` allows whatever no rule thought of; write `default allow := false`, and \
                     `allow if …` for what may pass";
                findings.push(Finding::at("default_allow", &definition.span, message).warning());
            }
            Some(rule @ Rule::Spec { .. }) if is_unconditional(rule) && !set.has_targets(package) => {
                let message = "this allows every call there is; add a condition, or `custom.targets` to the package's METADATA";
                findings.push(Finding::at("allows_everything", &definition.span, message).warning());
            }
            _ => {}
        }
    }
    findings
}

fn is_true(expr: &Expr) -> bool {
    matches!(expr, Expr::Bool { span, .. } if span.text() == "true")
}

/// Whether a rule holds whatever the call is. A head that reads something may be undefined.
fn is_unconditional(rule: &Rule) -> bool {
    let Rule::Spec { head, bodies, .. } = rule else { return false };
    let always = match head {
        RuleHead::Compr { refr, assign, .. } => {
            matches!(refr.as_ref(), Expr::Var { .. })
                && assign.as_ref().is_none_or(|assign| is_true(&assign.value))
        }
        RuleHead::Set { key, .. } => key.as_ref().is_some_and(|key| is_constant(key)),
        RuleHead::Func { .. } => false,
    };
    let is_true = |literal: &Literal| matches!(literal, Literal::Expr { expr, .. } if is_true(expr));
    always
        && bodies.first().is_none_or(|body| {
            body.query.stmts.iter().all(|stmt| is_true(&stmt.literal))
                && body.assign.as_ref().is_none_or(|assign| self::is_true(&assign.value))
        })
}

/// Whether an expression is made of literals only.
fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. } => true,
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().all(|item| is_constant(item)),
        Expr::Object { fields, .. } => {
            fields.iter().all(|(_, key, value)| is_constant(key) && is_constant(value))
        }
        _ => false,
    }
}

/// A policy that is known by its package path only.
fn nameless(set: &Set<'_>, package: &[String]) -> Option<Finding> {
    let modules: Vec<_> =
        set.packages.get(package)?.iter().filter_map(|index| set.library.modules.get(*index)).collect();
    if modules.iter().any(|module| module.package_metadata().is_some_and(|block| block.id().is_some())) {
        return None;
    }
    let own: BTreeMap<usize, usize> = set
        .names
        .get(package)?
        .iter()
        .filter(|(name, _)| {
            [Effect::Allow, Effect::Deny, Effect::RequireApproval].iter().any(|e| e.as_str() == **name)
        })
        .flat_map(|(_, rules)| rules)
        .filter_map(|rule| Some((set.library.graph.definitions.get(*rule)?.module, *rule)))
        .collect();
    let module = set.library.modules.get(*own.keys().next()?)?;
    let name = written(package);
    let message = format!(
        "this policy has no id of its own; write `# custom: {{id: {name}}}` in the METADATA above `package`"
    );
    let span = super::inputs::whole(&module.syntax.package.refr);
    Some(Finding::at("missing_id", &span, message).warning())
}
