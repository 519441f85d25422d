//! Reading the ledger: filtered lists, newest first, each entry in its documented shape.
//!
//! A reader never waits for the writer: it has read-only connections of its own, opened as needed and kept. Every call
//! here blocks; asynchronous callers go through `spawn_blocking`.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::backup::Temporary;
use super::filter::{Column, Filter};
use super::removals::{self, Removal, Runs};
use super::rollup::{self, Named, Summary, SummaryWanted};
use super::{LedgerError, schema};
use crate::json::Object;

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

/// The members of an entry as it is shown, in order.
pub const FIELDS: [&str; 28] = [
    "id",
    "seq",
    "call_id",
    "kind",
    "event_type",
    "occurred_at",
    "request_id",
    "mode",
    "zone",
    "subject",
    "agent",
    "user",
    "team",
    "peer",
    "user_agent",
    "server",
    "action",
    "resource",
    "classification",
    "decision",
    "evaluation_status",
    "outcome",
    "duration_us",
    "evaluation_us",
    "policy_set",
    "determining_policies",
    "diagnostics",
    "metadata",
];

/// Members that are there besides [`FIELDS`], some only where there is something to say.
pub const MORE_FIELDS: [&str; 3] = ["redactions", "damaged", "removed"];

/// One entry as it is shown. A decision has its outcome and duration joined in. Members whose payload was erased are
/// `null`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Entry)]
pub struct Stored {
    /// ULID of the entry.
    pub id: String,
    /// Leaf index.
    pub seq: i64,
    /// ULID that joins the entries of one call.
    pub call_id: Option<String>,
    /// `decision`, `outcome`, …
    pub kind: String,
    /// Dotted name of the event.
    pub event_type: String,
    /// RFC 3339, UTC, milliseconds.
    pub occurred_at: String,
    /// The caller's id for the request, or docket's.
    pub request_id: Option<String>,
    /// `enforce` or `monitor`.
    pub mode: Option<String>,
    /// The tenant.
    pub zone: String,
    /// Who acted, as policies saw it.
    #[schema(value_type = Option<crate::call::Entity>)]
    pub subject: Option<Box<RawValue>>,
    /// The authenticated agent.
    pub agent: Option<String>,
    /// The person it acts for.
    pub user: Option<String>,
    /// That person's team.
    pub team: Option<String>,
    /// Address and port the request came from.
    pub peer: Option<String>,
    /// The caller's `User-Agent`.
    pub user_agent: Option<String>,
    /// The configured server the call was for.
    pub server: Option<String>,
    /// What was to be done.
    pub action: Option<String>,
    /// What it was to be done to.
    #[schema(value_type = Option<crate::call::Entity>)]
    pub resource: Option<Box<RawValue>>,
    /// The configured classification of the tool.
    pub classification: Option<String>,
    /// `allow`, `deny` or `require_approval`.
    pub decision: Option<String>,
    /// `complete`, `error` or `timeout`.
    pub evaluation_status: Option<String>,
    /// What became of the call; `null` until it is known, and for calls that were not forwarded.
    pub outcome: Option<String>,
    /// From arrival to the end of the answer, in microseconds.
    pub duration_us: Option<i64>,
    /// Time spent in policies, in microseconds.
    pub evaluation_us: Option<i64>,
    /// The set that was in force.
    pub policy_set: Option<StoredPolicySet>,
    /// The policies that produced the effect.
    #[schema(value_type = Option<Vec<crate::decision::Determining>>)]
    pub determining_policies: Option<Box<RawValue>>,
    /// What the winning rules said.
    #[schema(value_type = Option<Vec<crate::decision::Diagnostic>>)]
    pub diagnostics: Option<Box<RawValue>>,
    /// Everything else, redacted: `context` holds what the policy saw as `input.context`.
    #[schema(value_type = Object)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// What redaction took away.
    #[schema(value_type = Vec<crate::redact::Edit>)]
    pub redactions: Box<RawValue>,
    /// Parts and columns that do not hold what docket writes, shown as if they were erased. `docket verify` says more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<&'static str>,
    /// Why there is no payload any more, and on whose behalf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<Removal>,
    /// The whole action as policies saw it, for replay; `action` is its name.
    #[serde(skip)]
    pub action_part: Option<Box<RawValue>>,
    /// Whether the payload is there.
    #[serde(skip)]
    pub has_payload: bool,
}

/// Names the policy set of an entry.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = EntryPolicySet)]
pub struct StoredPolicySet {
    /// The set's name.
    pub id: Option<String>,
    /// The author's revision.
    pub revision: Option<String>,
    /// Digest of its manifest.
    pub manifest_sha: String,
}

const SELECT: &str = "SELECT l.seq, l.id, l.call_id, l.kind, l.event_type, l.occurred_at, l.request_id, l.mode, l.zone, \
     l.decision, l.evaluation_status, l.evaluation_us, l.outcome, l.duration_us, l.manifest_sha, \
     p.subject, p.agent, p.user, p.team, p.server, p.action_name, p.resource, p.determining_policies, p.diagnostics, \
     p.arguments, p.context, p.metadata, p.redactions, o.outcome, o.duration_us, m.bytes, p.action, \
     p.seq IS NOT NULL FROM leaves l LEFT JOIN payloads p ON p.seq = l.seq \
     LEFT JOIN leaves o ON l.kind = 'decision' AND l.forwarded AND o.call_id = l.call_id AND o.kind = 'outcome' \
     LEFT JOIN digests m ON m.digest = l.manifest_sha";

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

/// Bytes of a row's texts.
fn size_of(row: &Row<'_>) -> rusqlite::Result<usize> {
    let columns = 0..row.as_ref().column_count();
    let size = |column| {
        Ok(match row.get_ref(column)? {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
            _ => 0,
        })
    };
    columns.map(size).sum()
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

impl Stored {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let mut payload = Payload { row, damaged: Vec::new() };
        let mut metadata = payload.object(26, "metadata")?;
        let mut take = |name: &str| match metadata.remove(name) {
            Some(serde_json::Value::String(text)) => Some(text),
            _ => None,
        };
        let (peer, user_agent, classification) = (take("peer"), take("user_agent"), take("classification"));
        for name in ["agent", "user", "team", "server"] {
            metadata.remove(name);
        }
        let mut context = payload.object(25, "context")?;
        if let Some(arguments) = payload.json(24, "arguments")? {
            context.insert("arguments".into(), arguments);
        }
        if !context.is_empty() {
            metadata.insert("context".into(), serde_json::Value::Object(context));
        }
        let manifest_sha: Option<String> = row.get(14)?;
        let manifest: Option<Vec<u8>> = row.get(30)?;
        Ok(Self {
            seq: row.get(0)?,
            id: row.get(1)?,
            call_id: row.get(2)?,
            kind: row.get(3)?,
            event_type: row.get(4)?,
            occurred_at: row.get(5)?,
            request_id: row.get(6)?,
            mode: row.get(7)?,
            zone: row.get(8)?,
            subject: payload.json(15, "subject")?,
            agent: payload.text(16, "agent")?.map(str::to_owned),
            user: payload.text(17, "user")?.map(str::to_owned),
            team: payload.text(18, "team")?.map(str::to_owned),
            peer,
            user_agent,
            server: payload.text(19, "server")?.map(str::to_owned),
            action: payload.text(20, "action_name")?.map(str::to_owned),
            resource: payload.json(21, "resource")?,
            classification,
            decision: row.get(9)?,
            evaluation_status: row.get(10)?,
            outcome: row.get::<_, Option<String>>(12)?.or(row.get(28)?),
            duration_us: row.get::<_, Option<i64>>(13)?.or(row.get(29)?),
            evaluation_us: row.get(11)?,
            policy_set: manifest_sha.map(|sha| StoredPolicySet::of(sha, manifest.as_deref())),
            determining_policies: payload.json(22, "determining_policies")?,
            diagnostics: payload.json(23, "diagnostics")?,
            metadata,
            redactions: match payload.json(27, "redactions")? {
                Some(redactions) => redactions,
                // Two characters that are JSON.
                None => RawValue::from_string("[]".into()).map_err(unwritten)?,
            },
            action_part: payload.json(31, "action")?,
            removed: None,
            has_payload: row.get(32)?,
            damaged: payload.damaged,
        })
    }
}

impl StoredPolicySet {
    fn of(manifest_sha: String, manifest: Option<&[u8]>) -> Self {
        #[derive(serde::Deserialize)]
        struct Named {
            id: Option<String>,
            revision: Option<String>,
        }
        let named = manifest.and_then(|bytes| serde_json::from_slice::<Named>(bytes).ok());
        let (id, revision) = named.map_or((None, None), |named| (named.id, named.revision));
        Self { id, revision, manifest_sha }
    }
}

/// The columns of `payloads` in one row. Somebody may have written over them: that must not hide the other entries of a
/// page, nor what the leaf of this one says, so what cannot be read is noted and left out.
struct Payload<'a, 'row> {
    row: &'a Row<'row>,
    damaged: Vec<&'static str>,
}

impl<'a> Payload<'a, '_> {
    fn text(&mut self, column: usize, name: &'static str) -> rusqlite::Result<Option<&'a str>> {
        let text = self.row.get_ref(column)?.as_str_or_null();
        Ok(text.unwrap_or_else(|_| {
            self.damaged.push(name);
            None
        }))
    }

    fn json<T: DeserializeOwned>(
        &mut self,
        column: usize,
        name: &'static str,
    ) -> rusqlite::Result<Option<T>> {
        let Some(text) = self.text(column, name)? else { return Ok(None) };
        let parsed = serde_json::from_str(text).ok();
        if parsed.is_none() {
            self.damaged.push(name);
        }
        Ok(parsed)
    }

    fn object(&mut self, column: usize, name: &'static str) -> rusqlite::Result<Object> {
        Ok(self.json(column, name)?.unwrap_or_default())
    }
}

fn unwritten(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
