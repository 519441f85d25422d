//! The redactor as configured: built-in rules, the masks of the policy set, and the hooks, each of which is loaded before
//! anything is recorded, since nothing may pass it by.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus::IntCounter;

use super::serve::{load_policies, origin_of};
use super::system_clock;
use crate::config::Config;
use crate::masks::InForce;
use crate::metrics::Metrics;
use crate::redact::hooks::{Cache, HookSpec, Hooks, Host, Loaded, Observer, Run, default_folder, try_out};
use crate::redact::{HashKey, Redactor};

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
    /// A loader that keeps compiled components in a cache, if there is one.
    pub(super) fn new(cache: Option<Cache>) -> Self {
        Self { host: Arc::default(), cache }
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

/// The cache beside a ledger, whose own key that is.
pub(super) fn cache_beside(ledger: &Path, key: &[u8; 32]) -> Cache {
    Cache::new(default_folder(ledger), key)
}

/// The redactor for commands that run without a docket. Nobody counts what it does.
pub(super) fn offline(config: &Config, hash_key: HashKey, cache: Option<Cache>) -> anyhow::Result<Redactor> {
    let mut redactor = Redactor::new(&config.redaction, hash_key);
    if !config.hooks.is_empty() {
        let hooks = Loader::new(cache).load(config.hooks.clone(), Box::new(|_| {}))?;
        redactor = redactor.with_hooks(hooks);
    }
    if !config.policy.path.exists() {
        return Ok(redactor);
    }
    let policies = Arc::new(ArcSwap::from_pointee(load_policies(&origin_of(&config.policy))?));
    let failures = IntCounter::new("failures", "Of no interest here.")?;
    Ok(redactor.with_masks(Box::new(InForce { policies, clock: system_clock(), failures })))
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
