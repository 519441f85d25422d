//! Redaction hooks: what a component may take away, and that nothing a component does lets anything through.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::guests::{self, MASK_ALL, NOTHING, component, first_text};
use crate::harness::{self, Docket, POLICY, Process, check, folder_with};

/// What no record, log or answer of the audit API may show.
const SECRET: &str = "swordfish";
/// Generous, for machines with other things to do; a hook is cut off at it all the same.
const DEADLINE: Duration = Duration::from_millis(250);

/// A folder with a hook `test` of this component, and more lines of its table.
fn folder(component: &[u8], lines: &str) -> TempDir {
    let hook = format!(
        "[[redaction.hooks]]\nname = \"test\"\ncomponent = \"HERE/hook.wasm\"\ndeadline_ms = {}\n{lines}\n",
        DEADLINE.as_millis()
    );
    let folder = folder_with(&hook, POLICY);
    let toml = folder.path().join("docket.toml");
    let text = std::fs::read_to_string(&toml).unwrap().replace("HERE", &folder.path().display().to_string());
    std::fs::write(toml, text).unwrap();
    std::fs::write(folder.path().join("hook.wasm"), component).unwrap();
    folder
}

async fn docket(component: &[u8], lines: &str) -> Docket {
    Docket::in_folder(folder(component, lines)).await
}

/// Replaces a component as tools do: whole or not at all.
fn replace(folder: &Path, component: &[u8]) {
    std::fs::write(folder.join("new.wasm"), component).unwrap();
    std::fs::rename(folder.join("new.wasm"), folder.join("hook.wasm")).unwrap();
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

async fn ready(docket: &Docket) -> Value {
    docket.client.get(format!("{}/readyz", docket.data)).send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn a_hook_masks_what_it_is_asked_about_and_nothing_else() {
    let masks_all = component(MASK_ALL);
    let docket = docket(&masks_all, "").await;
    let answer = docket.evaluate("masked", "delete_file", json!({"path": "/etc/shadow", "times": 3})).await;
    let entry = docket.entries("masked").await.remove(0);
    // The agent is told what the policy says; the ledger is not.
    assert_eq!(
        answer["context"]["diagnostics"][0]["message"],
        "`/etc/shadow` must not be deleted; archive it instead"
    );
    assert_eq!(
        entry["metadata"]["context"]["arguments"],
        json!({"path": "[redacted]", "times": "[redacted]"}),
        "{entry:#}"
    );
    assert_eq!(entry["diagnostics"][0]["message"], "[redacted]");
    assert_eq!(entry["diagnostics"][0]["data"], json!({"path": "[redacted]"}));
    // Who, what, when and why are not a hook's to take.
    for (member, expected) in [
        ("request_id", json!("masked")),
        ("decision", json!("deny")),
        ("evaluation_status", json!("complete")),
        ("agent", json!("anonymous")),
        ("event_type", json!("access.evaluation")),
    ] {
        assert_eq!(entry[member], expected, "{member}: {entry:#}");
    }
    assert_eq!(entry["diagnostics"][0]["policy_id"], "test.tools");
    assert_eq!(entry["diagnostics"][0]["rule"], "no_delete");
    assert_eq!(entry["determining_policies"][0]["policy_id"], "test.tools");
    assert_eq!(entry["subject"]["id"], "bot");
    assert_eq!(entry["resource"]["id"], "delete_file");
    assert_ne!(entry["metadata"]["context"]["time"], "[redacted]");
    let hooks = json!([{"name": "test", "sha256": sha256(&masks_all)}]);
    assert_eq!(entry["metadata"]["hooks"], hooks);
    let edits = entry["redactions"].as_array().unwrap();
    let wanted =
        json!({"path": "/context/arguments/path", "op": "mask", "by": "hook:test", "category": "guest"});
    assert!(edits.contains(&wanted), "{edits:#?}");
    let started = docket.wait_for(|entry| entry["event_type"] == "docket.started").await;
    assert_eq!(started["metadata"]["loaded_hooks"], hooks);
    let metrics = docket.admin_get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("docket_hook_calls_total{hook=\"test\",result=\"ok\"}"), "{metrics}");
    assert!(metrics.contains("docket_hook_seconds_count{hook=\"test\"}"), "{metrics}");
    assert_eq!(ready(&docket).await.get("hooks"), None);
    docket.stop().await;
}

#[tokio::test]
async fn each_action_takes_away_what_it_says() {
    let keep = |action, count| {
        first_text(action, &format!("(i32.store offset=8 (local.get $edits) (i32.const {count}))"))
    };
    // The first nine bytes of the text.
    let word = first_text(
        2,
        "(i32.store (i32.const 512) (i32.load offset=12 (local.get $at))) (i32.store (i32.const 516) (i32.const 9))
         (i32.store offset=8 (local.get $edits) (i32.const 512)) (i32.store offset=12 (local.get $edits) (i32.const 1))",
    );
    let cases = [
        (first_text(0, ""), json!({"n": 7}), "remove"),
        (first_text(1, ""), json!({"n": 7, "path": "[redacted]"}), "mask"),
        (word, json!({"n": 7, "path": "[redacted] b [redacted]!"}), "mask"),
        (keep(4, 2), json!({"n": 7, "path": "sw[redacted]"}), "truncate"),
        (keep(5, 1), json!({"n": 7, "path": "[redacted]!"}), "truncate"),
        (keep(5, 4_000), json!({"n": 7, "path": "[redacted]"}), "truncate"),
    ];
    let docket = docket(&component(NOTHING), "").await;
    for (at, (body, left, op)) in cases.into_iter().enumerate() {
        let guest = component(&body);
        replace(docket.folder.path(), &guest);
        docket
            .wait_for(|entry| {
                entry["event_type"] == "hook.updated" && entry["metadata"]["after"] == sha256(&guest)
            })
            .await;
        let id = format!("action-{at}");
        docket.evaluate(&id, "delete_file", json!({"n": 7, "path": "swordfish b swordfish!"})).await;
        let entry = docket.entries(&id).await.remove(0);
        assert_eq!(entry["metadata"]["context"]["arguments"], left, "{entry:#}");
        let edit = entry["redactions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|edit| edit["path"] == "/context/arguments/path");
        assert_eq!((&edit.unwrap()["op"], &edit.unwrap()["by"]), (&json!(op), &json!("hook:test")));
        // The deny message quotes the argument, and does not give it back.
        let message = entry["diagnostics"][0]["message"].as_str().unwrap();
        assert!(!message.contains(SECRET), "{message}");
    }
    docket.stop().await;
}

#[tokio::test]
async fn equal_values_have_equal_hashes_in_one_ledger_and_others_in_another() {
    let hashes = component(&first_text(3, ""));
    let mut seen = Vec::new();
    for _ in 0..2 {
        let docket = docket(&hashes, "").await;
        for (id, word) in [("h1", "swordfish"), ("h2", "swordfish"), ("h3", "catfish")] {
            docket.evaluate(id, "echo", json!({"word": word})).await;
            let entry = docket.entries(id).await.remove(0);
            let hash = entry["metadata"]["context"]["arguments"]["word"].as_str().unwrap().to_owned();
            assert!(hash.starts_with("hmac-sha256:"), "{hash}");
            assert_eq!(entry["redactions"][0]["op"], "hash");
            seen.push(hash);
        }
        docket.stop().await;
    }
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[0], seen[2]);
    assert_ne!(seen[0], seen[3]);
    assert_ne!(seen[0], format!("hmac-sha256:{}", hex::encode(Sha256::digest("swordfish"))));
}

/// Resident memory of a process, in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One evaluation, with the time it took.
fn evaluate(process: &Process, id: &str) -> (Value, Duration) {
    let body =
        harness::evaluation("echo", &json!({"note": format!("the word is {SECRET}"), "list": [SECRET, 7]}));
    let url = format!("{}/access/v1/evaluation", process.data);
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let client = reqwest::Client::new();
        client.post(url).header("x-request-id", id).json(&body).send().await.unwrap().json().await.unwrap()
    });
    (answer, started.elapsed())
}

/// What the ledger has under a request id, read by another process.
fn recorded(folder: &Path, id: &str) -> Value {
    let (_, out, error) =
        harness::docket(&["tail", "--ledger", "docket.db", "--request-id", id, "--json"], folder);
    let entries: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{error}"));
    entries[0].clone()
}

/// Every byte that docket wrote into its folder, but for the components themselves.
fn written(folder: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|path| path.is_file() && path.extension().is_none_or(|kind| kind != "wasm"));
    files.flat_map(|path| std::fs::read(path).unwrap()).collect()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn whatever_a_hostile_hook_does_the_record_is_withheld_and_the_call_goes_on() {
    for (name, body, cause) in guests::hostile() {
        let folder = folder(&component(&body), "");
        let process = Process::start(folder.path());
        let base = resident_kib(process.child.id());
        let mut times = Vec::new();
        for call in 0..5 {
            let (answer, took) = evaluate(&process, &format!("call-{call}"));
            assert_eq!(answer["decision"], true, "{name}: {answer}");
            times.push(took);
        }
        // The median: a machine that runs other things may keep one of them waiting.
        times.sort();
        assert!(times[2] < 2 * DEADLINE, "{name}: {times:?}");
        let grown = resident_kib(process.child.id()).saturating_sub(base);
        assert!(grown < 16 << 10, "{name}: {grown} KiB more");
        let entry = recorded(folder.path(), "call-4");
        let marker = format!("[withheld: redaction hook `test` failed: {cause}]");
        assert_eq!(entry["metadata"]["context"]["arguments"], marker, "{name}: {entry:#}");
        assert_eq!(entry["metadata"]["hooks"][0]["failed"], cause, "{name}");
        assert_eq!((&entry["decision"], &entry["request_id"]), (&json!("allow"), &json!("call-4")), "{name}");
        let edit = &entry["redactions"][0];
        assert_eq!((&edit["by"], &edit["category"]), (&json!("hook:test"), &json!("withheld")), "{name}");
        assert_eq!(process.terminate(), Some(0), "{name}");
        let written = written(folder.path());
        assert!(!contains(&written, SECRET), "{name}: the secret is in {}", folder.path().display());
        let log = std::fs::read_to_string(folder.path().join("docket.log")).unwrap();
        assert!(log.contains(&format!("\"cause\":\"{cause}\"")), "{name}: {log}");
        assert!(log.lines().count() < 60, "{name}: {log}");
        check(&folder.path().join("docket.db"));
    }
}

#[test]
fn a_hook_that_traps_at_start_withholds_too() {
    let guest = guests::with_extra(NOTHING, "(func $begin unreachable) (start $begin)");
    let folder = folder(&guest, "");
    let process = Process::start(folder.path());
    evaluate(&process, "at-start");
    let entry = recorded(folder.path(), "at-start");
    assert_eq!(
        entry["metadata"]["context"]["arguments"], "[withheld: redaction hook `test` failed: trap]",
        "{entry:#}"
    );
    assert_eq!(process.terminate(), Some(0));
}

#[tokio::test]
async fn a_hook_remembers_nothing_from_one_record_to_the_next() {
    // It would trap on its third call, if it could count.
    let body = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                (if (i32.ge_u (global.get $calls) (i32.const 3)) (then unreachable)) (call $none)";
    let guest = guests::with_extra(body, "(global $calls (mut i32) (i32.const 0))");
    let docket = docket(&guest, "").await;
    for call in 0..5 {
        let id = format!("call-{call}");
        docket.evaluate(&id, "echo", json!({"word": "w"})).await;
        assert_eq!(docket.entries(&id).await[0]["metadata"]["context"]["arguments"], json!({"word": "w"}));
    }
    docket.stop().await;
}

#[tokio::test]
async fn what_becomes_of_the_call_when_a_hook_fails_is_configured() {
    let broken = component("unreachable");
    let docket_masks = docket(&broken, "on_failure = \"mask_all\"").await;
    let answer = docket_masks.evaluate("masked", "echo", json!({"a": ["x", 1, true, null]})).await;
    assert_eq!(answer["decision"], true);
    let entry = docket_masks.entries("masked").await.remove(0);
    assert_eq!(
        entry["metadata"]["context"]["arguments"],
        json!({"a": ["[redacted]", "[redacted]", true, null]})
    );
    docket_masks.stop().await;

    let docket_denies = docket(&broken, "on_failure = \"deny\"").await;
    let answer = docket_denies.evaluate("denied", "echo", json!({"word": SECRET})).await;
    assert_eq!(answer["decision"], false, "{answer:#}");
    let entry = docket_denies.entries("denied").await.remove(0);
    assert_eq!((&entry["decision"], &entry["evaluation_status"]), (&json!("deny"), &json!("error")));
    assert_eq!(entry["determining_policies"], json!([]));
    assert_eq!(entry["diagnostics"][0]["rule"], "hook_failed");
    assert_eq!(
        entry["diagnostics"][0]["message"],
        "redaction hook `test` failed (trap), and calls are refused then"
    );
    assert!(!entry.to_string().contains(SECRET), "{entry:#}");
    docket_denies.stop().await;
}

#[tokio::test]
async fn a_failing_hook_is_called_unhealthy_and_never_passed_by() {
    let docket = docket(&component("unreachable"), "unhealthy_after = 4").await;
    for call in 0..6 {
        docket.evaluate(&format!("call-{call}"), "echo", json!({"word": SECRET})).await;
    }
    let state = ready(&docket).await;
    let hook = &state["hooks"][0];
    assert_eq!((&state["status"], &hook["status"]), (&json!("ready"), &json!("unhealthy")), "{state:#}");
    assert_eq!((&hook["name"], &hook["last_failure"]), (&json!("test"), &json!("trap")));
    assert!(hook["failures_in_a_row"].as_u64().unwrap() >= 6, "{state:#}");
    let entry = docket.entries("call-5").await.remove(0);
    assert!(!entry.to_string().contains(SECRET), "{entry:#}");
    let mended = component(NOTHING);
    replace(docket.folder.path(), &mended);
    docket.wait_for(|entry| entry["event_type"] == "hook.updated").await;
    docket.evaluate("mended", "echo", json!({})).await;
    assert_eq!(ready(&docket).await.get("hooks"), None);
    docket.stop().await;
}

#[tokio::test]
async fn a_changed_component_is_taken_over_and_a_broken_one_refused() {
    let (first, second) = (component(NOTHING), component(MASK_ALL));
    let docket = docket(&first, "").await;
    replace(docket.folder.path(), &second);
    let updated = docket.wait_for(|entry| entry["event_type"] == "hook.updated").await;
    assert_eq!((&updated["kind"], &updated["metadata"]["cause"]), (&json!("policy"), &json!("watch")));
    assert_eq!(updated["metadata"]["hook"], "test");
    assert_eq!(updated["metadata"]["before"], sha256(&first));
    assert_eq!(updated["metadata"]["after"], sha256(&second));
    for (broken, expected) in [
        (&b"no component"[..], "it is no WebAssembly component"),
        (b"\0asm\x01\0\0\0", "it is a core module"),
        (&second[..second.len() / 2], "it cannot be compiled"),
        (&guests::wasi(false), "it imports `wasi:clocks/monotonic-clock@0.2.0`"),
        (&component("unreachable"), "it fails: trap"),
    ] {
        replace(docket.folder.path(), broken);
        let rejected = docket
            .wait_for(|entry| {
                entry["event_type"] == "hook.rejected"
                    && entry["metadata"]["reason"].as_str().unwrap().contains(expected)
            })
            .await;
        assert_eq!(rejected["metadata"]["hook"], "test");
        let state = ready(&docket).await;
        assert_eq!(state["hooks"][0]["status"], "update_rejected", "{state:#}");
        docket.evaluate("still", "echo", json!({"word": SECRET})).await;
    }
    for entry in docket.entries("still").await {
        assert_eq!(entry["metadata"]["hooks"][0]["sha256"], sha256(&second), "the old one stays");
        assert!(!entry.to_string().contains(SECRET), "{entry:#}");
    }
    // The one in use again is no news, and mends what was refused.
    replace(docket.folder.path(), &second);
    let deadline = Instant::now() + Duration::from_secs(10);
    while ready(&docket).await.get("hooks").is_some() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    docket.stop().await;
}

#[test]
fn components_that_cannot_be_hooks_are_refused_at_start() {
    let refused = |component: &[u8], lines: &str| {
        let folder = folder(component, lines);
        let (code, _, error) = harness::docket(&["serve", "--config", "docket.toml"], folder.path());
        assert_eq!(code, 2, "{error}");
        assert!(error.contains("redaction hook `test`: `"), "{error}");
        error
    };
    let import = refused(&guests::wasi(false), "");
    assert!(import.contains("or set `wasi = \"trap\"`"), "{import}");
    let world = refused(b"\0asm\x0d\0\x01\0", "");
    assert!(world.contains("it is no redaction hook") && world.contains("docket:redaction@0.1.0"), "{world}");
    let module = refused(b"\0asm\x01\0\0\0", "");
    assert!(module.contains("wasm-tools component new"), "{module}");
    let folder = folder(b"", "");
    std::fs::remove_file(folder.path().join("hook.wasm")).unwrap();
    let (code, _, error) = harness::docket(&["serve", "--config", "docket.toml"], folder.path());
    assert_eq!(code, 2);
    assert!(error.contains("hook.wasm`: it cannot be read"), "{error}");
}

#[tokio::test]
async fn wasi_can_be_there_as_a_trap() {
    let idle = docket(&guests::wasi(false), "wasi = \"trap\"").await;
    idle.evaluate("idle", "echo", json!({"word": SECRET})).await;
    assert_eq!(
        idle.entries("idle").await[0]["metadata"]["context"]["arguments"],
        json!({"word": "[redacted]"})
    );
    idle.stop().await;
    let asks = docket(&guests::wasi(true), "wasi = \"trap\"").await;
    asks.evaluate("asks", "echo", json!({"word": SECRET})).await;
    let entry = asks.entries("asks").await.remove(0);
    assert_eq!(entry["metadata"]["context"]["arguments"], "[withheld: redaction hook `test` failed: wasi]");
    asks.stop().await;
}

#[test]
fn compiled_hooks_are_kept_and_loaded_only_as_docket_wrote_them() {
    let folder = folder(&component(MASK_ALL), "");
    let start = || {
        let process = Process::start(folder.path());
        evaluate(&process, "cached");
        let entry = recorded(folder.path(), "cached");
        assert_eq!(entry["metadata"]["context"]["arguments"]["note"], "[redacted]");
        assert_eq!(process.terminate(), Some(0));
        std::fs::read_to_string(folder.path().join("docket.log")).unwrap()
    };
    start();
    let cache = folder.path().join("docket.db.hooks");
    let files: Vec<_> = std::fs::read_dir(&cache).unwrap().map(|file| file.unwrap().path()).collect();
    let [compiled] = &files[..] else { panic!("{files:?}") };
    let genuine = std::fs::read(compiled).unwrap();
    let written = || std::fs::metadata(compiled).unwrap().modified().unwrap();
    let first = written();
    assert!(!start().contains("compiled anew"));
    assert_eq!(written(), first, "it was loaded, and not made again");
    // One bit anywhere, another ledger's key, nothing at all.
    let mut flipped = genuine.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let mut foreign = genuine.clone();
    foreign[..32].fill(7);
    for tampered in [flipped, foreign, Vec::new()] {
        std::fs::write(compiled, &tampered).unwrap();
        let log = start();
        assert!(log.contains("a compiled hook is not as docket wrote it"), "{log}");
        assert_ne!(std::fs::read(compiled).unwrap(), tampered, "it was made again");
    }
    // What belongs to no hook any more goes.
    std::fs::write(folder.path().join("hook.wasm"), component(NOTHING)).unwrap();
    let process = Process::start(folder.path());
    assert_eq!(process.terminate(), Some(0));
    assert!(!compiled.exists());
}

/// The example in C, as it is checked in.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/redactors/c/redactor.wasm");

#[test]
fn a_component_can_be_looked_at_before_docket_runs_it() {
    let folder = tempfile::tempdir().unwrap();
    let check =
        |arguments: &[&str]| harness::docket(&[&["hook", "check"], arguments].concat(), folder.path());
    let (code, out, error) = check(&[EXAMPLE]);
    assert_eq!(code, 0, "{out}{error}");
    for expected in [
        "imports    docket:redaction/types@0.1.0",
        "timing     100 calls: p50 ",
        "/context/arguments/card/number  \"[redacted]\"",
        "\"Ada Lovelace <[redacted]>\"",
        "1 of 3 records without an edit",
    ] {
        assert!(out.contains(expected), "{expected}: {out}");
    }
    // Records of one's own, whole or only the arguments of a call.
    let records =
        "{\"pan\": \"4111 1111 1111 1111\"}\n\n{\"context\": {\"arguments\": {\"pan\": 4111111111111111}}}\n";
    std::fs::write(folder.path().join("records.jsonl"), records).unwrap();
    let settings = "{\"cards\": \"hash\"}";
    let (code, out, error) =
        check(&[EXAMPLE, "--records", "records.jsonl", "--settings", settings, "--calls", "3", "--json"]);
    assert_eq!(code, 0, "{error}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["timing"]["calls"], &report["failures"]), (&json!(3), &json!(0)));
    assert_eq!(report["component"]["sha256"], sha256(&std::fs::read(EXAMPLE).unwrap()));
    for record in report["records"].as_array().unwrap() {
        let pan = record["record"]["context"]["arguments"]["pan"].as_str().unwrap();
        assert!(pan.starts_with("hmac-sha256:"), "{record:#}");
        assert_eq!(record["edits"][0]["category"], "payment-card");
    }
    // What goes wrong, and where.
    for (arguments, expected_code, expected) in [
        (&[EXAMPLE, "--settings", "{\"card\": \"hash\"}"][..], 1, "it fails: error: "),
        (&[EXAMPLE, "--settings", "cards"], 2, "`--settings`: `cards` is not a JSON object"),
        (&[EXAMPLE, "--records", "nothing.jsonl"], 2, "cannot read `nothing.jsonl`"),
        (&[EXAMPLE, "--ledger", "nothing.db"], 2, "ledger `nothing.db` does not exist"),
        (&["records.jsonl"], 2, "it is no WebAssembly component"),
    ] {
        let (code, out, error) = check(arguments);
        assert_eq!(code, expected_code, "{arguments:?}: {out}{error}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    std::fs::write(folder.path().join("bad.jsonl"), "{\"a\": 1}\n{\"a\": 1, \"a\": 2}\n").unwrap();
    let (code, _, error) = check(&[EXAMPLE, "--records", "bad.jsonl"]);
    assert_eq!(code, 2);
    assert!(error.contains("`bad.jsonl`, line 2: "), "{error}");
}

#[tokio::test]
async fn a_component_can_be_tried_on_what_was_recorded() {
    let docket = Docket::start().await;
    docket.evaluate("r", "echo", json!({"mail": "ada@example.com"})).await;
    let folder = docket.stop().await;
    let (code, out, error) =
        harness::docket(&["hook", "check", EXAMPLE, "--ledger", "docket.db", "--json"], folder.path());
    assert_eq!(code, 0, "{error}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        report["records"][0]["record"]["context"]["arguments"],
        json!({"mail": "[redacted]"}),
        "{report:#}"
    );
    assert_eq!(report["records"][0]["record"]["resource"]["id"], "echo");
}

#[test]
fn a_hook_to_start_from_is_written_whole_and_overwrites_nothing() {
    for (language, source) in
        [("rust", "src/lib.rs"), ("c", "hook.c"), ("js", "hook.js"), ("python", "app.py")]
    {
        let folder = tempfile::tempdir().unwrap();
        let new = || harness::docket(&["hook", "new", "--lang", language, "mine/hook"], folder.path());
        let (code, out, error) = new();
        assert_eq!(code, 0, "{error}");
        assert!(out.contains("docket hook check ") && out.contains("[[redaction.hooks]]"), "{out}");
        let wit = std::fs::read_to_string(folder.path().join("mine/hook/wit/redactor.wit")).unwrap();
        assert!(wit.contains("package docket:redaction@0.1.0;"));
        let path = folder.path().join("mine/hook").join(source);
        std::fs::write(&path, "mine").unwrap();
        let (code, _, error) = new();
        assert_eq!(code, 2);
        assert!(error.contains("is there already; name an empty folder"), "{error}");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "mine");
    }
}

#[tokio::test]
async fn a_hook_that_fails_on_every_call_is_unhealthy_however_well_it_does_with_the_rest() {
    let body = "(if (local.get $decision_len) (then unreachable)) (call $none)";
    let docket = docket(&component(body), "").await;
    for call in 0..4 {
        docket.evaluate(&format!("call-{call}"), "echo", json!({"word": SECRET})).await;
        // Reading is recorded too, and the hook has nothing against that.
        assert_eq!(docket.entries(&format!("call-{call}")).await.len(), 1);
    }
    let state = ready(&docket).await;
    assert_eq!(state["hooks"][0]["status"], "unhealthy", "{state:#}");
    docket.stop().await;
}

#[tokio::test]
async fn what_a_caller_of_the_decision_api_asserts_is_shown_to_hooks() {
    let docket = docket(&component(MASK_ALL), "").await;
    let mut body = harness::evaluation("echo", &json!({}));
    body["subject"]["properties"] = json!({"user": SECRET, "roles": [SECRET], "claims": {"mail": SECRET}});
    let request =
        docket.client.post(format!("{}/access/v1/evaluation", docket.data)).header("x-request-id", "r");
    assert_eq!(request.json(&body).send().await.unwrap().status(), 200);
    let entry = docket.entries("r").await.remove(0);
    assert!(!entry.to_string().contains(SECRET), "{entry:#}");
    assert_eq!((&entry["subject"]["id"], &entry["agent"]), (&json!("bot"), &json!("anonymous")));
    docket.stop().await;
}

#[tokio::test]
async fn a_pipe_in_the_place_of_a_component_keeps_nobody_waiting() {
    let docket = docket(&component(MASK_ALL), "").await;
    let path = docket.folder.path().join("hook.wasm");
    std::fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let rejected = docket.wait_for(|entry| entry["event_type"] == "hook.rejected").await;
    assert_eq!(rejected["metadata"]["reason"], "it is no file");
    let (code, _, error) = harness::docket(&["hook", "check", "hook.wasm"], docket.folder.path());
    assert_eq!(code, 2);
    assert!(error.contains("it is no file"), "{error}");
    docket.stop().await;
}
