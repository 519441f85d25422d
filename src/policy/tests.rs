//! Policies through the front door: sources in, decisions out.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use ulid::Ulid;

use super::*;
use crate::call::{Call, Moment};
use crate::decision::{Decision, Effect, EvaluationStatus};

fn source(files: &[(&str, &str)]) -> Source {
    let file =
        |(path, text): &(&str, &str)| SourceFile { path: (*path).into(), bytes: text.as_bytes().to_vec() };
    Source { id: "set".into(), revision: None, files: files.iter().map(file).collect(), entrypoint: None }
}

fn set(files: &[(&str, &str)]) -> PolicySet {
    PolicySet::compile(source(files), Limits::default()).unwrap_or_else(|findings| panic!("{findings:#?}"))
}

/// The findings of one file `p.rego` of package `p`.
fn refused(text: &str) -> Vec<Finding> {
    PolicySet::compile(source(&[("p.rego", &format!("package p\n{text}"))]), Limits::default())
        .map(|_| ())
        .expect_err(&text.chars().take(200).collect::<String>())
}

fn call(arguments: &Json) -> Call {
    serde_json::from_value(json!({
        "subject": {"type": "identity", "id": "bot"}, "action": {"name": "tools/call"},
        "resource": {"type": "tool", "id": "rm", "properties": {"server": "fs"}},
        "context": {"arguments": arguments},
    }))
    .unwrap()
}

fn moment() -> Moment {
    Moment { call_id: Ulid::from(7u128), time_ns: 1_000 }
}

#[expect(clippy::needless_pass_by_value, reason = "`json!` at the call is shorter than `&json!`")]
fn decide(set: &PolicySet, arguments: Json) -> Decision {
    set.decide(&call(&arguments), &moment())
}

fn short(decision: &Decision) -> (&'static str, Vec<&str>, Vec<&str>) {
    let ids = decision.determining.iter().map(|policy| &*policy.policy_id).collect();
    (decision.effect.as_str(), ids, decision.diagnostics.iter().filter_map(|d| d.rule.as_deref()).collect())
}

/// A stricter docket still explains what a laxer one decided.
#[test]
fn a_stored_set_may_have_mistakes_that_are_refused_now() {
    let good = set(&[("p.rego", "package p\ndeny contains \"m\" if input.resource.id == \"rm\"\n")]);
    let bad = "package p\ndeny contains msg if input.resource.id == \"rm\"\n";
    assert_eq!(refused("deny contains msg if input.resource.id == \"rm\"")[0].code, "unbound_variable");
    let manifest = String::from_utf8(good.manifest().to_vec()).unwrap();
    let (_, digest, _) = good.files().next().unwrap();
    let now = crate::digest::sha256(bad.as_bytes());
    let manifest = manifest.replace(&digest["sha256:".len()..], &now["sha256:".len()..]);
    let stored =
        PolicySet::from_stored(manifest.as_bytes(), |_| Some(bad.as_bytes().to_vec()), Limits::default());
    assert!(stored.is_ok());
}

#[test]
fn effects_combine_as_documented() {
    let text = |package: &str| {
        format!(
            "package {package}\n\
             allow contains {{\"rule\": \"{package}-allow\"}} if \"{package}-allow\" in input.context.arguments.say\n\
             deny contains {{\"rule\": \"{package}-deny\"}} if \"{package}-deny\" in input.context.arguments.say\n\
             require_approval contains {{\"rule\": \"{package}-ask\"}} if \"{package}-ask\" in input.context.arguments.say\n"
        )
    };
    let set = set(&[("a.rego", &text("a")), ("b.rego", &text("b"))]);
    for (say, effect, determining, rules) in [
        (vec![], "deny", vec![], vec!["default_deny"]),
        (vec!["a-allow"], "allow", vec!["a"], vec!["a-allow"]),
        (vec!["b-allow", "a-allow"], "allow", vec!["a", "b"], vec!["a-allow", "b-allow"]),
        (vec!["a-allow", "b-ask"], "require_approval", vec!["b"], vec!["b-ask"]),
        (vec!["b-ask", "a-ask"], "require_approval", vec!["a", "b"], vec!["a-ask", "b-ask"]),
        (vec!["a-allow", "b-ask", "b-deny"], "deny", vec!["b"], vec!["b-deny"]),
        (vec!["a-deny", "b-deny", "a-allow"], "deny", vec!["a", "b"], vec!["a-deny", "b-deny"]),
    ] {
        let decision = decide(&set, json!({"say": say}));
        assert_eq!(short(&decision), (effect, determining, rules), "{say:?}");
        assert_eq!(decision.status, EvaluationStatus::Complete);
    }
    let denied = decide(&set, json!({"say": []}));
    assert_eq!(denied.reason(), "no policy allows `tools/call` of tool `rm`");
    assert_eq!(denied.policy_set, *set.reference());
}

/// Policies that share a library are asked together; what they say is the same.
#[test]
fn policies_in_a_group_say_what_they_say_alone() {
    use std::fmt::Write as _;
    let mut lib = "package lib\nname := input.context.arguments.do\n".to_owned();
    for n in 0..20 {
        writeln!(lib, "helper_{n} if name == \"{n}\"").unwrap();
    }
    let one = |package: &str| {
        format!(
            "package {package}\nimport data.lib\n\
             deny contains \"{package}\" if lib.name == \"deny {package}\"\n\
             deny contains x if {{ lib.name == \"break deny {package}\"; x := to_number(lib.name) }}\n\
             require_approval if lib.name in {{\"ask {package}\", \"ask all\"}}\n\
             require_approval := \"odd\" if lib.name == \"odd {package}\"\n\
             allow if lib.name in {{\"allow {package}\", \"ask all\"}}\n\
             allow if {{ lib.name in {{\"deny a\", \"break allow {package}\", \"ask a\"}}; to_number(lib.name) }}\n"
        )
    };
    let set = set(&[("lib.rego", &lib), ("a.rego", &one("a")), ("b.rego", &one("b"))]);
    assert_eq!(set.groups.len(), 1);
    for (what, effect, determining, status) in [
        ("deny a", "deny", vec!["a"], EvaluationStatus::Complete),
        ("deny b", "deny", vec!["b"], EvaluationStatus::Complete),
        ("break deny b", "deny", vec![], EvaluationStatus::Error),
        ("ask a", "require_approval", vec!["a"], EvaluationStatus::Complete),
        ("ask all", "require_approval", vec!["a", "b"], EvaluationStatus::Complete),
        ("odd b", "deny", vec![], EvaluationStatus::Error),
        ("allow b", "allow", vec!["b"], EvaluationStatus::Complete),
        ("break allow a", "deny", vec![], EvaluationStatus::Error),
        ("nothing", "deny", vec![], EvaluationStatus::Complete),
    ] {
        let decision = decide(&set, json!({"do": what}));
        assert_eq!((decision.effect.as_str(), decision.status), (effect, status), "{what}");
        assert_eq!(short(&decision).1, determining, "{what}");
        if status == EvaluationStatus::Error {
            let id = what.rsplit(' ').next();
            assert_eq!(decision.diagnostics[0].policy_id.as_deref(), id, "{what}");
        }
    }
}

#[test]
fn values_of_effects_mean_what_is_pinned() {
    use EvaluationStatus::{Complete, Error};
    for (rule, effect, status) in [
        ("allow := true", Effect::Allow, Complete),
        ("allow := false", Effect::Deny, Complete),
        ("allow if input.nothing", Effect::Deny, Complete),
        ("default allow := true", Effect::Allow, Complete),
        ("allow contains 1 if false", Effect::Deny, Complete),
        ("allow contains 1", Effect::Allow, Complete),
        ("allow := \"yes\"", Effect::Deny, Error),
        ("allow := {\"a\": 1}", Effect::Deny, Error),
        ("allow := []", Effect::Deny, Error),
        ("allow := null", Effect::Deny, Error),
        ("allow := 1", Effect::Deny, Error),
        ("allow := true\ndeny := false", Effect::Allow, Complete),
        ("allow := true\ndeny := set()", Effect::Allow, Complete),
        ("allow := true\ndeny if input.nothing", Effect::Allow, Complete),
        ("allow := true\ndeny := true", Effect::Deny, Complete),
        ("allow := true\ndeny := 0", Effect::Deny, Error),
        ("allow := true\ndeny := {}", Effect::Deny, Error),
        ("allow := true\nrequire_approval := true", Effect::RequireApproval, Complete),
        ("allow := true\nrequire_approval := \"x\"", Effect::Deny, Error),
        ("allow := true\nrequire_approval := false", Effect::Allow, Complete),
    ] {
        let decision = decide(&set(&[("p.rego", &format!("package p\n{rule}\n"))]), json!({}));
        assert_eq!((decision.effect, decision.status), (effect, status), "{rule}");
        assert!(!decision.diagnostics.is_empty(), "{rule}");
        assert_eq!(
            decision.determining.is_empty(),
            decision.reason().contains("no policy") || status == Error,
            "{rule}"
        );
    }
}

#[test]
fn elements_become_diagnostics() {
    let set = set(&[(
        "p.rego",
        "package p\ndeny contains \"plain\"\ndeny contains {\"rule\": \"r\", \"message\": \"m\", \"data\": {\"k\": {2, 1}}}\n\
         deny contains {\"msg\": \"conftest\", \"severity\": 3}\ndeny contains 5\ndeny contains {\"rule\": 1}\n",
    )]);
    let decision = decide(&set, json!({}));
    let told: Vec<Json> = decision.diagnostics.iter().map(|d| json!([d.rule, d.message, d.data])).collect();
    assert_eq!(
        told,
        [
            json!([null, null, 5]),
            json!([null, "plain", null]),
            json!(["r", "m", {"k": [1, 2]}]),
            json!([null, "conftest", {"severity": 3}]),
            json!([null, null, {"rule": 1}]),
        ]
    );
    assert!(
        decision.diagnostics.iter().all(|d| d.policy_id.as_deref() == Some("p") && d.effect == Effect::Deny)
    );
}

#[test]
fn a_bare_deny_is_named_by_its_metadata() {
    let policy = "# METADATA\n# title: Policy\npackage p\n";
    for (rules, expected) in [
        ("deny if true", Some("Policy")),
        ("# METADATA\n# title: Rule\ndeny if true", Some("Rule")),
        ("# METADATA\n# title: Rule\ndeny if true\ndeny if 1 == 1", Some("Policy")),
    ] {
        let decision = decide(&set(&[("p.rego", &format!("{policy}{rules}"))]), json!({}));
        assert_eq!(decision.diagnostics[0].rule.as_deref(), expected, "{rules}");
        assert_eq!(decision.determining[0].title.as_deref(), Some("Policy"));
    }
    let bare = decide(&set(&[("p.rego", "package p\ndeny if true")]), json!({}));
    assert_eq!((bare.diagnostics[0].rule.clone(), bare.diagnostics[0].message.clone()), (None, None));
}

#[test]
fn failures_deny_and_say_where() {
    let allow = ("z.rego", "package z\nallow := true\n");
    for (rules, says) in [
        ("deny if to_number(\"x\") == 1", "could not parse"),
        ("deny if startswith(input.context.arguments.n, \"a\")", "startswith"),
        ("deny if f(1)\nf(x) if numbers.range(x, 1000000000)", "numbers.range"),
        ("deny if not to_number(\"x\")", "could not parse"),
        ("deny := x if { some x in [1, 2] }", "p.rego"),
        ("deny if regex.match(\"[\", \"x\")", "invalid regex"),
        ("deny if 1 / 0 == 1", "divide by zero"),
        ("deny if regex.template_match(\"é{.*}\", \"x\", \"{\", \"}\")", "panicked"),
    ] {
        let decision = decide(&set(&[("p.rego", &format!("package p\n{rules}\n")), allow]), json!({"n": 1}));
        assert_eq!((decision.effect, decision.status), (Effect::Deny, EvaluationStatus::Error), "{rules}");
        let said = &decision.diagnostics[0];
        assert_eq!(
            (said.rule.as_deref(), said.policy_id.as_deref()),
            (Some("policy_error"), Some("p")),
            "{rules}"
        );
        let data = said.data.as_ref().unwrap();
        assert!(
            data["file"] == "p.rego"
                && data["line"].as_u64() >= Some(2)
                && data["column"].as_u64() >= Some(1)
        );
        let all = format!("{} {data}", said.message.as_deref().unwrap());
        assert!(all.contains(says), "{rules}: {all}");
        assert_eq!(decision.class(), "policy_error");
    }
}

#[test]
fn a_deny_beside_a_failure_is_told_with_it() {
    let fires = ("b.rego", "package b\ndeny contains {\"rule\": \"fired\"}\nallow := true\n");
    let fails = ("a.rego", "package a\ndeny if to_number(\"x\") == 1\n");
    let decision = decide(&set(&[fires, fails]), json!({}));
    assert_eq!(short(&decision), ("deny", vec!["b"], vec!["policy_error", "fired"]));
    assert_eq!(decision.status, EvaluationStatus::Error);
    // An approval or allow beside a failure did not win, so it is not told.
    let asks = ("b.rego", "package b\nrequire_approval := true\n");
    let fails = ("a.rego", "package a\nrequire_approval if to_number(\"x\") == 1\n");
    assert_eq!(short(&decide(&set(&[asks, fails]), json!({}))), ("deny", vec![], vec!["policy_error"]));
    // What is settled is not asked further: the failing allow never runs.
    let fails = ("a.rego", "package a\nallow if to_number(\"x\") == 1\n");
    assert_eq!(decide(&set(&[asks, fails]), json!({})).effect, Effect::RequireApproval);
}

#[test]
fn endless_work_times_out() {
    let loops =
        "xs := numbers.range(1, 300)\ndeny if { some a in xs; some b in xs; some c in xs; a + b + c == 0 }\n";
    let inside = "xs := numbers.range(1, 300)\nf(n) if { some a in xs; some b in xs; some c in xs; a + b + c == n }\ndeny if f(0)\n";
    for rules in [loops, inside] {
        let text = format!("package p\n{rules}");
        let limits = Limits { timeout: Duration::from_millis(60) };
        let set =
            PolicySet::compile(source(&[("p.rego", &text), ("q.rego", "package q\ndeny := true")]), limits)
                .unwrap();
        let started = Instant::now();
        let decision = decide(&set, json!({}));
        assert!(started.elapsed() < Duration::from_mins(1), "{:?}", started.elapsed());
        assert_eq!((decision.effect, decision.status), (Effect::Deny, EvaluationStatus::Timeout));
        assert_eq!(decision.diagnostics[0].rule.as_deref(), Some("timeout"));
        assert!(decision.reason().contains("60 ms"));
        assert_eq!(decision.class(), "policy_error");
    }
}

#[test]
fn hostile_policies_are_refused_at_load() {
    let chain = |n: usize| {
        let links: String = (1..n).fold(String::new(), |all, i| format!("{all}r{i} if r{}\n", i - 1));
        format!("r0 := true\n{links}allow if r{}", n - 1)
    };
    let calls = |n: usize| {
        let links: String = (1..n).fold(String::new(), |all, i| format!("{all}f{i}(x) := f{}(x)\n", i - 1));
        format!("f0(x) := x\n{links}allow if f{}(true)", n - 1)
    };
    let wide: String = (0..12).map(|i| format!("f{i}(x) := f{}(x)\n", i + 1).repeat(10)).collect();
    for (text, code, says) in [
        ("allow if f(1)\nf(x) := f(x + 1)".to_owned(), "recursion", "data.p.f"),
        ("allow if allow".to_owned(), "recursion", "data.p.allow"),
        ("allow if a\na if b\nb if a".to_owned(), "recursion", "p.rego:3"),
        ("allow if f(1)\nf(x) if g(x)\ng(x) if f(x)".to_owned(), "recursion", "data.p.g"),
        ("allow if f(1)\nf(x) if r\nr if f(2)".to_owned(), "recursion", "data.p.r"),
        ("allow if g(1) with f as g\ng(x) := f(x)\nf(x) := x".to_owned(), "recursion", "data.p.f"),
        ("allow if data.p".to_owned(), "recursion", "data.p.allow"),
        ("allow if data[input.x]".to_owned(), "recursion", "data.p.allow"),
        ("import data.p as me\nallow if me.f(1)\nf(x) := me.f(x)".to_owned(), "recursion", "data.p.f"),
        ("allow if [x | x := allow] == [1]".to_owned(), "recursion", "data.p.allow"),
        (chain(10_000), "too_deep", "chain"),
        (calls(150), "too_deep", "chain"),
        (format!("{wide}f12(x) := x\nallow if f0(1)"), "too_deep", "combinations"),
        (format!("allow if {{\n{}\n}}", "some _ in input.x\n".repeat(2_000)), "too_deep", "nests"),
        (format!("allow := {}", "[".repeat(60_000)), "too_deep", "nested"),
        (format!("allow := 1{}", format!("\n{}", "+1".repeat(500)).repeat(1_000)), "too_deep", "operations"),
        (format!("allow := \"{}\"", "x".repeat(1_000_000)), "syntax", ""),
        ("allow if startwith(input.x, \"a\")".to_owned(), "unknown_function", "`startswith`"),
        ("allow if is_admn(1)\nis_admin(x) := x".to_owned(), "unknown_function", "`is_admin`"),
        ("allow if data.lib.f(1)".to_owned(), "unknown_function", "data.lib.f"),
        ("allow if count(1, 2, 3)".to_owned(), "wrong_arity", "1 argument,"),
        ("allow if x := count([1], 2)".to_owned(), "wrong_arity", "not 2"),
        ("allow if f(1)\nf(x, y) := x + y".to_owned(), "wrong_arity", "2 arguments"),
        ("r := 1\nallow if r(1)".to_owned(), "unknown_function", "not a function"),
        ("allow if http.send({})".to_owned(), "refused_function", "network"),
        ("allow if opa.runtime()".to_owned(), "refused_function", "replayed"),
        ("allow(x) := x".to_owned(), "effect_shape", "not a function"),
        ("deny.x := 1".to_owned(), "effect_shape", "object"),
        ("deny[x] := 1 if some x in [1]".to_owned(), "effect_shape", "object"),
        ("allow if x > 1".to_owned(), "compile", "x"),
        ("allow if {".to_owned(), "syntax", ""),
        ("x := 1".to_owned(), "no_policy", "no package defines"),
    ] {
        let findings = refused(&text);
        let shown: String = text.chars().take(100).collect();
        assert_eq!(findings[0].code, code, "{shown}\n{findings:?}");
        assert!(findings.iter().any(|f| f.message.contains(says)), "{shown}\n{findings:?}");
        assert!(code == "no_policy" || findings[0].line > 0 || text.len() > 500_000, "{findings:?}");
    }
    let legal = "import data.p.helpers\nf(x) := y if { y := x }\nallow if { count([1], n); n == 1; f(f(1)) == 1; print(\"x\", n); y := 1; y in {1}; every a in [1] { a == f(a) } }\nlocal := 1\nother if { local := 2; local == 2 }";
    assert_eq!(decide(&set(&[("p.rego", &format!("package p\n{legal}"))]), json!({})).effect, Effect::Allow);
}

#[test]
fn a_name_means_one_kind_of_thing() {
    for text in [
        "allow if input.x\nallow contains \"y\" if input.y",
        "allow contains 1\ndefault allow := false",
        "x if input.x\nx[k] := 1 if some k in [1]\nallow if x",
        "x contains 1\nx[k] := 1 if some k in [1]\nallow if x",
        "x := 1\nx(y) := y\nallow if x",
        "x(y) := y\nx(y, z) := z\nallow if x(1)",
        "default x := 1\ndefault x := 2\nallow if x",
    ] {
        let findings = refused(text);
        assert_eq!((findings[0].code, findings[0].line), ("conflict", 3), "{text}: {findings:?}");
    }
    assert!(refused("allow if true\nallow contains 1")[0].message.contains("is a set (`… contains …`) here"));
    let legal = "x.a := 1\nx.b contains 1\nx.c[k] := 1 if some k in [1]\nf(1) := 1\nf(x) := 2 if x > 1\ndefault f(_) := 0\n\
                 default allow := false\nallow if count(x) == 3\nallow if f(2) == 2";
    assert_eq!(decide(&set(&[("p.rego", &format!("package p\n{legal}"))]), json!({})).effect, Effect::Allow);
}

#[test]
fn every_error_is_found() {
    let findings = PolicySet::compile(
        source(&[
            ("a.rego", "package a\nallow if nope(1)\ndeny if count(1, 2, 3)\n"),
            ("b.rego", "package b\nallow if b\nb if allow\n"),
        ]),
        Limits::default(),
    )
    .map(|_| ())
    .unwrap_err();
    let found: Vec<(&str, u32, &str)> = findings.iter().map(|f| (f.file.as_str(), f.line, f.code)).collect();
    assert_eq!(
        found,
        [("a.rego", 2, "unknown_function"), ("a.rego", 3, "wrong_arity"), ("b.rego", 2, "recursion")]
    );
    assert!(
        findings[0].to_string().starts_with("a.rego:2:10: error: there is no function `nope`"),
        "{}",
        findings[0]
    );
    let syntax =
        PolicySet::compile(source(&[("a.rego", "package a\nx :="), ("b.rego", "pack b")]), Limits::default());
    assert_eq!(syntax.map(|_| ()).unwrap_err().len(), 2);
}

/// The deepest thing the load checks let through must fit the stack of a worker thread with room to spare.
#[test]
fn the_deepest_chain_fits_a_worker_thread() {
    let nest = |depth: usize, inner: &str| format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth));
    let spread = |f: &dyn Fn(usize) -> String, last: &str| {
        let text = |n: usize| {
            let links: String = (1..n).map(|i| f(i) + "\n").collect();
            format!("package p\n{links}{last}\nallow if f{}(1) == 7\n", n - 1)
        };
        let fits = |n: usize| PolicySet::compile(source(&[("p.rego", &text(n))]), Limits::default()).ok();
        // The longest chain of this form that still compiles.
        let (mut low, mut high) = (2, 130);
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if fits(middle).is_some() { low = middle } else { high = middle }
        }
        fits(low).unwrap()
    };
    let sets = [
        spread(&|i| format!("f{i}(x) := f{}(x)", i - 1), "f0(x) := x"),
        spread(&|i| format!("f{i}(x) := {}", nest(6, &format!("f{}(x)", i - 1))), "f0(x) := x"),
        spread(
            &|i| format!("f{i}(x) := [y | some a in [x]; some b in [a]; some c in [b]; y := f{}(c)]", i - 1),
            "f0(x) := x",
        ),
        spread(
            &|i| {
                format!(
                    "f{i}(x) if {{ every a in [x] {{ every b in [a] {{ not not_{i}(b) }} }} }}\nnot_{i}(x) if {{ some a in {{x | x := x}}; {{a: f{}(a) | a in [1]}} }}",
                    i - 1
                )
            },
            "f0(x) := x",
        ),
        spread(
            &|i| format!("f{i}(x) if f{}(x) with input as {{\"a\": x}} with data.z as 1", i - 1),
            "f0(x) := x",
        ),
    ];
    std::thread::scope(|scope| {
        let deciding = std::thread::Builder::new().stack_size(1024 * 1024);
        deciding
            .spawn_scoped(scope, || {
                for set in &sets {
                    let _ = decide(set, json!({}));
                }
            })
            .unwrap();
    });
}

#[test]
fn closures_hold_what_references_need() {
    let set = set(&[
        ("lib/net.rego", "package lib.net\nimport data.base\ninternal(h) if base.suffix(h)"),
        ("lib/base.rego", "package base\nsuffix(h) if endswith(h, data.config.suffix)"),
        ("lib/unused.rego", "package lib.unused\nx := 1"),
        ("config/data.json", "{\"suffix\": \".internal\"}"),
        ("other/data.json", "{\"x\": 1}"),
        (
            "a.rego",
            "package a\nimport data.lib.net as n\nimport data.lib.unused\nallow if n.internal(input.context.arguments.h)",
        ),
        ("b.rego", "package b\ndeny if data.lib[input.context.arguments.p].x == 1"),
        ("c.rego", "package c\nallow if count(data.lib.net) >= 0\nallow if input.context.arguments.c"),
        ("d1.rego", "package d\ndeny if helper"),
        ("d2.rego", "package d\nhelper if input.context.arguments.d"),
        ("ignored.json", "{}"),
        ("a_test.rego", "package a_test\ntest_x if data.a.allow"),
    ]);
    let files = |id: &str| set.policies().iter().find(|policy| &*policy.id == id).unwrap().files.clone();
    assert_eq!(files("a"), ["a.rego", "config/data.json", "lib/base.rego", "lib/net.rego"]);
    assert_eq!(
        files("b"),
        ["b.rego", "config/data.json", "lib/base.rego", "lib/net.rego", "lib/unused.rego"]
    );
    assert_eq!(files("c"), ["c.rego", "config/data.json", "lib/base.rego", "lib/net.rego"]);
    assert_eq!(files("d"), ["d1.rego", "d2.rego"]);
    assert_eq!(decide(&set, json!({"h": "x.internal"})).effect, Effect::Allow);
    assert_eq!(decide(&set, json!({"h": "x.example"})).effect, Effect::Allow, "c counts a package");
    assert_eq!(short(&decide(&set, json!({"p": "unused"}))).1, ["b"]);
    assert_eq!(short(&decide(&set, json!({"d": true}))).1, ["d"]);
    assert!(set.warnings().iter().any(|warning| warning.file == "ignored.json"));
    assert!(set.files().all(|(path, ..)| path != "a_test.rego" && path != "ignored.json"));
}

#[test]
fn versions_change_with_their_closure_only() {
    let files = |lib: &str, config: &str, other: &str| {
        let set = set(&[
            ("a.rego", "package a\nallow if data.lib.ok == data.config.k"),
            ("b.rego", "package b\nallow if data.config.k == 2"),
            ("lib.rego", lib),
            ("config/data.json", config),
            ("other.rego", other),
        ]);
        let versions: Vec<String> = set.policies().iter().map(|policy| policy.version.to_string()).collect();
        (versions, set.reference().manifest_sha.clone())
    };
    let lib = "package lib\nok := 1";
    let (first, sha) = files(lib, "{\"k\": 1}", "package other");
    assert!(first.iter().chain([&sha]).all(|digest| digest.len() == 71 && digest.starts_with("sha256:")));
    let (again, again_sha) = files(lib, "{\"k\": 1}", "package other");
    assert_eq!((&first, &sha), (&again, &again_sha));
    let (changed, changed_sha) = files("package lib\nok := 2", "{\"k\": 1}", "package other");
    assert!(first[0] != changed[0] && first[1] == changed[1] && sha != changed_sha);
    let (changed, _) = files(lib, "{\"k\": 2}", "package other");
    assert!(first[0] != changed[0] && first[1] != changed[1]);
    let (changed, changed_sha) = files(lib, "{\"k\": 1}", "package other\nx := 1");
    assert!(first == changed && sha != changed_sha);
}

#[test]
fn ids_and_targets_come_from_metadata() {
    let set = set(&[
        (
            "a.rego",
            "# METADATA\n# title: A\n# description: About A\n# custom:\n#   id: pol_a\n#   targets:\n#     tools: [\"rm*\"]\n#     servers: [\"f?\"]\npackage x.a\ndeny := true",
        ),
        (
            "b.rego",
            "# METADATA\n# custom:\n#   targets: {actions: [\"resources/*\"]}\npackage x[\"b-c\"]\ndeny := true",
        ),
    ]);
    let [a, b] = set.policies() else { panic!() };
    assert_eq!((&*a.id, a.title.as_deref(), a.description.as_deref()), ("pol_a", Some("A"), Some("About A")));
    assert_eq!((&*b.id, a.effects.as_slice()), ("x[\"b-c\"]", [Effect::Deny].as_slice()));
    assert_eq!(short(&decide(&set, json!({}))).1, ["pol_a"]);
    let mut other = call(&json!({}));
    other.action.name = "resources/read".into();
    other.resource.kind = "resource".into();
    assert_eq!(short(&set.decide(&other, &moment())).1, ["x[\"b-c\"]"]);
    for (text, says) in [
        ("# METADATA\n# custom: {targets: {tool: [x]}}\npackage a\ndeny := true", "has no `tool`"),
        ("# METADATA\n# custom: {id: pol}\npackage a\ndeny := true", "same id `pol`"),
    ] {
        let other = "# METADATA\n# custom: {id: pol}\npackage b\ndeny := true";
        let findings = PolicySet::compile(source(&[("a.rego", text), ("b.rego", other)]), Limits::default());
        let findings = findings.map(|_| ()).unwrap_err();
        assert!(findings[0].message.contains(says), "{findings:?}");
    }
}

#[test]
fn data_conflicts_with_rules_are_refused() {
    for (path, text) in
        [("p/data.json", "{\"allow\": 1}"), ("data.json", "{\"p\": 5}"), ("p/allow/data.yaml", "x: 1")]
    {
        let findings = PolicySet::compile(
            source(&[("p.rego", "package p\nallow := true"), (path, text)]),
            Limits::default(),
        );
        assert_eq!(findings.map(|_| ()).unwrap_err()[0].code, "data_conflict", "{path}");
    }
    let nested = [("p.rego", "package p\nq := 1\nallow := true"), ("q.rego", "package p.q\nx := 1")];
    assert_eq!(
        PolicySet::compile(source(&nested), Limits::default()).map(|_| ()).unwrap_err()[0].code,
        "conflict"
    );
}

#[test]
fn a_set_is_rebuilt_from_what_is_stored() {
    let text =
        "package p\ndeny contains sprintf(\"%v %v\", [rand.intn(\"x\", 1000), time.now_ns()]) if data.on";
    let set = set(&[("p.rego", text), ("data.json", "{\"on\": true}")]);
    let bytes = set.manifest().to_vec();
    let canonical =
        serde_json_canonicalizer::to_vec(&serde_json::from_slice::<Json>(&bytes).unwrap()).unwrap();
    assert_eq!(bytes, canonical);
    let stored: std::collections::BTreeMap<String, Vec<u8>> =
        set.files().map(|(_, digest, bytes)| (digest.to_owned(), bytes.to_vec())).collect();
    let again =
        PolicySet::from_stored(&bytes, |digest| stored.get(digest).cloned(), Limits::default()).unwrap();
    assert_eq!(again.reference(), set.reference());
    let (one, two) = (decide(&set, json!({})), decide(&again, json!({})));
    assert_eq!((&one.diagnostics, &one.determining), (&two.diagnostics, &two.determining));
    assert!(one.diagnostics[0].message.as_deref().unwrap().ends_with(" 1000"));
    let missing = PolicySet::from_stored(&bytes, |_| None, Limits::default()).map(|_| ());
    assert!(matches!(missing, Err(StoredError::Missing { .. })));
    let forged =
        PolicySet::from_stored(&bytes, |_| Some(b"package p".to_vec()), Limits::default()).map(|_| ());
    assert!(matches!(forged, Err(StoredError::Digest { .. })));
    let garbled = PolicySet::from_stored(b"{}", |_| None, Limits::default()).map(|_| ());
    assert!(matches!(garbled, Err(StoredError::Manifest(_))));
}

#[test]
fn a_set_no_client_can_use_warns() {
    let codes = |text: &str| {
        set(&[("p.rego", text)]).warnings().iter().map(|warning| warning.message.clone()).collect::<Vec<_>>()
    };
    let warned = codes("package p\nallow if input.action.name == \"tools/call\"");
    assert!(
        warned.len() == 2 && warned[0].contains("`initialize`") && warned[1].contains("`tools/list`"),
        "{warned:?}"
    );
    assert!(codes("package p\nallow if input.action.name in {\"initialize\", \"tools/list\"}").is_empty());
}

#[test]
fn sets_are_shared_by_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let set = set(&[("p.rego", "package p\nallow if regex.match(\"^a+$\", input.context.arguments.x)")]);
    shared(&set);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert_eq!(decide(&set, json!({"x": "aa"})).effect, Effect::Allow);
                }
            });
        }
    });
}

/// The calls of the side-by-side benchmark, or `None` where its folder is absent.
pub(super) fn bench() -> Option<(PolicySet, Vec<Call>)> {
    let load = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/peers/load");
    if !load.join("gen.py").exists() {
        eprintln!("skipped: {} is absent", load.display());
        return None;
    }
    let out = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("python3").arg(load.join("gen.py")).arg(out.path()).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("skipped: python3 cannot run {}", load.join("gen.py").display());
        return None;
    }
    let set = PolicySet::compile(Source::read(&load.join("policies")).unwrap(), Limits::default()).ok()?;
    let lines = std::fs::read_to_string(out.path().join("authzen.jsonl")).unwrap();
    Some((set, lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()))
}

#[test]
fn the_benchmark_calls_are_decided_as_by_opa() {
    let Some((set, calls)) = bench() else { return };
    let decisions: Vec<Decision> = calls.iter().map(|call| set.decide(call, &moment())).collect();
    assert!(decisions.iter().all(|decision| decision.status == EvaluationStatus::Complete));
    assert_eq!((calls.len(), decisions.iter().filter(|d| d.effect == Effect::Allow).count()), (256, 102));
}

/// `cargo test --profile ci -- --ignored time_per_decision --nocapture`
#[test]
#[ignore = "a measurement, not a check"]
fn time_per_decision() {
    let Some((set, calls)) = bench() else { return };
    for _ in 0..5 {
        let started = Instant::now();
        for call in calls.iter().cycle().take(256 * 40) {
            std::hint::black_box(set.decide(call, &moment()));
        }
        eprintln!("{:.1} us per decision", started.elapsed().as_secs_f64() * 1e6 / f64::from(256 * 40));
    }
}

#[test]
fn an_entry_point_decides_as_documented() {
    let decided = |rule: &str| {
        let text = format!("# METADATA\n# custom:\n#   id: main\npackage a.b\n{rule}\n");
        let file = SourceFile { path: "a.rego".into(), bytes: text.into_bytes() };
        let source = Source {
            id: "set".into(),
            revision: None,
            files: vec![file],
            entrypoint: Some("data.a.b.decision".into()),
        };
        let set = PolicySet::compile(source, Limits::default()).unwrap();
        let stored: std::collections::BTreeMap<String, Vec<u8>> =
            set.files().map(|(_, digest, bytes)| (digest.to_owned(), bytes.to_vec())).collect();
        let again =
            PolicySet::from_stored(set.manifest(), |digest| stored.get(digest).cloned(), Limits::default());
        assert_eq!(again.unwrap().reference(), set.reference());
        set.decide(&call(&json!({})), &moment())
    };
    for (rule, effect, status, message) in [
        ("decision := true", Effect::Allow, "complete", ""),
        ("decision := false", Effect::Deny, "complete", "no policy allows"),
        ("decision if input.nothing", Effect::Deny, "complete", "no policy allows"),
        ("decision := {\"allow\": true}", Effect::Allow, "complete", ""),
        ("decision := {\"allow\": false, \"reason\": \"because\"}", Effect::Deny, "complete", "because"),
        ("decision := {\"decision\": \"require_approval\"}", Effect::RequireApproval, "complete", ""),
        (
            "decision := {\"decision\": \"deny\", \"diagnostics\": [{\"rule\": \"r\", \"message\": \"m\"}]}",
            Effect::Deny,
            "complete",
            "m",
        ),
        ("decision := {\"decision\": \"maybe\"}", Effect::Deny, "error", "must be `allow`, `deny`"),
        ("decision := {\"allow\": true, \"decision\": false}", Effect::Deny, "error", "one thing in `allow`"),
        ("decision := {\"ok\": true}", Effect::Deny, "error", "neither `allow` nor `decision`"),
        ("decision := \"allow\"", Effect::Deny, "error", "must be a boolean, or an object"),
        ("decision := 1 / input.zero\nx := 1", Effect::Deny, "complete", "no policy allows"),
    ] {
        let decision = decided(rule);
        assert_eq!((decision.effect, decision.status.as_str()), (effect, status), "{rule}");
        let said = decision.diagnostics[0].message.clone().unwrap_or_default();
        assert!(said.contains(message), "{rule}: {said}");
        let determined = status == "complete" && !message.starts_with("no policy");
        assert_eq!(decision.determining.len(), usize::from(determined), "{rule}");
    }
    let file =
        SourceFile { path: "a.rego".into(), bytes: b"package authz\ndecision := true\nf(x) := x".to_vec() };
    for (entrypoint, says) in [
        ("data.authz.decison", "did you mean `data.authz.decision`?"),
        ("data.authz.f", "is no rule"),
        ("authz", "is no rule"),
    ] {
        let source = Source {
            id: "s".into(),
            revision: None,
            files: vec![file.clone()],
            entrypoint: Some(entrypoint.into()),
        };
        let findings = PolicySet::compile(source, Limits::default()).err().unwrap();
        assert!(findings[0].message.contains(says), "{findings:?}");
    }
}

#[test]
fn what_some_declares_must_get_a_value() {
    for body in [
        "some prefix\n\tstartswith(input.path, prefix)\n\tprefix == \"/etc/\"",
        "some x\n\tx > 3",
        "some i\n\tf(i)\n\ti == 4",
        "every v in input.list {\n\t\tsome q\n\t\tq == v\n\t}",
    ] {
        let findings = refused(&format!("f(x) if x > 1\ndeny if {{\n\t{body}\n}}"));
        assert!(findings.iter().any(|found| found.code == "unbound_variable"), "{body}: {findings:?}");
    }
    for body in [
        "some i\n\tinput.list[i] == 1",
        "some x\n\tx = input.y",
        "some x, y\n\t[x, y] = input.pair",
        "some x\n\tplus(1, 2, x)\n\tx == 3",
        "some p, v\n\twalk(input, [p, v])\n\tv == 1",
        "some x\n\tf2(1, x)\n\tx == 2",
        "some i\n\tcount(input.lists[i]) > 1",
        "some x\n\t{\"a\": x} = input.object",
    ] {
        let body = body.replace("plus(1, 2, x)", "split(\"a\", \"b\", x)").replace("x == 3", "x != []");
        set(&[("p.rego", &format!("package p\nf2(a) := a + 1\ndeny if {{\n\t{body}\n}}"))]);
    }
}
