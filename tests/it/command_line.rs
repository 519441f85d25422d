//! The commands as a person runs them: output, exit codes, mistakes.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Docket, POLICY, Process, docket, evaluation, folder_with};
use crate::server;

#[tokio::test]
async fn tail_and_explain_online_and_offline() {
    let folder = folder_with("", POLICY);
    let process = Process::start(folder.path());
    let client = reqwest::Client::new();
    for (id, tool) in [("cli-1", "echo"), ("cli-2", "delete_file"), ("cli-3", "nothing")] {
        let request =
            client.post(format!("{}/access/v1/evaluation", process.data)).header("x-request-id", id);
        request.json(&evaluation(tool, &json!({"path": "/etc/passwd"}))).send().await.unwrap();
    }
    let admin = process.admin.clone();
    let online = ["--url", admin.as_str(), "--config", "docket.toml"];
    let run = |arguments: &[&str], remote: &[&str]| docket(&[arguments, remote].concat(), folder.path());

    let (code, text, _) = run(&["explain", "cli-2"], &online);
    assert_eq!(code, 0);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("DENY  `/etc/passwd` must not be deleted; archive it instead"));
    for expected in
        ["test.tools — Test tools", "sha256:", "no_delete", "tools/call on tool delete_file", "cli-2"]
    {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let (_, json_text, _) = run(&["explain", "cli-2", "--json"], &online);
    let explained: Value = serde_json::from_str(&json_text).unwrap();
    let manifest = explained["entries"][0]["policy_set"]["manifest_sha"].as_str().unwrap();
    assert!(text.contains(manifest));

    let (code, table, _) = run(&["tail"], &online);
    assert_eq!(code, 0);
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 4, "{table}");
    assert!(
        rows[0].starts_with("OCCURRED AT") && rows[1].contains("cli-1") && rows[3].contains("default_deny"),
        "{table}"
    );
    // Another name for it, which completions do not list.
    let (_, array, _) = run(&["tail", "--json", "--decision", "denied"], &online);
    let array: Value = serde_json::from_str(&array).unwrap();
    assert_eq!(array.as_array().unwrap().len(), 2);
    let (_, lines, _) = run(&["tail", "--jsonl", "-n", "1"], &online);
    assert_eq!(serde_json::from_str::<Value>(lines.trim()).unwrap()["request_id"], "cli-3");
    // Nothing that is to come can match.
    let (code, table, error) = run(&["tail", "-f", "--until", "1h"], &online);
    assert_eq!((code, table.lines().count()), (0, 1), "{error}");
    let (code, _, error) = run(&["explain", "never"], &online);
    assert_eq!(code, 3);
    assert!(error.contains("no entry has request id `never`"), "{error}");
    assert_eq!(process.terminate(), Some(0));

    let offline = ["--ledger", "docket.db"];
    let (code, again, _) = run(&["explain", "cli-2"], &offline);
    assert_eq!((code, again), (0, text));
    let (code, _, error) = run(&["tail"], &online);
    assert_eq!(code, 2);
    assert!(error.contains("is `docket serve` running?"), "{error}");
    let (code, _, error) = run(&["tail"], &["--ledger", "missing.db"]);
    assert_eq!(code, 2);
    assert!(error.contains("missing.db"), "{error}");
}

#[test]
fn authors_test_evaluate_and_look() {
    let folder =
        folder_with("", "# METADATA\n# title: P\n# custom: {id: pol}\npackage p\n\nallow if input.x == 1\n");
    let tests = "package p_test\n\nimport data.p\n\ntest_yes if p.allow with input.x as 1\n\ntodo_test_more if false\n";
    let write = |text: &str| std::fs::write(folder.path().join("policies/p_test.rego"), text).unwrap();
    write(tests);
    let run = |arguments: &[&str]| docket(arguments, folder.path());
    let (code, text, _) = run(&["test", "policies"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with("PASS: 1/2\nSKIPPED: 1/2\n"), "{text}");
    write(&format!("{tests}\ntest_no if {{\n\tprint(\"seen\")\n\tp.allow with input.x as 2\n}}\n"));
    let (code, text, _) = run(&["test", "policies"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("p_test.rego:9: data.p_test.test_no: FAIL (") && text.contains("seen"), "{text}");
    let (code, text, _) = run(&["test", "policies", "--json"]);
    let results: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, results[2]["outcome"].as_str(), results[2]["line"].as_u64()),
        (1, Some("fail"), Some(9))
    );
    assert_eq!(run(&["test", "nowhere"]).0, 2);

    std::fs::write(folder.path().join("input.json"), "{\"x\": 1}").unwrap();
    let query = ["eval", "data.p.allow", "--policy", "policies"];
    let (code, text, _) = run(&[&query[..], &["--input", "input.json"]].concat());
    assert_eq!((code, text.as_str()), (0, "true\n"));
    assert_eq!(run(&query).1, "undefined\n");
    assert_eq!(run(&["eval", "x := 1 + 1; x > 1", "--json"]).0, 0);
    let (code, _, error) = run(&["eval", "cuont([1])"]);
    assert_eq!(code, 1);
    assert!(
        error.starts_with("query:1:1: error: there is no function `cuont`; did you mean `count`?"),
        "{error}"
    );

    let (code, text, _) = run(&["policy", "show", "policies", "--json"]);
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, shown["id"].as_str(), shown["policies"][0]["id"].as_str()),
        (0, Some("policies"), Some("pol"))
    );
    assert_eq!(shown["policies"][0]["files"], json!(["policy.rego"]));
    for command in [&["check", "policies"][..], &["policy", "show", "policies"]] {
        let with = |rule| run(&[command, &["--entrypoint", rule]].concat());
        let (_, text, error) = with("data.p.allow");
        assert!(!text.contains("entry point") && !error.contains("entry point"), "{text}{error}");
        let (code, text, error) = with("data.p.alow");
        assert_eq!(code, 1, "{command:?}");
        let says = "entry point `data.p.alow` is no rule of this set; did you mean `data.p.allow`?";
        assert!(text.contains(says) || error.contains(says), "{text}{error}");
    }
    let (_, text, _) = run(&["policy", "show", "policies"]);
    assert!(
        text.contains(shown["manifest_sha"].as_str().unwrap()) && text.contains("effects  allow"),
        "{text}"
    );
}

#[test]
fn check_says_where_and_what() {
    let folder = folder_with("", "package p\n\nallow if {\n\tinput.x ==\n}\n");
    let (code, out, _) = docket(&["check", "policies"], folder.path());
    assert_eq!(code, 1);
    assert!(out.contains("policy.rego:5:1"), "{out}");
    let (code, _, error) = docket(&["check", "nowhere"], folder.path());
    assert_eq!(code, 2);
    assert!(error.contains("nowhere"), "{error}");
    std::fs::write(folder.path().join("policies/policy.rego"), POLICY).unwrap();
    let (code, out, _) = docket(&["check", "policies"], folder.path());
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("manifest sha256:"), "{out}");
}

#[test]
fn policies_that_cannot_be_used_stop_the_start() {
    for (prepare, expected) in [("broken", "policy.rego:1:"), ("empty", "policies"), ("missing", "policies")]
    {
        let folder = folder_with("", POLICY);
        let policies = folder.path().join("policies");
        match prepare {
            "broken" => std::fs::write(policies.join("policy.rego"), "pakage p\n").unwrap(),
            "empty" => std::fs::remove_file(policies.join("policy.rego")).unwrap(),
            _ => std::fs::remove_dir_all(&policies).unwrap(),
        }
        let (code, _, error) = docket(&["serve", "--config", "docket.toml"], folder.path());
        assert_eq!(code, 2, "{prepare}: {error}");
        assert!(error.contains(expected), "{prepare}: {error}");
        assert!(!folder.path().join("docket.db").exists(), "{prepare}: a start that failed leaves no ledger");
    }
}

#[test]
fn configuration_and_tokens() {
    let folder = folder_with(
        "[servers.fs]\nurl = \"http://127.0.0.1:3001/mcp\"\nheaders = { authorization = \"Bearer s3cr3t\" }\n",
        POLICY,
    );
    let (code, shown, _) = docket(&["config", "show", "--config", "docket.toml"], folder.path());
    assert_eq!(code, 0);
    assert!(shown.contains("max_body_bytes = 8388608") && !shown.contains("s3cr3t"), "{shown}");
    let (code, _, _) = docket(&["config", "check", "--config", "docket.toml"], folder.path());
    assert_eq!(code, 0);
    std::fs::write(folder.path().join("bad.toml"), "[data]\nlisten = \"nowhere\"\n[ledger]\npth = \"x\"\n")
        .unwrap();
    let (code, _, error) = docket(&["config", "check", "--config", "bad.toml"], folder.path());
    assert_eq!(code, 1);
    assert!(error.contains("unknown key `ledger.pth`; did you mean `ledger.path`?"), "{error}");
    let (_, hash, _) = docket(&["token", "hash", "abc"], folder.path());
    assert_eq!(hash.trim(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    let (code, _, error) = docket(&["serve", "--config", "gone.toml"], folder.path());
    assert_eq!(code, 2);
    assert!(error.contains("`gone.toml` does not exist"), "{error}");
}

#[test]
fn without_any_configuration_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_docket"))
        .arg("serve")
        .current_dir(folder.path())
        .env("DOCKET__DATA__LISTEN", "127.0.0.1:0")
        .env("DOCKET__ADMIN__LISTEN", "127.0.0.1:0")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line)
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    assert!(ready["manifest_sha"].as_str().unwrap().starts_with("sha256:"));
    for file in ["docket.db", "admin.token"] {
        assert!(folder.path().join(file).exists(), "{file}");
    }
    let mut misspelt = std::process::Command::new(env!("CARGO_BIN_EXE_docket"));
    let output =
        misspelt.arg("serve").current_dir(folder.path()).env("DOCKET__DATA__LISEN", "x").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("unknown key `data.lisen`; did you mean `data.listen`?"), "{error}");
}

/// Runs a command on a terminal of this many columns; answers what is to be seen there.
fn on_terminal(columns: u32, arguments: &str, folder: &Path) -> String {
    let command = format!("stty cols {columns}; {} {arguments}", env!("CARGO_BIN_EXE_docket"));
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .env_remove("NO_COLOR")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().replace('\r', "")
}

#[tokio::test]
async fn tables_fit_the_terminal_and_are_whole_off_it() {
    const LONG: &str = "a_tool_whose_name_is_longer_than_any_column_is_wide_and_longer_than_what_names_have_in_lists_of_what_was_called";
    let folder = folder_with("", POLICY);
    let process = Process::start(folder.path());
    let client = reqwest::Client::new();
    for tool in ["echo", "sleep", LONG] {
        let request = client.post(format!("{}/access/v1/evaluation", process.data));
        request.json(&evaluation(tool, &json!({}))).send().await.unwrap();
    }
    let url = process.admin.clone();
    assert_eq!(docket(&["tail", "--url", &url, "--config", "docket.toml"], folder.path()).0, 0);
    assert_eq!(process.terminate(), Some(0));
    let colour = regex::Regex::new("\u{1b}\\[\\d+m").unwrap();
    for command in ["tail --all", "stats"] {
        let arguments = [&command.split(' ').collect::<Vec<_>>()[..], &["--ledger", "docket.db"]].concat();
        let (_, text, _) = docket(&arguments, folder.path());
        assert!(text.contains(LONG), "{text}");
        for columns in [80, 120] {
            let command = format!("{command} --ledger docket.db");
            let shown = on_terminal(columns, &format!("{command} | cat"), folder.path());
            assert!(shown.contains(LONG), "{shown}");
            let shown = on_terminal(columns, &command, folder.path());
            let plain = colour.replace_all(&shown, "");
            assert!(plain.contains("a_tool_wh") && !plain.contains(LONG), "{plain}");
            let longest = plain.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= columns as usize, "{longest} in {columns}:\n{plain}");
        }
    }
    let (_, text, _) = docket(&["stats", "--ledger", "docket.db"], folder.path());
    assert!(text.contains("allow 2 (67 %)"), "{text}");
    let (_, table, _) = docket(&["tail", "--all", "--ledger", "docket.db"], folder.path());
    let read = table.lines().find(|line| line.contains("ledger.read")).unwrap();
    let cells: Vec<&str> = read.split_whitespace().collect();
    assert_eq!(cells[2..8], ["-", "-", "-", "/v1/audit", "admin", "-"], "{table}");

    let nothing = "tail --tool nothing --ledger docket.db";
    assert!(on_terminal(80, nothing, folder.path()).contains("docket: no entries match"));
    assert!(on_terminal(80, &nothing.replace("tail", "stats"), folder.path()).contains("no decisions match"));
    let (_, _, error) = docket(&nothing.split(' ').collect::<Vec<_>>(), folder.path());
    assert_eq!(error, "");
    let coloured = |terminal: &str| {
        let command =
            format!("tail --ledger docket.db; export TERM={terminal}; {}", env!("CARGO_BIN_EXE_docket"));
        let shown = on_terminal(80, &format!("{command} tail --ledger docket.db"), folder.path());
        shown.rsplit("OCCURRED AT").next().unwrap().contains("\u{1b}[32m")
    };
    assert!(coloured("xterm") && !coloured("dumb"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_every_kind_are_told_and_ids_lead_to_them() {
    let upstream = server::serve().await.unwrap();
    let docket = Docket::before(&format!("http://{upstream}/mcp"), POLICY).await;
    let call = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"message": "hi"}},
    });
    docket.rpc(&call, &[("x-request-id", "told-1"), ("user-agent", "agent/1")]).await.text().await.unwrap();
    let outcome = docket.wait_for(|entry| entry["kind"] == "outcome").await;
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let (id, call_id) = (text(&outcome, "id"), text(&outcome, "call_id"));
    let (code, out, error) = docket.command(&["get", &id]).await;
    assert_eq!(code, 0, "{error}");
    assert!(out.starts_with("OUTCOME  tools.call at "), "{out}");
    for line in
        ["  request       told-1\n", &format!("  call          {call_id}\n"), "  server        demo\n"]
    {
        assert!(out.contains(line), "{line}\n{out}");
    }
    let took = regex::Regex::new(r"(?m)^  outcome       \w+ after [\d.]+ (µs|ms|s)$").unwrap();
    assert!(took.is_match(&out), "{out}");
    let (_, table, _) = docket.command(&["tail", "--kind", "outcome"]).await;
    let outcome = text(&outcome, "outcome");
    assert!(table.lines().nth(1).unwrap().contains(&format!(" {outcome} ")), "{table}");

    let read = docket.client.get(format!("{}/v1/audit?limit=1", docket.admin)).bearer_auth(&docket.token);
    let read = read.header("x-request-id", "read-1").header("user-agent", "reader/1").send().await.unwrap();
    assert_eq!(read.status(), 200);
    let read = docket.wait_for(|entry| entry["request_id"] == "read-1").await;
    for command in [["get", &text(&read, "id")], ["explain", "read-1"]] {
        let (code, out, _) = docket.command(&command).await;
        assert_eq!(code, 0);
        assert!(out.starts_with("ACCESS  ledger.read at "), "{out}");
        for part in
            ["principal     admin", "path          /v1/audit", "query         limit=1", "reader/1", "read-1"]
        {
            assert!(out.contains(part), "{part}\n{out}");
        }
    }
    docket.admin_get("/v1/audit").await;
    docket
        .client
        .get(format!("{}/v1/audit", docket.admin))
        .header("x-request-id", "bad-1")
        .send()
        .await
        .unwrap();
    docket.wait_for(|entry| entry["request_id"] == "bad-1").await;
    let (_, out, _) = docket.command(&["explain", "bad-1"]).await;
    assert!(out.starts_with("AUTH  auth.failed at ") && out.contains("reason        missing_token"), "{out}");

    let decision = text(&docket.entries("told-1").await[0], "id");
    let explains = "`docket explain told-1` explains its request";
    for (command, hint) in [
        (
            ["explain", &id],
            format!("`{id}` is the id of an entry: `docket get {id}` prints it, and {explains}"),
        ),
        (
            ["explain", &call_id],
            format!("is the id of a call: `docket get {decision}` prints its first entry, and {explains}"),
        ),
        (
            ["get", &call_id],
            format!("is the id of a call: `docket get {decision}` prints its first entry, and {explains}"),
        ),
        (
            ["get", "told-1"],
            "`told-1` is the id of a request: `docket explain told-1` explains it".to_owned(),
        ),
    ] {
        let (code, _, error) = docket.command(&command).await;
        assert_eq!(code, 3, "{command:?}: {error}");
        assert!(error.contains(&hint), "{command:?}: {error}");
    }
    let (code, _, error) = docket.command(&["get", "nothing"]).await;
    assert!(code == 2 && error.contains("`id` must be a ULID"), "{error}");
    let folder = docket.stop().await;
    let (code, _, error) =
        crate::harness::docket(&["explain", &call_id, "--ledger", "docket.db"], folder.path());
    assert!(code == 3 && error.contains(explains), "{error}");
}

#[test]
fn commands_say_what_they_lack() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_docket"));
        let output =
            command.args(arguments).current_dir(folder.path()).env("DOCKET_URL", "").output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    std::fs::write(folder.path().join("docket.toml"), "admin.listen = \"127.0.0.1:0\"\n").unwrap();
    let (code, error) = run(&["tail"]);
    assert_eq!(code, 2);
    assert!(
        error.contains("leaves the port of the admin plane open") && error.contains("pass --url"),
        "{error}"
    );
    let token = std::path::absolute(folder.path().canonicalize().unwrap().join("admin.token")).unwrap();
    let (code, error) = run(&["tail", "--url", "http://127.0.0.1:9"]);
    assert_eq!(code, 2);
    let said = format!("cannot read the admin token from `{}`", token.display());
    assert!(error.contains(&said), "{said}\n{error}");
    let (code, error) = run(&["token", "create", "--name", "a", "--role", "admin", "--expires", "1"]);
    assert_eq!(code, 2);
    assert!(error.contains("how long it lasts (`90d`, `12h`), or a time to come"), "{error}");
    let online = ["--url", "http://127.0.0.1:9", "--token", "t"];
    let (code, error) = run(&[&["token", "list"], &online[..]].concat());
    assert!(code == 2 && error.contains("cannot reach docket") && !error.contains("--ledger"), "{error}");
}

#[test]
fn help_and_completions_offer_what_is_taken() {
    let run = |arguments: &[&str]| docket(arguments, Path::new("."));
    for command in
        [&["token", "list"][..], &["token", "create"], &["block", "all"], &["unblock"], &["policy", "reload"]]
    {
        let (code, help, _) = run(&[command, &["--help"]].concat());
        assert!(code == 0 && help.contains("--url") && !help.contains("--ledger"), "{help}");
        let (code, _, _) = run(&[command, &["--ledger", "docket.db"]].concat());
        assert_eq!(code, 2, "{command:?}");
    }
    let (_, script, _) = run(&["completions", "bash"]);
    for words in [
        "allow deny require_approval partial",
        "complete error timeout",
        "success denied error pending_approval disconnected unknown",
        "enforce monitor",
        "json jsonl csv opa",
        "admin auditor lead user approver author agent",
        "decision outcome trace auth access policy prune erase hold export block start stop",
    ] {
        assert!(script.contains(&format!("compgen -W \"{words}\"")), "{words}");
    }
}
