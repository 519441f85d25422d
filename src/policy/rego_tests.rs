//! Rego tests: `test_*` rules, as `opa test` runs them.
//!
//! Differences to deciding a call: `with` can replace every built-in, also those that docket refuses; Rego of before OPA
//! 1.0 is read too; and a built-in that fails makes its expression undefined unless [`TestOptions::strict`] is set, so that
//! a library's published tests run unchanged.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use regex::Regex;
use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, LimitError, Value};

use super::bundle::{Source, SourceFile, is_data, is_rego, is_test};
use super::coverage::{Counter, Coverage};
use super::explain::failure::{Case, Failure, Tests};
use super::explain::rules::Rules;
use super::finding::{Finding, Located};
use super::library::Library;
use super::module::written;
use super::refs::Used;
use super::set::Limits;
use super::{builtins, deep, value};
use crate::call::Moment;

/// What a test came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TestOutcome {
    /// The rule is true.
    Pass,
    /// The rule is undefined or false, or lacks one of its cases.
    Fail,
    /// The rule could not be evaluated.
    Error(String),
    /// The rule is named `todo_test_…` and was not evaluated.
    Todo,
}

/// One `test_*` rule.
#[derive(Clone, Debug, PartialEq)]
pub struct TestResult {
    /// `data.….test_name`
    pub name: String,
    /// Its file.
    pub file: String,
    /// Its line, from 1.
    pub line: u32,
    /// What it came to.
    pub outcome: TestOutcome,
    /// Why it failed: one reason for each of its bodies.
    pub failures: Vec<Failure>,
    /// Its cases, where its head is keyed (`test_x[note] if …`).
    pub cases: Vec<Case>,
    /// What it printed, each with file and line.
    pub prints: Vec<String>,
    /// Time spent, in microseconds.
    pub duration_us: u64,
}

/// How to run tests.
#[derive(Clone, Debug)]
pub struct TestOptions {
    /// Bounds on each test.
    pub limits: Limits,
    /// Only tests whose name (`data.….test_name`) matches.
    pub run: Option<Regex>,
    /// Whether a built-in that fails is an error, as when deciding, instead of undefined.
    pub strict: bool,
    /// Whether to find out what the tests evaluate.
    pub coverage: bool,
}

impl Default for TestOptions {
    /// As `opa test` has it.
    fn default() -> Self {
        Self { limits: Limits { timeout: Duration::from_secs(5) }, run: None, strict: false, coverage: false }
    }
}

/// What a run of tests came to.
#[derive(Clone, Debug, Default)]
pub struct TestReport {
    /// Every test that was to run, in file order.
    pub results: Vec<TestResult>,
    /// What is not as it would be in force.
    pub warnings: Vec<Finding>,
    /// What the tests evaluated, where that was asked for.
    pub coverage: Option<Coverage>,
}

/// `time.now_ns()` where a test does not replace it: 2026-01-01T00:00:00Z, so that a test gives the same every day.
const TEST_TIME_NS: i64 = 1_767_225_600_000_000_000;

/// Runs the tests of a source, in file order. Tests stand in `*_test.rego` files or beside the rules they test.
///
/// # Errors
/// Everything that keeps policies and tests from compiling together.
pub fn run_tests(source: &Source, options: &TestOptions) -> Result<TestReport, Vec<Finding>> {
    deep::run(|| run(source, options)).unwrap_or_else(|error| {
        Err(vec![Finding::file("internal", "", format!("cannot run tests: {error}"))])
    })
}

/// One test to run.
struct Test {
    module: usize,
    /// Its path without `data`.
    path: Vec<String>,
    file: String,
    line: u32,
    todo: bool,
}

impl Test {
    /// `data.….test_name`
    fn name(&self) -> String {
        written(&std::iter::once("data".to_owned()).chain(self.path.iter().cloned()).collect::<Vec<_>>())
    }
}

fn run(source: &Source, options: &TestOptions) -> Result<TestReport, Vec<Finding>> {
    let wanted = |file: &&SourceFile| is_rego(&file.path) || is_data(&file.path);
    let files: Vec<SourceFile> = source.files.iter().filter(wanted).cloned().collect();
    let mut library = Library::read_tests(&files)?;
    let mut report = TestReport { warnings: warnings(&library), ..TestReport::default() };
    let mut findings = library.check();
    findings.retain(|finding| finding.code != "refused_function");
    if !findings.is_empty() {
        return Err(findings);
    }
    let tests = tests(&library, options);
    let rules = Rules::new(&library);
    let mut failed = Vec::new();
    for group in tests.chunk_by(|a, b| a.module == b.module) {
        match engine(&library, group, options) {
            Ok(engine) => {
                let tests = Tests::new(&library, &rules, &engine);
                report.results.extend(group.iter().map(|test| evaluated(&engine, &tests, test, options)));
            }
            Err(finding) => failed.push(finding),
        }
    }
    if !failed.is_empty() {
        return Err(failed);
    }
    if options.coverage {
        report.coverage = Some(covered(&mut library, &tests, options).map_err(|finding| vec![finding])?);
    }
    Ok(report)
}

/// What would be refused in force: files of before OPA 1.0, and functions that policies of today may not call.
fn warnings(library: &Library) -> Vec<Finding> {
    let mut warnings = Vec::new();
    let in_force = |path: &str| is_rego(path) && !is_test(path);
    for module in library.modules.iter().filter(|module| module.v0 && in_force(&module.path)) {
        let message = "read as Rego of before OPA 1.0, for tests only: in force it must be Rego v1";
        warnings.push(Finding::file("rego_v0", &module.path, message));
    }
    for definition in &library.graph.definitions {
        let module = library.modules.get(definition.module);
        if module.is_none_or(|module| module.v0 || !in_force(&module.path)) {
            continue;
        }
        for used in &definition.uses {
            let Used::Call { path, .. } = &used.what else { continue };
            let name = path.join(".");
            if let Some(why) = builtins::refused(&name)
                && !library.graph.is_own_function(definition.module, path)
            {
                let message = format!("`{name}` would be refused in force: {why}");
                warnings.push(Finding::at("refused_function", &used.span, message));
            }
        }
    }
    warnings.into_iter().map(Finding::warning).collect()
}

/// The tests to run, by file and line.
fn tests(library: &Library, options: &TestOptions) -> Vec<Test> {
    let mut tests = Vec::new();
    let mut seen = BTreeSet::new();
    for definition in &library.graph.definitions {
        let Some(module) = library.modules.get(definition.module) else { continue };
        let is_test = |name: &String| name.starts_with("test_") || name.starts_with("todo_test_");
        let Some(last) = definition.name.last().filter(|name| is_test(name)) else { continue };
        let path: Vec<String> = module.package.iter().chain(&definition.name).cloned().collect();
        let test = Test {
            module: definition.module,
            path,
            file: module.path.to_string(),
            line: definition.span.line,
            todo: last.starts_with("todo_"),
        };
        let chosen = options.run.as_ref().is_none_or(|pattern| pattern.is_match(&test.name()));
        if definition.arity.is_none()
            && !definition.is_default
            && chosen
            && seen.insert((definition.module, test.path.clone()))
        {
            tests.push(test);
        }
    }
    tests.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    tests
}

/// An engine for tests of one module.
fn engine(library: &Library, tests: &[Test], options: &TestOptions) -> Result<Engine, Finding> {
    let module = tests.first().and_then(|test| library.modules.get(test.module));
    let mut engine = library.engine(&module.map_or(Vec::new(), |module| library.closure(&module.package)))?;
    builtins::extend_tests(&mut engine)
        .map_err(|error| Finding::file("internal", "", format!("cannot prepare tests: {error}")))?;
    engine.set_strict_builtin_errors(options.strict);
    Ok(engine)
}

fn evaluated(engine: &Engine, tests: &Tests<'_>, test: &Test, options: &TestOptions) -> TestResult {
    let started = Instant::now();
    let mut result = TestResult {
        name: test.name(),
        file: test.file.clone(),
        line: test.line,
        outcome: TestOutcome::Todo,
        failures: Vec::new(),
        cases: Vec::new(),
        prints: Vec::new(),
        duration_us: 0,
    };
    if test.todo {
        return result;
    }
    let mut engine = engine.clone();
    let value = evaluate(&mut engine, &result.name, options);
    result.prints = engine.take_prints().unwrap_or_default();
    result.duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let value = match value {
        Ok(value) => value,
        Err(message) => {
            result.outcome = TestOutcome::Error(message);
            return result;
        }
    };
    let deadline = Instant::now() + options.limits.timeout;
    match during(options, deadline, || tests.cases(&test.path, &value, deadline)) {
        Some(Ok(cases)) => {
            let passed = !cases.is_empty() && cases.iter().all(|case| case.passed);
            result.outcome = if passed { TestOutcome::Pass } else { TestOutcome::Fail };
            result.cases = cases;
        }
        Some(Err(why)) => {
            result.outcome = TestOutcome::Error(format!("its cases cannot be told: {why}"));
            return result;
        }
        None => {
            result.outcome = match &value {
                Value::Bool(true) => TestOutcome::Pass,
                Value::Undefined | Value::Bool(false) => TestOutcome::Fail,
                other => TestOutcome::Error(format!(
                    "a test must be true or false, not a value of type {}",
                    value::type_name(other)
                )),
            };
        }
    }
    if result.outcome == TestOutcome::Fail && result.cases.is_empty() {
        result.failures = during(options, deadline, || tests.failures(&test.path, deadline));
    }
    result
}

/// The value of a test; the error is for people.
fn evaluate(engine: &mut Engine, name: &str, options: &TestOptions) -> Result<Value, String> {
    let timeout = options.limits.timeout;
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit: timeout,
        check_interval: std::num::NonZeroU32::MIN,
    });
    let evaluate = || {
        during(options, Instant::now() + timeout, || {
            let rule = engine.eval_rule(name.to_owned());
            // What has more than one key in its head is no rule to regorus, but can be asked for.
            let Err(error) = rule.as_ref() else { return rule };
            if !error.to_string().contains("not a valid rule path") {
                return rule;
            }
            let found = engine.eval_query(name.to_owned(), false)?.result.into_iter().next();
            let value = found.and_then(|row| row.expressions.into_iter().next()).map(|e| e.value);
            Ok(value.unwrap_or(Value::Undefined))
        })
    };
    match catch_unwind(AssertUnwindSafe(evaluate)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if error.downcast_ref::<LimitError>().is_some() => {
            Err(format!("not done within {} ms", timeout.as_millis()))
        }
        Ok(Err(error)) => {
            let located = Located::read(&error.to_string());
            let place = located.place.map(|place| format!("{place}: ")).unwrap_or_default();
            Err(format!("{place}{}", located.message))
        }
        Err(_) => Err("the policy engine panicked".into()),
    }
}

/// Does something in the circumstances every test has.
fn during<T>(options: &TestOptions, deadline: Instant, work: impl FnOnce() -> T) -> T {
    let moment = Moment { call_id: ulid::Ulid::nil(), time_ns: TEST_TIME_NS };
    builtins::during(&moment, deadline, || if options.strict { work() } else { builtins::leniently(work) })
}

/// Runs the tests once more, on texts in which every condition has a line of its own.
fn covered(library: &mut Library, tests: &[Test], options: &TestOptions) -> Result<Coverage, Finding> {
    let mut counter = Counter::spread(library);
    for group in tests.chunk_by(|a, b| a.module == b.module) {
        let mut engine = engine(library, group, options)?;
        engine.set_enable_coverage(true);
        for test in group.iter().filter(|test| !test.todo) {
            // An engine that was asked before evaluates more than what it is asked for.
            let mut engine = engine.clone();
            // What a test came to is known from its ordinary run.
            let _ = evaluate(&mut engine, &test.name(), options);
            counter.count(&engine);
        }
    }
    Ok(counter.coverage())
}

#[cfg(test)]
mod tests;
