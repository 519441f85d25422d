//! The key that signs checkpoints: a file beside the ledger, made on the first start.
//!
//! Whoever has it can sign another history; whoever loses it cannot go on with this ledger. It is made once, when there is no
//! checkpoint yet, and never silently again: a ledger whose checkpoints are another key's is refused.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::schema::file_identity;
use crate::clock::Clock;
use crate::files;
use crate::redact::HashKey;
use crate::tlog::note::pem;
use crate::tlog::{Checkpoint, NoteError, SigningKey, VerifierKey};

/// What the key of redaction's hashes is derived for; another text would give another key.
const HASH_PURPOSE: &str = "docket redaction hash v1";

/// What the key is derived for that compiled redaction hooks are authenticated with.
const HOOK_CACHE_PURPOSE: &str = "docket hook cache v1";

/// How checkpoints are signed and where they go.
#[derive(Clone, Debug, Default)]
pub struct Signing {
    /// PKCS#8 PEM; `<ledger>.key` by default, made if absent.
    pub key_file: Option<PathBuf>,
    /// The checkpoints' first line and the key's name; by default [`default_origin`].
    pub origin: Option<String>,
    /// Where each new checkpoint is also written, so that any tool can take it out of the operator's reach.
    pub checkpoint_file: Option<PathBuf>,
}

/// `<ledger>.key`
#[must_use]
pub fn default_file(ledger: &Path) -> PathBuf {
    files::beside(ledger, ".key")
}

/// `docket.local/` and the first 16 hex digits of the first key's SHA-256: a name that no other ledger has, for those who
/// have no better one. The origin stays, whatever key signs later.
#[must_use]
pub fn default_origin(public: &[u8; 32]) -> String {
    let digest = hex::encode(Sha256::digest(public));
    format!("docket.local/{}", digest.get(..16).unwrap_or_default())
}

/// Reads the key, or makes one where there is none and `may_make` says so.
pub(super) fn load(
    file: &Path,
    origin: Option<&str>,
    may_make: Option<&Clock>,
) -> Result<SigningKey, String> {
    let name = |public: &[u8; 32]| origin.map_or_else(|| default_origin(public), str::to_owned);
    let text = match (std::fs::read_to_string(file), may_make) {
        (Ok(text), _) => text,
        (Err(error), Some(clock)) if error.kind() == ErrorKind::NotFound => make(file, clock)
            .map_err(|error| format!("its signing key `{}` cannot be made: {error}", file.display()))?,
        (Err(error), None) if error.kind() == ErrorKind::NotFound => {
            return Err(format!(
                "its checkpoints are signed and its key `{}` is gone; restore it",
                file.display()
            ));
        }
        (Err(error), _) => {
            return Err(format!("its signing key `{}` cannot be read: {error}", file.display()));
        }
    };
    SigningKey::from_pem(&text, name)
        .map_err(|error| format!("its signing key `{}`: {error}", file.display()))
}

/// The key of the hashes that redaction puts in the place of values. It follows from the signing key, so that nothing more
/// has to be kept safe, and the database alone lets nobody guess at values.
pub(super) fn hash_key(key: &SigningKey) -> HashKey {
    HashKey::new(&key.derive(HASH_PURPOSE))
}

/// The key by which docket knows the compiled hooks that it wrote itself.
pub(super) fn hook_cache_key(key: &SigningKey) -> [u8; 32] {
    key.derive(HOOK_CACHE_PURPOSE)
}

/// Whether checkpoints may be written to a file: to none that is the ledger's own, and over nothing but an older checkpoint.
/// A slip in the configuration would cost the key otherwise, or the ledger. The ledger is open.
pub(super) fn may_publish(ledger: &Path, file: &Path) -> Result<(), String> {
    let shown = file.display();
    let refused = |why: &str| Err(format!("`ledger.checkpoint_file` is `{shown}`, {why}; name another file"));
    let there = file_identity(file);
    // Looked at by their identity only: a process that opens and closes one of these loses its locks on it.
    let own =
        ["", "-wal", "-shm", "-journal", ".lock"].map(|suffix| file_identity(&files::beside(ledger, suffix)));
    if there.is_some() && own.contains(&there) {
        return refused("which is the ledger's own");
    }
    match std::fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Ok(text) if text.is_empty() || Checkpoint::unverified(&text).is_ok() => Ok(()),
        _ => refused("which exists and is no checkpoint"),
    }
}

/// The public half of the key in a file.
///
/// # Errors
/// The file cannot be read, or holds no key.
pub fn verifier(file: &Path, origin: Option<&str>) -> Result<VerifierKey, NoteError> {
    let text = std::fs::read_to_string(file).map_err(|_| NoteError::BadKey("the key file cannot be read"))?;
    let name = |public: &[u8; 32]| origin.map_or_else(|| default_origin(public), str::to_owned);
    Ok(SigningKey::from_pem(&text, name)?.verifier().clone())
}

fn make(file: &Path, clock: &Clock) -> std::io::Result<String> {
    let mut seed = [0; 32];
    (clock.random)(&mut seed);
    let text = pem(&seed);
    // No checkpoint may be signed with a key that a power cut can take back, and half a key would keep docket from starting
    // again. Nobody else makes one meanwhile: docket has the ledger's lock.
    files::replace(file, text.as_bytes(), files::OWNER_ONLY)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::ledger::{Ledger, Queue};

    const CLOCK: Clock = Clock { now_ms: || 1_800_000_000_000, random: |buffer| buffer.fill(7) };

    #[tokio::test]
    async fn checkpoints_are_written_over_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docket.db");
        let open = |name: &str| {
            let signing = Signing { checkpoint_file: Some(folder.path().join(name)), ..Signing::default() };
            Ledger::open(&path, Queue::default(), signing, CLOCK)
        };
        for name in ["docket.db", "docket.db-wal", "docket.db-shm", "docket.db.lock", "docket.db.key"] {
            let error = open(name).err().unwrap().to_string();
            assert!(error.contains("`ledger.checkpoint_file`") && error.contains(name), "{error}");
        }
        std::fs::write(folder.path().join("empty"), "").unwrap();
        for name in ["checkpoint", "checkpoint", "empty"] {
            let ledger = open(name).unwrap();
            ledger.checkpoint().await.unwrap();
            ledger.close().await;
        }
        assert!(
            std::fs::read_to_string(folder.path().join("checkpoint")).unwrap().starts_with("docket.local/")
        );
    }
}
