use std::collections::HashMap;
use std::convert::Infallible;

use ct_merkle::HashableLeaf;
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use proptest::prelude::*;

use super::*;

/// The leaves and roots of the Certificate Transparency test vectors.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

/// A tree whose hashes lie where storage would keep them.
#[derive(Default)]
struct Stored {
    edge: Edge,
    rows: HashMap<u64, Vec<u8>>,
}

impl Stored {
    fn of(leaves: &[Vec<u8>]) -> Self {
        let mut stored = Self::default();
        for leaf in leaves {
            let mut row = Vec::new();
            let seq = stored.edge.size();
            stored.edge.push(leaf_hash(leaf), &mut row);
            stored.rows.insert(seq, row);
        }
        stored
    }

    fn lookup(&self) -> impl Fn(Node) -> Result<Hash, Infallible> {
        |node| {
            let at = node.level as usize * HASH_BYTES;
            Ok(self.rows[&node.completed_by()][at..at + HASH_BYTES].try_into().unwrap())
        }
    }
}

#[derive(Clone)]
struct Leaf(Vec<u8>);

impl HashableLeaf for Leaf {
    fn hash<H: ct_merkle::digest::Update>(&self, hasher: &mut H) {
        hasher.update(&self.0);
    }
}

fn oracle(leaves: &[Vec<u8>]) -> MemoryBackedTree<Sha256, Leaf> {
    let mut tree = MemoryBackedTree::new();
    for leaf in leaves {
        tree.push(Leaf(leaf.clone()));
    }
    tree
}

fn numbered(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| number.to_string().into_bytes()).collect()
}

fn bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.concat()
}

#[test]
fn roots_are_those_of_the_published_vectors() {
    let leaves: Vec<Vec<u8>> = LEAVES.iter().map(|leaf| hex::decode(leaf).unwrap()).collect();
    let stored = Stored::of(&leaves);
    for (size, expected) in ROOTS.iter().enumerate() {
        assert_eq!(hex::encode(Stored::of(&leaves[..size]).edge.root()), *expected);
        assert_eq!(hex::encode(root(size as u64, stored.lookup()).unwrap()), *expected);
    }
}

#[test]
fn proofs_are_those_of_the_published_vectors() {
    let leaves: Vec<Vec<u8>> = LEAVES.iter().map(|leaf| hex::decode(leaf).unwrap()).collect();
    let stored = Stored::of(&leaves);
    let shown = |proof: Vec<Hash>| proof.iter().map(hex::encode).collect::<Vec<_>>();
    assert_eq!(
        shown(inclusion(0, 8, stored.lookup()).unwrap()),
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ]
    );
    assert_eq!(
        shown(consistency(2, 5, stored.lookup()).unwrap()),
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ]
    );
}

#[test]
fn a_leaf_may_be_hashed_in_two_steps() {
    let hasher = LeafHasher::new(b"head");
    assert_eq!(hasher.finish(b" and tail"), leaf_hash(b"head and tail"));
    assert_eq!(hasher.finish(b"s"), leaf_hash(b"heads"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn agrees_with_another_implementation(size in 1usize..300, a in 0usize..300, b in 0usize..300) {
        let leaves = numbered(size);
        let (stored, oracle) = (Stored::of(&leaves), oracle(&leaves));
        let (index, old) = (a % size, 1 + b % size);
        let new_root: Hash = stored.edge.root();
        prop_assert_eq!(new_root.to_vec(), oracle.root().as_bytes().to_vec());

        let proof = inclusion(index as u64, size as u64, stored.lookup()).unwrap();
        prop_assert_eq!(bytes(&proof), oracle.prove_inclusion(index).as_bytes().to_vec());

        let old_root = root(old as u64, stored.lookup()).unwrap();
        let proof = consistency(old as u64, size as u64, stored.lookup()).unwrap();
        if old < size {
            prop_assert_eq!(bytes(&proof), oracle.prove_consistency(size - old).as_bytes().to_vec());
        }
        prop_assert!(verify_consistency(old as u64, &old_root, size as u64, &new_root, &proof));
        prop_assert_eq!(Edge::restore(size as u64, stored.lookup()).unwrap(), stored.edge);
    }

    #[test]
    fn a_proof_holds_for_nothing_else(size in 2u64..200, a in 0u64..200, b in 0u64..200, flip in 0usize..8_192) {
        let stored = Stored::of(&numbered(usize::try_from(size).unwrap()));
        let (index, from) = (a % size, 1 + b % (size - 1));
        let root_of = |size| root(size, stored.lookup()).unwrap();
        let (old, new) = (root_of(from), root_of(size));
        let leaf = leaf_hash(index.to_string().as_bytes());
        let inclusion = inclusion(index, size, stored.lookup()).unwrap();
        let consistency = consistency(from, size, stored.lookup()).unwrap();
        prop_assert!(verify_inclusion(&leaf, index, size, &new, &inclusion));
        prop_assert!(verify_consistency(from, &old, size, &new, &consistency));

        let mut other_leaf = leaf;
        other_leaf[flip / 8 % 32] ^= 1 << (flip % 8);
        prop_assert!(!verify_inclusion(&other_leaf, index, size, &new, &inclusion));
        prop_assert!(!verify_inclusion(&leaf, (index + 1) % size, size, &new, &inclusion));
        for proof in [&inclusion, &consistency] {
            let mut changed = vec![proof.clone(); 3];
            let at = flip % proof.len();
            changed[0][at][flip / 8 % 32] ^= 1 << (flip % 8);
            changed[1].push(new);
            changed[2].pop();
            for changed in changed {
                prop_assert!(!verify_inclusion(&leaf, index, size, &new, &changed) || changed == inclusion);
                prop_assert!(!verify_consistency(from, &old, size, &new, &changed) || changed == consistency);
            }
        }
        let mut other = old;
        other[0] ^= 1;
        prop_assert!(!verify_consistency(from, &other, size, &new, &consistency));
        prop_assert!(!verify_consistency(from, &old, size, &other, &consistency));
    }

    #[test]
    fn a_range_is_proved_whole(size in 1u64..200, a in 0u64..200, b in 0u64..200, gone in 0usize..200) {
        let stored = Stored::of(&numbered(usize::try_from(size).unwrap()));
        let first = a % size;
        let end = first + 1 + b % (size - first);
        let mut leaves: Vec<Hash> = (first..end).map(|seq| leaf_hash(seq.to_string().as_bytes())).collect();
        let proof = range(first, end, size, stored.lookup()).unwrap();
        prop_assert_eq!(root_from_range(first, &leaves, size, &proof), Some(stored.edge.root()));
        leaves.remove(gone % leaves.len());
        prop_assert_ne!(root_from_range(first, &leaves, size, &proof), Some(stored.edge.root()));
    }
}

#[test]
fn proofs_of_any_shape_are_refused_and_not_followed() {
    let hash = [7; 32];
    assert!(!verify_inclusion(&hash, 5, 5, &hash, &[]));
    assert!(!verify_inclusion(&hash, u64::MAX, u64::MAX, &hash, &[hash; 64]));
    assert!(!verify_inclusion(&hash, 1 << 62, u64::MAX, &hash, &[hash; 64]));
    assert!(!verify_consistency(9, &hash, 5, &hash, &[hash; 3]));
    assert!(!verify_consistency(u64::MAX - 1, &hash, u64::MAX, &[8; 32], &[hash; 64]));
    assert!(!verify_consistency(0, &hash, 5, &hash, &[]));
    assert!(verify_consistency(0, &Edge::default().root(), 5, &hash, &[]));
    assert!(verify_consistency(3, &hash, 3, &hash, &[]));
    assert!(!verify_consistency(3, &hash, 3, &[8; 32], &[]));
}
