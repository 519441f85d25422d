//! `docket explain REQUEST_ID`: effect and reason first, then the detail.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::client::{encode, runtime};
use super::meant::meant;
use super::{EXIT_NOT_FOUND, Remote, open, render};
use crate::api::explain;
use crate::ledger::filter::Scope;
use crate::policy::Limits;
use crate::replay::Replayer;

/// Arguments of `docket explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The request id: from `X-Request-Id`, a refusal's text, or `docket tail`.
    request_id: String,
    /// Print the explanation as JSON.
    #[arg(long)]
    json: bool,
    /// Show every condition of every rule of every policy the call was a target of.
    #[arg(long)]
    trace: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Explain {
    /// Runs the command.
    ///
    /// # Errors
    /// docket cannot be reached, or the ledger cannot be read.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let explanation = if let Some(file) = &self.remote.ledger {
            let replayer = Replayer::new(open(file)?, Limits::default());
            let found = explain::explanation(&replayer, &self.request_id, &Scope::default(), self.trace)?;
            found.map(serde_json::to_value).transpose()?
        } else {
            let trace = if self.trace { "?trace=true" } else { "" };
            let path = format!("/v1/explain/{}{trace}", encode(&self.request_id));
            runtime()?.block_on(self.remote.client()?.get(&path))?
        };
        let Some(explanation) = explanation else {
            let hint = meant(&self.remote, &self.request_id, ["id", "call_id"]);
            let hint = hint.unwrap_or_else(|| "`docket tail` lists the newest ones".into());
            eprintln!("docket: no entry has request id `{}`; {hint}", self.request_id);
            return Ok(ExitCode::from(EXIT_NOT_FOUND));
        };
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&explanation)?)?;
        } else {
            write!(out, "{}", text(&explanation))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The explanation as an engineer reads it at 3 a.m.
fn text(explanation: &Value) -> String {
    let paint = render::Paint::stdout();
    let list = |value: &Value, member: &str| {
        value.get(member).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let (entries, why) = (list(explanation, "entries"), list(explanation, "why"));
    let (why_not, trace) = (list(explanation, "why_not"), list(explanation, "trace"));
    let mut blocks = Vec::new();
    let is_decided = entries.iter().any(|entry| render::field(entry, "kind") == "decision");
    for entry in &entries {
        let kind = render::field(entry, "kind");
        if kind == "decision" {
            let same = |item: &&Value| item.get("call_id") == entry.get("call_id");
            let reason = why.iter().find(same);
            let missing: Vec<&Value> = why_not.iter().filter(same).collect();
            let traced: Vec<&Value> = trace.iter().filter(same).collect();
            blocks.push(render::explained(entry, reason, &missing, &traced, &paint));
        } else if kind != "trace" && (kind != "outcome" || !is_decided) {
            // A decision says what became of its call; what explained it live is part of its reasons.
            blocks.push(render::other(entry));
        }
    }
    let mut text = blocks.join("\n");
    for (member, name) in [("approximate", "redacted, and read by a policy"), ("notes", "note")] {
        for item in list(explanation, member) {
            let _ = writeln!(text, "{name}: {}", render::plain(&item));
        }
    }
    text
}
