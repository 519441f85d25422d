//! `docket checkpoint` and `docket ledger key`: what an outsider has to hold to check this ledger later.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::client::runtime;
use super::{Remote, keeping, ledger_backup, ledger_stats, open};
use crate::ledger::{Reader, key};
use crate::tlog::{Checkpoint, VerifierKey};

/// Arguments of `docket checkpoint`.
#[derive(Debug, Args)]
pub struct Print {
    #[command(flatten)]
    remote: Remote,
}

impl Print {
    /// Runs the command.
    ///
    /// # Errors
    /// docket cannot be reached, the ledger cannot be read, or it has no checkpoint yet.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let note = if let Some(file) = &self.remote.ledger {
            open(file)?.checkpoint()?.with_context(|| {
                format!("ledger `{}` has no checkpoint yet; `docket serve` signs the first", file.display())
            })?
        } else {
            let client = self.remote.client()?;
            runtime()?.block_on(client.text("/v1/checkpoint"))?
        };
        std::io::stdout().lock().write_all(note.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Subcommands of `docket ledger`.
#[derive(Debug, Subcommand)]
pub enum Ledger {
    /// Print the verifier key of the ledger's checkpoints: keep it where the ledger's operator cannot change it.
    Key(Key),
    /// Remove payloads by age. Leaves, proofs and decisions stay; what was asked with which arguments goes.
    Prune(keeping::Prune),
    /// Remove everything recorded of a subject but its leaves, and check that its id is gone from the file.
    Erase(keeping::Erase),
    /// Keep records from being pruned or erased.
    #[command(subcommand)]
    Hold(keeping::Hold),
    /// What the ledger holds and costs: entries, bytes by kind and by use, growth, checkpoints.
    Stats(ledger_stats::Stats),
    /// Copy the ledger, also while docket writes to it, and verify the copy.
    Backup(ledger_backup::Backup),
}

/// Arguments of `docket ledger key`.
#[derive(Debug, Args)]
pub struct Key {
    /// The signing key's file, with --ledger [default: the ledger's path with `.key` after it].
    #[arg(long, value_name = "FILE", requires = "ledger")]
    key_file: Option<std::path::PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

impl Ledger {
    /// Runs the command.
    ///
    /// # Errors
    /// docket cannot be reached, the ledger or its key cannot be read, or the ledger cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Key(key) => key.run(),
            Self::Prune(prune) => prune.run(),
            Self::Erase(erase) => erase.run(),
            Self::Hold(hold) => hold.run(),
            Self::Stats(stats) => stats.run(),
            Self::Backup(backup) => backup.run(),
        }
    }
}

impl Key {
    fn run(self) -> anyhow::Result<ExitCode> {
        let key = if let Some(file) = &self.remote.ledger {
            of_file(file, self.key_file.as_deref(), &open(file)?)?.to_string()
        } else {
            let client = self.remote.client()?;
            let answer = runtime()?.block_on(client.get("/v1/ledger/key"))?;
            let key = answer.as_ref().and_then(|answer| answer.get("key")).and_then(Value::as_str);
            key.context("docket does not know `/v1/ledger/key`")?.to_owned()
        };
        writeln!(std::io::stdout().lock(), "{key}")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The verifier key of a ledger file: the public half of its key file, under the name its checkpoints have.
pub fn of_file(ledger: &Path, key_file: Option<&Path>, reader: &Reader) -> anyhow::Result<VerifierKey> {
    let default = key::default_file(ledger);
    let key_file = key_file.unwrap_or(&default);
    if !key_file.exists() {
        bail!(
            "there is no key file `{}`; pass the verifier key (`docket ledger key` prints it)",
            key_file.display()
        );
    }
    let note = reader.checkpoint()?;
    let origin = note
        .as_deref()
        .and_then(|note| Checkpoint::unverified(note).ok())
        .map(|checkpoint| checkpoint.origin);
    key::verifier(key_file, origin.as_deref()).with_context(|| format!("key file `{}`", key_file.display()))
}
