//! What a ledger holds and what it costs: entries, bytes by kind and by use, growth, checkpoints.
//!
//! Sizes come from the pages themselves (SQLite's `dbstat`). What an entry of each kind costs is taken from every entry of a
//! small ledger and from evenly spaced ones of a large one, so that asking stays cheap; the report says which.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::LedgerError;
use super::reader::Reader;
use crate::files::beside;

/// Entries that are looked at one by one, at most.
const MAX_SAMPLE: u64 = 20_000;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Growth is averaged over this many days.
const GROWTH_DAYS: i64 = 7;

/// A ledger in numbers.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = LedgerStats)]
pub struct Stats {
    /// Entries there are.
    pub entries: u64,
    /// Pages of the database in use, divided by the entries; 0 in an empty ledger.
    pub bytes_per_entry: u64,
    /// When the first entry was recorded.
    pub oldest: Option<String>,
    /// When the last was.
    pub newest: Option<String>,
    /// What the entries of each kind cost, the most frequent kind first.
    pub kinds: Vec<Kind>,
    /// Whether `kinds` is computed from a sample of the entries.
    pub sampled: bool,
    /// What the pages of the database are used for, the largest use first.
    pub space: Vec<Use>,
    /// How fast it grows.
    pub growth: Growth,
    /// The signed tree heads.
    pub checkpoints: Checkpoints,
    /// Bytes of the files on disk.
    pub files: Files,
}

/// The entries of one kind.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = KindStats)]
pub struct Kind {
    /// `decision`, `outcome`, …
    pub kind: String,
    /// Entries of this kind; an estimate where `sampled` is true.
    pub entries: u64,
    /// Bytes of an average entry's leaf, columns included.
    pub leaf_bytes: u64,
    /// Bytes of its payload, salts and columns included.
    pub payload_bytes: u64,
    /// Bytes of the hashes it completes.
    pub tree_bytes: u64,
}

/// One use of the database's pages.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = SpaceUse)]
pub struct Use {
    /// `payloads`, `leaves`, `indexes`, `tree`, `checkpoints`, `digests`, `rollups`, `other` or `free`.
    pub what: String,
    /// Bytes of its pages.
    pub bytes: u64,
    /// Its part of the database, from 0 to 1.
    pub share: f64,
}

/// How fast the ledger grows.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Growth {
    /// Entries of the last 24 hours.
    pub entries_last_day: u64,
    /// Entries a day, over the last 7 days or the ledger's age where it is younger, and a day at least.
    pub entries_per_day: u64,
    /// The same in bytes, at the average cost of an entry.
    pub bytes_per_day: u64,
}

/// The signed tree heads that are kept.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = CheckpointStats)]
pub struct Checkpoints {
    /// How many.
    pub count: u64,
    /// Entries the newest covers.
    pub newest_size: Option<u64>,
}

/// Bytes on disk.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = FileSizes)]
pub struct Files {
    /// The database.
    pub database_bytes: u64,
    /// Its write-ahead log.
    pub log_bytes: u64,
}

impl Reader {
    /// The ledger in numbers, as of a moment in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// [`LedgerError`] when the file cannot be opened or read.
    pub fn stats(&self, now_ms: i64) -> Result<Stats, LedgerError> {
        let path = self.path.clone();
        self.with(|connection| {
            // One moment for all the figures, whatever a running docket adds.
            let snapshot = connection.unchecked_transaction()?;
            of(&snapshot, &path, now_ms)
        })
    }
}

fn of(connection: &Connection, path: &Path, now_ms: i64) -> rusqlite::Result<Stats> {
    let (entries, first, last) = ends(connection)?;
    let space = space(connection)?;
    let used: u64 = space.iter().filter(|part| part.what != "free").map(|part| part.bytes).sum();
    let bytes_per_entry = used / entries.max(1) * u64::from(entries > 0);
    let (kinds, sampled) = kinds(connection, entries)?;
    let oldest_ms = first.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
    let growth = growth(connection, entries, bytes_per_entry, oldest_ms, now_ms)?;
    let checkpoints = connection.query_row("SELECT count(*), max(size) FROM checkpoints", [], |row| {
        let newest: Option<i64> = row.get(1)?;
        Ok(Checkpoints {
            count: row.get::<_, i64>(0)?.cast_unsigned(),
            newest_size: newest.map(i64::cast_unsigned),
        })
    })?;
    // A log that is not there is empty.
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let files = Files { database_bytes: length(path), log_bytes: length(&beside(path, "-wal")) };
    Ok(Stats {
        entries,
        bytes_per_entry,
        oldest: first,
        newest: last,
        kinds,
        sampled,
        space,
        growth,
        checkpoints,
        files,
    })
}

/// How many entries there are, and the times of the first and the last.
fn ends(connection: &Connection) -> rusqlite::Result<(u64, Option<String>, Option<String>)> {
    let end = |order: &str| {
        connection
            .query_row(
                &format!("SELECT seq, occurred_at FROM leaves ORDER BY seq {order} LIMIT 1"),
                [],
                |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)),
            )
            .optional()
    };
    let (first, last) = (end("ASC")?, end("DESC")?);
    let entries = last.as_ref().map_or(0, |(seq, _)| seq.cast_unsigned().saturating_add(1));
    Ok((entries, first.map(|(_, time)| time), last.map(|(_, time)| time)))
}

/// What every page of the file is used for.
fn space(connection: &Connection) -> rusqlite::Result<Vec<Use>> {
    let pragma = |name: &str| {
        connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
    };
    let total = pragma("page_size")? * pragma("page_count")?;
    let mut uses = BTreeMap::<&str, u64>::new();
    let mut statement = connection.prepare(
        "SELECT s.type, s.tbl_name, d.pgsize FROM dbstat d LEFT JOIN sqlite_schema s ON s.name = d.name \
         WHERE d.aggregate = TRUE",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, table): (Option<String>, Option<String>) = (row.get(0)?, row.get(1)?);
        let what = match (kind.as_deref(), table.as_deref()) {
            (_, Some("digests")) => "digests",
            (_, Some(table)) if table.starts_with("op_rollup") => "rollups",
            (Some("index"), _) => "indexes",
            (_, Some("leaves")) => "leaves",
            (_, Some("payloads")) => "payloads",
            (_, Some("nodes")) => "tree",
            (_, Some("checkpoints")) => "checkpoints",
            _ => "other",
        };
        *uses.entry(what).or_default() += row.get::<_, i64>(2)?.cast_unsigned();
    }
    let taken: u64 = uses.values().sum();
    uses.insert("free", total.saturating_sub(taken));
    let mut space: Vec<Use> = uses
        .into_iter()
        .map(|(what, bytes)| Use { what: what.to_owned(), bytes, share: ratio(bytes, total) })
        .collect();
    space.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    Ok(space)
}

#[expect(clippy::cast_precision_loss, reason = "a share for people to read")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// What entries of each kind cost, and whether that comes from a sample.
fn kinds(connection: &Connection, entries: u64) -> rusqlite::Result<(Vec<Kind>, bool)> {
    let step = entries.div_ceil(MAX_SAMPLE).max(1);
    let mut statement = connection.prepare(
        "SELECT l.kind, octet_length(l.leaf) + octet_length(l.id) + octet_length(l.occurred_at) + octet_length(l.kind) \
         + octet_length(l.event_type) + octet_length(l.zone) + ifnull(octet_length(l.call_id), 0) \
         + ifnull(octet_length(l.request_id), 0) + ifnull(octet_length(l.manifest_sha), 0), \
         ifnull(octet_length(p.salts), 0) + ifnull(octet_length(p.action), 0) + ifnull(octet_length(p.arguments), 0) \
         + ifnull(octet_length(p.context), 0) + ifnull(octet_length(p.determining_policies), 0) \
         + ifnull(octet_length(p.diagnostics), 0) + ifnull(octet_length(p.metadata), 0) \
         + ifnull(octet_length(p.redactions), 0) + ifnull(octet_length(p.resource), 0) \
         + ifnull(octet_length(p.subject), 0) + ifnull(octet_length(p.agent), 0) + ifnull(octet_length(p.user), 0) \
         + ifnull(octet_length(p.team), 0) + ifnull(octet_length(p.server), 0) + ifnull(octet_length(p.subject_id), 0) \
         + ifnull(octet_length(p.action_name), 0) + ifnull(octet_length(p.resource_type), 0) \
         + ifnull(octet_length(p.resource_id), 0), \
         ifnull(octet_length(n.hashes), 0) \
         FROM leaves l LEFT JOIN payloads p ON p.seq = l.seq LEFT JOIN nodes n ON n.seq = l.seq WHERE l.seq = ?",
    )?;
    let mut found = BTreeMap::<String, [u64; 4]>::new();
    let mut sample = 0;
    let mut seq = 0;
    while seq < entries {
        let row = statement
            .query_row([seq.cast_signed()], |row| {
                let bytes = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
                Ok((row.get::<_, String>(0)?, [1, bytes(1)?, bytes(2)?, bytes(3)?]))
            })
            .optional()?;
        if let Some((kind, figures)) = row {
            for (sum, figure) in found.entry(kind).or_default().iter_mut().zip(figures) {
                *sum += figure;
            }
            sample += 1;
        }
        seq += step;
    }
    let mut kinds: Vec<Kind> = found
        .into_iter()
        .map(|(kind, [count, leaf, payload, tree])| Kind {
            kind,
            entries: if step == 1 { count } else { scaled(count, entries, sample) },
            leaf_bytes: leaf / count.max(1),
            payload_bytes: payload / count.max(1),
            tree_bytes: tree / count.max(1),
        })
        .collect();
    kinds.sort_by_key(|kind| std::cmp::Reverse(kind.entries));
    Ok((kinds, step > 1))
}

/// `part / sample * whole`, without leaving the integers.
fn scaled(part: u64, whole: u64, sample: u64) -> u64 {
    u64::try_from(u128::from(part) * u128::from(whole) / u128::from(sample.max(1))).unwrap_or(u64::MAX)
}

fn growth(
    connection: &Connection,
    entries: u64,
    bytes_per_entry: u64,
    oldest: Option<Timestamp>,
    now_ms: i64,
) -> rusqlite::Result<Growth> {
    // Ids are ULIDs of the entry's time, and have an index.
    let mut statement = connection
        .prepare("SELECT min(seq) FROM (SELECT seq FROM leaves WHERE id >= ? ORDER BY id LIMIT 1000)")?;
    let mut since = |ms: i64| -> rusqlite::Result<u64> {
        let id = Ulid::from_parts(u64::try_from(ms).unwrap_or(0), 0).to_string();
        // Within one millisecond ids are in no order.
        let seq = statement.query_row([id], |row| row.get::<_, Option<i64>>(0))?;
        Ok(seq.map_or(0, |seq| entries.saturating_sub(seq.cast_unsigned())))
    };
    let age_ms = oldest.map_or(DAY_MS, |oldest| now_ms - oldest.as_millisecond());
    let window_ms = age_ms.clamp(DAY_MS, GROWTH_DAYS * DAY_MS);
    let entries_last_day = since(now_ms - DAY_MS)?;
    let in_window = since(now_ms - window_ms)?;
    let entries_per_day = scaled(in_window, DAY_MS.cast_unsigned(), window_ms.cast_unsigned());
    Ok(Growth {
        entries_last_day,
        entries_per_day,
        bytes_per_day: entries_per_day.saturating_mul(bytes_per_entry),
    })
}
