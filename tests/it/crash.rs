//! What is left when a process ends badly, and what happens when the ledger cannot be written.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::bounds::{begun, unread};
use crate::harness::{Docket, POLICY, Process, check, docket, evaluation, folder_with};

/// Sends evaluations from several tasks until the process is gone; answers the ids that were acknowledged.
async fn acknowledged(process: &mut Process, kill_after: usize) -> BTreeSet<String> {
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let client = reqwest::Client::new();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (client, acknowledged) = (client.clone(), acknowledged.clone());
            let url = format!("{}/access/v1/evaluation", process.data);
            tokio::spawn(async move {
                for number in 0.. {
                    let id = format!("kill-{task}-{number}");
                    let request =
                        client.post(&url).header("x-request-id", &id).json(&evaluation("echo", &json!({})));
                    match request.send().await {
                        Ok(response) if response.status() == 200 => acknowledged.lock().unwrap().insert(id),
                        _ => return,
                    };
                }
            })
        })
        .collect();
    while acknowledged.lock().unwrap().len() < kill_after {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    Arc::try_unwrap(acknowledged).unwrap().into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_docket_was_killed_under_is_recorded_as_interrupted() {
    let folder = folder_with("", POLICY);
    // More than fits between docket and a reader that reads nothing.
    crate::oracle::fill(&folder.path().join("docket.db"), 20_000).await;
    let mut process = Process::start(folder.path());
    let token = std::fs::read_to_string(folder.path().join("admin.token")).unwrap();
    let export = |query: &str| {
        let stream = unread(&process.admin, token.trim(), &format!("/v1/audit/export?{query}"));
        assert!(begun(&stream).starts_with("HTTP/1.1 200"));
        stream
    };
    let _whole = export("limit=1");
    let _unread = export("format=json");
    let connection = Connection::open(folder.path().join("docket.db")).unwrap();
    // By request, in the order in which those came.
    let events = || -> Vec<String> {
        let sql = "SELECT event_type FROM leaves x WHERE kind = 'export' \
             ORDER BY (SELECT min(seq) FROM leaves y WHERE y.request_id = x.request_id), seq";
        let mut select = connection.prepare(sql).unwrap();
        select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while events().len() < 3 {
        assert!(std::time::Instant::now() < deadline, "{:?}", events());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    for _ in 0..2 {
        // Once, however often docket starts.
        assert_eq!(Process::start(folder.path()).terminate(), Some(0));
    }
    let expected = ["requested", "completed", "requested", "interrupted"];
    assert_eq!(events(), expected.map(|event| format!("export.{event}")));
    check(&folder.path().join("docket.db"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let folder = folder_with("", POLICY);
    for round in 1..=3 {
        let mut process = Process::start(folder.path());
        let acknowledged = acknowledged(&mut process, 200 * round).await;
        let again = Process::start(folder.path());
        assert_eq!(again.terminate(), Some(0));
        let connection = Connection::open(folder.path().join("docket.db")).unwrap();
        let mut statement = connection.prepare("SELECT request_id FROM decisions").unwrap();
        let kept: BTreeSet<String> =
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let lost: Vec<_> = acknowledged.difference(&kept).collect();
        assert!(lost.is_empty(), "round {round}: {lost:?}");
        drop(statement);
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        check(&folder.path().join("docket.db"));
    }
}

#[tokio::test]
async fn calls_without_an_outcome_are_closed_as_unknown() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let toml = format!("[servers.demo]\nurl = \"http://{}/mcp\"\n", listener.local_addr().unwrap());
    let folder = folder_with(&toml, POLICY);
    let mut process = Process::start(folder.path());
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "sleep", "arguments": {}}});
    let request = reqwest::Client::new()
        .post(format!("{}/mcp/demo", process.data))
        .header("x-request-id", "open-1")
        .json(&call);
    let pending = tokio::spawn(request.send());
    // Once the server has it, the decision is durable.
    let (_held, _) = listener.accept().await.unwrap();
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    assert!(pending.await.unwrap().is_err());
    let again = Process::start(folder.path());
    let (code, out, _) = docket(
        &["explain", "open-1", "--json", "--url", &again.admin, "--config", "docket.toml"],
        folder.path(),
    );
    assert_eq!(code, 0);
    let explained: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(explained["entries"][0]["outcome"], "unknown");
    assert_eq!(explained["entries"][1]["kind"], "outcome");
    assert_eq!(again.terminate(), Some(0));
    check(&folder.path().join("docket.db"));
}

#[tokio::test]
async fn start_and_stop_are_entries_and_a_second_docket_is_refused() {
    let folder = folder_with("", POLICY);
    let process = Process::start(folder.path());
    for file in ["docket.db", "docket.db-wal", "admin.token"] {
        let mode = std::fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others may read {file}");
    }
    let (code, _, error) = docket(&["serve", "--config", "docket.toml"], folder.path());
    assert_eq!(code, 2);
    assert!(error.contains("another docket is writing to it"), "{error}");
    assert_eq!(process.terminate(), Some(0));
    let connection = Connection::open(folder.path().join("docket.db")).unwrap();
    let mut statement = connection.prepare("SELECT event_type FROM leaves ORDER BY seq").unwrap();
    let events: Vec<String> =
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(events, ["docket.started", "docket.stopped"]);
}

#[tokio::test]
async fn leaves_cannot_be_changed_by_an_ordinary_statement() {
    let docket = Docket::start().await;
    docket.evaluate("fixed-1", "echo", json!({})).await;
    let connection = Connection::open(docket.ledger()).unwrap();
    for statement in ["UPDATE leaves SET decision = 'deny'", "DELETE FROM leaves"] {
        let error = connection.execute(statement, []).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
    drop(connection);
    docket.stop().await;
}

#[tokio::test]
async fn the_sqlite3_shell_reads_the_views() {
    let docket = Docket::start().await;
    docket.evaluate("shell-1", "delete_file", json!({"path": "/etc/passwd"})).await;
    let sql =
        "SELECT request_id, decision, resource, agent, json_extract(diagnostics, '$[0].rule') FROM decisions";
    let output = Command::new("sqlite3").arg(docket.ledger()).arg(sql).output();
    match output {
        Ok(output) => {
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(text.trim(), "shell-1|deny|delete_file|anonymous|no_delete");
        }
        Err(error) => assert!(std::env::var_os("CI").is_none(), "CI has the sqlite3 shell: {error}"),
    }
    docket.stop().await;
}

#[tokio::test]
async fn every_commit_is_synced_to_the_disk() {
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "CI has strace");
        println!("skipped: strace is not installed");
        return;
    }
    let folder = folder_with("", POLICY);
    let script = "exec strace -D -f -qq -e trace=fsync,fdatasync -o syncs.txt \"$@\"";
    let process = Process::start_under(script, folder.path());
    let syncs = || std::fs::read_to_string(folder.path().join("syncs.txt")).unwrap().lines().count();
    let client = reqwest::Client::new();
    let before = syncs();
    for number in 1..=20 {
        let request = client.post(format!("{}/access/v1/evaluation", process.data));
        let response = request.json(&evaluation("echo", &json!({"number": number}))).send().await.unwrap();
        assert_eq!(response.status(), 200);
        // One caller at a time: each answer has a sync of its own behind it.
        assert!(syncs() >= before + number, "answer {number} came before its sync");
    }
    process.terminate();
}
