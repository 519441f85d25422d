//! `docket stats`: traffic in numbers, with bars on a terminal.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use indicatif::HumanCount;

use super::client::{encode, runtime};
use super::render::{Paint, duration, in_line, plain, shortened};
use super::selection::Everything;
use super::{Remote, system_clock, terminal};
use crate::api::summary;
use crate::ledger::rollup::{Bucket, Counted, Named, Percentiles, Summary};

/// Characters of a full bar where there is room.
const BAR: usize = 24;

/// Characters of a sparkline at most.
const SPARKS: usize = 60;

/// Characters of a name where there is room.
const NAME: usize = 32;

/// Characters of a line of a list besides name and bar, and of a sparkline's line besides the sparks.
const AROUND_NAMES: usize = 26;
const AROUND_SPARKS: usize = 32;

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
            let layout = terminal::width().map(Layout::of);
            write!(out, "{}", text(&summary, layout, &Paint::stdout()))?;
            if summary.counted.decisions == 0 && std::io::stderr().is_terminal() {
                eprintln!("docket: no decisions match");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// How bars, names and sparklines share the width of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    bar: usize,
    name: usize,
    sparks: usize,
}

impl Layout {
    fn of(width: usize) -> Self {
        let left = width.saturating_sub(AROUND_NAMES);
        // A third for the bars: names say more.
        let bar = (left / 3).min(BAR);
        Self {
            bar,
            name: (left - bar).clamp(8, 2 * NAME),
            sparks: width.saturating_sub(AROUND_SPARKS).clamp(10, SPARKS),
        }
    }
}

/// The figures for eyes. Without a layout nobody looks at bars and sparklines, and nothing is cut.
fn text(summary: &Summary, layout: Option<Layout>, paint: &Paint) -> String {
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
    if let Some(Layout { sparks, .. }) = layout {
        let allowed: Vec<u64> = summary.series.iter().map(|bucket| bucket.allow).collect();
        let refused = summary.series.iter().map(|bucket| bucket.deny + bucket.require_approval).collect();
        for (name, values) in [("allow", allowed), ("deny", refused)] {
            let most = folded(&values, sparks).into_iter().max().unwrap_or(0);
            let _ = writeln!(text, "{name:<12} {}  at most {}", sparkline(&values, sparks), HumanCount(most));
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
        listed(&mut text, "tools", &server.tools, layout, |named| named.count);
        listed(&mut text, "denied by", &server.denying_policies, layout, |named| named.deny);
    }
    if !summary.callers.is_empty() {
        text.push('\n');
        listed(&mut text, "callers", &summary.callers, layout, |named| named.count);
    }
    text
}

fn counts(counted: &Counted) -> String {
    let Counted { decisions, allow, deny, require_approval, .. } = *counted;
    let rounded = (allow * 100 + decisions / 2).checked_div(decisions);
    let share = rounded.map_or_else(String::new, |share| format!(" ({share} %)"));
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

fn listed(
    text: &mut String,
    what: &str,
    named: &[Named],
    layout: Option<Layout>,
    count: impl Fn(&Named) -> u64,
) {
    let width = layout.map_or(NAME, |layout| layout.name);
    let most = named.iter().map(&count).max().unwrap_or(0).max(1);
    for (at, one) in named.iter().enumerate() {
        let (what, name) = (if at == 0 { what } else { "" }, in_line(&plain(&one.value.as_str().into())));
        let name = if layout.is_some() { shortened(&name, width) } else { name };
        let bar = layout.map_or_else(String::new, |layout| {
            let length = usize::try_from(count(one) * layout.bar as u64 / most).unwrap_or(0).max(1);
            format!("  {}", "█".repeat(length))
        });
        let line = format!("  {what:<10} {name:<width$} {:>10}{bar}", count(one));
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

/// Neighbouring steps added up until there are no more than so many.
fn folded(values: &[u64], most: usize) -> Vec<u64> {
    let size = values.len().div_ceil(most).max(1);
    values.chunks(size).map(|chunk| chunk.iter().sum()).collect()
}

fn sparkline(values: &[u64], most: usize) -> String {
    const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values = folded(values, most);
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
        assert_eq!(sparkline(&[0, 1, 50, 100], 60), " ▁▄█");
        assert_eq!(sparkline(&[], 60), "");
        assert_eq!(sparkline(&vec![1; 600], 60).chars().count(), 60);
    }

    #[test]
    fn lines_are_no_longer_than_the_terminal() {
        for width in [40, 60, 80, 120, 200] {
            let Layout { bar, name, sparks } = Layout::of(width);
            assert!(AROUND_NAMES + bar + name <= width, "{width}");
            assert!(width < 42 || AROUND_SPARKS + sparks <= width, "{width}");
        }
        assert_eq!(Layout::of(80), Layout { bar: 18, name: 36, sparks: 48 });
    }
}
