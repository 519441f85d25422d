//! What an author works with: tests that say why they fail, coverage, and tests written from recorded decisions.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Docket, docket, folder_with};

/// Takes out of an output what differs from run to run.
fn settled(text: &str) -> String {
    regex_replace(&regex_replace(text, r"\(\d+ us\)", "(TIME us)"), r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME")
}

fn regex_replace(text: &str, pattern: &str, with: &str) -> String {
    regex::Regex::new(pattern).unwrap().replace_all(text, with).into_owned()
}

const POLICY: &str = r#"# METADATA
# title: Files
# custom:
#   id: acme.files
package acme.files

import rego.v1

allow if input.action.name == "initialize"

allow if {
	input.resource.id == "read_file"
	startswith(input.context.arguments.path, "/workspace/")
}

deny contains {"rule": "no_delete", "message": sprintf("`%s` must stay", [input.context.arguments.path])} if {
	input.resource.id == "delete_file"
}

deny contains "no secrets, please" if contains(input.context.arguments.path, "/.ssh/")
"#;

const HOURS: &str = r#"# METADATA
# title: Hours
# custom: {id: acme.hours, targets: {tools: ["pay", "vote"]}}
package acme.hours

import rego.v1

recent := time.now_ns() > 1600000000000000000

deny if {
	input.resource.id == "vote"
	not recent
}

require_approval contains {"rule": "payment"} if {
	input.resource.id == "pay"
	recent
}

allow contains {"rule": "voting", "message": "vote as you like"} if {
	recent
	input.context.arguments.token == "opensesame"
}

allow contains {"rule": "anyone"} if input.context.arguments.open
"#;

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join("policies").join(name), text).unwrap();
}

#[test]
fn a_failing_test_names_its_condition() {
    let folder = folder_with("", POLICY);
    let run = |arguments: &[&str]| docket(&[&["test", "policies"], arguments].concat(), folder.path());
    write(
        folder.path(),
        "policy_test.rego",
        "package acme.files_test\n\nimport data.acme.files\n\ncall(tool, path) := {\"resource\": {\"id\": tool}, \"context\": {\"arguments\": {\"path\": path}}}\n\n\
         test_read if files.allow with input as call(\"read_file\", \"/workspace/x\")\n\n\
         test_elsewhere if files.allow with input as call(\"read_file\", \"/etc/passwd\")\n\n\
         test_delete[path] if {\n\tsome path in [\"/a\", \"/.ssh/b\"]\n\tdenied := files.deny with input as call(\"delete_file\", path)\n\tcount(denied) == 1\n}\n\n\
         test_wrong if to_number(\"x\") == 1\n\ntodo_test_more if false\n",
    );
    let (code, text, error) = run(&[]);
    assert_eq!((code, error.as_str()), (1, ""));
    insta::assert_snapshot!("failing_tests", settled(&text));
    let (code, text, _) = run(&["--strict-builtin-errors", "--run", "wrong"]);
    assert_eq!(code, 1);
    assert!(text.contains("test_wrong: ERROR") && text.ends_with("PASS: 0/1\nERROR: 1/1\n"), "{text}");

    let (code, text, _) = run(&["--json", "--run", "elsewhere"]);
    let results: Value = serde_json::from_str(&text).unwrap();
    let failure = &results[0]["failures"][0];
    assert_eq!((code, results.as_array().unwrap().len()), (1, 1));
    assert_eq!(
        (failure["line"].as_u64(), &failure["because"]["condition"], &failure["because"]["values"]),
        (
            Some(9),
            &json!("startswith(input.context.arguments.path, \"/workspace/\")"),
            &json!({"input.context.arguments.path": "/etc/passwd"})
        )
    );

    let (code, text, _) = run(&["--coverage", "--run", "test_(read|delete)"]);
    assert_eq!(code, 1);
    let coverage = text.split("---\n").last().unwrap();
    insta::assert_snapshot!("coverage", coverage);
    let (code, text, _) = run(&["--coverage", "--json", "--run", "test_read"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, report["results"][0]["outcome"].as_str()), (0, Some("pass")));
    assert_eq!(
        report["files"]["policy.rego"]["covered"][0],
        json!({"start": {"row": 11}, "end": {"row": 13}})
    );
    assert_eq!(report["coverage"], report["files"]["policy.rego"]["coverage"]);
    for (threshold, expected) in [("20", 0), ("99", 1), ("x", 2)] {
        let (code, _, error) = run(&["--coverage", "--threshold", threshold, "--run", "test_read"]);
        assert_eq!(code, expected, "{error}");
    }
    let (code, text, error) = run(&["--run", "nothing"]);
    assert_eq!((code, text.as_str()), (0, ""));
    assert!(error.contains("no test that matches `--run`"), "{error}");
    assert_eq!(run(&["--run", "("]).0, 2);
    write(folder.path(), "broken_test.rego", "package broken_test\n\ntest_x if cuont([])\n");
    let (code, _, error) = run(&[]);
    assert_eq!(code, 2);
    assert!(error.contains("broken_test.rego:3:11: error: there is no function `cuont`"), "{error}");
}

#[test]
fn several_paths_are_one_set() {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in [
        ("lib/p.rego", "package lib\n\nallow if input.x == data.limit\n"),
        ("lib/data.json", "{\"limit\": 3}"),
        ("tests/p.rego", "package tests_helpers\n\nthree := {\"x\": 3}\n"),
        (
            "tests/p_test.rego",
            "package lib_test\n\ntest_three if data.lib.allow with input as data.tests_helpers.three\n",
        ),
    ] {
        std::fs::create_dir_all(folder.path().join(path).parent().unwrap()).unwrap();
        std::fs::write(folder.path().join(path), text).unwrap();
    }
    let (code, text, error) = docket(&["test", "lib", "tests", "-v"], folder.path());
    assert_eq!((code, error.as_str()), (0, ""), "{text}");
    assert!(text.starts_with("p_test.rego:3: data.lib_test.test_three: PASS"), "{text}");
    // Tests alone are a source too; what they test is not there.
    assert_eq!(docket(&["test", "tests/p_test.rego"], folder.path()).0, 1);
    assert_eq!(docket(&["test", "lib", "nowhere"], folder.path()).0, 2);
}

#[tokio::test]
async fn recorded_decisions_become_tests() {
    let folder = folder_with("", POLICY);
    write(folder.path(), "hours.rego", HOURS);
    let running = Docket::in_folder(folder).await;
    for (id, tool, arguments) in [
        ("r-read", "read_file", json!({"path": "/workspace/a"})),
        ("r-read-2", "read_file", json!({"path": "/workspace/a"})),
        (
            "r-delete",
            "delete_file",
            json!({"path": "/home/x/.ssh/id", "deep": [{"a": [1, 2]}, -1.5, null, "é\n"]}),
        ),
        ("r-default", "read_file", json!({"path": "/etc/passwd"})),
        ("r-pay", "pay", json!({"amount": 3})),
        ("r-vote", "vote", json!({"open": true})),
        ("r-secret", "vote", json!({"token": "opensesame"})),
        ("r-error", "read_file", json!({"path": 5})),
    ] {
        running.evaluate(id, tool, arguments).await;
    }
    let url = running.admin.clone();
    let token = running.token.clone();
    let path = running.folder.path().to_owned();
    let ask = move |arguments: &'static [&'static str]| {
        let (url, token, path) = (url.clone(), token.clone(), path.clone());
        async move {
            let task = tokio::task::spawn_blocking(move || {
                let online = ["--url", &url, "--token", &token];
                docket(&[&["policy", "test-from"], arguments, &online].concat(), &path)
            });
            task.await.unwrap()
        }
    };
    let (code, online, error) = ask(&["--since", "1h"]).await;
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("docket: 6 tests, 1 skipped, as it does not come out as recorded, 1 decision the same as another, 1 decision left out"), "{error}");
    assert!(error.contains("request `r-error` has no test: a policy failed"), "{error}");
    let (code, one, _) = ask(&["r-delete", "--package", "acme.recorded_test"]).await;
    assert_eq!(code, 0);
    let shown = regex_replace(&settled(&one), r"delete_file_[0-9a-z]{8}", "delete_file_ID");
    let shown = regex_replace(&shown, r#""(peer|request_id)": "[^"]*""#, "\"$1\": \"…\"");
    insta::assert_snapshot!("test_from", shown);
    let (code, none, error) = ask(&["r-delete", "never"]).await;
    assert_eq!((code, none.as_str()), (3, ""));
    assert!(error.contains("no decision has request id `never`"), "{error}");
    assert_eq!(ask(&["--since", "1h", "--tool", "nothing"]).await.0, 3);
    for (arguments, why) in [
        (&[][..], "required arguments"),
        (&["--since", "soon"], "is not a time"),
        (&["r-delete", "--package", "a b"], "is not a package name"),
    ] {
        let (code, _, error) = ask(arguments).await;
        assert_eq!(code, 2);
        assert!(error.contains(why), "{error}");
    }
    let looked = running.wait_for(|entry| entry["event_type"] == "ledger.tests_written").await;
    assert_eq!(looked["kind"], "access");
    let folder = running.stop().await;
    let run = |arguments: &[&str]| docket(arguments, folder.path());

    // Offline it is the same file.
    let offline = ["policy", "test-from", "--since", "1h", "--ledger", "docket.db"];
    let (code, text, _) = run(&offline);
    assert_eq!((code, text), (0, online.clone()));
    for (more, tests) in [
        (&["--decision", "deny"][..], 2),
        (&["--tool", "vote"], 2),
        (&["--limit", "3"], 2),
        (&["--until", "30m"], 0),
        (&["--server", "demo"], 0),
    ] {
        let (code, text, error) = run(&[&offline[..], more].concat());
        assert_eq!(
            (code, text.matches(" if {").count()),
            (if tests == 0 { 3 } else { 0 }, tests),
            "{more:?} {error}"
        );
    }

    // What redaction changed is asked for as it was recorded, and skipped.
    let (_, text, _) = run(&["policy", "test-from", "r-secret", "--ledger", "docket.db"]);
    assert!(text.contains("todo_test_allow_vote_") && text.contains("said_1.rule == \"voting\""), "{text}");
    assert!(text.contains("# Redacted, though a policy reads it: /context/arguments/token."), "{text}");

    // Beside the recorded policies they pass; with a policy that decides otherwise they do not.
    let out = ["--out", "policies/recorded_test.rego"];
    assert_eq!(run(&[&offline[..], &out].concat()).0, 0);
    let (code, _, error) = run(&[&offline[..], &out].concat());
    assert_eq!(code, 2);
    assert!(error.contains("`policies/recorded_test.rego` exists; --force writes over it"), "{error}");
    assert_eq!(run(&[&offline[..], &out, &["--force"]].concat()).0, 0);
    let (code, text, error) = run(&["test", "policies"]);
    assert_eq!((code, error.as_str()), (0, ""), "{text}");
    assert!(text.ends_with("PASS: 5/6\nSKIPPED: 1/6\n"), "{text}");
    for (from, to, failing) in [
        ("\"rule\": \"no_delete\"", "\"rule\": \"deletions\"", "test_deny_delete_file_"),
        ("\"/workspace/\")", "\"/etc/\")", "test_allow_read_file_"),
        ("\"/workspace/\")", "\"/\")", "test_deny_read_file_"),
    ] {
        write(folder.path(), "policy.rego", &POLICY.replace(from, to));
        let (code, text, _) = run(&["test", "policies"]);
        assert_eq!(code, 1);
        assert!(text.contains(failing) && text.contains(": FAIL"), "{failing}: {text}");
    }
    write(folder.path(), "policy.rego", POLICY);
    write(folder.path(), "hours.rego", &HOURS.replace("> 1600000000000000000", "> 1900000000000000000"));
    let (_, text, _) = run(&["test", "policies"]);
    assert!(text.contains("test_require_approval_pay_"), "{text}");
}

#[tokio::test]
async fn one_rule_that_decides_is_asked_for_what_it_says() {
    let policy = "package authz\n\ndecision := {\"allow\": allow, \"reason\": \"so\"}\n\ndefault allow := false\n\nallow if input.resource.id == \"echo\"\n";
    let running = Docket::with("policy.entrypoint = \"data.authz.decision\"\n", policy).await;
    running.evaluate("yes", "echo", json!({})).await;
    running.evaluate("no", "other", json!({})).await;
    for body in [json!({"since": "1h", "limmit": 1}), json!({"tool": "echo"}), json!({"since": "soon"})] {
        let request = running.client.post(format!("{}/v1/tests", running.admin)).bearer_auth(&running.token);
        assert_eq!(request.json(&body).send().await.unwrap().status(), 400, "{body}");
    }
    let folder = running.stop().await;
    let run = |arguments: &[&str]| docket(arguments, folder.path());
    let out = ["--ledger", "docket.db", "--out", "policies/recorded_test.rego"];
    let (code, _, error) = run(&[&["policy", "test-from", "yes", "--request-id", "no"][..], &out].concat());
    assert_eq!((code, error.as_str()), (0, "docket: 2 tests\n"));
    let text = std::fs::read_to_string(folder.path().join("policies/recorded_test.rego")).unwrap();
    for allowed in [true, false] {
        let asked = format!("\tdata.authz.decision.allow == {allowed} with input as call\n");
        assert_eq!(text.matches(&asked).count(), 1, "{text}");
    }
    assert_eq!(run(&["test", "policies"]).0, 0);
    write(folder.path(), "policy.rego", &policy.replace("== \"echo\"", "!= \"echo\""));
    let (code, text, _) = run(&["test", "policies"]);
    assert!(code == 1 && text.contains("FAIL: 2/2"), "{text}");
}
