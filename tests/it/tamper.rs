//! Attacks on the file itself, by somebody who may write every byte of it: `verify` names each one.

use std::path::{Path, PathBuf};

use docket::ledger::verify::{self, Options, Report};
use docket::tlog::{Checkpoint, Edge, SigningKey, VerifierKey, leaf_hash};
use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Docket, POLICY, Process, docket as command, folder_with};

/// A ledger after a short life, a checkpoint and a copy taken in the middle of it, and its key.
struct Fixture {
    folder: TempDir,
    pristine: Vec<u8>,
    older_copy: Vec<u8>,
    older_checkpoint: String,
    key: VerifierKey,
}

impl Fixture {
    async fn new() -> Self {
        let docket = Docket::before("http://127.0.0.1:1/mcp", POLICY).await;
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"a": 1}}});
        for number in 0..2 {
            docket.evaluate(&format!("a-{number}"), "echo", json!({"path": "/x"})).await;
            docket.rpc(&call, &[("x-request-id", "forwarded")]).await;
        }
        docket.wait_for(|entry| entry["kind"] == "outcome").await;
        let older_checkpoint = docket.admin_get("/v1/checkpoint").await.text().await.unwrap();
        let copy = docket.folder.path().join("copy.db");
        Connection::open(docket.ledger())
            .unwrap()
            .execute("VACUUM INTO ?", [copy.to_str().unwrap()])
            .unwrap();
        docket.evaluate("a-denied", "delete_file", json!({"path": "/x"})).await;
        let folder = docket.stop().await;
        let key = docket::ledger::key::verifier(&folder.path().join("docket.db.key"), None).unwrap();
        let older_copy = std::fs::read(copy).unwrap();
        let fixture = Self { pristine: Vec::new(), older_copy, older_checkpoint, key, folder };
        fixture.open().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let pristine = std::fs::read(fixture.ledger()).unwrap();
        Self { pristine, ..fixture }
    }

    fn ledger(&self) -> PathBuf {
        self.folder.path().join("docket.db")
    }

    fn open(&self) -> Connection {
        Connection::open(self.ledger()).unwrap()
    }

    fn restore(&self, bytes: &[u8]) {
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.ledger().display()));
        }
        std::fs::write(self.ledger(), bytes).unwrap();
    }

    /// Runs an attack on a fresh copy, covers its traces in the schema, and verifies.
    fn after(&self, old: Option<&str>, attack: impl FnOnce(&Connection)) -> Report {
        self.restore(&self.pristine);
        let connection = self.open();
        let triggers: Vec<(String, String)> = connection
            .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
            .unwrap()
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        for (name, _) in &triggers {
            connection.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
        }
        attack(&connection);
        for (_, sql) in &triggers {
            connection.execute_batch(sql).unwrap();
        }
        drop(connection);
        self.verify(old)
    }

    fn verify(&self, old: Option<&str>) -> Report {
        verify_with(&self.ledger(), self.key.clone(), old)
    }
}

fn verify_with(ledger: &Path, key: VerifierKey, old: Option<&str>) -> Report {
    let now_ms = (docket::cli::system_clock().now_ms)();
    verify_at(now_ms, ledger, key, old)
}

fn verify_at(now_ms: i64, ledger: &Path, key: VerifierKey, old: Option<&str>) -> Report {
    let options = Options { key, old_checkpoint: old.map(str::to_owned), since_ms: None, now_ms };
    verify::ledger(ledger, &options, &mut |_, _| ()).unwrap()
}

#[test]
fn a_ledger_need_not_be_signed_in_its_first_moment_and_must_be_after_it() {
    // Killed before it signs anything, which it does every 900 ms.
    let unsigned = (0..10).find_map(|_| {
        let folder = folder_with("", POLICY);
        let mut process = Process::start(folder.path());
        process.child.kill().unwrap();
        process.child.wait().unwrap();
        let (code, report, error) = command(&["verify", "--json", "--ledger", "docket.db"], folder.path());
        let signed: i64 = Connection::open(folder.path().join("docket.db"))
            .unwrap()
            .query_row("SELECT count(*) FROM checkpoints", [], |row| row.get(0))
            .unwrap();
        (signed == 0).then_some((folder, code, report, error))
    });
    let (folder, code, report, error) = unsigned.unwrap();
    assert_eq!(code, 0, "{report}{error}");
    assert!(report.contains("no checkpoint covers any of the 1 entries yet"), "{report}");
    let path = folder.path().join("docket.db");
    let key = docket::ledger::key::verifier(&folder.path().join("docket.db.key"), None).unwrap();
    let now_ms = (docket::cli::system_clock().now_ms)();
    for (at_ms, ok) in [(now_ms + 60_000, false), (now_ms - 60_000, false)] {
        let report = verify_at(at_ms, &path, key.clone(), None);
        assert_eq!(report.ok, ok, "{report:?}");
        assert_eq!(failures(&report), [("checkpoints", "the file".to_owned())]);
    }
}

#[tokio::test]
async fn a_young_ledger_that_stopped_in_good_order_was_signed() {
    let fixture = Fixture::new().await;
    let report = fixture.after(None, |connection| {
        connection.execute("DELETE FROM checkpoints", []).unwrap();
    });
    assert_named(&report, "checkpoints", "all checkpoints removed");
    // The last entry, which says that it stopped, is taken away too: a minute later that does not help.
    let attack = |connection: &Connection| {
        connection
            .execute_batch(
                "DELETE FROM checkpoints; DELETE FROM payloads WHERE seq = (SELECT max(seq) FROM leaves); \
                 DELETE FROM nodes WHERE seq = (SELECT max(seq) FROM leaves); \
                 DELETE FROM leaves WHERE seq = (SELECT max(seq) FROM leaves)",
            )
            .unwrap();
    };
    fixture.after(None, attack);
    let later_ms = (docket::cli::system_clock().now_ms)() + 60_000;
    let report = verify_at(later_ms, &fixture.ledger(), fixture.key.clone(), None);
    assert_named(&report, "checkpoints", "all checkpoints removed, and the end");
}

/// The checks that fail, and where.
fn failures(report: &Report) -> Vec<(&'static str, String)> {
    let failed = report.verdicts.iter().filter(|verdict| !verdict.ok);
    failed.map(|verdict| (verdict.check, verdict.first_failure.clone().unwrap())).collect()
}

fn assert_named(report: &Report, check: &str, what: &str) {
    let found = failures(report);
    assert!(
        found.iter().any(|(name, _)| *name == check),
        "{what}: {check} should fail, and what fails is {found:?}"
    );
    assert!(!report.ok, "{what}");
}

/// Bytes that are no UTF-8.
const NO_TEXT: &[u8] = b"\xff";

/// A value that is one byte, or one, away; several where the place in the value may matter.
fn altered(value: Sql) -> Vec<Sql> {
    let places = |length: usize| if length == 0 { vec![] } else { vec![0, length / 2, length - 1] };
    match value {
        Sql::Null => {
            vec![Sql::Text("x".into()), Sql::Integer(7), Sql::Blob(vec![1]), Sql::Blob(NO_TEXT.into())]
        }
        Sql::Integer(number) => vec![Sql::Integer(number + 1), Sql::Integer(number - 1_000_000)],
        Sql::Real(_) => unreachable!("docket stores no floating-point numbers"),
        Sql::Text(text) => places(text.len())
            .into_iter()
            .map(|at| {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
                Sql::Text(String::from_utf8_lossy(&bytes).into_owned())
            })
            .chain([Sql::Text(format!("{text}A")), Sql::Null])
            .collect(),
        Sql::Blob(bytes) => places(bytes.len())
            .into_iter()
            .map(|at| {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1;
                Sql::Blob(bytes)
            })
            .chain([Sql::Blob([bytes.as_slice(), &[0; 32]].concat())])
            .collect(),
    }
}

#[tokio::test]
async fn a_ledger_left_alone_verifies() {
    let fixture = Fixture::new().await;
    for old in [None, Some(fixture.older_checkpoint.as_str())] {
        let report = fixture.after(old, |_| ());
        assert!(report.ok && report.warnings.is_empty(), "{report:#?}");
        assert_eq!(report.verdicts.len(), if old.is_some() { 11 } else { 10 });
    }
}

#[tokio::test]
async fn no_byte_of_any_column_can_change() {
    let fixture = Fixture::new().await;
    let mut tried = 0;
    for (table, key, expected) in [
        ("leaves", "seq", "entries"),
        ("payloads", "seq", "entries"),
        ("nodes", "seq", "tree"),
        ("checkpoints", "size", "checkpoints"),
        ("digests", "digest", "policies"),
    ] {
        let connection = fixture.open();
        let mut statement = connection.prepare(&format!("SELECT * FROM {table} ORDER BY {key}")).unwrap();
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let rows: Vec<Vec<Sql>> = statement
            .query_map([], |row| (0..columns.len()).map(|column| row.get(column)).collect())
            .unwrap()
            .map(Result::unwrap)
            .collect();
        drop(statement);
        drop(connection);
        let at = columns.iter().position(|column| column == key).unwrap();
        // The first of each, one in the middle that was forwarded, and the last.
        let chosen = [0, 1, 2, rows.len() / 2, rows.len() - 1];
        for row in chosen.into_iter().filter_map(|number| rows.get(number)) {
            for (column, value) in columns.iter().zip(row) {
                for other in altered(value.clone()) {
                    let what = format!("{table}.{column} {value:?} -> {other:?} in row {:?}", row[at]);
                    let mut changed = 0;
                    let report = fixture.after(None, |connection| {
                        // A text of bytes that are none is written as SQLite's shell would: no text of Rust's has them.
                        let place = if other == Sql::Blob(NO_TEXT.into()) { "CAST(? AS TEXT)" } else { "?" };
                        let sql = format!("UPDATE {table} SET {column} = {place} WHERE {key} = ?");
                        // A type or a constraint may refuse the new value; then there was no attack.
                        changed = connection.execute(&sql, params![other, row[at]]).unwrap_or(0);
                    });
                    if changed == 0 {
                        assert!(report.ok, "{what}");
                        continue;
                    }
                    tried += 1;
                    if column == key {
                        assert!(!report.ok, "{what}");
                    } else {
                        assert_named(&report, expected, &what);
                    }
                    if let (Sql::Integer(seq), "entries", false) = (&row[at], expected, column == key) {
                        assert!(
                            failures(&report).contains(&("entries", format!("entry {seq}"))),
                            "{what}: {report:?}"
                        );
                    }
                }
            }
        }
        fixture.restore(&fixture.pristine);
    }
    assert!(tried > 300, "only {tried}");
}

#[tokio::test]
async fn no_row_can_go_or_come() {
    let fixture = Fixture::new().await;
    for (sql, check) in [
        ("DELETE FROM leaves WHERE seq = 3", "sequence"),
        ("DELETE FROM leaves WHERE seq = 0", "sequence"),
        ("DELETE FROM payloads WHERE seq = 3", "removals"),
        ("DELETE FROM nodes WHERE seq = 3", "tree"),
        ("DELETE FROM checkpoints", "checkpoints"),
        ("DELETE FROM checkpoints WHERE size = (SELECT max(size) FROM checkpoints)", "checkpoints"),
        (
            "DELETE FROM digests WHERE digest = (SELECT manifest_sha FROM leaves WHERE manifest_sha IS NOT NULL)",
            "policies",
        ),
        (
            "DELETE FROM digests WHERE digest NOT IN (SELECT manifest_sha FROM leaves WHERE manifest_sha IS NOT NULL)",
            "policies",
        ),
        (
            "DELETE FROM leaves WHERE kind = 'outcome'; DELETE FROM payloads WHERE seq NOT IN (SELECT seq FROM leaves)",
            "outcomes",
        ),
        ("INSERT INTO payloads (seq, salts) VALUES (999, x'')", "entries"),
        ("INSERT INTO payloads (seq, salts) VALUES (-1, x'')", "entries"),
        ("INSERT INTO nodes (seq, hashes) VALUES (999, x'')", "tree"),
        ("INSERT INTO checkpoints SELECT 999, note FROM checkpoints LIMIT 1", "checkpoints"),
        ("INSERT INTO checkpoints SELECT 1, note FROM checkpoints ORDER BY size DESC LIMIT 1", "checkpoints"),
        ("INSERT INTO digests VALUES ('sha256:00', x'00')", "policies"),
        (
            "INSERT INTO leaves SELECT -1, leaf, 'x', kind, event_type, occurred_at, call_id, request_id, zone, mode, decision, \
             evaluation_status, evaluation_us, outcome, duration_us, forwarded, manifest_sha FROM leaves WHERE seq = 1",
            "sequence",
        ),
        (
            "INSERT INTO leaves SELECT max(seq) + 1, leaf, 'x', kind, event_type, occurred_at, call_id, request_id, zone, mode, \
             decision, evaluation_status, evaluation_us, outcome, duration_us, forwarded, manifest_sha FROM leaves",
            "entries",
        ),
        (
            "UPDATE leaves SET seq = seq + 1000 WHERE seq = 2; UPDATE leaves SET seq = 2 WHERE seq = 3; UPDATE leaves SET seq = 3 WHERE seq = 1002",
            "entries",
        ),
        ("DELETE FROM leaves WHERE seq > 4; DELETE FROM payloads WHERE seq > 4", "checkpoints"),
        ("DROP VIEW decisions; CREATE VIEW decisions AS SELECT 1", "schema"),
        (
            "CREATE TRIGGER quiet AFTER INSERT ON payloads BEGIN DELETE FROM payloads WHERE seq = new.seq; END",
            "schema",
        ),
        ("DROP INDEX leaves_request_id", "schema"),
    ] {
        assert_named(&fixture.after(None, |connection| connection.execute_batch(sql).unwrap()), check, sql);
    }
    fixture.restore(&fixture.pristine);
    fixture.open().execute_batch("DROP TRIGGER nodes_are_append_only_delete").unwrap();
    assert_named(&fixture.verify(None), "schema", "a trigger is gone");
    // Damage below SQL, in the pages themselves.
    let mut damaged = fixture.pristine.clone();
    let (from, to) = (b"a-denied".as_slice(), b"a-Denied".as_slice());
    for at in 0..damaged.len() - from.len() {
        if damaged[at..].starts_with(from) {
            damaged[at..at + from.len()].copy_from_slice(to);
        }
    }
    fixture.restore(&damaged);
    assert_named(&fixture.verify(None), "tree", "every copy of a request id in the pages");
}

/// Gives the ledger another history, coherent in itself: leaves, nodes, and checkpoints signed by the given key.
fn rewrite(connection: &Connection, key: Option<&SigningKey>, change: impl Fn(i64, String) -> String) {
    let leaves: Vec<(i64, String)> = connection
        .prepare("SELECT seq, leaf FROM leaves ORDER BY seq")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let sizes: Vec<i64> = connection
        .prepare("SELECT size FROM checkpoints")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut edge = Edge::default();
    for (seq, leaf) in leaves {
        let leaf = change(seq, leaf);
        let mut hashes = Vec::new();
        edge.push(leaf_hash(leaf.as_bytes()), &mut hashes);
        connection.execute("UPDATE leaves SET leaf = ? WHERE seq = ?", params![leaf, seq]).unwrap();
        connection.execute("UPDATE nodes SET hashes = ? WHERE seq = ?", params![hashes, seq]).unwrap();
        if let (Some(key), true) = (key, sizes.contains(&(seq + 1))) {
            let origin = key.verifier().name().to_owned();
            let note = Checkpoint { origin, size: edge.size(), root: edge.root() }.sign(key);
            connection
                .execute("UPDATE checkpoints SET note = ? WHERE size = ?", params![note, seq + 1])
                .unwrap();
        }
    }
}

fn deny_to_allow(connection: &Connection, key: Option<&SigningKey>) {
    connection.execute("UPDATE leaves SET decision = 'deny' WHERE request_id = 'a-0'", []).unwrap();
    rewrite(connection, key, |_, leaf| {
        if leaf.contains("\"a-0\"") {
            leaf.replace("\"decision\":\"allow\"", "\"decision\":\"deny\"")
        } else {
            leaf
        }
    });
}

#[tokio::test]
async fn another_history_needs_the_key_and_nobody_who_remembers() {
    let fixture = Fixture::new().await;
    let old = Some(fixture.older_checkpoint.as_str());
    let own_pem = std::fs::read_to_string(fixture.folder.path().join("docket.db.key")).unwrap();
    let signer = |pem: &str| SigningKey::from_pem(pem, |_| fixture.key.name().to_owned()).unwrap();

    // Without a key, the checkpoints speak of the history that was.
    let report = fixture.after(None, |connection| deny_to_allow(connection, None));
    assert_named(&report, "checkpoints", "rewritten without a key");
    assert_eq!(failures(&report).len(), 1, "all else is coherent: {report:#?}");

    // With another key, whoever has the real one sees it.
    let foreign = signer(&docket::tlog::note::pem(&[3; 32]));
    let report = fixture.after(None, |connection| deny_to_allow(connection, Some(&foreign)));
    assert_named(&report, "checkpoints", "signed by another key");
    assert!(
        verify_with(&fixture.ledger(), foreign.verifier().clone(), None).ok,
        "its own key would believe it"
    );
    let believed = verify_with(&fixture.ledger(), foreign.verifier().clone(), old);
    assert_named(&believed, "old_checkpoint", "the old checkpoint is not of that key");

    // With the stolen key, only somebody who kept a checkpoint does.
    let report = fixture.after(old, |connection| deny_to_allow(connection, Some(&signer(&own_pem))));
    assert_named(&report, "old_checkpoint", "signed by the stolen key");
    assert!(fixture.verify(None).ok, "docs/ledger.md says that this cannot be seen from inside");
}

#[tokio::test]
async fn a_cut_tail_and_an_older_copy_are_seen_by_who_kept_a_checkpoint() {
    let fixture = Fixture::new().await;
    let newest: String = fixture
        .open()
        .query_row("SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1", [], |row| row.get(0))
        .unwrap();
    let size = Checkpoint::unverified(&fixture.older_checkpoint).unwrap().size;
    let cut = format!(
        "DELETE FROM leaves WHERE seq >= {size}; DELETE FROM payloads WHERE seq >= {size}; \
         DELETE FROM nodes WHERE seq >= {size}; DELETE FROM checkpoints WHERE size > {size}"
    );
    let report = fixture.after(Some(&newest), |connection| connection.execute_batch(&cut).unwrap());
    assert_named(&report, "old_checkpoint", "a cut tail");
    assert!(
        fixture.verify(Some(&fixture.older_checkpoint)).ok,
        "docs/ledger.md says that this cannot be seen from inside"
    );
    fixture.restore(&fixture.older_copy);
    assert_named(&fixture.verify(Some(&newest)), "old_checkpoint", "an older copy");
}
