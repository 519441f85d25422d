//! `docket policy cover`: which rules of a policy set fire over recorded traffic, and which never do.

use std::io::{BufWriter, Write as _};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use serde_json::Value;

use super::candidate::Candidate;
use super::client::runtime;
use super::progress::Progress;
use super::selection::Selection;
use super::{Remote, render};
use crate::ledger::Reader;
use crate::policy;
use crate::replay::{Event, Traffic};

/// Arguments of `docket policy cover`.
#[derive(Debug, Args)]
pub struct Cover {
    #[command(flatten)]
    candidate: Candidate,
    #[command(flatten)]
    selection: Selection,
    /// Only the newest so many decisions.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Only the rules that never fired.
    #[arg(long)]
    never: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Cover {
    /// Runs the command.
    ///
    /// # Errors
    /// docket cannot be reached, or ledger or policies cannot be read.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let progress = Progress::new("looking through calls");
        let covered = match &self.remote.ledger {
            Some(_) => self.look_here(&progress)?,
            None => runtime()?.block_on(self.ask(&progress))?,
        };
        drop(progress);
        let mut out = BufWriter::new(std::io::stdout().lock());
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&covered)?)?;
        } else {
            write!(out, "{}", as_text(&covered, self.never))?;
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    /// Reads a ledger file and evaluates here.
    fn look_here(&self, progress: &Progress) -> anyhow::Result<Value> {
        let reader: Reader = self.remote.reader()?;
        let set = self.candidate.load(self.remote.address.config.as_deref())?;
        let cover =
            policy::Cover::new(&set).map_err(|error| anyhow!("the policies cannot be watched: {error}"))?;
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let traffic =
            Traffic { reader: &reader, filter: self.selection.filter()?, newest: self.limit, threads };
        let covered = traffic.cover(&cover, |event| {
            if let Event::Progress(done, of) = event {
                progress.show(done, of);
            }
            true
        })?;
        Ok(serde_json::to_value(covered)?)
    }

    /// Asks a running docket.
    async fn ask(&self, progress: &Progress) -> anyhow::Result<Value> {
        let mut body = self.selection.members();
        body.extend(self.limit.map(|limit| ("limit".to_owned(), limit.into())));
        body.extend(self.candidate.members()?);
        let lines = self.remote.client()?.lines("/v1/cover", body, progress, |_| true).await?;
        lines.ok_or_else(|| anyhow!("docket broke off"))
    }
}

fn as_text(covered: &Value, never: bool) -> String {
    use std::fmt::Write as _;
    let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "policies  {}", render::field(covered, "manifest_sha"));
    let _ = writeln!(text, "calls     {}", number(covered, "replayed"));
    for (why, count) in covered.get("skipped").and_then(Value::as_object).into_iter().flatten() {
        let _ = writeln!(text, "skipped   {count}: {why}");
    }
    let rules = covered.get("rules").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let silent = rules.iter().filter(|rule| number(rule, "fired") == 0).count();
    let _ = writeln!(text, "rules     {} of {} never fired", silent, rules.len());
    let mut file = String::new();
    for rule in rules.iter().filter(|rule| !never || number(rule, "fired") == 0) {
        let own = render::field(rule, "file");
        if own != file {
            let _ = writeln!(text, "\n{own}");
            file = own;
        }
        let policy = render::field(rule, "policy_id");
        let name = render::field(rule, "rule");
        let name = if policy.is_empty() { name } else { format!("{policy}/{name}") };
        let fired = match number(rule, "fired") {
            0 => "never".to_owned(),
            fired => fired.to_string(),
        };
        let _ = writeln!(text, "  {fired:>9}  {:>4}: {name}", number(rule, "line"));
    }
    text
}
