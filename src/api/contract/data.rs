//! What the data plane is asked, and what it answers.

use super::admin::public;
use super::operation::{Content, Operation};
use crate::api::authzen::{Answer, Answers, Configuration, Evaluations};
use crate::call::Call;
use crate::web::ProblemType::{
    InvalidRequest, LedgerUnavailable, MethodNotAllowed, NotFound, NotPermitted, UpstreamFailed,
};

/// What the document says of itself.
pub(super) const ABOUT: &str = "The agents' side of docket: the MCP proxy and the AuthZEN decision API. Every \
    call is decided, and the decision is durable, before it goes on.";

const DECISION: &str = "decisions";
const MCP: &str = "mcp";

/// Every operation.
pub(super) fn operations() -> Vec<Operation> {
    let relayed = "Whatever the server answers, passed on as it is.";
    let mcp = |operation: Operation| {
        operation.relaying(relayed).failing([InvalidRequest, NotFound, MethodNotAllowed, UpstreamFailed])
    };
    let message = [
        Content { media_type: "application/json", is_text: false },
        Content { media_type: "text/event-stream", is_text: true },
    ];
    let mut all = vec![
        Operation::post(DECISION, "/access/v1/evaluation", "evaluate", "Decide one call (AuthZEN 1.0)")
            .body::<Call>()
            .json::<Answer>(200, "The decision; it is durable.")
            .failing([LedgerUnavailable, NotPermitted]),
        Operation::post(DECISION, "/access/v1/evaluations", "evaluateSeveral", "Decide several calls (AuthZEN 1.0)")
            .body::<Evaluations>()
            .either::<Answers, Answer>(200, "The decisions; they are durable. One decision, where there were no \
                `evaluations`.")
            .failing([LedgerUnavailable, NotPermitted]),
        Operation::get(DECISION, "/.well-known/authzen-configuration", "getConfiguration", "Where decisions are \
            asked for")
            .json::<Configuration>(200, "The addresses."),
        mcp(Operation::post(MCP, "/mcp/{server}", "callServer", "One JSON-RPC message of MCP, decided and passed on"))
            .any_body()
            .contents("The server's answer, or docket's: a refused tool call is a result with `isError` and the reason.", message)
            .failing([LedgerUnavailable]),
        mcp(Operation::get(MCP, "/mcp/{server}", "listenToServer", "The stream of a server's own messages"))
            .contents("The server's stream.", message),
        mcp(Operation::delete(MCP, "/mcp/{server}", "endSession", "End an MCP session"))
            .empty(204, "It ended."),
    ];
    all.extend(public());
    all
}
