//! `docket tail`: the newest decisions as a table or as JSON, and new ones as they come.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::client::{refusal, runtime};
use super::selection::Everything;
use super::table::Table;
use super::{Remote, render, system_clock, terminal};
use crate::ledger::Filter;

/// A stream that broke off is opened again after this long, in milliseconds.
const AGAIN_MS: u64 = 1_000;

/// How often it is tried again without an entry in between.
const MAX_TRIES: u32 = 30;

/// How long what was recorded before `--until` may take to arrive, in milliseconds.
const LATE_MS: u64 = 1_000;

/// Arguments of `docket tail`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Tail {
    /// Go on with new entries as they are recorded.
    #[arg(short, long, conflicts_with = "json")]
    follow: bool,
    #[command(flatten)]
    selection: Everything,
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
        let filter = self.filter()?;
        let entries = match &self.remote.ledger {
            Some(_) if self.follow => bail!("--follow needs a running docket; leave out --ledger"),
            Some(_) => {
                let entries = self.remote.reader()?.entries(&filter)?;
                entries.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?
            }
            None => runtime()?.block_on(self.read_remote())?,
        };
        let lines = Lines { table: (!self.jsonl).then(|| Table::new(terminal::width())) };
        if self.json {
            writeln!(std::io::stdout().lock(), "{}", serde_json::to_string_pretty(&entries)?)?;
        } else {
            lines.begin(&entries)?;
        }
        if entries.is_empty() && std::io::stderr().is_terminal() {
            eprintln!("docket: no entries match{}", if self.follow { " yet" } else { "" });
        }
        if self.follow {
            let newest = entries.first().and_then(|entry| entry.get("seq")?.as_i64());
            runtime()?.block_on(self.follow_until(filter.until_ms, newest, &lines))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Decisions, unless something else was asked for.
    fn only_decisions(&self) -> bool {
        !self.all && !self.selection.names_kind()
    }

    fn filter(&self) -> anyhow::Result<Filter> {
        let filter = Filter { limit: Some(self.limit), ..self.selection.filter()? };
        Ok(if self.only_decisions() { filter.decisions() } else { filter })
    }

    fn query(&self) -> String {
        let mut pairs = self.selection.query();
        if self.only_decisions() {
            pairs.push("kind=decision".to_owned());
        }
        pairs.join("&")
    }

    async fn read_remote(&self) -> anyhow::Result<Vec<Value>> {
        let path = format!("/v1/audit?{}&limit={}", self.query(), self.limit);
        let answer = self.remote.client()?.get(&path).await?.context("docket does not know `/v1/audit`")?;
        Ok(answer.get("entries").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// Follows until the time after which nothing can match.
    async fn follow_until(
        &self,
        until_ms: Option<i64>,
        newest: Option<i64>,
        lines: &Lines,
    ) -> anyhow::Result<()> {
        let Some(until_ms) = until_ms else { return self.follow(newest, lines).await };
        let left_ms = until_ms.saturating_sub((system_clock().now_ms)());
        let Some(left_ms) = u64::try_from(left_ms).ok().filter(|left_ms| *left_ms > 0) else { return Ok(()) };
        let over = Duration::from_millis(left_ms.saturating_add(LATE_MS));
        tokio::time::timeout(over, self.follow(newest, lines)).await.unwrap_or(Ok(()))
    }

    /// Prints events until docket or the reader of the output goes away. A stream that breaks off is taken up where it was.
    async fn follow(&self, newest: Option<i64>, lines: &Lines) -> anyhow::Result<()> {
        let client = self.remote.client()?;
        let path = format!("/v1/audit/stream?{}", self.query());
        let (mut last, mut tries) = (newest.unwrap_or(-1), 0);
        loop {
            let before = last;
            match client.open(&path, &[("last-event-id", &last.to_string())]).await {
                Ok(response) if response.status() != StatusCode::OK => {
                    let body = response.into_body().collect().await?.to_bytes();
                    bail!("{}", refusal(&serde_json::from_slice(&body).unwrap_or_default()));
                }
                Ok(response) => lines.print_events(response.into_body(), &mut last).await?,
                Err(error) if tries >= MAX_TRIES => return Err(error),
                Err(_) => {}
            }
            tries = if last > before { 0 } else { tries + 1 };
            if tries >= MAX_TRIES {
                bail!("the stream ended: docket has stopped");
            }
            tokio::time::sleep(Duration::from_millis(AGAIN_MS)).await;
        }
    }
}

/// Entries as they are printed: in a table, or as JSON, one a line.
struct Lines {
    table: Option<Table>,
}

impl Lines {
    /// Prints what there is, newest last, where the next line will appear.
    fn begin(&self, entries: &[Value]) -> anyhow::Result<()> {
        if let Some(table) = &self.table {
            writeln!(std::io::stdout().lock(), "{}", table.head())?;
        }
        entries.iter().rev().try_for_each(|entry| self.print_one(entry))
    }

    fn print_one(&self, entry: &Value) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        match &self.table {
            Some(table) => writeln!(out, "{}", table.row(entry, &render::Paint::stdout()))?,
            None => writeln!(out, "{entry}")?,
        }
        out.flush()?;
        Ok(())
    }

    async fn print_events(&self, mut body: hyper::body::Incoming, last: &mut i64) -> anyhow::Result<()> {
        let mut buffer = Vec::new();
        let mut event = Vec::new();
        while let Some(frame) = body.frame().await {
            // What broke off is taken up again.
            let Ok(frame) = frame else { return Ok(()) };
            let Ok(data) = frame.into_data() else { continue };
            buffer.extend_from_slice(&data);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                if let Some(id) = line.strip_prefix(b"id: ") {
                    *last = String::from_utf8_lossy(id).trim().parse().unwrap_or(*last);
                } else if let Some(name) = line.strip_prefix(b"event: ") {
                    event = name.to_vec();
                } else if let Some(data) = line.strip_prefix(b"data: ") {
                    let data = serde_json::from_slice(data)?;
                    if event.is_empty() {
                        self.print_one(&data)?;
                    } else {
                        let error = render::field(&data, "error");
                        if event.trim_ascii() == b"reset" {
                            eprintln!("docket: warning: {error}");
                        } else {
                            eprintln!("docket cannot go on with the stream yet: {error}");
                        }
                    }
                } else if line == b"\n" {
                    event.clear();
                }
            }
        }
        Ok(())
    }
}
