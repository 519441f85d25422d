//! Who may call which path of the admin plane. What is not in this table is nowhere; what of the ledger a caller then sees is
//! another matter, and the [`crate::ledger::filter::Scope`]'s.

use http::Method;

use crate::principal::{Principal, Role};

/// One path with one method.
pub struct Route {
    post: bool,
    /// `*` stands for one segment, `**` at the end for the rest.
    pub path: &'static str,
    /// The roles that may.
    pub who: &'static [Role],
    /// Whether it is about every tenant at once, so that nobody may who does not see all of them.
    pub whole: bool,
    /// Whether it takes parameters in its query string.
    pub takes_query: bool,
}

impl Route {
    /// Its method.
    #[must_use]
    pub fn method(&self) -> Method {
        if self.post { Method::POST } else { Method::GET }
    }
}

/// Every path that needs a token.
pub fn all() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter()
}

const fn get(path: &'static str, who: &'static [Role]) -> Route {
    Route { post: false, path, who, whole: false, takes_query: false }
}

const fn asked(path: &'static str, who: &'static [Role]) -> Route {
    Route { takes_query: true, ..get(path, who) }
}

const fn post(path: &'static str, who: &'static [Role]) -> Route {
    Route { post: true, ..get(path, who) }
}

const fn whole(path: &'static str, who: &'static [Role]) -> Route {
    Route { whole: true, ..get(path, who) }
}

const ADMIN: &[Role] = &[Role::Admin];
const AUDITOR: &[Role] = &[Role::Admin, Role::Auditor];
const AUTHOR: &[Role] = &[Role::Admin, Role::Author];
/// Those who read policies.
const READS_POLICIES: &[Role] = &[Role::Admin, Role::Auditor, Role::Author];
/// Those who read.
const READER: &[Role] = &[Role::Admin, Role::Auditor, Role::Lead, Role::User];
/// Those who look at single entries.
const PEOPLE: &[Role] = &[Role::Admin, Role::Auditor, Role::Lead, Role::User, Role::Approver, Role::Author];

/// Every path.
static ROUTES: [Route; 40] = [
    asked("/v1/audit", PEOPLE),
    asked("/v1/audit/stats", READER),
    asked("/v1/audit/stream", READER),
    asked("/v1/audit/export", READER),
    asked("/v1/audit/members", READER),
    asked("/v1/audit/services", READER),
    asked("/v1/audit/tools", READER),
    asked("/v1/audit/policies", READER),
    get("/v1/audit/*", PEOPLE),
    asked("/v1/explain/*", PEOPLE),
    get("/v1/entries/*/proof", READER),
    asked("/admin/auditlog/list/*", READER),
    // Tree heads and hashes say nothing about anybody.
    get("/v1/checkpoint", PEOPLE),
    get("/v1/ledger/key", PEOPLE),
    asked("/v1/proof/inclusion", PEOPLE),
    asked("/v1/proof/consistency", PEOPLE),
    get("/v1/tlog/checkpoint", PEOPLE),
    // The first that fits counts: leaves are of every tenant.
    whole("/v1/tlog/tile/entries/**", AUDITOR),
    get("/v1/tlog/tile/*/**", PEOPLE),
    get("/v1/policies", READS_POLICIES),
    get("/v1/policies/files/*", READS_POLICIES),
    // Scrapers add parameters of their own.
    Route { takes_query: true, ..whole("/metrics", AUDITOR) },
    whole("/v1/ledger/stats", AUDITOR),
    whole("/v1/ledger/holds", AUDITOR),
    whole("/v1/blocks", AUDITOR),
    get("/v1/tokens", ADMIN),
    post("/v1/simulate", AUTHOR),
    post("/v1/replay", AUTHOR),
    post("/v1/cover", AUTHOR),
    post("/v1/tests", AUTHOR),
    post("/v1/policies/reload", ADMIN),
    post("/v1/ledger/prune", ADMIN),
    post("/v1/ledger/erase", ADMIN),
    post("/v1/ledger/holds", ADMIN),
    post("/v1/ledger/holds/*/release", ADMIN),
    post("/v1/blocks", ADMIN),
    post("/v1/blocks/*/release", ADMIN),
    post("/v1/tokens", ADMIN),
    post("/v1/tokens/*/revoke", ADMIN),
    post("/v1/tokens/*/role", ADMIN),
];

/// Whether a path that can be read takes parameters in its query string.
#[must_use]
pub fn takes_query(path: &str) -> bool {
    ROUTES
        .iter()
        .find(|route| !route.post && is_like(path, route.path))
        .is_some_and(|route| route.takes_query)
}

/// Whether somebody may take a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// They may.
    Go,
    /// There is such a path, and it is for others.
    NotThey,
    /// It is not taken with this method, but with the one named.
    NotSo(&'static str),
    /// There is no such path.
    Nowhere,
}

/// Whether a principal may take a path.
#[must_use]
pub fn may(principal: &Principal, method: &Method, path: &str) -> May {
    let found = |post: bool| ROUTES.iter().find(|route| route.post == post && is_like(path, route.path));
    let route = match *method {
        Method::GET => found(false),
        Method::POST => found(true),
        _ => None,
    };
    match (route, found(false), found(true)) {
        (Some(route), ..) => {
            let sees = !route.whole || principal.zones.is_none();
            if route.who.contains(&principal.role) && sees { May::Go } else { May::NotThey }
        }
        (None, Some(_), Some(_)) => May::NotSo("GET, POST"),
        (None, Some(_), None) => May::NotSo("GET"),
        (None, None, Some(_)) => May::NotSo("POST"),
        (None, None, None) => May::Nowhere,
    }
}

fn is_like(path: &str, pattern: &str) -> bool {
    let (mut segments, mut wanted) = (path.split('/'), pattern.split('/'));
    loop {
        match (segments.next(), wanted.next()) {
            (None, None) => return true,
            (Some(segment), Some("**")) => return !segment.is_empty(),
            (Some(segment), Some("*")) if !segment.is_empty() => {}
            (Some(segment), Some(word)) if segment == word => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_for_those_in_the_table() {
        let who = |role, zones: Option<&str>| Principal {
            name: "it".into(),
            role,
            zones: zones.map(|zone| vec![zone.to_owned()]),
            team: None,
            user: None,
        };
        let (one, every) = (who(Role::Auditor, Some("eu")), who(Role::Auditor, None));
        let agent = who(Role::Agent, None);
        for (principal, method, path, expected) in [
            (&one, Method::GET, "/v1/audit", May::Go),
            (&one, Method::GET, "/v1/audit/stats", May::Go),
            (&one, Method::GET, "/metrics", May::NotThey),
            (&every, Method::GET, "/metrics", May::Go),
            (&every, Method::POST, "/v1/blocks", May::NotThey),
            (&every, Method::POST, "/v1/audit", May::NotSo("GET")),
            (&every, Method::DELETE, "/v1/blocks", May::NotSo("GET, POST")),
            (&every, Method::GET, "/v1/audit/a/b", May::Nowhere),
            (&every, Method::GET, "/v1/audit/", May::Nowhere),
            (&every, Method::GET, "//v1/audit", May::Nowhere),
        ] {
            assert_eq!(may(principal, &method, path), expected, "{method} {path}");
        }
        let open = |route: &Route| route.who.contains(&Role::Agent);
        assert!(!ROUTES.iter().any(open), "agents have no business here");
        assert_eq!(may(&agent, &Method::GET, "/v1/checkpoint"), May::NotThey);
    }
}
