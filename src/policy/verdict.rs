//! What the value of an entry point means: how policies written for other decision points say what they decide.
//!
//! `true` allows. Undefined and `false` deny by default. An object says `allow` (a boolean) or `decision` (a boolean, or
//! `"allow"`, `"deny"`, `"require_approval"`), and perhaps `reason`, `diagnostics` and `policy_id`. Anything else is a policy
//! error, hence a deny.

use std::sync::Arc;

use regorus::Value;
use serde_json::Value as Json;

use super::evaluate::{Failure, diagnostic, failed};
use super::finding::Located;
use super::set::{Entry, Policy};
use super::value;
use crate::decision::{Diagnostic, Effect};

/// What an entry point decides.
pub(super) struct Verdict {
    pub policy_id: Arc<str>,
    pub effect: Effect,
    pub diagnostics: Vec<Diagnostic>,
}

impl Verdict {
    /// Reads the value; `None` where it decides nothing.
    pub fn read(policy: &Policy, entry: &Entry, said: &Value) -> Result<Option<Self>, Failure> {
        let wrong = |what: String| {
            let message = format!("entry point `{}` {what}", entry.path);
            failed(policy, entry, &Located { place: None, message })
        };
        let fields = match said {
            Value::Undefined | Value::Bool(false) => return Ok(None),
            Value::Bool(true) => return Ok(Some(Self::plain(policy, Effect::Allow))),
            Value::Object(_) => match value::to_json(said) {
                Json::Object(fields) => fields,
                _ => return Ok(None),
            },
            other => {
                return Err(wrong(format!(
                    "is a value of type {}; it must be a boolean, or an object with `allow` or `decision`",
                    value::type_name(other)
                )));
            }
        };
        let stated = [("allow", fields.get("allow")), ("decision", fields.get("decision"))];
        let mut effects = Vec::new();
        for (name, stated) in stated.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            effects.push(match stated {
                Json::Bool(true) => Effect::Allow,
                Json::Bool(false) => Effect::Deny,
                Json::String(word) if name == "decision" => Effect::parse(word).ok_or_else(|| {
                    wrong(format!(
                        "has `decision` `{word}`; it must be `allow`, `deny`, `require_approval` or a boolean"
                    ))
                })?,
                _ => return Err(wrong(format!("has a `{name}` that is neither a boolean nor an effect"))),
            });
        }
        let effect = match effects.as_slice() {
            [] => return Err(wrong("is an object with neither `allow` nor `decision`".into())),
            [effect] => *effect,
            [one, other] if one == other => *one,
            _ => return Err(wrong("says one thing in `allow` and another in `decision`".into())),
        };
        let mut verdict = Self::plain(policy, effect);
        if let Some(id) = fields.get("policy_id").and_then(Json::as_str) {
            verdict.policy_id = id.into();
        }
        if let Some(first) = verdict.diagnostics.first_mut() {
            first.message = fields.get("reason").and_then(Json::as_str).map(str::to_owned);
        }
        // What the policy itself lists says more than one line without a rule.
        if let Value::Object(said) = said
            && let Some(Value::Array(listed)) = said.get(&Value::from("diagnostics"))
        {
            let listed = listed.iter().map(|item| diagnostic(policy, effect, item));
            verdict.diagnostics.retain(|first| first.message.is_some());
            verdict.diagnostics.extend(listed);
        }
        if verdict.diagnostics.is_empty() {
            verdict.diagnostics = Self::plain(policy, effect).diagnostics;
        }
        for said in &mut verdict.diagnostics {
            said.policy_id = Some(verdict.policy_id.clone());
        }
        Ok(Some(verdict))
    }

    fn plain(policy: &Policy, effect: Effect) -> Self {
        let policy_id = Arc::clone(&policy.id);
        let said =
            Diagnostic { policy_id: Some(policy_id.clone()), effect, rule: None, message: None, data: None };
        Self { policy_id, effect, diagnostics: vec![said] }
    }
}
