//! What a bundle says of payloads that are gone: which entries' they were, and which entries of the log took them.
//!
//! The entries that removed them mostly lie behind the range a bundle proves, so each comes with a proof of its own. What such
//! an entry says of itself is in its payload, which is disclosed only where somebody asked for it: that it is there, of its
//! kind and later than what it removed is proved; that it names these entries, only with its `metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use super::bundle::{Leaf, Selection};
use super::removals::{self, Runs};
use super::tree as stored;
use super::verify::Findings;
use crate::tlog::{Checkpoint, Hash, leaf_hash, tree};

/// The check these findings belong to.
const CHECK: &str = "removals";

/// Payloads of a bundle's range that are gone, by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// Entries whose payload is gone, and those among them that had parts which were to be disclosed.
    pub pruned: (u64, u64),
    /// Likewise.
    pub erased: (u64, u64),
    /// Likewise, where no entry says what became of them.
    pub unexplained: (u64, u64),
}

impl Gone {
    fn of(lines: &[Line]) -> Self {
        let mut gone = Self::default();
        for Line { seqs, undisclosed, act } in lines {
            let (entries, parts) = match act.as_ref().map(|act| act.kind.as_str()) {
                Some("erase") => &mut gone.erased,
                Some(_) => &mut gone.pruned,
                None => &mut gone.unexplained,
            };
            *entries += seqs.count();
            *parts += undisclosed;
        }
        gone
    }

    /// Whether every payload of the range is there.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.pruned, "pruned"),
            (self.erased, "erased"),
            (self.unexplained, "gone and no entry says why"),
        ];
        let told = |pick: fn((u64, u64)) -> u64| {
            let counts =
                all.iter().map(|(counts, word)| (pick(*counts), word)).filter(|(count, _)| *count > 0);
            counts.map(|(count, word)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
        };
        write!(f, "payloads that are no longer there: {}", told(|counts| counts.0))?;
        let undisclosed = told(|counts| counts.1);
        if !undisclosed.is_empty() {
            write!(f, "; entries with parts that were to be disclosed among them: {undisclosed}")?;
        }
        Ok(())
    }
}

/// A line of `removed.jsonl`: what one act took.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// The entries, as runs of first and last.
    seqs: Runs,
    /// How many of them had parts that were to be disclosed.
    undisclosed: u64,
    /// The entry that says so, where one does.
    act: Option<Act>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Act {
    seq: u64,
    kind: String,
    occurred_at: String,
    /// Its leaf and its audit path (base64), where it is not in the bundle's range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proof: Option<ActProof>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActProof {
    leaf: String,
    hashes: Vec<String>,
}

/// What is gone of the entries `first..end`, as of a tree of `size` leaves. The number of an act that is newer than that instead,
/// where there is one.
pub(super) fn lines(
    connection: &Connection,
    (first, end): (u64, u64),
    size: u64,
    selection: &Selection,
    disclose: &[String],
) -> rusqlite::Result<Result<Vec<Line>, i64>> {
    let request_id = if let Selection::Request(id) = selection { Some(id) } else { None };
    let mut select = connection.prepare(
        "SELECT l.seq, (?3 IS NULL OR l.request_id = ?3) AND EXISTS (SELECT 1 FROM json_each(l.leaf, '$.commitments') c \
         JOIN json_each(?4) d ON d.value = c.key) \
         FROM leaves l LEFT JOIN payloads p ON p.seq = l.seq \
         WHERE l.seq >= ?1 AND l.seq < ?2 AND p.seq IS NULL ORDER BY l.seq",
    )?;
    let disclose = serde_json::json!(disclose).to_string();
    let range = rusqlite::params![first.cast_signed(), end.cast_signed(), request_id, disclose];
    let rows = select.query_map(range, |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?)))?;
    let missing: Vec<(i64, bool)> = rows.collect::<rusqlite::Result<_>>()?;
    let mut all = Runs::default();
    for (seq, _) in &missing {
        all.push(*seq);
    }
    let acts = removals::covering(connection, &all)?;
    let (mut lines, mut last) = (BTreeMap::<Option<usize>, Line>::new(), 0);
    for (seq, was_wanted) in missing {
        // Entries that lie together mostly went together.
        let takes = |at: &usize| acts.get(*at).is_some_and(|(_, seqs)| seqs.contains(seq));
        let act = Some(last).filter(takes).or_else(|| (0..acts.len()).find(takes));
        last = act.unwrap_or(last);
        let line = lines.entry(act).or_default();
        line.seqs.push(seq);
        line.undisclosed += u64::from(was_wanted);
    }
    for (act, line) in &mut lines {
        let Some((removal, _)) = act.and_then(|at| acts.get(at)) else { continue };
        let seq = removal.seq.cast_unsigned();
        if seq >= size {
            return Ok(Err(removal.seq));
        }
        let proof = if (first..end).contains(&seq) {
            None
        } else {
            let leaf =
                connection
                    .query_row("SELECT leaf FROM leaves WHERE seq = ?", [removal.seq], |row| row.get(0))?;
            let hashes = tree::inclusion(seq, size, stored::lookup(connection))?;
            Some(ActProof { leaf, hashes: hashes.iter().map(|hash| STANDARD.encode(hash)).collect() })
        };
        let (kind, occurred_at) = (removal.kind.clone(), removal.occurred_at.clone());
        line.act = Some(Act { seq, kind, occurred_at, proof });
    }
    Ok(Ok(lines.into_values().collect()))
}

/// What the lines add up to.
pub(super) fn told(lines: &[Line]) -> Gone {
    Gone::of(lines)
}

/// Checks `removed.jsonl` against the rest of its bundle: what it calls gone is in the range and not disclosed, and what took it
/// is in the log, later. `disclosed` has the parts that were found to be those of their leaves.
pub(super) fn check(
    text: &str,
    leaves: &BTreeMap<u64, Leaf>,
    disclosed: &BTreeMap<u64, Option<String>>,
    head: Option<&Checkpoint>,
    findings: &mut Findings,
) {
    let mut lines = Vec::new();
    let mut fail = |place: String, detail: &str| findings.fail(CHECK, place, detail);
    let mut seen = BTreeSet::new();
    for text in text.lines() {
        let Ok(line) = crate::json::parse_as::<Line>(text.as_bytes()) else {
            fail("removed.jsonl".into(), "a line is not what it must be");
            continue;
        };
        let Some((first, last)) = line.seqs.bounds() else {
            fail("removed.jsonl".into(), "a line names no entry");
            continue;
        };
        let is_inside = |seq: i64| u64::try_from(seq).is_ok_and(|seq| leaves.contains_key(&seq));
        if !is_inside(first) || !is_inside(last) {
            fail(format!("entry {first}"), "it is said to be gone, and is not of the range");
            continue;
        }
        if let Some(seq) = line.seqs.indexes().flatten().find(|seq| !seen.insert(*seq)) {
            fail(format!("entry {seq}"), "it is said to be gone twice");
        }
        if let Some((seq, _)) = line.seqs.indexes().find_map(|run| disclosed.range(run).next()) {
            fail(format!("entry {seq}"), "its payload is said to be gone, and parts of it are disclosed");
        }
        if let Some(act) = &line.act
            && let Err(detail) = check_act(act, (&line.seqs, last), leaves, disclosed, head)
        {
            fail(format!("entry {}", act.seq), detail);
        }
        lines.push(line);
    }
    let gone = Gone::of(&lines);
    if !gone.is_nothing() {
        findings.warn(gone.to_string());
    }
}

fn check_act(
    act: &Act,
    (seqs, last): (&Runs, i64),
    leaves: &BTreeMap<u64, Leaf>,
    disclosed: &BTreeMap<u64, Option<String>>,
    head: Option<&Checkpoint>,
) -> Result<(), &'static str> {
    let beside: Leaf;
    let leaf = if let Some(proof) = &act.proof {
        beside =
            crate::json::parse_as(proof.leaf.as_bytes()).map_err(|_| "its leaf is not what docket writes")?;
        let hashes = proof.hashes.iter().map(|hash| STANDARD.decode(hash).ok()?.try_into().ok());
        let hashes = hashes.collect::<Option<Vec<Hash>>>().unwrap_or_default();
        let hash = leaf_hash(proof.leaf.as_bytes());
        if !head.is_some_and(|head| tree::verify_inclusion(&hash, act.seq, head.size, &head.root, &hashes)) {
            return Err("its leaf and hashes do not lead to the checkpoint's root");
        }
        &beside
    } else {
        leaves.get(&act.seq).ok_or("it is not in the bundle, and has no proof")?
    };
    if leaf.seq != act.seq || leaf.kind != act.kind || leaf.occurred_at != act.occurred_at {
        return Err("its leaf says otherwise");
    }
    if !matches!(act.kind.as_str(), "prune" | "erase") || act.seq.cast_signed() <= last {
        return Err("it is no entry that could have removed these payloads");
    }
    let told =
        disclosed.get(&act.seq).and_then(|metadata| removals::Told::read(metadata.as_ref()?.as_bytes()));
    if told.is_some_and(|told| seqs.clone().sorted().beyond(&told.seqs.sorted()).is_some()) {
        return Err("it does not name all of these entries");
    }
    Ok(())
}
