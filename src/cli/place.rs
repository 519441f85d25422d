//! The running docket that a command asks to change something, and how it is told what came of it.

use std::io::Write as _;

use clap::Args;
use serde_json::Value;

use super::client::{Address, Client, runtime};

/// Where it is done, and how it is told.
#[derive(Debug, Args)]
pub struct Place {
    /// Print docket's answer as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    address: Address,
}

impl Place {
    /// Asks for a list; `member` of the answer has it.
    ///
    /// # Errors
    /// docket cannot be reached or refuses.
    pub fn list(&self, path: &str, member: &str) -> anyhow::Result<Vec<Value>> {
        let answer = runtime()?.block_on(Client::new(&self.address)?.get(path))?.unwrap_or_default();
        Ok(answer.get(member).and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// Has something changed: docket's answer, or in its words that there is nothing of the kind.
    ///
    /// # Errors
    /// As [`Place::list`].
    pub fn change(&self, path: &str, body: &Value) -> anyhow::Result<Result<Value, String>> {
        runtime()?.block_on(Client::new(&self.address)?.change(path, body))
    }

    /// Prints the answer as it was asked for.
    ///
    /// # Errors
    /// Nothing can be written.
    pub fn print(&self, value: &Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        print(self.json, value, text)
    }
}

/// Prints an answer as JSON, or as text.
pub fn print(json: bool, value: &Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    let text = if json { serde_json::to_string_pretty(value)? } else { text() };
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(())
}

/// A line for each, or what is said where there are none.
pub fn lines<'a>(
    listed: impl IntoIterator<Item = &'a Value>,
    line: fn(&Value) -> String,
    none: &str,
) -> String {
    let lines: Vec<String> = listed.into_iter().map(line).collect();
    if lines.is_empty() { none.to_owned() } else { lines.join("\n") }
}
