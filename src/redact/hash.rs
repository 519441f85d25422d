//! Hashes: what stands for a value that may be compared with others of its kind, and not be known.
//!
//! A plain digest of a telephone number is soon guessed, as there are few of them. This one is keyed, so only whoever has
//! the key can try; equal values of one ledger still have equal hashes, so that an auditor sees that two calls were about
//! the same customer. Where the key comes from, the ledger knows.

use std::fmt;
use std::sync::Arc;

use ring::hmac;

/// What hashes begin with.
const PREFIX: &str = "hmac-sha256:";

/// The key of a ledger's hashes. Cheap to clone, and never shown.
#[derive(Clone)]
pub struct HashKey(Arc<hmac::Key>);

impl HashKey {
    /// A key of 32 bytes that nobody can guess.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// `hmac-sha256:` and the hex HMAC-SHA-256 (RFC 2104) of `bytes`: of a string its UTF-8 bytes, of any other value its
    /// JSON text.
    #[must_use]
    pub fn hash(&self, bytes: &[u8]) -> String {
        format!("{PREFIX}{}", hex::encode(hmac::sign(&self.0, bytes)))
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_of_one_key_have_equal_hashes() {
        let (key, other) = (HashKey::new(&[7; 32]), HashKey::new(&[8; 32]));
        // `printf 4111111111111111 | openssl mac -digest SHA256 -macopt hexkey:0707…07 HMAC`
        let expected = "33ecfa1b0ba87f45471dd64ba36a9bde71e092d5eb4aa6aceb5c3710f027c28e";
        assert_eq!(key.clone().hash(b"4111111111111111"), format!("hmac-sha256:{expected}"));
        assert_ne!(key.hash(b"4111111111111111"), other.hash(b"4111111111111111"));
        assert_ne!(key.hash(b"4111111111111111"), key.hash(b"4111111111111112"));
        assert_eq!(format!("{key:?}"), "HashKey");
    }
}
