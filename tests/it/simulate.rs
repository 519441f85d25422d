//! Simulation: what would be decided, without a trace of it.

use serde_json::{Value, json};

use crate::harness::{Docket, POLICY, Process, docket, evaluation, folder_with};

async fn post(docket: &Docket, body: &Value) -> (u16, Value) {
    let request = docket.client.post(format!("{}/v1/simulate", docket.admin)).bearer_auth(&docket.token);
    let response = request.json(body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn over_http_from_a_call_and_from_a_recorded_one() {
    let docket = Docket::start().await;
    docket.evaluate("recorded", "delete_file", json!({"path": "/etc/passwd"})).await;
    let (status, answer) = post(&docket, &json!({"input": evaluation("echo", &json!({}))})).await;
    assert_eq!((status, &answer["decision"]), (200, &json!("allow")), "{answer:#}");
    assert_eq!(answer["determining_policies"][0]["policy_id"], "test.tools");
    assert_eq!(answer["why"][0]["rule"], "harmless");
    assert_eq!((&answer["evaluation_status"], &answer["why_not"]), (&json!("complete"), &json!([])));
    let (_, answer) = post(&docket, &json!({"from": "recorded"})).await;
    assert_eq!(
        (&answer["decision"], &answer["diagnostics"][0]["rule"]),
        (&json!("deny"), &json!("no_delete"))
    );
    let (_, answer) = post(&docket, &json!({"from": "recorded", "set": {"/resource/id": "read_file"}})).await;
    assert_eq!(answer["decision"], "allow");
    let inline = json!({"p.rego": "package p\n\nallow if input.context.arguments.path == \"/x\"\n"});
    let (_, answer) = post(&docket, &json!({"from": "recorded", "policies": inline})).await;
    assert_eq!(answer["decision"], "deny");
    assert_eq!(answer["why_not"][0]["values"], json!({"input.context.arguments.path": "/etc/passwd"}));
    for (body, expected, says) in [
        (json!({}), 400, "either `input` or `from`"),
        (json!({"from": "never"}), 404, "`never`"),
        (json!({"from": "recorded", "set": {"/resource/id/x": 1}}), 400, "no parts"),
        (json!({"from": "recorded", "policies": {"p.rego": "pack"}}), 400, "p.rego:1:1"),
        (json!({"from": "recorded", "polices": {}}), 400, "polices"),
    ] {
        let (status, problem) = post(&docket, &body).await;
        assert_eq!(status, expected, "{body}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }
    // Nobody was asked and nothing was decided: of all that the ledger has only the reads.
    let decisions: Value = docket.admin_get("/v1/audit?kind=decision").await.json().await.unwrap();
    assert_eq!(decisions["pagination"]["totalEntries"], 1);
    let reads: Value = docket.admin_get("/v1/audit?kind=access&order=asc").await.json().await.unwrap();
    assert_eq!(reads["entries"][0]["event_type"], "ledger.simulated");
    let refused =
        docket.client.post(format!("{}/v1/simulate", docket.admin)).body("{}").send().await.unwrap();
    assert_eq!(refused.status(), 401);
    let on_data = docket.client.post(format!("{}/v1/simulate", docket.data)).body("{}").send().await.unwrap();
    assert_eq!(on_data.status(), 404);
    docket.stop().await;
}

#[tokio::test]
async fn on_the_command_line() {
    let folder = folder_with("", POLICY);
    let process = Process::start(folder.path());
    let request = reqwest::Client::new().post(format!("{}/access/v1/evaluation", process.data));
    let body = evaluation("delete_file", &json!({"path": "/etc/passwd"}));
    request.header("x-request-id", "cli-1").json(&body).send().await.unwrap();
    let run = |arguments: &[&str]| docket(&[&["simulate"], arguments].concat(), folder.path());
    let admin = process.admin.clone();
    let online = ["--url", admin.as_str(), "--config", "docket.toml"];
    let (code, text, error) = run(&[&["--from", "cli-1"], online.as_slice()].concat());
    assert_eq!(code, 0, "{error}");
    assert!(text.starts_with("DENY  `/etc/passwd` must not be deleted"), "{text}");
    let edit = ["--from", "cli-1", "--set", "/resource/id=read_file", "--json"];
    let (_, text, _) = run(&[edit.as_slice(), &online].concat());
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["decision"], "allow");
    assert_eq!(run(&[&["--from", "never"], online.as_slice()].concat()).0, 3);
    assert_eq!(process.terminate(), Some(0));

    std::fs::write(folder.path().join("call.json"), body.to_string()).unwrap();
    std::fs::write(folder.path().join("other.rego"), "package other\n\nallow if {\n\tinput.resource.id == \"delete_file\"\n\tinput.context.arguments.force\n}\n").unwrap();
    let before = std::fs::metadata(folder.path().join("docket.db")).unwrap().len();
    let (code, text, _) = run(&["--input", "call.json", "--config", "docket.toml"]);
    assert_eq!(code, 0);
    assert!(text.starts_with("DENY  `/etc/passwd`") && text.contains("no_delete"), "{text}");
    let (_, text, _) = run(&["--input", "call.json", "--policy", "other.rego"]);
    assert!(text.contains("other.rego:5:2 `input.context.arguments.force`"), "{text}");
    assert!(text.contains("input.context.arguments.force is not there"), "{text}");
    let (_, text, _) =
        run(&["--input", "call.json", "--policy", "other.rego", "--set", "/context/arguments/force=true"]);
    assert!(text.starts_with("ALLOW"), "{text}");
    let (_, text, _) = run(&["--from", "cli-1", "--ledger", "docket.db", "--policy", "other.rego", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["why_not"][0]["line"], 5);
    let (_, text, _) = run(&["--from", "cli-1", "--ledger", "docket.db"]);
    assert!(text.starts_with("DENY  `/etc/passwd`"), "{text}");
    assert_eq!(std::fs::metadata(folder.path().join("docket.db")).unwrap().len(), before);
    for (arguments, says) in [
        (vec!["--input", "gone.json"], "gone.json"),
        (vec!["--input", "call.json", "--set", "x=1"], "POINTER=VALUE"),
        (vec!["--policy", "other.rego"], "--input"),
    ] {
        let (code, _, error) = run(&arguments);
        assert_eq!(code, 2, "{arguments:?}");
        assert!(error.contains(says), "{error}");
    }
}
