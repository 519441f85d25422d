//! Redaction hooks at start: each component is loaded before any call is taken, since none may pass it by.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use crate::metrics::Metrics;
use crate::redact::hooks::{Cache, HookSpec, Hooks, Host, Loaded, Observer, Run, default_folder, try_out};

/// A component that takes longer to load than this is worth a line, in milliseconds.
const SLOW_MS: u128 = 500;

/// What loads hooks, now and later.
pub(super) struct Loader {
    /// The engine.
    pub host: Arc<Host>,
    /// Compiled components.
    pub cache: Option<Cache>,
}

impl Loader {
    /// A loader that keeps compiled components beside the ledger. `key` is the ledger's own.
    pub(super) fn new(ledger: &Path, key: &[u8; 32]) -> anyhow::Result<Self> {
        let host = Host::new().map_err(anyhow::Error::msg).context("cannot start the WebAssembly engine")?;
        Ok(Self { host: Arc::new(host), cache: Some(Cache::new(default_folder(ledger), key)) })
    }

    /// Loads all hooks, in order. Compiling some languages takes seconds the first time.
    pub(super) fn load(&self, specs: Vec<HookSpec>, observer: Observer) -> anyhow::Result<Hooks> {
        let mut hooks = Vec::with_capacity(specs.len());
        for spec in specs {
            let loaded = self.host.load(&spec, self.cache.as_ref())?;
            if loaded.took.as_millis() > SLOW_MS {
                let (hook, took_ms) = (spec.name.as_str(), loaded.took.as_millis());
                tracing::info!(
                    hook,
                    took_ms,
                    "a redaction hook was compiled; the next start finds it compiled"
                );
            }
            // Refusing to start would help nobody: until it is mended, its failures withhold what it cannot look at.
            if let Err(error) = try_out(&spec, &loaded) {
                tracing::warn!("{error}");
            }
            hooks.push((spec, loaded));
        }
        if let Some(cache) = &self.cache {
            let digests: Vec<String> =
                hooks.iter().map(|(_, loaded): &(_, Loaded)| loaded.sha256.clone()).collect();
            cache.retain(&self.host, &digests);
        }
        Ok(Hooks::new(hooks, observer))
    }
}

/// Counts what hooks do.
pub(super) fn counting(metrics: &Metrics) -> Observer {
    let (calls, seconds) = (metrics.hook_calls.clone(), metrics.hook_seconds.clone());
    Box::new(move |run: Run<'_>| {
        let result = run.cause.map_or("ok", |cause| cause.as_str());
        calls.with_label_values(&[run.hook, result]).inc();
        seconds.with_label_values(&[run.hook]).observe(run.seconds);
    })
}
