//! Depth, length and time are bounded, and nothing gets through where a bound is met.

use super::*;

#[test]
fn depth_is_bounded_without_letting_anything_through() {
    let mut deep = json!({"password": "swordfish"});
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let mut string = deep.to_string();
    for _ in 0..3 {
        string = format!("{}{}{}", "[".repeat(30), serde_json::to_string(&string).unwrap(), "]".repeat(30));
    }
    let (result, edits) = redacted(json!(string));
    assert!(!result.to_string().contains("swordfish"), "{edits:?}");
    let (result, _) = redacted(deep);
    assert!(!result.to_string().contains("swordfish"));
    let nested =
        (0..12).fold(json!({"token": "swordfish"}).to_string(), |text, _| json!({"x": text}).to_string());
    assert!(!redacted(json!(nested)).0.to_string().contains("swordfish"));
}

#[test]
fn withholding_keeps_shapes_and_what_docket_itself_knows() {
    let record = redactor().record(flooded("swordfish-1"));
    let given = flooded("");
    assert_eq!(record.get("context"), Some(&json!({"withheld": MARK})));
    assert_eq!(record.get("resource"), Some(&json!({"type": "tool", "id": "delete_file", "withheld": MARK})));
    assert_eq!(
        record.get("subject"),
        Some(&json!({"type": "identity", "id": "bot", "properties": {"roles": ["agent"]}, "withheld": MARK}))
    );
    assert_eq!(record.get("action"), Some(&json!({"name": "tools/call", "withheld": MARK})));
    assert_eq!(record.get("determining_policies"), Some(&given[4].1));
    assert_eq!(
        record.get("diagnostics"),
        Some(
            &json!([{"policy_id": "p", "effect": "deny", "rule": "weak", "message": MARK, "data": {"withheld": MARK}}])
        )
    );
    assert_eq!(
        record.get("metadata"),
        Some(&json!({"agent": "bot", "user": "alice", "verified": true, "server": "fs", "user_agent": MARK}))
    );
    assert!(record.edits().iter().all(|edit| edit.category == "withheld"));
    assert!(record.edited("context") && !record.edited("determining_policies"));
    // What names the call stays even so: else its password could take it away.
    let record = redactor().record(flooded("delete_file"));
    assert_eq!(record.get("resource"), Some(&json!({"type": "tool", "id": "delete_file", "withheld": MARK})));
    assert_eq!(record.get("subject").unwrap()["properties"], json!({"roles": ["agent"]}));
    assert_eq!(record.get("diagnostics").unwrap()[0]["rule"], json!("weak"));
    // Other names that a caller may have chosen go, if they repeat a secret.
    assert_eq!(redactor().record(flooded("agent-1")).get("metadata").unwrap()["user_agent"], json!(MARK));
    assert_eq!(redactor().record(flooded("agent")).get("subject").unwrap().get("properties"), None);
}

#[test]
fn parts_that_are_too_large_are_replaced_by_their_digest() {
    use sha2::{Digest as _, Sha256};

    let stub = |value: &Value| {
        let text = value.to_string();
        json!({"truncated": true, "bytes": text.len(), "sha256": hex::encode(Sha256::digest(&text))})
    };
    let paths = |record: &Redacted<Record>| -> Vec<String> {
        record.edits().iter().map(|edit| format!("{:?} {} {}", edit.op, edit.path, edit.by)).collect()
    };
    // The parts here are one long text each.
    let settings = Settings { max_field_bytes: usize::MAX, ..Settings::default() };
    let redactor = Redactor::new(&settings, HashKey::new(&[7; 32]));
    let text = |bytes: usize| "lorem ".repeat(bytes / 6);
    // Exactly as much as fits, and one byte more.
    let fits = json!({"t": "a".repeat(MAX_PART_BYTES - r#"{"t":""}"#.len())});
    let record = redactor.record(vec![("context", json!({"arguments": fits.clone(), "n": 1}))]);
    assert_eq!(record.get("context"), Some(&json!({"arguments": fits, "n": 1})));
    let over = json!({"t": "a".repeat(MAX_PART_BYTES - r#"{"t":""}"#.len() + 1)});
    let record = redactor.record(vec![("context", json!({"arguments": over.clone(), "n": 1}))]);
    assert_eq!(record.get("context"), Some(&json!({"arguments": stub(&over), "n": 1})));
    assert_eq!(paths(&record), ["Truncate /context/arguments docket:size"]);

    let record = redactor.record(vec![
        ("resource", json!({"type": "tool", "id": "big", "properties": {"server": "fs", "text": text(300_000)}})),
        (
            "context",
            json!({"arguments": {"password": "swordfish-1"}, "token": "whalebone-2", "text": text(300_000)}),
        ),
        (
            "diagnostics",
            json!([{"policy_id": "p", "effect": "deny", "rule": "r", "message": text(300_000), "data": null}]),
        ),
    ]);
    let resource = record.get("resource").unwrap();
    assert_eq!(
        (&resource["id"], &resource["properties"], &resource["truncated"]),
        (&json!("big"), &json!({"server": "fs"}), &json!(true))
    );
    // The digest is of what redaction left.
    let mut context = stub(&json!({"token": MARK, "text": text(300_000)}));
    context["arguments"] = json!({"password": MARK});
    assert_eq!(record.get("context"), Some(&context));
    let said = record.get("diagnostics").unwrap();
    assert_eq!((&said[0]["policy_id"], &said[0]["data"]["truncated"]), (&json!("p"), &json!(true)));
    assert_eq!(
        paths(&record),
        [
            "Mask /context/arguments/password builtin:key-name",
            "Truncate /resource docket:size",
            "Truncate /context docket:size",
            "Truncate /diagnostics docket:size"
        ]
    );
}

#[test]
fn a_megabyte_is_read_in_reasonable_time() {
    let secret = "q7Zxswordfish";
    let texts = [
        "lorem ipsum dolor sit amet, the key to the password ".repeat(20_000),
        format!(
            "{{\"password\":\"{secret}\",\"rows\":[{}0]}}",
            "{\"id\":1,\"name\":\"key\"},".repeat(40_000)
        ),
        "A".repeat(1 << 20),
        format!("{} --token {secret}", "x --flag y ".repeat(90_000)),
    ];
    for text in texts {
        let started = Instant::now();
        let (result, _) = redacted(json!({ "body": text }));
        assert!(started.elapsed().as_secs() < 60, "{:?} for {}", started.elapsed(), &text[..30]);
        assert!(!result.to_string().contains(secret));
    }
}

#[test]
fn what_is_cut_is_read_before() {
    let token = format!("ghp_{}", "a1B2c3D4".repeat(5));
    let text = format!("{}{token} and more", "x ".repeat(120));
    assert!(text.get(..256).unwrap().contains("ghp_a1B2"), "the cut goes through it");
    let cut = redactor().cut(&text, 256);
    assert!(!cut.contains("ghp_") && cut.len() <= 256, "{cut}");
    assert_eq!(redactor().cut("short", 256), "short");
}

#[test]
fn no_beginning_of_a_long_secret_is_left_at_a_cut() {
    let secret = format!("q7{}", "Zx9Qw8Er7Ty6".repeat(1340));
    let call = redactor().record(vec![("context", json!({"arguments": {"password": secret}}))]);
    let error = format!("{secret} and {secret}");
    let after = redactor().record_after(
        &call.taken(),
        &About::default(),
        vec![("metadata", json!({"error": error}))],
    );
    assert_eq!(after.get("metadata"), Some(&json!({"error": "[redacted] and [redacted]"})));
    let key = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", "aB3d".repeat(4060));
    let token = format!("ghp_{}", "a1B2c3D4".repeat(5));
    for length in 0..50 {
        let text = format!("{key}{}{token} {}", "x ".repeat(length), "y".repeat(300));
        let cut = redactor().cut(&text, 256);
        assert!(!cut.contains("ghp_"), "{cut}");
    }
}
