//! An entry as a row of CSV (RFC 4180), safe to open in a spreadsheet.

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::ledger::Stored;

/// The columns, in order: members of the entry, or of its subject, resource, policy set or context.
pub const COLUMNS: [&str; 35] = [
    "id",
    "seq",
    "call_id",
    "kind",
    "event_type",
    "occurred_at",
    "request_id",
    "mode",
    "zone",
    "subject_type",
    "subject_id",
    "agent",
    "user",
    "team",
    "peer",
    "user_agent",
    "server",
    "action",
    "resource_type",
    "resource_id",
    "classification",
    "decision",
    "evaluation_status",
    "outcome",
    "duration_us",
    "evaluation_us",
    "policy_set",
    "manifest_sha",
    "policies",
    "rules",
    "messages",
    "arguments",
    "redactions",
    "damaged",
    "removed",
];

/// One row.
///
/// # Errors
/// The writer's.
pub fn row(entry: &Stored, out: &mut impl Write) -> io::Result<()> {
    let (subject, resource) = (Named::of(entry.subject.as_deref()), Named::of(entry.resource.as_deref()));
    let (policies, diagnostics) = (array(&entry.determining_policies), array(&entry.diagnostics));
    let set = entry.policy_set.as_ref();
    let arguments = entry.metadata.get("context").and_then(|context| context.get("arguments"));
    for (at, name) in COLUMNS.into_iter().enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        match name {
            "id" => cell(&entry.id, out)?,
            "seq" => write!(out, "{}", entry.seq)?,
            "call_id" => optional(&entry.call_id, out)?,
            "kind" => cell(&entry.kind, out)?,
            "event_type" => cell(&entry.event_type, out)?,
            "occurred_at" => cell(&entry.occurred_at, out)?,
            "request_id" => optional(&entry.request_id, out)?,
            "mode" => optional(&entry.mode, out)?,
            "zone" => cell(&entry.zone, out)?,
            "subject_type" => json(&subject.r#type, out)?,
            "subject_id" => json(&subject.id, out)?,
            "agent" => optional(&entry.agent, out)?,
            "user" => optional(&entry.user, out)?,
            "team" => optional(&entry.team, out)?,
            "peer" => optional(&entry.peer, out)?,
            "user_agent" => optional(&entry.user_agent, out)?,
            "server" => optional(&entry.server, out)?,
            "action" => optional(&entry.action, out)?,
            "resource_type" => json(&resource.r#type, out)?,
            "resource_id" => json(&resource.id, out)?,
            "classification" => optional(&entry.classification, out)?,
            "decision" => optional(&entry.decision, out)?,
            "evaluation_status" => optional(&entry.evaluation_status, out)?,
            "outcome" => optional(&entry.outcome, out)?,
            "duration_us" => number(entry.duration_us, out)?,
            "evaluation_us" => number(entry.evaluation_us, out)?,
            "policy_set" => optional(set.map_or(&None, |set| &set.id), out)?,
            "manifest_sha" => cell(set.map_or("", |set| &set.manifest_sha), out)?,
            "policies" => cell(&listed(&policies, "policy_id"), out)?,
            "rules" => cell(&listed(&diagnostics, "rule"), out)?,
            "messages" => cell(&listed(&diagnostics, "message"), out)?,
            "arguments" => json(arguments.unwrap_or(&Value::Null), out)?,
            "redactions" => cell(entry.redactions.get(), out)?,
            "damaged" => cell(&entry.damaged.join("; "), out)?,
            "removed" => optional(&entry.removed.as_ref().map(ToString::to_string), out)?,
            // There is no other.
            _ => {}
        }
    }
    out.write_all(b"\r\n")
}

/// A subject or a resource.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    r#type: Value,
    id: Value,
}

impl Named {
    fn of(part: Option<&RawValue>) -> Self {
        part.and_then(|part| serde_json::from_str(part.get()).ok()).unwrap_or_default()
    }
}

#[expect(clippy::ref_option, reason = "members of an entry are options")]
fn optional(text: &Option<String>, out: &mut impl Write) -> io::Result<()> {
    cell(text.as_deref().unwrap_or_default(), out)
}

/// A number is no formula, whatever its sign.
fn number(number: Option<i64>, out: &mut impl Write) -> io::Result<()> {
    number.map_or(Ok(()), |number| write!(out, "{number}"))
}

fn json(value: &Value, out: &mut impl Write) -> io::Result<()> {
    match value {
        Value::Null => Ok(()),
        Value::String(text) => cell(text, out),
        Value::Number(number) => write!(out, "{number}"),
        other => cell(&other.to_string(), out),
    }
}

#[expect(clippy::ref_option, reason = "a part of an entry is an option")]
fn array(part: &Option<Box<RawValue>>) -> Vec<Value> {
    part.as_ref().and_then(|part| serde_json::from_str(part.get()).ok()).unwrap_or_default()
}

/// A member of every element, with semicolons between.
fn listed(items: &[Value], member: &str) -> String {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

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
        let raw = |text: &str| Some(RawValue::from_string(text.to_owned()).unwrap());
        let entry = Stored {
            id: "X".into(),
            seq: 7,
            call_id: None,
            kind: "decision".into(),
            event_type: "tools.call".into(),
            occurred_at: "2026-11-20T07:00:00.000Z".into(),
            request_id: None,
            mode: None,
            zone: "default".into(),
            subject: raw("{\"id\":\"=cmd\",\"type\":7}"),
            agent: None,
            user: None,
            team: None,
            peer: None,
            user_agent: None,
            server: None,
            action: None,
            resource: None,
            classification: None,
            decision: None,
            evaluation_status: None,
            outcome: None,
            duration_us: Some(-1),
            evaluation_us: None,
            policy_set: None,
            determining_policies: raw("[{\"policy_id\":\"a\"},{\"policy_id\":\"b\"},{\"policy_id\":1}]"),
            diagnostics: raw("[{\"rule\":\"r\",\"message\":\"no, never\"}]"),
            metadata: [("context".to_owned(), json!({"arguments": {"a": 1}}))].into_iter().collect(),
            redactions: RawValue::from_string("[]".into()).unwrap(),
            damaged: vec!["arguments", "metadata"],
            removed: None,
            action_part: None,
            has_payload: true,
        };
        let mut out = Vec::new();
        row(&entry, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "X,7,,decision,tools.call,2026-11-20T07:00:00.000Z,,,default,7,\"'=cmd\",,,,,,,,,,,,,,-1,,,,a; b,r,\"no, never\",\
             \"{\"\"a\"\":1}\",[],arguments; metadata,\r\n"
        );
    }
}
