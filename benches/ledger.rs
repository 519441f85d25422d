//! What recording and proving cost: `cargo bench --bench ledger`, or with `--profile ci` to measure what the tests run.
//!
//! First durable appends at 1, 16, 64 and 256 waiting callers, in rounds that take turns with a bare SQLite insert loop of the
//! same bytes and the same `synchronous=FULL`, and with one that writes the same rows to the same tables. Entries are made and redacted before the clock starts: that is the gate's
//! work; salting, hashing and laying out are the ledger's, and counted. Then a ledger of `ENTRIES` entries (200,000), made by many callers at once, and
//! what reading, proving, verifying and opening it cost. `FOLDER` says on which disk (the system's temporary folder), `ROUNDS`
//! how often the callers take turns (5). Nothing here fails: the machine decides how fast it is.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on should stop where it is")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use docket::call::RequestId;
use docket::clock::Clock;
use docket::decision::{Effect, EvaluationStatus};
use docket::ledger::verify::{self, Options};
use docket::ledger::{Entry, Filter, Kind, Ledger, Mode, Queue, Reader, Signing};
use docket::redact::Redactor;
use rusqlite::Connection;
use rusqlite::types::Value;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CALLERS: [usize; 4] = [1, 16, 64, 256];

/// Entries that each caller appends in one round, and all of them at most.
const SHARE: u64 = 1_000;
const MAX_ROUND: u64 = 24_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(std::env::var_os("FOLDER").map_or_else(std::env::temp_dir, PathBuf::from)).unwrap()
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        if setting("ROUNDS", 5) > 0 {
            appends().await;
        }
        large(setting("ENTRIES", 200_000)).await;
    });
}

/// One decision as a gate records it; agents, tools and arguments vary as they do in traffic.
fn entry(clock: Clock, redactor: &Redactor, manifest: &str, caller: usize, number: u64) -> Entry {
    let (agent, tool) = (format!("agent-{}", number % 7), format!("tool_{}", (number + caller as u64) % 13));
    let content = redactor.record(vec![
        ("subject", json!({"type": "identity", "id": agent, "properties": {"agent": agent, "user": "alice@acme.example",
            "team": "finance", "zone": "default", "roles": ["agent"], "claims": {}}})),
        ("action", json!({"name": "tools/call"})),
        ("resource", json!({"type": "tool", "id": tool, "properties": {"server": "filesystem", "annotations": {}}})),
        ("context", json!({"arguments": {"path": format!("/srv/invoices/2026/{number}.pdf")}, "agent": agent,
            "peer": "127.0.0.1:53122", "time": "2026-11-20T07:00:00.000Z", "protocol": "mcp/2025-11-25"})),
        ("determining_policies", json!([{"policy_id": "bench.tools", "policy_version":
            "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", "title": "Tools", "decision": "allow"}])),
        ("diagnostics", json!([{"policy_id": "bench.tools", "effect": "allow", "rule": "harmless", "message": null, "data": null}])),
        ("metadata", json!({"agent": agent, "user": "alice@acme.example", "team": "finance", "server": "filesystem",
            "peer": "127.0.0.1:53122"})),
    ]);
    Entry {
        kind: Kind::Decision,
        event_type: "tools.call".into(),
        time_ms: (clock.now_ms)(),
        call_id: Some(clock.ulid()),
        request_id: RequestId::parse(&format!("r-{caller}-{number}")),
        zone: "default".into(),
        mode: Some(Mode::Enforce),
        decision: Some((Effect::Allow, EvaluationStatus::Complete, 120)),
        outcome: None,
        forwarded: false,
        manifest_sha: Some(manifest.to_owned()),
        content,
    }
}

async fn open(path: &Path) -> (Ledger, String) {
    let ledger =
        Ledger::open(path, Queue::default(), Signing::default(), docket::cli::system_clock()).unwrap();
    let bytes = b"{\"files\":[]}".to_vec();
    let manifest = docket::digest::sha256(&bytes);
    ledger.keep(vec![(manifest.clone(), bytes)]).await.unwrap();
    (ledger, manifest)
}

/// The entries of one caller.
fn entries(manifest: &str, caller: usize, count: u64) -> impl Iterator<Item = Entry> + Send + 'static {
    let (clock, redactor, manifest) = (docket::cli::system_clock(), Redactor::builtin(), manifest.to_owned());
    (0..count).map(move |number| entry(clock, &redactor, &manifest, caller, number))
}

/// Callers that append one entry after the other. Answers how long each append took, and all together.
async fn call(
    ledger: &Ledger,
    callers: Vec<impl Iterator<Item = Entry> + Send + 'static>,
) -> (Vec<Duration>, Duration) {
    let started = Instant::now();
    let tasks: Vec<_> = callers
        .into_iter()
        .map(|entries| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                let mut took = Vec::new();
                for entry in entries {
                    let began = Instant::now();
                    let _arriving = ledger.arriving();
                    ledger.append(entry).await.unwrap();
                    took.push(began.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.unwrap());
    }
    (took, started.elapsed())
}

/// SQLite alone: rows of these bytes, so many in a transaction, each of which is synced. A row waits as long as its
/// transaction takes.
fn bare(path: &Path, bytes: usize, batch: usize, rows: usize) -> (Vec<Duration>, Duration) {
    let mut connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 16384; \
             CREATE TABLE IF NOT EXISTS rows (seq INTEGER PRIMARY KEY, bytes BLOB NOT NULL)",
        )
        .unwrap();
    let row = vec![b'x'; bytes];
    let mut took = Vec::new();
    let started = Instant::now();
    while took.len() < rows {
        let began = Instant::now();
        let transaction = connection.transaction().unwrap();
        {
            let mut insert = transaction.prepare_cached("INSERT INTO rows (bytes) VALUES (?)").unwrap();
            for _ in 0..batch {
                insert.execute([&row]).unwrap();
            }
        }
        transaction.commit().unwrap();
        took.extend(std::iter::repeat_n(began.elapsed(), batch));
    }
    (took, started.elapsed())
}

/// SQLite alone in docket's shape: rows that docket wrote, read from its file and written to the same tables and indexes under
/// new numbers, so many in a transaction, each of which is synced.
fn same_rows(path: &Path, ledger: &Path, batch: usize, rows: usize) -> (Vec<Duration>, Duration) {
    let mut connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 16384;",
        )
        .unwrap();
    if !connection.table_exists(None, "leaves").unwrap() {
        for step in [include_str!("../src/ledger/schema/1.sql"), include_str!("../src/ledger/schema/2.sql")] {
            connection.execute_batch(step).unwrap();
        }
    }
    let source = Connection::open(ledger).unwrap();
    let tables = ["leaves", "payloads", "nodes"].map(|table| {
        let mut select =
            source.prepare(&format!("SELECT * FROM {table} WHERE seq > 0 ORDER BY seq LIMIT 2000")).unwrap();
        let columns = select.column_count();
        let read = select.query_map([], |row| (0..columns).map(|at| row.get::<_, Value>(at)).collect());
        let insert = format!("INSERT INTO {table} VALUES ({})", vec!["?"; columns].join(","));
        (table, insert, read.unwrap().collect::<Result<Vec<Vec<Value>>, _>>().unwrap())
    });
    let newest: Option<i64> =
        connection.query_row("SELECT max(seq) FROM leaves", [], |row| row.get(0)).unwrap();
    let mut seq = newest.unwrap_or(-1);
    let mut took = Vec::new();
    let started = Instant::now();
    while took.len() < rows {
        let began = Instant::now();
        let transaction = connection.transaction().unwrap();
        for _ in 0..batch {
            seq += 1;
            for (table, insert, rows) in &tables {
                let mut statement = transaction.prepare_cached(insert).unwrap();
                let row = rows.get(usize::try_from(seq).unwrap() % rows.len()).unwrap();
                for (at, value) in row.iter().enumerate() {
                    match (*table, at) {
                        (_, 0) => statement.raw_bind_parameter(1, seq).unwrap(),
                        ("leaves", 2) => statement.raw_bind_parameter(3, format!("{seq:026}")).unwrap(),
                        _ => statement.raw_bind_parameter(at + 1, value).unwrap(),
                    }
                }
                statement.raw_execute().unwrap();
            }
        }
        transaction.commit().unwrap();
        took.extend(std::iter::repeat_n(began.elapsed(), batch));
    }
    (took, started.elapsed())
}

/// Rows a second, and the latency at 50 and at 99 of 100.
fn figures(took: &mut [Duration], over: Duration) -> (f64, f64, f64) {
    took.sort_unstable();
    let at = |percent: usize| {
        took.get(took.len() * percent / 100).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
    };
    (took.len() as f64 / over.as_secs_f64(), at(50), at(99))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn appends() {
    let folder = folder();
    let (ledger, manifest) = open(&folder.path().join("docket.db")).await;
    // What SQLite has to store for one entry, indexes and tree included.
    call(&ledger, (0..64).map(|caller| entries(&manifest, caller, 100)).collect()).await;
    ledger.checkpoint().await.unwrap();
    let bytes = usize::try_from(ledger.reader().stats(0).unwrap().bytes_per_entry).unwrap();
    println!(
        "{bytes} bytes an entry\n\ncallers        appends/s  p50 ms  p99 ms    bare/s  p50 ms  p99 ms  ratio  same rows/s  ratio"
    );
    for callers in CALLERS {
        let mut rounds: [Vec<f64>; 9] = Default::default();
        for _ in 0..setting("ROUNDS", 5) {
            let share = SHARE.min(MAX_ROUND / callers as u64);
            let prepare = |caller| entries(&manifest, caller, share).collect::<Vec<_>>().into_iter();
            let (mut took, over) = call(&ledger, (0..callers).map(prepare).collect()).await;
            let docket = figures(&mut took, over);
            let (path, rows) = (folder.path().join("bare.db"), took.len());
            let alone = tokio::task::spawn_blocking(move || bare(&path, bytes, callers, rows));
            let (mut took, over) = alone.await.unwrap();
            let alone = figures(&mut took, over);
            let (path, ledger_file) = (folder.path().join("same.db"), folder.path().join("docket.db"));
            let same = tokio::task::spawn_blocking(move || same_rows(&path, &ledger_file, callers, rows));
            let (mut took, over) = same.await.unwrap();
            let same = figures(&mut took, over);
            let row = [
                docket.0,
                docket.1,
                docket.2,
                alone.0,
                alone.1,
                alone.2,
                docket.0 / alone.0,
                same.0,
                docket.0 / same.0,
            ];
            for (figures, figure) in rounds.iter_mut().zip(row) {
                figures.push(figure);
            }
        }
        let [rate, p50, p99, bare_rate, bare_p50, bare_p99, ratio, same_rate, same_ratio] =
            rounds.map(median);
        println!(
            "{callers:>7} {rate:>16.0} {p50:>7.2} {p99:>7.2} {bare_rate:>9.0} {bare_p50:>7.2} {bare_p99:>7.2}  {ratio:.2} {same_rate:>11.0}  {same_ratio:.2}"
        );
    }
    ledger.close().await;
}

/// Processor time of this process, its threads and what SQLite does in them, in seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, after_name) = stat.rsplit_once(')').unwrap();
    let ticks = |field: usize| after_name.split_whitespace().nth(field).unwrap().parse::<f64>().unwrap();
    // User and system time, in hundredths of a second.
    (ticks(11) + ticks(12)) / 100.0
}

/// Times of the same thing done many times in different places: the middle one, and 99 of 100.
fn each(name: &str, count: u64, mut act: impl FnMut(u64)) {
    let mut took: Vec<Duration> = (0..count)
        .map(|number| {
            let began = Instant::now();
            act(number);
            began.elapsed()
        })
        .collect();
    let (_, p50, p99) = figures(&mut took, Duration::from_secs(1));
    println!("{name:<32} p50 {p50:.3} ms, p99 {p99:.3} ms");
}

async fn large(total: u64) {
    let folder = folder();
    let path = folder.path().join("docket.db");
    let (ledger, manifest) = open(&path).await;
    let callers = 512;
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let share = total / callers as u64;
    call(&ledger, (0..callers).map(|caller| entries(&manifest, caller, share)).collect()).await;
    let count = share * callers as u64;
    println!(
        "\n{count} entries appended by {callers} callers: {:.0}/s, {:.1} µs of processor time each",
        count as f64 / began.elapsed().as_secs_f64(),
        (cpu_seconds() - cpu) / count as f64 * 1e6
    );
    ledger.checkpoint().await.unwrap();
    ledger.close().await;
    let key = ledger.verifier().clone();
    drop(ledger);
    println!("{} bytes an entry in the file", std::fs::metadata(&path).unwrap().len() / count);

    for _ in 0..3 {
        let began = Instant::now();
        let ledger =
            Ledger::open(&path, Queue::default(), Signing::default(), docket::cli::system_clock()).unwrap();
        println!("opening                          {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
        ledger.close().await;
    }
    let reader = Reader::new(path.as_path().into());
    let somewhere = |number: u64| number.wrapping_mul(2_654_435_761) % count;
    each("inclusion proof", 2_000, |number| {
        reader.inclusion(somewhere(number), count).unwrap();
    });
    each("consistency proof", 2_000, |number| {
        reader.consistency(somewhere(number).max(1), count).unwrap();
    });
    each("the newest 20 decisions", 500, |_| {
        let filter = Filter { limit: Some(20), ..Filter::default().decisions() };
        assert_eq!(reader.entries(&filter).unwrap().len(), 20);
    });
    each("lookup by request id", 2_000, |number| {
        let place = somewhere(number);
        let id = format!("r-{}-{}", place % callers as u64, place / callers as u64);
        let filter = Filter { request_id: Some(id), ..Filter::default() };
        assert_eq!(reader.entries(&filter).unwrap().len(), 1);
    });
    let began = Instant::now();
    reader.stats(0).unwrap();
    println!("stats                            {:.0} ms", began.elapsed().as_secs_f64() * 1e3);
    for _ in 0..2 {
        let (began, cpu) = (Instant::now(), cpu_seconds());
        let options = Options { key: key.clone(), old_checkpoint: None, since_ms: None, now_ms: 0 };
        let report = verify::ledger(&path, &options, &mut |_, _| ()).unwrap();
        assert!(report.ok, "{report:#?}");
        let (took, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        println!(
            "verifying                        {:.0} entries/s; {:.0} for each second of one core",
            count as f64 / took,
            count as f64 / cpu
        );
    }
}
