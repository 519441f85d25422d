//! Going on under a `with`: what a condition leads to is asked under the same replacements, whose values were found before,
//! outside of them. On the redacted side they are what the redacted call gives.

use regorus::Value;

use super::frame::Frame;
use super::probe::Probe;
use super::syntax::{Names, Read, Statement};
use super::walk::{Walker, items};

impl<'a> Walker<'a> {
    /// Does something where a reading of a statement is evaluated: under its `with`, unless it is part of that.
    pub fn inside<T>(
        &mut self,
        frame: &Frame,
        statement: &Statement<'a>,
        read: &Read,
        work: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        if read.under.is_empty() { Some(work(self)) } else { self.under(frame, statement, &read.vars, work) }
    }

    /// Does something under a statement's `with`. What was read outside of that stays outside, and so does what is put in
    /// place: it is evaluated before. `None` where it has no value.
    pub fn under<T>(
        &mut self,
        frame: &Frame,
        statement: &Statement<'a>,
        vars: &Names,
        work: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        let mut clauses = String::new();
        let values: Vec<&str> =
            statement.with.iter().filter(|with| !with.is_function).map(|with| with.by.as_str()).collect();
        let mut values = self.locals(frame, vars, "", &values)?.into_iter();
        for with in &statement.with {
            clauses += &if with.is_function { with.clause(&with.by) } else { with.clause(&values.next()?) };
        }
        let outside = (
            self.replaced.len(),
            self.probe.enter(&clauses),
            self.shadow.as_mut().map(|shadow| shadow.enter(&clauses)),
        );
        self.replaced.extend(statement.with.iter().map(|with| with.path.clone()));
        let result = work(self);
        self.replaced.truncate(outside.0);
        self.probe.leave(outside.1);
        if let (Some(shadow), Some(before)) = (&mut self.shadow, outside.2) {
            shadow.leave(before);
        }
        Some(result)
    }

    /// The values that some expressions have together here, each as an expression that gives it wherever it is asked.
    pub fn locals(
        &mut self,
        frame: &Frame,
        vars: &Names,
        under: &str,
        expressions: &[&str],
    ) -> Option<Vec<String>> {
        if expressions.is_empty() {
            return Some(Vec::new());
        }
        let row = items(&self.first(frame, &format!("[{}]{under}", expressions.join(",\n")))?);
        if row.len() != expressions.len() {
            return None;
        }
        let local = |(value, expression): (Value, &&str)| {
            let shadow = self.shadow.as_mut();
            let redacted = shadow.map(|shadow| shadow.first(frame, vars, &format!("{expression}{under}")));
            Probe::local(value, redacted.unwrap_or(Value::Undefined))
        };
        Some(row.into_iter().zip(expressions).map(local).collect())
    }

    /// A place with the locals as they are here, and nothing else: for what goes on under a `with`, where what gave them
    /// could give something else.
    pub fn pinned(&mut self, frame: &Frame) -> Option<Frame> {
        let names: Vec<&str> = frame.bound.iter().map(String::as_str).collect();
        let locals = self.locals(frame, &frame.bound, "", &names)?;
        let mut pinned = Frame::new(frame.module);
        for (name, local) in names.into_iter().zip(locals) {
            pinned.give(name, local);
        }
        Some(pinned)
    }

    /// Whether `with` has put something else where a rule or function (its path without `data`) is defined.
    pub fn is_replaced(&self, path: &[String]) -> bool {
        let covers = |replaced: &Vec<String>| match replaced.split_first() {
            Some((root, rest)) => root == "data" && path.starts_with(rest),
            None => false,
        };
        self.replaced.iter().any(covers)
    }
}
