//! How a hook fails, in words that scripts can rely on.

use std::fmt;

/// Why a hook's answer cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// It answered with an error.
    Error,
    /// It trapped: a panic, an unreachable instruction, a bad address.
    Trap,
    /// It did not answer in time.
    Deadline,
    /// It asked for more memory than it may have.
    Memory,
    /// It recursed too deeply.
    Stack,
    /// It answered with too much.
    Output,
    /// Its answer is not of the interface's types: a bad pointer, text that is not UTF-8.
    Malformed,
    /// It called WASI, which no hook gets.
    Wasi,
    /// An edit that docket does not accept.
    InvalidEdit,
    /// The record has more fields than a hook is asked about.
    TooLarge,
}

impl Cause {
    /// The word that entries, metrics and logs show.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Output => "output",
            Self::Malformed => "malformed",
            Self::Wasi => "wasi",
            Self::InvalidEdit => "invalid_edit",
            Self::TooLarge => "too_large",
        }
    }
}

/// A call of a hook that gave no edits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// Why.
    pub cause: Cause,
    /// The same for people. May be of the guest's making, and so hold anything.
    pub detail: String,
}

impl Failure {
    pub(super) fn new(cause: Cause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause.as_str(), self.detail)
    }
}

/// What becomes of a record, or of its call, when a hook fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Every part that the hook was asked about is replaced by a marker with the reason.
    #[default]
    Withhold,
    /// Every text and number in them is masked, and the structure stays.
    MaskAll,
    /// As `Withhold`, and a call that is not yet forwarded is refused.
    Deny,
}
