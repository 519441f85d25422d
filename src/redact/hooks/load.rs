//! Loading: a component file becomes a guest that is ready to be called, or an error that says what to mend. Compiling takes
//! milliseconds to seconds, so this is done at start, and off the way of calls after that.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wasmtime::component::Component;

use super::cache::Cache;
use super::failure::OnFailure;
use super::host::{self, Bounds, Guest, Host, Wasi};
use crate::digest;

/// The largest component docket loads, in bytes: an interpreter for a large language, twice.
pub const MAX_COMPONENT_BYTES: u64 = 64 << 20;

/// A hook as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookSpec {
    /// What entries call it.
    pub name: String,
    /// The component file.
    pub component: PathBuf,
    /// What it is told of its settings: a JSON object as text.
    pub settings: String,
    /// What becomes of a record when it fails.
    pub on_failure: OnFailure,
    /// What one call may take.
    pub bounds: Bounds,
    /// Whether its log lines are shown.
    pub log: bool,
    /// Whether it may import WASI, which is not there.
    pub wasi: Wasi,
    /// After so many failures in a row it is called unhealthy.
    pub unhealthy_after: u32,
}

/// A loaded component.
pub struct Loaded {
    /// Of the file.
    pub sha256: String,
    /// Bytes of the file.
    pub bytes: usize,
    /// What it imports.
    pub imports: Vec<String>,
    /// How long loading took.
    pub took: Duration,
    /// Whether the compiled form was there already.
    pub was_cached: bool,
    pub(super) guest: Guest,
}

/// Why a component cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("redaction hook `{hook}`: `{}`: {reason}", component.display())]
pub struct LoadError {
    /// Its name in the configuration.
    pub hook: String,
    /// The file.
    pub component: PathBuf,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl Host {
    /// Reads and compiles a hook's component, or takes it from the cache.
    ///
    /// # Errors
    /// The file cannot be read, is too large, or is no component that a hook can be.
    pub fn load(&self, spec: &HookSpec, cache: Option<&Cache>) -> Result<Loaded, LoadError> {
        let failed =
            |reason| LoadError { hook: spec.name.clone(), component: spec.component.clone(), reason };
        let engine = self.engine().map_err(failed)?;
        let started = Instant::now();
        let binary = read(&spec.component).map_err(failed)?;
        let sha256 = digest::sha256(&binary);
        let cached = cache.and_then(|cache| cache.load(engine, &sha256));
        let was_cached = cached.is_some();
        let component = match cached {
            Some(component) => component,
            None => Component::from_binary(engine, &binary)
                .map_err(|error| failed(format!("it cannot be compiled: {error:#}")))?,
        };
        let guest = self.link(&component, spec.wasi).map_err(failed)?;
        if let Some(cache) = cache.filter(|_| !was_cached) {
            cache.store(engine, &sha256, &component);
        }
        let imports = host::imports(engine, &component);
        Ok(Loaded { sha256, bytes: binary.len(), imports, took: started.elapsed(), was_cached, guest })
    }
}

/// The digest of what lies at a component's path now, if it can be one.
#[must_use]
pub fn digest_at(component: &Path) -> Option<String> {
    read(component).ok().map(|binary| digest::sha256(&binary))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("it cannot be read: {error}");
    // Opening a pipe would wait for somebody to write to it.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut binary = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_COMPONENT_BYTES + 1).read_to_end(&mut binary).map_err(unreadable)?;
    if binary.len() as u64 > MAX_COMPONENT_BYTES {
        return Err(format!("it has more than {MAX_COMPONENT_BYTES} bytes, which is the most docket loads"));
    }
    match binary.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(binary),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
            Err("it is a core module and no component; make one of it with `wasm-tools component new`"
                .to_owned())
        }
        _ => Err("it is no WebAssembly component".to_owned()),
    }
}
