//! `docket simulate`: what would be decided for a call, and why, without recording anything or calling any tool.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};

use super::candidate::Candidate;
use super::client::runtime;
use super::{EXIT_NOT_FOUND, Remote, open, render, system_clock};
use crate::call::{Call, Moment};
use crate::json;
use crate::ledger::filter::Scope;
use crate::policy::Limits;
use crate::replay::{Replayer, moment_of, put, simulate};

/// A call may have as many bytes as a request body.
const MAX_INPUT_BYTES: u64 = 8 * 1024 * 1024;

/// Arguments of `docket simulate`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("call").required(true).args(["input", "from"])))]
pub struct Simulate {
    /// The call as JSON (subject, action, resource, context), or `-` for standard input.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Start from the newest recorded decision with this request id.
    #[arg(long, value_name = "REQUEST_ID")]
    from: Option<String>,
    #[command(flatten)]
    candidate: Candidate,
    /// Change the call: a JSON pointer and a value, which is text where it is not JSON. May be repeated.
    #[arg(long = "set", value_name = "POINTER=VALUE")]
    edits: Vec<String>,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    /// Show every condition of every rule.
    #[arg(long)]
    trace: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Simulate {
    /// Runs the command.
    ///
    /// # Errors
    /// The call or the policies cannot be read, or docket cannot be reached.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let edits = self.edits.iter().map(|edit| parse_edit(edit)).collect::<anyhow::Result<Vec<_>>>()?;
        let online =
            self.remote.ledger.is_none() && (self.from.is_some() || self.remote.address.url().is_some());
        let Some(answer) = (if online { self.ask(edits)? } else { self.decide(edits)? }) else {
            let id = self.from.as_deref().unwrap_or_default();
            eprintln!("docket: no decision has request id `{id}`; `docket tail` lists the newest ones");
            return Ok(ExitCode::from(EXIT_NOT_FOUND));
        };
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&answer)?)?;
        } else {
            write!(out, "{}", render::simulated(&answer, &render::Paint::stdout()))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Asks a running docket.
    fn ask(&self, edits: Vec<(String, Value)>) -> anyhow::Result<Option<Value>> {
        let mut body = json!({"set": edits.into_iter().collect::<BTreeMap<_, _>>(), "trace": self.trace});
        let mut insert = |name: &str, value: Value| {
            if let Value::Object(fields) = &mut body {
                fields.insert(name.to_owned(), value);
            }
        };
        match &self.from {
            Some(id) => insert("from", id.clone().into()),
            None => insert("input", serde_json::to_value(self.read_call()?)?),
        }
        if let Value::Object(fields) = &mut body {
            fields.extend(self.candidate.members()?);
        }
        let client = self.remote.client()?;
        runtime()?.block_on(client.post("/v1/simulate", &body))
    }

    /// Decides here.
    fn decide(&self, edits: Vec<(String, Value)>) -> anyhow::Result<Option<Value>> {
        let reader = self.remote.ledger.as_deref().map(open).transpose()?;
        let replayer = reader.map(|reader| Replayer::new(reader, Limits::default()));
        let (mut call, mut recorded) = match (&self.from, &replayer) {
            (Some(id), Some(replayer)) => {
                let Some((call, moment, manifest)) =
                    replayer.recorded(id, &Scope::default()).map_err(|error| anyhow!(error))?
                else {
                    return Ok(None);
                };
                (call, Some((moment, manifest)))
            }
            _ => (self.read_call()?, None),
        };
        for (pointer, value) in edits {
            call = put(call, &pointer, value).map_err(|error| anyhow!(error))?;
        }
        let manifest = recorded.as_mut().map(|(_, manifest)| std::mem::take(manifest));
        let set = match (&replayer, manifest) {
            (Some(replayer), Some(manifest)) if !self.candidate.is_named() => replayer.set(&manifest)?,
            _ => Arc::new(self.candidate.load(self.remote.address.config.as_deref())?),
        };
        let clock = system_clock();
        let now = || Moment { call_id: clock.ulid(), time_ns: (clock.now_ms)().saturating_mul(1_000_000) };
        let moment = recorded.map_or_else(|| moment_of(&call, &now()), |(moment, _)| moment);
        Ok(Some(serde_json::to_value(simulate(&set, &call, &moment, self.trace))?))
    }

    fn read_call(&self) -> anyhow::Result<Call> {
        let Some(path) = &self.input else { bail!("`--from` needs a running docket or `--ledger FILE`") };
        let mut bytes = Vec::new();
        let (name, read) = if path.as_os_str() == "-" {
            ("standard input".to_owned(), std::io::stdin().take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes))
        } else {
            let name = format!("`{}`", path.display());
            let file = std::fs::File::open(path).with_context(|| format!("cannot read {name}"))?;
            (name, file.take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes))
        };
        read.with_context(|| format!("cannot read {name}"))?;
        if bytes.len() as u64 > MAX_INPUT_BYTES {
            bail!("{name} has more than {MAX_INPUT_BYTES} bytes");
        }
        json::parse_as(&bytes).with_context(|| {
            format!(
                "{name} is not a call; it has `subject` and `resource` (each with `type` and `id`), `action` (with `name`) \
                 and perhaps `context`"
            )
        })
    }
}

/// `POINTER=VALUE`, the value JSON or else text.
fn parse_edit(edit: &str) -> anyhow::Result<(String, Value)> {
    let Some((pointer, value)) = edit.split_once('=').filter(|(pointer, _)| pointer.starts_with('/')) else {
        bail!("`--set {edit}` is not `POINTER=VALUE`, as in `--set /context/arguments/path=/tmp/x`");
    };
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((pointer.to_owned(), value))
}
