//! Ledgers that older dockets wrote: opened through the ordinary path, brought up to date as a whole or not at all.
//!
//! `tests/fixtures/ledger-vN.sql` is a small ledger as it was left under schema N, with a call under way. `ledger.key` is the
//! key that signed the checkpoints in it, and signs nothing else.

use std::path::PathBuf;

use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Docket, POLICY, check, docket, folder_with};

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
