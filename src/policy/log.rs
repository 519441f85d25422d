//! `data.system.log`: what a set says of its own record, as OPA's decision logger asks it.
//!
//! `mask` names what is to go from an entry, `drop` whether all of it is. The package has an `input` of its own and decides
//! no call, so it is no policy. What its answers mean, and what is done where there is none, redaction knows.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};
use serde_json::Value as Json;

use super::evaluate::CLOCK_EVERY;
use super::finding::{Finding, Located};
use super::library::Library;
use super::set::{Limits, PolicySet};
use super::{builtins, value};
use crate::call::Moment;

/// The package that is asked.
const PACKAGE: [&str; 2] = ["system", "log"];
const MASK: &str = "mask";
const DROP: &str = "drop";

/// Whether a package is, or is below, the one that is asked about entries rather than calls.
pub(super) fn is_about_log(package: &[String]) -> bool {
    package.iter().map(String::as_str).take(PACKAGE.len()).eq(PACKAGE)
}

/// Whether a rule of a package is the one that lists masks.
pub(super) fn is_mask(package: &[String], rule: &[String]) -> bool {
    package.iter().map(String::as_str).eq(PACKAGE) && rule == [MASK]
}

/// What a set says of one entry.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSays {
    /// `data.system.log.drop` is `true`.
    pub drop: bool,
    /// `data.system.log.mask`, where it is defined and asked: not where everything is dropped.
    pub mask: Option<Json>,
}

/// The rules of that package, prepared once.
pub(super) struct LogRules {
    engine: Engine,
    mask: bool,
    drop: bool,
    /// Whether it was said already that a mask takes nothing.
    is_idle_told: AtomicBool,
}

impl LogRules {
    /// The rules of a set, if it has any.
    pub(super) fn of(library: &Library) -> Result<Option<Self>, Finding> {
        let package: Vec<String> = PACKAGE.iter().map(|name| (*name).to_owned()).collect();
        let defined = |rule: &str| {
            library.graph.definitions.iter().any(|definition| {
                let own =
                    library.modules.get(definition.module).is_some_and(|module| module.package == package);
                own && definition.arity.is_none() && definition.name.first().is_some_and(|name| name == rule)
            })
        };
        let (mask, drop) = (defined(MASK), defined(DROP));
        if !mask && !drop {
            return Ok(None);
        }
        let engine = library.engine(&library.closure(&package))?;
        Ok(Some(Self { engine, mask, drop, is_idle_told: AtomicBool::new(false) }))
    }

    fn ask(&self, document: &Json, moment: &Moment, limits: Limits) -> Result<LogSays, String> {
        let deadline = Instant::now() + limits.timeout;
        let mut engine = self.engine.clone();
        engine.set_input(value::from_json(document));
        engine.set_execution_timer_config(ExecutionTimerConfig {
            limit: limits.timeout,
            check_interval: CLOCK_EVERY,
        });
        builtins::during(moment, deadline, || {
            let dropped = match if self.drop { rule(&mut engine, DROP)? } else { Value::Undefined } {
                Value::Undefined | Value::Bool(false) => false,
                Value::Bool(true) => true,
                // Whoever writes `drop := "yes"` means no record to stay.
                other => {
                    let name = value::type_name(&other);
                    return Err(format!(
                        "data.system.log.{DROP}: it is a value of type {name}, not a boolean"
                    ));
                }
            };
            let mask = if self.mask && !dropped { rule(&mut engine, MASK)? } else { Value::Undefined };
            let mask = (mask != Value::Undefined).then(|| value::to_json(&mask));
            Ok(LogSays { drop: dropped, mask })
        })
    }
}

/// The value of a rule, or where it failed: what the engine says of it may quote what is about to be masked.
fn rule(engine: &mut Engine, name: &str) -> Result<Value, String> {
    engine.eval_rule(format!("data.{}.{name}", PACKAGE.join("."))).map_err(|error| {
        let text = error.to_string();
        let place = Located::read(&text).place.map_or_else(String::new, |place| format!(" at {place}"));
        let what = if text.contains(builtins::TIME_IS_UP) { "no answer in time" } else { "it failed" };
        format!("data.system.log.{name}: {what}{place}")
    })
}

impl PolicySet {
    /// Whether the set has anything to say of its record.
    #[must_use]
    pub fn has_log_rules(&self) -> bool {
        self.log.is_some()
    }

    /// Whether nobody asked before, for what is to be said once of a mask that takes nothing.
    #[must_use]
    pub fn is_first_idle_mask(&self) -> bool {
        self.log.as_ref().is_some_and(|rules| !rules.is_idle_told.swap(true, Ordering::Relaxed))
    }

    /// What the set says of an entry, which is given as OPA's decision log has it. Must run with a stack as for
    /// [`PolicySet::decide`].
    ///
    /// # Errors
    /// A rule failed, panicked, or was not done in time: which, and where.
    pub fn log_says(&self, document: &Json, moment: &Moment) -> Result<LogSays, String> {
        let Some(rules) = &self.log else { return Ok(LogSays { drop: false, mask: None }) };
        catch_unwind(AssertUnwindSafe(|| rules.ask(document, moment, self.limits)))
            .unwrap_or_else(|_| Err("data.system.log: the policy engine panicked".to_owned()))
    }
}
