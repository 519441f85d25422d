//! An edit: what was taken away, where, and by which rule. The ledger keeps the list beside the record, so that a
//! reader knows that something is missing and why, and can never learn from the list what it was.

use std::fmt::Write as _;

use serde::Serialize;

use super::is_within;

/// What stands in the record where something secret stood.
pub const MARK: &str = "[redacted]";

/// What was done to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Op {
    /// The value, the matching part of it, or the name of a member was replaced by [`MARK`].
    Mask,
    /// The value, or the matching part of it, was replaced by its [`HashKey`](super::HashKey) hash.
    Hash,
    /// Something was left out and nothing stands in its place.
    Remove,
    /// Only its beginning or end stays; or a whole part was too large, and its length and digest stand in its place.
    Truncate,
}

/// One thing taken away from a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edit {
    /// RFC 6901 pointer from the record's roots, as `/context/arguments/password`. It names members as they are called
    /// after redaction, so it resolves in the recorded document. For JSON inside a string it points to the string.
    pub path: String,
    /// What was done.
    pub op: Op,
    /// The rule that did it: `builtin:key-name`, `builtin:github-token`, `rego:data.system.log.mask`,
    /// `hook:NAME`, `docket:size`.
    pub by: String,
    /// What kind of thing it was: `credential`, `personal-data`, `masked` and `dropped` for what an operator's own rules took,
    /// `malformed` for what could not be looked into, `size` for what was too large, or `withheld` where a step failed.
    pub category: String,
}

/// Where a walk is: a chain of segments on the stack, spelled out only when there is an edit to report.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Root(&'a str),
    Member(&'a str),
    Item(usize),
    Inside,
}

impl<'a> Place<'a> {
    /// A root of the record. Its name is part of a pointer already, so `context/arguments` may be a root.
    pub(super) fn root(name: &'a str) -> Self {
        Self { parent: None, segment: Segment::Root(name) }
    }

    /// A member of the object here.
    pub(super) fn member(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), segment: Segment::Member(name) }
    }

    /// An item of the array here.
    pub(super) fn item(&'a self, index: usize) -> Self {
        Self { parent: Some(self), segment: Segment::Item(index) }
    }

    /// The JSON inside the string here: everything below it is reported as the string's own pointer.
    pub(super) fn inside(&'a self) -> Self {
        Self { parent: Some(self), segment: Segment::Inside }
    }

    /// Whether this is a member of that name.
    pub(super) fn is_member(&self, name: &str) -> bool {
        matches!(self.segment, Segment::Member(member) if member == name)
    }

    /// The RFC 6901 pointer.
    pub(super) fn pointer(&self) -> String {
        let mut chain = Vec::new();
        let mut here = Some(self);
        while let Some(place) = here {
            if matches!(place.segment, Segment::Inside) {
                chain.clear();
            } else {
                chain.push(place.segment);
            }
            here = place.parent;
        }
        let mut pointer = String::new();
        for segment in chain.into_iter().rev() {
            match segment {
                Segment::Root(name) => {
                    pointer.push('/');
                    pointer.push_str(name.trim_start_matches('/'));
                }
                Segment::Member(name) => push_member(&mut pointer, name),
                Segment::Item(index) => {
                    // Writing to a string cannot fail.
                    let _ = write!(pointer, "/{index}");
                }
                Segment::Inside => {}
            }
        }
        pointer
    }
}

/// Adds a member's name to a pointer.
pub(super) fn push_member(pointer: &mut String, name: &str) {
    pointer.push('/');
    for c in name.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

/// The edits of one record, in the order in which they were made, each once.
#[derive(Debug, Default)]
pub(super) struct Edits(Vec<Edit>);

impl Edits {
    /// Continues a list that an earlier step began.
    pub(super) fn resume(edits: Vec<Edit>) -> Self {
        Self(edits)
    }

    /// The list as it goes into the entry.
    pub(super) fn into_vec(self) -> Vec<Edit> {
        self.0
    }

    /// Notes an edit by a built-in rule. Several matches of one rule in one string are one edit.
    pub(super) fn note(&mut self, place: &Place<'_>, op: Op, rule: &str, category: &str) {
        let edit =
            Edit { path: place.pointer(), op, by: format!("builtin:{rule}"), category: category.to_owned() };
        self.append(vec![edit]);
    }

    /// Notes that what stood at a pointer went as a whole: what was noted below it leads nowhere now.
    pub(super) fn replaced(&mut self, path: String, op: Op, by: &str, category: &str) {
        self.0.retain(|edit| !is_within(&edit.path, &path));
        self.0.push(Edit { path, op, by: by.to_owned(), category: category.to_owned() });
    }

    /// Adds edits that were collected apart.
    pub(super) fn append(&mut self, made: Vec<Edit>) {
        for edit in made {
            // Edits of one place come one after the other, so looking back a little is enough.
            if !self.0.iter().rev().take(8).any(|noted| *noted == edit) {
                self.0.push(edit);
            }
        }
    }

    /// A member got another name: what was noted below the old name is now found below the new one.
    pub(super) fn renamed(&mut self, parent: &Place<'_>, old: &str, new: &str) {
        let (old, new) = (parent.member(old).pointer(), parent.member(new).pointer());
        for edit in &mut self.0 {
            let below = edit.path.strip_prefix(&old).filter(|rest| rest.is_empty() || rest.starts_with('/'));
            if let Some(rest) = below {
                edit.path = format!("{new}{rest}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_follow_rfc_6901_and_stop_at_strings() {
        let root = Place::root("context");
        let (a, b) = (root.member("a/b~c"), root.member(""));
        assert_eq!(a.item(3).pointer(), "/context/a~1b~0c/3");
        assert_eq!(b.pointer(), "/context/");
        let string = a.item(0);
        let inside = string.inside();
        assert_eq!(inside.member("password").pointer(), "/context/a~1b~0c/0");
        assert_eq!(Place::root("context/arguments").member("x").pointer(), "/context/arguments/x");
    }

    #[test]
    fn an_edit_is_noted_once_and_follows_a_renamed_member() {
        let (mut edits, root) = (Edits::default(), Place::root("r"));
        let old = root.member("old");
        edits.note(&old.member("x"), Op::Mask, "key-name", "credential");
        edits.note(&old.member("x"), Op::Mask, "key-name", "credential");
        edits.note(&root.member("older"), Op::Remove, "key-name", "credential");
        edits.renamed(&root, "old", MARK);
        let paths: Vec<String> = edits.into_vec().into_iter().map(|edit| edit.path).collect();
        assert_eq!(paths, ["/r/[redacted]/x", "/r/older"]);
    }

    #[test]
    fn edits_serialise_as_the_entry_shows_them() {
        let edit =
            Edit { path: "/a".into(), op: Op::Mask, by: "builtin:jwt".into(), category: "credential".into() };
        let text = serde_json::to_string(&edit).unwrap();
        assert_eq!(text, r#"{"path":"/a","op":"mask","by":"builtin:jwt","category":"credential"}"#);
    }
}
