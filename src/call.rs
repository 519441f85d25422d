//! A call: who wants to do what to which resource, in which circumstances.
//!
//! [`Call`] is an AuthZEN Authorization API 1.0 evaluation request, and is exactly what a policy sees as `input`. What
//! could not be read becomes a [`Fault`], so that it can be denied and recorded like any other call. Pure data: nothing
//! here knows HTTP, MCP, Rego or SQLite.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use ulid::Ulid;

use crate::json::Object;

/// One evaluation request (AuthZEN 1.0 §5), the `input` of every policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvaluationRequest)]
pub struct Call {
    /// Who acts.
    pub subject: Entity,
    /// What they want to do: an MCP method, or the action a decision-API caller names.
    pub action: Action,
    /// What it is done to.
    pub resource: Entity,
    /// Circumstances: arguments, request id, time, protocol, client, peer, approval.
    #[serde(default)]
    pub context: Object,
}

/// A subject or a resource (AuthZEN 1.0 §5.1, §5.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Entity {
    /// `identity`, `tool`, `resource`, `prompt`, `mcp_server`, `http`, or what a decision-API caller says.
    #[serde(rename = "type")]
    pub kind: String,
    /// Unique within its type.
    pub id: String,
    /// Anything else about it.
    #[serde(default)]
    pub properties: Object,
}

impl Entity {
    /// The same as JSON, without copying the properties.
    #[must_use]
    pub fn into_value(self) -> Value {
        let mut object = Object::new();
        object.insert("type".into(), self.kind.into());
        object.insert("id".into(), self.id.into());
        object.insert("properties".into(), Value::Object(self.properties));
        Value::Object(object)
    }
}

/// An action (AuthZEN 1.0 §5.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Action {
    /// For MCP the JSON-RPC method, as `tools/call`.
    pub name: String,
    /// Anything else about it.
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub properties: Object,
}

/// The authenticated caller, from the configuration; never from what a request asserts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Caller {
    /// Name of the agent: the key of its `[agents.NAME]` table, or `anonymous`.
    pub agent: String,
    /// The person it acts for.
    pub user: Option<String>,
    /// The team that person belongs to.
    pub team: Option<String>,
    /// The tenant; keeps ledgers' readers apart.
    pub zone: String,
    /// Roles policies may ask for.
    pub roles: Vec<String>,
    /// Whether a token proved it.
    pub verified: bool,
}

impl Caller {
    /// A caller without a token, accepted only while the data plane is bound to loopback.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            agent: "anonymous".into(),
            user: None,
            team: None,
            zone: "default".into(),
            roles: vec!["agent".into()],
            verified: false,
        }
    }

    /// The subject of a call this caller makes: AuthZEN type `identity`, as the COAZ-MCP binding has it.
    #[must_use]
    pub fn subject(&self) -> Entity {
        let mut properties = Object::new();
        properties.insert("agent".into(), self.agent.clone().into());
        properties.insert("user".into(), self.user.clone().into());
        properties.insert("team".into(), self.team.clone().into());
        properties.insert("zone".into(), self.zone.clone().into());
        properties.insert("roles".into(), self.roles.clone().into());
        properties.insert("verified".into(), self.verified.into());
        properties.insert("claims".into(), Value::Object(Object::new()));
        Entity { kind: "identity".into(), id: self.agent.clone(), properties }
    }
}

/// The id a caller chose for its request, or a new ULID where it chose none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct RequestId(String);

impl RequestId {
    /// Accepts 1 to 128 characters of `[A-Za-z0-9._:-]`; anything else is `None`, and docket makes an id of its own.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        ((1..=128).contains(&text.len()) && text.bytes().all(allowed)).then(|| Self(text.to_owned()))
    }

    /// A request id of docket's own making.
    #[must_use]
    pub fn from_ulid(id: Ulid) -> Self {
        Self(id.to_string())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// When a call arrived and how it is named. Everything an evaluation may depend on besides the call itself.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Joins the entries of one call, and seeds `rand.intn` and `uuid.rfc4122`. A caller cannot choose it.
    pub call_id: Ulid,
    /// Nanoseconds since the Unix epoch, UTC: what `time.now_ns()` answers.
    pub time_ns: i64,
}

/// The rule of a call that somebody stopped.
pub const BLOCKED: &str = "blocked";

/// Why a request was denied before any policy could look at it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The request could not be read: not JSON, duplicate keys, too deep, not the protocol's shape.
    #[error("{0}")]
    Unreadable(String),
    /// JSON-RPC batches are refused: servers execute them, and one decision cannot cover several calls.
    #[error("JSON-RPC batches are not accepted; send one request at a time")]
    Batch,
    /// The MCP method is not one docket knows how to describe to a policy.
    #[error("method `{0}` is not known to docket")]
    UnknownMethod(String),
    /// The request lacks what its method must name: a tool, a resource, a prompt.
    #[error("{0}")]
    Unmappable(String),
    /// A mirrored header (`Mcp-Method`, `Mcp-Name`, `MCP-Protocol-Version`) says something else than the body.
    #[error("{0}")]
    HeaderMismatch(String),
    /// A redaction hook failed that refuses calls then.
    #[error("redaction hook `{hook}` failed ({cause}), and calls are refused then")]
    HookFailed {
        /// Its name in the configuration.
        hook: String,
        /// A stable word, as `deadline`.
        cause: &'static str,
    },
    /// Somebody stopped it: the agent, the server or every call.
    #[error("{0}")]
    Blocked(String),
    /// No `[servers.NAME]` of that name is configured.
    #[error("server `{0}` is not configured")]
    UnknownServer(String),
}

impl Fault {
    /// The stable word for this fault, used as `rule` of its diagnostic and as `class` of the refusal.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Batch => "batch",
            Self::UnknownMethod(_) => "unknown_method",
            Self::Unmappable(_) => "unmappable",
            Self::HeaderMismatch(_) => "header_mismatch",
            Self::HookFailed { .. } => "hook_failed",
            Self::Blocked(_) => BLOCKED,
            Self::UnknownServer(_) => "unknown_server",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_bounded_and_printable() {
        for good in ["a", "kill-17", "A.b_c:d-e", &"x".repeat(128)] {
            assert_eq!(RequestId::parse(good).map(|id| id.to_string()).as_deref(), Some(good));
        }
        for bad in ["", " ", "a b", "é", "a\n", "a/b", &"x".repeat(129)] {
            assert_eq!(RequestId::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_call_reads_as_an_authzen_request() {
        let text = r#"{"subject":{"type":"user","id":"alice"},"action":{"name":"read"},"resource":{"type":"doc","id":"1"}}"#;
        let call: Call = serde_json::from_str(text).unwrap();
        assert_eq!((call.subject.kind.as_str(), call.action.name.as_str()), ("user", "read"));
        assert!(call.context.is_empty());
    }
}
