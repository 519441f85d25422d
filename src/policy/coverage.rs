//! What tests evaluate, line by line.
//!
//! regorus notes the lines of the expressions it evaluates, so that a rule written on one line counts as covered as soon as
//! its first condition was looked at. Here it is given the same text with every condition, and the value of every head, on a
//! line of its own: a head's value is evaluated only where its conditions hold. (regorus does not report the values of an
//! `else`; its conditions count.) A line counts as covered where
//! everything that begins on it was evaluated. Files of tests, and tests beside the rules they test, are not counted.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regorus::Engine;
use regorus::unstable::{Expr, Literal, Ref, Rule, RuleHead};

use super::bundle::{is_rego, is_test};
use super::explain::{range, range_of};
use super::library::Library;
use super::module::{Module, Node, constant_prefix, head_of};
use super::outputs::{Edit, arguments, edited, edits};

/// What tests evaluated of a set of policies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coverage {
    /// Each file that is no test, sorted by path.
    pub files: Vec<FileCoverage>,
}

/// What tests evaluated of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileCoverage {
    /// Its path in the set.
    pub path: String,
    /// Lines on which everything was evaluated, as ranges from and to.
    pub covered: Vec<(u32, u32)>,
    /// Lines on which something was not.
    pub not_covered: Vec<(u32, u32)>,
}

impl Coverage {
    /// Covered lines of a hundred, over all files; 100 where there is nothing to cover.
    #[must_use]
    pub fn percent(&self) -> f64 {
        let sum = |lines: fn(&FileCoverage) -> u32| self.files.iter().map(lines).sum();
        percent(sum(FileCoverage::covered_lines), sum(FileCoverage::not_covered_lines))
    }
}

impl FileCoverage {
    /// Covered lines of a hundred.
    #[must_use]
    pub fn percent(&self) -> f64 {
        percent(self.covered_lines(), self.not_covered_lines())
    }

    fn covered_lines(&self) -> u32 {
        count(&self.covered)
    }

    fn not_covered_lines(&self) -> u32 {
        count(&self.not_covered)
    }
}

fn count(ranges: &[(u32, u32)]) -> u32 {
    ranges.iter().map(|(from, to)| to.saturating_sub(*from).saturating_add(1)).sum()
}

fn percent(covered: u32, not_covered: u32) -> f64 {
    let all = covered.saturating_add(not_covered);
    if all == 0 { 100.0 } else { f64::from(covered) * 100.0 / f64::from(all) }
}

/// Counts what engines evaluate of the files of a library.
pub(super) struct Counter {
    files: BTreeMap<String, Vec<Item>>,
}

/// A condition, or the value of a head.
struct Item {
    /// Where it begins in the author's text.
    line: u32,
    /// The byte it begins at in the author's text.
    at: usize,
    /// The lines it has in the text that is evaluated: from the first to before the second.
    lines: (u32, u32),
    covered: bool,
}

impl Counter {
    /// Gives every condition of a library's files a line of its own in what engines are given to evaluate.
    pub fn spread(library: &mut Library) -> Self {
        let mut files = BTreeMap::new();
        for at in 0..library.modules.len() {
            let outputs = library.graph.outputs(at);
            // Of a package that is imported, regorus evaluates every rule where one is read.
            let aliases: Vec<Edit> = library.graph.aliases(at);
            let Some(module) = library.modules.get_mut(at) else { continue };
            if is_test(&module.path) || !is_rego(&module.path) {
                let changes = [edits(&module.text, outputs), aliases].concat();
                module.evaluated = Arc::from(edited(&module.text, changes));
                continue;
            }
            let (mut starts, heads) = starts(module);
            starts.sort_unstable();
            starts.dedup();
            let mut changes = edits(&module.text, outputs);
            changes.extend(aliases);
            changes.extend(heads.iter().map(|(at, value)| (*at, *at, Cow::Borrowed(*value))));
            changes.extend(starts.iter().map(|at| (*at, *at, Cow::Borrowed("\n"))));
            let spread = edited(&module.text, changes);
            let parse = if module.v0 { Module::parse_any } else { Module::parse };
            // What a line break or a `true` makes unreadable stays as it is, counted by whole lines.
            let is_spread = parse(&module.path, spread.as_bytes()).is_ok();
            if is_spread {
                module.evaluated = Arc::from(spread);
            }
            files.insert(module.path.to_string(), items(module, &starts, &heads, is_spread));
        }
        Self { files }
    }

    /// The lines, from the first to before the second, of what begins at a byte of a file.
    pub fn lines_of(&self, path: &str, at: usize) -> Option<(u32, u32)> {
        self.files.get(path)?.iter().find(|item| item.at == at).map(|item| item.lines)
    }

    /// Adds what an engine has evaluated.
    pub fn count(&mut self, engine: &Engine) {
        let Ok(report) = engine.get_coverage_report() else { return };
        for file in report.files {
            for item in self.files.get_mut(&file.path).into_iter().flatten() {
                item.covered |= file.covered.range(item.lines.0..item.lines.1).next().is_some();
            }
        }
    }

    /// What was evaluated in all.
    pub fn coverage(self) -> Coverage {
        let file = |(path, items): (String, Vec<Item>)| {
            let lines = |covered: bool| items.iter().filter(move |i| i.covered == covered).map(|i| i.line);
            let not_covered: BTreeSet<u32> = lines(false).collect();
            let covered: BTreeSet<u32> = lines(true).filter(|line| !not_covered.contains(line)).collect();
            FileCoverage { path, covered: ranges(&covered), not_covered: ranges(&not_covered) }
        };
        Coverage { files: self.files.into_iter().filter(|(_, items)| !items.is_empty()).map(file).collect() }
    }
}

fn ranges(lines: &BTreeSet<u32>) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for line in lines {
        match ranges.last_mut() {
            Some((_, to)) if to.checked_add(1) == Some(*line) => *to = *line,
            _ => ranges.push((*line, *line)),
        }
    }
    ranges
}

/// Where the parts of a file are, before and after it was spread.
fn items(module: &Module, starts: &[usize], heads: &[(usize, &str)], is_spread: bool) -> Vec<Item> {
    let breaks: Vec<usize> = module.text.match_indices('\n').map(|(at, _)| at).collect();
    let values: BTreeSet<usize> = heads.iter().map(|(at, _)| *at).collect();
    // Every line break that was put in moves what comes after it down by one.
    let added: Vec<usize> = {
        let mut added: Vec<usize> = starts.iter().copied().chain(values.iter().copied()).collect();
        added.sort_unstable();
        added
    };
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
    let line_of = |at: usize| breaks.partition_point(|other| *other < at);
    // A rule ends what came before it, also where nothing of it is counted.
    let rules = module.syntax.policy.iter().map(|rule| usize::try_from(rule.span().start).unwrap_or(0));
    let mut all: Vec<(usize, bool)> = rules.map(|at| (at, false)).collect();
    all.extend(starts.iter().chain(&values).map(|at| (*at, true)));
    all.sort_unstable();
    let mut found: Vec<Item> = Vec::with_capacity(all.len());
    for (at, is_item) in all {
        let line = line_of(at);
        let before = added.partition_point(|other| if is_item { *other <= at } else { *other < at });
        let own = number(if is_spread { line + before } else { line });
        if let Some(last) = found.last_mut().filter(|last| last.lines.1 == u32::MAX) {
            last.lines.1 = if is_spread { own } else { own.max(last.lines.0.saturating_add(1)) };
        }
        if is_item {
            found.push(Item { line: number(line), at, lines: (own, u32::MAX), covered: false });
        }
    }
    found
}

/// Where what shows that a rule applied begins: the value of its head, which is evaluated only where its conditions hold, and
/// the last condition of each `else`, whose values regorus does not report.
pub(super) fn signs(module: &Module, rule: &Rule) -> Vec<usize> {
    let begin = |expr: &Expr| usize::try_from(range(expr).0).unwrap_or(0);
    let Rule::Spec { head, bodies, .. } = rule else { return Vec::new() };
    let own = match head {
        RuleHead::Set { key, .. } => key.as_ref().map(|key| begin(key)),
        RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => {
            assign.as_ref().map(|assign| begin(&assign.value)).or_else(|| end_of_head(module, head))
        }
    };
    let others = bodies.iter().filter(|body| body.is_else).filter_map(|body| body.query.stmts.last());
    own.into_iter().chain(others.map(|stmt| usize::try_from(range_of(stmt).0).unwrap_or(0))).collect()
}

/// Where each condition and each value of a head begins; and where a head without a value could have one, with what to put
/// there.
fn starts(module: &Module) -> (Vec<usize>, Vec<(usize, &'static str)>) {
    let (mut starts, mut heads) = (Vec::new(), Vec::new());
    let begin = |expr: &Expr| usize::try_from(range(expr).0).unwrap_or(0);
    let mut pending: Vec<Node<'_>> = Vec::new();
    // A value for a head that has none, on a line of its own.
    let given = if module.v0 { " =\ntrue" } else { " :=\ntrue" };
    for rule in &module.syntax.policy {
        let (name, _) = constant_prefix(head_of(rule)).unwrap_or_default();
        if name.iter().any(|name| name.starts_with("test_") || name.starts_with("todo_test_")) {
            continue;
        }
        match rule.as_ref() {
            Rule::Default { value, .. } => starts.push(begin(value)),
            Rule::Spec { head, bodies, .. } => {
                let own: Option<&Ref<Expr>> = match head {
                    RuleHead::Set { key, .. } => key.as_ref(),
                    RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => {
                        assign.as_ref().map(|assign| &assign.value)
                    }
                };
                match own {
                    Some(own) => starts.push(begin(own)),
                    None => heads.extend(end_of_head(module, head).map(|at| (at, given))),
                }
                pending.extend(own.map(Node::Expr));
                for body in bodies {
                    pending.extend(body.assign.as_ref().map(|assign| Node::Expr(&assign.value)));
                    pending.push(Node::Query(&body.query));
                }
            }
        }
    }
    while let Some(node) = pending.pop() {
        if let Node::Query(query) = node {
            for stmt in &query.stmts {
                let silent = matches!(stmt.literal, Literal::SomeVars { .. });
                if !silent {
                    starts.push(usize::try_from(range_of(stmt).0).unwrap_or(0));
                }
            }
        }
        node.children(|child| pending.push(child));
    }
    (starts, heads)
}

/// Where a head without a value ends.
fn end_of_head(module: &Module, head: &RuleHead) -> Option<usize> {
    let end = |expr: &Expr| usize::try_from(range(expr).1).ok();
    match head {
        RuleHead::Compr { refr, .. } => end(refr),
        RuleHead::Func { refr, .. } => {
            let open = end(refr)?;
            let open = open + module.text.get(open..)?.find('(')?;
            arguments(&module.text, open).map(|(_, close)| close + 1)
        }
        RuleHead::Set { .. } => None,
    }
}
