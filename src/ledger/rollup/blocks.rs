//! Block after block as statistics see them: what matches, and the decisions among it.

use std::borrow::Cow;
use std::collections::HashMap;

use rusqlite::Connection;

use super::bits::Mask;
use super::block::{self, Block, Digester, ValueId};
use super::decided::Decided;
use super::plan::{Segment, Stored, Terms, matching, segments};
use super::{BLOCK_SEQS, text_of};
use crate::ledger::filter::{Column, Filter};

/// A block, or some entries that were read just now.
pub struct Group<'a> {
    /// What the filter leaves.
    pub matching: Mask,
    /// All decisions of the block.
    pub decided: Decided,
    /// The numbers of those that match.
    pub decisions: Vec<u16>,
    /// The denials among them.
    pub denials: Vec<u16>,
    /// The earliest and the latest time.
    pub ends_ms: (i64, i64),
    times: Times<'a>,
}

/// Where times are.
enum Times<'a> {
    Read(Vec<i64>),
    Stored(&'a Connection, i64),
}

impl<'a> Group<'a> {
    fn of(matching: Mask, decided: Decided, ends_ms: (i64, i64), times: Times<'a>) -> Self {
        let decisions = decided.among(&matching);
        let denials = decided.denials(&decisions);
        Self { matching, decided, decisions, denials, ends_ms, times }
    }

    /// When each entry was recorded.
    pub fn times(&self) -> rusqlite::Result<Cow<'_, [i64]>> {
        Ok(match &self.times {
            Times::Read(times) => Cow::Borrowed(times),
            Times::Stored(connection, number) => Cow::Owned(block::stored_times(connection, *number)?),
        })
    }
}

/// What has to be looked at: the few entries of a lookup one by one, else the ledger as it lies.
pub fn covering(connection: &Connection, filter: &Filter) -> rusqlite::Result<Vec<Segment>> {
    if filter.is_lookup() {
        let seqs = matching(connection, filter, usize::MAX)?;
        return Ok(seqs.into_iter().map(|seq| Segment::Entries(seq, seq)).collect());
    }
    segments(connection, filter)
}

/// Reads block after block.
pub struct Blocks<'a> {
    connection: &'a Connection,
    filter: &'a Filter,
    columns: &'a [Column],
    timed: bool,
    digester: Digester,
    /// What the ids of entries that were read just now stand for.
    texts: HashMap<ValueId, (Column, String)>,
}

impl<'a> Blocks<'a> {
    /// Grouped by these columns, and by times where `timed` says so.
    pub fn new(
        connection: &'a Connection,
        filter: &'a Filter,
        columns: &'a [Column],
        timed: bool,
    ) -> rusqlite::Result<Self> {
        let digester = Digester::of(connection)?;
        Ok(Self { connection, filter, columns, timed, digester, texts: HashMap::new() })
    }

    /// Calls back for each that has something that matches.
    pub fn each(
        &mut self,
        segments: &[Segment],
        mut with: impl FnMut(&Group<'a>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let terms = Terms::of(self.connection, &mut self.digester, self.filter)?;
        for segment in segments {
            match segment {
                Segment::Entries(first, last) => {
                    let mut next = *first;
                    while next <= *last {
                        let end = (*last).min(next + BLOCK_SEQS - 1);
                        let mut block = Block::read(self.connection, &mut self.digester, next, end)?;
                        let matching = terms.read(self.filter, &block)?;
                        let decided = Decided::of(&block, &mut self.digester, self.columns);
                        let ends_ms = block.ends_ms();
                        self.texts.extend(std::mem::take(&mut block.texts));
                        with(&Group::of(matching, decided, ends_ms, Times::Read(block.times)))?;
                        next = end + 1;
                    }
                }
                Segment::Stored(stored) => {
                    let matching = terms.stored(self.connection, self.filter, stored)?;
                    if !matching.is_empty() {
                        let ends_ms = (stored.first_ms, stored.last_ms);
                        let times = Times::Stored(self.connection, stored.number);
                        with(&Group::of(matching, self.stored(stored)?, ends_ms, times))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn stored(&mut self, stored: &Stored) -> rusqlite::Result<Decided> {
        let decided = Decided::stored(self.connection, stored.number, self.columns, self.timed)?;
        let mut decided = if let Some(decided) = decided {
            decided
        } else {
            let needed = [Column::Kind, Column::Decision, Column::Status];
            let columns: Vec<Column> = needed.into_iter().chain(self.columns.iter().copied()).collect();
            let block = Block::stored(self.connection, stored.number, &columns)?;
            Decided::of(&block, &mut self.digester, self.columns)
        };
        if let Some(gone) = &stored.gone {
            decided.forget(gone);
        }
        Ok(decided)
    }

    /// What an id stands for, if any entry has it still.
    pub fn text(&mut self, id: ValueId) -> rusqlite::Result<Option<String>> {
        match self.texts.get(&id) {
            Some((_, text)) => Ok(Some(text.clone())),
            None => text_of(self.connection, &mut self.digester, id),
        }
    }
}
