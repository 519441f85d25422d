//! `docket ledger backup`: a verified copy of the ledger, also while docket writes to it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use indicatif::HumanBytes;
use serde_json::json;

use super::progress::Progress;
use super::{EXIT_FINDINGS, checkpoint, open, system_clock, verify};
use crate::config::{Flags, Raw};
use crate::ledger::backup::{self, Phase};
use crate::ledger::key;
use crate::tlog::VerifierKey;

/// Arguments of `docket ledger backup`.
#[derive(Debug, Args)]
pub struct Backup {
    /// Where the copy goes. It is readable to its owner only.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace a file that exists.
    #[arg(long)]
    force: bool,
    /// The ledger file [default: the configured one]. A running docket is not disturbed.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// The verifier key to verify the copy with [default: the public half of the ledger's key file].
    #[arg(long, value_name = "VKEY")]
    key: Option<String>,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
    /// The configuration to take the ledger's path from [default: ./docket.toml if present].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Backup {
    /// Runs the command: exit code 1 where the copy does not verify; there is no copy then.
    ///
    /// # Errors
    /// The ledger or its key cannot be read, or the file exists, is in use or cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let (ledger, key_file) = if let Some(ledger) = &self.ledger {
            (ledger.clone(), None)
        } else {
            let configured = Raw::read(self.config.as_deref(), &Flags::default())?.validate()?.ledger;
            (configured.path, configured.key_file)
        };
        let verifier = match &self.key {
            Some(key) => VerifierKey::parse(key).with_context(|| format!("`{key}`"))?,
            None => checkpoint::of_file(&ledger, key_file.as_deref(), &open(&ledger)?)?,
        };
        let now_ms = (system_clock().now_ms)();
        let mut under_way = (Phase::Copying, Progress::new("copying pages"));
        let done =
            backup::backup(&ledger, &self.file, self.force, &verifier, now_ms, &mut |phase, done, total| {
                if phase != under_way.0 {
                    under_way = (phase, Progress::new("verifying entries"));
                }
                under_way.1.show(done, total);
            });
        drop(under_way);
        let backup::Outcome { bytes, report } = done?;
        let shown = self.file.display().to_string();
        let key_file = key_file.unwrap_or_else(|| key::default_file(&ledger));
        if self.json {
            let outcome = json!({
                "file": shown, "bytes": bytes, "entries": report.entries, "verified": report.ok,
                "key_file_not_copied": key_file.display().to_string(), "verdicts": report.verdicts, "warnings": report.warnings,
            });
            writeln!(std::io::stdout().lock(), "{}", serde_json::to_string_pretty(&outcome)?)?;
        } else if report.ok {
            let (entries, size) = (report.entries, HumanBytes(bytes));
            writeln!(
                std::io::stdout().lock(),
                "copied and verified {entries} entries to `{shown}` ({size})"
            )?;
            eprintln!(
                "the signing key `{}` is not in the copy: keep a copy of it elsewhere, docket cannot go on without it",
                key_file.display()
            );
        } else {
            verify::print(&report, false)?;
        }
        if report.ok {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("docket: the copy does not verify and was removed; `docket verify` shows what is wrong");
        Ok(ExitCode::from(EXIT_FINDINGS))
    }
}
