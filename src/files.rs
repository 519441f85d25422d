//! Writing a file whole or not at all: what stands under a name is complete and on disk, whenever the machine stops.
//!
//! It knows nothing of what the files are for.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The mode of a file that is its owner's alone.
pub const OWNER_ONLY: u32 = 0o600;

/// The path with something after its name: `docket.db` and `.key` make `docket.db.key`.
#[must_use]
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Puts bytes under a name, in place of what was there. A reader sees the old file or the new one and nothing between; when
/// this returns, the new one is what a power cut leaves. What a crash leaves under the temporary name is written over.
///
/// # Errors
/// The file or its folder cannot be written; the old file is untouched then.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let new = beside(path, ".new");
    // A file that is there already would keep the mode it has.
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    put_in_place(&new, path)
}

/// Gives a file that is complete and synced its name, durably.
///
/// # Errors
/// The folder cannot be written.
pub fn put_in_place(new: &Path, path: &Path) -> std::io::Result<()> {
    std::fs::rename(new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_leftovers_do_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(beside(&path, ".new"), "half of a to").unwrap();
        for text in ["one", "two"] {
            replace(&path, text.as_bytes(), OWNER_ONLY).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, OWNER_ONLY);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(replace(&folder.path().join("nowhere/file"), b"x", OWNER_ONLY).is_err());
    }
}
