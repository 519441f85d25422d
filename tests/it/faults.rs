//! A disk that fails at every step: docket is ended, or its disk answers errors, at each single call that writes, syncs,
//! shortens, renames or removes one of its files. It then starts through the ordinary path, and nothing it acknowledged is lost.
//!
//! The calls are intercepted by a small library that is preloaded (`fault.c`), so that docket itself carries nothing of this.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{POLICY, Process, check, evaluation, folder_with};
use crate::keeping::occurrences;

/// The preloaded library, compiled once; `None` without a C compiler.
pub fn library() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<(TempDir, PathBuf)>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fault.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fault.c");
        let compiled = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(&file)
            .arg(source)
            .arg("-ldl")
            .status();
        match compiled {
            Ok(status) => assert!(status.success(), "fault.c does not compile"),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "CI has a C compiler: {error}");
                println!("skipped: there is no C compiler");
                return None;
            }
        }
        Some((folder, file))
    });
    built.as_ref().map(|(_, file)| file.as_path())
}

/// What happens to the files whose names contain `file`: from call number `at` on, `times` calls fail as `kind` says.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    file: &'static str,
    kind: &'static str,
    at: usize,
    times: usize,
}

impl Fault {
    pub fn at(self, at: usize) -> Self {
        Self { at, ..self }
    }

    /// A docket whose disk fails so; `None` where it ended before it was ready.
    pub fn start(self, library: &Path, folder: &Path) -> Option<Process> {
        let Self { file, kind, at, times } = self;
        let (library, shown) = (library.display(), folder.display());
        let script = format!(
            "export LD_PRELOAD='{library}' FAULT_FILE='{file}' FAULT_KIND={kind} FAULT_AT={at} FAULT_TIMES={times} \
             FAULT_COUNT='{shown}/count'; exec \"$@\""
        );
        Process::try_start_under(&script, folder).ok()
    }

    /// Runs docket under load and over this fault, then starts it again and looks at what is left. Answers how many of the
    /// intercepted calls there were.
    async fn strike(self, library: &Path, folder: TempDir) -> usize {
        let path = folder.path();
        let mut acknowledged = BTreeSet::new();
        let mut refused = 0;
        if let Some(mut process) = self.start(library, path) {
            let client = reqwest::Client::new();
            let evaluate = async |id: &str| {
                let url = format!("{}/access/v1/evaluation", process.data);
                let request =
                    client.post(url).header("x-request-id", id).json(&evaluation("echo", &json!({})));
                request.send().await.ok().map(|response| response.status().as_u16())
            };
            for number in 0..4 {
                let id = format!("fault-{number}");
                match evaluate(&id).await {
                    Some(200) => assert!(acknowledged.insert(id)),
                    Some(status) => {
                        assert_eq!(status, 503, "{self:?}");
                        refused += 1;
                    }
                    None => assert_eq!(self.kind, "kill", "{self:?}: docket has ended"),
                }
                if number == 1 {
                    // A forwarded call, and a policy set that changes: an outcome, digests, `policy.updated`, a checkpoint.
                    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                        "params": {"name": "echo", "arguments": {}}});
                    let _ = client.post(format!("{}/mcp/demo", process.data)).json(&call).send().await;
                    std::fs::write(path.join("policies/policy.rego"), format!("{POLICY}\n# changed\n"))
                        .unwrap();
                    let token = std::fs::read_to_string(path.join("admin.token")).unwrap();
                    let reload = client
                        .post(format!("{}/v1/policies/reload", process.admin))
                        .bearer_auth(token.trim());
                    let _ = reload.send().await;
                }
            }
            let deadline = Instant::now() + Duration::from_secs(10);
            while self.kind != "kill" && evaluate("fault-after").await != Some(200) {
                assert!(Instant::now() < deadline, "{self:?}: docket does not recover");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if process.child.try_wait().unwrap().is_none() {
                process.terminate();
            }
        }
        let again = Process::start(path);
        assert_eq!(again.terminate(), Some(0), "{self:?}");
        let connection = Connection::open(path.join("docket.db")).unwrap();
        let column = |sql: &str| -> BTreeSet<String> {
            let mut statement = connection.prepare(sql).unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let kept = column("SELECT request_id FROM decisions");
        let lost: Vec<_> = acknowledged.difference(&kept).collect();
        assert!(lost.is_empty(), "{self:?}: {lost:?} were acknowledged");
        if refused > 0 && self.kind != "kill" {
            assert!(column("SELECT event_type FROM leaves").contains("ledger.recovered"), "{self:?}");
        }
        drop(connection);
        check(&path.join("docket.db"));
        intercepted(path)
    }
}

/// How many calls were intercepted in the docket that was started last in this folder.
pub fn intercepted(folder: &Path) -> usize {
    std::fs::read_to_string(folder.join("count")).unwrap_or_default().parse().unwrap_or(0)
}

/// No docket makes as many calls.
pub const NEVER: usize = usize::MAX >> 1;

fn folder() -> TempDir {
    folder_with("[servers.demo]\nurl = \"http://127.0.0.1:1/mcp\"\n", POLICY)
}

/// Strikes at every `step`th call there is.
async fn sweep(fault: Fault, step: usize, folder: fn() -> TempDir) {
    let Some(library) = library() else { return };
    let calls = fault.at(NEVER).strike(library, folder()).await;
    assert!(calls >= fault.at, "{calls} calls were intercepted");
    for at in (fault.at..=calls).step_by(step) {
        fault.at(at).strike(library, folder()).await;
    }
    println!("{fault:?}: {calls} calls");
}

/// docket ends before the first of its calls.
pub const KILL: Fault = Fault { file: "/docket.db", kind: "kill", at: 1, times: 1 };

#[tokio::test]
async fn docket_may_be_killed_at_every_call_that_writes() {
    sweep(KILL, 1, folder).await;
}

#[tokio::test]
async fn the_admin_token_is_whole_or_not_there() {
    sweep(Fault { file: "/admin.token", ..KILL }, 1, folder).await;
}

#[tokio::test]
async fn an_old_ledger_may_be_killed_while_it_is_migrated() {
    sweep(KILL, 3, || crate::migrate::folder_of(1)).await;
}

#[tokio::test]
async fn any_call_may_fail_once() {
    sweep(Fault { kind: "eio", ..KILL }, 3, folder).await;
}

#[tokio::test]
async fn the_disk_may_be_full_for_a_while() {
    sweep(Fault { kind: "enospc", times: 6, ..KILL }, 5, folder).await;
}

/// An erasure that is killed is finished by the next docket, without anybody asking again: payloads, the log, and the copy that SQLite
/// left in a page.
#[tokio::test]
async fn an_erasure_that_was_killed_is_finished_at_the_next_start() {
    const ID: &str = "alice@acme.example";
    let Some(library) = library() else { return };
    let template = folder_with("", POLICY);
    let process = Process::start(template.path());
    let client = reqwest::Client::new();
    for number in 0..40 {
        let mut body = evaluation("delete_file", &json!({"path": "y".repeat(500)}));
        let id = if number % 4 == 0 { ID.to_owned() } else { format!("bob-{number}") };
        body["subject"]["id"] = id.into();
        let request = client.post(format!("{}/access/v1/evaluation", process.data)).json(&body);
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    assert_eq!(process.terminate(), Some(0));
    let shell = Connection::open(template.path().join("docket.db")).unwrap();
    shell
        .execute_batch(&format!(
            "PRAGMA foreign_keys = OFF; PRAGMA secure_delete = OFF; \
             INSERT INTO payloads (seq, salts, subject_id) VALUES (1000, x'', '{ID}'); \
             DELETE FROM payloads WHERE seq = 1000; PRAGMA wal_checkpoint(TRUNCATE)"
        ))
        .unwrap();
    drop(shell);
    let (mut at, mut calls, mut taken_up) = (NEVER, 0, 0);
    loop {
        let folder = folder_with("", POLICY);
        let path = folder.path();
        for file in ["docket.db", "docket.db.key", "admin.token"] {
            std::fs::copy(template.path().join(file), path.join(file)).unwrap();
        }
        let fault = KILL.at(at);
        let mut process = fault.start(library, path).unwrap();
        let before = intercepted(path);
        let token = std::fs::read_to_string(path.join("admin.token")).unwrap();
        let erase = client.post(format!("{}/v1/ledger/erase", process.admin)).bearer_auth(token.trim());
        let answered = erase.json(&json!({"subject": ID, "reason": "case 17"})).send().await.is_ok();
        if at == NEVER {
            assert!(answered);
            (at, calls) = (before, intercepted(path));
            assert_eq!(process.terminate(), Some(0));
        } else if answered {
            // How many calls there are depends on when checkpoints fall due: this one was not reached.
            assert!(at + 8 > calls, "{fault:?} of {calls}");
            assert_eq!(process.terminate(), Some(0), "{fault:?}");
        } else {
            process.child.wait().unwrap();
        }
        let notes = || {
            let files = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().file_name());
            files.filter(|name| name.to_string_lossy().contains(".erasing-")).count()
        };
        let ledger = path.join("docket.db");
        let acts = || -> i64 {
            let connection = Connection::open(&ledger).unwrap();
            let sql = "SELECT count(*) FROM leaves WHERE kind = 'erase'";
            connection.query_row(sql, [], |row| row.get(0)).unwrap()
        };
        let (noted, began) = (notes(), acts() > 0);
        assert!(noted > 0 || !began || occurrences(&ledger, ID) == 0, "{fault:?}: it cannot be finished");
        let again = Process::start(path);
        let deadline = Instant::now() + Duration::from_secs(10);
        while notes() > 0 {
            assert!(Instant::now() < deadline, "{fault:?}: it is not finished");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(again.terminate(), Some(0), "{fault:?}");
        let left = occurrences(&ledger, ID);
        // Killed before it was noted, nothing has happened.
        assert!(left == 0 || acts() == 0, "{fault:?}: {left} times, {noted} notes");
        taken_up += usize::from(noted > 0 && left == 0);
        check(&ledger);
        at += 1;
        if at > calls {
            break;
        }
    }
    assert!(taken_up > 10, "only {taken_up} of {calls}");
}
