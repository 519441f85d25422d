//! The tree behind the ledger: checkpoints, proofs and keys as an outsider gets them, and files that older dockets wrote.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use docket::ledger::bundle::{self, Selection};
use docket::tlog::{Checkpoint, Hash, Proof, VerifierKey, leaf_hash, tree};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::harness::{Docket, POLICY, Process, check, docket, folder_with};

async fn key_of(docket: &Docket) -> VerifierKey {
    let answer: Value = docket.admin_get("/v1/ledger/key").await.json().await.unwrap();
    VerifierKey::parse(answer["key"].as_str().unwrap()).unwrap()
}

async fn checkpoint_of(docket: &Docket) -> String {
    let answer = docket.admin_get("/v1/checkpoint").await;
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    answer.text().await.unwrap()
}

fn hash(value: &Value) -> Hash {
    STANDARD.decode(value.as_str().unwrap()).unwrap().try_into().unwrap()
}

fn hashes(value: &Value) -> Vec<Hash> {
    value.as_array().unwrap().iter().map(hash).collect()
}

#[tokio::test]
async fn an_outsider_proves_an_entry_and_that_nothing_before_it_changed() {
    let docket = Docket::start().await;
    docket.evaluate("p-1", "echo", json!({})).await;
    let key = key_of(&docket).await;
    let old = Checkpoint::open(&checkpoint_of(&docket).await, &key).unwrap();
    assert!(old.origin.starts_with("docket.local/") && old.size == 2, "{old:?}");
    for number in 2..20 {
        docket.evaluate(&format!("p-{number}"), "echo", json!({})).await;
    }
    let id = docket.entries("p-1").await[0]["id"].as_str().unwrap().to_owned();
    let proof: Value = docket.admin_get(&format!("/v1/entries/{id}/proof")).await.json().await.unwrap();
    let leaf = proof["leaf"].as_str().unwrap();
    assert!(leaf.contains("\"p-1\""), "{leaf}");
    let travelling = Proof::parse(proof["tlog_proof"].as_str().unwrap()).unwrap();
    let new = travelling.verify(&leaf_hash(leaf.as_bytes()), &key).unwrap();
    assert!(travelling.verify(&leaf_hash(b"another"), &key).is_err());

    let path = format!("/v1/proof/consistency?from={}&to={}", old.size, new.size);
    let consistency: Value = docket.admin_get(&path).await.json().await.unwrap();
    assert_eq!(hash(&consistency["from_root"]), old.root);
    assert!(tree::verify_consistency(
        old.size,
        &old.root,
        new.size,
        &new.root,
        &hashes(&consistency["hashes"])
    ));

    let inclusion: Value = docket.admin_get("/v1/proof/inclusion?index=1&size=7").await.json().await.unwrap();
    let (leaf, root) = (hash(&inclusion["leaf_hash"]), hash(&inclusion["root"]));
    assert_eq!(leaf, leaf_hash(proof["leaf"].as_str().unwrap().as_bytes()));
    assert!(tree::verify_inclusion(&leaf, 1, 7, &root, &hashes(&inclusion["hashes"])));

    for (path, expected) in [
        ("inclusion", "`index` is missing"),
        ("inclusion?index=7&size=7", "not below"),
        ("inclusion?index=0&size=9999", "beyond it"),
        ("inclusion?index=x", "`index` must be a number"),
        ("consistency?from=3&to=2", "above"),
        ("consistency?from=3&foo=2", "`foo` is not known"),
    ] {
        let refused = docket.admin_get(&format!("/v1/proof/{path}")).await;
        assert_eq!(refused.status(), 400, "{path}");
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
        let problem: Value = refused.json().await.unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(expected), "{problem}");
    }
    assert_eq!(docket.admin_get("/v1/entries/nothing/proof").await.status(), 404);
    let proved = docket.wait_for(|entry| entry["event_type"] == "ledger.proved").await;
    assert_eq!(proved["kind"], "access");
    docket.stop().await;
}

#[tokio::test]
async fn new_entries_are_under_a_checkpoint_within_a_second_and_at_the_stop() {
    let folder = folder_with("", POLICY);
    let file = folder.path().join("head.txt");
    let toml = std::fs::read_to_string(folder.path().join("docket.toml")).unwrap();
    let more =
        format!("ledger.checkpoint_file = \"{}\"\nledger.origin = \"docket.example/one\"\n", file.display());
    std::fs::write(folder.path().join("docket.toml"), toml + &more).unwrap();
    let docket = Docket::in_folder(folder).await;
    let began = Instant::now();
    docket.evaluate("c-1", "echo", json!({})).await;
    let signed = loop {
        match std::fs::read_to_string(&file) {
            Ok(note) if Checkpoint::unverified(&note).unwrap().size >= 2 => break note,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        assert!(began.elapsed() < Duration::from_secs(3));
    };
    let key = key_of(&docket).await;
    assert_eq!(key.name(), "docket.example/one");
    let signed = Checkpoint::open(&signed, &key).unwrap();
    assert_eq!(signed.origin, "docket.example/one");
    // Without new leaves there are no new checkpoints.
    let count = |path: &std::path::Path| -> i64 {
        let connection = Connection::open(path).unwrap();
        connection.query_row("SELECT count(*) FROM checkpoints", [], |row| row.get(0)).unwrap()
    };
    let ledger = docket.ledger();
    let before = count(&ledger);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(count(&ledger), before);
    docket.evaluate("c-2", "echo", json!({})).await;
    let folder = docket.stop().await;
    let last = Checkpoint::open(&std::fs::read_to_string(file).unwrap(), &key).unwrap();
    let leaves: i64 = Connection::open(folder.path().join("docket.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM leaves", [], |row| row.get(0))
        .unwrap();
    assert_eq!(last.size, u64::try_from(leaves).unwrap());
}

#[tokio::test]
async fn the_key_is_private_stays_and_is_asked_for_by_name() {
    let folder = folder_with("", POLICY);
    let process = Process::start(folder.path());
    let key_file = folder.path().join("docket.db.key");
    assert_eq!(std::fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
    let online = ["--url", process.admin.as_str(), "--config", "docket.toml"];
    let (code, key, error) = docket(&[&["ledger", "key"], online.as_slice()].concat(), folder.path());
    assert_eq!(code, 0, "{error}");
    let (_, note, _) = docket(&[&["checkpoint"], online.as_slice()].concat(), folder.path());
    let parsed = VerifierKey::parse(key.trim()).unwrap();
    assert_eq!(Checkpoint::open(&note, &parsed).unwrap().origin, parsed.name());
    assert_eq!(process.terminate(), Some(0));
    assert_eq!(
        docket(&["ledger", "key", "--ledger", "docket.db"], folder.path()),
        (0, key.clone(), String::new())
    );
    let (code, note, _) = docket(&["checkpoint", "--ledger", "docket.db"], folder.path());
    assert_eq!((code, Checkpoint::open(&note, &parsed).unwrap().size), (0, 2));
    // openssl reads what docket wrote.
    let openssl = std::process::Command::new("openssl")
        .args(["pkey", "-noout", "-text", "-in"])
        .arg(&key_file)
        .output();
    if let Ok(output) = openssl {
        assert!(String::from_utf8_lossy(&output.stdout).contains("ED25519 Private-Key"), "{output:?}");
    }
    let process = Process::start(folder.path());
    let online = ["--url", process.admin.as_str(), "--config", "docket.toml"];
    assert_eq!(
        docket(&[&["ledger", "key"], online.as_slice()].concat(), folder.path()).1,
        key,
        "the key stays"
    );
    assert_eq!(process.terminate(), Some(0));
    check(&folder.path().join("docket.db"));

    let refused = |expected: &str| {
        let (code, _, error) = docket(&["serve", "--config", "docket.toml"], folder.path());
        assert_eq!(code, 2);
        assert!(error.contains(expected), "{error}");
    };
    let kept = std::fs::read(&key_file).unwrap();
    std::fs::remove_file(&key_file).unwrap();
    refused("is gone; restore it");
    std::fs::write(&key_file, docket::tlog::note::pem(&[9; 32])).unwrap();
    refused("is not of this docket's key");
    std::fs::write(&key_file, "no key").unwrap();
    refused("PKCS#8");
    std::fs::write(&key_file, kept).unwrap();
    let toml = std::fs::read_to_string(folder.path().join("docket.toml")).unwrap();
    std::fs::write(folder.path().join("docket.toml"), toml + "ledger.origin = \"another.example\"\n")
        .unwrap();
    refused("`ledger.origin` says `another.example`");
}

#[tokio::test]
async fn docket_does_not_go_on_over_a_tree_that_contradicts_its_checkpoint() {
    for (statement, expected) in [
        ("DELETE FROM leaves WHERE seq > 1", "entries were removed"),
        ("DELETE FROM leaves WHERE seq > 1; DELETE FROM nodes WHERE seq > 1", "entries were removed"),
        (
            "UPDATE nodes SET hashes = zeroblob(length(hashes)) WHERE seq IN (3, 5)",
            "not the one its newest checkpoint",
        ),
    ] {
        let docket = Docket::start().await;
        for number in 0..4 {
            docket.evaluate(&format!("t-{number}"), "echo", json!({})).await;
        }
        let folder = docket.stop().await;
        let connection = Connection::open(folder.path().join("docket.db")).unwrap();
        for table in ["leaves", "nodes"] {
            for act in ["update", "delete"] {
                connection.execute_batch(&format!("DROP TRIGGER {table}_are_append_only_{act}")).unwrap();
            }
        }
        connection.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        connection.execute_batch(statement).unwrap();
        drop(connection);
        let (code, _, error) = crate::harness::docket(&["serve", "--config", "docket.toml"], folder.path());
        assert_eq!(code, 2, "{statement}");
        assert!(error.contains(expected), "{statement}: {error}");
    }
}

#[tokio::test]
async fn a_file_without_a_tree_is_hashed_into_one() {
    let docket = Docket::start().await;
    for number in 0..9 {
        docket.evaluate(&format!("m-{number}"), "echo", json!({})).await;
    }
    let folder = docket.stop().await;
    let path = folder.path().join("docket.db");
    let root = |path: &std::path::Path| docket::ledger::Reader::new(path.into()).root(11).unwrap();
    let before = root(&path);
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "DROP TABLE op_rollup_blocks; DROP TABLE op_rollup_values; DROP TABLE op_rollup_names; DROP TABLE op_rollup_salt; \
             DROP TABLE op_rollup_decisions; \
             DROP TABLE op_blocks; DROP TABLE op_tokens; \
             DROP TABLE nodes; DROP TABLE checkpoints; DROP INDEX leaves_acts; PRAGMA user_version = 1",
        )
        .unwrap();
    drop(connection);
    let (code, _, error) = crate::harness::docket(&["tail", "--ledger", "docket.db"], folder.path());
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("the file is of schema 1 and is left as it is"), "{error}");
    let docket = Docket::in_folder(folder).await;
    docket.evaluate("m-after", "echo", json!({})).await;
    let folder = docket.stop().await;
    assert_eq!(root(&path), before);
    drop(folder);
}

#[tokio::test]
async fn a_bundle_proves_itself_to_docket_and_to_a_script() {
    let docket = Docket::start().await;
    docket.evaluate("b-before", "echo", json!({})).await;
    docket.evaluate("b-1", "delete_file", json!({"path": "/etc/passwd"})).await;
    docket.evaluate("b-between", "echo", json!({"secret_plan": "not disclosed"})).await;
    docket.evaluate("b-1", "echo", json!({})).await;
    let folder = docket.stop().await;
    let run = |arguments: &[&str]| crate::harness::docket(arguments, folder.path());
    let (_, key, _) = run(&["ledger", "key", "--ledger", "docket.db"]);
    let prove =
        ["prove", "b-1", "--ledger", "docket.db", "--out", "b.zip", "--disclose", "arguments,diagnostics"];
    let (code, _, error) = run(&prove);
    assert_eq!(code, 0, "{error}");
    let (code, report, error) = run(&["verify", "--bundle", "b.zip", "--key", key.trim(), "--json"]);
    assert_eq!(code, 0, "{report}{error}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(
        (&report["ok"], &report["entries"], &report["warnings"]),
        (&json!(true), &json!(3), &json!([]))
    );
    let bytes = std::fs::read(folder.path().join("b.zip")).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(
        text.contains("/etc/passwd") && !text.contains("not disclosed") && text.contains("\"b-between\"")
    );

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/verify/verify.py");
    let python = |bundle: &str, key: &str| {
        let output = std::process::Command::new("python3")
            .args([script, bundle, key])
            .current_dir(folder.path())
            .output();
        output.map(|output| {
            (
                output.status.code(),
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            )
        })
    };
    let has_cryptography = std::process::Command::new("python3")
        .args(["-c", "import cryptography"])
        .status()
        .is_ok_and(|status| status.success());
    if has_cryptography {
        let (code, said) = python("b.zip", key.trim()).unwrap();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("3 entries") && said.contains("4 disclosed parts"), "{said}");
    }
    // The archive is not compressed, so that what it says can be changed in place; its checksums are no obstacle to the test,
    // since both readers refuse them too.
    let other = docket::tlog::VerifierKey::new(key.split('+').next().unwrap(), [7; 32]).unwrap().to_string();
    let (code, report, _) = run(&["verify", "--bundle", "b.zip", "--key", &other]);
    assert_eq!(code, 1);
    assert!(report.contains("FAIL  checkpoint"), "{report}");
    if has_cryptography {
        assert_eq!(python("b.zip", &other).unwrap().0, Some(1));
    }
    let (code, _, error) =
        run(&["prove", "b-1", "--ledger", "docket.db", "--out", "c.zip", "--disclose", "salary"]);
    assert_eq!(code, 2);
    assert!(error.contains("`salary` is no part"), "{error}");
    assert_eq!(run(&["prove", "never", "--ledger", "docket.db", "--out", "c.zip"]).0, 3);
    let (code, _, error) = run(&["prove", "--since", "1h", "--ledger", "docket.db", "--out", "all.zip"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(run(&["verify", "--bundle", "all.zip", "--key", key.trim()]).0, 0);
    // An older bundle is replaced; what is none stays.
    assert_eq!(run(&["prove", "--since", "1h", "--ledger", "docket.db", "--out", "all.zip"]).0, 0);
    for out in ["docket.db", "docket.db.key", "docket.db.lock"] {
        let before = std::fs::read(folder.path().join(out)).unwrap();
        let (code, _, error) = run(&["prove", "b-1", "--ledger", "docket.db", "--out", out]);
        assert!(code == 2 && error.contains("is no bundle; name another file"), "{error}");
        assert_eq!(std::fs::read(folder.path().join(out)).unwrap(), before, "{out}");
    }
    let mode = std::fs::metadata(folder.path().join("b.zip")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "parts are disclosed in it");
}

#[tokio::test]
async fn nothing_in_a_bundle_can_change() {
    let docket = Docket::start().await;
    for number in 0..5 {
        docket.evaluate(&format!("n-{number}"), "delete_file", json!({"path": "/x"})).await;
    }
    let key = key_of(&docket).await;
    let folder = docket.stop().await;
    let run = |arguments: &[&str]| {
        let (code, out, error) = crate::harness::docket(arguments, folder.path());
        assert_eq!(code, 0, "{out}{error}");
    };
    // One call is pruned by an entry behind the next range, and everything else of `bot` by one within it.
    let reader = docket::ledger::Reader::new(folder.path().join("docket.db").as_path().into());
    let disclose: Vec<String> = ["arguments", "subject", "metadata"].map(String::from).into();
    let make = |selection| reader.bundle(&selection, &disclose, &key).unwrap().unwrap().files;
    let whole = make(Selection::Since(0));
    assert!(!whole.contains_key("removed.jsonl"));
    run(&["ledger", "hold", "add", "--request-id", "n-2", "--reason", "r", "--ledger", "docket.db"]);
    run(&["ledger", "prune", "--before", "0s", "--kind", "decision", "--ledger", "docket.db"]);
    let (pruned, held) = (make(Selection::Request("n-1".into())), make(Selection::Request("n-2".into())));
    assert!(!held.contains_key("removed.jsonl"));
    let all = make(Selection::Since(0));
    for files in [whole, pruned.clone(), all.clone()] {
        let report = bundle::verify(&files, Some(&key));
        assert!(report.ok, "{report:?}");
        for (name, bytes) in &files {
            if name == "README.txt" || name == "key" {
                continue;
            }
            for at in (0..bytes.len()).step_by(1 + bytes.len() / 40) {
                let mut changed = files.clone();
                let byte = &mut changed.get_mut(name).unwrap()[at];
                *byte = if *byte == b'A' { b'B' } else { b'A' };
                let report = bundle::verify(&changed, Some(&key));
                assert!(!report.ok, "byte {at} of {name}: {:?}", &bytes[at..]);
            }
            let mut less = files.clone();
            less.remove(name);
            let report = bundle::verify(&less, Some(&key));
            // What its maker does not tell, a bundle cannot show.
            let told =
                ["disclosed.jsonl", "removed.jsonl"].contains(&name.as_str()) || name.starts_with("proofs/");
            assert!(!report.ok || told, "{name} removed");
        }
    }
    let mut more = pruned.clone();
    more.insert("verdict.txt".into(), b"all is well".into());
    let report = bundle::verify(&more, Some(&key));
    assert!(report.warnings.iter().any(|warning| warning.contains("`verdict.txt` is no part")), "{report:?}");
    let refused = |files: &bundle::Files, line: &Value, expected: &str| {
        let mut changed = files.clone();
        changed.insert("removed.jsonl".into(), format!("{line}\n").into_bytes());
        let report = bundle::verify(&changed, Some(&key));
        let failed = report.verdicts.iter().find(|verdict| !verdict.ok).unwrap();
        assert!(failed.check == "removals" && failed.detail.contains(expected), "{report:?}");
    };
    let line = |files: &bundle::Files| serde_json::from_slice::<Value>(&files["removed.jsonl"]).unwrap();
    // In the second range the act itself is disclosed, so that what it names counts.
    let (told, mut other) = (line(&pruned), line(&all));
    assert!(told["act"]["proof"].is_object() && other["act"]["proof"].is_null(), "{told} {other}");
    let held = held["bundle.json"].as_slice();
    let held = serde_json::from_slice::<Value>(held).unwrap()["first"].clone();
    other["seqs"] = json!([[held, held]]);
    refused(&all, &other, "parts of it are disclosed");
    let mut without = all.clone();
    let disclosed = String::from_utf8(without["disclosed.jsonl"].clone()).unwrap();
    let kept = disclosed.lines().filter(|line| !line.starts_with(&format!("{{\"seq\":{held},")));
    without.insert("disclosed.jsonl".into(), kept.map(|line| format!("{line}\n")).collect::<String>().into());
    refused(&without, &other, "does not name all of these");
    for (place, value, expected) in [
        ("/act/seq", json!(0), "do not lead to the checkpoint's root"),
        ("/act/kind", json!("erase"), "says otherwise"),
        ("/act/proof", Value::Null, "has no proof"),
        ("/seqs", json!([[0, 0]]), "is not of the range"),
        ("/seqs", json!([]), "names no entry"),
    ] {
        let mut changed = told.clone();
        *changed.pointer_mut(place).unwrap() = value;
        refused(&pruned, &changed, expected);
    }
}
