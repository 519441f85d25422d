//! `docket policy test-from`: Rego unit tests written from recorded decisions.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};

use super::client::runtime;
use super::selection::Selection;
use super::{EXIT_NOT_FOUND, Remote, open};
use crate::policy::Limits;
use crate::replay::Replayer;
use crate::replay::recorded_tests::{MAX_TESTS, Wanted, Written, write};

/// Arguments of `docket policy test-from`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true).args(["request_ids", "request_id", "since"])))]
pub struct TestFrom {
    /// The requests whose decisions become tests.
    #[arg(value_name = "REQUEST_ID")]
    request_ids: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// At most this many decisions, the newest.
    #[arg(short = 'n', long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_TESTS)))]
    limit: u32,
    /// Write to this file instead of standard output; its name should end in `_test.rego`.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write over a file that is there.
    #[arg(long, requires = "out")]
    force: bool,
    /// The package of the file.
    #[arg(long, value_name = "PACKAGE", default_value = "docket_recorded_test")]
    package: String,
    #[command(flatten)]
    remote: Remote,
}

impl TestFrom {
    /// Runs the command: 0 where tests were written, 3 where there is nothing to write them from.
    ///
    /// # Errors
    /// The ledger cannot be read, docket cannot be reached, or the file cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(out) = self.out.as_deref().filter(|out| !self.force && out.exists()) {
            bail!("`{}` exists; --force writes over it", out.display());
        }
        let written = if let Some(file) = &self.remote.ledger {
            let replayer = Replayer::new(open(file)?, Limits::default());
            let wanted = Wanted {
                request_ids: self.request_ids.clone(),
                filter: self.selection.filter()?,
                limit: Some(self.limit),
                package: Some(self.package.clone()),
            };
            write(&replayer, &wanted).map_err(|error| anyhow!(error))?
        } else {
            let client = self.remote.client()?;
            let mut body = self.selection.members();
            body.insert("request_ids".into(), json!(self.request_ids));
            body.insert("limit".into(), self.limit.into());
            body.insert("package".into(), self.package.clone().into());
            let answer = runtime()?.block_on(client.post("/v1/tests", &Value::Object(body)))?;
            let answer = answer.context("this docket does not write tests; it may be an older version")?;
            serde_json::from_value(answer).context("docket's answer is not what this version expects")?
        };
        for id in &written.unknown {
            eprintln!("docket: no decision has request id `{id}`; `docket tail` lists the newest ones");
        }
        for (id, why) in &written.left_out {
            eprintln!("docket: request `{id}` has no test: {why}");
        }
        if !written.unknown.is_empty() {
            return Ok(ExitCode::from(EXIT_NOT_FOUND));
        }
        if written.tests == 0 {
            eprintln!("docket: no recorded decision is left to write a test from");
            return Ok(ExitCode::from(EXIT_NOT_FOUND));
        }
        match &self.out {
            Some(out) => save(out, &written.rego, self.force)?,
            None => std::io::stdout().lock().write_all(written.rego.as_bytes())?,
        }
        eprintln!("docket: {}", summary(&written));
        Ok(ExitCode::SUCCESS)
    }
}

fn save(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    // Between the look above and now somebody may have made it.
    let options = if force { options.create(true).truncate(true) } else { options.create_new(true) };
    let shown = path.display();
    let mut file = options.open(path).with_context(|| format!("cannot write `{shown}`"))?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write `{shown}`"))
}

fn summary(written: &Written) -> String {
    let plural =
        |number: usize, one: &str, many: &str| format!("{number} {}", if number == 1 { one } else { many });
    let mut text = plural(written.tests, "test", "tests");
    for (number, one, many) in [
        (
            written.skipped,
            "skipped, as it does not come out as recorded",
            "skipped, as they do not come out as recorded",
        ),
        (written.repeated, "decision the same as another", "decisions the same as another"),
        (written.left_out.len(), "decision left out", "decisions left out"),
    ] {
        if number > 0 {
            text.push_str(", ");
            text.push_str(&plural(number, one, many));
        }
    }
    text
}
