//! Variables that nothing binds, in the places where regorus notices only when an evaluation comes by, or never: in a
//! rule's head, in what a comprehension yields, behind `not`, and where `some` declares what is only compared: such a body
//! never holds, and a `deny` of that kind never fires.
//!
//! Only what is certain is reported: a name counts as bound wherever the statements around mention it at all, since
//! regorus itself refuses a statement that uses what none binds.

use std::collections::BTreeSet;

use regorus::unstable::{Expr, Literal, LiteralStmt, Query, Rule, RuleHead, Span};

use super::finding::Finding;
use super::graph::Graph;
use super::module::{Module, Node, constant_path, head_of};
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
        self.declared(query);
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

    /// Reports what `some` declares and no statement of the query can give a value.
    fn declared(&mut self, query: &Query) {
        let mut declared: BTreeSet<&str> = BTreeSet::new();
        for stmt in &query.stmts {
            if let Literal::SomeVars { vars, .. } = &stmt.literal {
                declared.extend(vars.iter().map(Span::text));
            }
        }
        if declared.is_empty() {
            return;
        }
        let mut given = BTreeSet::new();
        for stmt in &query.stmts {
            self.given(stmt, &mut given);
        }
        for stmt in &query.stmts {
            let mut used = Vec::new();
            match &stmt.literal {
                Literal::SomeVars { .. } => {}
                Literal::SomeIn { collection, .. } => used.push(collection.as_ref()),
                Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => used.push(expr.as_ref()),
                Literal::Every { domain, .. } => used.push(domain.as_ref()),
            }
            while let Some(expr) = used.pop() {
                match expr {
                    Expr::Var { span, .. }
                        if declared.contains(span.text()) && !given.contains(span.text()) =>
                    {
                        let name = span.text();
                        if self.told.insert(name.to_owned()) {
                            let message = format!(
                                "`{name}` is declared by `some`, and nothing gives it a value: write `some {name} in …`, or what it stands for"
                            );
                            self.findings.push(Finding::at("unbound_variable", span, message));
                        }
                    }
                    Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => {}
                    _ => used.extend(children(expr)),
                }
            }
        }
    }

    /// The names a statement can give a value: by assigning or unifying, as an index, from a collection, or as the result
    /// that a call names as an argument more.
    fn given(&self, stmt: &LiteralStmt, given: &mut BTreeSet<String>) {
        let mut pending: Vec<&Expr> = stmt.with_mods.iter().map(|with| with.r#as.as_ref()).collect();
        match &stmt.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn { key, value, collection, .. } => {
                key.iter().chain([value]).for_each(|pattern| bound(pattern, given));
                pending.push(collection);
            }
            Literal::NotExpr { expr, .. } => pending.push(expr),
            Literal::Every { domain, .. } => pending.push(domain),
            Literal::Expr { expr, .. } => {
                if let Expr::Call { fcn, params, .. } = expr.as_ref()
                    && let Some(last) = params.last()
                {
                    let path = constant_path(fcn).unwrap_or_default();
                    if self.graph.arity(self.module, &path).is_none_or(|arity| params.len() > arity) {
                        bound(last, given);
                    }
                }
                pending.push(expr);
            }
        }
        while let Some(expr) = pending.pop() {
            match expr {
                Expr::AssignExpr { lhs, rhs, .. } => {
                    bound(lhs, given);
                    bound(rhs, given);
                }
                Expr::RefBrack { index, .. } => bound(index, given),
                Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => continue,
                _ => {}
            }
            pending.extend(children(expr));
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
