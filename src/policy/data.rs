//! The data document: `data.json` and `data.yaml` files, each placed where its directory says, as OPA does.

use regorus::Value;

use super::bundle::{SourceFile, extension, is_data};
use super::finding::Finding;
use super::module::written;
use super::{value, yaml};
use crate::json;

/// The data of a set, and which file brought what.
pub(super) struct Data {
    /// Everything, merged; evaluation shares it.
    pub document: Value,
    pub files: Vec<DataFile>,
}

/// One data file.
pub(super) struct DataFile {
    pub path: String,
    /// Its place in the document.
    at: Vec<String>,
    value: Value,
}

impl DataFile {
    /// Whether a reference to `path` (without `data`) could read from this file, or finds nothing only because of it.
    pub fn overlaps(&self, path: &[String]) -> bool {
        let Some(rest) = path.strip_prefix(self.at.as_slice()) else { return self.at.starts_with(path) };
        rest.first().is_none_or(|key| lookup(&self.value, std::slice::from_ref(key)).is_some())
    }
}

impl Data {
    /// Reads and merges the data files. Two files that give the same place different values are an error, as is a
    /// duplicate key in JSON: which value counts must not depend on the reader.
    pub fn read(files: &[SourceFile]) -> (Self, Vec<Finding>) {
        let (mut read, mut findings) = (Vec::new(), Vec::new());
        let mut engine = regorus::Engine::new();
        for file in files.iter().filter(|file| is_data(&file.path)) {
            let at: Vec<String> = file.path.split('/').map(str::to_owned).collect();
            let at = at.split_last().map(|(_, directories)| directories.to_vec()).unwrap_or_default();
            let value = match parse(file) {
                Ok(value) => value,
                Err(finding) => {
                    findings.push(finding);
                    continue;
                }
            };
            if at.is_empty() && !matches!(value, Value::Object(_)) {
                let message =
                    format!("data must be an object, not a value of type {}", value::type_name(&value));
                findings.push(Finding::file("data", &file.path, message));
                continue;
            }
            let wrapped = at.iter().rev().fold(value.clone(), |inner, name| {
                Value::from(std::collections::BTreeMap::from([(Value::from(name.as_str()), inner)]))
            });
            if let Err(error) = engine.add_data(wrapped) {
                let message =
                    format!("data at `data.{}` conflicts with another data file: {error}", written(&at));
                findings.push(Finding::file("data_conflict", &file.path, message));
            }
            read.push(DataFile { path: file.path.clone(), at, value });
        }
        (Self { document: engine.get_data(), files: read }, findings)
    }

    /// Whether data stands where a rule is defined: at its path, or instead of an object on the way to it.
    pub fn conflicts_with(&self, rule: &[String]) -> bool {
        let mut at = &self.document;
        for key in rule {
            match at {
                Value::Object(fields) => match fields.get(&Value::from(key.as_str())) {
                    Some(value) => at = value,
                    None => return false,
                },
                _ => return true,
            }
        }
        true
    }
}

/// What stands at a path of a document.
pub(super) fn lookup<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |at, key| match at {
        Value::Object(fields) => fields.get(&Value::from(key.as_str())),
        _ => None,
    })
}

fn parse(file: &SourceFile) -> Result<Value, Finding> {
    let failed = |message: String| Finding::file("data", &file.path, message);
    if extension(&file.path) == Some("json") {
        return match json::parse(&file.bytes) {
            Ok(json) => Ok(value::from_json(&json)),
            Err(error) => {
                let mut finding = failed(format!("not JSON: {error}"));
                finding.line = u32::try_from(error.line()).unwrap_or(0);
                finding.column = u32::try_from(error.column()).unwrap_or(0);
                Err(finding)
            }
        };
    }
    let text = std::str::from_utf8(&file.bytes).map_err(|error| failed(format!("not UTF-8: {error}")))?;
    yaml::parse(text).map_err(|error| failed(format!("not YAML: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> (Data, Vec<Finding>) {
        let files: Vec<SourceFile> = files
            .iter()
            .map(|(path, text)| SourceFile { path: (*path).to_owned(), bytes: text.as_bytes().to_vec() })
            .collect();
        Data::read(&files)
    }

    #[test]
    fn directories_are_prefixes() {
        let (data, findings) = read(&[
            ("data.json", r#"{"x": 1, "a": {"y": 2}}"#),
            ("a/b/data.yaml", "k: [1, 2]\n"),
            ("other.json", "not read"),
        ]);
        assert_eq!(findings, []);
        let json = value::to_json(&data.document);
        assert_eq!(json, serde_json::json!({"x": 1, "a": {"y": 2, "b": {"k": [1, 2]}}}));
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        assert!(data.conflicts_with(&path("a.b")) && data.conflicts_with(&path("x.deny")));
        assert!(!data.conflicts_with(&path("a.b.deny")) && !data.conflicts_with(&path("p")));
        let overlaps =
            |text: &str| data.files.iter().map(|file| file.overlaps(&path(text))).collect::<Vec<_>>();
        assert_eq!(overlaps("a.b.k"), [true, true]);
        assert_eq!(overlaps("x"), [true, false]);
        assert_eq!(overlaps("other"), [false, false]);
    }

    #[test]
    fn ambiguity_is_an_error() {
        for (files, says) in [
            (vec![("data.json", r#"{"a": 1, "a": 2}"#)], "duplicate key"),
            (vec![("data.json", r#"{"a": {"b": 1}}"#), ("a/data.json", r#"{"b": 2}"#)], "conflicts"),
            (vec![("data.json", "[1]")], "must be an object"),
            (vec![("data.json", "{")], "not JSON"),
            (vec![("data.yaml", "a: [")], "not YAML"),
        ] {
            let (_, findings) = read(&files);
            assert!(findings[0].message.contains(says), "{findings:?}");
        }
        let (_, findings) = read(&[("data.json", r#"{"a": {"b": 1}}"#), ("a/data.json", r#"{"b": 1}"#)]);
        assert_eq!(findings, []);
    }
}
