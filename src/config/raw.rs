//! What people write: the file, the environment and the flags, key by key, with a default for each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Format as _, Serialized, Toml};
use serde::{Deserialize, Serialize};

use super::hooks::RawHook;
use crate::redact::MAX_FIELD_BYTES;

/// Read when it is there and no other file was named.
pub const DEFAULT_FILE: &str = "docket.toml";

/// Environment variables of the form `DOCKET__SECTION__KEY` overlay the file.
const ENVIRONMENT_PREFIX: &str = "DOCKET__";

/// What people write.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// The data plane: agents' side.
    pub data: RawData,
    /// The admin plane: people's side.
    pub admin: RawAdmin,
    /// Where decisions are recorded.
    pub ledger: RawLedger,
    /// What decides.
    pub policy: RawPolicy,
    /// The servers docket stands in front of, by the name in `/mcp/NAME`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub servers: BTreeMap<String, RawServer>,
    /// The agents that may call, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<String, RawAgent>,
    /// What is taken away before anything is recorded.
    pub redaction: RawRedaction,
    /// What docket says about itself.
    pub log: RawLog,
}

/// `[data]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawData {
    /// Address and port; port 0 takes a free one.
    pub listen: String,
    /// Host names requests may be addressed to, besides loopback names and the listening address.
    pub allowed_hosts: Vec<String>,
    /// Origins browsers may call from, besides loopback ones.
    pub allowed_origins: Vec<String>,
    /// Largest request body.
    pub max_body_bytes: usize,
    /// Connections served at once.
    pub max_connections: usize,
    /// Requests of one agent under way at once, streams included.
    pub max_requests_per_agent: usize,
    /// Bytes of request bodies on their way at once; one agent has a quarter of them at most.
    pub max_receiving_bytes: usize,
    /// A request's head must be complete by then.
    pub header_timeout_ms: u64,
    /// A request's body must be complete by then.
    pub body_timeout_ms: u64,
    /// How long calls under way may take when docket is told to stop.
    pub shutdown_timeout_ms: u64,
}

/// `[admin]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawAdmin {
    /// Address and port; port 0 takes a free one.
    pub listen: String,
    /// As in `[data]`.
    pub allowed_hosts: Vec<String>,
    /// As in `[data]`.
    pub allowed_origins: Vec<String>,
    /// The first admin's token; by default `admin.token` beside the ledger. Made if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// A question to the ledger is given up after this long, and so is one that waits for others.
    pub query_timeout_ms: u64,
    /// Requests of one principal under way at once, streams and exports included; admins may have more.
    pub max_requests_per_principal: usize,
    /// Exports under way at once, Cerbos' lists included; one principal has half of them at most.
    pub max_exports: usize,
    /// Bytes of answers that wait to be read; one principal has a quarter of them at most.
    pub max_answer_bytes: usize,
}

/// `[ledger]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawLedger {
    /// The SQLite file; made if absent.
    pub path: PathBuf,
    /// Entries waiting for the writer at most.
    pub max_queue_entries: usize,
    /// How long a call waits for a place in the queue before it is refused.
    pub enqueue_timeout_ms: u64,
    /// The key that signs checkpoints, PKCS#8 PEM; by default the ledger's path with `.key` after it. Made if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The name of the log, first line of its checkpoints, as `docket.acme.example/billing`; it cannot change later. By
    /// default `docket.local/` and 16 hex digits of the key's SHA-256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Where the newest checkpoint is also written, by rename, for a tool that takes it out of this machine's reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_file: Option<PathBuf>,
    /// How long payloads are kept; for ever, unless it says otherwise.
    pub retention: RawRetention,
}

/// `[ledger.retention]`. Ages are written as `90d`, `12h` or `6y`, or `forever`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawRetention {
    /// Payloads older than this are pruned, where no rule says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
    /// Nothing younger is pruned, by whomever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_retention: Option<String>,
    /// Ages by kind and zone; the first that matches an entry counts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RawRule>,
}

/// `[[ledger.retention.rules]]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRule {
    /// Only entries of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only entries of this tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// As in `[ledger.retention]`.
    pub max_age: String,
}

/// `[policy]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawPolicy {
    /// A directory of `.rego` and data files; where the default is absent, the built-in starter set is in force.
    pub path: PathBuf,
    /// Longest evaluation of one call.
    pub timeout_ms: u64,
    /// How changes of the files are noticed: `auto`, `poll` (where the file system notifies of nothing) or `off`.
    pub watch: RawWatch,
    /// Whether a set must pass its own Rego tests to be put in force.
    pub require_tests: bool,
    /// The one rule that decides, as `data.authz.decision`, for policies that are not written in docket's effects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<String>,
}

/// `policy.watch`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RawWatch {
    /// By the operating system's notifications.
    #[default]
    Auto,
    /// By looking every second.
    Poll,
    /// Not at all: SIGHUP and `docket policy reload` still work.
    Off,
}

/// `[servers.NAME]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawServer {
    /// Where the server's MCP endpoint is.
    pub url: String,
    /// Longest wait for the head of an answer, and between two pieces of one.
    #[serde(default = "default_server_timeout_ms")]
    pub timeout_ms: u64,
    /// `enforce`, or `monitor`: decisions are recorded but do not bind.
    #[serde(default)]
    pub mode: RawMode,
    /// Headers added to every request, as a token of the server's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Headers of clients that reach this server besides those MCP needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forward_headers: Vec<String>,
    /// What is known about single tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tools: BTreeMap<String, RawTool>,
}

/// `servers.NAME.mode`
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RawMode {
    /// Decisions bind.
    #[default]
    Enforce,
    /// Decisions are recorded, and calls go on.
    Monitor,
}

/// `[servers.NAME.tools.TOOL]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTool {
    /// How sensitive the tool is, as `confidential`; policies and entries have it.
    pub classification: String,
}

/// `[agents.NAME]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAgent {
    /// Hex SHA-256 of the agent's token; `docket token hash` makes one.
    pub token_sha256: String,
    /// The person it acts for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// That person's team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The tenant.
    #[serde(default = "default_zone")]
    pub zone: String,
    /// Roles policies may ask for.
    #[serde(default = "default_roles")]
    pub roles: Vec<String>,
    /// Whether its token is accepted.
    #[serde(default = "default_enabled")]
    pub enabled: bool,
}

/// `[redaction]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawRedaction {
    /// Built-in rules that are switched off, by the names under which entries list them: `jwt`, `key-name`.
    pub disabled_rules: Vec<String>,
    /// Names of members that announce a credential, besides those built in; neither case nor separators matter.
    pub key_names: Vec<String>,
    /// Names of members that announce none.
    pub allow_key_names: Vec<String>,
    /// What is done with personal data.
    pub personal_data: RawPersonalData,
    /// Bytes that one recorded text may have; of a longer one the beginning is kept.
    pub max_field_bytes: usize,
    /// WebAssembly components that say what else to take away, in the order in which they run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<RawHook>,
}

/// `[redaction.personal_data]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawPersonalData {
    /// E-mail addresses.
    pub email: RawTreatment,
    /// Telephone numbers.
    pub phone: RawTreatment,
    /// Payment cards.
    pub payment_card: RawTreatment,
    /// International bank account numbers.
    pub iban: RawTreatment,
    /// Numbers that states give their people.
    pub national_id: RawTreatment,
}

/// `off`, `mask` or `hash`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RawTreatment {
    /// Recorded.
    #[default]
    Off,
    /// Replaced by a mark.
    Mask,
    /// Replaced by a keyed hash.
    Hash,
}

/// `[log]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawLog {
    /// `error`, `warn`, `info`, `debug`, or a filter such as `info,docket::proxy=debug`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// `log.format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For eyes.
    Pretty,
    /// One object a line.
    Json,
}

impl Default for RawData {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7410".into(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            max_body_bytes: 8 * 1024 * 1024,
            max_connections: 1_024,
            max_requests_per_agent: 256,
            max_receiving_bytes: 256 * 1024 * 1024,
            header_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            shutdown_timeout_ms: 10_000,
        }
    }
}

impl Default for RawAdmin {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7411".into(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            token_file: None,
            query_timeout_ms: 10_000,
            max_requests_per_principal: 32,
            max_exports: 4,
            max_answer_bytes: 256 * 1024 * 1024,
        }
    }
}

impl Default for RawLedger {
    fn default() -> Self {
        Self {
            path: "docket.db".into(),
            max_queue_entries: 1_024,
            enqueue_timeout_ms: 2_000,
            key_file: None,
            origin: None,
            checkpoint_file: None,
            retention: RawRetention::default(),
        }
    }
}

impl Default for RawPolicy {
    fn default() -> Self {
        Self {
            path: "policies".into(),
            timeout_ms: 500,
            watch: RawWatch::Auto,
            require_tests: false,
            entrypoint: None,
        }
    }
}

impl Default for RawRedaction {
    fn default() -> Self {
        Self {
            disabled_rules: Vec::new(),
            key_names: Vec::new(),
            allow_key_names: Vec::new(),
            personal_data: RawPersonalData::default(),
            max_field_bytes: MAX_FIELD_BYTES,
            hooks: Vec::new(),
        }
    }
}

impl Default for RawLog {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

fn default_server_timeout_ms() -> u64 {
    300_000
}

fn default_zone() -> String {
    "default".into()
}

fn default_roles() -> Vec<String> {
    vec!["agent".into()]
}

fn default_enabled() -> bool {
    true
}

/// Everything wrong with a configuration, one line each.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// Settings given as flags; they win over the environment, which wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--data-listen`
    pub data_listen: Option<String>,
    /// `--admin-listen`
    pub admin_listen: Option<String>,
    /// `--ledger`
    pub ledger: Option<PathBuf>,
    /// `--policy`
    pub policy: Option<PathBuf>,
}

impl Flags {
    /// The flags that were given, in the shape of the file.
    fn overlay(&self) -> BTreeMap<&'static str, BTreeMap<&'static str, String>> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let given = [
            ("data", "listen", self.data_listen.clone()),
            ("admin", "listen", self.admin_listen.clone()),
            ("ledger", "path", path(&self.ledger)),
            ("policy", "path", path(&self.policy)),
        ];
        let mut overlay: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (section, key, value) in given {
            if let Some(value) = value {
                overlay.entry(section).or_default().insert(key, value);
            }
        }
        overlay
    }
}

impl Raw {
    /// Lays file, environment and flags over the defaults. Without a file named, `docket.toml` in the working directory
    /// is read if it is there.
    ///
    /// # Errors
    /// The file named is missing or is not TOML, a key is unknown, a value has the wrong type.
    pub fn read(file: Option<&Path>, flags: &Flags) -> Result<Self, ConfigError> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        if file.is_some() && !path.is_file() {
            return Err(ConfigError(vec![format!("configuration file `{}` does not exist", path.display())]));
        }
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if path.is_file() {
            figment = figment.merge(Toml::file_exact(path));
        }
        figment = figment
            .merge(Env::prefixed(ENVIRONMENT_PREFIX).split("__"))
            .merge(Serialized::defaults(flags.overlay()));
        figment
            .extract()
            .map_err(|error| ConfigError(error.into_iter().map(|error| explain(&error)).collect()))
    }
}

/// One error of the configuration: where it stands, what is wrong, what would be right.
fn explain(error: &figment::Error) -> String {
    let source = error.metadata.as_ref().and_then(|metadata| metadata.source.as_ref()).map_or_else(
        || error.metadata.as_ref().map_or("configuration".into(), |metadata| metadata.name.to_string()),
        ToString::to_string,
    );
    let path = |last: &str| {
        let mut keys = error.path.clone();
        if !last.is_empty() {
            keys.push(last.to_owned());
        }
        keys.join(".")
    };
    match &error.kind {
        Kind::UnknownField(found, known) => {
            let mut keys = error.path.clone();
            if keys.last() == Some(found) {
                keys.pop();
            }
            let full = |key: &str| keys.iter().map(String::as_str).chain([key]).collect::<Vec<_>>().join(".");
            let nearest = nearest(found, known.iter().copied());
            let hint = nearest.map_or_else(String::new, |key| format!("; did you mean `{}`?", full(key)));
            format!("{source}: unknown key `{}`{hint}", full(found))
        }
        Kind::MissingField(name) => format!("{source}: `{}` is missing", path(name)),
        kind if error.path.is_empty() => format!("{source}: {kind}"),
        kind => format!("{source}: `{}`: {kind}", path("")),
    }
}

/// What somebody probably meant: the known word whose spelling is nearest.
pub(super) fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let closeness = |word: &str| strsim::jaro_winkler(word, found);
    known.into_iter().max_by(|a, b| closeness(a).total_cmp(&closeness(b)))
}
