//! One parsed `.rego` file.

use std::num::NonZeroU32;
use std::sync::Arc;

use regorus::PolicyLengthConfig;
use regorus::unstable::{self as ast, Expr, Ref, Rule, RuleHead};

use super::finding::Finding;
use super::metadata::{self, Metadata};
use super::scan::scan;

/// Brackets open at once.
const MAX_NESTING: usize = 24;
/// Sum over all brackets of two to the power of their depth: what regorus' parser needs for them.
const MAX_NESTING_EFFORT: u64 = 1 << 20;
/// Negations of anything but literal numbers in one file: regorus' parser recurses for each that follows another.
const MAX_NEGATIONS: usize = 1_000;
/// Depth of one expression's tree. `1 + 1 + …` is a tree as deep as it is long, and regorus walks trees recursively.
const MAX_TREE_DEPTH: usize = 100;
/// Size of one `.rego` file, as regorus bounds it too.
const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Characters of one line: certificates and key sets are written on one.
const MAX_LINE_CHARS: u32 = 32 * 1024;

/// What regorus may read. Its own bound on lines is too low for a certificate.
pub(super) fn lengths() -> PolicyLengthConfig {
    let chars = NonZeroU32::new(MAX_LINE_CHARS).unwrap_or(NonZeroU32::MIN);
    PolicyLengthConfig { max_col: chars, ..PolicyLengthConfig::default() }
}

/// A parsed file: its syntax tree, its METADATA and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Module {
    pub path: Arc<str>,
    pub text: Arc<str>,
    /// What regorus is given to evaluate: the text, unless [`super::outputs`] changed it.
    pub evaluated: Arc<str>,
    /// The package path without `data`.
    pub package: Vec<String>,
    pub syntax: Ref<ast::Module>,
    pub metadata: Vec<Metadata>,
    /// Whether it is written in the Rego of before OPA 1.0.
    pub v0: bool,
}

impl Module {
    /// Parses one file. Must run on a stack of [`super::deep::STACK_BYTES`]: parser and drop are recursive, and what is
    /// too deep is known only afterwards.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, Vec<Finding>> {
        Self::read(path, bytes, false)
    }

    /// As [`Self::parse`], also what is Rego only as it was before OPA 1.0.
    pub fn parse_any(path: &str, bytes: &[u8]) -> Result<Self, Vec<Finding>> {
        Self::read(path, bytes, false).or_else(|findings| Self::read(path, bytes, true).map_err(|_| findings))
    }

    fn read(path: &str, bytes: &[u8], v0: bool) -> Result<Self, Vec<Finding>> {
        let one = |finding| vec![finding];
        if bytes.len() > MAX_FILE_BYTES {
            let message = format!("file has {} bytes; a `.rego` file may have {MAX_FILE_BYTES}", bytes.len());
            return Err(one(Finding::file("too_large", path, message)));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| one(Finding::file("encoding", path, format!("file is not UTF-8: {error}"))))?;
        let scan = scan(text);
        if scan.nesting > MAX_NESTING || scan.effort > MAX_NESTING_EFFORT {
            let message = format!(
                "brackets are nested too deep ({} levels) or too often; move parts to rules of their own or to `data.json`",
                scan.nesting
            );
            let mut finding = Finding::file("too_deep", path, message);
            (finding.line, finding.column) = scan.deepest;
            return Err(one(finding));
        }
        if scan.negations > MAX_NEGATIONS {
            let message =
                format!("file has {} negations; at most {MAX_NEGATIONS} are allowed", scan.negations);
            return Err(one(Finding::file("too_deep", path, message)));
        }
        let (metadata, findings) = metadata::read(path, text, &scan);
        let mut engine = regorus::Engine::new();
        engine.set_policy_length_config(lengths());
        engine.set_rego_v0(v0);
        if let Err(error) = engine.add_policy(path.to_owned(), text.to_owned()) {
            let mut findings = findings;
            findings.push(Finding::engine("syntax", path, text, &error.to_string()));
            return Err(findings);
        }
        let Some(syntax) = engine.get_modules().first().cloned() else {
            return Err(one(Finding::file("syntax", path, "file has no package")));
        };
        let mut findings = findings;
        findings.extend(too_deep(&syntax));
        let package = constant_path(&syntax.package.refr);
        if package.is_none() {
            findings.push(Finding::at("syntax", &syntax.package.span, "package path must be constant"));
        }
        match package {
            Some(package) if findings.is_empty() => {
                let text: Arc<str> = text.into();
                Ok(Self {
                    path: path.into(),
                    evaluated: Arc::clone(&text),
                    text,
                    package,
                    syntax,
                    metadata,
                    v0,
                })
            }
            _ => Err(findings),
        }
    }

    /// The package's METADATA: the block that says `scope: package`, or the one directly above `package`.
    pub fn package_metadata(&self) -> Option<&Metadata> {
        let line = self.syntax.package.span.line;
        self.metadata.iter().find(|block| match block.scope.as_deref() {
            Some("package" | "subpackages") => true,
            Some(_) => false,
            None => block.end_line < line && self.is_next(block, line),
        })
    }

    /// The METADATA block that stands above the rule beginning at `line`.
    pub fn rule_metadata(&self, line: u32) -> Option<&Metadata> {
        self.metadata
            .iter()
            .rev()
            .find(|block| block.end_line < line)
            .filter(|block| !matches!(block.scope.as_deref(), Some("package" | "subpackages")))
            .filter(|block| block.end_line > self.syntax.package.span.line && self.is_next(block, line))
    }

    /// Whether nothing but blank lines and comments lies between the block and `line`.
    fn is_next(&self, block: &Metadata, line: u32) -> bool {
        let skip = usize::try_from(block.end_line).unwrap_or(usize::MAX);
        let take = usize::try_from(line.saturating_sub(block.end_line).saturating_sub(1)).unwrap_or(0);
        let blank = |text: &str| text.trim().is_empty() || text.trim_start().starts_with('#');
        self.text.lines().skip(skip).take(take).all(blank)
    }
}

/// `a.b["c"]` as its components; `None` where one is not a constant string.
pub(super) fn constant_path(expr: &Expr) -> Option<Vec<String>> {
    let (path, whole) = constant_prefix(expr)?;
    whole.then_some(path)
}

/// The constant beginning of a reference, and whether that is all of it. `None` where it does not begin with a name.
pub(super) fn constant_prefix(expr: &Expr) -> Option<(Vec<String>, bool)> {
    let mut links = Vec::new();
    let mut at = expr;
    loop {
        match at {
            Expr::Var { span, .. } => {
                links.push(Some(span.text().to_owned()));
                break;
            }
            Expr::RefDot { refr, field, .. } => {
                links.push(Some(field.0.text().to_owned()));
                at = refr;
            }
            Expr::RefBrack { refr, index, .. } => {
                links.push(match index.as_ref() {
                    Expr::String { value, .. } | Expr::RawString { value, .. } => {
                        value.as_string().ok().map(ToString::to_string)
                    }
                    _ => None,
                });
                at = refr;
            }
            _ => return None,
        }
    }
    let whole = links.iter().all(Option::is_some);
    Some((links.into_iter().rev().map_while(|link| link).collect(), whole))
}

/// The reference at the head of a rule.
pub(super) fn head_of(rule: &Rule) -> &Expr {
    match rule {
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => refr,
        },
        Rule::Default { refr, .. } => refr,
    }
}

/// A path as Rego writes it: `data.a["b-c"]`.
pub(super) fn written(path: &[String]) -> String {
    let mut text = String::new();
    for component in path {
        let mut bytes = component.bytes();
        let plain = bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if plain {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(component);
        } else {
            text.push('[');
            text.push_str(&serde_json::Value::from(component.as_str()).to_string());
            text.push(']');
        }
    }
    text
}

/// The parts of a rule: what its head says, and its bodies.
fn parts(rule: &Rule) -> Vec<Node<'_>> {
    let mut parts = Vec::new();
    match rule {
        Rule::Default { refr, args, value, .. } => {
            parts.extend([refr, value].into_iter().chain(args).map(Node::Expr));
        }
        Rule::Spec { head, bodies, .. } => {
            let (refr, args, key, assign) = match head {
                RuleHead::Compr { refr, assign, .. } => (refr, [].as_slice(), None, assign.as_ref()),
                RuleHead::Set { refr, key, .. } => (refr, [].as_slice(), key.as_ref(), None),
                RuleHead::Func { refr, args, assign, .. } => (refr, args.as_slice(), None, assign.as_ref()),
            };
            let value = assign.map(|assign| &assign.value);
            parts.extend([refr].into_iter().chain(args).chain(key).chain(value).map(Node::Expr));
            for body in bodies {
                parts.extend(body.assign.iter().map(|assign| Node::Expr(&assign.value)));
                parts.push(Node::Query(&body.query));
            }
        }
    }
    parts
}

/// Calls `visit` with every part of a rule, and the parts of those.
pub(super) fn each_part<'a>(rule: &'a Rule, mut visit: impl FnMut(Node<'a>)) {
    let mut pending = parts(rule);
    while let Some(node) = pending.pop() {
        visit(node);
        node.children(|child| pending.push(child));
    }
}

/// Finds expressions whose tree is too deep, without recursion of its own.
fn too_deep(module: &ast::Module) -> Option<Finding> {
    let rules = module.policy.iter().flat_map(|rule| parts(rule));
    let mut pending: Vec<(Node<'_>, usize)> = rules.map(|part| (part, 1)).collect();
    while let Some((node, depth)) = pending.pop() {
        if depth > MAX_TREE_DEPTH {
            let span = match node {
                Node::Expr(expr) => expr.span(),
                Node::Query(query) => &query.span,
            };
            let message = format!(
                "expression is more than {MAX_TREE_DEPTH} operations deep; split it with `:=`, or use `sum`, `concat` or a set"
            );
            return Some(Finding::at("too_deep", span, message));
        }
        node.children(|child| pending.push((child, depth + 1)));
    }
    None
}

/// A part of a syntax tree that has parts.
#[derive(Clone, Copy)]
pub(super) enum Node<'a> {
    Expr(&'a Ref<Expr>),
    Query(&'a Ref<ast::Query>),
}

impl<'a> Node<'a> {
    /// Calls `visit` with each direct part, in source order.
    pub fn children(self, visit: impl FnMut(Node<'a>)) {
        match self {
            Node::Expr(expr) => Self::parts_of(expr, visit),
            Node::Query(query) => Self::parts_of_query(query, visit),
        }
    }

    /// The direct parts of an expression.
    pub fn parts_of(node: &'a Expr, mut visit: impl FnMut(Node<'a>)) {
        let mut expr = |expr: &'a Ref<Expr>| visit(Node::Expr(expr));
        match node {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. }
            | Expr::Var { .. } => {}
            Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().for_each(expr),
            Expr::Object { fields, .. } => {
                for (_, key, value) in fields {
                    expr(key);
                    expr(value);
                }
            }
            Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
                expr(term);
                visit(Node::Query(query));
            }
            Expr::ObjectCompr { key, value, query, .. } => {
                expr(key);
                expr(value);
                visit(Node::Query(query));
            }
            Expr::Call { fcn, params, .. } => {
                expr(fcn);
                params.iter().for_each(expr);
            }
            Expr::UnaryExpr { expr: inner, .. } => expr(inner),
            Expr::RefDot { refr, .. } => expr(refr),
            Expr::RefBrack { refr, index, .. } => {
                expr(refr);
                expr(index);
            }
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::AssignExpr { lhs, rhs, .. } => {
                expr(lhs);
                expr(rhs);
            }
            Expr::Membership { key, value, collection, .. } => {
                key.iter().for_each(&mut expr);
                expr(value);
                expr(collection);
            }
        }
    }

    fn parts_of_query(query: &'a ast::Query, mut visit: impl FnMut(Node<'a>)) {
        for stmt in &query.stmts {
            for with in &stmt.with_mods {
                visit(Node::Expr(&with.refr));
                visit(Node::Expr(&with.r#as));
            }
            match &stmt.literal {
                ast::Literal::SomeVars { .. } => {}
                ast::Literal::SomeIn { key, value, collection, .. } => {
                    key.iter().chain([value, collection]).for_each(|part| visit(Node::Expr(part)));
                }
                ast::Literal::Expr { expr, .. } | ast::Literal::NotExpr { expr, .. } => {
                    visit(Node::Expr(expr));
                }
                ast::Literal::Every { domain, query, .. } => {
                    visit(Node::Expr(domain));
                    visit(Node::Query(query));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_and_rule_blocks_find_their_owner() {
        let text = "# METADATA\n# title: P\n\npackage a.b[\"c-d\"]\n\nimport data.x\n\n# METADATA\n# title: R\nallow if x\n\ndeny if x\n";
        let module = Module::parse("p.rego", text.as_bytes()).unwrap();
        assert_eq!(module.package, ["a", "b", "c-d"]);
        assert_eq!(module.package_metadata().unwrap().title.as_deref(), Some("P"));
        assert_eq!(module.rule_metadata(10).unwrap().title.as_deref(), Some("R"));
        assert_eq!(module.rule_metadata(12), None);
        assert_eq!(written(&module.package), "a.b[\"c-d\"]");
    }

    #[test]
    fn hostile_text_is_an_error() {
        let parse =
            |text: &str| super::super::deep::run(|| Module::parse("p.rego", text.as_bytes())).unwrap();
        let code = |text: &str| parse(text).map_err(|findings| findings[0].code).unwrap_err();
        assert_eq!(code(&format!("package p\nx := {}", "[".repeat(100_000))), "too_deep");
        assert_eq!(
            code(&format!("package p\nx := 1{}", format!("\n{}", "+1".repeat(500)).repeat(1_000))),
            "too_deep"
        );
        let lines = |link: &str| format!("\n{}", link.repeat(900 / link.len())).repeat(1_000);
        assert_eq!(code(&format!("package p\nx := {}y", lines("-"))), "too_deep");
        assert_eq!(code(&format!("package p\nx := y{}", lines("*-y"))), "too_deep");
        assert!(parse(&format!("package p\nx := {}y", "- ".repeat(450))).is_err());
        assert_eq!(code(&format!("package p\nx := y{}", ".z".repeat(400))), "too_deep");
        assert_eq!(code(&format!("package p\nx := y{}", "[0]".repeat(300))), "too_deep");
        assert_eq!(code(&format!("package p\nx if y{}", lines(" in z"))), "too_deep");
        for links in [".z", "[0]", " not", "(1)", " else if y", " with y as z"] {
            // Whether these parse matters less than that they come to an end.
            let _ = parse(&format!("package p\nx if y{}", lines(links)));
        }
        assert_eq!(code(&format!("package p\nx := \"{}\"", "y".repeat(1_000_000))), "syntax");
        assert_eq!(code(&format!("package p\n{}", "\n".repeat(2_000_000))), "too_large");
        assert_eq!(code("package p\nx := 1 +"), "syntax");
        assert_eq!(
            code(&format!("package p\nx := [\n{}]", "[[[[[[[[[[[[[[]]]]]]]]]]]]]],\n".repeat(1_000))),
            "too_deep"
        );
        let deep = format!("package p\nx := {}1{}", "[".repeat(16), "]".repeat(16));
        let started = std::time::Instant::now();
        assert!(parse(&deep).is_ok());
        assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
    }
}
