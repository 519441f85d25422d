//! OPA bundle files: a `.tar.gz` of policies and data, with an optional `.manifest` (OPA's "Bundles" page).
//!
//! Nothing is unpacked to disk, so no name can lead anywhere; names that try are refused all the same, since whoever wrote
//! them meant something else. What is here for OPA alone (`policy.wasm`, `plan.json`, signatures) is passed over.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use tar::{Archive, EntryType};

use super::bundle::{MAX_FILES, MAX_TOTAL_BYTES, SourceFile, is_data, is_rego};
use super::deep;
use super::module::{Module, written};
use super::{value, yaml};
use crate::json;

/// Bytes of a `.manifest`.
const MAX_MANIFEST_BYTES: usize = 1024 * 1024;

/// The files of a bundle, with what its manifest says about them.
pub(super) struct Bundle {
    pub revision: Option<String>,
    pub files: Vec<SourceFile>,
}

/// `.manifest`; what is not named here is for OPA or for people.
#[derive(Deserialize)]
struct OpaManifest {
    revision: Option<String>,
    roots: Option<Vec<String>>,
}

/// Reads a bundle. The error says what is wrong with it, to follow its path.
pub(super) fn read(packed: impl Read) -> Result<Bundle, String> {
    // One byte more than is allowed tells too much from just enough.
    let mut archive = Archive::new(MultiGzDecoder::new(packed).take(MAX_TOTAL_BYTES + 1));
    let broken = |error: std::io::Error| format!("is no `.tar.gz` that can be read: {error}");
    let (mut files, mut manifest) = (BTreeMap::new(), None);
    let mut bytes_left = MAX_TOTAL_BYTES;
    for (number, entry) in archive.entries().map_err(broken)?.enumerate() {
        let mut entry = entry.map_err(broken)?;
        if number >= MAX_FILES {
            return Err(format!("has more than {MAX_FILES} entries"));
        }
        let kind = entry.header().entry_type();
        let name = entry.path_bytes();
        let name = std::str::from_utf8(&name).map_err(|_| "has a name that is not UTF-8".to_owned())?;
        let path = inside(name)?;
        match kind {
            EntryType::Directory => continue,
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Link | EntryType::Symlink => {
                return Err(format!("has a link, `{name}`; put the file itself in"));
            }
            _ => return Err(format!("has `{name}`, which is neither a file nor a directory")),
        }
        bytes_left = bytes_left
            .checked_sub(entry.size())
            .ok_or_else(|| format!("has more than {MAX_TOTAL_BYTES} bytes when unpacked"))?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(broken)?;
        if path == ".manifest" {
            if bytes.len() > MAX_MANIFEST_BYTES {
                return Err(format!("has a `.manifest` of more than {MAX_MANIFEST_BYTES} bytes"));
            }
            let read: OpaManifest = json::parse_as(&bytes)
                .map_err(|error| format!("has a `.manifest` that cannot be read: {error}"))?;
            manifest = Some(read);
        } else if (is_rego(&path) || is_data(&path)) && files.insert(path.clone(), bytes).is_some() {
            return Err(format!("has `{path}` twice"));
        }
    }
    let files: Vec<SourceFile> = files.into_iter().map(|(path, bytes)| SourceFile { path, bytes }).collect();
    let revision = manifest.as_ref().and_then(|manifest| manifest.revision.clone());
    if let Some(roots) = manifest.and_then(|manifest| manifest.roots) {
        within(&roots, &files)?;
    }
    Ok(Bundle { revision: revision.filter(|revision| !revision.is_empty()), files })
}

/// A name within the bundle. `opa build` begins each with the `/` that stands for the bundle itself.
fn inside(name: &str) -> Result<String, String> {
    let relative = name.strip_prefix("./").or_else(|| name.strip_prefix('/')).unwrap_or(name);
    let parts: Vec<&str> = relative.trim_end_matches('/').split('/').filter(|part| *part != ".").collect();
    let escapes = parts.iter().any(|part| *part == ".." || part.contains('\\')) || relative.starts_with('/');
    if escapes {
        return Err(format!("has `{name}`, a path that leads out of it"));
    }
    Ok(parts.join("/"))
}

/// Whether all packages and data lie under the roots, as the manifest promises to whoever merges bundles.
fn within(roots: &[String], files: &[SourceFile]) -> Result<(), String> {
    let roots: Vec<Vec<&str>> =
        roots.iter().map(|root| root.split('/').filter(|part| !part.is_empty()).collect()).collect();
    let owned = |path: &[String]| {
        roots
            .iter()
            .any(|root| root.len() <= path.len() && root.iter().zip(path).all(|(root, part)| root == part))
    };
    let outside = |path: &[String], file: &str| {
        format!("has `{}` in `{file}`, which is under none of the roots of its `.manifest`", written(path))
    };
    for file in files {
        if is_rego(&file.path) {
            // What does not parse is told when the set is compiled.
            let parsed =
                deep::run(|| Module::parse(&file.path, &file.bytes).map(|module| module.package).ok());
            if let Ok(Some(package)) = parsed
                && !owned(&package)
            {
                return Err(outside(&package, &file.path));
            }
        } else if let Ok(Some(path)) = deep::run(|| first_outside(file, &roots, &owned)) {
            return Err(outside(&path, &file.path));
        }
    }
    Ok(())
}

/// The first path of a data file that no root covers, going down only as far as roots do.
fn first_outside(
    file: &SourceFile,
    roots: &[Vec<&str>],
    owned: &(dyn Fn(&[String]) -> bool + Sync),
) -> Option<Vec<String>> {
    let mut at: Vec<String> = file.path.split('/').map(str::to_owned).collect();
    at.pop();
    let text = std::str::from_utf8(&file.bytes).ok()?;
    // JSON is YAML; what is neither is told when the set is compiled.
    let value = regorus::Value::from_json_str(text).or_else(|_| yaml::parse(text)).ok()?;
    let mut pending = vec![(at, value::to_json(&value))];
    while let Some((path, value)) = pending.pop() {
        if owned(&path) {
            continue;
        }
        let leads =
            roots.iter().any(|root| root.len() > path.len() && path.iter().zip(root).all(|(a, b)| a == b));
        match value {
            serde_json::Value::Object(fields) if leads => {
                pending.extend(
                    fields
                        .into_iter()
                        .map(|(key, value)| (path.iter().cloned().chain([key]).collect(), value)),
                );
            }
            _ => return Some(path),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        for (name, kind, text) in entries {
            let mut header = tar::Header::new_gnu();
            // Written past the library's own checks, as an attacker would.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append(&header, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn a_bundle_is_read_with_its_revision() {
        let manifest = r#"{"revision": "r1", "roots": ["a", "settings/x"], "metadata": {"k": 1}}"#;
        let bytes = packed(&[
            ("/a/p.rego", EntryType::Regular, "package a.p"),
            ("/data.json", EntryType::Regular, r#"{"settings": {"x": 1}}"#),
            ("/a", EntryType::Directory, ""),
            ("/policy.wasm", EntryType::Regular, "x"),
            ("/.manifest", EntryType::Regular, manifest),
        ]);
        let bundle = read(bytes.as_slice()).unwrap();
        assert_eq!(bundle.revision.as_deref(), Some("r1"));
        let paths: Vec<&str> = bundle.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["a/p.rego", "data.json"]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acme.tar.gz");
        std::fs::write(&path, bytes).unwrap();
        let source = crate::policy::Source::read(&path).unwrap();
        assert_eq!(
            (source.id.as_str(), source.revision.as_deref(), source.files.len()),
            ("acme", Some("r1"), 2)
        );
    }

    #[test]
    fn what_no_bundle_should_hold_is_refused() {
        let file = EntryType::Regular;
        let many: Vec<(&str, EntryType, &str)> = vec![("d", EntryType::Directory, ""); MAX_FILES + 1];
        for (entries, says) in [
            (vec![("../p.rego", file, "package p")], "leads out of it"),
            (vec![("a/../../p.rego", file, "package p")], "leads out of it"),
            (vec![("//etc/p.rego", file, "package p")], "leads out of it"),
            (vec![("p.rego", EntryType::Symlink, "")], "has a link"),
            (vec![("p.rego", EntryType::Link, "")], "has a link"),
            (vec![("p.rego", EntryType::Fifo, "")], "neither a file"),
            (vec![("p.rego", file, "package p"), ("./p.rego", file, "package q")], "twice"),
            (vec![(".manifest", file, "{")], "`.manifest` that cannot be read"),
            (
                vec![(".manifest", file, r#"{"roots": ["a"]}"#), ("p.rego", file, "package b")],
                "under none of the roots",
            ),
            (
                vec![(".manifest", file, r#"{"roots": ["a/b"]}"#), ("data.json", file, r#"{"a": {"c": 1}}"#)],
                "`a.c`",
            ),
            (many, "entries"),
        ] {
            let error = read(packed(&entries).as_slice()).map(|_| ()).unwrap_err();
            assert!(error.contains(says), "{says}: {error}");
        }
        assert!(read(&b"no gzip"[..]).map(|_| ()).unwrap_err().contains("no `.tar.gz`"));
        // 300 MB of zeros are 300 kB when packed.
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        let mut header = tar::Header::new_gnu();
        header.set_size(300 << 20);
        header.set_cksum();
        tar.append_data(&mut header, "data.json", std::io::repeat(0).take(300 << 20)).unwrap();
        let bomb = tar.into_inner().unwrap().finish().unwrap();
        assert!(read(bomb.as_slice()).map(|_| ()).unwrap_err().contains("bytes when unpacked"));
    }
}
