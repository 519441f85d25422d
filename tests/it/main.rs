//! docket through its front door: real requests against a real docket with a real ledger, which is verified each time.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop where it is"
)]

mod access;
mod audit;
mod author;
mod bad_input;
mod blocks;
mod bounds;
mod check;
mod command_line;
mod contract;
mod crash;
mod decision_api;
mod disk;
mod explain;
mod exports;
mod faults;
mod guests;
mod harness;
mod hooks;
mod keeping;
mod masks;
mod mcp;
mod migrate;
mod oracle;
mod output;
mod publish;
mod redaction;
mod replay;
mod rollups;
#[path = "../../examples/quickstart/server.rs"]
mod server;
mod simulate;
mod story;
mod tamper;
mod tlog;
mod upkeep;
