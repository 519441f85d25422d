//! Taking entries out: `GET /v1/audit/export`, and the same offline.
//!
//! Entries are read a batch at a time, each batch in a moment of its own, and go on as they are read: memory does not grow with
//! what is exported, and no long transaction keeps the ledger's log from being folded in. What is exported ends with the newest
//! entry there is at the start. An export that was cut short goes on after the last entry that arrived (`cursor=SEQ`). There are
//! only so many places for exports, shared by principal; the thread of one takes turns with all other readers'.

mod csv;
mod format;
mod opa;

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderValue, Response};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use super::audit::{bad_parameter, unreadable};
use super::query::{Paging, cursor_at, filters, number, recorded};
use crate::clock::rfc3339;
use crate::gate::Gate;
use crate::ledger::filter::Scope;
use crate::ledger::filter::parameters::{Wrong, once};
use crate::ledger::{Entry, Filter, Kind, LedgerError, MAX_LIMIT, Reader};
use crate::text::plain;
use crate::web::turns;
use crate::web::{self, Body, BodyError, Full, Place, Places, Visit};

pub use csv::COLUMNS;
pub use format::Format;

/// The event of an export that begins.
pub const REQUESTED: &str = "export.requested";

/// The event of one that ended whole.
pub const COMPLETED: &str = "export.completed";

/// The event of one that broke off.
pub const INTERRUPTED: &str = "export.interrupted";

/// What exports are asked by, besides filters.
const OTHERS: [&str; 7] = ["format", "limit", "offset", "order", "cursor", "after", "gzip"];

/// Bytes that are gathered before they go on.
const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks waiting for a slow reader.
const MAX_WAITING_CHUNKS: usize = 8;

/// What is taken out, and in which shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Which entries, in which order; `skip` is the offset.
    pub filter: Filter,
    /// The shape.
    pub format: Format,
    /// At most this many.
    pub limit: Option<u64>,
    /// Whether it is compressed although the format does not say so.
    pub gzip: bool,
}

/// What was taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Entries.
    pub rows: u64,
    /// Bytes, as they were sent.
    pub bytes: u64,
    /// Hex SHA-256 of them.
    pub sha256: String,
    /// Number of the last entry.
    pub last_seq: Option<i64>,
    /// Whether that was all.
    pub complete: bool,
}

impl Export {
    /// Reads a query string.
    ///
    /// # Errors
    /// Names the parameter, its value and what is accepted.
    pub fn parse(query: &str, now_ms: i64) -> Result<Self, Wrong> {
        let (mut format, mut limit, mut offset, mut gzip) = (Format::Json, None, 0, false);
        let mut paging = Paging::default();
        let mut filter = filters(query, now_ms, &OTHERS, |name, value, filter| {
            match plain(name).as_str() {
                "format" => {
                    format = Format::parse(value).ok_or_else(|| {
                        let known = Format::ALL.map(Format::as_str).join("`, `");
                        format!("`{name}` must be one of `{known}`, not `{value}`")
                    })?;
                }
                "limit" | "pagesize" => once(name, value, &mut limit, number(name, value, 1, u64::MAX)?)?,
                "offset" => offset = number(name, value, 0, u64::MAX)?,
                "gzip" => {
                    gzip = value
                        .parse()
                        .map_err(|_| format!("`{name}` must be `true` or `false`, not `{value}`"))?;
                }
                _ => return paging.set(name, value, filter),
            }
            Ok(true)
        })?;
        let start = paging.start(&mut filter)?;
        let mut filter = filter.from(start);
        filter.skip = offset;
        Ok(Self { filter, format, limit, gzip }.of_its_kind())
    }

    /// A format that only decisions have leaves out everything else.
    #[must_use]
    pub fn of_its_kind(mut self) -> Self {
        if self.format.is_of_decisions() {
            self.filter = self.filter.decisions();
        }
        self
    }

    /// A name for a file of it.
    #[must_use]
    pub fn file_name(&self, now_ms: i64) -> String {
        let time: String = rfc3339(now_ms).chars().filter(char::is_ascii_alphanumeric).take(15).collect();
        let gz = if self.gzip || self.format.is_compressed() { ".gz" } else { "" };
        format!("docket-{time}Z.{}{gz}", self.format.ending())
    }

    /// Takes it out. `progress` is told how many entries there are so far. Blocks.
    ///
    /// # Errors
    /// The ledger cannot be read, or `out` cannot be written. What was taken until then is in `taken`.
    pub fn run(
        &self,
        reader: &Reader,
        out: &mut impl Write,
        taken: &mut Taken,
        mut progress: impl FnMut(u64),
    ) -> io::Result<()> {
        let mut measured = Measured { out, bytes: 0, digest: Sha256::new() };
        // Entries are written in many small pieces, and neither compressing nor digesting is fast at those.
        let written = if self.gzip || self.format.is_compressed() {
            let compressed = GzEncoder::new(&mut measured, Compression::fast());
            let mut buffered = io::BufWriter::with_capacity(CHUNK_BYTES, compressed);
            self.write(reader, &mut buffered, taken, &mut progress)
                .and_then(|()| buffered.into_inner().map_err(io::IntoInnerError::into_error))
                .and_then(|compressed| compressed.finish().map(drop))
        } else {
            let mut buffered = io::BufWriter::with_capacity(CHUNK_BYTES, &mut measured);
            self.write(reader, &mut buffered, taken, &mut progress).and_then(|()| buffered.flush())
        };
        taken.bytes = measured.bytes;
        taken.sha256 = hex::encode(measured.digest.finalize());
        taken.complete = written.is_ok();
        written
    }

    fn write(
        &self,
        reader: &Reader,
        out: &mut impl Write,
        taken: &mut Taken,
        progress: &mut impl FnMut(u64),
    ) -> io::Result<()> {
        self.format.begin(out)?;
        let newest = reader.newest_seq().map_err(io::Error::other)?;
        let end = newest.saturating_add(1);
        let mut filter = self.filter.clone();
        filter.before_seq = Some(filter.before_seq.map_or(end, |before| before.min(end)));
        loop {
            let left = self.limit.map_or(u64::MAX, |limit| limit - taken.rows);
            let size = u32::try_from(left).unwrap_or(u32::MAX).min(MAX_LIMIT);
            if size == 0 {
                break;
            }
            filter.limit = Some(size);
            let (batch, has_more) = reader.batch(&filter).map_err(io::Error::other)?;
            for entry in &batch {
                self.format.entry(entry, taken.rows == 0, out)?;
                taken.rows += 1;
                taken.last_seq = Some(entry.seq);
            }
            progress(taken.rows);
            if !has_more {
                break;
            }
            filter.skip = 0;
            filter = filter.from(taken.last_seq);
        }
        self.format.end(out)
    }
}

/// Counts and digests what goes through.
struct Measured<'a, W> {
    out: &'a mut W,
    bytes: u64,
    digest: Sha256,
}

impl<W: Write> Write for Measured<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.digest.update(bytes.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Hands chunks to a connection.
pub struct Chunks {
    pieces: mpsc::Sender<Result<Bytes, BodyError>>,
    runtime: tokio::runtime::Handle,
    stopping: watch::Receiver<bool>,
    ended: Option<watch::Receiver<bool>>,
}

impl Chunks {
    /// What ends the answer whether it is read or not.
    fn ended(&self) -> io::Result<()> {
        if *self.stopping.borrow() {
            return Err(io::Error::other("docket is stopping"));
        }
        if self.ended.as_ref().is_some_and(|ended| *ended.borrow()) {
            return Err(io::Error::other("the token is no longer good"));
        }
        Ok(())
    }

    /// Waits for the reader to take something, unless the answer is to end. A connection that takes nothing for long is closed.
    fn wait(&self, piece: Result<Bytes, BodyError>) -> bool {
        let (stopping, ended) = (self.stopping.clone(), self.ended.clone().unwrap_or(self.stopping.clone()));
        let sending = async {
            tokio::select! {
                sent = self.pieces.send(piece) => sent.is_ok(),
                () = web::until_stopped(stopping, std::future::pending()) => false,
                () = web::until_stopped(ended, std::future::pending()) => false,
            }
        };
        turns::waiting(|| self.runtime.block_on(sending))
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.ended()?;
        turns::pass();
        let is_sent = match self.pieces.try_send(Ok(Bytes::copy_from_slice(bytes))) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(piece)) => self.wait(piece),
        };
        if is_sent {
            return Ok(bytes.len());
        }
        self.ended()?;
        Err(io::Error::new(io::ErrorKind::BrokenPipe, "the reader has gone, or takes nothing"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What writes a long answer.
pub type Out = io::BufWriter<Chunks>;

/// The places for long answers, and what ends them.
pub struct Exports {
    places: Arc<Places>,
    stopping: watch::Receiver<bool>,
    /// Has patience: what is long runs only while nothing else would.
    pub reader: Reader,
}

impl Exports {
    /// Places for `most` exports at once.
    #[must_use]
    pub fn new(most: usize, stopping: watch::Receiver<bool>, reader: Reader) -> Self {
        let setting = "admin.max_exports";
        let places = Places::new("exports under way", (most, setting), (most.div_ceil(2), setting));
        Self { places, stopping, reader }
    }

    /// A place for whoever asks.
    ///
    /// # Errors
    /// There is none for them now.
    pub fn place(&self, visit: &Visit) -> Result<Place, Full> {
        self.places.take(&visit.principal, 1)
    }

    /// Writes a long answer in a thread beside the data plane, in the place that was taken for it. `write` fails where the answer
    /// breaks off: it must not look whole. A reader who takes nothing for long, or may no longer, ends it.
    ///
    /// # Errors
    /// It could not begin.
    pub fn begin(
        &self,
        place: Place,
        visit: &Visit,
        write: impl FnOnce(&mut Out) -> io::Result<()> + Send + 'static,
    ) -> Result<Body, LedgerError> {
        let (pieces, receiver) = mpsc::channel(MAX_WAITING_CHUNKS);
        let begun = |error: String| LedgerError::Unreadable(format!("the answer could not begin: {error}"));
        // That it broke off has a place of its own, whatever waits.
        let last_words = pieces.clone().try_reserve_owned().map_err(|error| begun(error.to_string()))?;
        let runtime = tokio::runtime::Handle::current();
        let (stopping, ended) = (self.stopping.clone(), visit.ended.clone());
        let work = move || {
            let chunks = Chunks { pieces, runtime, stopping, ended };
            let mut out = io::BufWriter::with_capacity(CHUNK_BYTES, chunks);
            if let Err(error) = write(&mut out) {
                // What waits to be written is not to be tried again.
                drop(out.into_parts());
                last_words.send(Err(error.into()));
            }
            drop(place);
        };
        let turns = visit.turns.as_ref().ok_or(LedgerError::Closed)?;
        turns.begin("export", work).map_err(|error| begun(error.to_string()))?;
        Ok(Body::pieces(receiver))
    }
}

/// Answers `GET /v1/audit/export`.
pub async fn answer(exports: &Exports, gate: &Arc<Gate>, query: &str, visit: &Visit) -> Response<Body> {
    let now_ms = (gate.clock.now_ms)();
    let export = match Export::parse(query, now_ms) {
        Ok(mut export) => {
            export.filter.scope = Scope::of(&visit.principal);
            export
        }
        Err(detail) => return bad_parameter(detail, visit),
    };
    let place = match exports.place(visit) {
        Ok(place) => place,
        Err(full) => return web::too_many(gate, visit, &full),
    };
    // Before the first byte. Reads go on when the ledger cannot append, and their entries follow.
    let requested = entry_of(gate, REQUESTED, query, visit, &export, None);
    if let Err(error) = gate.ledger.append_eventually(requested).await {
        tracing::error!(request_id = %visit.request_id, error = %error, "an export is not recorded yet");
    }
    let name = export.file_name(now_ms);
    let media_type = if export.gzip { "application/gzip" } else { export.format.media_type() };
    let (gate, reader, query, looking) =
        (gate.clone(), exports.reader.clone(), query.to_owned(), visit.clone());
    let runtime = tokio::runtime::Handle::current();
    let write = move |out: &mut Out| {
        let mut taken = Taken::default();
        let done = export.run(&reader, out, &mut taken, |_| ()).and_then(|()| out.flush());
        let event = if done.is_ok() { COMPLETED } else { INTERRUPTED };
        if let Err(error) = &done {
            taken.complete = false;
            tracing::warn!(request_id = %looking.request_id, error = %error, "an export did not end");
        }
        let entry = entry_of(&gate, event, &query, &looking, &export, Some(&taken));
        if let Err(error) = turns::waiting(|| runtime.block_on(gate.ledger.append_eventually(entry))) {
            tracing::error!(request_id = %looking.request_id, error = %error, "the end of an export is not recorded yet");
        }
        done
    };
    let body = match exports.begin(place, visit, write) {
        Ok(body) => body,
        Err(error) => return unreadable(&error, visit),
    };
    let mut response = web::stream_response(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    response
}

/// The entry that says that an export began, or how it ended.
fn entry_of(
    gate: &Gate,
    event_type: &'static str,
    query: &str,
    visit: &Visit,
    export: &Export,
    taken: Option<&Taken>,
) -> Entry {
    let mut metadata = json!({
        "principal": visit.principal.name, "path": "/v1/audit/export", "query": recorded(query), "format": export.format.as_str(),
        "peer": visit.peer.to_string(), "user_agent": visit.user_agent,
    });
    if let (Some(taken), Some(members)) = (taken, metadata.as_object_mut()) {
        members.insert("rows".into(), taken.rows.into());
        members.insert("bytes".into(), taken.bytes.into());
        // Of one that broke off nobody here knows what arrived: at most what was written.
        if taken.complete {
            members.insert("sha256".into(), taken.sha256.clone().into());
            if let Some(seq) = taken.last_seq {
                members.insert("cursor".into(), cursor_at(export.filter.order, seq).into());
            }
        }
    }
    let content = gate.redactor.record(vec![("metadata", metadata)]);
    let time_ms = (gate.clock.now_ms)();
    Entry {
        request_id: Some(visit.request_id.clone()),
        ..Entry::event(Kind::Export, event_type, time_ms, content)
    }
}
