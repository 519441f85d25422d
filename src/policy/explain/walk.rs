//! Walking a body: which conditions hold, which is the first that does not, and what it was about.
//!
//! A condition *holds* if there is a binding for it together with all conditions before it that hold; the first that
//! does not is the one missing. Those after it are tested without it, each with the locals that are still bound, so that
//! one can count how near the rule came. Where a condition leads to a rule or function that gave nothing, the walk goes on
//! there, with the arguments it was called with.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use regorus::Value;
use regorus::unstable::{Expr, Query, Rule, Span};

use super::super::bundle::is_rego;
use super::super::library::Library;
use super::super::module::written;
use super::super::value::to_json;
use super::probe::Probe;
use super::rules::{Definition, Place, Rules};
use super::syntax::{self, Read, Statement, What, range};
use super::{Condition, Step};
use crate::json::Object;

/// Rules and functions descended into, one from the other.
const MAX_DEPTH: usize = 12;
/// Conditions asked at once.
const MAX_BATCH: usize = 12;
/// Elements of an `every` that are looked at.
const MAX_ELEMENTS: usize = 50;
/// Other definitions named beside the nearest one.
const MAX_ALTERNATIVES: usize = 5;
/// JSON text of one value that is shown.
const MAX_VALUE_BYTES: usize = 2_048;

pub(super) struct Walker<'a> {
    pub library: &'a Library,
    pub rules: &'a Rules,
    pub probe: Probe<'a>,
    /// What `with` has replaced around the conditions being walked, as full paths.
    replaced: Vec<Vec<String>>,
}

/// Where a condition is asked: the locals from outside, and the conditions before it that hold.
#[derive(Clone, Default)]
pub(super) struct Frame {
    module: usize,
    prelude: Vec<String>,
    kept: Vec<String>,
    implicit: BTreeSet<String>,
    bound: BTreeSet<String>,
}

pub(super) enum Truth {
    Holds,
    Fails,
    /// Why it cannot be told.
    Untested(String),
}

pub(super) struct Walked<'a> {
    pub tested: Vec<(Statement<'a>, Truth)>,
    /// Everything that holds.
    pub frame: Frame,
    /// The first that fails, and what held before it.
    pub first: Option<(usize, Frame)>,
}

/// The condition at the end of a descent, and the way to it.
pub(super) struct Leaf {
    pub condition: Condition,
    pub via: Vec<Step>,
    pub alternatives: Vec<Step>,
}

/// What a reading came to.
#[derive(Clone)]
enum Seen {
    /// It needs a local that has no value here.
    NotAsked,
    Undefined,
    Value(Value),
}

/// Whether a body's rule got a value.
enum Head<'a> {
    /// It did: for a set an element, else a value that is not `false`.
    Given,
    /// It did not although every condition holds.
    Missing(Box<Statement<'a>>, bool),
    /// It cannot be told.
    Unknown(String),
}

impl Walked<'_> {
    fn count(&self, wanted: impl Fn(&Truth) -> bool) -> usize {
        self.tested.iter().filter(|(s, truth)| !s.is_silent() && wanted(truth)).count()
    }

    pub fn fails(&self) -> usize {
        self.count(|truth| matches!(truth, Truth::Fails))
    }

    pub fn holds(&self) -> usize {
        self.count(|truth| matches!(truth, Truth::Holds))
    }

    /// Why it cannot be told whether the body holds, where nothing fails.
    pub fn unknown(&self) -> Option<&str> {
        self.tested.iter().find_map(|(_, truth)| match truth {
            Truth::Untested(why) => Some(why.as_str()),
            _ => None,
        })
    }

    /// The same for what comes before the first that fails.
    pub fn unknown_before_first(&self) -> Option<&str> {
        let before = self.first.as_ref().map_or(0, |(index, _)| *index);
        self.tested.iter().take(before).find_map(|(_, truth)| match truth {
            Truth::Untested(why) => Some(why.as_str()),
            _ => None,
        })
    }
}

impl Frame {
    pub fn new(module: usize) -> Self {
        Self { module, ..Self::default() }
    }

    fn with(&self, more: &[&str], implicit: &BTreeSet<String>) -> String {
        let mut text = String::new();
        for line in &self.prelude {
            text.push_str(line);
            text.push('\n');
        }
        for name in self.implicit.union(implicit).filter(|name| *name != "_") {
            text.push_str("some ");
            text.push_str(name);
            text.push('\n');
        }
        for line in self.kept.iter().map(String::as_str).chain(more.iter().copied()) {
            text.push_str(line);
            text.push('\n');
        }
        if text.is_empty() { "true\n".to_owned() } else { text }
    }

    fn keep(&mut self, statement: &Statement<'_>) {
        match statement.what {
            What::Print => return,
            What::Silent if statement.vars.is_empty() => {}
            _ => self.bound.extend(statement.vars.iter().cloned()),
        }
        self.kept.push(statement.text.clone());
        let new: Vec<String> =
            statement.implicit.iter().filter(|name| !self.prelude_binds(name)).cloned().collect();
        self.implicit.extend(new);
    }

    fn prelude_binds(&self, name: &str) -> bool {
        let head = format!("{name} :=");
        self.prelude.iter().any(|line| line.starts_with(&head))
    }
}

impl<'a> Walker<'a> {
    pub fn new(library: &'a Library, rules: &'a Rules, probe: Probe<'a>) -> Self {
        Self { library, rules, probe, replaced: Vec::new() }
    }

    /// Does something where a statement is evaluated: under its `with`, where it has one, with the locals that are bound
    /// before it as they were outside. The error says why that cannot be done.
    fn inside<T>(
        &mut self,
        frame: &Frame,
        statement: &Statement<'a>,
        work: impl FnOnce(&mut Self, &Frame) -> T,
    ) -> Result<T, String> {
        if statement.with.is_empty() {
            return Ok(work(self, frame));
        }
        let values: Vec<&str> =
            statement.with.iter().filter(|with| !with.function).map(|with| with.by.as_str()).collect();
        let names: Vec<&String> = frame.bound.iter().collect();
        let wanted = values.iter().copied().chain(names.iter().map(|name| name.as_str()));
        let query = format!(
            "[[{}] |\n{}]",
            wanted.collect::<Vec<_>>().join(",\n"),
            frame.with(&[], &BTreeSet::new())
        );
        let rows = self.probe.ask(query).map(|rows| items(&rows))?;
        let row = rows.first().map(items).filter(|row| row.len() == values.len() + names.len());
        let mut row = row.ok_or("what `with` puts in place is undefined")?.into_iter().map(Probe::local);
        let mut suffix = String::new();
        for with in &statement.with {
            let by = if with.function { Some(with.by.clone()) } else { row.next() };
            let by = by.ok_or("what `with` puts in place is undefined")?;
            // Writing to a string cannot fail.
            let _ = write!(suffix, " with {} as {by}", written(&with.path));
        }
        let mut inner = Frame::new(frame.module);
        inner.prelude = names.iter().zip(row).map(|(name, local)| format!("{name} := {local}")).collect();
        inner.bound.clone_from(&frame.bound);
        let before = self.replaced.len();
        self.replaced.extend(statement.with.iter().map(|with| with.path.clone()));
        let entered = self.probe.enter(&suffix);
        let answer = work(self, &inner);
        self.probe.leave(entered);
        self.replaced.truncate(before);
        Ok(answer)
    }

    /// Whether `with` has put something else where a rule or function (its path without `data`) is defined.
    fn is_replaced(&self, path: &[String]) -> bool {
        let covers = |replaced: &Vec<String>| match replaced.split_first() {
            Some((root, rest)) => root == "data" && path.starts_with(rest),
            None => false,
        };
        self.replaced.iter().any(covers)
    }

    /// Tests the conditions of a body.
    pub fn walk(&mut self, mut frame: Frame, statements: Vec<Statement<'a>>) -> Walked<'a> {
        let mut tested: Vec<(Statement<'a>, Option<Truth>)> =
            statements.into_iter().map(|s| (s, None)).collect();
        let mut first = None;
        let mut batch = MAX_BATCH;
        loop {
            let mut asked = Vec::new();
            let mut queries = Vec::new();
            let (mut ahead, mut real) = (frame.clone(), 0);
            for (index, (statement, truth)) in tested.iter().enumerate() {
                let ready = |name: &String| ahead.bound.contains(name) || statement.binds.contains(name);
                if truth.is_some()
                    || real >= batch
                    || !(statement.is_silent() || statement.vars.iter().all(ready))
                {
                    continue;
                }
                ahead.keep(statement);
                if !statement.is_silent() {
                    real += 1;
                    queries.push(format!("[1 |\n{}]", ahead.with(&[], &BTreeSet::new())));
                }
                asked.push(index);
            }
            if asked.is_empty() {
                break;
            }
            let answers = if queries.is_empty() {
                Ok(Vec::new())
            } else {
                self.probe.ask(format!("[{}]", queries.join(",\n"))).map(|value| items(&value))
            };
            let answers = match answers {
                Ok(answers) => answers,
                Err(_) if real > 1 => {
                    // One of them: each has to be asked by itself.
                    batch = 1;
                    continue;
                }
                Err(why) => {
                    for index in asked {
                        if let Some((statement, truth)) = tested.get_mut(index) {
                            let silent = statement.is_silent();
                            if silent {
                                frame.keep(statement);
                            }
                            *truth = Some(if silent { Truth::Holds } else { Truth::Untested(why.clone()) });
                        }
                    }
                    continue;
                }
            };
            let mut answers = answers.iter();
            for index in asked {
                let Some((statement, truth)) = tested.get_mut(index) else { continue };
                if statement.is_silent() || answers.next().is_some_and(|answer| !items(answer).is_empty()) {
                    frame.keep(statement);
                    *truth = Some(Truth::Holds);
                } else {
                    first.get_or_insert_with(|| (index, frame.clone()));
                    *truth = Some(Truth::Fails);
                    break;
                }
            }
        }
        let unbound = |statement: &Statement<'_>| {
            let missing = statement.vars.iter().find(|name| !frame.bound.contains(*name));
            let name = missing.map_or("a variable", String::as_str);
            Truth::Untested(format!("`{name}` is bound by a condition that does not hold"))
        };
        let tested = tested
            .into_iter()
            .map(|(statement, truth)| {
                let truth = truth.unwrap_or_else(|| unbound(&statement));
                (statement, truth)
            })
            .collect();
        Walked { tested, frame, first }
    }

    /// Walks one body of a definition whose arguments are the given expressions.
    pub fn definition(
        &mut self,
        definition: &Definition<'a>,
        body: Option<usize>,
        args: &[String],
    ) -> Walked<'a> {
        let module = definition.place.module;
        let mut names = BTreeSet::new();
        let mut statements = Vec::new();
        for (pattern, argument) in syntax::arguments(definition.rule).unwrap_or_default().iter().zip(args) {
            let statement = syntax::pattern(self.library, self.rules, module, pattern, argument);
            names.extend(statement.vars.iter().cloned());
            statements.push(statement);
        }
        let query = query_of(definition.rule, body);
        statements.extend(syntax::body(self.library, self.rules, module, query, &names));
        self.walk(Frame::new(module), statements)
    }

    /// Whether a body in which everything holds gave its rule a value.
    fn head(&mut self, definition: &Definition<'a>, body: Option<usize>, walked: &Walked<'a>) -> Head<'a> {
        if let Some(why) = walked.unknown() {
            return Head::Unknown(why.to_owned());
        }
        let Some(expr) = definition.head(body) else { return Head::Given };
        let frame = &walked.frame;
        let statement = syntax::value(self.library, self.rules, frame.module, expr, &frame.bound);
        let query = format!(
            "[docket_v |\n{}]",
            frame.with(&[&format!("docket_v := {}", statement.text)], &statement.implicit)
        );
        match self.probe.ask(query).map(|value| items(&value)) {
            Err(why) => Head::Unknown(why),
            Ok(values) if values.is_empty() => Head::Missing(Box::new(statement), false),
            Ok(values) => {
                let given = definition.is_set() || values.iter().any(|value| *value != Value::Bool(false));
                if given {
                    Head::Given
                } else {
                    Head::Missing(Box::new(statement), matches!(expr.as_ref(), Expr::Bool { .. }))
                }
            }
        }
    }

    /// Why a definition of an effect did not apply; `None` where it did.
    pub fn missing(
        &mut self,
        definition: &Definition<'a>,
        body: Option<usize>,
        walked: &Walked<'a>,
        name: &str,
    ) -> Option<Result<Leaf, String>> {
        self.failing(definition, body, walked, name, false).map(|found| found.map(|(_, leaf)| leaf))
    }

    /// Why a definition gave no value, and where its own condition leads to another, that one too if `own` says so.
    pub fn failing(
        &mut self,
        definition: &Definition<'a>,
        body: Option<usize>,
        walked: &Walked<'a>,
        name: &str,
        own: bool,
    ) -> Option<Result<(Option<Condition>, Leaf), String>> {
        if let Some((index, frame)) = &walked.first {
            let (statement, _) = walked.tested.get(*index)?;
            let leaf = self.leaf(frame, statement, name, 0);
            let own = (own && !leaf.via.is_empty()).then(|| self.condition(frame, statement));
            return Some(Ok((own, leaf)));
        }
        match self.head(definition, body, walked) {
            Head::Given => None,
            Head::Missing(statement, _) => {
                let mut leaf = self.leaf(&walked.frame, &statement, name, 0);
                if leaf.via.is_empty() {
                    leaf.condition
                        .note
                        .get_or_insert_with(|| "every condition holds, but the rule has no value".into());
                }
                let own = (own && !leaf.via.is_empty()).then(|| self.condition(&walked.frame, &statement));
                Some(Ok((own, leaf)))
            }
            Head::Unknown(why) => Some(Err(why)),
        }
    }

    /// The values that the keys of a head take once the conditions they come from have been met, and no other.
    pub fn cases(
        &mut self,
        definition: &Definition<'a>,
        body: Option<usize>,
        keys: &[&'a Expr],
    ) -> Result<BTreeSet<Vec<Value>>, String> {
        let module = definition.place.module;
        let statements =
            syntax::body(self.library, self.rules, module, query_of(definition.rule, body), &BTreeSet::new());
        let at = self.bound_at(module, &statements, keys);
        let mut frame = Frame::new(module);
        statements.iter().take(at).for_each(|statement| frame.keep(statement));
        let keys: Vec<String> = keys.iter().map(|key| self.key(module, key).text).collect();
        let query = format!("[[{}] |\n{}]", keys.join(", "), frame.with(&[], &BTreeSet::new()));
        self.probe.ask(query).map(|rows| items(&rows).iter().map(items).collect())
    }

    /// As [`Self::definition`], where the keys of the head have these values.
    pub fn case(
        &mut self,
        definition: &Definition<'a>,
        body: Option<usize>,
        keys: &[(&'a Expr, &Value)],
    ) -> Walked<'a> {
        let module = definition.place.module;
        let mut statements =
            syntax::body(self.library, self.rules, module, query_of(definition.rule, body), &BTreeSet::new());
        let exprs: Vec<&'a Expr> = keys.iter().map(|(key, _)| *key).collect();
        let at = self.bound_at(module, &statements, &exprs);
        for (key, value) in keys {
            let mut fixed = self.key(module, key);
            fixed.what = What::Silent;
            fixed.text = format!("{} == {}", fixed.text, Probe::local((*value).clone()));
            statements.insert(at, fixed);
        }
        self.walk(Frame::new(module), statements)
    }

    fn key(&self, module: usize, key: &'a Expr) -> Statement<'a> {
        syntax::value(self.library, self.rules, module, key, &BTreeSet::new())
    }

    /// How many of the statements are needed to bind what the keys mention.
    fn bound_at(&self, module: usize, statements: &[Statement<'a>], keys: &[&'a Expr]) -> usize {
        let mut wanted: BTreeSet<String> =
            keys.iter().flat_map(|key| self.key(module, key).vars).filter(|name| name != "_").collect();
        for (at, statement) in statements.iter().enumerate() {
            if !statement.is_silent() {
                wanted.retain(|name| !statement.binds.contains(name));
            }
            if wanted.is_empty() {
                return at + 1;
            }
        }
        statements.len()
    }

    /// Whether every condition of a body holds and its rule got a value; the reason where it cannot be told.
    pub fn fired(
        &mut self,
        definition: &Definition<'a>,
        body: Option<usize>,
        walked: &Walked<'a>,
    ) -> Result<bool, String> {
        if walked.first.is_some() {
            return Ok(false);
        }
        match self.head(definition, body, walked) {
            Head::Given => Ok(true),
            Head::Missing(..) => Ok(false),
            Head::Unknown(why) => Err(why),
        }
    }

    /// Every condition with its truth and the values it read.
    pub fn conditions(&mut self, walked: &Walked<'a>) -> Vec<Condition> {
        let mut conditions = Vec::new();
        for (index, (statement, truth)) in walked.tested.iter().enumerate() {
            if statement.is_silent() {
                continue;
            }
            // What was false is shown as it was then; the rest with the bindings that satisfied everything.
            let frame = match &walked.first {
                Some((first, frame)) if *first == index => frame,
                _ => &walked.frame,
            };
            let mut condition = self.condition(frame, statement);
            match truth {
                Truth::Holds => condition.holds = Some(true),
                Truth::Fails => condition.holds = Some(false),
                Truth::Untested(why) => condition.note = Some(format!("cannot tell: {why}")),
            }
            conditions.push(condition);
        }
        conditions
    }

    /// A condition with the values it reads.
    pub fn condition(&mut self, frame: &Frame, statement: &Statement<'a>) -> Condition {
        let mut condition = condition_of(statement);
        let filled =
            self.inside(frame, statement, |walker, frame| walker.fill(&mut condition, frame, statement));
        if let Err(why) = filled {
            condition.note = Some(format!("its values cannot be told: {why}"));
        }
        condition
    }

    /// The condition that failed: this one, or the one it leads to.
    pub fn leaf(&mut self, frame: &Frame, statement: &Statement<'a>, rule: &str, depth: usize) -> Leaf {
        self.inside(frame, statement, |walker, frame| walker.leaf_inside(frame, statement, rule, depth))
            .unwrap_or_else(|why| {
                let mut condition = condition_of(statement);
                condition.holds = Some(false);
                condition.note = Some(format!("not looked into: {why}"));
                Leaf { condition, via: Vec::new(), alternatives: Vec::new() }
            })
    }

    fn leaf_inside(&mut self, frame: &Frame, statement: &Statement<'a>, rule: &str, depth: usize) -> Leaf {
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
                What::Every { key, value, domain, query } => {
                    self.descend_every(frame, (key, value), domain, query, rule, depth, &mut condition)
                }
                What::Not(expr) => {
                    self.note_holding(frame, statement, range(expr), &mut condition);
                    None
                }
                What::Silent | What::Print | What::Pattern => None,
            }
        };
        match descended {
            Some(mut leaf) => {
                leaf.via.insert(0, step_of(statement, rule));
                leaf
            }
            None => Leaf { condition, via: Vec::new(), alternatives: Vec::new() },
        }
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
                && let Some(leaf) = self.descend(frame, read, depth + 1)
            {
                return Some(leaf);
            }
        }
        None
    }

    /// The nearest definition of the rule or function that a condition read, and what is missing there.
    fn descend(&mut self, frame: &Frame, read: &Read, depth: usize) -> Option<Leaf> {
        let (places, args) = self.callee(frame, read)?;
        let mut candidates: Vec<(usize, Reverse<usize>, Frame, Statement<'a>, String)> = Vec::new();
        for place in places {
            let definition = Definition::of(self.library, place)?;
            if definition.is_default() {
                continue;
            }
            let name = name_of(&definition);
            for body in bodies(definition.rule) {
                let mut walked = self.definition(&definition, body, &args);
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
    fn callee(&mut self, frame: &Frame, read: &Read) -> Option<(Vec<Place>, Vec<String>)> {
        let path = read.target.as_deref()?;
        let (length, places) = self.rules.find(path)?;
        if self.is_replaced(path.get(..length)?) {
            return None;
        }
        let places: Vec<Place> = places.to_vec();
        // What stands in for a built-in has nothing to say.
        let is_file =
            |place: &Place| self.library.modules.get(place.module).is_some_and(|m| is_rego(&m.path));
        if !places.iter().all(is_file) {
            return None;
        }
        let Some(args) = &read.args else {
            if length < path.len() {
                let rule = format!("data.{}", written(path.get(..length)?));
                let query = format!(
                    "[docket_v |\n{}]",
                    frame.with(&[&format!("docket_v := {rule}")], &BTreeSet::new())
                );
                let values = items(&self.probe.ask(query).ok()?);
                let empty = |value: &Value| matches!(value, Value::Set(items) if items.is_empty());
                if values.first().is_some_and(|value| !empty(value)) {
                    return None;
                }
            }
            return Some((places, Vec::new()));
        };
        if length < path.len() {
            return None;
        }
        let query = format!("[[{}] |\n{}]", args.join(",\n"), frame.with(&[], &BTreeSet::new()));
        let rows = items(&self.probe.ask(query).ok()?);
        let row = items(rows.first()?);
        (row.len() == args.len()).then(|| (places, row.into_iter().map(Probe::local).collect()))
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
        for row in rows.iter().take(MAX_ELEMENTS) {
            let [at, element] = <[Value; 2]>::try_from(items(row)).ok()?;
            let mut inner = frame.clone();
            let shown = to_json(&at);
            for (name, value) in key.map(|key| (key, at)).into_iter().chain([(value, element)]) {
                let name = name.text();
                if name != "_" {
                    inner.prelude.push(format!("{name} := {}", Probe::local(value)));
                    inner.bound.insert(name.to_owned());
                }
            }
            let statements = syntax::body(self.library, self.rules, frame.module, Some(query), &inner.bound);
            let walked = self.walk(inner, statements);
            if let Some((index, frame)) = &walked.first {
                let (statement, _) = walked.tested.get(*index)?;
                let mut leaf = self.leaf(frame, statement, rule, depth + 1);
                leaf.condition.note.get_or_insert_with(|| format!("for the element at {shown}"));
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
        let Some((places, args)) = self.callee(frame, read) else { return };
        for place in places {
            let Some(definition) = Definition::of(self.library, place) else { continue };
            for body in bodies(definition.rule) {
                let walked = self.definition(&definition, body, &args);
                if !definition.is_default() && self.fired(&definition, body, &walked) == Ok(true) {
                    let span = definition.rule.span();
                    condition.note = Some(format!(
                        "`{}` holds by {}:{}:{}",
                        read.key,
                        span.source.get_path(),
                        span.line,
                        column_of(span)
                    ));
                    return;
                }
            }
        }
    }

    /// Fills in the values a condition reads; answers them in the order of its reads.
    fn fill(&mut self, condition: &mut Condition, frame: &Frame, statement: &Statement<'a>) -> Vec<Seen> {
        let known: Vec<bool> = statement
            .reads
            .iter()
            .map(|read| read.vars.iter().all(|name| frame.bound.contains(name)))
            .collect();
        let asked: Vec<&Read> =
            statement.reads.iter().zip(&known).filter(|(_, known)| **known).map(|(r, _)| r).collect();
        let mut values = vec![Seen::NotAsked; statement.reads.len()];
        if asked.is_empty() {
            return values;
        }
        let rows = self.rows(frame, &asked).or_else(|_| {
            // One of them fails: each by itself, what fails left out.
            let each = asked
                .iter()
                .map(|read| self.rows(frame, &[read]).ok().and_then(|rows| rows.into_iter().next()?.pop()));
            Ok::<_, String>(vec![each.map(|value| value.unwrap_or(Value::Undefined)).collect()])
        });
        let rows = rows.unwrap_or_default();
        if rows.len() > 1 {
            condition.bindings = Some(rows.len());
        }
        let Some(row) = rows.into_iter().next() else { return values };
        let mut row = row.into_iter();
        for ((read, known), slot) in statement.reads.iter().zip(known).zip(&mut values) {
            if !known {
                continue;
            }
            let Some(value) = row.next() else { continue };
            if value == Value::Undefined {
                continue;
            }
            *slot = if let Some(value) = items(&value).into_iter().next() {
                condition.values.insert(read.key.clone(), shown(&value));
                Seen::Value(value)
            } else {
                condition.undefined.push(read.key.clone());
                Seen::Undefined
            };
        }
        values
    }

    /// The values of some readings for each binding there is: an array with the value, or an empty one.
    fn rows(&mut self, frame: &Frame, reads: &[&Read]) -> Result<Vec<Vec<Value>>, String> {
        let each = reads.iter().map(|read| format!("[docket_v |\ndocket_v := {}\n]", read.text));
        let query =
            format!("[[{}] |\n{}]", each.collect::<Vec<_>>().join(",\n"), frame.with(&[], &BTreeSet::new()));
        self.probe.ask(query).map(|rows| items(&rows).iter().map(items).collect())
    }
}

impl Statement<'_> {
    pub fn is_silent(&self) -> bool {
        matches!(self.what, What::Silent | What::Print)
    }
}

/// The bodies of a definition; `None` stands for the one that a definition without any has.
pub(super) fn bodies(rule: &Rule) -> Vec<Option<usize>> {
    match rule {
        Rule::Spec { bodies, .. } if !bodies.is_empty() => (0..bodies.len()).map(Some).collect(),
        _ => vec![None],
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

fn query_of(rule: &Rule, body: Option<usize>) -> Option<&Query> {
    let Rule::Spec { bodies, .. } = rule else { return None };
    bodies.get(body?).map(|body| body.query.as_ref())
}

fn name_of(definition: &Definition<'_>) -> String {
    let head = super::super::module::head_of(definition.rule);
    head.span().text().to_owned()
}

fn items(value: &Value) -> Vec<Value> {
    value.as_array().map(|items| items.iter().cloned().collect()).unwrap_or_default()
}

fn condition_of(statement: &Statement<'_>) -> Condition {
    let span = &statement.span;
    Condition {
        file: span.source.get_path().clone(),
        line: span.line,
        column: column_of(span),
        end_line: span.line.saturating_add(u32::try_from(span.text().matches('\n').count()).unwrap_or(0)),
        condition: statement.written.clone(),
        holds: None,
        values: Object::new(),
        undefined: Vec::new(),
        bindings: None,
        note: None,
    }
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

/// Where a span begins in its line, in characters from 1. regorus counts a tab as four.
pub(super) fn column_of(span: &Span) -> u32 {
    let start = usize::try_from(span.start).unwrap_or(0);
    let before = span.source.get_contents().get(..start).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    u32::try_from(line.chars().count()).unwrap_or(u32::MAX).saturating_add(1)
}

/// A value as it is shown; a long one only by its size.
fn shown(value: &Value) -> serde_json::Value {
    let json = to_json(value);
    let bytes = json.to_string().len();
    if bytes <= MAX_VALUE_BYTES {
        return json;
    }
    format!("({} of {bytes} bytes, not shown)", super::super::value::type_name(value)).into()
}
