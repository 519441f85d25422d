//! `docket policy reload`: makes a running docket read its policies again.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use http::StatusCode;
use serde_json::{Value, json};

use super::client::{Address, Client, refusal, runtime};
use super::{EXIT_FINDINGS, render};

/// Arguments of `docket policy reload`.
#[derive(Debug, Args)]
pub struct Reload {
    /// Print docket's answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    address: Address,
}

impl Reload {
    /// Runs the command: 0 where the newest policies are in force, 1 where they were refused.
    ///
    /// # Errors
    /// docket cannot be reached, or its ledger cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let client = Client::new(&self.address)?;
        let (status, answer) = runtime()?.block_on(client.exchange("/v1/policies/reload", &json!({})))?;
        let refused = status == StatusCode::UNPROCESSABLE_ENTITY;
        if status != StatusCode::OK && !refused {
            bail!("{}", refusal(&answer));
        }
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&answer)?)?;
        } else if refused {
            writeln!(out, "{}", refusal(&answer))?;
            for finding in list(&answer, "findings") {
                writeln!(out, "{}", as_text(finding))?;
            }
        } else if render::field(&answer, "result") == "unchanged" {
            writeln!(out, "unchanged: {} is in force", render::field(&answer, "manifest_sha"))?;
        } else {
            writeln!(out, "updated: {} is in force", render::field(&answer, "after"))?;
            for what in ["added", "removed", "changed"] {
                for policy in list(&answer, what) {
                    writeln!(out, "  {what:<8} {}", render::field(policy, "policy_id"))?;
                }
            }
        }
        Ok(if refused { ExitCode::from(EXIT_FINDINGS) } else { ExitCode::SUCCESS })
    }
}

fn list<'a>(answer: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    answer.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn as_text(finding: &Value) -> String {
    let (file, message) = (render::field(finding, "file"), render::field(finding, "message"));
    let number = |name: &str| finding.get(name).and_then(Value::as_u64).unwrap_or(0);
    match (file.is_empty(), number("line")) {
        (true, _) => message,
        (false, 0) => format!("{file}: {message}"),
        (false, line) => format!("{file}:{line}:{}: {message}", number("column")),
    }
}
