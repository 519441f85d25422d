//! What deciding costs: `cargo bench --bench policies`, or with `--profile ci` to measure what the tests run.
//!
//! Prints medians, in microseconds a decision, and how they compare. Nothing here fails: the machine decides how fast it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use docket::call::{Call, Moment};
use docket::policy::{Limits, PolicySet, Source, SourceFile};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn moment() -> Moment {
    Moment { call_id: ulid::Ulid::from(7u128), time_ns: 1_767_225_600_000_000_000 }
}

/// The median time of one decision for each set, in rounds of all calls that take turns for about a second each, so that
/// all meet the same machine.
fn medians_us<const N: usize>(sets: [&PolicySet; N], calls: &[Call]) -> [f64; N] {
    let moment = moment();
    let until = Instant::now() + Duration::from_secs(N as u64);
    let mut rounds = [(); N].map(|()| Vec::new());
    while Instant::now() < until {
        for (set, rounds) in sets.iter().zip(&mut rounds) {
            let started = Instant::now();
            for call in calls {
                std::hint::black_box(set.decide(call, &moment));
            }
            rounds.push(started.elapsed().as_secs_f64() * 1e6 / calls.len() as f64);
        }
    }
    rounds.map(|mut rounds| {
        rounds.sort_by(f64::total_cmp);
        rounds.get(rounds.len() / 2).copied().unwrap_or(f64::NAN)
    })
}

fn median_us(set: &PolicySet, calls: &[Call]) -> f64 {
    let [median] = medians_us([set], calls);
    median
}

fn compile(source: Source) -> Option<PolicySet> {
    match PolicySet::compile(source, Limits::default()) {
        Ok(set) => Some(set),
        Err(findings) => {
            findings.iter().for_each(|finding| eprintln!("{finding}"));
            None
        }
    }
}

fn call(kind: &str, action: &str, id: &str, server: &str, arguments: serde_json::Value) -> Option<Call> {
    serde_json::from_value(json!({
        "subject": {"type": "identity", "id": "bot", "properties": {"agent": "bot", "roles": ["agent"], "verified": true}},
        "action": {"name": action},
        "resource": {"type": kind, "id": id, "properties": {"server": server, "annotations": {}}},
        "context": {"arguments": arguments, "agent": "bot", "request_id": "r", "time": "2026-01-01T00:00:00Z",
                    "protocol": "mcp/2025-11-25", "approval": null},
    }))
    .ok()
}

/// The side-by-side benchmark's policies over its 256 calls.
fn bench_policy() {
    let shared = std::env::var_os("DOCKET_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let load = shared.join("peers/load");
    let Ok(out) = tempfile::tempdir() else { return };
    let made = std::process::Command::new("python3").arg(load.join("gen.py")).arg(out.path()).output();
    let text = std::fs::read_to_string(out.path().join("authzen.jsonl"));
    let (Ok(_), Ok(text), Ok(source)) = (made, text, Source::read(&load.join("policies"))) else {
        println!("bench policy: skipped, {} cannot be used", load.display());
        return;
    };
    let calls: Vec<Call> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let Some(set) = compile(source) else { return };
    println!("bench policy: {:.1} us a decision over {} calls", median_us(&set, &calls), calls.len());
}

/// Three policies that apply, by themselves and among a thousand.
fn many_policies() {
    let policy = |n: usize| {
        SourceFile {
        path: format!("p{n}.rego"),
        bytes: format!(
            "# METADATA\n# custom:\n#   targets: {{tools: [\"tool_{}\", \"t{}_*\"]}}\npackage p{n}\nallow if input.context.arguments.n == {n}\ndeny contains \"no\" if input.context.arguments.n < 0\n",
            n / 3,
            n / 3
        )
        .into_bytes(),
    }
    };
    let set = |count: usize| {
        compile(Source {
            id: "many".into(),
            revision: None,
            files: (0..count).map(policy).collect(),
            entrypoint: None,
        })
    };
    let calls: Vec<Call> =
        (0..64).filter_map(|n| call("tool", "tools/call", "tool_0", "fs", json!({"n": n % 4}))).collect();
    let (Some(few), Some(many)) = (set(3), set(1_000)) else { return };
    let [few, many] = medians_us([&few, &many], &calls);
    println!("3 policies: {few:.1} us; 1,000 of which 3 apply: {many:.1} us; ratio {:.2}", many / few);
}

/// Everyday calls under the starter policies.
fn starter_set() {
    let Ok(source) = Source::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")) else { return };
    let Some(set) = compile(source) else { return };
    let calls = BTreeMap::from([
        (
            "read_file",
            call("tool", "tools/call", "read_file", "filesystem", json!({"path": "/workspace/src/main.rs"})),
        ),
        (
            "shell command",
            call("tool", "tools/call", "run_command", "shell", json!({"command": "ls -la /workspace"})),
        ),
        ("fetch", call("tool", "tools/call", "fetch", "web", json!({"url": "https://docs.rs/serde/latest"}))),
        ("echo", call("tool", "tools/call", "echo", "everything", json!({"message": "hello there"}))),
        ("initialize", call("mcp_server", "initialize", "filesystem", "filesystem", json!({}))),
    ]);
    for (name, call) in calls {
        let Some(call) = call else { continue };
        let effect = set.decide(&call, &moment()).effect;
        println!("starter set, {name}: {:.0} us ({})", median_us(&set, &[call]), effect.as_str());
    }
}

fn main() {
    starter_set();
    bench_policy();
    many_policies();
}
