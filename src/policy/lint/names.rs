//! Names that are given and never used: helpers of a policy, and imports.
//!
//! A library may define what this set does not need, so only packages with an effect are looked at for helpers.

use std::collections::BTreeSet;

use regorus::unstable::{Expr, Import};

use super::super::finding::Finding;
use super::super::graph::full;
use super::super::module::{Module, Node, constant_path, each_part, written};
use super::super::refs::Definition;
use super::Set;
use super::effects::{first_in_force, meant};
use super::inputs::whole;
use crate::decision::Effect;

/// The findings of this family. What tests use is known only where they could be read.
pub(super) fn check(set: &Set<'_>, with_tests: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (_, module) in set.modules() {
        findings.extend(imports(module));
    }
    if with_tests {
        findings.extend(rules(set));
    }
    findings
}

fn rules(set: &Set<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, definitions, referrers) in set.library.graph.referrers() {
        let Some(definition) = first_in_force(set, definitions) else { continue };
        let package = set.library.modules.get(definition.module).map(|module| module.package.as_slice());
        if !referrers.is_empty()
            || !package.is_some_and(|package| set.is_policy(package))
            || is_known(definition)
        {
            continue;
        }
        let name = written(&definition.name);
        let what = if definition.arity.is_some() { "function" } else { "rule" };
        let full = full(path);
        let message = format!(
            "nothing refers to the {what} `{name}` (`{full}`), and it is no effect; use it or take it away"
        );
        findings.push(Finding::at("unused_rule", &definition.span, message).warning());
    }
    findings
}

/// Effects are asked for by docket, tests by `docket test`; a name that is almost an effect is told as that.
fn is_known(definition: &Definition) -> bool {
    let name = definition.name.first().map(String::as_str).unwrap_or_default();
    let is_effect = [Effect::Allow, Effect::Deny, Effect::RequireApproval].iter().any(|e| e.as_str() == name);
    let is_test = name.starts_with("test_") || name.starts_with("todo_test_");
    is_effect
        || is_test
        || (definition.arity.is_none() && definition.name.len() == 1 && meant(name).is_some())
}

fn imports(module: &Module) -> Vec<Finding> {
    let mut used: BTreeSet<&str> = BTreeSet::new();
    for rule in &module.syntax.policy {
        each_part(rule, |part| {
            if let Node::Expr(expr) = part
                && let Expr::Var { span, .. } = expr.as_ref()
            {
                used.insert(span.text());
            }
        });
    }
    let unused = |import: &Import| {
        let path = constant_path(&import.refr)?;
        let alias =
            import.r#as.as_ref().map(|alias| alias.text().to_owned()).or_else(|| path.last().cloned())?;
        let about_calls = path.first().is_some_and(|root| root == "data" || root == "input");
        let message = format!("nothing in this file uses the import `{alias}`; take it away");
        (about_calls && !used.contains(alias.as_str()))
            .then(|| Finding::at("unused_import", &whole(&import.refr), message).warning())
    };
    module.syntax.imports.iter().filter_map(unused).collect()
}
