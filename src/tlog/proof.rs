//! A proof of inclusion that travels by itself, C2SP `tlog-proof` 1: index, hashes, and the checkpoint they lead to.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::Checkpoint;
use super::note::{NoteError, VerifierKey};
use super::tree::{Hash, verify_inclusion};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// A proof and its checkpoint. docket writes no `extra` line; one that is there is read over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Which leaf.
    pub index: u64,
    /// RFC 6962's audit path.
    pub hashes: Vec<Hash>,
    /// A signed note.
    pub checkpoint: String,
}

impl Proof {
    /// The file.
    #[must_use]
    pub fn text(&self) -> String {
        let hashes: String = self.hashes.iter().map(|hash| STANDARD.encode(hash) + "\n").collect();
        format!("{HEADER}\nindex {}\n{hashes}\n{}", self.index, self.checkpoint)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`NoteError::Malformed`]
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let malformed = NoteError::Malformed("it is not a C2SP tlog-proof");
        let (head, checkpoint) = text.split_once("\n\n").ok_or(malformed.clone())?;
        let mut lines = head.lines().peekable();
        if lines.next() != Some(HEADER) {
            return Err(malformed);
        }
        lines.next_if(|line| line.starts_with("extra "));
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(malformed.clone())?;
        let number: u64 = index.parse().map_err(|_| malformed.clone())?;
        if number.to_string() != index {
            return Err(malformed);
        }
        let hash = |line| STANDARD.decode(line).ok().and_then(|bytes| bytes.try_into().ok());
        let hashes = lines.map(hash).collect::<Option<Vec<Hash>>>().ok_or(malformed)?;
        Ok(Self { index: number, hashes, checkpoint: checkpoint.to_owned() })
    }

    /// Whether a leaf is where the proof says, in the tree that `key` has signed; the checkpoint if so.
    ///
    /// # Errors
    /// The checkpoint is not the key's, or ([`NoteError::Malformed`]) the hashes do not lead from the leaf to its root.
    pub fn verify(&self, leaf: &Hash, key: &VerifierKey) -> Result<Checkpoint, NoteError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key)?;
        if verify_inclusion(leaf, self.index, checkpoint.size, &checkpoint.root, &self.hashes) {
            Ok(checkpoint)
        } else {
            Err(NoteError::Malformed("its hashes do not lead from this leaf to the checkpoint's root"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::note::{SigningKey, pem};
    use super::super::tree::{leaf_hash, node_hash};
    use super::*;

    #[test]
    fn a_proof_is_written_read_and_verified() {
        let key = SigningKey::from_pem(&pem(&[1; 32]), |_| "a.example/1".into()).unwrap();
        let (left, right) = (leaf_hash(b"left"), leaf_hash(b"right"));
        let checkpoint = Checkpoint { origin: "a.example/1".into(), size: 2, root: node_hash(&left, &right) };
        let proof = Proof { index: 1, hashes: vec![left], checkpoint: checkpoint.sign(&key) };
        let text = proof.text();
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 1\n"), "{text}");
        assert_eq!(Proof::parse(&text).unwrap(), proof);
        assert_eq!(Proof::parse(&text.replace("index", "extra AAAA\nindex")).unwrap(), proof);
        assert_eq!(proof.verify(&right, key.verifier()).unwrap(), checkpoint);
        assert!(proof.verify(&left, key.verifier()).is_err());
        for bad in
            [text.replace("@v1", "@v2"), text.replace("index 1", "index 01"), text.replace("\n\n", "\nx\n\n")]
        {
            assert!(Proof::parse(&bad).is_err(), "{bad}");
        }
        let single = Proof { index: 0, hashes: vec![], checkpoint: "c\n".into() };
        assert_eq!(single.text(), "c2sp.org/tlog-proof@v1\nindex 0\n\nc\n");
        assert_eq!(Proof::parse(&single.text()).unwrap(), single);
    }
}
