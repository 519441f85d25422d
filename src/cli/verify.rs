//! `docket verify`: is the ledger what it was, entry by entry?

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::progress::Progress;
use super::{EXIT_FINDINGS, checkpoint, prove, readable, system_clock};
use crate::config::{Flags, Raw};
use crate::ledger::bundle;
use crate::ledger::filter::parse_time;
use crate::ledger::verify::{self, Report};
use crate::tlog::VerifierKey;

/// Arguments of `docket verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The ledger file [default: the configured one]. A running docket is not disturbed.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// The verifier key, as `docket ledger key` printed it once [default: the public half of the ledger's key file].
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
    /// A checkpoint that was kept where the ledger's operator could not change it.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Only entries from this time on: RFC 3339, a date, or how long ago (`15m`, `24h`, `7d`).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Verify an evidence bundle of `docket prove` instead; no ledger is needed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ledger", "checkpoint", "since", "config"])]
    bundle: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// The configuration to take the ledger's path from [default: ./docket.toml if present].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Verify {
    /// Runs the command: exit code 0 where everything holds, 1 where something fails.
    ///
    /// # Errors
    /// The ledger, the key or the old checkpoint cannot be read.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let report = self.report()?;
        print(&report, self.json)?;
        Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FINDINGS) })
    }

    fn report(&self) -> anyhow::Result<Report> {
        let read_key = |key: &String| VerifierKey::parse(key).with_context(|| format!("`{key}`"));
        if let Some(file) = &self.bundle {
            let key = self.key.as_ref().map(read_key).transpose()?;
            return Ok(bundle::verify(&prove::read(file)?, key.as_ref()));
        }
        let (ledger, key_file) = if let Some(ledger) = &self.ledger {
            (ledger.clone(), None)
        } else {
            let configured = Raw::read(self.config.as_deref(), &Flags::default())?.validate()?.ledger;
            (configured.path, configured.key_file)
        };
        let readable = readable(&ledger)?;
        let key = match &self.key {
            Some(key) => read_key(key)?,
            None => checkpoint::of_file(&ledger, key_file.as_deref(), &readable.reader())?,
        };
        let now_ms = (system_clock().now_ms)();
        let since_ms = self.since.as_deref().map(|since| parse_time(since, now_ms));
        let options = verify::Options {
            key,
            old_checkpoint: self.checkpoint.as_deref().map(read).transpose()?,
            since_ms: since_ms.transpose().map_err(anyhow::Error::msg)?,
            now_ms,
        };
        let progress = Progress::new("verifying entries");
        let mut report =
            verify::ledger(readable.path(), &options, &mut |done, total| progress.show(done, total))?;
        report.warnings.extend(readable.note());
        Ok(report)
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("checkpoint `{}` cannot be read", file.display()))
}

/// Prints a report: JSON, or a line for each verdict.
pub fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(report)?)?;
        return Ok(());
    }
    for verdict in &report.verdicts {
        let word = if verdict.ok { "ok  " } else { "FAIL" };
        let place = verdict.first_failure.as_ref().map_or_else(String::new, |place| format!("{place}: "));
        writeln!(out, "{word}  {:<15} {place}{}", verdict.check, verdict.detail)?;
    }
    for warning in &report.warnings {
        writeln!(out, "note  {warning}")?;
    }
    let word = if report.ok { "verified" } else { "NOT verified" };
    writeln!(out, "{word}: {} entries", report.entries)?;
    Ok(())
}
