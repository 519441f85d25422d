//! Configuration: a TOML file, the environment and flags, laid over defaults; then validated once, at the edge.
//!
//! [`Raw`] is what people write, key by key; [`Config`] is what the rest of docket takes. Every key has a default, so
//! docket runs without any configuration. Unknown keys are refused with the nearest known one.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Format as _, Serialized, Toml};
use http::{HeaderName, HeaderValue, Uri};
use serde::{Deserialize, Serialize};

use crate::call::Caller;
use crate::identity::{self, TokenDigest};
use crate::ledger::Mode;
use crate::upstream;

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
}

/// `[policy]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawPolicy {
    /// A directory of `.rego` and data files; where the default is absent, the built-in starter set is in force.
    pub path: PathBuf,
    /// Longest evaluation of one call.
    pub timeout_ms: u64,
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
        }
    }
}

impl Default for RawPolicy {
    fn default() -> Self {
        Self { path: "policies".into(), timeout_ms: 500 }
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

    /// Checks everything and says all that is wrong, not only the first.
    ///
    /// # Errors
    /// One line for each key that cannot be used, saying what would be right.
    pub fn validate(self) -> Result<Config, ConfigError> {
        let mut problems = Vec::new();
        let mut listen = |key: &str, text: &str| {
            text.parse::<SocketAddr>().unwrap_or_else(|_| {
                problems.push(format!(
                    "`{key}`: `{text}` is not an address and port, as `127.0.0.1:7410` or `[::1]:0`"
                ));
                SocketAddr::from(([127, 0, 0, 1], 0))
            })
        };
        let (data, admin) =
            (listen("data.listen", &self.data.listen), listen("admin.listen", &self.admin.listen));
        for (key, value) in [
            ("data.max_body_bytes", self.data.max_body_bytes as u64),
            ("data.max_connections", self.data.max_connections as u64),
            ("data.header_timeout_ms", self.data.header_timeout_ms),
            ("data.body_timeout_ms", self.data.body_timeout_ms),
            ("ledger.max_queue_entries", self.ledger.max_queue_entries as u64),
            ("policy.timeout_ms", self.policy.timeout_ms),
        ] {
            if value == 0 {
                problems.push(format!("`{key}` must be greater than 0"));
            }
        }
        let mut servers = BTreeMap::new();
        for (name, server) in self.servers {
            match Server::validate(&name, server) {
                Ok(server) => drop(servers.insert(name, Arc::new(server))),
                Err(found) => problems.extend(found),
            }
        }
        let mut agents: Vec<(TokenDigest, Caller, bool)> = Vec::new();
        for (name, agent) in self.agents {
            match validate_agent(&name, agent) {
                Ok(agent) if agents.iter().any(|(digest, ..)| *digest == agent.0) => {
                    problems.push(format!(
                        "`agents.{name}.token_sha256` is another agent's too; give each its own token"
                    ));
                }
                Ok(agent) => agents.push(agent),
                Err(problem) => problems.push(problem),
            }
        }
        if !data.ip().is_loopback() && agents.is_empty() {
            problems.push(format!(
                "`data.listen` is {data}, which other machines may reach, and no `[agents.NAME]` has a token: nobody could \
                 call; add an agent, or listen on 127.0.0.1"
            ));
        }
        if !problems.is_empty() {
            return Err(ConfigError(problems));
        }
        let token_file = self
            .admin
            .token_file
            .unwrap_or_else(|| self.ledger.path.parent().unwrap_or(Path::new("")).join("admin.token"));
        Ok(Config {
            data: Plane {
                listen: data,
                allowed_hosts: self.data.allowed_hosts,
                allowed_origins: self.data.allowed_origins,
            },
            admin: Plane {
                listen: admin,
                allowed_hosts: self.admin.allowed_hosts,
                allowed_origins: self.admin.allowed_origins,
            },
            limits: Limits {
                max_body_bytes: self.data.max_body_bytes,
                max_connections: self.data.max_connections,
                header_timeout_ms: self.data.header_timeout_ms,
                body_timeout_ms: self.data.body_timeout_ms,
                shutdown_timeout_ms: self.data.shutdown_timeout_ms,
            },
            token_file,
            ledger: self.ledger,
            policy: self.policy,
            servers,
            agents,
            log: self.log,
        })
    }
}

/// What the rest of docket takes.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data plane.
    pub data: Plane,
    /// The admin plane.
    pub admin: Plane,
    /// Bounds of both planes.
    pub limits: Limits,
    /// The first admin's token.
    pub token_file: PathBuf,
    /// As written.
    pub ledger: RawLedger,
    /// As written.
    pub policy: RawPolicy,
    /// By name.
    pub servers: BTreeMap<String, Arc<Server>>,
    /// Token digest, caller, enabled.
    pub agents: Vec<(TokenDigest, Caller, bool)>,
    /// As written.
    pub log: RawLog,
}

/// One listener.
#[derive(Clone, Debug)]
pub struct Plane {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Host names it answers to, besides loopback names and its own address.
    pub allowed_hosts: Vec<String>,
    /// Origins it accepts, besides loopback ones.
    pub allowed_origins: Vec<String>,
}

impl Plane {
    /// Whether a `Host` header names this plane: DNS rebinding would bring another name.
    #[must_use]
    pub fn accepts_host(&self, host: &str) -> bool {
        let name = host
            .rsplit_once(':')
            .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
            .map_or(host, |(name, _)| name);
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let by_address = bare.parse::<IpAddr>().is_ok_and(|ip| {
            // A name can be rebound to this address, an address cannot: behind 0.0.0.0 any address is one of ours.
            ip.is_loopback() || ip == self.listen.ip() || self.listen.ip().is_unspecified()
        });
        by_address
            || name.eq_ignore_ascii_case("localhost")
            || self
                .allowed_hosts
                .iter()
                .any(|allowed| allowed.eq_ignore_ascii_case(name) || allowed.eq_ignore_ascii_case(host))
    }

    /// Whether an `Origin` header may call this plane: a page from elsewhere may not.
    #[must_use]
    pub fn accepts_origin(&self, origin: &str) -> bool {
        if self.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
            return true;
        }
        let Ok(uri) = origin.parse::<Uri>() else { return false };
        let name = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// Bounds on what strangers may send and how long they may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest request body.
    pub max_body_bytes: usize,
    /// Connections served at once, per plane.
    pub max_connections: usize,
    /// A request's head must be complete by then.
    pub header_timeout_ms: u64,
    /// A request's body must be complete by then.
    pub body_timeout_ms: u64,
    /// How long calls under way may take when docket stops.
    pub shutdown_timeout_ms: u64,
}

/// One configured server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name, as in `/mcp/NAME`.
    pub name: Arc<str>,
    /// Its MCP endpoint.
    pub url: Uri,
    /// Longest wait for the head of an answer, and between two pieces of one.
    pub timeout_ms: u64,
    /// Whether decisions bind.
    pub mode: Mode,
    /// Headers added to every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Further headers of clients that reach it.
    pub forward_headers: Vec<HeaderName>,
    /// Classifications by tool name.
    pub classifications: BTreeMap<String, String>,
}

impl Server {
    fn validate(name: &str, raw: RawServer) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        if !is_name(name) {
            problems.push(format!("`servers.{name}`: a server's name is 1 to 64 of `A-Z a-z 0-9 . _ -`"));
        }
        if raw.timeout_ms == 0 {
            problems.push(format!("`servers.{name}.timeout_ms` must be greater than 0"));
        }
        let url = upstream::parse_url(&raw.url)
            .map_err(|problem| problems.push(format!("`servers.{name}.url`: {problem}")));
        let mut headers = Vec::new();
        for (key, value) in &raw.headers {
            match (HeaderName::try_from(key), HeaderValue::try_from(value)) {
                (Ok(key), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.push((key, value));
                }
                _ => problems
                    .push(format!("`servers.{name}.headers`: `{key}` or its value cannot be an HTTP header")),
            }
        }
        let mut forward_headers = Vec::new();
        for name in &raw.forward_headers {
            match HeaderName::try_from(name) {
                Ok(name) if name != http::header::AUTHORIZATION => forward_headers.push(name),
                _ => problems.push(format!("`servers.{name}.forward_headers`: `{name}` cannot be forwarded")),
            }
        }
        let (Ok(url), true) = (url, problems.is_empty()) else { return Err(problems) };
        Ok(Self {
            name: name.into(),
            url,
            timeout_ms: raw.timeout_ms,
            mode: match raw.mode {
                RawMode::Enforce => Mode::Enforce,
                RawMode::Monitor => Mode::Monitor,
            },
            headers,
            forward_headers,
            classifications: raw.tools.into_iter().map(|(tool, raw)| (tool, raw.classification)).collect(),
        })
    }
}

fn validate_agent(name: &str, raw: RawAgent) -> Result<(TokenDigest, Caller, bool), String> {
    if !is_name(name) || name == "anonymous" {
        return Err(format!(
            "`agents.{name}`: an agent's name is 1 to 64 of `A-Z a-z 0-9 . _ -`, and not `anonymous`"
        ));
    }
    let digest = raw.token_sha256.trim().trim_start_matches("sha256:");
    let digest: TokenDigest = hex::decode(digest).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
        format!("`agents.{name}.token_sha256` is not 64 hex digits; `docket token hash` makes them from a token")
    })?;
    if digest == identity::digest_of("") {
        return Err(format!("`agents.{name}.token_sha256` is the digest of an empty token"));
    }
    let caller = Caller {
        agent: name.to_owned(),
        user: raw.user,
        team: raw.team,
        zone: raw.zone,
        roles: raw.roles,
        verified: true,
    };
    Ok((digest, caller, raw.enabled))
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
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
            let nearest = known
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(a, found).total_cmp(&strsim::jaro_winkler(b, found)));
            let hint = nearest.map_or_else(String::new, |key| format!("; did you mean `{}`?", full(key)));
            format!("{source}: unknown key `{}`{hint}", full(found))
        }
        Kind::MissingField(name) => format!("{source}: `{}` is missing", path(name)),
        kind if error.path.is_empty() => format!("{source}: {kind}"),
        kind => format!("{source}: `{}`: {kind}", path("")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("docket.toml");
        std::fs::write(&file, toml).unwrap();
        Raw::read(Some(&file), &Flags::default())?.validate()
    }

    #[test]
    fn everything_has_a_default() {
        let config = read("").unwrap();
        assert_eq!(config.data.listen.to_string(), "127.0.0.1:7410");
        assert_eq!(config.token_file, Path::new("admin.token"));
    }

    #[test]
    fn mistakes_are_explained() {
        let digest = "0".repeat(64);
        for (toml, expected) in [
            ("[data]\nlisen = \"x\"", "unknown key `data.lisen`; did you mean `data.listen`?"),
            ("[serves.fs]\nurl = \"http://x\"", "unknown key `serves`; did you mean `servers`?"),
            (
                "[servers.fs]\nurll = \"http://x\"",
                "unknown key `servers.fs.urll`; did you mean `servers.fs.url`?",
            ),
            ("[servers.fs]\nmode = \"enforce\"", "`servers.fs.url` is missing"),
            (
                "[data]\nlisten = 7410",
                "`data.listen`: invalid type: found signed int `7410`, expected a string",
            ),
            ("[data]\nlisten = \"localhost:1\"", "is not an address and port"),
            ("[data]\nlisten = \"0.0.0.0:1\"", "nobody could call"),
            ("[servers.fs]\nurl = \"ftp://x\"", "is not an absolute http:// or https:// URL"),
            ("[servers.fs]\nurl = \"http://u:p@x/\"", "must not carry credentials"),
            ("[servers.fs]\nurl = \"http://x\"\nmode = \"off\"", "mode"),
            ("[agents.bot]\ntoken_sha256 = \"abc\"", "is not 64 hex digits"),
            ("[ledger]\nmax_queue_entries = 0", "must be greater than 0"),
            ("not toml", "expected"),
            (
                &format!("[agents.a]\ntoken_sha256 = \"{digest}\"\n[agents.b]\ntoken_sha256 = \"{digest}\""),
                "`agents.b.token_sha256` is another agent's too",
            ),
        ] {
            let error = read(toml).unwrap_err().to_string();
            assert!(error.contains(expected), "{toml}\n{error}");
        }
    }

    #[test]
    fn hosts_and_origins_of_other_places_are_refused() {
        let plane = Plane {
            listen: SocketAddr::from(([127, 0, 0, 1], 7410)),
            allowed_hosts: vec!["docket.internal".into()],
            allowed_origins: vec!["https://console.example".into()],
        };
        for host in [
            "localhost",
            "localhost:7410",
            "127.0.0.1:1",
            "[::1]:7410",
            "LOCALHOST:1",
            "docket.internal:7410",
        ] {
            assert!(plane.accepts_host(host), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:7410", "10.0.0.1", "", "localhost.evil:1"] {
            assert!(!plane.accepts_host(host), "{host}");
        }
        for origin in
            ["http://localhost:3000", "http://127.0.0.1", "https://[::1]:1", "https://console.example"]
        {
            assert!(plane.accepts_origin(origin), "{origin}");
        }
        for origin in
            ["null", "http://evil.example", "http://localhost.evil.example", "https://console.example.evil"]
        {
            assert!(!plane.accepts_origin(origin), "{origin}");
        }
    }
}
