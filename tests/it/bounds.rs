//! No reader slows the data plane or starves others, and no stranger takes every place.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::Response;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{Docket, POLICY, Process, check, evaluation, folder_with};

/// A request that is sent, and whose answer nobody reads.
pub fn unread(url: &str, token: &str, path: &str) -> TcpStream {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Waits for the first bytes of an answer: from then on it is under way.
pub fn begun(mut stream: &TcpStream) -> String {
    let mut first = [0; 64];
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let count = stream.read(&mut first).unwrap();
    String::from_utf8_lossy(&first[..count]).into_owned()
}

/// What a problem document that refuses for want of a place says.
async fn refused(response: Response) -> String {
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key("retry-after"));
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["type"], "/v1/problems#too-many-requests", "{problem:#}");
    problem["detail"].as_str().unwrap().to_owned()
}

impl Docket {
    async fn get_with(&self, token: &str, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.admin)).bearer_auth(token).send().await.unwrap()
    }

    /// Asks until it is answered so: places are given back once docket sees that a peer has gone.
    async fn answers(&self, token: &str, path: &str, status: u16) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.get_with(token, path).await.status() != status {
            assert!(Instant::now() < deadline, "{path} is not answered with {status}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Records calls of a quarter of a megabyte each: more than a connection takes unread.
    async fn fatten(&self, calls: usize) {
        let text = "lorem ipsum ".repeat(2_000);
        for number in 0..calls {
            let arguments = json!({"texts": vec![&text; 9], "number": number});
            self.evaluate(&format!("fat-{number}"), "echo", arguments).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_ask_nothing_make_room() {
    let docket = Docket::with("data.max_connections = 6\ndata.header_timeout_ms = 600000\n", POLICY).await;
    let mut flood = Vec::new();
    for plane in [&docket.admin, &docket.data] {
        for number in 0..30 {
            let mut stream = TcpStream::connect(plane.trim_start_matches("http://")).unwrap();
            if number % 2 == 0 {
                stream.write_all(b"GET /v1/aud").unwrap();
            }
            flood.push(stream);
        }
    }
    let in_time = async |asked| tokio::time::timeout(Duration::from_secs(20), asked).await.unwrap();
    let listed = in_time(Box::pin(docket.admin_get("/v1/audit"))).await;
    assert_eq!(listed.status(), 200);
    let body = evaluation("echo", &json!({}));
    let decided = tokio::time::timeout(Duration::from_secs(20), docket.post("/access/v1/evaluation", &body));
    assert_eq!(decided.await.unwrap().status(), 200);
    let metrics = docket.admin_get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("docket_refused_total{reason=\"crowded_out\"}"), "{metrics}");
    drop(flood);
    docket.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_has_more_than_its_share_under_way() {
    let toml = "data.max_connections = 16\nadmin.max_requests_per_principal = 3\n";
    let docket = Docket::with(toml, POLICY).await;
    let alice = docket.token("alice", "auditor", json!({"zones": ["*"]})).await;
    let bob = docket.token("bob", "auditor", json!({})).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(docket.get_with(&alice, "/v1/audit/stream").await);
    }
    let said = refused(docket.get_with(&alice, "/v1/audit").await).await;
    assert!(
        said.starts_with(
            "`alice` has 3 requests under way, and may have 3 (`admin.max_requests_per_principal`)"
        ),
        "{said}"
    );
    // Others are served, and an admin who has more than that too.
    assert_eq!(docket.get_with(&bob, "/v1/audit").await.status(), 200);
    for _ in 0..5 {
        streams.push(docket.admin_get("/v1/audit/stream").await);
    }
    assert_eq!(docket.admin_get("/v1/blocks").await.status(), 200);
    let metrics = docket.admin_get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("docket_refused_total{reason=\"too_many_requests\"} 1\n"), "{metrics}");
    drop(streams);
    docket.answers(&alice, "/v1/audit", 200).await;
    docket.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_leave_places_for_others_and_an_admin_always_has_one() {
    let docket = Docket::start().await;
    docket.fatten(60).await;
    let mut tokens = Vec::new();
    for name in ["alice", "bob", "carol"] {
        tokens.push(docket.token(name, "auditor", json!({})).await);
    }
    let [alice, bob, carol] = <[String; 3]>::try_from(tokens).unwrap();
    let (export, list) = ("/v1/audit/export?format=jsonl", "/admin/auditlog/list/KIND_DECISION?since=1h");
    let slow = [unread(&docket.admin, &alice, export), unread(&docket.admin, &alice, list)];
    slow.iter().for_each(|stream| assert!(begun(stream).starts_with("HTTP/1.1 200")));
    for path in [export, list] {
        let said = refused(docket.get_with(&alice, path).await).await;
        assert!(
            said.starts_with("`alice` has 2 exports under way, and may have 2 (`admin.max_exports`)"),
            "{said}"
        );
    }
    let third = unread(&docket.admin, &bob, export);
    assert!(begun(&third).starts_with("HTTP/1.1 200"));
    let said = refused(docket.get_with(&carol, export).await).await;
    assert!(said.starts_with("others have as many exports under way as there may be"), "{said}");
    let whole = docket.admin_get(export).await;
    assert_eq!(whole.status(), 200);
    assert!(whole.text().await.unwrap().lines().count() > 48);
    // Nobody reads it, and it ends with its token all the same.
    assert_eq!(docket.send(&docket.token, "/v1/tokens/bob/revoke", &json!({})).await.0, 200);
    docket.answers(&carol, export, 200).await;
    // Carol's is not read to its end either, and may be recorded first.
    docket
        .wait_for(|entry| {
            entry["event_type"] == "export.interrupted" && entry["metadata"]["principal"] == "bob"
        })
        .await;
    drop((slow, third));
    docket.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_whose_token_ends_has_no_totals() {
    let docket = Docket::start().await;
    // More than fits between docket and a reader that reads nothing.
    docket.fatten(150).await;
    let carol = docket.token("carol", "admin", json!({})).await;
    let body = json!({"policies": {"none.rego": "package none\n\ndeny if true\n"}});
    let request = docket.client.post(format!("{}/v1/replay", docket.admin)).bearer_auth(&carol).json(&body);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(docket.send(&docket.token, "/v1/tokens/carol/revoke", &json!({})).await.0, 200);
    let text = answer.text().await.unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last, json!({"type": "error", "message": "the token is no longer good"}));
    assert!(text.lines().count() < 150, "{}", text.lines().count());
    docket.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_do_not_fill_the_memory() {
    let docket = Docket::with("admin.max_answer_bytes = 100000000\n", POLICY).await;
    // A connection takes some megabytes unread.
    docket.fatten(80).await;
    let alice = docket.token("alice", "auditor", json!({})).await;
    let bob = docket.token("bob", "auditor", json!({})).await;
    let list = "/v1/audit?limit=1000";
    let slow = unread(&docket.admin, &alice, list);
    assert!(begun(&slow).starts_with("HTTP/1.1 200"));
    let said = refused(docket.get_with(&alice, list).await).await;
    assert!(
        said.starts_with("`alice` has 1")
            && said.contains("bytes of answers that wait to be read, and may have 25000000")
            && said.contains("`admin.max_answer_bytes`"),
        "{said}"
    );
    // Small ones have their place, and so have others'.
    assert_eq!(docket.get_with(&alice, "/v1/audit?limit=1&fields=id").await.status(), 200);
    let whole = docket.get_with(&bob, list).await.bytes().await.unwrap();
    let listed: Value = serde_json::from_slice(&whole).unwrap();
    let whole_entries = listed["entries"].as_array().unwrap().len();
    assert!(whole.len() > 12_500_000 && whole_entries == 80, "{whole_entries} in {}", whole.len());
    drop(slow);
    docket.answers(&alice, list, 200).await;
    // A page that is more than anybody may have waiting is not even read.
    let folder = docket.stop().await;
    let file = folder.path().join("docket.toml");
    let toml = std::fs::read_to_string(&file).unwrap().replace("100000000", "4000000");
    std::fs::write(&file, toml).unwrap();
    let docket = Docket::in_folder(folder).await;
    for path in [list, "/admin/auditlog/list/KIND_DECISION?tail=1000"] {
        let refused = docket.get_with(&alice, path).await;
        assert_eq!(refused.status(), 400, "{path}");
        let problem: Value = refused.json().await.unwrap();
        let said = problem["detail"].as_str().unwrap();
        assert!(said.contains("1000000 bytes or more") && said.contains("as `limit=2`"), "{said}");
    }
    assert_eq!(docket.get_with(&alice, "/v1/audit?limit=2").await.status(), 200);
    let all = docket.get_with(&alice, "/v1/audit/export?format=jsonl").await.text().await.unwrap();
    assert_eq!(all.lines().count(), whole_entries);
    docket.stop().await;
}

/// The nice values of this process's threads of a name.
fn nice_of(name: &str) -> BTreeSet<i32> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let stat = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("stat")).ok();
    let nice = |stat: String| {
        let (before, after) = stat.rsplit_once(')')?;
        before.contains(&format!("({name}")).then(|| after.split_whitespace().nth(16)?.parse().ok())?
    };
    threads.filter_map(stat).filter_map(nice).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_stand_back_behind_the_data_plane() {
    let docket = Docket::start().await;
    docket.fatten(8).await;
    let own = nice_of("");
    let back: BTreeSet<i32> = own.iter().map(|nice| (nice + 15).min(19)).collect();
    for path in [
        "/v1/audit?limit=1000",
        "/v1/audit/stats",
        "/v1/audit/tools",
        "/v1/explain/fat-1",
        "/v1/ledger/stats",
    ] {
        let deadline = Instant::now() + Duration::from_secs(20);
        let seen = loop {
            let asked = docket.admin_get(path);
            let looked = tokio::task::spawn_blocking(|| {
                (0..20)
                    .flat_map(|_| {
                        std::thread::sleep(Duration::from_micros(200));
                        nice_of("reader")
                    })
                    .collect::<BTreeSet<_>>()
            });
            let (answer, seen) = tokio::join!(asked, looked);
            assert_eq!(answer.status(), 200, "{path}");
            if !seen.as_ref().unwrap().is_disjoint(&back) {
                break seen.unwrap();
            }
            assert!(Instant::now() < deadline, "{path}: no thread stands back");
        };
        // One that was begun just now has not stood back yet.
        assert!(seen.is_subset(&(&own | &back)), "{seen:?} of {own:?}");
    }
    docket.stop().await;
}

/// A server that begins an answer to every request, of which it never sends the end; it says when a connection has ended.
async fn endless() -> (String, tokio::sync::mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let (gone, ended) = tokio::sync::mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let gone = gone.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 65_536];
                let count = stream.read(&mut buffer).await.unwrap();
                // A call of this tool is not even begun to be answered.
                if !String::from_utf8_lossy(&buffer[..count]).contains("\"sleep\"") {
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n6\r\n: hi\n\n\r\n";
                    stream.write_all(head.as_bytes()).await.unwrap();
                }
                while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
                let _ = gone.send(()).await;
            });
        }
    });
    (url, ended)
}

fn call(tool: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": {}}})
}

impl Docket {
    /// Opens the stream of server messages as an agent, up to its first piece.
    async fn listen(&self, token: &str) -> Response {
        let request =
            self.client.get(format!("{}/mcp/demo", self.data)).header("accept", "text/event-stream");
        let request = if token.is_empty() { request } else { request.bearer_auth(token) };
        let mut stream = request.send().await.unwrap();
        assert_eq!(stream.status(), 200);
        assert_eq!(stream.chunk().await.unwrap().unwrap(), ": hi\n\n");
        stream
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_an_agent_end_with_its_token() {
    let (upstream, mut gone) = endless().await;
    let docket = Docket::before(&upstream, POLICY).await;
    let token = docket.token("crawler", "agent", json!({})).await;
    let mut stream = docket.listen(&token).await;
    let called = docket.rpc(&call("echo"), &[("authorization", &format!("Bearer {token}"))]).await;
    assert_eq!(docket.send(&docket.token, "/v1/tokens/crawler/revoke", &json!({})).await.0, 200);
    let last = tokio::time::timeout(Duration::from_secs(20), stream.chunk()).await.unwrap();
    assert_eq!(last.unwrap(), None, "the stream goes on");
    assert!(called.text().await.is_err(), "the answer looks whole");
    for _ in 0..2 {
        tokio::time::timeout(Duration::from_secs(20), gone.recv()).await.unwrap().unwrap();
    }
    let entry = docket.wait_for(|entry| entry["kind"] == "outcome").await;
    assert_eq!(entry["outcome"], "error");
    assert_eq!(entry["metadata"]["error"], "cut off: the token is no longer good");
    docket.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_is_cut_off_by_a_block() {
    let (upstream, mut gone) = endless().await;
    let docket = Docket::before(&upstream, POLICY).await;
    let body = json!({"agent": "anonymous", "reason": "leaked a key"});
    let mut stream = docket.listen("").await;
    let answered = docket.rpc(&call("echo"), &[("x-request-id", "begun")]).await;
    let waiting = call("sleep");
    let waiting = docket.rpc(&waiting, &[("x-request-id", "waiting")]);
    let block = async {
        docket.wait_for(|entry| entry["request_id"] == "waiting" && entry["decision"] == "allow").await;
        assert_eq!(docket.send(&docket.token, "/v1/blocks", &body).await.0, 200);
    };
    let (waited, ()) = tokio::join!(waiting, block);
    let waited: Value = waited.json().await.unwrap();
    let said = waited["error"]["message"].as_str().unwrap();
    assert!(said.starts_with("cut off: ") && said.contains("leaked a key"), "{waited:#}");
    assert!(answered.text().await.is_err(), "the answer looks whole");
    let last = tokio::time::timeout(Duration::from_secs(20), stream.chunk()).await.unwrap();
    assert_eq!(last.unwrap(), None, "the stream goes on");
    for _ in 0..3 {
        tokio::time::timeout(Duration::from_secs(20), gone.recv()).await.unwrap().unwrap();
    }
    for id in ["begun", "waiting"] {
        let entry = docket.wait_for(|entry| entry["kind"] == "outcome" && entry["request_id"] == id).await;
        assert_eq!(entry["outcome"], "error", "{entry:#}");
        let error = entry["metadata"]["error"].as_str().unwrap();
        assert!(error.starts_with("cut off: ") && error.contains("leaked a key"), "{entry:#}");
    }
    docket.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_agent_leaves_places_to_the_others() {
    let (upstream, _gone) = endless().await;
    let toml = format!("data.max_requests_per_agent = 2\n[servers.demo]\nurl = \"{upstream}\"\n");
    let docket = Docket::with(&toml, POLICY).await;
    let greedy = docket.token("greedy", "agent", json!({})).await;
    let streams = [docket.listen(&greedy).await, docket.listen(&greedy).await];
    let bearer = format!("Bearer {greedy}");
    let said = refused(docket.rpc(&call("echo"), &[("authorization", &bearer)]).await).await;
    assert!(
        said.starts_with("`greedy` has 2 requests under way, and may have 2 (`data.max_requests_per_agent`)"),
        "{said}"
    );
    assert_eq!(docket.evaluate("other", "echo", json!({})).await["decision"], true);
    drop(streams);
    docket.stop().await;
}

/// A request of an agent (of anybody where there is no token) with all of its body but the last byte.
fn half_sent(url: &str, token: &str, path: &str, length: usize) -> TcpStream {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).unwrap();
    let bearer = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\n{bearer}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b' '; length - 1]).unwrap();
    stream
}

/// Waits until so many were answered, of which nothing is read: the others have the places.
fn wait_until_answered(streams: &[TcpStream], count: usize) {
    let is_answered = |stream: &&TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false).unwrap();
        matches!(peeked, Ok(1))
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while streams.iter().filter(is_answered).count() < count {
        assert!(Instant::now() < deadline, "fewer than {count} were answered");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Reads an answer to its end, which comes before that of the request.
fn answered(mut stream: &TcpStream) -> String {
    let mut said = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

impl Docket {
    /// One evaluation by an agent, with a body of some length.
    async fn ask(&self, token: &str, length: usize) -> Response {
        let body = evaluation("echo", &json!({"text": "x".repeat(length)}));
        let request = self.client.post(format!("{}/access/v1/evaluation", self.data)).json(&body);
        let request = if token.is_empty() { request } else { request.bearer_auth(token) };
        request.send().await.unwrap()
    }

    /// Asks until there is no place, and answers why.
    async fn until_refused(&self, token: &str, length: usize) -> String {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let response = self.ask(token, length).await;
            if response.status() != 200 {
                return refused(response).await;
            }
            assert!(Instant::now() < deadline, "there is a place still");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks until there is a place.
    async fn until_answered(&self, token: &str, length: usize) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let response = self.ask(token, length).await;
            if response.status() == 200 {
                return response.json().await.unwrap();
            }
            assert!(Instant::now() < deadline, "there is no place: {}", response.status());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_to_strangers_that_nobody_reads_make_room() {
    let docket = Docket::with("data.max_connections = 6\ndata.body_timeout_ms = 600000\n", POLICY).await;
    let admin = docket.admin.trim_start_matches("http://");
    let mut flood = Vec::new();
    for path in ["/v1/openapi.json", "/v1/audit"] {
        for _ in 0..15 {
            let mut stream = TcpStream::connect(admin).unwrap();
            let asked = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\n\r\n").repeat(400);
            // Without waiting for those that are not even accepted yet.
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write(asked.as_bytes());
            flood.push(stream);
        }
    }
    // What is answered fills what a connection takes unread.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let listed = tokio::time::timeout(Duration::from_secs(20), Box::pin(docket.admin_get("/v1/audit")));
    assert_eq!(listed.await.unwrap().status(), 200);
    drop(flood);
    docket.stop().await;
}

/// Holds a body half-sent, and answers what is said to the one that then does not find room. It is begun anew where the other
/// has found some: while both were on their way, or before docket has seen this one.
async fn held(half: impl Fn() -> TcpStream, ask: impl AsyncFn() -> Response) -> (TcpStream, String) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let stream = half();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let response = ask().await;
        if response.status() == 429 {
            return (stream, refused(response).await);
        }
        assert!(Instant::now() < deadline, "there is room still: {}", response.status());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_on_their_way_have_their_share_of_the_memory() {
    let docket = Docket::with("data.max_receiving_bytes = 4000000\n", POLICY).await;
    let half = |length| half_sent(&docket.data, "", "/access/v1/evaluation", length);
    let (held_half, said) = held(|| half(600_000), async || docket.ask("", 600_000).await).await;
    assert!(
        said.starts_with("`anonymous` has ")
            && said.contains(" bytes of request bodies under way, and may have 1000000")
            && said.contains("`data.max_receiving_bytes`"),
        "{said}"
    );
    // Small ones need no room, and others have theirs.
    assert_eq!(docket.ask("", 30_000).await.status(), 200);
    let other = docket.token("other", "agent", json!({})).await;
    assert_eq!(docket.ask(&other, 600_000).await.status(), 200);
    drop(held_half);
    assert_eq!(docket.until_answered("", 600_000).await["decision"], true);
    // What is larger than one may have has that alone.
    let (held_half, _) = held(|| half(3_000_000), async || docket.ask("", 70_000).await).await;
    drop(held_half);
    assert_eq!(docket.until_answered("", 3_000_000).await["decision"], true);
    // So it is with those who look.
    let author = docket.token("ada", "author", json!({})).await;
    let simulate = async || {
        let request = docket.client.post(format!("{}/v1/simulate", docket.admin)).bearer_auth(&author);
        request.body(vec![b' '; 600_000]).send().await.unwrap()
    };
    let half = || half_sent(&docket.admin, &author, "/v1/simulate", 600_000);
    let (held_half, said) = held(half, simulate).await;
    assert!(said.starts_with("`ada` has ") && said.contains(" bytes of request bodies under way"), "{said}");
    drop(held_half);
    docket.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_bodies_end_with_a_block_and_with_the_token() {
    let (upstream, _gone) = endless().await;
    let toml = format!("data.max_requests_per_agent = 10\n[servers.demo]\nurl = \"{upstream}\"\n");
    let docket = Docket::with(&toml, POLICY).await;
    let leaver = docket.token("leaver", "agent", json!({})).await;
    let greedy = docket.token("greedy", "agent", json!({})).await;
    let flood = |token: &str, count: usize| -> Vec<TcpStream> {
        let paths = ["/access/v1/evaluation", "/mcp/demo"].into_iter().cycle().take(count);
        paths.map(|path| half_sent(&docket.data, token, path, 2_000)).collect()
    };
    // Few of the one: more refusals within a second would be folded, and the other's with them.
    let (left, blocked) = (flood(&leaver, 4), flood(&greedy, 20));
    wait_until_answered(&blocked, 10);
    docket.until_refused(&greedy, 1).await;
    assert_eq!(docket.send(&docket.token, "/v1/tokens/leaver/revoke", &json!({})).await.0, 200);
    let block = json!({"agent": "greedy", "reason": "floods"});
    assert_eq!(docket.send(&docket.token, "/v1/blocks", &block).await.0, 200);
    for stream in &left {
        let said = answered(stream);
        assert!(said.starts_with("HTTP/1.1 401"), "{said}");
    }
    let said: Vec<_> = blocked.iter().map(answered).collect();
    let (cut, none): (Vec<_>, Vec<_>) = said.into_iter().partition(|said| said.starts_with("HTTP/1.1 403"));
    assert!(cut.len() == 10 && cut.iter().all(|said| said.contains("floods")), "{cut:#?}");
    assert!(none.iter().all(|said| said.starts_with("HTTP/1.1 429")), "{none:#?}");
    let entry = docket.wait_for(|entry| entry["event_type"] == "request.blocked").await;
    assert_eq!(entry["agent"], "greedy", "{entry:#}");
    // It is told, and recorded, but has few places from now on.
    assert_eq!(docket.until_answered(&greedy, 1).await["decision"], false);
    let few = flood(&greedy, 16);
    wait_until_answered(&few, 8);
    let said = docket.until_refused(&greedy, 1).await;
    assert!(
        said.starts_with("`greedy` has 8 requests under way, and may have 8 while it is blocked"),
        "{said}"
    );
    assert_eq!(docket.ask("", 1).await.status(), 200);
    drop(few);
    assert_eq!(docket.until_answered(&greedy, 1).await["decision"], false);
    docket.stop().await;
}

#[cfg(target_os = "linux")]
#[test]
fn the_limit_of_open_files_is_raised_and_both_planes_fit_under_it() {
    let folder = folder_with("", POLICY);
    let soft = |process: &Process| {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
        line.split_whitespace().nth(3).unwrap().to_owned()
    };
    let process = Process::start_under("ulimit -Sn 64; exec \"$@\"", folder.path());
    assert_ne!(soft(&process), "64");
    process.terminate();
    let process = Process::start_under("ulimit -n 200; exec \"$@\"", folder.path());
    assert_eq!(soft(&process), "200");
    let said = std::fs::read_to_string(folder.path().join("docket.log")).unwrap();
    assert!(said.contains("enough for 24 connections to each plane"), "{said}");
    // As many streams as one plane lets anybody have, and more: the other still has what it needs.
    let token = std::fs::read_to_string(folder.path().join("admin.token")).unwrap();
    let streams: Vec<_> = (0..40).map(|_| unread(&process.admin, token.trim(), "/v1/audit/stream")).collect();
    assert!(begun(&streams[0]).starts_with("HTTP/1.1 200"));
    for _ in 0..3 {
        let ready = unread(&process.data, "", "/readyz");
        assert!(begun(&ready).starts_with("HTTP/1.1 200"));
    }
    drop(streams);
    assert_eq!(process.terminate(), Some(0));
}

/// Policies whose numbers double their digits 27 times: nothing interrupts arithmetic, and it would take hours.
fn squares() -> Value {
    let squares: Vec<String> = (1..28).map(|i| format!("a{i} := a{0} * a{0}", i - 1)).collect();
    let policy = format!(
        "package p\n\na0 := {} if input.resource.id == \"echo\"\n{}\nallow if a27 > 0\n",
        "9".repeat(30),
        squares.join("\n")
    );
    json!({"input": evaluation("echo", &json!({})), "policies": {"p.rego": policy}})
}

#[tokio::test]
async fn an_evaluation_without_end_holds_up_no_reader() {
    let folder = folder_with("admin.query_timeout_ms = 1500\n", POLICY);
    let process = Process::start(folder.path());
    let token = std::fs::read_to_string(folder.path().join("admin.token")).unwrap();
    let client = reqwest::Client::new();
    let send = async |token: &str, path: &str, body: &Value| {
        let request = client.post(format!("{}{path}", process.admin)).bearer_auth(token).json(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let decided =
        client.post(format!("{}/access/v1/evaluation", process.data)).header("x-request-id", "kept");
    let decided = decided.json(&evaluation("echo", &json!({}))).send().await.unwrap();
    assert_eq!(decided.status(), 200);
    let (_, made) = send(token.trim(), "/v1/tokens", &json!({"name": "writer", "role": "author"})).await;
    let author = made["token"].as_str().unwrap();
    let replay = client.post(format!("{}/v1/replay", process.admin)).bearer_auth(author);
    let candidate = json!({"policies": squares()["policies"]});
    let replayed = replay.try_clone().unwrap().json(&candidate).send().await.unwrap();
    assert_eq!(replayed.status(), 200);
    // Whoever asks for it is told, and so is whoever comes next.
    for says in ["query-timeout", "too-many-questions"] {
        let (status, problem) = send(author, "/v1/simulate", &squares()).await;
        assert_eq!((status, &problem["type"]), (503, &json!(format!("/v1/problems#{says}"))), "{problem:#}");
    }
    // Whoever does not wait for an answer has asked all the same.
    let hangs_up = client.post(format!("{}/v1/simulate", process.admin)).bearer_auth(token.trim());
    let hangs_up = hangs_up.json(&json!({"from": "kept"})).timeout(Duration::from_millis(300)).send().await;
    assert!(hangs_up.unwrap_err().is_timeout());
    let looks = format!("{}/v1/audit?event_type=ledger.simulated", process.admin);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let found: Value =
            client.get(&looks).bearer_auth(token.trim()).send().await.unwrap().json().await.unwrap();
        if let Some(look) = found["entries"].get(0) {
            assert_eq!(look["metadata"]["query"], "kept");
            assert_ne!(look["metadata"]["status"], 200);
            break;
        }
        assert!(std::time::Instant::now() < deadline, "nothing says that somebody asked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // It goes on and on, and everybody else has what they ask for.
    let paths = ["/v1/audit?limit=1", "/v1/explain/kept", "/v1/audit/stats", "/v1/audit/export?format=jsonl"];
    for path in paths {
        let asked = client.get(format!("{}{path}", process.admin)).bearer_auth(token.trim());
        let asked = tokio::time::timeout(Duration::from_secs(20), asked.send()).await;
        assert_eq!(asked.expect(path).unwrap().status(), 200, "{path}");
    }
    let again = replay.json(&json!({})).send().await.unwrap().text().await.unwrap();
    assert!(again.contains("\"unchanged\":1"), "{again}");
    // What has begun to be answered ends too.
    let last = replayed.text().await.unwrap();
    assert!(last.contains("\"type\":\"error\"") && last.contains("does not end"), "{last}");
    assert_eq!(process.terminate(), Some(0));
    check(&folder.path().join("docket.db"));
}
