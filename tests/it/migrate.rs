//! Ledgers that older dockets wrote: opened through the ordinary path, brought up to date as a whole or not at all.
//!
//! `tests/fixtures/ledger-vN.sql` is a small ledger as it was left under schema N, with a call under way. `ledger.key` is the
//! key that signed the checkpoints in it, and signs nothing else.

use std::path::PathBuf;

use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Docket, POLICY, check, docket, docket_with, folder_with};

/// Every schema version that has landed before the newest, and the newest.
const VERSIONS: [u32; 5] = [1, 2, 3, 4, 5];

/// A folder with a ledger of this version.
pub fn folder_of(version: u32) -> TempDir {
    let folder = folder_with("[servers.demo]\nurl = \"http://127.0.0.1:1/mcp\"\n", POLICY);
    let fixtures = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"));
    let sql = std::fs::read_to_string(fixtures.join(format!("ledger-v{version}.sql"))).unwrap();
    let connection = Connection::open(folder.path().join("docket.db")).unwrap();
    connection.execute_batch(&sql).unwrap();
    // A docket without checkpoints had no key.
    if version > 1 {
        std::fs::copy(fixtures.join("ledger.key"), folder.path().join("docket.db.key")).unwrap();
    }
    folder
}

fn leaves(connection: &Connection) -> Vec<(i64, String)> {
    let mut select = connection.prepare("SELECT seq, leaf FROM leaves ORDER BY seq").unwrap();
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

fn version(connection: &Connection) -> u32 {
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn ledgers_of_every_version_go_on() {
    for number in VERSIONS {
        let folder = folder_of(number);
        let path = folder.path().join("docket.db");
        let before = leaves(&Connection::open(&path).unwrap());
        let docket = Docket::in_folder(folder).await;
        docket.evaluate("after-migration", "echo", json!({})).await;
        let open = docket.entries("open-1").await;
        assert_eq!(open[0]["outcome"], "unknown", "version {number}: {open:?}");
        // Stopping verifies the whole ledger.
        let folder = docket.stop().await;
        let connection = Connection::open(folder.path().join("docket.db")).unwrap();
        assert!(version(&connection) >= *VERSIONS.last().unwrap());
        assert_eq!(leaves(&connection)[..before.len()], before, "version {number}");
    }
    let steps = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/ledger/schema")).unwrap().count();
    assert!(steps <= VERSIONS.len() + 1, "a step has landed: add a ledger of the version before it");
}

#[test]
fn ledgers_of_every_version_are_read_and_left_as_they_are() {
    for number in VERSIONS {
        let folder = folder_of(number);
        let path = folder.path().join("docket.db");
        let scratch = folder.path().join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        let before = std::fs::read(&path).unwrap();
        let files = || -> Vec<_> {
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect()
        };
        let beside = files();
        let count = leaves(&Connection::open(&path).unwrap()).len();
        let run = |arguments: &[&str]| {
            let (code, out, error) =
                docket_with(&[arguments, &["--ledger", "docket.db"]].concat(), folder.path(), &scratch);
            let said = format!("the file is of schema {number} and is left as it is");
            assert!(error.contains(&said), "{arguments:?}: {error}");
            assert!(std::fs::read_dir(&scratch).unwrap().next().is_none(), "{arguments:?} leaves its copy");
            (code, out)
        };
        let (code, out) = run(&["export", "--format", "jsonl"]);
        assert_eq!((code, out.lines().count()), (0, count), "version {number}");
        let first: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
        let (code, got) = run(&["get", first["id"].as_str().unwrap(), "--json"]);
        assert_eq!((code, serde_json::from_str::<Value>(&got).unwrap()), (0, first), "version {number}");
        let (code, tail) = run(&["tail", "--jsonl", "--all"]);
        assert_eq!((code, tail.lines().count()), (0, count.min(20)), "version {number}");
        let (code, stats) = run(&["stats", "--json", "--since", "2020-01-01"]);
        let stats: Value = serde_json::from_str(&stats).unwrap();
        assert!(code == 0 && stats["decisions"].as_u64().unwrap() > 0, "version {number}: {stats:#}");
        let (code, explained) = run(&["explain", "open-1", "--json"]);
        assert!(code == 0 && explained.contains("open-1"), "version {number}");
        assert_eq!(run(&["ledger", "stats"]).0, 0);
        // The first docket signed nothing, and no key is beside its ledger.
        let key = match number {
            1 => {
                let later = folder_of(2);
                docket(&["ledger", "key", "--ledger", "docket.db"], later.path()).1
            }
            _ => run(&["ledger", "key"]).1,
        };
        let (code, report) = run(&["verify", "--json", "--key", key.trim()]);
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(
            (code, report["ok"] == true),
            if number == 1 { (1, false) } else { (0, true) },
            "{report:#}"
        );
        let failed: Vec<&Value> =
            report["verdicts"].as_array().unwrap().iter().filter(|verdict| verdict["ok"] == false).collect();
        assert_eq!(failed.len(), usize::from(number == 1), "{failed:?}");
        assert!(failed.iter().all(|verdict| verdict["detail"] == "there is no checkpoint"), "{failed:?}");
        let warned =
            report["warnings"].as_array().unwrap().iter().any(|warning| {
                warning.as_str().unwrap().starts_with(&format!("the file is of schema {number}"))
            });
        assert!(warned, "{report:#}");
        assert!(std::fs::read(&path).unwrap() == before, "version {number}: the file was changed");
        assert_eq!(files(), beside, "version {number}");
        if number > 1 {
            // A backup is of the schema it is of.
            let (code, _) = run(&["ledger", "backup", "copy.db"]);
            let copy = folder.path().join("copy.db");
            assert_eq!((code, version(&Connection::open(copy).unwrap())), (0, number));
        }
        let nowhere = folder.path().join("nowhere");
        let (code, _, error) = docket_with(&["tail", "--ledger", "docket.db"], folder.path(), &nowhere);
        assert!(code == 2 && error.contains("set `TMPDIR` to where there is room"), "{code} {error}");
    }
}

#[test]
fn a_tampered_ledger_of_an_older_version_does_not_verify() {
    let folder = folder_of(2);
    let connection = Connection::open(folder.path().join("docket.db")).unwrap();
    let trigger: String = connection
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'leaves_are_append_only_update'", [], |row| {
            row.get(0)
        })
        .unwrap();
    connection
        .execute_batch(&format!(
            "DROP TRIGGER leaves_are_append_only_update; UPDATE leaves SET zone = 'other' WHERE seq = 1; {trigger}"
        ))
        .unwrap();
    drop(connection);
    let (code, out, error) = docket(&["verify", "--ledger", "docket.db"], folder.path());
    assert_eq!(code, 1, "{out}{error}");
    assert!(out.contains("FAIL  entries         entry 1:"), "{out}");
}

#[tokio::test]
async fn a_migration_that_fails_halfway_leaves_the_file_as_it_was() {
    let folder = folder_of(1);
    let path = folder.path().join("docket.db");
    let connection = Connection::open(&path).unwrap();
    // In the way of the second table of step 2.
    connection.execute_batch("CREATE TABLE checkpoints (day)").unwrap();
    let before = leaves(&connection);
    let objects = |connection: &Connection| -> i64 {
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap()
    };
    let count = objects(&connection);
    for _ in 0..2 {
        let (code, _, error) = docket(&["serve", "--config", "docket.toml"], folder.path());
        assert_eq!(code, 2);
        assert!(error.contains("`checkpoints`") || error.contains("checkpoints already exists"), "{error}");
        assert_eq!((version(&connection), objects(&connection)), (1, count));
        assert_eq!(leaves(&connection), before);
        assert!(!folder.path().join("docket.db.key").exists(), "no key is made for a ledger that is refused");
    }
    connection.execute_batch("DROP TABLE checkpoints").unwrap();
    drop(connection);
    let folder = Docket::in_folder(folder).await.stop().await;
    check(&folder.path().join("docket.db"));
}

#[test]
fn a_newer_ledger_is_refused_and_left_alone() {
    let folder = folder_of(2);
    let path = folder.path().join("docket.db");
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 1000").unwrap();
    let before = std::fs::read(&path).unwrap();
    for command in [&["serve", "--config", "docket.toml"][..], &["verify", "--ledger", "docket.db"]] {
        let (code, _, error) = docket(command, folder.path());
        assert_eq!(code, 2);
        assert!(error.contains("version 1000") && error.contains("use a newer docket"), "{error}");
    }
    assert!(std::fs::read(&path).unwrap() == before, "the file was changed");
}
