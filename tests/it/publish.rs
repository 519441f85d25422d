//! Publishing: what puts policies in force, and what refuses them.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{self, Docket, POLICY, Process, check, folder_with};

const NO_ECHO: &str = "package test.echo\ndeny contains \"no echo\" if input.resource.id == \"echo\"\n";

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join("policies").join(name), text).unwrap();
}

async fn reload(docket: &Docket) -> (u16, Value) {
    let request = docket.client.post(format!("{}/v1/policies/reload", docket.admin));
    let response = request.bearer_auth(&docket.token).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn decides(docket: &Docket, tool: &str) -> bool {
    docket.evaluate("r", tool, json!({})).await["decision"].as_bool().unwrap()
}

#[tokio::test]
async fn a_new_set_is_published_and_a_broken_one_refused() {
    let docket = Docket::with("policy.watch = \"off\"\n", POLICY).await;
    assert!(decides(&docket, "echo").await);
    let (status, unchanged) = reload(&docket).await;
    assert_eq!((status, &unchanged["result"]), (200, &json!("unchanged")));
    let before = unchanged["manifest_sha"].as_str().unwrap().to_owned();

    write(docket.folder.path(), "echo.rego", NO_ECHO);
    let (status, updated) = reload(&docket).await;
    assert_eq!((status, &updated["result"], &updated["before"]), (200, &json!("updated"), &json!(before)));
    assert_eq!(updated["added"][0]["policy_id"], "test.echo");
    assert!(!decides(&docket, "echo").await);
    let entry = docket
        .wait_for(|entry| entry["event_type"] == "policy.updated" && entry["metadata"]["cause"] == "request")
        .await;
    assert_eq!(entry["kind"], "policy");
    assert_eq!(entry["policy_set"]["manifest_sha"], updated["after"]);
    for member in ["before", "after", "added", "removed", "changed"] {
        assert_eq!(entry["metadata"][member], updated[member], "{member}");
    }
    // A checkpoint covers the change.
    let checkpoint = docket.admin_get("/v1/checkpoint").await.text().await.unwrap();
    let size: i64 = checkpoint.lines().nth(1).unwrap().parse().unwrap();
    assert!(size > entry["seq"].as_i64().unwrap());

    write(docket.folder.path(), "echo.rego", "package test.echo\ndeny if input.x ==\n");
    let (status, refused) = reload(&docket).await;
    assert_eq!((status, &refused["manifest_sha"]), (422, &updated["after"]));
    assert_eq!(
        (&refused["findings"][0]["file"], &refused["findings"][0]["line"]),
        (&json!("echo.rego"), &json!(3))
    );
    assert!(!decides(&docket, "echo").await, "the old set stays in force");
    let entry = docket.wait_for(|entry| entry["event_type"] == "policy.rejected").await;
    assert_eq!(entry["metadata"]["findings"][0]["message"], refused["findings"][0]["message"]);
    assert_eq!(entry["policy_set"]["manifest_sha"], updated["after"]);
    let ready: Value =
        docket.client.get(format!("{}/readyz", docket.data)).send().await.unwrap().json().await.unwrap();
    assert_eq!((&ready["status"], &ready["policy_rejected"]["findings"]), (&json!("ready"), &json!(1)));
    let metrics = docket.admin_get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("docket_policy_rejected 1"), "{metrics}");
    assert!(metrics.contains("docket_policy_publications_total{result=\"rejected\"} 1"), "{metrics}");

    // The command line says the same.
    let arguments = ["policy", "reload", "--config", "docket.toml", "--url", &docket.admin];
    let (code, out, error) = docket_in(&docket, &arguments).await;
    assert_eq!(code, 1, "{out}{error}");
    assert!(out.contains("echo.rego:3:1: "), "{out}");
    std::fs::remove_file(docket.folder.path().join("policies/echo.rego")).unwrap();
    let (code, out, error) = docket_in(&docket, &arguments).await;
    assert_eq!(
        (code, out.lines().next().unwrap()),
        (0, format!("updated: {before} is in force").as_str()),
        "{error}"
    );
    assert!(out.contains("removed  test.echo"), "{out}");
    assert!(decides(&docket, "echo").await);
    let ready: Value =
        docket.client.get(format!("{}/readyz", docket.data)).send().await.unwrap().json().await.unwrap();
    assert_eq!(ready.get("policy_rejected"), None);
    docket.stop().await;
}

async fn docket_in(running: &Docket, arguments: &[&str]) -> (i32, String, String) {
    let folder = running.folder.path().to_owned();
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let run = move || harness::docket(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &folder);
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn changed_files_are_noticed() {
    for method in ["auto", "poll"] {
        let docket = Docket::with(&format!("policy.watch = \"{method}\"\n"), POLICY).await;
        write(docket.folder.path(), "echo.rego", NO_ECHO);
        let entry = docket.wait_for(|entry| entry["metadata"]["cause"] == "watch").await;
        assert_eq!(entry["event_type"], "policy.updated");
        assert!(!decides(&docket, "echo").await);
        // The same errors again are no news.
        for text in ["package test.echo\nx :=\n", "package test.echo\nx := \n"] {
            write(docket.folder.path(), "echo.rego", text);
            docket.wait_for(|entry| entry["event_type"] == "policy.rejected").await;
            tokio::time::sleep(Duration::from_millis(if method == "auto" { 600 } else { 1_600 })).await;
        }
        let answer: Value = docket.admin_get("/v1/audit?kind=policy").await.json().await.unwrap();
        let rejected = answer["entries"].as_array().unwrap();
        let rejected = rejected.iter().filter(|entry| entry["event_type"] == "policy.rejected").count();
        assert_eq!(rejected, 1, "{answer:#}");
        docket.stop().await;
    }
}

#[tokio::test]
async fn a_set_must_pass_its_own_tests_where_that_is_wanted() {
    let docket = Docket::with("policy.watch = \"off\"\npolicy.require_tests = true\n", POLICY).await;
    write(docket.folder.path(), "echo.rego", NO_ECHO);
    let test = "package test.echo_test\nimport data.test.echo\n\ntest_echo_is_allowed if {\n\tcount(echo.deny) == 0 with input as {\"resource\": {\"id\": \"echo\"}}\n}\n";
    write(docket.folder.path(), "echo_test.rego", test);
    let (status, refused) = reload(&docket).await;
    assert_eq!((status, &refused["findings"][0]["code"]), (422, &json!("test_failed")), "{refused:#}");
    assert_eq!(
        (&refused["findings"][0]["file"], &refused["findings"][0]["line"]),
        (&json!("echo_test.rego"), &json!(4))
    );
    assert!(decides(&docket, "echo").await);
    write(docket.folder.path(), "echo_test.rego", &test.replace("== 0", "== 1"));
    assert_eq!(reload(&docket).await.1["result"], "updated");
    assert!(!decides(&docket, "echo").await);
    let folder = docket.stop().await;
    // A start is no way around them.
    write(folder.path(), "echo_test.rego", test);
    let (code, _, error) = harness::docket(&["serve", "--config", "docket.toml"], folder.path());
    assert_eq!(code, 2);
    assert!(
        error.contains("echo_test.rego:4:1: error: test `data.test.echo_test.test_echo_is_allowed`"),
        "{error}"
    );
}

#[test]
fn hangups_and_restarts_are_on_record() {
    let folder = folder_with("policy.watch = \"off\"\n", POLICY);
    let process = Process::start(folder.path());
    write(folder.path(), "echo.rego", NO_ECHO);
    let pid = process.child.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    let ledger = folder.path().join("docket.db");
    let updates = || -> Vec<(String, i64)> {
        let connection = rusqlite::Connection::open(&ledger).unwrap();
        let sql = "SELECT p.metadata, l.seq FROM leaves l JOIN payloads p USING (seq) WHERE event_type = 'policy.updated' ORDER BY seq";
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while updates().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", updates());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(process.terminate(), Some(0));
    let process = Process::start(folder.path());
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(updates().len(), 1, "a restart with the same set is no news");
    std::fs::remove_file(folder.path().join("policies/echo.rego")).unwrap();
    let process = Process::start(folder.path());
    assert_eq!(process.terminate(), Some(0));
    let updates: Vec<Value> = updates().iter().map(|(text, _)| serde_json::from_str(text).unwrap()).collect();
    let causes: Vec<&str> = updates.iter().map(|update| update["cause"].as_str().unwrap()).collect();
    assert_eq!(causes, ["SIGHUP", "start"]);
    assert_eq!(updates[0]["added"][0]["policy_id"], "test.echo");
    assert_eq!(updates[1]["removed"][0]["policy_id"], "test.echo");
    assert_eq!((&updates[1]["before"], &updates[1]["after"]), (&updates[0]["after"], &updates[0]["before"]));
    check(&ledger);
}

#[tokio::test]
async fn one_rule_may_decide_everything() {
    let policy = r#"package authz

decision := {"allow": allow, "reason": reason, "policy_id": "corp.main"}

default allow := false

allow if {
	input.resource.id == "echo"
	input.context.arguments.size < 10
}

default reason := "only small echoes are allowed"

reason := "a small echo" if allow
"#;
    let docket =
        Docket::with("policy.watch = \"off\"\npolicy.entrypoint = \"data.authz.decision\"\n", policy).await;
    assert_eq!(docket.evaluate("yes", "echo", json!({"size": 1})).await["decision"], true);
    assert_eq!(docket.evaluate("no", "echo", json!({"size": 11})).await["decision"], false);
    let entry = docket.entries("no").await.remove(0);
    assert_eq!(
        (&entry["determining_policies"][0]["policy_id"], &entry["diagnostics"][0]["message"]),
        (&json!("corp.main"), &json!("only small echoes are allowed"))
    );
    let explained: Value = docket.admin_get("/v1/explain/no").await.json().await.unwrap();
    assert_eq!(explained["reproduced"], true, "{explained:#}");
    let missing = explained["why_not"].as_array().unwrap();
    let condition =
        missing.iter().find(|missing| missing["condition"] == "input.context.arguments.size < 10");
    assert_eq!(condition.unwrap()["values"]["input.context.arguments.size"], 11, "{explained:#}");
    // The manifest names the entry point, so that another one is another set.
    let manifest = entry["policy_set"]["manifest_sha"].as_str().unwrap();
    let connection = rusqlite::Connection::open(docket.ledger()).unwrap();
    let bytes: Vec<u8> = connection
        .query_row("SELECT bytes FROM digests WHERE digest = ?", [manifest], |row| row.get(0))
        .unwrap();
    let manifest: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        (&manifest["combination"], &manifest["entry_points"]),
        (&json!("entrypoint"), &json!([{"id": "authz", "package": "authz", "rule": "decision"}]))
    );
    docket.stop().await;
}
