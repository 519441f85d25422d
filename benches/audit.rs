//! What asking costs: `cargo bench --bench audit`, or with `--profile ci` to measure what the tests run.
//!
//! Makes a ledger of `ENTRIES` entries (1,000,000), or takes the one at `LEDGER`, waits until it is rolled up, and measures tail,
//! lookup, the first page and the count of each filter, statistics, pickers and exports (of `EXPORT` entries), and what the `sqlite3`
//! shell takes for the same questions put to the raw tables, where there is one. `FOLDER` says on which disk, and `SHELL_TOO=0`
//! leaves the shell out. Nothing here fails: the machine decides how fast it is.
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
use docket::ledger::filter::{Order, Scope};
use docket::ledger::rollup::{BLOCK, SummaryWanted};
use docket::ledger::{Column, Entry, Filter, Kind, Ledger, Mode, Queue, Reader, Signing};
use docket::redact::Redactor;
use rusqlite::Connection;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A digest that nothing has.
const NEVER: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
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

/// Waits until every full block is rolled up as this docket does it.
async fn roll_up(path: &Path) {
    let ledger = open(path);
    let shell = Connection::open(path).unwrap();
    let blocks = || -> i64 {
        shell.query_row("SELECT count(*) FROM op_rollup_decisions", [], |row| row.get(0)).unwrap()
    };
    let entries = ledger.reader().newest_seq().unwrap() + 1;
    let (full, before, began) = (entries / BLOCK as i64, blocks(), Instant::now());
    while blocks() < full {
        tokio::time::sleep(Duration::from_millis(200)).await;
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
    if setting("SHELL_TOO", 1) == 0 {
        return None;
    }
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
    // A page says how many there are, too.
    let (page, worst) = measured(5, || drop(reader.page(filter, None).unwrap()));
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
        ("manifest_sha", NEVER, &format!("l.manifest_sha = '{NEVER}'")),
        ("policy_version", NEVER, &format!("p.determining_policies LIKE '%\"{NEVER}\"%'")),
    ];
    for (name, value, sql) in pairs {
        let filter = Filter::of([(name, value)], 0).unwrap();
        row(
            &path,
            &reader,
            &format!("{name}={value:.12}"),
            &filter,
            &format!("SELECT * {decided} {sql} {newest}"),
        );
    }
    statistics(&reader);
    exports(&path, &reader);
}

fn statistics(reader: &Reader) {
    println!("\n{:<44} {:>9} {:>9} {:>9}", "statistics", "entries", "ms", "worst");
    let now_ms = (docket::cli::system_clock().now_ms)();
    let time = |filter: Filter| -> i64 {
        let entry = reader.entries(&Filter { limit: Some(1), ..filter }).unwrap().remove(0);
        entry.occurred_at.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    };
    let last_ms = time(Filter::default());
    let first_ms = time(Filter { order: Order::Oldest, ..Filter::default() });
    let part =
        |share: i64| Filter { since_ms: Some(last_ms - (last_ms - first_ms) / share), ..Filter::default() };
    let scope = Scope { zones: Some(vec!["default".into()]), calls: true, ..Scope::default() };
    let of = |pairs: &[(&str, &str)]| Filter::of(pairs.iter().copied(), 0).unwrap();
    let mut questions = vec![
        ("of everything".to_owned(), Filter::default(), None),
        ("in 10,000 steps".to_owned(), Filter::default(), Some((now_ms - first_ms) / 9_000)),
        ("the last half".to_owned(), part(2), None),
        ("the last 100th".to_owned(), part(100), None),
        ("an auditor of one zone".to_owned(), Filter { scope: scope.clone(), ..Filter::default() }, None),
        (
            "a lead".to_owned(),
            Filter { scope: Scope { team: Some("finance".into()), ..scope }, ..Filter::default() },
            None,
        ),
        ("server=git, decision=deny".to_owned(), of(&[("server", "git"), ("decision", "deny")]), None),
    ];
    for (name, value) in [
        ("kind", "decision"),
        ("event_type", "tools.call"),
        ("decision", "allow"),
        ("decision", "deny"),
        ("status", "complete"),
        ("outcome", "success"),
        ("subject", "user-17"),
        ("agent", "agent-1"),
        ("user", "user-17"),
        ("team", "finance"),
        ("zone", "default"),
        ("server", "git"),
        ("tool", "tool_1"),
        ("action", "tools/call"),
        ("policy", "bench.p1"),
        ("rule", "egress"),
        ("mode", "enforce"),
        ("min_duration_ms", "40"),
    ] {
        questions.push((format!("{name}={value}"), of(&[(name, value)]), None));
    }
    for (name, filter, bucket_ms) in questions {
        let wanted = SummaryWanted { filter, bucket_ms, top: 10, now_ms };
        let (middle, worst) = measured(5, || drop(reader.summary(&wanted).unwrap()));
        let entries = reader.summary(&wanted).unwrap().entries;
        println!("{name:<44} {entries:>9} {middle:>9.2} {worst:>9.2}");
    }
    let members = [Column::User, Column::Agent, Column::Subject, Column::Team];
    for (name, columns) in [
        ("members", &members[..]),
        ("services", &[Column::Server]),
        ("tools", &[Column::Tool]),
        ("policies", &[Column::Policy]),
    ] {
        let (middle, worst) =
            measured(5, || drop(reader.named(&Filter::default(), columns, None, 100).unwrap()));
        println!("picker: {name:<36} {:>9} {middle:>9.2} {worst:>9.2}", "");
    }
}

/// Bytes of memory this process has, and has had at most since the last time this was asked.
fn memory() -> (f64, f64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let megabytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1_024.0
    };
    // 5: forget the highest.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    (megabytes("VmRSS:"), megabytes("VmHWM:"))
}

fn exports(path: &Path, reader: &Reader) {
    println!(
        "\n{:<8} {:>9} {:>9} {:>9} {:>12} {:>12}",
        "export", "entries", "MB", "MB/s", "entries/s", "MiB of memory"
    );
    let limit = setting("EXPORT", 300_000);
    for format in ["json", "jsonl", "csv", "opa"] {
        let export = Export::parse(&format!("format={format}&limit={limit}"), 0).unwrap();
        let (before, _) = memory();
        let (mut taken, began) = (Taken::default(), Instant::now());
        export.run(reader, &mut std::io::sink(), &mut taken, |_| ()).unwrap();
        let seconds = began.elapsed().as_secs_f64();
        let (_, highest) = memory();
        let megabytes = taken.bytes as f64 / 1e6;
        let (rate, rows, more) = (megabytes / seconds, taken.rows as f64 / seconds, highest - before);
        println!("{format:<8} {:>9} {megabytes:>9.1} {rate:>9.1} {rows:>12.0} {more:>12.1}", taken.rows);
    }
    if setting("SHELL_TOO", 1) == 0 {
        return;
    }
    for mode in ["json", "csv"] {
        let sql =
            format!("SELECT * FROM leaves l JOIN payloads p USING (seq) ORDER BY l.seq DESC LIMIT {limit}");
        let mut shell = Command::new("sqlite3");
        shell.arg("-readonly").arg("-cmd").arg(format!(".mode {mode}")).arg(path).arg(sql);
        let Ok(mut child) = shell.stdout(Stdio::piped()).spawn() else { return };
        let began = Instant::now();
        let bytes = std::io::copy(&mut child.stdout.take().unwrap(), &mut std::io::sink()).unwrap();
        child.wait().unwrap();
        let (seconds, megabytes) = (began.elapsed().as_secs_f64(), bytes as f64 / 1e6);
        let name = format!("sqlite3 .mode {mode}, every column");
        println!(
            "{name}: {limit} rows, {megabytes:.1} MB, {:.1} MB/s, {:.0} rows/s",
            megabytes / seconds,
            limit as f64 / seconds
        );
    }
}
