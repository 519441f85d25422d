//! Variables that nothing binds, in the places where regorus notices only when an evaluation comes by, or never: in a
//! rule's head, in what a comprehension yields, and behind `not`.
//!
//! Only what is certain is reported: a name counts as bound wherever the statements around mention it at all, since
//! regorus itself refuses a statement that uses what none binds.

use std::collections::BTreeSet;

use regorus::unstable::{Expr, Literal, LiteralStmt, Query, Rule, RuleHead, Span};

use super::finding::Finding;
use super::graph::Graph;
use super::module::{Module, Node, head_of};
use super::refs::bound;

type Names<'a> = BTreeSet<&'a str>;

/// Every variable of these modules that cannot have a value. Must run on a deep stack.
pub(super) fn check(graph: &Graph, modules: &[Module]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, module) in modules.iter().enumerate() {
        for rule in &module.syntax.policy {
            let told = BTreeSet::new();
            Reader { graph, module: index, told, findings: &mut findings }.rule(rule);
        }
    }
    findings
}

struct Reader<'r> {
    graph: &'r Graph,
    module: usize,
    /// Names that were reported for this rule: once is enough.
    told: BTreeSet<String>,
    findings: &'r mut Vec<Finding>,
}

impl Reader<'_> {
    fn rule(&mut self, rule: &Rule) {
        let Rule::Spec { head, bodies, .. } = rule else { return };
        let (args, key, value) = match head {
            RuleHead::Compr { assign, .. } => ([].as_slice(), None, assign.as_ref()),
            RuleHead::Set { key, .. } => ([].as_slice(), key.as_ref(), None),
            RuleHead::Func { args, assign, .. } => (args.as_slice(), None, assign.as_ref()),
        };
        let mut arguments = BTreeSet::new();
        for arg in args {
            bound(arg, &mut arguments);
        }
        let arguments: Names<'_> = arguments.iter().map(String::as_str).collect();
        let value = value.map(|assign| assign.value.as_ref());
        for body in bodies {
            let mut names = arguments.clone();
            self.query(&body.query, &mut names);
            let own = body.assign.as_ref().map(|assign| assign.value.as_ref());
            // `else` without a value is `true`, whatever the head says.
            let value = own.or(value.filter(|_| !body.is_else));
            for said in key.map(AsRef::as_ref).into_iter().chain(value) {
                self.expr(said, &names);
            }
            self.indices(head_of(rule), &names);
        }
        if bodies.is_empty() {
            for said in key.map(AsRef::as_ref).into_iter().chain(value) {
                self.expr(said, &arguments);
            }
            self.indices(head_of(rule), &arguments);
        }
    }

    /// Reads a query, and adds what its statements mention to `names`.
    fn query<'a>(&mut self, query: &'a Query, names: &mut Names<'a>) {
        query.stmts.iter().for_each(|stmt| mentioned(stmt, names));
        for stmt in &query.stmts {
            for with in &stmt.with_mods {
                self.nested(&with.r#as, names);
            }
            match &stmt.literal {
                Literal::SomeVars { .. } => {}
                Literal::SomeIn { collection, .. } => self.nested(collection, names),
                Literal::Expr { expr, .. } => self.nested(expr, names),
                Literal::NotExpr { expr, .. } => self.expr(expr, names),
                Literal::Every { key, value, domain, query, .. } => {
                    self.nested(domain, names);
                    let mut inner = names.clone();
                    inner.extend(key.iter().chain([value]).map(Span::text));
                    self.query(query, &mut inner);
                }
            }
        }
    }

    /// An expression whose own variables are all mentioned: what stands in its comprehensions may not be.
    fn nested(&mut self, expr: &Expr, names: &Names<'_>) {
        match expr {
            Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => {
                self.expr(expr, names);
            }
            _ => children(expr).into_iter().for_each(|child| self.nested(child, names)),
        }
    }

    fn expr(&mut self, expr: &Expr, names: &Names<'_>) {
        match expr {
            Expr::Var { span, .. } => self.name(span, names),
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                let mut inner = names.clone();
                self.query(query, &mut inner);
                self.expr(term, &inner);
            }
            Expr::ObjectCompr { key, value, query, .. } => {
                let mut inner = names.clone();
                self.query(query, &mut inner);
                self.expr(key, &inner);
                self.expr(value, &inner);
            }
            _ => children(expr).into_iter().for_each(|child| self.expr(child, names)),
        }
    }

    fn indices(&mut self, chain: &Expr, names: &Names<'_>) {
        match chain {
            Expr::RefDot { refr, .. } => self.indices(refr, names),
            Expr::RefBrack { refr, index, .. } => {
                self.expr(index, names);
                self.indices(refr, names);
            }
            _ => {}
        }
    }

    fn name(&mut self, span: &Span, names: &Names<'_>) {
        let name = span.text();
        if matches!(name, "input" | "data" | "_") || names.contains(name) {
            return;
        }
        let path = [name.to_owned()];
        let known = self.graph.resolve_name(self.module, &path).is_some()
            || self.graph.input_import(self.module, name).is_some();
        if !known && self.told.insert(name.to_owned()) {
            let message = format!(
                "`{name}` has no value here: no statement binds it, and there is no rule or import of that name"
            );
            self.findings.push(Finding::at("unbound_variable", span, message));
        }
    }
}

/// The parts of an expression, without the name of a function that is called.
fn children(expr: &Expr) -> Vec<&Expr> {
    let mut parts = Vec::new();
    match expr {
        Expr::Call { params, .. } => parts.extend(params.iter().map(AsRef::as_ref)),
        _ => Node::parts_of(expr, |part| {
            if let Node::Expr(part) = part {
                parts.push(part.as_ref());
            }
        }),
    }
    parts
}

/// The names a statement mentions outside of nested queries, unless it only denies them.
fn mentioned<'a>(stmt: &'a LiteralStmt, names: &mut Names<'a>) {
    let mut pending: Vec<&Expr> = stmt.with_mods.iter().map(|with| with.r#as.as_ref()).collect();
    match &stmt.literal {
        Literal::SomeVars { .. } | Literal::NotExpr { .. } => {}
        Literal::SomeIn { key, value, collection, .. } => {
            pending.extend(key.iter().chain([value, collection]).map(AsRef::as_ref));
        }
        Literal::Expr { expr, .. } => pending.push(expr),
        Literal::Every { domain, .. } => pending.push(domain),
    }
    while let Some(expr) = pending.pop() {
        match expr {
            Expr::Var { span, .. } => {
                names.insert(span.text());
            }
            Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => {}
            _ => pending.extend(children(expr)),
        }
    }
}
