//! `# METADATA` blocks: the YAML in comments that names a policy and says what it is about.
//!
//! The form is OPA's (title, description, scope, custom). A block belongs to what follows it; a block with
//! `scope: package`, or directly above `package`, is the package's. Of `custom`, docket reads `id` and `targets`.

use regorus::Value;

use super::finding::{Finding, line_of};
use super::scan::Scan;
use super::{value, yaml};

/// One METADATA block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// A short name for people.
    pub title: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// `rule`, `document`, `package` or `subpackages`, where the block says it.
    pub scope: Option<String>,
    /// Anything else the author wrote under `custom`.
    pub custom: serde_json::Map<String, serde_json::Value>,
    /// The line of `# METADATA`, from 1.
    pub line: u32,
    /// The last line of the block; it belongs to the first rule after it.
    pub end_line: u32,
}

impl Metadata {
    /// `custom.id`: the author's own name for a policy, kept when its package moves.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.custom.get("id").and_then(serde_json::Value::as_str)
    }
}

/// Reads every block of a file. What cannot be read is a finding: an id or target that silently does not count would
/// change what a policy decides.
pub(super) fn read(path: &str, text: &str, scan: &Scan<'_>) -> (Vec<Metadata>, Vec<Finding>) {
    let (mut blocks, mut findings) = (Vec::new(), Vec::new());
    let mut comments = scan.comments.iter().peekable();
    while let Some(head) = comments.next() {
        if head.text.trim() != "METADATA" {
            continue;
        }
        let (mut yaml, mut end_line) = (String::new(), head.line);
        while let Some(next) =
            comments.next_if(|next| next.line == end_line + 1 && next.column == head.column)
        {
            yaml.push_str(next.text);
            yaml.push('\n');
            end_line = next.line;
        }
        match block(&yaml, head.line, end_line) {
            Ok(metadata) => blocks.push(metadata),
            Err(message) => {
                let mut finding = Finding::file("metadata", path, message);
                finding.line = head.line;
                finding.column = head.column;
                finding.excerpt = line_of(text, head.line);
                findings.push(finding);
            }
        }
    }
    (blocks, findings)
}

fn block(text: &str, line: u32, end_line: u32) -> Result<Metadata, String> {
    if text.trim().is_empty() {
        return Err(
            "METADATA is empty: write `title:`, `description:` or `custom:` in the lines below it".into()
        );
    }
    let parsed = yaml::parse(text).map_err(|error| format!("METADATA is not YAML: {error}"))?;
    let Value::Object(fields) = parsed else {
        return Err("METADATA must be a YAML mapping, as in `# title: …`".into());
    };
    let text = |key: &str| match fields.get(&Value::from(key)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.to_string())),
        Some(_) => Err(format!("METADATA `{key}` must be a string")),
    };
    let custom = match fields.get(&Value::from("custom")) {
        None | Some(Value::Null) => serde_json::Map::new(),
        Some(custom) => match value::to_json(custom) {
            serde_json::Value::Object(custom) => custom,
            _ => return Err("METADATA `custom` must be a mapping".into()),
        },
    };
    if custom.get("id").is_some_and(|id| id.as_str().is_none_or(str::is_empty)) {
        return Err("METADATA `custom.id` must be a string that is not empty".into());
    }
    let scope = text("scope")?;
    if let Some(scope) = &scope
        && !["rule", "document", "package", "subpackages"].contains(&scope.as_str())
    {
        return Err(format!(
            "METADATA `scope` is `{scope}`; it must be `rule`, `document`, `package` or `subpackages`"
        ));
    }
    Ok(Metadata { title: text("title")?, description: text("description")?, scope, custom, line, end_line })
}

#[cfg(test)]
mod tests {
    use super::super::scan::scan;
    use super::*;

    fn blocks(text: &str) -> (Vec<Metadata>, Vec<Finding>) {
        read("p.rego", text, &scan(text))
    }

    #[test]
    fn blocks_end_where_the_comment_does() {
        let text = "# METADATA\n# title: T\n# custom:\n#   id: pol\n#   n: [1, 2]\npackage p\n\n# METADATA\n#title: R\n# not yaml: [\nx := 1\n# just words\n";
        let (found, errors) = blocks(text);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].title.as_deref(), found[0].id()), (Some("T"), Some("pol")));
        assert_eq!((found[0].line, found[0].end_line), (1, 5));
        assert_eq!((errors.len(), errors[0].line), (1, 8));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (text, says) in [
            ("# METADATA\npackage p", "empty"),
            ("# METADATA\n# - a", "mapping"),
            ("# METADATA\n# title: 5", "`title` must be a string"),
            ("# METADATA\n# custom:\n#   id: 7", "custom.id"),
            ("# METADATA\n# scope: global", "`global`"),
        ] {
            assert!(blocks(text).1[0].message.contains(says), "{text:?}: {:?}", blocks(text).1);
        }
        assert!(blocks("x := `\n# METADATA\n# 7\n`").1.is_empty());
    }
}
