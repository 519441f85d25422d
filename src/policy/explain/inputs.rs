//! Which parts of a call a set's policies read, for telling whether something redacted could have mattered.

use regorus::unstable::{Expr, Rule, RuleHead};

use super::super::library::Library;
use super::super::module::{Node, constant_prefix};

/// The constant beginnings of every reference to `input` in a module, without `input` itself. A reference that goes on
/// with something not constant stands for everything below it.
pub(super) fn paths(library: &Library, number: usize) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    if let Some(module) = library.modules.get(number) {
        let mut pending: Vec<Node<'_>> = Vec::new();
        for rule in &module.syntax.policy {
            match rule.as_ref() {
                Rule::Default { value, .. } => pending.push(Node::Expr(value)),
                Rule::Spec { head, bodies, .. } => {
                    let (refr, key, assign) = match head {
                        RuleHead::Set { refr, key, .. } => (refr, key.as_ref(), None),
                        RuleHead::Compr { refr, assign, .. } | RuleHead::Func { refr, assign, .. } => {
                            (refr, None, assign.as_ref())
                        }
                    };
                    pending.extend([refr].into_iter().chain(key).map(Node::Expr));
                    pending.extend(assign.map(|assign| Node::Expr(&assign.value)));
                    for body in bodies {
                        pending.extend(body.assign.as_ref().map(|assign| Node::Expr(&assign.value)));
                        pending.push(Node::Query(&body.query));
                    }
                }
            }
        }
        while let Some(node) = pending.pop() {
            if let Node::Expr(expr) = node
                && matches!(expr.as_ref(), Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. })
                && let Some((path, _)) = constant_prefix(expr)
                && let Some((root, rest)) = path.split_first()
            {
                let base = match library.graph.input_import(number, root) {
                    _ if root == "input" => Some(Vec::new()),
                    Some(import) => Some(import.into_iter().skip(1).collect()),
                    None => None,
                };
                found.extend(
                    base.map(|base: Vec<String>| base.into_iter().chain(rest.iter().cloned()).collect()),
                );
                // The chain is read whole: only its indices are looked into, not its shorter beginnings.
                let mut at = expr;
                while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = at.as_ref() {
                    if let Expr::RefBrack { index, .. } = at.as_ref() {
                        pending.push(Node::Expr(index));
                    }
                    at = refr;
                }
                continue;
            }
            node.children(|child| pending.push(child));
        }
    }
    found.sort();
    found.dedup();
    found
}
