//! The emergency stop in what it says and writes: reasons, names, warnings, and what is counted. `access.rs` has what it stops.

use docket::redact::MARK;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::{Docket, POLICY};

/// No credential of anybody's, and shaped as one.
const CREDENTIAL: &str = "sk-ant-api03-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_in_a_reason_is_nowhere_and_none_is_a_name() {
    let docket = Docket::start().await;
    let reason = format!("leaked {CREDENTIAL} in a ticket");
    let (code, out, error) = docket.command(&["block", "agent", "anonymous", "--reason", &reason]).await;
    assert_eq!(code, 0, "{error}");
    let redacted = format!("leaked {MARK} in a ticket");
    assert!(out.contains(&redacted), "{out}");
    let refused = docket.evaluate("stopped", "echo", json!({})).await.to_string();
    assert!(refused.contains(&redacted), "{refused}");
    let (_, list, _) = docket.command(&["block", "list", "--json"]).await;
    let added = docket.wait_for(|entry| entry["event_type"] == "block.added").await;
    assert_eq!(added["metadata"]["reason"], redacted);
    for said in [&out, &refused, &list, &added.to_string()] {
        assert!(!said.contains(CREDENTIAL), "{said}");
    }
    let token = docket.token.clone();
    for (path, body, part) in [
        ("/v1/blocks", json!({"agent": CREDENTIAL, "reason": "r"}), "name looks like a credential"),
        ("/v1/tokens", json!({"name": CREDENTIAL, "role": "auditor"}), "`name` looks like a credential"),
        (
            "/v1/tokens",
            json!({"name": "n", "role": "auditor", "zones": [CREDENTIAL]}),
            "`zone` looks like a credential",
        ),
        (
            "/v1/tokens",
            json!({"name": "n", "role": "user", "user": CREDENTIAL}),
            "`user` looks like a credential",
        ),
    ] {
        let (status, problem) = docket.send(&token, path, &body).await;
        assert_eq!(status, 400, "{body}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(part) && !detail.contains(CREDENTIAL), "{detail}");
    }
    let (status, _) =
        docket.send(&token, "/v1/tokens", &json!({"name": "ann@acme.example", "role": "auditor"})).await;
    assert_eq!(status, 200, "a person's name is no credential");
    let (status, problem) = docket
        .send(&token, "/v1/tokens/ann@acme.example/role", &json!({"role": "lead", "team": CREDENTIAL}))
        .await;
    assert!(status == 400 && problem["detail"].as_str().unwrap().contains("`team` looks"), "{problem}");
    let (status, _) =
        docket.send(&token, "/v1/blocks", &json!({"agent": "secret-scanner", "reason": "r"})).await;
    assert_eq!(status, 200, "a name about secrets is no credential");
    let folder = docket.stop().await;
    for file in ["docket.db", "docket.db-wal"] {
        let bytes = std::fs::read(folder.path().join(file)).unwrap_or_default();
        assert!(!bytes.windows(CREDENTIAL.len()).any(|bytes| bytes == CREDENTIAL.as_bytes()), "{file}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_nobody_has_is_stopped_with_a_warning_that_says_who_is_near() {
    let digest = hex::encode(docket::identity::digest_of("t"));
    let toml = format!(
        "[agents.billing-bot]\ntoken_sha256 = \"{digest}\"\n[servers.payments]\nurl = \"http://127.0.0.1:1/mcp\"\n"
    );
    let docket = Docket::with(&toml, POLICY).await;
    let made = json!({"name": "crawler", "role": "agent"});
    assert_eq!(docket.send(&docket.token, "/v1/tokens", &made).await.0, 200);
    for (body, meant) in [
        (json!({"agent": "Billing Bot"}), Some("billing-bot")),
        (json!({"agent": "BILLING-BOT"}), Some("billing-bot")),
        (json!({"agent": "crawlr"}), Some("crawler")),
        (json!({"server": "payment"}), Some("payments")),
        (json!({"agent": "nobody"}), None),
        (json!({"server": "billing-bot"}), None),
    ] {
        let mut body = body;
        body["reason"] = "drill".into();
        let (status, block) = docket.send(&docket.token, "/v1/blocks", &body).await;
        assert_eq!((status, &block["known"]), (200, &json!(false)), "{body}");
        let warning = block["warning"].as_str().unwrap();
        assert_eq!(meant.is_some(), warning.contains("did you mean"), "{warning}");
        assert!(meant.is_none_or(|meant| warning.contains(&format!("`{meant}`"))), "{warning}");
    }
    for known in [json!({"agent": "crawler"}), json!({"agent": "billing-bot"}), json!({"server": "payments"})]
    {
        let mut body = known;
        body["reason"] = "drill".into();
        let (_, block) = docket.send(&docket.token, "/v1/blocks", &body).await;
        assert_eq!((&block["known"], &block["warning"]), (&json!(true), &Value::Null), "{block}");
    }
    for name in [" billing-bot", "billing-bot\n", "\u{a0}billing-bot", " "] {
        let (status, problem) =
            docket.send(&docket.token, "/v1/blocks", &json!({"agent": name, "reason": "r"})).await;
        assert!(status == 400 && problem["detail"].as_str().unwrap().contains("white space"), "{problem}");
    }
    let (code, out, error) =
        docket.command(&["block", "agent", "bililng-bot", "--reason", "drill", "--for", "1h"]).await;
    assert_eq!(code, 0, "{error}");
    assert!(out.starts_with("blocked: "), "{out}");
    assert!(error.contains("warning: docket knows no agent `bililng-bot`"), "{error}");
    assert!(error.contains("did you mean `billing-bot`?"), "{error}");
    docket.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_call_is_a_denial_and_no_error() {
    let docket = Docket::before("http://127.0.0.1:1/mcp", POLICY).await;
    let body = json!({"all": true, "reason": "drill"});
    assert_eq!(docket.send(&docket.token, "/v1/blocks", &body).await.0, 200);
    docket.evaluate("stopped", "echo", json!({})).await;
    // Whatever could be carried in one is refused.
    let ping = json!({"jsonrpc": "2.0", "id": "carried", "method": "ping", "params": {"carried": "out"}});
    assert_eq!(docket.rpc(&ping, &[]).await.status(), 403);
    let refused = docket.wait_for(|entry| entry["event_type"] == "request.blocked").await;
    let stopped = &docket.entries("stopped").await[0];
    for entry in [&refused, stopped] {
        let facts = (&entry["decision"], &entry["evaluation_status"]);
        assert_eq!(facts, (&json!("deny"), &json!("complete")), "{entry:#}");
    }
    let stats: Value = docket.admin_get("/v1/audit/stats").await.json().await.unwrap();
    assert_eq!((&stats["deny"], &stats["errors"]), (&json!(2), &json!(0)), "{stats:#}");
    let metrics = docket.admin_get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("docket_evaluation_errors_total 0"), "{metrics}");
    let found: Value = docket.admin_get("/v1/audit?rule=blocked").await.json().await.unwrap();
    assert_eq!(found["entries"][0]["request_id"], "stopped");
    // The end of a session passes: it is forwarded, and the server is not there.
    let end = docket.client.delete(format!("{}/mcp/demo", docket.data)).send().await.unwrap();
    assert_ne!(end.status(), 403);
    docket.stop().await;
}

#[tokio::test]
async fn failed_logins_are_found_by_their_name_also_where_they_were_folded() {
    let docket = Docket::start().await;
    for _ in 0..40 {
        let answer =
            docket.client.get(format!("{}/v1/audit", docket.admin)).bearer_auth("wrong").send().await;
        assert_eq!(answer.unwrap().status(), 401);
    }
    docket.wait_for(|entry| entry["metadata"]["reason"] == "folded").await;
    // The seconds that are over add up: nobody is lost between recorded and folded.
    let count = async || {
        let found: Value =
            docket.admin_get("/v1/audit?event_type=auth.failed&limit=100").await.json().await.unwrap();
        let entries = found["entries"].as_array().unwrap().clone();
        entries.iter().map(|entry| entry["metadata"]["count"].as_u64().unwrap_or(1)).sum::<u64>()
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while count().await < 40 {
        assert!(std::time::Instant::now() < deadline, "{} are there", count().await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(count().await, 40);
    let folder = docket.stop().await;
    let connection = Connection::open(folder.path().join("docket.db")).unwrap();
    let decisions: i64 = connection
        .query_row("SELECT count(*) FROM leaves WHERE kind = 'decision'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(decisions, 0, "who cannot be identified has asked for nothing");
}
