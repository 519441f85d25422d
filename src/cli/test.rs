//! `docket test PATH`: runs the Rego tests of a policy set, as `opa test` does.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::EXIT_FINDINGS;
use crate::policy::{Limits, Source, TestOutcome, TestResult, run_tests};

/// For one test, as `opa test` has it: a test may ask for many decisions.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Arguments of `docket test`.
#[derive(Debug, Args)]
pub struct Test {
    /// A directory of policies and their `*_test.rego` files, or one `.rego` file.
    #[arg(default_value = "policies")]
    path: PathBuf,
    /// Print every test, not only those that did not pass.
    #[arg(long, short)]
    verbose: bool,
    /// Print a JSON array of results.
    #[arg(long)]
    json: bool,
}

impl Test {
    /// Runs the command: 0 where all tests passed, 1 where one did not or the set does not compile.
    ///
    /// # Errors
    /// The path cannot be read.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let source = Source::read(&self.path)?;
        let results = match run_tests(&source, Limits { timeout: TIMEOUT }) {
            Ok(results) => results,
            Err(findings) => {
                for finding in &findings {
                    eprintln!("{finding}");
                }
                return Ok(ExitCode::from(EXIT_FINDINGS));
            }
        };
        if self.json {
            let results: Vec<_> = results.iter().map(as_json).collect();
            println!("{}", serde_json::to_string_pretty(&results)?);
        } else {
            results.iter().filter(|result| self.verbose || !passed(result)).for_each(print);
            print_totals(&results);
        }
        Ok(if results.iter().all(passed) { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FINDINGS) })
    }
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

fn print(result: &TestResult) {
    let TestResult { name, file, line, outcome, prints, duration_us } = result;
    println!("{file}:{line}: {name}: {} ({duration_us} us)", word(outcome));
    if let TestOutcome::Error(message) = outcome {
        println!("  {message}");
    }
    for print in prints {
        println!("  {print}");
    }
}

fn print_totals(results: &[TestResult]) {
    println!("{}", "-".repeat(80));
    for what in ["PASS", "FAIL", "ERROR", "SKIPPED"] {
        let count = results.iter().filter(|result| word(&result.outcome) == what).count();
        if count > 0 || what == "PASS" {
            println!("{what}: {count}/{}", results.len());
        }
    }
}

fn as_json(result: &TestResult) -> serde_json::Value {
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
        "prints": result.prints,
        "duration_us": result.duration_us,
    })
}
