//! Statistics: traffic in numbers, from rollups alone where there are some.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::blocks::{Blocks, covering};
use super::codes::{Tally, add};
use super::histogram::{Histogram, Percentiles};
use super::series::Series;
use super::sums::Sums;
use crate::clock::rfc3339;
use crate::ledger::filter::{Column, Filter, Order};

/// What is summed up, and how finely.
#[derive(Clone, Debug)]
pub struct SummaryWanted {
    /// Which entries. Decisions are counted, whatever else matches.
    pub filter: Filter,
    /// The length of a step of the time series, in milliseconds.
    pub bucket_ms: Option<i64>,
    /// How many of the most frequent are named, of each thing.
    pub top: usize,
    /// The present, where the series ends.
    pub now_ms: i64,
}

/// Decisions, by effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = DecisionCounts)]
pub struct Counted {
    /// All of them.
    pub decisions: u64,
    /// Allowed.
    pub allow: u64,
    /// Denied.
    pub deny: u64,
    /// Held for a person.
    pub require_approval: u64,
    /// Of all, those whose evaluation failed or took too long.
    pub errors: u64,
}

/// A value and how many decisions have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = CountedValue)]
pub struct Named {
    /// Name of the filter it is a value of.
    pub column: String,
    /// What the filter takes.
    pub value: String,
    /// Decisions that have it.
    pub count: u64,
    /// Of these, the denied.
    pub deny: u64,
}

/// Who called how often.
pub type Caller = Named;

/// One step of the time series.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = TimeStep)]
pub struct Bucket {
    /// When it begins: RFC 3339, UTC.
    pub time: String,
    /// Allowed.
    pub allow: u64,
    /// Denied.
    pub deny: u64,
    /// Held for a person.
    pub require_approval: u64,
}

/// One server; `null` for calls of the decision API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ServerStats)]
pub struct ServerSummary {
    /// Its configured name.
    pub server: Option<String>,
    /// Decisions about calls for it.
    #[serde(flatten)]
    pub counted: Counted,
    /// The most frequent tools.
    pub tools: Vec<Named>,
    /// The policies that denied most.
    pub denying_policies: Vec<Named>,
    /// Time spent in policies.
    pub evaluation_us: Percentiles,
    /// Time of forwarded calls, from arrival to the end of the answer.
    pub duration_us: Percentiles,
}

/// Traffic in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = TrafficStats)]
pub struct Summary {
    /// Where the time series begins: RFC 3339, UTC.
    pub since: String,
    /// Where it ends.
    pub until: String,
    /// Entries of any kind that match.
    pub entries: u64,
    /// Decisions among them.
    #[serde(flatten)]
    pub counted: Counted,
    /// Allowed decisions among all, from 0 to 1; `null` where there is none.
    pub allow_ratio: Option<f64>,
    /// Decisions by what became of the call.
    pub outcomes: BTreeMap<String, u64>,
    /// The length of a step, in milliseconds.
    pub bucket_ms: i64,
    /// Step after step, empty ones too.
    pub series: Vec<Bucket>,
    /// The busiest server first.
    pub servers: Vec<ServerSummary>,
    /// The most frequent tools of all servers.
    pub tools: Vec<Named>,
    /// The policies that denied most.
    pub denying_policies: Vec<Named>,
    /// The authenticated agents that called most.
    pub callers: Vec<Caller>,
    /// Time spent in policies.
    pub evaluation_us: Percentiles,
    /// Time of forwarded calls.
    pub duration_us: Percentiles,
}

/// What decisions are grouped by.
const COLUMNS: [Column; 5] = [Column::Server, Column::Tool, Column::Policy, Column::Agent, Column::Outcome];

/// Traffic in numbers.
pub(in crate::ledger) fn summary(
    connection: &Connection,
    wanted: &SummaryWanted,
) -> rusqlite::Result<Summary> {
    let filter = Filter { order: Order::Oldest, skip: 0, limit: None, ..wanted.filter.clone() };
    let segments = covering(connection, &filter)?;
    let mut series = Series::empty(connection, &segments, &filter, wanted)?;
    let mut blocks = Blocks::new(connection, &filter, &COLUMNS, true)?;
    let mut sums = Sums::default();
    blocks.each(&segments, |group| {
        let counted = sums.add(group);
        series.add(group, counted)
    })?;
    let Sums { entries, counted, servers, callers, outcomes } = sums;
    let (mut evaluations, mut durations) = (Histogram::default(), Histogram::default());
    let (mut tools, mut policies) = (Tally::default(), Tally::default());
    let mut shown = Vec::new();
    for (server, sums) in servers {
        evaluations.merge(&sums.evaluations);
        durations.merge(&sums.durations);
        sums.tools.iter().for_each(|(id, (count, deny))| add(&mut tools, *id, *count, *deny));
        sums.policies.iter().for_each(|(id, (count, deny))| add(&mut policies, *id, *count, *deny));
        let name = server.map(|id| blocks.text(id)).transpose()?.flatten();
        shown.push(ServerSummary {
            server: name,
            counted: sums.counted,
            tools: blocks.top(Column::Tool, &sums.tools, wanted.top, false)?,
            denying_policies: blocks.top(Column::Policy, &sums.policies, wanted.top, true)?,
            evaluation_us: sums.evaluations.percentiles(),
            duration_us: sums.durations.percentiles(),
        });
    }
    shown.sort_by(|a, b| b.counted.decisions.cmp(&a.counted.decisions).then_with(|| a.server.cmp(&b.server)));
    let mut by_outcome = BTreeMap::new();
    for (id, (count, _)) in &outcomes {
        if let Some(outcome) = blocks.text(*id)? {
            by_outcome.insert(outcome, *count);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a share for people to read")]
    let allow_ratio = (counted.decisions > 0).then(|| counted.allow as f64 / counted.decisions as f64);
    let end_ms = filter.until_ms.unwrap_or(wanted.now_ms).max(series.start_ms);
    Ok(Summary {
        since: rfc3339(filter.since_ms.unwrap_or(series.start_ms)),
        until: rfc3339(end_ms),
        entries,
        counted,
        allow_ratio,
        outcomes: by_outcome,
        bucket_ms: series.bucket_ms,
        series: series.shown(),
        servers: shown,
        tools: blocks.top(Column::Tool, &tools, wanted.top, false)?,
        denying_policies: blocks.top(Column::Policy, &policies, wanted.top, true)?,
        callers: blocks.top(Column::Agent, &callers, wanted.top, false)?,
        evaluation_us: evaluations.percentiles(),
        duration_us: durations.percentiles(),
    })
}
