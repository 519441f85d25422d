//! What the commands print, as people read it: one snapshot each, with exit code. What differs from run to run (times, ids,
//! digests, addresses) is masked.

use regex::Regex;
use serde_json::json;

use crate::harness::{POLICY, Process, docket, evaluation, folder_with};

const CANDIDATE: &str = "# METADATA\n# custom:\n#   id: test.next\npackage test.next\n\nallow contains {\"rule\": \"all\"} if input.resource.id in {\"echo\", \"delete_file\"}\n";

const TESTS: &str = "package test.tools_test\n\nimport data.test.tools\n\ntest_echo if tools.allow with input as {\"resource\": {\"id\": \"echo\"}}\n\ntest_pay if {\n\tcount(tools.deny) == 1 with input as {\"resource\": {\"id\": \"pay\"}}\n}\n\ntodo_test_later if false\n";

fn masked(text: &str) -> String {
    let mut text = text.to_owned();
    for (pattern, mask) in [
        (r"\b[0-9A-HJKMNP-TV-Z]{26}\b", "ULID"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
        (r"\b[0-9a-f]{64}\b", "SHA256"),
        (r"docket\.local/[0-9a-f]{16}", "docket.local/ORIGIN"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        (r"\b\d+(\.\d+)? (us|µs|ms|s)\b", "DURATION"),
        (r#""(duration_us|evaluation_us)": \d+"#, "\"$1\": N"),
        (r"\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+", "+HASH+KEY"),
        (r"(?m)^[A-Za-z0-9+/]{43}=$", "ROOT"),
        (r"(?m)^— (\S+) \S+$", "— $1 SIGNATURE"),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, mask).into_owned();
    }
    text
}

#[tokio::test]
async fn every_command_says_what_it_said() {
    let folder = folder_with("", POLICY);
    std::fs::create_dir(folder.path().join("next")).unwrap();
    std::fs::write(folder.path().join("next/next.rego"), CANDIDATE).unwrap();
    let process = Process::start(folder.path());
    let client = reqwest::Client::new();
    for (id, tool, arguments) in [
        ("s-echo", "echo", json!({"text": "hi"})),
        ("s-delete", "delete_file", json!({"path": "/etc/passwd"})),
        ("s-pay", "pay", json!({"amount": 3})),
        ("s-other", "other", json!({"token": "hunter2-hunter2"})),
    ] {
        let request =
            client.post(format!("{}/access/v1/evaluation", process.data)).header("x-request-id", id);
        request.json(&evaluation(tool, &arguments)).send().await.unwrap();
    }
    assert_eq!(process.terminate(), Some(0));
    std::fs::write(folder.path().join("policies/policy_test.rego"), TESTS).unwrap();
    std::fs::write(folder.path().join("call.json"), evaluation("sleep", &json!({})).to_string()).unwrap();
    for (name, arguments) in [
        ("explain_allow", &["explain", "s-echo", "--ledger", "docket.db"][..]),
        ("explain_deny", &["explain", "s-delete", "--ledger", "docket.db"]),
        ("explain_held", &["explain", "s-pay", "--ledger", "docket.db"]),
        ("explain_default_deny", &["explain", "s-other", "--ledger", "docket.db"]),
        ("explain_unknown", &["explain", "nothing", "--ledger", "docket.db"]),
        ("tail", &["tail", "--ledger", "docket.db"]),
        ("simulate", &["simulate", "--input", "call.json", "--policy", "policies"]),
        (
            "simulate_from",
            &["simulate", "--from", "s-delete", "--ledger", "docket.db", "--set", "/resource/id=echo"],
        ),
        ("replay", &["replay", "--policy", "next", "--ledger", "docket.db"]),
        ("policy_show", &["policy", "show", "policies"]),
        ("policy_cover", &["policy", "cover", "--policy", "policies", "--ledger", "docket.db"]),
        ("policy_cover_never", &["policy", "cover", "--policy", "next", "--never", "--ledger", "docket.db"]),
        ("test", &["test", "policies", "--coverage"]),
        ("eval", &["eval", "data.test.tools.allow", "--policy", "policies", "--input", "call.json"]),
        ("check", &["check", "policies"]),
        ("verify", &["verify", "--ledger", "docket.db"]),
        ("ledger_key", &["ledger", "key", "--ledger", "docket.db"]),
        ("checkpoint", &["checkpoint", "--ledger", "docket.db"]),
        ("help", &["--help"]),
    ] {
        let (code, out, error) = docket(arguments, folder.path());
        let folder = folder.path().display().to_string();
        let shown = format!("$ docket {}\n{out}{error}exit code {code}\n", arguments.join(" "))
            .replace(&folder, "FOLDER");
        insta::assert_snapshot!(name, masked(&shown));
    }
}
