//! What one part of a record lost, no other gives back, and what docket itself knows stays.

use super::*;

#[test]
fn what_a_call_lost_no_derived_text_gives_back() {
    let header = "Bearer opaque-swordfish";
    let record = redactor().record(vec![
        ("resource", json!({"id": "login", "properties": {"url": "https://x/swordfish-1/y"}})),
        (
            "context",
            json!({"arguments": {"password": "swordfish-1", "pin_token": 48_291_573, "Authorization": header,
            "note": "it is SWORDFISH-1", "x-authorization": "Basic Ym9iOndoYWxlYm9uZQ=="}}),
        ),
        (
            "diagnostics",
            json!([{"message": "password swordfish-1 is weak; 48291573; opaque-swordfish; whalebone",
            "data": {"pin": 48_291_573, "n": 4829}}]),
        ),
        ("metadata", json!({"user_agent": "curl/8.4"})),
    ]);
    assert_eq!(
        record.get("diagnostics"),
        Some(&json!([{"message": "password [redacted] is weak; [redacted]; [redacted]; [redacted]",
            "data": {"pin": MARK, "n": 4829}}]))
    );
    assert_eq!(record.get("resource").unwrap()["properties"]["url"], json!("https://x/[redacted]/y"));
    assert_eq!(record.get("context").unwrap()["arguments"]["note"], json!("it is [redacted]"));
    assert!(record.edited("context") && record.edited("diagnostics") && !record.edited("metadata"));
    assert!(
        record.edits().iter().any(|edit| edit.path == "/diagnostics/0/message" && edit.by == "builtin:scrub")
    );
    assert_eq!(record.get("nothing"), None);
}

#[test]
fn what_a_call_lost_no_later_record_of_it_gives_back() {
    let outcome = |error: &str| vec![("metadata", json!({"error": error, "server": "fs"}))];
    let call = redactor().record(vec![("context", json!({"arguments": {"password": "swordfish-1"}}))]);
    let after = redactor().record_after(&call.taken(), &About::default(), outcome("no SWORDFISH-1 here"));
    assert_eq!(after.get("metadata"), Some(&json!({"error": "no [redacted] here", "server": "fs"})));
    assert!(after.edits().iter().any(|edit| edit.path == "/metadata/error" && edit.by == "builtin:scrub"));
    // Cut only once nothing is left in it that a cut could hide.
    let long = format!("{}swordfish-1", "x ".repeat(MAX_LATER_BYTES / 2 - 60));
    let after = redactor().record_after(&call.taken(), &About::default(), outcome(&long.repeat(3)));
    let error = after.get("metadata").unwrap()["error"].as_str().unwrap().to_owned();
    assert!(error.len() <= MAX_LATER_BYTES && !error.contains("sword"), "{error}");
    // Where it is not known what the call had, nothing passes.
    let call = redactor().record(flooded("swordfish-1"));
    let after = redactor().record_after(&call.taken(), &About::default(), outcome("no swordfish-1 here"));
    assert_eq!(after.get("metadata"), Some(&json!({"error": MARK, "server": "fs"})));
    assert_eq!(format!("{:?}", call.taken()), "Taken");
}

#[test]
fn a_secret_does_not_take_away_what_docket_itself_knows() {
    let record = redactor().record(vec![
        ("context", json!({"arguments": {"password": "billing-bot", "token": "files.read"}})),
        ("determining_policies", json!([{"policy_id": "files.read"}])),
        ("diagnostics", json!([{"policy_id": "files.read", "message": "billing-bot is weak"}])),
        ("metadata", json!({"agent": "billing-bot", "user_agent": "billing-bot/1"})),
    ]);
    assert_eq!(record.get("metadata"), Some(&json!({"agent": "billing-bot", "user_agent": "[redacted]/1"})));
    assert_eq!(record.get("determining_policies"), Some(&json!([{"policy_id": "files.read"}])));
    assert_eq!(
        record.get("diagnostics"),
        Some(&json!([{"policy_id": "files.read", "message": "[redacted] is weak"}]))
    );
}

/// A call that gives what names it, and what docket knows, as its passwords.
fn erasing(protocol: &str) -> Vec<(&'static str, Value)> {
    let properties = json!({"agent": "billing-bot", "user": "alice", "team": "t1x9"});
    vec![
        ("action", json!({"name": "tools/call"})),
        ("subject", json!({"type": "identity", "id": "billing-bot", "properties": properties})),
        (
            "resource",
            json!({"type": "tool", "id": "fail", "properties": {"server": "bank-1", "definition_sha256": "sha256:0a"}}),
        ),
        (
            "context",
            json!({
                "agent": "billing-bot", "peer": "127.0.0.1:99", "request_id": "req-1234", "time": "2026-11-20T00:00:00Z",
                "protocol": protocol, "approval": null, "caller": {"agent": "billing-bot", "user": "alice"},
                "client": {"name": "billing-bot"},
                "arguments": {
                    "password": "fail", "token": "tools/call", "secret": "billing-bot", "passwd": "127.0.0.1",
                    "api_key": "alice", "cookie": "bank-1", "otp": "identity", "credential": "no_fail",
                    "session_id": "req-1234", "passphrase": "tool", "client_secret": "2026-11-20T00:00:00Z",
                    "private_key": "t1x9", "access_token": "sha256:0a", "jwt": protocol, "refresh_token": "alpha-7beta",
                },
                "alpha-7beta": 1,
            }),
        ),
        (
            "diagnostics",
            json!([
                {"policy_id": "p", "effect": "deny", "rule": "no_fail", "message": "billing-bot may not no_fail"},
                {"policy_id": "p", "effect": "deny", "rule": "not for billing-bot!", "message": null}
            ]),
        ),
        (
            "metadata",
            json!({
                "agent": "billing-bot",
                "user_agent": "billing-bot/1",
                "why": [{
                    "policy_id": "no_fail", "rule": "no_fail", "file": "fail.rego", "line": 3, "title": "tools/call",
                    "effect": "deny", "uncertain": "it read billing-bot",
                    "conditions": [{
                        "file": "fail.rego", "line": 4, "condition": "input.action.name == \"tools/call\"",
                        "values": {"input.action.name": "tools/call", "x": {"rule": "fail"}}, "note": "was bank-1",
                    }],
                }],
            }),
        ),
    ]
}

#[test]
fn no_password_takes_away_what_names_the_call_or_what_docket_knows() {
    let given = erasing("mcp/2025-11-25");
    let record = redactor().record(erasing("mcp/2025-11-25"));
    for (index, root) in [(0, "action"), (1, "subject"), (2, "resource")] {
        assert_eq!(record.get(root), Some(&given[index].1));
    }
    let (context, before) = (record.get("context").unwrap(), &given[3].1);
    for own in ["agent", "peer", "request_id", "time", "protocol", "approval", "caller"] {
        assert_eq!(context[own], before[own], "{own}");
    }
    assert_eq!(context["client"], json!({"name": MARK}), "which the caller says");
    assert_eq!(
        (context.get("alpha-7beta"), &context[MARK]),
        (None, &json!(1)),
        "names of members are read too"
    );
    assert!(context["arguments"].as_object().unwrap().values().all(|value| value == MARK), "{context}");
    assert_eq!(
        record.get("diagnostics"),
        Some(&json!([
            {"policy_id": "p", "effect": "deny", "rule": "no_fail", "message": "[redacted] may not [redacted]"},
            {"policy_id": "p", "effect": "deny", "rule": "not for [redacted]!", "message": null}
        ]))
    );
    let metadata = record.get("metadata").unwrap();
    assert_eq!(metadata["user_agent"], json!("[redacted]/1"));
    assert_eq!(
        metadata["why"],
        json!([{
            "policy_id": "no_fail", "rule": "no_fail", "file": "fail.rego", "line": 3, "title": "tools/call",
            "effect": "deny", "uncertain": "it read [redacted]",
            "conditions": [{
                "file": "fail.rego", "line": 4, "condition": "input.action.name == \"tools/call\"",
                "values": {"input.action.name": MARK, "x": {"rule": MARK}}, "note": "was [redacted]",
            }],
        }])
    );
    // A password that is no word goes from the source of a policy too.
    let record = redactor().record(vec![
        ("context", json!({"arguments": {"password": "hunter2-and-Xy9"}})),
        ("metadata", json!({"why": [{"conditions": [{"condition": "x == \"hunter2-and-Xy9\""}]}]})),
    ]);
    let condition = json!({"condition": "x == \"[redacted]\""});
    assert_eq!(record.get("metadata").unwrap()["why"][0]["conditions"][0], condition);
    // What a caller asserts of itself on the decision API is the call's, not docket's.
    let record = redactor().record(erasing("authzen/1.0"));
    assert_eq!(record.get("resource").unwrap()["id"], json!("fail"));
    assert_eq!(
        record.get("subject").unwrap()["properties"],
        json!({"agent": MARK, "user": MARK, "team": MARK})
    );
    // A credential by its own shape goes from an id too.
    let token = format!("ghp_{}", "a1B2".repeat(9));
    let record = redactor().record(vec![("resource", json!({"type": "tool", "id": token}))]);
    assert_eq!(record.get("resource"), Some(&json!({"type": "tool", "id": MARK})));
}

#[test]
fn what_a_text_assigns_is_taken_out_of_what_is_said_of_the_call() {
    let call = vec![
        ("context", json!({"arguments": {"cmd": "login --password=swordfish", "note": "a swordfish"}})),
        ("diagnostics", json!([{"message": "no swordfish here", "data": {"got": ["swordfish"]}}])),
    ];
    let record = redactor().record(call);
    assert_eq!(
        record.get("context"),
        Some(&json!({"arguments": {"cmd": "login --password=[redacted]", "note": "a swordfish"}}))
    );
    assert_eq!(
        record.get("diagnostics"),
        Some(&json!([{"message": "no [redacted] here", "data": {"got": [MARK]}}]))
    );
    let after = redactor().record_after(
        &record.taken(),
        &About::default(),
        vec![("metadata", json!({"error": "bad swordfish", "agent": "swordfish"}))],
    );
    assert_eq!(after.get("metadata"), Some(&json!({"error": "bad [redacted]", "agent": "swordfish"})));
}

#[test]
fn a_policy_id_that_the_policy_chose_is_no_way_out() {
    let chosen = |id: &str| {
        let roots = vec![
            ("context", json!({"arguments": {"password": "plainwordpw"}})),
            ("determining_policies", json!([{"policy_id": id, "policy_version": "sha256:0"}])),
            ("diagnostics", json!([{"policy_id": id, "effect": "deny", "rule": id}])),
        ];
        redactor().record_about(&About { policy_ids_chosen: true, ..About::default() }, roots)
    };
    let token = format!("ghp_{}", "a1B2".repeat(9));
    for id in ["plainwordpw", "no id", token.as_str(), &"x".repeat(65)] {
        let record = chosen(id);
        assert_eq!(record.get("determining_policies").unwrap()[0]["policy_id"], json!(MARK), "{id}");
        assert_eq!(record.get("diagnostics").unwrap()[0]["policy_id"], json!(MARK), "{id}");
        assert!(record.edited("determining_policies"), "{id}");
    }
    assert!(!format!("{:?}", chosen("plainwordpw").into_inner().roots).contains("plainwordpw"));
    let record = chosen("files.read-1");
    assert_eq!(record.get("determining_policies").unwrap()[0]["policy_id"], json!("files.read-1"));
    assert_eq!(record.get("diagnostics").unwrap()[0]["rule"], json!("files.read-1"));
    // Withheld, nothing is known of what they chose.
    let mut roots = flooded("plainwordpw");
    roots[4].1 = json!([{"policy_id": "plainwordpw"}]);
    let record = redactor().record_about(&About { policy_ids_chosen: true, ..About::default() }, roots);
    assert_eq!(record.get("determining_policies"), Some(&json!([{"policy_id": MARK}])));
}
