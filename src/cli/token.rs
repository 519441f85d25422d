//! `docket token`: tokens of people and programs, which a running docket keeps, and of agents, which the configuration knows.
//! Both are known by their SHA-256 only.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::encode;
use super::place::{Place, lines};
use super::words::Words;
use super::{EXIT_NOT_FOUND, render, system_clock};
use crate::config::{Flags, Raw};
use crate::identity;
use crate::ledger::filter::{parse_span, parse_time};

/// Subcommands of `docket token`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token, and print it: it is shown this once.
    Create(Create),
    /// List tokens: whose they are, and what those may see.
    List(List),
    /// End a token from the next request on, and what was begun with it.
    Revoke(Revoke),
    /// Give a token another role and scope.
    Role(Another),
    /// Put a new admin token into the token file. A running docket takes it up at once, and the old one is no good any more.
    ResetAdmin(ResetAdmin),
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

/// What a principal may do, and see.
#[derive(Debug, Args)]
struct Scope {
    /// A tenant it sees; may be given several times, and `*` is every one [default: `default`].
    #[arg(long = "zone", value_name = "NAME")]
    zones: Vec<String>,
    /// The team it sees, for a lead.
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
    /// The person it is, as decisions name it.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
}

/// Arguments of `docket token create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Whose it is; entries say so.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// What it may do.
    #[arg(long, value_name = "ROLE", value_parser = Words::roles())]
    role: String,
    #[command(flatten)]
    scope: Scope,
    /// When it ends: how long it lasts (`90d`), a date, or RFC 3339 [default: never].
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// Arguments of `docket token list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    place: Place,
}

/// Arguments of `docket token revoke`.
#[derive(Debug, Args)]
pub struct Revoke {
    /// Its name or id.
    name: String,
    #[command(flatten)]
    place: Place,
}

/// Arguments of `docket token role`.
#[derive(Debug, Args)]
pub struct Another {
    /// Its name or id.
    name: String,
    /// The role it is to have.
    #[arg(value_parser = Words::roles())]
    role: String,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    place: Place,
}

/// Arguments of `docket token reset-admin`.
#[derive(Debug, Args)]
pub struct ResetAdmin {
    /// The configuration that says where the token file is [default: ./docket.toml if present].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Token {
    /// Runs the command.
    ///
    /// # Errors
    /// There is no token to hash, docket cannot be reached or refuses, or a file cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create(create) => return create.run(),
            Self::List(List { place }) => {
                let tokens = place.list("/v1/tokens", "tokens")?;
                place
                    .print(&json!(tokens), || lines(&tokens, line, "there are no tokens but the admin's"))?;
            }
            Self::Revoke(Revoke { name, place }) => {
                let path = format!("/v1/tokens/{}/revoke", encode(&name));
                return change(&place, &path, &json!({}), "revoked");
            }
            Self::Role(Another { name, role, scope: Scope { zones, team, user }, place }) => {
                let path = format!("/v1/tokens/{}/role", encode(&name));
                let body = json!({"role": role, "zones": zones, "team": team, "user": user});
                return change(&place, &path, &body, "changed");
            }
            Self::ResetAdmin(ResetAdmin { config }) => {
                let file = Raw::read(config.as_deref(), &Flags::default())?.validate()?.token_file;
                let shown = file.display().to_string();
                identity::write(&file, &system_clock())
                    .with_context(|| format!("cannot write the admin token to `{shown}`"))?;
                println!("{shown}");
            }
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

impl Create {
    fn run(self) -> anyhow::Result<ExitCode> {
        let now_ms = (system_clock().now_ms)();
        let is_time = |text: &str| parse_span(text).is_some() || parse_time(text, now_ms).is_ok();
        if let Some(expires) = self.expires.as_deref().filter(|expires| !is_time(expires)) {
            bail!(
                "`--expires` is `{expires}`; write how long it lasts (`90d`, `12h`), or a time to come, as RFC 3339 \
                 (`2027-01-01T00:00:00Z`) or a date"
            );
        }
        let Scope { zones, team, user } = self.scope;
        let body = json!({
            "name": self.name, "role": self.role, "zones": zones, "team": team, "user": user, "expires": self.expires,
        });
        let answer = self.place.change("/v1/tokens", &body)?.map_err(anyhow::Error::msg)?;
        if !self.place.json {
            eprintln!("docket: {}", line(&answer));
            eprintln!("docket: this is the token, and it is shown this once:");
        }
        // The token alone on stdout, so that it can be piped to where it belongs.
        self.place.print(&answer, || render::field(&answer, "token"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Has a token changed, and says which.
fn change(place: &Place, path: &str, body: &Value, did: &str) -> anyhow::Result<ExitCode> {
    match place.change(path, body)? {
        Ok(token) => place.print(&token, || format!("{did}: {}", line(&token)))?,
        Err(missing) => {
            eprintln!("docket: {missing}");
            return Ok(ExitCode::from(EXIT_NOT_FOUND));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(token: &Value) -> String {
    let text = |name: &str| render::field(token, name);
    let zones: Vec<String> =
        token.get("zones").and_then(Value::as_array).into_iter().flatten().map(render::text).collect();
    let mut parts = vec![text("key_id"), text("name"), text("role"), format!("zone {}", zones.join(", "))];
    for (member, words) in [("team", "team"), ("user", "user"), ("expires", "until")] {
        let value = text(member);
        if !value.is_empty() {
            parts.push(format!("{words} {value}"));
        }
    }
    parts.join("  ")
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
