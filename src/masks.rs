//! The masks in force: what the policy set says of its own record, brought to the redactor.
//!
//! The redactor knows no Rego, and the policy set no record. Failures are said and counted here; that nothing passes then,
//! the redactor sees to.

use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus::IntCounter;
use serde_json::Value;
use ulid::Ulid;

use crate::call::Moment;
use crate::clock::Clock;
use crate::policy::PolicySet;
use crate::redact::{About, Masks, Said, Unanswered};

/// Asks the set in force, whichever it is when a record is made.
pub struct InForce {
    /// What the gate decides by.
    pub policies: Arc<ArcSwap<PolicySet>>,
    /// For `time.now_ns`.
    pub clock: Clock,
    /// Records that were withheld since their masks could not be used.
    pub failures: IntCounter,
}

impl Masks for InForce {
    fn ask(&self, about: &About<'_>, document: &dyn Fn() -> Value) -> Option<Result<Said, Unanswered>> {
        let set = self.policies.load();
        if !set.has_log_rules() {
            return None;
        }
        let call_id = about.call_id.unwrap_or_else(Ulid::nil);
        let moment = Moment { call_id, time_ns: (self.clock.now_ms)().saturating_mul(1_000_000) };
        Some(match set.log_says(&document(), &moment) {
            Ok(says) => Ok(Said { drop: says.drop, mask: says.mask }),
            Err(why) => {
                self.unusable(&why);
                Err(Unanswered)
            }
        })
    }

    fn unusable(&self, why: &str) {
        self.failures.inc();
        tracing::warn!("a record was withheld, since its masks could not be used: {why}");
    }

    fn idle(&self, path: &str) {
        if self.policies.load().is_first_idle_mask() {
            tracing::warn!(
                path,
                "a mask leads to an item of an array and takes nothing, as in OPA: mask the array, or a member of the item"
            );
        }
    }
}
