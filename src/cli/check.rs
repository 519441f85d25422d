//! `docket check PATH`: does this policy set compile, and what is wrong with it?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::EXIT_FINDINGS;
use crate::policy::lint::codes::CODES;
use crate::policy::{Checked, Finding, Limits, Severity, Source, check};

/// Arguments of `docket check`.
#[derive(Debug, Args)]
#[command(after_help = AFTER, after_long_help = after_long())]
pub struct Check {
    /// A directory of `.rego` and data files, one `.rego` file, or a bundle (`.tar.gz`).
    #[arg(default_value = "policies")]
    path: PathBuf,
    /// The one rule that decides, as `data.authz.decision`, where the policies are not written in docket's effects.
    #[arg(long, value_name = "RULE")]
    entrypoint: Option<String>,
    /// Print a JSON array of findings: severity, code, file, line, column, `end_column`, message, excerpt.
    #[arg(long)]
    json: bool,
    /// Print findings only: no excerpts, and nothing where there are none.
    #[arg(long, short)]
    quiet: bool,
}

const AFTER: &str = "Exits with 0 where nothing was found, 1 with findings, 2 where it could not look. `--help` lists the codes.";

/// What `--help` adds: every code with its meaning.
fn after_long() -> String {
    let width = CODES.iter().map(|code| code.name.len()).max().unwrap_or(0);
    let list = |is_warning| {
        let codes = CODES.iter().filter(move |code| code.is_warning == is_warning);
        let lines: Vec<String> =
            codes.map(|code| format!("  {:width$}  {}", code.name, code.meaning)).collect();
        lines.join("\n")
    };
    format!(
        "Errors, which keep a set from being used:\n{}\n\nWarnings, which `# docket:allow CODE` turns off (at the end of a line for that line, on a line of its own for \
         the next, above `package` for the file):\n{}\n\nExit codes: 0 nothing was found, 1 findings, 2 could not look.",
        list(false),
        list(true)
    )
}

impl Check {
    /// Runs the command: 0 where nothing was found, else 1.
    ///
    /// # Errors
    /// The path cannot be read.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut checked =
            check(Source { entrypoint: self.entrypoint, ..Source::read(&self.path)? }, Limits::default());
        for finding in &mut checked.findings {
            place(&self.path, finding);
        }
        if self.json {
            let findings: Vec<Value> = checked.findings.iter().map(as_json).collect();
            println!("{}", serde_json::to_string_pretty(&findings)?);
        } else {
            for finding in &mut checked.findings {
                if self.quiet {
                    finding.excerpt = None;
                }
                println!("{finding:#}");
            }
            if !self.quiet {
                println!("{}", summary(&checked));
            }
        }
        Ok(if checked.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FINDINGS) })
    }
}

/// Names a finding's file as whoever ran the command would: editors open what is printed.
fn place(path: &Path, finding: &mut Finding) {
    if path == Path::new(".") {
        return;
    }
    if path.is_dir() && !finding.file.is_empty() {
        finding.file = path.join(&finding.file).display().to_string();
    } else if path.extension().is_some_and(|extension| extension == "rego") && !finding.file.is_empty() {
        finding.file = path.display().to_string();
    }
}

fn summary(checked: &Checked) -> String {
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let files = count(checked.files, "file");
    let (errors, warnings) = (checked.count(Severity::Error), checked.count(Severity::Warning));
    let found: Vec<String> = [(errors, "error"), (warnings, "warning")]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, noun)| count(number, noun))
        .collect();
    match &checked.set {
        _ if !found.is_empty() => format!("{} in {files}", found.join(", ")),
        Some(set) => {
            let policies = set.policies().len();
            let policies = format!("{policies} {}", if policies == 1 { "policy" } else { "policies" });
            format!("nothing found: {policies} in {files}, manifest {}", set.reference().manifest_sha)
        }
        None => format!("nothing found in {files}"),
    }
}

fn as_json(finding: &Finding) -> Value {
    let known = |number: u32| (number > 0).then_some(number);
    json!({
        "severity": finding.severity.as_str(),
        "code": finding.code,
        "file": (!finding.file.is_empty()).then_some(&finding.file),
        "line": known(finding.line),
        "column": known(finding.column),
        "end_column": known(finding.length).map(|length| finding.column.saturating_add(length)),
        "message": finding.message,
        "excerpt": finding.excerpt,
    })
}
