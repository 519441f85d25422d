//! What strangers send: each is answered clearly, recorded where a caller was refused, and docket lives on.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Docket, POLICY, evaluation};

/// Sends bytes as they are and reads what comes back until docket closes or falls silent.
async fn raw(docket: &Docket, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(docket.data.trim_start_matches("http://")).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// docket answers an ordinary request.
async fn alive(docket: &Docket) {
    let answer: Value =
        docket.post("/access/v1/evaluation", &evaluation("echo", &json!({}))).await.json().await.unwrap();
    assert_eq!(answer["decision"], true);
}

#[tokio::test]
async fn bodies_that_cannot_be_read() {
    let docket = Docket::before("http://127.0.0.1:1/mcp", POLICY).await;
    let deep = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
    let cases: [(&str, Vec<u8>); 7] = [
        ("not JSON", b"{nope".to_vec()),
        ("empty", Vec::new()),
        ("10,000 levels deep", deep),
        ("invalid UTF-8", b"{\"a\":\"\xff\xfe\"}".to_vec()),
        ("duplicate keys", br#"{"jsonrpc":"2.0","subject":1,"subject":2}"#.to_vec()),
        ("wrong types", br#"{"jsonrpc":2,"subject":7,"action":[],"resource":null}"#.to_vec()),
        ("a number", b"42".to_vec()),
    ];
    for (name, body) in &cases {
        for path in ["/access/v1/evaluation", "/access/v1/evaluations", "/mcp/demo"] {
            let answer = raw(&docket, &request(path, body)).await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{name} to {path}: {answer}");
            assert!(answer.contains("x-request-id: "), "{name} to {path}: {answer}");
        }
    }
    let entry = docket.wait_for(|entry| entry["event_type"] == "request.unreadable").await;
    assert_eq!((&entry["decision"], &entry["evaluation_status"]), (&json!("deny"), &json!("error")));
    assert!(entry["metadata"]["length"].is_number() && entry["metadata"]["sha256"].is_string(), "{entry:#}");
    // Twenty-one refusals in a moment from one peer: ten are entries of their own in a second, the rest are counted.
    docket.wait_for(|entry| entry["event_type"] == "request.folded").await;
    alive(&docket).await;
    docket.stop().await;
}

#[tokio::test]
async fn a_hundred_megabytes() {
    let docket = Docket::before("http://127.0.0.1:1/mcp", POLICY).await;
    for path in ["/access/v1/evaluation", "/mcp/demo"] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 104857600\r\n\r\n");
        let answer = raw(&docket, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{path}: {answer}");
        assert!(answer.contains("larger than 8388608 bytes"), "{path}: {answer}");
        // A chunked body does not say how long it will be.
        let mut stream = TcpStream::connect(docket.data.trim_start_matches("http://")).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let chunk = [b"100000\r\n".as_slice(), &[b' '; 0x10_0000], b"\r\n"].concat();
        for _ in 0..100 {
            if stream.write_all(&chunk).await.is_err() {
                break;
            }
        }
        let mut answer = vec![0; 64];
        let read = stream.read(&mut answer).await.unwrap_or(0);
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        // The connection may be reset before the answer is read, since docket stops reading.
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{path}: {answer}");
    }
    docket.wait_for(|entry| entry["event_type"] == "request.unreadable").await;
    alive(&docket).await;
    docket.stop().await;
}

#[tokio::test]
async fn slow_heads_and_slow_bodies_are_cut_off() {
    let docket = Docket::with("data.header_timeout_ms = 300\ndata.body_timeout_ms = 300\n", POLICY).await;
    let answer = raw(&docket, b"POST /access/v1/evaluation HTTP/1.1\r\nhost: local").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    let head = b"POST /access/v1/evaluation HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{";
    let answer = raw(&docket, head).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    docket.wait_for(|entry| entry["metadata"]["error"] == "the body did not arrive within 300 ms").await;
    docket.wait_for(|entry| entry["metadata"]["reason"] == "not_http").await;
    alive(&docket).await;
    docket.stop().await;
}

#[tokio::test]
async fn what_is_not_http() {
    let docket = Docket::start().await;
    raw(&docket, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    raw(&docket, b"GET / HTTP/9.9\r\n\r\n").await;
    let huge = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    let answer = raw(&docket, huge.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{}", &answer[..answer.len().min(200)]);
    docket.wait_for(|entry| entry["metadata"]["reason"] == "not_http").await;
    alive(&docket).await;
    docket.stop().await;
}

#[tokio::test]
async fn half_closed_connections_leave_a_record() {
    let docket = Docket::start().await;
    let body = evaluation("echo", &json!({"message": "half"})).to_string();
    let mut stream = TcpStream::connect(docket.data.trim_start_matches("http://")).await.unwrap();
    stream.write_all(&request("/access/v1/evaluation", body.as_bytes())).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    if answer.starts_with("HTTP/1.1 200") {
        docket.wait_for(|entry| entry["metadata"]["context"]["arguments"]["message"] == "half").await;
    }
    alive(&docket).await;
    docket.stop().await;
}

#[tokio::test]
async fn other_names_and_other_origins() {
    let docket = Docket::start().await;
    let body = evaluation("echo", &json!({}));
    for (header, value) in [("host", "evil.example"), ("origin", "https://evil.example"), ("origin", "null")]
    {
        let request =
            docket.client.post(format!("{}/access/v1/evaluation", docket.data)).header(header, value);
        let response = request.json(&body).send().await.unwrap();
        assert_eq!(response.status(), 403, "{header}: {value}");
        let request = docket.client.get(format!("{}/v1/audit", docket.admin)).header(header, value);
        assert_eq!(
            request.bearer_auth(&docket.token).send().await.unwrap().status(),
            403,
            "{header}: {value}"
        );
    }
    let local = docket
        .client
        .post(format!("{}/access/v1/evaluation", docket.data))
        .header("origin", "http://localhost:3000");
    assert_eq!(local.json(&body).send().await.unwrap().status(), 200);
    docket.wait_for(|entry| entry["metadata"]["reason"] == "foreign_host_or_origin").await;
    docket.stop().await;
}

#[tokio::test]
async fn request_ids_are_kept_clean() {
    let docket = Docket::start().await;
    let body = evaluation("echo", &json!({}));
    for id in ["with space", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", &"x".repeat(129)] {
        let request =
            docket.client.post(format!("{}/access/v1/evaluation", docket.data)).header("x-request-id", id);
        let response = request.json(&body).send().await.unwrap();
        let answered = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert_ne!(answered, id);
        assert_eq!(answered.len(), 26, "a ULID");
    }
    docket.stop().await;
}

#[tokio::test]
async fn secrets_do_not_reach_the_disk() {
    let secret = "ghp_16C7e42F292c6912E7710c838347Ae178B4a";
    let policy = "package p\n\ndeny contains {\"rule\": \"r\", \"message\": sprintf(\"password %v is not allowed\", [input.context.arguments.password])}\n";
    let docket = Docket::before("http://127.0.0.1:1/mcp", policy).await;
    let arguments = json!({"password": "tr0ub4dor-and-3", "note": format!("use {secret}"), "nested": [{"api_key": 12_345_678}]});
    docket.evaluate("s-1", "login", arguments.clone()).await;
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": secret, "arguments": arguments}});
    docket.rpc(&call, &[("user-agent", &format!("x/{secret}"))]).await;
    docket.admin_get(&format!("/v1/explain/{secret}")).await;
    docket.wait_for(|entry| entry["event_type"] == "ledger.explained").await;
    let entries = docket.entries("s-1").await;
    assert_eq!(entries[0]["diagnostics"][0]["message"], "password [redacted] is not allowed");
    assert_eq!(entries[0]["metadata"]["context"]["arguments"]["note"], "use [redacted]");
    let paths: Vec<&str> = entries[0]["redactions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edit| edit["path"].as_str().unwrap())
        .collect();
    assert!(paths.contains(&"/context/arguments/password"), "{paths:?}");
    let folder = docket.stop().await;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file()
            && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("docket.db"))
        {
            let bytes = std::fs::read(&path).unwrap();
            for planted in [secret, "tr0ub4dor-and-3", "12345678"] {
                let found = bytes.windows(planted.len()).any(|window| window == planted.as_bytes());
                assert!(!found, "{planted} is in {}", path.display());
            }
        }
    }
}
