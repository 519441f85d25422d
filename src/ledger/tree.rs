//! The tree in the file: where its hashes lie, and how it catches up with the leaves.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::reader::Reader;
use super::{LedgerError, schema};
use crate::tlog::tiles::{TILE_WIDTH, Tile};
use crate::tlog::tree::{self, HASH_BYTES};
use crate::tlog::{Checkpoint, Edge, Hash, Node, VerifierKey, leaf_hash};

/// Leaves of an older file that are hashed into the tree in one transaction.
const CATCH_UP_BATCH: u64 = 20_000;

/// Looks a stored hash up.
pub(super) fn lookup(connection: &Connection) -> impl FnMut(Node) -> rusqlite::Result<Hash> {
    move |node| {
        let mut statement =
            connection.prepare_cached("SELECT substr(hashes, ?, 32) FROM nodes WHERE seq = ?")?;
        let offset = u64::from(node.level) * HASH_BYTES as u64 + 1;
        // A sequence number beyond SQLite's is beyond every row.
        let seq = i64::try_from(node.completed_by()).unwrap_or(-1);
        statement.query_row(params![offset.cast_signed(), seq], |row| row.get(0))
    }
}

/// Stores the hashes that the leaf `seq` completes.
pub(super) fn append(connection: &Connection, seq: i64, hashes: &[u8]) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO nodes (seq, hashes) VALUES (?,?)")?
        .execute(params![seq, hashes])?;
    Ok(())
}

/// Hashes the leaves that have no nodes yet into the tree: all of those a docket wrote that had no tree. Answers the
/// tree's right edge.
pub(super) fn catch_up(connection: &Connection) -> rusqlite::Result<Edge> {
    let count = |table| rows(connection, table);
    let (mut size, leaves) = (count("nodes")?, count("leaves")?);
    let mut edge = Edge::restore(size, lookup(connection))?;
    let mut hashes = Vec::new();
    while size < leaves {
        let transaction = connection.unchecked_transaction()?;
        let end = leaves.min(size + CATCH_UP_BATCH);
        {
            let mut select = transaction.prepare_cached("SELECT leaf FROM leaves WHERE seq = ?")?;
            for seq in size.cast_signed()..end.cast_signed() {
                let leaf = select.query_row([seq], |row| Ok(leaf_hash(row.get_ref(0)?.as_bytes()?)))?;
                hashes.clear();
                edge.push(leaf, &mut hashes);
                append(&transaction, seq, &hashes)?;
            }
        }
        transaction.commit()?;
        tracing::info!(entries = end, of = leaves, "hashed into the tree");
        size = end;
    }
    Ok(edge)
}

/// One more than the newest sequence number of a table.
fn rows(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let newest = connection
        .query_row(&format!("SELECT max(seq) FROM {table}"), [], |row| row.get::<_, Option<i64>>(0))?;
    Ok(newest.map_or(0, |newest| newest.cast_unsigned().saturating_add(1)))
}

/// The newest signed tree head that is kept.
pub(super) fn newest_checkpoint(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection
        .prepare_cached("SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()
}

/// Whether this is the tree that its newest checkpoint speaks of; the checkpoint's size, if there is one. A docket that went
/// on regardless would sign a history that contradicts what it has signed before.
pub(super) fn agrees(connection: &Connection, edge: &Edge, key: &VerifierKey) -> Result<Option<u64>, String> {
    let note = newest_checkpoint(connection).map_err(|error| schema::explain(&error))?;
    let Some(note) = note else { return Ok(None) };
    let checkpoint = Checkpoint::open(&note, key).map_err(|error| {
        format!(
            "its newest checkpoint is not of this docket's key ({error}); restore the ledger's own key file"
        )
    })?;
    let entries = rows(connection, "leaves").map_err(|error| schema::explain(&error))?;
    let removed = "entries were removed or changed; `docket verify` says which";
    if checkpoint.size > entries || edge.size() > entries {
        let signed = checkpoint.size.max(edge.size());
        return Err(format!("it has {entries} entries and its tree has {signed}: {removed}"));
    }
    match tree::root(checkpoint.size, lookup(connection)) {
        Ok(root) if root == checkpoint.root => Ok(Some(checkpoint.size)),
        Ok(_) => Err(format!("its tree is not the one its newest checkpoint speaks of: {removed}")),
        Err(error) => Err(format!("its tree cannot be read ({}): {removed}", schema::explain(&error))),
    }
}

/// A leaf as it is proved: its number, its bytes.
#[derive(Clone, Debug)]
pub struct StoredLeaf {
    /// Leaf index.
    pub seq: u64,
    /// The RFC 8785 bytes that are hashed.
    pub leaf: String,
}

impl Reader {
    /// The newest signed tree head that is kept.
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn checkpoint(&self) -> Result<Option<String>, LedgerError> {
        self.with(newest_checkpoint)
    }

    /// What is at a tile of C2SP `tlog-tiles`: its hashes one after the other, or its leaves, each after its length in two bytes,
    /// the higher first. `None` where the tree does not go so far.
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn tile(&self, tile: Tile) -> Result<Option<Vec<u8>>, LedgerError> {
        self.with(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            let there = rows(&snapshot, "nodes")?;
            let Some((first, end)) = tile.leaves().filter(|(_, end)| *end <= there) else { return Ok(None) };
            let mut bytes = Vec::new();
            let Some(level) = tile.level else {
                let mut select = snapshot
                    .prepare_cached("SELECT leaf FROM leaves WHERE seq >= ? AND seq < ? ORDER BY seq")?;
                let mut leaves = select.query([first.cast_signed(), end.cast_signed()])?;
                while let Some(row) = leaves.next()? {
                    let leaf = row.get_ref(0)?.as_bytes()?;
                    let length = u16::try_from(leaf.len())
                        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, i64::MAX))?;
                    bytes.extend(length.to_be_bytes());
                    bytes.extend(leaf);
                }
                return Ok(Some(bytes));
            };
            let mut hash = lookup(&snapshot);
            let first = tile.index * TILE_WIDTH;
            for index in first..first + tile.width {
                bytes.extend(hash(Node { level: 8 * level, index })?);
            }
            Ok(Some(bytes))
        })
    }

    /// Leaves that are in the tree.
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn tree_size(&self) -> Result<u64, LedgerError> {
        self.with(|connection| rows(connection, "nodes"))
    }

    /// The leaf of the entry with this id.
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn leaf(&self, id: &str) -> Result<Option<StoredLeaf>, LedgerError> {
        self.with(|connection| {
            connection
                .prepare_cached("SELECT seq, leaf FROM leaves WHERE id = ?")?
                .query_row([id], |row| {
                    Ok(StoredLeaf { seq: row.get::<_, i64>(0)?.cast_unsigned(), leaf: row.get(1)? })
                })
                .optional()
        })
    }

    /// The stored hash of leaf `index`, which must be in the tree.
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn leaf_hash(&self, index: u64) -> Result<Hash, LedgerError> {
        self.with(|connection| lookup(connection)(Node { level: 0, index }))
    }

    /// RFC 6962's audit path of leaf `index` in the tree of `size` leaves.
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, LedgerError> {
        self.with(|connection| tree::inclusion(index, size, lookup(connection)))
    }

    /// What proves the leaves `first..end` of the tree of `size` leaves; see [`tree::range`].
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn range(&self, first: u64, end: u64, size: u64) -> Result<Vec<Hash>, LedgerError> {
        self.with(|connection| tree::range(first, end, size, lookup(connection)))
    }

    /// RFC 6962's consistency proof between the trees of `from` and `to` leaves.
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, LedgerError> {
        self.with(|connection| tree::consistency(from, to, lookup(connection)))
    }

    /// The root of the first `size` leaves.
    ///
    /// # Errors
    /// As [`Reader::entries`].
    pub fn root(&self, size: u64) -> Result<Hash, LedgerError> {
        self.with(|connection| tree::root(size, lookup(connection)))
    }
}
