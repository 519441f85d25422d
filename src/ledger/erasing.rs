//! Erasing a subject, from the request to the last byte of it in the file, also where docket is killed in between.
//!
//! Crash order. What was asked for is noted in a file beside the ledger, synced; then come the acts, each a transaction of its
//! own; then the log is truncated and pages with stale copies are laid out anew; and when that is done, the note goes. A docket
//! that finds a note, at its start or at a sweep, does all of this again: what is gone stays gone, and the rest follows. The note
//! has the id in clear, since nothing else would know what to look for. It is its owner's alone, and is written over before
//! it is removed.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::entry::Kind;
use super::erasure::{self, Remains};
use super::keeper::{Actor, Keeper, KeepingError, Summary, metadata_of};
use super::keeping::MAX_ACT_ENTRIES;
use super::writer::Job;
use super::{LedgerError, SALT_BYTES};
use crate::call::RequestId;
use crate::files::{self, OWNER_ONLY, beside};

/// How often pages with stale copies are laid out anew, each time with twice the rows around them.
const MAX_ROUNDS: u32 = 8;

/// Between the ledger's name and what tells one note from another.
const NOTE: &str = ".erasing-";

/// What was asked for, until it is done.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    subject: String,
    /// The number the next entry was to have: what the subject does after it asked is not part of it.
    below: i64,
    principal: String,
    peer: Option<String>,
    reason: Option<String>,
    request_id: Option<String>,
}

impl Note {
    fn of(subject: &str, below: i64, actor: &Actor) -> Self {
        Self {
            subject: subject.to_owned(),
            below,
            principal: actor.principal.clone(),
            peer: actor.peer.clone(),
            reason: actor.reason.clone(),
            request_id: actor.request_id.as_ref().map(ToString::to_string),
        }
    }

    fn actor(&self) -> Actor {
        Actor {
            principal: self.principal.clone(),
            peer: self.peer.clone(),
            reason: self.reason.clone(),
            request_id: self.request_id.as_deref().and_then(RequestId::parse),
        }
    }

    fn write(&self, ledger: &Path, name: &str) -> Result<(), LedgerError> {
        let path = beside(ledger, &format!("{NOTE}{name}"));
        let bytes = serde_json::to_vec(self).map_err(io::Error::from);
        bytes
            .and_then(|bytes| files::replace(&path, &bytes, OWNER_ONLY))
            .map_err(|error| unwritable(&path, &error))
    }
}

fn unwritable(path: &Path, error: &io::Error) -> LedgerError {
    LedgerError::Unwritable(format!("the note `{}` of an erasure: {error}", path.display()))
}

/// The notes beside a ledger. What a crash left of one that was not complete, or of one that was written over, goes.
fn notes(ledger: &Path) -> Result<Vec<(PathBuf, Note)>, LedgerError> {
    let folder = ledger.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut prefix: OsString = ledger.file_name().unwrap_or_default().into();
    prefix.push(NOTE);
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).map_err(|error| unwritable(folder, &error))? {
        let file = file.map_err(|error| unwritable(folder, &error))?;
        let name = file.file_name();
        // A link is nobody's note, and what it leads to is not to be written over.
        let is_file = file.file_type().is_ok_and(|kind| kind.is_file());
        if !is_file || !name.as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            continue;
        }
        let path = file.path();
        let bytes = std::fs::read(&path).map_err(|error| unwritable(&path, &error))?;
        if name.as_encoded_bytes().ends_with(b".new") || bytes.iter().all(|byte| *byte == 0) {
            discard(&path).map_err(|error| unwritable(&path, &error))?;
            continue;
        }
        match serde_json::from_slice(&bytes) {
            Ok(note) => found.push((path, note)),
            Err(error) => {
                tracing::warn!(file = %path.display(), error = %error, "it is no note of an erasure that docket wrote");
            }
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

/// Lets go of what was noted about a subject.
fn forget(ledger: &Path, subject: &str) -> Result<(), LedgerError> {
    for (path, _) in notes(ledger)?.into_iter().filter(|(_, note)| note.subject == subject) {
        discard(&path).map_err(|error| unwritable(&path, &error))?;
    }
    Ok(())
}

/// Writes over a file and removes it.
fn discard(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    file.write_all(&vec![0; length])?;
    file.sync_all()?;
    std::fs::remove_file(path)
}

/// How far an erasure is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing is changed.
    Try,
    /// Somebody asks for it, and has an entry that says so, even of nothing.
    Asked,
    /// Somebody did.
    Again,
}

impl Keeper {
    /// Removes the payloads of every entry of a subject, and reads the file's bytes for what is left of its id.
    ///
    /// # Errors
    /// [`KeepingError::Refused`] where the reason would bring the id back; the ledger cannot be read or written.
    pub async fn erase(&self, subject: &str, actor: &Actor, dry_run: bool) -> Result<Summary, KeepingError> {
        if subject.trim().is_empty() {
            return Err(KeepingError::Refused("the subject is empty; give the id that entries have".into()));
        }
        let names_it = |text: &String| text.to_lowercase().contains(&subject.to_lowercase());
        if actor.reason.as_ref().is_some_and(names_it) {
            return Err(KeepingError::Refused(
                "the reason names the subject, and stays in the ledger; name the case instead".into(),
            ));
        }
        if dry_run {
            let note = Note::of(subject, i64::MAX, actor);
            return Ok(self.take(&note, Step::Try).await?);
        }
        let _alone = self.erasing.lock().await;
        let below = *self.ledger.head().borrow() + 1;
        let note = Arc::new(Note::of(subject, below, actor));
        let name = self.clock.ulid_at((self.clock.now_ms)()).to_string();
        let (path, noted) = (self.ledger.path.clone(), note.clone());
        self.blocking(move |_| noted.write(&path, &name)).await?;
        Ok(self.take(&note, Step::Asked).await?)
    }

    /// Does again what a docket before this one, or a reader in its way, did not get done.
    ///
    /// # Errors
    /// The ledger cannot be read or written, or a note of an erasure cannot.
    pub(super) async fn finish_erasures(&self) -> Result<(), LedgerError> {
        let _alone = self.erasing.lock().await;
        let path = self.ledger.path.clone();
        for (_, note) in self.blocking(move |_| notes(&path)).await? {
            let Summary { removed, remains, .. } = self.take(&note, Step::Again).await?;
            let finished = remains.is_some_and(|remains| remains.log_truncated);
            tracing::info!(removed, finished, "an erasure that had not been finished was taken up again");
        }
        Ok(())
    }

    /// Removes the payloads, cleans the file, and lets go of the note once both are done.
    async fn take(&self, note: &Note, step: Step) -> Result<Summary, LedgerError> {
        let Note { subject, below, .. } = note;
        let (actor, dry_run) = (&note.actor(), step == Step::Try);
        let (wanted, below) = (subject.clone(), *below);
        let found = self.blocking(move |reader| reader.belongings(&wanted, below)).await?;
        let mut summary = Summary { dry_run, in_flight: Some(found.in_flight), ..Summary::default() };
        let mut metadata = metadata_of(Some(actor));
        metadata.insert("subject_digest".into(), self.digest_of(subject).into());
        for seqs in found.seqs.chunks(MAX_ACT_ENTRIES) {
            self.remove(seqs, Kind::Erase, "subject.erased", &metadata, Some(actor), &mut summary).await?;
        }
        if step == Step::Asked {
            self.conclude(Kind::Erase, "subject.erased", metadata, actor, &mut summary).await?;
        }
        if !dry_run {
            let remains = self.scour(subject).await?;
            if remains.log_truncated {
                let (path, subject) = (self.ledger.path.clone(), subject.clone());
                self.blocking(move |_| forget(&path, &subject)).await?;
            }
            summary.remains = Some(remains);
        }
        Ok(summary)
    }

    /// Truncates the log, lays out pages with stale copies anew, and says what is left.
    async fn scour(&self, subject: &str) -> Result<Remains, LedgerError> {
        let needles = erasure::needles(subject);
        let mut round = 0;
        self.give_back().await?;
        loop {
            let log_truncated = self.settle().await?;
            let (path, wanted) = (self.ledger.path.clone(), needles.clone());
            let found = self.blocking(move |_| erasure::scan(&path, &wanted)).await?;
            if found.stale > 0 && round < MAX_ROUNDS {
                let around = 4 << round;
                let seqs = self.blocking(move |reader| reader.neighbours(&found.rows, around)).await?;
                for seqs in seqs.chunks(MAX_ACT_ENTRIES) {
                    let began = Instant::now();
                    self.ledger.ask(|reply| Job::Rewrite(seqs.to_vec(), reply)).await?;
                    tokio::time::sleep(began.elapsed()).await;
                }
                round += 1;
                continue;
            }
            let path = self.ledger.path.clone();
            return self
                .blocking(move |reader| {
                    let (mut places, in_leaf) = reader.places(&needles)?;
                    // Where no row has it, whatever was found is unused.
                    let unused = if places.is_empty() && !in_leaf { found.all } else { found.stale };
                    if erasure::is_in_log(&path, &needles)? {
                        places.push(
                            "the write-ahead log: entries that came since, or a reader keeps it".into(),
                        );
                    }
                    Ok(Remains { log_truncated, unused, places })
                })
                .await;
        }
    }

    /// A salted digest: whoever knows the id can check that it was this one, and nobody else learns it.
    fn digest_of(&self, subject: &str) -> String {
        let mut salt = [0; SALT_BYTES];
        (self.clock.random)(&mut salt);
        let digest = Sha256::new().chain_update(salt).chain_update(subject).finalize();
        format!("sha256:{}:{}", hex::encode(salt), hex::encode(digest))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use serde_json::json;

    use super::*;
    use crate::clock::Clock;
    use crate::ledger::verify::{self, Options};
    use crate::ledger::{Entry, Ledger, Queue, Retention, Signing};
    use crate::redact::Redactor;

    static NEXT: AtomicU64 = AtomicU64::new(1);

    /// A clock that stands still, and salts anybody could predict.
    const CLOCK: Clock = Clock {
        now_ms: || 1_800_000_000_000,
        random: |buffer| {
            let next = NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes();
            buffer.iter_mut().zip(next.into_iter().cycle()).for_each(|(byte, next)| *byte = next);
        },
    };

    #[tokio::test]
    async fn a_note_is_followed_as_far_as_it_asks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docket.db");
        let ledger = Ledger::open(&path, Queue::default(), Signing::default(), CLOCK).unwrap();
        let redactor = Arc::new(Redactor::builtin());
        let keeper = Keeper::new(ledger.clone(), redactor.clone(), CLOCK, Retention::default());
        for _ in 0..2 {
            let content = redactor.record(vec![("subject", json!({"id": "alice"}))]);
            ledger.append(Entry::event(Kind::Access, "test.read", (CLOCK.now_ms)(), content)).await.unwrap();
        }
        let actor = Actor { principal: "test".into(), ..Actor::default() };
        Note::of("alice", 1, &actor).write(&path, "1").unwrap();
        // What crashes leave, and what somebody puts there.
        std::fs::write(beside(&path, ".erasing-2.new"), "{\"subject\": \"al").unwrap();
        std::fs::write(beside(&path, ".erasing-3"), [0; 8]).unwrap();
        std::fs::write(beside(&path, ".erasing-4"), "something else").unwrap();
        let other = folder.path().join("other");
        std::fs::write(&other, "other").unwrap();
        std::os::unix::fs::symlink(&other, beside(&path, ".erasing-5.new")).unwrap();
        keeper.finish_erasures().await.unwrap();
        let left: Vec<i64> = keeper
            .blocking(|reader| {
                reader.with(|connection| {
                    let mut select = connection.prepare("SELECT seq FROM payloads ORDER BY seq")?;
                    select.query_map([], |row| row.get(0))?.collect()
                })
            })
            .await
            .unwrap();
        assert_eq!(left, [1, 2], "the second came after it was asked for, and the third is the act");
        let there = |name: &str| beside(&path, name).symlink_metadata().is_ok();
        let names = [".erasing-1", ".erasing-2.new", ".erasing-3", ".erasing-4", ".erasing-5.new"];
        assert_eq!(names.map(there), [false, false, false, true, true]);
        assert_eq!(std::fs::read_to_string(other).unwrap(), "other");
        ledger.close().await;
    }

    #[tokio::test]
    async fn copies_that_sqlite_left_behind_are_found_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docket.db");
        let ledger = Ledger::open(&path, Queue::default(), Signing::default(), CLOCK).unwrap();
        let redactor = Arc::new(Redactor::builtin());
        let keeper = Keeper::new(ledger.clone(), redactor.clone(), CLOCK, Retention::default());
        for number in 0..40 {
            let id = if number % 4 == 0 { "alice@acme.example".to_owned() } else { format!("bob-{number}") };
            let roots = vec![("subject", json!({"id": id})), ("metadata", json!({"path": "y".repeat(500)}))];
            let content = redactor.record(roots);
            ledger.append(Entry::event(Kind::Access, "test.read", (CLOCK.now_ms)(), content)).await.unwrap();
        }
        // As SQLite does now and then when it moves a row: the row is gone, and its bytes are not.
        let shell = rusqlite::Connection::open(&path).unwrap();
        shell
            .execute_batch(
                "PRAGMA foreign_keys = OFF; PRAGMA secure_delete = OFF; \
                 INSERT INTO payloads (seq, salts, subject_id) VALUES (1000, x'', 'alice@acme.example'); \
                 DELETE FROM payloads WHERE seq = 1000",
            )
            .unwrap();
        drop(shell);
        assert!(keeper.settle().await.unwrap());
        let found = erasure::scan(&path, &erasure::needles("alice@acme.example")).unwrap();
        assert_eq!(found.stale, 1, "{found:?}");
        let actor = Actor { principal: "test".into(), ..Actor::default() };
        let summary = keeper.erase("alice@acme.example", &actor, false).await.unwrap();
        assert_eq!(summary.remains, Some(Remains { log_truncated: true, ..Remains::default() }));
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(10).any(|window| window == b"alice@acme"));
        ledger.close().await;
        let options =
            Options { key: ledger.verifier().clone(), old_checkpoint: None, since_ms: None, now_ms: 0 };
        let report = verify::ledger(&path, &options, &mut |_, _| ()).unwrap();
        assert!(report.ok, "{report:?}");
    }
}
