//! The values of a column, by name, the most frequent first.

use std::cmp::Reverse;
use std::collections::HashMap;

use rusqlite::Connection;

use super::blocks::{Blocks, covering};
use super::codes::Tally;
use super::summary::Named;
use crate::ledger::filter::{Column, Filter, Order};

impl Blocks<'_> {
    /// The most frequent values, by name.
    pub fn top(
        &mut self,
        column: Column,
        tally: &Tally,
        top: usize,
        by_deny: bool,
    ) -> rusqlite::Result<Vec<Named>> {
        let rank = |counts: &(u64, u64)| if by_deny { counts.1 } else { counts.0 };
        let mut ranked: Vec<_> = tally.iter().filter(|(_, counts)| rank(counts) > 0).collect();
        ranked.sort_by_key(|(id, counts)| (Reverse(rank(counts)), **id));
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
    let mut blocks = Blocks::new(connection, &filter, wanted, false)?;
    let mut tallies: HashMap<Column, Tally> = HashMap::new();
    blocks.each(&segments, |group| {
        for column in wanted {
            let tally = tallies.entry(*column).or_default();
            group.decided.codes(*column).tally(&group.decisions, &group.denials, tally);
        }
        Ok(())
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
