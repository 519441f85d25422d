//! One statement of a body, made ready to be asked on its own: names of rules and imports written out in full, and what
//! it reads, binds and needs.

use std::collections::BTreeSet;

use regorus::unstable::{Expr, Query, Ref, Rule, RuleHead, Span};

use super::super::library::Library;
use super::super::module::written;
use super::super::refs::{bound, declared};
use super::reader::Reader;
use super::rules::Rules;
use super::span::range;

/// Names of locals.
pub(super) type Names = BTreeSet<String>;

/// What a local named `input` is called in a query, where that name is taken. Tests of before OPA 1.0 have many.
pub(super) const LOCAL_INPUT: &str = "docket_local_input";

/// A condition: a statement of a body, the value of a head, or the pattern of an argument.
pub(super) struct Statement<'a> {
    pub what: What<'a>,
    /// As it must be asked: names written out in full.
    pub text: String,
    /// As its author wrote it.
    pub written: String,
    pub span: Span,
    /// Locals it mentions.
    pub vars: Names,
    /// Those of them that it can bind itself.
    pub binds: Names,
    /// Those of them that nothing declares.
    pub implicit: Names,
    /// What it reads, parts before the whole.
    pub reads: Vec<Read>,
    /// What it is evaluated under, so that what it reads is not what a query without would see.
    pub with: Vec<Replaced>,
}

/// One `with TARGET as VALUE`.
#[derive(Clone)]
pub(super) struct Replaced {
    /// The full path, `input` or `data` included where it begins with one.
    pub path: Vec<String>,
    /// What is put there, as it must be asked.
    pub by: String,
    /// Whether that names a function instead of having a value.
    pub is_function: bool,
}

impl Replaced {
    /// As it must be written behind what is asked, with another expression for what is put there.
    pub fn clause(&self, by: &str) -> String {
        format!(" with {} as {by}", written(&self.path))
    }
}

/// What kind of condition it is.
#[derive(Clone, Copy)]
pub(super) enum What<'a> {
    /// An expression that must be defined and not false.
    Expr(&'a Expr),
    Not(&'a Expr),
    SomeIn,
    Every {
        key: Option<&'a Span>,
        value: &'a Span,
        domain: &'a Expr,
        query: &'a Query,
    },
    /// `some x`: declares, and is never false.
    Silent,
    /// `print(…)`: not to be asked.
    Print,
    /// An argument that must match what the function's head says.
    Pattern,
}

/// Something a condition reads.
#[derive(Clone)]
pub(super) struct Read {
    /// As written.
    pub key: String,
    /// As it must be asked.
    pub text: String,
    pub vars: Names,
    /// The rule or function it leads to: the full path without `data`, as far as it is constant.
    pub target: Option<Vec<String>>,
    /// The arguments as they must be asked, where it is a call.
    pub args: Option<Vec<String>>,
    /// Where it stands, to tell the whole condition from its parts.
    pub range: (u32, u32),
    /// Inside a comprehension or `every`: shown, not looked into.
    pub nested: bool,
    /// The `with` it is read under, as it must be written behind it; often none.
    pub under: String,
    /// The first index in it that is no constant name.
    pub index: Option<Index>,
}

/// `holder[element]`.
#[derive(Clone)]
pub(super) struct Index {
    /// Both as they must be asked.
    pub holder: String,
    pub element: String,
    /// Both as written.
    pub written: (String, String),
}

/// The conditions of one body in the order in which they can be evaluated, which is the source's unless a statement
/// reads what a later one binds.
pub(super) fn body<'a>(
    library: &Library,
    rules: &Rules,
    module: usize,
    query: Option<&'a Query>,
    outer: &Names,
) -> Vec<Statement<'a>> {
    let mut names = outer.clone();
    if let Some(query) = query {
        declared(query, &mut names);
    }
    let mut statements: Vec<Statement<'a>> = query
        .into_iter()
        .flat_map(|query| &query.stmts)
        .map(|stmt| Reader::new(library, rules, module, names.clone()).statement(stmt))
        .collect();
    // What a comprehension mentions is a local of the body only if the body itself mentions it.
    let mut locals = names;
    if locals.contains("input") {
        locals.insert(LOCAL_INPUT.to_owned());
    }
    for statement in &statements {
        locals.extend(statement.implicit.iter().cloned());
    }
    for statement in &mut statements {
        statement.vars.retain(|name| locals.contains(name));
    }
    let mut bound = outer.clone();
    let mut ordered = Vec::with_capacity(statements.len());
    while !statements.is_empty() {
        let ready =
            |s: &Statement<'_>| s.vars.iter().all(|name| bound.contains(name) || s.binds.contains(name));
        let next = statements.iter().position(ready).unwrap_or(0);
        let statement = statements.remove(next);
        if !matches!(statement.what, What::Silent) {
            bound.extend(statement.vars.iter().cloned());
        }
        ordered.push(statement);
    }
    ordered
}

/// An expression as a condition: what a head says.
pub(super) fn value<'a>(
    library: &Library,
    rules: &Rules,
    module: usize,
    expr: &'a Expr,
    outer: &Names,
) -> Statement<'a> {
    let mut reader = Reader::new(library, rules, module, outer.clone());
    reader.root = Some(range(expr));
    reader.expr(expr);
    let text = reader.resolved(range(expr));
    let mut base = expr;
    while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } | Expr::Call { fcn: refr, .. } = base {
        base = refr;
    }
    let mut span = expr.span().clone();
    (span.line, span.col) = (base.span().line, base.span().col);
    (span.start, span.end) = range(expr);
    reader.finish(What::Expr(expr), &span, text, Names::new(), Vec::new())
}

/// The pattern of a function's argument as a condition on `argument`, an expression.
pub(super) fn pattern<'a>(
    library: &Library,
    rules: &Rules,
    module: usize,
    expr: &'a Expr,
    argument: &str,
) -> Statement<'a> {
    let mut names = Names::new();
    bound(expr, &mut names);
    names.remove("_");
    let mut reader = Reader::new(library, rules, module, names.clone());
    reader.expr(expr);
    let mut span = expr.span().clone();
    (span.start, span.end) = range(expr);
    let is_name = matches!(expr, Expr::Var { .. });
    let text = match expr {
        Expr::Var { span, .. } if span.text() == "_" => "true".to_owned(),
        Expr::Var { span, .. } => format!("{} := {argument}", span.text()),
        _ => format!("{} = {argument}", reader.resolved(range(expr))),
    };
    let mut statement = reader.finish(What::Pattern, &span, text, names.clone(), Vec::new());
    if is_name {
        statement.what = What::Silent;
    } else {
        statement.implicit.clone_from(&names);
    }
    statement.vars = names;
    statement
}

/// The arguments a rule's head takes, if it is a function.
pub(super) fn arguments(rule: &Rule) -> Option<&[Ref<Expr>]> {
    match rule {
        Rule::Spec { head: RuleHead::Func { args, .. }, .. } => Some(args),
        Rule::Default { args, .. } if !args.is_empty() => Some(args),
        _ => None,
    }
}
