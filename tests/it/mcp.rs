//! MCP through docket: a real client and a real server (rmcp), and raw requests for what no good client sends.

use std::time::Duration;

use rmcp::ServiceExt as _;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{Docket, POLICY};
use crate::server;

async fn docket() -> Docket {
    let upstream = server::serve().await.unwrap();
    Docket::before(&format!("http://{upstream}/mcp"), POLICY).await
}

fn call(tool: &str, arguments: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

/// A server that answers every request with the same bytes, and counts the connections it closed on.
async fn scripted(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 65_536];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    format!("http://{address}/mcp")
}

#[tokio::test]
async fn a_real_client_calls_through_docket_and_is_refused_with_a_reason() {
    let docket = docket().await;
    let transport = StreamableHttpClientTransport::from_uri(format!("{}/mcp/demo", docket.data));
    let client = ().serve(transport).await.unwrap();
    let tools = client.list_all_tools().await.unwrap();
    assert!(tools.iter().any(|tool| tool.name == "echo"));

    let arguments = |value: Value| value.as_object().cloned().unwrap();
    let echo = CallToolRequestParams::new("echo").with_arguments(arguments(json!({"message": "hi"})));
    let echoed = client.call_tool(echo).await.unwrap();
    assert_eq!(echoed.content[0].as_text().unwrap().text, "hi");

    let delete =
        CallToolRequestParams::new("delete_file").with_arguments(arguments(json!({"path": "/etc/passwd"})));
    let refused = client.call_tool(delete).await.unwrap();
    assert_eq!(refused.is_error, Some(true));
    let text = &refused.content[0].as_text().unwrap().text;
    assert!(text.contains("`/etc/passwd` must not be deleted; archive it instead"), "{text}");
    let meta = serde_json::to_value(refused.meta.unwrap()).unwrap();
    let request_id = meta["docket/request_id"].as_str().unwrap();
    assert_eq!(meta["docket/decision"]["class"], "denied");
    client.cancel().await.unwrap();

    let explained: Value = docket.admin_get(&format!("/v1/explain/{request_id}")).await.json().await.unwrap();
    let entry = &explained["entries"][0];
    assert_eq!((&entry["decision"], &entry["event_type"]), (&json!("deny"), &json!("tools.call")));
    assert_eq!(entry["server"], "demo");
    let because = &explained["why"][0]["because"][0];
    assert_eq!(because["policy_id"], "test.tools");
    assert_eq!(because["rule"], "no_delete");
    let allowed =
        docket.wait_for(|entry| entry["resource"]["id"] == "echo" && entry["outcome"] == "success").await;
    assert!(allowed["duration_us"].as_i64().unwrap() > 0);
    assert_eq!(allowed["metadata"]["context"]["arguments"], json!({"message": "hi"}));
    docket.stop().await;
}

#[tokio::test]
async fn each_era_gets_its_own_shape_of_refusal() {
    let docket = docket().await;
    let refusal: Value =
        docket.rpc(&call("delete_file", &json!({"path": "/x"})), &[]).await.json().await.unwrap();
    assert_eq!(refusal["id"], 7);
    assert_eq!(refusal["result"]["isError"], true);
    assert!(refusal["result"].get("resultType").is_none());
    let mut stateless = call("delete_file", &json!({"path": "/x"}));
    stateless["params"]["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    let headers =
        [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "delete_file")];
    let refusal: Value = docket.rpc(&stateless, &headers).await.json().await.unwrap();
    assert_eq!(refusal["result"]["resultType"], "complete");
    // Anything but a tool call is refused with a JSON-RPC error.
    let prompt = json!({"jsonrpc": "2.0", "id": "a", "method": "prompts/get", "params": {"name": "p"}});
    let refusal: Value = docket.rpc(&prompt, &[]).await.json().await.unwrap();
    assert_eq!((&refusal["id"], &refusal["error"]["code"]), (&json!("a"), &json!(-32001)));
    assert_eq!(refusal["error"]["data"]["docket/decision"]["class"], "denied");
    let unknown = json!({"jsonrpc": "2.0", "id": 1, "method": "evil/method"});
    let refusal: Value = docket.rpc(&unknown, &[]).await.json().await.unwrap();
    assert_eq!(refusal["error"]["code"], -32601);
    docket.wait_for(|entry| entry["event_type"] == "mcp.unknown_method" && entry["decision"] == "deny").await;
    let nameless = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {}});
    let refusal: Value = docket.rpc(&nameless, &[]).await.json().await.unwrap();
    assert_eq!(refusal["error"]["code"], -32602);
    docket.stop().await;
}

#[tokio::test]
async fn lying_headers_are_refused_and_recorded() {
    let docket = docket().await;
    let mut body = call("delete_file", &json!({"path": "/x"}));
    body["params"]["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
    for lie in [("mcp-name", "echo"), ("mcp-method", "tools/list"), ("mcp-protocol-version", "2025-11-25")] {
        let response = docket.rpc(&body, &[lie]).await;
        assert_eq!(response.status(), 400, "{lie:?}");
        let refusal: Value = response.json().await.unwrap();
        assert_eq!(refusal["error"]["code"], -32020, "{lie:?}");
    }
    docket.wait_for(|entry| entry["event_type"] == "request.header_mismatch").await;
    docket.stop().await;
}

#[tokio::test]
async fn batches_and_unknown_servers_are_refused_and_recorded() {
    let docket = docket().await;
    let response = docket.rpc(&json!([call("echo", &json!({})), call("echo", &json!({}))]), &[]).await;
    assert_eq!(response.status(), 400);
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["code"], -32600);
    docket.wait_for(|entry| entry["event_type"] == "request.batch" && entry["decision"] == "deny").await;
    let response = docket.post("/mcp/nowhere", &call("echo", &json!({}))).await;
    assert_eq!(response.status(), 404);
    let refusal: Value = response.json().await.unwrap();
    assert_eq!(refusal["id"], 7);
    assert!(refusal["error"]["message"].as_str().unwrap().contains("server `nowhere` is not configured"));
    docket.wait_for(|entry| entry["event_type"] == "request.unknown_server").await;
    docket.stop().await;
}

#[tokio::test]
async fn what_goes_on_are_the_callers_bytes_and_not_its_token() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}/mcp", listener.local_addr().unwrap());
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"}") {
            let mut buffer = [0; 4_096];
            let read = stream.read(&mut buffer).await.unwrap();
            seen.extend_from_slice(&buffer[..read]);
        }
        let answer = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[]}}"#;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmcp-session-id: s1\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        stream.write_all((head + answer).as_bytes()).await.unwrap();
        String::from_utf8(seen).unwrap()
    });
    let toml = format!(
        "[servers.demo]\nurl = \"{upstream}\"\nheaders = {{ x-upstream-key = \"k\" }}\n\
         [agents.bot]\ntoken_sha256 = \"{}\"\nuser = \"alice@acme.example\"\nteam = \"finance\"\n",
        "0b1b3bd4a4ec5bd7b4b12a1d7e4d7f0e4a5f8d7ef0b0eb5b5f2b6e3ce3b1a4aa"
    );
    let docket = Docket::with(&toml, POLICY).await;
    // Odd spacing survives, since the bytes are not written anew.
    let body = r#"{ "jsonrpc":"2.0",  "id":7, "method":"tools/call","params":{"name":"echo","arguments":{"message":"a"}} }"#;
    let response = docket
        .client
        .post(format!("{}/mcp/demo", docket.data))
        .header("mcp-session-id", "s1")
        .header("last-event-id", "e9")
        .header("x-request-id", "bytes-1")
        .header("accept", "application/json")
        .header("content-type", "application/json; charset=UTF-8")
        .header("cookie", "session=1")
        .header("x-forwarded-for", "10.0.0.1")
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["mcp-session-id"], "s1");
    assert_eq!(response.headers()["x-request-id"], "bytes-1");
    let seen = seen.await.unwrap();
    assert!(seen.ends_with(body), "{seen}");
    let lower = seen.to_ascii_lowercase();
    for expected in ["mcp-session-id: s1", "last-event-id: e9", "x-request-id: bytes-1", "x-upstream-key: k"]
    {
        assert!(lower.contains(expected), "{expected}: {seen}");
    }
    for unexpected in ["authorization:", "cookie:", "x-forwarded-for:", "charset"] {
        assert!(!lower.contains(unexpected), "{unexpected}: {seen}");
    }
    docket.stop().await;
}

#[tokio::test]
async fn a_server_that_is_down_or_talks_nonsense_is_a_clear_error_with_an_outcome() {
    for (answer, expected) in [
        ("", "the server's answer broke off"),
        ("this is not HTTP\r\n\r\n", "the server's answer broke off"),
        ("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi", "which is not MCP"),
    ] {
        let docket = Docket::before(&scripted(answer).await, POLICY).await;
        let response = docket.rpc(&call("echo", &json!({})), &[]).await;
        assert_eq!(response.status(), 200, "{answer}");
        let error: Value = response.json().await.unwrap();
        assert_eq!((&error["id"], &error["error"]["code"]), (&json!(7), &json!(-32603)), "{answer}");
        assert!(error["error"]["message"].as_str().unwrap().contains(expected), "{answer}: {error}");
        docket.wait_for(|entry| entry["kind"] == "decision" && entry["outcome"] == "error").await;
        docket.stop().await;
    }
    let docket = Docket::before("http://127.0.0.1:1/mcp", POLICY).await;
    let error: Value = docket.rpc(&call("echo", &json!({})), &[]).await.json().await.unwrap();
    assert!(error["error"]["message"].as_str().unwrap().contains("cannot reach the server"), "{error}");
    docket.wait_for(|entry| entry["kind"] == "decision" && entry["outcome"] == "error").await;
    docket.stop().await;
}

#[tokio::test]
async fn a_slow_server_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let toml = format!(
        "[servers.demo]\nurl = \"http://{}/mcp\"\ntimeout_ms = 200\n",
        listener.local_addr().unwrap()
    );
    let docket = Docket::with(&toml, POLICY).await;
    let error: Value = docket.rpc(&call("echo", &json!({})), &[]).await.json().await.unwrap();
    assert!(error["error"]["message"].as_str().unwrap().contains("did not answer within 200 ms"), "{error}");
    docket.wait_for(|entry| entry["kind"] == "decision" && entry["outcome"] == "error").await;
    docket.stop().await;
}

#[tokio::test]
async fn a_clients_disconnect_reaches_the_server_and_is_an_outcome() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}/mcp", listener.local_addr().unwrap());
    let hung_up = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 65_536];
        // Reads the request, answers nothing, and waits for the end of the connection.
        while stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
    });
    let docket = Docket::before(&upstream, POLICY).await;
    let sleep = call("sleep", &json!({"ms": 60_000}));
    let request = docket.rpc(&sleep, &[]);
    assert!(tokio::time::timeout(Duration::from_millis(500), request).await.is_err());
    tokio::time::timeout(Duration::from_secs(5), hung_up)
        .await
        .expect("the server never learnt of it")
        .unwrap();
    docket.wait_for(|entry| entry["kind"] == "decision" && entry["outcome"] == "disconnected").await;
    docket.stop().await;
}

#[tokio::test]
async fn a_stream_is_passed_on_as_it_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}/mcp", listener.local_addr().unwrap());
    let (go_on, mut wait) = tokio::sync::mpsc::channel::<()>(1);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 65_536];
        let _ = stream.read(&mut buffer).await;
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all((head.to_owned() + &chunk("id: 1\ndata:\n\n")).as_bytes()).await.unwrap();
        wait.recv().await.unwrap();
        let answer = "id: 2\ndata: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"content\":[]}}\n\n";
        stream.write_all((chunk(answer) + "0\r\n\r\n").as_bytes()).await.unwrap();
    });
    let docket = Docket::before(&upstream, POLICY).await;
    let mut response = docket.rpc(&call("echo", &json!({})), &[]).await;
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    // The priming event is here while the server has not even decided to go on.
    assert_eq!(response.chunk().await.unwrap().unwrap(), "id: 1\ndata:\n\n");
    go_on.send(()).await.unwrap();
    let rest = response.text().await.unwrap();
    assert!(rest.starts_with("id: 2\n"), "{rest}");
    docket.wait_for(|entry| entry["kind"] == "decision" && entry["outcome"] == "success").await;
    docket.stop().await;
}

#[tokio::test]
async fn a_method_that_is_none_of_mcps_is_told_which_are() {
    let docket = docket().await;
    let answer = docket.client.put(format!("{}/mcp/demo", docket.data)).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["allow"]),
        (405, &"POST, GET, DELETE".parse().unwrap())
    );
    docket.stop().await;
}

#[tokio::test]
async fn plumbing_passes_without_an_entry() {
    let docket = docket().await;
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}});
    let response = docket.rpc(&initialize, &[]).await;
    assert_eq!(response.status(), 200);
    let session = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-11-25")];
    drop(response);
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(docket.rpc(&initialized, &headers).await.status(), 202);
    let ping = docket.rpc(&json!({"jsonrpc": "2.0", "id": 2, "method": "ping"}), &headers).await;
    assert_eq!(ping.status(), 200);
    drop(ping);
    let url = format!("{}/mcp/demo", docket.data);
    let request =
        docket.client.get(&url).header("accept", "text/event-stream").header("mcp-session-id", &session);
    let stream = request.send().await.unwrap();
    assert_eq!(stream.status(), 200);
    drop(stream);
    let ended = docket.client.delete(&url).header("mcp-session-id", &session).send().await.unwrap();
    assert!(ended.status().is_success());
    let after = docket.rpc(&json!({"jsonrpc": "2.0", "id": 3, "method": "tools/list"}), &headers).await;
    assert!(
        [400, 404].contains(&after.status().as_u16()),
        "session errors are passed through: {}",
        after.status()
    );
    docket.wait_for(|entry| entry["event_type"] == "tools.list" && entry["outcome"] == "error").await;
    let answer: Value = docket.admin_get("/v1/audit?kind=decision").await.json().await.unwrap();
    let mut events: Vec<&str> = answer["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["event_type"].as_str().unwrap())
        .collect();
    events.sort_unstable();
    assert_eq!(events, ["initialize", "tools.list"]);
    docket.stop().await;
}

#[tokio::test]
async fn monitored_calls_go_on_and_are_marked() {
    let upstream = server::serve().await.unwrap();
    let toml = format!("[servers.demo]\nurl = \"http://{upstream}/mcp\"\nmode = \"monitor\"\n");
    let docket = Docket::with(&toml, POLICY).await;
    let transport = StreamableHttpClientTransport::from_uri(format!("{}/mcp/demo", docket.data));
    let client = ().serve(transport).await.unwrap();
    let arguments = json!({"path": "/x"}).as_object().cloned().unwrap();
    let deleted =
        client.call_tool(CallToolRequestParams::new("delete_file").with_arguments(arguments)).await.unwrap();
    assert_eq!(deleted.content[0].as_text().unwrap().text, "/x is gone");
    client.cancel().await.unwrap();
    let entry = docket.wait_for(|entry| entry["decision"] == "deny" && entry["outcome"] == "success").await;
    assert_eq!(entry["mode"], "monitor");
    docket.stop().await;
}

#[tokio::test]
async fn what_a_server_could_read_differently_is_refused() {
    let docket = docket().await;
    let post = async |content_type: &str, encoding: Option<&str>, body: String| {
        let mut request =
            docket.client.post(format!("{}/mcp/demo", docket.data)).header("content-type", content_type);
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        request.body(body).send().await.unwrap().status().as_u16()
    };
    let echo = call("echo", &json!({"message": "hi"})).to_string();
    // An UTF-7 reader finds another `name` in what is one string to everyone else.
    let hidden = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":
        {"message":"+ACIAfQAsACIAbgBhAG0AZQAiADoAIgBkAGUAbABlAHQAZQBfAGYAaQBsAGUAIgAsACIAegAiADoAewAiAHkAIgA6ACI-"}}}"#;
    assert_eq!(post("application/json; charset=utf-7", None, hidden.into()).await, 400);
    assert_eq!(post("text/plain", None, echo.clone()).await, 400);
    assert_eq!(post("application/json", Some("gzip"), echo.clone()).await, 400);
    for body in [
        r#"{"jsonrpc":"2.0","id":1,"result":{},"Method":"tools/call","params":{"name":"delete_file"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call","params":{"name":"delete_file"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","Name":"delete_file"}}"#,
    ] {
        assert_eq!(post("application/json", None, body.into()).await, 400, "{body}");
    }
    docket.wait_for(|entry| entry["event_type"] == "request.unreadable").await;
    let answer: Value = docket.admin_get("/v1/audit?decision=allow").await.json().await.unwrap();
    assert_eq!(answer["entries"], json!([]), "nothing went on");
    docket.stop().await;
}

#[tokio::test]
async fn answers_without_a_body_and_redirects_have_an_outcome() {
    for (head, expected) in [
        ("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n", 500),
        ("HTTP/1.1 404 Not Found\r\naccess-control-allow-origin: *\r\ncontent-length: 0\r\n\r\n", 404),
        (
            "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:9/mcp/\r\ncontent-length: 0\r\n\r\n",
            200,
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", 200),
    ] {
        let docket = Docket::before(&scripted(head).await, POLICY).await;
        let response = docket.rpc(&call("echo", &json!({})), &[]).await;
        assert_eq!(response.status(), expected, "{head}");
        for name in ["location", "access-control-allow-origin"] {
            assert!(!response.headers().contains_key(name), "{head}");
        }
        docket.wait_for(|entry| entry["kind"] == "decision" && entry["outcome"] == "error").await;
        docket.stop().await;
    }
}

#[tokio::test]
async fn a_session_is_its_openers() {
    let upstream = server::serve().await.unwrap();
    let digest = |token: &str| hex::encode(docket::identity::digest_of(token));
    let toml = format!(
        "[servers.demo]\nurl = \"http://{upstream}/mcp\"\n[agents.alice]\ntoken_sha256 = \"{}\"\n[agents.mallory]\ntoken_sha256 = \"{}\"\n",
        digest("a"),
        digest("m")
    );
    let docket = Docket::with(&toml, POLICY).await;
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}});
    let opened = docket.rpc(&initialize, &[("authorization", "Bearer a")]).await;
    let session = opened.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"});
    let within = async |token: &str| {
        docket.rpc(&ping, &[("authorization", token), ("mcp-session-id", &session)]).await.status()
    };
    assert_eq!(within("Bearer m").await, 404);
    assert_eq!(within("Bearer a").await, 200);
    docket.wait_for(|entry| entry["metadata"]["reason"] == "foreign_session").await;
    docket.stop().await;
}
