//! `docket config`: what is in force, and whether it holds.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::EXIT_FINDINGS;
use crate::config::{Flags, Raw};

/// Subcommands of `docket config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print the configuration in force as TOML: file, environment and defaults. Header values are not shown.
    Show(File),
    /// Check the configuration and say everything that is wrong with it.
    Check(File),
}

/// Which configuration.
#[derive(Debug, Args)]
pub struct File {
    /// The configuration file [default: ./docket.toml if present].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Config {
    /// Runs the command.
    ///
    /// # Errors
    /// The configuration cannot be printed.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let (Self::Show(file) | Self::Check(file)) = &self;
        let raw = match Raw::read(file.config.as_deref(), &Flags::default()) {
            Ok(raw) => raw,
            Err(error) => return Ok(findings(&error)),
        };
        match self {
            Self::Show(_) => {
                let mut shown = raw;
                for value in shown.servers.values_mut().flat_map(|server| server.headers.values_mut()) {
                    "[redacted]".clone_into(value);
                }
                print!("{}", toml::to_string(&shown).context("cannot print the configuration")?);
            }
            Self::Check(_) => {
                let config = match raw.validate() {
                    Ok(config) => config,
                    Err(error) => return Ok(findings(&error)),
                };
                println!(
                    "the configuration holds: {} servers, {} agents, data plane {}, admin plane {}",
                    config.servers.len(),
                    config.agents.len(),
                    config.data.listen,
                    config.admin.listen
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn findings(error: &crate::config::ConfigError) -> ExitCode {
    for line in &error.0 {
        eprintln!("docket: {line}");
    }
    ExitCode::from(EXIT_FINDINGS)
}
