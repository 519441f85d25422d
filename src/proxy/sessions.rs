//! Which agent a session belongs to.
//!
//! A server knows a session by its id alone, since docket's callers do not authenticate to it; so docket remembers who
//! opened which, and lets nobody else use it. What it remembers is bounded: of very many sessions the oldest are forgotten,
//! and a forgotten or unknown session is left to the server's own judgement.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;

/// Sessions remembered at most.
const MAX_SESSIONS: usize = 10_000;

/// Longest session id that is remembered, in bytes.
const MAX_ID_BYTES: usize = 256;

/// The header that carries a session's id.
const SESSION_ID: &str = "mcp-session-id";

/// The sessions of one proxy.
#[derive(Debug, Default)]
pub struct Sessions {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    agents: HashMap<(Arc<str>, String), String>,
    oldest: VecDeque<(Arc<str>, String)>,
}

impl Sessions {
    /// Remembers that `agent` opened the session that a server's answer names.
    pub fn opened(&self, server: &Arc<str>, answer: &HeaderMap, agent: &str) {
        let Some(id) = id_of(answer) else { return };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (server.clone(), id.to_owned());
        if known.agents.contains_key(&key) {
            return;
        }
        if known.agents.len() >= MAX_SESSIONS
            && let Some(oldest) = known.oldest.pop_front()
        {
            known.agents.remove(&oldest);
        }
        known.oldest.push_back(key.clone());
        known.agents.insert(key, agent.to_owned());
    }

    /// Whether a request names a session that another agent opened.
    pub fn is_foreign(&self, server: &Arc<str>, request: &HeaderMap, agent: &str) -> bool {
        let Some(id) = id_of(request) else { return false };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.agents.get(&(server.clone(), id.to_owned())).is_some_and(|owner| owner != agent)
    }
}

fn id_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(SESSION_ID)?.to_str().ok().filter(|id| id.len() <= MAX_ID_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naming(id: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(SESSION_ID), id.parse().unwrap())])
    }

    #[test]
    fn a_session_is_its_openers() {
        let (sessions, server): (Sessions, Arc<str>) = (Sessions::default(), "fs".into());
        sessions.opened(&server, &naming("s1"), "alice");
        sessions.opened(&server, &naming("s1"), "mallory");
        assert!(!sessions.is_foreign(&server, &naming("s1"), "alice"));
        assert!(sessions.is_foreign(&server, &naming("s1"), "mallory"));
        assert!(!sessions.is_foreign(&"other".into(), &naming("s1"), "mallory"));
        assert!(!sessions.is_foreign(&server, &naming("unknown"), "mallory"));
        for number in 0..=MAX_SESSIONS {
            sessions.opened(&server, &naming(&format!("x{number}")), "alice");
        }
        assert!(!sessions.is_foreign(&server, &naming("s1"), "mallory"), "the oldest is forgotten");
        assert_eq!(sessions.known.lock().unwrap().agents.len(), MAX_SESSIONS);
    }
}
