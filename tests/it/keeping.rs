//! Pruning, holding and erasing: what goes, what stays, and what can still be proved.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use docket::clock::Clock;
use docket::ledger::{Entry, Kind, Ledger, Queue, Signing};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::{Docket, POLICY, Process, check, docket, evaluation, folder_with};

/// Runs a command that asks this docket, and answers its exit code, its JSON and stderr.
async fn ask(docket_: &Docket, arguments: &[&str]) -> (i32, Value, String) {
    let url = docket_.admin.clone();
    let token = docket_.token.clone();
    let folder = docket_.folder.path().to_owned();
    let mut all: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    all.extend(["--json", "--url", &url, "--token", &token].map(str::to_owned));
    // docket runs in this process: its command must not keep it from answering.
    let run = move || docket(&all.iter().map(String::as_str).collect::<Vec<_>>(), &folder);
    let (code, out, error) = tokio::task::spawn_blocking(run).await.unwrap();
    (code, serde_json::from_str(&out).unwrap_or_default(), error)
}

/// One evaluation on behalf of a subject.
async fn evaluate_as(docket: &Docket, subject: &str, request_id: &str) {
    let mut body = evaluation("delete_file", &json!({"path": format!("/home/{subject}/notes")}));
    body["subject"]["id"] = subject.into();
    let request = docket.client.post(format!("{}/access/v1/evaluation", docket.data)).json(&body);
    assert_eq!(request.header("x-request-id", request_id).send().await.unwrap().status(), 200);
}

fn count(ledger: &Path, sql: &str) -> i64 {
    Connection::open(ledger).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

pub fn occurrences(ledger: &Path, text: &str) -> usize {
    let mut found = 0;
    for suffix in ["", "-wal"] {
        // Another process reads it: closing the file in this one would take the locks of a docket that runs here.
        let read = std::process::Command::new("cat").arg(format!("{}{suffix}", ledger.display())).output();
        let bytes = read.unwrap().stdout;
        found += bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count();
    }
    found
}

fn verify(folder: &Path, more: &[&str]) -> (i32, Value) {
    let arguments: Vec<&str> =
        ["verify", "--json", "--ledger", "docket.db"].into_iter().chain(more.iter().copied()).collect();
    let (code, out, error) = docket(&arguments, folder);
    (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{error}")))
}

/// The place where a check fails.
fn failure<'a>(report: &'a Value, check: &str) -> Option<&'a str> {
    let verdicts = report["verdicts"].as_array().unwrap();
    verdicts.iter().find(|verdict| verdict["check"] == check).unwrap()["first_failure"].as_str()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruning_takes_payloads_and_leaves_every_proof() {
    let docket_ = Docket::start().await;
    for number in 0..3 {
        docket_.evaluate(&format!("old-{number}"), "delete_file", json!({"path": "/etc/passwd"})).await;
    }
    let before = docket_.admin_get("/v1/checkpoint").await.text().await.unwrap();
    std::fs::write(docket_.folder.path().join("before"), &before).unwrap();
    let arguments = ["ledger", "prune", "--before", "0s", "--kind", "decision", "--reason", "test"];
    let payloads = || {
        count(
            &docket_.ledger(),
            "SELECT count(*) FROM payloads p JOIN leaves USING (seq) WHERE kind = 'decision'",
        )
    };
    let (code, done, error) = ask(&docket_, &[&arguments[..], &["--dry-run"]].concat()).await;
    assert_eq!((code, &done["removed"], &done["acts"]), (0, &json!(3), &json!(0)), "{error}");
    assert_eq!(
        (payloads(), occurrences(&docket_.ledger(), "/etc/passwd") > 0),
        (3, true),
        "a dry run changes nothing"
    );
    let tried = docket_.wait_for(|entry| entry["event_type"] == "ledger.prune_tried").await;
    assert_eq!(tried["kind"], "access");

    let (code, done, error) = ask(&docket_, &arguments).await;
    assert_eq!((code, &done["removed"], &done["acts"]), (0, &json!(3), &json!(1)), "{error}");
    assert_eq!(payloads(), 0);
    let act = docket_.wait_for(|entry| entry["kind"] == "prune").await;
    let facts = &act["metadata"];
    assert_eq!(
        (&facts["principal"], &facts["reason"], &facts["count"]),
        (&json!("admin"), &json!("test"), &json!(3))
    );
    assert_eq!(facts["tree"]["size"], act["seq"]);
    assert_eq!(facts["cuts"][0]["kind"], "decision");

    let row: (String, Option<String>, Option<String>) = Connection::open(docket_.ledger())
        .unwrap()
        .query_row(
            "SELECT decision, subject, arguments FROM decisions WHERE request_id = 'old-1'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    assert_eq!(row, ("deny".into(), None, None), "what the leaf says stays, what the payload said is NULL");
    let explained: Value = docket_.admin_get("/v1/explain/old-1").await.json().await.unwrap();
    let entry = &explained["entries"][0];
    assert_eq!((&entry["decision"], &entry["removed"]["kind"]), (&json!("deny"), &json!("prune")));
    let note = explained["notes"][0].as_str().unwrap();
    assert!(note.contains("pruned on 20") && note.contains("by admin (test)"), "{note}");
    let export = async |format: &str| {
        let path = format!("/v1/audit/export?format={format}&request_id=old-1&kind=decision");
        docket_.admin_get(&path).await.bytes().await.unwrap()
    };
    let (rows, events) = (export("csv").await, export("opa").await);
    let rows = std::str::from_utf8(&rows).unwrap();
    let why = rows.find("\"pruned on 20").map(|at| &rows[at..]);
    assert!(
        why.is_some_and(|why| why.contains("by admin (test); entry ") && why.ends_with(" says so\"\r\n")),
        "{rows}"
    );
    let events: Value = serde_json::from_reader(flate2::read::GzDecoder::new(&events[..])).unwrap();
    assert_eq!(events[0]["custom"]["removed"], entry["removed"]);
    let id = entry["id"].as_str().unwrap();
    let proof: Value = docket_.admin_get(&format!("/v1/entries/{id}/proof")).await.json().await.unwrap();
    assert_eq!(proof["index"], entry["seq"]);
    let key = docket::ledger::key::verifier(&docket_.folder.path().join("docket.db.key"), None).unwrap();
    let leaf = docket::tlog::leaf_hash(proof["leaf"].as_str().unwrap().as_bytes());
    docket::tlog::Proof::parse(proof["tlog_proof"].as_str().unwrap()).unwrap().verify(&leaf, &key).unwrap();

    // After a restart all of it holds, and a bundle across pruned entries proves itself.
    let folder = docket_.stop().await;
    let docket_ = Docket::in_folder(folder).await;
    docket_.evaluate("new-1", "echo", json!({})).await;
    let folder = docket_.stop().await;
    let (code, report) = verify(folder.path(), &["--checkpoint", "before"]);
    assert_eq!(code, 0, "{report:#}");
    let (code, _, error) = docket(
        &["prove", "old-1", "--ledger", "docket.db", "--out", "b.zip", "--disclose", "arguments"],
        folder.path(),
    );
    assert_eq!(code, 0, "{error}");
    let gone = "payloads that are no longer there: 1 pruned; entries with parts that were to be disclosed among them: 1 pruned";
    assert!(error.contains(gone), "{error}");
    let (code, out, error) = docket(&["verify", "--bundle", "b.zip"], folder.path());
    assert_eq!(code, 0, "{out}{error}");
    assert!(out.contains(&format!("note  {gone}")), "{out}");
    let bundle = std::fs::read(folder.path().join("b.zip")).unwrap();
    let bundle = String::from_utf8_lossy(&bundle);
    assert!(bundle.contains(&format!("Of the range, {gone}.")), "the archive is not compressed");
    assert!(bundle.contains(&format!("\"act\":{{\"seq\":{},\"kind\":\"prune\"", act["seq"])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_subject_is_nowhere_in_the_file() {
    let docket_ = Docket::start().await;
    for number in 0..60 {
        evaluate_as(&docket_, "alice@acme.example", &format!("a-{number}")).await;
        for other in 0..4 {
            evaluate_as(&docket_, &format!("bob-{number}-{other}"), &format!("b-{number}-{other}")).await;
        }
    }
    assert!(occurrences(&docket_.ledger(), "alice@acme.example") > 60);
    // Pruning around her rows moves them, and SQLite leaves copies behind where it does.
    let (code, ..) = ask(&docket_, &["ledger", "prune", "--before", "0s", "--kind", "access"]).await;
    assert_eq!(code, 0);
    for number in (0..60).step_by(2) {
        let (code, done, error) =
            ask(&docket_, &["ledger", "erase", "--subject", &format!("bob-{number}-1")]).await;
        assert_eq!((code, &done["removed"]), (0, &json!(1)), "{error}{done:#}");
        if number > 10 {
            break;
        }
    }
    let (code, _, error) = ask(
        &docket_,
        &["ledger", "erase", "--subject", "alice@acme.example", "--reason", "Alice@acme.example asks"],
    )
    .await;
    assert_eq!(code, 2);
    assert!(error.contains("the reason names the subject"), "{error}");
    let arguments = ["ledger", "erase", "--subject", "alice@acme.example", "--reason", "case 17"];
    let (code, done, error) = ask(&docket_, &[&arguments[..], &["--dry-run"]].concat()).await;
    assert_eq!((code, &done["removed"]), (0, &json!(60)), "{error}");
    let (code, done, error) = ask(&docket_, &arguments).await;
    assert_eq!((code, &done["removed"], &done["skipped"]), (0, &json!(60), &json!(0)), "{error}{done:#}");
    assert_eq!(done["remains"], json!({"log_truncated": true, "unused": 0, "places": []}));
    assert_eq!(occurrences(&docket_.ledger(), "alice@acme.example"), 0, "while docket runs");
    let explained: Value = docket_.admin_get("/v1/explain/a-7").await.json().await.unwrap();
    let note = explained["notes"][0].as_str().unwrap();
    assert!(note.contains("erased on 20") && note.contains("by admin (case 17)"), "{note}");
    let act =
        docket_.wait_for(|entry| entry["kind"] == "erase" && entry["metadata"]["reason"] == "case 17").await;
    let digest = act["metadata"]["subject_digest"].as_str().unwrap();
    let [_, salt, digest] = digest.split(':').collect::<Vec<_>>()[..] else { panic!("{digest}") };
    let salted = [hex::decode(salt).unwrap().as_slice(), b"alice@acme.example"].concat();
    assert_eq!(
        docket::digest::sha256(&salted),
        format!("sha256:{digest}"),
        "who knows the id can check that it was this one"
    );
    let (code, done, _) = ask(&docket_, &arguments).await;
    assert_eq!(
        (code, &done["removed"], &done["acts"]),
        (0, &json!(0), &json!(1)),
        "asked again, there is nothing left"
    );
    let ledger = docket_.ledger();
    let folder = docket_.stop().await;
    assert_eq!(occurrences(&ledger, "alice@acme.example"), 0, "after docket has stopped");
    drop(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_id_is_not_found_where_it_stands_by_chance() {
    let docket_ = Docket::start().await;
    // The public key, which the start names, has some such by chance; an erasure is right to say so.
    let is_free = |id: &String| {
        let sql = format!("SELECT count(*) FROM payloads WHERE instr(metadata, '{id}') > 0");
        count(&docket_.ledger(), &sql) == 0
    };
    let mut free = (1..9).map(|number| format!("u{number}")).filter(is_free);
    let (id, other) = (free.next().unwrap(), free.next().unwrap());
    drop(free);
    for number in 0..150 {
        evaluate_as(&docket_, &id, &format!("call-{number}")).await;
    }
    let (code, done, error) =
        ask(&docket_, &["ledger", "erase", "--subject", &id, "--reason", "case 18"]).await;
    assert_eq!(code, 0, "{error} {done:#}");
    let sql = format!("SELECT count(*) FROM leaves WHERE instr(leaf, '{id}') > 0");
    assert!(count(&docket_.ledger(), &sql) > 0, "commitments of 150 entries have none");
    assert_eq!((&done["removed"], &done["remains"]["places"]), (&json!(150), &json!([])), "{done:#}");
    assert_eq!(done["remains"]["unused"], 0);
    // Where somebody put it, it is named.
    evaluate_as(&docket_, &other, &format!("for-{other}")).await;
    let (_, done, _) = ask(&docket_, &["ledger", "erase", "--subject", &other, "--reason", "case 19"]).await;
    let places = done["remains"]["places"].as_array().unwrap();
    assert!(places.len() == 1 && places[0].as_str().unwrap().starts_with("1 rows of `leaves`"), "{done:#}");
    docket_.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holds_win_until_they_are_released() {
    let docket_ = Docket::start().await;
    evaluate_as(&docket_, "carol", "c-1").await;
    evaluate_as(&docket_, "carol", "c-2").await;
    evaluate_as(&docket_, "dave", "d-1").await;
    let (code, by_request, error) =
        ask(&docket_, &["ledger", "hold", "add", "--request-id", "d-1", "--reason", "audit"]).await;
    assert_eq!((code, &by_request["request_id"]), (0, &json!("d-1")), "{error}");
    assert_eq!(by_request["covers"], json!({"entries": 1, "calls": 1}));
    let (code, by_subject, _) =
        ask(&docket_, &["ledger", "hold", "add", "--subject", "carol", "--reason", "court"]).await;
    assert_eq!((code, &by_subject["subject"]), (0, &json!("carol")));
    assert_eq!(by_subject["covers"], json!({"entries": 2, "calls": 2}), "the hold itself is not counted");
    let (hold, other) = (by_subject["hold_id"].as_str().unwrap(), by_request["hold_id"].as_str().unwrap());
    let folder = docket_.stop().await;
    let docket_ = Docket::in_folder(folder).await;
    let (_, listed, _) = ask(&docket_, &["ledger", "hold", "list"]).await;
    assert_eq!(listed.as_array().unwrap().len(), 2, "holds survive a restart: {listed:#}");

    let (code, done, _) = ask(&docket_, &["ledger", "erase", "--subject", "carol"]).await;
    // Her two calls, and the hold itself, which names her.
    assert_eq!((code, &done["removed"], &done["skipped"]), (1, &json!(0), &json!(3)), "{done:#}");
    assert_eq!(done["holds"], json!([hold]));
    assert!(done["remains"]["places"][0].as_str().unwrap().contains("3 rows of `payloads`"), "{done:#}");
    let act = docket_.wait_for(|entry| entry["kind"] == "erase").await;
    assert_eq!((&act["metadata"]["skipped"], &act["metadata"]["holds"]), (&json!(3), &json!([hold])));
    let (_, done, _) = ask(&docket_, &["ledger", "prune", "--before", "0s", "--kind", "decision"]).await;
    assert_eq!((&done["removed"], &done["skipped"]), (&json!(0), &json!(3)), "{done:#}");
    assert_eq!(done["holds"].as_array().unwrap().len(), 2);

    let (code, ..) = ask(&docket_, &["ledger", "hold", "release", hold, "--reason", "settled"]).await;
    assert_eq!(code, 0);
    let (code, _, error) = ask(&docket_, &["ledger", "hold", "release", hold]).await;
    assert_eq!(code, 3);
    assert!(error.contains("no active hold"), "{error}");
    let (code, done, _) = ask(&docket_, &["ledger", "erase", "--subject", "carol"]).await;
    assert_eq!((code, &done["removed"]), (0, &json!(3)), "{done:#}");
    assert_eq!(done["remains"]["places"], json!([]));
    let (_, listed, _) = ask(&docket_, &["ledger", "hold", "list"]).await;
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["hold_id"]), (1, &json!(other)));
    let (code, _, error) = ask(&docket_, &["ledger", "hold", "add", "--reason", "none"]).await;
    assert_eq!(code, 2);
    assert!(error.contains("--subject"), "{error}");
    let folder = docket_.stop().await;
    // One that matches nothing is a hold all the same, and says so: it may be a slip of the pen.
    let add = ["ledger", "hold", "add", "--zone", "defualt", "--reason", "audit", "--ledger", "docket.db"];
    let (code, out, error) = docket(&add, folder.path());
    assert_eq!(code, 0, "{error}");
    assert!(out.starts_with("held: ") && out.contains("nothing that is recorded matches now"), "{out}");
    let (_, out, _) =
        docket(&add.map(|word| if word == "defualt" { "default" } else { word }), folder.path());
    let kept = count(
        &folder.path().join("docket.db"),
        "SELECT count(*) FROM payloads JOIN leaves USING (seq) WHERE kind NOT IN ('prune', 'erase', 'hold')",
    );
    assert!(out.contains(&format!("it keeps {kept} entries of ")), "{out}");
    check(&folder.path().join("docket.db"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_prune_undercuts_the_minimum_retention() {
    let docket_ = Docket::with("[ledger.retention]\nmin_retention = \"90d\"\n", POLICY).await;
    docket_.evaluate("young-1", "echo", json!({})).await;
    for arguments in
        [&["ledger", "prune", "--before", "1d"][..], &["ledger", "prune", "--before", "0s", "--dry-run"]]
    {
        let (code, _, error) = ask(&docket_, arguments).await;
        assert_eq!(code, 2);
        assert!(error.contains("`ledger.retention.min_retention` keeps everything from 20"), "{error}");
    }
    let (code, _, error) = ask(&docket_, &["ledger", "prune", "--before", "91d"]).await;
    assert_eq!(code, 0, "{error}");
    for (body, status, expected) in [
        (json!({"before": "0s"}), 422, "min_retention"),
        (json!({"before": "soon"}), 400, "is not a time"),
        (json!({"before": "1d", "kind": "erase"}), 400, "never pruned"),
        (json!({"before": "1d", "knd": "erase"}), 400, "unknown field"),
        (json!([]), 400, "body is not"),
    ] {
        let request =
            docket_.client.post(format!("{}/v1/ledger/prune", docket_.admin)).bearer_auth(&docket_.token);
        let response = request.json(&body).send().await.unwrap();
        assert_eq!(response.status(), status, "{body}");
        let problem: Value = response.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(expected), "{problem:#}");
    }
    docket_.wait_for(|entry| entry["event_type"] == "ledger.keeping_refused").await;
    assert_eq!(docket_.admin_get("/v1/ledger/prune").await.status(), 405);
    let without =
        docket_.client.post(format!("{}/v1/ledger/erase", docket_.admin)).json(&json!({"subject": "x"}));
    assert_eq!(without.send().await.unwrap().status(), 401);
    let folder = docket_.stop().await;
    // The floor holds for a file too.
    let arguments = ["ledger", "prune", "--before", "1d", "--ledger", "docket.db", "--config", "docket.toml"];
    let (code, _, error) = docket(&arguments, folder.path());
    assert_eq!(code, 2);
    assert!(error.contains("min_retention"), "{error}");
}

/// How far this test's clock is ahead of the machine's.
static AHEAD_MS: AtomicI64 = AtomicI64::new(0);

fn ahead() -> i64 {
    (docket::cli::system_clock().now_ms)() + AHEAD_MS.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweep_prunes_by_itself() {
    let toml = "[ledger.retention]\nmax_age = \"90d\"\nrules = [{ kind = \"start\", max_age = \"forever\" }, { kind = \"access\", max_age = \"7d\" }]\n";
    let clock = Clock { now_ms: ahead, ..docket::cli::system_clock() };
    let docket_ = Docket::at(folder_with(toml, POLICY), clock).await;
    docket_.evaluate("sweep-1", "echo", json!({})).await;
    docket_.evaluate("sweep-held", "echo", json!({})).await;
    let (code, ..) =
        ask(&docket_, &["ledger", "hold", "add", "--request-id", "sweep-held", "--reason", "audit"]).await;
    assert_eq!(code, 0);
    drop(docket_.admin_get("/v1/audit").await);
    let payloads = |kind: &str| {
        count(
            &docket_.ledger(),
            &format!("SELECT count(*) FROM payloads JOIN leaves USING (seq) WHERE kind = '{kind}'"),
        )
    };
    assert_eq!((payloads("decision"), payloads("access")), (2, 1));
    let day_ms = 86_400_000;
    for (days, decisions) in [(8, 2), (91, 1)] {
        AHEAD_MS.store(days * day_ms, Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_secs(20);
        while (payloads("decision"), payloads("access")) != (decisions, 0) {
            assert!(
                Instant::now() < deadline,
                "{} and {} are left after {days} days",
                payloads("decision"),
                payloads("access")
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!((payloads("start"), payloads("hold")), (1, 1));
    let swept = docket_.entries("sweep-1").await;
    assert_eq!(swept[0]["removed"]["principal"], "retention");
    docket_.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_by_hand_is_named_and_what_comes_back_is_too() {
    let docket_ = Docket::start().await;
    for number in 0..4 {
        docket_.evaluate(&format!("h-{number}"), "echo", json!({})).await;
    }
    let copy: Vec<rusqlite::types::Value> = Connection::open(docket_.ledger())
        .unwrap()
        .query_row("SELECT * FROM payloads WHERE seq = 1", [], |row| {
            (0..19).map(|column| row.get(column)).collect()
        })
        .unwrap();
    let (code, done, _) = ask(&docket_, &["ledger", "prune", "--before", "0s", "--kind", "decision"]).await;
    assert_eq!((code, &done["removed"]), (0, &json!(4)));
    docket_.evaluate("h-late", "echo", json!({})).await;
    let folder = docket_.stop().await;
    let path = folder.path().join("docket.db");
    let pristine = std::fs::read(&path).unwrap();
    let attack = |sql: &str| {
        std::fs::write(&path, &pristine).unwrap();
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(&format!("PRAGMA foreign_keys = OFF; {sql}")).unwrap();
    };
    let late = count(&path, "SELECT seq FROM leaves WHERE request_id = 'h-late'");
    attack(&format!("DELETE FROM payloads WHERE seq = {late}"));
    let (code, report) = verify(folder.path(), &[]);
    assert_eq!(
        (code, failure(&report, "removals")),
        (1, Some(format!("entry {late}").as_str())),
        "{report:#}"
    );
    // An act is not to be had away: with it goes the right to everything it removed.
    attack("DELETE FROM payloads WHERE seq = (SELECT seq FROM leaves WHERE kind = 'prune')");
    let (code, report) = verify(folder.path(), &[]);
    let act = count(&path, "SELECT seq FROM leaves WHERE kind = 'prune'");
    assert_eq!(
        (code, failure(&report, "removals")),
        (1, Some(format!("entry {act}").as_str())),
        "{report:#}"
    );
    // What was pruned and is there again, exactly as it was, contradicts the act.
    std::fs::write(&path, &pristine).unwrap();
    let places = vec!["?"; 19].join(",");
    Connection::open(&path)
        .unwrap()
        .execute(&format!("INSERT INTO payloads VALUES ({places})"), rusqlite::params_from_iter(&copy))
        .unwrap();
    let (code, report) = verify(folder.path(), &[]);
    assert_eq!(
        (code, failure(&report, "removals"), failure(&report, "entries")),
        (1, Some("entry 1"), None),
        "{report:#}"
    );
    // A pruned entry's leaf is checked against its columns all the same.
    attack("DROP TRIGGER leaves_are_append_only_update; UPDATE leaves SET decision = 'deny' WHERE seq = 1");
    let (code, report) = verify(folder.path(), &[]);
    assert_eq!((code, failure(&report, "entries")), (1, Some("entry 1")), "{report:#}");
    std::fs::write(&path, &pristine).unwrap();
    check(&path);
}

/// Who has the key and the file can append an act as docket does, and take the payload by hand. That it was docket who did so, nothing
/// shows; what a hold on a request or a zone kept, it cannot have taken by right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_act_is_an_act_unless_a_hold_contradicts_it() {
    let docket_ = Docket::start().await;
    docket_.evaluate("free-1", "echo", json!({})).await;
    docket_.evaluate("held-1", "echo", json!({})).await;
    docket_.evaluate("held-2", "echo", json!({})).await;
    let hold = |id: &'static str| ["ledger", "hold", "add", "--request-id", id, "--reason", "audit"];
    let (_, first, _) = ask(&docket_, &hold("held-1")).await;
    let (_, second, _) = ask(&docket_, &hold("held-2")).await;
    let release = ["ledger", "hold", "release", second["hold_id"].as_str().unwrap()];
    assert_eq!(ask(&docket_, &release).await.0, 0);
    let folder = docket_.stop().await;
    let path = folder.path().join("docket.db");
    let clock = docket::cli::system_clock();
    for (request_id, kept_by) in [("free-1", None), ("held-2", None), ("held-1", Some(&first["hold_id"]))] {
        let ledger = Ledger::open(&path, Queue::default(), Signing::default(), clock).unwrap();
        let seq = count(&path, &format!("SELECT seq FROM leaves WHERE request_id = '{request_id}'"));
        let size = ledger.reader().tree_size().unwrap();
        let root = hex::encode(ledger.reader().root(size).unwrap());
        let told = json!({"principal": "admin", "seqs": [[seq, seq]], "from": seq, "to": seq, "count": 1,
            "tree": {"size": size, "root": root}});
        let content = docket::redact::Redactor::builtin().record(vec![("metadata", told)]);
        let act = Entry::event(Kind::Erase, "subject.erased", (clock.now_ms)(), content);
        ledger.append(act).await.unwrap();
        ledger.close().await;
        let shell = Connection::open(&path).unwrap();
        shell.execute(&format!("DELETE FROM payloads WHERE seq = {seq}"), []).unwrap();
        drop(shell);
        let (code, report) = verify(folder.path(), &[]);
        let found =
            report["verdicts"].as_array().unwrap().iter().find(|verdict| verdict["check"] == "removals");
        let detail = found.unwrap()["detail"].as_str().unwrap();
        match kept_by {
            None => assert_eq!(code, 0, "{report:#}"),
            Some(hold) => {
                assert_eq!((code, failure(&report, "removals")), (1, Some(format!("entry {size}").as_str())));
                let expected = format!("entry {seq}, which hold `{}` keeps", hold.as_str().unwrap());
                assert!(detail.contains(&expected), "{detail}");
            }
        }
    }
}

/// Sends so many evaluations from several tasks.
async fn fill(data: &str, entries: usize) {
    let client = reqwest::Client::new();
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let (client, url) = (client.clone(), format!("{data}/access/v1/evaluation"));
            tokio::spawn(async move {
                for number in 0..entries / 16 {
                    let body =
                        evaluation("echo", &json!({"number": number, "task": task, "text": "x".repeat(400)}));
                    assert_eq!(client.post(&url).json(&body).send().await.unwrap().status(), 200);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_during_a_prune_and_a_kill_in_its_middle_leaves_acts_whole() {
    let folder = folder_with("", POLICY);
    let mut process = Process::start(folder.path());
    let path = folder.path().join("docket.db");
    fill(&process.data, 4_000).await;
    let token = std::fs::read_to_string(folder.path().join("admin.token")).unwrap();
    let client = reqwest::Client::new();
    let prune = client.post(format!("{}/v1/ledger/prune", process.admin)).bearer_auth(token.trim());
    let pending = tokio::spawn(prune.json(&json!({"before": "0s"})).send());
    let acts = "SELECT count(*) FROM leaves WHERE kind = 'prune'";
    let mut slowest = Duration::ZERO;
    while count(&path, acts) < 3 {
        let began = Instant::now();
        let request = client.post(format!("{}/access/v1/evaluation", process.data));
        assert_eq!(request.json(&evaluation("echo", &json!({}))).send().await.unwrap().status(), 200);
        slowest = slowest.max(began.elapsed());
    }
    println!("the slowest call beside the prune took {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    process.child.kill().unwrap();
    process.child.wait().unwrap();
    drop(pending.await);
    let left = count(&path, "SELECT count(*) FROM payloads JOIN leaves USING (seq) WHERE kind <> 'prune'");
    assert!(left > 0, "it was to be killed in the middle");
    let again = Process::start(folder.path());
    assert_eq!(again.terminate(), Some(0));
    check(&path);
    // A file nobody writes to is pruned without a docket; one that is written to is not.
    let arguments = ["ledger", "prune", "--before", "0s", "--ledger", "docket.db", "--json"];
    let running = Process::start(folder.path());
    let (code, _, error) = docket(&arguments, folder.path());
    assert_eq!(code, 2);
    assert!(error.contains("leave out --ledger") && error.contains("another docket is writing"), "{error}");
    assert_eq!(running.terminate(), Some(0));
    let (code, out, error) = docket(&arguments, folder.path());
    assert_eq!(code, 0, "{error}");
    let done: Value = serde_json::from_str(&out).unwrap();
    assert!(done["removed"].as_i64().unwrap() >= left, "{done:#} of {left}");
    assert_eq!(
        count(&path, "SELECT count(*) FROM payloads JOIN leaves USING (seq) WHERE kind <> 'prune'"),
        0
    );
    assert_eq!(count(&path, "PRAGMA freelist_count"), 0, "free pages were given back");
    check(&path);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_the_schema_before_is_brought_up_and_pruned() {
    let docket_ = Docket::start().await;
    docket_.evaluate("s-1", "echo", json!({"path": "/somewhere"})).await;
    let folder = docket_.stop().await;
    let path = folder.path().join("docket.db");
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "DROP TABLE op_rollup_blocks; DROP TABLE op_rollup_values; DROP TABLE op_rollup_names; DROP TABLE op_rollup_salt; \
             DROP TABLE op_rollup_decisions; \
             DROP TABLE op_blocks; DROP TABLE op_tokens; \
             DROP INDEX leaves_acts; PRAGMA user_version = 2; PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = 0; VACUUM",
        )
        .unwrap();
    drop(connection);
    let docket_ = Docket::in_folder(folder).await;
    let (code, done, error) = ask(&docket_, &["ledger", "prune", "--before", "0s"]).await;
    assert_eq!(code, 0, "{error}");
    assert!(done["removed"].as_i64().unwrap() >= 4, "{done:#}");
    assert_eq!(occurrences(&path, "/somewhere"), 0);
    assert_eq!(count(&path, "PRAGMA auto_vacuum"), 0, "it keeps its free pages");
    docket_.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_with_an_old_snapshot_keeps_the_log_and_no_call_waits_for_it() {
    let docket_ = Docket::start().await;
    evaluate_as(&docket_, "erin@acme.example", "e-1").await;
    let reader = Connection::open(docket_.ledger()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM payloads").unwrap();
    let (erase, slowest) =
        tokio::join!(ask(&docket_, &["ledger", "erase", "--subject", "erin@acme.example"]), async {
            let (began, mut slowest) = (Instant::now(), Duration::ZERO);
            while began.elapsed() < Duration::from_secs(3) {
                let call = Instant::now();
                docket_.evaluate("beside", "echo", json!({})).await;
                slowest = slowest.max(call.elapsed());
            }
            slowest
        });
    let (code, done, error) = erase;
    assert_eq!(
        (code, &done["removed"], &done["remains"]["log_truncated"]),
        (1, &json!(1), &json!(false)),
        "{error}{done:#}"
    );
    assert!(slowest < Duration::from_millis(1_500), "{slowest:?}");
    let notes = || {
        let files = std::fs::read_dir(docket_.folder.path()).unwrap().map(|file| file.unwrap().file_name());
        files.filter(|name| name.to_string_lossy().contains(".erasing-")).count()
    };
    assert_eq!(notes(), 1, "docket is to try again");
    reader.execute_batch("COMMIT").unwrap();
    let (code, done, error) = ask(&docket_, &["ledger", "erase", "--subject", "erin@acme.example"]).await;
    assert_eq!((code, &done["remains"]["unused"]), (0, &json!(0)), "{error}{done:#}");
    assert_eq!((occurrences(&docket_.ledger(), "erin@acme.example"), notes()), (0, 0));
    docket_.stop().await;
}

/// A shell that looks at the ledger after an erasure must not believe to be alone with it: it would take the log away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn erasing_lets_go_of_no_lock() {
    let folder = folder_with("", POLICY);
    let process = Process::start(folder.path());
    let client = reqwest::Client::new();
    let call = async |id: &str| {
        let request =
            client.post(format!("{}/access/v1/evaluation", process.data)).header("x-request-id", id);
        let body = evaluation("delete_file", &json!({"path": "/x"}));
        assert_eq!(request.json(&body).send().await.unwrap().status(), 200);
    };
    call("before").await;
    let erase =
        ["ledger", "erase", "--subject", "nobody-1", "--config", "docket.toml", "--url", &process.admin];
    let (code, out, error) = docket(&erase, folder.path());
    assert_eq!(code, 0, "{out}{error}");
    let mut shell = std::process::Command::new("sqlite3");
    shell.args(["docket.db", "SELECT count(*) FROM decisions"]).current_dir(folder.path());
    let counted = shell.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&counted.stdout).trim(), "1");
    for id in ["after-1", "after-2"] {
        call(id).await;
    }
    drop(process);
    let process = Process::start(folder.path());
    for id in ["before", "after-1", "after-2"] {
        let (code, _, error) = docket(&["explain", id, "--ledger", "docket.db"], folder.path());
        assert_eq!(code, 0, "{id}: {error}");
    }
    assert_eq!(process.terminate(), Some(0));
    check(&folder.path().join("docket.db"));
}
