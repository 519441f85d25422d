//! Bodies that can never hold: a condition that is false by itself, or two of one body that exclude each other.
//!
//! Only comparisons of a constant path with constants are looked at. A path has one value while a body is evaluated,
//! whatever it leads to, so what two statements demand of it can be told to be impossible without knowing it.

use std::collections::BTreeMap;

use regorus::Value;
use regorus::unstable::{AssignOp, BoolOp, Expr, Literal, LiteralStmt, Query, Rule, Span};

use super::super::finding::Finding;
use super::super::module::{Node, constant_path, each_part, written};
use super::super::targets::Targets;
use super::Set;

/// The findings of this family.
pub(super) fn check(set: &Set<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (module, rule) in set.rules() {
        if let Some(targets) = set.targets_of(module, rule)
            && let Rule::Spec { bodies, .. } = rule
        {
            findings.extend(bodies.iter().flat_map(|body| outside(&body.query, &targets)));
        }
        each_part(rule, |part| {
            if let Node::Query(query) = part {
                findings.extend(never(query));
            }
        });
    }
    findings
}

/// Statements of an effect's body that hold only for calls the policy's targets leave out.
fn outside(query: &Query, targets: &Targets) -> Vec<Finding> {
    let demands = query.stmts.iter().filter(|stmt| stmt.with_mods.is_empty()).filter_map(|stmt| {
        let (path, Demand::Among(values)) = demand(stmt)? else { return None };
        let admitted = |value: &Value| value.as_string().map_or(true, |text| targets.admit(&path, text));
        if values.is_empty() || values.iter().any(admitted) {
            return None;
        }
        let message = format!(
            "the `custom.targets` of this policy leave out every call with this `{}`, so that the rule never holds",
            written(&path)
        );
        Some(finding(stmt, message))
    });
    demands.collect()
}

/// What a statement demands of a path.
enum Demand {
    /// To be one of these.
    Among(Vec<Value>),
    /// To be none of these.
    Not(Vec<Value>),
}

/// The first statement of a query that cannot hold, alone or with those before it.
fn never(query: &Query) -> Option<Finding> {
    let mut among: BTreeMap<Vec<String>, (Vec<Value>, &Span)> = BTreeMap::new();
    let mut none: BTreeMap<Vec<String>, Vec<(Value, &Span)>> = BTreeMap::new();
    for stmt in query.stmts.iter().filter(|stmt| stmt.with_mods.is_empty()) {
        if is_false(stmt) {
            let message = "this is never true, so that what it stands in never holds";
            return Some(finding(stmt, message.to_owned()));
        }
        let Some((path, demand)) = demand(stmt) else { continue };
        let said = written(&path);
        match demand {
            Demand::Among(values) => {
                let excluded = none.get(&path).map(Vec::as_slice).unwrap_or_default();
                if let Some((_, earlier)) =
                    excluded.iter().find(|(value, _)| values.iter().all(|v| v == value))
                {
                    return Some(contradiction(stmt, &said, earlier));
                }
                let (values, first) = match among.remove(&path) {
                    Some((earlier, first)) => {
                        let left: Vec<Value> =
                            earlier.into_iter().filter(|value| values.contains(value)).collect();
                        if left.is_empty() {
                            return Some(contradiction(stmt, &said, first));
                        }
                        (left, first)
                    }
                    None => (values, &stmt.span),
                };
                among.insert(path, (values, first));
            }
            Demand::Not(values) => {
                if let Some((earlier, first)) = among.get_mut(&path) {
                    earlier.retain(|value| !values.contains(value));
                    if earlier.is_empty() {
                        return Some(contradiction(stmt, &said, first));
                    }
                }
                none.entry(path).or_default().extend(values.into_iter().map(|value| (value, &stmt.span)));
            }
        }
    }
    None
}

fn contradiction(stmt: &LiteralStmt, path: &str, earlier: &Span) -> Finding {
    let message = format!(
        "this and line {} exclude each other: `{path}` has one value at a time; use `in {{…}}`, or a rule for each",
        earlier.line
    );
    finding(stmt, message)
}

fn finding(stmt: &LiteralStmt, message: String) -> Finding {
    let mut span = stmt.span.clone();
    if let Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } = &stmt.literal {
        let whole = super::inputs::whole(expr);
        (span.start, span.end) = (span.start.min(whole.start), span.end.max(whole.end));
    }
    Finding::at("never_true", &span, message).warning()
}

/// Whether a statement is false by itself.
fn is_false(stmt: &LiteralStmt) -> bool {
    match &stmt.literal {
        Literal::Expr { expr, .. } => truth(expr) == Some(false),
        Literal::NotExpr { expr, .. } => truth(expr) == Some(true),
        _ => false,
    }
}

/// The truth of a literal, or of two compared.
fn truth(expr: &Expr) -> Option<bool> {
    match expr {
        Expr::BoolExpr { op, lhs, rhs, .. } => {
            let (left, right) = (constant(lhs)?, constant(rhs)?);
            match op {
                BoolOp::Eq => Some(left == right),
                BoolOp::Ne => Some(left != right),
                _ => None,
            }
        }
        // Anything but `false` is true enough.
        _ => constant(expr).map(|value| *value != Value::Bool(false)),
    }
}

fn constant(expr: &Expr) -> Option<&Value> {
    match expr {
        Expr::String { value, .. }
        | Expr::RawString { value, .. }
        | Expr::Number { value, .. }
        | Expr::Bool { value, .. }
        | Expr::Null { value, .. } => Some(value),
        _ => None,
    }
}

fn demand(stmt: &LiteralStmt) -> Option<(Vec<String>, Demand)> {
    let (expr, denied) = match &stmt.literal {
        Literal::Expr { expr, .. } => (expr, false),
        Literal::NotExpr { expr, .. } => (expr, true),
        _ => return None,
    };
    let (path, values, equal) = match expr.as_ref() {
        Expr::BoolExpr { op: op @ (BoolOp::Eq | BoolOp::Ne), lhs, rhs, .. } => {
            let (read, value) = match (constant(lhs), constant(rhs)) {
                (None, Some(value)) => (lhs, value),
                (Some(value), None) => (rhs, value),
                _ => return None,
            };
            (constant_path(read)?, vec![value.clone()], *op == BoolOp::Eq)
        }
        Expr::AssignExpr { lhs, rhs, op: AssignOp::Eq | AssignOp::ColEq, .. } if !denied => {
            (constant_path(lhs)?, vec![constant(rhs)?.clone()], true)
        }
        Expr::Membership { key: None, value, collection, .. } => match collection.as_ref() {
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                let values = items.iter().map(|item| constant(item).cloned()).collect::<Option<Vec<_>>>()?;
                (constant_path(value)?, values, true)
            }
            _ => return None,
        },
        _ => return None,
    };
    if path.first().is_some_and(|first| first == "_") {
        return None;
    }
    // `not x != 1` also holds where `x` is undefined, so it demands nothing.
    match (equal, denied) {
        (true, false) => Some((path, Demand::Among(values))),
        (true, true) | (false, false) => Some((path, Demand::Not(values))),
        (false, true) => None,
    }
}
