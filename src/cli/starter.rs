//! The starter set, built into the binary for those who have no `policies` folder yet.

use crate::policy::{Source, SourceFile};

macro_rules! file {
    ($path:literal) => {
        ($path, include_bytes!(concat!("../../policies/", $path)))
    };
}

/// Every file of the repository's `policies` folder, tests left out: they are never in force.
const FILES: &[(&str, &[u8])] = &[
    file!("approvals.rego"),
    file!("data.yaml"),
    file!("egress.rego"),
    file!("filesystem.rego"),
    file!("handshake.rego"),
    file!("lib/arguments.rego"),
    file!("lib/hosts.rego"),
    file!("lib/paths.rego"),
    file!("shell.rego"),
    file!("tools.rego"),
];

/// The starter set.
pub fn source() -> Source {
    let file = |(path, bytes): &(&str, &[u8])| SourceFile { path: (*path).to_owned(), bytes: bytes.to_vec() };
    Source {
        id: "starter".into(),
        revision: Some(env!("CARGO_PKG_VERSION").into()),
        files: FILES.iter().map(file).collect(),
        entrypoint: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Limits, PolicySet};
    use std::path::Path;

    #[test]
    fn it_is_the_folder_of_the_repository() {
        let folder = Source::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")).unwrap();
        let mut expected: Vec<_> = folder
            .files
            .iter()
            .filter(|file| !file.path.ends_with("_test.rego"))
            .map(|file| &file.path)
            .collect();
        expected.sort();
        let source = source();
        let mut built_in: Vec<_> = source.files.iter().map(|file| &file.path).collect();
        built_in.sort();
        assert_eq!(built_in, expected);
        let digests = |source| {
            let set = PolicySet::compile(source, Limits::default()).unwrap();
            set.files().map(|(path, digest, _)| (path.to_owned(), digest.to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(digests(source), digests(folder));
    }
}
