//! Where a policy set comes from: a directory, a single file, or an OPA bundle (`.tar.gz`).
//!
//! A source is bytes and names, nothing more; what they mean is [`super::PolicySet::compile`]'s to say.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::archive;

/// Files one set may have.
pub(super) const MAX_FILES: usize = 10_000;
/// Bytes of all files of a set together.
pub(super) const MAX_TOTAL_BYTES: u64 = 256 * 1024 * 1024;
/// Directories within directories.
const MAX_DEPTH: usize = 32;

/// One file of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Path within the set, separated by `/`.
    pub path: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// The files of a policy set, before anybody has looked into them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The set's name.
    pub id: String,
    /// The author's revision, where the set states one.
    pub revision: Option<String>,
    /// Its `.rego`, `.json` and `.yaml` files, sorted by path.
    pub files: Vec<SourceFile>,
    /// The one rule that decides, as `data.authz.decision`; without it, every package that defines an effect does.
    pub entrypoint: Option<String>,
}

/// Why a source could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is nothing at that path.
    #[error("policy path `{}` does not exist; give a directory with `.rego` files, or one such file", .0.display())]
    Missing(PathBuf),
    /// There is no `.rego` file in it.
    #[error("policy path `{}` has no `.rego` file", .0.display())]
    Empty(PathBuf),
    /// A link leads out of the set, where its files could change unseen.
    #[error("`{}` is a link out of the policy directory; copy the file into it", .0.display())]
    Escapes(PathBuf),
    /// A name that is no UTF-8 cannot be written in the manifest.
    #[error("file name `{}` is not UTF-8", .0.display())]
    Name(PathBuf),
    /// Too many files or bytes, or directories too deep.
    #[error("policy path `{}` has {what}", path.display())]
    TooLarge {
        /// The set.
        path: PathBuf,
        /// What there is too much of.
        what: String,
    },
    /// A bundle file that is none, or holds what none should.
    #[error("bundle `{}` {what}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The operating system said no.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// What was being read.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl Source {
    /// Reads a directory with everything below it, one `.rego` file, or a bundle (`.tar.gz`). In directories, names
    /// beginning with `.` are passed over, so
    /// that a mounted Kubernetes volume (`..data`) is read once.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        Self::read_any(path, is_policy)
    }

    /// Reads several sources as one, for tests: here a file of tests alone will do. A `.rego` file whose path one source
    /// shares with another stands under its source's name.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn read_tests(paths: &[PathBuf]) -> Result<Self, LoadError> {
        let mut all = Self { id: "tests".into(), revision: None, files: Vec::new(), entrypoint: None };
        for (number, path) in paths.iter().enumerate() {
            let source = Self::read_any(path, is_rego)?;
            for mut file in source.files {
                let taken = all.files.iter().any(|other| other.path == file.path);
                if taken && is_rego(&file.path) {
                    file.path = format!("{}-{}/{}", source.id, number + 1, file.path);
                }
                all.files.push(file);
            }
        }
        Ok(all)
    }

    fn read_any(path: &Path, counts: fn(&str) -> bool) -> Result<Self, LoadError> {
        let io = |source| LoadError::Io { path: path.to_owned(), source };
        let root = path.canonicalize().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => LoadError::Missing(path.to_owned()),
            _ => io(source),
        })?;
        let bundle = |name: &str| {
            name.strip_suffix(".tar.gz").or_else(|| name.strip_suffix(".tgz")).map(str::to_owned)
        };
        if let Some(id) = root.file_name().and_then(|name| name.to_str()).and_then(bundle)
            && root.is_file()
        {
            let packed = io::BufReader::new(fs::File::open(&root).map_err(io)?);
            let read = archive::read(packed);
            let read = read.map_err(|what| LoadError::Archive { path: path.to_owned(), what })?;
            if !read.files.iter().any(|file| counts(&file.path)) {
                return Err(LoadError::Empty(path.to_owned()));
            }
            return Ok(Self { id, revision: read.revision, files: read.files, entrypoint: None });
        }
        let mut files = Vec::new();
        let name = if root.is_dir() {
            let mut walk = Walk { given: path, root: &root, files: &mut files, bytes_left: MAX_TOTAL_BYTES };
            walk.directory(&root, "", 0)?;
            root.file_name()
        } else {
            let name =
                root.file_name().and_then(|name| name.to_str()).ok_or(LoadError::Name(root.clone()))?;
            let mut walk = Walk { given: path, root: &root, files: &mut files, bytes_left: MAX_TOTAL_BYTES };
            walk.file(&root, name.to_owned())?;
            root.file_stem()
        };
        if !files.iter().any(|file| counts(&file.path)) {
            return Err(LoadError::Empty(path.to_owned()));
        }
        let id = name.and_then(|name| name.to_str()).unwrap_or("policies").to_owned();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { id, revision: None, files, entrypoint: None })
    }
}

/// Whether a path names Rego that is in force: no tests.
pub(super) fn is_policy(path: &str) -> bool {
    is_rego(path) && !is_test(path)
}

pub(super) fn is_rego(path: &str) -> bool {
    extension(path) == Some("rego")
}

/// What follows the last dot. As OPA does, upper case is another extension.
pub(super) fn extension(path: &str) -> Option<&str> {
    path.rsplit('/').next()?.rsplit_once('.').map(|(_, extension)| extension)
}

pub(super) fn is_test(path: &str) -> bool {
    path.ends_with("_test.rego")
}

/// Whether a path names data, by OPA's rule: only `data.json` and `data.yaml`, wherever they lie.
pub(super) fn is_data(path: &str) -> bool {
    matches!(path.rsplit('/').next(), Some("data.json" | "data.yaml" | "data.yml"))
}

struct Walk<'a> {
    given: &'a Path,
    root: &'a Path,
    files: &'a mut Vec<SourceFile>,
    bytes_left: u64,
}

impl Walk<'_> {
    fn too_large(&self, what: String) -> LoadError {
        LoadError::TooLarge { path: self.given.to_owned(), what }
    }

    fn directory(&mut self, directory: &Path, prefix: &str, depth: usize) -> Result<(), LoadError> {
        if depth > MAX_DEPTH {
            return Err(self.too_large(format!(
                "directories more than {MAX_DEPTH} deep, or a link to one above itself"
            )));
        }
        let failed = |source| LoadError::Io { path: directory.to_owned(), source };
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_str().ok_or_else(|| LoadError::Name(entry.path()))?;
            if name.starts_with('.') {
                continue;
            }
            let path = entry.path();
            let at = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            let failed = |source| LoadError::Io { path: path.clone(), source };
            let real = path.canonicalize().map_err(failed)?;
            let kind = fs::metadata(&real).map_err(failed)?;
            let wanted =
                is_rego(name) || [".json", ".yaml", ".yml"].iter().any(|ending| name.ends_with(ending));
            if !kind.is_dir() && !wanted {
                continue;
            }
            if !real.starts_with(self.root) {
                return Err(LoadError::Escapes(path));
            }
            if kind.is_dir() {
                self.directory(&path, &at, depth + 1)?;
            } else {
                self.file(&real, at)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, real: &Path, at: String) -> Result<(), LoadError> {
        let failed = |source| LoadError::Io { path: real.to_owned(), source };
        let kind = fs::metadata(real).map_err(failed)?;
        if !kind.is_file() {
            return Err(failed(io::Error::other("it is neither a file nor a directory")));
        }
        self.bytes_left = self
            .bytes_left
            .checked_sub(kind.len())
            .ok_or_else(|| self.too_large(format!("more than {MAX_TOTAL_BYTES} bytes")))?;
        if self.files.len() >= MAX_FILES {
            return Err(self.too_large(format!("more than {MAX_FILES} files")));
        }
        self.files.push(SourceFile { path: at, bytes: fs::read(real).map_err(failed)? });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_whole_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("b/c")).unwrap();
        fs::create_dir_all(dir.path().join(".git")).unwrap();
        for name in
            ["z.rego", "a.rego", "a_test.rego", "b/c/data.json", "b/x.yaml", "README.md", ".git/h.rego"]
        {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        let source = Source::read(dir.path()).unwrap();
        let paths: Vec<&str> = source.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["a.rego", "a_test.rego", "b/c/data.json", "b/x.yaml", "z.rego"]);
        let one = Source::read(&dir.path().join("a.rego")).unwrap();
        assert_eq!((one.id.as_str(), one.files.len()), ("a", 1));
    }

    #[test]
    fn what_cannot_be_a_set_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("nope");
        assert!(Source::read(&missing).unwrap_err().to_string().contains("does not exist"));
        fs::write(dir.path().join("a_test.rego"), "package a").unwrap();
        assert!(Source::read(dir.path()).unwrap_err().to_string().contains("has no `.rego` file"));
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("ok.rego"), "package a").unwrap();
        std::os::unix::fs::symlink(dir.path().join("a_test.rego"), inner.join("out.rego")).unwrap();
        assert!(matches!(Source::read(&inner), Err(LoadError::Escapes(_))));
        fs::remove_file(inner.join("out.rego")).unwrap();
        std::os::unix::fs::symlink(inner.join("ok.rego"), inner.join("in.rego")).unwrap();
        assert_eq!(Source::read(&inner).unwrap().files.len(), 2);
        std::os::unix::fs::symlink(&inner, inner.join("loop")).unwrap();
        assert!(matches!(Source::read(&inner), Err(LoadError::TooLarge { .. })));
    }
}
