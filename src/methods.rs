//! The requests of the Model Context Protocol, of both eras: what each is called and what it names. Pure data; how a message is
//! read, and what is done about one that is not here, is the proxy's to know.

/// Requests that name something: method, member of `params` that names it, type of the resource.
pub const NAMING: [(&str, &str, &str); 5] = [
    ("tools/call", "name", "tool"),
    ("prompts/get", "name", "prompt"),
    ("resources/read", "uri", "resource"),
    ("resources/subscribe", "uri", "resource"),
    ("resources/unsubscribe", "uri", "resource"),
];

/// Requests about the server itself.
pub const ABOUT_SERVER: [&str; 13] = [
    "initialize",
    "server/discover",
    "tools/list",
    "resources/list",
    "resources/templates/list",
    "prompts/list",
    "completion/complete",
    "logging/setLevel",
    "subscriptions/listen",
    "tasks/get",
    "tasks/list",
    "tasks/cancel",
    "tasks/result",
];

/// The request that passes without a decision.
pub const PING: &str = "ping";

/// Every request.
pub fn all() -> impl Iterator<Item = &'static str> {
    NAMING.into_iter().map(|(method, ..)| method).chain(ABOUT_SERVER).chain([PING])
}
