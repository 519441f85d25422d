//! Reading one statement: what it mentions, binds and reads, and how it has to be written to be asked on its own.

use std::collections::BTreeSet;

use regorus::unstable::{AssignOp, BUILTINS, Expr, Literal, LiteralStmt, Query, Ref, Span};

use super::super::builtins;
use super::super::library::Library;
use super::super::module::{constant_path, constant_prefix, written};
use super::super::refs::{bound, declared};
use super::rules::Rules;
use super::span::{range, range_of};
use super::syntax::{Index, LOCAL_INPUT, Names, Read, Replaced, Statement, What};

/// Reads one statement.
pub(super) struct Reader<'l> {
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
    pub root: Option<(u32, u32)>,
    source: String,
}

impl<'l> Reader<'l> {
    pub fn new(library: &'l Library, rules: &'l Rules, module: usize, declared: Names) -> Self {
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

    pub fn finish<'a>(
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

    pub fn statement(mut self, stmt: &LiteralStmt) -> Statement<'_> {
        let with = self.with(stmt);
        let (outside, with_vars) = (self.reads.len(), self.vars.clone());
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
        let under: String = with.iter().map(|with| with.clause(&with.by)).collect();
        for read in self.reads.iter_mut().skip(outside) {
            read.under.clone_from(&under);
            read.vars.extend(with_vars.iter().cloned());
        }
        self.finish(what, &span, text, binds, with)
    }

    /// What a statement is evaluated under. The values are read outside of it.
    fn with(&mut self, stmt: &LiteralStmt) -> Vec<Replaced> {
        let mut with = Vec::new();
        for replaced in &stmt.with_mods {
            self.with_target(&replaced.refr);
            let by = replaced.r#as.as_ref();
            let is_function = self.is_function(by);
            if is_function {
                // The name of a function is no value to show.
                self.with_target(by);
            } else {
                self.expr(by);
            }
            let Some(path) = constant_path(&replaced.refr) else { continue };
            let path = self.with_path(&path).unwrap_or(path);
            with.push(Replaced { path, by: self.resolved(range(by)), is_function });
        }
        with
    }

    /// Whether what `with` puts in place names a function.
    fn is_function(&self, by: &Expr) -> bool {
        if matches!(by, Expr::Var { span, .. } if self.declared.contains(span.text())) {
            return false;
        }
        constant_path(by).is_some_and(|name| {
            let own = self.library.graph.function_path(self.module, &name);
            own.is_some_and(|path| self.rules.arity(&path).is_some()) || builtins::is_known(&name.join("."))
        })
    }

    fn arity(&self, name: &[String]) -> Option<usize> {
        let own =
            self.library.graph.function_path(self.module, name).and_then(|path| self.rules.arity(&path));
        own.or_else(|| BUILTINS.get(name.join(".").as_str()).map(|(_, arity)| usize::from(*arity)))
    }

    /// What `with` replaces, or a function it puts in place, where that is named in short.
    fn with_target(&mut self, refr: &Expr) {
        if let Some(full) = constant_path(refr).and_then(|path| self.with_path(&path)) {
            let (start, end) = range(refr);
            self.edits.push((start, end, written(&full)));
        }
    }

    /// The full path of a rule or function that is named in short.
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

    pub fn expr(&mut self, expr: &Expr) {
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
                constant &= is_constant(index);
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
            if let Some(index) = self.index(expr)
                && let Some(read) = self.reads.last_mut().filter(|read| read.range == range(expr))
            {
                read.index = Some(index);
            }
            // With an index that is not bound, the whole cannot be shown; what is indexed can.
            self.prefix(expr);
        }
    }

    /// The first index of a chain that is no constant name.
    fn index(&self, expr: &Expr) -> Option<Index> {
        let (mut at, mut first) = (expr, None);
        while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = at {
            if let Expr::RefBrack { refr, index, .. } = at
                && !matches!(index.as_ref(), Expr::String { .. } | Expr::RawString { .. })
            {
                first = Some((range(refr), range(index)));
            }
            at = refr;
        }
        let (holder, index) = first?;
        let written = (self.source_of(holder).to_owned(), self.source_of(index).to_owned());
        Some(Index { holder: self.resolved(holder), element: self.resolved(index), written })
    }

    /// The longest constant beginning of a chain with indices, as something read.
    fn prefix(&mut self, expr: &Expr) {
        let mut at = expr;
        let mut beginning = None;
        while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = at {
            if let Expr::RefBrack { index, .. } = at
                && !is_constant(index)
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
            under: String::new(),
            index: None,
        });
    }

    fn source_of(&self, (start, end): (u32, u32)) -> &str {
        let (start, end) = (usize::try_from(start).unwrap_or(0), usize::try_from(end).unwrap_or(0));
        self.source.get(start..end).unwrap_or_default()
    }

    /// The source of a range with the names in it written out.
    pub fn resolved(&self, (start, end): (u32, u32)) -> String {
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

/// Whether an index is the same for every call.
fn is_constant(index: &Expr) -> bool {
    matches!(index, Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. })
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
