//! Filters by name: what each is called, here and in other systems, and what it takes.
//!
//! The table is the documentation too: `docs/audit.md` repeats it, and a test compares the two.

use ulid::Ulid;

use super::{Column, Filter, Term, parse_time};
use crate::clock::rfc3339;
use crate::decision::Effect;
use crate::ledger::{Kind, Mode};
use crate::text::{nearest, plain, truncated};

/// What a parameter sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sets {
    /// A value of a column, the whole of it.
    Exact(Column),
    /// A part of it.
    Part(Column),
    /// The entry's id, a ULID.
    Id,
    /// The request's id.
    RequestId,
    /// The call's id, a ULID.
    CallId,
    /// The least duration, in milliseconds.
    MinDuration,
    /// The earliest time.
    Since,
    /// The time before which it was.
    Until,
}

/// One filter.
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What others call it. Case and underscores make no difference: `requestId` is `request_id`.
    pub synonyms: &'static [&'static str],
    /// What it sets.
    pub sets: Sets,
    /// In words.
    pub about: &'static str,
}

const fn row(
    name: &'static str,
    synonyms: &'static [&'static str],
    sets: Sets,
    about: &'static str,
) -> Parameter {
    Parameter { name, synonyms, sets, about }
}

/// Every filter.
pub const PARAMETERS: [Parameter; 25] = [
    row("request_id", &["trace_id", "correlation_id"], Sets::RequestId, "only this request"),
    row("id", &["entry_id", "event_id", "log_id"], Sets::Id, "only the entry with this id"),
    row("call_id", &["decision_id"], Sets::CallId, "only the entries of this call"),
    row("kind", &["entry_kind", "log_type"], Sets::Exact(Column::Kind), "only entries of this kind"),
    row(
        "event_type",
        &["event", "event_name", "action_type"],
        Sets::Exact(Column::EventType),
        "only this event, as `tools.call`",
    ),
    row(
        "decision",
        &["result", "policy_result", "effect", "verdict"],
        Sets::Exact(Column::Decision),
        "only decisions with this effect",
    ),
    row("status", &["evaluation_status"], Sets::Exact(Column::Status), "how the evaluation went"),
    row("outcome", &["call_outcome"], Sets::Exact(Column::Outcome), "what became of the call"),
    row(
        "subject",
        &["subject_id", "principal", "principal_id"],
        Sets::Exact(Column::Subject),
        "who acted, as policies saw it",
    ),
    row(
        "agent",
        &["agent_id", "agent_name"],
        Sets::Part(Column::Agent),
        "part of the authenticated agent's name",
    ),
    row(
        "user",
        &["user_id", "username", "user_email", "actor", "actor_id", "member", "member_id"],
        Sets::Exact(Column::User),
        "the person the agent acts for",
    ),
    row("team", &["team_id", "group"], Sets::Exact(Column::Team), "that person's team"),
    row("zone", &["zone_id", "tenant", "tenant_id", "workspace_id"], Sets::Exact(Column::Zone), "the tenant"),
    row(
        "server",
        &["service", "service_id", "service_name", "server_name", "mcp_server"],
        Sets::Exact(Column::Server),
        "the configured server",
    ),
    row(
        "tool",
        &["tool_name", "resource", "resource_id"],
        Sets::Part(Column::Tool),
        "part of the name of the tool, resource or prompt",
    ),
    row("action", &["action_name", "method"], Sets::Exact(Column::Action), "the MCP or HTTP method"),
    row(
        "policy",
        &["policy_id", "policy_name"],
        Sets::Exact(Column::Policy),
        "a policy that determined the decision, by id",
    ),
    row("policy_version", &[], Sets::Exact(Column::PolicyVersion), "the version of such a policy"),
    row(
        "manifest_sha",
        &["manifest", "policy_set", "bundle_sha"],
        Sets::Exact(Column::ManifestSha),
        "the policy set in force",
    ),
    row("rule", &["rule_id", "rule_name"], Sets::Exact(Column::Rule), "a rule that spoke"),
    row(
        "classification",
        &["sensitivity"],
        Sets::Exact(Column::Classification),
        "the configured classification of the tool",
    ),
    row("mode", &["enforcement_mode"], Sets::Exact(Column::Mode), "whether decisions bound"),
    row(
        "min_duration_ms",
        &["min_duration", "min_latency_ms"],
        Sets::MinDuration,
        "calls that took at least this many milliseconds",
    ),
    row(
        "since",
        &["from", "start", "start_date", "start_time", "after_time"],
        Sets::Since,
        "not before this time: RFC 3339, a date, or how long ago (`15m`, `24h`, `7d`)",
    ),
    row(
        "until",
        &["to", "end", "end_date", "end_time", "before_time"],
        Sets::Until,
        "before this time, written likewise",
    ),
];

/// The words a column has, and what others write for each.
#[must_use]
pub fn words(column: Column) -> Option<Vec<(&'static str, &'static [&'static str])>> {
    let plainly = |words: &[&'static str]| words.iter().map(|word| (*word, &[] as &[&str])).collect();
    Some(match column {
        Column::Kind => plainly(&Kind::ALL.map(Kind::as_str)),
        Column::Decision => vec![
            (Effect::Allow.as_str(), &["allowed", "permit", "permitted", "EFFECT_ALLOW", "approved"]),
            (Effect::Deny.as_str(), &["denied", "forbid", "block", "blocked", "EFFECT_DENY"]),
            (Effect::RequireApproval.as_str(), &["needs_approval", "pending_approval", "hold", "held"]),
            ("partial", &[]),
        ],
        Column::Status => plainly(&["complete", "error", "timeout"]),
        Column::Outcome => vec![
            ("success", &["ok", "succeeded"]),
            ("denied", &["blocked"]),
            ("error", &["failure", "failed"]),
            ("pending_approval", &["pending"]),
            ("disconnected", &[]),
            ("unknown", &[]),
        ],
        Column::Mode => plainly(&[Mode::Enforce.as_str(), Mode::Monitor.as_str()]),
        _ => return None,
    })
}

/// What cannot be taken, in words: it names the parameter, the value, and what is accepted.
pub type Wrong = String;

impl Parameter {
    /// The filter of a name, whoever's.
    #[must_use]
    pub fn of(name: &str) -> Option<&'static Self> {
        let name = plain(name);
        PARAMETERS.iter().find(|parameter| {
            std::iter::once(&parameter.name).chain(parameter.synonyms).any(|known| plain(known) == name)
        })
    }
}

/// Says that a name is no parameter, and which was probably meant. `others` are accepted besides filters.
#[must_use]
pub fn unknown(name: &str, value: &str, others: &[&'static str]) -> Wrong {
    let own = || others.iter().copied().chain(PARAMETERS.iter().map(|parameter| parameter.name));
    let synonyms = PARAMETERS.iter().flat_map(|parameter| parameter.synonyms.iter().copied());
    let meant = nearest(name, own().chain(synonyms));
    let meant = meant.map(|known| format!(" (did you mean `{known}`?)")).unwrap_or_default();
    let (listed, value): (Vec<&str>, _) = (own().collect(), truncated(value, MAX_QUOTED_BYTES));
    format!(
        "parameter `{name}` (given `{value}`) is not known{meant}; accepted are `{}`",
        listed.join("`, `")
    )
}

/// Bytes of a value that an error quotes at most.
pub const MAX_QUOTED_BYTES: usize = 64;

/// Values of one filter at most, any of which may hold: SQL nests them.
const MAX_VALUES: usize = 100;

impl Filter {
    /// Takes one parameter; `false` where its name is no filter's. Given again, either value of a column will do; ids, times and
    /// the least duration can be given once.
    ///
    /// # Errors
    /// Names the parameter as it was written, the value, and what is accepted.
    pub fn set(&mut self, name: &str, value: &str, now_ms: i64) -> Result<bool, Wrong> {
        let Some(parameter) = Parameter::of(name) else { return Ok(false) };
        if value.is_empty() {
            return Err(format!("`{name}` is empty; leave it out, or give it a value: {}", parameter.about));
        }
        let ulid = || {
            Ulid::from_string(value)
                .map(|id| id.to_string())
                .map_err(|_| format!("`{name}` must be a ULID (26 characters), and `{value}` is not"))
        };
        match parameter.sets {
            Sets::RequestId => once(name, value, &mut self.request_id, value.to_owned())?,
            Sets::Id => once(name, value, &mut self.id, ulid()?)?,
            Sets::CallId => once(name, value, &mut self.call_id, ulid()?)?,
            Sets::Since | Sets::Until => {
                let time = parse_time(value, now_ms).map_err(|error| format!("`{name}`: {error}"))?;
                let slot =
                    if parameter.sets == Sets::Since { &mut self.since_ms } else { &mut self.until_ms };
                once(name, value, slot, time)?;
                self.between()?;
            }
            Sets::MinDuration => {
                let ms = value.parse::<f64>().ok().filter(|ms| (0.0..=1e12).contains(ms));
                let ms = ms.ok_or_else(|| {
                    format!("`{name}` must be a number of milliseconds from 0, and `{value}` is not")
                })?;
                #[expect(clippy::cast_possible_truncation, reason = "bounded above")]
                let us = (ms * 1_000.0).ceil() as i64;
                once(name, value, &mut self.min_duration_us, us)?;
            }
            Sets::Exact(column @ (Column::PolicyVersion | Column::ManifestSha)) => {
                let digest = digest_of(value).ok_or_else(|| {
                    format!("`{name}` must be `sha256:` and 64 hexadecimal digits, and `{value}` is not")
                })?;
                self.any_of(name, column, digest, false)?;
            }
            // As the method is called, or as its events are.
            Sets::Exact(Column::EventType) => {
                self.any_of(name, Column::EventType, value.replace('/', "."), false)?;
            }
            Sets::Exact(column) => {
                let value = word_of(column, value).map_err(|accepted| {
                    format!("`{name}` must be one of `{}`, not `{value}`", accepted.join("`, `"))
                })?;
                self.any_of(name, column, value, false)?;
            }
            Sets::Part(column) => self.any_of(name, column, value.to_owned(), true)?,
        }
        Ok(true)
    }

    fn any_of(&mut self, name: &str, column: Column, value: String, part: bool) -> Result<(), Wrong> {
        match self.terms.iter_mut().find(|term| term.column == column && term.part == part) {
            Some(term) if term.any.len() >= MAX_VALUES => {
                return Err(format!("`{name}` can be given {MAX_VALUES} times, and is given more often"));
            }
            Some(term) => term.any.push(value),
            None => self.terms.push(Term { column, any: vec![value], part }),
        }
        Ok(())
    }

    /// A filter from names and values.
    ///
    /// # Errors
    /// As [`Filter::set`], and where a name is no filter's.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>, now_ms: i64) -> Result<Self, Wrong> {
        let mut filter = Self::default();
        for (name, value) in pairs {
            if !filter.set(name, value, now_ms)? {
                return Err(unknown(name, value, &[]));
            }
        }
        Ok(filter)
    }

    /// Whether anything can be between its times.
    ///
    /// # Errors
    /// `since` is not before `until`.
    pub fn between(&self) -> Result<(), Wrong> {
        match (self.since_ms, self.until_ms) {
            (Some(since_ms), Some(until_ms)) if since_ms >= until_ms => Err(format!(
                "`since` must be before `until`, and {} is not before {}",
                rfc3339(since_ms),
                rfc3339(until_ms)
            )),
            _ => Ok(()),
        }
    }

    /// The filter that would narrow this one most, as advice to whoever waited in vain.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        let has = |column| self.terms.iter().any(|term| term.column == column);
        if self.since_ms.is_none() {
            "`since` (as `since=1h`) would narrow it"
        } else if self.until_ms.is_none() {
            "a later `since`, or `until`, would narrow it"
        } else if !has(Column::Server) {
            "`server` would narrow it, or a shorter time between `since` and `until`"
        } else if !has(Column::Subject) {
            "`subject` would narrow it, or a shorter time between `since` and `until`"
        } else {
            "`request_id` would narrow it, or a shorter time between `since` and `until`"
        }
    }
}

/// Takes what can be given once: again only if it is the same.
///
/// # Errors
/// It is `given` with another value.
pub fn once<T: PartialEq>(name: &str, given: &str, slot: &mut Option<T>, value: T) -> Result<(), Wrong> {
    if slot.as_ref().is_some_and(|other| *other != value) {
        let given = truncated(given, MAX_QUOTED_BYTES);
        return Err(format!("`{name}` can be given once, and `{given}` is another value"));
    }
    *slot = Some(value);
    Ok(())
}

/// A SHA-256 as entries have it, with or without the name of the algorithm.
fn digest_of(value: &str) -> Option<String> {
    let hex = value.strip_prefix("sha256:").unwrap_or(value).to_ascii_lowercase();
    (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| format!("sha256:{hex}"))
}

/// The word of a column that was meant; the accepted ones, if none was. Columns without words take any text.
fn word_of(column: Column, value: &str) -> Result<String, Vec<&'static str>> {
    let Some(words) = words(column) else { return Ok(value.to_owned()) };
    let wanted = plain(value);
    let found = words.iter().find(|(word, synonyms)| {
        std::iter::once(word).chain(synonyms.iter()).any(|known| plain(known) == wanted)
    });
    found.map(|(word, _)| (*word).to_owned()).ok_or_else(|| words.iter().map(|(word, _)| *word).collect())
}

#[cfg(test)]
mod tests {
    use super::super::OUTCOMES;
    use super::*;

    #[test]
    fn every_name_means_one_thing() {
        let names: Vec<String> = PARAMETERS
            .iter()
            .flat_map(|parameter| std::iter::once(&parameter.name).chain(parameter.synonyms))
            .map(|name| plain(name))
            .collect();
        let mut once = names.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), names.len());
        assert_eq!(
            OUTCOMES.to_vec(),
            words(Column::Outcome).unwrap().iter().map(|(word, _)| *word).collect::<Vec<_>>()
        );
    }

    #[test]
    fn others_names_and_words_are_understood() {
        let filter = Filter::of(
            [
                ("policyResult", "EFFECT_DENY"),
                ("service", "fs"),
                ("userId", "alice"),
                ("startDate", "2026-11-20"),
                ("toolName", "Del"),
            ],
            0,
        );
        let expected = Filter {
            since_ms: parse_time("2026-11-20", 0).ok(),
            ..Filter::default()
                .with(Column::Decision, "deny")
                .with(Column::Server, "fs")
                .with(Column::User, "alice")
        };
        let mut expected = expected;
        expected.terms.push(Term { column: Column::Tool, any: vec!["Del".into()], part: true });
        assert_eq!(filter, Ok(expected));
        let either = Filter::of([("kind", "decision"), ("kind", "outcome")], 0).unwrap();
        assert_eq!(either.terms.first().map(|term| term.any.len()), Some(2));
    }

    #[test]
    fn mistakes_are_named() {
        for (name, value, expected) in [
            (
                "decision",
                "maybe",
                "`decision` must be one of `allow`, `deny`, `require_approval`, `partial`, not `maybe`",
            ),
            ("resutl", "deny", "parameter `resutl` (given `deny`) is not known (did you mean `result`?)"),
            (
                "policy_version",
                "xyz",
                "`policy_version` must be `sha256:` and 64 hexadecimal digits, and `xyz`",
            ),
            ("since", "never", "`since`: `never` is not a time"),
            ("id", "r-1", "`id` must be a ULID (26 characters), and `r-1` is not"),
            ("min_duration_ms", "-1", "`min_duration_ms` must be a number of milliseconds"),
            ("server", "", "`server` is empty"),
        ] {
            let wrong = Filter::of([(name, value)], 0).unwrap_err();
            assert!(wrong.starts_with(expected), "{wrong}");
        }
        for name in ["since", "min_duration_ms", "request_id"] {
            let unit = if name == "since" { "h" } else { "" };
            let twice = ["1", "2"].map(|value| format!("{value}{unit}"));
            let twice = Filter::of(twice.iter().map(|value| (name, value.as_str())), 0).unwrap_err();
            assert!(twice.contains("can be given once"), "{twice}");
        }
        assert!(Filter::of([("since", "1h"), ("until", "2h")], 0).unwrap_err().contains("must be before"));
        let bare = Filter::of([("manifest_sha", "AB".repeat(32).as_str())], 0).unwrap();
        let digest = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(bare, Filter::default().with(Column::ManifestSha, &digest));
    }
}
