//! One block: which entries have which value, and the numbers of each, whether stored or read from the entries just now.

use std::borrow::Cow;
use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use ulid::Ulid;

use super::BLOCK_SEQS;
use super::bits::{Bits, Mask, decode_numbers, decode_times};
use crate::ledger::filter::{Column, DURATION_SQL, JOIN_OUTCOME, JOIN_PAYLOAD, OUTCOME_SQL};

/// Names a value of a column without saying it: the column's place in [`Column::ALL`], and below it the start of a salted digest.
/// So the values of a column lie side by side.
pub type ValueId = i64;

/// Bits of an id that are of the digest.
const DIGEST_BITS: u32 = 58;

/// The ids that values of a column may have, the first and the last.
fn ids_of(column: Column) -> (ValueId, ValueId) {
    let place = Column::ALL.iter().position(|known| *known == column).unwrap_or(0);
    let first = i64::try_from(place).unwrap_or(0) << DIGEST_BITS;
    (first, first | ((1 << DIGEST_BITS) - 1))
}

/// What rolling an entry up reads of it. The columns from [`FIRST_COLUMN`] on are those of [`Column::ALL`], in order, but for the
/// last ones, which are members of the parts at [`FIRST_PART`].
fn select(range: &str) -> String {
    format!(
        "SELECT l.seq, l.id, l.evaluation_us, {DURATION_SQL}, l.kind, l.event_type, l.decision, l.evaluation_status, \
         {OUTCOME_SQL}, l.zone, l.mode, l.manifest_sha, p.subject_id, p.agent, p.user, p.team, p.server, p.resource_id, \
         p.action_name, p.determining_policies, p.diagnostics, p.metadata \
         FROM leaves l{JOIN_PAYLOAD}{JOIN_OUTCOME} WHERE {range} ORDER BY l.seq"
    )
}

const FIRST_COLUMN: usize = 4;
const FIRST_PART: usize = 19;

/// Makes [`ValueId`]s, and remembers those it made.
pub struct Digester {
    salt: Vec<u8>,
    known: HashMap<Column, HashMap<String, ValueId>>,
}

impl Digester {
    /// With the ledger's own salt.
    pub fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let salt = connection
            .prepare_cached("SELECT salt FROM op_rollup_salt ORDER BY rowid LIMIT 1")?
            .query_row([], |row| row.get(0))?;
        Ok(Self { salt, known: HashMap::new() })
    }

    /// The id of a value.
    pub fn id(&mut self, column: Column, text: &str) -> ValueId {
        let known = self.known.entry(column).or_default();
        if let Some(id) = known.get(text) {
            return *id;
        }
        let digest = Sha256::new()
            .chain_update(&self.salt)
            .chain_update(column.name())
            .chain_update([0])
            .chain_update(text)
            .finalize();
        let start = digest.first_chunk::<8>().copied().unwrap_or_default();
        let (first, last) = ids_of(column);
        let id = first | (i64::from_le_bytes(start) & (last - first));
        known.insert(text.to_owned(), id);
        id
    }
}

/// One value of a block: its column, its name, and the places that have it.
pub struct Valued {
    pub column: Column,
    pub id: ValueId,
    pub bits: Bits,
}

/// A block.
pub struct Block {
    /// The number of the entry at place 0.
    pub first_seq: i64,
    /// Milliseconds since the Unix epoch, one for each entry.
    pub times: Vec<i64>,
    /// Microseconds and one, or zero; likewise.
    pub evaluations: Vec<u64>,
    /// Likewise.
    pub durations: Vec<u64>,
    /// In no order.
    pub values: Vec<Valued>,
    /// What ids stand for, where the block was read from its entries.
    pub texts: HashMap<ValueId, (Column, String)>,
}

impl Block {
    /// Reads the entries from the first to the last number, of which there are no more than a block has.
    pub fn read(
        connection: &Connection,
        digester: &mut Digester,
        first_seq: i64,
        last_seq: i64,
    ) -> rusqlite::Result<Self> {
        let mut block = Self {
            first_seq,
            times: Vec::new(),
            evaluations: Vec::new(),
            durations: Vec::new(),
            values: Vec::new(),
            texts: HashMap::new(),
        };
        let mut places: HashMap<(Column, ValueId), Vec<u16>> = HashMap::new();
        let mut statement = connection.prepare_cached(&select("l.seq BETWEEN ? AND ?"))?;
        let mut rows = statement.query(params![first_seq, last_seq])?;
        while let Some(row) = rows.next()? {
            let place = u16::try_from(block.times.len()).unwrap_or(u16::MAX);
            block.times.push(time_ms(row)?);
            let number = |column| -> rusqlite::Result<u64> {
                let number: Option<i64> = row.get(column)?;
                Ok(number.map_or(0, |number| u64::try_from(number).unwrap_or(0).saturating_add(1)))
            };
            block.evaluations.push(number(2)?);
            block.durations.push(number(3)?);
            visit(row, &mut |column, text| {
                let id = digester.id(column, text);
                let places = places.entry((column, id)).or_insert_with(|| {
                    block.texts.insert(id, (column, text.to_owned()));
                    Vec::new()
                });
                // A policy may be named twice by one entry.
                if places.last() != Some(&place) {
                    places.push(place);
                }
            })?;
        }
        block.values = places
            .into_iter()
            .map(|((column, id), places)| Valued { column, id, bits: Bits::of(places) })
            .collect();
        Ok(block)
    }

    /// The values of a column that entries of a stored block have.
    pub fn stored_values(
        connection: &Connection,
        number: i64,
        column: Column,
    ) -> rusqlite::Result<Vec<Valued>> {
        let (first, last) = ids_of(column);
        let mut select = connection.prepare_cached(
            "SELECT value, bits FROM op_rollup_values WHERE block = ? AND value BETWEEN ? AND ?",
        )?;
        let rows = select.query_map([number, first, last], |row| {
            Ok(Valued { column, id: row.get(0)?, bits: Bits::decode(row.get_ref(1)?.as_blob()?) })
        })?;
        rows.collect()
    }

    /// A stored one, with the values of these columns and its evaluations and durations.
    pub fn stored(connection: &Connection, number: i64, columns: &[Column]) -> rusqlite::Result<Self> {
        let mut values = Vec::new();
        for column in columns {
            values.extend(Self::stored_values(connection, number, *column)?);
        }
        let numbers = |name: &str| {
            let sql = format!("SELECT {name} FROM op_rollup_blocks WHERE block = ?");
            connection
                .prepare_cached(&sql)?
                .query_row([number], |row| Ok(decode_numbers(row.get_ref(0)?.as_blob()?)))
        };
        Ok(Self {
            first_seq: number * BLOCK_SEQS,
            times: stored_times(connection, number)?,
            evaluations: numbers("evaluations")?,
            durations: numbers("durations")?,
            values,
            texts: HashMap::new(),
        })
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// The earliest and the latest time; zero and zero where there is no entry.
    pub fn ends_ms(&self) -> (i64, i64) {
        let (first, last) = (self.times.iter().min(), self.times.iter().max());
        (first.copied().unwrap_or(0), last.copied().unwrap_or(0))
    }

    /// The places that have a value.
    pub fn places(&self, column: Column, id: ValueId) -> Mask {
        let value = self.values.iter().find(|value| value.column == column && value.id == id);
        value.map_or_else(Mask::none, |value| value.bits.mask())
    }
}

/// Which entries of a stored block have a value, if any has.
pub fn stored_bits(connection: &Connection, block: i64, id: ValueId) -> rusqlite::Result<Option<Bits>> {
    connection
        .prepare_cached("SELECT bits FROM op_rollup_values WHERE block = ? AND value = ?")?
        .query_row([block, id], |row| Ok(Bits::decode(row.get_ref(0)?.as_blob()?)))
        .optional()
}

/// The stored times of a block.
pub fn stored_times(connection: &Connection, block: i64) -> rusqlite::Result<Vec<i64>> {
    connection
        .prepare_cached("SELECT first_ms, times FROM op_rollup_blocks WHERE block = ?")?
        .query_row([block], |row| Ok(decode_times(row.get(0)?, row.get_ref(1)?.as_blob()?)))
}

/// How long the calls of a stored block took.
pub fn stored_durations(connection: &Connection, block: i64) -> rusqlite::Result<Vec<u64>> {
    connection
        .prepare_cached("SELECT durations FROM op_rollup_blocks WHERE block = ?")?
        .query_row([block], |row| Ok(decode_numbers(row.get_ref(0)?.as_blob()?)))
}

/// The text of a value of the entry with this number, if the entry has it still.
pub fn text_at(
    connection: &Connection,
    digester: &mut Digester,
    id: ValueId,
    seq: i64,
) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare_cached(&select("l.seq = ?"))?;
    let mut rows = statement.query([seq])?;
    let mut found = None;
    if let Some(row) = rows.next()? {
        visit(row, &mut |column, text| {
            if found.is_none() && digester.id(column, text) == id {
                found = Some(text.to_owned());
            }
        })?;
    }
    Ok(found)
}

/// An id is a ULID of the entry's time.
fn time_ms(row: &Row<'_>) -> rusqlite::Result<i64> {
    let id = row.get_ref(1)?.as_str()?;
    Ok(Ulid::from_string(id).map_or(0, |id| i64::try_from(id.timestamp_ms()).unwrap_or(0)))
}

/// Every value of an entry. What was written over by somebody else and cannot be read has none.
fn visit(row: &Row<'_>, with: &mut dyn FnMut(Column, &str)) -> rusqlite::Result<()> {
    for (at, column) in Column::ALL.into_iter().enumerate().take(FIRST_PART - FIRST_COLUMN) {
        if let Ok(text) = row.get_ref(FIRST_COLUMN + at)?.as_str() {
            with(column, text);
        }
    }
    if let Ok(text) = row.get_ref(FIRST_PART)?.as_str() {
        for item in items(text) {
            item.policy_id.iter().for_each(|text| with(Column::Policy, text));
            item.policy_version.iter().for_each(|text| with(Column::PolicyVersion, text));
        }
    }
    if let Ok(text) = row.get_ref(FIRST_PART + 1)?.as_str() {
        for item in items(text) {
            item.rule.iter().for_each(|text| with(Column::Rule, text));
        }
    }
    if let Ok(text) = row.get_ref(FIRST_PART + 2)?.as_str()
        && text.contains("\"classification\"")
        && let Ok(Value::Object(metadata)) = serde_json::from_str(text)
        && let Some(text) = metadata.get("classification").and_then(Value::as_str)
    {
        with(Column::Classification, text);
    }
    Ok(())
}

/// An element of `determining_policies` or `diagnostics`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Item<'a> {
    #[serde(borrow)]
    policy_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    policy_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    rule: Option<Cow<'a, str>>,
}

fn items(text: &str) -> Vec<Item<'_>> {
    if let Ok(items) = serde_json::from_str(text) {
        return items;
    }
    // Something in it is not what docket writes: what is, counts.
    let Ok(Value::Array(items)) = serde_json::from_str(text) else { return Vec::new() };
    let member = |item: &Value, name: &str| item.get(name)?.as_str().map(|text| Cow::Owned(text.to_owned()));
    let item = |item: &Value| Item {
        policy_id: member(item, "policy_id"),
        policy_version: member(item, "policy_version"),
        rule: member(item, "rule"),
    };
    items.iter().map(item).collect()
}
