//! Explanations of recorded calls: what held, what was missing, and that it is the same years later.

use serde_json::{Value, json};

use crate::harness::{Docket, Process, check, docket, evaluation, folder_with};

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

/// Conditions on a password, and ways to give it back: in a message, in locals, through helpers, element by element.
const PASSWORDS: &str = r#"package test.passwords

args := input.context.arguments

password := args.password

shout(text) := upper(text)

strong(text, least) if {
	count(text) >= least
	code := base64.encode(text)
	count(code) > 16
	not startswith(code, "aHVudGVy")
}

allow contains {"rule": "login"} if {
	input.resource.id == "login"
	args.user == "alice"
	loud := shout(password)
	count(loud) > 0
	strong(password, 12)
	args.user == "root"
}

allow contains {"rule": "parts"} if {
	input.resource.id == "parts"
	some common in ["swordfish", "hunter2-and-Xy9"]
	common == password
	args.user == "alice"
	every part in split(password, "-") { part != "and" }
}

deny contains {"rule": "weak", "message": sprintf("`%s` of %s is weak: %s", [password, args.user, upper(password)])} if {
	input.resource.id == "strict"
	some ending in ["Xy8", "Xy9"]
	args.user != ""
	tail := substring(password, 12, 3)
	tail == ending
}
"#;

#[tokio::test]
async fn what_redaction_took_from_a_refused_call_was_explained_before() {
    let folder = folder_with("log.level = \"trace\"\n", PASSWORDS);
    let docket_running = Process::start(folder.path());
    let token = std::fs::read_to_string(folder.path().join("admin.token")).unwrap();
    let client = reqwest::Client::new();
    let secret = "hunter2-and-Xy9";
    let mut seen = String::new();
    for tool in ["login", "parts", "strict"] {
        let body = evaluation(tool, &json!({"user": "alice", "password": secret}));
        let request = client.post(format!("{}/access/v1/evaluation", docket_running.data));
        let answer = request.header("x-request-id", tool).json(&body).send().await.unwrap();
        assert_eq!(answer.json::<Value>().await.unwrap()["decision"], false);
    }
    let mut found = Vec::new();
    for tool in ["login", "parts", "strict"] {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let answer: Value = loop {
            let url = format!("{}/v1/explain/{tool}?trace=true", docket_running.admin);
            let text = client.get(url).bearer_auth(token.trim()).send().await.unwrap().text().await.unwrap();
            seen.push_str(&text);
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["why"][0]["traced"] == "live" {
                break answer;
            }
            assert!(std::time::Instant::now() < deadline, "{answer:#}");
        };
        assert_eq!((&answer["reproduced"], &answer["approximate"]), (&json!(true), &json!([])), "{answer:#}");
        let trace = &answer["entries"][1];
        assert_eq!((&trace["kind"], &trace["request_id"]), (&json!("trace"), &json!(tool)));
        assert_eq!(trace["call_id"], answer["entries"][0]["call_id"]);
        found.push(answer);
    }
    // On what is recorded `strong` holds no more, and for another reason: only the true password shows the condition.
    let missing = &found[0]["why_not"][0];
    assert_eq!(missing["condition"], "not startswith(code, \"aHVudGVy\")", "{missing:#}");
    assert_eq!(missing["via"][0]["condition"], "strong(password, 12)");
    assert_eq!(missing["values"], json!({"code": "[redacted]"}), "{missing:#}");
    let login = &found[0]["trace"][1]["conditions"];
    assert_eq!(login[1]["values"], json!({"args.user": "alice"}), "{login:#}");
    assert_eq!((&login[2]["holds"], &login[2]["values"]["password"]), (&json!(true), &json!("[redacted]")));
    assert_eq!((&login[3]["holds"], &login[3]["values"]["loud"]), (&json!(true), &json!("[redacted]")));
    assert_eq!(login[3]["values"]["count(loud)"], "[redacted]");
    let missing = &found[1]["why_not"][0];
    assert_eq!(
        (&missing["condition"], &missing["values"]),
        (&json!("part != \"and\""), &json!({"part": "[redacted]"}))
    );
    // Which of the common ones it was, is what was redacted.
    let parts = &found[1]["trace"][2]["conditions"];
    assert_eq!(parts[2]["values"], json!({"common": "[redacted]", "password": "[redacted]"}), "{parts:#}");
    let because = &found[2]["why"][0]["because"][0];
    assert_eq!(because["message"], "`[redacted]` of alice is weak: [redacted]");
    assert!(because["excerpt"].as_str().unwrap().starts_with("deny contains"), "{because:#}");
    let conditions = because["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 5);
    assert!(conditions.iter().all(|condition| condition["holds"] == true), "{because:#}");
    assert_eq!(conditions[2]["values"], json!({"args.user": "alice"}));
    assert_eq!(conditions[4]["values"], json!({"tail": "[redacted]", "ending": "[redacted]"}));
    assert_eq!(docket_running.terminate(), Some(0));
    check(&folder.path().join("docket.db"));
    for arguments in [&["login"][..], &["parts", "--json"], &["strict", "--trace"]] {
        let arguments = [&["explain", "--ledger", "docket.db"], arguments].concat();
        let (code, out, error) = docket(&arguments, folder.path());
        assert_eq!(code, 0, "{error}");
        assert!(out.contains("live"), "{out}");
        seen = seen + &out + &error;
    }
    // What was taken away is nowhere, in no spelling of it; but for the policy, which names two common passwords.
    let policy = PASSWORDS.as_bytes();
    let mut places = vec![("answers".to_owned(), seen.into_bytes())];
    for file in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap).filter(|f| f.path().is_file()) {
        places.push((file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()));
    }
    assert!(places.iter().any(|(name, bytes)| name == "docket.log" && bytes.len() > 100));
    let count =
        |bytes: &[u8], text: &str| bytes.windows(text.len()).filter(|w| *w == text.as_bytes()).count();
    for (name, bytes) in &places {
        let quoted = if name == "answers" { usize::MAX } else { count(bytes, "package test.passwords") };
        for spelling in
            ["HUNTER2-AND", "aHVudGVyMi1hbmQtWHk5", "\"hunter2\"", "\"tail\":\"Xy9", "swordfish\":"]
        {
            assert_eq!(count(bytes, spelling), 0, "{spelling} in {name}");
        }
        assert!(count(bytes, secret) <= quoted.saturating_mul(count(policy, secret)), "{name}");
    }
    let answers = String::from_utf8(places.remove(0).1).unwrap();
    for line in answers.lines().filter(|line| line.contains(secret)) {
        assert!(line.contains("some common in"), "{line}");
    }
}

#[tokio::test]
async fn without_a_live_trace_the_explanation_says_so() {
    // An allowed call has none.
    let policy = "package test.any\n\nallow if startswith(input.context.arguments.password, \"hunter\")\n";
    let docket = Docket::with("", policy).await;
    docket.evaluate("allowed", "login", json!({"password": "hunter2-and-more-of-it"})).await;
    docket.evaluate("denied", "login", json!({"password": "other-and-more-of-it"})).await;
    docket.wait_for(|entry| entry["kind"] == "trace").await;
    assert_eq!(docket.entries("allowed").await.len(), 1);
    let found = explained(&docket, "allowed").await;
    assert_eq!(found["approximate"], json!(["/context/arguments/password"]));
    assert_eq!(found["reproduced"], false);
    assert!(found["notes"][0].as_str().unwrap().contains("redacted"), "{found:#}");
    let metrics = docket.admin_get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("docket_traces_skipped_total 0"), "{metrics}");
    docket.stop().await;
}

#[tokio::test]
async fn what_no_policy_reads_takes_nothing_away() {
    let docket = Docket::with("", POLICY).await;
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
