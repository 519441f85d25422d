//! What redaction costs: `cargo bench --bench redaction`, or with `--profile ci` to measure what the tests run.
//!
//! Prints medians, in microseconds for one record of 2 KiB, beside copying its bytes and parsing them. Nothing here fails:
//! the machine decides how fast it is.

use std::hint::black_box;
use std::time::{Duration, Instant};

use docket::redact::hooks::{Bounds, HookSpec, Hooks, Host, OnFailure, Wasi};
use docket::redact::{HashKey, PersonalData, Redactor, Settings, Treatment};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 60;
const RECORDS_A_ROUND: usize = 500;

type Roots = Vec<(&'static str, Value)>;

/// The record of an ordinary call: rows of a search, as an agent sends them on.
fn clean() -> Roots {
    let row = |n: u32| {
        json!({"path": format!("/srv/projects/acme/src/module_{n}.rs"), "line": n, "kind": "function",
            "summary": "reads the manifest, checks each entry and reports what does not match the lock file"})
    };
    vec![
        ("action", json!({"name": "tools/call"})),
        (
            "subject",
            json!({"type": "identity", "id": "billing-bot", "properties": {"agent": "billing-bot", "user": "alice",
                "team": "finance", "zone": "default", "roles": ["agent"], "claims": {}, "verified": true}}),
        ),
        (
            "resource",
            json!({"type": "tool", "id": "search_files", "properties": {"server": "filesystem", "annotations": {},
                "definition_sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}),
        ),
        (
            "context",
            json!({"arguments": {"query": "fn main", "rows": (0..7).map(row).collect::<Vec<_>>()},
                "request_id": "01JABCDEFGHJKMNPQRSTVWXYZ0", "time": "2026-11-20T07:00:00.000Z", "peer": "127.0.0.1:53122",
                "protocol": "mcp/2025-11-25", "client": {"name": "claude-code", "version": "2.1"}}),
        ),
        (
            "determining_policies",
            json!([{"policy_id": "files.read", "policy_version": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "title": "Reading files", "decision": "allow"}]),
        ),
        (
            "diagnostics",
            json!([{"policy_id": "files.read", "effect": "allow", "rule": "workspace", "message": "reading below /srv is fine"}]),
        ),
        (
            "metadata",
            json!({"agent": "billing-bot", "peer": "127.0.0.1:53122", "user_agent": "claude-code/2.1", "server": "filesystem"}),
        ),
    ]
}

/// The same with a password that a message quotes.
fn leaky() -> Roots {
    let mut roots = clean();
    roots.push(("more", json!({"password": "swordfish-77", "note": "swordfish-77 is bad"})));
    roots
}

/// The same with things that personal-data rules look at.
fn personal() -> Roots {
    let mut roots = clean();
    roots.push((
        "more",
        json!({"to": "alice@acme.example", "card": "4111 1111 1111 1111", "order": 1_234_567}),
    ));
    roots
}

/// The built-in rules with the example hook in C after them.
fn hooked() -> Result<Redactor, String> {
    let spec = HookSpec {
        name: "cards".into(),
        component: concat!(env!("CARGO_MANIFEST_DIR"), "/examples/redactors/c/redactor.wasm").into(),
        settings: "{}".into(),
        on_failure: OnFailure::Withhold,
        bounds: Bounds { deadline: Duration::from_millis(200), max_memory_bytes: 16 << 20 },
        log: true,
        wasi: Wasi::Deny,
        unhealthy_after: 3,
    };
    let loaded = Host::default().load(&spec, None).map_err(|error| error.to_string())?;
    Ok(Redactor::builtin().with_hooks(Hooks::new(vec![(spec, loaded)], Box::new(|_| {}))))
}

fn main() {
    let key = HashKey::new(&[7; 32]);
    let on = PersonalData {
        email: Treatment::Hash,
        phone: Treatment::Mask,
        payment_card: Treatment::Mask,
        iban: Treatment::Mask,
        national_id: Treatment::Mask,
    };
    let with_personal = Settings { personal_data: on, ..Settings::default() };
    let (builtin, personal_too) =
        (Redactor::new(&Settings::default(), key.clone()), Redactor::new(&with_personal, key));
    let bytes = serde_json::to_vec(&clean()).unwrap_or_default();
    println!("a record of {} bytes, µs each (median of {ROUNDS} rounds)", bytes.len());
    let records = |name: &str, redactor: &Redactor, make: fn() -> Roots| {
        let rounds = (0..ROUNDS).map(|_| {
            let records: Vec<Roots> = (0..RECORDS_A_ROUND).map(|_| make()).collect();
            let started = Instant::now();
            // What is dropped here, its caller would drop later: it is kept until the clock has stopped.
            let done: Vec<_> = records.into_iter().map(|roots| redactor.record(roots)).collect();
            let seconds = started.elapsed().as_secs_f64();
            drop(black_box(done));
            seconds
        });
        report(name, rounds.collect());
    };
    records("built-in rules, clean record", &builtin, clean);
    records("built-in rules, a password that is quoted", &builtin, leaky);
    records("and personal data, clean record", &personal_too, clean);
    records("and personal data, an address and a card", &personal_too, personal);
    match hooked() {
        Ok(redactor) => records("built-in rules and one native hook (C), clean record", &redactor, clean),
        Err(error) => println!("no hook: {error}"),
    }
    let each = |name: &str, work: &dyn Fn()| {
        let rounds = (0..ROUNDS).map(|_| {
            let started = Instant::now();
            (0..RECORDS_A_ROUND).for_each(|_| work());
            started.elapsed().as_secs_f64()
        });
        report(name, rounds.collect());
    };
    let mut copy = vec![0_u8; bytes.len()];
    let target = std::cell::RefCell::new(&mut copy);
    each("memcpy of its JSON", &|| target.borrow_mut().copy_from_slice(black_box(&bytes)));
    each("serde_json parse of its JSON", &|| {
        drop(black_box(serde_json::from_slice::<Value>(black_box(&bytes))))
    });
}

fn report(name: &str, mut seconds: Vec<f64>) {
    seconds.sort_by(f64::total_cmp);
    let median = seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN);
    println!("{:>9.3}  {name}", median * 1e6 / RECORDS_A_ROUND as f64);
}
