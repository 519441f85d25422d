//! Signed notes, C2SP `signed-note` 1.0 with Ed25519 keys (signature type `0x01`).
//!
//! A note is a text and, after an empty line, signatures of it, one a line: `— NAME BASE64(key id || signature)`. A verifier
//! key is `NAME+HEX(key id)+BASE64(0x01 || public key)`, short enough for a configuration file or a business card.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};

/// Signature type of Ed25519 in C2SP `signed-note`.
const ED25519_TYPE: u8 = 1;

/// Bytes of a note that is read at all.
const MAX_NOTE_BYTES: usize = 64 * 1024;

/// Signatures of a note that are looked at, as in the specification.
const MAX_SIGNATURES: usize = 100;

/// What a PKCS#8 (RFC 5958, RFC 8410) Ed25519 private key begins with: its length and version.
const PKCS8_PREFIX: [u8; 5] = [0x30, 0x2e, 2, 1, 0];

/// What follows, whatever the version, and stands right before the 32-byte seed: the algorithm, and how the seed is wrapped.
const SEED_PREFIX: [u8; 11] = [0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// Why a note or a key is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The text is not a signed note.
    #[error("it is not a signed note: {0}")]
    Malformed(&'static str),
    /// No signature is by the key that was asked for.
    #[error("it is not signed by `{0}`")]
    NotSigned(String),
    /// The key's signature does not belong to this text.
    #[error("the signature of `{0}` does not belong to this text")]
    BadSignature(String),
    /// A key cannot be read.
    #[error("{0}")]
    BadKey(&'static str),
}

/// What signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

impl VerifierKey {
    /// A key by its name and Ed25519 public key.
    ///
    /// # Errors
    /// The name is empty, or has spaces, control characters or a plus sign.
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, NoteError> {
        let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if name.is_empty() || name.contains(bad) {
            return Err(NoteError::BadKey("a key's name must not be empty or have spaces or `+`"));
        }
        Ok(Self { name: name.to_owned(), public })
    }

    /// Reads `NAME+HEX+BASE64`.
    ///
    /// # Errors
    /// It has another form, another type of key, or a key id that is not this key's.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let form =
            NoteError::BadKey("a verifier key is `NAME+KEYID+BASE64`, as `docket ledger key` prints it");
        let mut pieces = text.trim_end_matches('\n').splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (pieces.next(), pieces.next(), pieces.next()) else {
            return Err(form);
        };
        let bytes = STANDARD.decode(key).map_err(|_| form.clone())?;
        let Some((&ED25519_TYPE, public)) = bytes.split_first() else {
            return Err(NoteError::BadKey("the verifier key is not an Ed25519 key (type 1)"));
        };
        let key = Self::new(name, public.try_into().map_err(|_| form)?)?;
        if id != hex::encode(key.id()) {
            return Err(NoteError::BadKey("the verifier key's id does not belong to its name and key"));
        }
        Ok(key)
    }

    /// Its name: for a log, the origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Ed25519 public key.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// First four bytes of `SHA-256(name || "\n" || 0x01 || public key)`.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let name = Sha256::new().chain_update(&self.name).chain_update([b'\n', ED25519_TYPE]);
        let [a, b, c, d, ..]: [u8; 32] = name.chain_update(self.public).finalize().into();
        [a, b, c, d]
    }

    /// The text of a note, once this key's signature of it is found to be good. Signatures by other keys are left alone.
    ///
    /// # Errors
    /// [`NoteError`]
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let (text, signatures) = split(note)?;
        let id = self.id();
        for line in signatures.lines().take(MAX_SIGNATURES) {
            let malformed = NoteError::Malformed("a signature line is not `— NAME BASE64`");
            let (name, encoded) =
                line.strip_prefix("— ").and_then(|line| line.split_once(' ')).ok_or(malformed.clone())?;
            let bytes = STANDARD.decode(encoded).map_err(|_| malformed.clone())?;
            let (key_id, signature) = bytes.split_at_checked(4).ok_or(malformed)?;
            if name != self.name || key_id != id {
                continue;
            }
            return UnparsedPublicKey::new(&ED25519, self.public)
                .verify(text.as_bytes(), signature)
                .map(|()| text)
                .map_err(|_| NoteError::BadSignature(name.to_owned()));
        }
        Err(NoteError::NotSigned(self.to_string()))
    }
}

/// The text (with its last newline) and the signature lines of a note, checked in form only.
///
/// # Errors
/// [`NoteError::Malformed`]
pub fn split(note: &str) -> Result<(&str, &str), NoteError> {
    if note.len() > MAX_NOTE_BYTES {
        return Err(NoteError::Malformed("it is longer than 64 KiB"));
    }
    if note.contains(|c: char| c.is_control() && c != '\n') {
        return Err(NoteError::Malformed("it has control characters"));
    }
    let at = note.rfind("\n\n").ok_or(NoteError::Malformed("it has no empty line before its signatures"))?;
    let (text, signatures) = note.split_at(at + 1);
    let signatures = signatures.strip_prefix('\n').unwrap_or_default();
    if signatures.is_empty() || !signatures.ends_with('\n') {
        return Err(NoteError::Malformed("its last line is not a whole signature line"));
    }
    Ok((text, signatures))
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519_TYPE], self.public.as_slice()].concat();
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), STANDARD.encode(key))
    }
}

/// What notes are signed with.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
    /// What further keys are derived from; the seed itself is not kept.
    root: Prk,
}

impl SigningKey {
    /// A key by its name, from PKCS#8 in PEM, as [`pem`] and `openssl genpkey -algorithm ed25519` write it.
    ///
    /// # Errors
    /// It is not that, or the name cannot be one.
    pub fn from_pem(pem: &str, name: impl FnOnce(&[u8; 32]) -> String) -> Result<Self, NoteError> {
        let bad = NoteError::BadKey(
            "it is not an Ed25519 private key in PKCS#8 PEM (`openssl genpkey -algorithm ed25519`)",
        );
        let body = pem.trim().strip_prefix(PEM_BEGIN).and_then(|rest| rest.strip_suffix(PEM_END));
        let body: String = body.ok_or(bad.clone())?.split_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| bad.clone())?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| bad.clone())?;
        let public: [u8; 32] = pair.public_key().as_ref().try_into().map_err(|_| bad.clone())?;
        let verifier = VerifierKey::new(&name(&public), public)?;
        // The pair was read from these bytes; that the seed found in them is its own is checked all the same.
        let at = der.windows(SEED_PREFIX.len()).position(|bytes| bytes == SEED_PREFIX);
        let seed = at.and_then(|at| der.get(at + SEED_PREFIX.len()..)?.get(..32));
        let seed = seed.filter(|seed| Ed25519KeyPair::from_seed_and_public_key(seed, &public).is_ok());
        let root = Salt::new(HKDF_SHA256, &[]).extract(seed.ok_or(bad)?);
        Ok(Self { pair, verifier, root })
    }

    /// A key for another purpose, which `purpose` names: HKDF-SHA-256 (RFC 5869) of the seed, without salt. Whoever has it
    /// learns nothing of this key or of those for other purposes.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut key = [0; 32];
        // Fails only for more than 255 times the digest's length.
        let filled = self.root.expand(&[purpose.as_bytes()], HKDF_SHA256).and_then(|okm| okm.fill(&mut key));
        debug_assert!(filled.is_ok(), "32 bytes are one block");
        key
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The note: the text, which ends in a newline, and this key's signature of it.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let signature = self.pair.sign(text.as_bytes());
        let bytes = [self.verifier.id().as_slice(), signature.as_ref()].concat();
        format!("{text}\n— {} {}\n", self.verifier.name, STANDARD.encode(bytes))
    }
}

/// PKCS#8 PEM of the Ed25519 key with this seed.
#[must_use]
pub fn pem(seed: &[u8; 32]) -> String {
    let der = [PKCS8_PREFIX.as_slice(), &SEED_PREFIX, seed].concat();
    format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", STANDARD.encode(der))
}

#[cfg(test)]
mod tests {
    use super::*;

    // The example of the specification, whose key pair and signature the Go implementation's tests publish.
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const SEED: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem \
                        is.\n\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn signer() -> SigningKey {
        let seed = STANDARD.decode(SEED).unwrap();
        SigningKey::from_pem(&pem(seed[1..].try_into().unwrap()), |_| "PeterNeumann".into()).unwrap()
    }

    #[test]
    fn the_published_note_opens_and_is_what_we_sign() {
        let key = VerifierKey::parse(KEY).unwrap();
        let text = key.open(NOTE).unwrap();
        assert!(text.ends_with("problem is.\n"));
        assert_eq!(key.to_string(), KEY);
        assert_eq!(signer().verifier(), &key);
        assert_eq!(signer().sign(text), NOTE);
    }

    #[test]
    fn other_signatures_are_passed_over_and_bad_ones_are_not() {
        let key = VerifierKey::parse(KEY).unwrap();
        let witness = "— witness.example AAAAAAAA\n";
        assert!(key.open(&format!("{NOTE}{witness}")).is_ok());
        let (text, own) = split(NOTE).unwrap();
        assert!(key.open(&format!("{text}\n{witness}{own}")).is_ok());
        assert!(matches!(key.open(&format!("{text}\n{witness}")), Err(NoteError::NotSigned(_))));
        assert!(matches!(key.open(&NOTE.replace("answer", "Answer")), Err(NoteError::BadSignature(_))));
        let other = SigningKey::from_pem(&pem(&[7; 32]), |_| "PeterNeumann".into()).unwrap();
        assert!(matches!(key.open(&other.sign(text)), Err(NoteError::NotSigned(_))));
        for malformed in
            ["", "text\n", "text\n\n", "text\n\n— a", "text\n\n— a b c\n", "a\r\n\n— a AAAAAAAA\n"]
        {
            assert!(matches!(key.open(malformed), Err(NoteError::Malformed(_))), "{malformed:?}");
        }
    }

    #[test]
    fn no_changed_byte_of_a_key_or_note_is_accepted() {
        let key = VerifierKey::parse(KEY).unwrap();
        for (at, byte) in KEY.bytes().enumerate() {
            let mut changed = KEY.as_bytes().to_vec();
            changed[at] = if byte == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(VerifierKey::parse(&changed).is_err(), "{changed}");
        }
        for at in 0..NOTE.len() {
            let mut changed = NOTE.as_bytes().to_vec();
            changed[at] ^= 1;
            let Ok(changed) = String::from_utf8(changed) else { continue };
            assert!(key.open(&changed).is_err(), "{changed}");
        }
    }

    #[test]
    fn keys_of_openssl_are_read() {
        // `openssl genpkey -algorithm ed25519`, RFC 8410 section 10.3.
        let rfc8410 = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let key = SigningKey::from_pem(rfc8410, |_| "a".into()).unwrap();
        assert_eq!(
            hex::encode(key.verifier().public()),
            "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
        );
        let seed = STANDARD.decode("1O5y2/kTWErVttjx92n4rTr+fCjL8dT74Jeoj0R1WEI=").unwrap();
        assert_eq!(pem(seed[..].try_into().unwrap()), rfc8410);
        for bad in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"] {
            assert!(SigningKey::from_pem(bad, |_| "a".into()).is_err());
        }
        assert!(SigningKey::from_pem(rfc8410, |_| "a b".into()).is_err());
    }

    #[test]
    fn derived_keys_follow_from_the_seed_and_the_purpose() {
        let key = SigningKey::from_pem(&pem(&[7; 32]), |_| "a".into()).unwrap();
        // `openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt hexkey:0707…07 -kdfopt info:'for a test' HKDF`
        let expected = "3a0bb67dfd954ecf4ef59382d1ddeaec391e01e90138fda0ed5926c49a72afe4";
        assert_eq!(hex::encode(key.derive("for a test")), expected);
        assert_ne!(key.derive("for another"), key.derive("for a test"));
    }
}
