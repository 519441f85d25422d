//! The file: how it is locked, opened, migrated and prepared.
//!
//! One docket owns a ledger. The lock is on a file beside the database, so that readers and the `sqlite3` shell are never
//! kept out. Migrations are append-only SQL files; a file written by a newer docket is refused, not guessed at.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::LedgerError;
use crate::files::{self, OWNER_ONLY};
use crate::text::percent_encoded;

/// `PRAGMA application_id`: "dckt".
const APPLICATION_ID: i64 = 0x6463_6b74;

/// Every landed step, in order; step n brings the file to `user_version` n.
pub(super) const STEPS: [&str; 6] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
];

/// How long a statement waits for a lock that a `sqlite3` shell may hold, in milliseconds.
const BUSY_TIMEOUT_MS: u64 = 2_000;

/// Pages in the write-ahead log at which the writer copies the rest of it into the database itself, so that the log can
/// begin anew: 64 MiB. The checkpointer has copied most of it by then, so callers hardly wait.
const AUTOCHECKPOINT_PAGES: u32 = 16_384;

/// The mode bits that let somebody other than the owner read a file.
const READABLE_BY_OTHERS: u32 = 0o044;

/// Holds `<ledger>.lock` for as long as it lives. Whoever may open that file may lock it and so keep docket from starting:
/// it is its owner's alone, also where an earlier docket made it readable.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub fn take(ledger: &Path) -> Result<Self, LedgerError> {
        let path = files::beside(ledger, ".lock");
        let open = |error: std::io::Error| {
            LedgerError::open(ledger, format!("cannot lock `{}`: {error}", path.display()))
        };
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(OWNER_ONLY);
        let file = options.open(&path).map_err(open)?;
        // Only the owner may change the mode; where docket is not the owner, that is the operator's arrangement.
        let _ = file.set_permissions(Permissions::from_mode(OWNER_ONLY));
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LedgerError::open(
                ledger,
                "another docket is writing to it; stop that one, or give this one a `ledger.path` of its own"
                    .into(),
            )),
            Err(TryLockError::Error(error)) => Err(open(error)),
        }
    }
}

/// Makes an empty ledger file that nobody else on the machine may read; SQLite gives its log the same mode. A file that is
/// there already keeps the mode its operator gave it, and a mode that lets others read it is said in the log.
pub(super) fn create(path: &Path) -> Result<(), LedgerError> {
    match OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(LedgerError::open(
            path,
            format!("it cannot be made: {error}; check that its folder exists and is writable"),
        )),
        Err(_) => {
            warn_if_readable(path);
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

/// Says in the log that others on the machine may read the ledger, and what keeps them from it.
fn warn_if_readable(path: &Path) {
    // A file whose mode cannot be read cannot be opened either, which is said next.
    let Ok(mode) = std::fs::metadata(path).map(|metadata| metadata.mode()) else { return };
    if mode & READABLE_BY_OTHERS != 0 {
        let (file, mode) = (path.display(), mode & 0o777);
        tracing::warn!(
            "other users of this machine may read the ledger `{file}` (its mode is {mode:o}); `chmod 600 {file}` keeps \
             it to its owner"
        );
    }
}

/// Opens the ledger for writing, bringing it to the newest schema first.
pub(super) fn open_writer(path: &Path) -> Result<Connection, LedgerError> {
    let fail = |error: rusqlite::Error| LedgerError::open(path, explain(&error));
    let connection = Connection::open(path).map_err(fail)?;
    connection.busy_timeout(Duration::from_millis(BUSY_TIMEOUT_MS)).map_err(fail)?;
    if connection.is_readonly(rusqlite::MAIN_DB).map_err(fail)? {
        return Err(LedgerError::open(path, "it is read-only; docket must be able to write to it".into()));
    }
    if check_version(&connection, path)? == 0 {
        // Pages that pruning frees can then go back to the operating system a few at a time. Only a file without a page takes it;
        // an older one keeps them for its next entries. Asking again would write to the file, which may be full.
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL").map_err(fail)?;
    }
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
             PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = {AUTOCHECKPOINT_PAGES};"
        ))
        .map_err(fail)?;
    migrate(&connection).map_err(fail)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Starts the thread that copies the write-ahead log into the database beside the writer, each time it is told to. It
/// ends with its sender. Without it the writer would do all the copying, and callers would wait for it.
pub(super) fn spawn_checkpointer(path: &Path) -> std::io::Result<SyncSender<()>> {
    let (sender, told) = sync_channel::<()>(1);
    let path = path.to_owned();
    std::thread::Builder::new().name("checkpointer".into()).spawn(move || {
        let mut connection = None;
        while told.recv().is_ok() {
            let open = connection.take().map_or_else(|| Connection::open(&path), Ok);
            // What cannot be copied now stays in the log, where it is just as durable.
            let copied =
                open.and_then(|open| open.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").map(|()| open));
            connection = copied.inspect_err(|error| tracing::warn!(error = %error, "cannot checkpoint")).ok();
        }
    })?;
    Ok(sender)
}

/// Opens the ledger for reading only, whatever schema it is of, which is answered too.
pub(super) fn open_any(path: &Path) -> Result<(Connection, usize), LedgerError> {
    let fail = |error: rusqlite::Error| LedgerError::open(path, explain(&error));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = |path: &Path, flags| {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_millis(BUSY_TIMEOUT_MS))?;
        connection.pragma_query_value(None, "user_version", |_| Ok(()))?;
        Ok(connection)
    };
    let opened = open(path, flags).or_else(|error: rusqlite::Error| {
        let is_refused = error.sqlite_error_code() == Some(ErrorCode::CannotOpen);
        // A medium that cannot be written to has no place for the log SQLite wants. Nobody writes to a file without a log beside
        // it, so it is read as it stands; should a docket of another user begin to write meanwhile, it contradicts itself.
        let alone = path.to_str().filter(|_| is_refused && !files::beside(path, "-wal").exists());
        let alone = alone.map(|path| format!("file:{}?immutable=1", percent_encoded(path, b"/")));
        let again = alone.map(|name| open(Path::new(&name), flags | OpenFlags::SQLITE_OPEN_URI));
        again.and_then(Result::ok).ok_or(error)
    });
    let connection = opened.map_err(fail)?;
    let version = check_version(&connection, path)?;
    Ok((connection, version))
}

/// Opens the ledger for reading only, where it is of the newest schema.
pub(super) fn open_reader(path: &Path) -> Result<Connection, LedgerError> {
    let (connection, version) = open_any(path)?;
    if version < STEPS.len() {
        return Err(LedgerError::open(
            path,
            format!("its schema is version {version}; `docket serve` brings it up to date"),
        ));
    }
    Ok(connection)
}

/// Device and inode of the file at `path`, to notice that it was moved away or replaced.
pub(super) fn file_identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Refuses what is not a ledger, or one from a newer docket; answers the schema version otherwise.
fn check_version(connection: &Connection, path: &Path) -> Result<usize, LedgerError> {
    let fail = |error: rusqlite::Error| LedgerError::open(path, explain(&error));
    let pragma =
        |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(fail);
    let version = usize::try_from(pragma("user_version")?).unwrap_or(usize::MAX);
    let foreign = match pragma("application_id")? {
        APPLICATION_ID => false,
        0 => {
            connection
                .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
                .map_err(fail)?
                != 0
        }
        _ => true,
    };
    if foreign {
        return Err(LedgerError::open(path, "it is an SQLite database, but not a docket ledger".into()));
    }
    if version > STEPS.len() {
        let newest = STEPS.len();
        return Err(LedgerError::open(
            path,
            format!(
                "its schema is version {version} and this docket knows up to {newest}; use a newer docket"
            ),
        ));
    }
    Ok(version)
}

fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    let version: usize =
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))? as usize;
    for (step, sql) in STEPS.iter().enumerate().skip(version) {
        let number = step + 1;
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {sql} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number}; COMMIT;"
        ))?;
    }
    Ok(())
}

/// SQLite's error in words an operator can act on.
pub(super) fn explain(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => "it is not an SQLite database, or its first page is damaged".into(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            format!("another program has locked it ({error}); end that program's transaction")
        }
        Some(ErrorCode::CannotOpen) => {
            "it cannot be opened; check that its folder exists and is writable".into()
        }
        Some(ErrorCode::ReadOnly) => {
            "it is read-only; docket must be able to write to it and to its folder".into()
        }
        Some(ErrorCode::DiskFull) => "the disk is full".into(),
        Some(ErrorCode::DatabaseCorrupt) => format!("it is damaged ({error})"),
        _ => error.to_string(),
    }
}
