//! `docket tail`: the newest decisions as a table or as JSON, and new ones as they come.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::client::{Client, runtime};
use super::selection::Selection;
use super::{Remote, render};
use crate::ledger::{Filter, Reader};

/// Arguments of `docket tail`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Tail {
    /// Go on with new entries as they are recorded.
    #[arg(short, long, conflicts_with = "json")]
    follow: bool,
    #[command(flatten)]
    selection: Selection,
    /// At most this many, newest first to be chosen.
    #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Every kind of entry, not only decisions.
    #[arg(long)]
    all: bool,
    /// Print a JSON array.
    #[arg(long)]
    json: bool,
    /// Print one JSON object a line.
    #[arg(long, conflicts_with = "json")]
    jsonl: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Tail {
    /// Runs the command.
    ///
    /// # Errors
    /// docket cannot be reached, the ledger cannot be read, or a filter is malformed.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let entries = match &self.remote.ledger {
            Some(_) if self.follow => bail!("--follow needs a running docket; leave out --ledger"),
            Some(file) => self.read_file(file)?,
            None => runtime()?.block_on(self.read_remote())?,
        };
        self.print(&entries)?;
        if self.follow {
            let newest = entries.first().and_then(|entry| entry.get("seq")?.as_i64());
            runtime()?.block_on(self.follow(newest))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn query(&self) -> String {
        let mut pairs = self.selection.query();
        if !self.all {
            pairs.push("kind=decision".to_owned());
        }
        pairs.join("&")
    }

    async fn read_remote(&self) -> anyhow::Result<Vec<Value>> {
        let path = format!("/v1/audit?{}&limit={}", self.query(), self.limit);
        let answer =
            Client::new(&self.remote)?.get(&path).await?.context("docket does not know `/v1/audit`")?;
        Ok(answer.get("entries").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    fn read_file(&self, file: &std::path::Path) -> anyhow::Result<Vec<Value>> {
        let kind = (!self.all).then(|| "decision".into());
        let filter = Filter { kind, limit: Some(self.limit), ..self.selection.filter()? };
        let entries = Reader::new(file.into()).entries(&filter)?;
        entries.iter().map(|entry| serde_json::to_value(entry).map_err(Into::into)).collect()
    }

    fn print(&self, entries: &[Value]) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(entries)?)?;
            return Ok(());
        }
        if !self.jsonl {
            writeln!(out, "{}", render::table_head())?;
        }
        // Newest last, where the next line will appear.
        for entry in entries.iter().rev() {
            self.print_one(&mut out, entry)?;
        }
        Ok(())
    }

    fn print_one(&self, out: &mut impl std::io::Write, entry: &Value) -> anyhow::Result<()> {
        if self.jsonl {
            writeln!(out, "{entry}")?;
        } else {
            writeln!(out, "{}", render::table_row(entry, &render::Paint::stdout()))?;
        }
        out.flush()?;
        Ok(())
    }

    /// Prints events until docket or the reader of the output goes away.
    async fn follow(&self, newest: Option<i64>) -> anyhow::Result<()> {
        let last = newest.unwrap_or(-1).to_string();
        let path = format!("/v1/audit/stream?{}", self.query());
        let response = Client::new(&self.remote)?.open(&path, &[("last-event-id", &last)]).await?;
        if response.status() != StatusCode::OK {
            bail!("docket refused to stream: HTTP {}", response.status());
        }
        let mut body = response.into_body();
        let mut buffer = Vec::new();
        let mut wrong = false;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.context("the stream broke off")?.into_data() else { continue };
            buffer.extend_from_slice(&data);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                if let Some(data) = line.strip_prefix(b"data: ") {
                    let data = serde_json::from_slice(data)?;
                    if wrong {
                        eprintln!(
                            "docket cannot go on with the stream yet: {}",
                            render::field(&data, "error")
                        );
                    } else {
                        self.print_one(&mut std::io::stdout().lock(), &data)?;
                    }
                }
                // An event's name comes before its data, and holds until the empty line.
                wrong = line == b"event: error\n" || (wrong && line != b"\n");
            }
        }
        bail!("the stream ended: docket has stopped");
    }
}
