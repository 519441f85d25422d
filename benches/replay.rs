//! How fast recorded traffic is replayed: the benchmark's 256 calls, recorded again and again, against its own policy.
//!
//! `cargo bench --bench replay` (needs python3 and the `../shared` folder, or `DOCKET_SHARED`). Prints calls a second of wall
//! time and of processor time, which is what one core does.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on should stop where it is")]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use docket::call::{Call, Caller, RequestId};
use docket::cli;
use docket::config::{Flags, Raw};
use docket::gate::{Arrival, Gate};
use docket::ledger::{Filter, Reader};
use docket::policy::{Limits, PolicySet, Source};
use docket::replay::{Event, Traffic};

/// Calls on record.
const CALLS: usize = 60_000;
/// Calls under way while they are recorded.
const AT_ONCE: usize = 64;
/// Clock ticks a second, as Linux reports processor time.
const TICKS: f64 = 100.0;

fn main() {
    let shared = std::env::var_os("DOCKET_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let load = shared.join("peers/load");
    let folder = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("python3").arg(load.join("gen.py")).arg(folder.path()).output();
    let text = std::fs::read_to_string(folder.path().join("authzen.jsonl"));
    let (Ok(_), Ok(text)) = (made, text) else {
        println!("replay: skipped, {} cannot be used", load.display());
        return;
    };
    let calls: Vec<Call> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ledger = folder.path().join("docket.db");
    record(&load.join("policies"), &ledger, &calls);
    let source = Source::read(&load.join("policies")).unwrap();
    let Ok(candidate) = PolicySet::compile(source, Limits::default()) else { return };
    let reader = Reader::new(ledger.as_path().into());
    for threads in [1, 2] {
        let threads = NonZeroUsize::new(threads).unwrap();
        let filter = Filter::default();
        let traffic = Traffic { reader: &reader, filter, newest: None, threads };
        let (started, before) = (Instant::now(), processor_seconds());
        let totals = traffic.replay(&candidate, |_: Event<'_>| true).unwrap();
        let (wall, cpu) = (started.elapsed().as_secs_f64(), processor_seconds() - before);
        assert_eq!((totals.replayed, totals.flips), (CALLS as u64, 0));
        println!(
            "replay: {CALLS} calls, {threads} thread(s): {:.0} calls/s, {:.0} calls/s of processor time",
            CALLS as f64 / wall,
            CALLS as f64 / cpu
        );
    }
}

/// Records the calls in turn, as a docket under load does.
fn record(policies: &Path, ledger: &Path, calls: &[Call]) {
    let toml = format!(
        "data.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\nledger.path = {ledger:?}\npolicy.path = {policies:?}\n"
    );
    let file = ledger.with_extension("toml");
    std::fs::write(&file, toml).unwrap();
    let config = Raw::read(Some(&file), &Flags::default()).unwrap().validate().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let running = cli::start(config, cli::system_clock()).await.unwrap();
        let mut under_way = tokio::task::JoinSet::new();
        for call in calls.iter().cycle().take(CALLS) {
            if under_way.len() >= AT_ONCE {
                under_way.join_next().await;
            }
            under_way.spawn(decide(running.gate().clone(), call.clone()));
        }
        under_way.join_all().await;
        running.stop().await;
    });
}

async fn decide(gate: Arc<Gate>, call: Call) {
    let call_id = gate.clock.ulid();
    let time_ns = (gate.clock.now_ms)() * 1_000_000;
    let arrival = Arrival {
        request: Ok(call),
        event_type: "access.evaluation".into(),
        request_id: RequestId::from_ulid(call_id),
        moment: docket::call::Moment { call_id, time_ns },
        started: Instant::now(),
        caller: Arc::new(Caller::anonymous()),
        peer: ([127, 0, 0, 1], 1).into(),
        user_agent: None,
        target: None,
    };
    gate.decide(arrival).await.unwrap();
}

/// User and system time of this process so far.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let field = |number: usize| after_name.split_whitespace().nth(number).unwrap().parse::<f64>().unwrap();
    (field(11) + field(12)) / TICKS
}
