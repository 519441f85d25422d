//! `docket ledger stats`: what the ledger holds and what it costs.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use indicatif::{HumanBytes, HumanCount};

use super::client::runtime;
use super::{Remote, open, system_clock};
use crate::ledger::stats;

/// Arguments of `docket ledger stats`.
#[derive(Debug, Args)]
pub struct Stats {
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Stats {
    /// Runs the command.
    ///
    /// # Errors
    /// docket cannot be reached, or the ledger cannot be read.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let stats = if let Some(file) = &self.remote.ledger {
            open(file)?.stats((system_clock().now_ms)())?
        } else {
            let client = self.remote.client()?;
            let answer = runtime()?.block_on(client.get("/v1/ledger/stats"))?;
            let answer = answer.context("docket does not know `/v1/ledger/stats`")?;
            serde_json::from_value(answer).context("docket's answer is not a ledger's figures")?
        };
        if self.json {
            writeln!(std::io::stdout().lock(), "{}", serde_json::to_string_pretty(&stats)?)?;
        } else {
            print(&stats)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print(stats: &stats::Stats) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let span = match (&stats.oldest, &stats.newest) {
        (Some(oldest), Some(newest)) => format!(", from {oldest} to {newest}"),
        _ => String::new(),
    };
    writeln!(out, "entries      {}{span}", HumanCount(stats.entries))?;
    let (files, each) = (stats.files, HumanBytes(stats.bytes_per_entry));
    writeln!(
        out,
        "files        database {}, log {}; {each} an entry",
        HumanBytes(files.database_bytes),
        HumanBytes(files.log_bytes)
    )?;
    let growth = stats.growth;
    writeln!(
        out,
        "growth       {} entries in the last day; {} a day on average, {}",
        HumanCount(growth.entries_last_day),
        HumanCount(growth.entries_per_day),
        HumanBytes(growth.bytes_per_day)
    )?;
    let newest = stats
        .checkpoints
        .newest_size
        .map_or_else(String::new, |size| format!(", the newest over {} entries", HumanCount(size)));
    writeln!(out, "checkpoints  {}{newest}", HumanCount(stats.checkpoints.count))?;
    writeln!(out, "\nspace")?;
    for part in stats.space.iter().filter(|part| part.bytes > 0) {
        let (what, share) = (&part.what, part.share * 100.0);
        writeln!(out, "  {what:<12} {share:5.1} %  {}", HumanBytes(part.bytes))?;
    }
    let about = if stats.sampled { " (from a sample)" } else { "" };
    writeln!(out, "\nkinds{about}{:>11}  bytes each: leaf, payload, tree", "")?;
    for kind in &stats.kinds {
        let name = &kind.kind;
        writeln!(
            out,
            "  {name:<10} {:>12}  {}, {}, {}",
            HumanCount(kind.entries).to_string(),
            kind.leaf_bytes,
            kind.payload_bytes,
            kind.tree_bytes
        )?;
    }
    Ok(())
}
