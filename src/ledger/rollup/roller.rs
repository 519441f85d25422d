//! The thread that rolls up: it reads on a connection of its own, and hands each block to the writer.
//!
//! It works while nobody waits: after each block it rests a multiple of the time the block took, so that it never has more than
//! a fifth of a core, and a ledger from before rollups is caught up with beside its traffic.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::{BLOCK_SEQS, roll};
use crate::ledger::schema;
use crate::ledger::writer::Job;

/// How often it looks whether a block is full, in milliseconds.
const LOOK_MS: u64 = 200;

/// So many times as long as a block took, it rests while calls are under way.
const REST: u32 = 4;

/// A handle to the thread.
#[derive(Clone)]
pub(in crate::ledger) struct Roller {
    stopping: Arc<AtomicBool>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Roller {
    /// Starts it. It ends when it is told to, or with the writer.
    pub fn start(
        path: &Path,
        jobs: mpsc::WeakSender<Job>,
        head: watch::Receiver<i64>,
        calls_in_flight: Arc<AtomicUsize>,
    ) -> std::io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let work = Work { path: path.to_owned(), jobs, head, calls_in_flight, stopping: stopping.clone() };
        let thread = std::thread::Builder::new().name("rollup".into()).spawn(move || work.run())?;
        Ok(Self { stopping, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Ends it, and waits until it has: its connection must not be in the way of the writer's last act. Blocks for as long as a
    /// block takes.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            thread.thread().unpark();
            // What it died of was said when it did.
            let _ = thread.join();
        }
    }
}

struct Work {
    path: PathBuf,
    jobs: mpsc::WeakSender<Job>,
    head: watch::Receiver<i64>,
    calls_in_flight: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
}

impl Work {
    fn run(mut self) {
        let mut looked_at = -1;
        while !self.stopping.load(Ordering::Relaxed) && self.head.has_changed().is_ok() {
            let newest = *self.head.borrow_and_update();
            if newest != looked_at && newest + 1 >= BLOCK_SEQS {
                match self.catch_up(newest) {
                    Ok(true) => looked_at = newest,
                    // Nobody will take blocks any more.
                    Ok(false) => return,
                    Err(error) => {
                        tracing::warn!(error = %error, "entries could not be rolled up; reading them takes longer");
                    }
                }
            }
            std::thread::park_timeout(Duration::from_millis(LOOK_MS));
        }
    }

    /// Rolls up every block that can be; `false` where it is to end.
    fn catch_up(&self, newest: i64) -> Result<bool, String> {
        let connection = schema::open_reader(&self.path).map_err(|error| error.to_string())?;
        let fail = |error: rusqlite::Error| schema::explain(&error);
        for number in missing(&connection, newest).map_err(fail)? {
            let began = Instant::now();
            let rolled = roll(&connection, number).map_err(fail)?;
            if let Some(rolled) = rolled {
                let Some(jobs) = self.jobs.upgrade() else { return Ok(false) };
                let (reply, answer) = oneshot::channel();
                if jobs.blocking_send(Job::Roll(Box::new(rolled), reply)).is_err() {
                    return Ok(false);
                }
                drop(jobs);
                if answer.blocking_recv().is_err() {
                    return Ok(false);
                }
            }
            if self.stopping.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if self.calls_in_flight.load(Ordering::Relaxed) > 0 {
                std::thread::park_timeout(began.elapsed() * REST);
            }
        }
        Ok(true)
    }
}

/// Full blocks that are not stored, or not as this docket does it, or say what is not true of their payloads any more; the newest
/// first: that is where people look.
fn missing(connection: &Connection, newest: i64) -> rusqlite::Result<Vec<i64>> {
    let full = (newest + 1) / BLOCK_SEQS;
    let mut select = connection.prepare(
        "SELECT b.block FROM op_rollup_blocks b WHERE b.gone IS NULL \
         AND b.block IN (SELECT block FROM op_rollup_decisions)",
    )?;
    let stored = select
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<std::collections::HashSet<i64>>>()?;
    Ok((0..full).rev().filter(|number| !stored.contains(number)).collect())
}
