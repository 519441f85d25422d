//! Which decisions a command is about: the filters that several commands have in common.

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Map, Value};

use super::client::encode;
use super::system_clock;
use crate::api::audit;
use crate::decision::Effect;
use crate::ledger::Filter;

/// Filters; everything given must hold.
#[derive(Clone, Debug, Args)]
pub struct Selection {
    /// Only decisions with this effect.
    #[arg(long, value_name = "EFFECT", value_parser = PossibleValuesParser::new(Effect::ALL.map(Effect::as_str)))]
    decision: Option<String>,
    /// Only this request.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Only calls for this configured server.
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Only calls of this tool, resource or prompt.
    #[arg(long, value_name = "NAME")]
    tool: Option<String>,
    /// Only calls of this agent.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
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
        let given = [
            ("decision", self.decision.as_deref()),
            ("request_id", self.request_id.as_deref()),
            ("server", self.server.as_deref()),
            ("tool", self.tool.as_deref()),
            ("agent", self.agent.as_deref()),
            ("since", self.since.as_deref()),
            ("until", self.until.as_deref()),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }

    /// As parameters of a query.
    pub fn query(&self) -> Vec<String> {
        self.given().map(|(name, value)| format!("{name}={}", encode(value))).collect()
    }

    /// As members of a JSON body.
    pub fn members(&self) -> Map<String, Value> {
        self.given().map(|(name, value)| (name.to_owned(), value.into())).collect()
    }

    /// As a filter of the ledger's reader.
    ///
    /// # Errors
    /// A time is malformed.
    pub fn filter(&self) -> anyhow::Result<Filter> {
        let now_ms = (system_clock().now_ms)();
        let time = |flag: &str, text: &Option<String>| {
            let parsed = text.as_deref().map(|text| audit::parse_time(text, now_ms)).transpose();
            parsed.map_err(|error| anyhow::anyhow!("`--{flag}`: {error}"))
        };
        Ok(Filter {
            decision: self.decision.clone(),
            request_id: self.request_id.clone(),
            server: self.server.clone(),
            tool: self.tool.clone(),
            agent: self.agent.clone(),
            since_ms: time("since", &self.since)?,
            until_ms: time("until", &self.until)?,
            ..Filter::default()
        })
    }
}
