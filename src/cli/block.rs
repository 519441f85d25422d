//! `docket block` and `docket unblock`: the emergency stop, from the next call on.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::client::encode;
use super::place::{Place, lines};
use super::{EXIT_NOT_FOUND, render};

/// Where a running docket has its blocks, and the member of its answer.
const PATH: &str = "/v1/blocks";
const MEMBER: &str = "blocks";

/// Subcommands of `docket block`.
#[derive(Debug, Subcommand)]
pub enum Block {
    /// Stop every call of an agent.
    Agent(Named),
    /// Stop every call to a configured server.
    Server(Named),
    /// Stop every call.
    All(Everything),
    /// List what is stopped.
    List(List),
}

/// Arguments of `docket block agent` and `docket block server`.
#[derive(Debug, Args)]
pub struct Named {
    /// Its name, as the configuration has it.
    name: String,
    #[command(flatten)]
    how: How,
}

/// Arguments of `docket block all`.
#[derive(Debug, Args)]
pub struct Everything {
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// How long, as `15m`, `1h` or `7d` [default: until it is released].
    #[arg(long = "for", value_name = "TIME")]
    lasts: Option<String>,
    /// Why; it is recorded, and agents are told.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    place: Place,
}

/// Arguments of `docket block list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    place: Place,
}

/// Arguments of `docket unblock`.
#[derive(Debug, Args)]
pub struct Unblock {
    /// `agent`, `server` or `all`, or the id of one block as `docket block list` shows it.
    what: String,
    /// The agent or server.
    name: Option<String>,
    /// Why; it is recorded.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    place: Place,
}

impl Block {
    /// Runs the command.
    ///
    /// # Errors
    /// docket cannot be reached or refuses, or its ledger cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Agent(Named { name, how }) => how.add("agent", json!(name)),
            Self::Server(Named { name, how }) => how.add("server", json!(name)),
            Self::All(Everything { how }) => how.add("all", json!(true)),
            Self::List(List { place }) => {
                let blocks = place.list(PATH, MEMBER)?;
                place.print(&json!(blocks), || lines(&blocks, line, "nothing is blocked"))?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl How {
    fn add(self, member: &str, value: Value) -> anyhow::Result<ExitCode> {
        let mut body = Map::new();
        body.insert(member.into(), value);
        body.insert("reason".into(), self.reason.into());
        if let Some(lasts) = self.lasts {
            body.insert("for".into(), lasts.into());
        }
        let answer = self.place.change(PATH, &Value::Object(body))?.map_err(anyhow::Error::msg)?;
        let warning = render::field(&answer, "warning");
        if !warning.is_empty() {
            eprintln!("docket: warning: {warning}");
        }
        self.place.print(&answer, || format!("blocked: {}", line(&answer)))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Unblock {
    /// Runs the command: exit code 3 where nothing of the kind is blocked.
    ///
    /// # Errors
    /// docket cannot be reached or refuses, or its ledger cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let named = |name: &str| self.name.as_deref() == Some(name);
        match (self.what.as_str(), &self.name) {
            ("agent" | "server", None) => bail!("say which {}: `docket unblock {0} NAME`", self.what),
            ("agent" | "server", Some(_)) | (_, None) => {}
            (_, Some(_)) => bail!("only `agent` and `server` have a name; leave it out"),
        }
        let meant = |block: &Value| match self.what.as_str() {
            "all" => render::field(block, "what") == "all",
            what @ ("agent" | "server") => {
                render::field(block, "what") == what && named(&render::field(block, "name"))
            }
            id => render::field(block, "block_id") == id,
        };
        let found: Vec<Value> = self.place.list(PATH, MEMBER)?.into_iter().filter(meant).collect();
        if found.is_empty() {
            eprintln!("docket: nothing of the kind is blocked; `docket block list` lists what is");
            return Ok(ExitCode::from(EXIT_NOT_FOUND));
        }
        let mut released = Vec::new();
        for block in found {
            let path = format!("{PATH}/{}/release", encode(&render::field(&block, "block_id")));
            // What is not there any more ended meanwhile.
            released.extend(self.place.change(&path, &json!({"reason": self.reason}))?.ok());
        }
        self.place.print(&json!(released), || {
            lines(&released, |block| format!("released: {}", line(block)), "it ended meanwhile")
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn line(block: &Value) -> String {
    let text = |name: &str| render::field(block, name);
    let until = match text("until") {
        until if until.is_empty() => "until it is released".to_owned(),
        until => format!("until {until}"),
    };
    let name = text("name");
    let what = if name.is_empty() { text("what") } else { format!("{} {name}", text("what")) };
    format!("{}  {what}  {until}  by {}: {}", text("block_id"), text("principal"), text("reason"))
}
