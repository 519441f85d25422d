//! One entry: are its leaf, its columns and its payload the same entry?

use std::collections::BTreeMap;

use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde::Deserialize;

use super::super::entry::{Commitments, Members, PARTS, SALT_BYTES};
use super::columns;
use crate::json::Object;

/// Everything a row is checked with. [`Fields`] knows the order.
pub const SELECT: &str = "SELECT l.seq, l.leaf, l.id, l.kind, l.event_type, l.occurred_at, l.call_id, l.request_id, l.zone, \
     l.mode, l.decision, l.evaluation_status, l.evaluation_us, l.outcome, l.duration_us, l.forwarded, l.manifest_sha, \
     n.hashes, p.seq, p.salts, \
     p.action, p.arguments, p.context, p.determining_policies, p.diagnostics, p.metadata, p.redactions, p.resource, p.subject, \
     p.agent, p.user, p.team, p.server, p.subject_id, p.action_name, p.resource_type, p.resource_id \
     FROM leaves l LEFT JOIN nodes n ON n.seq = l.seq LEFT JOIN payloads p ON p.seq = l.seq \
     WHERE l.seq >= ? ORDER BY l.seq";

const ID: usize = 2;
pub const KIND: usize = 3;
pub const EVENT_TYPE: usize = 4;
pub const OCCURRED_AT: usize = 5;
pub const CALL_ID: usize = 6;
const REQUEST_ID: usize = 7;
const ZONE: usize = 8;
const MODE: usize = 9;
const DECISION: usize = 10;
const EVALUATION_STATUS: usize = 11;
const EVALUATION_US: usize = 12;
const OUTCOME: usize = 13;
const DURATION_US: usize = 14;
const FORWARDED: usize = 15;
pub const MANIFEST_SHA: usize = 16;
const HASHES: usize = 17;
const PAYLOAD_SEQ: usize = 18;
const SALTS: usize = 19;
const FIRST_PART: usize = 20;
const METADATA: usize = 25;
pub const FIRST_COLUMN: usize = FIRST_PART + PARTS.len();
pub const SUBJECT_ID: usize = FIRST_COLUMN + 4;

/// Stands for bytes that are not UTF-8. Ids, times and words have no control characters.
const NO_TEXT: &str = "\0";

/// Columns of [`SELECT`].
const WIDTH: usize = FIRST_COLUMN + 8;

/// One row of [`SELECT`], read without copying, and each column once: asking SQLite costs more than looking here.
pub struct Fields<'r>([ValueRef<'r>; WIDTH]);

impl<'r> Fields<'r> {
    /// The columns of a row of [`SELECT`].
    pub fn of(row: &'r Row<'_>) -> Self {
        let mut values = [ValueRef::Null; WIDTH];
        for (column, value) in values.iter_mut().enumerate() {
            *value = row.get_ref(column).unwrap_or(ValueRef::Null);
        }
        Self(values)
    }

    /// The entry's number, which SQLite keeps an integer: it is the row's own.
    pub fn seq(&self) -> i64 {
        self.value(0).as_i64().unwrap_or(-1)
    }

    fn value(&self, column: usize) -> ValueRef<'r> {
        self.0.get(column).copied().unwrap_or(ValueRef::Null)
    }

    pub fn bytes(&self, column: usize) -> Option<&'r [u8]> {
        match self.value(column) {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A column that a leaf repeats. Bytes that are no text count as one no leaf has, not as absent: an absent member would
    /// agree with a leaf that has none.
    pub fn text(&self, column: usize) -> Option<&'r str> {
        self.bytes(column).map(|bytes| std::str::from_utf8(bytes).unwrap_or(NO_TEXT))
    }

    fn number(&self, column: usize) -> Option<u64> {
        match self.value(column) {
            ValueRef::Integer(number) => Some(number.cast_unsigned()),
            _ => None,
        }
    }

    pub fn leaf(&self) -> &'r [u8] {
        self.bytes(1).unwrap_or_default()
    }

    pub fn hashes(&self) -> Option<&'r [u8]> {
        self.bytes(HASHES)
    }

    pub fn has_payload(&self) -> bool {
        self.number(PAYLOAD_SEQ).is_some()
    }

    pub fn metadata(&self) -> &'r [u8] {
        self.bytes(METADATA).unwrap_or_default()
    }

    pub fn forwarded(&self) -> bool {
        self.number(FORWARDED) == Some(1)
    }

    fn parts(&self) -> [Option<&'r [u8]>; PARTS.len()] {
        let mut parts = [None; PARTS.len()];
        for (offset, part) in parts.iter_mut().enumerate() {
            *part = self.bytes(FIRST_PART + offset);
        }
        parts
    }
}

/// What checking one row after the other reuses.
#[derive(Debug, Default)]
pub struct Scratch {
    leaf: Vec<u8>,
    memory: columns::Memory,
}

/// Lays the leaf out from the columns and the payload and compares it with the one that is stored. Says what differs.
pub fn check(fields: &Fields<'_>, scratch: &mut Scratch) -> Result<(), String> {
    let Scratch { leaf, memory } = scratch;
    if !fields.has_payload() {
        // Nothing can be committed to anew: the leaf's own commitments stand for themselves.
        let committed: Committed<'_> = serde_json::from_slice(fields.leaf())
            .map_err(|error| format!("its leaf is not what docket writes: {error}"))?;
        let write = |out: &mut Vec<u8>| {
            // A map of strings cannot fail to be written into memory.
            let _ = serde_json::to_writer(out, &committed.commitments);
        };
        return lay_out(fields, write, leaf);
    }
    let parts = fields.parts();
    let salts = fields.bytes(SALTS).unwrap_or_default();
    if salts.len() != SALT_BYTES * parts.iter().flatten().count() {
        return Err("column `salts` does not have 32 bytes for each part".into());
    }
    lay_out(fields, |out| Commitments { parts: &parts, salts }.write(out), leaf)?;
    columns::check(fields, &parts, memory)
}

/// As much of a leaf as cannot be told from its columns.
#[derive(Deserialize)]
struct Committed<'a> {
    #[serde(borrow)]
    commitments: BTreeMap<&'a str, &'a str>,
}

fn lay_out(
    fields: &Fields<'_>,
    commitments: impl FnOnce(&mut Vec<u8>),
    leaf: &mut Vec<u8>,
) -> Result<(), String> {
    if fields.number(FORWARDED).is_none_or(|forwarded| forwarded > 1) {
        return Err("column `forwarded` is neither 0 nor 1".into());
    }
    let required = |column| fields.text(column).unwrap_or_default();
    let members = Members {
        call_id: fields.text(CALL_ID),
        decision: fields.text(DECISION),
        duration_us: fields.number(DURATION_US),
        evaluation_status: fields.text(EVALUATION_STATUS),
        evaluation_us: fields.number(EVALUATION_US),
        event_type: required(EVENT_TYPE),
        forwarded: fields.forwarded(),
        id: required(ID),
        kind: required(KIND),
        manifest_sha: fields.text(MANIFEST_SHA),
        mode: fields.text(MODE),
        occurred_at: required(OCCURRED_AT),
        outcome: fields.text(OUTCOME),
        request_id: fields.text(REQUEST_ID),
        zone: required(ZONE),
    };
    leaf.clear();
    members.write_head(commitments, leaf);
    write_number(fields.seq(), leaf);
    members.write_tail(leaf);
    if leaf.as_slice() != fields.leaf() {
        return Err(difference(leaf, fields.leaf()));
    }
    Ok(())
}

fn write_number(number: i64, out: &mut Vec<u8>) {
    use std::io::Write as _;
    // Writing into memory cannot fail.
    let _ = write!(out, "{number}");
}

/// Which member of two leaves differs, in words.
fn difference(expected: &[u8], stored: &[u8]) -> String {
    let Ok(stored) = serde_json::from_slice::<Object>(stored) else {
        return "its leaf is not a JSON object".into();
    };
    let expected: Object = serde_json::from_slice(expected).unwrap_or_default();
    let names = expected.keys().chain(stored.keys());
    let Some(name) = names.into_iter().find(|name| expected.get(*name) != stored.get(*name)) else {
        return "its leaf is not in canonical form (RFC 8785)".into();
    };
    if name == "commitments" {
        let object =
            |leaf: &Object| leaf.get(name).and_then(|value| value.as_object()).cloned().unwrap_or_default();
        let (expected, stored) = (object(&expected), object(&stored));
        let part =
            PARTS.into_iter().find(|part| expected.get(*part) != stored.get(*part)).unwrap_or("unknown");
        return format!("part `{part}` or its salt is not what the leaf commits to");
    }
    format!("column `{name}` is not what the leaf says")
}
