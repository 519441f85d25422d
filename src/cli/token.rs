//! `docket token`: tokens of agents, which the configuration knows by their SHA-256 only.

use std::io::{IsTerminal as _, Read as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

use super::system_clock;
use crate::identity;

/// Subcommands of `docket token`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Print the SHA-256 that `agents.NAME.token_sha256` takes. Reads the token from standard input.
    Hash(Hash),
    /// Mint a token: prints it once, with the SHA-256 for the configuration.
    New,
}

/// Arguments of `docket token hash`.
#[derive(Debug, Args)]
pub struct Hash {
    /// The token; better piped in, since arguments show in process lists and shell histories.
    token: Option<String>,
}

impl Token {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no token to hash.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Hash(Hash { token }) => {
                let token = match token {
                    Some(token) => token,
                    None => read_token()?,
                };
                println!("{}", hex::encode(identity::digest_of(&token)));
            }
            Self::New => {
                let token = identity::mint(&system_clock());
                println!("{token}");
                println!("token_sha256 = \"{}\"", hex::encode(identity::digest_of(&token)));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn read_token() -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        eprintln!("docket: type the token, then Enter and Ctrl-D");
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read the token from standard input")?;
    let token = text.trim();
    if token.is_empty() {
        bail!(
            "there is no token on standard input; pipe one in, as `printf %s \"$TOKEN\" | docket token hash`"
        );
    }
    Ok(token.to_owned())
}
