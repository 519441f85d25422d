//! Starts docket on free ports in a temporary folder, speaks to it, and verifies its ledger.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use docket::cli;
use docket::clock::Clock;
use docket::config::{Flags, Raw};
use reqwest::{Client, Response};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// A policy that lets clients connect, allows `echo` and `sleep`, and denies `delete_file` by a rule with a message.
pub const POLICY: &str = r#"# METADATA
# title: Test tools
# custom:
#   id: test.tools
package test.tools

allow contains "protocol" if input.action.name in {"initialize", "server/discover", "tools/list", "resources/list", "prompts/list"}

allow contains {"rule": "harmless"} if input.resource.id in {"echo", "sleep", "read_file"}

deny contains {"rule": "no_delete", "message": sprintf("`%s` must not be deleted; archive it instead", [path]), "data": {"path": path}} if {
	input.resource.id == "delete_file"
	path := input.context.arguments.path
}

require_approval contains {"rule": "payment", "message": "payments need a person"} if input.resource.id == "pay"

allow contains "payment" if input.resource.id == "pay"
"#;

/// A docket in this process.
pub struct Docket {
    pub folder: TempDir,
    pub data: String,
    pub admin: String,
    pub token: String,
    pub client: Client,
    running: cli::Running,
}

impl Docket {
    /// Starts one with the test policy and nothing else configured.
    pub async fn start() -> Self {
        Self::with("", POLICY).await
    }

    /// Starts one with more configuration and a policy of one's own.
    pub async fn with(toml: &str, policy: &str) -> Self {
        let folder = folder_with(toml, policy);
        Self::in_folder(folder).await
    }

    /// Starts one in front of an MCP server.
    pub async fn before(upstream: &str, policy: &str) -> Self {
        Self::with(&format!("[servers.demo]\nurl = \"{upstream}\"\n"), policy).await
    }

    /// Starts one in a folder that has a configuration already.
    pub async fn in_folder(folder: TempDir) -> Self {
        Self::at(folder, cli::system_clock()).await
    }

    /// Likewise, with a clock of the test's.
    pub async fn at(folder: TempDir, clock: Clock) -> Self {
        let raw = Raw::read(Some(&folder.path().join("docket.toml")), &Flags::default()).unwrap();
        let running = cli::start(raw.validate().unwrap(), clock).await.unwrap();
        let token = std::fs::read_to_string(folder.path().join("admin.token")).unwrap().trim().to_owned();
        let (data, admin) = (format!("http://{}", running.data), format!("http://{}", running.admin));
        Self { folder, data, admin, token, client: Client::new(), running }
    }

    pub fn ledger(&self) -> PathBuf {
        self.folder.path().join("docket.db")
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.client.post(format!("{}{path}", self.data)).json(body).send().await.unwrap()
    }

    /// One evaluation under the given request id.
    pub async fn evaluate(&self, request_id: &str, tool: &str, arguments: Value) -> Value {
        let request = self.client.post(format!("{}/access/v1/evaluation", self.data));
        let body = evaluation(tool, &arguments);
        let response = request.header("x-request-id", request_id).json(&body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-request-id"], request_id);
        response.json().await.unwrap()
    }

    /// One JSON-RPC request to the configured server `demo`.
    pub async fn rpc(&self, body: &Value, headers: &[(&str, &str)]) -> Response {
        let mut request = self.client.post(format!("{}/mcp/demo", self.data)).json(body);
        request = request.header("accept", "application/json, text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    pub async fn admin_get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.admin)).bearer_auth(&self.token).send().await.unwrap()
    }

    /// The entries under a request id, oldest first.
    pub async fn entries(&self, request_id: &str) -> Vec<Value> {
        let answer = self.admin_get(&format!("/v1/audit?request_id={request_id}&order=asc")).await;
        let answer: Value = answer.json().await.unwrap();
        answer["entries"].as_array().unwrap().clone()
    }

    /// Waits until an entry satisfies `wanted`: outcomes and refusals are recorded without making anyone wait.
    pub async fn wait_for(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let answer: Value = self.admin_get("/v1/audit?limit=1000").await.json().await.unwrap();
            if let Some(found) = answer["entries"].as_array().unwrap().iter().find(|entry| wanted(entry)) {
                return found.clone();
            }
            assert!(Instant::now() < deadline, "no such entry: {answer:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops docket in good order and verifies its ledger.
    pub async fn stop(self) -> TempDir {
        let ledger = self.ledger();
        self.running.stop().await;
        check(&ledger);
        self.folder
    }
}

/// An AuthZEN evaluation request for a tool call.
pub fn evaluation(tool: &str, arguments: &Value) -> Value {
    json!({
        "subject": {"type": "identity", "id": "bot", "properties": {}},
        "action": {"name": "tools/call"},
        "resource": {"type": "tool", "id": tool, "properties": {}},
        "context": {"arguments": arguments},
    })
}

/// A folder with a configuration for free ports, and a policy.
pub fn folder_with(toml: &str, policy: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::create_dir(path.join("policies")).unwrap();
    std::fs::write(path.join("policies/policy.rego"), policy).unwrap();
    let shown = path.display();
    let base = format!(
        "data.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\nledger.path = \"{shown}/docket.db\"\n\
         policy.path = \"{shown}/policies\"\n"
    );
    std::fs::write(path.join("docket.toml"), base + toml).unwrap();
    folder
}

/// A docket in a process of its own, for what only a process can show. Killed when dropped.
pub struct Process {
    pub child: Child,
    pub data: String,
    pub admin: String,
}

impl Process {
    pub fn start(folder: &Path) -> Self {
        Self::start_under("exec \"$@\"", folder)
    }

    /// Starts one by a shell script that ends in `exec "$@"`.
    pub fn start_under(script: &str, folder: &Path) -> Self {
        Self::try_start_under(script, folder).unwrap_or_else(|said| {
            panic!("not ready: {said}{}", std::fs::read_to_string(folder.join("docket.log")).unwrap())
        })
    }

    /// As [`Self::start_under`], for what may end before it is ready; answers what it said instead.
    pub fn try_start_under(script: &str, folder: &Path) -> Result<Self, String> {
        let log = std::fs::File::create(folder.join("docket.log")).unwrap();
        let mut child = Command::new("bash")
            .args(["-c", script, "docket", env!("CARGO_BIN_EXE_docket"), "serve", "--config", "docket.toml"])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        let Ok(ready) = serde_json::from_str::<Value>(&line) else {
            child.wait().unwrap();
            return Err(line);
        };
        assert_eq!(ready["event"], "ready");
        let address = |member: &str| format!("http://{}", ready[member].as_str().unwrap());
        Ok(Self { data: address("data"), admin: address("admin"), child })
    }

    /// SIGTERM, and the exit code. A docket that does not stop in time fails the test.
    pub fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "docket does not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; either way nothing of it is left.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a docket command and answers its exit code, stdout and stderr.
pub fn docket(arguments: &[&str], folder: &Path) -> (i32, String, String) {
    docket_with(arguments, folder, &std::env::temp_dir())
}

/// Likewise, with a folder for what it writes for a while.
pub fn docket_with(arguments: &[&str], folder: &Path, scratch: &Path) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_docket"))
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .env("TMPDIR", scratch)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Verifies a whole ledger twice: with `docket verify`, and by means of its own.
pub fn check(ledger: &Path) {
    let (code, report, error) =
        docket(&["verify", "--json", "--ledger", &ledger.to_string_lossy()], Path::new("."));
    assert_eq!(code, 0, "{report}{error}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["ok"], true, "{report:#}");
    check_independently(ledger);
}

/// Verifies a ledger from the bytes up: nothing here calls docket.
fn check_independently(ledger: &Path) {
    let connection = Connection::open_with_flags(ledger, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let integrity: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
    let mut statement = connection
        .prepare(
            "SELECT l.*, p.salts, p.action, p.arguments, p.context, p.determining_policies, p.diagnostics, p.metadata, \
             p.redactions, p.resource, p.subject, p.agent, p.server, p.subject_id, p.action_name, p.resource_id \
             FROM leaves l LEFT JOIN payloads p USING (seq) ORDER BY seq",
        )
        .unwrap();
    let mut rows = statement.query([]).unwrap();
    let (mut next_seq, mut open, mut closed) = (0, Vec::new(), Vec::new());
    while let Some(row) = rows.next().unwrap() {
        let text = |name: &str| row.get::<_, Option<String>>(name).unwrap();
        let number = |name: &str| row.get::<_, Option<i64>>(name).unwrap();
        let leaf_text = text("leaf").unwrap();
        let leaf: Value = serde_json::from_str(&leaf_text).unwrap();
        assert_eq!(leaf_text, serde_json_canonicalizer::to_string(&leaf).unwrap(), "not canonical");
        assert_eq!(number("seq"), Some(next_seq), "a hole in the sequence");
        assert_eq!(leaf["v"], 1);
        for column in [
            "id",
            "kind",
            "event_type",
            "occurred_at",
            "call_id",
            "request_id",
            "zone",
            "mode",
            "decision",
            "evaluation_status",
            "outcome",
            "manifest_sha",
        ] {
            assert_eq!(leaf[column].as_str(), text(column).as_deref(), "column {column} of {leaf_text}");
        }
        for column in ["seq", "evaluation_us", "duration_us"] {
            assert_eq!(leaf[column].as_i64(), number(column), "column {column} of {leaf_text}");
        }
        assert_eq!(leaf["forwarded"].as_bool(), Some(number("forwarded") == Some(1)));
        let salts: Option<Vec<u8>> = row.get("salts").unwrap();
        let parts = [
            "action",
            "arguments",
            "context",
            "determining_policies",
            "diagnostics",
            "metadata",
            "redactions",
            "resource",
            "subject",
        ];
        let present: Vec<(&str, String)> =
            parts.iter().filter_map(|part| Some((*part, text(part)?))).collect();
        // Where the payload was pruned or erased, `docket verify` has said whether that is so by right.
        if let Some(salts) = &salts {
            assert_eq!(salts.len(), 32 * present.len());
            assert_eq!(leaf["commitments"].as_object().unwrap().len(), present.len(), "{leaf_text}");
        }
        let salts = salts.unwrap_or_default();
        for ((part, bytes), salt) in present.iter().zip(salts.chunks(32)) {
            let commitment =
                URL_SAFE_NO_PAD.encode(Sha256::new().chain_update(salt).chain_update(bytes).finalize());
            assert_eq!(leaf["commitments"][part], commitment, "{part} of {leaf_text}");
        }
        let find = |part: &str, pointer: &str| {
            let part: Value = serde_json::from_str(&text(part)?).unwrap();
            part.pointer(pointer)?.as_str().map(str::to_owned)
        };
        for (column, part, pointer) in [
            ("agent", "metadata", "/agent"),
            ("server", "metadata", "/server"),
            ("subject_id", "subject", "/id"),
            ("action_name", "action", "/name"),
            ("resource_id", "resource", "/id"),
        ] {
            assert_eq!(text(column), find(part, pointer), "column {column} of {leaf_text}");
        }
        let call_id = text("call_id");
        match leaf["kind"].as_str().unwrap() {
            "decision" if leaf["forwarded"] == true => open.push(call_id.unwrap()),
            "outcome" => closed.push(call_id.unwrap()),
            _ => {}
        }
        next_seq += 1;
    }
    open.sort();
    closed.sort();
    assert_eq!(open, closed, "every forwarded call has one outcome");
    let manifests: i64 = connection
        .query_row(
            "SELECT count(*) FROM leaves WHERE manifest_sha IS NOT NULL AND manifest_sha NOT IN (SELECT digest FROM digests)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(manifests, 0, "a manifest is not kept");
}
