//! `docket stats`: traffic in numbers, with bars on a terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use indicatif::HumanCount;

use super::client::{encode, runtime};
use super::render::{Paint, duration, shortened};
use super::selection::Everything;
use super::{Remote, system_clock};
use crate::api::summary;
use crate::ledger::rollup::{Bucket, Counted, Named, Percentiles, Summary};

/// Characters of a full bar.
const BAR: usize = 24;

/// Characters of a sparkline at most.
const SPARKS: usize = 60;

/// Arguments of `docket stats`.
#[derive(Debug, Args)]
pub struct Stats {
    #[command(flatten)]
    selection: Everything,
    /// The length of a step of the time series, as `5m`, `1h` or `1d` [default: what makes at most 120 steps].
    #[arg(long, value_name = "SPAN")]
    bucket: Option<String>,
    /// Name so many of each: tools, policies, callers.
    #[arg(long, value_name = "N", default_value_t = 5)]
    top: usize,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Stats {
    /// Runs the command.
    ///
    /// # Errors
    /// docket cannot be reached, the ledger cannot be read, or a filter is malformed.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut pairs = self.selection.query();
        pairs.push(format!("top={}", self.top));
        pairs.extend(self.bucket.iter().map(|bucket| format!("bucket={}", encode(bucket))));
        let query = pairs.join("&");
        let summary: Summary = if self.remote.ledger.is_some() {
            let wanted = summary::wanted(&query, (system_clock().now_ms)()).map_err(anyhow::Error::msg)?;
            self.remote.reader()?.summary(&wanted)?
        } else {
            let answer =
                runtime()?.block_on(self.remote.client()?.get(&format!("/v1/audit/stats?{query}")))?;
            let answer = answer.context("docket does not know `/v1/audit/stats`")?;
            serde_json::from_value(answer).context("docket's answer is not statistics")?
        };
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&summary)?)?;
        } else {
            write!(out, "{}", text(&summary, std::io::stdout().is_terminal(), &Paint::stdout()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The figures for eyes. `drawn` says whether bars and sparklines help.
fn text(summary: &Summary, drawn: bool, paint: &Paint) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{} to {}", summary.since, summary.until);
    let counted = summary.counted;
    let _ = writeln!(text, "decisions    {}", counts(&counted));
    if counted.errors > 0 {
        let _ =
            writeln!(text, "errors       {} evaluations failed or took too long", HumanCount(counted.errors));
    }
    if !summary.outcomes.is_empty() {
        let each =
            summary.outcomes.iter().map(|(outcome, count)| format!("{outcome} {}", HumanCount(*count)));
        let _ = writeln!(text, "outcomes     {}", each.collect::<Vec<_>>().join(", "));
    }
    let _ = writeln!(text, "evaluation   {}", times(summary.evaluation_us));
    let _ = writeln!(text, "calls        {}", times(summary.duration_us));
    if drawn {
        let allowed: Vec<u64> = summary.series.iter().map(|bucket| bucket.allow).collect();
        let refused = summary.series.iter().map(|bucket| bucket.deny + bucket.require_approval).collect();
        for (name, values) in [("allow", allowed), ("deny", refused)] {
            let most = folded(&values).into_iter().max().unwrap_or(0);
            let _ = writeln!(text, "{name:<12} {}  at most {}", sparkline(&values), HumanCount(most));
        }
    } else {
        let _ = writeln!(text, "\n{:<24} {:>10} {:>10} {:>10}", "TIME", "ALLOW", "DENY", "APPROVAL");
        for bucket in
            summary.series.iter().filter(|bucket| bucket.allow + bucket.deny + bucket.require_approval > 0)
        {
            let Bucket { time, allow, deny, require_approval } = bucket;
            let _ = writeln!(text, "{time:<24} {allow:>10} {deny:>10} {require_approval:>10}");
        }
    }
    for server in &summary.servers {
        let name = server.server.as_deref().unwrap_or("(decision API)");
        let _ = writeln!(text, "\n{}  {}", paint.bold(name), counts(&server.counted));
        let _ = writeln!(
            text,
            "  evaluation {}; calls {}",
            times(server.evaluation_us),
            times(server.duration_us)
        );
        listed(&mut text, "tools", &server.tools, drawn, |named| named.count);
        listed(&mut text, "denied by", &server.denying_policies, drawn, |named| named.deny);
    }
    if !summary.callers.is_empty() {
        text.push('\n');
        listed(&mut text, "callers", &summary.callers, drawn, |named| named.count);
    }
    text
}

fn counts(counted: &Counted) -> String {
    let Counted { decisions, allow, deny, require_approval, .. } = *counted;
    let share =
        (allow * 100).checked_div(decisions).map_or_else(String::new, |share| format!(" ({share} %)"));
    format!(
        "{}: allow {}{share}, deny {}, approval {}",
        HumanCount(decisions),
        HumanCount(allow),
        HumanCount(deny),
        HumanCount(require_approval)
    )
}

fn times(percentiles: Percentiles) -> String {
    match (percentiles.p50, percentiles.p99) {
        (Some(p50), Some(p99)) => format!("p50 {}, p99 {}", duration(p50), duration(p99)),
        _ => "none".to_owned(),
    }
}

fn listed(text: &mut String, what: &str, named: &[Named], drawn: bool, count: impl Fn(&Named) -> u64) {
    let most = named.iter().map(&count).max().unwrap_or(0).max(1);
    for (at, one) in named.iter().enumerate() {
        let (what, name) =
            (if at == 0 { what } else { "" }, super::render::plain(&one.value.as_str().into()));
        let length = usize::try_from(count(one) * BAR as u64 / most).unwrap_or(0).max(1);
        let bar = if drawn { format!("  {}", "█".repeat(length)) } else { String::new() };
        let line = format!("  {what:<10} {:<32} {:>10}{bar}", shortened(&name, 32), count(one));
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// Neighbouring steps added up until there are no more than fit on a line.
fn folded(values: &[u64]) -> Vec<u64> {
    let size = values.len().div_ceil(SPARKS).max(1);
    values.chunks(size).map(|chunk| chunk.iter().sum()).collect()
}

fn sparkline(values: &[u64]) -> String {
    const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values = folded(values);
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    let level = |value: &u64| {
        let at = usize::try_from((value * 8).div_ceil(most)).unwrap_or(8);
        LEVELS.get(at).copied().unwrap_or('█')
    };
    values.iter().map(level).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparklines_show_the_least_too() {
        assert_eq!(sparkline(&[0, 1, 50, 100]), " ▁▄█");
        assert_eq!(sparkline(&[]), "");
        assert_eq!(sparkline(&vec![1; 600]).chars().count(), 60);
    }
}
