//! Masks of `data.system.log` whose path leads nowhere. At run time such a mask withholds the whole record, or takes nothing,
//! so it is better told before. Only what is written out is looked at.

use regorus::unstable::{Expr, Rule, RuleHead};

use super::super::bundle::is_test;
use super::super::finding::Finding;
use super::super::log::is_mask;
use super::super::module::{constant_path, head_of};
use super::Set;
use super::inputs::whole;
use super::methods::text;

/// The findings of this family.
pub(super) fn check(set: &Set<'_>) -> Vec<Finding> {
    let modules = set.library.modules.iter().filter(|module| !is_test(&module.path));
    let rules = modules.flat_map(|module| module.syntax.policy.iter().map(move |rule| (module, rule)));
    let masks = rules.filter(|(module, rule)| {
        constant_path(head_of(rule)).is_some_and(|name| is_mask(&module.package, &name))
    });
    masks.filter_map(|(_, rule)| written(rule)).filter_map(finding).collect()
}

/// The path of a mask, where it is a literal.
fn written(rule: &Rule) -> Option<&Expr> {
    let Rule::Spec { head: RuleHead::Set { key: Some(key), .. }, .. } = rule else { return None };
    match key.as_ref() {
        Expr::Object { fields, .. } => {
            let field = fields.iter().find(|(_, name, _)| text(name).as_deref() == Some("path"));
            field.map(|(_, _, value)| value.as_ref())
        }
        other => Some(other),
    }
}

fn finding(path: &Expr) -> Option<Finding> {
    let written = text(path)?;
    let root = written.strip_prefix('/').and_then(|rest| rest.split('/').next());
    let last = written.rsplit('/').next().unwrap_or_default();
    let message = if !matches!(root, Some("input" | "result")) {
        format!(
            "no record has `{written}`, and one that is masked so is withheld as a whole: a mask's path begins with `/input/` or `/result/`"
        )
    } else if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        format!(
            "`{written}` takes nothing where it leads to an item of an array, as in OPA: mask the array, or a member of the item"
        )
    } else {
        return None;
    };
    Some(Finding::at("mask_path", &whole(path), message).warning())
}
