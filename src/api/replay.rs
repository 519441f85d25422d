//! `POST /v1/replay`: recorded calls decided again, and which decisions flip. `POST /v1/cover`: the same calls, and how often
//! each rule fires. Nothing is recorded but the question.
//!
//! The body may have `"policies": {PATH: TEXT}` in place of the set in force (with its `"id"`, its `"revision"`, and its
//! `"entrypoint"` where one rule decides), the filters of `/v1/audit` (`request_id`, `decision`, `server`, `tool`, `agent`,
//! `since`, `until`), `"limit": N` for the newest only, and `"progress": true`. The answer is JSON Lines as it comes:
//! `{"type": "flip", …}` for each, with `{"type": "progress", "done", "of"}` between them where that was asked for, and
//! `{"type": "totals", …}` at the end; an answer without totals broke off, and says why in `{"type": "error", "message"}`
//! where it can.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;

use super::audit::{evaluated, unasked, unreadable};
use super::selection::Selection;
use super::simulate::{Inline, compile, invalid};
use crate::gate::Gate;
use crate::json;
use crate::ledger::filter::Scope;
use crate::ledger::{Filter, LedgerError};
use crate::policy::{Cover, PolicySet};
use crate::replay::{Event, Replayer, Traffic};
use crate::web::turns::{self, Lane, Work};
use crate::web::{Body, Visit};

/// Stands for why calls were skipped, where that may quote them.
const SKIPPED: &str = "they could not be evaluated again";
/// Lines waiting for a slow reader; replaying waits for it.
const MAX_LINES: usize = 64;
/// How many times as long as for a turn is waited until one more batch of calls is decided.
const WAITS_WITHOUT_A_CALL: u64 = 6;

/// The body: a candidate, and filters of `/v1/audit` as further members.
#[derive(Default, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ReplayWanted)]
#[serde(default)]
pub struct Wanted {
    /// The candidate's files by path; the set in force, where there are none.
    #[serde(skip_serializing)]
    policies: Option<BTreeMap<String, String>>,
    /// What the candidate is called.
    id: Option<String>,
    /// Its revision.
    revision: Option<String>,
    /// The rule that decides, where one does: `data.authz.decision`.
    entrypoint: Option<String>,
    #[serde(flatten)]
    #[schema(ignore)]
    selection: Selection,
    /// Only the newest calls, so many.
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 4_294_967_295_u64)]
    limit: Option<u32>,
    /// Whether progress is told.
    progress: bool,
}

/// What recorded calls are looked through for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which decisions flip.
    Flips,
    /// Which rules fire.
    Rules,
}

/// Answers `POST /v1/replay` and `POST /v1/cover`.
pub async fn answer(
    question: Question,
    gate: &Arc<Gate>,
    replayer: &Arc<Replayer>,
    body: &Bytes,
    visit: &Visit,
) -> Response<Body> {
    let wanted: Wanted = match json::parse_as(body) {
        Ok(wanted) => wanted,
        Err(error) => return invalid(format!("body cannot be used: {error}"), visit),
    };
    let asked = json!(wanted).to_string();
    let (newest, progress) = (wanted.limit, wanted.progress);
    let (filter, inline) = match read(wanted, (gate.clock.now_ms)()) {
        Ok((filter, inline)) => (Filter { scope: Scope::of_traffic(&visit.principal), ..filter }, inline),
        Err(detail) => return invalid(detail, visit),
    };
    let path = if question == Question::Flips { "/v1/replay" } else { "/v1/cover" };
    visit.look("ledger.replayed", path, &asked);
    let Some(turns) = &visit.turns else { return unreadable(&LedgerError::Closed, visit) };
    let places = if inline.is_some() { &replayer.candidates } else { &replayer.replays };
    let worker = match turns.place(places).await {
        Ok(worker) => worker,
        Err(error) => return unreadable(&unasked(error), visit),
    };
    let compiled = match inline {
        None => Ok(gate.policies.load_full()),
        Some(inline) => {
            let compiled = evaluated(Lane::Given, visit, move || compile(inline).map(Arc::new)).await;
            match compiled {
                Ok(compiled) => compiled,
                Err(error) => return unreadable(&error, visit),
            }
        }
    };
    let candidate: Arc<PolicySet> = match compiled {
        Ok(candidate) => candidate,
        Err(detail) => return invalid(detail, visit),
    };
    let silence_ms = turns.wait_ms().saturating_mul(WAITS_WITHOUT_A_CALL);
    let (lines, receiver) = overseen(silence_ms);
    let reader = replayer.reader().clone();
    // A candidate can put what it reads into the name of a rule.
    let shows_content = Scope::of(&visit.principal) == Scope::of_traffic(&visit.principal);
    let looking = visit.clone();
    let work = move || {
        let _worker = worker;
        // One thread: the rest of the machine is the data plane's.
        let threads = NonZeroUsize::MIN;
        let traffic = Traffic { reader: &reader, filter, newest, threads };
        let tell = |event: Event<'_>| match event {
            _ if looking.is_ended() => false,
            Event::Flip(flip) if shows_content => send(&lines, flip),
            Event::Flip(flip) => send(&lines, &flip.without_content()),
            Event::Progress(done, of) if progress => {
                send(&lines, &json!({"type": "progress", "done": done, "of": of}))
            }
            // Nothing is written of it: a sign of life.
            Event::Progress(..) => lines.blocking_send(Bytes::new()).is_ok(),
        };
        let told = |skipped: &mut BTreeMap<String, u64>| {
            if !shows_content && !skipped.is_empty() {
                // An error quotes what could not be evaluated.
                *skipped = BTreeMap::from([(SKIPPED.to_owned(), skipped.values().sum())]);
            }
        };
        let came_to = match question {
            Question::Flips => traffic.replay(&candidate, tell).map(|mut totals| {
                told(&mut totals.skipped);
                if !shows_content {
                    // They are the names of what callers sent.
                    totals.approximate_paths.clear();
                }
                json!(totals)
            }),
            Question::Rules => Cover::new(&candidate)
                .map_err(LedgerError::Unreadable)
                .and_then(|cover| traffic.cover(&cover, tell))
                .map(|mut covered| {
                    told(&mut covered.skipped);
                    json!(covered)
                }),
        };
        let failed = |why: String| json!({"type": "error", "message": why});
        let came_to = came_to.unwrap_or_else(|error| failed(error.to_string()));
        // It did not come to its end then, and has no totals.
        send(
            &lines,
            &if looking.is_ended() { failed("the token is no longer good".into()) } else { came_to },
        );
    };
    // It may be long, and is not to stand aside: evaluations are given a time on the clock.
    if let Err(error) = turns::beside("replays", Work::Brief, work) {
        return unreadable(&LedgerError::Unreadable(format!("no thread can be started: {error}")), visit);
    }
    let mut response = Response::new(Body::channel(receiver));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Where lines go, and where they come out again; an empty one is a sign of life and does not. Where neither comes for too long,
/// an evaluation does not end: the answer does then, and says so.
fn overseen(silence_ms: u64) -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
    let (lines, mut written) = mpsc::channel::<Bytes>(1);
    let (out, receiver) = mpsc::channel(MAX_LINES);
    tokio::spawn(async move {
        loop {
            let line = match tokio::time::timeout(Duration::from_millis(silence_ms), written.recv()).await {
                Ok(Some(line)) if line.is_empty() && !out.is_closed() => continue,
                Ok(Some(line)) => line,
                Ok(None) => return,
                Err(_) => {
                    let message =
                        format!("no more calls were decided for {silence_ms} ms: an evaluation does not end");
                    let told = json!({"type": "error", "message": message}).to_string() + "\n";
                    // Whoever asked may have gone.
                    let _ = out.send(told.into()).await;
                    return;
                }
            };
            if out.send(line).await.is_err() {
                return;
            }
        }
    });
    (lines, receiver)
}

/// Sends one line; `false` where the reader has gone.
fn send(lines: &mpsc::Sender<Bytes>, line: &impl Serialize) -> bool {
    let Ok(mut text) = serde_json::to_vec(line) else { return false };
    text.push(b'\n');
    lines.blocking_send(text.into()).is_ok()
}

fn read(wanted: Wanted, now_ms: i64) -> Result<(Filter, Option<Inline>), String> {
    if wanted.limit == Some(0) {
        return Err("`limit` must be greater than 0".into());
    }
    if wanted.entrypoint.is_some() && wanted.policies.is_none() {
        return Err("`entrypoint` goes with `policies`: the set in force has its own".into());
    }
    let filter = wanted.selection.filter(now_ms)?;
    let (id, revision, entrypoint) = (wanted.id, wanted.revision, wanted.entrypoint);
    Ok((filter, wanted.policies.map(|files| Inline { files, id, revision, entrypoint })))
}
