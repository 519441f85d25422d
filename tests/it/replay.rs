//! Replaying recorded traffic against a candidate, offline and through a running docket.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{self, Docket};

/// Allows what the test policy allows but `sleep`, denies nothing, and leaves payments to a person.
const CANDIDATE: &str = r#"# METADATA
# custom:
#   id: test.candidate
package test.candidate

allow contains {"rule": "harmless"} if input.resource.id in {"echo", "read_file", "delete_file"}

require_approval contains {"rule": "payment"} if input.resource.id == "pay"

deny contains {"rule": "no_secret"} if startswith(input.context.arguments.password, "x")
"#;

async fn docket(running: &Docket, arguments: &[&str]) -> (i32, String, String) {
    let folder = running.folder.path().to_owned();
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let run = move || harness::docket(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), &folder);
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn recorded() -> Docket {
    let running = Docket::start().await;
    std::fs::create_dir(running.folder.path().join("candidate")).unwrap();
    std::fs::write(running.folder.path().join("candidate/candidate.rego"), CANDIDATE).unwrap();
    for (id, tool, arguments) in [
        ("r-echo", "echo", json!({"text": "hi"})),
        ("r-sleep", "sleep", json!({})),
        ("r-delete", "delete_file", json!({"path": "/x"})),
        ("r-pay", "pay", json!({"amount": 3})),
        ("r-secret", "read_file", json!({"password": "xyzzy-plugh-42"})),
        ("r-other", "other", json!({})),
    ] {
        running.evaluate(id, tool, arguments).await;
    }
    running
}

#[tokio::test]
async fn flips_are_found_the_same_offline_and_online() {
    let running = recorded().await;
    let offline = ["replay", "--policy", "candidate", "--json", "--ledger", "docket.db"];
    let (code, out, error) = docket(&running, &offline).await;
    assert_eq!(code, 1, "{error}");
    let found = lines(&out);
    let (totals, flips) = found.split_last().unwrap();
    let flip = |flip: &Value| {
        assert_eq!(flip["type"], "flip");
        assert!(flip["call_id"].as_str().unwrap().len() == 26 && flip["occurred_at"].is_string());
        let sides = [&flip["before"], &flip["after"]];
        let side = |side: &&Value| {
            format!("{} {} {}", side["decision"].as_str().unwrap(), side["policies"], side["rules"])
        };
        (flip["request_id"].as_str().unwrap().to_owned(), sides.iter().map(side).collect::<Vec<_>>())
    };
    let expected = [
        ("r-echo", "allow [\"test.tools\"] [\"harmless\"]", "allow [\"test.candidate\"] [\"harmless\"]"),
        ("r-sleep", "allow [\"test.tools\"] [\"harmless\"]", "deny [] [\"default_deny\"]"),
        ("r-delete", "deny [\"test.tools\"] [\"no_delete\"]", "allow [\"test.candidate\"] [\"harmless\"]"),
        (
            "r-pay",
            "require_approval [\"test.tools\"] [\"payment\"]",
            "require_approval [\"test.candidate\"] [\"payment\"]",
        ),
        ("r-secret", "allow [\"test.tools\"] [\"harmless\"]", "allow [\"test.candidate\"] [\"harmless\"]"),
    ];
    let expected: Vec<_> =
        expected.map(|(id, before, after)| (id.to_owned(), vec![before.to_owned(), after.to_owned()])).into();
    assert_eq!(flips.iter().map(flip).collect::<Vec<_>>(), expected);
    let path = "/context/arguments/password";
    assert_eq!(flips[4]["approximate"], json!([path]), "what redaction took away decides");
    assert_eq!(flips[0]["approximate"], json!([]));
    for (member, expected) in [
        ("type", json!("totals")),
        ("calls", json!(6)),
        ("replayed", json!(6)),
        ("unchanged", json!(1)),
        ("flips", json!(5)),
        ("exact", json!(5)),
        ("approximate", json!(1)),
        ("approximate_paths", json!({path: 1})),
        ("skipped", json!({})),
        (
            "by_effect",
            json!({"allow:allow": 2, "allow:deny": 1, "deny:allow": 1, "require_approval:require_approval": 1}),
        ),
    ] {
        assert_eq!(totals[member], expected, "{member}");
    }
    let online =
        ["replay", "--policy", "candidate", "--json", "--config", "docket.toml", "--url", &running.admin];
    let (code, answered, error) = docket(&running, &online).await;
    assert_eq!(code, 1, "{error}");
    assert_eq!(lines(&answered), found);
    let access = running.wait_for(|entry| entry["event_type"] == "ledger.replayed").await;
    assert_eq!(access["kind"], "access");
    running.stop().await;
}

#[tokio::test]
async fn the_policies_in_force_flip_nothing() {
    let running = recorded().await;
    let (code, out, error) =
        docket(&running, &["replay", "--config", "docket.toml", "--url", &running.admin]).await;
    assert_eq!(code, 0, "{out}{error}");
    assert!(out.contains("calls        6\nunchanged    6\nflips        0\n"), "{out}");
    let (code, out, _) =
        docket(&running, &["replay", "--config", "docket.toml", "--ledger", "docket.db"]).await;
    assert_eq!(code, 0, "{out}");
    running.stop().await;
}

#[tokio::test]
async fn flips_may_be_meant_and_calls_chosen() {
    let running = recorded().await;
    let base = ["replay", "--policy", "candidate", "--ledger", "docket.db"];
    let with = |more: &[&'static str]| [&base, more].concat();
    for (more, code, calls) in [
        (
            vec![
                "--allow-flips",
                "allow:allow,allow:deny,deny:allow",
                "--allow-flips",
                "require_approval:require_approval",
            ],
            0,
            6,
        ),
        (vec!["--allow-flips", "allow:allow,allow:deny"], 1, 6),
        (vec!["--decision", "deny"], 1, 2),
        (vec!["--tool", "other"], 0, 1),
        (vec!["--request-id", "r-sleep"], 1, 1),
        (vec!["-n", "1"], 0, 1),
        (vec!["-n", "2"], 1, 2),
        (vec!["--since", "1h", "--threads", "1"], 1, 6),
        (vec!["--until", "2020-01-01"], 0, 0),
        (vec!["--server", "none"], 0, 0),
    ] {
        let (found, out, error) = docket(&running, &with(&more)).await;
        assert_eq!(found, code, "{more:?} {out}{error}");
        assert!(out.contains(&format!("calls        {calls}\n")), "{more:?} {out}");
    }
    for (more, says) in [
        (vec!["--allow-flips", "allow"], "BEFORE:AFTER"),
        (vec!["--since", "yesterday"], "`--since`: `yesterday` is not a time"),
    ] {
        let (code, _, error) = docket(&running, &with(&more)).await;
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(says), "{error}");
    }
    let (code, _, error) = docket(&running, &["replay", "--policy", "candidate", "--ledger", "no.db"]).await;
    assert_eq!((code, error.as_str()), (2, "docket: ledger `no.db` does not exist\n"));
    assert!(!Path::new("no.db").exists());
    std::fs::write(running.folder.path().join("candidate/candidate.rego"), "package x\nallow if").unwrap();
    for more in [vec!["--ledger", "docket.db"], vec!["--config", "docket.toml", "--url", &running.admin]] {
        let (code, _, error) =
            docket(&running, &[&["replay", "--policy", "candidate"], &more[..]].concat()).await;
        assert_eq!(code, 2, "{error}");
        assert!(error.contains("candidate.rego:2"), "{error}");
    }
    running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_replayed_is_counted() {
    let running = recorded().await;
    let raw = running.client.post(format!("{}/access/v1/evaluation", running.data));
    assert_eq!(raw.body("{\"subject\": 7}").send().await.unwrap().status(), 400);
    running.wait_for(|entry| entry["decision"] == "deny" && entry["call_id"].is_null()).await;
    let (code, out, error) =
        docket(&running, &["replay", "--config", "docket.toml", "--ledger", "docket.db", "--json"]).await;
    assert_eq!(code, 0, "{error}");
    let totals = lines(&out).pop().unwrap();
    assert_eq!((&totals["calls"], &totals["replayed"]), (&json!(7), &json!(6)), "{totals}");
    let why = "the request never reached the policies, so there is nothing to evaluate again";
    assert_eq!(totals["skipped"], json!({why: 1}));
    running.stop().await;
}

#[tokio::test]
async fn a_malformed_question_is_refused_with_the_reason() {
    let running = Docket::start().await;
    for (body, says) in [
        ("nonsense", "body cannot be used"),
        ("{\"sinze\": \"1h\"}", "`sinze` (given `\"1h\"`) is not known (did you mean `since`?)"),
        ("{\"nosuch\": null}", "parameter `nosuch` (given `null`) is not known"),
        ("{\"since\": \"soon\"}", "`since`: `soon` is not a time"),
        ("{\"decision\": \"maybe\"}", "`decision` must be"),
        ("{\"limit\": 0}", "`limit` must be greater than 0"),
        ("{\"entrypoint\": \"data.x\"}", "goes with `policies`"),
        ("{\"policies\": {\"a.rego\": \"package a\"}}", "no package defines"),
    ] {
        let request = running.client.post(format!("{}/v1/replay", running.admin)).bearer_auth(&running.token);
        let response = request.body(body).send().await.unwrap();
        assert_eq!(response.status(), 400, "{body}");
        let problem: Value = response.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }
    running.stop().await;
}

#[tokio::test]
async fn rules_are_counted_the_same_offline_and_online() {
    let running = recorded().await;
    let offline = ["policy", "cover", "--policy", "candidate", "--json", "--ledger", "docket.db"];
    let (code, out, error) = docket(&running, &offline).await;
    assert_eq!(code, 0, "{error}");
    let covered: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&covered["calls"], &covered["replayed"]), (&json!(6), &json!(6)));
    let fired = |covered: &Value| -> Vec<(String, u64)> {
        let rules = covered["rules"].as_array().unwrap().iter();
        let rule = |rule: &Value| {
            assert_eq!(
                (&rule["policy_id"], &rule["file"]),
                (&json!("test.candidate"), &json!("candidate.rego"))
            );
            (rule["rule"].as_str().unwrap().to_owned(), rule["fired"].as_u64().unwrap())
        };
        rules.map(rule).collect()
    };
    let expected = [("harmless", 3), ("payment", 1), ("no_secret", 0)];
    assert_eq!(fired(&covered), expected.map(|(rule, fired)| (rule.to_owned(), fired)));
    let online = [
        "policy",
        "cover",
        "--policy",
        "candidate",
        "--json",
        "--config",
        "docket.toml",
        "--url",
        &running.admin,
    ];
    let (_, out, error) = docket(&running, &online).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), covered, "{error}");
    // Helpers and `else` count too, and a rule on one line fires only where it applies.
    let helpers = "package test.candidate\n\nis_large(x) if x > 2\n\nsize := \"large\" if {\n\tis_large(input.context.arguments.amount)\n} else := \"none\" if not input.context.arguments.amount\n\nallow if size == \"large\"\n\ndeny if input.resource.id == \"nothing\"\n";
    std::fs::write(running.folder.path().join("candidate/candidate.rego"), helpers).unwrap();
    let (_, out, error) = docket(&running, &offline).await;
    let covered: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{error}"));
    let counts: Vec<_> = covered["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            (rule["rule"].as_str().unwrap(), rule["line"].as_u64().unwrap(), rule["fired"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(counts, [("is_large", 3, 1), ("size", 5, 6), ("allow", 9, 1), ("deny", 11, 0)]);
    running.stop().await;
}
