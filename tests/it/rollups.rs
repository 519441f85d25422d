//! Statistics and pickers against the oracle: whoever asks, whoever rolled up, whatever was removed since, and whenever the process
//! was killed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use docket::ledger::{Column, Filter, Reader};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::faults::{KILL, NEVER, intercepted, library};
use crate::harness::{Docket, POLICY, Process, check, folder_with};
use crate::oracle::{ENTRIES, Oracle, Viewer, compare_exports, compare_lists, fill, query, random_filters};

/// The blocks that are rolled up, and those that can be.
pub fn blocks(connection: &Connection) -> (i64, i64) {
    let sql = "SELECT (SELECT count(*) FROM op_rollup_blocks b JOIN op_rollup_decisions USING (block) WHERE b.gone IS NULL), \
         (SELECT max(seq) + 1 FROM leaves) / 4096";
    connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

/// Waits until every block is rolled up.
pub async fn rolled_up(connection: &Connection) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while blocks(connection).0 < blocks(connection).1 {
        assert!(Instant::now() < deadline, "not everything is rolled up: {:?}", blocks(connection));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The pickers, and a column of each.
const PICKERS: [(&str, Column); 6] = [
    ("services", Column::Server),
    ("tools", Column::Tool),
    ("members", Column::User),
    ("members", Column::Agent),
    ("members", Column::Subject),
    ("members", Column::Team),
];

/// Compares what statistics and pickers say to somebody.
pub async fn compare_sums(docket: &Docket, oracle: &Oracle, viewer: &Viewer, number: u64) {
    let filters = random_filters(number, oracle);
    let query = query(&filters);
    viewer.arrive(docket).await;
    let summary = viewer.get(docket, &format!("/v1/audit/stats?{query}top=1000")).await;
    compare_summary(&summary, oracle, &filters, &oracle.before_look(&viewer.sees));
    for (picker, column) in PICKERS {
        let values = viewer.get(docket, &format!("/v1/audit/{picker}?{query}limit=1000")).await;
        let sees = oracle.before_look(&viewer.sees);
        compare_values(&values["values"], oracle, &filters, &sees, column);
    }
}

/// Likewise, without a docket.
fn compare_file(reader: &Reader, oracle: &Oracle, number: u64) {
    let filters = random_filters(number, oracle);
    let now_ms = (docket::cli::system_clock().now_ms)();
    let wanted = docket::api::summary::wanted(&format!("{}top=1000", query(&filters)), now_ms).unwrap();
    let summary = json!(reader.summary(&wanted).unwrap());
    compare_summary(&summary, oracle, &filters, "");
    for (_, column) in PICKERS {
        let values = json!(reader.named(&wanted.filter, &[column], None, 1_000).unwrap());
        compare_values(&values, oracle, &filters, "", column);
    }
    let filter = Filter { limit: Some(50), ..wanted.filter };
    let found: Vec<String> = reader.entries(&filter).unwrap().into_iter().map(|entry| entry.id).collect();
    assert_eq!(found, oracle.ids(&filters, "ORDER BY f.seq DESC LIMIT 50"), "{filters:?}");
    assert_eq!(reader.count(&filter).unwrap(), oracle.count(&filters, "").unsigned_abs(), "{filters:?}");
}

fn compare_summary(summary: &Value, oracle: &Oracle, filters: &[(String, String)], sees: &str) {
    assert_eq!(summary["entries"], oracle.count(filters, sees), "{filters:?} {sees}");
    let only = format!("{sees} AND f.kind = 'decision'");
    let count = |rest: &str| oracle.count(filters, &format!("{only} {rest}"));
    assert_eq!(summary["decisions"], count(""), "{filters:?} {sees}");
    assert_eq!(summary["errors"], count("AND f.status <> 'complete'"), "{filters:?} {sees}");
    for effect in ["allow", "deny", "require_approval"] {
        let expected = count(&format!("AND f.decision = '{effect}'"));
        assert_eq!(summary[effect], expected, "{effect} {filters:?} {sees}");
    }
    compare_series(summary, oracle, filters, &only);
    let outcomes: BTreeMap<String, i64> = serde_json::from_value(summary["outcomes"].clone()).unwrap();
    let outcomes: Vec<String> = outcomes.into_iter().map(|(name, count)| format!("{name}|{count}")).collect();
    let rest = format!("{only} AND f.outcome IS NOT NULL GROUP BY f.outcome ORDER BY f.outcome");
    assert_eq!(
        outcomes,
        oracle.query::<String>("f.outcome || '|' || count(*)", filters, &rest),
        "{filters:?}"
    );
    let servers = summary["servers"].as_array().unwrap();
    let named = oracle.query::<i64>("count(DISTINCT f.server)", filters, &only)[0];
    let nameless = i64::from(count("AND f.server IS NULL") > 0);
    assert_eq!(servers.len() as i64, named + nameless, "{filters:?} {sees}");
    for server in servers {
        let here = server["server"]
            .as_str()
            .map_or("AND f.server IS NULL".to_owned(), |name| format!("AND f.server = '{name}'"));
        compare_server(server, oracle, filters, &format!("{only} {here}"));
    }
    let callers: i64 =
        summary["callers"].as_array().unwrap().iter().map(|caller| caller["count"].as_i64().unwrap()).sum();
    assert_eq!(callers, count("AND f.agent IS NOT NULL"), "{filters:?} {sees}");
}

/// Every step has the decisions of its time.
fn compare_series(summary: &Value, oracle: &Oracle, filters: &[(String, String)], only: &str) {
    let bucket_ms = summary["bucket_ms"].as_i64().unwrap();
    let steps: Vec<(&Value, i64)> = summary["series"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| {
            let time: jiff::Timestamp = step["time"].as_str().unwrap().parse().unwrap();
            (step, time.as_millisecond())
        })
        .collect();
    for effect in ["allow", "deny", "require_approval"] {
        let rest = format!("{only} AND f.decision = '{effect}' ORDER BY f.seq");
        let mut expected = vec![0_i64; steps.len()];
        for time in oracle.query::<String>("f.occurred_at", filters, &rest) {
            let time: jiff::Timestamp = time.parse().unwrap();
            let step = (time.as_millisecond() - steps[0].1) / bucket_ms;
            expected[usize::try_from(step).unwrap()] += 1;
        }
        let told: Vec<i64> = steps.iter().map(|(step, _)| step[effect].as_i64().unwrap()).collect();
        assert_eq!(told, expected, "{effect} {filters:?} {only}");
    }
}

fn compare_server(server: &Value, oracle: &Oracle, filters: &[(String, String)], here: &str) {
    let count = |rest: &str| oracle.count(filters, &format!("{here} {rest}"));
    assert_eq!(server["decisions"], count(""), "{here} {filters:?}");
    assert_eq!(server["deny"], count("AND f.decision = 'deny'"), "{here} {filters:?}");
    let told = |members: &str, shown: fn(&Value) -> String| {
        sorted(server[members].as_array().unwrap().iter().map(shown).collect())
    };
    let tools = told("tools", |tool| {
        format!("{}|{}|{}", tool["value"].as_str().unwrap(), tool["count"], tool["deny"])
    });
    let what = "f.tool || '|' || count(*) || '|' || sum(f.decision = 'deny')";
    let rest = format!("{here} AND f.tool IS NOT NULL GROUP BY f.tool");
    assert_eq!(tools, sorted(oracle.query(what, filters, &rest)), "{here} {filters:?}");
    let what = "(SELECT group_concat(DISTINCT p.id) FROM policy p WHERE p.seq = f.seq)";
    let mut denied: BTreeMap<String, u64> = BTreeMap::new();
    let denying: Vec<Option<String>> =
        oracle.query(what, filters, &format!("{here} AND f.decision = 'deny'"));
    for policy in denying.iter().flatten().flat_map(|policies| policies.split(',')) {
        *denied.entry(policy.to_owned()).or_default() += 1;
    }
    let expected = denied.into_iter().map(|(policy, count)| format!("{policy}|{count}")).collect();
    let policies =
        told("denying_policies", |one| format!("{}|{}", one["value"].as_str().unwrap(), one["deny"]));
    assert_eq!(policies, sorted(expected), "{here} {filters:?}");
    for column in ["evaluation_us", "duration_us"] {
        let rest = format!("{here} AND f.{column} IS NOT NULL ORDER BY f.{column}");
        let times: Vec<i64> = oracle.query(&format!("f.{column}"), filters, &rest);
        assert_eq!(server[column]["count"], times.len(), "{column} {here} {filters:?}");
        for (name, percent) in [("p50", 50), ("p99", 99)].into_iter().filter(|_| !times.is_empty()) {
            let exact = times[((times.len() * percent).div_ceil(100)).max(1) - 1] as f64;
            let told = server[column][name].as_f64().unwrap();
            assert!((told - exact).abs() <= exact * 0.04 + 0.5, "{column} {name} {told} {exact} {filters:?}");
        }
    }
}

fn compare_values(values: &Value, oracle: &Oracle, filters: &[(String, String)], sees: &str, column: Column) {
    let name = column.name();
    let values = values.as_array().unwrap().iter().filter(|value| value["column"] == name);
    let found = values
        .map(|value| format!("{}|{}|{}", value["value"].as_str().unwrap(), value["count"], value["deny"]));
    let what = format!("f.{name} || '|' || count(*) || '|' || sum(f.decision = 'deny')");
    let rest = format!("{sees} AND f.kind = 'decision' AND f.{name} IS NOT NULL GROUP BY f.{name}");
    assert_eq!(
        sorted(found.collect()),
        sorted(oracle.query(&what, filters, &rest)),
        "{name} {filters:?} {sees}"
    );
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

/// Name, role and scope of somebody, and which calls are theirs.
const SOMEBODY: [(&str, &str, &str, &str); 8] = [
    ("auditor", "auditor", r#"{"zones": ["eu", "us"]}"#, "f.zone IN ('eu', 'us')"),
    ("default", "auditor", "{}", "f.zone = 'default'"),
    ("lead", "lead", r#"{"zones": ["*"], "team": "team-2"}"#, "f.team = 'team-2'"),
    ("lead-eu", "lead", r#"{"zones": ["eu"], "team": "team-2"}"#, "f.zone = 'eu' AND f.team = 'team-2'"),
    ("user", "user", r#"{"zones": ["*"], "user": "user-17"}"#, "f.user = 'user-17'"),
    ("approver", "approver", r#"{"zones": ["*"]}"#, "f.decision = 'require_approval'"),
    ("approver-us", "approver", r#"{"zones": ["us"]}"#, "f.decision = 'require_approval' AND f.zone = 'us'"),
    ("author", "author", r#"{"zones": ["*"], "user": "user-17"}"#, "f.user = 'user-17'"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_counts_what_is_theirs() {
    let folder = folder_with("", POLICY);
    let path = folder.path().join("docket.db");
    fill(&path, *ENTRIES).await;
    let docket = Docket::in_folder(folder).await;
    let oracle = Oracle::of(&path);
    rolled_up(&oracle.connection).await;
    for (at, (name, role, scope, sees)) in (0..).zip(SOMEBODY) {
        let token = docket.token(name, role, serde_json::from_str(scope).unwrap()).await;
        let sees = format!("AND f.kind IN ('decision', 'outcome', 'trace') AND {sees}");
        let viewer = Viewer { token, sees };
        for number in 0..10 {
            compare_lists(&docket, &oracle, &viewer, at * 10 + number).await;
        }
        // Others are told no sums, and take nothing out.
        if ["auditor", "lead", "user"].contains(&role) {
            for number in 0..4 {
                compare_sums(&docket, &oracle, &viewer, at * 17 + number * 9).await;
                compare_exports(&docket, &oracle, &viewer, at * 20 + number).await;
            }
        }
    }
    docket.stop().await;
}

#[tokio::test]
async fn what_older_dockets_rolled_up_and_what_is_gone_since_counts_as_it_should() {
    let folder = folder_with("", POLICY);
    let path = folder.path().join("docket.db");
    fill(&path, *ENTRIES).await;
    let docket = Docket::in_folder(folder).await;
    rolled_up(&Connection::open(&path).unwrap()).await;
    let folder = docket.stop().await;
    let oracle = Oracle::of(&path);
    let reader = Reader::new(path.as_path().into());
    // Nothing is made again while no docket runs. An older docket stored no decisions; it was stopped before it had them all.
    oracle.connection.execute("DELETE FROM op_rollup_decisions WHERE block % 2 = 0", []).unwrap();
    for number in 0..30 {
        compare_file(&reader, &oracle, number);
    }
    // As an act takes payloads: those of one person, and those before some time.
    let seqs: Vec<i64> =
        oracle.query("f.seq", &[], "AND (f.user = 'user-17' OR f.subject = 'subject-3' OR f.seq < 700)");
    for block in seqs.chunk_by(|a, b| a / 4_096 == b / 4_096) {
        let mut bits = [0_u8; 512];
        for seq in block {
            let place = usize::try_from(seq % 4_096).unwrap();
            bits[place / 8] |= 1 << (place % 8);
        }
        let update = "UPDATE op_rollup_blocks SET gone = ? WHERE block = ?";
        oracle.connection.execute(update, rusqlite::params![bits, block[0] / 4_096]).unwrap();
    }
    let list: Vec<String> = seqs.iter().map(i64::to_string).collect();
    oracle
        .connection
        .execute(&format!("DELETE FROM payloads WHERE seq IN ({})", list.join(",")), [])
        .unwrap();
    oracle.rebuild();
    assert_eq!(oracle.count(&[("user".into(), "user-17".into())], ""), 0);
    for number in 0..40 {
        compare_file(&reader, &oracle, number);
    }
    drop(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_are_true_whenever_the_process_is_killed() {
    let Some(library) = library() else { return };
    let folder = folder_with("", POLICY);
    let path = folder.path().join("docket.db");
    fill(&path, *ENTRIES).await;
    let connection = Connection::open(&path).unwrap();
    let empty = "DELETE FROM op_rollup_decisions; DELETE FROM op_rollup_values; DELETE FROM op_rollup_names; DELETE FROM op_rollup_blocks";
    connection.execute_batch(empty).unwrap();
    let undisturbed = KILL.at(NEVER).start(library, folder.path()).unwrap();
    rolled_up(&connection).await;
    let calls = intercepted(folder.path());
    assert_eq!(undisturbed.terminate(), Some(0));
    let reader = Reader::new(path.as_path().into());
    let mut seen = Vec::new();
    for quarter in 1..=3 {
        connection.execute_batch(empty).unwrap();
        // In the midst of one block or another: nearly all of these calls write pages of blocks.
        let process = KILL.at(calls * quarter / 4).start(library, folder.path());
        let deadline = Instant::now() + Duration::from_secs(60);
        if let Some(mut process) = process {
            while process.child.try_wait().unwrap().is_none() {
                assert!(
                    Instant::now() < deadline,
                    "it was not killed: {calls} calls, {:?}",
                    blocks(&connection)
                );
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        seen.push(blocks(&connection));
        let oracle = Oracle::of(&path);
        for number in 0..5 {
            compare_file(&reader, &oracle, u64::try_from(quarter).unwrap() * 10 + number);
        }
    }
    println!("killed with so many blocks rolled up: {seen:?}");
    assert!(
        seen.iter().any(|(rolled, all)| 0 < *rolled && rolled < all),
        "never between two blocks: {seen:?}"
    );
    // What an older docket left is made again, too.
    connection.execute("DELETE FROM op_rollup_decisions WHERE block = 0", []).unwrap();
    let process = Process::start(folder.path());
    rolled_up(&connection).await;
    assert_eq!(process.terminate(), Some(0));
    let oracle = Oracle::of(&path);
    for number in 25..35 {
        compare_file(&reader, &oracle, number);
    }
    check(&path);
}

/// Entries that are exported.
const EXPORTED: u64 = 100_000;

/// Memory that may take, in bytes: less than so many rows of CSV, were they held, and far less than as much JSON.
const MAX_GROWTH: u64 = 24 << 20;

/// Bytes of memory a process has, and has had at most since this was asked last.
fn memory(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
    };
    // 5: forget the highest. Where that may not be written, it stays the highest of all.
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
    (bytes("VmRSS:"), bytes("VmHWM:"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_take_no_more_memory_than_they_may() {
    let folder = folder_with("", POLICY);
    fill(&folder.path().join("docket.db"), EXPORTED).await;
    let process = Process::start(folder.path());
    let token = std::fs::read_to_string(folder.path().join("admin.token")).unwrap().trim().to_owned();
    for format in ["json", "jsonl", "csv", "opa"] {
        let (before, _) = memory(process.child.id());
        let url = format!("{}/v1/audit/export?format={format}", process.admin);
        let mut response = reqwest::Client::new().get(url).bearer_auth(&token).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let mut bytes = 0;
        while let Some(chunk) = response.chunk().await.unwrap() {
            bytes += chunk.len();
        }
        let (_, highest) = memory(process.child.id());
        let growth = highest.saturating_sub(before);
        println!("{format}: {bytes} bytes, {growth} bytes of memory");
        assert!(growth < MAX_GROWTH, "{format}: {growth}");
    }
    assert_eq!(process.terminate(), Some(0));
}
