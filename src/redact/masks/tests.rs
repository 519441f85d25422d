use serde_json::{Value, json};

use super::*;
use crate::redact::{Edit, Redactor};

/// Answers the same for every record.
struct Fixed(Result<Said, Unanswered>);

impl Masks for Fixed {
    fn ask(&self, _: &About<'_>, document: &dyn Fn() -> Value) -> Option<Result<Said, Unanswered>> {
        drop(document());
        Some(self.0.clone())
    }

    fn unusable(&self, _: &str) {}

    fn idle(&self, _: &str) {}
}

fn roots() -> Vec<(&'static str, Value)> {
    vec![
        ("action", json!({"name": "tools/call"})),
        (
            "subject",
            json!({"type": "identity", "id": "bot", "properties": {"agent": "bot", "desk": "north-7"}}),
        ),
        (
            "resource",
            json!({"type": "tool", "id": "pay", "properties": {"server": "bank", "note": "for Rosalind"}}),
        ),
        (
            "context",
            json!({"arguments": {"customer": "Rosalind", "a/b": 1, "rows": [{"n": "x17"}, 2], "amount": 1250}}),
        ),
        ("determining_policies", json!([{"policy_id": "Rosalind"}])),
        ("diagnostics", json!([{"policy_id": "p", "rule": "r", "message": "Rosalind may not pay 1250"}])),
        ("metadata", json!({"agent": "bot", "peer": "127.0.0.1:1", "user_agent": "curl/8 Rosalind"})),
    ]
}

fn with(said: Result<Said, Unanswered>) -> Record {
    Redactor::builtin().with_masks(Box::new(Fixed(said))).record(roots()).into_inner()
}

fn masked(mask: Value) -> (Value, Vec<Edit>) {
    let record = with(Ok(Said { drop: false, mask: Some(mask) }));
    (
        record.roots.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Object>().into(),
        record.edits,
    )
}

fn paths(edits: &[Edit]) -> Vec<String> {
    edits.iter().map(|edit| format!("{:?} {} {}", edit.op, edit.path, edit.by)).collect()
}

#[test]
fn what_a_mask_takes_is_taken_everywhere() {
    let (after, edits) = masked(json!(["/input/context/arguments/customer"]));
    assert_eq!(after["context"], json!({"arguments": {"a/b": 1, "rows": [{"n": "x17"}, 2], "amount": 1250}}));
    assert_eq!(after["diagnostics"][0]["message"], json!("[redacted] may not pay 1250"));
    assert_eq!(after["resource"]["properties"]["note"], json!("for [redacted]"));
    assert_eq!(after["metadata"]["user_agent"], json!("curl/8 [redacted]"));
    assert_eq!(after["determining_policies"], json!([{"policy_id": "Rosalind"}]), "docket's own");
    assert_eq!(paths(&edits)[0], "Remove /context/arguments/customer rego:data.system.log.mask");
    assert!(edits.iter().all(|edit| edit.category == "masked"), "{edits:?}");
}

#[test]
fn each_form_and_place_is_as_in_opa() {
    let call = "Remove /context/arguments";
    for (mask, expected) in [
        (json!(["/input/context/arguments/a~1b"]), vec![format!("{call}/a~1b")]),
        (json!(["/input/context/arguments/a%2Fb"]), vec![format!("{call}/a~1b")]),
        (json!(["/input/context/arguments/rows/0/n"]), vec![format!("{call}/rows/0/n")]),
        (json!([{"op": "remove", "path": "/input/context/arguments"}]), vec![call.to_owned()]),
        (json!(["/input/context/arguments/rows/0"]), vec![]),
        (
            json!(["/input/context/arguments/none", "/result/none", "/input/none/x", "/result/context"]),
            vec![],
        ),
        (
            json!([
                "/result/metadata/agent",
                "/result/diagnostics/0/policy_id",
                "/result/determining_policies"
            ]),
            vec![],
        ),
        (json!(["/input/resource/id"]), vec!["Mask /resource/id".into()]),
        (
            json!([{"op": "upsert", "path": "/input/context/arguments/amount", "value": 1000}]),
            vec!["Mask /context/arguments/amount".into()],
        ),
        (json!([{"op": "upsert", "path": "/input/context/arguments/new", "value": "x"}]), vec![]),
        (json!([]), vec![]),
    ] {
        let (after, edits) = masked(mask.clone());
        let by_mask = edits.iter().filter(|edit| edit.by == MASK).cloned().collect::<Vec<_>>();
        let made = expected.iter().map(|edit| format!("{edit} {MASK}")).collect::<Vec<_>>();
        assert_eq!(paths(&by_mask), made, "{mask}");
        for edit in edits.iter().filter(|edit| edit.op == Op::Mask) {
            assert!(after.pointer(&edit.path).is_some(), "{} does not resolve", edit.path);
        }
    }
}

#[test]
fn whole_parts_keep_what_names_them() {
    let (after, edits) = masked(json!(["/input", "/result/metadata"]));
    assert_eq!(after["action"], json!({"name": "tools/call", "withheld": MARK}));
    assert_eq!(after["context"], json!({"withheld": MARK}));
    assert_eq!(
        after["resource"],
        json!({"type": "tool", "id": "pay", "properties": {"server": "bank"}, "withheld": MARK})
    );
    assert_eq!(after["metadata"], json!({"agent": "bot", "peer": "127.0.0.1:1", "user_agent": MARK}));
    assert!(!after["diagnostics"].to_string().contains("Rosalind"), "{after}");
    assert!(edits.iter().any(|edit| edit.path == "/context"), "{edits:?}");
}

#[test]
fn everything_is_dropped_but_what_names_the_call() {
    let record = with(Ok(Said { drop: true, mask: None }));
    assert_eq!(record.roots[3].1, json!({"withheld": MARK}));
    assert_eq!(record.roots[4].1, json!([{"policy_id": "Rosalind"}]));
    assert_eq!(record.roots[5].1, json!([{"policy_id": "p", "rule": "r", "message": MARK}]));
    assert!(
        record.edits.iter().all(|edit| edit.by == "rego:data.system.log.drop" && edit.category == "dropped")
    );
}

#[test]
fn masks_that_cannot_be_used_withhold_the_record() {
    for mask in [
        json!("/input/x"),
        json!(true),
        json!({"a": 1}),
        json!([1]),
        json!(["input/x"]),
        json!(["/labels/app"]),
        json!([""]),
        json!([{"op": "remove"}]),
        json!([{"op": "replace", "path": "/input/x"}]),
        json!([{"path": "/input/x"}]),
        json!(vec!["/input/x"; MAX_MASKS + 1]),
    ] {
        let (after, edits) = masked(mask.clone());
        assert_eq!(after["context"], json!({"withheld": MARK}), "{mask}");
        let named = json!({"type": "tool", "id": "pay", "properties": {"server": "bank"}, "withheld": MARK});
        assert_eq!(after["resource"], named, "a caller must not become anonymous by making masks late");
        assert_eq!(after["action"]["name"], json!("tools/call"));
        assert_eq!(after["subject"]["id"], json!("bot"));
        assert!(edits.iter().all(|edit| edit.by == MASK && edit.category == "withheld"), "{edits:?}");
    }
    let record = with(Err(Unanswered));
    assert_eq!(record.roots[3].1, json!({"withheld": MARK}));
}

#[test]
fn the_document_is_opas() {
    let request_id = crate::call::RequestId::parse("r-1").unwrap();
    let about = About {
        call_id: Some(ulid::Ulid::from(7u128)),
        request_id: Some(&request_id),
        decision: Some(crate::decision::Effect::Deny),
        manifest_sha: Some("sha256:00"),
        ..About::default()
    };
    let record = Record { roots: roots(), ..Record::default() };
    let made = document(&about, &record);
    assert_eq!(made["input"]["context"]["arguments"]["customer"], json!("Rosalind"));
    assert_eq!(made["result"]["decision"], json!("deny"));
    assert_eq!(made["result"]["diagnostics"][0]["rule"], json!("r"));
    assert_eq!((&made["path"], &made["request_id"]), (&json!("docket/decision"), &json!("r-1")));
    assert_eq!(made["decision_id"], json!("00000000000000000000000007"));
    let record = Record { roots: vec![("metadata", json!({"error": "x"}))], ..Record::default() };
    let made = document(&About::default(), &record);
    assert_eq!((made.get("input"), &made["result"]), (None, &json!({"metadata": {"error": "x"}})));
}

#[test]
fn masks_forge_nothing() {
    let mut known = roots();
    known[3].1 = json!({
        "protocol": "mcp/2025-11-25", "agent": "bot", "peer": "127.0.0.1:1", "request_id": "r-1", "time": "t",
        "caller": {"agent": "bot", "user": "alice"}, "arguments": {"amount": 1250},
    });
    let applied = |path: &str, op: &str| {
        let mask = json!([{"op": op, "path": path, "value": "mallory"}]);
        let said = Fixed(Ok(Said { drop: false, mask: Some(mask) }));
        Redactor::builtin().with_masks(Box::new(said)).record(known.clone()).into_inner()
    };
    for path in [
        "/input/context/agent",
        "/input/context/caller",
        "/input/context/caller/user",
        "/input/context/request_id",
        "/input/context/time",
        "/input/context/peer",
        "/input/subject/properties/agent",
        "/input/resource/properties/server",
        "/result/diagnostics/0/rule",
    ] {
        for op in ["upsert", "remove"] {
            assert_eq!(applied(path, op).roots, known, "{op} {path}");
        }
    }
    for path in ["/input/subject/id", "/input/resource/id", "/input/action/name", "/input/resource/type"] {
        let record = applied(path, "upsert");
        let parts: Vec<&str> = path.split('/').skip(2).collect();
        let (_, root) = record.roots.iter().find(|(name, _)| *name == parts[0]).unwrap();
        assert_eq!(root[parts[1]], json!(MARK), "{path}");
        assert_eq!(record.edits[0].op, Op::Mask);
    }
    // All properties are more than docket's own, which stay.
    for (op, left) in [("remove", json!({"agent": "bot"})), ("upsert", json!({"agent": "bot"}))] {
        assert_eq!(applied("/input/subject/properties", op).roots[1].1["properties"], left);
    }
    // What is no name of docket's or of the call stands as the mask says.
    assert_eq!(
        applied("/input/context/arguments/amount", "upsert").roots[3].1["arguments"]["amount"],
        "mallory"
    );
    // On the decision API, properties are the caller's own words.
    known[3].1["protocol"] = json!("authzen/1.0");
    let said = Fixed(Ok(Said { drop: false, mask: Some(json!(["/input/subject/properties/agent"])) }));
    let record = Redactor::builtin().with_masks(Box::new(said)).record(known.clone()).into_inner();
    assert_eq!(record.roots[1].1["properties"], json!({"desk": "north-7"}));
    let mask = json!([{"op": "upsert", "path": "/input/subject/properties/agent", "value": "mallory"}]);
    let said = Fixed(Ok(Said { drop: false, mask: Some(mask) }));
    let record = Redactor::builtin().with_masks(Box::new(said)).record(known).into_inner();
    assert_eq!(record.roots[1].1["properties"], json!({"agent": MARK, "desk": "north-7"}));
}
