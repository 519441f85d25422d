//! Rollups: for each block of 4,096 entries, which of them have which value, their times and durations, and what its decisions
//! are grouped by in statistics.
//!
//! They find the entries of a filter and count them at any size, and statistics are made from them alone. An index would serve
//! too, and cost every append, ten times over; and an index on a subject would keep its id where no erasure reaches it. A value
//! is known here by a salted digest only, and by the number of an entry in which it can be read.
//!
//! Nothing depends on their being there: entries of a block that is not rolled up are read one by one, by the same
//! [`super::filter::Filter`]. A thread of its own rolls up each block once it is full and every call in it has its outcome; the
//! writer only stores the result. An act that removes payloads says in the blocks it touches, in the same transaction, of which
//! entries; what those blocks tell of payloads holds for the others, and the thread makes them anew.

mod bits;
mod block;
mod blocks;
mod codes;
mod decided;
mod histogram;
mod named;
mod plan;
mod roller;
mod series;
mod summary;
mod sums;

use std::collections::{BTreeMap, HashSet};

use rusqlite::{Connection, params};

pub use bits::BLOCK;
use bits::{Bits, Mask, encode_numbers, encode_times};
use block::{Block, Digester, ValueId};
use decided::{Decided, GROUPED};
pub use histogram::Percentiles;
pub(super) use named::named;
pub(super) use plan::{count, matching};
pub(super) use roller::Roller;
pub use series::MAX_STEPS;
pub(super) use summary::summary;
pub use summary::{Bucket, Caller, Counted, Named, ServerSummary, Summary, SummaryWanted};

/// Entries of a block, as numbers are.
const BLOCK_SEQS: i64 = 4_096;

/// A block to be stored.
pub(super) struct Rolled {
    number: i64,
    /// The newest entry that was there when it was read: had an act come since, it would not be true any more.
    read_at: i64,
    block: Block,
    /// Its decisions, as a row.
    decided: Vec<(&'static str, Vec<u8>)>,
    /// Where values can be read that could be read in this block before, and where there is no such place any more.
    moved: Vec<(ValueId, Option<i64>)>,
}

/// The block an entry is in.
fn block_of(seq: i64) -> i64 {
    seq.div_euclid(BLOCK_SEQS)
}

/// Notes that these entries have no payload any more, with the blocks they are in.
pub(super) fn forget(connection: &Connection, seqs: impl Iterator<Item = i64>) -> rusqlite::Result<()> {
    let mut gone: BTreeMap<i64, Mask> = BTreeMap::new();
    for seq in seqs {
        let place = usize::try_from(seq.rem_euclid(BLOCK_SEQS)).unwrap_or(0);
        gone.entry(block_of(seq)).or_insert_with(Mask::none).insert(place);
    }
    let mut select = connection.prepare_cached("SELECT gone FROM op_rollup_blocks WHERE block = ?")?;
    let mut update = connection.prepare_cached("UPDATE op_rollup_blocks SET gone = ? WHERE block = ?")?;
    for (block, mut mask) in gone {
        let mut rows = select.query([block])?;
        // A block that is not stored is read from its entries.
        let Some(row) = rows.next()? else { continue };
        if let Some(before) = row.get_ref(0)?.as_blob_or_null()? {
            mask.add(&Bits::decode(before));
        }
        drop(rows);
        update.execute(params![Bits::Many(mask).encode(), block])?;
    }
    Ok(())
}

/// Stores a block. Its own row comes last: without it the rest counts for nothing.
pub(super) fn store(connection: &Connection, rolled: &Rolled) -> rusqlite::Result<()> {
    let newest_act: Option<i64> = connection
        .prepare_cached(
            "SELECT max(seq) FROM leaves WHERE kind = 'prune' OR kind = 'erase' OR kind = 'hold'",
        )?
        .query_row([], |row| row.get(0))?;
    if newest_act.is_some_and(|seq| seq > rolled.read_at) {
        return Ok(());
    }
    let Rolled { number, block, .. } = rolled;
    connection.prepare_cached("DELETE FROM op_rollup_blocks WHERE block = ?")?.execute([number])?;
    connection.prepare_cached("DELETE FROM op_rollup_values WHERE block = ?")?.execute([number])?;
    let mut value =
        connection.prepare_cached("INSERT INTO op_rollup_values (block, value, bits) VALUES (?,?,?)")?;
    // The newest entry is the one that is pruned last.
    let mut name = connection.prepare_cached(
        "INSERT INTO op_rollup_names (value, name, seq) VALUES (?1,?2,?3) ON CONFLICT (value) DO UPDATE SET seq = ?3 \
         WHERE ?3 > seq OR seq / ?4 = ?3 / ?4",
    )?;
    let mut values: Vec<_> = block.values.iter().collect();
    values.sort_unstable_by_key(|value| value.id);
    for valued in values {
        value.execute(params![number, valued.id, valued.bits.encode()])?;
        let place = i64::try_from(valued.bits.last().unwrap_or(0)).unwrap_or(0);
        name.execute(params![valued.id, valued.column.name(), block.first_seq + place, BLOCK_SEQS])?;
    }
    decided::store(connection, *number, &rolled.decided)?;
    for (id, seq) in &rolled.moved {
        match seq {
            Some(seq) => {
                connection
                    .prepare_cached("UPDATE op_rollup_names SET seq = ? WHERE value = ?")?
                    .execute([seq, id])?;
            }
            None => {
                connection.prepare_cached("DELETE FROM op_rollup_names WHERE value = ?")?.execute([id])?;
            }
        }
    }
    let (first_ms, last_ms) = block.ends_ms();
    connection
        .prepare_cached(
            "INSERT INTO op_rollup_blocks (block, first_ms, last_ms, times, evaluations, durations) VALUES (?,?,?,?,?,?)",
        )?
        .execute(params![
            number,
            first_ms,
            last_ms,
            encode_times(first_ms, &block.times),
            encode_numbers(block.evaluations.iter().copied()),
            encode_numbers(block.durations.iter().copied()),
        ])?;
    Ok(())
}

/// Reads a full block for storing; `None` where a call in it has no outcome yet.
fn roll(connection: &Connection, number: i64) -> rusqlite::Result<Option<Rolled>> {
    // One moment for the entries, the open calls and the acts.
    let snapshot = connection.unchecked_transaction()?;
    let (first_seq, last_seq) = (number * BLOCK_SEQS, number * BLOCK_SEQS + BLOCK_SEQS - 1);
    let is_open: bool = snapshot
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM op_open_calls WHERE seq BETWEEN ? AND ?)")?
        .query_row([first_seq, last_seq], |row| row.get(0))?;
    if is_open {
        return Ok(None);
    }
    let read_at: i64 = snapshot.query_row("SELECT max(seq) FROM leaves", [], |row| row.get(0))?;
    let mut digester = Digester::of(&snapshot)?;
    let block = Block::read(&snapshot, &mut digester, first_seq, last_seq)?;
    let moved = moved(&snapshot, &mut digester, &block, last_seq)?;
    let decided = Decided::of(&block, &mut digester, &GROUPED).row();
    Ok(Some(Rolled { number, read_at, block, decided, moved }))
}

/// The values that were to be read in this block and are not in it any more, with another place for each. That is so for few,
/// and only after payloads were removed.
fn moved(
    connection: &Connection,
    digester: &mut Digester,
    block: &Block,
    last_seq: i64,
) -> rusqlite::Result<Vec<(ValueId, Option<i64>)>> {
    let here: HashSet<ValueId> = block.values.iter().map(|value| value.id).collect();
    let mut homeless = Vec::new();
    let mut names =
        connection.prepare_cached("SELECT value FROM op_rollup_names WHERE seq BETWEEN ? AND ?")?;
    for id in names.query_map([block.first_seq, last_seq], |row| row.get::<_, ValueId>(0))? {
        let id = id?;
        if !here.contains(&id) {
            homeless.push(id);
        }
    }
    let mut moved = Vec::new();
    for id in homeless {
        moved.push((
            id,
            other_place(connection, digester, id, Some(block_of(block.first_seq)))?.map(|(seq, _)| seq),
        ));
    }
    Ok(moved)
}

/// Another entry in which a value can be read, and its text: the newest of any stored block but `except`.
fn other_place(
    connection: &Connection,
    digester: &mut Digester,
    id: ValueId,
    except: Option<i64>,
) -> rusqlite::Result<Option<(i64, String)>> {
    let mut select = connection.prepare_cached(
        "SELECT v.block, v.bits, b.gone FROM op_rollup_values v JOIN op_rollup_blocks b ON b.block = v.block \
         WHERE v.value = ? ORDER BY v.block DESC",
    )?;
    let mut rows = select.query([id])?;
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        if Some(number) == except {
            continue;
        }
        let mut places = Bits::decode(row.get_ref(1)?.as_blob()?).mask();
        if let Some(gone) = row.get_ref(2)?.as_blob_or_null()? {
            places.remove(&Bits::decode(gone).mask());
        }
        // Every other entry of a stored block has what the block says: the first that is asked can tell.
        let Some(place) = places.last() else { continue };
        let seq = number * BLOCK_SEQS + i64::try_from(place).unwrap_or(0);
        if let Some(text) = block::text_at(connection, digester, id, seq)? {
            return Ok(Some((seq, text)));
        }
    }
    Ok(None)
}

/// What an id stands for, read from an entry that has it.
fn text_of(
    connection: &Connection,
    digester: &mut Digester,
    id: ValueId,
) -> rusqlite::Result<Option<String>> {
    let mut select = connection.prepare_cached("SELECT seq FROM op_rollup_names WHERE value = ?")?;
    let seq: Option<i64> = {
        let mut rows = select.query([id])?;
        rows.next()?.map(|row| row.get(0)).transpose()?
    };
    let Some(seq) = seq else { return Ok(None) };
    match block::text_at(connection, digester, id, seq)? {
        Some(text) => Ok(Some(text)),
        // It was removed a moment ago.
        None => Ok(other_place(connection, digester, id, None)?.map(|(_, text)| text)),
    }
}
