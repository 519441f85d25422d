//! What asking costs: `cargo bench --bench audit`, or with `--profile ci` to measure what the tests run.
//!
//! Makes a ledger of `ENTRIES` entries (1,000,000), or takes the one at `LEDGER`, waits until it is rolled up, and measures tail,
//! lookup, the first page and the count of each filter, statistics, pickers and exports, and what the `sqlite3` shell takes for the
//! same questions put to the raw tables, where there is one. `FOLDER` says on which disk. Nothing here fails: the machine decides
//! how fast it is.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot go on should stop where it is"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use docket::api::export::{Export, Taken};
use docket::call::RequestId;
use docket::clock::Clock;
use docket::decision::{Effect, EvaluationStatus, Outcome};
use docket::ledger::rollup::{BLOCK, SummaryWanted};
use docket::ledger::{Column, Entry, Filter, Kind, Ledger, Mode, Queue, Reader, Signing};
use docket::redact::Redactor;
use rusqlite::Connection;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Callers that fill the ledger.
const CALLERS: u64 = 256;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// One call: its decision, and its outcome if it is allowed. Values vary as they do in traffic; some come once in 10,000 calls.
fn call(clock: Clock, redactor: &Redactor, manifest: &str, number: u64) -> Vec<Entry> {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let is_rare = number.is_multiple_of(10_007);
    let (agent, user) = (format!("agent-{}", mixed % 40), format!("user-{}", mixed % 5_000));
    let server = if is_rare { "rare" } else { ["filesystem", "git", "mail", "browser"][mixed as usize % 4] };
    let tool = if is_rare { "rare_tool".to_owned() } else { format!("tool_{}", mixed % 120) };
    let effect = if mixed.is_multiple_of(9) { Effect::Deny } else { Effect::Allow };
    let rule = if is_rare { "rare_rule" } else { ["harmless", "no_delete", "egress"][mixed as usize % 3] };
    let policy = if is_rare { "rare.policy".to_owned() } else { format!("bench.p{}", mixed % 20) };
    let content = redactor.record(vec![
        ("subject", json!({"type": "identity", "id": user, "properties": {"agent": agent, "user": user, "team": "finance",
            "zone": "default", "roles": ["agent"], "claims": {}}})),
        ("action", json!({"name": "tools/call"})),
        ("resource", json!({"type": "tool", "id": tool, "properties": {"server": server, "annotations": {}}})),
        ("context", json!({"arguments": {"path": format!("/srv/invoices/2026/{number}.pdf")}, "agent": agent,
            "peer": "127.0.0.1:53122", "time": "2026-11-20T07:00:00.000Z", "protocol": "mcp/2025-11-25"})),
        ("determining_policies", json!([{"policy_id": policy, "policy_version":
            "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", "title": "Tools", "decision": effect.as_str()}])),
        ("diagnostics", json!([{"policy_id": policy, "effect": effect.as_str(), "rule": rule, "message": null, "data": null}])),
        ("metadata", json!({"agent": agent, "user": user, "team": "finance", "server": server, "peer": "127.0.0.1:53122"})),
    ]);
    let call_id = clock.ulid();
    let decision = Entry {
        kind: Kind::Decision,
        event_type: "tools.call".into(),
        time_ms: (clock.now_ms)(),
        call_id: Some(call_id),
        request_id: RequestId::parse(&format!("r-{number}")),
        zone: if is_rare { "rare" } else { "default" }.into(),
        mode: Some(Mode::Enforce),
        decision: Some((effect, EvaluationStatus::Complete, 50 + mixed % 900)),
        outcome: None,
        forwarded: effect == Effect::Allow,
        manifest_sha: Some(manifest.to_owned()),
        content,
    };
    let outcome = (effect == Effect::Allow).then(|| Entry {
        kind: Kind::Outcome,
        event_type: "tools.call".into(),
        time_ms: (clock.now_ms)(),
        call_id: Some(call_id),
        request_id: RequestId::parse(&format!("r-{number}")),
        zone: if is_rare { "rare" } else { "default" }.into(),
        mode: Some(Mode::Enforce),
        decision: None,
        outcome: Some((if is_rare { Outcome::Error } else { Outcome::Success }, 900 + mixed % 80_000)),
        forwarded: false,
        manifest_sha: None,
        content: redactor.record(vec![("metadata", json!({"server": server}))]),
    });
    std::iter::once(decision).chain(outcome).collect()
}

fn open(path: &Path) -> Ledger {
    Ledger::open(path, Queue::default(), Signing::default(), docket::cli::system_clock()).unwrap()
}

async fn fill(path: &Path, entries: u64) {
    let ledger = open(path);
    let bytes = b"{\"files\":[]}".to_vec();
    let manifest = docket::digest::sha256(&bytes);
    ledger.keep(vec![(manifest.clone(), bytes)]).await.unwrap();
    let began = Instant::now();
    let share = entries * 9 / 17 / CALLERS;
    let tasks: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (ledger, manifest) = (ledger.clone(), manifest.clone());
            tokio::spawn(async move {
                let (clock, redactor) = (docket::cli::system_clock(), Redactor::builtin());
                for number in 0..share {
                    let _arriving = ledger.arriving();
                    for entry in call(clock, &redactor, &manifest, number * CALLERS + caller) {
                        ledger.append(entry).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let count = ledger.reader().newest_seq().unwrap() + 1;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    println!("{count} entries appended: {rate:.0}/s, rolling up beside it");
    ledger.close().await;
}

/// Waits until every full block is rolled up.
async fn roll_up(path: &Path) {
    let ledger = open(path);
    let shell = Connection::open(path).unwrap();
    let blocks =
        || -> i64 { shell.query_row("SELECT count(*) FROM op_rollup_blocks", [], |row| row.get(0)).unwrap() };
    let entries = ledger.reader().newest_seq().unwrap() + 1;
    let (full, before, began) = (entries / BLOCK as i64, blocks(), Instant::now());
    while blocks() < full {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rolled = (full - before) * BLOCK as i64;
    println!("{rolled} of them rolled up afterwards: {:.0}/s", rolled as f64 / began.elapsed().as_secs_f64());
    let size: i64 = shell
        .query_row("SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'op_rollup%' OR name LIKE 'sqlite_autoindex_op_rollup%'", [], |row| row.get(0))
        .unwrap_or(0);
    println!("rollups: {:.1} MB, {:.1} bytes an entry", size as f64 / 1e6, size as f64 / entries as f64);
    ledger.close().await;
}

/// The middle and the worst time of doing something a few times.
fn measured(times: usize, mut act: impl FnMut()) -> (f64, f64) {
    let mut took: Vec<f64> = (0..times)
        .map(|_| {
            let began = Instant::now();
            act();
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    took.sort_by(f64::total_cmp);
    (took.get(times / 2).copied().unwrap(), took.last().copied().unwrap())
}

/// What the shell takes, its start left out; `None` where there is no shell, or it takes more than a minute.
fn shell(path: &Path, sql: &str) -> Option<f64> {
    let script = format!(".timer on\n.output /dev/null\n{sql};\n.output stdout\n");
    let mut child = Command::new("timeout")
        .args(["60", "sqlite3", "-readonly", path.to_str()?])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    std::io::Write::write_all(&mut child.stdin.take()?, script.as_bytes()).ok()?;
    let began = Instant::now();
    let output = child.wait_with_output().ok()?;
    output.status.success().then(|| began.elapsed().as_secs_f64() * 1e3)
}

fn row(path: &Path, reader: &Reader, name: &str, filter: &Filter, sql: &str) {
    let (page, worst) = measured(5, || drop(reader.entries(filter).unwrap()));
    let (count, _) = measured(3, || {
        reader.count(filter).unwrap();
    });
    let found = reader.count(filter).unwrap();
    let alone = shell(path, sql).map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}"));
    println!("{name:<28} {found:>9} {page:>9.2} {worst:>9.2} {count:>9.2} {alone:>9}");
}

#[tokio::main]
async fn main() {
    let folder =
        tempfile::tempdir_in(std::env::var_os("FOLDER").map_or_else(std::env::temp_dir, PathBuf::from))
            .unwrap();
    let path = std::env::var_os("LEDGER").map_or_else(|| folder.path().join("docket.db"), PathBuf::from);
    if !path.exists() {
        fill(&path, setting("ENTRIES", 1_000_000)).await;
    }
    roll_up(&path).await;
    let reader = Reader::new(path.as_path().into());
    println!(
        "\n{:<28} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "question", "entries", "page ms", "worst", "count ms", "sqlite3"
    );
    let decided = "FROM leaves l JOIN payloads p USING (seq) WHERE";
    let all = "SELECT * FROM leaves l JOIN payloads p USING (seq)";
    let newest = "ORDER BY l.seq DESC LIMIT 100";
    row(&path, &reader, "tail(100)", &Filter::default(), &format!("{all} {newest}"));
    let lookup = Filter { request_id: Some("r-77777".into()), ..Filter::default() };
    row(&path, &reader, "lookup by request id", &lookup, &format!("{all} WHERE l.request_id = 'r-77777'"));
    let rare = [
        (Column::Server, "rare", "p.server = 'rare'"),
        (Column::Zone, "rare", "l.zone = 'rare'"),
        (Column::Subject, "user-17", "p.subject_id = 'user-17'"),
        (Column::User, "user-17", "p.user = 'user-17'"),
        (Column::Policy, "rare.policy", "p.determining_policies LIKE '%\"rare.policy\"%'"),
        (Column::Rule, "rare_rule", "p.diagnostics LIKE '%\"rare_rule\"%'"),
        (Column::Outcome, "error", "l.outcome = 'error'"),
        (Column::Decision, "deny", "l.decision = 'deny'"),
        (Column::Kind, "decision", "l.kind = 'decision'"),
        (Column::EventType, "tools.call", "l.event_type = 'tools.call'"),
        (Column::Status, "error", "l.evaluation_status = 'error'"),
        (Column::Mode, "monitor", "l.mode = 'monitor'"),
        (Column::Team, "finance", "p.team = 'finance'"),
        (Column::Action, "tools/call", "p.action_name = 'tools/call'"),
        (Column::Classification, "secret", "p.metadata LIKE '%\"classification\":\"secret\"%'"),
    ];
    for (column, value, sql) in rare {
        let filter = Filter::default().with(column, value);
        let name = format!("{}={value}", column.name());
        row(&path, &reader, &name, &filter, &format!("SELECT * {decided} {sql} {newest}"));
    }
    let pairs = [
        ("tool", "rare", "p.resource_id LIKE '%rare%'"),
        ("agent", "gent-3", "p.agent LIKE '%gent-3%'"),
        ("min_duration_ms", "80.89", "l.duration_us >= 80890"),
        ("manifest_sha", "none", "l.manifest_sha = 'none'"),
        ("policy_version", "none", "p.determining_policies LIKE '%\"none\"%'"),
    ];
    for (name, value, sql) in pairs {
        let filter = Filter::of([(name, value)], 0).unwrap();
        row(
            &path,
            &reader,
            &format!("{name}={value}"),
            &filter,
            &format!("SELECT * {decided} {sql} {newest}"),
        );
    }
    let now_ms = (docket::cli::system_clock().now_ms)();
    for (name, filter) in [
        ("statistics", Filter::default()),
        ("statistics, server=git", Filter::default().with(Column::Server, "git")),
        ("statistics, decision=deny", Filter::default().with(Column::Decision, "deny")),
    ] {
        let wanted = SummaryWanted { filter, bucket_ms: None, top: 10, now_ms };
        let (middle, worst) = measured(5, || drop(reader.summary(&wanted).unwrap()));
        println!("{name:<28} {middle:>19.2} {worst:>9.2}");
    }
    let (middle, worst) =
        measured(5, || drop(reader.named(&Filter::default(), &[Column::Tool], None, 100).unwrap()));
    println!("{:<28} {middle:>19.2} {worst:>9.2}", "picker, tools");
    println!("\n{:<8} {:>9} {:>9} {:>9} {:>12}", "export", "entries", "MB", "MB/s", "entries/s");
    let limit = setting("EXPORT", 300_000);
    for format in ["json", "jsonl", "csv", "opa"] {
        let export = Export::parse(&format!("format={format}&limit={limit}"), 0).unwrap();
        let (mut taken, began) = (Taken::default(), Instant::now());
        export.run(&reader, &mut std::io::sink(), &mut taken, |_| ()).unwrap();
        let seconds = began.elapsed().as_secs_f64();
        let megabytes = taken.bytes as f64 / 1e6;
        let (rate, rows) = (megabytes / seconds, taken.rows as f64 / seconds);
        println!("{format:<8} {:>9} {megabytes:>9.1} {rate:>9.1} {rows:>12.0}", taken.rows);
    }
    let began = Instant::now();
    let sql = format!("SELECT * FROM leaves l JOIN payloads p USING (seq) ORDER BY l.seq DESC LIMIT {limit}");
    let script = format!(".mode csv\n.output /dev/null\n{sql};\n");
    let child = Command::new("sqlite3").arg("-readonly").arg(&path).stdin(Stdio::piped()).spawn();
    if let Ok(mut child) = child {
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
        child.wait().unwrap();
        println!("sqlite3 .mode csv, every column: {limit} rows in {:.1} s", began.elapsed().as_secs_f64());
    }
}
