//! Configuration: a TOML file, the environment and flags, laid over defaults; then validated once, at the edge.
//!
//! [`Raw`] is what people write, key by key; [`Config`] is what the rest of docket takes. Every key has a default, so
//! docket runs without any configuration. Unknown keys are refused with the nearest known one.

mod hooks;
mod raw;
mod redaction;
mod retention;
pub mod settings;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Uri};

use crate::call::Caller;
use crate::identity::{self, TokenDigest};
use crate::ledger::{Mode, Retention};
use crate::redact::Settings;
use crate::redact::hooks::HookSpec;
use crate::upstream;

pub use hooks::{DEADLINE_MS, MEMORY_BYTES, RawHook, RawOnFailure, RawWasi};
pub use raw::{
    ConfigError, DEFAULT_FILE, Flags, LogFormat, Raw, RawAdmin, RawAgent, RawData, RawLedger, RawLog,
    RawMode, RawPersonalData, RawPolicy, RawRedaction, RawRetention, RawRule, RawServer, RawTool,
    RawTreatment, RawWatch,
};

impl Raw {
    /// Checks everything and says all that is wrong, not only the first.
    ///
    /// # Errors
    /// One line for each key that cannot be used, saying what would be right.
    pub fn validate(mut self) -> Result<Config, ConfigError> {
        let mut problems = Vec::new();
        let written = self.clone();
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
            ("data.max_requests_per_agent", self.data.max_requests_per_agent as u64),
            ("data.max_receiving_bytes", self.data.max_receiving_bytes as u64),
            ("data.header_timeout_ms", self.data.header_timeout_ms),
            ("data.body_timeout_ms", self.data.body_timeout_ms),
            ("admin.query_timeout_ms", self.admin.query_timeout_ms),
            ("admin.max_requests_per_principal", self.admin.max_requests_per_principal as u64),
            ("admin.max_exports", self.admin.max_exports as u64),
            ("admin.max_answer_bytes", self.admin.max_answer_bytes as u64),
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
        let retention = retention::validate(&self.ledger.retention, &mut problems);
        let hooks = hooks::validate(std::mem::take(&mut self.redaction.hooks), &mut problems);
        let redaction = redaction::validate(self.redaction, &mut problems);
        if !problems.is_empty() {
            return Err(ConfigError(problems));
        }
        let token_file = self
            .admin
            .token_file
            .unwrap_or_else(|| self.ledger.path.parent().unwrap_or(Path::new("")).join("admin.token"));
        Ok(Config {
            written,
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
                max_requests_per_agent: self.data.max_requests_per_agent,
                max_receiving_bytes: self.data.max_receiving_bytes,
                max_requests_per_principal: self.admin.max_requests_per_principal,
                max_exports: self.admin.max_exports,
                max_answer_bytes: self.admin.max_answer_bytes,
                header_timeout_ms: self.data.header_timeout_ms,
                body_timeout_ms: self.data.body_timeout_ms,
                shutdown_timeout_ms: self.data.shutdown_timeout_ms,
            },
            token_file,
            query_timeout_ms: self.admin.query_timeout_ms,
            ledger: self.ledger,
            retention,
            hooks,
            policy: self.policy,
            servers,
            agents,
            redaction,
            log: self.log,
        })
    }
}

/// What the rest of docket takes.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything as written, for the ledger.
    pub written: Raw,
    /// The data plane.
    pub data: Plane,
    /// The admin plane.
    pub admin: Plane,
    /// Bounds of both planes.
    pub limits: Limits,
    /// The first admin's token.
    pub token_file: PathBuf,
    /// A question to the ledger is given up after this long.
    pub query_timeout_ms: u64,
    /// As written.
    pub ledger: RawLedger,
    /// How long payloads are kept.
    pub retention: Retention,
    /// What looks at each record before it is written, in order.
    pub hooks: Vec<HookSpec>,
    /// As written.
    pub policy: RawPolicy,
    /// By name.
    pub servers: BTreeMap<String, Arc<Server>>,
    /// Token digest, caller, enabled.
    pub agents: Vec<(TokenDigest, Caller, bool)>,
    /// What is taken away before anything is recorded.
    pub redaction: Settings,
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
    /// Requests of one agent under way at once.
    pub max_requests_per_agent: usize,
    /// Bytes of request bodies on their way, per plane.
    pub max_receiving_bytes: usize,
    /// Requests of one principal who is no admin under way at once.
    pub max_requests_per_principal: usize,
    /// Exports under way at once.
    pub max_exports: usize,
    /// Bytes of answers that wait to be read.
    pub max_answer_bytes: usize,
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
            ("[data]\nmax_requests_per_agent = 0", "`data.max_requests_per_agent` must be greater than 0"),
            ("[data]\nmax_receiving_bytes = 0", "`data.max_receiving_bytes` must be greater than 0"),
            ("[admin]\nmax_exports = 0", "`admin.max_exports` must be greater than 0"),
            ("[ledger.retention]\nmax_age = \"90\"", "`ledger.retention.max_age`: `90` is not an age"),
            ("[ledger.retention]\nmax_age = \"-1d\"", "is not an age"),
            ("[ledger.retention]\nmin_retention = \"forever\"", "is not an age"),
            (
                "[ledger.retention]\nmax_age = \"30d\"\nmin_retention = \"90d\"",
                "undercuts `ledger.retention.min_retention`",
            ),
            (
                "[[ledger.retention.rules]]\nkind = \"decisions\"\nmax_age = \"90d\"",
                "did you mean `decision`?",
            ),
            ("[[ledger.retention.rules]]\nkind = \"erase\"\nmax_age = \"90d\"", "are never pruned"),
            (
                "[[ledger.retention.rules]]\nkind = \"access\"",
                "`ledger.retention.rules.0.max_age` is missing",
            ),
            (
                "[redaction]\ndisabled_rules = [\"jtw\"]",
                "`redaction.disabled_rules`: `jtw` is no built-in rule; did you mean `jwt`?",
            ),
            (
                "[redaction]\nkey_names = [\"pin\"]\nallow_key_names = [\"PIN\"]",
                "`redaction.allow_key_names`: `PIN` is in `redaction.key_names` too",
            ),
            ("[redaction]\nkey_names = [\"--\"]", "`redaction.key_names`: `--` has no letter or digit"),
            ("[redaction]\nmax_field_bytes = 10", "`redaction.max_field_bytes` must be 256 or more"),
            ("[redaction.personal_data]\nemail = \"drop\"", "redaction.personal_data.email"),
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
