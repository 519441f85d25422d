//! Masks and drops in Rego, as operators bring them from OPA: what they take is in no entry, no explanation and no log.

use serde_json::{Value, json};

use crate::harness::{Docket, docket, folder_with};

/// Allows little, and quotes and rebinds what it is given.
const POLICY: &str = r#"package test.payments

args := input.context.arguments

allow if input.resource.id == "echo"

deny contains {"rule": "iban", "message": sprintf("%s may not be paid (%v)", [args.customer, args.amount]), "data": {"who": args.customer}} if {
	input.resource.id == "pay"
	who := upper(args.customer)
	count(who) > 3
	loud := concat("", [who, "!"])
	loud != ""
}

deny contains {"rule": "mail", "message": sprintf("no mail to %s", [args.to])} if {
	input.resource.id == "mail"
	to := args.to
	endswith(to, ".example")
}

deny contains {"rule": "login", "message": sprintf("`%s` is weak", [args.password])} if {
	input.resource.id == "login"
	secret := args.password
	count(secret) < 30
}
"#;

const MASKS: &str = r#"package system.log

mask contains "/input/context/arguments/customer"

mask contains {"op": "upsert", "path": "/input/context/arguments/amount", "value": rounded} if {
	rounded := floor(input.input.context.arguments.amount / 1000) * 1000
}

mask contains "/result/metadata/user_agent" if input.path == "docket/decision"

drop if input.input.resource.id == "secret_tool"
"#;

fn folder(toml: &str, masks: &str) -> tempfile::TempDir {
    let folder = folder_with(toml, POLICY);
    std::fs::write(folder.path().join("policies/log.rego"), masks).unwrap();
    folder
}

async fn explained(docket: &Docket, id: &str) -> Value {
    docket.admin_get(&format!("/v1/explain/{id}?trace=true")).await.json().await.unwrap()
}

#[tokio::test]
async fn masks_of_opa_work_unchanged_and_what_they_took_comes_back_nowhere() {
    let docket = Docket::in_folder(folder("", MASKS)).await;
    let answer = docket.evaluate("pay-1", "pay", json!({"customer": "Rosalind", "amount": 17_342})).await;
    assert_eq!(answer["decision"], false);
    let trace = docket.wait_for(|entry| entry["kind"] == "trace").await;
    let entry = &docket.entries("pay-1").await[0];
    assert_eq!(entry["metadata"]["context"]["arguments"], json!({"amount": 17_000}));
    assert_eq!(entry["diagnostics"][0]["rule"], "iban");
    assert_eq!(entry["diagnostics"][0]["message"], "[redacted] may not be paid ([redacted])");
    assert_eq!(entry["diagnostics"][0]["data"], json!({"who": "[redacted]"}));
    let edit = |op: &str, path: &str| json!({"path": path, "op": op, "by": "rego:data.system.log.mask", "category": "masked"});
    let edits = entry["redactions"].as_array().unwrap();
    assert!(edits.contains(&edit("remove", "/context/arguments/customer")), "{edits:?}");
    assert!(edits.contains(&edit("mask", "/context/arguments/amount")), "{edits:?}");
    let told = explained(&docket, "pay-1").await;
    assert_eq!(told["reproduced"], true, "{told:#}");
    for text in [told.to_string(), entry.to_string(), trace.to_string()] {
        for secret in ["rosalind", "17342"] {
            assert!(!text.to_lowercase().contains(secret), "{text}");
        }
    }
    docket.stop().await;
}

#[tokio::test]
async fn what_is_dropped_keeps_its_leaf_and_what_names_the_call() {
    let docket = Docket::in_folder(folder("", MASKS)).await;
    docket.evaluate("drop-1", "secret_tool", json!({"customer": "Rosalind"})).await;
    let entry = &docket.entries("drop-1").await[0];
    assert_eq!((&entry["resource"]["id"], &entry["decision"]), (&json!("secret_tool"), &json!("deny")));
    assert!(!entry.to_string().contains("Rosalind"), "{entry}");
    assert!(entry["redactions"].to_string().contains("rego:data.system.log.drop"), "{entry}");
    docket.stop().await;
}

#[tokio::test]
async fn masks_that_fail_withhold_everything_and_are_counted() {
    for masks in [
        "package system.log\n\nmask contains to_number(input.input.context.arguments.customer)\n",
        "package system.log\n\nmask contains \"/labels/app\"\n",
        "package system.log\n\nmask := \"all\"\n",
        "package system.log\n\ndrop if count(numbers.range(1, 1000000000)) > 0\n",
        "package system.log\n\ndrop := \"yes\"\n",
        "package system.log\n\ndrop contains \"x\"\n",
        "package system.log\n\nmask contains \"/x\" if {\n\tsome i in numbers.range(1, 9000)\n\tsome j in numbers.range(1, 9000)\n\ti * j == -1\n}\n",
    ] {
        let docket = Docket::in_folder(folder("", masks)).await;
        docket.evaluate("call-1", "pay", json!({"customer": "Rosalind", "amount": 17_342})).await;
        let entry = &docket.entries("call-1").await[0];
        assert!(!entry.to_string().contains("Rosalind"), "{masks}{entry}");
        assert_eq!((&entry["agent"], &entry["decision"]), (&json!("anonymous"), &json!("deny")), "{masks}");
        assert_eq!(entry["resource"]["id"], "pay", "{masks}");
        let edit = &entry["redactions"][0];
        assert_eq!(
            (&edit["by"], &edit["category"]),
            (&json!("rego:data.system.log.mask"), &json!("withheld")),
            "{masks}"
        );
        let metrics = docket.admin_get("/metrics").await.text().await.unwrap();
        let counted = metrics.lines().find(|line| line.starts_with("docket_mask_failures_total")).unwrap();
        assert!(!counted.ends_with(" 0"), "{counted}");
        docket.stop().await;
    }
}

#[tokio::test]
async fn personal_data_and_credentials_show_their_truth_only() {
    let toml = "[redaction.personal_data]\nemail = \"hash\"\n";
    let docket = Docket::in_folder(folder(toml, "package system.log\n")).await;
    docket.evaluate("mail-1", "mail", json!({"to": "Rosalind@acme.example"})).await;
    docket.evaluate("mail-2", "mail", json!({"to": "rosalind@ACME.example", "n": 1})).await;
    docket.evaluate("login-1", "login", json!({"password": "swordfish-9"})).await;
    docket.wait_for(|entry| entry["kind"] == "trace" && entry["request_id"] == "login-1").await;
    let entry = &docket.entries("mail-1").await[0];
    let hash = entry["metadata"]["context"]["arguments"]["to"].as_str().unwrap();
    assert!(hash.starts_with("hmac-sha256:") && hash.len() == 76, "{hash}");
    assert_eq!(entry["diagnostics"][0]["message"], format!("no mail to {hash}"));
    assert_eq!(
        docket.entries("mail-2").await[0]["metadata"]["context"]["arguments"]["to"],
        hash,
        "they correlate"
    );
    let other = Docket::in_folder(folder(toml, "package system.log\n")).await;
    other.evaluate("mail-1", "mail", json!({"to": "Rosalind@acme.example"})).await;
    assert_ne!(
        other.entries("mail-1").await[0]["metadata"]["context"]["arguments"]["to"],
        hash,
        "another ledger has another key"
    );
    for id in ["mail-1", "mail-2", "login-1"] {
        let told = explained(&docket, id).await;
        assert_eq!(told["reproduced"], true, "{told:#}");
        let text = format!("{told}{:?}", docket.entries(id).await).to_lowercase();
        assert!(!text.contains("rosalind") && !text.contains("swordfish"), "{text}");
    }
    other.stop().await;
    docket.stop().await;
}

#[test]
fn packages_about_the_log_are_no_policies_and_check_has_nothing_against_them() {
    let folder = folder("", MASKS);
    let (_, out, error) = docket(&["check", "policies"], folder.path());
    assert!(out.contains("policy.rego") || error.contains("policy.rego"), "{out}{error}");
    assert!(!out.contains("log.rego") && !error.contains("log.rego"), "{out}{error}");
    let (_, out, _) = docket(&["policy", "show", "policies", "--json"], folder.path());
    assert!(!out.contains("system.log"), "{out}");
}
