//! Redaction hooks come and go: a changed component is read, compiled, tried out and put in the old one's place; or refused, and
//! the old one stays. Either way the ledger says so, and says it first: no record is ever redacted by a component that the
//! ledger does not name.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use super::{Cause, entry};
use crate::gate::Gate;
use crate::ledger::LedgerError;
use crate::redact::hooks::{Cache, HookSpec, Host, LoadError, Loaded, digest_at, try_out};

/// The component files are looked at this often, in milliseconds.
const LOOK_MS: u64 = 1_000;

/// Puts changed hooks in force.
pub struct HookPublisher {
    gate: Arc<Gate>,
    host: Arc<Host>,
    cache: Option<Cache>,
    /// Why the file at a hook's path is not the one in use, by the hook's name.
    rejected: Mutex<BTreeMap<String, String>>,
}

/// What tells one file at a path from another without reading it.
type Stamp = Option<[i64; 6]>;

impl HookPublisher {
    /// Publishes for a gate, whose hooks were loaded by that host.
    #[must_use]
    pub fn new(gate: Arc<Gate>, host: Arc<Host>, cache: Option<Cache>) -> Self {
        Self { gate, host, cache, rejected: Mutex::default() }
    }

    /// Why the component at a hook's path is not the one in use, if it is not.
    #[must_use]
    pub fn rejected(&self, hook: &str) -> Option<String> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).get(hook).cloned()
    }

    /// Takes over changed components until nobody can ask any more.
    pub async fn follow(self: Arc<Self>, mut causes: mpsc::Receiver<Cause>) {
        let specs: Vec<HookSpec> = self.gate.redactor.hooks().specs().cloned().collect();
        // What changed since the components were loaded is found by looking at all of them once.
        let mut seen: Vec<Stamp> = vec![None; specs.len()];
        loop {
            let cause = tokio::select! {
                cause = causes.recv() => match cause {
                    Some(cause) => cause,
                    None => return,
                },
                () = tokio::time::sleep(Duration::from_millis(LOOK_MS)), if !specs.is_empty() => Cause::Watch,
            };
            for (spec, seen) in specs.iter().zip(&mut seen) {
                let now = stamp(spec);
                if now == *seen && cause == Cause::Watch {
                    continue;
                }
                match self.publish(spec, &cause).await {
                    // What was written meanwhile has another stamp, and is seen the next time.
                    Ok(()) => *seen = now,
                    Err(error) => {
                        tracing::error!(
                            hook = spec.name,
                            error = %error,
                            "a changed hook cannot be put in force; it is tried again"
                        );
                    }
                }
            }
        }
    }

    /// Reads one hook's component again, and puts it in force or refuses it.
    ///
    /// # Errors
    /// The ledger could not record it: the old one stays.
    pub async fn publish(&self, spec: &HookSpec, cause: &Cause) -> Result<(), LedgerError> {
        let hooks = self.gate.redactor.hooks();
        let mut all = hooks.health().into_iter();
        let before = all.find(|health| health.hook == spec.name).map(|health| health.sha256);
        let (host, cache, wanted, known) =
            (self.host.clone(), self.cache.clone(), spec.clone(), before.clone());
        let load = move || -> Result<Option<Loaded>, LoadError> {
            if known.is_some() && known == digest_at(&wanted.component) {
                return Ok(None);
            }
            let loaded = host.load(&wanted, cache.as_ref())?;
            try_out(&wanted, &loaded).map(|()| Some(loaded))
        };
        let loaded = match tokio::task::spawn_blocking(load).await {
            Ok(Ok(Some(loaded))) => loaded,
            Ok(Ok(None)) => {
                self.note(&spec.name, None);
                return Ok(());
            }
            Ok(Err(error)) => return self.reject(spec, cause, error.reason).await,
            Err(error) => return self.reject(spec, cause, format!("loading it failed: {error}")).await,
        };
        let facts = json!({
            "hook": spec.name, "before": before, "after": loaded.sha256, "bytes": loaded.bytes,
        });
        self.gate.ledger.append(entry(&self.gate, "hook.updated", cause, facts)).await?;
        tracing::info!(hook = spec.name, sha256 = loaded.sha256, "a redaction hook was updated");
        drop(hooks.replace(&spec.name, loaded));
        self.note(&spec.name, None);
        Ok(())
    }

    async fn reject(&self, spec: &HookSpec, cause: &Cause, reason: String) -> Result<(), LedgerError> {
        if self.rejected(&spec.name).as_ref() != Some(&reason) || *cause != Cause::Watch {
            let facts = json!({"hook": spec.name, "reason": reason});
            self.gate.ledger.append(entry(&self.gate, "hook.rejected", cause, facts)).await?;
            tracing::error!(hook = spec.name, reason, "a redaction hook was refused; the old one stays");
        }
        self.note(&spec.name, Some(reason));
        Ok(())
    }

    fn note(&self, hook: &str, rejected: Option<String>) {
        let mut all = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        match rejected {
            Some(reason) => all.insert(hook.to_owned(), reason),
            None => all.remove(hook),
        };
    }
}

fn stamp(spec: &HookSpec) -> Stamp {
    let told = |file: Metadata| {
        let (size, inode) = (file.size().cast_signed(), file.ino().cast_signed());
        [size, inode, file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()]
    };
    std::fs::metadata(&spec.component).ok().map(told)
}
