//! A file that is being written: it lies beside the one it is to be, as `FILE.part`, and takes its place once it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::files::{beside, put_in_place};

/// What comes after the name of a file until it is whole.
const SUFFIX: &str = ".part";

/// What is there of the file so far.
pub struct Part {
    file: File,
    path: PathBuf,
    target: PathBuf,
    force: bool,
}

/// Refuses what may not be written over, so that nobody is asked for what could not be kept. A part that is there already
/// is what an earlier attempt left, and perhaps all there is of it.
///
/// # Errors
/// Says what is there, and what writes over it.
pub fn check(target: &Path, force: bool) -> anyhow::Result<()> {
    let part = beside(target, SUFFIX);
    for path in [target, &part] {
        if !force && path.symlink_metadata().is_ok() {
            bail!("`{}` is there already; --force writes over it", path.display());
        }
    }
    Ok(())
}

impl Part {
    /// Begins one, with the permissions of the file whose place it is to take.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(target: &Path, force: bool) -> anyhow::Result<Self> {
        // What a link leads to is replaced, not the link.
        let led_to = target.is_symlink().then(|| fs::canonicalize(target).ok()).flatten();
        let target = led_to.unwrap_or_else(|| target.to_owned());
        let before = fs::metadata(&target).ok();
        let is_device = before.as_ref().is_some_and(|before| !before.is_file());
        // A device or a pipe has no other beside it, and is never replaced.
        let path = if is_device { target.clone() } else { beside(&target, SUFFIX) };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).create_new(!force);
        let file = options.open(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
        if let Some(before) = before.filter(|_| !is_device) {
            file.set_permissions(before.permissions())
                .with_context(|| format!("cannot protect `{}`", path.display()))?;
        }
        Ok(Self { file, path, target, force })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is to be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Leaves only the first so many bytes.
    ///
    /// # Errors
    /// The file system's.
    pub fn cut(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    /// Puts it in its place: from here the file is there, whole and on disk.
    ///
    /// # Errors
    /// Something took the place meanwhile, or the file system's.
    pub fn finish(self) -> anyhow::Result<()> {
        if self.path == self.target {
            return Ok(());
        }
        let (path, target) = (self.path.display(), self.target.display());
        self.file.sync_all().with_context(|| format!("cannot write `{path}`"))?;
        if !self.force && self.target.symlink_metadata().is_ok() {
            bail!("`{target}` has come to be meanwhile; what was to be there is whole in `{path}`");
        }
        put_in_place(&self.path, &self.target)
            .with_context(|| format!("cannot rename `{path}`, which is whole, to `{target}`"))
    }
}

impl Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
