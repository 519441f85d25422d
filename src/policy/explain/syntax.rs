//! One statement of a body, made ready to be asked on its own: names of rules and imports written out in full, and what
//! it reads, binds and needs.

use std::collections::BTreeSet;

use regorus::unstable::{AssignOp, BUILTINS, Expr, Literal, LiteralStmt, Query, Ref, Rule, RuleHead, Span};

use super::super::builtins;
use super::super::library::Library;
use super::super::module::{constant_path, constant_prefix, written};
use super::super::refs::{bound, declared};
use super::rules::Rules;

type Names = BTreeSet<String>;

/// What a local named `input` is called in a query, where that name is taken. Tests of before OPA 1.0 have many.
const LOCAL_INPUT: &str = "docket_local_input";

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
    /// What it runs under, so that what it reads is not what a query outside would see.
    pub with: Vec<Replaced>,
}

/// One `with TARGET as VALUE`.
pub(super) struct Replaced {
    /// The full path, `input` or `data` included where it begins with one.
    pub path: Vec<String>,
    /// What is put there, as it must be asked.
    pub by: String,
    /// Whether that names a function instead of having a value.
    pub function: bool,
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

struct Reader<'l> {
    library: &'l Library,
    rules: &'l Rules,
    module: usize,
    declared: Names,
    /// What the nested queries around declare.
    shadows: Vec<Names>,
    /// Replacements of source ranges.
    edits: Vec<(u32, u32, String)>,
    vars: Names,
    implicit: Names,
    indexed: Names,
    reads: Vec<Read>,
    /// The range of the whole condition: reading that is what the condition is, not a part of it.
    root: Option<(u32, u32)>,
    source: String,
}

impl<'l> Reader<'l> {
    fn new(library: &'l Library, rules: &'l Rules, module: usize, declared: Names) -> Self {
        let source = library.modules.get(module).map_or(String::new(), |module| module.text.to_string());
        Self {
            library,
            rules,
            module,
            declared,
            shadows: Vec::new(),
            edits: Vec::new(),
            vars: Names::new(),
            implicit: Names::new(),
            indexed: Names::new(),
            reads: Vec::new(),
            root: None,
            source,
        }
    }

    fn finish<'a>(
        self,
        what: What<'a>,
        span: &Span,
        text: String,
        binds: Names,
        with: Vec<Replaced>,
    ) -> Statement<'a> {
        let mut reads = self.reads;
        let mut seen = BTreeSet::new();
        reads.retain(|read| seen.insert(read.key.clone()));
        Statement {
            what,
            text,
            written: span.text().to_owned(),
            span: span.clone(),
            vars: self.vars,
            binds,
            implicit: self.implicit,
            reads,
            with,
        }
    }

    fn statement(mut self, stmt: &LiteralStmt) -> Statement<'_> {
        for with in &stmt.with_mods {
            self.with_target(&with.refr);
            self.expr(&with.r#as);
        }
        let mut binds = Names::new();
        let what = match &stmt.literal {
            Literal::SomeVars { .. } => What::Silent,
            Literal::SomeIn { key, value, collection, .. } => {
                self.expr(collection);
                for pattern in key.iter().chain([value]) {
                    self.expr(pattern);
                    bound(pattern, &mut binds);
                }
                What::SomeIn
            }
            Literal::NotExpr { expr, .. } => {
                self.root = Some(range(expr));
                self.expr(expr);
                self.indexed.clear();
                What::Not(expr)
            }
            Literal::Expr { expr, .. } => {
                self.root = Some(range(expr));
                self.expr(expr);
                match expr.as_ref() {
                    Expr::AssignExpr { op, lhs, rhs, .. } => {
                        bound(lhs, &mut binds);
                        if *op == AssignOp::Eq {
                            bound(rhs, &mut binds);
                        }
                        What::Expr(expr)
                    }
                    Expr::Call { fcn, params, .. } => {
                        let name = constant_path(fcn).unwrap_or_default();
                        if self.arity(&name).is_some_and(|arity| params.len() == arity + 1)
                            && let Some(last) = params.last()
                        {
                            bound(last, &mut binds);
                        }
                        if name == ["print"] { What::Print } else { What::Expr(expr) }
                    }
                    _ => What::Expr(expr),
                }
            }
            Literal::Every { key, value, domain, query, .. } => {
                self.expr(domain);
                let inner = key.iter().chain([value]).map(|name| name.text().to_owned()).collect();
                self.query(query, inner, &[]);
                What::Every { key: key.as_ref(), value, domain, query }
            }
        };
        binds.extend(std::mem::take(&mut self.indexed));
        binds.remove("_");
        if binds.remove("input") {
            binds.insert(LOCAL_INPUT.to_owned());
        }
        let range = range_of(stmt);
        let text = self.resolved(range);
        let mut span = stmt.span.clone();
        (span.start, span.end) = range;
        let with: Vec<Replaced> =
            stmt.with_mods.iter().filter_map(|with| self.replaced(&with.refr, &with.r#as)).collect();
        // The name of a function is no value to show.
        let named: Vec<_> = stmt
            .with_mods
            .iter()
            .zip(&with)
            .filter(|(_, with)| with.function)
            .map(|(stmt, _)| self::range(&stmt.r#as))
            .collect();
        self.reads.retain(|read| !named.contains(&read.range));
        self.finish(what, &span, text, binds, with)
    }

    fn replaced(&self, refr: &Expr, by: &Expr) -> Option<Replaced> {
        let path = constant_path(refr)?;
        let path = self.with_path(&path).unwrap_or(path);
        let is_function = |name: Vec<String>| {
            let own = self.library.graph.function_path(self.module, &name);
            own.is_some_and(|path| self.rules.arity(&path).is_some()) || builtins::is_known(&name.join("."))
        };
        let local = matches!(by, Expr::Var { span, .. } if self.declared.contains(span.text()));
        let function = !local && constant_path(by).is_some_and(is_function);
        let mut text = self.resolved(range(by));
        if function && let Some(path) = constant_path(by).and_then(|path| self.with_path(&path)) {
            text = written(&path);
        }
        Some(Replaced { path, by: text, function })
    }

    fn arity(&self, name: &[String]) -> Option<usize> {
        let own =
            self.library.graph.function_path(self.module, name).and_then(|path| self.rules.arity(&path));
        own.or_else(|| BUILTINS.get(name.join(".").as_str()).map(|(_, arity)| usize::from(*arity)))
    }

    /// What `with` replaces, where it is a rule or function named in short.
    fn with_target(&mut self, refr: &Expr) {
        if let Some(full) = constant_path(refr).and_then(|path| self.with_path(&path)) {
            let (start, end) = range(refr);
            self.edits.push((start, end, written(&full)));
        }
    }

    /// The full path of a rule or function that `with` names in short.
    fn with_path(&self, path: &[String]) -> Option<Vec<String>> {
        if path.first().is_some_and(|first| first == "input" || first == "data") {
            return None;
        }
        let graph = &self.library.graph;
        let full =
            graph.function_path(self.module, path).or_else(|| graph.resolve_name(self.module, path))?;
        Some(std::iter::once("data".to_owned()).chain(full).collect())
    }

    /// A name that is no local, written out in full.
    fn global(&self, name: &str) -> Option<Vec<String>> {
        let path = [name.to_owned()];
        if let Some(path) = self.library.graph.resolve_name(self.module, &path) {
            return Some(std::iter::once("data".to_owned()).chain(path).collect());
        }
        self.library.graph.input_import(self.module, name)
    }

    fn name(&mut self, span: &Span) {
        let name = span.text();
        if name == "input" && self.declared.contains(name) && !self.shadowed(name) {
            self.edits.push((span.start, span.end, LOCAL_INPUT.to_owned()));
            self.vars.insert(LOCAL_INPUT.to_owned());
            return;
        }
        if matches!(name, "input" | "data" | "_") {
            return;
        }
        if self.shadowed(name) {
            return;
        }
        if self.declared.contains(name) {
            self.vars.insert(name.to_owned());
        } else if let Some(path) = self.global(name) {
            self.edits.push((span.start, span.end, written(&path)));
        } else {
            self.vars.insert(name.to_owned());
            if self.shadows.is_empty() {
                self.implicit.insert(name.to_owned());
            }
        }
    }

    /// A nested query with the terms it yields.
    fn query(&mut self, query: &Query, mut names: Names, terms: &[&Ref<Expr>]) {
        declared(query, &mut names);
        self.shadows.push(names);
        for stmt in &query.stmts {
            for with in &stmt.with_mods {
                self.with_target(&with.refr);
                self.expr(&with.r#as);
            }
            match &stmt.literal {
                Literal::SomeVars { .. } => {}
                Literal::SomeIn { key, value, collection, .. } => {
                    for part in key.iter().chain([value, collection]) {
                        self.expr(part);
                    }
                }
                Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => self.expr(expr),
                Literal::Every { key, value, domain, query, .. } => {
                    self.expr(domain);
                    let inner = key.iter().chain([value]).map(|name| name.text().to_owned()).collect();
                    self.query(query, inner, &[]);
                }
            }
        }
        for term in terms {
            self.expr(term);
        }
        self.shadows.pop();
    }

    fn shadowed(&self, name: &str) -> bool {
        self.shadows.iter().any(|names| names.contains(name))
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => {}
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => self.reference(expr),
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                for item in items {
                    self.expr(item);
                }
            }
            Expr::Object { fields, .. } => {
                for (_, key, value) in fields {
                    self.expr(key);
                    self.expr(value);
                }
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                self.query(query, Names::new(), &[term]);
            }
            Expr::ObjectCompr { key, value, query, .. } => self.query(query, Names::new(), &[key, value]),
            Expr::Call { fcn, params, .. } => {
                for param in params {
                    self.expr(param);
                }
                self.call(expr, fcn, params);
            }
            Expr::UnaryExpr { expr, .. } => self.expr(expr),
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::AssignExpr { lhs, rhs, .. } => {
                self.expr(lhs);
                self.expr(rhs);
            }
            Expr::Membership { key, value, collection, .. } => {
                for part in key.iter().chain([value, collection]) {
                    self.expr(part);
                }
            }
        }
    }

    fn call(&mut self, expr: &Expr, fcn: &Expr, params: &[Ref<Expr>]) {
        let path = constant_path(fcn).unwrap_or_default();
        let target = self.library.graph.function_path(self.module, &path).filter(|path| self.rules.has(path));
        if let Some(target) = &target {
            let (start, end) = range(fcn);
            self.edits.push((start, end, format!("data.{}", written(target))));
        }
        if target.is_some() || self.root != Some(range(expr)) {
            let args = params.iter().map(|param| self.resolved(range(param))).collect();
            self.read(expr, target, Some(args));
        }
    }

    /// A chain of `.field` and `[index]` on a name or an expression.
    fn reference(&mut self, expr: &Expr) {
        let mut base = expr;
        let mut constant = true;
        while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = base {
            if let Expr::RefBrack { index, .. } = base {
                constant &= matches!(
                    index.as_ref(),
                    Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. }
                );
                match index.as_ref() {
                    Expr::Var { span, .. } => {
                        self.name(span);
                        if self.shadows.is_empty() {
                            self.indexed.insert(span.text().to_owned());
                        }
                    }
                    index => self.expr(index),
                }
            }
            base = refr;
        }
        let Expr::Var { span, .. } = base else {
            self.expr(base);
            return;
        };
        self.name(span);
        let local = self.shadowed(span.text()) || self.declared.contains(span.text());
        let path = constant_prefix(expr).map(|(path, _)| path).unwrap_or_default();
        let target = match path.split_first() {
            Some((root, rest)) if root == "data" => Some(rest.to_vec()),
            Some((root, rest)) if !local && root != "input" => {
                let path = self.global(root).filter(|path| path.first().is_some_and(|first| first == "data"));
                path.map(|path| path.into_iter().skip(1).chain(rest.iter().cloned()).collect())
            }
            _ => None,
        };
        if span.text() == "_" {
            return;
        }
        self.read(expr, target, None);
        if !constant && self.shadows.is_empty() {
            // With an index that is not bound, the whole cannot be shown; what is indexed can.
            self.prefix(expr);
        }
    }

    /// The longest constant beginning of a chain with indices, as something read.
    fn prefix(&mut self, expr: &Expr) {
        let mut at = expr;
        let mut beginning = None;
        while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = at {
            if let Expr::RefBrack { index, .. } = at
                && !matches!(
                    index.as_ref(),
                    Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. }
                )
            {
                beginning = Some(refr);
            }
            at = refr;
        }
        if let Some(beginning) = beginning
            && !["input", "data"].contains(&self.source_of(range(beginning)))
        {
            let target = constant_prefix(beginning).and_then(|(path, _)| {
                let (root, rest) = path.split_first()?;
                let base = if root == "data" {
                    Vec::new()
                } else if self.declared.contains(root) {
                    return None;
                } else {
                    let path =
                        self.global(root).filter(|path| path.first().is_some_and(|first| first == "data"))?;
                    path.into_iter().skip(1).collect()
                };
                Some(base.into_iter().chain(rest.iter().cloned()).collect::<Vec<String>>())
            });
            self.read(beginning, target, None);
        }
    }

    fn read(&mut self, expr: &Expr, target: Option<Vec<String>>, args: Option<Vec<String>>) {
        let mut mentioned = Mentioned { names: Names::new() };
        mentioned.expr(expr);
        if self.declared.contains("input") && mentioned.names.remove("input") {
            mentioned.names.insert(LOCAL_INPUT.to_owned());
        }
        // A name that only a nested query declares has no value outside of it.
        if mentioned.names.iter().any(|name| self.shadowed(name)) {
            return;
        }
        let vars = mentioned.names.into_iter().filter(|name| self.vars.contains(name)).collect();
        let range = range(expr);
        self.reads.push(Read {
            key: self.source_of(range).to_owned(),
            text: self.resolved(range),
            vars,
            target,
            args,
            range,
            nested: !self.shadows.is_empty(),
        });
    }

    fn source_of(&self, (start, end): (u32, u32)) -> &str {
        let (start, end) = (usize::try_from(start).unwrap_or(0), usize::try_from(end).unwrap_or(0));
        self.source.get(start..end).unwrap_or_default()
    }

    /// The source of a range with the names in it written out.
    fn resolved(&self, (start, end): (u32, u32)) -> String {
        let mut edits: Vec<&(u32, u32, String)> =
            self.edits.iter().filter(|(from, to, _)| *from >= start && *to <= end).collect();
        edits.sort_by_key(|(from, to, _)| (*from, std::cmp::Reverse(*to)));
        let (mut text, mut at) = (String::new(), start);
        for (from, to, new) in edits {
            if *from < at {
                continue;
            }
            text.push_str(self.source_of((at, *from)));
            text.push_str(new);
            at = *to;
        }
        text.push_str(self.source_of((at, end)));
        text
    }
}

/// All names an expression mentions, whatever they mean.
struct Mentioned {
    names: Names,
}

impl Mentioned {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Var { span, .. } => {
                self.names.insert(span.text().to_owned());
            }
            Expr::RefDot { refr, .. } => self.expr(refr),
            Expr::RefBrack { refr, index, .. } => {
                self.expr(refr);
                self.expr(index);
            }
            Expr::Call { params, .. } => params.iter().for_each(|param| self.expr(param)),
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                for item in items {
                    self.expr(item);
                }
            }
            Expr::Object { fields, .. } => {
                for (_, key, value) in fields {
                    self.expr(key);
                    self.expr(value);
                }
            }
            Expr::UnaryExpr { expr, .. } => self.expr(expr),
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::AssignExpr { lhs, rhs, .. } => {
                self.expr(lhs);
                self.expr(rhs);
            }
            Expr::Membership { key, value, collection, .. } => {
                for part in key.iter().chain([value, collection]) {
                    self.expr(part);
                }
            }
            _ => {}
        }
    }
}

/// Where an expression stands in its source, quotes included: regorus' spans of strings leave them out, and so do the
/// spans of whatever begins or ends with one.
pub(in crate::policy) fn range(expr: &Expr) -> (u32, u32) {
    let span = expr.span();
    let mut range = (span.start, span.end);
    let mut include = |part: &Expr| {
        let (start, end) = self::range(part);
        range = (range.0.min(start), range.1.max(end));
    };
    match expr {
        Expr::String { .. } | Expr::RawString { .. } => return (span.start.saturating_sub(1), span.end + 1),
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => [lhs, rhs].into_iter().for_each(|part| include(part)),
        Expr::Membership { key, value, collection, .. } => {
            key.iter().chain([value, collection]).for_each(|part| include(part));
        }
        Expr::UnaryExpr { expr, .. } => include(expr),
        // The span of an object begins at its last member.
        Expr::Object { fields, .. } => {
            if let Some((_, key, _)) = fields.first() {
                let first = usize::try_from(self::range(key).0).unwrap_or(0);
                let before = span.source.get_contents().get(..first).unwrap_or_default();
                range.0 = before.rfind('{').and_then(|at| u32::try_from(at).ok()).unwrap_or(range.0);
            }
        }
        // The span of `set()` ends with the token after it.
        Expr::Set { items, .. } if items.is_empty() => {
            let length = span.text().find(')').and_then(|at| u32::try_from(at + 1).ok());
            range.1 = length.map_or(range.1, |length| range.0 + length);
        }
        // Everything else begins with a name or bracket and ends with one.
        _ => {}
    }
    range
}

/// Where a statement stands, quotes included.
pub(in crate::policy) fn range_of(stmt: &LiteralStmt) -> (u32, u32) {
    let mut all = (stmt.span.start, stmt.span.end);
    let mut include = |part: &Expr| {
        let (start, end) = range(part);
        all = (all.0.min(start), all.1.max(end));
    };
    match &stmt.literal {
        Literal::SomeIn { collection, .. } => include(collection),
        Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => include(expr),
        Literal::SomeVars { .. } | Literal::Every { .. } => {}
    }
    for with in &stmt.with_mods {
        include(&with.r#as);
    }
    all
}

/// The arguments a rule's head takes, if it is a function.
pub(super) fn arguments(rule: &Rule) -> Option<&[Ref<Expr>]> {
    match rule {
        Rule::Spec { head: RuleHead::Func { args, .. }, .. } => Some(args),
        Rule::Default { args, .. } if !args.is_empty() => Some(args),
        _ => None,
    }
}
