//! Proofs over HTTP: `GET /v1/checkpoint`, `/v1/ledger/key`, `/v1/entries/{id}/proof`, `/v1/proof/inclusion` and
//! `/v1/proof/consistency` on the admin plane.
//!
//! Tree heads and hashes say nothing about anybody, and a witness asks for them every second: those reads are not entries, or
//! the log would grow by being watched. The proof of an entry shows its leaf, and is one.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Response, StatusCode};
use serde::Serialize;

use super::audit::{bad_parameter, blocking, unreadable};
use super::query::decode;
use crate::gate::Gate;
use crate::ledger::filter::Scope;
use crate::ledger::{Filter, LedgerError, Reader};
use crate::text::truncated;
use crate::tlog::{Checkpoint, Hash, Proof, leaf_hash};
use crate::web::{self, Body, Problem, Visit};

/// The ledger's public key.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = LedgerKey)]
pub struct Key {
    /// The verifier key of C2SP `signed-note`.
    pub key: String,
}

/// That a leaf is in a tree (RFC 6962 §2.1.1). Hashes are in standard base64.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct InclusionProof {
    /// Leaf index.
    pub index: u64,
    /// Leaves in the tree.
    pub size: u64,
    /// RFC 6962 hash of the leaf.
    pub leaf_hash: String,
    /// The root of the tree.
    pub root: String,
    /// The audit path.
    pub hashes: Vec<String>,
}

/// That a tree is the beginning of another (RFC 6962 §2.1.2). Hashes are in standard base64.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ConsistencyProof {
    /// Leaves in the older tree.
    pub from: u64,
    /// Leaves in the newer.
    pub to: u64,
    /// The root of the older tree.
    pub from_root: String,
    /// The root of the newer.
    pub to_root: String,
    /// The proof.
    pub hashes: Vec<String>,
}

/// What proves one entry. Hashes are in standard base64, as in C2SP `tlog-proof`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EntryProof {
    /// ULID of the entry.
    pub id: String,
    /// Leaf index.
    pub index: u64,
    /// The leaf's bytes, RFC 8785.
    pub leaf: String,
    /// RFC 6962 hash of the leaf.
    pub leaf_hash: String,
    /// Leaves in the tree of the checkpoint.
    pub size: u64,
    /// The root of that tree.
    pub root: String,
    /// RFC 6962's audit path.
    pub hashes: Vec<String>,
    /// The signed note.
    pub checkpoint: String,
    /// Index, hashes and checkpoint as C2SP `tlog-proof`.
    pub tlog_proof: String,
}

/// The proof of an entry under a checkpoint; `None` where there is no such entry.
///
/// # Errors
/// The ledger cannot be read, or the checkpoint is older than the entry.
pub fn entry_proof(reader: &Reader, id: &str, note: String) -> Result<Option<EntryProof>, LedgerError> {
    let Some(stored) = reader.leaf(id)? else { return Ok(None) };
    let head = Checkpoint::unverified(&note).map_err(|error| LedgerError::Unreadable(error.to_string()))?;
    if stored.seq >= head.size {
        let detail =
            format!("entry {} is newer than the newest checkpoint, of {} entries", stored.seq, head.size);
        return Err(LedgerError::Unreadable(detail));
    }
    let proof =
        Proof { index: stored.seq, hashes: reader.inclusion(stored.seq, head.size)?, checkpoint: note };
    Ok(Some(EntryProof {
        id: id.to_owned(),
        index: stored.seq,
        leaf_hash: STANDARD.encode(leaf_hash(stored.leaf.as_bytes())),
        leaf: stored.leaf,
        size: head.size,
        root: STANDARD.encode(head.root),
        hashes: encoded(&proof.hashes),
        tlog_proof: proof.text(),
        checkpoint: proof.checkpoint,
    }))
}

/// Answers `GET /v1/checkpoint`: the newest signed tree head, over every entry that is durable now.
pub async fn checkpoint(gate: &Arc<Gate>, reader: &Reader, visit: &Visit) -> Response<Body> {
    match newest(gate, reader, visit).await {
        Ok(note) => web::text_response(StatusCode::OK, note),
        Err(error) => unreadable(&error, visit),
    }
}

/// Answers `GET /v1/ledger/key`: the verifier key of C2SP `signed-note`.
#[must_use]
pub fn key(gate: &Gate) -> Response<Body> {
    web::json_response(StatusCode::OK, &Key { key: gate.ledger.verifier().to_string() })
}

/// Answers `GET /v1/entries/{id}/proof`.
pub async fn entry(gate: &Arc<Gate>, reader: &Reader, id: &str, visit: &Visit) -> Response<Body> {
    visit.look("ledger.proved", "/v1/entries/{id}/proof", id);
    let wanted = id.to_owned();
    let found = match newest(gate, reader, visit).await {
        Ok(note) => {
            let seen =
                Filter { scope: Scope::of(&visit.principal), id: Some(wanted.clone()), ..Filter::default() };
            let prove = move |reader: &Reader| match reader.count(&seen)? {
                0 => Ok(None),
                _ => entry_proof(reader, &wanted, note),
            };
            blocking(reader, visit, prove).await
        }
        Err(error) => Err(error),
    };
    match found {
        Ok(Some(proof)) => web::json_response(StatusCode::OK, &proof),
        Ok(None) => {
            let shown = truncated(id, 64);
            Problem::not_found(format!("no entry has id `{shown}`; `/v1/audit` lists them"), visit).response()
        }
        Err(error) => unreadable(&error, visit),
    }
}

/// Answers `GET /v1/proof/inclusion?index=&size=`; without a size, that of the newest checkpoint.
pub async fn inclusion(gate: &Arc<Gate>, reader: &Reader, query: &str, visit: &Visit) -> Response<Body> {
    let [index, size] = match numbers(query, ["index", "size"]) {
        Ok([Some(index), size]) => [Some(index), size],
        Ok(_) => return bad_parameter("`index` is missing: which leaf is to be proved".into(), visit),
        Err(detail) => return bad_parameter(detail, visit),
    };
    prove(gate, reader, visit, index.unwrap_or_default(), size, "index", |reader, index, size| {
        if index >= size {
            return Ok(Err(format!("`index` {index} is not below `size` {size}")));
        }
        let hashes = encoded(&reader.inclusion(index, size)?);
        let leaf = reader.leaf_hash(index)?;
        let (leaf, root) = (STANDARD.encode(leaf), STANDARD.encode(reader.root(size)?));
        Ok(Ok(InclusionProof { index, size, leaf_hash: leaf, root, hashes }))
    })
    .await
}

/// Answers `GET /v1/proof/consistency?from=&to=`; without `to`, that of the newest checkpoint.
pub async fn consistency(gate: &Arc<Gate>, reader: &Reader, query: &str, visit: &Visit) -> Response<Body> {
    let (from, to) = match numbers(query, ["from", "to"]) {
        Ok([Some(from), to]) => (from, to),
        Ok(_) => return bad_parameter("`from` is missing: the size of the older tree".into(), visit),
        Err(detail) => return bad_parameter(detail, visit),
    };
    prove(gate, reader, visit, from, to, "from", |reader, from, to| {
        if from > to {
            return Ok(Err(format!("`from` {from} is above `to` {to}")));
        }
        let hashes = encoded(&reader.consistency(from, to)?);
        let (old, new) = (STANDARD.encode(reader.root(from)?), STANDARD.encode(reader.root(to)?));
        Ok(Ok(ConsistencyProof { from, to, from_root: old, to_root: new, hashes }))
    })
    .await
}

/// Runs one proof against a tree that is there. `what` returns the answer, or what is wrong with the parameters.
async fn prove<P: Serialize + Send + 'static>(
    gate: &Arc<Gate>,
    reader: &Reader,
    visit: &Visit,
    number: u64,
    size: Option<u64>,
    name: &'static str,
    what: impl FnOnce(&Reader, u64, u64) -> Result<Result<P, String>, LedgerError> + Send + 'static,
) -> Response<Body> {
    let size = match size {
        Some(size) => Ok(size),
        None => newest(gate, reader, visit).await.and_then(|note| {
            let head =
                Checkpoint::unverified(&note).map_err(|error| LedgerError::Unreadable(error.to_string()))?;
            Ok(head.size)
        }),
    };
    let answer = match size {
        Ok(size) => {
            blocking(reader, visit, move |reader| {
                let there = reader.tree_size()?;
                if size > there {
                    return Ok(Err(format!(
                        "the tree has {there} leaves; {size} are beyond it (with `{name}` {number})"
                    )));
                }
                what(reader, number, size)
            })
            .await
        }
        Err(error) => Err(error),
    };
    match answer {
        Ok(Ok(proof)) => web::json_response(StatusCode::OK, &proof),
        Ok(Err(detail)) => bad_parameter(detail, visit),
        Err(error) => unreadable(&error, visit),
    }
}

/// The newest checkpoint; where none can be signed now, the newest that is kept.
async fn newest(gate: &Arc<Gate>, reader: &Reader, visit: &Visit) -> Result<String, LedgerError> {
    let error = match gate.ledger.checkpoint().await {
        Ok(note) => return Ok(note),
        Err(error) => error,
    };
    blocking(reader, visit, Reader::checkpoint).await?.ok_or(error)
}

fn encoded(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(|hash| STANDARD.encode(hash)).collect()
}

/// Two numbers of a query, each of which may be absent.
fn numbers(query: &str, names: [&str; 2]) -> Result<[Option<u64>; 2], String> {
    let [first, second] = names;
    let mut found = [None; 2];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value).unwrap_or_default();
        let slot = names.iter().zip(&mut found).find(|(known, _)| **known == name);
        let Some((_, slot)) = slot else {
            return Err(format!("parameter `{name}` is not known; accepted are `{first}` and `{second}`"));
        };
        let number = value.parse().ok().filter(|number| i64::try_from(*number).is_ok());
        *slot =
            Some(number.ok_or_else(|| format!("`{name}` must be a number of leaves, and `{value}` is not"))?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_checked() {
        assert_eq!(numbers("from=3&to=7", ["from", "to"]), Ok([Some(3), Some(7)]));
        assert_eq!(numbers("", ["from", "to"]), Ok([None, None]));
        for query in ["from=-1", "from=x", "from=", "from=18446744073709551615", "size=1", "from=%zz"] {
            assert!(numbers(query, ["from", "to"]).is_err(), "{query}");
        }
    }
}
