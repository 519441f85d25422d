//! Which decisions a body is about: the filters that `/v1/audit` takes as parameters, as members of an object.

use serde::{Deserialize, Serialize};

use super::audit::parse_time;
use crate::decision::Effect;
use crate::ledger::Filter;

/// Filters; everything given must hold.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Selection {
    request_id: Option<String>,
    decision: Option<String>,
    server: Option<String>,
    tool: Option<String>,
    agent: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

impl Selection {
    /// As a filter of the ledger's reader. The error says what is malformed.
    pub fn filter(self, now_ms: i64) -> Result<Filter, String> {
        let time = |name: &str, text: Option<String>| {
            let parsed = text.map(|text| parse_time(&text, now_ms)).transpose();
            parsed.map_err(|error| format!("`{name}`: {error}"))
        };
        if let Some(decision) = &self.decision
            && Effect::parse(decision).is_none()
        {
            return Err(format!(
                "`decision` must be `allow`, `deny` or `require_approval`, not `{decision}`"
            ));
        }
        Ok(Filter {
            request_id: self.request_id,
            decision: self.decision,
            server: self.server,
            tool: self.tool,
            agent: self.agent,
            since_ms: time("since", self.since)?,
            until_ms: time("until", self.until)?,
            ..Filter::default()
        })
    }
}
