//! What a record is about, for rules that may know: never part of what they may edit.

use ulid::Ulid;

use crate::call::RequestId;
use crate::decision::Effect;

/// What docket knows of a record while it is redacted.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// The call.
    pub call_id: Option<Ulid>,
    /// The id the caller's answer carries.
    pub request_id: Option<&'a RequestId>,
    /// What was decided.
    pub decision: Option<Effect>,
    /// By which manifest.
    pub manifest_sha: Option<&'a str>,
}
