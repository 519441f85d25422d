//! `docket get ID`: one entry, whole.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::client::{encode, runtime};
use super::{EXIT_NOT_FOUND, Remote, render};
use crate::ledger::Filter;

/// Arguments of `docket get`.
#[derive(Debug, Args)]
pub struct Get {
    /// The entry's id, a ULID: from `docket tail --jsonl`, or an explanation.
    id: String,
    /// Print the entry as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Get {
    /// Runs the command.
    ///
    /// # Errors
    /// docket cannot be reached, or the ledger cannot be read.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut filter = Filter::default();
        filter.set("id", &self.id, 0).map_err(anyhow::Error::msg)?;
        let entry: Option<Value> = if self.remote.ledger.is_some() {
            let entries = self.remote.reader()?.entries(&filter)?;
            entries.first().map(serde_json::to_value).transpose()?
        } else {
            runtime()?.block_on(self.remote.client()?.get(&format!("/v1/audit/{}", encode(&self.id))))?
        };
        let Some(entry) = entry else {
            eprintln!("docket: no entry has the id `{}`; `docket tail --all --jsonl` shows ids", self.id);
            return Ok(ExitCode::from(EXIT_NOT_FOUND));
        };
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&entry)?)?;
        } else if entry.get("decision").is_some_and(|decision| !decision.is_null()) {
            write!(out, "{}", render::decision(&entry, None, &render::Paint::stdout()))?;
        } else {
            write!(out, "{}", render::other(&entry))?;
            for (name, value) in entry.get("metadata").and_then(Value::as_object).into_iter().flatten() {
                writeln!(out, "  {name:<13} {}", render::plain(value).replace('\n', "\n                "))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
