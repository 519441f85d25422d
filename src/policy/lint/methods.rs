//! Names of MCP methods with a slip in them: in what is asked of `input.action.name`, and in METADATA targets.
//!
//! On the decision API a caller may name its actions as it likes, so only what is hardly anything else is questioned.

use regorus::unstable::{BoolOp, Expr};

use super::super::finding::Finding;
use super::super::module::{Module, Node, constant_path, each_part};
use super::super::near::is_slip;
use super::Set;
use super::inputs::whole;
use crate::methods;

/// The findings of this family.
pub(super) fn check(set: &Set<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (_, rule) in set.rules() {
        each_part(rule, |part| {
            if let Node::Expr(expr) = part {
                findings.extend(named(expr).into_iter().filter_map(|expr| {
                    let text = text(expr)?;
                    let message = message(&text, meant(&text)?);
                    Some(Finding::at("unknown_method", &whole(expr), message).warning())
                }));
            }
        });
    }
    for package in set.packages.keys().filter(|package| set.is_policy(package)) {
        let modules = set.packages.get(*package).into_iter().flatten();
        for module in modules.filter_map(|index| set.library.modules.get(*index)) {
            findings.extend(targets(module));
        }
    }
    findings
}

/// The literals that `input.action.name` is compared to.
fn named(expr: &Expr) -> Vec<&Expr> {
    let is_name = |expr: &Expr| constant_path(expr).is_some_and(|path| path == ["input", "action", "name"]);
    match expr {
        Expr::BoolExpr { op: BoolOp::Eq | BoolOp::Ne, lhs, rhs, .. } | Expr::AssignExpr { lhs, rhs, .. } => {
            match (is_name(lhs), is_name(rhs)) {
                (true, _) => vec![rhs.as_ref()],
                (_, true) => vec![lhs.as_ref()],
                _ => Vec::new(),
            }
        }
        Expr::Membership { key: None, value, collection, .. } if is_name(value) => {
            match collection.as_ref() {
                Expr::Array { items, .. } | Expr::Set { items, .. } => {
                    items.iter().map(AsRef::as_ref).collect()
                }
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

/// A literal string.
pub(super) fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::String { value, .. } | Expr::RawString { value, .. } => {
            value.as_string().ok().map(ToString::to_string)
        }
        _ => None,
    }
}

fn meant(name: &str) -> Option<&'static str> {
    let known = methods::all().any(|method| method == name);
    methods::all().find(|method| !known && is_slip(name, method))
}

fn message(name: &str, meant: &str) -> String {
    format!("there is no method `{name}`; did you mean `{meant}`?")
}

/// Plain names among the actions a package is about.
fn targets(module: &Module) -> Vec<Finding> {
    let Some(block) = module.package_metadata() else { return Vec::new() };
    let actions = block.custom.get("targets").and_then(|targets| targets.get("actions")?.as_array());
    let names = actions.into_iter().flatten().filter_map(serde_json::Value::as_str);
    let finding = |name: &str| {
        let message = message(name, meant(name)?);
        let before = module.text.lines().take(usize::try_from(block.line).ok()?);
        let skipped: usize = before.map(|line| line.len() + 1).sum();
        let start = skipped + module.text.get(skipped..)?.find(name)?;
        let range = (u32::try_from(start).ok()?, u32::try_from(start + name.len()).ok()?);
        Some(Finding::within("unknown_method", &module.path, &module.text, range, message).warning())
    };
    names.filter_map(finding).collect()
}
