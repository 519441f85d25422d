//! Which decisions a command is about: the filters that several commands have in common, by the names of the HTTP API.

use clap::Args;
use serde_json::{Map, Value};

use super::client::encode;
use super::system_clock;
use super::words::Words;
use crate::clock::rfc3339;
use crate::ledger::filter::parse_span;
use crate::ledger::{Column, Filter};

/// Filters; everything given must hold. One that is given again is met by either value.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Filters")]
pub struct Selection {
    /// Only decisions with this effect.
    #[arg(long, value_name = "EFFECT", value_parser = Words::of(Column::Decision))]
    decision: Vec<String>,
    /// Only this request.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Only calls for this configured server.
    #[arg(long, value_name = "NAME")]
    server: Vec<String>,
    /// Only calls of a tool, resource or prompt with this in its name.
    #[arg(long, value_name = "PART")]
    tool: Vec<String>,
    /// Only calls of an agent with this in its name.
    #[arg(long, value_name = "PART")]
    agent: Vec<String>,
    /// Only what this subject did, as policies saw it.
    #[arg(long, value_name = "ID")]
    subject: Vec<String>,
    /// Only what was done for this person.
    #[arg(long, value_name = "ID")]
    user: Vec<String>,
    /// Only what was done for this team.
    #[arg(long, value_name = "NAME")]
    team: Vec<String>,
    /// Only entries of this tenant.
    #[arg(long, value_name = "NAME")]
    zone: Vec<String>,
    /// Only this MCP or HTTP method, as `tools/call`.
    #[arg(long, value_name = "METHOD")]
    action: Vec<String>,
    /// Only this event, as `tools.call`; `docket events` lists them.
    #[arg(long, value_name = "NAME")]
    event_type: Vec<String>,
    /// How the evaluation went.
    #[arg(long, value_name = "STATUS", value_parser = Words::of(Column::Status))]
    status: Vec<String>,
    /// What became of the call.
    #[arg(long, value_name = "OUTCOME", value_parser = Words::of(Column::Outcome))]
    outcome: Vec<String>,
    /// Only decisions in which this rule spoke.
    #[arg(long, value_name = "NAME")]
    rule: Vec<String>,
    /// Only tools of this configured classification.
    #[arg(long, value_name = "NAME")]
    classification: Vec<String>,
    /// Only calls that took at least so many milliseconds.
    #[arg(long, value_name = "MS")]
    min_duration_ms: Option<String>,
    /// Not before this time: RFC 3339, a date, or how long ago (`15m`, `24h`, `7d`).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time, written likewise.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Selection {
    /// What was given, by the names of the HTTP API.
    fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let many = [
            ("decision", &self.decision),
            ("server", &self.server),
            ("tool", &self.tool),
            ("agent", &self.agent),
            ("subject", &self.subject),
            ("user", &self.user),
            ("team", &self.team),
            ("zone", &self.zone),
            ("action", &self.action),
            ("event_type", &self.event_type),
            ("status", &self.status),
            ("outcome", &self.outcome),
            ("rule", &self.rule),
            ("classification", &self.classification),
        ];
        let single = [
            ("request_id", &self.request_id),
            ("min_duration_ms", &self.min_duration_ms),
            ("since", &self.since),
            ("until", &self.until),
        ];
        let many = many
            .into_iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value.as_str())));
        many.chain(single.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))))
    }

    /// As members of a JSON body.
    pub fn members(&self) -> Map<String, Value> {
        let mut members: Map<String, Value> = Map::new();
        for (name, value) in self.given() {
            match members.get_mut(name) {
                Some(Value::Array(values)) => values.push(value.into()),
                Some(first) => *first = Value::Array(vec![first.take(), value.into()]),
                None => drop(members.insert(name.to_owned(), value.into())),
            }
        }
        members
    }

    /// As a filter of the ledger's reader.
    ///
    /// # Errors
    /// A value is malformed.
    pub fn filter(&self) -> anyhow::Result<Filter> {
        filter_of(self.given())
    }
}

/// Filters that look at any entry, not at decisions only.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Filters")]
pub struct Everything {
    #[command(flatten)]
    common: Selection,
    /// Only entries of this kind.
    #[arg(long, value_name = "KIND", value_parser = Words::of(Column::Kind))]
    kind: Vec<String>,
    /// Only the entry with this id.
    #[arg(long, value_name = "ULID")]
    id: Option<String>,
    /// Only the entries of this call.
    #[arg(long, value_name = "ULID")]
    call_id: Option<String>,
    /// Only decisions determined by this policy.
    #[arg(long, value_name = "ID")]
    policy: Vec<String>,
    /// Only decisions determined by a policy of this version.
    #[arg(long, value_name = "SHA256")]
    policy_version: Vec<String>,
    /// Only what was decided under this policy set.
    #[arg(long, value_name = "SHA256")]
    manifest_sha: Vec<String>,
    /// Whether decisions bound.
    #[arg(long, value_name = "MODE", value_parser = Words::of(Column::Mode))]
    mode: Vec<String>,
}

impl Everything {
    /// Whether entries of a certain kind, or a certain entry, were asked for.
    pub fn names_kind(&self) -> bool {
        !self.kind.is_empty() || self.id.is_some()
    }

    fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let many = [
            ("kind", &self.kind),
            ("policy", &self.policy),
            ("policy_version", &self.policy_version),
            ("manifest_sha", &self.manifest_sha),
            ("mode", &self.mode),
        ];
        let single = [("id", &self.id), ("call_id", &self.call_id)];
        let many = many
            .into_iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value.as_str())));
        let single = single.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        self.common.given().chain(many).chain(single)
    }

    /// The times that were given as so long ago, as options that are the same whenever they are used.
    pub fn relative(&self, filter: &Filter) -> String {
        let given =
            [("since", &self.common.since, filter.since_ms), ("until", &self.common.until, filter.until_ms)];
        let fixed = given.into_iter().filter_map(|(name, text, ms)| {
            text.as_deref().and_then(parse_span)?;
            Some(format!(" --{name} {}", rfc3339(ms?)))
        });
        fixed.collect()
    }

    /// As parameters of a query.
    pub fn query(&self) -> Vec<String> {
        self.given().map(|(name, value)| format!("{name}={}", encode(value))).collect()
    }

    /// As a filter of the ledger's reader.
    ///
    /// # Errors
    /// A value is malformed.
    pub fn filter(&self) -> anyhow::Result<Filter> {
        filter_of(self.given())
    }
}

fn filter_of<'a>(given: impl Iterator<Item = (&'static str, &'a str)>) -> anyhow::Result<Filter> {
    let (mut filter, now_ms) = (Filter::default(), (system_clock().now_ms)());
    for (name, value) in given {
        // Whoever wrote a flag knows it by that name.
        let as_flag = |wrong: String| {
            wrong.replacen(&format!("`{name}`"), &format!("`--{}`", name.replace('_', "-")), 1)
        };
        filter.set(name, value, now_ms).map_err(as_flag).map_err(anyhow::Error::msg)?;
    }
    Ok(filter)
}
