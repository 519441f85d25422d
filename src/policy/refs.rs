//! What each rule refers to: data, other rules, functions; with locals told apart.
//!
//! regorus resolves names while it evaluates. Recursion, unknown functions and closures must be known before, so the
//! same resolution is done here on the syntax tree: `:=`, `some`, `every`, comprehensions and function arguments make
//! locals; calls are never locals; everything else is an import or a rule of the package.

use std::collections::BTreeSet;

use regorus::unstable::{AssignOp, Expr, Literal, LiteralStmt, Query, Ref, Rule, RuleHead, Span};

use super::explain::range;
use super::module::{Module, constant_path, constant_prefix, head_of};

/// One definition of a rule or function: Rego allows many with the same name.
#[derive(Debug)]
pub(super) struct Definition {
    /// Index of the module in the set.
    pub module: usize,
    /// The constant part of the head, without the package.
    pub name: Vec<String>,
    /// Whether the head says more than `name`, as `deny[x]` or `users[id].role`.
    pub partial: bool,
    /// Number of arguments where it is a function.
    pub arity: Option<usize>,
    pub is_default: bool,
    pub is_set: bool,
    pub span: Span,
    pub uses: Vec<Use>,
    /// How deep its own expressions nest, in the units whose number [`super::graph`] bounds.
    pub depth: u32,
}

/// Something a definition refers to.
#[derive(Debug)]
pub(super) struct Use {
    pub what: Used,
    pub span: Span,
    /// How deep in the definition's expressions it stands.
    pub depth: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Used {
    /// `data.…`: the constant beginning of the path, without `data`.
    Data(Vec<String>),
    /// `input.…`: the constant beginning of the path, without `input`.
    Input(Vec<String>),
    /// A name that is no local, and the constant path after it.
    Name(Vec<String>),
    /// A call; `statement` where it may have one argument more, for its result.
    Call { path: Vec<String>, args: usize, statement: bool },
    /// `with target as by`, where both may be functions.
    Replace { target: Vec<String>, by: Vec<String> },
    /// `with target as …` for any target but input, whatever takes its place.
    Target(Vec<String>),
}

/// Reads every definition of a module.
pub(super) fn definitions(index: usize, module: &Module) -> Vec<Definition> {
    module.syntax.policy.iter().map(|rule| definition(index, rule)).collect()
}

fn definition(module: usize, rule: &Rule) -> Definition {
    let head = head_of(rule);
    let (name, whole) = constant_prefix(head).unwrap_or_default();
    let mut reader = Reader::default();
    let (arity, is_default, is_set) = match rule {
        Rule::Default { args, value, .. } => {
            reader.scoped(args_of(args), |reader| reader.expr(value));
            ((!args.is_empty()).then_some(args.len()), true, false)
        }
        Rule::Spec { head, bodies, .. } => {
            let (args, key, value, arity, is_set) = match head {
                RuleHead::Compr { assign, .. } => ([].as_slice(), None, assign.as_ref(), None, false),
                RuleHead::Set { key, .. } => ([].as_slice(), key.as_ref(), None, None, true),
                RuleHead::Func { args, assign, .. } => {
                    (args.as_slice(), None, assign.as_ref(), Some(args.len()), false)
                }
            };
            let mut locals = args_of(args);
            for body in bodies {
                declared(&body.query, &mut locals);
            }
            reader.scoped(locals, |reader| {
                for body in bodies {
                    let loops = reader.statements(&body.query);
                    // The head's value is evaluated in the innermost of the body's loops.
                    reader.depth += loops;
                    reader.exprs(key);
                    let value = body.assign.as_ref().or(value);
                    reader.exprs(value.map(|assign| &assign.value));
                    reader.indices(head_of(rule));
                    reader.depth -= loops;
                }
                if bodies.is_empty() {
                    reader.exprs(key);
                    reader.exprs(value.map(|assign| &assign.value));
                    reader.indices(head_of(rule));
                }
            });
            (arity, false, is_set)
        }
    };
    Definition {
        module,
        name,
        partial: !whole,
        arity,
        is_default,
        is_set,
        span: start_of(head).clone(),
        uses: reader.uses,
        depth: reader.deepest,
    }
}

/// The names a function's argument patterns bind.
fn args_of(args: &[Ref<Expr>]) -> BTreeSet<String> {
    let mut locals = BTreeSet::new();
    for arg in args {
        bound(arg, &mut locals);
    }
    locals
}

/// The names a pattern binds: variables, also within arrays and the values of objects.
pub(super) fn bound(pattern: &Expr, locals: &mut BTreeSet<String>) {
    match pattern {
        Expr::Var { span, .. } => {
            locals.insert(span.text().to_owned());
        }
        Expr::Array { items, .. } => items.iter().for_each(|item| bound(item, locals)),
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, _, value)| bound(value, locals)),
        _ => {}
    }
}

/// The names a query declares for itself and what follows it; nested queries declare their own.
pub(super) fn declared(query: &Query, locals: &mut BTreeSet<String>) {
    for stmt in &query.stmts {
        match &stmt.literal {
            Literal::SomeVars { vars, .. } => locals.extend(vars.iter().map(|var| var.text().to_owned())),
            Literal::SomeIn { key, value, .. } => {
                if let Some(key) = key {
                    bound(key, locals);
                }
                bound(value, locals);
            }
            Literal::Expr { expr, .. } => {
                if let Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } = expr.as_ref() {
                    bound(lhs, locals);
                }
            }
            Literal::NotExpr { .. } | Literal::Every { .. } => {}
        }
    }
}

#[derive(Default)]
struct Reader {
    scopes: Vec<BTreeSet<String>>,
    uses: Vec<Use>,
    depth: u32,
    deepest: u32,
}

impl Reader {
    fn scoped(&mut self, locals: BTreeSet<String>, read: impl FnOnce(&mut Self)) {
        self.scopes.push(locals);
        read(self);
        self.scopes.pop();
    }

    fn add(&mut self, what: Used, span: &Span) {
        self.uses.push(Use { what, span: span.clone(), depth: self.depth });
    }

    fn is_local(&self, name: &str) -> bool {
        self.scopes.iter().any(|scope| scope.contains(name))
    }

    /// A nested query with the terms it yields.
    fn query(&mut self, query: &Query, more: BTreeSet<String>, terms: &[&Expr]) {
        let mut locals = more;
        declared(query, &mut locals);
        self.scoped(locals, |reader| {
            let loops = reader.statements(query);
            reader.depth += loops;
            for term in terms {
                reader.expr(term);
            }
            reader.depth -= loops;
        });
    }

    /// Reads the statements, and says how many of them may loop: regorus recurses once for each.
    fn statements(&mut self, query: &Query) -> u32 {
        let mut loops = 0;
        for stmt in &query.stmts {
            loops += u32::from(may_loop(stmt));
            self.depth += loops;
            self.statement(stmt);
            self.depth -= loops;
        }
        loops
    }

    fn statement(&mut self, stmt: &LiteralStmt) {
        for with in &stmt.with_mods {
            let target = constant_path(&with.refr).unwrap_or_default();
            if target.first().is_some_and(|first| first != "input") {
                self.add(Used::Target(target.clone()), &with.span);
            }
            // The value may name a function, which is then no reference to a rule: both readings are kept.
            if let (Some(first), Some(by)) = (target.first(), constant_path(&with.r#as))
                && first != "input"
                && !by.first().is_some_and(|name| self.is_local(name))
            {
                self.add(Used::Replace { target: target.clone(), by }, &with.span);
            }
            if target.first().is_some_and(|first| first == "data") {
                self.expr(&with.refr);
            }
            self.expr(&with.r#as);
        }
        match &stmt.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn { key, value, collection, .. } => {
                self.exprs(key);
                self.expr(value);
                self.expr(collection);
            }
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => match expr.as_ref() {
                Expr::Call { fcn, params, .. } => self.call(fcn, params, true),
                _ => self.expr(expr),
            },
            Literal::Every { key, value, domain, query, .. } => {
                self.expr(domain);
                let names = key.iter().chain([value]).map(|name| name.text().to_owned()).collect();
                self.depth += 1;
                self.query(query, names, &[]);
                self.depth -= 1;
            }
        }
    }

    fn call(&mut self, function: &Expr, params: &[Ref<Expr>], statement: bool) {
        let path = constant_path(function).unwrap_or_else(|| vec![function.span().text().to_owned()]);
        self.add(Used::Call { path, args: params.len(), statement }, &whole(function));
        self.indices(function);
        self.exprs(params);
    }

    fn exprs<'a>(&mut self, exprs: impl IntoIterator<Item = &'a Ref<Expr>>) {
        for expr in exprs {
            self.expr(expr);
        }
    }

    fn expr(&mut self, expr: &Expr) {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        match expr {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => {}
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => self.reference(expr),
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                self.exprs(items);
            }
            Expr::Object { fields, .. } => {
                for (_, key, value) in fields {
                    self.expr(key);
                    self.expr(value);
                }
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.query(query, BTreeSet::new(), &[term]);
            }
            Expr::ObjectCompr { key, value, query, .. } => self.query(query, BTreeSet::new(), &[key, value]),
            Expr::Call { fcn, params, .. } => self.call(fcn, params, false),
            Expr::UnaryExpr { expr, .. } => self.expr(expr),
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::AssignExpr { lhs, rhs, .. } => {
                self.expr(lhs);
                self.expr(rhs);
            }
            Expr::Membership { key, value, collection, .. } => {
                self.exprs(key);
                self.expr(value);
                self.expr(collection);
            }
        }
        self.depth -= 1;
    }

    /// A chain of `.field` and `[index]` on a name or an expression.
    fn reference(&mut self, expr: &Expr) {
        self.indices(expr);
        let base = base_of(expr);
        if !matches!(base, Expr::Var { .. }) {
            self.expr(base);
            return;
        }
        let Some((path, _)) = constant_prefix(expr) else { return };
        match path.split_first() {
            Some((root, rest)) if root == "data" => self.add(Used::Data(rest.to_vec()), &whole(expr)),
            Some((root, rest)) if root == "input" => self.add(Used::Input(rest.to_vec()), &whole(expr)),
            Some((root, _)) if root == "_" || self.is_local(root) => {}
            _ => self.add(Used::Name(path), &whole(expr)),
        }
    }

    /// The indices of a chain that are not constant.
    fn indices(&mut self, chain: &Expr) {
        let mut at = chain;
        loop {
            match at {
                Expr::RefDot { refr, .. } => at = refr,
                Expr::RefBrack { refr, index, .. } => {
                    self.expr(index);
                    at = refr;
                }
                _ => return,
            }
        }
    }
}

/// What a chain of `.field` and `[index]` begins with.
fn base_of(chain: &Expr) -> &Expr {
    let mut base = chain;
    while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = base {
        base = refr;
    }
    base
}

/// Where a chain begins: regorus' spans of chains point at their last link.
fn start_of(chain: &Expr) -> &Span {
    base_of(chain).span()
}

/// All of a chain, as a span that begins where the chain does.
fn whole(chain: &Expr) -> Span {
    let mut span = start_of(chain).clone();
    span.end = range(chain).1;
    span
}

/// Whether evaluating a statement may try several bindings: `some … in`, an index that is no constant, or `walk`.
fn may_loop(stmt: &LiteralStmt) -> bool {
    fn loops(expr: &Expr) -> bool {
        match expr {
            Expr::RefBrack { refr, index, .. } => {
                !matches!(index.as_ref(), Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. })
                    || loops(refr)
            }
            Expr::RefDot { refr, .. } => loops(refr),
            Expr::Call { fcn, params, .. } => fcn.span().text() == "walk" || params.iter().any(|p| loops(p)),
            Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().any(|item| loops(item)),
            Expr::Object { fields, .. } => fields.iter().any(|(_, key, value)| loops(key) || loops(value)),
            Expr::UnaryExpr { expr, .. } => loops(expr),
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::AssignExpr { lhs, rhs, .. } => loops(lhs) || loops(rhs),
            Expr::Membership { value, collection, .. } => loops(value) || loops(collection),
            _ => false,
        }
    }
    match &stmt.literal {
        Literal::SomeIn { .. } => true,
        Literal::SomeVars { .. } => false,
        Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => loops(expr),
        Literal::Every { domain, .. } => loops(domain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the last rule of a module uses, in short: `data.a`, `name`, `f/1`.
    fn uses(rule: &str) -> Vec<String> {
        let module = Module::parse("p.rego", format!("package p\n{rule}").as_bytes()).unwrap();
        let last = definitions(0, &module).pop().unwrap();
        last.uses
            .into_iter()
            .map(|used| match used.what {
                Used::Data(path) => format!("data.{}", path.join(".")),
                Used::Input(path) => format!("input.{}", path.join(".")),
                Used::Name(path) => path.join("."),
                Used::Call { path, args, .. } => format!("{}/{args}", path.join(".")),
                Used::Replace { target, by } => format!("{}=>{}", target.join("."), by.join(".")),
                Used::Target(path) => format!("{}=>", path.join(".")),
            })
            .collect()
    }

    #[test]
    fn locals_are_told_from_rules() {
        for (rule, expected) in [
            ("r if { x := y; x > z }", vec!["y", "z"]),
            ("r if { some x in xs; x == y }", vec!["xs", "y"]),
            ("r if { some i; xs[i] == y }", vec!["xs", "y"]),
            ("r if { xs[i] == i }", vec!["i", "xs", "i"]),
            ("f(x, [y, {\"k\": z}]) := x + y + z + w", vec!["w"]),
            ("r := [x | some x in xs; x != y]", vec!["xs", "y"]),
            ("r if { every k, v in xs { k == v; q } }", vec!["xs", "q"]),
            ("r contains x if { x := data.a.b[input.c].d }", vec!["input.c", "data.a.b"]),
            ("r if { [x, y] := pair; x == y }", vec!["pair"]),
            ("r if { count([x | x := a]) > 0; x }", vec!["count/1", "a", "x"]),
            ("r if { lib.f(g(a)) }", vec!["lib.f/1", "g/1", "a"]),
            (
                "r if { q with input as a with time.now_ns as b }",
                vec!["a", "time.now_ns=>", "time.now_ns=>b", "b", "q"],
            ),
            ("r if { data[x] }", vec!["x", "data."]),
            ("default r := false", vec![]),
            ("r := a if { b } else := c if { d }", vec!["b", "a", "d", "c"]),
        ] {
            assert_eq!(uses(rule), expected, "{rule}");
        }
    }

    #[test]
    fn statements_that_loop_deepen_what_follows() {
        let text = format!("package p\nr if {{\n{}\n}}", "some _ in xs\n".repeat(500));
        let module = Module::parse("p.rego", text.as_bytes()).unwrap();
        assert!(definitions(0, &module)[0].depth > 500);
    }
}
