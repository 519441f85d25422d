//! Walking a body: which conditions hold, which is the first that does not, and what they read.
//!
//! A condition *holds* if there is a binding for it together with all conditions before it that hold; the first that
//! does not is the one missing. Those after it are tested without it, each with the locals that are still bound, so that
//! one can count how near the rule came. Where a condition leads, `descent` knows.

use std::collections::BTreeSet;

use regorus::Value;
use regorus::unstable::{Expr, Query, Rule};

use super::super::library::Library;
use super::super::value::to_json;
use super::Condition;
use super::descent::Leaf;
use super::frame::Frame;
use super::probe::Probe;
use super::rules::{Definition, Rules};
use super::shadow::Shadow;
use super::span::column_of;
use super::syntax::{self, Read, Statement, What};
use crate::json::Object;

/// Conditions asked at once.
const MAX_BATCH: usize = 12;
/// JSON text of one value that is shown.
const MAX_VALUE_BYTES: usize = 2_048;

pub(super) struct Walker<'a> {
    pub library: &'a Library,
    pub rules: &'a Rules,
    pub probe: Probe<'a>,
    /// Where not everything may be shown: what the redacted call gives.
    pub shadow: Option<Shadow<'a>>,
    /// What `with` has replaced around the conditions being walked, as full paths.
    pub replaced: Vec<Vec<String>>,
    /// Whether the engine was prepared so that a question from outside can replace functions of policies, as for tests.
    pub replaces_functions: bool,
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

/// What a reading came to.
#[derive(Clone)]
pub(super) enum Seen {
    /// It needs a local that has no value here.
    NotAsked,
    Undefined,
    Value(Value),
}

/// Whether a body's rule got a value.
pub(super) enum Head<'a> {
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

impl<'a> Walker<'a> {
    pub fn new(library: &'a Library, rules: &'a Rules, probe: Probe<'a>, shadow: Option<Shadow<'a>>) -> Self {
        Self { library, rules, probe, shadow, replaced: Vec::new(), replaces_functions: false }
    }

    /// What is known of a statement that cannot be asked: regorus replaces a function only for who calls it as the `with`
    /// names it, and a question names it in full.
    fn unaskable(&self, statement: &Statement<'a>) -> Option<Truth> {
        let function = statement.with.iter().find_map(|with| match with.path.split_first() {
            Some((root, path)) if root == "data" && self.rules.arity(path).is_some() => path.last(),
            _ => None,
        });
        let name = function.filter(|_| !self.replaces_functions)?;
        Some(Truth::Untested(format!("its `with` replaces the function `{name}`")))
    }

    /// Tests the conditions of a body.
    pub fn walk(&mut self, mut frame: Frame, statements: Vec<Statement<'a>>) -> Walked<'a> {
        let mut tested: Vec<(Statement<'a>, Option<Truth>)> =
            statements.into_iter().map(|s| (self.unaskable(&s), s)).map(|(truth, s)| (s, truth)).collect();
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
    pub fn head(
        &mut self,
        definition: &Definition<'a>,
        body: Option<usize>,
        walked: &Walked<'a>,
    ) -> Head<'a> {
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
            fixed.text = format!("{} == {}", fixed.text, Probe::local((*value).clone(), Value::Undefined));
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
    fn condition(&mut self, frame: &Frame, statement: &Statement<'a>) -> Condition {
        let mut condition = condition_of(statement);
        self.fill(&mut condition, frame, statement);
        condition
    }

    /// Fills in the values a condition reads; answers them in the order of its reads.
    pub fn fill(&mut self, condition: &mut Condition, frame: &Frame, statement: &Statement<'a>) -> Vec<Seen> {
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
            let known = self.shadow.as_mut().is_none_or(|shadow| {
                shadow.rows(format!("[1 |\n{}]", frame.with(&[], &BTreeSet::new()))).len() == rows.len()
            });
            condition.bindings = known.then_some(rows.len());
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
                let shown = match &mut self.shadow {
                    Some(shadow) => shadow.shown(frame, read, &value, shown),
                    None => shown(&value),
                };
                condition.values.insert(read.key.clone(), shown);
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
        let each =
            reads.iter().map(|read| format!("[docket_v |\ndocket_v := {}{}\n]", read.text, read.under));
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

fn query_of(rule: &Rule, body: Option<usize>) -> Option<&Query> {
    let Rule::Spec { bodies, .. } = rule else { return None };
    bodies.get(body?).map(|body| body.query.as_ref())
}

pub(super) fn items(value: &Value) -> Vec<Value> {
    value.as_array().map(|items| items.iter().cloned().collect()).unwrap_or_default()
}

pub(super) fn condition_of(statement: &Statement<'_>) -> Condition {
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

/// A value as it is shown; a long one only by its size.
fn shown(value: &Value) -> serde_json::Value {
    let json = to_json(value);
    let bytes = json.to_string().len();
    if bytes <= MAX_VALUE_BYTES {
        return json;
    }
    format!("({} of {bytes} bytes, not shown)", super::super::value::type_name(value)).into()
}
