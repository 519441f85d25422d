//! The admin plane: who may look, what they see, and that looking is recorded.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Docket, POLICY};

#[tokio::test]
async fn nobody_reads_without_the_token_and_failures_are_entries() {
    let docket = Docket::start().await;
    docket.evaluate("secret-1", "echo", json!({})).await;
    let list = "/admin/auditlog/list/KIND_ACCESS?tail=1";
    for path in ["/v1/audit", "/v1/audit/stream", "/v1/explain/secret-1", "/metrics", "/v1/nothing", list] {
        let url = format!("{}{path}", docket.admin);
        let none = docket.client.get(&url).send().await.unwrap();
        assert_eq!(none.status(), 401, "{path}");
        assert_eq!(none.headers()["content-type"], "application/problem+json");
        let schemes: Vec<_> = none.headers().get_all("www-authenticate").iter().collect();
        assert_eq!(schemes[0], "Bearer realm=\"docket\"");
        // Clients made for Cerbos wait to be asked.
        assert_eq!(schemes.get(1).is_some_and(|scheme| *scheme == "Basic realm=\"docket\""), path == list);
        let wrong = docket.client.get(&url).bearer_auth("wrong").send().await.unwrap();
        assert_eq!(wrong.status(), 401, "{path}");
        assert!(!wrong.text().await.unwrap().contains("test.tools"));
    }
    let basic = docket.client.get(format!("{}/v1/audit", docket.admin)).basic_auth("me", Some(&docket.token));
    assert_eq!(basic.send().await.unwrap().status(), 200);
    let failed = docket.wait_for(|entry| entry["event_type"] == "auth.failed").await;
    assert_eq!(failed["kind"], "auth");
    // The data plane leads nowhere near the ledger.
    for path in ["/v1/audit", "/v1/explain/secret-1", "/metrics"] {
        let response = docket.client.get(format!("{}{path}", docket.data)).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
    docket.stop().await;
}

#[tokio::test]
async fn every_read_is_an_entry() {
    let docket = Docket::start().await;
    docket.evaluate("looked-at", "echo", json!({})).await;
    docket.admin_get("/v1/explain/looked-at").await;
    docket.admin_get("/v1/audit?decision=allow&user=password%3Dhunter2hunter2").await;
    docket.admin_get("/v1/audit/01ARZ3NDEKTSV4RRFFQ69G5FAV").await;
    let answer: Value = docket.admin_get("/v1/audit?kind=access&order=asc").await.json().await.unwrap();
    let reads = answer["entries"].as_array().unwrap();
    let events: Vec<&str> = reads.iter().map(|entry| entry["event_type"].as_str().unwrap()).collect();
    assert_eq!(events, ["ledger.explained", "ledger.read", "ledger.read"]);
    let asked = |at: usize| (&reads[at]["metadata"]["query"], &reads[at]["metadata"]["status"]);
    assert_eq!(asked(0), (&json!("looked-at"), &json!(200)));
    // What looks like a secret is one however it is encoded.
    assert_eq!(asked(1), (&json!("decision=allow&user=password=[redacted]"), &json!(200)));
    assert_eq!(asked(2), (&json!("01ARZ3NDEKTSV4RRFFQ69G5FAV"), &json!(404)));
    docket.stop().await;
}

#[tokio::test]
async fn lists_are_filtered_ordered_and_paged() {
    let docket = Docket::start().await;
    for number in 0..7 {
        let tool = if number % 2 == 0 { "echo" } else { "delete_file" };
        docket.evaluate(&format!("page-{number}"), tool, json!({"path": "/x"})).await;
    }
    let get = async |query: &str| -> Value {
        docket.admin_get(&format!("/v1/audit?{query}")).await.json().await.unwrap()
    };
    let ids = |answer: &Value| -> Vec<String> {
        answer["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["request_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let denied = get("decision=deny&kind=decision").await;
    assert_eq!(ids(&denied), ["page-5", "page-3", "page-1"]);
    let first = get("kind=decision&limit=3").await;
    assert_eq!(ids(&first), ["page-6", "page-5", "page-4"]);
    assert_eq!(first["pagination"]["totalEntries"], 7);
    assert_eq!(first["pagination"]["totalPages"], 3);
    let cursor = first["pagination"]["nextCursor"].as_str().unwrap();
    assert_eq!(
        ids(&get(&format!("kind=decision&limit=3&cursor={cursor}")).await),
        ["page-3", "page-2", "page-1"]
    );
    let last = get("kind=decision&pageSize=3&page=3").await;
    assert_eq!(ids(&last), ["page-0"]);
    assert_eq!(last["pagination"]["nextCursor"], Value::Null);
    assert_eq!(ids(&get("kind=decision&order=asc&limit=2").await), ["page-0", "page-1"]);
    assert_eq!(ids(&get("kind=decision&since=1h&limit=1").await), ["page-6"]);
    assert_eq!(ids(&get("kind=decision&since=2999-01-01").await), [""; 0]);
    for query in ["foo=1", "limit=0", "decision=maybe", "since=never"] {
        let refused = docket.admin_get(&format!("/v1/audit?{query}")).await;
        assert_eq!(refused.status(), 400, "{query}");
        let problem: Value = refused.json().await.unwrap();
        let name = query.split('=').next().unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(&format!("`{name}`")), "{problem}");
    }
    docket.stop().await;
}

#[tokio::test]
async fn the_stream_follows_and_resumes() {
    let docket = Docket::start().await;
    docket.evaluate("before", "echo", json!({})).await;
    let events = async |last: Option<&str>, wanted: usize| -> Vec<(String, Value)> {
        let mut request = docket
            .client
            .get(format!("{}/v1/audit/stream?kind=decision", docket.admin))
            .bearer_auth(&docket.token);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let mut response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        docket.evaluate(&format!("during-{}", last.unwrap_or("none")), "echo", json!({})).await;
        let mut text = String::new();
        while text.matches("\n\n").count() < wanted {
            let chunk = tokio::time::timeout(Duration::from_secs(5), response.chunk())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        let event = |event: &str| {
            let (id, data) = event.split_once('\n').unwrap();
            (id[4..].to_owned(), serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap())
        };
        text.split_terminator("\n\n").map(event).collect()
    };
    let live = events(None, 1).await;
    assert_eq!(live[0].1["request_id"], "during-none");
    let resumed = events(Some("0"), 3).await;
    let ids: Vec<&str> = resumed.iter().map(|(_, entry)| entry["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["before", "during-none", "during-0"]);
    assert_eq!(resumed[1].0, live[0].0);
    docket.stop().await;
}

#[tokio::test]
async fn a_stream_after_an_entry_that_is_not_there_says_so_and_goes_on() {
    let docket = Docket::start().await;
    docket.evaluate("before", "echo", json!({})).await;
    let stream = format!("{}/v1/audit/stream?kind=decision", docket.admin);
    let request = docket.client.get(&stream).bearer_auth(&docket.token).header("last-event-id", "999999");
    let mut response = request.send().await.unwrap();
    assert_eq!(response.status(), 200, "a browser would never come back after an error");
    docket.evaluate("after", "echo", json!({})).await;
    let mut text = String::new();
    while text.matches("\n\n").count() < 2 {
        let chunk = tokio::time::timeout(Duration::from_secs(5), response.chunk()).await.unwrap();
        text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
    }
    let events: Vec<&str> = text.split_terminator("\n\n").collect();
    let [id, event, data] = events[0].lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    let newest: i64 = id.strip_prefix("id: ").unwrap().parse().unwrap();
    assert!(event == "event: reset" && newest < 999_999, "{text}");
    let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert!(
        data["error"].as_str().unwrap().starts_with("Last-Event-ID 999999 is beyond the newest entry"),
        "{data}"
    );
    assert_eq!(data["last_event_id"], newest);
    assert!(events[1].contains("\"after\"") && !text.contains("\"before\""), "{text}");
    let garbled =
        docket.client.get(&stream).bearer_auth(&docket.token).header("last-event-id", &b"5\xff"[..]);
    assert_eq!(garbled.send().await.unwrap().status(), 400);
    // Where somebody began to follow is on record.
    docket
        .wait_for(|entry| {
            entry["event_type"] == "stream.opened"
                && entry["metadata"]["query"]
                    .as_str()
                    .is_some_and(|query| query.ends_with("last-event-id=999999"))
        })
        .await;
    // Who names it in the query is a program, and is told.
    let refused = docket.admin_get("/v1/audit/stream?after=999999").await;
    assert_eq!(refused.status(), 400);
    let problem: Value = refused.json().await.unwrap();
    assert!(
        problem["detail"].as_str().unwrap().contains("`after`: 999999 is beyond the newest"),
        "{problem}"
    );
    docket.stop().await;
}

#[tokio::test]
async fn times_reach_to_the_end_of_the_calendar() {
    let docket = Docket::start().await;
    docket.evaluate("now", "echo", json!({})).await;
    for (query, found) in [
        ("until=9999-12-31", 1),
        ("until=9999-12-31T23:59:59.999Z", 1),
        ("until=9999-12-31T23:59:59-23:59", 1),
        ("since=0000-01-01&until=9999-12-31", 1),
        ("since=9999-12-31", 0),
        ("until=0001-01-01", 0),
    ] {
        let answer = docket.admin_get(&format!("/v1/audit?kind=decision&{query}")).await;
        assert_eq!(answer.status(), 200, "{query}");
        let list: Value = answer.json().await.unwrap();
        assert_eq!(list["pagination"]["totalEntries"], found, "{query}");
        let stats: Value = docket.admin_get(&format!("/v1/audit/stats?{query}")).await.json().await.unwrap();
        assert_eq!(stats["decisions"], found, "{query}: {stats:#}");
        let far = query.contains("until=9999");
        assert_eq!(
            stats["until"].as_str().unwrap().starts_with("9999-12-30T22:00"),
            far,
            "{query}: {stats:#}"
        );
    }
    for text in ["10000-01-01", "2026-11-20T07:00:00", "2026-13-01"] {
        let refused = docket.admin_get(&format!("/v1/audit?until={text}")).await;
        assert_eq!(refused.status(), 400, "{text}");
        let problem: Value = refused.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("from year 0000 to 9999"), "{problem}");
    }
    docket.stop().await;
}

#[tokio::test]
async fn a_call_full_of_secrets_is_recorded_with_its_name_and_can_be_read() {
    let docket = Docket::start().await;
    let secret = |n: u32| json!({"password": format!("{n:05}{}", "x9Q".repeat(84))});
    let rows: Vec<Value> = (0..4200).map(secret).collect();
    docket.evaluate("flood-1", "delete_file", json!({"path": "/x", "rows": rows})).await;
    docket
        .evaluate("flood-2", "delete_file", json!({"path": "/x", "texts": vec!["lorem ".repeat(1000); 60]}))
        .await;
    let answer = docket.admin_get("/v1/audit?kind=decision&order=asc").await;
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.unwrap();
    let (withheld, large) = (&answer["entries"][0], &answer["entries"][1]);
    for entry in [withheld, large] {
        assert_eq!(entry["resource"]["id"], "delete_file", "{entry}");
        assert_eq!(entry["decision"], "deny");
        assert!(entry["agent"].is_string() && entry["peer"].is_string(), "{entry}");
        assert!(entry["action"].is_string() && entry["diagnostics"][0]["effect"] == "deny", "{entry}");
        assert_eq!(entry.get("damaged"), None);
    }
    assert_eq!(withheld["metadata"]["context"]["withheld"], "[redacted]");
    assert_eq!(large["metadata"]["context"]["arguments"]["truncated"], true);
    assert_eq!(large["redactions"][0]["op"], "truncate");
    assert_eq!(large["redactions"][0]["path"], "/context/arguments");
    for id in ["flood-1", "flood-2"] {
        assert_eq!(docket.admin_get(&format!("/v1/explain/{id}")).await.status(), 200, "{id}");
    }
    docket.stop().await;
}

#[tokio::test]
async fn metrics_and_health() {
    let docket = Docket::start().await;
    docket.evaluate("m-1", "echo", json!({})).await;
    docket.evaluate("m-2", "delete_file", json!({"path": "/x"})).await;
    let metrics = docket.admin_get("/metrics").await.text().await.unwrap();
    for line in [
        "docket_decisions_total{effect=\"allow\",server=\"\"} 1",
        "docket_decisions_total{effect=\"deny\",server=\"\"} 1",
        "docket_evaluation_seconds_count 2",
        "docket_append_seconds_count 2",
        "docket_append_failures_total 0",
        "docket_ledger_queue_length 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    for plane in [&docket.data, &docket.admin] {
        let health: Value =
            docket.client.get(format!("{plane}/healthz")).send().await.unwrap().json().await.unwrap();
        assert_eq!(health["status"], "ok");
        let ready: Value =
            docket.client.get(format!("{plane}/readyz")).send().await.unwrap().json().await.unwrap();
        assert_eq!(ready["status"], "ready");
    }
    docket.stop().await;
}

#[tokio::test]
async fn tokens_name_the_caller_and_disabled_ones_do_not() {
    let digest = |token: &str| hex::encode(docket::identity::digest_of(token));
    let toml = format!(
        "[agents.bot]\ntoken_sha256 = \"{}\"\nuser = \"alice@acme.example\"\nteam = \"finance\"\nzone = \"eu\"\nroles = [\"agent\", \"payer\"]\n\
         [agents.ex]\ntoken_sha256 = \"{}\"\nenabled = false\n",
        digest("tok-bot"),
        digest("tok-ex")
    );
    let policy = "package p\n\nallow if \"payer\" in input.context.caller.roles\n";
    let docket = Docket::with(&toml, policy).await;
    let body = crate::harness::evaluation("echo", &json!({}));
    let post = async |token: &str| {
        let request = docket.client.post(format!("{}/access/v1/evaluation", docket.data)).bearer_auth(token);
        request.header("x-request-id", "tok-1").json(&body).send().await.unwrap()
    };
    let answer: Value = post("tok-bot").await.json().await.unwrap();
    assert_eq!(answer["decision"], true);
    let entries = docket.entries("tok-1").await;
    for (member, expected) in
        [("agent", "bot"), ("user", "alice@acme.example"), ("team", "finance"), ("zone", "eu")]
    {
        assert_eq!(entries[0][member], expected);
    }
    assert_eq!(post("tok-ex").await.status(), 401);
    assert_eq!(post("nope").await.status(), 401);
    docket.wait_for(|entry| entry["kind"] == "auth" && entry["metadata"]["reason"] == "agent_disabled").await;
    docket.stop().await;
}

#[tokio::test]
async fn explain_of_an_unknown_request_says_so() {
    let docket = Docket::with("", POLICY).await;
    let response = docket.admin_get("/v1/explain/never-happened").await;
    assert_eq!(response.status(), 404);
    let problem: Value = response.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("never-happened"));
    docket.stop().await;
}

#[tokio::test]
async fn one_entry_pickers_fields_and_statistics() {
    let docket = Docket::start().await;
    for number in 0..6 {
        let tool = if number % 3 == 0 { "delete_file" } else { "echo" };
        docket.evaluate(&format!("one-{number}"), tool, json!({"path": "/x"})).await;
    }
    let get = async |path: &str| -> Value { docket.admin_get(path).await.json().await.unwrap() };
    let listed = get("/v1/audit?kind=decision&fields=id,decision,requestId&limit=1").await;
    let slim = listed["entries"][0].as_object().unwrap();
    assert_eq!(slim.keys().collect::<Vec<_>>(), ["decision", "id", "request_id"]);
    let id = slim["id"].as_str().unwrap();
    assert_eq!(get(&format!("/v1/audit/{id}")).await["request_id"], "one-5");
    for nobody in ["01ARZ3NDEKTSV4RRFFQ69G5FAV", "nothing"] {
        let missing = docket.admin_get(&format!("/v1/audit/{nobody}")).await;
        assert_eq!(missing.status(), 404, "{nobody}");
        assert_eq!(missing.headers()["content-type"], "application/problem+json");
    }
    let tools = get("/v1/audit/tools").await;
    let echo = json!({"column": "tool", "value": "echo", "count": 4, "deny": 0});
    assert_eq!(
        tools["values"],
        json!([echo, {"column": "tool", "value": "delete_file", "count": 2, "deny": 2}])
    );
    assert_eq!(get("/v1/audit/tools?q=CHO").await["values"], json!([echo]));
    assert_eq!(get("/v1/audit/policies?decision=deny").await["values"][0]["value"], "test.tools");
    let stats = get("/v1/audit/stats?bucket=1h&since=1h").await;
    assert_eq!(
        (&stats["decisions"], &stats["deny"], &stats["bucket_ms"]),
        (&json!(6), &json!(2), &json!(3_600_000))
    );
    assert_eq!(stats["servers"][0]["server"], Value::Null);
    assert_eq!(stats["denying_policies"][0]["deny"], 2);
    for (path, part) in [
        ("/v1/audit?resutl=deny", "did you mean `result`?"),
        ("/v1/audit?fields=idd", "did you mean `id`?"),
        ("/v1/audit?cursor=%21", "`cursor` must be"),
        ("/v1/audit/stats?bucket=soon", "`bucket` must be"),
        ("/v1/audit/tools?limit=0", "`limit` must be"),
        ("/v1/audit/export?format=xml", "must be one of `json`, `jsonl`, `csv`, `opa`"),
        ("/v1/audit/export?limit=5&pageSize=6", "`pageSize` can be given once, and `6` is another value"),
        ("/v1/audit/stream?order=asc", "parameter `order` (given `asc`) is not known"),
        ("/v1/audit?since=1h&until=2h", "`since` must be before `until`"),
        ("/v1/audit?since=1h&since=2h", "`since` can be given once"),
        ("/v1/audit?limit=5&limit=6", "`limit` can be given once, and `6` is another value"),
        ("/v1/audit?manifest_sha=zzz", "must be `sha256:` and 64 hexadecimal digits, and `zzz` is not"),
        ("/v1/tokens?role=admin", "`/v1/tokens` takes no parameters, and was given `role=admin`"),
        ("/v1/checkpoint?x=1", "takes no parameters"),
        ("/admin/auditlog/list/KIND_DECISION?tail=1&tail=2", "`tail` can be given once"),
        ("/admin/auditlog/list/KIND_DECISION?tail=1&since=1h", "and `tail=1&since=1h` is not that"),
    ] {
        let refused = docket.admin_get(path).await;
        assert_eq!(refused.status(), 400, "{path}");
        let problem: Value = refused.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(part), "{path}: {problem}");
    }
    // What is said in the wrong place is not done without it.
    let prune = json!({"before": "2000-01-01", "reason": "tidying"});
    let (status, said) = docket.send(&docket.token, "/v1/ledger/prune?dry_run=true", &prune).await;
    assert_eq!(status, 400, "{said}");
    docket.stop().await;
}

#[tokio::test]
async fn exports_are_recorded_before_and_after_and_go_on_where_they_ended() {
    let docket = Docket::start().await;
    for number in 0..5 {
        docket.evaluate(&format!("out-{number}"), "echo", json!({"path": "=1+1"})).await;
    }
    let lines = async |query: &str| -> Vec<Value> {
        let response =
            docket.admin_get(&format!("/v1/audit/export?format=jsonl&kind=decision&order=asc{query}")).await;
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        let text = response.text().await.unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let first = lines("&limit=2").await;
    let ids = |entries: &[Value]| {
        entries.iter().map(|entry| entry["request_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&first), ["out-0", "out-1"]);
    let rest = lines(&format!("&cursor={}", first[1]["seq"])).await;
    assert_eq!(ids(&rest), ["out-2", "out-3", "out-4"]);
    let csv =
        docket.admin_get("/v1/audit/export?format=csv&kind=decision&limit=1").await.text().await.unwrap();
    assert!(csv.contains("\"{\"\"path\"\":\"\"=1+1\"\"}\""), "{csv}");
    let entries: Value = docket.admin_get("/v1/audit?kind=export&order=asc").await.json().await.unwrap();
    let events: Vec<&str> = entries["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["event_type"].as_str().unwrap())
        .collect();
    assert_eq!(events, ["export.requested", "export.completed"].repeat(3));
    assert_eq!(entries["entries"][1]["metadata"]["rows"], 2);
    // Offline, the same bytes.
    let path = docket.ledger();
    let path = path.to_str().unwrap();
    let folder = docket.stop().await;
    let arguments =
        ["export", "--ledger", path, "--kind", "decision", "--order", "asc", "--out", "out.jsonl"];
    let (code, _, error) = crate::harness::docket(&arguments, folder.path());
    assert_eq!(code, 0, "{error}");
    let text = std::fs::read_to_string(folder.path().join("out.jsonl")).unwrap();
    assert!(error.contains(&format!("wrote 5 entries, {} bytes, sha256 ", text.len())), "{error}");
    let offline: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(offline, first.into_iter().chain(rest).collect::<Vec<_>>());
    let (code, _, error) = crate::harness::docket(&arguments, folder.path());
    assert!(code == 2 && error.contains("--force"), "{error}");
}

#[tokio::test]
async fn cerbos_clients_find_their_entries() {
    let docket = Docket::start().await;
    docket.evaluate("c-1", "echo", json!({})).await;
    docket.evaluate("c-2", "delete_file", json!({"path": "/x"})).await;
    let list = async |kind: &str, query: &str| {
        let url = format!("{}/admin/auditlog/list/{kind}?{query}", docket.admin);
        docket.client.get(url).basic_auth("cerbos", Some(&docket.token)).send().await.unwrap()
    };
    let lines = async |kind: &str, query: &str| -> Vec<Value> {
        let response = list(kind, query).await;
        assert_eq!(response.status(), 200, "{query}");
        let text = response.text().await.unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["result"].clone()).collect()
    };
    let tail = lines("KIND_DECISION", "tail=1").await;
    let entry = &tail[0]["decisionLogEntry"];
    assert_eq!(entry["checkResources"]["inputs"][0]["requestId"], "c-2");
    let output = &entry["checkResources"]["outputs"][0]["actions"]["tools/call"];
    assert_eq!(*output, json!({"effect": "EFFECT_DENY", "policy": "test.tools"}));
    // As protojson writes it: what is empty is left out.
    let text = list("KIND_DECISION", "tail=1").await.text().await.unwrap();
    assert!(!text.contains("null") && !text.contains("{}") && !text.contains("\"metadata\""), "{text}");
    let call_id = entry["callId"].as_str().unwrap();
    assert_eq!(lines("KIND_DECISION", &format!("lookup={call_id}")).await, tail);
    assert_eq!(lines("KIND_DECISION", "since=1h").await.len(), 2);
    assert_eq!(
        lines("KIND_DECISION", "between.start=2020-01-01T00:00:00Z&between.end=2020-01-02T00:00:00Z")
            .await
            .len(),
        0
    );
    lines("KIND_ACCESS", "tail=1").await;
    let access = lines("KIND_ACCESS", "tail=1000").await;
    assert_eq!(access[0]["accessLogEntry"]["method"], "/admin/auditlog/list/KIND_ACCESS");
    assert_eq!(list("KIND_DECISION", "lookup=01ARZ3NDEKTSV4RRFFQ69G5FAV").await.status(), 404);
    assert_eq!(list("KIND_DECISION", "tail=1&since=1h").await.status(), 400);
    assert_eq!(list("KIND_NOTHING", "tail=1").await.status(), 404);
    docket.stop().await;
}
