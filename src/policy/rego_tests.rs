//! Rego tests: `test_*` rules, as `opa test` runs them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{LimitError, Value};

use super::bundle::{Source, SourceFile, is_data, is_rego};
use super::finding::{Finding, Located};
use super::library::Library;
use super::module::written;
use super::set::Limits;
use super::{builtins, deep};
use crate::call::Moment;

/// What a test came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestOutcome {
    /// The rule is true.
    Pass,
    /// The rule is undefined or false.
    Fail,
    /// The rule could not be evaluated.
    Error(String),
    /// The rule is named `todo_test_…` and was not evaluated.
    Todo,
}

/// One `test_*` rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// `data.….test_name`
    pub name: String,
    /// Its file.
    pub file: String,
    /// Its line, from 1.
    pub line: u32,
    /// What it came to.
    pub outcome: TestOutcome,
    /// What it printed, each with file and line.
    pub prints: Vec<String>,
    /// Time spent, in microseconds.
    pub duration_us: u64,
}

/// `time.now_ns()` where a test does not replace it: 2026-01-01T00:00:00Z, so that a test gives the same every day.
const TEST_TIME_NS: i64 = 1_767_225_600_000_000_000;

/// Runs every test of a source, in file order. Tests stand in `*_test.rego` files or beside the rules they test.
///
/// # Errors
/// Everything that keeps policies and tests from compiling together.
pub fn run_tests(source: &Source, limits: Limits) -> Result<Vec<TestResult>, Vec<Finding>> {
    deep::run(|| run(source, limits)).unwrap_or_else(|error| {
        Err(vec![Finding::file("internal", "", format!("cannot run tests: {error}"))])
    })
}

fn run(source: &Source, limits: Limits) -> Result<Vec<TestResult>, Vec<Finding>> {
    let wanted = |file: &&SourceFile| is_rego(&file.path) || is_data(&file.path);
    let files: Vec<SourceFile> = source.files.iter().filter(wanted).cloned().collect();
    let library = Library::read(&files)?;
    let findings = library.check();
    if !findings.is_empty() {
        return Err(findings);
    }
    let mut results = Vec::new();
    let mut failed = Vec::new();
    let mut order: Vec<usize> = (0..library.modules.len()).collect();
    order.sort_by_key(|at| library.modules.get(*at).map(|module| module.path.clone()));
    for at in order {
        let Some(module) = library.modules.get(at) else { continue };
        let tests: Vec<_> = library
            .graph
            .definitions
            .iter()
            .filter(|definition| {
                definition.module == at && definition.arity.is_none() && !definition.is_default
            })
            .filter_map(|definition| {
                let [name] = definition.name.as_slice() else { return None };
                (name.starts_with("test_") || name.starts_with("todo_test_"))
                    .then_some((name, &definition.span))
            })
            .collect();
        if tests.is_empty() {
            continue;
        }
        let engine = match library.engine(&library.closure(&module.package)) {
            Ok(engine) => engine,
            Err(finding) => {
                failed.push(finding);
                continue;
            }
        };
        let mut seen = std::collections::BTreeSet::new();
        for (name, span) in tests.into_iter().filter(|(name, _)| seen.insert(*name)) {
            let path = std::iter::once("data".to_owned()).chain(module.package.iter().cloned());
            let path = written(&path.chain([name.clone()]).collect::<Vec<_>>());
            let (file, line) = (module.path.to_string(), span.line);
            let started = Instant::now();
            let mut engine = engine.clone();
            let timer =
                ExecutionTimerConfig { limit: limits.timeout, check_interval: std::num::NonZeroU32::MIN };
            engine.set_execution_timer_config(timer);
            let outcome = if name.starts_with("todo_") {
                TestOutcome::Todo
            } else {
                evaluate(&mut engine, &path, limits)
            };
            let prints = engine.take_prints().unwrap_or_default();
            let duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            results.push(TestResult { name: path, file, line, outcome, prints, duration_us });
        }
    }
    if failed.is_empty() { Ok(results) } else { Err(failed) }
}

fn evaluate(engine: &mut regorus::Engine, path: &str, limits: Limits) -> TestOutcome {
    let moment = Moment { call_id: ulid::Ulid::nil(), time_ns: TEST_TIME_NS };
    let evaluate =
        || builtins::during(&moment, Instant::now() + limits.timeout, || engine.eval_rule(path.to_owned()));
    match catch_unwind(AssertUnwindSafe(evaluate)) {
        Ok(Ok(Value::Bool(true))) => TestOutcome::Pass,
        Ok(Ok(Value::Undefined | Value::Bool(false))) => TestOutcome::Fail,
        Ok(Ok(other)) => TestOutcome::Error(format!(
            "a test must be true or false, not a value of type {}",
            super::value::type_name(&other)
        )),
        Ok(Err(error)) if error.downcast_ref::<LimitError>().is_some() => {
            TestOutcome::Error(format!("not done within {} ms", limits.timeout.as_millis()))
        }
        Ok(Err(error)) => {
            let located = Located::read(&error.to_string());
            let place = located.place.map(|place| format!("{place}: ")).unwrap_or_default();
            TestOutcome::Error(format!("{place}{}", located.message))
        }
        Err(_) => TestOutcome::Error("the policy engine panicked".into()),
    }
}
