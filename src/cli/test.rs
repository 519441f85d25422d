//! `docket test PATH…`: runs the Rego tests of a policy set, as `opa test` does.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use regex::Regex;
use serde_json::{Map, Value, json};

use super::EXIT_FINDINGS;
use crate::policy::explain::{Condition, Step};
use crate::policy::{
    Case, Coverage, Failure, FileCoverage, Source, TestOptions, TestOutcome, TestReport, TestResult,
    run_tests,
};

/// Characters of one source text or value that are shown on a line.
const MAX_SHOWN_CHARS: usize = 400;

/// Arguments of `docket test`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Test {
    /// Directories of policies and their `*_test.rego` files, or single `.rego` files. Several are read as one set.
    #[arg(default_value = "policies")]
    paths: Vec<PathBuf>,
    /// Print every test, not only those that did not pass.
    #[arg(long, short)]
    verbose: bool,
    /// Print a JSON array of results; with --coverage an object that has them beside the coverage.
    #[arg(long)]
    json: bool,
    /// Run only tests whose name (`data.package.test_name`) matches.
    #[arg(long, short, value_name = "REGEX")]
    run: Option<String>,
    /// Say what the tests evaluated, by file and line.
    #[arg(long, short)]
    coverage: bool,
    /// Fail where less than this many percent of the lines are covered.
    #[arg(long, value_name = "PERCENT", requires = "coverage", value_parser = percent)]
    threshold: Option<f64>,
    /// A built-in that fails is an error, as when docket decides. Without this its expression is undefined, as OPA has it.
    #[arg(long)]
    strict_builtin_errors: bool,
}

impl Test {
    /// Runs the command: 0 where all tests passed, 1 where one did not or too little is covered, 2 where they could not run.
    ///
    /// # Errors
    /// A path cannot be read, policies and tests do not compile together, or the pattern is none.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let run = match self.run.as_deref().map(Regex::new).transpose() {
            Ok(run) => run,
            Err(error) => bail!("`--run` is not a regular expression: {error}"),
        };
        let source = Source::read_tests(&self.paths)?;
        let options = TestOptions {
            run,
            strict: self.strict_builtin_errors,
            coverage: self.coverage,
            ..TestOptions::default()
        };
        let report = match run_tests(&source, &options) {
            Ok(report) => report,
            Err(findings) => {
                for finding in &findings {
                    eprintln!("{finding}");
                }
                bail!("the tests could not run, because policies and tests do not compile together");
            }
        };
        for warning in &report.warnings {
            eprintln!("{warning}");
        }
        if report.results.is_empty() {
            let matching = if self.run.is_some() { " that matches `--run`" } else { "" };
            eprintln!("docket: there is no test{matching}; a test is a rule whose name begins with `test_`");
        }
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&as_json(&report))?)?;
        } else {
            write!(out, "{}", text(&report, self.verbose))?;
        }
        let enough = match (&report.coverage, self.threshold) {
            (Some(coverage), Some(threshold)) if coverage.percent() < threshold => {
                eprintln!(
                    "docket: {:.2} % of the lines are covered, less than {threshold} %",
                    coverage.percent()
                );
                false
            }
            _ => true,
        };
        let passed = report.results.iter().all(passed);
        Ok(if passed && enough { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FINDINGS) })
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| format!("`{text}` is not a number from 0 to 100"))
}

/// Whether a result is no reason to fail: tests still to be written are not.
fn passed(result: &TestResult) -> bool {
    matches!(result.outcome, TestOutcome::Pass | TestOutcome::Todo)
}

fn word(outcome: &TestOutcome) -> &'static str {
    match outcome {
        TestOutcome::Pass => "PASS",
        TestOutcome::Fail => "FAIL",
        TestOutcome::Error(_) => "ERROR",
        TestOutcome::Todo => "SKIPPED",
    }
}

/// The report for eyes.
fn text(report: &TestReport, verbose: bool) -> String {
    let mut out = String::new();
    for result in report.results.iter().filter(|result| verbose || !passed(result)) {
        add_result(&mut out, result);
    }
    if !report.results.is_empty() {
        add_totals(&mut out, &report.results);
    }
    if let Some(coverage) = &report.coverage {
        add_coverage(&mut out, coverage);
    }
    out
}

// Writing to a string cannot fail.
fn add(out: &mut String, indent: usize, line: &str) {
    let _ = writeln!(out, "{:indent$}{line}", "");
}

fn add_result(out: &mut String, result: &TestResult) {
    let TestResult { name, file, line, outcome, failures, cases, prints, duration_us } = result;
    add(out, 0, &format!("{file}:{line}: {name}: {} ({duration_us} us)", word(outcome)));
    if let TestOutcome::Error(message) = outcome {
        add(out, 2, message);
    }
    add_failures(out, 2, failures);
    for Case { name, passed, failures } in cases {
        add(out, 2, &format!("{name}: {}", if *passed { "PASS" } else { "FAIL" }));
        add_failures(out, 4, failures);
    }
    if *outcome == TestOutcome::Fail && failures.is_empty() && cases.iter().all(|case| case.passed) {
        let why = if cases.is_empty() {
            "it cannot be told which condition did not hold"
        } else {
            "it has no case"
        };
        add(out, 2, why);
    }
    for print in prints {
        add(out, 2, print);
    }
}

fn add_failures(out: &mut String, indent: usize, failures: &[Failure]) {
    for Failure { condition, because, uncertain } in failures {
        add_condition(out, indent, "", condition);
        if let Some(because) = because {
            for step in because.via.iter().skip(1) {
                add(out, indent + 2, &format!("by way of {}", place(step)));
            }
            add_condition(out, indent + 2, "because ", &because.condition);
            for step in &because.alternatives {
                add(out, indent + 2, &format!("nor {}", place(step)));
            }
        }
        if let Some(why) = uncertain {
            add(out, indent + 2, &format!("cannot tell for certain: {why}"));
        }
    }
}

fn add_condition(out: &mut String, indent: usize, before: &str, condition: &Condition) {
    let Condition { file, line, column, condition: source, values, undefined, bindings, note, .. } =
        condition;
    add(out, indent, &format!("{before}{file}:{line}:{column}: {}", one_line(source)));
    for (path, value) in values {
        add(out, indent + 4, &format!("{} = {}", one_line(path), one_line(&value.to_string())));
    }
    for path in undefined {
        add(out, indent + 4, &format!("{} is undefined", one_line(path)));
    }
    if let Some(bindings) = bindings {
        add(out, indent + 4, &format!("(the first of {bindings} that were tried)"));
    }
    if let Some(note) = note {
        add(out, indent + 4, &format!("({note})"));
    }
}

fn place(step: &Step) -> String {
    format!("{}:{}:{}: {}", step.file, step.line, step.column, one_line(&step.condition))
}

/// A source text on one line, cut where it is long.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MAX_SHOWN_CHARS {
        return line;
    }
    line.chars().take(MAX_SHOWN_CHARS).chain(['…']).collect()
}

fn add_totals(out: &mut String, results: &[TestResult]) {
    add(out, 0, &"-".repeat(80));
    for what in ["PASS", "FAIL", "ERROR", "SKIPPED"] {
        let count = results.iter().filter(|result| word(&result.outcome) == what).count();
        if count > 0 || what == "PASS" {
            add(out, 0, &format!("{what}: {count}/{}", results.len()));
        }
    }
}

fn add_coverage(out: &mut String, coverage: &Coverage) {
    let width = coverage.files.iter().map(|file| file.path.chars().count()).max().unwrap_or(0).max(5);
    add(out, 0, &"-".repeat(80));
    for file in &coverage.files {
        let line =
            |(from, to): &(u32, u32)| if from == to { from.to_string() } else { format!("{from}-{to}") };
        let missing = file.not_covered.iter().map(line).collect::<Vec<_>>().join(", ");
        let missing = if missing.is_empty() { missing } else { format!("  not covered: {missing}") };
        add(out, 0, &format!("{:width$}  {:6.2} %{missing}", file.path, file.percent()));
    }
    add(out, 0, &format!("{:width$}  {:6.2} %", "total", coverage.percent()));
}

fn as_json(report: &TestReport) -> Value {
    let results: Vec<Value> = report.results.iter().map(result_as_json).collect();
    match &report.coverage {
        None => Value::Array(results),
        Some(coverage) => {
            let files: Map<String, Value> =
                coverage.files.iter().map(|file| (file.path.clone(), file_as_json(file))).collect();
            json!({"results": results, "files": files, "coverage": rounded(coverage.percent())})
        }
    }
}

fn result_as_json(result: &TestResult) -> Value {
    let error = match &result.outcome {
        TestOutcome::Error(message) => Some(message),
        _ => None,
    };
    json!({
        "name": result.name,
        "file": result.file,
        "line": result.line,
        "outcome": word(&result.outcome).to_lowercase(),
        "error": error,
        "failures": result.failures,
        "cases": result.cases,
        "prints": result.prints,
        "duration_us": result.duration_us,
    })
}

/// One file in the shape of OPA's coverage report.
fn file_as_json(file: &FileCoverage) -> Value {
    let ranges = |ranges: &[(u32, u32)]| -> Value {
        ranges.iter().map(|(from, to)| json!({"start": {"row": from}, "end": {"row": to}})).collect()
    };
    json!({
        "covered": ranges(&file.covered),
        "not_covered": ranges(&file.not_covered),
        "coverage": rounded(file.percent()),
    })
}

fn rounded(percent: f64) -> f64 {
    (percent * 100.0).round() / 100.0
}
