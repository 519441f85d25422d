//! `docket completions SHELL`: what a shell needs to complete docket's commands.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

/// Arguments of `docket completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell. Put the output where it looks for completions: for bash into
    /// `~/.local/share/bash-completion/completions/docket`.
    shell: Shell,
}

impl Completions {
    /// Runs the command.
    ///
    /// # Errors
    /// Nothing can be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        // Into memory first: the generator takes a closed pipe for a reason to panic.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::Cli::command(), "docket", &mut script);
        std::io::stdout().lock().write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
