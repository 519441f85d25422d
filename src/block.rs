//! The emergency stop: which calls are refused whatever policies say. Pure data; time is passed in.

use serde::{Deserialize, Serialize};

use crate::clock::rfc3339;

/// What is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", content = "name", rename_all = "snake_case")]
pub enum Stop {
    /// Every call of an agent.
    Agent(String),
    /// Every call to a configured server.
    Server(String),
    /// Every call.
    All,
}

impl Stop {
    /// From the words of [`Stop::words`].
    #[must_use]
    pub fn parse(what: &str, name: Option<String>) -> Option<Self> {
        match (what, name) {
            ("agent", Some(name)) => Some(Self::Agent(name)),
            ("server", Some(name)) => Some(Self::Server(name)),
            ("all", None) => Some(Self::All),
            _ => None,
        }
    }

    /// `agent`, `server` or `all`, and the name.
    #[must_use]
    pub fn words(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Agent(name) => ("agent", Some(name)),
            Self::Server(name) => ("server", Some(name)),
            Self::All => ("all", None),
        }
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.words() {
            (what, Some(name)) => write!(f, "{what} `{name}`"),
            (_, None) => f.write_str("every call"),
        }
    }
}

/// A stop in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// ULID; `docket unblock` takes it.
    pub id: String,
    /// What is stopped.
    pub stop: Stop,
    /// Why, as it was given. Agents are told.
    pub reason: String,
    /// Who stopped it.
    pub principal: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// Until when; for ever if not set.
    pub until_ms: Option<i64>,
}

impl Block {
    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self, now_ms: i64) -> bool {
        self.until_ms.is_some_and(|until_ms| now_ms >= until_ms)
    }

    /// What the caller is told.
    #[must_use]
    pub fn message(&self) -> String {
        let until = self.until_ms.map_or_else(|| "it is released".to_owned(), rfc3339);
        format!("{} is blocked until {until}: {}", self.stop, self.reason)
    }

    fn stops(&self, agent: &str, server: Option<&str>, now_ms: i64) -> bool {
        let is_meant = match &self.stop {
            Stop::Agent(name) => name == agent,
            Stop::Server(name) => Some(name.as_str()) == server,
            Stop::All => true,
        };
        is_meant && !self.is_over(now_ms)
    }
}

/// The first block that stops a call.
#[must_use]
pub fn stopping<'a>(
    blocks: &'a [Block],
    agent: &str,
    server: Option<&str>,
    now_ms: i64,
) -> Option<&'a Block> {
    blocks.iter().find(|block| block.stops(agent, server, now_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_stops_what_it_names_for_as_long_as_it_says() {
        let block = |stop, until_ms| Block {
            id: "1".into(),
            stop,
            reason: "leaked".into(),
            principal: "admin".into(),
            since_ms: 0,
            until_ms,
        };
        let agent = [block(Stop::Agent("bot".into()), Some(10))];
        assert!(stopping(&agent, "bot", None, 9).is_some());
        assert!(stopping(&agent, "bot", None, 10).is_none());
        assert!(stopping(&agent, "bot2", Some("bot"), 9).is_none());
        let server = [block(Stop::Server("files".into()), None)];
        assert!(stopping(&server, "x", Some("files"), i64::MAX).is_some());
        assert!(stopping(&server, "files", None, 0).is_none());
        assert!(stopping(&[block(Stop::All, None)], "x", None, 0).is_some());
        assert_eq!(agent[0].message(), "agent `bot` is blocked until 1970-01-01T00:00:00.010Z: leaked");
    }
}
