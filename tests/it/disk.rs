//! Ledgers that cannot be used, and ledgers that stop being usable: no record, no call.

use std::os::unix::fs::PermissionsExt as _;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::{Docket, POLICY, Process, check, docket, evaluation, folder_with};

/// The refusal of `docket serve` over a prepared ledger file.
fn refused(prepare: impl FnOnce(&std::path::Path)) -> String {
    let folder = folder_with("", POLICY);
    prepare(&folder.path().join("docket.db"));
    let (code, _, error) = docket(&["serve", "--config", "docket.toml"], folder.path());
    assert_eq!(code, 2, "{error}");
    error
}

#[test]
fn files_that_are_no_ledger_are_refused_and_left_alone() {
    let not_sqlite =
        refused(|path| std::fs::write(path, "this is a letter to my grandmother, and no database").unwrap());
    assert!(not_sqlite.contains("not an SQLite database"), "{not_sqlite}");
    let foreign =
        refused(|path| Connection::open(path).unwrap().execute_batch("CREATE TABLE diary (day)").unwrap());
    assert!(foreign.contains("not a docket ledger"), "{foreign}");
    let newer = refused(|path| {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch("PRAGMA application_id = 1684237172; PRAGMA user_version = 99").unwrap();
    });
    assert!(newer.contains("version 99") && newer.contains("use a newer docket"), "{newer}");
    let folder = refused(|path| std::fs::create_dir(path).unwrap());
    assert!(folder.contains("cannot be opened"), "{folder}");
}

#[test]
fn a_missing_folder_and_a_read_only_file_are_said_plainly() {
    let folder = folder_with("", POLICY);
    let (code, _, error) =
        docket(&["serve", "--config", "docket.toml", "--ledger", "nowhere/docket.db"], folder.path());
    assert_eq!(code, 2);
    assert!(error.contains("nowhere/docket.db"), "{error}");
    // Root may write anything, so this can only be seen by an ordinary user.
    let is_root =
        std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    if !is_root {
        let error = refused(|path| {
            Connection::open(path).unwrap().execute_batch("PRAGMA user_version = 0").unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o444)).unwrap();
        });
        assert!(error.contains("read-only"), "{error}");
    }
}

#[tokio::test]
async fn a_ledger_is_read_where_nothing_can_be_written() {
    let docket = Docket::start().await;
    docket.evaluate("kept", "echo", json!({})).await;
    let folder = docket.stop().await;
    // Names that mean something in a URI.
    let evidence = folder.path().join("100% of #4?");
    std::fs::create_dir(&evidence).unwrap();
    for file in ["docket.db", "docket.db.key"] {
        std::fs::copy(folder.path().join(file), evidence.join(file)).unwrap();
    }
    let script = "mount --bind . . && mount -o remount,bind,ro . && cd \"$PWD\" && ! touch written 2>/dev/null || exit 77; echo mounted; \
                  \"$1\" tail --jsonl --ledger docket.db && exec \"$1\" verify --ledger docket.db";
    let output = std::process::Command::new("unshare")
        .args(["-rm", "bash", "-c", script, "docket", env!("CARGO_BIN_EXE_docket")])
        .current_dir(&evidence)
        .output();
    let output = match output {
        Ok(output) if output.stdout.starts_with(b"mounted") => output,
        _ => return println!("skipped: nothing can be mounted here"),
    };
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("\"kept\"") && out.contains("\nverified: "), "{out}");
}

#[tokio::test]
async fn while_the_ledger_is_locked_calls_are_refused_and_afterwards_they_go_on() {
    let docket =
        Docket::with("ledger.enqueue_timeout_ms = 100\nledger.max_queue_entries = 1\n", POLICY).await;
    let other = Connection::open(docket.ledger()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = docket.post("/access/v1/evaluation", &evaluation("echo", &json!({}))).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    let problem: Value = refused.json().await.unwrap();
    assert_eq!((&problem["decision"], &problem["retryable"]), (&json!("deny"), &json!(true)));
    assert_eq!(problem["class"], "ledger_unavailable");
    other.execute_batch("ROLLBACK").unwrap();
    let answer = docket.evaluate("after-lock", "echo", json!({})).await;
    assert_eq!(answer["decision"], true);
    docket.stop().await;
}

#[tokio::test]
async fn while_nothing_can_be_recorded_readers_read_on_and_are_recorded_afterwards() {
    let docket =
        Docket::with("ledger.enqueue_timeout_ms = 100\nledger.max_queue_entries = 1\n", POLICY).await;
    docket.evaluate("before", "echo", json!({})).await;
    let other = Connection::open(docket.ledger()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let paths =
        ["/v1/audit?request_id=before&user=a", "/v1/explain/before", "/v1/audit/export?format=jsonl&user=b"];
    // More at once than the queue has places: some wait for one in vain.
    let asked = (0..6).map(|number| {
        let docket = &docket;
        async move {
            let answer = docket.admin_get(paths[number % paths.len()]).await;
            assert_eq!(answer.status(), 200);
            answer.bytes().await.unwrap();
        }
    });
    futures_util::future::join_all(asked).await;
    other.execute_batch("ROLLBACK").unwrap();
    let folder = docket.stop().await;
    let connection = Connection::open(folder.path().join("docket.db")).unwrap();
    let count = |event: &str| -> i64 {
        let sql = "SELECT count(*) FROM leaves WHERE event_type = ?";
        connection.query_row(sql, [event], |row| row.get(0)).unwrap()
    };
    assert_eq!(count("ledger.explained"), 2);
    assert_eq!((count("export.requested"), count("export.completed")), (2, 2));
    let read = "SELECT count(*) FROM leaves JOIN payloads USING (seq) WHERE event_type = 'ledger.read' AND metadata LIKE '%user=a%'";
    assert_eq!(connection.query_row::<i64, _, _>(read, [], |row| row.get(0)).unwrap(), 2);
}

#[tokio::test]
async fn what_waits_for_a_vanished_ledger_keeps_its_order() {
    let docket = Docket::with("", POLICY).await;
    docket.evaluate("before", "echo", json!({})).await;
    let (ledger, aside) = (docket.ledger(), docket.folder.path().join("aside.db"));
    std::fs::rename(&ledger, &aside).unwrap();
    let names = ["away-1", "away-2", "away-3"];
    for name in names {
        let wrong = docket.client.get(format!("{}/v1/audit", docket.admin)).bearer_auth("wrong");
        assert_eq!(wrong.header("x-request-id", name).send().await.unwrap().status(), 401);
        // Behind it in the queue: once this is refused, that waits.
        let refused = docket.post("/access/v1/evaluation", &evaluation("echo", &json!({}))).await;
        assert_eq!(refused.status(), 503);
    }
    std::fs::rename(&aside, &ledger).unwrap();
    docket.evaluate("after", "echo", json!({})).await;
    let folder = docket.stop().await;
    let connection = Connection::open(folder.path().join("docket.db")).unwrap();
    let sql = "SELECT request_id FROM leaves WHERE request_id LIKE 'away-%' ORDER BY seq";
    let mut select = connection.prepare(sql).unwrap();
    let found: Vec<String> = select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(found, names);
}

#[tokio::test]
async fn a_ledger_that_vanishes_stops_the_calls_and_its_return_lets_them_go_on() {
    let docket = Docket::before("http://127.0.0.1:1/mcp", POLICY).await;
    docket.evaluate("before", "echo", json!({})).await;
    let (ledger, aside) = (docket.ledger(), docket.folder.path().join("aside.db"));
    std::fs::rename(&ledger, &aside).unwrap();
    let refused = docket.post("/access/v1/evaluation", &evaluation("echo", &json!({}))).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.text().await.unwrap().contains("no longer there"));
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {}}});
    let refused = docket.rpc(&call, &[]).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["code"], -32603);
    let ready = docket.client.get(format!("{}/readyz", docket.data)).send().await.unwrap();
    assert_eq!(ready.status(), 503);
    std::fs::rename(&aside, &ledger).unwrap();
    assert_eq!(docket.evaluate("after", "echo", json!({})).await["decision"], true);
    docket.wait_for(|entry| entry["event_type"] == "ledger.recovered").await;
    docket.stop().await;
}

#[tokio::test]
async fn a_full_disk_refuses_calls_and_loses_nothing() {
    // A limit on the size of files is to SQLite what a full disk is, and can be had without being root.
    let folder = folder_with("", POLICY);
    let process = Process::start_under("trap '' XFSZ; ulimit -f 600; exec \"$@\"", folder.path());
    let client = reqwest::Client::new();
    let send = async |number: u32| {
        let body = evaluation("echo", &json!({"message": "x".repeat(20_000)}));
        let request = client.post(format!("{}/access/v1/evaluation", process.data)).json(&body);
        request.header("x-request-id", format!("full-{number}")).send().await.unwrap().status()
    };
    // The first checkpoint is signed while there is room: not everybody may make room again, as is tried below.
    assert_eq!(send(2_000).await, 200);
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for number in 0..80 {
        match send(number).await.as_u16() {
            200 => acknowledged.push(format!("full-{number}")),
            503 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(refused > 0 && !acknowledged.is_empty(), "{refused} refused");
    assert_eq!(client.get(format!("{}/healthz", process.data)).send().await.unwrap().status(), 200);
    let pid = process.child.id().to_string();
    let raised = std::process::Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status();
    if raised.is_ok_and(|status| status.success()) {
        assert_eq!(send(1_000).await, 200, "there is room again");
    }
    process.terminate();
    let connection = Connection::open(folder.path().join("docket.db")).unwrap();
    for id in acknowledged {
        let kept: bool = connection
            .query_row("SELECT count(*) = 1 FROM decisions WHERE request_id = ?", [&id], |row| row.get(0))
            .unwrap();
        assert!(kept, "{id} was acknowledged and is lost");
    }
    drop(connection);
    check(&folder.path().join("docket.db"));
}

#[tokio::test]
async fn a_log_that_cannot_be_written_ends_nothing() {
    if !std::path::Path::new("/dev/full").exists() {
        return println!("skipped: there is no disk that is always full");
    }
    let folder = folder_with("log.level = \"debug\"\n", POLICY);
    let process = Process::start_under("exec 2>/dev/full; exec \"$@\"", folder.path());
    let client = reqwest::Client::new();
    let decide = async || {
        let body = evaluation("echo", &json!({}));
        let request = client.post(format!("{}/access/v1/evaluation", process.data)).json(&body);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(decide().await, 200);
    // Each of these is a line in the log, of another thread.
    let (ledger, aside) = (folder.path().join("docket.db"), folder.path().join("aside.db"));
    std::fs::rename(&ledger, &aside).unwrap();
    assert_eq!(decide().await, 503);
    std::fs::rename(&aside, &ledger).unwrap();
    assert_eq!(decide().await, 200);
    std::fs::write(folder.path().join("policies/policy.rego"), "package broken\nallow if {").unwrap();
    let token = std::fs::read_to_string(folder.path().join("admin.token")).unwrap();
    let reload = client.post(format!("{}/v1/policies/reload", process.admin)).bearer_auth(token.trim());
    assert_eq!(reload.send().await.unwrap().status(), 422);
    assert_eq!(process.terminate(), Some(0));
    check(&ledger);
}

#[tokio::test]
async fn a_shell_can_neither_replace_nor_change_what_is_recorded() {
    let docket = Docket::start().await;
    docket.evaluate("kept", "echo", json!({"a": 1})).await;
    docket.admin_get("/v1/checkpoint").await;
    let folder = docket.stop().await;
    let ledger = folder.path().join("docket.db");
    let connection = Connection::open(&ledger).unwrap();
    // A `sqlite3` shell has both switched off.
    connection.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA recursive_triggers = OFF").unwrap();
    let columns = "leaf, id, kind, event_type, occurred_at, call_id, request_id, zone, mode, decision, evaluation_status, \
                   evaluation_us, outcome, duration_us, forwarded, manifest_sha";
    for (statement, expected) in [
        (
            "INSERT OR REPLACE INTO leaves SELECT * FROM leaves WHERE seq = 1".to_owned(),
            "leaves are append-only",
        ),
        (
            format!("INSERT OR REPLACE INTO leaves SELECT 999, {columns} FROM leaves WHERE seq = 1"),
            "leaves are",
        ),
        (
            format!("INSERT OR IGNORE INTO leaves SELECT 999, {columns} FROM leaves WHERE seq = 1"),
            "leaves are",
        ),
        ("UPDATE OR REPLACE leaves SET seq = 0 WHERE seq = 1".to_owned(), "leaves are"),
        ("UPDATE payloads SET arguments = '{\"a\":2}' WHERE seq = 1".to_owned(), "payloads are only erased"),
        ("INSERT OR REPLACE INTO payloads (seq, salts) VALUES (1, x'')".to_owned(), "payloads are only"),
        ("INSERT OR REPLACE INTO nodes VALUES (1, x'')".to_owned(), "nodes are append-only"),
        (
            "INSERT OR REPLACE INTO checkpoints SELECT size, 'x' FROM checkpoints".to_owned(),
            "checkpoints are",
        ),
    ] {
        let refused = connection.execute_batch(&statement).unwrap_err().to_string();
        assert!(refused.contains(expected), "{statement}: {refused}");
    }
    check(&ledger);
    // Erasing stays possible.
    assert_eq!(connection.execute("DELETE FROM payloads WHERE seq = 1", []).unwrap(), 1);
}

#[test]
fn the_lock_is_the_owners_alone_and_a_readable_ledger_is_warned_of() {
    let folder = folder_with("", POLICY);
    let (ledger, lock) = (folder.path().join("docket.db"), folder.path().join("docket.db.lock"));
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let log = || std::fs::read_to_string(folder.path().join("docket.log")).unwrap();
    assert_eq!(Process::start(folder.path()).terminate(), Some(0));
    assert_eq!((mode(&ledger), mode(&lock)), (0o600, 0o600));
    assert!(!log().contains("chmod"), "{}", log());
    for path in [&ledger, &lock] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    assert_eq!(Process::start(folder.path()).terminate(), Some(0));
    assert!(log().contains("chmod 600"), "{}", log());
    assert_eq!((mode(&ledger), mode(&lock)), (0o644, 0o600), "the ledger's mode is its operator's");
}
