//! What a policy is about: METADATA `custom.targets`.

use std::collections::{BTreeSet, HashMap};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde_json::Value as Json;

use crate::call::Call;

/// Globs over server, tool and action; absent means everything. `*` also matches `/`, since names are no paths.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    servers: Option<Globs>,
    tools: Option<Globs>,
    actions: Option<Globs>,
}

#[derive(Clone, Debug)]
struct Globs {
    written: Vec<String>,
    set: GlobSet,
}

impl Targets {
    /// Reads `custom.targets`; the reason is for a finding.
    pub(super) fn read(custom: &serde_json::Map<String, Json>) -> Result<Self, String> {
        let mut targets = Self::default();
        let Some(written) = custom.get("targets") else { return Ok(targets) };
        let Json::Object(fields) = written else {
            return Err(
                "METADATA `custom.targets` must be a mapping of `servers`, `tools` and `actions`".into()
            );
        };
        for (key, globs) in fields {
            let slot = match key.as_str() {
                "servers" => &mut targets.servers,
                "tools" => &mut targets.tools,
                "actions" => &mut targets.actions,
                other => {
                    return Err(format!(
                        "METADATA `custom.targets` has no `{other}`; it has `servers`, `tools` and `actions`"
                    ));
                }
            };
            *slot = Some(Globs::read(key, globs)?);
        }
        Ok(targets)
    }

    /// Whether a policy with these targets is evaluated for a call. A call without a server, or of something that is
    /// no tool, is none of a policy's business that names servers or tools.
    #[must_use]
    pub fn include(&self, call: &Call) -> bool {
        let [server, tool, action] = names(call);
        let matches = |globs: &Option<Globs>, name: Option<&str>| {
            globs.as_ref().is_none_or(|globs| name.is_some_and(|name| globs.set.is_match(name)))
        };
        matches(&self.actions, action) && matches(&self.tools, tool) && matches(&self.servers, server)
    }

    /// Whether a call that is targeted can have this value at this path of `input`, which is given with it.
    pub(super) fn admit(&self, path: &[String], value: &str) -> bool {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let globs = match path.as_slice() {
            ["input", "action", "name"] => &self.actions,
            ["input", "resource", "id"] => &self.tools,
            ["input", "resource", "properties", "server"] => &self.servers,
            ["input", "resource", "type"] => return self.tools.is_none() || value == "tool",
            _ => return true,
        };
        globs.as_ref().is_none_or(|globs| globs.set.is_match(value))
    }

    /// The globs as written: servers, tools, actions.
    #[must_use]
    pub fn written(&self) -> [Option<&[String]>; 3] {
        [&self.servers, &self.tools, &self.actions]
            .map(|globs| globs.as_ref().map(|globs| globs.written.as_slice()))
    }
}

/// The names of a call that targets speak of: server, tool, action.
fn names(call: &Call) -> [Option<&str>; 3] {
    let server = call.resource.properties.get("server").and_then(Json::as_str);
    let tool = (call.resource.kind == "tool").then_some(call.resource.id.as_str());
    [server, tool, Some(call.action.name.as_str())]
}

/// Finds the policies a call is a target of without looking at the others.
///
/// Each policy stands under one kind of name only, the most telling it has globs for; the rest of its targets is looked at
/// once that one fits.
#[derive(Default)]
pub(super) struct Index {
    /// Policies about everything.
    always: Vec<usize>,
    /// As [`names`] has them: by server, by tool, by action.
    by: [Names; 3],
}

#[derive(Default)]
struct Names {
    /// Globs that are plain names.
    exact: HashMap<String, Vec<usize>>,
    globs: GlobSet,
    /// The policy of each glob.
    owners: Vec<usize>,
}

impl Index {
    /// Indexes policies in their order.
    pub fn new<'a>(policies: impl IntoIterator<Item = &'a Targets>) -> Self {
        let mut index = Self::default();
        let mut sets = [(); 3].map(|()| GlobSetBuilder::new());
        for (policy, targets) in policies.into_iter().enumerate() {
            let written = targets.written();
            // A tool says more than a server, and a server more than an action.
            let Some(kind) =
                [1, 0, 2].into_iter().find(|kind| written.get(*kind).is_some_and(Option::is_some))
            else {
                index.always.push(policy);
                continue;
            };
            let globs = written.get(kind).copied().flatten().unwrap_or_default();
            let (Some(names), Some(set)) = (index.by.get_mut(kind), sets.get_mut(kind)) else { continue };
            for glob in globs {
                if !glob.contains(['*', '?', '[', ']', '{', '}', '\\', '!']) {
                    names.exact.entry(glob.clone()).or_default().push(policy);
                } else if let Ok(compiled) = GlobBuilder::new(glob).literal_separator(false).build() {
                    set.add(compiled);
                    names.owners.push(policy);
                }
            }
        }
        for (names, set) in index.by.iter_mut().zip(sets) {
            match set.build() {
                Ok(globs) => names.globs = globs,
                // Too much for one automaton: these are looked at each time.
                Err(_) => index.always.append(&mut names.owners),
            }
        }
        index
    }

    /// The policies, in order, that may be about a call: all that are, and some that are not.
    pub fn candidates(&self, call: &Call) -> Vec<usize> {
        let mut found: BTreeSet<usize> = self.always.iter().copied().collect();
        for (names, name) in self.by.iter().zip(names(call)) {
            let Some(name) = name else { continue };
            found.extend(names.exact.get(name).into_iter().flatten());
            if !names.owners.is_empty() {
                found.extend(names.globs.matches(name).into_iter().filter_map(|glob| names.owners.get(glob)));
            }
        }
        found.into_iter().collect()
    }
}

impl Globs {
    fn read(key: &str, globs: &Json) -> Result<Self, String> {
        let list = || format!("METADATA `custom.targets.{key}` must be a list of globs, as in `[\"git*\"]`");
        let mut set = GlobSetBuilder::new();
        let mut written = Vec::new();
        for glob in globs.as_array().filter(|globs| !globs.is_empty()).ok_or_else(list)? {
            let glob = glob.as_str().ok_or_else(list)?;
            let compiled = GlobBuilder::new(glob).literal_separator(false).build();
            set.add(compiled.map_err(|e| {
                format!("METADATA `custom.targets.{key}`: `{glob}` is no glob: {}", e.kind())
            })?);
            written.push(glob.to_owned());
        }
        let set = set.build().map_err(|error| format!("METADATA `custom.targets.{key}`: {error}"))?;
        Ok(Self { written, set })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(kind: &str, id: &str, server: Option<&str>) -> Call {
        let mut call: Call = serde_json::from_value(serde_json::json!({
            "subject": {"type": "identity", "id": "a"}, "action": {"name": "tools/call"},
            "resource": {"type": kind, "id": id},
        }))
        .unwrap();
        call.resource.properties.extend(server.map(|server| ("server".to_owned(), server.into())));
        call
    }

    #[test]
    fn targets_select_calls() {
        let read = |json: Json| Targets::read(json.as_object().unwrap());
        let include = |targets: Json, kind, id, server| {
            read(serde_json::json!({ "targets": targets })).unwrap().include(&call(kind, id, server))
        };
        for (targets, kind, id, server, expected) in [
            (serde_json::json!({}), "http", "x", None, true),
            (serde_json::json!({"servers": ["git*"]}), "tool", "x", Some("github"), true),
            (serde_json::json!({"servers": ["git*"]}), "tool", "x", Some("fs"), false),
            (serde_json::json!({"servers": ["*"]}), "tool", "x", None, false),
            (serde_json::json!({"tools": ["delete_*", "rm"]}), "tool", "rm", None, true),
            (serde_json::json!({"tools": ["delete_*"]}), "resource", "delete_x", None, false),
            (serde_json::json!({"actions": ["tools/*"], "tools": ["a*"]}), "tool", "a/b", None, true),
            (serde_json::json!({"actions": ["resources/*"]}), "tool", "a", None, false),
        ] {
            assert_eq!(
                include(targets.clone(), kind, id, server),
                expected,
                "{targets} {kind} {id} {server:?}"
            );
        }
        // The index leaves out none of them, and some of the others.
        let all: Vec<Targets> = [
            serde_json::json!({}),
            serde_json::json!({"servers": ["git*"]}),
            serde_json::json!({"tools": ["delete_*", "rm"], "servers": ["fs"]}),
            serde_json::json!({"tools": ["rm"]}),
            serde_json::json!({"actions": ["tools/call"]}),
            serde_json::json!({"actions": ["resources/*"]}),
        ]
        .into_iter()
        .map(|targets| read(serde_json::json!({ "targets": targets })).unwrap())
        .collect();
        let index = Index::new(&all);
        for (call, expected) in [
            (call("tool", "rm", Some("github")), vec![0, 1, 2, 3, 4]),
            (call("tool", "delete_x", Some("fs")), vec![0, 2, 4]),
            (call("http", "rm", None), vec![0, 4]),
        ] {
            assert_eq!(index.candidates(&call), expected);
            for (at, targets) in all.iter().enumerate() {
                assert!(!targets.include(&call) || expected.contains(&at));
            }
        }
        for bad in [
            serde_json::json!({"targets": []}),
            serde_json::json!({"targets": {"tool": ["a"]}}),
            serde_json::json!({"targets": {"tools": "a"}}),
            serde_json::json!({"targets": {"tools": []}}),
            serde_json::json!({"targets": {"tools": ["[a"]}}),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
