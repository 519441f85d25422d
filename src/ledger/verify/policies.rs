//! What decided: every manifest an entry names is kept, with every file it lists, under the digest of its bytes.

use std::collections::HashSet;

use rusqlite::Connection;
use serde::Deserialize;

use super::Findings;
use crate::digest::sha256;

/// As much of a manifest as names other digests.
#[derive(Deserialize)]
struct Manifest {
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    path: String,
    sha256: String,
}

/// Checks what is kept by digest, and that what the entries need is kept.
pub fn check(
    connection: &Connection,
    manifests: &HashSet<String>,
    findings: &mut Findings,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT digest, bytes FROM digests ORDER BY digest")?;
    let mut rows = statement.query([])?;
    let mut kept = HashSet::new();
    while let Some(row) = rows.next()? {
        let digest: String = row.get(0)?;
        if sha256(row.get_ref(1)?.as_bytes()?) != digest {
            findings.fail("policies", format!("digest {digest}"), "what is kept under it has another digest");
        }
        kept.insert(digest);
    }
    let mut statement = connection.prepare("SELECT bytes FROM digests WHERE digest = ?")?;
    let mut sorted: Vec<&String> = manifests.iter().collect();
    sorted.sort_unstable();
    for manifest in sorted {
        let place = format!("manifest {manifest}");
        if !kept.contains(manifest) {
            findings.fail("policies", place, "entries name it, and it is not kept");
            continue;
        }
        let files = statement.query_row([manifest], |row| {
            Ok(serde_json::from_slice::<Manifest>(row.get_ref(0)?.as_bytes()?).map(|manifest| manifest.files))
        })?;
        match files {
            Err(error) => findings.fail("policies", place, format!("it is not a manifest: {error}")),
            Ok(files) => {
                for File { path, sha256 } in files {
                    if !kept.contains(&format!("sha256:{sha256}")) {
                        findings.fail("policies", place.clone(), format!("its file `{path}` is not kept"));
                    }
                }
            }
        }
    }
    Ok(())
}
