//! `[[redaction.hooks]]`: the components that look at each record before it is written.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::Object;
use crate::redact::hooks::{Bounds, HookSpec, OnFailure, Wasi};

/// A deadline that is longer than a caller waits protects nobody.
pub const DEADLINE_MS: RangeInclusive<u64> = 1..=60_000;
/// From one page of memory to all that WebAssembly can address.
pub const MEMORY_BYTES: RangeInclusive<u64> = 65_536..=4_294_967_296;

/// `[[redaction.hooks]]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHook {
    /// What entries, logs and metrics call it.
    pub name: String,
    /// The component file; a change of it is noticed and taken over.
    pub component: PathBuf,
    /// What the hook is told, as it defines it.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub settings: Object,
    /// What becomes of a record when the hook fails.
    #[serde(default)]
    pub on_failure: RawOnFailure,
    /// Longest time for one record.
    #[serde(default = "default_deadline_ms")]
    pub deadline_ms: u64,
    /// Largest memory for one record.
    #[serde(default = "default_max_memory_bytes")]
    pub max_memory_bytes: usize,
    /// Whether its log lines are shown in docket's log; not for a hook that is not trusted with that.
    #[serde(default = "default_log")]
    pub log: bool,
    /// What to do with a component that imports WASI, which no hook gets.
    #[serde(default)]
    pub wasi: RawWasi,
    /// After so many failures in a row `/readyz` calls it unhealthy.
    #[serde(default = "default_unhealthy_after")]
    pub unhealthy_after: u32,
}

/// `redaction.hooks.on_failure`
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RawOnFailure {
    /// What the hook was asked about is replaced by a marker with the reason.
    #[default]
    Withhold,
    /// Every text and number in it is masked, and the structure stays.
    MaskAll,
    /// As `withhold`, and the call is refused.
    Deny,
}

/// `redaction.hooks.wasi`
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RawWasi {
    /// The component does not load.
    #[default]
    Deny,
    /// It loads, and calling WASI ends the call.
    Trap,
}

fn default_deadline_ms() -> u64 {
    20
}

fn default_max_memory_bytes() -> usize {
    16 << 20
}

fn default_log() -> bool {
    true
}

fn default_unhealthy_after() -> u32 {
    3
}

/// Checks the hooks; what is wrong is added to `problems`.
pub(super) fn validate(hooks: Vec<RawHook>, problems: &mut Vec<String>) -> Vec<HookSpec> {
    let mut names = BTreeSet::new();
    for (at, hook) in hooks.iter().enumerate() {
        let key = |name: &str| format!("redaction.hooks.{at}.{name}");
        if !super::is_name(&hook.name) {
            problems.push(format!(
                "`{}`: `{}` is not 1 to 64 of `A-Z a-z 0-9 . _ -`",
                key("name"),
                hook.name
            ));
        }
        if !names.insert(&hook.name) {
            problems.push(format!("`{}`: another hook is called `{}` too", key("name"), hook.name));
        }
        if hook.component.as_os_str().is_empty() {
            problems.push(format!("`{}` is empty; it names a `.wasm` file", key("component")));
        }
        for (name, value, range) in [
            ("deadline_ms", hook.deadline_ms, DEADLINE_MS),
            ("max_memory_bytes", hook.max_memory_bytes as u64, MEMORY_BYTES),
            ("unhealthy_after", u64::from(hook.unhealthy_after), 1..=u64::from(u32::MAX)),
        ] {
            if !range.contains(&value) {
                problems.push(format!(
                    "`{}` is {value}; it must be {} to {}",
                    key(name),
                    range.start(),
                    range.end()
                ));
            }
        }
    }
    hooks.into_iter().map(spec).collect()
}

fn spec(hook: RawHook) -> HookSpec {
    HookSpec {
        name: hook.name,
        component: hook.component,
        settings: Value::Object(hook.settings).to_string(),
        on_failure: match hook.on_failure {
            RawOnFailure::Withhold => OnFailure::Withhold,
            RawOnFailure::MaskAll => OnFailure::MaskAll,
            RawOnFailure::Deny => OnFailure::Deny,
        },
        bounds: Bounds {
            deadline: Duration::from_millis(hook.deadline_ms),
            max_memory_bytes: hook.max_memory_bytes,
        },
        log: hook.log,
        wasi: match hook.wasi {
            RawWasi::Deny => Wasi::Deny,
            RawWasi::Trap => Wasi::Trap,
        },
        unhealthy_after: hook.unhealthy_after,
    }
}
