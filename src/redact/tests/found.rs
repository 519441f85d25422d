//! What is found in a record, and what is left alone.

use super::*;

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
    let texts = include_str!("../look_alikes.txt");
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
fn a_schema_is_no_disguise() {
    let schema = |title: &str| json!({"password": {"type": "string", "title": title, "description": "8 to 12 characters"}});
    for title in ["Password", "The password of account 7"] {
        assert_eq!(redacted(schema(title)), (schema(title), vec![]));
    }
    assert_eq!(redacted(schema("q7Zxsword!")).0, schema(MARK));
}
