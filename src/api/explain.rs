//! `GET /v1/explain/{request_id}`: every entry of a request, why each decision came out as it did, and what was missing.
//!
//! What was recorded comes first and is never replaced: the entries, and the diagnostics of their determining policies.
//! Beside it stands what evaluating the recorded call again on the recorded policies shows, and whether that is the same; or,
//! for a refused call of which redaction took something, what was explained live before that was gone.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::audit::{evaluated, unreadable};
use crate::ledger::filter::Scope;
use crate::ledger::{Column, Filter, Kind, LedgerError, MAX_LIMIT, Reader, Stored};
use crate::policy::explain::{Condition, Missing, RuleTrace};
use crate::replay::{Replayed, Replayer};
use crate::text::truncated;
use crate::web::turns::Lane;
use crate::web::{self, Body, Problem, Visit};

/// Decisions of one request id that are evaluated again; callers may repeat ids, and each takes milliseconds.
const MAX_REPLAYED: usize = 20;

/// What an explanation shows.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Explanation {
    /// The request that was asked about.
    pub request_id: String,
    /// Every entry of that request, oldest first.
    pub entries: Vec<Stored>,
    /// For each decision, the rules that determined it and what they said.
    pub why: Vec<Why>,
    /// For each decision that was denied by default or held, what each `allow` rule lacked, the nearest first.
    pub why_not: Vec<WhyNot>,
    /// Whether every decision comes out again with the recorded effect, or did when it was explained live; `false` too where
    /// it could not be tried.
    pub reproduced: bool,
    /// Redacted places of the calls which a policy reads: what is said about them is said without their content.
    pub approximate: Vec<String>,
    /// What could not be told, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Every condition of every rule, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Vec<Traced>>,
}

/// Why one decision came out as it did.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Why {
    /// Joins it to the entries of its call.
    pub call_id: Option<String>,
    /// `allow`, `deny` or `require_approval`.
    pub decision: String,
    /// In words.
    pub reason: String,
    /// `live` where it was explained live, on the call as it was before redaction; absent where the recorded call was
    /// evaluated again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traced: Option<&'static str>,
    /// One for each diagnostic of a determining policy, or of docket itself, and for each determining rule that has none.
    pub because: Vec<Because>,
}

/// One reason: as recorded, and the rule it came from as the evaluation shows it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Because {
    /// The policy; `null` when it was docket.
    pub policy_id: Option<String>,
    /// Its exact version.
    pub policy_version: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// The rule that spoke.
    pub rule: Option<String>,
    /// What it said.
    pub message: Option<String>,
    /// What it attached.
    pub data: Option<Value>,
    /// Where the rule stands.
    #[serde(flatten)]
    #[schema(value_type = Source)]
    pub source: Option<Source>,
}

/// A rule in its source, condition by condition.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = RuleSource)]
pub struct Source {
    /// Its file in the policy set.
    #[schema(required = false)]
    pub file: String,
    /// First line.
    #[schema(required = false)]
    pub line: u32,
    /// Last line.
    #[schema(required = false)]
    pub end_line: u32,
    /// The lines themselves.
    #[schema(required = false)]
    pub excerpt: String,
    /// Its conditions in the order of their evaluation.
    #[schema(required = false)]
    pub conditions: Vec<Condition>,
}

/// What an `allow` rule lacked for one decision.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct WhyNot {
    /// Joins it to the entries of its call.
    pub call_id: Option<String>,
    /// What was missing.
    #[serde(flatten)]
    pub missing: Missing,
}

/// One rule of a trace.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TracedRule)]
pub struct Traced {
    /// Joins it to the entries of its call.
    pub call_id: Option<String>,
    /// The rule.
    #[serde(flatten)]
    pub rule: RuleTrace,
}

/// Answers `GET /v1/explain/{request_id}`; with `?trace=true`, every condition of every rule besides.
pub async fn answer(
    replayer: &Arc<Replayer>,
    request_id: &str,
    query: &str,
    visit: &Visit,
) -> Response<Body> {
    let trace = match query {
        "" | "trace=false" => false,
        "trace=true" => true,
        _ => return super::audit::bad_parameter("only `trace=true` is accepted here".into(), visit),
    };
    visit.look("ledger.explained", "/v1/explain", request_id);
    let (id, explainer) = (request_id.to_owned(), replayer.clone());
    let scope = Scope::of(&visit.principal);
    let told = move || {
        let explanation = explanation(&explainer, &id, &scope, trace)?;
        Ok(explanation.map(|explanation| serde_json::to_vec(&explanation).unwrap_or_default()))
    };
    match evaluated(Lane::Recorded, visit, told).await.and_then(|told| told) {
        Ok(Some(json)) => web::json_bytes(StatusCode::OK, json),
        Ok(None) => {
            let shown = truncated(request_id, 128);
            let detail = format!("no entry has request id `{shown}`; `docket tail` lists the newest ones");
            Problem::not_found(detail, visit).response()
        }
        Err(error) => unreadable(&error, visit),
    }
}

/// Everything recorded under a request id and why it was decided so; `None` where nothing was. Blocks.
///
/// # Errors
/// The ledger cannot be read.
pub fn explanation(
    replayer: &Replayer,
    request_id: &str,
    scope: &Scope,
    trace: bool,
) -> Result<Option<Explanation>, LedgerError> {
    // Looking at a request must not make it exist: accesses carry the id of the look, not of what was looked at.
    let (entries, hidden) = entries_of(replayer.reader(), request_id, scope)?;
    if entries.is_empty() {
        return Ok(None);
    }
    let mut explanation = Explanation {
        request_id: request_id.to_owned(),
        entries: Vec::new(),
        why: Vec::new(),
        why_not: Vec::new(),
        reproduced: true,
        approximate: Vec::new(),
        notes: Vec::new(),
        trace: trace.then(Vec::new),
    };
    if hidden > 0 {
        explanation.notes.push(format!("{hidden} more entries have this request id; `/v1/audit` lists them"));
    }
    // Refusals first: where many calls share an id, they are what is asked about.
    let mut decisions: Vec<&Stored> = entries.iter().filter(|entry| entry.decision.is_some()).collect();
    decisions.sort_by_key(|entry| entry.decision.as_deref() == Some("allow"));
    for (number, entry) in decisions.into_iter().enumerate() {
        if number < MAX_REPLAYED {
            let is_its_trace =
                |other: &&Stored| other.kind == Kind::Trace.as_str() && other.call_id == entry.call_id;
            let live = entry.call_id.as_ref().and_then(|_| entries.iter().find(is_its_trace));
            explanation.add(entry, replayer.replay(entry, live, trace).map_err(|error| error.to_string()));
        } else {
            explanation
                .add(entry, Err(format!("only the first {MAX_REPLAYED} decisions are evaluated again")));
        }
    }
    explanation.approximate.sort();
    explanation.approximate.dedup();
    explanation.notes.dedup();
    explanation.entries = entries;
    Ok(Some(explanation))
}

/// The entries of a request id, oldest first, and how many more there are. A caller chooses its request ids and may use
/// one again and again: neither the newest entries nor any of the newest refusals can be pushed out of sight by that.
fn entries_of(reader: &Reader, request_id: &str, scope: &Scope) -> Result<(Vec<Stored>, i64), LedgerError> {
    let all = Filter {
        scope: scope.clone(),
        request_id: Some(request_id.to_owned()),
        limit: Some(MAX_LIMIT),
        ..Filter::default()
    };
    let mut entries = reader.entries(&all)?;
    let total = i64::try_from(reader.count(&all)?).unwrap_or(i64::MAX);
    if i64::try_from(entries.len()).is_ok_and(|shown| shown < total) {
        for refused in ["deny", "require_approval"] {
            entries.extend(reader.entries(&all.clone().with(Column::Decision, refused))?);
        }
        entries.extend(reader.entries(&all.with(Column::Kind, Kind::Trace.as_str()))?);
    }
    entries.sort_by_key(|entry| entry.seq);
    entries.dedup_by_key(|entry| entry.seq);
    let hidden = total - i64::try_from(entries.len()).unwrap_or(total);
    // Outcome and trace of a call do not name its person: whoever sees the call sees them.
    if *scope != scope.company() {
        let calls: Vec<String> = entries.iter().filter_map(|entry| entry.call_id.clone()).collect();
        for call_id in calls.into_iter().take(MAX_REPLAYED) {
            let company = Filter { scope: scope.company(), call_id: Some(call_id), ..Filter::default() };
            entries.extend(reader.entries(&company)?);
        }
    }
    entries.sort_by_key(|entry| entry.seq);
    entries.dedup_by_key(|entry| entry.seq);
    Ok((entries, hidden.max(0)))
}

impl Explanation {
    fn add(&mut self, entry: &Stored, replayed: Result<Replayed, String>) {
        let (mut rules, mut live) = (Vec::new(), false);
        match replayed {
            Ok(replayed) => {
                let call_id = || entry.call_id.clone();
                (rules, live) = (replayed.why, replayed.live);
                self.notes.extend(replayed.notes);
                self.reproduced &= replayed.reproduced;
                self.approximate.extend(replayed.approximate);
                let missing = replayed.why_not.into_iter();
                self.why_not.extend(missing.map(|missing| WhyNot { call_id: call_id(), missing }));
                if let Some(trace) = &mut self.trace {
                    let rules = replayed.trace.into_iter().flatten();
                    trace.extend(rules.map(|rule| Traced { call_id: call_id(), rule }));
                }
            }
            Err(note) => {
                self.reproduced = false;
                self.notes.push(note);
            }
        }
        self.why.extend(why(entry, rules, live.then_some("live")));
    }
}

/// Why one decision entry came out as it did: what was recorded with it, each part beside the rule it came from.
fn why(entry: &Stored, mut rules: Vec<RuleTrace>, traced: Option<&'static str>) -> Option<Why> {
    #[derive(Deserialize)]
    struct Determining {
        policy_id: String,
        policy_version: String,
        title: Option<String>,
    }
    #[derive(Deserialize)]
    struct Diagnostic {
        policy_id: Option<String>,
        rule: Option<String>,
        message: Option<String>,
        data: Option<Value>,
    }
    let decision = entry.decision.clone()?;
    let parse = |raw: &Option<Box<serde_json::value::RawValue>>| {
        raw.as_ref().map_or("[]", |raw| raw.get()).to_owned()
    };
    let determining: Vec<Determining> =
        serde_json::from_str(&parse(&entry.determining_policies)).unwrap_or_default();
    let diagnostics: Vec<Diagnostic> = serde_json::from_str(&parse(&entry.diagnostics)).unwrap_or_default();
    let mut because = Vec::new();
    let mut shown = Vec::new();
    for diagnostic in diagnostics {
        let policy =
            determining.iter().find(|policy| Some(&policy.policy_id) == diagnostic.policy_id.as_ref());
        let own = |rule: &RuleTrace| Some(&rule.policy_id) == diagnostic.policy_id.as_ref();
        let same = |rule: &RuleTrace| own(rule) && Some(&rule.rule) == diagnostic.rule.as_ref();
        // A rule may say several things; one that does not name itself is found by its policy.
        let found = rules.iter().position(same).or_else(|| {
            let mut unnamed = rules.iter().enumerate().filter(|(_, rule)| own(rule));
            unnamed.next().filter(|_| unnamed.next().is_none()).map(|(at, _)| at)
        });
        shown.extend(found);
        because.push(Because {
            policy_version: policy.map(|policy| policy.policy_version.clone()),
            title: policy.and_then(|policy| policy.title.clone()),
            policy_id: diagnostic.policy_id.clone(),
            rule: diagnostic.rule.clone(),
            message: diagnostic.message,
            data: diagnostic.data,
            source: found.and_then(|at| rules.get(at)).map(|rule| source_of(rule.clone())),
        });
    }
    let said = because.iter().filter_map(|because| because.message.as_deref().or(because.rule.as_deref()));
    let reason = said.collect::<Vec<_>>().join("; ");
    let mut at = 0;
    rules.retain(|_| {
        at += 1;
        !shown.contains(&(at - 1))
    });
    because.extend(rules.into_iter().map(|rule| Because {
        policy_id: Some(rule.policy_id.clone()),
        policy_version: Some(rule.policy_version.clone()),
        title: rule.title.clone(),
        rule: Some(rule.rule.clone()),
        message: None,
        data: None,
        source: Some(source_of(rule)),
    }));
    Some(Why { call_id: entry.call_id.clone(), decision, reason, traced, because })
}

fn source_of(rule: RuleTrace) -> Source {
    let RuleTrace { file, line, end_line, excerpt, conditions, .. } = rule;
    Source { file, line, end_line, excerpt, conditions }
}
