//! The Merkle tree of RFC 6962, section 2.1: hashes, roots, and proofs of inclusion and consistency.
//!
//! A tree only grows at its right edge, and the hash of a complete subtree never changes again. So it is enough to store
//! each complete subtree's hash once, under its [`Node`] address, the moment its last leaf arrives; [`Edge`] tells which
//! those are. Every root and every proof for every past size can be read from those hashes by a lookup function.
//!
//! Proof generation and verification are one recursion over the tree's shape each, written down as the RFC has it.

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
pub type Hash = [u8; HASH_BYTES];

/// Bytes of a [`type@Hash`].
pub const HASH_BYTES: usize = 32;

/// `SHA-256(0x00 || leaf)`.
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    LeafHasher::new(leaf).finish(&[])
}

/// `SHA-256(0x01 || left || right)`.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The hash of a leaf whose last bytes are not known yet: the long part is hashed where there is time, the rest later.
#[derive(Clone)]
pub struct LeafHasher(Sha256);

impl LeafHasher {
    /// Hashes the first bytes of a leaf.
    #[must_use]
    pub fn new(head: &[u8]) -> Self {
        Self(Sha256::new().chain_update([0]).chain_update(head))
    }

    /// Hashes the rest. The same head may be finished more than once.
    #[must_use]
    pub fn finish(&self, tail: &[u8]) -> Hash {
        self.0.clone().chain_update(tail).finalize().into()
    }
}

/// The address of a complete subtree: `2^level` leaves, the first of which is leaf `index * 2^level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Its height; a leaf is at level 0.
    pub level: u32,
    /// Which of its level, counted from the left.
    pub index: u64,
}

impl Node {
    /// The index of the leaf with which this subtree became complete. Storage may keep the hash with that leaf: the
    /// hashes that one leaf completes have the levels 0, 1, 2, … without a gap.
    #[must_use]
    pub fn completed_by(self) -> u64 {
        (self.index.saturating_add(1)).checked_shl(self.level).unwrap_or(0).wrapping_sub(1)
    }
}

/// The right edge of a growing tree: the roots of its maximal complete subtrees, largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    peaks: Vec<Hash>,
}

impl Edge {
    /// The edge of a tree of `size` leaves, from stored hashes.
    ///
    /// # Errors
    /// Those of the lookup.
    pub fn restore<E>(size: u64, mut lookup: impl FnMut(Node) -> Result<Hash, E>) -> Result<Self, E> {
        let mut peaks = Vec::new();
        let mut start = 0;
        for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
            peaks.push(lookup(Node { level, index: start >> level })?);
            start += 1 << level;
        }
        Ok(Self { size, peaks })
    }

    /// Leaves in the tree.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf. `completed` receives the hashes of the subtrees it completes, its own first, each the parent of the one
    /// before.
    pub fn push(&mut self, leaf: Hash, completed: &mut Vec<u8>) {
        completed.extend_from_slice(&leaf);
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            completed.extend_from_slice(&hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root of the tree: RFC 6962's `MTH`. That of the empty tree is the hash of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return Sha256::digest([]).into() };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// The root of the first `size` leaves, from stored hashes.
///
/// # Errors
/// Those of the lookup.
pub fn root<E>(size: u64, lookup: impl FnMut(Node) -> Result<Hash, E>) -> Result<Hash, E> {
    Ok(Edge::restore(size, lookup)?.root())
}

/// RFC 6962 `PATH(index, D[size])`: what proves that a leaf is in the tree. Empty where `index` is not below `size`.
///
/// # Errors
/// Those of the lookup.
pub fn inclusion<E>(
    index: u64,
    size: u64,
    lookup: impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    range(index, index.saturating_add(1), size, lookup)
}

/// What proves that the leaves `first..end` are exactly those of the tree: the hashes of the subtrees beside the range, each
/// after those below its sibling. For one leaf this is RFC 6962's audit path. Empty where the range does not lie in the tree.
///
/// # Errors
/// Those of the lookup.
pub fn range<E>(
    first: u64,
    end: u64,
    size: u64,
    mut lookup: impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let mut proof = Vec::new();
    if first < end && end <= size {
        beside(0, size, first, end, &mut lookup, &mut proof)?;
    }
    Ok(proof)
}

fn beside<E>(
    start: u64,
    stop: u64,
    first: u64,
    end: u64,
    lookup: &mut impl FnMut(Node) -> Result<Hash, E>,
    proof: &mut Vec<Hash>,
) -> Result<(), E> {
    if first <= start && stop <= end {
        return Ok(());
    }
    let middle = start + split(stop - start);
    if first < middle {
        beside(start, middle, first, end, lookup, proof)?;
    }
    if end > middle {
        beside(middle, stop, first, end, lookup, proof)?;
    }
    if end <= middle {
        proof.push(subtree(middle, stop, lookup)?);
    } else if first >= middle {
        proof.push(subtree(start, middle, lookup)?);
    }
    Ok(())
}

/// The root that a tree of `size` leaves has, if `leaves` are its leaves from `first` on and `proof` holds the subtrees
/// beside them. `None` where the proof does not have the shape it must have.
#[must_use]
pub fn root_from_range(first: u64, leaves: &[Hash], size: u64, proof: &[Hash]) -> Option<Hash> {
    let end = first.checked_add(u64::try_from(leaves.len()).ok()?)?;
    if leaves.is_empty() || end > size {
        return None;
    }
    let (mut leaves, mut proof) = (leaves.iter(), proof.iter());
    let root = climb(0, size, first, end, &mut leaves, &mut proof)?;
    proof.next().is_none().then_some(root)
}

fn climb<'a>(
    start: u64,
    stop: u64,
    first: u64,
    end: u64,
    leaves: &mut impl Iterator<Item = &'a Hash>,
    proof: &mut impl Iterator<Item = &'a Hash>,
) -> Option<Hash> {
    if stop - start == 1 {
        return leaves.next().copied();
    }
    let middle = start + split(stop - start);
    let left = if first < middle { Some(climb(start, middle, first, end, leaves, proof)?) } else { None };
    let right = if end > middle { Some(climb(middle, stop, first, end, leaves, proof)?) } else { None };
    match (left, right) {
        (Some(left), Some(right)) => Some(node_hash(&left, &right)),
        (Some(left), None) => Some(node_hash(&left, proof.next()?)),
        (None, Some(right)) => Some(node_hash(proof.next()?, &right)),
        (None, None) => None,
    }
}

/// Whether `proof` shows that `leaf` is leaf `index` of the tree of `size` leaves with this root.
#[must_use]
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, root: &Hash, proof: &[Hash]) -> bool {
    root_from_range(index, std::slice::from_ref(leaf), size, proof).as_ref() == Some(root)
}

/// RFC 6962 `PROOF(from, D[to])`: what proves that the first tree is a prefix of the second. Empty where they are equal, or the
/// first is empty or larger.
///
/// # Errors
/// Those of the lookup.
pub fn consistency<E>(
    from: u64,
    to: u64,
    mut lookup: impl FnMut(Node) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    let mut proof = Vec::new();
    if 0 < from && from < to {
        subproof(from, 0, to, true, &mut lookup, &mut proof)?;
    }
    Ok(proof)
}

fn subproof<E>(
    from: u64,
    start: u64,
    stop: u64,
    is_old_root: bool,
    lookup: &mut impl FnMut(Node) -> Result<Hash, E>,
    proof: &mut Vec<Hash>,
) -> Result<(), E> {
    if from == stop - start {
        if !is_old_root {
            proof.push(subtree(start, stop, lookup)?);
        }
        return Ok(());
    }
    let left = split(stop - start);
    if from <= left {
        subproof(from, start, start + left, is_old_root, lookup, proof)?;
        proof.push(subtree(start + left, stop, lookup)?);
    } else {
        subproof(from - left, start + left, stop, false, lookup, proof)?;
        proof.push(subtree(start, start + left, lookup)?);
    }
    Ok(())
}

/// Whether `proof` shows that the tree of `from` leaves with root `old` is a prefix of the tree of `to` leaves with root
/// `new`. The empty tree is a prefix of every tree.
#[must_use]
pub fn verify_consistency(from: u64, old: &Hash, to: u64, new: &Hash, proof: &[Hash]) -> bool {
    if from == 0 {
        return proof.is_empty() && *old == Edge::default().root() && (to > 0 || old == new);
    }
    if from > to {
        return false;
    }
    let mut hashes = proof.iter();
    let roots = climb_both(from, to, Some(old), &mut hashes);
    roots == Some((*old, *new)) && hashes.next().is_none()
}

fn climb_both<'a>(
    from: u64,
    to: u64,
    old: Option<&Hash>,
    proof: &mut impl Iterator<Item = &'a Hash>,
) -> Option<(Hash, Hash)> {
    if from == to {
        let hash = match old {
            Some(old) => *old,
            None => *proof.next()?,
        };
        return Some((hash, hash));
    }
    let left = split(to);
    if from <= left {
        let (before, now) = climb_both(from, left, old, proof)?;
        Some((before, node_hash(&now, proof.next()?)))
    } else {
        let (before, now) = climb_both(from - left, to - left, None, proof)?;
        let beside = proof.next()?;
        Some((node_hash(beside, &before), node_hash(beside, &now)))
    }
}

/// The hash of the leaves `start..stop`, where `start` is a multiple of the next power of two: `MTH(D[start:stop])`.
fn subtree<E>(start: u64, stop: u64, lookup: &mut impl FnMut(Node) -> Result<Hash, E>) -> Result<Hash, E> {
    let width = stop - start;
    if width.is_power_of_two() {
        let level = width.trailing_zeros();
        return lookup(Node { level, index: start >> level });
    }
    let middle = start + split(width);
    let left = subtree(start, middle, lookup)?;
    Ok(node_hash(&left, &subtree(middle, stop, lookup)?))
}

/// The largest power of two below `width`, which is at least 2.
fn split(width: u64) -> u64 {
    1 << (u64::BITS - 1 - (width - 1).leading_zeros())
}

#[cfg(test)]
mod tests;
