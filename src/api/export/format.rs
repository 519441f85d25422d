//! The shapes in which entries leave the ledger: pure, one entry after the other.

use std::io::{self, Write};

use super::{csv, opa};
use crate::ledger::Stored;

/// A shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON array.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// RFC 4180, with a header.
    Csv,
    /// OPA's decision log: a JSON array, compressed.
    Opa,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Json, Self::Jsonl, Self::Csv, Self::Opa];

    /// Its name, and the ending of files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Opa => "opa",
        }
    }

    /// The format of that name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        match word.as_str() {
            "ndjson" => Some(Self::Jsonl),
            word => Self::ALL.into_iter().find(|format| format.as_str() == word),
        }
    }

    /// What a file of it is called by HTTP.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Jsonl => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Opa => "application/gzip",
        }
    }

    /// The end of a file's name.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::Opa => "opa.json",
            other => other.as_str(),
        }
    }

    /// Whether it is compressed by its nature.
    #[must_use]
    pub fn is_compressed(self) -> bool {
        self == Self::Opa
    }

    /// Whether only decisions have this shape.
    #[must_use]
    pub fn is_of_decisions(self) -> bool {
        self == Self::Opa
    }

    /// What comes before the first entry.
    ///
    /// # Errors
    /// The writer's.
    pub fn begin(self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Json | Self::Opa => out.write_all(b"["),
            Self::Jsonl => Ok(()),
            Self::Csv => {
                write!(out, "{}\r\n", csv::COLUMNS.join(","))
            }
        }
    }

    /// One entry.
    ///
    /// # Errors
    /// The writer's.
    pub fn entry(self, entry: &Stored, is_first: bool, out: &mut impl Write) -> io::Result<()> {
        if matches!(self, Self::Json | Self::Opa) {
            out.write_all(if is_first { b"\n" } else { b",\n" })?;
        }
        match self {
            Self::Json => Ok(serde_json::to_writer(out, entry)?),
            Self::Jsonl => {
                serde_json::to_writer(&mut *out, entry)?;
                out.write_all(b"\n")
            }
            Self::Csv => csv::row(entry, out),
            Self::Opa => Ok(serde_json::to_writer(out, &opa::Event::of(entry))?),
        }
    }

    /// What comes after the last.
    ///
    /// # Errors
    /// The writer's.
    pub fn end(self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Json | Self::Opa => out.write_all(b"\n]\n"),
            Self::Jsonl | Self::Csv => Ok(()),
        }
    }
}
