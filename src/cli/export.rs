//! `docket export`: entries as a file, from a running docket or from a ledger.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;
use http::StatusCode;
use http_body_util::BodyExt as _;

use super::client::{encode, refusal, runtime};
use super::progress::Progress;
use super::selection::Everything;
use super::{Remote, system_clock};
use crate::api::export::{self, Format, Taken};

/// Arguments of `docket export`.
#[derive(Debug, Args)]
pub struct Export {
    /// The shape: json (an array), jsonl, csv, or opa (OPA's decision log, compressed).
    #[arg(long, default_value = "jsonl", value_parser = PossibleValuesParser::new(Format::ALL.map(Format::as_str)))]
    format: String,
    /// The file to write; standard output if absent.
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write over a file that is there.
    #[arg(long, requires = "out")]
    force: bool,
    /// Compress with gzip, whatever the format.
    #[arg(long)]
    gzip: bool,
    /// At most this many entries.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Leave out so many of the first.
    #[arg(long, value_name = "N")]
    offset: Option<u64>,
    /// Newest first (desc), or oldest first (asc).
    #[arg(long, value_name = "ORDER", default_value = "desc", value_parser = PossibleValuesParser::new(["asc", "desc"]))]
    order: String,
    /// Go on after an entry: its `seq`, or the cursor that an `export.interrupted` entry names.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    #[command(flatten)]
    selection: Everything,
    #[command(flatten)]
    remote: Remote,
}

impl Export {
    /// Runs the command.
    ///
    /// # Errors
    /// docket cannot be reached, the ledger cannot be read, or the file cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if self.out.is_none() && self.format == Format::Opa.as_str() && std::io::stdout().is_terminal() {
            bail!("`opa` is compressed, and this is a terminal; name a file with --out");
        }
        let query = self.query();
        // What is malformed is said before a file is made.
        let export = export::Export::parse(&query, (system_clock().now_ms)()).map_err(anyhow::Error::msg)?;
        let mut out: Box<dyn Write> = match &self.out {
            Some(file) => Box::new(BufWriter::new(self.create(file)?)),
            None => Box::new(BufWriter::new(std::io::stdout().lock())),
        };
        if self.remote.ledger.is_some() {
            let reader = self.remote.reader()?;
            let progress = Progress::new("exporting entries");
            let skipped = export.filter.skip;
            let total = if std::io::stderr().is_terminal() { reader.count(&export.filter)? } else { 0 };
            let total = total.saturating_sub(skipped).min(export.limit.unwrap_or(u64::MAX));
            let mut taken = Taken::default();
            export.run(&reader, &mut out, &mut taken, |rows| progress.show(rows, total))?;
        } else {
            runtime()?.block_on(self.fetch(&query, &mut out))?;
        }
        out.flush()?;
        Ok(ExitCode::SUCCESS)
    }

    fn create(&self, file: &PathBuf) -> anyhow::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).create_new(!self.force);
        options.open(file).with_context(|| {
            format!("cannot write `{}`; --force writes over a file that is there", file.display())
        })
    }

    fn query(&self) -> String {
        let mut pairs = self.selection.query();
        pairs.push(format!("format={}", self.format));
        if self.cursor.is_none() || self.order == "asc" {
            pairs.push(format!("order={}", self.order));
        }
        let numbers = [("limit", self.limit), ("offset", self.offset)];
        pairs.extend(numbers.into_iter().filter_map(|(name, number)| Some(format!("{name}={}", number?))));
        pairs.extend(self.cursor.iter().map(|cursor| format!("cursor={}", encode(cursor))));
        if self.gzip {
            pairs.push("gzip=true".into());
        }
        pairs.join("&")
    }

    /// Copies docket's answer. What breaks off is an error, not a short file.
    async fn fetch(&self, query: &str, out: &mut dyn Write) -> anyhow::Result<()> {
        let response = self.remote.client()?.open(&format!("/v1/audit/export?{query}"), &[]).await?;
        let status = response.status();
        let mut body = response.into_body();
        if status != StatusCode::OK {
            let problem = body.collect().await?.to_bytes();
            bail!("{}", refusal(&serde_json::from_slice(&problem).unwrap_or_default()));
        }
        let progress = Progress::new("bytes received");
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.context(
                "the export broke off; go on with --cursor and the `seq` of the last whole entry that arrived",
            )?;
            if let Ok(data) = frame.into_data() {
                out.write_all(&data)?;
                bytes += data.len() as u64;
                progress.show(bytes, bytes);
            }
        }
        Ok(())
    }
}
