//! The body of a checkpoint, C2SP `tlog-checkpoint` 1.0: origin, tree size and root, a line each.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::note::{NoteError, SigningKey, VerifierKey, split};
use super::tree::Hash;

/// A tree head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log this is.
    pub origin: String,
    /// Leaves in the tree.
    pub size: u64,
    /// The tree's root.
    pub root: Hash,
}

impl Checkpoint {
    /// Reads the text of a note. Lines after the third are extensions, and left alone.
    ///
    /// # Errors
    /// [`NoteError::Malformed`]
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Malformed("a checkpoint has three lines: origin, size and root"));
        };
        let number: u64 =
            size.parse().map_err(|_| NoteError::Malformed("its second line is not a tree size"))?;
        if origin.is_empty() || number.to_string() != size {
            return Err(NoteError::Malformed(
                "its origin is empty, or its tree size is not in plain decimal",
            ));
        }
        let hash = STANDARD.decode(root).ok().and_then(|bytes| bytes.try_into().ok());
        let hash = hash.ok_or(NoteError::Malformed("its third line is not a root hash in base64"))?;
        Ok(Self { origin: origin.to_owned(), size: number, root: hash })
    }

    /// Reads a note without looking at its signatures.
    ///
    /// # Errors
    /// [`NoteError::Malformed`]
    pub fn unverified(note: &str) -> Result<Self, NoteError> {
        Self::parse(split(note)?.0)
    }

    /// Reads a note that this key has signed as a log of its name.
    ///
    /// # Errors
    /// [`NoteError`]
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, NoteError> {
        let checkpoint = Self::parse(key.open(note)?)?;
        if checkpoint.origin != key.name() {
            return Err(NoteError::Malformed("its origin is not the name of the key that signed it"));
        }
        Ok(checkpoint)
    }

    /// The text to be signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// The signed note.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> String {
        key.sign(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::super::note::pem;
    use super::*;

    // The example of the specification.
    const TEXT: &str =
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    #[test]
    fn the_published_checkpoint_is_read_and_written() {
        let checkpoint = Checkpoint::parse(TEXT).unwrap();
        assert_eq!(
            (checkpoint.origin.as_str(), checkpoint.size),
            ("example.com/behind-the-sofa", 20_852_163)
        );
        assert_eq!(checkpoint.text(), TEXT);
        assert_eq!(Checkpoint::parse(&format!("{TEXT}an extension\n")).unwrap(), checkpoint);
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
        for text in [
            String::new(),
            format!("o\n{root}\n"),
            format!("o\n01\n{root}\n"),
            format!("o\n+1\n{root}\n"),
            format!("o\n18446744073709551616\n{root}\n"),
            format!("\n1\n{root}\n"),
            "o\n1\nAAAA\n".into(),
        ] {
            assert!(Checkpoint::parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_speaks_for_its_own_log_only() {
        let key = |name: &'static str| SigningKey::from_pem(&pem(&[1; 32]), |_| name.into()).unwrap();
        let checkpoint = Checkpoint { origin: "a.example/1".into(), size: 3, root: [9; 32] };
        let note = checkpoint.sign(&key("a.example/1"));
        assert_eq!(Checkpoint::open(&note, key("a.example/1").verifier()).unwrap(), checkpoint);
        assert_eq!(Checkpoint::unverified(&note).unwrap(), checkpoint);
        let foreign = checkpoint.sign(&key("b.example/1"));
        assert!(Checkpoint::open(&foreign, key("b.example/1").verifier()).is_err());
    }
}
