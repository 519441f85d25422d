//! Erasure down to the bytes: which entries are a subject's, and what is left of its id in the file afterwards.
//!
//! `secure_delete` overwrites a deleted row and a freed page with zeros. Two places are left. The write-ahead log holds what
//! was written before: it is copied and truncated. And where SQLite moved a row to another page, while its neighbours were
//! deleted, a stale copy may remain in the unused part of the page it came from, which no later deletion reaches: such
//! pages are found by reading the file, and laid out anew.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aho_corasick::AhoCorasick;
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use ulid::Ulid;

use super::LedgerError;
use super::reader::Reader;
use crate::files::beside;
use crate::text::{json_escaped, percent_encoded};

/// How often truncating the log is tried before it is said that a reader is in the way.
pub(super) const SETTLE_ATTEMPTS: u32 = 60;

/// Between two such attempts, in milliseconds.
const SETTLE_WAIT_MS: u64 = 50;

/// Bytes before the first page's own header.
const FILE_HEADER_BYTES: usize = 100;

/// First byte of a page that holds rows of a table.
const TABLE_LEAF: u8 = 13;

/// What of a leaf docket did not make itself: the zone, and a request id that is no ULID of docket's.
const CHOSEN_IN_LEAF: &str = "concat_ws(' ', CASE WHEN length(x.request_id) = 26 AND x.request_id NOT GLOB \
     '*[^0-9A-HJKMNP-TV-Z]*' THEN NULL ELSE x.request_id END, x.zone)";

/// What is left of an erased id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Remains {
    /// Whether the write-ahead log could be copied and truncated; a reader with an old snapshot keeps it.
    pub log_truncated: bool,
    /// How often the id stands in the bytes of the file where no row accounts for it.
    pub unused: u64,
    /// Rows that still have it, and why that may be right, in words.
    pub places: Vec<String>,
}

/// The entries of a subject.
#[derive(Debug, Default)]
pub(super) struct Belongings {
    /// Outcomes and traces of its calls first, what names it last: after a crash in between the rest can still be found.
    pub seqs: Vec<i64>,
    /// Its calls under way, which are left alone: their outcomes are still to come.
    pub in_flight: u64,
}

impl Reader {
    /// The entries whose subject, user or agent this is, below a number, with everything else recorded of their calls.
    /// Reads every payload: an index would keep copies of ids where no deletion reaches them.
    pub(super) fn belongings(&self, subject: &str, below: i64) -> Result<Belongings, LedgerError> {
        self.with(|connection| {
            let mut own = connection.prepare(
                "SELECT p.seq, l.call_id, o.call_id IS NOT NULL FROM payloads p JOIN leaves l ON l.seq = p.seq \
                 LEFT JOIN op_open_calls o ON o.call_id = l.call_id WHERE p.seq < ?2 AND ?1 IN (p.subject_id, p.user, p.agent)",
            )?;
            let mut joined = connection.prepare(
                "SELECT l.seq FROM leaves l JOIN payloads p ON p.seq = l.seq WHERE l.call_id = ?1 AND l.seq <> ?2",
            )?;
            let (mut of_calls, mut named, mut in_flight) = (Vec::new(), Vec::new(), 0);
            let mut rows = own.query(rusqlite::params![subject, below])?;
            while let Some(row) = rows.next()? {
                if row.get::<_, bool>(2)? {
                    in_flight += 1;
                    continue;
                }
                let seq: i64 = row.get(0)?;
                if let Some(call_id) = row.get::<_, Option<String>>(1)? {
                    for other in joined.query_map(rusqlite::params![call_id, seq], |row| row.get(0))? {
                        of_calls.push(other?);
                    }
                }
                named.push(seq);
            }
            named.sort_unstable();
            of_calls.sort_unstable();
            of_calls.dedup();
            of_calls.retain(|seq| named.binary_search(seq).is_err());
            of_calls.extend(named);
            Ok(Belongings { seqs: of_calls, in_flight })
        })
    }

    /// The rows that hold a text, in words: one line for each table. Of a leaf only what somebody else than docket chose is
    /// looked at: a short id stands in some digest by chance, and in some ULID. Answers too whether a leaf has it anywhere.
    pub(super) fn places(&self, needles: &[String]) -> Result<(Vec<String>, bool), LedgerError> {
        let is_ulid = |text: &String| Ulid::from_string(text).is_ok();
        let chosen =
            if needles.iter().any(is_ulid) { "concat_ws(' ', x.request_id, x.zone)" } else { CHOSEN_IN_LEAF };
        let tables = [
            (
                "payloads",
                "seq",
                "concat_ws(' ', x.action, x.arguments, x.context, x.determining_policies, x.diagnostics, x.metadata, \
                 x.redactions, x.resource, x.subject)",
                "held, of calls under way, or of somebody else who was told of it",
            ),
            (
                "leaves",
                "seq",
                chosen,
                "leaves stay; a caller put it into a request id, or it is the name of a zone",
            ),
            ("digests", "rowid", "CAST(x.bytes AS TEXT)", "a policy or its data names it"),
        ];
        self.with(|connection| {
            let mut places = Vec::new();
            for (table, key, text, why) in tables {
                let tests = vec![format!("instr({text}, ?) > 0"); needles.len()].join(" OR ");
                let sql = format!("SELECT count(*), min(x.{key}) FROM {table} x WHERE {tests}");
                let (count, first): (i64, Option<i64>) =
                    connection.query_row(&sql, rusqlite::params_from_iter(needles), |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })?;
                if let Some(first) = first {
                    let first =
                        if table == "digests" { String::new() } else { format!(", first entry {first}") };
                    places.push(format!("{count} rows of `{table}`{first}: {why}"));
                }
            }
            let tests = vec!["instr(leaf, ?) > 0"; needles.len()].join(" OR ");
            let sql = format!("SELECT EXISTS (SELECT 1 FROM leaves WHERE {tests})");
            let in_leaf =
                connection.query_row(&sql, rusqlite::params_from_iter(needles), |row| row.get(0))?;
            Ok((places, in_leaf))
        })
    }

    /// These rows of `payloads` and so many on either side of each.
    pub(super) fn neighbours(&self, seqs: &[i64], around: u32) -> Result<Vec<i64>, LedgerError> {
        self.with(|connection| {
            let mut below =
                connection.prepare("SELECT seq FROM payloads WHERE seq <= ? ORDER BY seq DESC LIMIT ?")?;
            let mut above =
                connection.prepare("SELECT seq FROM payloads WHERE seq >= ? ORDER BY seq LIMIT ?")?;
            let mut found = Vec::new();
            for seq in seqs {
                for select in [&mut below, &mut above] {
                    for other in select.query_map(rusqlite::params![seq, around], |row| row.get(0))? {
                        found.push(other?);
                    }
                }
            }
            found.sort_unstable();
            found.dedup();
            Ok(found)
        })
    }
}

/// Copies the write-ahead log into the file and truncates it; answers whether it could. Appends go on meanwhile: most is copied
/// without keeping the writer out, and what is left then is little.
pub(super) fn settle(path: &Path, attempts: u32) -> bool {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(connection) = Connection::open_with_flags(path, flags) else { return false };
    // Truncating keeps the writer out. Waiting for a reader meanwhile would have every call wait with it.
    if connection.busy_timeout(Duration::ZERO).is_err() {
        return false;
    }
    let checkpoint = |mode: &str| {
        connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get::<_, i64>(0))
    };
    for attempt in 0..attempts {
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(SETTLE_WAIT_MS));
        }
        if checkpoint("PASSIVE").is_ok() && checkpoint("TRUNCATE").is_ok_and(|busy| busy == 0) {
            return true;
        }
    }
    false
}

/// A text as it may stand in the file: as it is, as JSON writes it, and percent-encoded, as a query of the audit API has it.
pub(super) fn needles(text: &str) -> Vec<String> {
    let encoded = percent_encoded(text, b":");
    let mut pieces = encoded.split('%');
    let mut lower = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        // Every percent sign stands before two digits: one of the text's own is encoded itself.
        let (digits, rest) = piece.split_at_checked(2).unwrap_or((piece, ""));
        lower.extend(["%", &digits.to_ascii_lowercase(), rest]);
    }
    let mut forms = vec![text.to_owned(), encoded, lower];
    forms.extend(json_escaped(text));
    forms.sort();
    forms.dedup();
    forms
}

/// What reading the file found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Occurrences in all.
    pub all: u64,
    /// Those in a page of rows, outside of its rows.
    pub stale: u64,
    /// The rows of such pages.
    pub rows: Vec<i64>,
}

/// Reads the bytes of the database for any of these texts.
pub(super) fn scan(path: &Path, needles: &[String]) -> Result<Found, LedgerError> {
    let unreadable = |error: String| LedgerError::Unreadable(error);
    let search = AhoCorasick::new(needles).map_err(|error| unreadable(error.to_string()))?;
    read(path, &search).map_err(|error| unreadable(error.to_string()))
}

/// The database files that were read here. They are never closed: POSIX takes *every* lock a process has on a file as soon as the
/// process closes *any* descriptor of it, and SQLite's locks are among them. Without those, whoever opens the ledger next would
/// believe to be alone with it, and remove its log.
static KEPT_OPEN: Mutex<Vec<KeptOpen>> = Mutex::new(Vec::new());

struct KeptOpen {
    device: u64,
    inode: u64,
    file: Arc<File>,
}

fn keep_open(path: &Path) -> io::Result<Arc<File>> {
    let mut kept = KEPT_OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let there = std::fs::metadata(path)?;
    let known = kept.iter().find(|kept| (kept.device, kept.inode) == (there.dev(), there.ino()));
    if let Some(known) = known {
        return Ok(known.file.clone());
    }
    let file = Arc::new(File::open(path)?);
    // From here on it may be a ledger's, and is kept whatever happens: also where another file has come to its place just now.
    let opened = file.metadata().unwrap_or(there);
    kept.push(KeptOpen { device: opened.dev(), inode: opened.ino(), file: file.clone() });
    Ok(file)
}

fn read(path: &Path, search: &AhoCorasick) -> io::Result<Found> {
    let file = keep_open(path)?;
    let mut at = 0;
    let mut read_exact =
        |buffer: &mut [u8]| file.read_exact_at(buffer, at).inspect(|()| at += buffer.len() as u64);
    let mut found = Found::default();
    let mut page = vec![0; FILE_HEADER_BYTES];
    match read_exact(&mut page) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(found),
        other => other?,
    }
    let size = match u16_at(&page, 16) {
        // 65536 does not fit into its field.
        Some(1) => 65_536,
        size => usize::from(size.unwrap_or_default()).max(512),
    };
    let usable = size - usize::from(page.get(20).copied().unwrap_or_default());
    let mut start = FILE_HEADER_BYTES;
    page.resize(size, 0);
    loop {
        match read_exact(page.get_mut(start..).unwrap_or_default()) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(found),
            other => other?,
        }
        if search.is_match(&page) {
            // The first page has the file's header before its own.
            let rows = Rows::of(&page, if start > 0 { FILE_HEADER_BYTES } else { 0 }, usable);
            let mut is_stale = false;
            for place in search.find_iter(&page) {
                found.all += 1;
                if rows.as_ref().is_some_and(|rows| !rows.hold(place.start())) {
                    found.stale += 1;
                    is_stale = true;
                }
            }
            if is_stale {
                found.rows.extend(rows.into_iter().flat_map(|rows| rows.0).map(|(seq, ..)| seq));
            }
        }
        start = 0;
    }
}

/// The rows of one page: row id, and where its bytes begin and end.
struct Rows(Vec<(i64, usize, usize)>);

impl Rows {
    /// `None` where the page holds something else. The format is SQLite's, <https://www.sqlite.org/fileformat2.html#b_tree_pages>.
    fn of(page: &[u8], header: usize, usable: usize) -> Option<Self> {
        if *page.get(header)? != TABLE_LEAF {
            return None;
        }
        let count = usize::from(u16_at(page, header + 3)?);
        let rows = (0..count).map(|number| {
            let at = usize::from(u16_at(page, header + 8 + 2 * number)?);
            let (length, length_bytes) = varint(page.get(at..)?)?;
            let (row_id, id_bytes) = varint(page.get(at + length_bytes..)?)?;
            let end = at + length_bytes + id_bytes + local(usize::try_from(length).ok()?, usable);
            Some((row_id.cast_signed(), at, end))
        });
        rows.collect::<Option<_>>().map(Self)
    }

    fn hold(&self, place: usize) -> bool {
        self.0.iter().any(|(_, start, end)| (*start..*end).contains(&place))
    }
}

/// How much of a row of so many bytes stands in its own page, with the number of the next page where that is not all.
fn local(length: usize, usable: usize) -> usize {
    let most = usable - 35;
    if length <= most {
        return length;
    }
    let least = (usable - 12) * 32 / 255 - 23;
    let kept = least + (length - least) % (usable - 4);
    4 + if kept <= most { kept } else { least }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// SQLite's variable-length integer, and how many bytes it takes.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(8).enumerate() {
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    Some((value << 8 | u64::from(*bytes.get(8)?), 9))
}

/// Whether the log beside a ledger holds any of these texts: entries that came since, or what could not be truncated.
pub(super) fn is_in_log(path: &Path, needles: &[String]) -> Result<bool, LedgerError> {
    let unreadable = |error: &dyn std::error::Error| LedgerError::Unreadable(error.to_string());
    let file = match File::open(beside(path, "-wal")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        other => other.map_err(|error| unreadable(&error))?,
    };
    let search = AhoCorasick::new(needles).map_err(|error| unreadable(&error))?;
    let mut places = search.try_stream_find_iter(file).map_err(|error| unreadable(&error))?;
    places.next().transpose().map(|place| place.is_some()).map_err(|error| unreadable(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_sqlite_writes_them() {
        for (bytes, expected) in [
            (&[0x05][..], Some((5, 1))),
            (&[0x81, 0x00], Some((128, 2))),
            (&[0xff; 9], Some((u64::MAX, 9))),
            (&[0x81], None),
            (&[], None),
        ] {
            assert_eq!(varint(bytes), expected, "{bytes:?}");
        }
        assert_eq!((local(100, 4096), local(4061, 4096), local(4062, 4096)), (100, 4061, 4 + 489));
    }

    #[test]
    fn a_row_is_told_from_what_another_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.db");
        let connection = Connection::open(&path).unwrap();
        let fill = "x".repeat(600);
        connection
            .execute_batch("PRAGMA secure_delete = ON; CREATE TABLE t (seq INTEGER PRIMARY KEY, a TEXT)")
            .unwrap();
        for seq in 1..40 {
            let text = if seq % 3 == 0 { format!("alice{fill}") } else { fill.clone() };
            connection.execute("INSERT INTO t VALUES (?, ?)", rusqlite::params![seq, text]).unwrap();
        }
        let needles = needles("alice");
        assert_eq!(scan(&path, &needles).unwrap(), Found { all: 13, ..Found::default() });
        connection.execute_batch("PRAGMA secure_delete = OFF; DELETE FROM t WHERE seq = 6").unwrap();
        let found = scan(&path, &needles).unwrap();
        assert_eq!((found.all, found.stale), (13, 1));
        assert!(found.rows.contains(&5) && !found.rows.contains(&6), "{found:?}");
    }
}
