//! Explanations of recorded calls: what held, what was missing, and that it is the same years later.

use serde_json::{Value, json};

use crate::harness::{Docket, docket};

const POLICY: &str = r#"# METADATA
# title: Files
# custom:
#   id: test.files
package test.files

path := input.context.arguments.path

trusted if {
	"agent" in input.subject.properties.roles
	input.subject.properties.risk_score < 50
}

allow contains {"rule": "workspace"} if {
	input.resource.id == "write_file"
	trusted
	startswith(path, "/workspace/")
}

allow contains {"rule": "login"} if {
	input.resource.id == "login"
	input.context.arguments.password != ""
}

deny contains {"rule": "secrets", "message": sprintf("`%s` holds secrets", [path])} if {
	some ending in [".pem", ".key"]
	endswith(path, ending)
}

deny contains {"rule": "weak"} if startswith(input.context.arguments.password, "hunter")
"#;

async fn evaluate(docket: &Docket, id: &str, tool: &str, risk: u64, arguments: Value) -> Value {
    let body = json!({
        "subject": {"type": "identity", "id": "bot", "properties": {"roles": ["agent"], "risk_score": risk}},
        "action": {"name": "tools/call", "properties": {"x": 1}},
        "resource": {"type": "tool", "id": tool, "properties": {}},
        "context": {"arguments": arguments},
    });
    let request =
        docket.client.post(format!("{}/access/v1/evaluation", docket.data)).header("x-request-id", id);
    request.json(&body).send().await.unwrap().json().await.unwrap()
}

async fn explained(docket: &Docket, id: &str) -> Value {
    let answer = docket.admin_get(&format!("/v1/explain/{id}")).await;
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_default_deny_names_the_missing_condition() {
    let docket = Docket::with("", POLICY).await;
    evaluate(&docket, "far", "write_file", 10, json!({"path": "/etc/passwd"})).await;
    evaluate(&docket, "risky", "write_file", 80, json!({"path": "/workspace/a"})).await;
    let found = explained(&docket, "far").await;
    assert_eq!((&found["reproduced"], &found["approximate"]), (&json!(true), &json!([])), "{found:#}");
    assert_eq!(found["why"][0]["because"][0]["rule"], "default_deny");
    let missing = &found["why_not"][0];
    assert_eq!(missing["policy_id"], "test.files");
    assert_eq!(missing["rule"], "workspace");
    assert_eq!(missing["file"], "policy.rego");
    assert_eq!((&missing["line"], &missing["column"]), (&json!(17), &json!(2)));
    assert_eq!(missing["condition"], "startswith(path, \"/workspace/\")");
    assert_eq!(missing["values"], json!({"path": "/etc/passwd"}));
    assert_eq!(missing["via"], json!([]));
    assert_eq!(missing["call_id"], found["entries"][0]["call_id"]);
    // `login` is farther: of its conditions both are false.
    assert_eq!(found["why_not"][1]["rule"], "login");
    let missing = &explained(&docket, "risky").await["why_not"][0];
    assert_eq!(missing["condition"], "input.subject.properties.risk_score < 50");
    assert_eq!(missing["values"], json!({"input.subject.properties.risk_score": 80}));
    assert_eq!(
        (&missing["via"][0]["rule"], &missing["via"][0]["condition"]),
        (&json!("workspace"), &json!("trusted"))
    );
    docket.stop().await;
}

#[tokio::test]
async fn a_deny_shows_its_rule_and_what_it_matched() {
    let docket = Docket::with("", POLICY).await;
    evaluate(&docket, "pem", "write_file", 10, json!({"path": "/workspace/a.pem"})).await;
    evaluate(&docket, "fine", "write_file", 10, json!({"path": "/workspace/a"})).await;
    let found = explained(&docket, "pem").await;
    let because = &found["why"][0]["because"][0];
    assert_eq!((&because["policy_id"], &because["rule"]), (&json!("test.files"), &json!("secrets")));
    assert_eq!(because["message"], "`/workspace/a.pem` holds secrets");
    assert_eq!((&because["line"], &because["end_line"]), (&json!(25), &json!(28)));
    assert!(because["excerpt"].as_str().unwrap().starts_with("deny contains"));
    assert_eq!(because["conditions"][1]["values"], json!({"path": "/workspace/a.pem", "ending": ".pem"}));
    assert!(because["conditions"].as_array().unwrap().iter().all(|condition| condition["holds"] == true));
    assert_eq!(found["why_not"], json!([]));
    let found = explained(&docket, "fine").await;
    assert_eq!(found["why"][0]["because"][0]["conditions"].as_array().unwrap().len(), 3);
    let answer = docket.admin_get("/v1/explain/fine?trace=true").await.json::<Value>().await.unwrap();
    assert_eq!(answer["trace"].as_array().unwrap().len(), 4);
    assert_eq!(docket.admin_get("/v1/explain/fine?trase=1").await.status(), 400);
    docket.stop().await;
}

#[tokio::test]
async fn what_was_redacted_stays_away_and_is_named() {
    let docket = Docket::with("", POLICY).await;
    let secret = "hunter2-and-more-of-it";
    evaluate(&docket, "weak", "login", 10, json!({"password": secret, "path": "/x"})).await;
    let answer = docket.admin_get("/v1/explain/weak?trace=true").await.text().await.unwrap();
    assert!(!answer.contains("hunter2"), "{answer}");
    let found: Value = serde_json::from_str(&answer).unwrap();
    // The recorded call no longer has what the rule matched, and the answer says so instead of inventing a reason.
    assert_eq!(found["entries"][0]["decision"], "deny");
    assert_eq!(found["reproduced"], false);
    assert_eq!(found["approximate"], json!(["/context/arguments/password"]));
    assert_eq!(found["why"][0]["because"][0]["rule"], "weak");
    assert!(found["notes"][0].as_str().unwrap().contains("redacted"), "{found:#}");
    // A redacted place that no policy reads takes nothing away.
    evaluate(
        &docket,
        "unread",
        "write_file",
        10,
        json!({"path": "/etc/x", "api_key": "sk-0123456789abcdef0123456789"}),
    )
    .await;
    let found = explained(&docket, "unread").await;
    assert_eq!(
        (&found["reproduced"], &found["approximate"]),
        (&json!(true), &json!([])),
        "{:#}",
        found["entries"][0]["redactions"]
    );
    assert!(!found["entries"][0]["redactions"].as_array().unwrap().is_empty());
    docket.stop().await;
}

#[tokio::test]
async fn explains_from_the_ledger_alone() {
    let docket_running = Docket::with("", POLICY).await;
    evaluate(&docket_running, "late", "write_file", 10, json!({"path": "/etc/passwd"})).await;
    evaluate(&docket_running, "pem", "write_file", 10, json!({"path": "/workspace/a.pem"})).await;
    let online = explained(&docket_running, "late").await;
    let folder = docket_running.stop().await;
    // The files may be long gone.
    std::fs::remove_dir_all(folder.path().join("policies")).unwrap();
    let (code, text, error) = docket(&["explain", "late", "--ledger", "docket.db", "--json"], folder.path());
    assert_eq!(code, 0, "{error}");
    let offline: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(offline["why_not"], online["why_not"]);
    let (code, text, _) = docket(&["explain", "late", "--ledger", "docket.db", "--trace"], folder.path());
    assert_eq!(code, 0);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("DENY  no policy allows `tools/call` of tool `write_file`"), "{text}");
    assert_eq!(lines[2], "  nearest: rule workspace of test.files lacks");
    assert_eq!(lines[3], "  policy.rego:17:2 `startswith(path, \"/workspace/\")`");
    assert_eq!(lines[4], "     17 | startswith(path, \"/workspace/\")");
    assert!(lines[5].ends_with('^') && lines[6].ends_with("path = \"/etc/passwd\""), "{text}");
    assert!(text.contains("✗ 17 startswith(path, \"/workspace/\"): path = \"/etc/passwd\""), "{text}");
    assert!(text.contains("✓ 15 input.resource.id == \"write_file\""), "{text}");
    let (_, text, _) = docket(&["explain", "pem", "--ledger", "docket.db"], folder.path());
    assert!(text.contains("policy.rego:25 secrets\n     25 | deny contains"), "{text}");
    assert!(text.contains("ending = \".pem\""), "{text}");
}

#[tokio::test]
async fn what_never_reached_a_policy_says_so() {
    let docket = Docket::with("", POLICY).await;
    let request = docket.client.post(format!("{}/access/v1/evaluation", docket.data));
    request.header("x-request-id", "garbage").body("{").send().await.unwrap();
    docket.wait_for(|entry| entry["request_id"] == "garbage").await;
    let found = explained(&docket, "garbage").await;
    assert_eq!(found["reproduced"], false);
    assert!(found["notes"][0].as_str().unwrap().contains("never reached the policies"), "{found:#}");
    docket.stop().await;
}
