//! What may be shown of a call that redaction edited: only what the redacted call gives as well.
//!
//! An explanation of such a call is computed on the true values, and kept beside the redacted call. So each value that it
//! would show is computed a second time, on the redacted call alone: from what everybody who reads the explanation may read
//! anyway. Where both are the same it says nothing new; where they differ, or the redacted call gives none, it came from
//! what was taken away, by whatever way, and a mark stands in its place. Truths are shown as they are.

use std::time::Instant;

use regorus::Value;

use super::super::set::Policy;
use super::super::value;
use super::Redaction;
use super::frame::Frame;
use super::probe::{Probe, Side};
use super::syntax::{Names, Read};
use super::walk::items;

/// The redacted call under one policy.
pub(super) struct Shadow<'a> {
    /// `None` where nothing is left that could be asked about.
    probe: Option<Probe<'a>>,
    mark: &'a str,
}

impl<'a> Shadow<'a> {
    pub fn new(policy: &'a Policy, redaction: &Redaction<'a>, deadline: Instant) -> Self {
        let probe = |call| Probe::new(&policy.engine, Some(value::from_call(call)), Side::Redacted, deadline);
        Self { probe: redaction.call.map(probe), mark: redaction.mark }
    }

    /// The value as it may be shown, if it may; else the mark.
    pub fn shown(
        &mut self,
        frame: &Frame,
        read: &Read,
        value: &Value,
        shown: impl Fn(&Value) -> serde_json::Value,
    ) -> serde_json::Value {
        if self.value(frame, read, &read.text) == *value { shown(value) } else { self.mark.into() }
    }

    /// As [`Probe::enter`].
    pub fn enter(&mut self, with: &str) -> usize {
        self.probe.as_mut().map_or(0, |probe| probe.enter(with))
    }

    /// As [`Probe::leave`].
    pub fn leave(&mut self, before: usize) {
        if let Some(probe) = &mut self.probe {
            probe.leave(before);
        }
    }

    /// What an expression in a reading has for a value here; `Undefined` where it has none.
    pub fn value(&mut self, frame: &Frame, read: &Read, text: &str) -> Value {
        self.first(frame, &read.vars, &format!("{text}{}", read.under))
    }

    /// The first value of an expression here; `Undefined` where it has none.
    pub fn first(&mut self, frame: &Frame, vars: &Names, text: &str) -> Value {
        let query = format!("[docket_v |\n{}docket_v := {text}\n]", frame.about(vars));
        self.rows(query).into_iter().next().unwrap_or(Value::Undefined)
    }

    /// The rows of a query; none where it fails.
    pub fn rows(&mut self, query: String) -> Vec<Value> {
        let answer = self.probe.as_mut().and_then(|probe| probe.ask(query).ok());
        answer.map(|rows| items(&rows)).unwrap_or_default()
    }
}
