//! Policies through the front door: sources in, decisions out.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use ulid::Ulid;

use super::*;
use crate::call::{Call, Moment};
use crate::decision::{Decision, Effect, EvaluationStatus};

mod failing;
mod refused;
mod sets;

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
