//! `docket redact FILE`: what redaction leaves of a document, and what it takes, by which rule.
//!
//! For whoever writes a mask, switches on a rule, or wonders why something is missing. It needs no ledger, so its hashes are
//! made with a key that is nobody's.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use super::redactor::offline;
use crate::config::{Flags, Raw};
use crate::json as reading;
use crate::redact::{Edit, HashKey, Redactor};

/// Bytes of a document, as of a request's body.
const MAX_DOCUMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Members of a document that is a call, or the parts of an entry: they are redacted as such.
pub(super) const PARTS: [&str; 7] =
    ["action", "context", "determining_policies", "diagnostics", "metadata", "resource", "subject"];
/// The part that any other document is.
const DOCUMENT: &str = "document";

/// Arguments of `docket redact`.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub struct Redact {
    /// A JSON document, one a line, or plain text; `-` reads standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// List what was taken as well: where, what was done, by which rule, and what kind of thing it was.
    #[arg(long)]
    explain: bool,
    /// Print `{"document", "redactions"}`, one object for each document.
    #[arg(long)]
    json: bool,
    /// The configuration to take `[redaction]` from [default: ./docket.toml if present].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Policies whose `data.system.log` is asked too [default: the configured ones, where there are any].
    #[arg(long, value_name = "PATH")]
    policy: Option<PathBuf>,
}

const AFTER: &str = "An object with the members of a call (subject, action, resource, context) is redacted as that call; \
    a mask finds it below `/input`. Any other document is below `/result/document`.";

impl Redact {
    /// Runs the command: 0, whatever was found.
    ///
    /// # Errors
    /// The file, the configuration or the policies cannot be read.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let flags = Flags { policy: self.policy.clone(), ..Flags::default() };
        let config = Raw::read(self.config.as_deref(), &flags)?.validate()?;
        let text = self.read()?;
        let redactor = offline(&config, HashKey::new(&[0; 32]), None)?;
        let mut out = std::io::stdout().lock();
        for document in documents(&text) {
            let (after, edits) = redacted(&redactor, document.clone());
            if self.json {
                writeln!(out, "{}", json!({"document": after, "redactions": edits}))?;
                continue;
            }
            match &after {
                Value::String(text) => writeln!(out, "{}", text.trim_end_matches('\n'))?,
                after => writeln!(out, "{after:#}")?,
            }
            if self.explain {
                explain(&mut out, &edits)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn read(&self) -> anyhow::Result<String> {
        let shown = self.file.display();
        let mut bytes = Vec::new();
        let read = if self.file.as_os_str() == "-" {
            std::io::stdin().take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes)
        } else {
            let file = std::fs::File::open(&self.file);
            file.and_then(|file| file.take(MAX_DOCUMENT_BYTES + 1).read_to_end(&mut bytes))
        };
        if read.with_context(|| format!("cannot read `{shown}`"))? as u64 > MAX_DOCUMENT_BYTES {
            bail!("`{shown}` is larger than {MAX_DOCUMENT_BYTES} bytes");
        }
        String::from_utf8(bytes).with_context(|| format!("`{shown}` is not UTF-8"))
    }
}

/// The documents in a text: one, or one a line; a text that is neither is one document, a string.
fn documents(text: &str) -> Vec<Value> {
    if let Ok(value) = reading::parse(text.as_bytes()) {
        return vec![value];
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let values: Result<Vec<Value>, _> = lines.map(|line| reading::parse(line.as_bytes())).collect();
    match values {
        Ok(values) if !values.is_empty() => values,
        _ => vec![Value::String(text.to_owned())],
    }
}

/// What is left of a document, and the edits with their paths in it.
fn redacted(redactor: &Redactor, document: Value) -> (Value, Vec<Edit>) {
    let known = |name: &String| PARTS.iter().find(|part| *part == name).copied();
    match document {
        Value::Object(parts) if !parts.is_empty() && parts.keys().all(|name| known(name).is_some()) => {
            let roots = parts.into_iter().filter_map(|(name, value)| Some((known(&name)?, value)));
            let record = redactor.record(roots.collect()).into_inner();
            let parts = record.roots.into_iter().map(|(name, value)| (name.to_owned(), value));
            (Value::Object(parts.collect()), record.edits)
        }
        other => {
            let record = redactor.record(vec![(DOCUMENT, other)]).into_inner();
            let prefix = format!("/{DOCUMENT}");
            let within = |mut edit: Edit| {
                edit.path = edit.path.strip_prefix(&prefix).unwrap_or(&edit.path).to_owned();
                edit
            };
            let after = record.roots.into_iter().next().map(|(_, value)| value);
            (after.unwrap_or_default(), record.edits.into_iter().map(within).collect())
        }
    }
}

fn explain(out: &mut impl std::io::Write, edits: &[Edit]) -> std::io::Result<()> {
    if edits.is_empty() {
        return writeln!(out, "nothing was taken away");
    }
    let op = |edit: &Edit| serde_json::to_value(edit.op).ok().and_then(|op| op.as_str().map(str::to_owned));
    let width = edits.iter().map(|edit| edit.path.chars().count()).max().unwrap_or(0);
    for edit in edits {
        let path = if edit.path.is_empty() { "(all of it)" } else { &edit.path };
        writeln!(
            out,
            "  {:8}  {path:width$}  {} ({})",
            op(edit).unwrap_or_default(),
            edit.by,
            edit.category
        )?;
    }
    Ok(())
}
