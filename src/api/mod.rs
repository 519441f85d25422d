//! The decision API of the data plane and the audit API of the admin plane.

pub mod audit;
pub mod authzen;
pub mod explain;
pub mod keeping;
pub mod policies;
pub mod proof;
pub mod recorded_tests;
pub mod replay;
mod selection;
pub mod simulate;
pub mod stats;
