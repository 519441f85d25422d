//! Compiled components on disk: a component of some languages takes seconds to compile, and milliseconds to load compiled.
//!
//! What is loaded from here runs as native code, so a file counts only if docket itself wrote it: each begins with a MAC over
//! the engine it is for, the component it was made of and all its bytes, by a key that only docket has. The bytes that were
//! checked are the bytes that are loaded. Anything else is passed over and written anew. The folder can go at any time.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use ring::hmac;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::files;

const MAC_BYTES: usize = 32;
const EXTENSION: &str = "cwasm";

/// A folder of compiled components.
#[derive(Clone)]
pub struct Cache {
    folder: PathBuf,
    key: hmac::Key,
}

impl Cache {
    /// A cache in a folder that is made if it is not there. `key` is known to nobody who could write into the folder.
    #[must_use]
    pub fn new(folder: PathBuf, key: &[u8; 32]) -> Self {
        Self { folder, key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// The compiled form of the component with that digest, if this docket made it with this engine.
    pub(super) fn load(&self, engine: &Engine, sha256: &str) -> Option<Component> {
        let path = self.path(engine, sha256);
        if !self.is_folder() || !std::fs::symlink_metadata(&path).ok()?.is_file() {
            return None;
        }
        let file = std::fs::read(&path).ok()?;
        let genuine = file.split_at_checked(MAC_BYTES).and_then(|(tag, code)| {
            hmac::verify(&self.key, &signed(engine, sha256, code), tag).is_ok().then_some(code)
        });
        let Some(code) = genuine else {
            tracing::warn!(file = %path.display(), "a compiled hook is not as docket wrote it; it is compiled anew");
            return None;
        };
        #[expect(
            unsafe_code,
            reason = "native code of our own making: the MAC over exactly these bytes was checked above"
        )]
        let component = unsafe { Component::deserialize(engine, code) };
        component.ok()
    }

    /// Keeps the compiled form. Without it the next start takes longer, and nothing else.
    pub(super) fn store(&self, engine: &Engine, sha256: &str, component: &Component) {
        let keep = || -> std::io::Result<()> {
            self.make_folder()?;
            if !self.is_folder() {
                return Err(std::io::Error::other("it is no folder of its own, but a link"));
            }
            let code = component.serialize().map_err(std::io::Error::other)?;
            let mut file = hmac::sign(&self.key, &signed(engine, sha256, &code)).as_ref().to_vec();
            file.extend(code);
            files::replace(&self.path(engine, sha256), &file, files::OWNER_ONLY)
        };
        if let Err(error) = keep() {
            tracing::warn!(folder = %self.folder.display(), error = %error, "a compiled hook cannot be kept");
        }
    }

    /// Removes what none of these components, by digest, is loaded from.
    pub fn retain(&self, host: &super::Host, digests: &[String]) {
        if !self.is_folder() {
            return;
        }
        // Where there is no engine, nothing was loaded.
        let loaded =
            host.engine().into_iter().flat_map(|engine| digests.iter().map(move |sha256| (engine, sha256)));
        let wanted: Vec<PathBuf> = loaded.map(|(engine, sha256)| self.path(engine, sha256)).collect();
        for file in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = file.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) && !wanted.contains(&path) {
                // What cannot be removed costs room, and nothing else.
                let _ = std::fs::remove_file(path);
            }
        }
    }

    fn path(&self, engine: &Engine, sha256: &str) -> PathBuf {
        let sha256 = sha256.trim_start_matches("sha256:");
        self.folder.join(format!("{sha256}-{:016x}.{EXTENSION}", compatibility(engine)))
    }

    /// Whether the folder is there, and is one: what a link leads to is not docket's.
    fn is_folder(&self) -> bool {
        std::fs::symlink_metadata(&self.folder).is_ok_and(|folder| folder.is_dir())
    }

    #[cfg(unix)]
    fn make_folder(&self) -> std::io::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)
    }
}

/// The folder beside a ledger.
#[must_use]
pub fn default_folder(ledger: &Path) -> PathBuf {
    files::beside(ledger, ".hooks")
}

/// What a MAC is over.
fn signed(engine: &Engine, sha256: &str, code: &[u8]) -> Vec<u8> {
    [&compatibility(engine).to_be_bytes()[..], &sha256.len().to_be_bytes(), sha256.as_bytes(), code].concat()
}

/// Tells engines apart that do not run each other's code.
fn compatibility(engine: &Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    hasher.finish()
}
