//! Who may look at what, and the emergency stop.

use std::sync::atomic::{AtomicI64, Ordering};

use docket::clock::Clock;
use serde_json::{Value, json};

use crate::harness::{Docket, POLICY, docket, folder_with};

impl Docket {
    /// A POST to the admin plane with somebody's token: status and body.
    async fn send(&self, token: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.admin)).bearer_auth(token).json(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// Runs a command that asks this docket: exit code, stdout and stderr.
    async fn command(&self, arguments: &[&str]) -> (i32, String, String) {
        let (url, token) = (self.admin.clone(), self.token.clone());
        let folder = self.folder.path().to_owned();
        let mut all: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        all.extend(["--url", &url, "--token", &token].map(str::to_owned));
        // docket runs in this process: its command must not keep it from answering.
        let run = move || docket(&all.iter().map(String::as_str).collect::<Vec<_>>(), &folder);
        tokio::task::spawn_blocking(run).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_holds_from_the_next_call_on_and_over_restarts() {
    let docket = Docket::start().await;
    assert_eq!(docket.evaluate("before", "echo", json!({})).await["decision"], true);
    let (code, out, error) =
        docket.command(&["block", "agent", "anonymous", "--reason", "leaked a key"]).await;
    assert_eq!((code, error.as_str()), (0, ""), "{out}");
    let answer = docket.evaluate("stopped", "echo", json!({"path": "/kept"})).await;
    assert_eq!(answer["decision"], false);
    assert_eq!(answer["context"]["class"], "blocked", "{answer:#}");
    let said = answer.to_string();
    assert!(said.contains("agent `anonymous` is blocked until it is released: leaked a key"), "{said}");
    // The decision is recorded with the call, and is explained as what it was.
    let entry = &docket.entries("stopped").await[0];
    assert_eq!((&entry["decision"], &entry["diagnostics"][0]["rule"]), (&json!("deny"), &json!("blocked")));
    assert_eq!(entry["metadata"]["context"]["arguments"]["path"], "/kept");
    let added = docket.wait_for(|entry| entry["event_type"] == "block.added").await;
    let (kind, metadata) = (&added["kind"], &added["metadata"]);
    assert_eq!(
        (kind, &metadata["principal"], &metadata["stops"]["name"]),
        (&json!("block"), &json!("admin"), &json!("anonymous"))
    );
    let explained: Value = docket.admin_get("/v1/explain/stopped").await.json().await.unwrap();
    assert!(explained["why"][0]["reason"].as_str().unwrap().contains("leaked a key"), "{explained:#}");

    let docket = Docket::in_folder(docket.stop().await).await;
    assert_eq!(docket.evaluate("still", "echo", json!({})).await["decision"], false);
    // Another agent's block does not release it.
    let (code, _, error) = docket.command(&["unblock", "agent", "nobody"]).await;
    assert_eq!(code, 3, "{error}");
    let (code, out, error) = docket.command(&["unblock", "agent", "anonymous"]).await;
    assert_eq!(code, 0, "{error}");
    assert!(out.starts_with("released: "), "{out}");
    assert_eq!(docket.evaluate("after", "echo", json!({})).await["decision"], true);
    docket.wait_for(|entry| entry["event_type"] == "block.released").await;
    let (_, out, _) = docket.command(&["block", "list"]).await;
    assert_eq!(out.trim(), "nothing is blocked");
    let docket = Docket::in_folder(docket.stop().await).await;
    assert_eq!(docket.evaluate("again", "echo", json!({})).await["decision"], true);
    docket.stop().await;
}

static NOW_MS: AtomicI64 = AtomicI64::new(1_900_000_000_000);

fn now_ms() -> i64 {
    NOW_MS.fetch_add(1, Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_ends_when_its_time_is_over_and_says_so() {
    let clock = Clock { now_ms, ..docket::cli::system_clock() };
    let docket = Docket::at(folder_with("", POLICY), clock).await;
    let token = docket.token.clone();
    let (status, block) =
        docket.send(&token, "/v1/blocks", &json!({"all": true, "for": "1h", "reason": "drill"})).await;
    assert_eq!((status, &block["what"], &block["known"]), (200, &json!("all"), &json!(true)));
    assert_eq!(docket.evaluate("during", "echo", json!({})).await["decision"], false);
    NOW_MS.fetch_add(3_600_000, Ordering::Relaxed);
    assert_eq!(docket.evaluate("over", "echo", json!({})).await["decision"], true);
    let expired = docket.wait_for(|entry| entry["event_type"] == "block.expired").await;
    assert_eq!(expired["metadata"]["block_id"], block["block_id"]);
    for (body, part) in [
        (json!({"all": true, "reason": " "}), "reason"),
        (json!({"all": true, "agent": "x", "reason": "r"}), "one of agent, server and all"),
        (json!({"reason": "r"}), "one of agent, server and all"),
        (json!({"all": true, "for": "-1h", "reason": "r"}), "length of time"),
        (json!({"all": true, "until": "2001-01-01", "reason": "r"}), "before it begins"),
        (json!({"all": true}), "missing field `reason`"),
    ] {
        let (status, problem) = docket.send(&token, "/v1/blocks", &body).await;
        assert_eq!(status, 400, "{body}");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{problem:#}");
    }
    let (status, _) = docket.send(&token, "/v1/blocks/nothing/release", &json!({})).await;
    assert_eq!(status, 404);
    assert_eq!(docket.evaluate("not-blocked", "echo", json!({})).await["decision"], true);
    docket.stop().await;
}
