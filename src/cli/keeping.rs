//! `docket ledger prune`, `docket ledger erase` and `docket ledger hold`: what is kept, and what goes.
//!
//! A running docket is asked to do it; with `--ledger FILE` the command does so itself, on a ledger that no docket writes to.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

use super::client::{encode, runtime};
use super::place::{lines, print};
use super::redactor::{cache_beside, offline};
use super::words::Words;
use super::{EXIT_FINDINGS, EXIT_NOT_FOUND, Remote, open, render, system_clock};
use crate::config::{Flags, Raw};
use crate::ledger::filter::parse_time;
use crate::ledger::{Actor, Cut, Keeper, KeepingError, Ledger, Queue, Scope, Signing, prunable};

/// Arguments of `docket ledger prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Everything recorded before this time: RFC 3339, a date, or how long ago (`90d`).
    #[arg(long, value_name = "TIME")]
    before: String,
    /// Only entries of this tenant.
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,
    /// Only entries of this kind.
    #[arg(long, value_name = "KIND", value_parser = Words::prunable())]
    kind: Option<String>,
    /// Why; it is recorded.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    how: How,
}

/// Arguments of `docket ledger erase`.
#[derive(Debug, Args)]
pub struct Erase {
    /// The id that entries have as subject, user or agent. It is recorded as a salted digest only.
    #[arg(long, value_name = "ID")]
    subject: String,
    /// Why; it is recorded, and must not name the subject.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    how: How,
}

/// What commands that remove payloads have in common.
#[derive(Debug, Args)]
struct How {
    /// Say what would go, and change nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Place,
}

/// Where it is done, and how it is told.
#[derive(Debug, Args)]
struct Place {
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
    /// The signing key's file, with --ledger [default: the ledger's path with `.key` after it].
    #[arg(long, value_name = "FILE", requires = "ledger")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    remote: Remote,
}

/// Subcommands of `docket ledger hold`.
#[derive(Debug, Subcommand)]
pub enum Hold {
    /// Place a hold: until it is released, no sweep, prune or erasure touches these records.
    Add(Add),
    /// List the active holds.
    List(List),
    /// End a hold.
    Release(Release),
}

/// Arguments of `docket ledger hold add`.
#[derive(Debug, Args)]
pub struct Add {
    #[command(flatten)]
    what: What,
    /// Why; it is recorded.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Every entry of this request.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Every entry of this tenant.
    #[arg(long, value_name = "NAME")]
    zone: Option<String>,
    /// Every entry that has this id as subject, user or agent, with its calls' outcomes and traces.
    #[arg(long, value_name = "ID")]
    subject: Option<String>,
}

/// Arguments of `docket ledger hold list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    place: Place,
}

/// Arguments of `docket ledger hold release`.
#[derive(Debug, Args)]
pub struct Release {
    /// The hold, as `hold list` shows it.
    hold_id: String,
    /// Why; it is recorded.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    place: Place,
}

impl Prune {
    /// Runs the command.
    ///
    /// # Errors
    /// The time or the kind is none, the minimum retention would be undercut, docket cannot be reached, or the ledger cannot be
    /// written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let now_ms = (system_clock().now_ms)();
        let before_ms =
            parse_time(&self.before, now_ms).map_err(|error| anyhow::anyhow!("`--before`: {error}"))?;
        let kind = self.kind.as_deref().map(prunable).transpose();
        let kind = kind.map_err(|error| anyhow::anyhow!("`--kind`: {error}"))?;
        let How { dry_run, place } = self.how;
        let cut = Cut { kind, zone: self.zone.clone(), before_ms: Some(before_ms) };
        let body = json!({
            "before": crate::clock::rfc3339(before_ms), "zone": self.zone, "kind": self.kind, "reason": self.reason,
            "dry_run": dry_run,
        });
        let done = place.act("/v1/ledger/prune", &body, self.reason, async |keeper, actor| {
            keeper.prune(cut, actor, dry_run).await
        })?;
        place.print(&done.value, || summary(&done.value, ["pruned", "would prune"]))?;
        Ok(done.code)
    }
}

impl Erase {
    /// Runs the command: exit code 1 where the id still occurs in the file.
    ///
    /// # Errors
    /// The reason names the subject, docket cannot be reached, or the ledger cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let How { dry_run, place } = self.how;
        let body = json!({"subject": self.subject, "reason": self.reason, "dry_run": dry_run});
        let done = place.act("/v1/ledger/erase", &body, self.reason, async |keeper, actor| {
            keeper.erase(&self.subject, actor, dry_run).await
        })?;
        place.print(&done.value, || summary(&done.value, ["erased", "would erase"]))?;
        let remains = done.value.get("remains").filter(|remains| !remains.is_null());
        let is_left = remains.is_some_and(|remains| {
            remains.get("log_truncated") != Some(&Value::Bool(true))
                || remains.get("unused") != Some(&json!(0))
                || remains.get("places").and_then(Value::as_array).is_some_and(|places| !places.is_empty())
        });
        Ok(if is_left { ExitCode::from(EXIT_FINDINGS) } else { done.code })
    }
}

impl Hold {
    /// Runs the command.
    ///
    /// # Errors
    /// docket cannot be reached, or the ledger cannot be read or written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Add(add) => add.run(),
            Self::List(list) => list.run(),
            Self::Release(release) => release.run(),
        }
    }
}

impl Add {
    fn run(self) -> anyhow::Result<ExitCode> {
        let What { request_id, zone, subject } = self.what;
        let body = json!({"request_id": request_id, "zone": zone, "subject": subject, "reason": self.reason});
        let request_id = request_id.map(Scope::RequestId).or_else(|| zone.map(Scope::Zone));
        let scope = request_id.or_else(|| subject.map(Scope::Subject)).context("name what is to be held")?;
        let reason = Some(self.reason);
        let done = self
            .place
            .act("/v1/ledger/holds", &body, reason, async |keeper, actor| keeper.hold(scope, actor).await)?;
        self.place.print(&done.value, || {
            let hold_id = render::field(&done.value, "hold_id");
            let count = |name| done.value.pointer(name).and_then(Value::as_u64).unwrap_or(0);
            match (count("/covers/entries"), count("/covers/calls")) {
                (0, _) => format!(
                    "held: {hold_id}\nnothing that is recorded matches now; what comes later and matches is kept"
                ),
                (entries, calls) => format!(
                    "held: {hold_id}\nit keeps {entries} entries of {calls} calls now, and what comes later and matches"
                ),
            }
        })?;
        Ok(done.code)
    }
}

impl List {
    fn run(self) -> anyhow::Result<ExitCode> {
        let holds = if let Some(file) = &self.place.remote.ledger {
            json!(open(file)?.holds()?)
        } else {
            let client = self.place.remote.client()?;
            let answer = runtime()?.block_on(client.get("/v1/ledger/holds"))?;
            answer
                .and_then(|mut answer| answer.get_mut("holds").map(Value::take))
                .unwrap_or_else(|| json!([]))
        };
        let listed = || lines(holds.as_array().into_iter().flatten(), line, "nothing is held");
        self.place.print(&holds, listed)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Release {
    fn run(self) -> anyhow::Result<ExitCode> {
        let path = format!("/v1/ledger/holds/{}/release", encode(&self.hold_id));
        let body = json!({"reason": self.reason});
        let done = self.place.act(&path, &body, self.reason, async |keeper, actor| {
            keeper.release(&self.hold_id, actor).await
        })?;
        self.place.print(&done.value, || format!("released: {}", line(&done.value)))?;
        Ok(done.code)
    }
}

/// What came of a command.
struct Done {
    value: Value,
    code: ExitCode,
}

impl Place {
    /// Has a running docket do it, or does it here on a file.
    fn act<T: Serialize>(
        &self,
        path: &str,
        body: &Value,
        reason: Option<String>,
        here: impl AsyncFnOnce(&Keeper, &Actor) -> Result<T, KeepingError>,
    ) -> anyhow::Result<Done> {
        let done = |value| Done { value, code: ExitCode::SUCCESS };
        let missing = |what: String| {
            eprintln!("docket: {what}");
            Done { value: Value::Null, code: ExitCode::from(EXIT_NOT_FOUND) }
        };
        let runtime = runtime()?;
        let Some(file) = &self.remote.ledger else {
            let client = self.remote.client()?.patient();
            return Ok(runtime.block_on(client.change(path, body))?.map_or_else(missing, done));
        };
        let actor = Actor { principal: "command line".into(), reason, ..Actor::default() };
        runtime.block_on(async {
            let (ledger, keeper) = self.open(file)?;
            let result = here(&keeper, &actor).await;
            ledger.close().await;
            match result {
                Ok(value) => Ok(done(serde_json::to_value(value)?)),
                Err(error @ KeepingError::NoHold(_)) => Ok(missing(error.to_string())),
                Err(error) => Err(error.into()),
            }
        })
    }

    /// Opens a ledger as docket does, within the configured retention.
    fn open(&self, file: &Path) -> anyhow::Result<(Ledger, Keeper)> {
        if !file.exists() {
            bail!("there is no ledger `{}`", file.display());
        }
        let config = Raw::read(self.remote.address.config.as_deref(), &Flags::default())?.validate()?;
        let of_config = config.ledger.path == file;
        let signing = Signing {
            key_file: self.key_file.clone().or(config.ledger.key_file.clone().filter(|_| of_config)),
            origin: None,
            checkpoint_file: config.ledger.checkpoint_file.clone().filter(|_| of_config),
        };
        let clock = system_clock();
        let ledger = Ledger::open(file, Queue::default(), signing, clock)
            .context("leave out --ledger to ask a running docket instead")?;
        let cache = cache_beside(file, ledger.hook_cache_key());
        let redactor = Arc::new(offline(&config, ledger.hash_key(), Some(cache))?);
        let keeper = Keeper::new(ledger.clone(), redactor, clock, config.retention);
        Ok((ledger, keeper))
    }

    fn print(&self, value: &Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        if value.is_null() { Ok(()) } else { print(self.json, value, text) }
    }
}

/// What was removed, in words.
fn summary(done: &Value, [did, would]: [&str; 2]) -> String {
    let number = |name: &str| done.get(name).and_then(Value::as_u64).unwrap_or(0);
    let verb = if done.get("dry_run") == Some(&Value::Bool(true)) { would } else { did };
    let mut lines = vec![format!("{verb} {} payloads", number("removed"))];
    if number("skipped") > 0 {
        let holds = done.get("holds").and_then(Value::as_array).into_iter().flatten();
        let holds: Vec<&str> = holds.filter_map(Value::as_str).collect();
        lines.push(format!("kept {}, which are held ({})", number("skipped"), holds.join(", ")));
    }
    if number("in_flight") > 0 {
        lines.push(format!(
            "left {} calls that are under way; erase again once they have ended",
            number("in_flight")
        ));
    }
    if done.get("log_truncated") == Some(&Value::Bool(false)) {
        let why = "a reader keeps the write-ahead log, in which removed payloads still stand; prune again once it has gone";
        lines.push(why.into());
    }
    if let Some(remains) = done.get("remains") {
        let places: Vec<String> = remains
            .get("places")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(render::plain)
            .collect();
        lines.extend(places.iter().map(|place| format!("the id is still in {place}")));
        let unused = remains.get("unused").and_then(Value::as_u64).unwrap_or(0);
        if unused > 0 {
            lines.push(format!(
                "the id is still in unused bytes of the file, {unused} times; stop docket and `VACUUM` it"
            ));
        }
        if remains.get("log_truncated") != Some(&Value::Bool(true)) {
            lines.push(
                "the write-ahead log could not be truncated: a reader keeps it; docket tries again at its next sweep or start"
                    .into(),
            );
        } else if places.is_empty() && unused == 0 {
            lines.push("the id is nowhere in the file".into());
        }
    }
    lines.join("\n")
}

/// A hold in one line.
fn line(hold: &Value) -> String {
    let scope = ["request_id", "zone", "subject"].into_iter().find_map(|name| {
        let value = hold.get(name)?.as_str()?;
        Some(format!("{} {}", name.replace('_', " "), render::plain(&value.into())))
    });
    let field = |name: &str| render::field(hold, name);
    format!(
        "{}  since {}  {}  by {}: {}",
        field("hold_id"),
        field("since"),
        scope.unwrap_or_default(),
        field("principal"),
        field("reason")
    )
}
