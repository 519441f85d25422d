//! Going down: from a condition that failed to the one it failed by. Where a condition leads to a rule or function that gave
//! nothing, the walk goes on there, with the arguments it was called with.

use std::cmp::Reverse;

use regorus::Value;
use regorus::unstable::{Expr, Query, Span};

use super::super::bundle::is_rego;
use super::super::module::{head_of, written};
use super::super::value::to_json;
use super::frame::Frame;
use super::probe::Probe;
use super::rules::{Definition, Place};
use super::span::{column_of, range};
use super::syntax::{self, Names, Read, Statement, What};
use super::walk::{Head, Seen, Walker, bodies, condition_of, items};
use super::{Condition, Step};
use crate::json::Object;

/// Rules and functions descended into, one from the other.
const MAX_DEPTH: usize = 12;
/// Elements of an `every` that are looked at.
const MAX_ELEMENTS: usize = 50;
/// Other definitions named beside the nearest one.
const MAX_ALTERNATIVES: usize = 5;

/// The condition at the end of a descent, and the way to it.
pub(super) struct Leaf {
    pub condition: Condition,
    pub via: Vec<Step>,
    pub alternatives: Vec<Step>,
}

/// What a reading leads to.
struct Callee {
    /// Without `data`.
    path: Vec<String>,
    places: Vec<Place>,
    /// As expressions.
    args: Vec<String>,
}

impl<'a> Walker<'a> {
    /// The condition that failed: this one, or the one it leads to.
    pub fn leaf(&mut self, frame: &Frame, statement: &Statement<'a>, rule: &str, depth: usize) -> Leaf {
        let mut condition = condition_of(statement);
        condition.holds = Some(false);
        let values = self.fill(&mut condition, frame, statement);
        let descended = if depth >= MAX_DEPTH {
            condition.note = Some("not followed any further".into());
            None
        } else {
            match statement.what {
                What::Expr(expr) => self.descend_any(frame, statement, &values, Some(range(expr)), depth),
                What::SomeIn => self.descend_any(frame, statement, &values, None, depth),
                What::Every { key, value, domain, query } if statement.with.is_empty() => {
                    self.descend_every(frame, (key, value), domain, query, rule, depth, &mut condition)
                }
                What::Every { key, value, domain, query } => self.pinned(frame).and_then(|pinned| {
                    self.under(frame, statement, &frame.bound, |walker| {
                        walker.descend_every(
                            &pinned,
                            (key, value),
                            domain,
                            query,
                            rule,
                            depth,
                            &mut condition,
                        )
                    })?
                }),
                What::Not(expr) => {
                    self.note_holding(frame, statement, range(expr), &mut condition);
                    None
                }
                What::Silent | What::Print | What::Pattern => None,
            }
        };
        if let Some(mut leaf) = descended {
            leaf.via.insert(0, step_of(statement, rule));
            return leaf;
        }
        if condition.note.is_none() {
            condition.note = self.absent(frame, statement, &values);
        }
        Leaf { condition, via: Vec::new(), alternatives: Vec::new() }
    }

    /// What a condition looks for in something that does not have it.
    fn absent(&mut self, frame: &Frame, statement: &Statement<'a>, values: &[Seen]) -> Option<String> {
        for (read, value) in statement.reads.iter().zip(values) {
            let Some(index) =
                read.index.as_ref().filter(|_| matches!(value, Seen::Undefined) && !read.nested)
            else {
                continue;
            };
            let (holder, element) = &index.written;
            let mut is_there = |text: &str| self.first(frame, &format!("{text}{}", read.under)).is_some();
            if is_there(&index.holder)
                && is_there(&index.element)
                && !is_there(&format!("{}[{}]", index.holder, index.element))
            {
                return Some(format!("`{holder}` has no element `{element}`"));
            }
        }
        None
    }

    /// The first value of an expression here, if it has one.
    pub fn first(&mut self, frame: &Frame, text: &str) -> Option<Value> {
        let query = format!("[docket_v |\n{}]", frame.with(&[&format!("docket_v := {text}")], &Names::new()));
        items(&self.probe.ask(query).ok()?).into_iter().next()
    }

    /// Goes on in the first rule or function the condition reads that gave nothing.
    fn descend_any(
        &mut self,
        frame: &Frame,
        statement: &Statement<'a>,
        values: &[Seen],
        whole: Option<(u32, u32)>,
        depth: usize,
    ) -> Option<Leaf> {
        for (read, value) in statement.reads.iter().zip(values) {
            let nothing = match value {
                Seen::Undefined => true,
                Seen::Value(Value::Bool(false)) => whole == Some(read.range),
                Seen::Value(Value::Set(items)) => items.is_empty(),
                Seen::Value(_) | Seen::NotAsked => false,
            };
            if nothing
                && !read.nested
                && let Some(leaf) = self.descend(frame, statement, read, depth + 1)
            {
                return Some(leaf);
            }
        }
        None
    }

    /// The nearest definition of the rule or function that a condition read, and what is missing there.
    fn descend(
        &mut self,
        frame: &Frame,
        statement: &Statement<'a>,
        read: &Read,
        depth: usize,
    ) -> Option<Leaf> {
        let callee = self.callee(frame, read)?;
        self.inside(frame, statement, read, |walker| walker.nearest(&callee, depth))?
    }

    /// Of some definitions the nearest, and what is missing there.
    fn nearest(&mut self, callee: &Callee, depth: usize) -> Option<Leaf> {
        if self.is_replaced(&callee.path) {
            return None;
        }
        let mut candidates: Vec<(usize, Reverse<usize>, Frame, Statement<'a>, String)> = Vec::new();
        for place in &callee.places {
            let definition = Definition::of(self.library, *place)?;
            if definition.is_default() {
                continue;
            }
            let name = name_of(&definition);
            for body in bodies(definition.rule) {
                let mut walked = self.definition(&definition, body, &callee.args);
                let (fails, holds) = (walked.fails(), Reverse(walked.holds()));
                if let Some((index, frame)) = walked.first.take() {
                    let (statement, _) = walked.tested.swap_remove(index);
                    candidates.push((fails, holds, frame, statement, name.clone()));
                    continue;
                }
                match self.head(&definition, body, &walked) {
                    // It has a value after all, so what is missing is not in there.
                    Head::Given | Head::Unknown(_) => return None,
                    // `else := false` says nothing by itself: what stands before it does.
                    Head::Missing(statement, constant) => {
                        let fails = if constant { usize::MAX } else { 0 };
                        candidates.push((fails, holds, walked.frame, *statement, name.clone()));
                    }
                }
            }
        }
        let nearest = (0..candidates.len()).min_by_key(|at| candidates.get(*at).map(|c| (c.0, c.1)))?;
        let (_, _, frame, statement, name) = candidates.remove(nearest);
        let mut leaf = self.leaf(&frame, &statement, &name, depth);
        if leaf.alternatives.is_empty() {
            let others = candidates.iter().filter(|other| other.0 != usize::MAX).take(MAX_ALTERNATIVES);
            leaf.alternatives = others.map(|(_, _, _, statement, name)| step_of(statement, name)).collect();
        }
        Some(leaf)
    }

    /// The definitions a reading leads to, and its arguments as expressions. `None` where it leads to none, or where the
    /// rule has a value and only what was looked for in it is not there.
    fn callee(&mut self, frame: &Frame, read: &Read) -> Option<Callee> {
        let mut path = read.target.clone()?;
        let known = path.len();
        // An index that has a value here may name a rule as a constant would.
        if let Some(index) = &read.index
            && let Some(Value::String(key)) = self.first(frame, &format!("{}{}", index.element, read.under))
        {
            path.push(key.to_string());
        }
        let (length, places) = self.rules.find(&path)?;
        let places = places.to_vec();
        // What stands in for a built-in has nothing to say.
        let is_file =
            |place: &Place| self.library.modules.get(place.module).is_some_and(|m| is_rego(&m.path));
        if !places.iter().all(is_file) {
            return None;
        }
        let callee = |args| Some(Callee { path: path.get(..length)?.to_vec(), places, args });
        let Some(args) = &read.args else {
            if length < known {
                let rule = format!("data.{}{}", written(path.get(..length)?), read.under);
                let empty = |value: &Value| matches!(value, Value::Set(items) if items.is_empty());
                if self.first(frame, &rule).is_some_and(|value| !empty(&value)) {
                    return None;
                }
            }
            return callee(Vec::new());
        };
        if length < path.len() {
            return None;
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        callee(self.locals(frame, &read.vars, &read.under, &args)?)
    }

    /// Goes on in the first element for which the body of an `every` does not hold.
    #[expect(clippy::too_many_arguments, reason = "the parts of one statement")]
    fn descend_every(
        &mut self,
        frame: &Frame,
        (key, value): (Option<&Span>, &Span),
        domain: &'a Expr,
        query: &'a Query,
        rule: &str,
        depth: usize,
        condition: &mut Condition,
    ) -> Option<Leaf> {
        let over = syntax::value(self.library, self.rules, frame.module, domain, &frame.bound);
        let line = format!("some docket_k, docket_e in {}", over.text);
        let rows =
            self.probe.ask(format!("[[docket_k, docket_e] |\n{}]", frame.with(&[&line], &over.implicit)));
        let rows = match rows {
            Ok(rows) => items(&rows),
            Err(why) => {
                condition.note = Some(format!("cannot tell for which element: {why}"));
                return None;
            }
        };
        if rows.is_empty() {
            // Over nothing `every` is true, so there is nothing to run over.
            let leaf = self.leaf(frame, &over, rule, depth + 1);
            return (!leaf.via.is_empty()).then_some(leaf);
        }
        let redacted = self.shadow.as_mut().map(|shadow| {
            shadow.rows(format!("[[docket_k, docket_e] |\n{}{line}\n]", frame.about(&over.vars)))
        });
        for (number, row) in rows.iter().take(MAX_ELEMENTS).enumerate() {
            let [at, element] = <[Value; 2]>::try_from(items(row)).ok()?;
            let left =
                redacted.as_ref().and_then(|rows| <[Value; 2]>::try_from(items(rows.get(number)?)).ok());
            let [left_at, left_element] = left.unwrap_or([Value::Undefined, Value::Undefined]);
            let mut inner = frame.clone();
            let place = if redacted.is_none() || left_at == at {
                format!("for the element at {}", to_json(&at))
            } else {
                "for one of the elements".to_owned()
            };
            let key = key.map(|key| (key, at, left_at));
            for (name, value, left) in key.into_iter().chain([(value, element, left_element)]) {
                if name.text() != "_" {
                    inner.give(name.text(), Probe::local(value, left));
                }
            }
            let statements = syntax::body(self.library, self.rules, frame.module, Some(query), &inner.bound);
            let walked = self.walk(inner, statements);
            if let Some((index, frame)) = &walked.first {
                let (statement, _) = walked.tested.get(*index)?;
                let mut leaf = self.leaf(frame, statement, rule, depth + 1);
                leaf.condition.note.get_or_insert(place);
                return Some(leaf);
            }
        }
        condition.note = Some("cannot tell for which element".into());
        None
    }

    /// For `not f(x)`: where `f(x)` comes from.
    fn note_holding(
        &mut self,
        frame: &Frame,
        statement: &Statement<'a>,
        whole: (u32, u32),
        condition: &mut Condition,
    ) {
        let Some(read) = statement.reads.iter().find(|read| read.range == whole && read.target.is_some())
        else {
            return;
        };
        let Some(callee) = self.callee(frame, read) else { return };
        let holding = self.inside(frame, statement, read, |walker| walker.holding(&callee)).flatten();
        if let Some(span) = holding {
            let (file, line, column) = (span.source.get_path(), span.line, column_of(&span));
            condition.note = Some(format!("`{}` holds by {file}:{line}:{column}", read.key));
        }
    }

    /// Of some definitions one that applies.
    fn holding(&mut self, callee: &Callee) -> Option<Span> {
        if self.is_replaced(&callee.path) {
            return None;
        }
        for place in &callee.places {
            let Some(definition) = Definition::of(self.library, *place) else { continue };
            for body in bodies(definition.rule) {
                let walked = self.definition(&definition, body, &callee.args);
                if !definition.is_default() && self.fired(&definition, body, &walked) == Ok(true) {
                    return Some(definition.rule.span().clone());
                }
            }
        }
        None
    }
}

/// A rule as a whole in place of the condition that cannot be told.
pub(super) fn whole(definition: &Definition<'_>) -> Leaf {
    let span = definition.rule.span();
    let condition = Condition {
        file: span.source.get_path().clone(),
        line: span.line,
        column: column_of(span),
        end_line: definition.lines().1,
        condition: span.text().lines().next().unwrap_or_default().to_owned(),
        holds: None,
        values: Object::new(),
        undefined: Vec::new(),
        bindings: None,
        note: None,
    };
    Leaf { condition, via: Vec::new(), alternatives: Vec::new() }
}

fn name_of(definition: &Definition<'_>) -> String {
    head_of(definition.rule).span().text().to_owned()
}

fn step_of(statement: &Statement<'_>, rule: &str) -> Step {
    let span = &statement.span;
    Step {
        rule: rule.to_owned(),
        file: span.source.get_path().clone(),
        line: span.line,
        column: column_of(span),
        condition: statement.written.clone(),
    }
}
