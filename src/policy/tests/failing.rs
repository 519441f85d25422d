//! What fails while a call is decided.

use super::*;

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
