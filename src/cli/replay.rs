//! `docket replay`: recorded calls decided again by a changed policy set. Which decisions flip?

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::candidate::Candidate;
use super::client::runtime;
use super::progress::Progress;
use super::selection::Selection;
use super::{EXIT_FINDINGS, Remote, render};
use crate::decision::Effect;
use crate::replay::{Event, Traffic};
use crate::text::truncated;

/// Flips kept for the listing; what is beyond is counted.
const MAX_LISTED: usize = 100_000;
/// Flips listed under one heading unless all are wanted.
const MAX_A_GROUP: usize = 100;

/// As much of a call's arguments as a line shows, in bytes.
const MAX_ARGUMENTS_BYTES: usize = 80;

/// Arguments of `docket replay`.
#[derive(Debug, Args)]
pub struct Replay {
    #[command(flatten)]
    candidate: Candidate,
    #[command(flatten)]
    selection: Selection,
    /// Only the newest so many decisions.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Flips that are no reason to fail, as `allow:deny` (before:after); may be repeated, or separated by commas.
    #[arg(long, value_name = "BEFORE:AFTER", value_delimiter = ',', value_parser = parse_allowed)]
    allow_flips: Vec<String>,
    /// List every flip, however many there are of a kind.
    #[arg(long)]
    all: bool,
    /// Print JSON Lines: each flip as it is found, the totals at the end.
    #[arg(long)]
    json: bool,
    /// Threads that evaluate, with --ledger [default: as many as there are processors].
    #[arg(long, value_name = "N", requires = "ledger")]
    threads: Option<NonZeroUsize>,
    #[command(flatten)]
    remote: Remote,
}

impl Replay {
    /// Runs the command: 0 where no decision flips but those that may, 1 where one does.
    ///
    /// # Errors
    /// docket cannot be reached, or ledger or policies cannot be read.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut report = Report { json: self.json, ..Report::default() };
        let progress = Progress::new("replaying calls");
        let totals = match &self.remote.ledger {
            Some(_) => self.replay_here(&mut report, &progress)?,
            None => runtime()?.block_on(self.ask(&mut report, &progress))?,
        };
        drop(progress);
        if let Some(error) = report.failed {
            return Err(error.into());
        }
        let mut out = BufWriter::new(std::io::stdout().lock());
        if self.json {
            writeln!(out, "{totals}")?;
        } else {
            report.print(&totals, self.all, &mut out)?;
        }
        out.flush()?;
        let flips = totals.get("by_effect").and_then(Value::as_object);
        let unwanted = flips.into_iter().flatten().any(|(kind, _)| !self.allow_flips.contains(kind));
        Ok(if unwanted { ExitCode::from(EXIT_FINDINGS) } else { ExitCode::SUCCESS })
    }

    /// Reads a ledger file and decides here.
    fn replay_here(&self, report: &mut Report, progress: &Progress) -> anyhow::Result<Value> {
        let reader = self.remote.reader()?;
        let candidate = self.candidate.load(self.remote.address.config.as_deref())?;
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads = self.threads.unwrap_or_else(cores);
        let filter = self.selection.filter()?;
        let traffic = Traffic { reader: &reader, filter, newest: self.limit, threads };
        let totals = traffic.replay(&candidate, |event| match event {
            Event::Flip(flip) => report.take(json!(flip)),
            Event::Progress(done, of) => {
                progress.show(done, of);
                true
            }
        })?;
        Ok(serde_json::to_value(totals)?)
    }

    /// Asks a running docket.
    async fn ask(&self, report: &mut Report, progress: &Progress) -> anyhow::Result<Value> {
        let mut body = self.selection.members();
        body.extend(self.limit.map(|limit| ("limit".to_owned(), limit.into())));
        body.extend(self.candidate.members()?);
        let client = self.remote.client()?;
        let totals = client.lines("/v1/replay", body, progress, |flip| report.take(flip)).await?;
        Ok(totals.unwrap_or_default())
    }
}

/// What was found, for the end; or printed as it comes.
#[derive(Default)]
struct Report {
    json: bool,
    /// Flips by effect, deciding policy and rule, and tool.
    groups: BTreeMap<[String; 3], Vec<Value>>,
    counts: BTreeMap<[String; 3], u64>,
    kept: usize,
    failed: Option<std::io::Error>,
}

impl Report {
    /// Takes a flip; `false` where nobody reads what is printed.
    fn take(&mut self, flip: Value) -> bool {
        if self.json {
            if let Err(error) = writeln!(std::io::stdout(), "{flip}") {
                self.failed = Some(error);
                return false;
            }
            return true;
        }
        let effects = format!(
            "{} → {}",
            render::field(&flip, "/before/decision"),
            render::field(&flip, "/after/decision")
        );
        // What decides now is what the author changed; a default deny is nobody's, so what decided before is.
        let decides = [side(&flip, "after"), side(&flip, "before")];
        let by = decides.iter().find(|side| !side.starts_with("no policy")).cloned().unwrap_or_default();
        let key = [effects, by, render::field(&flip, "resource")];
        *self.counts.entry(key.clone()).or_default() += 1;
        if self.kept < MAX_LISTED {
            self.kept += 1;
            self.groups.entry(key).or_default().push(flip);
        }
        true
    }

    fn print(&self, totals: &Value, all: bool, out: &mut impl Write) -> std::io::Result<()> {
        let number = |name: &str| totals.get(name).and_then(Value::as_u64).unwrap_or(0);
        let members = |name: &str| {
            totals.get(name).and_then(Value::as_object).into_iter().flatten().collect::<Vec<_>>()
        };
        writeln!(out, "candidate    {}", render::field(totals, "manifest_sha"))?;
        writeln!(out, "calls        {}", number("calls"))?;
        writeln!(out, "unchanged    {}", number("unchanged"))?;
        writeln!(out, "flips        {}", number("flips"))?;
        for (kind, count) in members("by_effect") {
            writeln!(out, "  {}  {count}", kind.replace(':', " → "))?;
        }
        if number("failed") > 0 {
            writeln!(out, "failed       {}: a policy fails or takes too long, and denies", number("failed"))?;
        }
        writeln!(out, "exact        {}", number("exact"))?;
        writeln!(out, "approximate  {}", number("approximate"))?;
        for (path, count) in members("approximate_paths") {
            writeln!(out, "  {path} was redacted  {count}")?;
        }
        for (why, count) in members("skipped") {
            writeln!(out, "skipped      {count}: {why}")?;
        }
        let paint = render::Paint::stdout();
        for (key, flips) in &self.groups {
            let [effects, by, tool] = key;
            let count = self.counts.get(key).copied().unwrap_or(0);
            let heading = format!("{effects}  {by}  {tool}  {count}");
            writeln!(out, "\n{}", paint.bold(&heading))?;
            let shown = if all { usize::MAX } else { MAX_A_GROUP };
            for flip in flips.iter().take(shown) {
                let approximate = flip.get("approximate").and_then(Value::as_array);
                let mark = if approximate.is_none_or(Vec::is_empty) { "" } else { "  (approximate)" };
                let arguments = render::field(flip, "arguments");
                writeln!(
                    out,
                    "  {}  {}  {} → {}  {}{mark}",
                    render::field(flip, "occurred_at"),
                    render::field(flip, "request_id"),
                    side(flip, "before"),
                    side(flip, "after"),
                    truncated(&arguments, MAX_ARGUMENTS_BYTES),
                )?;
            }
            let left = count.saturating_sub(flips.len().min(shown) as u64);
            if left > 0 {
                writeln!(out, "  … and {left} more; `--all` lists them, `--json` says everything")?;
            }
        }
        Ok(())
    }
}

/// Who decided on one side: policies with their rules.
fn side(flip: &Value, side: &str) -> String {
    let names = |what: &str| -> BTreeSet<String> {
        let names = flip.pointer(&format!("/{side}/{what}")).and_then(Value::as_array);
        names.into_iter().flatten().map(render::text).collect()
    };
    let joined = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
    let (policies, rules) = (names("policies"), names("rules"));
    match (policies.is_empty(), rules.is_empty()) {
        (true, _) => format!("no policy ({})", joined(rules)),
        (false, true) => joined(policies),
        (false, false) => format!("{}/{}", joined(policies), joined(rules)),
    }
}

fn parse_allowed(text: &str) -> Result<String, String> {
    let effects = text.split_once(':').map(|(before, after)| (Effect::parse(before), Effect::parse(after)));
    let well_formed = matches!(effects, Some((Some(_), Some(_))));
    let wanted = "write `BEFORE:AFTER` of `allow`, `deny` and `require_approval`, as `allow:deny`";
    if well_formed { Ok(text.to_owned()) } else { Err(wanted.to_owned()) }
}
