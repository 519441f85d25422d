//! Paths below `input` that no call has, and objects of the call compared to strings.

use regorus::unstable::{AssignOp, BoolOp, Expr, Span};

use super::super::explain::range;
use super::super::finding::Finding;
use super::super::module::{Node, constant_path, each_part};
use super::super::refs::Used;
use super::{Set, shape};

/// The findings of this family.
pub(super) fn check(set: &Set<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Where a policy replaces `input`, what it asks is asked of something else than a call.
    if set.replaced().iter().any(|path| path.first().is_some_and(|root| root == "input")) {
        return findings;
    }
    for (index, module) in set.modules() {
        for import in &module.syntax.imports {
            if let Some(path) = constant_path(&import.refr)
                && let Some((root, rest)) = path.split_first()
                && root == "input"
            {
                findings.extend(undefined(rest, &whole(&import.refr)));
            }
        }
        for used in set.library.graph.definitions.iter().filter(|d| d.module == index).flat_map(|d| &d.uses) {
            match &used.what {
                Used::Input(path) => findings.extend(undefined(path, &used.span)),
                Used::Name(path) => {
                    let imported = imported(set, index, path);
                    findings.extend(imported.and_then(|path| undefined(&path, &used.span)));
                }
                _ => {}
            }
        }
    }
    for (module, rule) in set.rules() {
        each_part(rule, |part| {
            if let Node::Expr(expr) = part {
                findings.extend(compared(set, module, expr));
                findings.extend(asked(set, module, expr));
            }
        });
    }
    findings
}

fn undefined(path: &[String], span: &Span) -> Option<Finding> {
    Some(Finding::at("undefined_input", span, shape::problem(path)?).warning())
}

/// What a name stands for below `input` by an import that is itself in order: that one is told once, where it stands.
fn imported(set: &Set<'_>, module: usize, path: &[String]) -> Option<Vec<String>> {
    let graph = &set.library.graph;
    let (name, rest) = path.split_first()?;
    if graph.resolve_name(module, path).is_some() {
        return None;
    }
    let import: Vec<String> = graph.input_import(module, name)?.into_iter().skip(1).collect();
    shape::problem(&import).is_none().then(|| import.into_iter().chain(rest.iter().cloned()).collect())
}

/// `object.get(input…, KEYS, …)` with constant keys: the same question in other words.
fn asked(set: &Set<'_>, module: usize, expr: &Expr) -> Option<Finding> {
    let Expr::Call { fcn, params, .. } = expr else { return None };
    let [object, keys, _] = params.as_slice() else { return None };
    if constant_path(fcn)? != ["object", "get"] {
        return None;
    }
    let text = |key: &Expr| match key {
        Expr::String { value, .. } | Expr::RawString { value, .. } => {
            value.as_string().ok().map(ToString::to_string)
        }
        _ => None,
    };
    let keys = match keys.as_ref() {
        Expr::Array { items, .. } => items.iter().map_while(|key| text(key)).collect(),
        key => vec![text(key)?],
    };
    let path = below_input(set, module, object)?;
    // What is wrong with the object itself is told of the object.
    shape::problem(&path).is_none().then_some(())?;
    undefined(&path.into_iter().chain(keys).collect::<Vec<_>>(), &whole(expr))
}

/// What an expression reads of the call, without `input`.
fn below_input(set: &Set<'_>, module: usize, expr: &Expr) -> Option<Vec<String>> {
    let path = constant_path(expr)?;
    match path.split_first()? {
        (root, rest) if root == "input" => Some(rest.to_vec()),
        _ => imported(set, module, &path),
    }
}

/// An object of the call that is asked to be a string.
fn compared(set: &Set<'_>, module: usize, expr: &Expr) -> Option<Finding> {
    let is_text = |expr: &Expr| matches!(expr, Expr::String { .. } | Expr::RawString { .. });
    let read = match expr {
        Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. }
        | Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. } => match (is_text(lhs), is_text(rhs)) {
            (true, false) => rhs,
            (false, true) => lhs,
            _ => return None,
        },
        Expr::Membership { key: None, value, collection, .. } => match collection.as_ref() {
            Expr::Array { items, .. } | Expr::Set { items, .. }
                if !items.is_empty() && items.iter().all(|item| is_text(item)) =>
            {
                value
            }
            _ => return None,
        },
        _ => return None,
    };
    let meant = shape::object(&below_input(set, module, read)?)?;
    let message = format!(
        "`{}` is an object and equals no string; did you mean `{meant}`?",
        super::super::module::written(&constant_path(read)?)
    );
    Some(Finding::at("wrong_type", &whole(read), message).warning())
}

/// An expression as a span that begins where it does.
pub(super) fn whole(expr: &Expr) -> Span {
    let mut span = expr.span().clone();
    (span.start, span.end) = range(expr);
    span
}
