//! Keeping a ledger: what it costs, and copies of it.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::harness::{Docket, POLICY, check, docket, folder_with};

#[tokio::test]
async fn a_ledger_says_what_it_holds_and_costs() {
    let running = Docket::start().await;
    for number in 0..5 {
        running.evaluate(&format!("s-{number}"), "echo", json!({"text": "x".repeat(1_000)})).await;
    }
    let answer = running.admin_get("/v1/ledger/stats").await;
    assert_eq!(answer.status(), 200);
    let online: Value = answer.json().await.unwrap();
    // The start, five decisions, perhaps the login; the access itself follows its answer.
    let entries = online["entries"].as_u64().unwrap();
    assert!((6..=7).contains(&entries), "{online}");
    assert_eq!(online["growth"]["entries_last_day"], entries);
    let asked = running.wait_for(|entry| entry["event_type"] == "ledger.measured").await;
    assert_eq!(asked["kind"], "access");
    let folder = running.stop().await;
    let (code, out, error) = docket(&["ledger", "stats", "--json", "--ledger", "docket.db"], folder.path());
    assert_eq!(code, 0, "{error}");
    let stats: Value = serde_json::from_str(&out).unwrap();
    let decisions =
        stats["kinds"].as_array().unwrap().iter().find(|kind| kind["kind"] == "decision").unwrap();
    assert_eq!((&decisions["entries"], &stats["sampled"]), (&json!(5), &json!(false)));
    assert!(decisions["payload_bytes"].as_u64().unwrap() > 1_000, "{stats:#}");
    let space = stats["space"].as_array().unwrap();
    let bytes: u64 = space.iter().map(|part| part["bytes"].as_u64().unwrap()).sum();
    assert_eq!(bytes, std::fs::metadata(folder.path().join("docket.db")).unwrap().len());
    assert_eq!(stats["files"]["database_bytes"], bytes);
    for what in ["payloads", "leaves", "indexes", "tree", "checkpoints", "digests"] {
        assert!(space.iter().any(|part| part["what"] == what && part["bytes"].as_u64() > Some(0)), "{what}");
    }
    assert_eq!(stats["checkpoints"]["newest_size"], stats["entries"]);
    let (code, out, _) = docket(&["ledger", "stats", "--ledger", "docket.db"], folder.path());
    assert!(code == 0 && out.contains("payloads") && out.contains("decision"), "{out}");
    assert_eq!(docket(&["ledger", "stats", "--ledger", "nowhere.db"], folder.path()).0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_beside_a_running_docket_is_a_whole_ledger() {
    let running = Docket::start().await;
    let path = running.folder.path().to_owned();
    for number in 0..20 {
        running.evaluate(&format!("b-{number}"), "echo", json!({"text": "x".repeat(10_000)})).await;
    }
    // A ledger that is not a second old may have no checkpoint yet.
    running.admin_get("/v1/checkpoint").await;
    // Calls go on while the copy is made.
    let (client, url) = (running.client.clone(), format!("{}/access/v1/evaluation", running.data));
    let load = tokio::spawn(async move {
        for _ in 0..1_000 {
            let body = crate::harness::evaluation("echo", &json!({}));
            assert_eq!(client.post(&url).json(&body).send().await.unwrap().status(), 200);
        }
    });
    let backup = |arguments: &'static [&'static str]| {
        let path = path.clone();
        let run = move || docket(&[&["ledger", "backup"], arguments].concat(), &path);
        tokio::task::spawn_blocking(run)
    };
    let (code, out, error) = backup(&["copy.db", "--json"]).await.unwrap();
    assert_eq!(code, 0, "{out}{error}");
    let outcome: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(outcome["verified"], true);
    assert!(outcome["entries"].as_u64() >= Some(21), "{outcome}");
    let copy = path.join("copy.db");
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    for left in ["copy.db-wal", "copy.db-shm", "copy.db-journal", "copy.db.new", "copy.db.key"] {
        assert!(!path.join(left).exists(), "{left}");
    }
    let (code, _, error) = backup(&["copy.db"]).await.unwrap();
    assert!(code == 2 && error.contains("`--force` replaces it"), "{error}");
    let (code, _, error) = backup(&["docket.db", "--force"]).await.unwrap();
    assert!(code == 2 && error.contains("the ledger itself"), "{error}");
    std::fs::write(path.join("used.db-wal"), "").unwrap();
    let (code, _, error) = backup(&["used.db"]).await.unwrap();
    assert!(code == 2 && error.contains("in use"), "{error}");
    load.await.unwrap();
    // What is no older copy is replaced by nobody, and what lies beside under another name stays.
    std::fs::write(path.join("copy.db.new"), "mine").unwrap();
    let (code, _, error) = backup(&["docket.db-wal", "--force"]).await.unwrap();
    assert!(code == 2 && error.contains("is no SQLite database"), "{error}");
    let (code, _, error) = backup(&["docket.db.key", "--force"]).await.unwrap();
    assert!(code == 2 && error.contains("is no SQLite database"), "{error}");
    let (code, out, error) = backup(&["copy.db", "--force"]).await.unwrap();
    assert_eq!(std::fs::read_to_string(path.join("copy.db.new")).unwrap(), "mine");
    assert!(code == 0 && out.contains("copied and verified"), "{out}{error}");
    assert!(error.contains("docket.db.key` is not in the copy"), "{error}");
    let folder = running.stop().await;
    // The copy with the key beside it is a ledger that docket goes on with.
    let other = crate::harness::folder_with("", crate::harness::POLICY);
    std::fs::copy(copy, other.path().join("docket.db")).unwrap();
    std::fs::copy(folder.path().join("docket.db.key"), other.path().join("docket.db.key")).unwrap();
    let restored = Docket::in_folder(other).await;
    restored.evaluate("restored-1", "echo", json!({})).await;
    restored.stop().await;
    check(&folder.path().join("docket.db"));
}

#[tokio::test]
async fn a_copy_of_a_ledger_that_was_changed_gets_no_name() {
    let running = Docket::start().await;
    running.evaluate("t-1", "echo", json!({"a": 1})).await;
    let folder = running.stop().await;
    let connection = rusqlite::Connection::open(folder.path().join("docket.db")).unwrap();
    connection
        .execute_batch(
            "DROP TRIGGER payloads_are_only_erased_update; UPDATE payloads SET arguments = '{\"a\":2}' WHERE seq = 1",
        )
        .unwrap();
    drop(connection);
    let (code, out, error) =
        docket(&["ledger", "backup", "copy.db", "--config", "docket.toml"], folder.path());
    assert_eq!(code, 1, "{out}{error}");
    assert!(out.contains("FAIL") && error.contains("was removed"), "{out}{error}");
    assert!(!folder.path().join("copy.db").exists() && !folder.path().join("copy.db.new").exists());
}

#[tokio::test]
async fn what_the_configuration_changed_to_is_recorded_and_no_secret_with_it() {
    let folder = folder_with("[servers.old]\nurl = \"http://127.0.0.1:1/mcp\"\n", POLICY);
    let file = folder.path().join("docket.toml");
    let docket = Docket::in_folder(folder).await;
    let started = docket.wait_for(|entry| entry["event_type"] == "docket.started").await;
    let settings = &started["metadata"]["settings"];
    assert_eq!(settings["servers.old.url"], "http://127.0.0.1:1/mcp", "{settings:#}");
    let folder = docket.stop().await;

    // The same configuration again says nothing.
    let docket = Docket::in_folder(folder).await;
    let folder = docket.stop().await;

    let toml = std::fs::read_to_string(&file).unwrap();
    let toml =
        toml.replace("servers.old", "servers.new") + "headers = { authorization = \"Bearer hush-hush\" }\n";
    std::fs::write(&file, format!("data.max_connections = 99\n{toml}")).unwrap();
    let docket = Docket::in_folder(folder).await;
    let answer = docket.admin_get("/v1/audit?kind=start&order=asc").await.text().await.unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let entries = answer["entries"].as_array().unwrap();
    let types: Vec<&str> = entries.iter().map(|entry| entry["event_type"].as_str().unwrap()).collect();
    assert_eq!(
        types,
        [
            "docket.started",
            "docket.started",
            "config.changed",
            "server.added",
            "server.removed",
            "docket.started"
        ]
    );
    assert_eq!(
        entries[2]["metadata"],
        json!({"before": {"data.max_connections": 1024}, "after": {"data.max_connections": 99}})
    );
    assert_eq!(entries[3]["server"], "new");
    assert_eq!(entries[4]["metadata"]["before"]["servers.old.url"], "http://127.0.0.1:1/mcp");
    assert!(!answer.to_string().contains("hush"), "{answer:#}");
    let folder = docket.stop().await;

    // Another value of the header is a change, and shows neither.
    let toml = std::fs::read_to_string(&file).unwrap().replace("hush-hush", "silence");
    std::fs::write(&file, toml).unwrap();
    let docket = Docket::in_folder(folder).await;
    let updated = docket.wait_for(|entry| entry["event_type"] == "server.updated").await;
    let members: Vec<&String> = updated["metadata"]["after"].as_object().unwrap().keys().collect();
    assert_eq!(members, ["servers.new.fingerprint"], "{updated:#}");
    assert!(!updated.to_string().contains("silence"));
    docket.stop().await;
}
