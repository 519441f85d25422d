//! `docket get ID`: one entry, whole.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::Value;

use super::client::{encode, runtime};
use super::meant::meant;
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
        if let Err(malformed) = filter.set("id", &self.id, 0) {
            let Some(hint) = meant(&self.remote, &self.id, ["call_id", "request_id"]) else {
                bail!(malformed)
            };
            eprintln!("docket: {hint}");
            return Ok(ExitCode::from(EXIT_NOT_FOUND));
        }
        let entry: Option<Value> = if self.remote.ledger.is_some() {
            let entries = self.remote.reader()?.entries(&filter)?;
            entries.first().map(serde_json::to_value).transpose()?
        } else {
            runtime()?.block_on(self.remote.client()?.get(&format!("/v1/audit/{}", encode(&self.id))))?
        };
        let Some(entry) = entry else {
            let hint = meant(&self.remote, &self.id, ["call_id", "request_id"]);
            let hint = hint.unwrap_or_else(|| "`docket tail --all --jsonl` shows ids".into());
            eprintln!("docket: no entry has the id `{}`; {hint}", self.id);
            return Ok(ExitCode::from(EXIT_NOT_FOUND));
        };
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&entry)?)?;
        } else if entry.get("decision").is_some_and(|decision| !decision.is_null()) {
            write!(out, "{}", render::decision(&entry, None, &render::Paint::stdout()))?;
        } else {
            write!(out, "{}", render::other(&entry))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
