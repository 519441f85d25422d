//! Ledgers that an older docket wrote, read without touching them.
//!
//! A file under an older schema lacks tables and indexes that every query here asks. It may be evidence, which nobody is to
//! alter: so it is copied, as it is at one moment, into a temporary file that is its owner's alone, and the copy is brought up to
//! date. The copy is removed with whoever read it last. What is proved of the copy's entries is proved of the file's: leaves,
//! payloads and checkpoints are copied byte by byte, and no step of a migration changes one.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::backup::{Temporary, copy_pages};
use super::reader::Reader;
use super::{LedgerError, schema, tree};
use crate::files::OWNER_ONLY;

/// Names that are tried for a copy, where others have taken the first.
const MAX_NAMES: u32 = 100;

/// A ledger file of any schema that has landed, as it can be read.
#[derive(Clone)]
pub struct Readable {
    path: PathBuf,
    copy: Option<(Arc<Temporary>, usize)>,
}

impl Readable {
    /// The file itself where it is up to date; a copy otherwise. `progress` is told how many pages of how many are copied.
    ///
    /// # Errors
    /// The file cannot be read or is no ledger, or a copy cannot be made or brought up to date.
    pub fn open(path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Self, LedgerError> {
        let (source, version) = schema::open_any(path)?;
        if version == 0 {
            return Err(LedgerError::open(path, "it is empty: no docket has written to it".into()));
        }
        if version >= schema::STEPS.len() {
            return Ok(Self { path: path.to_owned(), copy: None });
        }
        let copy = make()?;
        copy_pages(path, &source, copy.path(), &mut |_, done, total| progress(done, total))?;
        drop(source);
        let fail = |reason: String| {
            LedgerError::open(path, format!("a copy of it cannot be brought up to date: {reason}"))
        };
        let connection = schema::open_writer(copy.path()).map_err(|error| fail(error.to_string()))?;
        // The first docket had no tree.
        tree::catch_up(&connection).map_err(|error| fail(schema::explain(&error)))?;
        let closed = connection.close().map_err(|(_, error)| error);
        closed.map_err(|error| fail(schema::explain(&error)))?;
        Ok(Self { path: copy.path().to_owned(), copy: Some((Arc::new(copy), version)) })
    }

    /// What is read: the file, or its copy.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// That a copy is read, and why, in words; `None` where it is the file itself.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let (_, version) = self.copy.as_ref()?;
        let newest = schema::STEPS.len();
        Some(format!(
            "the file is of schema {version} and is left as it is; what is read is a copy, brought up to schema {newest}"
        ))
    }

    /// Reads it; a copy lasts as long as its reader.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::of(self.path.as_path().into(), self.copy.as_ref().map(|(copy, _)| copy.clone()))
    }
}

/// An empty file for a copy.
fn make() -> Result<Temporary, LedgerError> {
    let folder = std::env::temp_dir();
    let mut last = None;
    for number in 0..MAX_NAMES {
        let path = folder.join(format!("docket-{}-{number}.db", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&path) {
            Ok(_) => return Ok(Temporary::at(path)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => last = Some(error),
            Err(error) => {
                last = Some(error);
                break;
            }
        }
    }
    let why = last.map(|error| error.to_string()).unwrap_or_default();
    Err(LedgerError::Unreadable(format!(
        "it is of an older schema, and a copy of it cannot be made in `{}`: {why}; set `TMPDIR` to where there is room",
        folder.display()
    )))
}
