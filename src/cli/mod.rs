//! The command line: one file per command.
//!
//! Data goes to stdout, talk to stderr. Exit codes are stable: 0 for success, 1 where a command found what it looks
//! for mistakes in, 2 where it could not run, 3 where what was asked for does not exist.

mod block;
mod candidate;
mod check;
mod checkpoint;
mod client;
mod completions;
mod config;
mod cover;
mod eval;
mod events;
mod explain;
mod export;
mod get;
mod hook;
mod interrupt;
mod keeping;
mod ledger_backup;
mod ledger_stats;
mod meant;
mod open_files;
mod openapi;
mod part;
mod place;
mod policy;
mod progress;
mod prove;
mod records;
mod redact;
mod redactor;
mod reload;
mod render;
mod replay;
mod selection;
mod serve;
mod simulate;
mod starter;
mod stats;
mod table;
mod tail;
mod terminal;
mod test;
mod test_from;
mod token;
mod verify;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::ledger::{Readable, Reader};
use client::{Address, Client};
use progress::Progress;

pub use serve::{Running, start, system_clock};

/// A command found mistakes.
pub const EXIT_FINDINGS: u8 = 1;
/// A command could not run.
pub const EXIT_FAILED: u8 = 2;
/// What was asked for does not exist.
pub const EXIT_NOT_FOUND: u8 = 3;

/// A policy sidecar for AI agents: every tool call decided by Rego, recorded before it goes on, explained on demand.
///
/// Exit codes: 0 success, 1 mistakes were found, 2 could not run, 3 does not exist.
#[derive(Debug, Parser)]
#[command(name = "docket", version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar: the proxy and decision API for agents, the audit API for people.
    Serve(serve::Serve),
    /// Check a policy set: errors with file, line and column, and what would be right.
    Check(check::Check),
    /// Run the Rego tests of a policy set.
    Test(test::Test),
    /// Evaluate an expression over a policy set, its data and an input.
    Eval(eval::Eval),
    /// Look at policy sets.
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Explain a request: what was decided, by which policy in which version, and why.
    Explain(explain::Explain),
    /// Decide a call without recording it or calling any tool, and say why.
    Simulate(simulate::Simulate),
    /// Decide recorded calls again by a changed policy set: which decisions flip?
    Replay(replay::Replay),
    /// List the newest decisions, and follow new ones.
    Tail(tail::Tail),
    /// Print one entry.
    Get(get::Get),
    /// Traffic in numbers: allowed and denied over time, per server, by tool, policy and caller.
    Stats(stats::Stats),
    /// Write entries to a file: JSON, JSON Lines, CSV, or OPA's decision log.
    Export(export::Export),
    /// List the event types entries may have, and what each one says.
    Events(events::Events),
    /// Print the contract of the HTTP API: OpenAPI 3.1.
    Openapi(openapi::Openapi),
    /// Verify the ledger: every entry, the tree over them, and every signed checkpoint.
    Verify(verify::Verify),
    /// Write an evidence bundle: entries, policies and proofs for somebody who has only the ledger's public key.
    Prove(prove::Prove),
    /// Print the newest checkpoint: the signed head of the ledger's tree. Whoever keeps it can later show what was changed.
    Checkpoint(checkpoint::Print),
    /// Work with the ledger.
    #[command(subcommand)]
    Ledger(checkpoint::Ledger),
    /// Work with redaction hooks: WebAssembly components that say what to take away before anything is written.
    #[command(subcommand)]
    Hook(hook::Hook),
    /// Show what redaction leaves of a document, and what it takes from it, by which rule.
    Redact(redact::Redact),
    /// Show or check the configuration.
    #[command(subcommand)]
    Config(config::Config),
    /// Print a completion script for a shell.
    Completions(completions::Completions),
    /// Stop an agent, a server or everything, from the next call on.
    #[command(subcommand)]
    Block(block::Block),
    /// Let calls go on again.
    Unblock(block::Unblock),
    /// Work with tokens: of people for the admin plane, and of agents.
    #[command(subcommand)]
    Token(token::Token),
}

/// Where the client commands find the ledger.
#[derive(Clone, Debug, Args)]
pub struct Remote {
    #[command(flatten)]
    address: Address,
    /// Read a ledger file instead of asking a running docket; `--url` and `--token`, or what the environment says of them, are
    /// not used then.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

impl Remote {
    /// Asks a running docket.
    ///
    /// # Errors
    /// There is no address to ask at, or no token to ask with.
    fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.address)?.or_file())
    }

    /// Reads the ledger file that was named.
    ///
    /// # Errors
    /// There is none, or no such file.
    fn reader(&self) -> anyhow::Result<Reader> {
        let Some(file) = &self.ledger else { anyhow::bail!("`--ledger FILE` is missing") };
        open(file)
    }
}

/// Opens a ledger file to be read, whichever docket wrote it; says so where a copy is read.
fn readable(file: &Path) -> anyhow::Result<Readable> {
    if !file.exists() {
        anyhow::bail!("ledger `{}` does not exist", file.display());
    }
    // Most files are read where they are, and show nothing.
    let mut progress = None;
    let readable = Readable::open(file, &mut |done, total| {
        progress.get_or_insert_with(|| Progress::new("copying pages")).show(done, total);
    })?;
    drop(progress);
    if let Some(note) = readable.note() {
        eprintln!("docket: {note}");
    }
    Ok(readable)
}

/// Reads a ledger file, whichever docket wrote it.
fn open(file: &Path) -> anyhow::Result<Reader> {
    Ok(readable(file)?.reader())
}

/// Runs one command and answers its exit code.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        Command::Serve(serve) => serve.run(),
        Command::Check(check) => check.run(),
        Command::Test(test) => test.run(),
        Command::Eval(eval) => eval.run(),
        Command::Policy(policy) => policy.run(),
        Command::Explain(explain) => explain.run(),
        Command::Simulate(simulate) => simulate.run(),
        Command::Replay(replay) => replay.run(),
        Command::Tail(tail) => tail.run(),
        Command::Get(get) => get.run(),
        Command::Stats(stats) => stats.run(),
        Command::Export(export) => export.run(),
        Command::Events(events) => events.run(),
        Command::Openapi(openapi) => openapi.run(),
        Command::Completions(completions) => completions.run(),
        Command::Verify(verify) => verify.run(),
        Command::Prove(prove) => prove.run(),
        Command::Checkpoint(print) => print.run(),
        Command::Ledger(ledger) => ledger.run(),
        Command::Hook(hook) => hook.run(),
        Command::Redact(redact) => redact.run(),
        Command::Config(config) => config.run(),
        Command::Block(block) => block.run(),
        Command::Unblock(unblock) => unblock.run(),
        Command::Token(token) => token.run(),
    };
    result.unwrap_or_else(|error| {
        // A pipe whose reader has gone is no failure worth words: `docket tail | head` ends here.
        let broken_pipe = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
        if error.chain().any(|cause| cause.downcast_ref().is_some_and(broken_pipe)) {
            return ExitCode::SUCCESS;
        }
        eprintln!("docket: {error:#}");
        ExitCode::from(EXIT_FAILED)
    })
}
