//! Entries for eyes: a table row, a block of an explanation. Only what the JSON says, laid out.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use serde_json::Value;

/// Colours, where they help and are wanted.
pub struct Paint {
    enabled: bool,
}

impl Paint {
    /// For standard output: on a terminal, unless `NO_COLOR` is set (no-color.org).
    pub fn stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { enabled: wanted && std::io::stdout().is_terminal() }
    }

    fn decision(&self, text: &str) -> String {
        let code = match text.trim_end() {
            "allow" | "ALLOW" => "32",
            "deny" | "DENY" => "31",
            _ => "33",
        };
        self.code(code, text)
    }

    fn bold(&self, text: &str) -> String {
        self.code("1", text)
    }

    fn code(&self, code: &str, text: &str) -> String {
        if self.enabled { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A member as text; empty where it is absent or null. Control characters cannot reach the terminal.
pub fn field(value: &Value, pointer: &str) -> String {
    let pointer = if pointer.starts_with('/') { pointer.to_owned() } else { format!("/{pointer}") };
    let text = match value.pointer(&pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    printable(&text)
}

/// Replaces control characters, which a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() && char != '\n' { '\u{fffd}' } else { char }).collect()
}

/// Widths of the table's columns; the last one takes what is left.
const COLUMNS: [(&str, usize); 8] = [
    ("TIME", 24),
    ("DECISION", 16),
    ("STATUS", 8),
    ("SERVER", 14),
    ("WHAT", 30),
    ("SUBJECT", 16),
    ("OUTCOME", 12),
    ("REQUEST", 26),
];

/// The table's first line.
pub fn table_head() -> String {
    let mut line = String::new();
    for (name, width) in COLUMNS {
        let _ = write!(line, "{name:width$} ");
    }
    line + "RULE"
}

/// One entry as one line.
pub fn table_row(entry: &Value, paint: &Paint) -> String {
    let what = match field(entry, "/resource/id") {
        id if id.is_empty() => field(entry, "event_type"),
        id => format!("{} {id}", field(entry, "event_type")),
    };
    let cells = [
        field(entry, "occurred_at"),
        field(entry, "decision"),
        field(entry, "evaluation_status"),
        field(entry, "server"),
        what,
        field(entry, "/subject/id"),
        field(entry, "outcome"),
        field(entry, "request_id"),
    ];
    let mut line = String::new();
    for (cell, (name, width)) in cells.iter().zip(COLUMNS) {
        let cell = cell.replace('\n', " ");
        let padded = format!("{:width$}", shortened(if cell.is_empty() { "-" } else { &cell }, width));
        line.push_str(&if name == "DECISION" { paint.decision(&padded) } else { padded });
        line.push(' ');
    }
    let rule = field(entry, "/diagnostics/0/rule");
    line + if rule.is_empty() { "-" } else { &rule }
}

fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A decision: effect and reason first.
pub fn decision(entry: &Value, why: Option<&Value>, paint: &Paint) -> String {
    let effect = field(entry, "decision");
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name:<13} {}", value.replace('\n', "\n                "));
        }
    };
    let because =
        why.and_then(|why| why.get("because")).and_then(Value::as_array).cloned().unwrap_or_default();
    for because in &because {
        let policy = field(because, "policy_id");
        if policy.is_empty() {
            line("docket", field(because, "rule"));
        } else {
            line(
                "policy",
                [policy, field(because, "title")]
                    .iter()
                    .filter(|t| !t.is_empty())
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(" — "),
            );
            line("version", field(because, "policy_version"));
            line("rule", field(because, "rule"));
        }
        line("message", field(because, "message"));
        line("data", field(because, "data"));
    }
    if because.is_empty() {
        for policy in entry.get("determining_policies").and_then(Value::as_array).into_iter().flatten() {
            line("policy", field(policy, "policy_id"));
            line("version", field(policy, "policy_version"));
        }
    }
    line("manifest", field(entry, "/policy_set/manifest_sha"));
    let revision = field(entry, "/policy_set/revision");
    line(
        "policy set",
        [field(entry, "/policy_set/id"), revision]
            .iter()
            .filter(|t| !t.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join(" "),
    );
    line(
        "what",
        format!(
            "{} on {} {}",
            field(entry, "action"),
            field(entry, "/resource/type"),
            field(entry, "/resource/id")
        ),
    );
    line("arguments", field(entry, "/metadata/context/arguments"));
    line("subject", format!("{} {}", field(entry, "/subject/type"), field(entry, "/subject/id")));
    line(
        "caller",
        [field(entry, "agent"), field(entry, "user"), field(entry, "team")]
            .iter()
            .filter(|t| !t.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join(", "),
    );
    line("server", field(entry, "server"));
    line(
        "from",
        [field(entry, "peer"), field(entry, "user_agent")]
            .iter()
            .filter(|t| !t.is_empty())
            .cloned()
            .collect::<Vec<_>>()
            .join(" "),
    );
    line("at", field(entry, "occurred_at"));
    let evaluation = format!("{} in {} µs", field(entry, "evaluation_status"), field(entry, "evaluation_us"));
    line("evaluation", evaluation);
    let outcome = field(entry, "outcome");
    if !outcome.is_empty() {
        line("outcome", format!("{outcome} after {} µs", field(entry, "duration_us")));
    }
    for edit in entry.get("redactions").and_then(Value::as_array).into_iter().flatten() {
        line("redacted", format!("{} ({} by {})", field(edit, "path"), field(edit, "op"), field(edit, "by")));
    }
    line("request", field(entry, "request_id"));
    line("call", field(entry, "call_id"));
    line("entry", format!("{} (seq {})", field(entry, "id"), field(entry, "seq")));
    let reason = why.map(|why| field(why, "reason")).unwrap_or_default();
    let mode = if field(entry, "mode") == "monitor" { " (monitor: it went on)" } else { "" };
    let head = format!("{}{mode}  {}", paint.decision(&effect.to_uppercase()), paint.bold(&reason));
    format!("{}\n{text}", head.trim_end())
}

/// An entry that is not a decision, in one line.
pub fn other(entry: &Value) -> String {
    format!(
        "{}  {} at {} (seq {})\n",
        field(entry, "kind").to_uppercase(),
        field(entry, "event_type"),
        field(entry, "occurred_at"),
        field(entry, "seq")
    )
}
