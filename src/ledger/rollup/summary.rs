//! Statistics and distinct values, from rollups alone where there are some.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::bits::{Bits, Mask, decode_numbers, decode_times};
use super::block::{Block, Digester, ValueId, Valued, ids_of};
use super::histogram::{Histogram, Percentiles};
use super::plan::{Segment, Terms, matching, segments};
use super::{BLOCK_SEQS, text_of};
use crate::clock::rfc3339;
use crate::ledger::filter::{Column, Filter, Order};

/// Steps of the time series, in milliseconds, from which one is chosen where none is asked for.
const STEPS_MS: [i64; 13] = [
    1_000,
    5_000,
    15_000,
    60_000,
    300_000,
    900_000,
    3_600_000,
    10_800_000,
    21_600_000,
    43_200_000,
    86_400_000,
    604_800_000,
    2_419_200_000,
];

/// As many steps there are at most where none is asked for.
const MAX_CHOSEN_STEPS: i64 = 120;

/// As many there may be at all.
pub const MAX_STEPS: i64 = 10_000;

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

/// How many decisions have a value, and how many of them were denied.
type Tally = HashMap<ValueId, (u64, u64)>;

fn add(tally: &mut Tally, id: ValueId, count: u64, deny: u64) {
    if count > 0 {
        let sums = tally.entry(id).or_default();
        sums.0 += count;
        sums.1 += deny;
    }
}

#[derive(Default)]
struct PerServer {
    counted: Counted,
    tools: Tally,
    policies: Tally,
    evaluations: Histogram,
    durations: Histogram,
}

/// What the effect masks of a block are, within what matches.
struct Effects {
    decisions: Mask,
    allow: Mask,
    deny: Mask,
    held: Mask,
    errors: Mask,
}

impl Effects {
    fn of(block: &Block, matching: &Mask, digester: &mut Digester) -> Self {
        let mut within = |column, text: &str, mask: &Mask| {
            let mut places = block.places(column, digester.id(column, text));
            places.keep(mask);
            places
        };
        let decisions = within(Column::Kind, "decision", matching);
        let mut errors = decisions.clone();
        errors.remove(&within(Column::Status, "complete", &decisions));
        Self {
            allow: within(Column::Decision, "allow", &decisions),
            deny: within(Column::Decision, "deny", &decisions),
            held: within(Column::Decision, "require_approval", &decisions),
            decisions,
            errors,
        }
    }

    fn count(&self, places: &Bits) -> Counted {
        Counted {
            decisions: self.decisions.count_with(places),
            allow: self.allow.count_with(places),
            deny: self.deny.count_with(places),
            require_approval: self.held.count_with(places),
            errors: self.errors.count_with(places),
        }
    }
}

impl Counted {
    fn add(&mut self, other: Self) {
        self.decisions += other.decisions;
        self.allow += other.allow;
        self.deny += other.deny;
        self.require_approval += other.require_approval;
        self.errors += other.errors;
    }
}

/// Reads block after block, and what of each matches. Numbers are decoded where `numbers` says so.
struct Blocks<'a> {
    connection: &'a Connection,
    filter: &'a Filter,
    columns: &'a [Column],
    numbers: bool,
    digester: Digester,
    /// What the ids of blocks without entries in rollups stand for.
    texts: HashMap<ValueId, (Column, String)>,
}

impl<'a> Blocks<'a> {
    fn new(
        connection: &'a Connection,
        filter: &'a Filter,
        columns: &'a [Column],
        numbers: bool,
    ) -> rusqlite::Result<Self> {
        let digester = Digester::of(connection)?;
        Ok(Self { connection, filter, columns, numbers, digester, texts: HashMap::new() })
    }

    fn each(
        &mut self,
        segments: &[Segment],
        mut with: impl FnMut(&Block, &Mask, (i64, i64), &mut Digester),
    ) -> rusqlite::Result<()> {
        let terms = Terms::of(self.connection, &mut self.digester, self.filter)?;
        for segment in segments {
            match *segment {
                Segment::Entries(first, last) => {
                    let mut next = first;
                    while next <= last {
                        let end = last.min(next + BLOCK_SEQS - 1);
                        let mut block = Block::read(self.connection, &mut self.digester, next, end)?;
                        let mask = terms.read(self.filter, &block)?;
                        self.texts.extend(std::mem::take(&mut block.texts));
                        let first_ms = block.times.iter().min().copied().unwrap_or(0);
                        let last_ms = block.times.iter().max().copied().unwrap_or(0);
                        with(&block, &mask, (first_ms, last_ms), &mut self.digester);
                        next = end + 1;
                    }
                }
                Segment::Stored(number, first_ms, last_ms) => {
                    let mask = terms.stored(self.connection, self.filter, (number, first_ms, last_ms))?;
                    if !mask.is_empty() {
                        let block = self.stored(number, first_ms)?;
                        with(&block, &mask, (first_ms, last_ms), &mut self.digester);
                    }
                }
            }
        }
        Ok(())
    }

    fn stored(&self, number: i64, first_ms: i64) -> rusqlite::Result<Block> {
        let mut block = Block {
            first_seq: number * BLOCK_SEQS,
            times: Vec::new(),
            evaluations: Vec::new(),
            durations: Vec::new(),
            values: Vec::new(),
            texts: HashMap::new(),
        };
        let mut select = self.connection.prepare_cached(
            "SELECT value, bits FROM op_rollup_values WHERE block = ? AND value BETWEEN ? AND ?",
        )?;
        for column in self.columns {
            let (first, last) = ids_of(*column);
            let mut rows = select.query([number, first, last])?;
            while let Some(row) = rows.next()? {
                let bits = Bits::decode(row.get_ref(1)?.as_blob()?);
                block.values.push(Valued { column: *column, id: row.get(0)?, bits });
            }
        }
        if self.numbers {
            let mut select = self.connection.prepare_cached(
                "SELECT times, evaluations, durations FROM op_rollup_blocks WHERE block = ?",
            )?;
            select.query_row([number], |row| {
                block.times = decode_times(first_ms, row.get_ref(0)?.as_blob()?);
                block.evaluations = decode_numbers(row.get_ref(1)?.as_blob()?);
                block.durations = decode_numbers(row.get_ref(2)?.as_blob()?);
                Ok(())
            })?;
        }
        Ok(block)
    }

    fn text(&mut self, id: ValueId) -> rusqlite::Result<Option<String>> {
        match self.texts.get(&id) {
            Some((_, text)) => Ok(Some(text.clone())),
            None => text_of(self.connection, &mut self.digester, id),
        }
    }

    /// The most frequent values, by name.
    fn top(
        &mut self,
        column: Column,
        tally: &Tally,
        top: usize,
        by_deny: bool,
    ) -> rusqlite::Result<Vec<Named>> {
        let rank = |counts: &(u64, u64)| if by_deny { counts.1 } else { counts.0 };
        let mut ranked: Vec<_> = tally.iter().filter(|(_, counts)| rank(counts) > 0).collect();
        ranked.sort_by_key(|(id, counts)| (std::cmp::Reverse(rank(counts)), **id));
        let mut named = Vec::new();
        for (id, (count, deny)) in ranked.into_iter().take(top) {
            if let Some(value) = self.text(*id)? {
                named.push(Named { column: column.name().to_owned(), value, count: *count, deny: *deny });
            }
        }
        named.sort_by(|a, b| {
            let rank = |named: &Named| if by_deny { named.deny } else { named.count };
            rank(b).cmp(&rank(a)).then_with(|| a.value.cmp(&b.value))
        });
        Ok(named)
    }
}

/// The time series.
struct Series {
    start_ms: i64,
    bucket_ms: i64,
    steps: Vec<[u64; 3]>,
}

impl Series {
    fn step(&mut self, time_ms: i64) -> Option<&mut [u64; 3]> {
        let at = (time_ms - self.start_ms).div_euclid(self.bucket_ms).max(0);
        let last = self.steps.len().saturating_sub(1);
        self.steps.get_mut(usize::try_from(at).unwrap_or(last).min(last))
    }

    fn add(&mut self, block: &Block, effects: &Effects, (first_ms, last_ms): (i64, i64)) {
        let masks = [&effects.allow, &effects.deny, &effects.held];
        let bucket = |ms: i64| (ms - self.start_ms).div_euclid(self.bucket_ms);
        if bucket(first_ms) == bucket(last_ms) {
            if let Some(step) = self.step(first_ms) {
                for (count, mask) in step.iter_mut().zip(masks) {
                    *count += mask.count();
                }
            }
            return;
        }
        for (at, mask) in masks.into_iter().enumerate() {
            mask.each(|place| {
                let time = block.times.get(place).copied().unwrap_or(first_ms);
                if let Some(count) = self.step(time).and_then(|step| step.get_mut(at)) {
                    *count += 1;
                }
            });
        }
    }
}

/// What the decisions of all blocks come to.
#[derive(Default)]
struct Sums {
    entries: u64,
    counted: Counted,
    servers: HashMap<Option<ValueId>, PerServer>,
    callers: Tally,
    outcomes: Tally,
}

impl Sums {
    fn add(&mut self, block: &Block, effects: &Effects) {
        let mut without = effects.decisions.clone();
        let mut parts = Vec::new();
        for value in &block.values {
            match value.column {
                Column::Server => {
                    let places = effects.decisions.and(&value.bits);
                    without.remove(&places);
                    parts.push((Some(value.id), places));
                }
                Column::Agent => {
                    let deny = effects.deny.count_with(&value.bits);
                    add(&mut self.callers, value.id, effects.decisions.count_with(&value.bits), deny);
                }
                Column::Outcome => {
                    add(&mut self.outcomes, value.id, effects.decisions.count_with(&value.bits), 0);
                }
                _ => {}
            }
        }
        parts.push((None, without));
        for (server, places) in parts.into_iter().filter(|(_, places)| !places.is_empty()) {
            let server = self.servers.entry(server).or_default();
            let mut denied = places.clone();
            denied.keep(&effects.deny);
            places.each(|place| {
                // Zero is none, anything else one more than it was.
                if let Some(us) = block.evaluations.get(place).and_then(|us| us.checked_sub(1)) {
                    server.evaluations.add(us);
                }
                if let Some(us) = block.durations.get(place).and_then(|us| us.checked_sub(1)) {
                    server.durations.add(us);
                }
            });
            for value in &block.values {
                if value.column == Column::Tool {
                    add(
                        &mut server.tools,
                        value.id,
                        places.count_with(&value.bits),
                        denied.count_with(&value.bits),
                    );
                } else if value.column == Column::Policy {
                    let deny = denied.count_with(&value.bits);
                    add(&mut server.policies, value.id, deny, deny);
                }
            }
            let here = effects.count(&Bits::Many(places));
            server.counted.add(here);
            self.counted.add(here);
        }
    }
}

/// Traffic in numbers.
pub(in crate::ledger) fn summary(
    connection: &Connection,
    wanted: &SummaryWanted,
) -> rusqlite::Result<Summary> {
    let filter = Filter { order: Order::Oldest, skip: 0, limit: None, ..wanted.filter.clone() };
    let segments = covering(connection, &filter)?;
    let mut series = series(connection, &segments, &filter, wanted)?;
    let columns = [
        Column::Kind,
        Column::Decision,
        Column::Status,
        Column::Outcome,
        Column::Server,
        Column::Tool,
        Column::Policy,
        Column::Agent,
    ];
    let mut blocks = Blocks::new(connection, &filter, &columns, true)?;
    let mut sums = Sums::default();
    blocks.each(&segments, |block, matching, ends, digester| {
        sums.entries += matching.count();
        let effects = Effects::of(block, matching, digester);
        if !effects.decisions.is_empty() {
            series.add(block, &effects, ends);
            sums.add(block, &effects);
        }
    })?;
    let Sums { entries, counted, servers, callers, outcomes } = sums;
    let (mut evaluations, mut durations) = (Histogram::default(), Histogram::default());
    let (mut tools, mut policies) = (Tally::new(), Tally::new());
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

impl Series {
    fn shown(self) -> Vec<Bucket> {
        let times = (0..).map(|step: i64| rfc3339(self.start_ms + step * self.bucket_ms));
        let bucket = |(time, [allow, deny, require_approval]): (String, [u64; 3])| Bucket {
            time,
            allow,
            deny,
            require_approval,
        };
        times.zip(self.steps).map(bucket).collect()
    }
}

/// What has to be looked at: the few entries of a lookup one by one, else the ledger as it lies.
fn covering(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Segment>> {
    if filter.is_lookup() {
        let seqs = matching(connection, filter, usize::MAX)?;
        return Ok(seqs.into_iter().map(|seq| Segment::Entries(seq, seq)).collect());
    }
    segments(connection, filter)
}

/// The empty series: it begins with the first entry, or where the filter says, and ends now, or where that says.
fn series(
    connection: &Connection,
    segments: &[Segment],
    filter: &Filter,
    wanted: &SummaryWanted,
) -> rusqlite::Result<Series> {
    let mut earliest: Option<i64> = None;
    for segment in segments {
        let first_ms = match *segment {
            Segment::Stored(_, first_ms, _) => Some(first_ms),
            Segment::Entries(first, _) => {
                let id: String = connection
                    .prepare_cached("SELECT id FROM leaves WHERE seq = ?")?
                    .query_row([first], |row| row.get(0))?;
                ulid::Ulid::from_string(&id).ok().and_then(|id| i64::try_from(id.timestamp_ms()).ok())
            }
        };
        earliest = earliest.into_iter().chain(first_ms).min();
    }
    let end_ms = filter.until_ms.unwrap_or(wanted.now_ms);
    let from_ms = filter.since_ms.or(earliest).unwrap_or(end_ms).min(end_ms);
    let range_ms = (end_ms - from_ms).max(1);
    let chosen = || STEPS_MS.into_iter().find(|step| range_ms / step < MAX_CHOSEN_STEPS);
    let bucket_ms = wanted.bucket_ms.or_else(chosen).unwrap_or(range_ms / MAX_CHOSEN_STEPS);
    // Where that would make too many steps, they are longer.
    let bucket_ms = bucket_ms.max(range_ms / (MAX_STEPS - 1)).max(1);
    let start_ms = from_ms.div_euclid(bucket_ms) * bucket_ms;
    let steps = ((end_ms - 1).max(from_ms) - start_ms).div_euclid(bucket_ms) + 1;
    let steps = usize::try_from(steps.clamp(1, MAX_STEPS)).unwrap_or(1);
    Ok(Series { start_ms, bucket_ms, steps: vec![[0; 3]; steps] })
}

/// The values of some columns among the decisions of a filter, the most frequent first; only those that contain `part`, where
/// that is given.
pub(in crate::ledger) fn named(
    connection: &Connection,
    filter: &Filter,
    wanted: &[Column],
    part: Option<&str>,
    limit: usize,
) -> rusqlite::Result<Vec<Named>> {
    let filter = Filter { order: Order::Oldest, skip: 0, limit: None, ..filter.clone() };
    let segments = covering(connection, &filter)?;
    let columns: Vec<Column> = wanted.iter().copied().chain([Column::Kind, Column::Decision]).collect();
    let mut blocks = Blocks::new(connection, &filter, &columns, false)?;
    let mut tallies: HashMap<Column, Tally> = HashMap::new();
    blocks.each(&segments, |block, matching, _, digester| {
        let effects = Effects::of(block, matching, digester);
        for value in block.values.iter().filter(|value| wanted.contains(&value.column)) {
            let deny = effects.deny.count_with(&value.bits);
            let tally = tallies.entry(value.column).or_default();
            add(tally, value.id, effects.decisions.count_with(&value.bits), deny);
        }
    })?;
    let mut named = Vec::new();
    for column in wanted {
        let Some(tally) = tallies.get(column) else { continue };
        let shown = if part.is_some() { usize::MAX } else { limit };
        let mut found = blocks.top(*column, tally, shown, false)?;
        if let Some(part) = part.map(str::to_ascii_lowercase) {
            found.retain(|named| named.value.to_ascii_lowercase().contains(&part));
        }
        found.truncate(limit);
        named.extend(found);
    }
    Ok(named)
}
