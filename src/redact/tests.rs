//! The pipeline as its callers see it: what goes in, what comes out, and that nothing else does.

use std::time::Instant;

use serde_json::{Map, json};

use super::*;

mod cost;
mod generated;

fn redactor() -> &'static Redactor {
    static REDACTOR: std::sync::LazyLock<Redactor> = std::sync::LazyLock::new(Redactor::builtin);
    &REDACTOR
}

/// Redacts one value as the root `r`, and answers it with its edits as `path by`.
fn redacted(value: Value) -> (Value, Vec<String>) {
    let record = redactor().record(vec![("r", value)]).into_inner();
    let edits = record.edits.iter().map(|edit| format!("{} {}", edit.path, edit.by)).collect();
    (record.roots.into_iter().next().unwrap().1, edits)
}

#[test]
fn the_builtin_rules_compile_and_a_broken_step_withholds() {
    assert!(matches!(redactor().steps[..], [Step::Builtin(_)]));
    let broken = Redactor { steps: vec![Step::Withhold], ..Redactor::builtin() };
    let record = broken.record(vec![("context", json!({"a": 1})), ("metadata", json!(null))]);
    assert_eq!(record.get("context"), Some(&json!({"withheld": MARK})));
    assert_eq!(record.get("metadata"), Some(&json!(null)));
    assert!(record.edited("context") && !record.edited("metadata"));
    assert!(broken.is_secret("x"));
    assert_eq!(broken.plain("x".into()), MARK);
}

#[test]
fn rules_can_be_switched_off_one_by_one() {
    let call = || {
        json!({"password": "swordfish", "key": format!("AKIA{}", "Q7".repeat(8)), "run": ["x", "--token", "swordfish"],
        "url": "https://x/?api_key=sw0rdfish", "sh": "PGPASSWORD=sw0rdfish ls", "h": "Authorization: Digest abc123def456"})
    };
    let made = |disabled: &[&str]| {
        let disabled_rules = disabled.iter().map(|rule| (*rule).to_owned()).collect();
        let settings = Settings { disabled_rules, ..Settings::default() };
        let redactor = Redactor::new(&settings, HashKey::new(&[7; 32]));
        let record = redactor.record(vec![("r", call())]).into_inner();
        record.edits.into_iter().map(|edit| edit.by).collect::<Vec<_>>()
    };
    let all = rules();
    for rule in
        ["key-name", "aws-access-key-id", "command-line", "query-parameter", "assignment", "authorization"]
    {
        let by = format!("builtin:{rule}");
        assert!(all.contains(rule) && made(&[]).contains(&by), "{rule}: {:?}", made(&[]));
        assert!(!made(&[rule]).contains(&by), "{rule}: {:?}", made(&[rule]));
    }
    let every: Vec<&str> = all.into_iter().collect();
    assert_eq!(made(&every), Vec::<String>::new());
}

#[test]
fn an_operator_adds_names_and_allows_others() {
    let lists = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let settings = Settings {
        key_names: lists(&["customer-pin", "Kennwort"]),
        allow_key_names: lists(&["deploy_token"]),
        ..Settings::default()
    };
    let redactor = Redactor::new(&settings, HashKey::new(&[7; 32]));
    let given = json!({"customerPin": 1234, "CUSTOMER_PIN": "x", "kennwort": "y", "deployToken": "build-7x9", "token": "z",
        "customer_pins": 3, "sh": "export KENNWORT=b4um; DEPLOY_TOKEN=build-7x8 customer-pin=99"});
    let record = redactor.record(vec![("r", given)]).into_inner();
    assert_eq!(
        record.roots[0].1,
        json!({"customerPin": MARK, "CUSTOMER_PIN": MARK, "kennwort": MARK, "deployToken": "build-7x9", "token": MARK,
        "customer_pins": 3, "sh": "export KENNWORT=[redacted]; DEPLOY_TOKEN=build-7x8 customer-pin=[redacted]"})
    );
}

#[test]
fn hashes_need_a_key() {
    let key = HashKey::new(&[7; 32]);
    let redactor = Redactor::new(&Settings::default(), key.clone());
    assert_eq!(redactor.hashed(b"x"), (key.hash(b"x"), Op::Hash));
    assert_eq!(Redactor::builtin().hashed(b"x"), (MARK.to_owned(), Op::Mask));
}

#[test]
fn values_under_secret_names_are_masked_and_nothing_else() {
    for (given, expected, edits) in [
        (json!({"password": "x"}), json!({"password": MARK}), vec!["/r/password builtin:key-name"]),
        (
            json!({"a": [{"apiKey": 5}]}),
            json!({"a": [{"apiKey": MARK}]}),
            vec!["/r/a/0/apiKey builtin:key-name"],
        ),
        (json!({"secrets": {"a": ["b"]}}), json!({"secrets": MARK}), vec!["/r/secrets builtin:key-name"]),
        (
            json!({"password": null, "token": "", "secret": true, "cookie": {}, "credentials": [false]}),
            json!({"password": null, "token": "", "secret": true, "cookie": {}, "credentials": [false]}),
            vec![],
        ),
        (
            json!({"api_keys": 3, "pass": 12, "PWD": "/srv", "auth": "none"}),
            json!({"api_keys": 3, "pass": 12, "PWD": "/srv", "auth": "none"}),
            vec![],
        ),
        (
            json!({"env": [{"name": "DB_PASSWORD", "value": "swordfish"}, {"name": "PORT", "value": "80"}]}),
            json!({"env": [{"name": "DB_PASSWORD", "value": MARK}, {"name": "PORT", "value": "80"}]}),
            vec!["/r/env/0/value builtin:key-name"],
        ),
        (
            json!(["run", "--token", "swordfish", "--max-tokens", "5"]),
            json!(["run", "--token", MARK, "--max-tokens", "5"]),
            vec!["/r/2 builtin:command-line"],
        ),
        (
            json!({"properties": {"password": {"type": "string", "minLength": 8, "default": "swordfish"}}}),
            json!({"properties": {"password": {"type": "string", "minLength": 8, "default": MARK}}}),
            vec!["/r/properties/password/default builtin:key-name"],
        ),
        (
            json!({"password": {"type": "string", "value": "swordfish"}}),
            json!({"password": MARK}),
            vec!["/r/password builtin:key-name"],
        ),
    ] {
        let (result, made) = redacted(given.clone());
        assert_eq!((result, made), (expected, edits.into_iter().map(str::to_owned).collect()), "{given}");
    }
}

#[test]
fn json_inside_strings_is_walked() {
    let inner = json!({"user": "bob", "nested": json!({"password": "sword\"fish"}).to_string()}).to_string();
    let (result, edits) = redacted(json!({"body": inner, "n": 1}));
    let body: Value = serde_json::from_str(result["body"].as_str().unwrap()).unwrap();
    let nested: Value = serde_json::from_str(body["nested"].as_str().unwrap()).unwrap();
    assert_eq!((&body["user"], &nested["password"]), (&json!("bob"), &json!(MARK)));
    assert_eq!(edits, ["/r/body builtin:key-name"], "a pointer that resolves in the record");

    let untouched = r#"{ "user" : "bob",  "n": 1.0 }"#;
    assert_eq!(redacted(json!(untouched)), (json!(untouched), vec![]));
    let escaped = r#"{"pass\u0077ord":"swordfish"}"#;
    assert_eq!(redacted(json!(escaped)).0, json!(r#"{"password":"[redacted]"}"#));
    let twice = serde_json::to_string(&json!({"token": "swordfish"}).to_string()).unwrap();
    assert!(!redacted(json!(twice)).0.to_string().contains("swordfish"));

    // Equal names: a parser shows the last one only.
    let doubled = r#"{"password":["swordfish"],"password":null}"#;
    let (result, edits) = redacted(json!(doubled));
    assert_eq!(result, json!(r#"{"password":null}"#));
    assert_eq!(edits, ["/r builtin:duplicate-name"]);
    // Not JSON any more, but still readable.
    let cut = r#"{"password":"swordfish","x":[1,2"#;
    assert_eq!(redacted(json!(cut)).0, json!(r#"{"password":"[redacted]","x":[1,2"#));
}

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
fn names_of_members_that_are_secrets_are_masked_and_paths_do_not_tell() {
    let key = format!("ghp_{}", "a1B2".repeat(9));
    let other = format!("ghp_{}", "Z9y8".repeat(9));
    let given =
        json!({"m": {&key: {"password": "swordfish"}, &other: 1, "[redacted]": {"token": "whalebone"}}});
    let (result, edits) = redacted(given);
    assert_eq!(
        result,
        json!({"m": {"[redacted]": {"token": MARK}, "[redacted] (2)": 1, "[redacted] (3)": {"password": MARK}}})
    );
    for path in ["/r/m/[redacted]/token ", "/r/m/[redacted] (3)/password ", "/r/m/[redacted] (2) "] {
        assert!(edits.iter().any(|edit| edit.starts_with(path)), "{path}: {edits:?}");
    }
    // A name that is a secret only because another member says so.
    let (result, edits) = redacted(json!({"password": "sw0rdfish", "seen": {"sw0rdfish": {"token": "w"}}}));
    assert_eq!(result, json!({"password": MARK, "seen": {"[redacted]": {"token": MARK}}}));
    assert!(!edits.concat().contains("sw0rdfish"), "{edits:?}");
    assert!(edits.contains(&"/r/seen/[redacted]/token builtin:key-name".to_owned()), "{edits:?}");
}

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

/// A call that gives more secrets than can be looked for, and what docket says of it.
fn flooded(password: &str) -> Vec<(&'static str, Value)> {
    let mut rows: Vec<Value> =
        (0..4200).map(|n| json!({"password": format!("{n:05}{}", "x9Q".repeat(84))})).collect();
    rows.push(json!({ "password": password }));
    vec![
        ("action", json!({"name": "tools/call"})),
        (
            "subject",
            json!({"type": "identity", "id": "bot", "properties": {"roles": ["agent"], "claims": {"a": "b"}}}),
        ),
        ("resource", json!({"type": "tool", "id": "delete_file", "properties": {"note": password}})),
        ("context", json!({"arguments": {"rows": rows}, "peer": "127.0.0.1:1"})),
        (
            "determining_policies",
            json!([{"policy_id": "p", "policy_version": "sha256:00", "title": null, "decision": "deny"}]),
        ),
        (
            "diagnostics",
            json!([{"policy_id": "p", "effect": "deny", "rule": "weak", "message": password, "data": {"p": password}}]),
        ),
        (
            "metadata",
            json!({"agent": "bot", "user": "alice", "verified": true, "server": "fs", "user_agent": password}),
        ),
    ]
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
fn strings_that_a_caller_chose_are_judged() {
    let token = format!("ghp_{}", "a1B2".repeat(9));
    for secret in
        [token.as_str(), "req-AKIAIOSFODNN7EXAMPLE", "postgres://u:hunter2@h/d", "file:///x?token=swordfish"]
    {
        assert!(redactor().is_secret(secret), "{secret}");
    }
    for plain in [
        "01JABCDEFGHJKMNPQRSTVWXYZ0",
        "kill-17",
        "a.b_c:d-e",
        "file:///etc/passwd",
        "delete_file",
        "https://user@host/x",
        "3fa85f64-5717-4562-b3fc-2c963f66afa6",
        "traceparent:00-4bf92f3577b34da6a3ce929d0e0e4736",
    ] {
        assert!(!redactor().is_secret(plain), "{plain}");
    }
    assert_eq!(
        redactor().plain("bad header Authorization: Bearer abc123def456".to_owned()),
        "bad header Authorization: Bearer [redacted]"
    );
}

#[test]
fn look_alikes_are_left_alone_byte_for_byte() {
    let texts = include_str!("look_alikes.txt");
    let mut count = 0;
    for line in texts.lines().filter(|line| !line.is_empty()) {
        count += 1;
        let given = Value::String(line.replace("\\n", "\n"));
        let (result, edits) = redacted(json!({ "text": given }));
        assert_eq!(result["text"], given, "{edits:?}");
    }
    let values: Value = serde_json::from_str(
        r#"{
        "max_tokens": 4096, "tokens": [1, 2, 3], "token_count": 12, "token_type": "Bearer", "progressToken": "abc-123-def",
        "nextPageToken": "CAUQAA1x9", "password_policy": {"min": 12}, "secret_name": "prod/db-1", "author": "alice1",
        "token_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "public_key": "ssh-ed25519 AAAAC3N",
        "key": "user:42:profile", "primary_key": "id_17", "cookies_enabled": true, "authorized": "yes", "secretary": "bob77",
        "passwordless": "on1", "tokenize": "a b2", "session": {"count": 3}, "passed": 17, "keyboard": "de-1",
        "authority": "https://login.example/1", "token_endpoint": "https://login.example/token2", "idempotency_key": "k-881",
        "access_key_id": "not-a-key-1", "has_password": "maybe1", "credentials_file": "/root/.aws/credentials",
        "definition_sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "required": ["username", "password"], "type": "object", "id": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
        "image": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk", "credentials": null, "etag": "W/\"33a64df5\"",
        "fields": [{"name": "password", "value": ""}, {"name": "max_tokens", "value": "77"}],
        "inputSchema": {"type": "object", "properties": {"token": {"type": "string", "description": "API token"}}}
    }"#,
    )
    .unwrap();
    count += values.as_object().map_or(0, Map::len);
    assert_eq!(redacted(values.clone()), (values, vec![]));
    assert!(count >= 100, "{count}");
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

#[test]
fn a_schema_is_no_disguise() {
    let schema = |title: &str| json!({"password": {"type": "string", "title": title, "description": "8 to 12 characters"}});
    for title in ["Password", "The password of account 7"] {
        assert_eq!(redacted(schema(title)), (schema(title), vec![]));
    }
    assert_eq!(redacted(schema("q7Zxsword!")).0, schema(MARK));
}
