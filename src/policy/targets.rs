//! What a policy is about: METADATA `custom.targets`.

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
        let server = call.resource.properties.get("server").and_then(Json::as_str);
        let tool = (call.resource.kind == "tool").then_some(call.resource.id.as_str());
        let matches = |globs: &Option<Globs>, name: Option<&str>| {
            globs.as_ref().is_none_or(|globs| name.is_some_and(|name| globs.set.is_match(name)))
        };
        matches(&self.actions, Some(call.action.name.as_str()))
            && matches(&self.tools, tool)
            && matches(&self.servers, server)
    }

    /// The globs as written: servers, tools, actions.
    #[must_use]
    pub fn written(&self) -> [Option<&[String]>; 3] {
        [&self.servers, &self.tools, &self.actions]
            .map(|globs| globs.as_ref().map(|globs| globs.written.as_slice()))
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
