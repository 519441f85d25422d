//! Asking the engine: every question an explanation has is a query of its own, answered by the interpreter that decided.
//!
//! Whether a condition holds is whether a comprehension over it and the conditions before it has a member. Nothing is
//! inserted into the policy, so that neither the engine's reordering of statements nor its caches can make an answer
//! wrong. Values of locals (a function's arguments, an element of `every`) come in through an extension, not as text:
//! their text could be too deep for the parser.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};

use super::super::evaluate::CLOCK_EVERY;
use super::super::finding::Located;

/// The extension that hands over locals.
const LOCAL: &str = "docket_explain_local";
/// Text of one query. Longer ones are not asked.
const MAX_QUERY_BYTES: usize = 256 * 1024;

thread_local! {
    /// The locals of the explanation under way on this thread.
    static LOCALS: RefCell<Vec<Local>> = const { RefCell::new(Vec::new()) };
}

/// A local on both sides; `Undefined` where it has no value there.
struct Local {
    actual: Value,
    redacted: Value,
}

/// Which call is asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The one that was decided. What the engine says in its errors may be shown.
    Actual,
    /// The same, but nothing of it may be shown: errors quote what they are about.
    Silent,
    /// What redaction left of it.
    Redacted,
}

/// One prepared engine, with what it is asked about as its input.
pub(super) struct Probe<'a> {
    prepared: &'a Engine,
    /// Undefined where there is none, as in a test that does not replace it.
    input: Option<Value>,
    side: Side,
    engine: Option<Engine>,
    deadline: Instant,
    /// What every question is asked under: ` with TARGET as VALUE`, as often as needed.
    with: String,
}

impl<'a> Probe<'a> {
    pub fn new(prepared: &'a Engine, input: Option<Value>, side: Side, deadline: Instant) -> Self {
        LOCALS.with_borrow_mut(Vec::clear);
        Self { prepared, input, side, engine: None, deadline, with: String::new() }
    }

    /// Asks everything from here on under more replacements; answers what to give to [`Self::leave`] afterwards.
    pub fn enter(&mut self, with: &str) -> usize {
        let before = self.with.len();
        self.with.push_str(with);
        before
    }

    /// Ends what [`Self::enter`] began.
    pub fn leave(&mut self, before: usize) {
        self.with.truncate(before);
    }

    /// Keeps a value and the one it has on the redacted side, and answers the expression that gives back either.
    pub fn local(actual: Value, redacted: Value) -> String {
        LOCALS.with_borrow_mut(|locals| {
            locals.push(Local { actual, redacted });
            format!("{LOCAL}({})", locals.len() - 1)
        })
    }

    /// The value of one expression. The error says why there is none, for people.
    pub fn ask(&mut self, mut query: String) -> Result<Value, String> {
        query.push_str(&self.with);
        if query.len() > MAX_QUERY_BYTES {
            return Err("the conditions are too long to be tested".into());
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("the time for explaining is up".into());
        }
        let answered = catch_unwind(AssertUnwindSafe(|| {
            let engine = self.engine()?;
            engine.set_execution_timer_config(ExecutionTimerConfig {
                limit: left,
                check_interval: CLOCK_EVERY,
            });
            engine.eval_query(query, false)
        }));
        match answered {
            Ok(Ok(results)) => {
                let value =
                    results.result.into_iter().next().and_then(|row| row.expressions.into_iter().next());
                value.map(|expression| expression.value).ok_or_else(|| "the engine gave no answer".to_owned())
            }
            Ok(Err(_)) if self.side != Side::Actual => Err("the engine could not evaluate it".into()),
            Ok(Err(error)) => Err(Located::read(&error.to_string()).message),
            Err(_) => {
                // What the panic left behind is not to be asked again.
                self.engine = None;
                Err("the policy engine panicked".into())
            }
        }
    }

    fn engine(&mut self) -> anyhow::Result<&mut Engine> {
        if self.engine.is_none() {
            let mut engine = self.prepared.clone();
            if let Some(input) = &self.input {
                engine.set_input(input.clone());
            }
            let side = self.side;
            engine.add_extension(LOCAL.to_owned(), 1, Box::new(move |args: Vec<Value>| give(side, &args)))?;
            self.engine = Some(engine);
        }
        self.engine.as_mut().ok_or_else(|| anyhow::anyhow!("no engine"))
    }
}

fn give(side: Side, args: &[Value]) -> anyhow::Result<Value> {
    let index =
        args.first().and_then(|index| index.as_u64().ok()).and_then(|index| usize::try_from(index).ok());
    let value = LOCALS.with_borrow(|locals| {
        let local = locals.get(index?)?;
        Some(if side == Side::Redacted { local.redacted.clone() } else { local.actual.clone() })
    });
    value.filter(|value| *value != Value::Undefined).ok_or_else(|| anyhow::anyhow!("no such local"))
}
