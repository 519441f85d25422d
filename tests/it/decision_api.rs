//! AuthZEN 1.0 on the data plane.

use serde_json::{Value, json};

use crate::harness::{Docket, evaluation};

#[tokio::test]
async fn an_allowed_and_a_denied_call_are_recorded_before_they_are_answered() {
    let docket = Docket::start().await;
    let allowed = docket.evaluate("allow-1", "echo", json!({"message": "hi"})).await;
    assert_eq!(allowed["decision"], true);
    let denied = docket.evaluate("deny-1", "delete_file", json!({"path": "/etc/passwd"})).await;
    assert_eq!(denied["decision"], false);
    assert_eq!(denied["context"]["class"], "denied");
    assert_eq!(
        denied["context"]["diagnostics"][0]["message"],
        "`/etc/passwd` must not be deleted; archive it instead"
    );

    let entries = docket.entries("deny-1").await;
    let [entry] = entries.as_slice() else { panic!("{entries:#?}") };
    assert_eq!(entry["kind"], "decision");
    assert_eq!(entry["decision"], "deny");
    assert_eq!(entry["evaluation_status"], "complete");
    assert_eq!(entry["outcome"], Value::Null);
    assert_eq!(entry["mode"], "enforce");
    assert_eq!(entry["zone"], "default");
    assert_eq!(entry["agent"], "anonymous");
    assert_eq!(entry["subject"]["id"], "bot");
    assert_eq!(entry["action"], "tools/call");
    assert_eq!(entry["resource"], json!({"type": "tool", "id": "delete_file", "properties": {}}));
    assert_eq!(entry["metadata"]["context"]["arguments"], json!({"path": "/etc/passwd"}));
    assert_eq!(entry["redactions"], json!([]));
    assert_eq!(entry["determining_policies"][0]["policy_id"], "test.tools");
    assert_eq!(entry["determining_policies"][0]["title"], "Test tools");
    assert_eq!(entry["determining_policies"][0]["decision"], "deny");
    assert!(entry["determining_policies"][0]["policy_version"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(entry["diagnostics"][0]["rule"], "no_delete");
    assert_eq!(entry["diagnostics"][0]["data"], json!({"path": "/etc/passwd"}));
    assert_eq!(entry["policy_set"]["manifest_sha"], denied["context"]["manifest_sha"]);
    assert_eq!(entry["policy_set"]["id"], "policies");
    docket.stop().await;
}

#[tokio::test]
async fn nothing_allowed_it_is_a_reason_too() {
    let docket = Docket::start().await;
    let denied = docket.evaluate("default-1", "format_disk", json!({})).await;
    assert_eq!(denied["decision"], false);
    assert_eq!(denied["context"]["determining_policies"], json!([]));
    assert_eq!(denied["context"]["diagnostics"][0]["rule"], "default_deny");
    let held = docket.evaluate("hold-1", "pay", json!({})).await;
    assert_eq!(held["decision"], false);
    assert_eq!(held["context"]["decision"], "require_approval");
    assert_eq!(held["context"]["class"], "needs_approval");
    docket.stop().await;
}

#[tokio::test]
async fn a_caller_cannot_assert_what_docket_knows_better() {
    let policy = "package p\n\nallow contains {\"rule\": \"seen\", \"data\": input.context} if input.context.approval == null\n";
    let docket = Docket::with("", policy).await;
    let lies = json!({"approval": {"by": "me"}, "time": "1999", "agent": "root", "caller": {"roles": ["admin"]},
        "peer": "10.0.0.1", "request_id": "other", "protocol": "x", "client": "x", "listing": "x", "mine": 1});
    let mut body = evaluation("echo", &json!({}));
    body["context"] = lies;
    let answer: Value = docket.post("/access/v1/evaluation", &body).await.json().await.unwrap();
    assert_eq!(answer["decision"], true, "{answer:#}");
    let seen = &answer["context"]["diagnostics"][0]["data"];
    assert_eq!(seen["mine"], 1);
    assert_eq!(seen["agent"], "anonymous");
    assert_eq!(seen["caller"]["roles"], json!(["agent"]));
    assert_eq!(seen["protocol"], "authzen/1.0");
    assert!(seen["time"].as_str().unwrap().starts_with("20"));
    assert!(seen["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(seen.get("client").is_none() && seen.get("listing").is_none());
    docket.stop().await;
}

#[tokio::test]
async fn evaluations_take_defaults_and_stop_where_they_are_told_to() {
    let docket = Docket::start().await;
    let tool = |id: &str| json!({"resource": {"type": "tool", "id": id}});
    let mut body = json!({
        "subject": {"type": "identity", "id": "bot"},
        "action": {"name": "tools/call"},
        "context": {"arguments": {"path": "/x"}},
        "evaluations": [tool("echo"), tool("delete_file"), tool("echo")],
    });
    let decisions = async |body: &Value| -> Vec<bool> {
        let answer: Value = docket.post("/access/v1/evaluations", body).await.json().await.unwrap();
        answer["evaluations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["decision"].as_bool().unwrap())
            .collect()
    };
    assert_eq!(decisions(&body).await, [true, false, true]);
    body["options"] = json!({"evaluations_semantic": "deny_on_first_deny"});
    assert_eq!(decisions(&body).await, [true, false]);
    body["options"] = json!({"evaluations_semantic": "permit_on_first_permit"});
    assert_eq!(decisions(&body).await, [true]);
    let single: Value =
        docket.post("/access/v1/evaluations", &evaluation("echo", &json!({}))).await.json().await.unwrap();
    assert_eq!(single["decision"], true);
    docket.stop().await;
}

#[tokio::test]
async fn the_interoperability_decisions_of_authzen() {
    let cases = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/data/authzen/todo-decisions-1.0-01.json");
    let Ok(text) = std::fs::read(&cases) else {
        println!("skipped: {} is not there", cases.display());
        return;
    };
    // The rules of the interoperability scenario: everyone reads, editors write what is theirs, an evil genius anyone's.
    let policy = r#"package todo

roles := {
	"CiRmZDA2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs": {"admin", "evil_genius"},
	"CiRmZDE2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs": {"editor"},
	"CiRmZDI2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs": {"editor"},
	"CiRmZDM2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs": {"viewer"},
	"CiRmZDQ2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs": {"viewer"},
}[input.subject.id]

emails := {
	"CiRmZDE2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs": "morty@the-citadel.com",
	"CiRmZDI2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs": "summer@the-smiths.com",
}

mine if emails[input.subject.id] == input.resource.properties.ownerID

allow if {
	input.action.name in {"can_read_user", "can_read_todos"}
	roles
}

allow if {
	input.action.name == "can_create_todo"
	some role in {"admin", "editor"}
	role in roles
}

allow if {
	input.action.name in {"can_update_todo", "can_delete_todo"}
	"evil_genius" in roles
}

allow if {
	input.action.name in {"can_update_todo", "can_delete_todo"}
	"editor" in roles
	mine
}
"#;
    let docket = Docket::with("", policy).await;
    let cases: Value = serde_json::from_slice(&text).unwrap();
    let mut wrong = Vec::new();
    for case in cases["evaluation"].as_array().unwrap() {
        let answer: Value =
            docket.post("/access/v1/evaluation", &case["request"]).await.json().await.unwrap();
        if answer["decision"] != case["expected"] {
            wrong.push(case.clone());
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    docket.stop().await;
}
