//! The starter set, built into the binary for those who have no `policies` folder yet.

use crate::policy::{Source, SourceFile};

/// Every file of the repository's `policies` folder, tests left out: they are never in force.
const FILES: &[(&str, &[u8])] = &[];

/// The starter set.
pub fn source() -> Source {
    let file = |(path, bytes): &(&str, &[u8])| SourceFile { path: (*path).to_owned(), bytes: bytes.to_vec() };
    Source { id: "starter".into(), revision: Some(env!("CARGO_PKG_VERSION").into()), files: FILES.iter().map(file).collect() }
}
