//! Explanations, construct by construct.

mod generated;

use serde_json::{Value as Json, json};
use ulid::Ulid;

use super::super::{Limits, Source};

use super::*;

fn set(files: &[(&str, &str)]) -> PolicySet {
    let file =
        |(path, text): &(&str, &str)| SourceFile { path: (*path).into(), bytes: text.as_bytes().to_vec() };
    let source = Source { id: "set".into(), revision: None, files: files.iter().map(file).collect() };
    PolicySet::compile(source, Limits::default()).unwrap_or_else(|findings| panic!("{findings:#?}"))
}

fn call(arguments: &Json) -> Call {
    serde_json::from_value(json!({
        "subject": {"type": "identity", "id": "bot", "properties": {"roles": ["agent"]}},
        "action": {"name": "tools/call"},
        "resource": {"type": "tool", "id": "rm", "properties": {"server": "fs"}},
        "context": {"arguments": arguments},
    }))
    .unwrap()
}

fn moment() -> Moment {
    Moment { call_id: Ulid::from(7u128), time_ns: 1_000 }
}

#[expect(clippy::needless_pass_by_value, reason = "`json!` at the call is shorter than `&json!`")]
/// Explains a call under one policy `p` whose rules follow.
fn explain(rules: &str, arguments: Json) -> Explanation {
    set(&[("p.rego", &format!("package p\n\nargs := input.context.arguments\n\n{rules}"))])
        .explain(&call(&arguments), &moment())
}

/// `line:column condition` of what the nearest rule lacked, the way to it, and the values.
fn nearest(rules: &str, arguments: Json) -> (String, Vec<String>, Json) {
    let found = explain(rules, arguments);
    assert!(!found.why_not.is_empty(), "{:?}", found.decision.diagnostics);
    let nearest = &found.why_not[0];
    assert_eq!(nearest.uncertain, None, "{nearest:?}");
    (
        short(&nearest.condition),
        nearest.via.iter().map(|step| format!("{}: {}", step.rule, step.condition)).collect(),
        Json::Object(nearest.condition.values.clone()),
    )
}

fn short(condition: &Condition) -> String {
    format!("{}:{} {}", condition.line, condition.column, condition.condition)
}

#[test]
fn a_condition_of_the_rule_itself() {
    let rules = "path := args.path\n\nallow if {\n\tinput.resource.id == \"rm\"\n\tstartswith(path, \"/workspace/\")\n}\n";
    let (condition, via, values) = nearest(rules, json!({"path": "/etc/passwd"}));
    assert_eq!(condition, "9:2 startswith(path, \"/workspace/\")");
    assert_eq!((via.len(), values), (0, json!({"path": "/etc/passwd"})));
    // What is not there is said not to be there.
    let found = explain("allow if input.context.arguments.n > 3", json!({}));
    assert_eq!(found.why_not[0].condition.undefined, ["input.context.arguments.n"]);
    let found = explain("allow if args.n > 3", json!({"n": 4}));
    assert!(found.why_not.is_empty());
    assert_eq!(short(&found.why[0].conditions[0]), "5:10 args.n > 3");
    assert_eq!(found.why[0].conditions[0].values, *json!({"args.n": 4}).as_object().unwrap());
}

#[test]
fn through_helper_rules() {
    let rules = "trusted if {\n\t\"agent\" in input.subject.properties.roles\n\targs.score < 50\n}\n\nallow if {\n\ttrusted\n\targs.x == 1\n}\n";
    let (condition, via, values) = nearest(rules, json!({"score": 80, "x": 2}));
    assert_eq!(condition, "7:2 args.score < 50");
    assert_eq!((via, values), (vec!["allow: trusted".to_owned()], json!({"args.score": 80})));
    // Of several definitions the nearest; the others are named.
    let rules = "ok if {\n\targs.a == 1\n\targs.b == 1\n}\n\nok if {\n\targs.c == 1\n\targs.d == 1\n}\n\nallow if ok\n";
    let found = explain(rules, json!({"a": 0, "b": 0, "c": 1, "d": 0}));
    assert_eq!(short(&found.why_not[0].condition), "12:2 args.d == 1");
    assert_eq!(found.why_not[0].alternatives[0].condition, "args.a == 1");
}

#[test]
fn through_functions_with_their_arguments() {
    let rules = "inside(path, root) if {\n\tnot contains(path, \"..\")\n\tstartswith(path, root)\n}\n\nsafe(p) if inside(clean(p), \"/w/\")\n\nclean(p) := trim_suffix(p, \"/\")\n\nallow if {\n\tpath := args.path\n\tsafe(path)\n}\n";
    let (condition, via, values) = nearest(rules, json!({"path": "/x/y/"}));
    assert_eq!(condition, "7:2 startswith(path, root)");
    assert_eq!(via, ["allow: safe(path)", "safe: inside(clean(p), \"/w/\")"]);
    assert_eq!(values, json!({"path": "/x/y", "root": "/w/"}));
    let rules = "f(\"a\", x) if x == 1\n\nf(\"b\", x) if x == 2\n\nallow if f(args.k, args.x)\n";
    assert_eq!(nearest(rules, json!({"k": "b", "x": 3})).0, "7:14 x == 2");
    assert_eq!(nearest(rules, json!({"k": "c", "x": 1})).0, "5:3 \"a\"");
}

#[test]
fn not_says_what_holds() {
    let rules = "secret(p) if endswith(p, \".pem\")\n\nallow if {\n\tnot secret(args.path)\n}\n";
    let found = explain(rules, json!({"path": "/a.pem"}));
    let condition = &found.why_not[0].condition;
    assert_eq!(short(condition), "8:2 not secret(args.path)");
    assert_eq!(condition.values["args.path"], "/a.pem");
    assert!(condition.note.as_ref().unwrap().contains("p.rego:5:1"), "{condition:?}");
}

#[test]
fn through_every_to_the_element() {
    let rules = "allow if {\n\tcount(args.paths) > 0\n\tevery path in args.paths {\n\t\tstartswith(path, \"/w/\")\n\t\tinside(path)\n\t}\n}\n\ninside(p) if not contains(p, \"..\")\n";
    let (condition, via, values) = nearest(rules, json!({"paths": ["/w/a", "/etc/x", "/w/.."]}));
    assert_eq!(condition, "8:3 startswith(path, \"/w/\")");
    assert_eq!(values, json!({"path": "/etc/x"}));
    assert!(via[0].starts_with("allow: every path in args.paths"));
    let (condition, via, _) = nearest(rules, json!({"paths": ["/w/a", "/w/.."]}));
    assert_eq!((condition.as_str(), via.len()), ("13:14 not contains(p, \"..\")", 2));
    assert_eq!(nearest(rules, json!({})).0, "6:2 count(args.paths) > 0");
}

#[test]
fn some_in_and_comprehensions() {
    let rules = "allow if {\n\tsome item in args.items\n\titem.kind == \"a\"\n\titem.size < 10\n}\n";
    let (condition, _, values) =
        nearest(rules, json!({"items": [{"kind": "b", "size": 1}, {"kind": "a", "size": 12}]}));
    assert_eq!((condition.as_str(), values), ("8:2 item.size < 10", json!({"item.size": 12})));
    let found = explain(rules, json!({"items": [{"kind": "b"}, {"kind": "c"}]}));
    assert_eq!(short(&found.why_not[0].condition), "7:2 item.kind == \"a\"");
    assert_eq!(found.why_not[0].condition.bindings, Some(2));
    assert_eq!(nearest(rules, json!({"items": []})).0, "6:2 some item in args.items");
    let rules = "allow if {\n\tbig := [x | some x in args.xs; x > limit]\n\tcount(big) >= 2\n\tsome x in args.ys\n\tx == 1\n}\n\nlimit := 5\n";
    let (condition, _, values) = nearest(rules, json!({"xs": [1, 6], "ys": [1]}));
    assert_eq!((condition.as_str(), values), ("7:2 count(big) >= 2", json!({"big": [6], "count(big)": 1})));
    assert_eq!(nearest(rules, json!({"xs": [7, 6], "ys": [2]})).0, "9:2 x == 1");
    // An index nothing declares.
    let rules = "allow if {\n\targs.xs[i] == 2\n\targs.ys[i] == 3\n}\n";
    assert_eq!(nearest(rules, json!({"xs": [1, 2], "ys": [3, 4]})).0, "7:2 args.ys[i] == 3");
    assert_eq!(nearest(rules, json!({"xs": [1], "ys": [3, 4]})).0, "6:2 args.xs[i] == 2");
}

#[test]
fn else_and_default() {
    let rules = "level := 1 if args.a == 1\n\nelse := 2 if args.b == 1\n\nallow if level == 1\n\nallow if {\n\tlevel == 3\n\tfalse\n}\n";
    let (condition, via, _) = nearest(rules, json!({"a": 0, "b": 0}));
    assert_eq!((condition.as_str(), via), ("5:15 args.a == 1", vec!["allow: level == 1".to_owned()]));
    let (condition, _, values) = nearest(rules, json!({"a": 0, "b": 1}));
    assert_eq!((condition.as_str(), values), ("9:10 level == 1", json!({"level": 2})));
    let rules = "ok := true if args.a == 1\n\nelse := false\n\nallow if ok\n";
    assert_eq!(nearest(rules, json!({"a": 0})).0, "5:15 args.a == 1");
    let rules = "default ok := false\n\nok if args.a == 1\n\nallow if ok\n";
    assert_eq!(nearest(rules, json!({"a": 0})).0, "7:7 args.a == 1");
    let rules = "same := args.a == args.b\n\nallow if same\n";
    let (condition, _, values) = nearest(rules, json!({"a": 0, "b": 1}));
    assert_eq!((condition.as_str(), values), ("5:9 args.a == args.b", json!({"args.a": 0, "args.b": 1})));
}

#[test]
fn partial_rules() {
    let rules = "roots contains root if {\n\tsome root in args.roots\n\tstartswith(root, \"/\")\n}\n\nallow if {\n\tsome root in roots\n\tstartswith(args.path, root)\n}\n";
    let (condition, via, values) = nearest(rules, json!({"roots": ["w"], "path": "/w"}));
    assert_eq!(condition, "7:2 startswith(root, \"/\")");
    assert_eq!((via, values), (vec!["allow: some root in roots".to_owned()], json!({"root": "w"})));
    assert_eq!(nearest(rules, json!({"roots": ["/w"], "path": "/x"})).0, "12:2 startswith(args.path, root)");
    // An effect whose value is missing although every condition holds.
    let rules = "allow contains {\"rule\": \"r\", \"path\": args.path} if input.resource.id == \"rm\"\n";
    let found = explain(rules, json!({}));
    assert_eq!(found.why_not[0].condition.undefined, ["args.path"]);
    assert!(found.why_not[0].condition.note.as_ref().unwrap().contains("no value"));
    assert_eq!(found.why_not[0].rule, "r");
}

#[test]
fn imports_and_other_packages() {
    let set = set(&[
        ("lib.rego", "package lib.net\n\ninternal(host) if endswith(host, data.config.suffix)\n"),
        ("config/data.json", "{\"suffix\": \".internal\"}"),
        (
            "p.rego",
            "package p\n\nimport data.lib.net as n\nimport input.context.arguments as a\n\nallow if n.internal(a.host)\n",
        ),
    ]);
    let found = set.explain(&call(&json!({"host": "x.example"})), &moment());
    let missing = &found.why_not[0];
    assert_eq!(
        (missing.condition.file.as_str(), short(&missing.condition)),
        ("lib.rego", "3:19 endswith(host, data.config.suffix)".to_owned())
    );
    assert_eq!(
        Json::Object(missing.condition.values.clone()),
        json!({"host": "x.example", "data.config.suffix": ".internal"})
    );
    assert_eq!(missing.via[0].file, "p.rego");
}

#[test]
fn the_nearest_rule_comes_first() {
    let rules = "allow contains {\"rule\": \"far\"} if {\n\targs.a == 1\n\targs.b == 1\n\targs.c == 1\n}\n\nallow contains {\"rule\": \"near\"} if {\n\targs.a == 1\n\targs.b == 0\n\targs.c == 0\n}\n\nallow contains {\"rule\": \"bare\"} if args.z\n";
    let found = explain(rules, json!({"a": 0, "b": 0, "c": 0}));
    let order: Vec<(&str, usize)> =
        found.why_not.iter().map(|m| (m.rule.as_str(), m.conditions_false)).collect();
    assert_eq!(order, [("near", 1), ("bare", 1), ("far", 3)]);
}

#[test]
fn source_order_is_kept_unless_a_statement_needs_a_later_one() {
    let rules = "allow if {\n\ty > 3\n\ty = args.y\n\tcount([x | some x in args.xs]) > 0\n\tsome x in args.xs\n\tx == 9\n}\n";
    assert_eq!(nearest(rules, json!({"y": 1, "xs": []})).0, "6:2 y > 3");
    assert_eq!(nearest(rules, json!({"y": 4, "xs": []})).0, "8:2 count([x | some x in args.xs]) > 0");
    assert_eq!(nearest(rules, json!({"y": 4, "xs": [1]})).0, "10:2 x == 9");
}

#[test]
fn what_cannot_be_told_is_said() {
    let found =
        explain("allow if {\n\tto_number(args.n) > 3\n\targs.x == 1\n}\n", json!({"n": "abc", "x": 1}));
    // The evaluation itself fails, so the decision is an error; nothing is missing that could be named.
    assert_eq!(found.decision.status, crate::decision::EvaluationStatus::Error);
    let found =
        explain("allow if {\n\targs.x == 1\n\tto_number(args.n) > 3\n}\n", json!({"n": "abc", "x": 2}));
    assert_eq!(short(&found.why_not[0].condition), "6:2 args.x == 1");
}

#[test]
fn what_runs_under_with_is_looked_into() {
    let rules = "helper if input.x == 1\n\nallow if helper with input.x as 2\n";
    let found = explain(rules, json!({}));
    assert_eq!(short(&found.why_not[0].condition), "5:11 input.x == 1");
    assert_eq!(found.why_not[0].condition.values["input.x"], 2);
}

#[test]
fn why_a_rule_applied() {
    let rules = "# METADATA\n# title: No deletions\ndeny contains {\"rule\": \"no_delete\", \"message\": sprintf(\"%s\", [path])} if {\n\tinput.resource.id == \"rm\"\n\tpath := args.path\n\tsome bad in [\"/etc\", \"/usr\"]\n\tstartswith(path, bad)\n}\n\ndeny contains \"other\" if args.path == \"x\"\n";
    let found = explain(rules, json!({"path": "/usr/x"}));
    assert_eq!(found.why.len(), 1);
    let why = &found.why[0];
    assert_eq!((why.rule.as_str(), why.line, why.end_line, why.applies), ("no_delete", 7, 12, Some(true)));
    assert!(why.excerpt.starts_with("deny contains") && why.excerpt.ends_with('}'), "{}", why.excerpt);
    assert_eq!(why.conditions.len(), 4);
    assert!(why.conditions.iter().all(|condition| condition.holds == Some(true)));
    assert_eq!(Json::Object(why.conditions[3].values.clone()), json!({"path": "/usr/x", "bad": "/usr"}));
    assert!(found.why_not.is_empty());
}

#[test]
fn an_explanation_comes_to_an_end() {
    let slow =
        "x in [a | a := 1]; some y in numbers.range(1, 2000); some z in numbers.range(1, 2000); y * z == -1";
    let text = format!("package p\n\nallow if {{ some {slow} }}\n\nallow if {{ some {slow} }}\n");
    let file = SourceFile { path: "p.rego".into(), bytes: text.into_bytes() };
    let source = Source { id: "set".into(), revision: None, files: vec![file] };
    let limits = Limits { timeout: std::time::Duration::from_millis(50) };
    let set = PolicySet::compile(source, limits).unwrap();
    let started = std::time::Instant::now();
    let found = set.trace(&call(&json!({})), &moment());
    assert!(started.elapsed().as_millis() < 2_000, "{:?}", started.elapsed());
    assert_eq!(found.decision.status, crate::decision::EvaluationStatus::Timeout);
    let rule = &found.trace.as_ref().unwrap()[0];
    assert_eq!((rule.applies, rule.conditions.last().unwrap().holds), (None, None), "{rule:?}");
    assert!(rule.uncertain.as_ref().unwrap().contains("time"), "{rule:?}");
}

#[test]
fn held_calls_have_both() {
    let rules = "require_approval contains \"ask\" if args.pay\n\nallow if args.small\n";
    let found = explain(rules, json!({"pay": true}));
    assert_eq!((found.why[0].rule.as_str(), found.why_not.len()), ("ask", 1));
}

/// Every benchmark call has an explanation without gaps: the rules that decided, or what each other rule lacked.
#[test]
fn the_benchmark_calls_are_explained() {
    let Some((set, calls)) = super::super::tests::bench() else { return };
    for call in &calls {
        let found = set.explain(call, &moment());
        let by_rule = !found.decision.determining.is_empty();
        assert_eq!(found.why.is_empty(), !by_rule, "{call:?}");
        assert_eq!(found.why_not.is_empty(), by_rule, "{call:?}");
        assert!(found.why.iter().all(|rule| rule.applies == Some(true)), "{:?}", found.why);
        let fired: BTreeSet<&str> = found.why.iter().map(|rule| rule.rule.as_str()).collect();
        if by_rule {
            let said = found.decision.diagnostics.iter().filter_map(|said| said.rule.as_deref());
            assert_eq!(fired, said.collect());
        }
        for missing in &found.why_not {
            assert_eq!((&missing.uncertain, missing.condition.holds), (&None, Some(false)), "{missing:?}");
            assert!(
                !missing.condition.values.is_empty() || !missing.condition.undefined.is_empty(),
                "{missing:?}"
            );
        }
    }
}

/// The same for the starter policies, whose helpers lie in libraries.
#[test]
fn calls_under_the_starter_policies_are_explained() {
    let source = Source::read(std::path::Path::new("policies")).unwrap();
    let set = PolicySet::compile(source, Limits::default()).unwrap();
    let mut seen = BTreeSet::new();
    for (tool, server, arguments) in [
        ("read_file", "filesystem", json!({"path": "/etc/passwd"})),
        ("read_file", "filesystem", json!({"path": "relative"})),
        ("write_file", "filesystem", json!({"path": "/workspace/a", "content": "x"})),
        ("unknown_tool", "other", json!({"x": 1})),
        ("fetch", "web", json!({"url": "https://example.com/x"})),
        ("bash", "shell", json!({"command": "rm -rf /"})),
        ("pay", "bank", json!({"amount": 5})),
        ("delete_file", "filesystem", json!({"path": "/workspace/a"})),
    ] {
        let mut call = call(&arguments);
        call.resource.id = tool.into();
        call.resource.properties.insert("server".into(), server.into());
        let found = set.trace(&call, &moment());
        seen.insert(found.decision.effect.as_str());
        let by_rule = !found.decision.determining.is_empty();
        assert_eq!(found.why.is_empty(), !by_rule, "{tool} {arguments}");
        for rule in found.trace.iter().flatten() {
            assert_eq!(rule.uncertain, None, "{tool} {arguments}: {rule:#?}");
        }
        for missing in &found.why_not {
            assert_eq!(missing.uncertain, None, "{tool} {arguments}: {missing:#?}");
        }
    }
    assert!(seen.len() > 1, "{seen:?}");
}

/// `cargo test --profile ci --lib -- --ignored time_per_explanation --nocapture`
#[test]
#[ignore = "a measurement, not a check"]
fn time_per_explanation() {
    let Some((set, calls)) = super::super::tests::bench() else { return };
    let mut times: Vec<std::time::Duration> = calls
        .into_iter()
        .map(|mut call| {
            call.context.insert("note".into(), "x".repeat(600).into());
            let started = std::time::Instant::now();
            std::hint::black_box(set.explain(&call, &moment()));
            started.elapsed()
        })
        .collect();
    eprintln!("first, with parsing: {:?}", times[0]);
    times.sort();
    eprintln!("p50 {:?}, p99 {:?}, max {:?}", times[128], times[253], times[255]);
}
