//! docket.
#![warn(clippy::pedantic)]
pub mod call;
pub mod decision;
pub mod json;
pub mod redact;
