//! docket: a policy sidecar for AI agents.
//!
//! Every tool call an agent makes passes through docket. Rego policies decide it, the decision is durable in a
//! tamper-evident ledger before the call goes on, and anyone entitled can ask why afterwards.
//!
//! # Reading order
//! [`gate`] is one request on one screen; read it first. Then [`call`] and [`decision`], the words it speaks;
//! [`policy`], [`redact`] and [`ledger`], the engines it drives; [`proxy`] and [`api`], the faces it is reached through.
//!
//! # Invariants
//! - **No record, no call.** [`upstream::Upstream::forward`] consumes a [`ledger::Permit`], and only a durable
//!   [`ledger::Receipt`] yields one. An unrecorded forward does not compile.
//! - **Nothing unredacted is written.** [`ledger::Entry`] takes free-form content as [`redact::Redacted`] only, and only
//!   [`redact`] makes one.
//! - **Failures are values.** What cannot be read or described becomes a [`call::Fault`] and takes the same line as any
//!   call: denied, recorded, answered.
//! - **Deciding is pure.** Time and randomness come in through [`clock::Clock`] and [`call::Moment`], so that a recorded
//!   call decides the same way years later.
//! - **One owner.** The write connection belongs to the writer thread, the policy set to the gate, each body to its
//!   connection. Others hold handles.
//!
//! # Levels
//! Imports point to a lower level only; `tests/tidy.rs` reads this table and the `use` lines.
//!
//! | level | modules | what they are |
//! | --- | --- | --- |
//! | 0 | `json`, `text`, `digest`, `clock`, `block`, `call`, `decision`, `flood`, `principal`, `tlog` | words: pure, no I/O |
//! | 0 | `methods` | words too: the requests of the Model Context Protocol |
//! | 0 | `files` | files that are whole or not there: the one thing below the engines that touches a disk |
//! | 1 | `policy`, `redact`, `ledger`, `identity`, `upstream`, `metrics` | engines: each alone knows its heavy crate |
//! | 2 | `trace` | the spine's worker: explains what could not be explained once its call is redacted |
//! | 2 | `masks` | what the policy set in force says of its own record, brought to the redactor |
//! | 3 | `gate`, `replay` | the spine: the straight line of one call, and the same evaluation over recorded ones |
//! | 4 | `config`, `publish`, `access` | settings, validated once; what puts policies in force; who may look, what is stopped |
//! | 5 | `web` | what both planes share |
//! | 6 | `proxy`, `api` | faces |
//! | 7 | `planes` | which path leads to which face, and who may take it |
//! | 8 | `cli` | wiring: one file per command |
//!
//! Engines do not know each other, with two declared exceptions: the ledger takes [`redact::Redacted`], and the upstream
//! takes [`ledger::Permit`].

#![warn(clippy::pedantic)]

pub mod access;
pub mod api;
pub mod block;
pub mod call;
pub mod cli;
pub mod clock;
pub mod config;
pub mod decision;
pub mod digest;
pub mod files;
pub mod flood;
pub mod gate;
pub mod identity;
pub mod json;
pub mod ledger;
pub mod masks;
pub mod methods;
pub mod metrics;
pub mod planes;
pub mod policy;
pub mod principal;
pub mod proxy;
pub mod publish;
pub mod redact;
pub mod replay;
pub mod text;
pub mod tlog;
pub mod trace;
pub mod upstream;
pub mod web;
