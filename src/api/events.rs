//! The catalogue of event types: every one docket records, in which kind of entry, and what its metadata says. A test compares it
//! with what the code emits.

use serde::Serialize;

/// One event type.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Event {
    /// Its dotted name: of a decided MCP call, the method with dots for slashes.
    pub event_type: &'static str,
    /// The kind of entry.
    pub kind: &'static str,
    /// When it is recorded.
    pub about: &'static str,
    /// Members of its metadata.
    pub fields: &'static [&'static str],
}

const fn event(
    event_type: &'static str,
    kind: &'static str,
    about: &'static str,
    fields: &'static [&'static str],
) -> Event {
    Event { event_type, kind, about, fields }
}

const CALL: &[&str] = &["context", "verified"];
const LOOK: &[&str] = &["principal", "path", "query", "status"];
const REFUSED: &[&str] = &["reason", "error", "length", "sha256"];
const EXPORT: &[&str] = &["principal", "path", "query", "format"];
const EXPORTED: &[&str] = &["principal", "path", "query", "format", "rows", "bytes", "sha256", "cursor"];
const REMOVED: &[&str] =
    &["principal", "reason", "cuts", "tree", "from", "to", "seqs", "count", "skipped", "holds"];
const ERASED: &[&str] =
    &["principal", "reason", "subject_digest", "tree", "from", "to", "seqs", "count", "skipped", "holds"];
const POLICY: &[&str] = &["cause", "principal", "before", "after", "added", "changed", "removed"];
const BLOCKED: &[&str] = &["block_id", "stops", "until", "principal", "reason"];
const KEY: &[&str] = &["key_id", "name", "role", "zones", "team", "user", "expires", "principal"];
const LIFE: &[&str] = &["version", "signed_by", "loaded_hooks"];
const CHANGED: &[&str] = &["server", "before", "after"];

/// Every event type.
pub const EVENTS: [Event; 71] = [
    event(
        "tools.call",
        "decision",
        "a tool call was decided; its outcome and its trace have the same name",
        CALL,
    ),
    event("resources.read", "decision", "reading a resource was decided", CALL),
    event("prompts.get", "decision", "fetching a prompt was decided", CALL),
    event("tools.list", "decision", "listing tools was decided", CALL),
    event("resources.list", "decision", "listing resources was decided", CALL),
    event("resources.templates.list", "decision", "listing resource templates was decided", CALL),
    event("prompts.list", "decision", "listing prompts was decided", CALL),
    event("resources.subscribe", "decision", "following a resource was decided", CALL),
    event("resources.unsubscribe", "decision", "no longer following a resource was decided", CALL),
    event("completion.complete", "decision", "completing an argument was decided", CALL),
    event("logging.setLevel", "decision", "setting a server's log level was decided", CALL),
    event("initialize", "decision", "the beginning of an MCP session was decided", CALL),
    event("server.discover", "decision", "asking a server what it can do was decided", CALL),
    event("subscriptions.listen", "decision", "listening to a server's changes was decided", CALL),
    event("tasks.get", "decision", "asking about a task was decided", CALL),
    event("tasks.list", "decision", "listing tasks was decided", CALL),
    event("tasks.cancel", "decision", "ending a task was decided", CALL),
    event("tasks.result", "decision", "fetching a task's result was decided", CALL),
    event("access.evaluation", "decision", "an AuthZEN evaluation was decided", CALL),
    event("mcp.unknown_method", "decision", "an MCP method docket does not know was denied", CALL),
    event("request.unreadable", "decision", "what was sent could not be read, and was denied", REFUSED),
    event("request.batch", "decision", "a JSON-RPC batch was denied", REFUSED),
    event(
        "request.unmappable",
        "decision",
        "a request could not be described as a call, and was denied",
        REFUSED,
    ),
    event("request.header_mismatch", "decision", "headers and body named different things; denied", REFUSED),
    event(
        "request.unknown_server",
        "decision",
        "a call for a server that is not configured was denied",
        REFUSED,
    ),
    event("request.unknown_method", "decision", "a method docket does not know was denied", REFUSED),
    event(
        "request.folded",
        "decision",
        "one peer sent too much that was refused unread or blocked; the rest of a second in one entry",
        &["peer", "count", "reason"],
    ),
    event(
        "auth.failed",
        "auth",
        "somebody could not be identified, or came from where nobody may; `count` of them where `reason` is `folded`",
        &["reason", "error", "principal", "peer", "count"],
    ),
    event(
        "request.blocked",
        "decision",
        "a notification, an answer, a ping or a stream of a blocked agent or server was refused, or the half-sent body of a \
         blocked agent",
        REFUSED,
    ),
    event("block.listed", "access", "blocks were listed", LOOK),
    event("block.added", "block", "an agent, a server or every call was stopped", BLOCKED),
    event("block.released", "block", "it is no longer", &["block_id", "stops", "principal", "reason"]),
    event("block.expired", "block", "its time is over", &["block_id", "stops"]),
    event(
        "auth.login",
        "auth",
        "a token read something for the first time this day (UTC) since docket started",
        &["principal", "role", "peer", "user_agent"],
    ),
    event("api_key.created", "auth", "a token was made", KEY),
    event("api_key.revoked", "auth", "a token was revoked; what was begun with it ended", KEY),
    event("api_key.expired", "auth", "a token ran out; what was begun with it ended", KEY),
    event("api_key.reset", "auth", "the admin token file has another token", &["name", "role"]),
    event("api_key.listed", "access", "tokens were listed", LOOK),
    event(
        "token.role_changed",
        "auth",
        "a token has another role or scope; what was begun with it ended",
        &["key_id", "before", "after", "principal"],
    ),
    event(
        "ledger.read",
        "access",
        "entries, leaves or policies were listed, fetched, counted or summed up",
        LOOK,
    ),
    event("stream.opened", "access", "somebody began to follow the ledger", LOOK),
    event("ledger.explained", "access", "a request was explained", LOOK),
    event("ledger.simulated", "access", "a recorded call was simulated", LOOK),
    event("ledger.replayed", "access", "recorded calls were decided again", LOOK),
    event("ledger.tests_written", "access", "tests were written from recorded calls", LOOK),
    event("ledger.proved", "access", "the inclusion proof of an entry was fetched", LOOK),
    event("ledger.measured", "access", "the ledger's size was asked for", LOOK),
    event("ledger.holds_listed", "access", "holds were listed", LOOK),
    event("ledger.prune_tried", "access", "somebody asked what a prune would remove", LOOK),
    event("ledger.erase_tried", "access", "somebody asked what an erasure would remove", LOOK),
    event("ledger.keeping_refused", "access", "a prune, an erasure or a hold was refused", LOOK),
    event("export.requested", "export", "an export began", EXPORT),
    event("export.completed", "export", "an export ended whole", EXPORTED),
    event(
        "export.interrupted",
        "export",
        "an export broke off, or docket ended under it; at most `rows` and `bytes` arrived",
        &["principal", "path", "query", "format", "rows", "bytes"],
    ),
    event("policy.updated", "policy", "another policy set is in force", POLICY),
    event(
        "policy.rejected",
        "policy",
        "a policy set was refused; the old one stays in force",
        &["cause", "principal", "findings", "count"],
    ),
    event(
        "hook.updated",
        "policy",
        "a redaction hook's component was replaced by another",
        &["cause", "hook", "before", "after", "bytes"],
    ),
    event(
        "hook.rejected",
        "policy",
        "a redaction hook's new component was refused; the old one stays",
        &["cause", "hook", "reason"],
    ),
    event("payloads.pruned", "prune", "payloads were removed because of their age, by somebody", REMOVED),
    event(
        "payloads.swept",
        "prune",
        "payloads were removed because of their age, by the retention sweep",
        REMOVED,
    ),
    event("subject.erased", "erase", "the payloads of a subject were removed", ERASED),
    event(
        "hold.added",
        "hold",
        "payloads are to be kept whatever their age",
        &["hold_id", "scope", "principal", "reason"],
    ),
    event("hold.released", "hold", "they need not be any more", &["hold_id", "principal", "reason"]),
    event(
        "docket.started",
        "start",
        "docket started; `manifest_sha` is what was in force, and `settings` the configuration",
        &["version", "signed_by", "loaded_hooks", "settings"],
    ),
    event("config.changed", "start", "the configuration is not that of the last start", &["before", "after"]),
    event("server.added", "start", "a server is configured that was not at the last start", CHANGED),
    event("server.updated", "start", "a server is configured otherwise than at the last start", CHANGED),
    event(
        "server.removed",
        "start",
        "a server that was configured at the last start is not any more",
        CHANGED,
    ),
    event("ledger.recovered", "start", "the ledger could be written again", &["failed_transactions"]),
    event("docket.stopped", "stop", "docket stopped in good order", LIFE),
];
