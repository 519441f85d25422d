//! Where a condition is asked: the locals from outside, and the conditions before it that hold.

use std::collections::BTreeSet;

use super::syntax::{Statement, What};

/// Everything that stands before a condition when it is asked.
#[derive(Clone, Default)]
pub(super) struct Frame {
    pub module: usize,
    /// Locals that have one.
    pub bound: BTreeSet<String>,
    /// Locals from outside: the name, and the expression that gives it.
    given: Vec<(String, String)>,
    kept: Vec<Kept>,
    implicit: BTreeSet<String>,
}

/// A condition that holds, and the locals it mentions.
#[derive(Clone)]
struct Kept {
    text: String,
    vars: BTreeSet<String>,
}

impl Frame {
    pub fn new(module: usize) -> Self {
        Self { module, ..Self::default() }
    }

    /// Binds a local to an expression.
    pub fn give(&mut self, name: &str, expression: String) {
        self.given.push((name.to_owned(), expression));
        self.bound.insert(name.to_owned());
    }

    /// The text of everything in here, with more conditions that have locals which nothing declares.
    pub fn with(&self, more: &[&str], implicit: &BTreeSet<String>) -> String {
        let given = self.given.iter().map(|(name, expression)| format!("{name} := {expression}"));
        let some =
            self.implicit.union(implicit).filter(|name| *name != "_").map(|name| format!("some {name}"));
        let kept = self.kept.iter().map(|kept| kept.text.clone());
        lines(given.chain(some).chain(kept).chain(more.iter().map(|line| (*line).to_owned())))
    }

    /// The text of what says something about these locals, be it by way of others: which values they have depends on
    /// nothing else in here.
    pub fn about(&self, vars: &BTreeSet<String>) -> String {
        let mut about = vars.clone();
        loop {
            let connected = self.kept.iter().filter(|kept| !kept.vars.is_disjoint(&about));
            let more: Vec<String> = connected
                .flat_map(|kept| &kept.vars)
                .filter(|name| !about.contains(*name))
                .cloned()
                .collect();
            if more.is_empty() {
                break;
            }
            about.extend(more);
        }
        let given = self.given.iter().filter(|(name, _)| about.contains(name));
        let given = given.map(|(name, expression)| format!("{name} := {expression}"));
        let some = self.implicit.intersection(&about).filter(|name| *name != "_");
        // What has no locals at all only declares some.
        let kept =
            self.kept.iter().filter(|kept| !kept.vars.is_disjoint(&about) || kept.text.starts_with("some "));
        lines(given.chain(some.map(|name| format!("some {name}"))).chain(kept.map(|kept| kept.text.clone())))
    }

    /// Adds a condition that holds.
    pub fn keep(&mut self, statement: &Statement<'_>) {
        match statement.what {
            What::Print => return,
            What::Silent if statement.vars.is_empty() => {}
            _ => self.bound.extend(statement.vars.iter().cloned()),
        }
        self.kept.push(Kept { text: statement.text.clone(), vars: statement.vars.clone() });
        let is_given = |name: &&String| self.given.iter().any(|(given, _)| given == *name);
        let new: Vec<String> = statement.implicit.iter().filter(|name| !is_given(name)).cloned().collect();
        self.implicit.extend(new);
    }
}

/// A body has at least one statement.
fn lines(lines: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    if text.is_empty() { "true\n".to_owned() } else { text }
}
