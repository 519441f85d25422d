//! Explanations, construct by construct.

mod generated;

use serde_json::{Value as Json, json};
use ulid::Ulid;

use super::super::{Limits, Source};

use super::*;

fn set(files: &[(&str, &str)]) -> PolicySet {
    let file =
        |(path, text): &(&str, &str)| SourceFile { path: (*path).into(), bytes: text.as_bytes().to_vec() };
    let source = Source {
        id: "set".into(),
        revision: None,
        files: files.iter().map(file).collect(),
        entrypoint: None,
    };
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
fn through_with_to_what_it_puts_into_other_rules() {
    let rules = "helper if limit == 1\n\nlimit := 1 if args.y\n\nis_fine(x) if x > 5\n\nno(_) if args.z\n\nwrapped if is_fine(args.x)\n\n";
    for (rest, condition, via, values) in [
        ("helper with data.p.limit as args.x", "5:11 limit == 1", 1, json!({"limit": 7})),
        // What is put in place of a rule has nothing to do with how the rule is defined.
        (
            "limit == 2 with data.p.limit as args.x",
            "15:12 limit == 2 with data.p.limit as args.x",
            0,
            json!({"limit": 7, "args.x": 7}),
        ),
        // What the locals have outside they have inside too.
        (
            "some n in [args.x]; every m in [1, 2] { m * n == args.x } with input.context.arguments as {\"x\": 14}",
            "15:52 m * n == args.x",
            1,
            json!({"m": 1, "n": 7, "args.x": 14}),
        ),
    ] {
        let (found, way, shown) = nearest(&format!("{rules}allow if {{ {rest} }}\n"), json!({"x": 7}));
        assert_eq!((found.as_str(), way.len(), shown), (condition, via, values), "{rest}");
    }
    // A function of the policy's own is replaced for who calls it from the same package, and for no question from outside.
    let found =
        explain(&format!("{rules}allow if wrapped with is_fine as no\n"), json!({"x": 7})).why_not.remove(0);
    assert!(found.uncertain.as_ref().unwrap().contains("replaces the function `is_fine`"), "{found:?}");
}

#[test]
fn through_with_to_what_it_puts_into_the_input() {
    let with = |rest: &str| {
        format!(
            "allow if {rest}\n\nhelper if args.x == 1\n\nouter if helper with input.context.arguments.y as input.context.arguments.x\n\nbad(p) if {{\n\tendswith(p, \".pem\")\n\targs.y == 7\n}}\n\nf(p) if p == args.y\n"
        )
    };
    for (rest, arguments, condition, via, values) in [
        (
            "helper with input.context.arguments.x as input.context.arguments.y",
            json!({"x": 1, "y": 2}),
            "7:11 args.x == 1",
            1,
            json!({"args.x": 2}),
        ),
        (
            "args.x > 3 with input.context.arguments.x as input.context.arguments.y",
            json!({"x": 9, "y": 2}),
            "5:10 args.x > 3 with input.context.arguments.x as input.context.arguments.y",
            0,
            json!({"args.x": 2, "input.context.arguments.y": 2}),
        ),
        // An inner `with` sees what an outer one put there.
        (
            "outer with input.context.arguments as {\"x\": input.context.arguments.y}",
            json!({"x": 1, "y": 2}),
            "7:11 args.x == 1",
            2,
            json!({"args.x": 2}),
        ),
        (
            "f(args.x) with input.context.arguments.x as 5",
            json!({"x": 2, "y": 2}),
            "16:9 p == args.y",
            1,
            json!({"p": 5, "args.y": 2}),
        ),
        (
            "f(args.x) with input.new.y as 5 with input.context.arguments.y as 5",
            json!({"x": 2, "y": 2}),
            "16:9 p == args.y",
            1,
            json!({"p": 2, "args.y": 5}),
        ),
    ] {
        let (found, way, shown) = nearest(&with(rest), arguments);
        assert_eq!((found.as_str(), way.len(), shown), (condition, via, values), "{rest}");
    }
    let found = explain(&with("not bad(\"a.pem\") with input.context.arguments.y as 7"), json!({"y": 1}));
    assert!(found.why_not[0].condition.note.as_ref().unwrap().contains("p.rego:11:1"), "{:?}", found.why_not);
}

#[test]
fn an_element_that_is_not_there() {
    let rules = "limits[\"read\"] := 5 if args.admin == true\n\nlimits[\"write\"] := 3\n\nallow if limits[args.tool] > 1\n";
    let (condition, via, _) = nearest(rules, json!({"tool": "read", "admin": false}));
    assert_eq!((condition.as_str(), via.len()), ("5:24 args.admin == true", 1));
    let note = |rules: &str, arguments: Json| {
        let missing = explain(rules, arguments).why_not.remove(0);
        (short(&missing.condition), missing.condition.note.unwrap_or_default())
    };
    let (condition, said) = note(rules, json!({"tool": "exec"}));
    assert_eq!(
        (condition.as_str(), said.as_str()),
        ("9:10 limits[args.tool] > 1", "`limits` has no element `args.tool`")
    );
    let rules = "owners[name] := size if {\n\tsome name, size in args.sizes\n\tsize > 1\n}\n\nallow if {\n\tuser := args.user\n\towners[user] > 2\n}\n";
    let (condition, said) = note(rules, json!({"user": "a", "sizes": {"a": 1, "b": 3}}));
    assert_eq!(
        (condition.as_str(), said.as_str()),
        ("12:2 owners[user] > 2", "`owners` has no element `user`")
    );
    // With no element at all there is something to look into.
    assert_eq!(note(rules, json!({"user": "a", "sizes": {"a": 1}})).0, "7:2 size > 1");
    let rules = "roots contains \"/w\" if args.w\n\nallow if roots[args.root]\n";
    assert_eq!(note(rules, json!({"root": "/x", "w": true})).1, "`roots` has no element `args.root`");
    assert_eq!(
        note("allow if args.xs[args.n] == 1\n", json!({"xs": [1], "n": 3})).1,
        "`args.xs` has no element `args.n`"
    );
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
    let source = Source { id: "set".into(), revision: None, files: vec![file], entrypoint: None };
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

/// Ways by which a rule may give back a password; the truth of its conditions is shown all the same.
#[test]
fn what_redaction_took_is_not_shown_by_any_way() {
    let (secret, left) = ("Zebra-77", "[what nobody chooses]");
    let arguments =
        |password: &str| json!({"password": password, "user": "alice", "list": ["a", secret, "b"]});
    let (call, redacted) = (call(&arguments(secret)), call(&arguments(left)));
    for (rules, untold) in [
        ("allow if {\n\tsome known in args.list\n\tknown == args.password\n\tfalse\n}\n", "known"),
        ("allow if {\n\tn := count(args.password)\n\tn > 100\n}\n", "n"),
        ("allow if {\n\tx := {\"k\": args.password, \"u\": args.user}\n\tx.u == \"root\"\n}\n", "x"),
        ("allow if {\n\tsome i\n\targs.list[i] == args.password\n\ti > 5\n}\n", "i"),
        ("f(p) if {\n\tq := upper(p)\n\tstartswith(q, \"Y\")\n}\n\nallow if f(args.password)\n", "q"),
        ("allow if {\n\tevery part in split(args.password, \"-\") { part == \"x\" }\n}\n", "part"),
        (
            "g if input.context.arguments.user == \"root\"\n\nallow if g with input.context.arguments.user as input.context.arguments.password\n",
            "input.context.arguments.user",
        ),
        ("limit := 1\n\ng if limit == \"root\"\n\nallow if g with data.p.limit as args.password\n", "limit"),
        (
            "allow if {\n\tp := args.password\n\tevery part in args.list { part == p } with input.context.arguments.user as p\n}\n",
            "p",
        ),
        (
            "sizes[word] := n if {\n\tsome word in args.list\n\tn := count(word)\n}\n\nallow if {\n\tsize := sizes[args.password]\n\tsize > 100\n}\n",
            "size",
        ),
        ("allow if {\n\targs.user == \"root\"\n\tto_number(args.password) > 3\n}\n", "args.password"),
        ("allow if {\n\tall := {w | some w in args.list; w != args.password}\n\tcount(all) > 5\n}\n", "all"),
    ] {
        let set = set(&[("p.rego", &format!("package p\n\nargs := input.context.arguments\n\n{rules}"))]);
        for left in [Some(&redacted), None] {
            let redaction = Redaction { call: left, mark: "<mark>" };
            let found = set.trace_redacted(&call, &moment(), &redaction);
            assert_eq!(found.decision.effect, Effect::Deny, "{rules}");
            let shown = json!([found.why, found.why_not, found.trace]);
            let (mut values, mut pending) = (Vec::new(), vec![&shown]);
            while let Some(value) = pending.pop() {
                match value {
                    Json::Object(fields) => {
                        values.extend(fields.get("values").and_then(|values| values.get(untold)));
                        pending.extend(fields.values());
                    }
                    Json::Array(items) => pending.extend(items),
                    _ => {}
                }
            }
            assert!(!values.is_empty() && values.iter().all(|value| **value == "<mark>"), "{rules}{shown:#}");
            // The list is in the redacted call too: it may be shown, but not which of it was the password.
            let text = shown.to_string();
            let is_public = left.is_some() && rules.contains("args.list");
            assert!(is_public || !text.to_lowercase().contains("zebra"), "{rules}{shown:#}");
            let is_told = left.is_none() || !rules.contains("args.user ==") || text.contains("\"alice\"");
            assert!(is_told && found.why_not[0].condition.holds == Some(false), "{rules}{shown:#}");
        }
    }
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
        let fired: std::collections::BTreeSet<&str> =
            found.why.iter().map(|rule| rule.rule.as_str()).collect();
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
    let mut seen = std::collections::BTreeSet::new();
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
    let source = Source::read(std::path::Path::new("policies")).unwrap();
    let policies = PolicySet::compile(source, Limits::default()).unwrap();
    let [whole, redacted] =
        ["swordfish", "[redacted]"].map(|p| call(&json!({"path": "/etc/x", "password": p})));
    let redaction = Redaction { call: Some(&redacted), mark: "[redacted]" };
    let mut times = [(); 50].map(|()| {
        let started = std::time::Instant::now();
        std::hint::black_box(policies.trace_redacted(&whole, &moment(), &redaction));
        started.elapsed()
    });
    times.sort();
    eprintln!("every rule of the starter set, redacted: p50 {:?}, max {:?}", times[25], times[49]);
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
