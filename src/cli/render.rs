//! Entries for eyes: a block each, and what an explanation says of it. Only what the JSON says, laid out.

use std::fmt::Write as _;

use serde_json::Value;

use super::terminal;

/// Colours, where they help and are wanted.
pub struct Paint {
    enabled: bool,
}

impl Paint {
    /// For standard output.
    pub fn stdout() -> Self {
        Self { enabled: terminal::has_colours(&std::io::stdout()) }
    }

    /// A decision, or what became of one, in its colour.
    pub fn decision(&self, text: &str) -> String {
        let code = match text.trim_end() {
            "-" => return text.to_owned(),
            "allow" | "ALLOW" | "success" => "32",
            "deny" | "DENY" => "31",
            _ => "33",
        };
        self.code(code, text)
    }

    /// Stands out.
    pub fn bold(&self, text: &str) -> String {
        self.code("1", text)
    }

    fn code(&self, code: &str, text: &str) -> String {
        if self.enabled { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A member as text; empty where it is absent or null. Control characters cannot reach the terminal.
pub fn field(value: &Value, pointer: &str) -> String {
    let pointer = if pointer.starts_with('/') { pointer.to_owned() } else { format!("/{pointer}") };
    value.pointer(&pointer).map(text).unwrap_or_default()
}

/// A value as text, likewise.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        other => printable(&other.to_string()),
    }
}

/// Replaces control characters, which a terminal would obey, and characters that are not seen but turn or join what stands
/// around them: with those a caller could make one text look like another.
fn printable(text: &str) -> String {
    let hidden = |char| matches!(char, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let shown =
        |char: char| if (char.is_control() && char != '\n') || hidden(char) { '\u{fffd}' } else { char };
    text.replace('\t', "    ").chars().map(shown).collect()
}

/// The same within a line: what callers choose cannot begin one of its own.
pub fn in_line(text: &str) -> String {
    text.replace('\n', "↵")
}

/// A length of time for eyes: `870 µs`, `12.3 ms`, `4.56 s`.
pub fn duration(us: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let value = us as f64;
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", value / 1e3),
        _ => format!("{:.2} s", value / 1e6),
    }
}

/// At most so many characters.
pub fn shortened(text: &str, width: usize) -> String {
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
            line("policy", joined([policy, field(because, "title")], " — "));
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
    line("policy set", joined([field(entry, "/policy_set/id"), revision], " "));
    let what = [field(entry, "action"), field(entry, "/resource/type"), field(entry, "/resource/id")];
    // Of an entry whose payload is gone nobody knows what it was about.
    if what.iter().any(|part| !part.is_empty()) {
        let [action, kind, id] = what;
        line("what", format!("{action} on {kind} {id}"));
    }
    line("arguments", field(entry, "/metadata/context/arguments"));
    let subject = format!("{} {}", field(entry, "/subject/type"), field(entry, "/subject/id"));
    line("subject", subject.trim().to_owned());
    line("caller", joined(["agent", "user", "team"].map(|name| field(entry, name)), ", "));
    line("server", field(entry, "server"));
    line("from", joined(["peer", "user_agent"].map(|name| field(entry, name)), " "));
    line("at", field(entry, "occurred_at"));
    line("evaluation", timed(entry, "evaluation_status", " in ", "evaluation_us"));
    line("outcome", timed(entry, "outcome", " after ", "duration_us"));
    for edit in entry.get("redactions").and_then(Value::as_array).into_iter().flatten() {
        line("redacted", format!("{} ({} by {})", field(edit, "path"), field(edit, "op"), field(edit, "by")));
    }
    if why.is_some_and(|why| field(why, "traced") == "live") {
        line("explained", "live, on the call before redaction; what that took shows its truth only".into());
    }
    line("request", field(entry, "request_id"));
    line("call", field(entry, "call_id"));
    line("entry", format!("{} (seq {})", field(entry, "id"), field(entry, "seq")));
    let reason = why.map(|why| in_line(&field(why, "reason"))).unwrap_or_default();
    let mode = if field(entry, "mode") == "monitor" { " (monitor: it went on)" } else { "" };
    let head = format!("{}{mode}  {}", paint.decision(&effect.to_uppercase()), paint.bold(&reason));
    format!("{}\n{text}", head.trim_end())
}

/// What there is of these, with something between.
fn joined<const N: usize>(texts: [String; N], between: &str) -> String {
    let filled: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    filled.join(between)
}

/// A word, and how long it took to come to that, where that is known.
fn timed(entry: &Value, word: &str, after: &str, us: &str) -> String {
    let word = field(entry, word);
    match entry.get(us).and_then(Value::as_u64) {
        Some(us) if !word.is_empty() => format!("{word}{after}{}", duration(us)),
        _ => word,
    }
}

/// An entry that is not a decision: what it says of itself first, then whom and what it belongs to.
pub fn other(entry: &Value) -> String {
    let mut text = format!(
        "{}  {} at {}\n",
        field(entry, "kind").to_uppercase(),
        field(entry, "event_type"),
        field(entry, "occurred_at")
    );
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name:<13} {}", value.replace('\n', "\n                "));
        }
    };
    line("outcome", timed(entry, "outcome", " after ", "duration_us"));
    for (name, value) in entry.get("metadata").and_then(Value::as_object).into_iter().flatten() {
        line(&printable(name), plain(value));
    }
    line("server", field(entry, "server"));
    line("caller", joined(["agent", "user", "team"].map(|name| field(entry, name)), ", "));
    line("from", joined(["peer", "user_agent"].map(|name| field(entry, name)), " "));
    line("request", field(entry, "request_id"));
    line("call", field(entry, "call_id"));
    line("entry", format!("{} (seq {})", field(entry, "id"), field(entry, "seq")));
    text
}

/// A value as text: strings as they are, anything else as JSON.
pub fn plain(value: &Value) -> String {
    printable(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn list<'a>(value: &'a Value, member: &str) -> &'a [Value] {
    value.get(member).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A decision with what was missing, or the rules that made it, between its reason and its detail.
pub fn explained(
    entry: &Value,
    why: Option<&Value>,
    missing: &[&Value],
    trace: &[&Value],
    paint: &Paint,
) -> String {
    let whole = decision(entry, why, paint);
    let (head, detail) = whole.split_once('\n').unwrap_or((&whole, ""));
    let because: Vec<&Value> = why.map(|why| list(why, "because")).unwrap_or_default().iter().collect();
    format!("{head}\n{}{detail}{}", reasons(&because, missing, paint), traced(trace, paint))
}

/// What a simulated call comes to.
pub fn simulated(answer: &Value, paint: &Paint) -> String {
    let effect = field(answer, "decision");
    let said = list(answer, "diagnostics").iter().map(|diagnostic| match field(diagnostic, "message") {
        message if message.is_empty() => field(diagnostic, "rule"),
        message => message,
    });
    let reason = in_line(&said.collect::<Vec<_>>().join("; "));
    let (why, missing): (Vec<&Value>, Vec<&Value>) =
        (list(answer, "why").iter().collect(), list(answer, "why_not").iter().collect());
    let mut text =
        format!("{}  {}", paint.decision(&effect.to_uppercase()), paint.bold(&reason)).trim_end().to_owned();
    text.push('\n');
    text.push_str(&reasons(&why, &missing, paint));
    for policy in list(answer, "determining_policies") {
        let _ = writeln!(text, "  {:<13} {}", "policy", field(policy, "policy_id"));
        let _ = writeln!(text, "  {:<13} {}", "version", field(policy, "policy_version"));
    }
    let _ = writeln!(text, "  {:<13} {}", "evaluation", field(answer, "evaluation_status"));
    let _ = writeln!(text, "  {:<13} {}", "manifest", field(answer, "manifest_sha"));
    let trace: Vec<&Value> = list(answer, "trace").iter().collect();
    text + &traced(&trace, paint)
}

/// The nearest missing condition, or the rules that applied; each with the source line it is about.
fn reasons(because: &[&Value], missing: &[&Value], paint: &Paint) -> String {
    let mut text = String::new();
    for rule in because.iter().filter(|because| because.get("file").is_some()) {
        let _ = writeln!(
            text,
            "\n  {}:{} {}",
            field(rule, "file"),
            field(rule, "line"),
            paint.bold(&field(rule, "rule"))
        );
        let first = rule.get("line").and_then(Value::as_u64).unwrap_or(0);
        for (number, line) in (first..).zip(field(rule, "excerpt").lines()) {
            let _ = writeln!(text, "  {number:>5} | {line}");
        }
        let mut values = String::new();
        for condition in list(rule, "conditions") {
            read_values(&mut values, condition, "        ");
        }
        text.push_str(&values);
    }
    if let Some((nearest, others)) = missing.split_first() {
        let _ = writeln!(
            text,
            "\n  nearest: rule {} of {} lacks",
            paint.bold(&field(nearest, "rule")),
            field(nearest, "policy_id")
        );
        lacking(&mut text, nearest);
        for step in list(nearest, "via").iter().rev() {
            let _ = writeln!(
                text,
                "    reached from {} ({}, in {})",
                place(step),
                one_line(&field(step, "condition")),
                field(step, "rule")
            );
        }
        for other in list(nearest, "alternatives") {
            let _ =
                writeln!(text, "    or {} {} would do", place(other), one_line(&field(other, "condition")));
        }
        for other in others {
            let _ = writeln!(
                text,
                "  {} of {} lacks {} `{}`{}",
                field(other, "rule"),
                field(other, "policy_id"),
                place(other),
                one_line(&field(other, "condition")),
                inline_values(other)
            );
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// One missing condition with its line, a caret, and the values it read.
fn lacking(text: &mut String, missing: &Value) {
    let condition = field(missing, "condition");
    let _ = writeln!(text, "  {} `{}`", place(missing), one_line(&condition));
    let number = field(missing, "line");
    let _ = writeln!(text, "  {number:>5} | {}", condition.lines().next().unwrap_or_default());
    let width = condition.lines().next().unwrap_or_default().chars().count().max(1);
    let _ = writeln!(text, "        | {}", "^".repeat(width));
    read_values(text, missing, "        ");
    for member in ["note", "uncertain"] {
        let note = field(missing, member);
        if !note.is_empty() {
            let _ =
                writeln!(text, "        {}{note}", if member == "uncertain" { "cannot tell: " } else { "" });
        }
    }
}

fn read_values(text: &mut String, condition: &Value, indent: &str) {
    let values = condition.get("values").and_then(Value::as_object);
    for (path, value) in values.into_iter().flatten() {
        let line = format!("{indent}{} = {}\n", printable(path), printable(&value.to_string()));
        if !text.contains(&line) {
            text.push_str(&line);
        }
    }
    for path in list(condition, "undefined") {
        let _ = writeln!(text, "{indent}{} is not there", plain(path));
    }
}

fn inline_values(condition: &Value) -> String {
    let values = condition.get("values").and_then(Value::as_object);
    let mut shown: Vec<String> = values
        .into_iter()
        .flatten()
        .map(|(path, value)| {
            format!("{} = {}", printable(path), shortened(&printable(&value.to_string()), 60))
        })
        .collect();
    shown.extend(list(condition, "undefined").iter().map(|path| format!("{} is not there", plain(path))));
    if shown.is_empty() { String::new() } else { format!(": {}", shown.join(", ")) }
}

/// Every condition of every rule, ticked or crossed.
fn traced(rules: &[&Value], paint: &Paint) -> String {
    let mark = |value: Option<&Value>| match value.and_then(Value::as_bool) {
        Some(true) => paint.code("32", "✓"),
        Some(false) => paint.code("31", "✗"),
        None => "?".to_owned(),
    };
    let mut text = String::new();
    for rule in rules {
        let _ = writeln!(
            text,
            "\n{} {} {} of {} ({}:{})",
            mark(rule.get("applies")),
            field(rule, "effect"),
            paint.bold(&field(rule, "rule")),
            field(rule, "policy_id"),
            field(rule, "file"),
            field(rule, "line")
        );
        for condition in list(rule, "conditions") {
            let shown = one_line(&field(condition, "condition"));
            let _ = writeln!(
                text,
                "    {} {} {shown}{}",
                mark(condition.get("holds")),
                field(condition, "line"),
                inline_values(condition)
            );
        }
    }
    text
}

fn place(item: &Value) -> String {
    format!("{}:{}:{}", field(item, "file"), field(item, "line"), field(item, "column"))
}

fn one_line(text: &str) -> String {
    shortened(&text.split_whitespace().collect::<Vec<_>>().join(" "), 160)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_or_hide_is_seen() {
        let hidden = "\u{1b}\u{7}\u{9b}\u{200b}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}";
        assert_eq!(printable(hidden), "\u{fffd}".repeat(10));
        let plain = "a\nb é \u{2010}\u{2029}\u{1f600} العربية";
        assert_eq!(printable(plain), plain);
        assert_eq!(in_line("x\nALLOW  forged"), "x↵ALLOW  forged");
        let entry = serde_json::json!({"decision": "deny"});
        let why = serde_json::json!({"reason": "no policy allows `x\nALLOW  forged`"});
        let said = decision(&entry, Some(&why), &Paint { enabled: false });
        assert_eq!(said.lines().next(), Some("DENY  no policy allows `x↵ALLOW  forged`"));
    }
}
