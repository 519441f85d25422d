//! One entry as it is shown: leaf and payload put together, a decision with what became of its call.
//!
//! It knows its columns, and nothing of how entries are found.

use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::removals::Removal;
use crate::json::Object;

/// The members of an entry as it is shown, in order.
pub const FIELDS: [&str; 28] = [
    "id",
    "seq",
    "call_id",
    "kind",
    "event_type",
    "occurred_at",
    "request_id",
    "mode",
    "zone",
    "subject",
    "agent",
    "user",
    "team",
    "peer",
    "user_agent",
    "server",
    "action",
    "resource",
    "classification",
    "decision",
    "evaluation_status",
    "outcome",
    "duration_us",
    "evaluation_us",
    "policy_set",
    "determining_policies",
    "diagnostics",
    "metadata",
];

/// Members that are there besides [`FIELDS`], some only where there is something to say.
pub const MORE_FIELDS: [&str; 3] = ["redactions", "damaged", "removed"];

/// One entry as it is shown. A decision has its outcome and duration joined in. Members whose payload was erased are
/// `null`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Entry)]
pub struct Stored {
    /// ULID of the entry.
    pub id: String,
    /// Leaf index.
    pub seq: i64,
    /// ULID that joins the entries of one call.
    pub call_id: Option<String>,
    /// `decision`, `outcome`, …
    pub kind: String,
    /// Dotted name of the event.
    pub event_type: String,
    /// RFC 3339, UTC, milliseconds.
    pub occurred_at: String,
    /// The caller's id for the request, or docket's.
    pub request_id: Option<String>,
    /// `enforce` or `monitor`.
    pub mode: Option<String>,
    /// The tenant.
    pub zone: String,
    /// Who acted, as policies saw it.
    #[schema(value_type = Option<crate::call::Entity>)]
    pub subject: Option<Box<RawValue>>,
    /// The authenticated agent.
    pub agent: Option<String>,
    /// The person it acts for.
    pub user: Option<String>,
    /// That person's team.
    pub team: Option<String>,
    /// Address and port the request came from.
    pub peer: Option<String>,
    /// The caller's `User-Agent`.
    pub user_agent: Option<String>,
    /// The configured server the call was for.
    pub server: Option<String>,
    /// What was to be done.
    pub action: Option<String>,
    /// What it was to be done to.
    #[schema(value_type = Option<crate::call::Entity>)]
    pub resource: Option<Box<RawValue>>,
    /// The configured classification of the tool.
    pub classification: Option<String>,
    /// `allow`, `deny` or `require_approval`.
    pub decision: Option<String>,
    /// `complete`, `error` or `timeout`.
    pub evaluation_status: Option<String>,
    /// What became of the call; `null` until it is known, and for calls that were not forwarded.
    pub outcome: Option<String>,
    /// From arrival to the end of the answer, in microseconds.
    pub duration_us: Option<i64>,
    /// Time spent in policies, in microseconds.
    pub evaluation_us: Option<i64>,
    /// The set that was in force.
    pub policy_set: Option<StoredPolicySet>,
    /// The policies that produced the effect.
    #[schema(value_type = Option<Vec<crate::decision::Determining>>)]
    pub determining_policies: Option<Box<RawValue>>,
    /// What the winning rules said.
    #[schema(value_type = Option<Vec<crate::decision::Diagnostic>>)]
    pub diagnostics: Option<Box<RawValue>>,
    /// Everything else, redacted: `context` holds what the policy saw as `input.context`.
    #[schema(value_type = Object)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// What redaction took away.
    #[schema(value_type = Vec<crate::redact::Edit>)]
    pub redactions: Box<RawValue>,
    /// Parts and columns that do not hold what docket writes, shown as if they were erased. `docket verify` says more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<&'static str>,
    /// Why there is no payload any more, and on whose behalf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<Removal>,
    /// The whole action as policies saw it, for replay; `action` is its name.
    #[serde(skip)]
    pub action_part: Option<Box<RawValue>>,
    /// Whether the payload is there.
    #[serde(skip)]
    pub has_payload: bool,
}

/// Names the policy set of an entry.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = EntryPolicySet)]
pub struct StoredPolicySet {
    /// The set's name.
    pub id: Option<String>,
    /// The author's revision.
    pub revision: Option<String>,
    /// Digest of its manifest.
    pub manifest_sha: String,
}

/// What [`Stored::from_row`] reads, in its order.
pub(super) const SELECT: &str = "SELECT \
     l.seq, l.id, l.call_id, l.kind, l.event_type, l.occurred_at, l.request_id, l.mode, l.zone, l.decision, \
     l.evaluation_status, l.evaluation_us, l.outcome, l.duration_us, l.manifest_sha, \
     p.subject, p.agent, p.user, p.team, p.server, p.action_name, p.resource, p.determining_policies, p.diagnostics, \
     p.arguments, p.context, p.metadata, p.redactions, o.outcome, o.duration_us, m.bytes, p.action, \
     p.seq IS NOT NULL FROM leaves l LEFT JOIN payloads p ON p.seq = l.seq \
     LEFT JOIN leaves o ON l.kind = 'decision' AND l.forwarded AND o.call_id = l.call_id AND o.kind = 'outcome' \
     LEFT JOIN digests m ON m.digest = l.manifest_sha";

impl Stored {
    /// The entry of a row of [`SELECT`].
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let mut payload = Payload { row, damaged: Vec::new() };
        let mut metadata = payload.object(26, "metadata")?;
        let mut take = |name: &str| match metadata.remove(name) {
            Some(serde_json::Value::String(text)) => Some(text),
            _ => None,
        };
        let (peer, user_agent, classification) = (take("peer"), take("user_agent"), take("classification"));
        for name in ["agent", "user", "team", "server"] {
            metadata.remove(name);
        }
        let mut context = payload.object(25, "context")?;
        if let Some(arguments) = payload.json(24, "arguments")? {
            context.insert("arguments".into(), arguments);
        }
        if !context.is_empty() {
            metadata.insert("context".into(), serde_json::Value::Object(context));
        }
        let manifest_sha: Option<String> = row.get(14)?;
        let manifest: Option<Vec<u8>> = row.get(30)?;
        Ok(Self {
            seq: row.get(0)?,
            id: row.get(1)?,
            call_id: row.get(2)?,
            kind: row.get(3)?,
            event_type: row.get(4)?,
            occurred_at: row.get(5)?,
            request_id: row.get(6)?,
            mode: row.get(7)?,
            zone: row.get(8)?,
            subject: payload.json(15, "subject")?,
            agent: payload.text(16, "agent")?.map(str::to_owned),
            user: payload.text(17, "user")?.map(str::to_owned),
            team: payload.text(18, "team")?.map(str::to_owned),
            peer,
            user_agent,
            server: payload.text(19, "server")?.map(str::to_owned),
            action: payload.text(20, "action_name")?.map(str::to_owned),
            resource: payload.json(21, "resource")?,
            classification,
            decision: row.get(9)?,
            evaluation_status: row.get(10)?,
            outcome: row.get::<_, Option<String>>(12)?.or(row.get(28)?),
            duration_us: row.get::<_, Option<i64>>(13)?.or(row.get(29)?),
            evaluation_us: row.get(11)?,
            policy_set: manifest_sha.map(|sha| StoredPolicySet::of(sha, manifest.as_deref())),
            determining_policies: payload.json(22, "determining_policies")?,
            diagnostics: payload.json(23, "diagnostics")?,
            metadata,
            redactions: match payload.json(27, "redactions")? {
                Some(redactions) => redactions,
                // Two characters that are JSON.
                None => RawValue::from_string("[]".into()).map_err(unwritten)?,
            },
            action_part: payload.json(31, "action")?,
            removed: None,
            has_payload: row.get(32)?,
            damaged: payload.damaged,
        })
    }
}

impl StoredPolicySet {
    fn of(manifest_sha: String, manifest: Option<&[u8]>) -> Self {
        #[derive(serde::Deserialize)]
        struct Named {
            id: Option<String>,
            revision: Option<String>,
        }
        let named = manifest.and_then(|bytes| serde_json::from_slice::<Named>(bytes).ok());
        let (id, revision) = named.map_or((None, None), |named| (named.id, named.revision));
        Self { id, revision, manifest_sha }
    }
}

/// The columns of `payloads` in one row. Somebody may have written over them: that must not hide the other entries of a
/// page, nor what the leaf of this one says, so what cannot be read is noted and left out.
struct Payload<'a, 'row> {
    row: &'a Row<'row>,
    damaged: Vec<&'static str>,
}

impl<'a> Payload<'a, '_> {
    fn text(&mut self, column: usize, name: &'static str) -> rusqlite::Result<Option<&'a str>> {
        let text = self.row.get_ref(column)?.as_str_or_null();
        Ok(text.unwrap_or_else(|_| {
            self.damaged.push(name);
            None
        }))
    }

    fn json<T: DeserializeOwned>(
        &mut self,
        column: usize,
        name: &'static str,
    ) -> rusqlite::Result<Option<T>> {
        let Some(text) = self.text(column, name)? else { return Ok(None) };
        let parsed = serde_json::from_str(text).ok();
        if parsed.is_none() {
            self.damaged.push(name);
        }
        Ok(parsed)
    }

    fn object(&mut self, column: usize, name: &'static str) -> rusqlite::Result<Object> {
        Ok(self.json(column, name)?.unwrap_or_default())
    }
}

fn unwritten(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}

/// Bytes of a row's texts.
pub(super) fn size_of(row: &Row<'_>) -> rusqlite::Result<usize> {
    let columns = 0..row.as_ref().column_count();
    let size = |column| {
        Ok(match row.get_ref(column)? {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
            _ => 0,
        })
    };
    columns.map(size).sum()
}
