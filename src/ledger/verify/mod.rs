//! Verifying a ledger from the bytes up: one pass over every entry, in constant memory, under one read transaction, so that
//! it may run beside a docket that writes.
//!
//! Every column that is not operational state is a function of something committed to: a leaf is laid out anew from its
//! columns and from the salted digests of its parts, and compared byte by byte; its hash grows a tree that must have the root
//! of every checkpoint on the way. Each check has a verdict of its own, with the first place that fails, so that one damage
//! does not hide another.

mod columns;
mod policies;
mod removals;
mod row;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Rows, Statement};
use serde::Serialize;

use super::{LedgerError, schema, tree as stored};
use crate::tlog::{Checkpoint, Edge, VerifierKey, leaf_hash, tree};
use removals::Removals;
use row::Fields;

/// Entries between two calls of the progress function.
const PROGRESS_EVERY: u64 = 8_192;

/// Entries are numbered as they become durable and carry the time their request arrived: they may be this much older than an
/// entry before them without a clock having been set back. Bodies and calls under way take their time.
const CLOCK_TOLERANCE_MS: i64 = 60_000;

/// A ledger is signed once a second: one that began so long ago, in milliseconds, may have no checkpoint yet. Measured by the
/// present, not by its entries: whoever took the checkpoints away could have made up those.
const UNSIGNED_MS: i64 = 5_000;

/// Every page is read once in order and once through each index: mapping the file spares a copy of each, and the cache keeps
/// the inner pages.
const READ_FAST: &str = "PRAGMA mmap_size = 2147418112; PRAGMA cache_size = -65536;";

/// What to verify against.
pub struct Options {
    /// Whose checkpoints are believed.
    pub key: VerifierKey,
    /// A checkpoint that was kept outside: the ledger must still begin with what it covers.
    pub old_checkpoint: Option<String>,
    /// Only entries from this time on, in milliseconds since the Unix epoch. What was before is taken from the stored tree.
    pub since_ms: Option<i64>,
    /// The present, in milliseconds since the Unix epoch: a ledger that began just now need not be signed yet.
    pub now_ms: i64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every check holds.
    pub ok: bool,
    /// Entries that were verified.
    pub entries: u64,
    /// One for each check.
    pub verdicts: Vec<Verdict>,
    /// What is no proof of anything, and worth knowing.
    pub warnings: Vec<String>,
}

/// How one check went.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Its name, one of [`CHECKS`].
    pub check: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// The first place that fails, as `entry 17` or `checkpoint 200`.
    pub first_failure: Option<String>,
    /// What was checked, or what is wrong there.
    pub detail: String,
}

/// Every check of a ledger file, and what it says when it holds.
pub const CHECKS: [(&str, &str); 11] = [
    ("database", "the file and its indexes are sound"),
    ("schema", "tables, views and triggers are docket's"),
    ("sequence", "entries are numbered without a hole"),
    ("entries", "leaf, columns and payload agree"),
    ("removals", "what is gone was pruned or erased, and what was pruned or erased is gone"),
    ("tree", "stored hashes are those of the leaves"),
    ("checkpoints", "signatures and roots hold"),
    ("old_checkpoint", "what the old checkpoint covers is still there"),
    ("outcomes", "every forwarded call has one outcome"),
    ("clock", "time does not go backwards"),
    ("policies", "manifests and policy files are kept and match their digests"),
];

impl Report {
    /// The report that a list of findings makes.
    #[must_use]
    pub fn of(checks: &[(&'static str, &'static str)], mut findings: Findings, entries: u64) -> Self {
        let verdicts: Vec<Verdict> = checks
            .iter()
            .map(|(check, holds)| match findings.failures.remove(check) {
                None => Verdict { check, ok: true, first_failure: None, detail: (*holds).to_owned() },
                Some(Failure { place, detail, more }) => {
                    let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
                    Verdict {
                        check,
                        ok: false,
                        first_failure: Some(place),
                        detail: format!("{detail}{more}"),
                    }
                }
            })
            .collect();
        Self { ok: verdicts.iter().all(|verdict| verdict.ok), entries, verdicts, warnings: findings.warnings }
    }
}

/// The first failure of each check, and how many followed.
#[derive(Debug, Default)]
pub struct Findings {
    failures: HashMap<&'static str, Failure>,
    warnings: Vec<String>,
}

#[derive(Debug)]
struct Failure {
    place: String,
    detail: String,
    more: u64,
}

impl Findings {
    /// Notes that a check fails at a place.
    pub fn fail(&mut self, check: &'static str, place: impl Into<String>, detail: impl Into<String>) {
        if let Some(failure) = self.failures.get_mut(check) {
            failure.more += 1;
        } else {
            let failure = Failure { place: place.into(), detail: detail.into(), more: 0 };
            self.failures.insert(check, failure);
        }
    }

    /// Notes something that is no failure.
    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }
}

/// Verifies a ledger file. `progress` is called now and then with the entries done and the entries to do.
///
/// # Errors
/// The file cannot be opened as a ledger. What is wrong inside it is a finding, not an error.
pub fn ledger(
    path: &Path,
    options: &Options,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, LedgerError> {
    let connection = schema::open_reader(path)?;
    let unreadable = |error: rusqlite::Error| LedgerError::Unreadable(schema::explain(&error));
    connection.execute_batch(READ_FAST).map_err(unreadable)?;
    // Everything below sees the file as it is at this moment, whatever a running docket adds.
    let snapshot = connection.unchecked_transaction().map_err(unreadable)?;
    let mut findings = Findings::default();
    let (entries, damage) = std::thread::scope(|scope| {
        let beside = scope.spawn(|| damage(path));
        let entries = Pass::new(&snapshot, options, &mut findings).run(progress);
        (entries, beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    for line in damage.unwrap_or_else(|error| vec![error.to_string()]) {
        findings.fail("database", "the file", line);
    }
    let entries = entries.unwrap_or_else(|error| {
        findings.fail("database", "the file", schema::explain(&error));
        0
    });
    let checks: Vec<_> = CHECKS
        .into_iter()
        .filter(|(check, _)| *check != "old_checkpoint" || options.old_checkpoint.is_some())
        .collect();
    Ok(Report::of(&checks, findings, entries))
}

/// What SQLite finds wrong with the pages and the indexes. This takes nearly as long as a pass over the entries and needs nothing
/// of it, so it has a thread and a connection of its own; that it may see entries the pass does not makes no difference.
fn damage(path: &Path) -> Result<Vec<String>, LedgerError> {
    let connection = schema::open_reader(path)?;
    let check = || {
        connection.execute_batch(READ_FAST)?;
        let mut statement = connection.prepare("PRAGMA integrity_check(5)")?;
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    let mut lines = check().map_err(|error| LedgerError::Unreadable(schema::explain(&error)))?;
    lines.retain(|line| line != "ok");
    Ok(lines)
}

/// One pass over the file.
struct Pass<'a> {
    connection: &'a Connection,
    options: &'a Options,
    findings: &'a mut Findings,
    edge: Edge,
    old: Option<Checkpoint>,
    /// Forwarded calls whose outcome has not come yet, and where they were decided: as many as were under way at once.
    open: HashMap<Vec<u8>, i64>,
    newest_time: Vec<u8>,
    clock_steps: u64,
    manifests: HashSet<String>,
    removals: Removals,
    newest_manifest: Vec<u8>,
}

impl<'a> Pass<'a> {
    fn new(connection: &'a Connection, options: &'a Options, findings: &'a mut Findings) -> Self {
        Self {
            connection,
            options,
            findings,
            edge: Edge::default(),
            old: None,
            open: HashMap::new(),
            newest_time: Vec::new(),
            clock_steps: 0,
            manifests: HashSet::new(),
            removals: Removals::default(),
            newest_manifest: Vec::new(),
        }
    }

    fn run(mut self, progress: &mut dyn FnMut(u64, u64)) -> rusqlite::Result<u64> {
        self.check_schema()?;
        let start = self.start()?;
        let total = self.highest("leaves")?.map_or(0, |newest| newest.cast_unsigned().saturating_add(1));
        if start > 0 {
            self.edge = Edge::restore(start, stored::lookup(self.connection)).unwrap_or_else(|error| {
                self.findings.fail("tree", format!("entry {start}"), format!("the tree before it: {error}"));
                Edge::default()
            });
        }
        self.check_old_checkpoint_before(start)?;
        let mut select = self.connection.prepare(row::SELECT)?;
        let mut rows = select.query([start.cast_signed()])?;
        let mut heads =
            self.connection.prepare("SELECT size, note FROM checkpoints WHERE size >= ? ORDER BY size")?;
        let mut checkpoints = Heads::new(&mut heads, start)?;
        let mut next = start;
        let mut last_kind = Vec::new();
        let mut scratch = row::Scratch::default();
        let mut hashes = Vec::with_capacity(64 * 32);
        self.meet_checkpoints(&mut checkpoints)?;
        while let Some(row) = rows.next()? {
            let fields = Fields::of(row);
            let seq = fields.seq();
            if seq != next.cast_signed() {
                self.findings.fail(
                    "sequence",
                    format!("entry {next}"),
                    format!("the entry after it is {seq}"),
                );
                next = u64::try_from(seq).unwrap_or(next);
            }
            if let Err(detail) = row::check(&fields, &mut scratch) {
                self.findings.fail("entries", format!("entry {seq}"), detail);
            }
            self.removals.meet(self.connection, &fields, &self.edge, start, self.findings)?;
            hashes.clear();
            self.edge.push(leaf_hash(fields.leaf()), &mut hashes);
            if fields.hashes() != Some(hashes.as_slice()) {
                self.findings.fail(
                    "tree",
                    format!("entry {seq}"),
                    "its stored hashes are not those of the leaves",
                );
            }
            self.follow(seq, &fields);
            last_kind.clear();
            last_kind.extend_from_slice(fields.bytes(row::KIND).unwrap_or_default());
            next += 1;
            self.meet_checkpoints(&mut checkpoints)?;
            if next.is_multiple_of(PROGRESS_EVERY) {
                progress(next - start, total.saturating_sub(start));
            }
        }
        drop(rows);
        while let Some((size, _)) = checkpoints.take_if(|_| true)? {
            let detail = format!("the ledger has only {next} entries: the others were removed");
            self.findings.fail("checkpoints", format!("checkpoint {size}"), detail);
        }
        std::mem::take(&mut self.removals).conclude(self.findings);
        let signed = checkpoints.last;
        self.check_end(next, signed, &last_kind)?;
        self.check_open_calls()?;
        policies::check(self.connection, &self.manifests, self.findings)?;
        if self.clock_steps > 1 {
            self.findings.warn(format!("the clock went back {} times in all", self.clock_steps));
        }
        Ok(next - start)
    }

    fn check_schema(&mut self) -> rusqlite::Result<()> {
        let expected = Connection::open_in_memory()?;
        for step in schema::STEPS {
            expected.execute_batch(step)?;
        }
        let (expected, found) = (objects(&expected)?, objects(self.connection)?);
        for (name, sql) in &expected {
            match found.get(name) {
                None => self.findings.fail("schema", name, "it is missing"),
                Some(other) if other != sql => {
                    self.findings.fail("schema", name, "it is not as docket makes it");
                }
                Some(_) => {}
            }
        }
        for name in found.keys().filter(|name| !expected.contains_key(*name)) {
            if name.starts_with("trigger") {
                self.findings.fail("schema", name, "docket has no such trigger");
            } else {
                self.findings.warn(format!("the file has a {name} that is not docket's"));
            }
        }
        Ok(())
    }

    /// The first entry to verify: 0, or the first that is not older than asked for.
    fn start(&self) -> rusqlite::Result<u64> {
        let Some(since_ms) = self.options.since_ms else { return Ok(0) };
        let since = crate::clock::rfc3339(since_ms);
        let start = self.connection.query_row(
            "SELECT coalesce((SELECT min(seq) FROM leaves WHERE occurred_at >= ?), (SELECT max(seq) + 1 FROM leaves), 0)",
            [since],
            |row| row.get::<_, i64>(0),
        )?;
        Ok(u64::try_from(start).unwrap_or(0))
    }

    /// Reads the old checkpoint. What it covers before the first entry that is verified, the stored tree must prove.
    fn check_old_checkpoint_before(&mut self, start: u64) -> rusqlite::Result<()> {
        let Some(note) = &self.options.old_checkpoint else { return Ok(()) };
        let old = match Checkpoint::open(note, &self.options.key) {
            Ok(old) => old,
            Err(error) => {
                self.findings.fail("old_checkpoint", "the old checkpoint", error.to_string());
                return Ok(());
            }
        };
        if old.size < start {
            let proof = tree::consistency(old.size, start, stored::lookup(self.connection))?;
            if !tree::verify_consistency(old.size, &old.root, start, &self.edge.root(), &proof) {
                self.contradicts(&old);
            }
            return Ok(());
        }
        self.old = Some(old);
        Ok(())
    }

    fn contradicts(&mut self, old: &Checkpoint) {
        let detail = format!("the first {} entries are not those it was signed for", old.size);
        self.findings.fail("old_checkpoint", format!("checkpoint {}", old.size), detail);
    }

    /// Checks the checkpoints of the tree as far as it has grown.
    fn meet_checkpoints(&mut self, checkpoints: &mut Heads<'_>) -> rusqlite::Result<()> {
        let size = self.edge.size();
        if let Some(old) = self.old.take_if(|old| old.size == size)
            && old.root != self.edge.root()
        {
            self.contradicts(&old);
        }
        while let Some((column, note)) = checkpoints.take_if(|next| next <= size)? {
            let place = format!("checkpoint {column}");
            match Checkpoint::open(&note, &self.options.key) {
                Err(error) => self.findings.fail("checkpoints", place, error.to_string()),
                Ok(head) if head.size != column => {
                    self.findings.fail("checkpoints", place, format!("its note says {} entries", head.size));
                }
                Ok(head) if column == size && head.root != self.edge.root() => {
                    self.findings.fail("checkpoints", place, "its root is not that of the entries before it");
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Looks at what an entry means for those around it.
    fn follow(&mut self, seq: i64, fields: &Fields<'_>) {
        let (kind, call_id) = (fields.bytes(row::KIND).unwrap_or_default(), fields.bytes(row::CALL_ID));
        match (kind, call_id) {
            (b"decision", Some(call_id)) if fields.forwarded() => {
                self.open.insert(call_id.to_vec(), seq);
            }
            (b"outcome", Some(call_id)) => {
                // An outcome may belong to a decision from before the time that was asked for.
                let is_known = self.open.remove(call_id).is_some();
                if !is_known && self.options.since_ms.is_none() {
                    self.findings.fail(
                        "outcomes",
                        format!("entry {seq}"),
                        "an outcome without a forwarded decision",
                    );
                }
            }
            _ => {}
        }
        // Nearly every entry was decided under the same policies as the one before it.
        if let Some(sha) = fields.bytes(row::MANIFEST_SHA)
            && self.newest_manifest != sha
        {
            self.manifests.insert(String::from_utf8_lossy(sha).into_owned());
            sha.clone_into(&mut self.newest_manifest);
        }
        let time = fields.bytes(row::OCCURRED_AT).unwrap_or_default();
        if time >= self.newest_time.as_slice() {
            time.clone_into(&mut self.newest_time);
        } else if time.get(..16) != self.newest_time.get(..16) {
            let ms = |time: &[u8]| {
                let time = std::str::from_utf8(time).ok().and_then(|time| time.parse::<Timestamp>().ok());
                time.map_or(0, Timestamp::as_millisecond)
            };
            let back_ms = ms(&self.newest_time) - ms(time);
            if back_ms > CLOCK_TOLERANCE_MS {
                if self.clock_steps == 0 {
                    self.findings
                        .warn(format!("the clock went back {} s before entry {seq}", back_ms / 1_000));
                }
                self.clock_steps += 1;
                // From here on time is measured anew: one step is one warning.
                time.clone_into(&mut self.newest_time);
            }
        }
    }

    /// What must be true of the end: nothing lies beyond the last entry, and the newest checkpoint reaches it.
    fn check_end(&mut self, end: u64, signed: Option<u64>, last_kind: &[u8]) -> rusqlite::Result<()> {
        for (table, check) in [("payloads", "entries"), ("nodes", "tree")] {
            let beyond = self.highest(table)?.filter(|newest| *newest >= end.cast_signed());
            let below =
                self.connection.query_row(&format!("SELECT min(seq) FROM {table}"), [], |row| row.get(0))?;
            if let Some(seq) = beyond.or(below).filter(|seq: &i64| *seq < 0 || *seq >= end.cast_signed()) {
                self.findings.fail(
                    check,
                    format!("entry {seq}"),
                    format!("`{table}` has it and `leaves` does not"),
                );
            }
        }
        let below = self
            .connection
            .query_row("SELECT min(seq) FROM leaves", [], |row| row.get::<_, Option<i64>>(0))?;
        if let Some(seq) = below.filter(|seq| *seq < 0) {
            self.findings.fail("sequence", format!("entry {seq}"), "entries are numbered from 0");
        }
        let below = self
            .connection
            .query_row("SELECT min(size) FROM checkpoints", [], |row| row.get::<_, Option<i64>>(0))?;
        if let Some(size) = below.filter(|size| *size < 0) {
            self.findings.fail("checkpoints", format!("checkpoint {size}"), "no tree has this size");
        }
        if let Some(old) = self.old.take() {
            let detail =
                format!("it covers {} entries and the ledger has {end}: entries were removed", old.size);
            self.findings.fail("old_checkpoint", format!("checkpoint {}", old.size), detail);
        }
        match signed {
            None if end == 0 => {}
            None if self.options.since_ms.is_some() => {
                self.findings.warn("no checkpoint covers the entries that were asked for");
            }
            None if last_kind != b"stop" && self.began_just_now()? => {
                self.findings.warn(format!(
                    "no checkpoint covers any of the {end} entries yet: the ledger began just now; verify it again in a moment"
                ));
            }
            None => self.findings.fail("checkpoints", "the file", "there is no checkpoint"),
            // Stopping in good order signs the last entry.
            Some(size) if size < end && last_kind == b"stop" => {
                let detail = format!(
                    "docket stopped in good order, and the newest checkpoint covers {size} of {end} entries"
                );
                self.findings.fail("checkpoints", format!("checkpoint {end}"), detail);
            }
            Some(size) if size < end => {
                self.findings.warn(format!("{} entries are newer than the newest checkpoint", end - size));
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Whether the first entry is so young that docket has hardly had the time to sign it.
    fn began_just_now(&self) -> rusqlite::Result<bool> {
        let first: Option<String> = self
            .connection
            .query_row("SELECT occurred_at FROM leaves ORDER BY seq LIMIT 1", [], |row| row.get(0))
            .optional()?;
        let first = first.and_then(|time| time.parse::<Timestamp>().ok());
        Ok(first.is_some_and(|first| (self.options.now_ms - first.as_millisecond()).abs() <= UNSIGNED_MS))
    }

    /// Calls without an outcome: those docket knows to be under way, and those it does not.
    fn check_open_calls(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare("SELECT 1 FROM op_open_calls WHERE call_id = ?")?;
        let mut open: Vec<(i64, _)> =
            self.open.iter().map(|(call_id, seq)| (*seq, String::from_utf8_lossy(call_id))).collect();
        open.sort_unstable();
        let mut in_flight = 0;
        for (seq, call_id) in open {
            if statement.exists([call_id])? {
                in_flight += 1;
            } else {
                self.findings.fail("outcomes", format!("entry {seq}"), "a forwarded call without an outcome");
            }
        }
        if in_flight > 0 {
            self.findings.warn(format!("{in_flight} calls are in flight, or were when docket ended"));
        }
        Ok(())
    }

    fn highest(&self, table: &str) -> rusqlite::Result<Option<i64>> {
        self.connection.query_row(&format!("SELECT max(seq) FROM {table}"), [], |row| row.get(0))
    }
}

/// The checkpoints in the order of their sizes, the next of which can be looked at before it is taken.
struct Heads<'a> {
    rows: Rows<'a>,
    next: Option<(u64, String)>,
    /// Size of the newest that was there.
    last: Option<u64>,
}

impl<'a> Heads<'a> {
    fn new(statement: &'a mut Statement<'_>, start: u64) -> rusqlite::Result<Self> {
        let mut heads = Self { rows: statement.query([start.cast_signed()])?, next: None, last: None };
        heads.advance()?;
        Ok(heads)
    }

    fn advance(&mut self) -> rusqlite::Result<()> {
        self.next = match self.rows.next()? {
            Some(row) => Some((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?)),
            None => None,
        };
        if let Some((size, _)) = &self.next {
            self.last = Some(*size);
        }
        Ok(())
    }

    fn take_if(&mut self, wanted: impl FnOnce(u64) -> bool) -> rusqlite::Result<Option<(u64, String)>> {
        if !self.next.as_ref().is_some_and(|(size, _)| wanted(*size)) {
            return Ok(None);
        }
        let taken = self.next.take();
        self.advance()?;
        Ok(taken)
    }
}

/// Every object of a schema but operational tables with their indexes, and SQLite's own: `trigger NAME` → its SQL. A trigger
/// on an operational table counts: it could do anything to the others.
fn objects(connection: &Connection) -> rusqlite::Result<HashMap<String, String>> {
    let sql = "SELECT type || ' ' || name, coalesce(sql, '') FROM sqlite_schema \
               WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
               AND (type = 'trigger' OR tbl_name NOT LIKE 'op\\_%' ESCAPE '\\')";
    let mut statement = connection.prepare(sql)?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}
