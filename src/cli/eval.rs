//! `docket eval QUERY`: the value of an expression over a policy set, its data and an input.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::{EXIT_FINDINGS, system_clock};
use crate::call::Moment;
use crate::json as reading;
use crate::policy::{Limits, Query, Source, query};

/// Bytes of an input, as of a request's body.
const MAX_INPUT_BYTES: u64 = 8 * 1024 * 1024;

const NS_PER_MS: i64 = 1_000_000;

/// Arguments of `docket eval`.
#[derive(Debug, Args)]
pub struct Eval {
    /// An expression such as `data.docket.shell.deny`, or several separated by `;`.
    query: String,
    /// A directory of policies, or one `.rego` file; without one there is only the language.
    #[arg(long, short, value_name = "PATH")]
    policy: Option<PathBuf>,
    /// A JSON file to be `input`; `-` reads standard input.
    #[arg(long, short, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print every result with its bindings, as JSON.
    #[arg(long)]
    json: bool,
}

impl Eval {
    /// Runs the command: 0 where the query has a result, 1 where it is undefined or wrong.
    ///
    /// # Errors
    /// A path cannot be read, or the input is not JSON.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let source = match &self.policy {
            Some(path) => Source::read(path)?,
            None => Source { id: "none".into(), revision: None, files: Vec::new(), entrypoint: None },
        };
        let clock = system_clock();
        let moment = Moment { call_id: clock.ulid(), time_ns: (clock.now_ms)().saturating_mul(NS_PER_MS) };
        let input = self.input()?;
        let asked = Query { text: self.query, input, moment, limits: Limits::default(), strict: true };
        let answer = match query(&source, &asked) {
            Ok(answer) => answer,
            Err(findings) => {
                for finding in &findings {
                    eprintln!("{finding}");
                }
                return Ok(ExitCode::from(EXIT_FINDINGS));
            }
        };
        for print in &answer.prints {
            eprintln!("{print}");
        }
        if self.json {
            let rows = answer.rows.iter().map(|row| {
                let expressions = row.expressions.iter();
                let expressions: Vec<_> =
                    expressions.map(|(text, value)| json!({"text": text, "value": value})).collect();
                json!({"expressions": expressions, "bindings": row.bindings})
            });
            println!("{}", serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?);
        } else {
            for row in &answer.rows {
                if !row.bindings.is_empty() {
                    println!("{}", serde_json::to_string_pretty(&row.bindings)?);
                    continue;
                }
                for (_, value) in &row.expressions {
                    println!("{}", serde_json::to_string_pretty(value)?);
                }
            }
            if answer.rows.is_empty() {
                println!("undefined");
            }
        }
        Ok(if answer.rows.is_empty() { ExitCode::from(EXIT_FINDINGS) } else { ExitCode::SUCCESS })
    }

    fn input(&self) -> anyhow::Result<Option<serde_json::Value>> {
        let Some(path) = &self.input else { return Ok(None) };
        let shown = path.display();
        let mut bytes = Vec::new();
        let read = if path.as_os_str() == "-" {
            std::io::stdin().take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes)
        } else {
            std::fs::File::open(path).and_then(|file| file.take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes))
        };
        if read.with_context(|| format!("cannot read `{shown}`"))? as u64 > MAX_INPUT_BYTES {
            bail!("`{shown}` is larger than {MAX_INPUT_BYTES} bytes");
        }
        reading::parse(&bytes).map(Some).with_context(|| format!("`{shown}` is not JSON"))
    }
}
