//! Who may look, and what is stopped: the two things that people change while docket runs, and that outlive a restart.
//!
//! Both are kept in the ledger's file, each change together with its entry, and in memory, where requests look. What a request
//! asks for over HTTP is not known here.

pub mod blocks;
pub mod routes;
pub mod tokens;

use crate::ledger::LedgerError;

pub use blocks::Blocking;
pub use tokens::{Called, Guest, Tokens};

/// Why something was not changed.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// It must not be so.
    #[error("{0}")]
    Refused(String),
    /// There is nothing of that id.
    #[error("{0}")]
    Unknown(String),
    /// The ledger cannot be read or written: nothing was changed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}
