//! One entry: its leaf, its parts and the salted commitments that bind them.
//!
//! The *leaf* is the RFC 8785 (JCS) form of what can be kept for ever: sequence, kind, ids, time, effect, manifest digest,
//! and for each free-form part the commitment `base64url(SHA-256(salt || part))`. The *parts* lie beside it and can go
//! without the leaf changing. An entry is sealed, salts drawn and digests taken, on the caller's thread; the writer adds
//! the sequence number and nothing else.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use ulid::Ulid;

use crate::call::RequestId;
use crate::clock::{Clock, rfc3339};
use crate::decision::{Effect, EvaluationStatus, Outcome};
use crate::redact::{Record, Redacted};
use crate::tlog::Hash;
use crate::tlog::tree::LeafHasher;

/// The leaf format this docket writes, member `v` of every leaf.
pub const LEAF_VERSION: u32 = 1;

/// The free-form parts an entry may have, in the order of the `payloads` columns, of the salts and of the leaf.
pub const PARTS: [&str; 9] = [
    "action",
    "arguments",
    "context",
    "determining_policies",
    "diagnostics",
    "metadata",
    "redactions",
    "resource",
    "subject",
];

/// Bytes of salt per part.
pub const SALT_BYTES: usize = 32;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A call was decided.
    Decision,
    /// A forwarded call ended.
    Outcome,
    /// A call was explained while it was still known what redaction took from it.
    Trace,
    /// Somebody failed to authenticate.
    Auth,
    /// Somebody read the ledger.
    Access,
    /// A policy set was published or refused.
    Policy,
    /// Payloads were removed because of their age.
    Prune,
    /// The payloads of a subject were removed.
    Erase,
    /// Payloads are to be kept whatever their age, or need not be any more.
    Hold,
    /// Entries were taken out of the ledger in bulk.
    Export,
    /// Calls were stopped whatever policies say, or are no more.
    Block,
    /// docket started.
    Start,
    /// docket stopped in good order.
    Stop,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::Decision,
        Self::Outcome,
        Self::Trace,
        Self::Auth,
        Self::Access,
        Self::Policy,
        Self::Prune,
        Self::Erase,
        Self::Hold,
        Self::Export,
        Self::Block,
        Self::Start,
        Self::Stop,
    ];

    /// The kind of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Whether such entries say what became of others: their payloads are not pruned, since nothing else says so.
    #[must_use]
    pub fn is_act(self) -> bool {
        matches!(self, Self::Prune | Self::Erase | Self::Hold)
    }

    /// The word used on the wire and in the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Outcome => "outcome",
            Self::Trace => "trace",
            Self::Auth => "auth",
            Self::Access => "access",
            Self::Policy => "policy",
            Self::Prune => "prune",
            Self::Erase => "erase",
            Self::Hold => "hold",
            Self::Export => "export",
            Self::Block => "block",
            Self::Start => "start",
            Self::Stop => "stop",
        }
    }
}

/// What is to be recorded. Free-form content comes only as [`Redacted`].
pub struct Entry {
    /// What the entry is about.
    pub kind: Kind,
    /// Dotted name of the event, as `tools.call`.
    pub event_type: Cow<'static, str>,
    /// Milliseconds since the Unix epoch, UTC.
    pub time_ms: i64,
    /// Joins the entries of one call.
    pub call_id: Option<Ulid>,
    /// The caller's id for the request, or docket's.
    pub request_id: Option<RequestId>,
    /// The tenant the entry belongs to.
    pub zone: String,
    /// `enforce` or `monitor`, for calls.
    pub mode: Option<Mode>,
    /// The effect, how the evaluation went, and how long it took in microseconds.
    pub decision: Option<(Effect, EvaluationStatus, u64)>,
    /// What became of the call, and how long it took in microseconds from arrival to the end of the answer.
    pub outcome: Option<(Outcome, u64)>,
    /// Whether the call goes on to an upstream, so that an outcome entry must follow.
    pub forwarded: bool,
    /// Digest of the manifest in force.
    pub manifest_sha: Option<String>,
    /// The free-form parts: roots named as in [`PARTS`]; `context.arguments` becomes the part `arguments`.
    pub content: Redacted<Record>,
}

/// Whether a decision binds the call or only observes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A refused call does not go on.
    Enforce,
    /// A refused call goes on, and is marked.
    Monitor,
}

impl Mode {
    /// The word used on the wire and in the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Monitor => "monitor",
        }
    }
}

/// The columns of `payloads` that repeat members of the parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PartColumns {
    pub agent: Option<String>,
    pub user: Option<String>,
    pub team: Option<String>,
    pub server: Option<String>,
    pub subject_id: Option<String>,
    pub action_name: Option<String>,
    pub resource_type: Option<String>,
    pub resource_id: Option<String>,
}

/// An entry ready to be written: everything but its sequence number is fixed.
pub(super) struct Sealed {
    pub entry_id: String,
    pub kind: Kind,
    pub event_type: Cow<'static, str>,
    pub occurred_at: String,
    pub call_id: Option<String>,
    pub request_id: Option<String>,
    pub zone: String,
    pub mode: Option<&'static str>,
    pub decision: Option<(Effect, EvaluationStatus, u64)>,
    pub outcome: Option<(Outcome, u64)>,
    pub forwarded: bool,
    pub manifest_sha: Option<String>,
    /// In the order of [`PARTS`].
    pub parts: [Option<String>; PARTS.len()],
    pub salts: Vec<u8>,
    pub columns: PartColumns,
    /// The leaf up to its sequence number, the hash of that much, and the leaf from there on.
    leaf: (String, LeafHasher, String),
}

impl Entry {
    /// An entry that is about no call: whatever says more than this is put in its place.
    #[must_use]
    pub fn event(
        kind: Kind,
        event_type: impl Into<Cow<'static, str>>,
        time_ms: i64,
        content: Redacted<Record>,
    ) -> Self {
        Self {
            kind,
            event_type: event_type.into(),
            time_ms,
            call_id: None,
            request_id: None,
            zone: "default".into(),
            mode: None,
            decision: None,
            outcome: None,
            forwarded: false,
            manifest_sha: None,
            content,
        }
    }

    /// Draws salts, takes commitments and lays out the leaf. Hashing happens here, off the writer's thread.
    pub(super) fn seal(self, clock: &Clock) -> Sealed {
        let mut roots = self.content.into_inner();
        let mut parts: [Option<String>; PARTS.len()] = Default::default();
        let columns = PartColumns::of(&roots);
        let redactions = (!roots.edits.is_empty()).then(|| serde_json::to_string(&roots.edits));
        let arguments =
            roots.roots.iter_mut().find(|(name, _)| *name == "context").and_then(|(_, context)| {
                context.as_object_mut().and_then(|context| context.remove("arguments"))
            });
        for (name, slot) in PARTS.iter().zip(&mut parts) {
            let text = match *name {
                "arguments" => arguments.as_ref().map(Value::to_string),
                "redactions" => redactions.as_ref().and_then(|text| text.as_ref().ok()).cloned(),
                name => {
                    roots.roots.iter().find(|(root, _)| *root == name).map(|(_, value)| value.to_string())
                }
            };
            *slot = text;
        }
        let mut salts = vec![0; SALT_BYTES * parts.iter().flatten().count()];
        (clock.random)(&mut salts);
        let mut sealed = Sealed {
            leaf: (String::new(), LeafHasher::new(&[]), String::new()),
            entry_id: clock.ulid_at(self.time_ms).to_string(),
            kind: self.kind,
            event_type: self.event_type,
            occurred_at: rfc3339(self.time_ms),
            call_id: self.call_id.map(|id| id.to_string()),
            request_id: self.request_id.map(|id| id.to_string()),
            zone: self.zone,
            mode: self.mode.map(Mode::as_str),
            decision: self.decision,
            outcome: self.outcome,
            forwarded: self.forwarded,
            manifest_sha: self.manifest_sha,
            parts,
            salts,
            columns,
        };
        sealed.leaf = sealed.lay_out();
        sealed
    }
}

impl Sealed {
    /// The leaf's bytes under the given sequence number, and their leaf hash. Only what the number changes is hashed here:
    /// this is the writer's thread, and it serves everybody.
    pub fn leaf(&self, seq: i64) -> (String, Hash) {
        let (head, hasher, tail) = &self.leaf;
        let mut leaf = String::with_capacity(head.len() + tail.len() + 20);
        leaf.push_str(head);
        // Writing to a string cannot fail.
        let _ = write!(leaf, "{seq}");
        leaf.push_str(tail);
        let hash = hasher.finish(leaf.get(head.len()..).unwrap_or_default().as_bytes());
        (leaf, hash)
    }

    fn lay_out(&self) -> (String, LeafHasher, String) {
        let members = Members {
            call_id: self.call_id.as_deref(),
            decision: self.decision.map(|(effect, ..)| effect.as_str()),
            duration_us: self.outcome.map(|(_, duration_us)| duration_us),
            evaluation_status: self.decision.map(|(_, status, _)| status.as_str()),
            evaluation_us: self.decision.map(|(.., evaluation_us)| evaluation_us),
            event_type: &self.event_type,
            forwarded: self.forwarded,
            id: &self.entry_id,
            kind: self.kind.as_str(),
            manifest_sha: self.manifest_sha.as_deref(),
            mode: self.mode,
            occurred_at: &self.occurred_at,
            outcome: self.outcome.map(|(outcome, _)| outcome.as_str()),
            request_id: self.request_id.as_deref(),
            zone: &self.zone,
        };
        let mut parts = [None; PARTS.len()];
        for (part, text) in parts.iter_mut().zip(&self.parts) {
            *part = text.as_ref().map(String::as_bytes);
        }
        let (mut head, mut tail) = (Vec::new(), Vec::new());
        let commitments = Commitments { parts: &parts, salts: &self.salts };
        members.write_head(|out| commitments.write(out), &mut head);
        members.write_tail(&mut tail);
        let hasher = LeafHasher::new(&head);
        // JSON is UTF-8.
        let text = |bytes| String::from_utf8(bytes).unwrap_or_default();
        (text(head), hasher, text(tail))
    }
}

/// What a leaf says, apart from its number and its commitments. Writing an entry and verifying one lay a leaf out from this
/// one type, so that they cannot disagree.
///
/// RFC 8785 wants members in order of their names, and no space between anything; strings, booleans and small integers are
/// canonical as `serde_json` writes them. `seq` sits between two halves that are laid out apart.
pub(super) struct Members<'a> {
    pub call_id: Option<&'a str>,
    pub decision: Option<&'a str>,
    pub duration_us: Option<u64>,
    pub evaluation_status: Option<&'a str>,
    pub evaluation_us: Option<u64>,
    pub event_type: &'a str,
    pub forwarded: bool,
    pub id: &'a str,
    pub kind: &'a str,
    pub manifest_sha: Option<&'a str>,
    pub mode: Option<&'a str>,
    pub occurred_at: &'a str,
    pub outcome: Option<&'a str>,
    pub request_id: Option<&'a str>,
    pub zone: &'a str,
}

impl Members<'_> {
    /// The leaf up to where its number stands; `commitments` writes that member's value.
    pub fn write_head(&self, commitments: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
        out.push(b'{');
        write_text("call_id", self.call_id, out);
        out.extend_from_slice(b"\"commitments\":");
        commitments(out);
        out.push(b',');
        write_text("decision", self.decision, out);
        write_number("duration_us", self.duration_us, out);
        write_text("evaluation_status", self.evaluation_status, out);
        write_number("evaluation_us", self.evaluation_us, out);
        write_text("event_type", Some(self.event_type), out);
        let forwarded: &[u8] = if self.forwarded { b"\"forwarded\":true," } else { b"\"forwarded\":false," };
        out.extend_from_slice(forwarded);
        write_text("id", Some(self.id), out);
        write_text("kind", Some(self.kind), out);
        write_text("manifest_sha", self.manifest_sha, out);
        write_text("mode", self.mode, out);
        write_text("occurred_at", Some(self.occurred_at), out);
        write_text("outcome", self.outcome, out);
        write_text("request_id", self.request_id, out);
        out.extend_from_slice(b"\"seq\":");
    }

    /// The leaf after its number.
    pub fn write_tail(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"v\":");
        write_json(&LEAF_VERSION, out);
        out.extend_from_slice(b",\"zone\":");
        write_string(self.zone, out);
        out.push(b'}');
    }
}

/// A member that is a text, and the comma after it; nothing where there is none.
fn write_text(name: &'static str, text: Option<&str>, out: &mut Vec<u8>) {
    let Some(text) = text else { return };
    write_name(name, out);
    write_string(text, out);
    out.push(b',');
}

/// A member that is a number, and the comma after it; nothing where there is none.
fn write_number(name: &'static str, number: Option<u64>, out: &mut Vec<u8>) {
    let Some(number) = number else { return };
    write_name(name, out);
    write_json(&number, out);
    out.push(b',');
}

fn write_name(name: &'static str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// A string as RFC 8785 has it. Nearly none has anything to escape, and looking for that first is cheaper than looking at each
/// character as it is written: verifying does this twelve times for each entry.
fn write_string(text: &str, out: &mut Vec<u8>) {
    // All of it is looked at, many bytes at once: stopping at the first would mean looking at one after the other.
    let escaped = |byte: u8| u8::from(byte < 0x20) | u8::from(byte == b'"') | u8::from(byte == b'\\');
    if text.bytes().fold(0, |found, byte| found | escaped(byte)) != 0 {
        write_json(&text, out);
    } else {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
}

fn write_json(value: &impl Serialize, out: &mut Vec<u8>) {
    // A string or a number cannot fail to be written into memory.
    let _ = serde_json::to_writer(out, value);
}

/// The member `commitments` of a leaf: part name → base64url(SHA-256(salt || stored bytes)), without padding.
pub(super) struct Commitments<'a> {
    pub parts: &'a [Option<&'a [u8]>; PARTS.len()],
    pub salts: &'a [u8],
}

impl Commitments<'_> {
    /// Writes the object.
    pub fn write(&self, out: &mut Vec<u8>) {
        let present = PARTS.iter().zip(self.parts).filter_map(|(name, part)| Some((*name, (*part)?)));
        out.push(b'{');
        let mut separator: &[u8] = b"";
        for ((name, part), salt) in present.zip(self.salts.chunks_exact(SALT_BYTES)) {
            out.extend_from_slice(separator);
            write_name(name, out);
            out.push(b'"');
            out.extend_from_slice(&Commitment::of(salt, part).0);
            out.push(b'"');
            separator = b",";
        }
        out.push(b'}');
    }
}

/// Bytes of a commitment: 32 of SHA-256, in base64url.
const COMMITMENT_BYTES: usize = 43;

/// One commitment as it stands in a leaf, without a string of its own: verifying takes nine for each entry.
struct Commitment([u8; COMMITMENT_BYTES]);

impl Commitment {
    fn of(salt: &[u8], bytes: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(salt).chain_update(bytes).finalize();
        let mut text = [0; COMMITMENT_BYTES];
        // 32 bytes are 43 characters: it fits.
        let _ = URL_SAFE_NO_PAD.encode_slice(digest, &mut text);
        Self(text)
    }

    fn as_str(&self) -> &str {
        // base64url is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// `base64url(SHA-256(salt || bytes))`, without padding: what a leaf says of one part.
#[must_use]
pub fn commitment(salt: &[u8], bytes: &[u8]) -> String {
    Commitment::of(salt, bytes).as_str().to_owned()
}

impl PartColumns {
    fn of(record: &Record) -> Self {
        let find = |root: &str, pointer: &str| {
            let (_, value) = record.roots.iter().find(|(name, _)| *name == root)?;
            value.pointer(pointer)?.as_str().map(str::to_owned)
        };
        Self {
            agent: find("metadata", "/agent"),
            user: find("metadata", "/user"),
            team: find("metadata", "/team"),
            server: find("metadata", "/server"),
            subject_id: find("subject", "/id"),
            action_name: find("action", "/name"),
            resource_type: find("resource", "/type"),
            resource_id: find("resource", "/id"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Redactor;
    use serde_json::json;

    fn sealed() -> Sealed {
        let clock = Clock { now_ms: || 0, random: |buffer| buffer.fill(1) };
        let content = Redactor::builtin().record(vec![
            ("subject", json!({"type": "identity", "id": "a\u{7}\"é", "properties": {}})),
            ("context", json!({"arguments": {"n": 1}, "peer": "127.0.0.1:1"})),
            ("metadata", json!({"agent": "bot", "server": "fs"})),
        ]);
        let entry = Entry {
            kind: Kind::Decision,
            event_type: "tools.call".into(),
            time_ms: 1_795_158_000_007,
            call_id: Some(Ulid::nil()),
            request_id: RequestId::parse("r-1"),
            zone: "zone \"é\u{1f600}\"".into(),
            mode: Some(Mode::Enforce),
            decision: Some((Effect::Deny, EvaluationStatus::Complete, 31)),
            outcome: None,
            forwarded: false,
            manifest_sha: Some("sha256:00".into()),
            content,
        };
        entry.seal(&clock)
    }

    #[test]
    fn a_leaf_is_canonical_json() {
        let (leaf, hash) = sealed().leaf(42);
        assert_eq!(hash, crate::tlog::leaf_hash(leaf.as_bytes()));
        let value: Value = serde_json::from_str(&leaf).unwrap();
        assert_eq!(value["seq"], 42);
        assert_eq!(leaf, serde_json_canonicalizer::to_string(&value).unwrap());
    }

    #[test]
    fn commitments_bind_the_stored_bytes() {
        let sealed = sealed();
        let leaf: Value = serde_json::from_str(&sealed.leaf(0).0).unwrap();
        let names: Vec<&String> = leaf["commitments"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["arguments", "context", "metadata", "subject"]);
        assert_eq!(sealed.salts.len(), 4 * SALT_BYTES);
        assert_eq!(leaf["commitments"]["arguments"], commitment(&[1; 32], br#"{"n":1}"#));
        assert_eq!(leaf["commitments"]["context"], commitment(&[1; 32], br#"{"peer":"127.0.0.1:1"}"#));
    }

    #[test]
    fn the_documented_vectors_hold() {
        let page = include_str!("../../docs/ledger.md");
        let leaf = page.lines().find(|line| line.starts_with("{\"call_id\"")).unwrap();
        assert_eq!(
            leaf,
            serde_json_canonicalizer::to_string(&serde_json::from_str::<Value>(leaf).unwrap()).unwrap()
        );
        let hash = crate::tlog::leaf_hash(leaf.as_bytes());
        assert!(page.contains(&format!("`{}`", hex::encode(hash))));
        assert!(page.contains(&format!("`{}`", hex::encode(crate::tlog::node_hash(&hash, &hash)))));
        for part in [r#"{"n":1}"#, r#"{"id":"bot","type":"identity"}"#] {
            let expected = commitment(&[1; 32], part.as_bytes());
            assert!(page.contains(&format!("`{expected}`")) && leaf.contains(&expected), "{part}");
        }
    }
}
