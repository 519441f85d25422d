//! Copying a ledger while a docket writes to it: SQLite's online backup, verified before it gets its name.
//!
//! The copy is the ledger of one moment. It is made under a temporary name, verified entry by entry, and only then put in
//! place: a file that carries the name asked for is complete, sound and on disk. The signing key is not copied: a copy is for
//! reading and verifying, and whoever restores it brings the key from where keys are kept.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::verify::{self, Options, Report};
use super::{LedgerError, Readable, schema};
use crate::files::{self, OWNER_ONLY, beside};
use crate::tlog::VerifierKey;

/// Pages copied between two calls of the progress function: 4 MiB.
const PAGES_PER_STEP: i32 = 1_024;

/// How long to wait for a lock that somebody holds for a moment.
const PAUSE: Duration = Duration::from_millis(20);

/// What the progress function is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Pages are being copied.
    Copying,
    /// Entries of the copy are being verified.
    Verifying,
}

/// How a backup went.
#[derive(Debug)]
pub struct Outcome {
    /// Bytes of the copy.
    pub bytes: u64,
    /// What verifying the copy found. The copy got its name only where everything holds.
    pub report: Report,
}

/// Copies `ledger` to `file`, verifies the copy with `key` as of `now_ms` and gives it its name. `progress` is told how far it
/// is.
///
/// # Errors
/// The ledger cannot be read, `file` exists and `replace` is false, `file` is in use, or it cannot be written. Nothing stands
/// under its name then that did not before.
pub fn backup(
    ledger: &Path,
    file: &Path,
    replace: bool,
    key: &VerifierKey,
    now_ms: i64,
    progress: &mut dyn FnMut(Phase, u64, u64),
) -> Result<Outcome, LedgerError> {
    may_write(ledger, file, replace)?;
    // Nobody else's file has this name; where one has, it stays.
    let name = beside(file, &format!(".unfinished-{}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&name);
    made.map_err(|error| LedgerError::open(&name, format!("it cannot be made: {error}")))?;
    let copy = Temporary::at(name);
    let written =
        |error: std::io::Error| LedgerError::open(&copy.0, format!("it cannot be written: {error}"));
    let (source, _) = schema::open_any(ledger)?;
    copy_pages(ledger, &source, &copy.0, progress)?;
    let options = Options { key: key.clone(), old_checkpoint: None, since_ms: None, now_ms };
    // A copy is of the schema of its ledger.
    let readable = Readable::open(&copy.0, &mut |_, _| ())?;
    let report = verify::ledger(readable.path(), &options, &mut |done, total| {
        progress(Phase::Verifying, done, total);
    })?;
    let bytes = std::fs::metadata(&copy.0).map_err(written)?.len();
    if report.ok {
        files::put_in_place(&copy.0, file).map_err(written)?;
    }
    Ok(Outcome { bytes, report })
}

/// Refuses what would overwrite something that is wanted.
fn may_write(ledger: &Path, file: &Path, replace: bool) -> Result<(), LedgerError> {
    let refuse = |reason: &str| Err(LedgerError::open(file, reason.into()));
    let there = schema::file_identity(file);
    if there.is_some() && there == schema::file_identity(ledger) {
        return refuse("it is the ledger itself; name another file for its copy");
    }
    // A database that is put in place under another's log would be read with that log.
    if beside(file, "-wal").exists() || beside(file, "-journal").exists() {
        return refuse("it is a database in use (a log lies beside it); name another file");
    }
    if there.is_some() && !replace {
        return refuse("it exists already; `--force` replaces it");
    }
    // A log, a key or a token is not what somebody means to replace by a copy, even beside another name.
    if there.is_some() && !is_database(file) {
        return refuse("it exists and is no SQLite database; `--force` replaces an older copy only");
    }
    Ok(())
}

/// Whether a file begins as every SQLite database does.
fn is_database(file: &Path) -> bool {
    let mut head = [0; 16];
    let read = std::fs::File::open(file).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head == *b"SQLite format 3\0"
}

/// Copies the `ledger` that `source` reads, as it is at one moment, into one file.
pub(super) fn copy_pages(
    ledger: &Path,
    source: &Connection,
    copy: &Path,
    progress: &mut dyn FnMut(Phase, u64, u64),
) -> Result<(), LedgerError> {
    let unreadable = |error: rusqlite::Error| LedgerError::open(ledger, schema::explain(&error));
    let unwritable = |error: rusqlite::Error| LedgerError::open(copy, schema::explain(&error));
    // One moment of the ledger: without it every commit of a running docket would begin the copy anew.
    let snapshot = source.unchecked_transaction().map_err(unreadable)?;
    snapshot.query_row("SELECT max(seq) FROM leaves", [], |_| Ok(())).map_err(unreadable)?;
    let mut target = Connection::open(copy).map_err(unwritable)?;
    // The copy is synced as a whole before it gets its name.
    target.pragma_update(None, "synchronous", "FULL").map_err(unwritable)?;
    {
        let backup = Backup::new(&snapshot, &mut target).map_err(unwritable)?;
        loop {
            let step = backup.step(PAGES_PER_STEP).map_err(unwritable)?;
            let pages = backup.progress();
            let count = |pages: i32| u64::try_from(pages).unwrap_or(0);
            let total = count(pages.pagecount);
            progress(Phase::Copying, total.saturating_sub(count(pages.remaining)), total);
            match step {
                StepResult::Done => break,
                StepResult::Busy | StepResult::Locked => std::thread::sleep(PAUSE),
                _ => {}
            }
        }
    }
    // One file, and nothing beside it: docket puts the log back when it opens the file to write.
    target.pragma_update(None, "journal_mode", "DELETE").map_err(unwritable)?;
    target.close().map_err(|(_, error)| unwritable(error))
}

/// A copy that is removed, with what SQLite put beside it, when dropped; unless it has got another name by then.
pub(super) struct Temporary(PathBuf);

impl Temporary {
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            // What is not there need not be removed, and what cannot be is only in the way.
            let _ = std::fs::remove_file(beside(&self.0, suffix));
        }
    }
}
