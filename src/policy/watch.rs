//! Watching a policy set's files. Says that something changed, and not what: whoever hears it reads the whole set again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{Config, Event, EventKind, PollWatcher, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

/// A single file is looked at this often: editors and sync tools replace files, and with them what a watch hangs on.
const POLL_MS: u64 = 1_000;

/// How a path is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By the operating system's notifications; a single file by polling.
    Native,
    /// By looking again and again, for file systems that notify of nothing (network shares, some container mounts).
    Poll,
}

/// A watch that lasts until it is dropped.
pub struct Watch {
    path: PathBuf,
    method: Method,
    /// Where the path led when watching began: a link may be turned to another folder.
    real: Option<PathBuf>,
    _watcher: Box<dyn Send + Sync>,
    changes: watch::Receiver<u64>,
}

/// Why a path cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("`{}` cannot be watched: {source}", path.display())]
pub struct WatchError {
    path: PathBuf,
    source: notify::Error,
}

impl Watch {
    /// Watches a directory with everything below it, or one file.
    ///
    /// # Errors
    /// The path does not exist, or the system has no watches left.
    pub fn new(path: &Path, method: Method) -> Result<Self, WatchError> {
        let (sender, changes) = watch::channel(0);
        let heard = move |event: Result<Event, notify::Error>| {
            // An error may hide a change: reading the set again is never wrong.
            if event.as_ref().map_or(true, matters) {
                sender.send_modify(|count| *count += 1);
            }
        };
        let failed = |source| WatchError { path: path.to_owned(), source };
        let watcher: Box<dyn Send + Sync> = if method == Method::Poll || path.is_file() {
            // Two writes within one second differ in their content only. A folder may hold a large ledger besides.
            let config = Config::default().with_compare_contents(path.is_file());
            let config = config.with_poll_interval(Duration::from_millis(POLL_MS));
            let mut watcher = PollWatcher::new(heard, config).map_err(failed)?;
            watcher.watch(path, RecursiveMode::Recursive).map_err(failed)?;
            Box::new(watcher)
        } else {
            let mut watcher = RecommendedWatcher::new(heard, Config::default()).map_err(failed)?;
            watcher.watch(path, RecursiveMode::Recursive).map_err(failed)?;
            Box::new(watcher)
        };
        let (path, real) = (path.to_owned(), path.canonicalize().ok());
        Ok(Self { path, method, real, _watcher: watcher, changes })
    }

    /// Waits until something changed and then nothing more for `quiet`: a checkout writes many files, and half of one is
    /// no set. Waits no longer than ten times that.
    pub async fn changed(&mut self, quiet: Duration) {
        loop {
            tokio::select! {
                changed = self.changes.changed() => match changed {
                    Ok(()) => break,
                    // The watcher has gone; nothing will ever change again.
                    Err(_) => return std::future::pending().await,
                },
                () = tokio::time::sleep(Duration::from_millis(POLL_MS)) => {
                    let real = self.path.canonicalize().ok();
                    if real.is_some() && real != self.real {
                        // What is watched is not what the path names any more.
                        self.real = real;
                        if let Ok(again) = Self::new(&self.path, self.method) {
                            *self = again;
                        }
                        break;
                    }
                }
            }
        }
        let settle = async { while tokio::time::timeout(quiet, self.changes.changed()).await.is_ok() {} };
        // Whoever writes without a pause is read in between.
        let _ = tokio::time::timeout(quiet * 10, settle).await;
    }
}

/// Whether an event can concern a policy set: the ledger may lie in the same folder, and is written all the time.
fn matters(event: &Event) -> bool {
    let of_a_set = |path: &PathBuf| {
        // A mounted Kubernetes volume is replaced by renaming `..data`, which would pass for an extension.
        let is_volume = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".."));
        is_volume
            || path.extension().is_none_or(|extension| {
                ["rego", "json", "yaml", "yml", "gz", "tgz"].iter().any(|known| extension == *known)
            })
    };
    !matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(of_a_set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_are_heard_and_the_ledgers_are_not() {
        for method in [Method::Native, Method::Poll] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("docket.db"), "1").unwrap();
            let mut watch = Watch::new(folder.path(), method).unwrap();
            let quiet = Duration::from_millis(20);
            std::fs::write(folder.path().join("docket.db"), "22").unwrap();
            let heard = tokio::time::timeout(Duration::from_millis(200), watch.changed(quiet)).await;
            assert!(heard.is_err(), "{method:?}");
            std::fs::create_dir(folder.path().join("lib")).unwrap();
            std::fs::write(folder.path().join("lib/a.rego"), "package a").unwrap();
            tokio::time::timeout(Duration::from_secs(20), watch.changed(quiet)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_file_that_is_replaced_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let (file, next) = (folder.path().join("set.tar.gz"), folder.path().join("next"));
        std::fs::write(&file, "one").unwrap();
        let mut watch = Watch::new(&file, Method::Native).unwrap();
        for content in ["two", "six"] {
            std::fs::write(&next, content).unwrap();
            std::fs::rename(&next, &file).unwrap();
            let changed = watch.changed(Duration::from_millis(20));
            tokio::time::timeout(Duration::from_secs(20), changed).await.unwrap();
        }
    }

    #[tokio::test]
    async fn links_that_are_turned_are_heard() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("..1", "package a"), ("..2", "package b")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("a.rego"), text).unwrap();
        }
        // As a Kubernetes volume is replaced, and as a release is.
        let turn = |link: &str, to: &str| {
            std::os::unix::fs::symlink(to, at("next")).unwrap();
            std::fs::rename(at("next"), at(link)).unwrap();
        };
        for link in ["..data", "current"] {
            turn(link, "..1");
            let watched = if link == "current" { at(link) } else { folder.path().to_owned() };
            let mut watch = Watch::new(&watched, Method::Native).unwrap();
            turn(link, "..2");
            let changed = watch.changed(Duration::from_millis(20));
            tokio::time::timeout(Duration::from_secs(20), changed).await.unwrap();
            if link == "current" {
                std::fs::write(at("..2/b.rego"), "package c").unwrap();
                let changed = watch.changed(Duration::from_millis(20));
                tokio::time::timeout(Duration::from_secs(20), changed).await.unwrap();
            }
        }
    }

    #[test]
    fn a_path_that_is_not_there_is_said() {
        let error = Watch::new(Path::new("/nonexistent/set"), Method::Native).err().unwrap();
        assert!(error.to_string().contains("`/nonexistent/set` cannot be watched"), "{error}");
    }
}
