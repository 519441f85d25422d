//! What has arrived of an export: bytes and their digest, and where they can be told apart, entries and the last whole one.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::api::export::Format;

/// How the end of an entry is found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One a line.
    Lines,
    /// RFC 4180: a line break between quotes is content. The first record is the header.
    Csv,
    /// It is not looked for.
    Opaque,
}

/// Counts what goes by.
pub struct Records {
    shape: Shape,
    is_quoted: bool,
    /// What has come of the record under way.
    current: Vec<u8>,
    last: Vec<u8>,
    count: u64,
    bytes: u64,
    whole_bytes: u64,
    digest: Sha256,
}

/// All that is read of an entry.
#[derive(Deserialize)]
struct Numbered {
    seq: i64,
}

impl Records {
    /// Of an export in this format.
    pub fn of(format: &str, is_compressed: bool) -> Self {
        let shape = match Format::parse(format) {
            Some(Format::Jsonl) if !is_compressed => Shape::Lines,
            Some(Format::Csv) if !is_compressed => Shape::Csv,
            _ => Shape::Opaque,
        };
        Self {
            shape,
            is_quoted: false,
            current: Vec::new(),
            last: Vec::new(),
            count: 0,
            bytes: 0,
            whole_bytes: 0,
            digest: Sha256::new(),
        }
    }

    /// Takes the next bytes.
    pub fn take(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        let (mut rest, begun) = (bytes, self.bytes);
        self.bytes += bytes.len() as u64;
        if self.shape == Shape::Opaque {
            return;
        }
        while let Some((record, after)) = self.end(rest).and_then(|end| rest.split_at_checked(end)) {
            self.current.extend_from_slice(record);
            std::mem::swap(&mut self.last, &mut self.current);
            self.current.clear();
            self.count += 1;
            rest = after;
            self.whole_bytes = begun + (bytes.len() - rest.len()) as u64;
        }
        self.current.extend_from_slice(rest);
    }

    /// Where the record under way ends.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let (is_csv, is_quoted) = (self.shape == Shape::Csv, &mut self.is_quoted);
        let ends = |byte: &u8| {
            *is_quoted ^= is_csv && *byte == b'"';
            *byte == b'\n' && !*is_quoted
        };
        bytes.iter().position(ends).map(|at| at + 1)
    }

    /// How many whole entries there are, where they can be told apart.
    pub fn entries(&self) -> Option<u64> {
        match self.shape {
            Shape::Lines => Some(self.count),
            Shape::Csv => Some(self.count.saturating_sub(1)),
            Shape::Opaque => None,
        }
    }

    /// Whether the first record is a header.
    pub fn has_header(&self) -> bool {
        self.shape == Shape::Csv
    }

    /// Bytes of everything.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes up to the end of the last whole entry.
    pub fn whole_bytes(&self) -> u64 {
        self.whole_bytes
    }

    /// The number of the last whole entry.
    pub fn last_seq(&self) -> Option<i64> {
        match self.shape {
            Shape::Lines => serde_json::from_slice(&self.last).ok().map(|Numbered { seq }| seq),
            // It is the second column, and the first one, an id, has no comma in it.
            Shape::Csv => {
                let text = std::str::from_utf8(&self.last).ok()?;
                text.split(',').nth(1)?.parse().ok()
            }
            Shape::Opaque => None,
        }
    }

    /// Hex SHA-256 of everything.
    pub fn sha256(self) -> String {
        hex::encode(self.digest.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_told_apart_however_they_arrive() {
        let csv = "id,seq,x\r\n01A,7,\"a\r\n\"\"b\"\"\n\"\r\n01B,5,c\r\n01C,3,\"d\n";
        let lines = "{\"seq\":7}\n{\"seq\":5}\n{\"se";
        for size in 1..csv.len() {
            for (format, text, whole) in [("csv", csv, csv.find("01C")), ("jsonl", lines, lines.rfind('{'))] {
                let mut records = Records::of(format, false);
                text.as_bytes().chunks(size).for_each(|chunk| records.take(chunk));
                let found = (records.entries(), records.last_seq(), records.bytes());
                assert_eq!(found, (Some(2), Some(5), text.len() as u64), "{format} {size}");
                assert_eq!(Some(records.whole_bytes()), whole.map(|whole| whole as u64), "{format} {size}");
            }
        }
        let mut header = Records::of("csv", false);
        header.take(b"id,seq,x\r\n");
        assert_eq!((header.entries(), header.last_seq()), (Some(0), None));
        assert_eq!(Records::of("jsonl", true).entries(), None);
    }
}
