//! Reading the ledger: filtered lists, newest first, each entry in its documented shape ([`Stored`]).
//!
//! A reader never waits for the writer: it has read-only connections of its own, opened as needed and kept. Every call
//! here blocks; asynchronous callers go through `spawn_blocking`.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OptionalExtension};

use super::backup::Temporary;
use super::filter::{Column, Filter};
use super::removals::{self, Runs};
use super::rollup::{self, Named, Summary, SummaryWanted};
use super::stored::{SELECT, Stored, size_of};
use super::{LedgerError, schema};

/// Idle connections kept for the next query.
const MAX_IDLE_CONNECTIONS: usize = 4;

/// Steps of SQLite's machine between two looks at the time.
const LOOK_STEPS: i32 = 10_000;

/// Entries one query answers at most.
pub const MAX_LIMIT: u32 = 1_000;

/// Entries a query answers unless it says otherwise.
pub const DEFAULT_LIMIT: u32 = 100;

/// Reads one ledger file. Cloning shares the idle connections.
#[derive(Clone)]
pub struct Reader {
    pub(super) path: Arc<Path>,
    idle: Arc<Mutex<Vec<Connection>>>,
    timeout_ms: Option<u64>,
    /// What is read, where that is a copy.
    _copy: Option<Arc<Temporary>>,
    /// What the entries of a page may have together.
    max_page_bytes: usize,
    /// Called now and then while a query runs.
    pause: fn(),
}

/// What entries that are read to be passed on may have together.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// Some of the entries that match.
pub struct Page {
    /// In order.
    pub entries: Vec<Stored>,
    /// Whether there are more after the last.
    pub has_more: bool,
    /// How many match in all.
    pub total: u64,
}

impl Reader {
    /// Reads the ledger at `path`; connections are opened when first needed.
    #[must_use]
    pub fn new(path: Arc<Path>) -> Self {
        Self::of(path, None)
    }

    /// The same, of a copy that is removed with its last reader.
    pub(super) fn of(path: Arc<Path>, copy: Option<Arc<Temporary>>) -> Self {
        Self {
            path,
            idle: Arc::default(),
            timeout_ms: None,
            max_page_bytes: usize::MAX,
            pause: || (),
            _copy: copy,
        }
    }

    /// The same reader, whose queries are interrupted after so many milliseconds.
    #[must_use]
    pub fn within(&self, timeout_ms: u64) -> Self {
        Self { timeout_ms: Some(timeout_ms), ..self.clone() }
    }

    /// The same reader, whose pages have no more than so many bytes.
    #[must_use]
    pub fn with_pages_of(&self, max_page_bytes: usize) -> Self {
        Self { max_page_bytes, ..self.clone() }
    }

    /// The same reader, whose queries call `pause` now and then: it may let others go first.
    #[must_use]
    pub fn pausing(&self, pause: fn()) -> Self {
        Self { pause, ..self.clone() }
    }

    /// The entries that match, at most [`MAX_LIMIT`].
    ///
    /// # Errors
    /// [`LedgerError`] when the file cannot be opened or read.
    pub fn entries(&self, filter: &Filter) -> Result<Vec<Stored>, LedgerError> {
        self.with(|connection| {
            // One moment for finding and reading.
            let snapshot = connection.unchecked_transaction()?;
            entries(&snapshot, filter, MAX_LIMIT)
        })
    }

    /// Likewise, but no more than have some megabytes together, for whoever passes them on; and whether there may be more.
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn batch(&self, filter: &Filter) -> Result<(Vec<Stored>, bool), LedgerError> {
        self.with(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            let (entries, is_all) = read(&snapshot, filter, MAX_LIMIT, MAX_BATCH_BYTES)?;
            let most = filter.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
            let has_more = !is_all || entries.len() >= usize::try_from(most).unwrap_or(usize::MAX);
            Ok((entries, has_more))
        })
    }

    /// How many entries match, whatever limit and skip say.
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn count(&self, filter: &Filter) -> Result<u64, LedgerError> {
        self.with(|connection| rollup::count(&*connection.unchecked_transaction()?, filter))
    }

    /// One page: the entries that match, whether there are more after them, and how many match where it does not matter where
    /// the page begins: `start` is what a cursor says, in the order of the list.
    ///
    /// # Errors
    /// As [`Reader::entries`]; [`LedgerError::TooLarge`].
    pub fn page(&self, filter: &Filter, start: Option<i64>) -> Result<Page, LedgerError> {
        let page = self.with(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            let limit = filter.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
            let one_more = Filter { limit: Some(limit + 1), ..filter.clone().from(start) };
            let (mut entries, is_all) = read(&snapshot, &one_more, MAX_LIMIT + 1, self.max_page_bytes)?;
            let has_more = entries.len() > usize::try_from(limit).unwrap_or(usize::MAX);
            if !is_all && !has_more {
                return Ok(Err(LedgerError::TooLarge {
                    entries: entries.len(),
                    max_bytes: self.max_page_bytes,
                }));
            }
            entries.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            Ok(Ok(Page { entries, has_more, total: rollup::count(&snapshot, filter)? }))
        });
        page?
    }

    /// Traffic in numbers.
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn summary(&self, wanted: &SummaryWanted) -> Result<Summary, LedgerError> {
        self.with(|connection| rollup::summary(&*connection.unchecked_transaction()?, wanted))
    }

    /// The values of some columns among the decisions of a filter, each with how many have it, the most frequent first; only
    /// those that contain `part`, where that is given. `limit` of each column at most.
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn named(
        &self,
        filter: &Filter,
        columns: &[Column],
        part: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Named>, LedgerError> {
        self.with(|connection| {
            rollup::named(&*connection.unchecked_transaction()?, filter, columns, part, limit)
        })
    }

    /// The number of the newest entry; -1 where there is none.
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn newest_seq(&self) -> Result<i64, LedgerError> {
        self.with(|connection| {
            let newest = connection.query_row("SELECT max(seq) FROM leaves", [], |row| row.get(0));
            newest.map(|newest: Option<i64>| newest.unwrap_or(-1))
        })
    }

    /// The manifest the ledger speaks of last: that of the policies in force when its newest entries were written.
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn newest_manifest(&self) -> Result<Option<String>, LedgerError> {
        let sql = "SELECT manifest_sha FROM leaves WHERE manifest_sha IS NOT NULL ORDER BY seq DESC LIMIT 1";
        self.with(|connection| connection.query_row(sql, [], |row| row.get(0)).optional())
    }

    /// The bytes kept under a digest (`sha256:…`).
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn digest(&self, digest: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        self.with(|connection| {
            connection
                .prepare_cached("SELECT bytes FROM digests WHERE digest = ?")?
                .query_row([digest], |row| row.get(0))
                .optional()
        })
    }

    /// Runs one query on a connection from the pool. A connection that failed is not kept.
    pub(super) fn with<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LedgerError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => schema::open_reader(&self.path)?,
        };
        let (timeout_ms, pause) = (self.timeout_ms, self.pause);
        pause();
        let fail = |error: rusqlite::Error| match (error.sqlite_error_code(), timeout_ms) {
            (Some(ErrorCode::OperationInterrupted), Some(timeout_ms)) => LedgerError::TooSlow(timeout_ms),
            _ => LedgerError::Unreadable(schema::explain(&error)),
        };
        let deadline = timeout_ms.map(|timeout_ms| Instant::now() + Duration::from_millis(timeout_ms));
        let look = move || {
            pause();
            deadline.is_some_and(|deadline| Instant::now() > deadline)
        };
        connection.progress_handler(LOOK_STEPS, Some(look)).map_err(fail)?;
        let answer = query(&connection).map_err(fail)?;
        connection.progress_handler(LOOK_STEPS, None::<fn() -> bool>).map_err(fail)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE_CONNECTIONS {
            idle.push(connection);
        }
        Ok(answer)
    }
}

/// The entries that match, within a snapshot.
pub(super) fn entries(connection: &Connection, filter: &Filter, most: u32) -> rusqlite::Result<Vec<Stored>> {
    read(connection, filter, most, usize::MAX).map(|(entries, _)| entries)
}

/// Likewise, until they have `max_bytes`; and whether those were all.
fn read(
    connection: &Connection,
    filter: &Filter,
    most: u32,
    max_bytes: usize,
) -> rusqlite::Result<(Vec<Stored>, bool)> {
    let limit = filter.limit.unwrap_or(DEFAULT_LIMIT).min(most);
    let seqs = rollup::matching(connection, filter, usize::try_from(limit).unwrap_or(usize::MAX))?;
    let mut select = connection.prepare_cached(&format!("{SELECT} WHERE l.seq = ?"))?;
    let (mut entries, mut bytes) = (Vec::with_capacity(seqs.len()), 0);
    for seq in &seqs {
        let (entry, size) = select.query_row([seq], |row| Ok((Stored::from_row(row)?, size_of(row)?)))?;
        entries.push(entry);
        bytes += size;
        if bytes >= max_bytes {
            break;
        }
    }
    name_removals(connection, &mut entries)?;
    let is_all = entries.len() == seqs.len();
    Ok((entries, is_all))
}

/// Says of entries without a payload which act removed it.
fn name_removals(connection: &Connection, entries: &mut [Stored]) -> rusqlite::Result<()> {
    let mut missing = Runs::default();
    for entry in entries.iter().filter(|entry| !entry.has_payload) {
        missing.push(entry.seq);
    }
    for (removal, seqs) in removals::covering(connection, &missing)? {
        for entry in entries.iter_mut().filter(|entry| !entry.has_payload && seqs.contains(entry.seq)) {
            entry.removed = Some(removal.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ledger::{FIELDS, MORE_FIELDS};

    #[test]
    fn a_damaged_payload_hides_nothing_else() {
        let connection = Connection::open_in_memory().unwrap();
        let stored = |parts: &str| -> serde_json::Value {
            let sql = format!(
                "SELECT 7, 'E', 'C', 'decision', 'tools.call', 'T', 'r-1', 'enforce', 'default', \
                 'deny', 'complete', 31, NULL, NULL, NULL, {parts}, NULL, NULL, NULL, NULL, 1"
            );
            let stored = connection.query_row(&sql, [], Stored::from_row).unwrap();
            serde_json::to_value(stored).unwrap()
        };
        // subject, agent, user, team, server, action_name, resource, determining_policies, diagnostics,
        // arguments, context, metadata, redactions
        let whole = stored(
            r#"'{"id":"a"}', 'bot', NULL, NULL, 'fs', 'tools/call', '{"id":"x"}', '[]', '[]',
            '[1]', '{"peer":"p"}', '{"reason":"r"}', '[]'"#,
        );
        assert_eq!(whole.get("damaged"), None);
        assert_eq!(whole["metadata"], json!({"reason": "r", "context": {"peer": "p", "arguments": [1]}}));
        let damaged = stored(
            r#"'{"id":', x'ff', 'alice', NULL, 'fs', 'tools/call', '{"id":"x"}', x'00', '[]',
            '[1', '"[redacted]"', '"[redacted]"', 'nonsense'"#,
        );
        assert_eq!(
            damaged["damaged"],
            json!([
                "metadata",
                "context",
                "arguments",
                "subject",
                "agent",
                "determining_policies",
                "redactions"
            ])
        );
        for (member, expected) in [
            ("seq", json!(7)),
            ("decision", json!("deny")),
            ("subject", json!(null)),
            ("agent", json!(null)),
            ("user", json!("alice")),
            ("resource", json!({"id": "x"})),
            ("determining_policies", json!(null)),
            ("metadata", json!({})),
            ("redactions", json!([])),
        ] {
            assert_eq!(damaged[member], expected, "{member}");
        }
    }

    #[tokio::test]
    async fn a_query_that_takes_too_long_is_interrupted_and_the_next_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docket.db");
        let clock = crate::clock::Clock { now_ms: || 1, random: |buffer| buffer.fill(1) };
        let queue = crate::ledger::Queue::default();
        let ledger =
            crate::ledger::Ledger::open(&path, queue, crate::ledger::Signing::default(), clock).unwrap();
        let reader = ledger.reader().within(30);
        let endless =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        for _ in 0..2 {
            let began = Instant::now();
            let asked =
                reader.with(|connection| connection.query_row(endless, [], |row| row.get::<_, i64>(0)));
            assert!(matches!(asked, Err(LedgerError::TooSlow(30))), "{asked:?}");
            assert!(began.elapsed() < Duration::from_secs(10));
            assert_eq!(reader.count(&Filter::default()).unwrap(), 0);
        }
        ledger.close().await;
    }

    #[test]
    fn the_members_of_an_entry_are_listed() {
        let connection = Connection::open_in_memory().unwrap();
        let sql = "SELECT 7, 'E', 'C', 'decision', 'tools.call', 'T', 'r-1', 'enforce', 'default', 'deny', 'complete', 31, NULL, \
             NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, x'00', NULL, NULL, NULL, NULL, 1";
        let stored = connection.query_row(sql, [], Stored::from_row).unwrap();
        let shown = serde_json::to_value(stored).unwrap();
        let mut known: Vec<&str> = FIELDS.into_iter().chain(MORE_FIELDS).collect();
        known.retain(|name| *name != "removed");
        known.sort_unstable();
        let mut members: Vec<&str> = shown.as_object().unwrap().keys().map(String::as_str).collect();
        members.sort_unstable();
        assert_eq!(members, known);
    }
}
