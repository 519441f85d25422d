//! Who may look at what, and the emergency stop.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use docket::clock::Clock;
use serde_json::{Value, json};

use crate::harness::{Docket, POLICY, docket, evaluation, folder_with};
use crate::server;

impl Docket {
    /// A POST to the admin plane with somebody's token: status and body.
    pub async fn send(&self, token: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.admin)).bearer_auth(token).json(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// Runs a command that asks this docket: exit code, stdout and stderr.
    pub async fn command(&self, arguments: &[&str]) -> (i32, String, String) {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_server_gets_nothing_even_where_decisions_do_not_bind() {
    let upstream = server::serve().await.unwrap();
    let toml = format!(
        "[servers.demo]\nurl = \"http://{upstream}/mcp\"\nmode = \"monitor\"\n[servers.other]\nurl = \"http://{upstream}/mcp\"\n"
    );
    let docket = Docket::with(&toml, POLICY).await;
    let (status, block) =
        docket.send(&docket.token, "/v1/blocks", &json!({"server": "demo", "reason": "incident"})).await;
    assert_eq!((status, &block["known"]), (200, &json!(true)));
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"message": "hi"}},
    });
    let answer: Value = docket.rpc(&call, &[("x-request-id", "stopped")]).await.json().await.unwrap();
    let text = answer["result"]["content"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("blocked by an operator: server `demo` is blocked"), "{answer:#}");
    assert_eq!(answer["result"]["_meta"]["docket/decision"]["class"], "blocked");
    let entry = &docket.entries("stopped").await[0];
    let facts = (&entry["mode"], &entry["decision"], &entry["outcome"]);
    assert_eq!(facts, (&json!("monitor"), &json!("deny"), &Value::Null), "{entry:#}");
    // What no policy is asked about does not pass either, but for the end of a session.
    let notification = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(docket.rpc(&notification, &[]).await.status(), 403);
    docket.wait_for(|entry| entry["event_type"] == "request.blocked").await;
    let get = docket.client.get(format!("{}/mcp/demo", docket.data)).header("accept", "text/event-stream");
    assert_eq!(get.send().await.unwrap().status(), 403);
    let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"});
    assert_eq!(docket.rpc(&ping, &[]).await.status(), 403);
    // Another server's calls go on, and so do these once it is released.
    let other = docket.client.post(format!("{}/mcp/other", docket.data)).json(&notification);
    assert_ne!(other.send().await.unwrap().status(), 403);
    assert_eq!(docket.command(&["unblock", "server", "demo"]).await.0, 0);
    assert_ne!(docket.rpc(&notification, &[]).await.status(), 403);
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

/// Agents of two tenants: `ann` and `bob` in `eu`, and another `ann` in `us`, whose calls come first: whoever reads from the
/// beginning comes by them.
const CALLERS: [(&str, &str, &str, &str); 3] =
    [("us-ann", "us", "blue", "ann"), ("eu-bob", "eu", "red", "bob"), ("eu-ann", "eu", "blue", "ann")];

/// A docket with a decision of each kind by each of [`CALLERS`], under the request id `AGENT-TOOL`.
async fn peopled() -> Docket {
    let mut toml = String::new();
    for (agent, zone, team, user) in CALLERS {
        let digest = hex::encode(docket::identity::digest_of(agent));
        let _ = write!(
            toml,
            "[agents.{agent}]\ntoken_sha256 = \"{digest}\"\nzone = \"{zone}\"\nteam = \"{team}\"\nuser = \"{user}\"\n"
        );
    }
    let docket = Docket::with(&toml, POLICY).await;
    for (agent, ..) in CALLERS {
        for tool in ["echo", "pay", "delete_file"] {
            let mut body = evaluation(tool, &json!({"path": format!("/of-{agent}")}));
            body["subject"]["id"] = agent.into();
            let request = docket.client.post(format!("{}/access/v1/evaluation", docket.data));
            let request = request.bearer_auth(agent).header("x-request-id", format!("{agent}-{tool}"));
            assert_eq!(request.json(&body).send().await.unwrap().status(), 200);
        }
    }
    docket
}

impl Docket {
    /// Makes a token, and answers it.
    pub async fn token(&self, name: &str, role: &str, more: Value) -> String {
        let mut body = json!({"name": name, "role": role});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, made) = self.send(&self.token, "/v1/tokens", &body).await;
        assert_eq!(status, 200, "{made:#}");
        made["token"].as_str().unwrap().to_owned()
    }

    /// A GET on the admin plane with somebody's token: status and body.
    pub async fn get_as(&self, token: &str, path: &str) -> (u16, String) {
        let request = self.client.get(format!("{}{path}", self.admin)).bearer_auth(token);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }
}

/// Name, role and scope of somebody, and which request ids they see.
type Somebody = (&'static str, &'static str, Value, fn(&str) -> bool);

/// One of every role but agent and admin.
fn everybody() -> Vec<Somebody> {
    vec![
        ("auditor-eu", "auditor", json!({"zones": ["eu"]}), |id| id.starts_with("eu-")),
        ("auditor-all", "auditor", json!({"zones": ["*"]}), |_| true),
        ("auditor-none", "auditor", json!({}), |_| false),
        ("lead-blue", "lead", json!({"zones": ["eu"], "team": "blue"}), |id| id.starts_with("eu-ann")),
        ("user-ann", "user", json!({"zones": ["eu"], "user": "ann"}), |id| id.starts_with("eu-ann")),
        ("approver-eu", "approver", json!({"zones": ["eu"]}), |id| {
            id.starts_with("eu-") && id.ends_with("-pay")
        }),
        ("author-eu", "author", json!({"zones": ["eu"]}), |_| false),
        ("author-bob", "author", json!({"zones": ["eu"], "user": "bob"}), |id| id.starts_with("eu-bob")),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_sees_what_is_theirs_and_nothing_else_is_there() {
    let docket = peopled().await;
    let all: Value = docket.admin_get("/v1/audit?kind=decision&limit=100").await.json().await.unwrap();
    let all = all["entries"].as_array().unwrap().clone();
    assert_eq!(all.len(), 9);
    for (name, role, scope, sees) in everybody() {
        let token = docket.token(name, role, scope).await;
        let expected: BTreeSet<&str> =
            all.iter().map(|entry| entry["request_id"].as_str().unwrap()).filter(|id| sees(id)).collect();
        let (status, list) = docket.get_as(&token, "/v1/audit?limit=1000&kind=decision").await;
        assert_eq!(status, 200, "{name}");
        let list: Value = serde_json::from_str(&list).unwrap();
        let listed: BTreeSet<&str> = list["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["request_id"].as_str().unwrap())
            .collect();
        assert_eq!(listed, expected, "{name}");
        assert_eq!(list["pagination"]["totalEntries"], expected.len(), "{name}");
        // What people did with docket itself names no tenant: only who sees all of them sees it.
        let (_, others) = docket.get_as(&token, "/v1/audit?kind=access&kind=auth&kind=start").await;
        let others: Value = serde_json::from_str(&others).unwrap();
        assert_eq!(others["entries"].as_array().unwrap().is_empty(), name != "auditor-all", "{name}");
        for entry in &all {
            let (id, request_id) = (entry["id"].as_str().unwrap(), entry["request_id"].as_str().unwrap());
            let is_seen = sees(request_id);
            let (status, text) = docket.get_as(&token, &format!("/v1/audit/{id}")).await;
            assert_eq!(status, if is_seen { 200 } else { 404 }, "{name} {request_id}");
            let (missing, other) = docket.get_as(&token, "/v1/audit/01ARZ3NDEKTSV4RRFFQ69G5FAV").await;
            assert_eq!(missing, 404);
            if !is_seen {
                // Hidden and missing are the same to the letter.
                let plain = |text: &str, id: &str| {
                    let mut problem: Value = serde_json::from_str(text).unwrap();
                    problem["request_id"] = Value::Null;
                    problem.to_string().replace(id, "ID")
                };
                assert_eq!(plain(&text, id), plain(&other, "01ARZ3NDEKTSV4RRFFQ69G5FAV"));
            }
            let (status, text) = docket.get_as(&token, &format!("/v1/explain/{request_id}")).await;
            assert_eq!(status, if is_seen { 200 } else { 404 }, "{name} {request_id}: {text}");
            if ["auditor", "lead", "user"].contains(&role) {
                let (status, _) = docket.get_as(&token, &format!("/v1/entries/{id}/proof")).await;
                assert_eq!(status, if is_seen { 200 } else { 404 }, "{name} {request_id}");
            }
        }
        if !["auditor", "lead", "user"].contains(&role) {
            continue;
        }
        let (_, stats) = docket.get_as(&token, "/v1/audit/stats").await;
        let (_, members) = docket.get_as(&token, "/v1/audit/members").await;
        let (_, export) = docket.get_as(&token, "/v1/audit/export?format=jsonl").await;
        let (_, cerbos) = docket.get_as(&token, "/admin/auditlog/list/KIND_DECISION?tail=1000").await;
        for (what, text) in
            [("stats", &stats), ("members", &members), ("export", &export), ("cerbos", &cerbos)]
        {
            for (agent, ..) in CALLERS {
                let is_seen = expected.iter().any(|id| id.starts_with(agent));
                assert_eq!(text.contains(agent), is_seen, "{name} {what} {agent}: {text}");
            }
        }
        assert_eq!(cerbos.lines().count(), expected.len(), "{name}");
        // A stream from the beginning: an entry of each seen call, and of nobody else's.
        let request = docket.client.get(format!("{}/v1/audit/stream?after=-1&kind=decision", docket.admin));
        let mut stream = request.bearer_auth(&token).send().await.unwrap();
        let mut text = String::new();
        while text.matches("\ndata: ").count() < expected.len() {
            let piece = tokio::time::timeout(Duration::from_secs(10), stream.chunk()).await;
            text.push_str(std::str::from_utf8(&piece.unwrap().unwrap().unwrap()).unwrap());
        }
        for entry in &all {
            let id = entry["request_id"].as_str().unwrap();
            assert_eq!(text.contains(&format!("\"{id}\"")), sees(id), "{name} {id}");
        }
    }
    docket.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_is_for_its_roles() {
    let docket = peopled().await;
    let mut tokens = vec![("admin", docket.token.clone())];
    for (name, role, scope) in [
        ("auditor-all", "auditor", json!({"zones": ["*"]})),
        ("auditor", "auditor", json!({"zones": ["eu"]})),
        ("lead", "lead", json!({"zones": ["eu"], "team": "blue"})),
        ("user", "user", json!({"zones": ["eu"], "user": "ann"})),
        ("approver", "approver", json!({"zones": ["eu"]})),
        ("author", "author", json!({"zones": ["eu"]})),
    ] {
        tokens.push((name, docket.token(name, role, scope).await));
    }
    let people = "admin auditor-all auditor lead user approver author";
    let readers = "admin auditor-all auditor lead user";
    let call = evaluation("echo", &json!({}));
    for (method, path, body, who) in [
        ("GET", "/v1/audit", Value::Null, people),
        ("GET", "/v1/audit/stats", Value::Null, readers),
        ("GET", "/v1/audit/export?format=csv", Value::Null, readers),
        ("GET", "/v1/audit/members", Value::Null, readers),
        ("GET", "/v1/audit/services", Value::Null, readers),
        ("GET", "/v1/audit/tools", Value::Null, readers),
        ("GET", "/v1/audit/policies", Value::Null, readers),
        ("GET", "/v1/audit/01ARZ3NDEKTSV4RRFFQ69G5FAV", Value::Null, people),
        ("GET", "/v1/explain/nothing", Value::Null, people),
        ("GET", "/v1/entries/01ARZ3NDEKTSV4RRFFQ69G5FAV/proof", Value::Null, readers),
        ("GET", "/admin/auditlog/list/KIND_DECISION?tail=1", Value::Null, readers),
        ("GET", "/v1/checkpoint", Value::Null, people),
        ("GET", "/v1/ledger/key", Value::Null, people),
        ("GET", "/v1/proof/inclusion?index=0", Value::Null, people),
        ("GET", "/v1/proof/consistency?from=1", Value::Null, people),
        ("GET", "/metrics", Value::Null, "admin auditor-all"),
        ("GET", "/v1/ledger/stats", Value::Null, "admin auditor-all"),
        ("GET", "/v1/ledger/holds", Value::Null, "admin auditor-all"),
        ("GET", "/v1/blocks", Value::Null, "admin auditor-all"),
        ("GET", "/v1/tokens", Value::Null, "admin"),
        ("POST", "/v1/simulate", json!({"input": call}), "admin author"),
        ("POST", "/v1/replay", json!({}), "admin author"),
        ("POST", "/v1/cover", json!({}), "admin author"),
        ("POST", "/v1/tests", json!({"request_ids": ["nothing"]}), "admin author"),
        ("POST", "/v1/policies/reload", json!({}), "admin"),
        ("POST", "/v1/ledger/prune", json!({"before": "1d", "dry_run": true}), "admin"),
        ("POST", "/v1/ledger/erase", json!({"subject": "x", "dry_run": true}), "admin"),
        ("POST", "/v1/ledger/holds", json!({"zone": "none", "reason": "r"}), "admin"),
        ("POST", "/v1/ledger/holds/x/release", json!({}), "admin"),
        ("POST", "/v1/blocks", json!({"agent": "nobody", "reason": "r"}), "admin"),
        ("POST", "/v1/blocks/x/release", json!({}), "admin"),
        ("POST", "/v1/tokens", json!({"name": "", "role": "user"}), "admin"),
        ("POST", "/v1/tokens/x/revoke", json!({}), "admin"),
        ("POST", "/v1/tokens/x/role", json!({"role": "admin"}), "admin"),
    ] {
        for (name, token) in &tokens {
            let (status, text) = match method {
                "GET" => docket.get_as(token, path).await,
                _ => {
                    let (status, body) = docket.send(token, path, &body).await;
                    (status, body.to_string())
                }
            };
            let may = who.split(' ').any(|known| known == *name);
            assert_eq!(status != 403, may, "{name} {method} {path}: {status} {text}");
            assert!(![401, 405, 500, 503].contains(&status), "{name} {method} {path}: {status} {text}");
        }
        let url = format!("{}{}", docket.admin, path);
        let nobody = match method {
            "GET" => docket.client.get(url),
            _ => docket.client.post(url).json(&body),
        };
        assert_eq!(nobody.bearer_auth("eu-ann").send().await.unwrap().status(), 401, "{path}");
    }
    let refused = docket.wait_for(|entry| entry["metadata"]["reason"] == "not_permitted").await;
    assert_eq!(refused["event_type"], "auth.failed");
    docket.stop().await;
}

/// A request that no policy was asked about is its agent's all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_unread_is_for_those_who_see_the_agents_calls() {
    let docket = peopled().await;
    for (agent, ..) in CALLERS {
        for path in ["evaluation", "evaluations"] {
            let request = docket.client.post(format!("{}/access/v1/{path}", docket.data)).bearer_auth(agent);
            let request = request.header("x-request-id", format!("{agent}-unread"));
            let refused = request.body(format!("{{\"subject\": \"of-{agent}\"}}")).send().await.unwrap();
            assert_eq!(refused.status(), 400);
        }
    }
    // More at once than are recorded one by one.
    let sent = (0..90).map(|number| {
        let url = format!("{}/access/v1/evaluation", docket.data);
        docket.client.post(url).bearer_auth(CALLERS[number % CALLERS.len()].0).body("{").send()
    });
    for answer in futures_util::future::join_all(sent).await {
        assert_eq!(answer.unwrap().status(), 400);
    }
    docket.wait_for(|entry| entry["event_type"] == "request.folded" && entry["zone"] == "us").await;
    for (name, role, scope, sees) in everybody() {
        // Nobody is asked to approve these.
        let expected: BTreeSet<String> = CALLERS
            .iter()
            .map(|(agent, ..)| format!("{agent}-unread"))
            .filter(|id| sees(id) && role != "approver")
            .collect();
        let token = docket.token(name, role, scope).await;
        let (_, list) = docket.get_as(&token, "/v1/audit?limit=1000&event_type=request.unreadable").await;
        let list: Value = serde_json::from_str(&list).unwrap();
        let ids =
            list["entries"].as_array().unwrap().iter().map(|entry| entry["request_id"].as_str().unwrap());
        let listed: BTreeSet<String> = ids.filter(|id| id.ends_with("-unread")).map(str::to_owned).collect();
        assert_eq!(listed, expected, "{name}");
        let (_, folded) = docket.get_as(&token, "/v1/audit?event_type=request.folded").await;
        assert_eq!(folded.contains("\"zone\":\"us\""), name == "auditor-all", "{name}: {folded}");
    }
    docket.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authors_replay_what_they_may_not_read() {
    let docket = peopled().await;
    let secret = evaluation("echo", &json!({"of-a-secret-project": {"password": "hunter2hunter2"}}));
    let request = docket.client.post(format!("{}/access/v1/evaluation", docket.data)).bearer_auth("eu-bob");
    assert_eq!(request.json(&secret).send().await.unwrap().status(), 200);
    let author = docket.token("writer", "author", json!({"zones": ["eu"]})).await;
    // The candidate puts what it reads wherever a policy can put something.
    let spy = "package spy\n\ndeny contains {\"rule\": input.context.arguments.path, \"message\": input.context.arguments.path} if \
               input.context.arguments.path\n\nallow if input.context.arguments\n";
    let body = json!({"policies": {"spy.rego": spy}});
    let replay = async |token: &str| {
        let request = docket.client.post(format!("{}/v1/replay", docket.admin)).bearer_auth(token);
        request.json(&body).send().await.unwrap().text().await.unwrap()
    };
    let seen = replay(&author).await;
    assert!(seen.contains("eu-ann-echo") && seen.contains("\"calls\":7"), "{seen}");
    assert!(!seen.contains("of-a-secret") && seen.contains("\"approximate\":1"), "{seen}");
    assert!(!seen.contains("/of-") && !seen.contains("us-ann"), "{seen}");
    assert!(replay(&docket.token).await.contains("/of-us-ann"), "an admin sees it all");
    let (status, _) = docket.send(&author, "/v1/simulate", &json!({"from": "eu-ann-echo"})).await;
    assert_eq!(status, 404);
    let (_, tests) = docket.send(&author, "/v1/tests", &json!({"since": "1d"})).await;
    assert!(!tests.to_string().contains("/of-"), "{tests}");
    docket.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_shown_once_and_end() {
    let docket = peopled().await;
    let (code, token, error) = docket
        .command(&[
            "token",
            "create",
            "--name",
            "eve",
            "--role",
            "auditor",
            "--zone",
            "eu",
            "--expires",
            "1d",
        ])
        .await;
    let token = token.trim().to_owned();
    assert_eq!(code, 0, "{error}");
    assert!(token.starts_with("dkt_") && !error.contains(&token), "{error}");
    let basic = docket.client.get(format!("{}/v1/audit", docket.admin)).basic_auth("eve", Some(&token));
    assert_eq!(basic.send().await.unwrap().status(), 200);
    for _ in 0..3 {
        assert_eq!(docket.get_as(&token, "/v1/audit").await.0, 200);
    }
    for name in ["eve", "admin"] {
        docket
            .wait_for(|entry| entry["event_type"] == "auth.login" && entry["metadata"]["principal"] == name)
            .await;
    }
    let logins: Value = docket.admin_get("/v1/audit?event_type=auth.login").await.json().await.unwrap();
    let names: Vec<&str> = logins["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["metadata"]["principal"].as_str().unwrap())
        .collect();
    assert_eq!((names.len(), names.contains(&"eve"), names.contains(&"admin")), (2, true, true), "{names:?}");
    let read = docket.wait_for(|entry| entry["metadata"]["principal"] == "eve" && entry["kind"] == "access");
    assert_eq!(read.await["event_type"], "ledger.read");
    let (_, list, _) = docket.command(&["token", "list"]).await;
    assert!(list.contains("eve  auditor  zone eu  until ") && !list.contains(&token), "{list}");
    let (_, listed) = docket.get_as(&docket.token, "/v1/tokens").await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let id = listed["tokens"][0]["key_id"].as_str().unwrap();
    // Another of that name, or that would be found by its id, and what a role cannot be.
    for (arguments, part) in [
        (&["--name", "eve", "--role", "admin"][..], "there is a `eve` already"),
        (&["--name", id, "--role", "admin"], "already"),
        (&["--name", "eu-ann", "--role", "agent"], "there is a `eu-ann` already"),
        (&["--name", "x", "--role", "king"], "must be one of `admin`"),
        (&["--name", "x", "--role", "lead"], "needs a `team`"),
        (&["--name", "x", "--role", "user", "--user", "u", "--expires", "2001-01-01"], "over before"),
    ] {
        let (code, _, error) = docket.command(&[&["token", "create"], arguments].concat()).await;
        assert!(code == 2 && error.contains(part), "{code} {error}");
    }

    // It outlives a restart, and is nowhere in the files.
    let folder = docket.stop().await;
    for file in ["docket.db", "docket.db-wal"] {
        let bytes = std::fs::read(folder.path().join(file)).unwrap_or_default();
        assert!(!bytes.windows(token.len()).any(|window| window == token.as_bytes()), "{file}");
    }
    let mut docket = Docket::in_folder(folder).await;
    let open = async |token: &str| {
        let request = docket.client.get(format!("{}/v1/audit/stream", docket.admin)).bearer_auth(token);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        response
    };
    let ends = async |mut stream: reqwest::Response| {
        tokio::time::timeout(Duration::from_secs(10), async {
            while let Ok(Some(_)) = stream.chunk().await {}
        })
        .await
        .unwrap();
    };
    // Another role ends what was begun, and so does revoking.
    let stream = open(&token).await;
    let (code, out, error) = docket.command(&["token", "role", "eve", "auditor", "--zone", "us"]).await;
    assert_eq!(code, 0, "{error}");
    assert!(out.starts_with("changed: ") && out.contains("zone us"), "{out}");
    ends(stream).await;
    assert_eq!(docket.get_as(&token, "/v1/explain/us-ann-echo").await.0, 200);
    assert_eq!(docket.get_as(&token, "/v1/explain/eu-ann-echo").await.0, 404);
    let stream = open(&token).await;
    assert_eq!(docket.command(&["token", "revoke", "eve"]).await.0, 0);
    ends(stream).await;
    assert_eq!(docket.get_as(&token, "/v1/audit").await.0, 401);
    assert_eq!(docket.command(&["token", "revoke", "eve"]).await.0, 3);
    for event in ["api_key.created", "token.role_changed", "api_key.revoked"] {
        let entry = docket.wait_for(|entry| entry["event_type"] == event).await;
        assert_eq!((&entry["kind"], &entry["metadata"]["principal"]), (&json!("auth"), &json!("admin")));
    }

    // A new admin token is taken up at once, and the old one is no good.
    let stream = open(&docket.token).await;
    let (code, out, error) = docket_in(&docket, &["token", "reset-admin", "--config", "docket.toml"]).await;
    assert_eq!(code, 0, "{out}{error}");
    ends(stream).await;
    assert_eq!(docket.get_as(&docket.token, "/v1/audit").await.0, 401);
    let new = std::fs::read_to_string(docket.folder.path().join("admin.token")).unwrap();
    docket.token = new.trim().to_owned();
    docket.wait_for(|entry| entry["event_type"] == "api_key.reset").await;
    docket.stop().await;
}

/// Runs a command that asks nobody.
async fn docket_in(docket_: &Docket, arguments: &[&str]) -> (i32, String, String) {
    let folder = docket_.folder.path().to_owned();
    let all: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let run = move || docket(&all.iter().map(String::as_str).collect::<Vec<_>>(), &folder);
    tokio::task::spawn_blocking(run).await.unwrap()
}

static LATER_MS: AtomicI64 = AtomicI64::new(1_900_000_000_000);

fn later_ms() -> i64 {
    LATER_MS.fetch_add(1, Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_run_out_and_agents_have_theirs() {
    let clock = Clock { now_ms: later_ms, ..docket::cli::system_clock() };
    let docket = Docket::at(folder_with("", POLICY), clock).await;
    let short = docket.token("short", "auditor", json!({"expires": "1h"})).await;
    let agent = docket.token("robot", "agent", json!({"zones": ["eu"], "team": "blue", "user": "ann"})).await;
    let evaluate = async |token: &str| {
        let request = docket.client.post(format!("{}/access/v1/evaluation", docket.data));
        let request = request.bearer_auth(token).header("x-request-id", "by-robot");
        request.json(&evaluation("echo", &json!({}))).send().await.unwrap().status().as_u16()
    };
    assert_eq!((evaluate(&agent).await, evaluate(&short).await), (200, 401));
    let entry = &docket.entries("by-robot").await[0];
    let facts = (&entry["agent"], &entry["zone"], &entry["team"], &entry["user"]);
    assert_eq!(facts, (&json!("robot"), &json!("eu"), &json!("blue"), &json!("ann")));
    assert_eq!(docket.get_as(&agent, "/v1/audit").await.0, 401);
    assert_eq!(docket.get_as(&short, "/v1/audit").await.0, 200);
    let request = docket.client.get(format!("{}/v1/audit/stream", docket.admin)).bearer_auth(&short);
    let mut stream = request.send().await.unwrap();
    LATER_MS.fetch_add(3_600_000, Ordering::Relaxed);
    let (status, problem) = docket.get_as(&short, "/v1/audit").await;
    assert!(status == 401, "{problem}");
    let ended = async { while let Ok(Some(_)) = stream.chunk().await {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
    docket.wait_for(|entry| entry["event_type"] == "api_key.expired").await;
    assert_eq!(docket.command(&["token", "revoke", "robot"]).await.0, 0);
    assert_eq!(evaluate(&agent).await, 401);
    docket.stop().await;
}

/// Sends a request but for the last byte of its body; the token ends; then sends the rest, and answers the first line.
async fn half_sent(docket: &Docket, token: &str, end: impl AsyncFnOnce()) -> String {
    let body = json!({"name": "backdoor", "role": "admin"}).to_string();
    let address = docket.admin.trim_start_matches("http://");
    let head = format!(
        "POST /v1/tokens HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (first, last) = body.split_at(body.len() - 1);
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut stream, format!("{head}{first}").as_bytes()).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    end().await;
    std::io::Write::write_all(&mut stream, last.as_bytes()).unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stream), &mut line).unwrap();
        line
    });
    answer.await.unwrap()
}

#[tokio::test]
async fn a_request_that_is_half_sent_does_not_outlive_its_token() {
    let docket = peopled().await;
    let arguments = ["token", "create", "--name", "mallory", "--role", "admin"];
    let (code, token, error) = docket.command(&arguments).await;
    assert_eq!(code, 0, "{error}");
    let revoke = async || assert_eq!(docket.command(&["token", "revoke", "mallory"]).await.0, 0);
    let answer = half_sent(&docket, token.trim(), revoke).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let (_, list, _) = docket.command(&["token", "list"]).await;
    assert!(!list.contains("backdoor"), "{list}");
    docket.stop().await;
}

#[tokio::test]
async fn a_filter_takes_so_many_values_and_says_so() {
    let docket = peopled().await;
    let many = "tool=x&".repeat(101);
    let answer = docket.admin_get(&format!("/v1/audit?{many}")).await;
    assert_eq!(answer.status(), 400);
    let problem: Value = answer.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("`tool` can be given 100 times"), "{problem}");
    docket.stop().await;
}
