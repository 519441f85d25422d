//! The decision API of the data plane and the audit API of the admin plane.

pub mod audit;
pub mod authzen;
pub mod blocks;
pub mod cerbos;
pub mod contract;
pub mod events;
pub mod explain;
pub mod export;
pub mod health;
pub mod keeping;
pub mod page;
pub mod policies;
pub mod proof;
pub mod query;
pub mod recorded_tests;
pub mod replay;
mod selection;
pub mod simulate;
pub mod stats;
pub mod stream;
pub mod summary;
pub mod tiles;
pub mod tokens;
