//! The shapes in which entries leave the ledger: pure, one entry after the other.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::json::Object;
use crate::ledger::Stored;

/// A shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON array.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// RFC 4180, with a header.
    Csv,
    /// OPA's decision log: a JSON array, compressed.
    Opa,
}

/// The columns of CSV, in order. A column is a member of the entry, or a JSON pointer into it.
pub const COLUMNS: [(&str, &str); 33] = [
    ("id", "/id"),
    ("seq", "/seq"),
    ("call_id", "/call_id"),
    ("kind", "/kind"),
    ("event_type", "/event_type"),
    ("occurred_at", "/occurred_at"),
    ("request_id", "/request_id"),
    ("mode", "/mode"),
    ("zone", "/zone"),
    ("subject_type", "/subject/type"),
    ("subject_id", "/subject/id"),
    ("agent", "/agent"),
    ("user", "/user"),
    ("team", "/team"),
    ("peer", "/peer"),
    ("user_agent", "/user_agent"),
    ("server", "/server"),
    ("action", "/action"),
    ("resource_type", "/resource/type"),
    ("resource_id", "/resource/id"),
    ("classification", "/classification"),
    ("decision", "/decision"),
    ("evaluation_status", "/evaluation_status"),
    ("outcome", "/outcome"),
    ("duration_us", "/duration_us"),
    ("evaluation_us", "/evaluation_us"),
    ("policy_set", "/policy_set/id"),
    ("manifest_sha", "/policy_set/manifest_sha"),
    ("policies", "/determining_policies"),
    ("rules", "/diagnostics"),
    ("messages", "/diagnostics"),
    ("arguments", "/metadata/context/arguments"),
    ("redactions", "/redactions"),
];

impl Format {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Json, Self::Jsonl, Self::Csv, Self::Opa];

    /// Its name, and the ending of files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Opa => "opa",
        }
    }

    /// The format of that name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "ndjson" => Some(Self::Jsonl),
            word => Self::ALL.into_iter().find(|format| format.as_str() == word),
        }
    }

    /// What a file of it is called by HTTP.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Jsonl => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Opa => "application/gzip",
        }
    }

    /// The end of a file's name.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::Opa => "opa.json",
            other => other.as_str(),
        }
    }

    /// Whether it is compressed by its nature.
    #[must_use]
    pub fn is_compressed(self) -> bool {
        self == Self::Opa
    }

    /// Whether only decisions have this shape.
    #[must_use]
    pub fn is_of_decisions(self) -> bool {
        self == Self::Opa
    }

    /// What comes before the first entry.
    ///
    /// # Errors
    /// The writer's.
    pub fn begin(self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Json | Self::Opa => out.write_all(b"["),
            Self::Jsonl => Ok(()),
            Self::Csv => {
                let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
                write!(out, "{}\r\n", names.join(","))
            }
        }
    }

    /// One entry.
    ///
    /// # Errors
    /// The writer's.
    pub fn entry(self, entry: &Stored, is_first: bool, out: &mut impl Write) -> io::Result<()> {
        if matches!(self, Self::Json | Self::Opa) {
            out.write_all(if is_first { b"\n" } else { b",\n" })?;
        }
        match self {
            Self::Json => Ok(serde_json::to_writer(out, entry)?),
            Self::Jsonl => {
                serde_json::to_writer(&mut *out, entry)?;
                out.write_all(b"\n")
            }
            Self::Csv => row(&json!(entry), out),
            Self::Opa => Ok(serde_json::to_writer(out, &opa(entry))?),
        }
    }

    /// What comes after the last.
    ///
    /// # Errors
    /// The writer's.
    pub fn end(self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Json | Self::Opa => out.write_all(b"\n]\n"),
            Self::Jsonl | Self::Csv => Ok(()),
        }
    }
}

/// One row of CSV.
fn row(entry: &Value, out: &mut impl Write) -> io::Result<()> {
    for (at, (name, pointer)) in COLUMNS.into_iter().enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        let value = entry.pointer(pointer).unwrap_or(&Value::Null);
        let text = match (name, value) {
            (_, Value::Null) => continue,
            ("policies", items) => listed(items, "policy_id"),
            ("rules", items) => listed(items, "rule"),
            ("messages", items) => listed(items, "message"),
            (_, Value::String(text)) => text.clone(),
            (_, Value::Number(number)) => {
                // A number is no formula, whatever its sign.
                write!(out, "{number}")?;
                continue;
            }
            (_, other) => other.to_string(),
        };
        cell(&text, out)?;
    }
    out.write_all(b"\r\n")
}

/// A member of every element, with semicolons between.
fn listed(items: &Value, member: &str) -> String {
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<&str> = items.iter().filter_map(|item| item.get(member)?.as_str()).collect();
    texts.join("; ")
}

/// One cell. What a spreadsheet would take for a formula begins with an apostrophe (OWASP: CSV injection); what RFC 4180 has
/// quoted is quoted.
fn cell(text: &str, out: &mut impl Write) -> io::Result<()> {
    let is_formula = text
        .starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    if !is_formula && !text.contains([',', '"', '\r', '\n']) {
        return out.write_all(text.as_bytes());
    }
    let apostrophe = if is_formula { "'" } else { "" };
    write!(out, "\"{apostrophe}{}\"", text.replace('"', "\"\""))
}

/// An entry as an event of OPA's decision log.
fn opa(entry: &Stored) -> Value {
    let metadata = &entry.metadata;
    let raw = |value: &Option<Box<serde_json::value::RawValue>>| {
        value.as_ref().and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok()).unwrap_or(Value::Null)
    };
    let set = entry.policy_set.as_ref();
    let mut bundles = Map::new();
    if let Some(set) = set {
        let name = set.id.clone().unwrap_or_else(|| "policies".into());
        bundles.insert(name, json!({"revision": set.revision, "manifest_sha": set.manifest_sha}));
    }
    let redactions: Vec<Object> = serde_json::from_str(entry.redactions.get()).unwrap_or_default();
    let edited = |removed: bool| -> Vec<String> {
        let is_removed =
            |edit: &&Object| (edit.get("op").and_then(Value::as_str) == Some("remove")) == removed;
        let path = |edit: &Object| Some(format!("/input{}", edit.get("path")?.as_str()?));
        redactions.iter().filter(is_removed).filter_map(path).collect()
    };
    let mut event = json!({
        "labels": {"app": "docket", "id": entry.zone, "version": env!("CARGO_PKG_VERSION")},
        "decision_id": entry.call_id.as_ref().unwrap_or(&entry.id),
        "bundles": bundles,
        "path": "docket/decision",
        "input": {
            "subject": raw(&entry.subject),
            "action": raw(&entry.action_part),
            "resource": raw(&entry.resource),
            "context": metadata.get("context").cloned().unwrap_or_else(|| json!({})),
        },
        "result": {
            "allow": entry.decision.as_deref() == Some("allow"),
            "decision": entry.decision,
            "evaluation_status": entry.evaluation_status,
            "determining_policies": raw(&entry.determining_policies),
            "diagnostics": raw(&entry.diagnostics),
            "outcome": entry.outcome,
        },
        "requested_by": entry.peer,
        "timestamp": entry.occurred_at,
        "req_id": entry.seq,
        "metrics": {"timer_rego_query_eval_ns": entry.evaluation_us.map(|us| us.saturating_mul(1_000))},
        "custom": {"id": entry.id, "request_id": entry.request_id, "server": entry.server, "agent": entry.agent,
            "user": entry.user, "team": entry.team, "zone": entry.zone, "mode": entry.mode},
    });
    let (erased, masked) = (edited(true), edited(false));
    if let Some(members) = event.as_object_mut() {
        for (name, paths) in [("erased", erased), ("masked", masked)] {
            if !paths.is_empty() {
                members.insert(name.into(), json!(paths));
            }
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str) -> String {
        let mut out = Vec::new();
        cell(text, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn cells_are_quoted_and_no_formula() {
        for (text, expected) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "\"'=1+1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\t=1\""),
            ("=HYPERLINK(\"http://x\",\"y\")", "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\""),
            ("a=1", "a=1"),
        ] {
            assert_eq!(cells(text), expected);
        }
    }

    #[test]
    fn rows_have_every_column_and_numbers_as_they_are() {
        let entry = json!({"id": "X", "seq": 7, "duration_us": -1, "subject": {"id": "=cmd"},
            "determining_policies": [{"policy_id": "a"}, {"policy_id": "b"}], "diagnostics": [{"rule": "r", "message": "no, never"}]});
        let mut out = Vec::new();
        row(&entry, &mut out).unwrap();
        let row = String::from_utf8(out).unwrap();
        assert!(row.starts_with("X,7,,"), "{row}");
        assert!(
            row.contains("\"'=cmd\"") && row.contains(",-1,") && row.contains("a; b,r,\"no, never\""),
            "{row}"
        );
        assert!(row.ends_with("\r\n"));
    }
}
