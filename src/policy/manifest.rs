//! The manifest: what exactly is in force, as canonical JSON (RFC 8785), so that one digest names it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How effects are combined, as a word in the manifest: a set evaluated under other rules is another set.
const COMBINATION: &str = "deny>require_approval>allow>deny";
/// The word where one rule decides everything.
const ENTRYPOINT: &str = "entrypoint";
const VERSION: u32 = 1;

/// The manifest of a set. Fields are declared in the order RFC 8785 sorts their keys; all values are strings and one
/// small integer, so that `serde_json`'s compact form is already canonical (a test holds it to that).
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    combination: String,
    pub entry_points: Vec<EntryPoint>,
    pub files: Vec<File>,
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    v: u32,
}

/// A policy of the set.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EntryPoint {
    pub id: String,
    pub package: String,
    /// The rule that decides, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// A file of the set.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub path: String,
    /// 64 hex digits.
    pub sha256: String,
}

impl Manifest {
    pub fn new(
        id: String,
        revision: Option<String>,
        entry_points: Vec<EntryPoint>,
        files: Vec<File>,
    ) -> Self {
        let combination =
            if entry_points.iter().any(|entry| entry.rule.is_some()) { ENTRYPOINT } else { COMBINATION };
        Self { combination: combination.into(), entry_points, files, id, revision, v: VERSION }
    }

    /// The rule that decides everything, as it stands in a configuration, where one does.
    pub fn entrypoint(&self) -> Option<String> {
        let [EntryPoint { package, rule: Some(rule), .. }] = self.entry_points.as_slice() else {
            return None;
        };
        let separator = if package.starts_with('[') { "" } else { "." };
        Some(format!("data{separator}{package}.{rule}"))
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A structure of strings and one integer cannot fail to serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads stored bytes back; the reason is for the caller's error.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = crate::json::parse_as(bytes).map_err(|error| error.to_string())?;
        if manifest.v != VERSION {
            return Err(format!("its version is {}; this docket reads version {VERSION}", manifest.v));
        }
        let combination = if manifest.entrypoint().is_some() { ENTRYPOINT } else { COMBINATION };
        if manifest.combination != combination {
            return Err(format!(
                "its combination is `{}`; this docket knows `{combination}` with such entry points",
                manifest.combination
            ));
        }
        if manifest.to_bytes() != bytes {
            return Err("it is not in canonical form (RFC 8785)".into());
        }
        Ok(manifest)
    }
}

/// The hex digest of some bytes.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The digest with its algorithm, as it is written everywhere outside the manifest.
pub(super) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256_hex(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_canonical() {
        for revision in [None, Some("r\u{e9}v \"1\"\n\u{1f600}\u{2028}\u{7f}\u{1}".to_owned())] {
            let entry = EntryPoint { id: "pol_ä".into(), package: "a[\"b\"]".into(), rule: None };
            let file = File { path: "dir/\u{fb33}.rego".into(), sha256: sha256_hex(b"x") };
            let manifest = Manifest::new("set/\\".into(), revision, vec![entry], vec![file]);
            let bytes = manifest.to_bytes();
            assert_eq!(bytes, serde_json_canonicalizer::to_vec(&manifest).unwrap());
            assert_eq!(Manifest::from_bytes(&bytes).unwrap(), manifest);
        }
    }

    #[test]
    fn only_canonical_bytes_are_read_back() {
        let bytes = Manifest::new("s".into(), None, vec![], vec![]).to_bytes();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(
            text,
            r#"{"combination":"deny>require_approval>allow>deny","entry_points":[],"files":[],"id":"s","v":1}"#
        );
        for (from, to, says) in [
            (",\"v\":1", ", \"v\":1", "canonical"),
            ("\"v\":1", "\"v\":2", "version is 2"),
            ("deny>r", "allow>r", "combination"),
            ("\"v\":1", "\"v\":1,\"w\":1", "unknown field"),
        ] {
            let error = Manifest::from_bytes(text.replace(from, to).as_bytes()).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
