//! Deciding: Rego policies, compiled once and evaluated for every call. The one engine that knows regorus.
//!
//! Reading order: [`bundle`] (files) → `module` (one parsed file) → `refs` and `graph` (who uses whom, and what must not
//! be) → `library` (policies with their closures) → [`set`] (what is in force, with its manifest) → [`evaluate`] (one
//! call). The interpreter is the authority. What this engine does not know: where a call came from, who may see the
//! decision, and where it is recorded.
//!
//! Loading refuses what could hurt the host, since some of it ends the process rather than the evaluation: recursion,
//! chains and trees too deep for a stack, unknown functions, network built-ins. Evaluating bounds the rest: time, size
//! of built-ins' results, and a barrier for panics. The stack bound assumes that [`PolicySet::decide`] is called with
//! at least 1 MiB of stack left, which a worker thread of 2 MiB has.

mod archive;
mod builtins;
pub mod bundle;
mod changes;
mod cover;
pub mod coverage;
mod data;
mod deep;
pub mod evaluate;
pub mod explain;
pub mod finding;
mod graph;
mod groups;
mod library;
pub mod lint;
mod log;
mod manifest;
pub mod metadata;
mod module;
mod near;
mod outputs;
pub mod query;
mod refs;
pub mod rego_tests;
mod scan;
pub mod set;
mod stand_ins;
pub mod targets;
mod value;
mod variables;
mod verdict;
pub mod watch;
mod yaml;

pub use bundle::{LoadError, Source, SourceFile};
pub use changes::{Changed, Changes, Version};
pub use cover::{Cover, RuleUse};
pub use coverage::{Coverage, FileCoverage};
pub use evaluate::{Asked, RuleValue, Spoken};
pub use explain::failure::{Because, Case, Failure};
pub use explain::{Explanation, Redaction};
pub use finding::{Finding, Severity};
pub use lint::{Checked, check};
pub use log::LogSays;
pub use query::{Answer, Query, Row, query};
pub use rego_tests::{TestOptions, TestOutcome, TestReport, TestResult, run_tests};
pub use set::{Limits, Policy, PolicySet, RuleInfo, StoredError};
pub use targets::Targets;

#[cfg(test)]
mod tests;
