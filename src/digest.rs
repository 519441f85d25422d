//! SHA-256 digests as docket writes them: `sha256:` and 64 lower-case hex digits.

use sha2::{Digest as _, Sha256};

/// `sha256:` and the hex SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
