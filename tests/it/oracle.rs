//! Filters against an oracle: random ones over a large ledger find exactly what a query of the test's own over the raw tables
//! finds, in every paging mode, format and picker, while rollups cover none, some or all of it, and after payloads were removed.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use docket::call::RequestId;
use docket::clock::{Clock, rfc3339};
use docket::decision::{Effect, EvaluationStatus, Outcome};
use docket::ledger::{Entry, Kind, Ledger, Mode, Queue, Signing};
use docket::redact::Redactor;
use rusqlite::{Connection, params_from_iter};
use serde_json::{Value, json};

use crate::harness::{Docket, POLICY, folder_with};
use crate::rollups::{blocks, compare_sums, rolled_up};

/// Entries of the ledger: `ORACLE_ENTRIES`, which is 20,000 unless somebody has the time for more.
pub static ENTRIES: LazyLock<u64> =
    LazyLock::new(|| std::env::var("ORACLE_ENTRIES").map_or(20_000, |text| text.parse().unwrap()));

/// 2026-11-01T00:00:00Z.
const START_MS: i64 = 1_793_491_200_000;

/// Time between two calls.
const STEP_MS: u64 = 20_000;

/// A small generator of numbers that look random, and are the same each time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[usize::try_from(self.below(items.len() as u64)).unwrap()]
    }
}

static DRAWN: AtomicU64 = AtomicU64::new(1);

/// Ids that differ; nobody has to be unable to guess them.
const CLOCK: Clock = Clock {
    now_ms: || START_MS,
    random: |buffer| {
        for chunk in buffer.chunks_mut(8) {
            let number = Dice(DRAWN.fetch_add(1, Ordering::Relaxed)).next().to_le_bytes();
            let length = chunk.len();
            chunk.copy_from_slice(&number[..length]);
        }
    },
};

/// One call: its decision, and its outcome where it went on.
fn call(redactor: &Redactor, number: u64) -> Vec<Entry> {
    let mut dice = Dice(number);
    let time_ms = START_MS + i64::try_from(number * STEP_MS + dice.below(STEP_MS)).unwrap();
    // Values of some columns are few, of others many, and some come only now and then.
    let server = ["mail", "pay", "git", "fs"][(1 + dice.below(100)).ilog2() as usize / 2];
    let subject = format!("subject-{}", dice.below(40));
    let (agent, user) = (format!("Agent-{}", dice.below(12)), format!("user-{}", dice.below(300)));
    let tool = format!("{}_{}", ["read", "write", "Delete"][dice.below(3) as usize], dice.below(25));
    let action = *dice.pick(&["tools/call", "tools/call", "tools/call", "resources/read"]);
    let (effect, rule) = match dice.below(20) {
        0..12 => (Effect::Allow, "harmless"),
        12..18 => (Effect::Deny, *dice.pick(&["no_delete", "say \"no\"", "é"])),
        _ => (Effect::RequireApproval, "payment"),
    };
    let status = match dice.below(50) {
        0 => EvaluationStatus::Error,
        1 => EvaluationStatus::Timeout,
        _ => EvaluationStatus::Complete,
    };
    let policies: Vec<Value> = (0..dice.below(3))
        .map(|at| json!({"policy_id": format!("p.{}", (number + at) % 17), "policy_version": version(number % 5), "title": null, "decision": effect.as_str()}))
        .collect();
    let mode = if dice.below(10) == 0 { Mode::Monitor } else { Mode::Enforce };
    let forwarded = effect == Effect::Allow || mode == Mode::Monitor;
    let zone = *dice.pick(&["default", "default", "eu", "us"]);
    let mut metadata = json!({"agent": agent, "user": user, "team": format!("team-{}", number % 6), "server": server, "peer": "127.0.0.1:1"});
    if dice.below(9) == 0 {
        metadata["classification"] = json!("secret");
    }
    let call_id = CLOCK.ulid_at(time_ms);
    let request_id = RequestId::parse(&format!("r-{}", number - number % 3));
    let decision = Entry {
        kind: Kind::Decision,
        event_type: action.replace('/', ".").into(),
        time_ms,
        call_id: Some(call_id),
        request_id: request_id.clone(),
        zone: zone.into(),
        mode: Some(mode),
        decision: Some((effect, status, dice.below(4_000))),
        outcome: None,
        forwarded,
        manifest_sha: Some(manifest()),
        content: redactor.record(vec![
            ("subject", json!({"type": "identity", "id": subject, "properties": {}})),
            ("action", json!({"name": action})),
            ("resource", json!({"type": "tool", "id": tool, "properties": {"server": server}})),
            ("context", json!({"arguments": {"path": format!("=/srv/{number},\"x\"\n")}, "peer": "127.0.0.1:1"})),
            ("determining_policies", json!(policies)),
            ("diagnostics", json!([{"policy_id": "p", "effect": effect.as_str(), "rule": rule, "message": "because", "data": null}])),
            ("metadata", metadata),
        ]),
    };
    let mut entries = vec![decision];
    if forwarded {
        let outcome =
            *dice.pick(&[Outcome::Success, Outcome::Success, Outcome::Error, Outcome::Disconnected]);
        entries.push(Entry {
            kind: Kind::Outcome,
            event_type: action.replace('/', ".").into(),
            time_ms: time_ms + 5,
            call_id: Some(call_id),
            request_id,
            zone: zone.into(),
            mode: Some(mode),
            decision: None,
            outcome: Some((outcome, dice.below(3_000_000))),
            forwarded: false,
            manifest_sha: None,
            content: redactor.record(vec![("metadata", json!({"server": server}))]),
        });
    }
    entries
}

/// The version of a policy.
fn version(number: u64) -> String {
    docket::digest::sha256(&number.to_le_bytes())
}

const MANIFEST: &[u8] = b"{\"files\":[]}";

fn manifest() -> String {
    docket::digest::sha256(MANIFEST)
}

/// Records traffic of so many entries, or nearly.
pub async fn fill(path: &Path, entries: u64) {
    let ledger = Ledger::open(path, Queue::default(), Signing::default(), CLOCK).unwrap();
    ledger.keep(vec![(manifest(), MANIFEST.to_vec())]).await.unwrap();
    let callers = 128;
    let share = entries * 5 / 8 / callers;
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                let redactor = Redactor::builtin();
                for number in 0..share {
                    for entry in call(&redactor, number * callers + caller) {
                        ledger.append(entry).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    ledger.close().await;
}

/// The raw tables, laid out flat by SQL of the test's own.
pub struct Oracle {
    pub connection: Connection,
}

const FLAT: &str = "SELECT l.seq, l.id, l.kind, l.event_type, l.occurred_at, l.request_id, l.call_id, l.decision, \
     l.evaluation_status AS status, l.zone, l.mode, l.manifest_sha, l.evaluation_us, \
     coalesce(l.outcome, o.outcome, CASE WHEN l.kind = 'decision' AND l.forwarded = 0 AND l.decision = 'deny' THEN 'denied' \
     WHEN l.kind = 'decision' AND l.forwarded = 0 AND l.decision = 'require_approval' THEN 'pending_approval' END) AS outcome, \
     coalesce(l.duration_us, o.duration_us) AS duration_us, p.subject ->> 'id' AS subject, p.metadata ->> 'agent' AS agent, \
     p.metadata ->> 'user' AS user, p.metadata ->> 'team' AS team, p.metadata ->> 'server' AS server, \
     p.resource ->> 'id' AS tool, p.action ->> 'name' AS action, p.metadata ->> 'classification' AS classification, \
     p.determining_policies AS policies, p.diagnostics AS diagnostics \
     FROM leaves l LEFT JOIN payloads p ON p.seq = l.seq \
     LEFT JOIN leaves o ON o.call_id = l.call_id AND o.kind = 'outcome' AND l.kind = 'decision'";

impl Oracle {
    pub fn of(ledger: &Path) -> Self {
        let connection = Connection::open(ledger).unwrap();
        let oracle = Self { connection };
        oracle.rebuild();
        oracle
    }

    pub fn rebuild(&self) {
        self.connection
            .execute_batch(&format!(
                "DROP TABLE IF EXISTS temp.flat; DROP TABLE IF EXISTS temp.policy; DROP TABLE IF EXISTS temp.rule; \
                 CREATE TEMP TABLE flat AS {FLAT}; CREATE UNIQUE INDEX temp.flat_seq ON flat (seq); \
                 CREATE TEMP TABLE policy AS SELECT f.seq, j.value ->> 'policy_id' AS id, j.value ->> 'policy_version' AS version \
                 FROM flat f, json_each(f.policies) j; CREATE INDEX temp.policy_seq ON policy (seq); \
                 CREATE TEMP TABLE rule AS SELECT f.seq, j.value ->> 'rule' AS rule FROM flat f, json_each(f.diagnostics) j; \
                 CREATE INDEX temp.rule_seq ON rule (seq);"
            ))
            .unwrap();
    }

    /// Looks at what was recorded since, too. What docket itself records has no policies.
    pub fn refresh(&self) {
        let sql = format!("INSERT INTO flat {FLAT} WHERE l.seq > (SELECT max(seq) FROM flat)");
        self.connection.execute(&sql, []).unwrap();
    }

    /// What a question that has just been answered was about: everything before its own entry, which follows its answer.
    pub fn before_look(&self, sees: &str) -> String {
        self.refresh();
        let newest = "SELECT max(seq) FROM flat WHERE kind = 'access'";
        let own: i64 = self.connection.query_row(newest, [], |row| row.get(0)).unwrap();
        format!("{sees} AND f.seq < {own}")
    }

    pub fn query<T: rusqlite::types::FromSql>(
        &self,
        what: &str,
        filters: &[(String, String)],
        rest: &str,
    ) -> Vec<T> {
        let (condition, values) = condition(filters);
        let sql = format!("SELECT {what} FROM flat f WHERE {condition} {rest}");
        let mut select = self.connection.prepare(&sql).unwrap();
        let rows = select.query_map(params_from_iter(values), |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    pub fn ids(&self, filters: &[(String, String)], rest: &str) -> Vec<String> {
        self.query("f.id", filters, rest)
    }

    /// How many match and are what `sees` says, a condition in SQL that begins with `AND`, or nothing.
    pub fn count(&self, filters: &[(String, String)], sees: &str) -> i64 {
        self.query("count(*)", filters, sees)[0]
    }
}

fn condition(filters: &[(String, String)]) -> (String, Vec<String>) {
    let mut by_name: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, value) in filters {
        by_name.entry(name).or_default().push(value);
    }
    let (mut all, mut values) = (vec!["1".to_owned()], Vec::new());
    for (name, wanted) in by_name {
        let mut any = Vec::new();
        for value in wanted {
            values.push(value.to_owned());
            any.push(match name {
                "since" => "f.occurred_at >= ?".to_owned(),
                "until" => "f.occurred_at < ?".to_owned(),
                "min_duration_ms" => "f.duration_us >= CAST(? AS REAL) * 1000".to_owned(),
                "agent" | "tool" => format!("f.{name} LIKE '%' || replace(?, '_', '\\_') || '%' ESCAPE '\\'"),
                "policy" => "EXISTS (SELECT 1 FROM policy p WHERE p.seq = f.seq AND p.id = ?)".to_owned(),
                "policy_version" => {
                    "EXISTS (SELECT 1 FROM policy p WHERE p.seq = f.seq AND p.version = ?)".to_owned()
                }
                "rule" => "EXISTS (SELECT 1 FROM rule r WHERE r.seq = f.seq AND r.rule = ?)".to_owned(),
                column => format!("f.{column} = ?"),
            });
        }
        all.push(format!("({})", any.join(" OR ")));
    }
    (all.join(" AND "), values)
}

/// One random filter, by its name.
fn filter(name: &str, dice: &mut Dice, oracle: &Oracle) -> String {
    let of = |column: &str, dice: &mut Dice| -> String {
        let seq = dice.below(*ENTRIES * 9 / 10);
        let sql = format!("SELECT {column} FROM flat WHERE seq >= ? AND {column} IS NOT NULL LIMIT 1");
        oracle.connection.query_row(&sql, [seq.cast_signed()], |row| row.get(0)).unwrap()
    };
    match name {
        "decision" => (*dice.pick(&["allow", "deny", "require_approval", "partial"])).into(),
        "kind" => (*dice.pick(&["decision", "outcome", "access", "start", "hold"])).into(),
        "event_type" => {
            (*dice.pick(&["tools.call", "resources.read", "ledger.read", "nothing.like.it"])).into()
        }
        "status" => (*dice.pick(&["complete", "error", "timeout"])).into(),
        "outcome" => {
            (*dice.pick(&["success", "denied", "error", "pending_approval", "disconnected", "unknown"]))
                .into()
        }
        "agent" => (*dice.pick(&["Agent-1", "gent-7", "AGENT", "nobody"])).into(),
        "tool" => (*dice.pick(&["delete", "_1", "Read_2", "write_24", "zzz"])).into(),
        "rule" => (*dice.pick(&["no_delete", "say \"no\"", "é", "harmless", "none"])).into(),
        "policy" => format!("p.{}", dice.below(18)),
        "policy_version" => version(dice.below(6)),
        "min_duration_ms" => dice.below(3_200).to_string(),
        "since" | "until" => {
            rfc3339(START_MS + i64::try_from(dice.below(*ENTRIES * 5 / 8 * STEP_MS)).unwrap())
        }
        column => of(column, dice),
    }
}

const NAMES: [&str; 25] = [
    "request_id",
    "id",
    "call_id",
    "kind",
    "event_type",
    "decision",
    "status",
    "outcome",
    "subject",
    "agent",
    "user",
    "team",
    "zone",
    "server",
    "tool",
    "action",
    "policy",
    "policy_version",
    "manifest_sha",
    "rule",
    "classification",
    "mode",
    "min_duration_ms",
    "since",
    "until",
];

pub fn random_filters(number: u64, oracle: &Oracle) -> Vec<(String, String)> {
    let mut dice = Dice(number.wrapping_mul(7_919));
    // The first ones are each filter alone.
    if let Some(name) = NAMES.get(usize::try_from(number).unwrap()) {
        return vec![((*name).to_owned(), filter(name, &mut dice, oracle))];
    }
    let mut filters: Vec<(String, String)> = Vec::new();
    for _ in 0..dice.below(4) {
        // Those that leave one entry were tried alone.
        let name = NAMES[3 + usize::try_from(dice.below(NAMES.len() as u64 - 3)).unwrap()];
        let single = ["since", "until", "min_duration_ms"].contains(&name);
        if !filters.iter().any(|(known, _)| known == name) {
            for _ in 0..if single { 1 } else { 1 + dice.below(6) / 5 } {
                filters.push((name.to_owned(), filter(name, &mut dice, oracle)));
            }
        }
    }
    // A time that ends before it begins is refused.
    let place = |name: &str| filters.iter().position(|(known, _)| known == name);
    if let (Some(since), Some(until)) = (place("since"), place("until"))
        && filters[since].1 > filters[until].1
    {
        let earlier = std::mem::take(&mut filters[until].1);
        filters[until].1 = std::mem::replace(&mut filters[since].1, earlier);
    }
    filters
}

/// As a query string.
pub fn query(filters: &[(String, String)]) -> String {
    let encode = |text: &str| docket::text::percent_encoded(text, b"");
    filters.iter().map(|(name, value)| format!("{name}={}&", encode(value))).collect()
}

fn ids(answer: &Value) -> Vec<String> {
    answer["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Who asks, and what of the ledger is theirs: a condition in SQL that begins with `AND`, or nothing.
pub struct Viewer {
    pub token: String,
    pub sees: String,
}

impl Viewer {
    /// Somebody who sees everything.
    pub fn admin(docket: &Docket) -> Self {
        Self { token: docket.token.clone(), sees: String::new() }
    }

    /// Whoever comes for the first time today has an entry of their own, which is there after this.
    pub async fn arrive(&self, docket: &Docket) {
        self.get(docket, "/v1/audit?limit=1").await;
    }

    /// What they are told.
    pub async fn get(&self, docket: &Docket, path: &str) -> Value {
        let (status, text) = docket.get_as(&self.token, path).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}

/// Lists by cursor and by page, in a random order and page size.
pub async fn compare_lists(docket: &Docket, oracle: &Oracle, viewer: &Viewer, number: u64) {
    let filters = random_filters(number, oracle);
    viewer.arrive(docket).await;
    let mut dice = Dice(number ^ 0xabcd);
    let (order, sort, beyond) = *dice.pick(&[("desc", "DESC", "<"), ("asc", "ASC", ">")]);
    let size = *dice.pick(&[1, 7, 100, 1_000]);
    let mut path = format!("/v1/audit?{}order={order}&limit={size}", query(&filters));
    let mut after = String::new();
    for page in 0..3 {
        let answer = viewer.get(docket, &path).await;
        let sees = &oracle.before_look(&viewer.sees);
        let expected = oracle.ids(&filters, &format!("{sees} {after} ORDER BY f.seq {sort} LIMIT {size}"));
        assert_eq!(ids(&answer), expected, "page {page} of {path}");
        assert_eq!(answer["pagination"]["totalEntries"], oracle.count(&filters, sees), "{path}");
        let Some(cursor) = answer["pagination"]["nextCursor"].as_str() else {
            assert!(expected.len() <= size, "{path}");
            break;
        };
        let last = answer["entries"].as_array().unwrap().last().unwrap()["seq"].as_i64().unwrap();
        after = format!("AND f.seq {beyond} {last}");
        path = format!("/v1/audit?{}limit={size}&cursor={cursor}", query(&filters));
    }
    let total = oracle.count(&filters, &oracle.before_look(&viewer.sees)).unsigned_abs();
    let pages = total.div_ceil(size as u64).max(1);
    let page = 1 + dice.below(pages + 1);
    let path = format!("/v1/audit?{}order=asc&pageSize={size}&page={page}", query(&filters));
    let answer = viewer.get(docket, &path).await;
    let sees = oracle.before_look(&viewer.sees);
    let rest = format!("{sees} ORDER BY f.seq LIMIT {size} OFFSET {}", (page - 1) * size as u64);
    assert_eq!(ids(&answer), oracle.ids(&filters, &rest), "{path}");
}

/// Takes out everything that matches and is somebody's to see, in a format.
pub async fn compare_exports(docket: &Docket, oracle: &Oracle, viewer: &Viewer, number: u64) {
    let filters = random_filters(number, oracle);
    let format = ["json", "jsonl", "csv", "opa"][usize::try_from(number % 4).unwrap()];
    let path = format!("/v1/audit/export?{}format={format}&order=asc&limit=5000&offset=3", query(&filters));
    let url = format!("{}{path}", docket.admin);
    let response = docket.client.get(url).bearer_auth(&viewer.token).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    let disposition = response.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert!(disposition.starts_with("attachment; filename=\"docket-2"), "{disposition}");
    let bytes = response.bytes().await.unwrap();
    let mut expected = filters.clone();
    if format == "opa" {
        expected.push(("kind".into(), "decision".into()));
        if filters.iter().any(|(name, value)| name == "kind" && value != "decision") {
            expected = vec![("id".into(), "none".into())];
        }
    }
    let found: Vec<String> = match format {
        "json" => {
            let entries: Vec<Value> = serde_json::from_slice(&bytes).unwrap();
            entries.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect()
        }
        "jsonl" => std::str::from_utf8(&bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
            .collect(),
        "csv" => {
            let rows = csv_rows(std::str::from_utf8(&bytes).unwrap());
            assert!(rows.iter().all(|row| row.len() == docket::api::export::COLUMNS.len()), "{path}");
            rows.into_iter().skip(1).map(|mut row| row.remove(0)).collect()
        }
        _ => {
            let mut text = String::new();
            flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
            let events: Vec<Value> = serde_json::from_str(&text).unwrap();
            events.iter().map(|event| event["custom"]["id"].as_str().unwrap().to_owned()).collect()
        }
    };
    // The export's own entry, and all that came before it, are in it if they match.
    let completed = docket.wait_for(|entry| entry["event_type"] == "export.completed").await;
    oracle.refresh();
    let requested: i64 = oracle
        .connection
        .query_row("SELECT max(seq) FROM flat WHERE event_type = 'export.requested'", [], |row| row.get(0))
        .unwrap();
    let rest = format!("{} AND f.seq <= {requested} ORDER BY f.seq LIMIT 5000 OFFSET 3", viewer.sees);
    assert_eq!(found, oracle.ids(&expected, &rest), "{path} {}", viewer.sees);
    assert_eq!(completed["metadata"]["bytes"], bytes.len());
    assert_eq!(completed["metadata"]["rows"], found.len());
    let digest = docket::digest::sha256(&bytes);
    assert_eq!(format!("sha256:{}", completed["metadata"]["sha256"].as_str().unwrap()), digest, "{path}");
}

/// RFC 4180, read by hand.
fn csv_rows(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        match char {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted && rest.peek() == Some(&'\n') => {
                rest.next();
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            char => cell.push(char),
        }
    }
    assert!(row.is_empty() && cell.is_empty(), "the last row ends as the others do");
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_find_exactly_what_is_there() {
    let folder = folder_with("", POLICY);
    let path = folder.path().join("docket.db");
    let began = Instant::now();
    let phase = |name: &str| println!("{name}: {:.1} s", began.elapsed().as_secs_f64());
    fill(&path, *ENTRIES).await;
    phase("filled");
    let docket = Docket::in_folder(folder).await;
    let oracle = Oracle::of(&path);
    let admin = Viewer::admin(&docket);
    phase("laid out");
    for number in 0..30 {
        compare_lists(&docket, &oracle, &admin, number).await;
    }
    phase("compared");
    rolled_up(&oracle.connection).await;
    assert!(blocks(&oracle.connection).0 >= i64::try_from(*ENTRIES / 4_096 - 1).unwrap());
    phase("rolled up");
    for number in 0..150 {
        compare_lists(&docket, &oracle, &admin, number).await;
    }
    phase("lists");
    for number in 0..40 {
        compare_exports(&docket, &oracle, &admin, number).await;
        if number % 5 == 0 {
            compare_sums(&docket, &oracle, &admin, number).await;
        }
    }
    phase("exports and sums");
    // What was removed a moment ago is found by nothing it held, and what is left is.
    let body = json!({"subject": "subject-3", "reason": "asked for"});
    let url = format!("{}/v1/ledger/erase", docket.admin);
    let erased = docket.client.post(url).bearer_auth(&docket.token).json(&body).send().await.unwrap();
    let status = erased.status();
    let said = erased.text().await.unwrap();
    assert_eq!(status, 200, "{said}");
    phase("erased");
    oracle.rebuild();
    assert_eq!(oracle.count(&[("subject".into(), "subject-3".into())], ""), 0);
    for number in 25..55 {
        compare_lists(&docket, &oracle, &admin, number).await;
        if number % 10 == 0 {
            compare_sums(&docket, &oracle, &admin, number).await;
        }
    }
    rolled_up(&oracle.connection).await;
    for number in 0..20 {
        compare_lists(&docket, &oracle, &admin, number).await;
        if number % 10 == 0 {
            compare_sums(&docket, &oracle, &admin, number).await;
        }
    }
    phase("compared again");
    docket.stop().await;
}
