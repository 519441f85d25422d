//! `docket export`: entries as a file, from a running docket or from a ledger.

use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use bytes::Bytes;
use clap::Args;
use clap::builder::PossibleValuesParser;
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::watch;

use super::client::{encode, runtime};
use super::interrupt::interrupted;
use super::part::{self, Part};
use super::progress::Progress;
use super::records::Records;
use super::selection::Everything;
use super::{Remote, system_clock};
use crate::api::export::{self, Format, Taken};
use crate::ledger::Filter;
use crate::web::BodyError;

/// An answer of which nothing comes for this long is given up, in milliseconds: longer than docket reads one batch.
const STALL_MS: u64 = 120_000;

/// What is said of an export that a signal ended.
const INTERRUPTED: &str = "it was interrupted";

/// Arguments of `docket export`.
#[derive(Debug, Args)]
pub struct Export {
    /// The shape: json (an array), jsonl, csv, or opa (OPA's decision log, compressed).
    #[arg(long, default_value = "jsonl", value_parser = PossibleValuesParser::new(Format::ALL.map(Format::as_str)))]
    format: String,
    /// The file to write; standard output if absent. It is there once it is whole, and `FILE.part` until then.
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
    /// Go on after an entry: its `seq`, or the cursor that an `export.completed` entry names.
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
        // What is malformed, or cannot be kept, is said before anybody is asked.
        let export = export::Export::parse(&query, (system_clock().now_ms)()).map_err(anyhow::Error::msg)?;
        if let Some(file) = &self.out {
            part::check(file, self.force)?;
        }
        let (sink, done) = match &self.remote.ledger {
            Some(_) => self.read(&export)?,
            None => runtime()?.block_on(self.fetch(&query))?,
        };
        match done {
            Ok(entries) => sink.finish(entries)?,
            Err(error) => return Err(self.broken_off(error, &sink, &export.filter)),
        }
        Ok(ExitCode::SUCCESS)
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

    /// Takes entries out of a ledger file: what they are written to, and how many there are or why not all of them.
    fn read(&self, export: &export::Export) -> anyhow::Result<(Sink, anyhow::Result<Option<u64>>)> {
        let reader = self.remote.reader()?;
        let skipped = export.filter.skip;
        let total = if std::io::stderr().is_terminal() { reader.count(&export.filter)? } else { 0 };
        let total = total.saturating_sub(skipped).min(export.limit.unwrap_or(u64::MAX));
        let mut sink = self.sink()?;
        let (progress, mut taken) = (Progress::new("exporting entries"), Taken::default());
        let done = export.run(&reader, &mut sink, &mut taken, |rows| progress.show(rows, total));
        Ok((sink, done.map(|()| Some(taken.rows)).map_err(Into::into)))
    }

    /// Copies docket's answer, likewise. What breaks off is an error, not a short file.
    async fn fetch(&self, query: &str) -> anyhow::Result<(Sink, anyhow::Result<Option<u64>>)> {
        let body = self.remote.client()?.body(&format!("/v1/audit/export?{query}")).await?;
        let mut sink = self.sink()?;
        let stopping = sink.stopping.clone();
        let copied = tokio::select! {
            copied = copy(body, &mut sink) => Some(copied),
            () = stopped(stopping) => None,
        };
        let copied = copied.unwrap_or_else(|| Err(anyhow!(INTERRUPTED)));
        let entries = sink.records.entries();
        Ok((sink, copied.map(|()| entries)))
    }

    /// Where it goes, made once it is known that there is something to go there. From here a signal leaves a file in order.
    fn sink(&self) -> anyhow::Result<Sink> {
        let part = self.out.as_ref().map(|file| Part::create(file, self.force)).transpose()?;
        let stopping = part.as_ref().map(|_| interrupted()).transpose()?;
        Ok(Sink { part, records: Records::of(&self.format, self.gzip), stopping })
    }

    /// Says what there is of an export that broke off, and how to go on.
    fn broken_off(&self, error: anyhow::Error, sink: &Sink, filter: &Filter) -> anyhow::Error {
        let records = &sink.records;
        let is_gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
        if sink.part.is_none() && error.downcast_ref().is_some_and(is_gone) {
            return error;
        }
        let mut place = "standard output".to_owned();
        if let Some(part) = &sink.part {
            place = format!("`{}`", part.path().display());
            if records.entries().is_some()
                && let Err(error) = part.cut(records.whole_bytes())
            {
                return anyhow!("the export broke off, and {place} ends within an entry: {error}");
            }
        }
        let again =
            if sink.part.is_some() { "begin anew, with --force to write over it" } else { "begin anew" };
        let how = match (records.entries(), records.last_seq()) {
            (Some(entries), Some(_)) if self.limit.is_some_and(|limit| limit <= entries) => {
                format!("{place} has all {} that were asked for, whole", counted(entries))
            }
            (Some(entries), Some(seq)) => {
                let torn = if sink.part.is_none() && records.bytes() > records.whole_bytes() {
                    format!(" in its first {} bytes: cut off what follows", records.whole_bytes())
                } else {
                    String::new()
                };
                // What was said as so long ago is another time by then.
                let times = self.selection.relative(filter);
                let limit = self.limit.map(|limit| format!(" --limit {}", limit.saturating_sub(entries)));
                let offset = self.offset.map_or("", |_| " but --offset");
                let header = if records.has_header() { ", without its header line" } else { "" };
                format!(
                    "{place} has {} whole{torn}; go on with `--cursor {seq}{}{times}` and otherwise the same options{offset} to another \
                     file, and put that behind this one{header}",
                    counted(entries),
                    limit.unwrap_or_default()
                )
            }
            (Some(_), None) => format!("{place} has no whole entry; {again}"),
            (None, _) => format!("{place} is not whole, and nothing can go on from it; {again}"),
        };
        anyhow!("the export broke off: {error:#}; {how}")
    }
}

/// What is written to, and what was.
struct Sink {
    /// The file under way; standard output, where there is none.
    part: Option<Part>,
    records: Records,
    stopping: Option<watch::Receiver<bool>>,
}

impl Sink {
    /// Puts the file in its place, and says what is in it.
    fn finish(mut self, entries: Option<u64>) -> anyhow::Result<()> {
        self.flush()?;
        let Some(part) = self.part else { return Ok(()) };
        let file = part.target().display().to_string();
        part.finish()?;
        let entries = entries.map(|entries| counted(entries) + ", ").unwrap_or_default();
        let bytes = self.records.bytes();
        eprintln!("docket: wrote {entries}{bytes} bytes, sha256 {} to `{file}`", self.records.sha256());
        Ok(())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.stopping.as_ref().is_some_and(|stopping| *stopping.borrow()) {
            return Err(std::io::Error::other(INTERRUPTED));
        }
        let count = match &mut self.part {
            Some(part) => part.write(bytes)?,
            None => std::io::stdout().write(bytes)?,
        };
        self.records.take(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match &mut self.part {
            Some(part) => part.flush(),
            None => std::io::stdout().flush(),
        }
    }
}

/// Copies an answer as it comes.
async fn copy(mut body: Incoming, sink: &mut Sink) -> anyhow::Result<()> {
    let progress = Progress::open_ended();
    while let Some(data) = next(&mut body, Duration::from_millis(STALL_MS)).await? {
        sink.write_all(&data)?;
        progress.received(sink.records.entries(), sink.records.bytes());
    }
    Ok(())
}

/// The next piece of an answer; `None` at its end.
async fn next<B>(body: &mut B, stall: Duration) -> anyhow::Result<Option<Bytes>>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    loop {
        let frame = tokio::time::timeout(stall, body.frame()).await;
        let Some(frame) = frame.map_err(|_| anyhow!("nothing arrived for {} s", stall.as_secs()))? else {
            return Ok(None);
        };
        let frame = frame.map_err(|error| anyhow!(error.into()).context("docket ended the connection"))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}

/// Waits for a signal, for ever if none is listened for.
async fn stopped(stopping: Option<watch::Receiver<bool>>) {
    if let Some(mut stopping) = stopping
        && stopping.wait_for(|is_stopping| *is_stopping).await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

fn counted(entries: u64) -> String {
    if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_that_stalls_is_given_up() {
        let (_tell, pieces) = tokio::sync::mpsc::channel(1);
        let mut body = crate::web::Body::channel(pieces);
        let error = next(&mut body, Duration::from_millis(20)).await.unwrap_err();
        assert!(error.to_string().starts_with("nothing arrived for"), "{error}");
    }
}
