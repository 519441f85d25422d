//! What was decided, why, and what became of it. Pure data.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::call::{BLOCKED, Fault};

/// The effect of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// The call may go on.
    Allow,
    /// The call is refused.
    Deny,
    /// The call is held until a person approves it.
    RequireApproval,
}

impl Effect {
    /// Every effect.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::RequireApproval];

    /// The effect of a word used on the wire.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effect| effect.as_str() == word)
    }

    /// The word used on the wire and in the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::RequireApproval => "require_approval",
        }
    }
}

/// Whether the evaluation ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvaluationStatus {
    /// Every policy that applies was evaluated; or somebody had stopped the call, so that none was to be.
    Complete,
    /// A policy failed, or the request could not be brought before the policies; the decision is deny.
    Error,
    /// A policy ran into its time limit; the decision is deny.
    Timeout,
}

impl EvaluationStatus {
    /// The word used on the wire and in the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

impl Fault {
    /// How the evaluation of what was refused for it went. A block is no failure: it does what somebody asked for.
    #[must_use]
    pub fn status(&self) -> EvaluationStatus {
        if matches!(self, Self::Blocked(_)) { EvaluationStatus::Complete } else { EvaluationStatus::Error }
    }
}

/// Names the policy set that was in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = PolicySet)]
pub struct PolicySetRef {
    /// The set's name.
    pub id: String,
    /// The author's revision, where the set states one.
    pub revision: Option<String>,
    /// `sha256:` and the hex digest of the canonical manifest.
    pub manifest_sha: String,
}

/// A policy that produced the winning effect (Cedar's sense of the word).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Determining {
    /// The policy's id: `custom.id` of its METADATA, else its package path.
    #[schema(value_type = String)]
    pub policy_id: Arc<str>,
    /// `sha256:` over the digests of the files in its closure.
    #[schema(value_type = String)]
    pub policy_version: Arc<str>,
    /// `title` of its METADATA.
    #[schema(value_type = Option<String>)]
    pub title: Option<Arc<str>>,
    /// What it decided.
    pub decision: Effect,
    /// Whether the policy chose that id as it decided, which only an entry point can.
    #[serde(skip)]
    pub is_chosen: bool,
}

/// One thing a policy, or docket itself, said about the call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Diagnostic {
    /// The policy that said it; `null` when it was docket.
    #[schema(value_type = Option<String>)]
    pub policy_id: Option<Arc<str>>,
    /// The effect it argues for.
    pub effect: Effect,
    /// The rule's own name for itself, or docket's: `default_deny`, `policy_error`, `timeout`, a fault's word.
    pub rule: Option<String>,
    /// For people and language models to read.
    pub message: Option<String>,
    /// Anything else the rule attached.
    pub data: Option<Value>,
}

/// The outcome of evaluating one call.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What happens to the call.
    pub effect: Effect,
    /// Whether every policy could be asked.
    pub status: EvaluationStatus,
    /// The policies that produced the effect; empty for a deny by default.
    pub determining: Vec<Determining>,
    /// What the winning rules said; never empty for a deny.
    pub diagnostics: Vec<Diagnostic>,
    /// Time spent evaluating, in microseconds.
    pub evaluation_us: u64,
    /// The set that was in force.
    pub policy_set: Arc<PolicySetRef>,
}

impl Decision {
    /// Denies a request that never reached the policies.
    #[must_use]
    pub fn refused(fault: &Fault, policy_set: Arc<PolicySetRef>) -> Self {
        let diagnostic = Diagnostic {
            policy_id: None,
            effect: Effect::Deny,
            rule: Some(fault.rule().into()),
            message: Some(fault.to_string()),
            data: None,
        };
        Self {
            effect: Effect::Deny,
            status: fault.status(),
            determining: Vec::new(),
            diagnostics: vec![diagnostic],
            evaluation_us: 0,
            policy_set,
        }
    }

    /// What to tell the caller: the messages of the winning rules, or the rule names where none has a message.
    #[must_use]
    pub fn reason(&self) -> String {
        let said: Vec<&str> =
            self.diagnostics.iter().filter_map(|d| d.message.as_deref().or(d.rule.as_deref())).collect();
        if said.is_empty() { format!("decision: {}", self.effect.as_str()) } else { said.join("; ") }
    }

    /// Whether somebody stopped the call, so that no policy was asked.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.diagnostics.iter().any(|said| said.policy_id.is_none() && said.rule.as_deref() == Some(BLOCKED))
    }

    /// How a client should treat the refusal: `denied` is final, `needs_approval` waits for a person, `policy_error` is
    /// the operator's to mend, `blocked` lasts until somebody releases it.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match (self.effect, self.status) {
            (Effect::Allow, _) => "allowed",
            (Effect::RequireApproval, _) => "needs_approval",
            (Effect::Deny, _) if self.is_blocked() => "blocked",
            (Effect::Deny, EvaluationStatus::Complete) => "denied",
            (Effect::Deny, EvaluationStatus::Error) => {
                let mends = |rule: &str| matches!(rule, "policy_error" | "hook_failed");
                if self.diagnostics.iter().any(|d| d.rule.as_deref().is_some_and(mends)) {
                    "policy_error"
                } else {
                    "invalid_request"
                }
            }
            (Effect::Deny, EvaluationStatus::Timeout) => "policy_error",
        }
    }
}

/// What became of a forwarded call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The upstream answered, and its answer is a result.
    Success,
    /// The upstream answered with an error, or could not be reached, or talked nonsense; or docket cut the call off.
    Error,
    /// The caller hung up before the answer was complete.
    Disconnected,
    /// docket stopped before it could learn the outcome, or refused a call whose decision the ledger had kept; written on the
    /// next start, or with the next commit.
    Unknown,
}

impl Outcome {
    /// The word used on the wire and in the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Disconnected => "disconnected",
            Self::Unknown => "unknown",
        }
    }
}
