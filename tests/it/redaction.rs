//! Nothing secret is written: a thousand calls with secrets planted in every place and form, and two hundred texts that only
//! look alike.

use std::path::Path;

use aho_corasick::AhoCorasick;
use futures_util::StreamExt as _;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{Docket, POLICY, Process, check, docket, evaluation, folder_with};

const CALLS: usize = 1000;

/// Quotes, rebinds, transforms and prints whatever it is given; lets `echo` through, so that the server may quote it too.
const QUOTING: &str = r#"package test.quoting

args := input.context.arguments

allow contains "protocol" if input.action.name in {"initialize", "resources/read"}

allow contains "harmless" if {
	input.resource.id == "echo"
	print("echo", args)
}

deny contains {"rule": "quote", "message": sprintf("not with %v, %s", [args, input.resource.id]), "data": {"got": args}} if {
	input.resource.id != "echo"
	print("refused", args)
	text := json.marshal(args)
	count(text) > 0
	shorter := trim_space(text)
	not startswith(shorter, "never")
}

deny contains {"rule": "each", "message": concat(" ", ["found", value])} if {
	input.resource.id == "each"
	some value in [value | walk(args, [_, value]); is_string(value)]
}
"#;

/// The same secrets every time, on every machine (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }

    fn word(&mut self, n: usize) -> String {
        const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz23456789";
        let mut word: String = (0..n).map(|_| char::from(LETTERS[self.roll(LETTERS.len())])).collect();
        word.replace_range(0..4, "q7Zx");
        word
    }

    /// A credential that its own shape gives away.
    fn shaped(&mut self) -> String {
        match self.roll(6) {
            0 => format!("ghp_{}", self.word(36)),
            1 => format!("sk-ant-api03-{}", self.word(60)),
            2 => format!("xoxb-{}", self.word(30)),
            3 => format!("sk_live_{}", self.word(24)),
            4 => format!("eyJhbGciOiJIUzI1NiJ9.eyJ{}.{}", self.word(30), self.word(43)),
            _ => format!("AKIA{}", self.word(20).to_uppercase()),
        }
    }

    /// A secret, and a value that carries it in a way that gives it away.
    fn planted(&mut self) -> (String, Value) {
        let plain = self.word(14);
        let names =
            ["password", "db_password", "apiKey", "X-Api-Key", "client_secret", "token", "private_key"];
        let name = names[self.roll(names.len())];
        match self.roll(13) {
            0 => (plain.clone(), json!({ name: plain })),
            1 => (plain.clone(), json!({ name: [1, {"v": plain}] })),
            2 => {
                let secret = self.shaped();
                (secret.clone(), json!(format!("use {secret} now")))
            }
            3 => {
                let secret = self.shaped();
                (secret.clone(), json!([secret, 1]))
            }
            4 => (plain.clone(), json!(format!("postgres://app:{plain}@db.internal:5432/app"))),
            5 => (plain.clone(), json!(format!("cd /x && DB_PASSWORD={plain} ./run"))),
            6 => (plain.clone(), json!(format!("https://x.example/cb?page=1&access_token={plain}"))),
            7 => (plain.clone(), json!({"headers": {"Cookie": format!("sid={plain}; lang=de")}})),
            8 => {
                let secret = self.shaped();
                (secret.clone(), json!({ secret: "as a name" }))
            }
            9 => {
                let number = 100_000_000_000 + self.roll(899_999_999_999);
                (number.to_string(), json!({ "secret": number }))
            }
            10 => (plain.clone(), json!(["cmd", "--password", plain])),
            11 => {
                (plain.clone(), json!(format!("curl -H 'Authorization: Bearer {plain}' https://x.example")))
            }
            _ => (plain.clone(), json!([{"name": "GITHUB_TOKEN", "value": plain}])),
        }
    }

    /// Buries a value: in members, items and strings of JSON.
    fn buried(&mut self, mut value: Value) -> Value {
        for _ in 0..self.roll(6) {
            value = match self.roll(4) {
                0 => json!({"path": "/srv/data", "a/b": value, "n": 3}),
                1 => json!(["first", value, null]),
                2 => Value::String(value.to_string()),
                _ => json!({"content": value, "mode": "rw"}),
            };
        }
        value
    }
}

/// A server that fails every request, and quotes it.
async fn quoting_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut text = Vec::new();
                let mut buffer = [0; 16_384];
                let body = loop {
                    let read = stream.read(&mut buffer).await.unwrap_or(0);
                    text.extend_from_slice(&buffer[..read]);
                    let head = String::from_utf8_lossy(&text).to_lowercase();
                    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
                    let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
                    match head.find("\r\n\r\n") {
                        Some(end) if text.len() >= end + 4 + length || read == 0 => {
                            break text[end + 4..].to_vec();
                        }
                        None if read == 0 => return,
                        _ => {}
                    }
                };
                let request: Value = serde_json::from_slice(&body).unwrap_or_default();
                let said = format!("cannot do that: {}", request["params"]["arguments"]["quoted"]);
                let answer = json!({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32000, "message": said}});
                let answer = answer.to_string();
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    answer.len()
                );
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    format!("http://{address}/mcp")
}

/// One call with a secret in it somewhere. Answers what must be found nowhere.
async fn send(client: Client, data: String, number: usize) -> Vec<String> {
    let mut dice = Dice(number as u64);
    let (first, carrier) = dice.planted();
    let (second, other) = dice.planted();
    let (carrier, other) = (dice.buried(carrier), dice.buried(other));
    let shaped = dice.shaped();
    let id = format!("call-{number}");
    let url = |path: &str| format!("{data}{path}");
    let tools = ["quote", "each", "pay"];
    let tool = tools[dice.roll(tools.len())];
    let arguments = json!({"first": carrier, "second": other, "limit": 20});
    let evaluate = |body: Value| client.post(url("/access/v1/evaluation")).json(&body);
    let rpc = |method: &str, params: Value| {
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        client.post(url("/mcp/demo")).header("accept", "application/json, text/event-stream").json(&body)
    };
    let both = vec![first.clone(), second.clone()];
    let (request, secrets) = match number % 14 {
        0..=3 => (evaluate(evaluation(tool, &arguments)).header("x-request-id", &id), both),
        4 => {
            (rpc("tools/call", json!({"name": tool, "arguments": arguments, "_meta": {"auth": other}})), both)
        }
        5 => {
            // The server quotes what it was sent, without what gave it away.
            let arguments =
                json!({"password": first, "quoted": format!("the word {first} is wrong, and {shaped}")});
            (rpc("tools/call", json!({"name": "echo", "arguments": arguments})), vec![first, shaped])
        }
        6 => (
            evaluate(evaluation(tool, &arguments)).header("x-request-id", &shaped),
            vec![first, second, shaped],
        ),
        7 => {
            let mut body = evaluation(&format!("login?access_token={}", &shaped), &arguments);
            body["subject"]["properties"] = json!({"claims": {"api_key": first}, "note": other});
            body["resource"]["properties"] = json!({"uri": format!("https://bob:{shaped}@x.example/")});
            (evaluate(body), vec![first, second, shaped])
        }
        8 => (rpc("resources/read", json!({"uri": format!("file:///x?token={shaped}")})), vec![shaped]),
        9 => (rpc(&format!("tools/{shaped}"), json!({"x": carrier})), vec![first, shaped]),
        10 => {
            let text = format!("{{\"password\": \"{shaped}\", \"x\": [1, 2");
            (client.post(url("/access/v1/evaluation")).body(text), vec![shaped])
        }
        11 => (
            evaluate(evaluation(tool, &arguments))
                .header("user-agent", format!("agent/1 (Bearer {shaped})"))
                .header("cookie", format!("session={first}"))
                .header("x-api-key", shaped.clone()),
            vec![first, second, shaped],
        ),
        12 => {
            let request = client.post(url(&format!("/access/v1/evaluation?api_key={shaped}")));
            (request.bearer_auth(&first).json(&evaluation(tool, &arguments)), vec![first, second, shaped])
        }
        _ => (client.get(url(&format!("/nothing/{shaped}?token={first}"))), vec![shaped, first]),
    };
    request.send().await.unwrap().bytes().await.unwrap();
    secrets
}

/// Everything that can be read of a docket: its files, its logs, its API and what its commands export.
async fn everything(folder: &Path, process: &Process) -> Vec<(String, Vec<u8>)> {
    let token = std::fs::read_to_string(folder.join("admin.token")).unwrap();
    let client = Client::new();
    let get = async |path: &str| {
        let request = client.get(format!("{}{path}", process.admin)).bearer_auth(token.trim());
        request.send().await.unwrap()
    };
    let mut all = Vec::new();
    let mut page = 1;
    loop {
        let answer: Value = get(&format!("/v1/audit?limit=1000&page={page}")).await.json().await.unwrap();
        all.push((format!("audit page {page}"), answer.to_string().into_bytes()));
        if answer["pagination"]["totalPages"].as_i64().unwrap() <= page {
            break;
        }
        page += 1;
    }
    for number in (0..CALLS).step_by(14) {
        let path = format!("/v1/explain/call-{number}?trace=true");
        all.push((path.clone(), get(&path).await.bytes().await.unwrap().to_vec()));
    }
    all.push(("metrics".into(), get("/metrics").await.bytes().await.unwrap().to_vec()));
    let mut stream = get("/v1/audit/stream?after=0").await.bytes_stream();
    let mut streamed = Vec::new();
    while let Ok(Some(Ok(piece))) =
        tokio::time::timeout(std::time::Duration::from_millis(700), stream.next()).await
    {
        streamed.extend_from_slice(&piece);
    }
    assert!(streamed.len() > 100_000, "the stream shows {} bytes", streamed.len());
    all.push(("stream".into(), streamed));
    for arguments in [
        &["tail", "--ledger", "docket.db", "--all", "--jsonl", "--limit", "1000"][..],
        &[
            "prove",
            "call-14",
            "--ledger",
            "docket.db",
            "--out",
            "evidence",
            "--disclose",
            "arguments,diagnostics,context",
        ],
        &["policy", "test-from", "call-14", "call-1", "--ledger", "docket.db"],
    ] {
        let (code, out, error) = docket(arguments, folder);
        assert_eq!(code, 0, "{arguments:?}: {error}");
        all.push((arguments.join(" "), format!("{out}{error}").into_bytes()));
    }
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            all.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_of_a_thousand_calls_is_in_anything_that_can_be_read() {
    let server = quoting_server().await;
    let toml = format!("[servers.demo]\nurl = \"{server}\"\n[log]\nlevel = \"trace\"\nformat = \"json\"\n");
    let folder = folder_with(&toml, QUOTING);
    let process = Process::start(folder.path());
    let client = Client::new();
    let calls = (0..CALLS).map(|number| send(client.clone(), process.data.clone(), number));
    let secrets: Vec<Vec<String>> = futures_util::stream::iter(calls).buffer_unordered(8).collect().await;
    let secrets: Vec<String> = secrets.into_iter().flatten().collect();
    assert!(secrets.len() > CALLS);
    // Traces come a moment later than answers.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let all = everything(folder.path(), &process).await;
    assert!(all.iter().any(|(name, text)| name.ends_with("docket.db") && text.len() > 1_000_000));
    let log = all.iter().find(|(name, _)| name.ends_with("docket.log")).unwrap();
    assert!(log.1.len() > 10_000, "the log has {} bytes", log.1.len());
    let lowered: Vec<String> = secrets.iter().map(|secret| secret.to_lowercase()).collect();
    let search = AhoCorasick::builder().ascii_case_insensitive(true).build(&lowered).unwrap();
    let mut leaks = Vec::new();
    for (name, bytes) in &all {
        for found in search.find_iter(bytes).take(3) {
            let around = found.start().saturating_sub(160)..(found.end() + 60).min(bytes.len());
            leaks.push(format!("{name}: {}", String::from_utf8_lossy(&bytes[around])));
        }
    }
    assert!(leaks.is_empty(), "{} leaks\n{}", leaks.len(), leaks.join("\n\n"));
    // What was said around the secrets is still there.
    let audit = String::from_utf8_lossy(&all[0].1).into_owned();
    assert!(
        audit.contains("not with")
            && audit.contains("cannot do that")
            && audit.contains("the word [redacted]")
    );
    assert_eq!(process.terminate(), Some(0));
    check(&folder.path().join("docket.db"));
}

#[tokio::test]
async fn two_hundred_look_alikes_are_left_exactly_alone() {
    let toml = "[redaction.personal_data]\nemail = \"mask\"\nphone = \"mask\"\npayment_card = \"mask\"\niban = \"mask\"\n\
                national_id = \"hash\"\n";
    let docket = Docket::with(toml, POLICY).await;
    // Two thirds are told apart from credentials; those that do hold an address are for the other rules.
    let credentials = include_str!("../../src/redact/look_alikes.txt");
    let personal = include_str!("look_alikes.txt");
    let lines: Vec<&str> = credentials
        .lines()
        .filter(|line| !line.contains("alice@") && !line.contains("a1@"))
        .chain(personal.lines())
        .filter(|line| !line.is_empty())
        .collect();
    assert!(lines.len() >= 200, "{}", lines.len());
    for (number, chunk) in lines.chunks(20).enumerate() {
        let texts: Vec<String> = chunk.iter().map(|line| line.replace("\\n", "\n")).collect();
        let id = format!("alike-{number}");
        let given = json!({"texts": texts, "joined": texts.join("\n")});
        docket.evaluate(&id, "echo", given.clone()).await;
        let entry = &docket.entries(&id).await[0];
        assert_eq!(
            entry["metadata"]["context"]["arguments"]["texts"], given["texts"],
            "{:#}",
            entry["redactions"]
        );
        for text in &texts {
            docket.evaluate("alone", "echo", json!({ "text": text })).await;
        }
    }
    let alone = docket.entries("alone").await;
    for (entry, line) in alone.iter().zip(&lines) {
        assert_eq!(
            entry["metadata"]["context"]["arguments"]["text"],
            line.replace("\\n", "\n"),
            "{:#}",
            entry["redactions"]
        );
        assert_eq!(entry["redactions"], json!([]), "{line}");
    }
    docket.stop().await;
}

#[test]
fn redact_shows_what_is_left_and_by_which_rule_the_rest_went() {
    let folder = folder_with("[redaction.personal_data]\nemail = \"hash\"\n", POLICY);
    let masks = "package system.log\n\nmask contains \"/input/context/arguments/path\"\n";
    std::fs::write(folder.path().join("policies/log.rego"), masks).unwrap();
    let mut call =
        evaluation("login", &json!({"password": "hunter2", "path": "/etc/x", "to": "a@b.example"}));
    call["context"]["note"] = json!("see /etc/x");
    std::fs::write(folder.path().join("call.json"), call.to_string()).unwrap();
    std::fs::write(folder.path().join("lines.jsonl"), "{\"token\": \"swordfish\"}\n{\"n\": 1}\n").unwrap();
    std::fs::write(folder.path().join("text.txt"), "PGPASSWORD=swordfish psql\n").unwrap();
    let (code, out, _) = docket(&["redact", "call.json", "--explain"], folder.path());
    assert_eq!(code, 0);
    for part in [
        "\"password\": \"[redacted]\"",
        "hmac-sha256:",
        "\"see [redacted]\"",
        "/context/arguments/password  builtin:key-name (credential)",
        "builtin:email (personal-data)",
        "remove",
        "rego:data.system.log.mask (masked)",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    assert!(!out.contains("hunter2") && !out.contains("/etc/x") && !out.contains("a@b.example"), "{out}");
    let (_, out, _) = docket(&["redact", "lines.jsonl", "--json"], folder.path());
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["document"], json!({"token": "[redacted]"}));
    assert_eq!(lines[0]["redactions"][0]["path"], "/token");
    assert_eq!(lines[1], json!({"document": {"n": 1}, "redactions": []}));
    assert_eq!(docket(&["redact", "text.txt"], folder.path()).1, "PGPASSWORD=[redacted] psql\n");
    let (_, out, _) = docket(&["redact", "text.txt", "--explain"], folder.path());
    assert!(out.contains("(all of it)  builtin:assignment"), "{out}");
    let (code, _, error) = docket(&["redact", "none.json"], folder.path());
    assert_eq!((code, error.contains("cannot read `none.json`")), (2, true), "{error}");
}
