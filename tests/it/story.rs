//! A policy author's day, as docs/story.md tells it: a refusal, its reason, a fix, what the fix would have changed, a better
//! fix, tests, and its publication. Each step is the command the page shows.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Process, check, docket, folder_with};

/// Calls on record when the author looks.
const CALLS: usize = 10_000;
/// Reads of reports among them, all refused.
const REPORTS: usize = 250;

fn policies(of: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/story").join(of).join("files.rego");
    std::fs::read_to_string(path).unwrap()
}

/// Call `n` of a week: mostly work in the workspace, some reports, a few keys, and one salary list.
fn call(n: usize) -> (String, &'static str, String) {
    let (tool, path) = match n {
        7_777 => ("read_file", "/reports-private/salaries.csv".to_owned()),
        n if n % (CALLS / REPORTS) == 3 => ("read_file", format!("/reports/2026/{n}.csv")),
        n if n % 50 == 7 => ("read_file", format!("/workspace/keys/{n}.pem")),
        n if n % 20 == 11 => ("write_file", format!("/etc/cron.d/{n}")),
        n if n % 3 == 0 => ("write_file", format!("/workspace/notes/{n}.md")),
        n => ("read_file", format!("/workspace/src/{n}.rs")),
    };
    (format!("week-{n}"), tool, path)
}

async fn record(process: &Process) {
    let client = reqwest::Client::new();
    let mut under_way = tokio::task::JoinSet::new();
    for n in 0..CALLS {
        let (id, tool, path) = call(n);
        let body = json!({
            "subject": {"type": "identity", "id": "researcher"}, "action": {"name": "tools/call"},
            "resource": {"type": "tool", "id": tool}, "context": {"arguments": {"path": path}},
        });
        let request = client.post(format!("{}/access/v1/evaluation", process.data));
        let request = request.header("x-request-id", id).json(&body);
        while under_way.len() >= 32 {
            under_way.join_next().await.unwrap().unwrap();
        }
        under_way.spawn(async move {
            assert_eq!(request.send().await.unwrap().status(), 200);
        });
    }
    under_way.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_mends_a_policy_and_knows_what_that_changes() {
    let folder = folder_with("policy.require_tests = true\n", &policies("before"));
    for set in ["careless", "careful"] {
        std::fs::create_dir(folder.path().join(set)).unwrap();
        std::fs::write(folder.path().join(set).join("policy.rego"), policies(set)).unwrap();
    }
    let process = Process::start(folder.path());
    record(&process).await;
    let admin = process.admin.clone();
    let run = |arguments: &[&str]| {
        let remote = ["--config", "docket.toml", "--url", admin.as_str()];
        docket(&[arguments, &remote].concat(), folder.path())
    };

    // A refusal, and its reason: the condition that was missing.
    let (code, explained, error) = run(&["explain", "week-43"]);
    assert_eq!(code, 0, "{error}");
    assert!(explained.contains("startswith(path, \"/workspace/\")"), "{explained}");
    assert!(explained.contains("/reports/2026/43.csv"), "{explained}");

    // The fix does what it should for that call.
    let (code, simulated, error) = run(&["simulate", "--from", "week-43", "--policy", "careless", "--json"]);
    assert_eq!(code, 0, "{error}");
    let simulated: Value = serde_json::from_str(&simulated).unwrap();
    assert_eq!(
        (&simulated["decision"], &simulated["diagnostics"][0]["rule"]),
        (&json!("allow"), &json!("reports"))
    );

    // And more than it should for another: of a week's traffic, the reports flip, and one thing that must not.
    let flips = |set: &str| -> (i32, Vec<Value>, Value) {
        let (code, out, error) = run(&["replay", "--policy", set, "--json"]);
        assert!(error.is_empty(), "{error}");
        let mut lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let totals = lines.pop().unwrap();
        (code, lines, totals)
    };
    let (code, careless, totals) = flips("careless");
    assert_eq!((code, &totals["calls"], &totals["exact"]), (1, &json!(CALLS), &json!(CALLS)));
    assert_eq!(totals["by_effect"], json!({"deny:allow": REPORTS + 1}));
    let path_of = |flip: &Value| {
        let id = flip["request_id"].as_str().unwrap();
        call(id.strip_prefix("week-").unwrap().parse().unwrap()).2
    };
    let unintended: Vec<String> =
        careless.iter().map(path_of).filter(|path| !path.starts_with("/reports/")).collect();
    assert_eq!(unintended, ["/reports-private/salaries.csv"]);

    // Tightened, exactly the intended flips are left.
    let (code, careful, totals) = flips("careful");
    assert_eq!((code, &totals["by_effect"]), (1, &json!({"deny:allow": REPORTS})));
    assert!(careful.iter().all(|flip| path_of(flip).starts_with("/reports/")
        && flip["before"] == json!({"decision": "deny", "policies": [], "rules": ["default_deny"]})
        && flip["after"] == json!({"decision": "allow", "policies": ["acme.files"], "rules": ["reports"]})));
    let (code, text, _) = run(&["replay", "--policy", "careful", "--allow-flips", "deny:allow"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&format!("deny → allow  acme.files/reports  read_file  {REPORTS}\n")), "{text}");

    // What must stay becomes tests, and the new policies pass them; the careless ones do not.
    let kept = [
        "policy",
        "test-from",
        "week-7777",
        "week-7",
        "week-11",
        "week-12",
        "week-13",
        "--out",
        "kept_test.rego",
    ];
    let (code, _, error) = run(&kept);
    assert_eq!(code, 0, "{error}");
    for (set, expected) in [("careful", 0), ("careless", 1)] {
        std::fs::copy(folder.path().join("kept_test.rego"), folder.path().join(set).join("kept_test.rego"))
            .unwrap();
        let (code, out, error) = docket(&["test", set], folder.path());
        assert_eq!(code, expected, "{set}: {out}{error}");
    }

    // Published by copying the files: docket notices, tests, and says so in the ledger.
    for file in ["kept_test.rego", "policy.rego"] {
        std::fs::copy(folder.path().join("careful").join(file), folder.path().join("policies").join(file))
            .unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    let updated = loop {
        let (_, out, _) = run(&["tail", "--all", "--jsonl", "-n", "5"]);
        let entries = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        match entries.into_iter().find(|entry| entry["event_type"] == "policy.updated") {
            Some(entry) => break entry,
            None if Instant::now() > deadline => panic!("{out}"),
            None => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let changed = &updated["metadata"]["changed"];
    assert_eq!((changed.as_array().unwrap().len(), &changed[0]["policy_id"]), (1, &json!("acme.files")));
    let (code, simulated, _) = run(&["simulate", "--from", "week-43"]);
    assert_eq!(code, 0);
    assert!(simulated.starts_with("ALLOW"), "{simulated}");
    // What was decided stays what it was, and is still explained by the policies of then.
    let (_, again, _) = run(&["explain", "week-43"]);
    assert_eq!(again, explained);
    assert_eq!(process.terminate(), Some(0));
    check(&folder.path().join("docket.db"));
}
