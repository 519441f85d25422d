//! An edit: what was taken away, where, and by which rule. The ledger keeps the list beside the record, so that a
//! reader knows that something is missing and why, and can never learn from the list what it was.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use super::is_within;

/// What stands in the record where something secret stood.
pub const MARK: &str = "[redacted]";

/// Edits of one record that are listed one by one. A body of some megabytes may give hundreds of thousands, and the list would
/// be longer than what it is about.
pub const MAX_EDITS: usize = 1000;
/// Bytes that their paths may have: names of members are as long as a caller likes.
const MAX_PATH_BYTES: usize = 128 << 10;
/// Members that get another name while there are edits to follow them; each costs a look at all of these.
const MAX_RENAMES: usize = 1000;

/// What was done to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, utoipa::ToSchema)]
#[schema(as = RedactionOp)]
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[schema(as = Redaction)]
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

    /// The pointer of the root that this is in.
    fn root_pointer(&self) -> String {
        let mut here = self;
        while let Some(parent) = here.parent {
            here = parent;
        }
        here.pointer()
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
///
/// Beyond [`MAX_EDITS`] they are folded: one edit of the root for each rule. Folding costs neither a pointer nor a look at the
/// list, so that what a caller sends decides about neither.
#[derive(Debug, Default)]
pub(super) struct Edits {
    listed: Vec<Edit>,
    /// Bytes of the paths that are listed.
    path_bytes: usize,
    /// Whether there was one that had no room any more.
    is_full: bool,
    folded: BTreeSet<Edit>,
    renames: usize,
}

impl Edits {
    /// Continues a list that an earlier step began.
    pub(super) fn resume(edits: Vec<Edit>) -> Self {
        let mut result = Self::default();
        for edit in edits {
            result.push(edit);
        }
        result
    }

    /// For what is inside one string, where all edits have its pointer: only by what they were made is kept.
    pub(super) fn inside() -> Self {
        Self { is_full: true, ..Self::default() }
    }

    /// Whether nothing was taken away.
    pub(super) fn is_empty(&self) -> bool {
        self.listed.is_empty() && self.folded.is_empty()
    }

    /// The list as it goes into the entry.
    pub(super) fn into_vec(self) -> Vec<Edit> {
        let Self { mut listed, folded, .. } = self;
        let new: Vec<Edit> = folded.into_iter().filter(|edit| !listed.contains(edit)).collect();
        listed.extend(new);
        listed
    }

    /// Notes an edit by a built-in rule. Several matches of one rule in one string are one edit.
    pub(super) fn note(&mut self, place: &Place<'_>, op: Op, rule: &str, category: &str) {
        self.add(place, op, &format!("builtin:{rule}"), category);
    }

    /// Notes an edit.
    pub(super) fn add(&mut self, place: &Place<'_>, op: Op, by: &str, category: &str) {
        let edit = |path| Edit { path, op, by: by.to_owned(), category: category.to_owned() };
        if self.is_full {
            self.folded.insert(edit(place.root_pointer()));
            return;
        }
        let edit = edit(place.pointer());
        // Edits of one place come one after the other, so looking back a little is enough.
        if !self.listed.iter().rev().take(8).any(|noted| *noted == edit) {
            self.push(edit);
        }
    }

    /// Notes that what stood at a pointer went as a whole: what was noted below it leads nowhere now.
    pub(super) fn replaced(&mut self, path: String, op: Op, by: &str, category: &str) {
        self.listed.retain(|edit| !is_within(&edit.path, &path));
        self.push(Edit { path, op, by: by.to_owned(), category: category.to_owned() });
    }

    /// Notes here what was collected [inside](Self::inside) a string.
    pub(super) fn append(&mut self, place: &Place<'_>, made: Self) {
        for Edit { op, by, category, .. } in made.folded {
            self.add(place, op, &by, &category);
        }
    }

    /// A member got another name: what was noted below the old name is now found below the new one.
    pub(super) fn renamed(&mut self, parent: &Place<'_>, old: &str, new: &str) {
        if self.listed.is_empty() {
            return;
        }
        self.renames += 1;
        if self.renames > MAX_RENAMES {
            for edit in std::mem::take(&mut self.listed) {
                self.fold(edit);
            }
            self.is_full = true;
            return;
        }
        let (old, new) = (parent.member(old).pointer(), parent.member(new).pointer());
        for edit in &mut self.listed {
            let below = edit.path.strip_prefix(&old).filter(|rest| rest.is_empty() || rest.starts_with('/'));
            if let Some(rest) = below {
                edit.path = format!("{new}{rest}");
            }
        }
    }

    fn push(&mut self, edit: Edit) {
        let path_bytes = self.path_bytes.saturating_add(edit.path.len());
        if self.listed.len() < MAX_EDITS && path_bytes <= MAX_PATH_BYTES {
            self.path_bytes = path_bytes;
            self.listed.push(edit);
        } else {
            self.is_full = true;
            self.fold(edit);
        }
    }

    fn fold(&mut self, mut edit: Edit) {
        let end = edit.path.bytes().skip(1).position(|byte| byte == b'/');
        edit.path.truncate(end.map_or(edit.path.len(), |end| end + 1));
        self.folded.insert(edit);
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
