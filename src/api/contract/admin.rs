//! What the admin plane is asked, and what it answers.

use super::operation::{Content, Operation};
use super::parameters::{export, filters, header, paging, query};
use crate::api::audit::Values;
use crate::api::explain::Explanation;
use crate::api::health::{Health, Readiness};
use crate::api::page::Listed;
use crate::api::proof::{ConsistencyProof, EntryProof, InclusionProof, Key};
use crate::api::{blocks, keeping, policies, recorded_tests, replay, simulate, tokens};
use crate::ledger::rollup::Summary;
use crate::ledger::{Kept, LedgerStats, Placed, Stored};
use crate::replay::Simulated;
use crate::replay::recorded_tests::Written;
use crate::web::ProblemType::{
    InvalidParameter, InvalidRequest, LedgerUnavailable, LedgerUnreadable, NotAllowed, NotFound,
    PoliciesRejected, QueryTimeout,
};
use serde_json::json;

/// What the document says of itself.
pub(super) const ABOUT: &str = "The people's side of docket: the audit API over its ledger, explanations, \
    simulation and replay, proofs, keeping records, the emergency stop and tokens. Every read of the ledger's \
    content is an entry of its own. Answers from the ledger are not to be cached. Times are RFC 3339 in UTC with \
    milliseconds, durations microseconds where a name ends in `_us`.";

const AUDIT: &str = "audit";
const POLICY: &str = "policies";
const PROOF: &str = "proofs";
const KEEPING: &str = "keeping";
const ACCESS: &str = "access";
const SERVICE: &str = "service";

const TEXT: Content = Content { media_type: "text/plain; charset=utf-8", is_text: true };

/// Every operation.
pub(super) fn operations() -> Vec<Operation> {
    let mut all = audit();
    all.extend(policy());
    all.extend(proof());
    all.extend(kept());
    all.extend(access());
    all.extend(service());
    all
}

fn audit() -> Vec<Operation> {
    let asked = [InvalidParameter, QueryTimeout, LedgerUnreadable];
    let picker = |path, id, summary| {
        Operation::get(AUDIT, path, id, summary)
            .taking(filters())
            .taking([
                query("q", "Only values that contain this.", &json!({"type": "string"})),
                query(
                    "limit",
                    "At most so many values of each column.",
                    &json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
                ),
            ])
            .json::<Values>(200, "The values, each with its count of decisions.")
            .failing(asked)
    };
    vec![
        Operation::get(AUDIT, "/v1/audit", "listEntries", "Entries, newest first")
            .taking(filters())
            .taking(paging())
            .json::<Listed>(200, "A page of entries; of some of their members with `fields`.")
            .failing(asked),
        Operation::get(AUDIT, "/v1/audit/{id}", "getEntry", "One entry")
            .json::<Stored>(200, "The entry.")
            .failing([NotFound, QueryTimeout, LedgerUnreadable]),
        picker("/v1/audit/members", "listMembers", "Users, agents, subjects and teams, with counts"),
        picker("/v1/audit/services", "listServices", "Servers, with counts"),
        picker("/v1/audit/tools", "listTools", "Tools, with counts"),
        picker("/v1/audit/policies", "listDeterminingPolicies", "Determining policies, with counts"),
        Operation::get(AUDIT, "/v1/audit/stats", "getStatistics", "Traffic in numbers")
            .taking(filters())
            .taking([
                query(
                    "bucket",
                    "The step of the time series, as `5m`; chosen, where it is not given.",
                    &json!({"type": "string", "minLength": 1, "examples": ["5m", "1h"]}),
                ),
                query(
                    "top",
                    "So many tools, policies and callers.",
                    &json!({"type": "integer", "minimum": 0, "maximum": 1000, "default": 10}),
                ),
            ])
            .json::<Summary>(200, "The numbers.")
            .failing(asked),
        Operation::get(AUDIT, "/v1/audit/stream", "followEntries", "Entries as they come, as server-sent events")
            .taking(filters())
            .taking([
                query("after", "Begins after the entry of this leaf index.", &json!({"type": "integer", "minimum": -1})),
                header("Last-Event-ID", "Goes on after this event: the leaf index of an entry."),
            ])
            .contents(
                "One event an entry: `id` is its leaf index, `data` the entry as in lists. `event: cut_off` ends \
                 the stream of a reader that is too slow, `event: error` says what cannot be read.",
                [Content { media_type: "text/event-stream", is_text: true }],
            )
            .failing([InvalidParameter]),
        Operation::get(AUDIT, "/v1/audit/export", "exportEntries", "Entries as a file")
            .taking(filters())
            .taking(export())
            .contents(
                "The file, streamed. A body that breaks off is not whole: `cursor` goes on after the `seq` of the last \
                 whole entry that arrived.",
                [
                    Content { media_type: "application/json", is_text: false },
                    Content { media_type: "application/x-ndjson", is_text: true },
                    Content { media_type: "text/csv; charset=utf-8", is_text: true },
                    Content { media_type: "application/gzip", is_text: false },
                ],
            )
            .header("Content-Disposition", "A name for the file.")
            .failing([InvalidParameter]),
        Operation::get(AUDIT, "/admin/auditlog/list/{kind}", "listAsCerbos", "The ledger as Cerbos' admin API tells it")
            .taking([
                query("tail", "The newest so many.", &json!({"type": "integer", "minimum": 1, "maximum": 1000})),
                query("between.start", "From this time on: RFC 3339.", &json!({"type": "string", "minLength": 1})),
                query("between.end", "Up to this time, inclusive.", &json!({"type": "string", "minLength": 1})),
                query(
                    "since",
                    "As long ago as this: `15m`, `24h`.",
                    &json!({"type": "string", "minLength": 1, "examples": ["24h"]}),
                ),
                query("lookup", "One call, by its id: a ULID.", &json!({"type": "string", "minLength": 1})),
            ])
            .lines("One entry a line, newest first: `{\"result\": {\"decisionLogEntry\": …}}` or \
                `accessLogEntry`. Exactly one of the parameters must be given, `between.start` and `between.end` \
                counting as one.")
            .failing([InvalidParameter, NotFound, QueryTimeout, LedgerUnreadable]),
        Operation::get(AUDIT, "/v1/explain/{request_id}", "explainRequest", "Why each decision of a request came \
            out as it did")
            .taking([query(
                "trace",
                "Whether every condition of every rule is told.",
                &json!({"type": "boolean", "default": false}),
            )])
            .json::<Explanation>(200, "The explanation.")
            .failing([InvalidParameter, NotFound, QueryTimeout, LedgerUnreadable]),
    ]
}

fn policy() -> Vec<Operation> {
    vec![
        Operation::get(POLICY, "/v1/policies", "listPolicies", "The policies in force")
            .json::<policies::InForce>(200, "The set, its policies and its files.")
            .tagged(),
        Operation::get(POLICY, "/v1/policies/files/{digest}", "getPolicyFile", "A manifest or a policy file, as a \
            decision used it")
            .contents("Its bytes, exactly.", [Content { media_type: "application/octet-stream", is_text: false }])
            .tagged()
            .failing([NotFound, LedgerUnreadable]),
        Operation::post(POLICY, "/v1/policies/reload", "reloadPolicies", "Read the policies again")
            .json::<policies::Reloaded>(200, "What came of it.")
            .failing([InvalidRequest, PoliciesRejected, LedgerUnavailable]),
        Operation::post(POLICY, "/v1/simulate", "simulateCall", "What would be decided, and why")
            .body::<simulate::Wanted>()
            .json::<Simulated>(200, "The decision. Nothing was called, and nothing is recorded but the question.")
            .failing([NotFound, QueryTimeout, LedgerUnreadable]),
        Operation::post(POLICY, "/v1/replay", "replayCalls", "Which recorded decisions flip under other policies")
            .body::<replay::Wanted>()
            .lines("`{\"type\": \"flip\", …}` each, `{\"type\": \"progress\", …}` where that was asked for, and \
                `{\"type\": \"totals\", …}` at the end; `{\"type\": \"error\", \"message\"}` where it broke off.")
            .failing([QueryTimeout, LedgerUnreadable]),
        Operation::post(POLICY, "/v1/cover", "coverRules", "How often each rule fires over recorded calls")
            .body::<replay::Wanted>()
            .lines("`{\"type\": \"progress\", …}` where that was asked for, and `{\"type\": \"cover\", …}` at the \
                end; `{\"type\": \"error\", \"message\"}` where it broke off.")
            .failing([QueryTimeout, LedgerUnreadable]),
        Operation::post(POLICY, "/v1/tests", "writeTests", "Rego unit tests from recorded decisions")
            .body::<recorded_tests::Asked>()
            .json::<Written>(200, "The tests.")
            .failing([QueryTimeout, LedgerUnreadable]),
    ]
}

fn proof() -> Vec<Operation> {
    let number =
        |name, about| query(name, about, &json!({"type": "integer", "minimum": 0, "maximum": i64::MAX}));
    let needed = |name, about| {
        let mut parameter = number(name, about);
        if let Some(members) = parameter.as_object_mut() {
            members.insert("required".into(), true.into());
        }
        parameter
    };
    vec![
        Operation::get(
            PROOF,
            "/v1/checkpoint",
            "getCheckpoint",
            "The newest signed tree head (C2SP tlog-checkpoint)",
        )
        .contents("The signed note.", [TEXT])
        .failing([LedgerUnreadable]),
        Operation::get(PROOF, "/v1/ledger/key", "getKey", "The key to check it with")
            .json::<Key>(200, "The key."),
        Operation::get(PROOF, "/v1/entries/{id}/proof", "proveEntry", "That an entry is in the ledger")
            .json::<EntryProof>(200, "The proof.")
            .failing([NotFound, LedgerUnreadable]),
        Operation::get(PROOF, "/v1/proof/inclusion", "proveInclusion", "That a leaf is in a tree (RFC 6962)")
            .taking([
                needed("index", "Which leaf."),
                number(
                    "size",
                    "Of the tree of so many leaves; of the newest checkpoint's, where it is not given.",
                ),
            ])
            .json::<InclusionProof>(200, "The proof.")
            .failing([InvalidParameter, LedgerUnreadable]),
        Operation::get(
            PROOF,
            "/v1/proof/consistency",
            "proveConsistency",
            "That a tree is the beginning of another (RFC 6962)",
        )
        .taking([
            needed("from", "The older tree's size."),
            number("to", "The newer tree's; the newest checkpoint's, where it is not given."),
        ])
        .json::<ConsistencyProof>(200, "The proof.")
        .failing([InvalidParameter, LedgerUnreadable]),
        Operation::get(
            PROOF,
            "/v1/tlog/checkpoint",
            "getLogCheckpoint",
            "The newest signed tree head, where C2SP tlog-tiles wants it",
        )
        .contents("The signed note.", [TEXT])
        .failing([LedgerUnreadable]),
        Operation::get(
            PROOF,
            "/v1/tlog/tile/{level}/{tile}",
            "getTile",
            "A tile of hashes (C2SP tlog-tiles)",
        )
        .contents(
            "The hashes, one after the other.",
            [Content { media_type: "application/octet-stream", is_text: false }],
        )
        .tagged()
        .failing([NotFound, LedgerUnreadable]),
        Operation::get(
            PROOF,
            "/v1/tlog/tile/entries/{tile}",
            "getEntryBundle",
            "A bundle of leaves (C2SP tlog-tiles)",
        )
        .contents(
            "The leaves, each after its length in two bytes.",
            [Content { media_type: "application/octet-stream", is_text: false }],
        )
        .tagged()
        .failing([NotFound, LedgerUnreadable]),
    ]
}

fn kept() -> Vec<Operation> {
    let refused = [InvalidParameter, NotAllowed, LedgerUnavailable, LedgerUnreadable];
    vec![
        Operation::get(KEEPING, "/v1/ledger/stats", "measureLedger", "What the ledger holds and costs")
            .json::<LedgerStats>(200, "The numbers.")
            .failing([LedgerUnreadable]),
        Operation::post(KEEPING, "/v1/ledger/prune", "prunePayloads", "Remove payloads by age")
            .body::<keeping::Prune>()
            .json::<Kept>(200, "What was removed, or would be.")
            .failing(refused),
        Operation::post(KEEPING, "/v1/ledger/erase", "eraseSubject", "Remove the payloads of a subject")
            .body::<keeping::Erase>()
            .json::<Kept>(200, "What was removed, or would be.")
            .failing(refused),
        Operation::get(KEEPING, "/v1/ledger/holds", "listHolds", "What is kept from being removed")
            .json::<keeping::Held>(200, "The holds.")
            .failing([LedgerUnreadable]),
        Operation::post(KEEPING, "/v1/ledger/holds", "placeHold", "Keep something from being removed")
            .body::<keeping::HoldBody>()
            .json::<Placed>(200, "The hold, and what it covers now.")
            .failing(refused),
        Operation::post(KEEPING, "/v1/ledger/holds/{hold_id}/release", "releaseHold", "End a hold")
            .maybe_body::<keeping::Release>()
            .json::<crate::ledger::Hold>(200, "The hold that ended.")
            .failing(refused)
            .failing([NotFound]),
    ]
}

fn access() -> Vec<Operation> {
    let refused = [InvalidParameter, LedgerUnavailable, LedgerUnreadable];
    vec![
        Operation::get(ACCESS, "/v1/blocks", "listBlocks", "What is stopped")
            .json::<blocks::Listed>(200, "The blocks."),
        Operation::post(ACCESS, "/v1/blocks", "addBlock", "Stop an agent, a server or every call")
            .body::<blocks::Wanted>()
            .json::<blocks::Shown>(200, "The block; it is in force.")
            .failing(refused),
        Operation::post(ACCESS, "/v1/blocks/{block_id}/release", "releaseBlock", "Let it go on")
            .maybe_body::<blocks::Release>()
            .json::<blocks::Shown>(200, "The block that ended.")
            .failing(refused)
            .failing([NotFound]),
        Operation::get(ACCESS, "/v1/tokens", "listTokens", "Who may look")
            .json::<tokens::Listed>(200, "The tokens, without themselves."),
        Operation::post(ACCESS, "/v1/tokens", "createToken", "Make a token")
            .body::<tokens::Wanted>()
            .json::<tokens::Created>(200, "The token. It is shown this once.")
            .failing(refused),
        Operation::post(ACCESS, "/v1/tokens/{name}/revoke", "revokeToken", "End a token")
            .json::<tokens::Shown>(200, "The token that ended.")
            .failing(refused)
            .failing([NotFound, InvalidRequest]),
        Operation::post(ACCESS, "/v1/tokens/{name}/role", "changeRole", "Give a token another role")
            .body::<tokens::Another>()
            .json::<tokens::Shown>(200, "The token, with what was begun with it ended.")
            .failing(refused)
            .failing([NotFound]),
    ]
}

fn service() -> Vec<Operation> {
    let mut service = public();
    service.push(Operation::get(SERVICE, "/metrics", "getMetrics", "Prometheus metrics").contents(
        "Prometheus' text format.",
        [Content { media_type: "text/plain; version=0.0.4; charset=utf-8", is_text: true }],
    ));
    service
}

/// What both planes answer without a token.
pub(super) fn public() -> Vec<Operation> {
    vec![
        Operation::get(SERVICE, "/healthz", "isAlive", "Whether the process answers")
            .json::<Health>(200, "It does.")
            .public(),
        Operation::get(SERVICE, "/readyz", "isReady", "Whether docket takes calls")
            .json::<Readiness>(200, "It does.")
            .json::<Health>(503, "It does not, and `status` says why.")
            .public(),
        Operation::get(SERVICE, super::PATH, "getContract", "This document")
            .contents("OpenAPI 3.1.", [Content { media_type: "application/json", is_text: false }])
            .tagged()
            .public(),
        Operation::get(SERVICE, crate::web::PROBLEMS_PATH, "describeProblems", "What the problem types mean")
            .contents(
                "A page with a section for each type.",
                [Content { media_type: "text/html; charset=utf-8", is_text: true }],
            )
            .tagged()
            .public(),
    ]
}
