//! Finding and counting the entries of a filter: by rollups where there are some, else by reading.

use std::collections::HashSet;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use rustc_hash::FxBuildHasher;

use super::bits::{Bits, Mask};
use super::block::{self, Block, Digester, ValueId};
use super::{BLOCK, BLOCK_SEQS, block_of, text_of};
use crate::ledger::filter::{Filter, Order, Term};

/// So few entries are read whatever is rolled up.
const SHORT_SEQS: i64 = 256;

/// Looking up a value of a block takes so many times as long as going on to the next.
const LOOKUP: usize = 5;

/// A stored block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub number: i64,
    /// The earliest and the latest time in it.
    pub first_ms: i64,
    pub last_ms: i64,
    /// Entries that have no payload any more, and had one when it was stored.
    pub gone: Option<Mask>,
}

/// Consecutive entries that are treated alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Numbers from the first to the last, to be read.
    Entries(i64, i64),
    /// A block.
    Stored(Stored),
}

/// The numbers that bounds leave of those there are; `None` where that is none.
fn bounds(connection: &Connection, filter: &Filter) -> rusqlite::Result<Option<(i64, i64)>> {
    let newest: Option<i64> =
        connection.prepare_cached("SELECT max(seq) FROM leaves")?.query_row([], |row| row.get(0))?;
    let Some(newest) = newest else { return Ok(None) };
    let first = filter.after_seq.map_or(0, |seq| seq.saturating_add(1)).max(0);
    let last = filter.before_seq.map_or(newest, |seq| seq.saturating_sub(1)).min(newest);
    Ok((first <= last).then_some((first, last)))
}

/// The ledger within a filter's bounds and times, in the order of the list.
pub(super) fn segments(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Segment>> {
    let Some((first, last)) = bounds(connection, filter)? else { return Ok(Vec::new()) };
    let mut segments = Vec::new();
    let mut next = first;
    let mut select = connection.prepare_cached(
        "SELECT block, first_ms, last_ms, gone FROM op_rollup_blocks WHERE block BETWEEN ? AND ? ORDER BY block",
    )?;
    let mut rows = select.query([block_of(first), block_of(last)])?;
    while let Some(row) = rows.next()? {
        let (number, first_ms, last_ms): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let start = number * BLOCK_SEQS;
        if next < start {
            segments.push(Segment::Entries(next, start - 1));
        }
        next = start + BLOCK_SEQS;
        let is_outside = filter.since_ms.is_some_and(|since| last_ms < since)
            || filter.until_ms.is_some_and(|until| first_ms >= until);
        if !is_outside {
            let gone = row.get_ref(3)?.as_blob_or_null()?.map(|bits| Bits::decode(bits).mask());
            segments.push(Segment::Stored(Stored { number, first_ms, last_ms, gone }));
        }
    }
    if next <= last {
        segments.push(Segment::Entries(next, last));
    }
    if filter.order == Order::Newest {
        segments.reverse();
    }
    Ok(segments)
}

/// A filter's terms, as values of rollups.
pub(super) struct Terms {
    terms: Vec<(Term, Ids)>,
}

/// What a term means.
enum Ids {
    /// To be looked up one by one.
    Few(Vec<ValueId>),
    /// So many that a block's values of the column are gone through instead.
    Many(HashSet<ValueId, FxBuildHasher>),
}

impl Terms {
    pub fn of(connection: &Connection, digester: &mut Digester, filter: &Filter) -> rusqlite::Result<Self> {
        let mut terms = Vec::new();
        for term in filter.all_terms() {
            let ids = if term.part {
                parts(connection, digester, &term)?
            } else {
                Ids::Few(term.any.iter().map(|text| digester.id(term.column, text)).collect())
            };
            terms.push((term, ids));
        }
        Ok(Self { terms })
    }

    /// The places of a stored block that match.
    pub fn stored(
        &self,
        connection: &Connection,
        filter: &Filter,
        stored: &Stored,
    ) -> rusqlite::Result<Mask> {
        let number = stored.number;
        let mut mask = Mask::first(BLOCK);
        for (term, ids) in &self.terms {
            let mut any = Mask::none();
            match ids {
                Ids::Few(ids) => {
                    for id in ids {
                        if let Some(bits) = block::stored_bits(connection, number, *id)? {
                            any.add(&bits);
                        }
                    }
                }
                Ids::Many(ids) => {
                    for value in Block::stored_values(connection, number, term.column)? {
                        if ids.contains(&value.id) {
                            any.add(&value.bits);
                        }
                    }
                }
            }
            mask.keep(&any);
            if let Some(gone) = stored.gone.as_ref().filter(|_| term.column.is_in_payload()) {
                mask.remove(gone);
            }
            if mask.is_empty() {
                return Ok(mask);
            }
        }
        let times = || block::stored_times(connection, number);
        let ends = (stored.first_ms, stored.last_ms);
        narrow(&mut mask, filter, number * BLOCK_SEQS, ends, times, || {
            block::stored_durations(connection, number)
        })?;
        Ok(mask)
    }

    /// The places of a block that was read just now.
    pub fn read(&self, filter: &Filter, block: &Block) -> rusqlite::Result<Mask> {
        let mut mask = Mask::first(block.len());
        for (term, _) in &self.terms {
            let mut any = Mask::none();
            let matches = block.values.iter().filter(|value| {
                value.column == term.column
                    && block.texts.get(&value.id).is_some_and(|(_, text)| term.accepts(text))
            });
            matches.for_each(|value| any.add(&value.bits));
            mask.keep(&any);
        }
        let ends = (i64::MIN, i64::MAX);
        narrow(
            &mut mask,
            filter,
            block.first_seq,
            ends,
            || Ok(block.times.clone()),
            || Ok(block.durations.clone()),
        )?;
        Ok(mask)
    }
}

/// Leaves the places within a filter's numbers, times and durations.
fn narrow(
    mask: &mut Mask,
    filter: &Filter,
    first_seq: i64,
    (first_ms, last_ms): (i64, i64),
    times: impl FnOnce() -> rusqlite::Result<Vec<i64>>,
    durations: impl FnOnce() -> rusqlite::Result<Vec<u64>>,
) -> rusqlite::Result<()> {
    let seq = |place: usize| first_seq + i64::try_from(place).unwrap_or(0);
    if let Some(after) = filter.after_seq.filter(|after| *after >= first_seq) {
        mask.retain(|place| seq(place) > after);
    }
    if let Some(before) = filter.before_seq.filter(|before| *before < first_seq + BLOCK_SEQS) {
        mask.retain(|place| seq(place) < before);
    }
    let since = filter.since_ms.filter(|since| *since > first_ms);
    let until = filter.until_ms.filter(|until| *until <= last_ms);
    if (since.is_some() || until.is_some()) && !mask.is_empty() {
        let times = times()?;
        mask.retain(|place| {
            times.get(place).is_some_and(|time| {
                since.is_none_or(|since| *time >= since) && until.is_none_or(|until| *time < until)
            })
        });
    }
    if let Some(least) = filter.min_duration_us
        && !mask.is_empty()
    {
        let least = u64::try_from(least).unwrap_or(0);
        let durations = durations()?;
        mask.retain(|place| durations.get(place).is_some_and(|us| *us > least));
    }
    Ok(())
}

/// The values of a column that contain a text.
fn parts(connection: &Connection, digester: &mut Digester, term: &Term) -> rusqlite::Result<Ids> {
    let mut select = connection.prepare_cached("SELECT value FROM op_rollup_names WHERE name = ?")?;
    let ids: Vec<ValueId> =
        select.query_map([term.column.name()], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    // No block has more.
    let there = ids.len().min(BLOCK);
    let mut found = Vec::new();
    for id in ids {
        if text_of(connection, digester, id)?.is_some_and(|text| term.accepts(&text)) {
            found.push(id);
        }
    }
    Ok(if found.len() * LOOKUP > there { Ids::Many(found.into_iter().collect()) } else { Ids::Few(found) })
}

/// The numbers of the entries that match, in order, without the first `skip` and `limit` at most.
pub(in crate::ledger) fn matching(
    connection: &Connection,
    filter: &Filter,
    limit: usize,
) -> rusqlite::Result<Vec<i64>> {
    if filter.is_lookup() {
        return read(connection, filter, limit);
    }
    if filter.is_place_only() {
        return places(connection, filter, limit);
    }
    // What a stream asks for: reading a few entries costs less than looking up what a term means.
    if bounds(connection, filter)?.is_none_or(|(first, last)| last - first < SHORT_SEQS) {
        return read(connection, filter, limit);
    }
    let mut digester = Digester::of(connection)?;
    let terms = Terms::of(connection, &mut digester, filter)?;
    let (mut found, mut skip) = (Vec::new(), filter.skip);
    for segment in segments(connection, filter)? {
        if found.len() >= limit {
            break;
        }
        match segment {
            Segment::Entries(first, last) => {
                let within = within(filter, first, last);
                if skip > 0 {
                    let there = count_read(connection, &within)?;
                    if there <= skip {
                        skip -= there;
                        continue;
                    }
                }
                found.extend(read(connection, &Filter { skip, ..within }, limit - found.len())?);
                skip = 0;
            }
            Segment::Stored(stored) => {
                let mask = terms.stored(connection, filter, &stored)?;
                let there = mask.count();
                if there <= skip {
                    skip -= there;
                    continue;
                }
                let seq = |place: usize| stored.number * BLOCK_SEQS + i64::try_from(place).unwrap_or(0);
                let (from, left) = (usize::try_from(skip).unwrap_or(usize::MAX), limit - found.len());
                if filter.order == Order::Newest {
                    found.extend(mask.places().rev().skip(from).take(left).map(seq));
                } else {
                    found.extend(mask.places().skip(from).take(left).map(seq));
                }
                skip = 0;
            }
        }
    }
    Ok(found)
}

/// How many entries match, whatever limit and skip say.
pub(in crate::ledger) fn count(connection: &Connection, filter: &Filter) -> rusqlite::Result<u64> {
    if filter.is_lookup() {
        return count_read(connection, filter);
    }
    if filter.is_place_only() {
        let bounds = bounds(connection, filter)?;
        return Ok(bounds.map_or(0, |(first, last)| (last - first + 1).unsigned_abs()));
    }
    let mut digester = Digester::of(connection)?;
    let terms = Terms::of(connection, &mut digester, filter)?;
    let mut total = 0;
    for segment in segments(connection, filter)? {
        total += match segment {
            Segment::Entries(first, last) => count_read(connection, &within(filter, first, last))?,
            Segment::Stored(stored) => terms.stored(connection, filter, &stored)?.count(),
        };
    }
    Ok(total)
}

/// The filter on these numbers alone.
fn within(filter: &Filter, first: i64, last: i64) -> Filter {
    Filter { after_seq: Some(first - 1), before_seq: Some(last + 1), skip: 0, ..filter.clone() }
}

/// Entries are numbered without a hole: where only places count, nothing has to be looked for.
fn places(connection: &Connection, filter: &Filter, limit: usize) -> rusqlite::Result<Vec<i64>> {
    let Some((first, last)) = bounds(connection, filter)? else { return Ok(Vec::new()) };
    let skip = i64::try_from(filter.skip).unwrap_or(i64::MAX);
    Ok(if filter.order == Order::Newest {
        (first..=last.saturating_sub(skip)).rev().take(limit).collect()
    } else {
        (first.saturating_add(skip)..=last).take(limit).collect()
    })
}

/// By SQL alone.
fn read(connection: &Connection, filter: &Filter, limit: usize) -> rusqlite::Result<Vec<i64>> {
    let compiled = filter.compile();
    let direction = if filter.order == Order::Newest { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT l.seq FROM leaves l{}{} ORDER BY l.seq {direction} LIMIT ? OFFSET ?",
        compiled.joins(),
        compiled.clauses
    );
    let bound = [u64::try_from(limit).unwrap_or(u64::MAX), filter.skip]
        .map(|number| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)));
    let mut select = connection.prepare_cached(&sql)?;
    let rows =
        select.query_map(params_from_iter(compiled.values.into_iter().chain(bound)), |row| row.get(0))?;
    rows.collect()
}

fn count_read(connection: &Connection, filter: &Filter) -> rusqlite::Result<u64> {
    let compiled = filter.compile();
    let sql = format!("SELECT count(*) FROM leaves l{}{}", compiled.joins(), compiled.clauses);
    let count: i64 =
        connection.prepare_cached(&sql)?.query_row(params_from_iter(compiled.values), |row| row.get(0))?;
    Ok(count.unsigned_abs())
}
