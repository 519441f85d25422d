//! The decisions of a block: where they are, what came of each, and what each is grouped by.

use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params_from_iter};

use super::bits::{BLOCK, Bits, Mask};
use super::block::{Block, Digester, ValueId};
use super::codes::{self, Codes};
use super::histogram::{Histogram, class_of};
use super::summary::Counted;
use crate::ledger::filter::Column;

/// The columns that statistics and pickers group by, in the order in which they are stored: what statistics read comes first.
pub const GROUPED: [Column; 8] = [
    Column::Outcome,
    Column::Server,
    Column::Tool,
    Column::Policy,
    Column::Agent,
    Column::Team,
    Column::User,
    Column::Subject,
];

/// What is stored as a member of an effect's set, or several of them.
const ALLOW: ValueId = 1;
const DENY: ValueId = 2;
const HELD: ValueId = 4;
const FAILED: ValueId = 8;

/// What came of a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect(ValueId);

impl Effect {
    fn of(set: &[ValueId]) -> Self {
        Self(set.first().copied().unwrap_or_default())
    }

    fn is_denial(self) -> bool {
        self.0 & DENY != 0
    }

    /// So many decisions of which that came.
    pub fn counted(self, decisions: u64) -> Counted {
        let counted = |flag| if self.0 & flag == 0 { 0 } else { decisions };
        Counted {
            decisions,
            allow: counted(ALLOW),
            deny: counted(DENY),
            require_approval: counted(HELD),
            errors: counted(FAILED),
        }
    }
}

/// The decisions of a block, numbered in order.
pub struct Decided {
    places: Mask,
    effects: Codes,
    /// As they were asked for.
    columns: Vec<(Column, Codes)>,
    evaluations: Codes,
    durations: Codes,
}

impl Decided {
    /// Of a block's values and times.
    pub fn of(block: &Block, digester: &mut Digester, columns: &[Column]) -> Self {
        let mut having = |column, text: &str| block.places(column, digester.id(column, text));
        let places = having(Column::Kind, "decision");
        let flags = [
            (ALLOW, having(Column::Decision, "allow")),
            (DENY, having(Column::Decision, "deny")),
            (HELD, having(Column::Decision, "require_approval")),
        ];
        let complete = having(Column::Status, "complete");
        let mut at = Vec::new();
        places.each(|place| at.push(place));
        let effects = at.iter().map(|place| {
            let set = flags.iter().filter(|(_, mask)| mask.contains(*place)).map(|(flag, _)| flag);
            Some(set.sum::<ValueId>() + if complete.contains(*place) { 0 } else { FAILED })
        });
        let effects = Codes::of_numbers(effects);
        let mut numbers: Vec<Option<u16>> = Vec::new();
        for (number, place) in (0..).zip(&at) {
            numbers.resize(*place, None);
            numbers.push(Some(number));
        }
        let columns = columns.iter().map(|column| {
            let values = block.values.iter().filter(|value| value.column == *column);
            (*column, Codes::of(at.len(), &numbers, values.map(|value| (value.id, &value.bits))))
        });
        // Zero is none, anything else one more than it was.
        let classes = |times: &[u64]| {
            let class = |us: &u64| ValueId::try_from(class_of(us.checked_sub(1)?)).ok();
            Codes::of_numbers(at.iter().map(|place| times.get(*place).and_then(class)))
        };
        Self {
            columns: columns.collect(),
            evaluations: classes(&block.evaluations),
            durations: classes(&block.durations),
            places,
            effects,
        }
    }

    /// Those of a stored block, with these columns, and with times where `timed` says so. `None` where they are not stored: an
    /// older docket did the block, or nobody groups by such a column.
    pub fn stored(
        connection: &Connection,
        block: i64,
        columns: &[Column],
        timed: bool,
    ) -> rusqlite::Result<Option<Self>> {
        if columns.iter().any(|column| !GROUPED.contains(column)) {
            return Ok(None);
        }
        let mut names = vec!["places", "effect"];
        names.extend(columns.iter().map(|column| column.name()));
        names.extend(["evaluation_us", "duration_us"].into_iter().filter(|_| timed));
        let sql = format!("SELECT {} FROM op_rollup_decisions WHERE block = ?", names.join(", "));
        let read = |row: &Row<'_>| {
            let places = Bits::decode(row.get_ref(0)?.as_blob()?).mask();
            let codes = (1..names.len()).map(|at| Ok(Codes::decode(row.get_ref(at)?.as_blob()?)));
            Ok((places, codes.collect::<rusqlite::Result<Vec<_>>>()?))
        };
        let found = connection.prepare_cached(&sql)?.query_row([block], read).optional()?;
        let Some((places, codes)) = found else { return Ok(None) };
        let Some(codes) = codes.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        let mut codes = codes.into_iter();
        let mut next = || codes.next().unwrap_or_default();
        Ok(Some(Self {
            places,
            effects: next(),
            columns: columns.iter().map(|column| (*column, next())).collect(),
            evaluations: next(),
            durations: next(),
        }))
    }

    /// As a row: the names of its members, and what they are.
    pub fn row(&self) -> Vec<(&'static str, Vec<u8>)> {
        let mut row = vec![
            ("places", Bits::Many(self.places.clone()).encode()),
            ("effect", self.effects.encode()),
            ("evaluation_us", self.evaluations.encode()),
            ("duration_us", self.durations.encode()),
        ];
        row.extend(self.columns.iter().map(|(column, codes)| (column.name(), codes.encode())));
        row
    }

    /// Takes away what these entries had in their payloads.
    pub fn forget(&mut self, gone: &Mask) {
        let decisions = self.among(gone);
        for (column, codes) in &mut self.columns {
            if column.is_in_payload() {
                codes.remove(&decisions);
            }
        }
    }

    /// The numbers of the decisions that are among these entries.
    pub fn among(&self, entries: &Mask) -> Vec<u16> {
        if entries.covers(&self.places) {
            return (0..).take(usize::try_from(self.places.count()).unwrap_or(BLOCK)).collect();
        }
        let mut numbers = Vec::with_capacity(BLOCK);
        self.places.each_among(entries, |_, before| numbers.push(u16::try_from(before).unwrap_or(0)));
        numbers
    }

    /// Where they are.
    pub fn places_among(&self, entries: &Mask) -> Vec<usize> {
        let mut places = Vec::with_capacity(BLOCK);
        self.places.each_among(entries, |place, _| places.push(place));
        places
    }

    /// What came of each of these.
    pub fn effects(&self, decisions: &[u16]) -> Vec<Effect> {
        self.effects.each(decisions, Effect::of)
    }

    /// The denials among these.
    pub fn denials(&self, decisions: &[u16]) -> Vec<u16> {
        self.effects.having(decisions, |set| Effect::of(set).is_denial())
    }

    /// How often what came of these.
    pub fn counted(&self, decisions: &[u16]) -> Counted {
        let mut counted = Counted::default();
        for (set, count) in self.effects.counted(decisions) {
            counted.add(Effect::of(set).counted(count));
        }
        counted
    }

    /// What they have of a column that was asked for.
    pub fn codes(&self, column: Column) -> &Codes {
        let found = self.columns.iter().find(|(known, _)| *known == column);
        found.map_or(&codes::NONE, |(_, codes)| codes)
    }

    /// How long the evaluations of these took.
    pub fn evaluations(&self, decisions: &[u16], into: &mut Histogram) {
        measure(&self.evaluations, decisions, into);
    }

    /// How long their calls took.
    pub fn durations(&self, decisions: &[u16], into: &mut Histogram) {
        measure(&self.durations, decisions, into);
    }
}

fn measure(classes: &Codes, decisions: &[u16], into: &mut Histogram) {
    for (set, count) in classes.counted(decisions) {
        for class in set {
            into.add(usize::try_from(*class).unwrap_or(0), count);
        }
    }
}

/// Stores them.
pub fn store(connection: &Connection, block: i64, row: &[(&'static str, Vec<u8>)]) -> rusqlite::Result<()> {
    let names: Vec<&str> = row.iter().map(|(name, _)| *name).collect();
    let sql = format!(
        "INSERT OR REPLACE INTO op_rollup_decisions (block, {}) VALUES (?{})",
        names.join(", "),
        ", ?".repeat(row.len())
    );
    let blobs = row.iter().map(|(_, blob)| blob as &dyn ToSql);
    let values = std::iter::once(&block as &dyn ToSql).chain(blobs);
    connection.prepare_cached(&sql)?.execute(params_from_iter(values))?;
    Ok(())
}
