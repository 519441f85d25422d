//! The transparency log: hashing, proofs and signed tree heads, as published standards define them.
//!
//! The tree is RFC 6962's ([`tree`]); its heads are C2SP `tlog-checkpoint` bodies ([`checkpoint`]) signed as C2SP
//! `signed-note` ([`note`]); a proof travels as C2SP `tlog-proof` ([`proof`]); C2SP `tlog-tiles` names where pieces of the
//! tree are published ([`tiles`]). An auditor therefore needs nothing of docket's to check what docket says.
//!
//! Everything here is data in, data out. It does not know where hashes are kept, what a leaf means, or what time it is.

pub mod checkpoint;
pub mod note;
pub mod proof;
pub mod tiles;
pub mod tree;

pub use checkpoint::Checkpoint;
pub use note::{NoteError, SigningKey, VerifierKey};
pub use proof::Proof;
pub use tree::{Edge, Hash, Node, leaf_hash, node_hash};
