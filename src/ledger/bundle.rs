//! Evidence bundles: a range of the ledger that proves itself, without the ledger.
//!
//! A bundle is a handful of files: every leaf of a range (all of them, so that nothing can be picked out), the hashes that
//! lead from them to a signed checkpoint, the policies that were in force, and those parts of payloads that are to be
//! disclosed, with their salts. What is not disclosed stays a commitment. Here the files are made and checked in memory; how they
//! are packed is not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};

use super::entry::{PARTS, SALT_BYTES, commitment};
use super::gone::{self, Gone};
use super::reader::Reader;
use super::verify::{Findings, Report};
use super::{LedgerError, tree as stored};
use crate::digest::sha256;
use crate::tlog::{Checkpoint, Hash, Proof, VerifierKey, leaf_hash, tree};

/// Entries of a bundle at most: it is made in memory.
pub const MAX_ENTRIES: u64 = 200_000;

/// The version of the bundle's layout.
const VERSION: u32 = 1;

/// The files of a bundle, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A bundle as it was made.
#[derive(Debug)]
pub struct Bundle {
    /// Its files.
    pub files: Files,
    /// What is no longer there to be disclosed; `removed.jsonl` says it entry by entry.
    pub gone: Gone,
}

/// What a bundle is to prove.
#[derive(Debug)]
pub enum Selection {
    /// Everything from the first to the last entry of a request; its own entries may be disclosed.
    Request(String),
    /// Everything from a time on, in milliseconds since the Unix epoch.
    Since(i64),
}

/// `bundle.json`
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    v: u32,
    /// The first leaf's index, and one more than the last one's.
    first: u64,
    end: u64,
    /// Leaves in the tree of the checkpoint.
    size: u64,
    /// The subtrees beside the range, base64, each after those below its sibling.
    hashes: Vec<String>,
    /// The parts that were to be disclosed.
    #[serde(default)]
    disclose: Vec<String>,
}

/// A line of `disclosed.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
struct Disclosed {
    seq: u64,
    /// Part → its salt and its bytes.
    parts: BTreeMap<String, Salted>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Salted {
    /// base64url, without padding.
    salt: String,
    text: String,
}

/// As much of a leaf and of a manifest as a bundle is checked with.
#[derive(Deserialize)]
pub(super) struct Leaf {
    pub seq: u64,
    v: u32,
    pub kind: String,
    pub occurred_at: String,
    manifest_sha: Option<String>,
    commitments: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Manifest {
    files: Vec<ManifestFile>,
}

#[derive(Deserialize)]
struct ManifestFile {
    sha256: String,
}

const README: &str = "An evidence bundle of a docket ledger.

leaves.jsonl      every entry of the range, one leaf (RFC 8785 JSON) a line; none is left out
bundle.json       first and end: the range; size and hashes: what leads from it to the checkpoint's root (RFC 6962)
checkpoint        the signed tree head (C2SP tlog-checkpoint, signed-note, Ed25519)
key               the verifier key the ledger claims; believe the one you were given before, not this one
disclosed.jsonl   parts of entries with their salts; base64url(SHA-256(salt || text)) is in the leaf's `commitments`
removed.jsonl     entries whose payloads are gone, and the prune or erase entry that took them; absent where none is
policies/HEX      manifests and policy files, by the SHA-256 of their bytes; leaves name manifests in `manifest_sha`
proofs/N          single entries as C2SP tlog-proof

Check it with `docket verify --bundle FILE --key VKEY`, or with examples/verify/verify.py, which shares no code with docket.
";

impl Reader {
    /// Makes a bundle; `None` where nothing is selected. `disclose` names parts.
    ///
    /// # Errors
    /// The ledger cannot be read, has no checkpoint over the entries, or the range is too large.
    pub fn bundle(
        &self,
        selection: &Selection,
        disclose: &[String],
        key: &VerifierKey,
    ) -> Result<Option<Bundle>, LedgerError> {
        let note =
            self.checkpoint()?.ok_or_else(|| LedgerError::Unreadable("it has no checkpoint yet".into()))?;
        let head =
            Checkpoint::open(&note, key).map_err(|error| LedgerError::Unreadable(error.to_string()))?;
        let Some((first, end)) = self.with(|connection| range_of(connection, selection))? else {
            return Ok(None);
        };
        let end = if matches!(selection, Selection::Since(_)) { end.min(head.size) } else { end };
        let too_new = |seq: u64| {
            LedgerError::Unreadable(format!("entry {seq} is newer than the newest checkpoint; wait a second"))
        };
        if end > head.size || first >= end {
            return Err(too_new(end.max(first) - 1));
        }
        if end - first > MAX_ENTRIES {
            let detail = format!("the range has {} entries, and a bundle takes {MAX_ENTRIES}", end - first);
            return Err(LedgerError::Unreadable(detail));
        }
        let mut files = Files::new();
        let gone = self.with(|connection| {
            // One moment for all of it: what is disclosed must not be gone a statement later.
            let connection = &connection.unchecked_transaction()?;
            let hashes = tree::range(first, end, head.size, stored::lookup(connection))?;
            let hashes = hashes.iter().map(|hash| STANDARD.encode(hash)).collect();
            let index =
                Index { v: VERSION, first, end, size: head.size, hashes, disclose: disclose.to_vec() };
            files.insert("bundle.json".into(), json(&index));
            leaves(connection, first, end, &mut files)?;
            disclosed(connection, first, end, selection, disclose, &mut files)?;
            policies(connection, first, end, &mut files)?;
            if let Selection::Request(id) = selection {
                let mut select =
                    connection.prepare("SELECT seq FROM leaves WHERE request_id = ? ORDER BY seq")?;
                for seq in select.query_map([id], |row| row.get::<_, i64>(0))? {
                    let index = seq?.cast_unsigned();
                    let hashes = tree::inclusion(index, head.size, stored::lookup(connection))?;
                    let proof = Proof { index, hashes, checkpoint: note.clone() };
                    files.insert(format!("proofs/{index}.tlog-proof"), proof.text().into_bytes());
                }
            }
            gone::lines(connection, (first, end), head.size, selection, disclose)
        })?;
        let removed = gone.map_err(|act| too_new(act.cast_unsigned()))?;
        let gone = gone::told(&removed);
        let mut readme = README.to_owned();
        if !gone.is_nothing() {
            let lines = removed.iter().flat_map(|line| [json(line), b"\n".to_vec()].concat());
            files.insert("removed.jsonl".into(), lines.collect());
            // Writing into memory cannot fail.
            let _ = writeln!(readme, "\nOf the range, {gone}.");
        }
        files.insert("README.txt".into(), readme.into_bytes());
        files.insert("key".into(), format!("{key}\n").into_bytes());
        files.insert("checkpoint".into(), note.into_bytes());
        Ok(Some(Bundle { files, gone }))
    }
}

fn range_of(connection: &Connection, selection: &Selection) -> rusqlite::Result<Option<(u64, u64)>> {
    let (sql, value) = match selection {
        Selection::Request(id) => ("request_id = ?", id.clone()),
        Selection::Since(since_ms) => ("occurred_at >= ?", crate::clock::rfc3339(*since_ms)),
    };
    let range: (Option<i64>, Option<i64>) = connection.query_row(
        &format!("SELECT min(seq), max(seq) FROM leaves WHERE {sql}"),
        [value],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    Ok(match range {
        (Some(first), Some(last)) => Some((first.cast_unsigned(), last.cast_unsigned() + 1)),
        _ => None,
    })
}

fn leaves(connection: &Connection, first: u64, end: u64, files: &mut Files) -> rusqlite::Result<()> {
    let mut select = connection.prepare("SELECT leaf FROM leaves WHERE seq >= ? AND seq < ? ORDER BY seq")?;
    let mut rows = select.query([first.cast_signed(), end.cast_signed()])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        lines.extend_from_slice(row.get_ref(0)?.as_bytes()?);
        lines.push(b'\n');
    }
    files.insert("leaves.jsonl".into(), lines);
    Ok(())
}

fn disclosed(
    connection: &Connection,
    first: u64,
    end: u64,
    selection: &Selection,
    disclose: &[String],
    files: &mut Files,
) -> rusqlite::Result<()> {
    let request_id = if let Selection::Request(id) = selection { Some(id) } else { None };
    let sql = format!(
        "SELECT p.seq, p.salts, p.{} FROM payloads p JOIN leaves l ON l.seq = p.seq \
         WHERE p.seq >= ?1 AND p.seq < ?2 AND (?3 IS NULL OR l.request_id = ?3) ORDER BY p.seq",
        PARTS.join(", p.")
    );
    let mut select = connection.prepare(&sql)?;
    let mut rows = select.query(rusqlite::params![first.cast_signed(), end.cast_signed(), request_id])?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        let salts: Vec<u8> = row.get(1)?;
        let mut salts = salts.chunks_exact(SALT_BYTES);
        let mut parts = BTreeMap::new();
        for (offset, name) in PARTS.into_iter().enumerate() {
            let Some(text) = row.get::<_, Option<String>>(2 + offset)? else { continue };
            let salt = URL_SAFE_NO_PAD.encode(salts.next().unwrap_or_default());
            if disclose.iter().any(|wanted| wanted == name) {
                parts.insert(name.to_owned(), Salted { salt, text });
            }
        }
        if !parts.is_empty() {
            let seq = row.get::<_, i64>(0)?.cast_unsigned();
            lines.extend_from_slice(&json(&Disclosed { seq, parts }));
            lines.push(b'\n');
        }
    }
    files.insert("disclosed.jsonl".into(), lines);
    Ok(())
}

fn policies(connection: &Connection, first: u64, end: u64, files: &mut Files) -> rusqlite::Result<()> {
    let mut select = connection.prepare(
        "SELECT DISTINCT manifest_sha FROM leaves WHERE seq >= ? AND seq < ? AND manifest_sha IS NOT NULL",
    )?;
    let mut wanted: Vec<String> = select
        .query_map([first.cast_signed(), end.cast_signed()], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut kept = connection.prepare("SELECT bytes FROM digests WHERE digest = ?")?;
    while let Some(digest) = wanted.pop() {
        let name = format!("policies/{}", digest.trim_start_matches("sha256:"));
        if files.contains_key(&name) {
            continue;
        }
        let Some(bytes) = kept.query_row([&digest], |row| row.get::<_, Vec<u8>>(0)).optional()? else {
            continue;
        };
        // Only a manifest lists files; a policy file that looks like one lists nothing that is kept.
        if let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) {
            wanted.extend(manifest.files.into_iter().map(|file| format!("sha256:{}", file.sha256)));
        }
        files.insert(name, bytes);
    }
    Ok(())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Plain structs of texts and numbers cannot fail to be written into memory.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Every check of a bundle, and what it says when it holds.
pub const CHECKS: [(&str, &str); 6] = [
    ("leaves", "every leaf of the range is there, in order"),
    ("tree", "the leaves lead to the checkpoint's root"),
    ("checkpoint", "the signature is the key's"),
    ("payload", "what is disclosed is what the leaves commit to"),
    ("removals", "what is gone is not disclosed, and the log has the entries that took it"),
    ("policies", "manifests and policy files are there and match their digests"),
];

/// Checks a bundle by itself. Without a key, the one in the bundle is taken, which proves only that it agrees with itself.
#[must_use]
pub fn verify(files: &Files, key: Option<&VerifierKey>) -> Report {
    let mut findings = Findings::default();
    let text = |name: &str| files.get(name).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let own = text("key").and_then(|text| VerifierKey::parse(text).ok());
    if key.is_none() {
        findings.warn("no key was given: the bundle's own was taken, and proves nothing about who signed it");
    }
    let note = text("checkpoint").unwrap_or_default();
    let head = match key.or(own.as_ref()).map(|key| Checkpoint::open(note, key)) {
        Some(Ok(head)) => Some(head),
        Some(Err(error)) => {
            findings.fail("checkpoint", "checkpoint", error.to_string());
            Checkpoint::unverified(note).ok()
        }
        None => {
            findings.fail("checkpoint", "key", "there is no key");
            None
        }
    };
    let index: Option<Index> = files.get("bundle.json").and_then(|bytes| serde_json::from_slice(bytes).ok());
    let Some(index) = index.filter(|index| index.v == VERSION) else {
        findings.fail("leaves", "bundle.json", format!("it is missing, or not of version {VERSION}"));
        return Report::of(&CHECKS, findings, 0);
    };
    if let Err(detail) = parts(&index.disclose) {
        findings.fail("payload", "bundle.json", detail);
    }
    let lines: Vec<&str> = text("leaves.jsonl").unwrap_or_default().lines().collect();
    let mut leaves = BTreeMap::new();
    for (seq, line) in (index.first..).zip(&lines) {
        match crate::json::parse_as::<Leaf>(line.as_bytes()) {
            Ok(leaf) if leaf.seq == seq && leaf.v == super::LEAF_VERSION => drop(leaves.insert(seq, leaf)),
            Ok(leaf) => {
                findings.fail("leaves", format!("entry {seq}"), format!("here is entry {}", leaf.seq));
            }
            Err(error) => findings.fail("leaves", format!("entry {seq}"), error.to_string()),
        }
    }
    if index.first.checked_add(lines.len() as u64) != Some(index.end) {
        findings.fail(
            "leaves",
            "leaves.jsonl",
            format!("entries {}..{} are promised", index.first, index.end),
        );
    }
    let hashes: Vec<Hash> = lines.iter().map(|line| leaf_hash(line.as_bytes())).collect();
    let proof = index.hashes.iter().map(|hash| STANDARD.decode(hash).ok()?.try_into().ok());
    let proof: Vec<Hash> = proof.collect::<Option<_>>().unwrap_or_default();
    let root = tree::root_from_range(index.first, &hashes, index.size, &proof);
    if root.is_none() || head.as_ref().is_none_or(|head| Some(head.root) != root || head.size != index.size) {
        findings.fail("tree", "bundle.json", "the leaves and hashes do not lead to the checkpoint's root");
    }
    check_proofs(files, (index.first, &hashes), key.or(own.as_ref()), &mut findings);
    let disclosed = check_disclosed(text("disclosed.jsonl").unwrap_or_default(), &leaves, &mut findings);
    gone::check(text("removed.jsonl").unwrap_or_default(), &leaves, &disclosed, head.as_ref(), &mut findings);
    check_policies(files, &leaves, &mut findings);
    Report::of(&CHECKS, findings, lines.len() as u64)
}

/// Checks the proofs of single entries, and names what no bundle has: somebody may take it for checked.
fn check_proofs(
    files: &Files,
    (first, hashes): (u64, &[Hash]),
    key: Option<&VerifierKey>,
    findings: &mut Findings,
) {
    for (name, bytes) in files {
        let known = [
            "README.txt",
            "bundle.json",
            "checkpoint",
            "disclosed.jsonl",
            "key",
            "leaves.jsonl",
            "removed.jsonl",
        ];
        if known.contains(&name.as_str()) || name.starts_with("policies/") {
            continue;
        }
        let Some(number) = name.strip_prefix("proofs/").and_then(|name| name.strip_suffix(".tlog-proof"))
        else {
            findings.warn(format!("file `{name}` is no part of a bundle, and was not checked"));
            continue;
        };
        let proof = std::str::from_utf8(bytes).ok().and_then(|text| Proof::parse(text).ok());
        let holds = proof.zip(key).is_some_and(|(proof, key)| {
            let offset = proof.index.checked_sub(first).and_then(|offset| usize::try_from(offset).ok());
            let leaf = offset.and_then(|offset| hashes.get(offset));
            number == proof.index.to_string() && leaf.is_some_and(|leaf| proof.verify(leaf, key).is_ok())
        });
        if !holds {
            findings.fail("tree", name, "it does not prove the entry its name says");
        }
    }
}

/// Answers the entries of which something is disclosed, with their `metadata` where that is.
fn check_disclosed(
    lines: &str,
    leaves: &BTreeMap<u64, Leaf>,
    findings: &mut Findings,
) -> BTreeMap<u64, Option<String>> {
    let mut disclosed = BTreeMap::new();
    for line in lines.lines() {
        let Ok(Disclosed { seq, parts }) = serde_json::from_str(line) else {
            findings.fail("payload", "disclosed.jsonl", "a line is not what it must be");
            continue;
        };
        for (name, Salted { salt, text }) in parts {
            let committed = leaves.get(&seq).and_then(|leaf| leaf.commitments.get(&name));
            let salt = URL_SAFE_NO_PAD.decode(salt).unwrap_or_default();
            if salt.len() != SALT_BYTES || committed != Some(&commitment(&salt, text.as_bytes())) {
                findings.fail(
                    "payload",
                    format!("entry {seq}"),
                    format!("part `{name}` is not what the leaf commits to"),
                );
            }
            let metadata: &mut Option<String> = disclosed.entry(seq).or_default();
            if name == "metadata" {
                *metadata = Some(text);
            }
        }
    }
    disclosed
}

fn check_policies(files: &Files, leaves: &BTreeMap<u64, Leaf>, findings: &mut Findings) {
    for (name, bytes) in files {
        if let Some(digest) = name.strip_prefix("policies/")
            && sha256(bytes) != format!("sha256:{digest}")
        {
            findings.fail("policies", name.clone(), "it has another digest");
        }
    }
    let kept = |digest: &str| files.get(&format!("policies/{}", digest.trim_start_matches("sha256:")));
    let manifests: BTreeSet<&String> =
        leaves.values().filter_map(|leaf| leaf.manifest_sha.as_ref()).collect();
    for manifest in manifests {
        match kept(manifest).map(|bytes| serde_json::from_slice::<Manifest>(bytes)) {
            Some(Ok(read)) => {
                for file in read.files.iter().filter(|file| kept(&file.sha256).is_none()) {
                    findings.fail(
                        "policies",
                        format!("manifest {manifest}"),
                        format!("file {} is missing", file.sha256),
                    );
                }
            }
            _ => {
                findings.fail("policies", format!("manifest {manifest}"), "it is missing, or not a manifest");
            }
        }
    }
}

/// The names `--disclose` takes.
///
/// # Errors
/// Names the first that is no part, and those that are.
pub fn parts(names: &[String]) -> Result<(), String> {
    match names.iter().find(|name| !PARTS.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(format!("`{name}` is no part of an entry; parts are `{}`", PARTS.join("`, `"))),
    }
}
