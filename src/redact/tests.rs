//! The pipeline as its callers see it: what goes in, what comes out, and that nothing else does.

use std::time::Instant;

use serde_json::{Map, json};

use super::*;

mod bounds;
mod cost;
mod found;
mod generated;
mod given_back;

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
