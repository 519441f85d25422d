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

/// The preloaded library, compiled once; `None` without a C compiler.
fn library() -> Option<&'static Path> {
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
struct Fault {
    file: &'static str,
    kind: &'static str,
    at: usize,
    times: usize,
}

impl Fault {
    fn start(self, library: &Path, folder: &Path) -> Option<Process> {
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
        let count = std::fs::read_to_string(path.join("count")).unwrap_or_default();
        count.trim().parse().unwrap_or(0)
    }
}

fn folder() -> TempDir {
    folder_with("[servers.demo]\nurl = \"http://127.0.0.1:1/mcp\"\n", POLICY)
}

/// Strikes at every `step`th call there is.
async fn sweep(fault: Fault, step: usize, folder: fn() -> TempDir) {
    let Some(library) = library() else { return };
    let undisturbed = Fault { at: usize::MAX >> 1, ..fault };
    let calls = undisturbed.strike(library, folder()).await;
    assert!(calls >= fault.at, "{calls} calls were intercepted");
    for at in (fault.at..=calls).step_by(step) {
        Fault { at, ..fault }.strike(library, folder()).await;
    }
    println!("{fault:?}: {calls} calls");
}

const KILL: Fault = Fault { file: "/docket.db", kind: "kill", at: 1, times: 1 };

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
