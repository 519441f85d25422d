//! The shape of a call: which paths below `input` there are, and what people write who come from elsewhere.
//!
//! Only what no call can have is wrong. What the decision API lets a caller add (properties of subject, action and
//! resource, keys of `context`) and what arguments, claims and annotations hold is open: there a name is questioned only
//! where it is one slip away from one that docket fills in itself.

use super::super::near::{is_slip, nearest};

/// What stands at a place of a call.
enum Shape {
    /// Anything.
    Open,
    /// A string, always: nothing is below it.
    Text,
    /// These fields and no other.
    Closed(&'static [(&'static str, Shape)]),
    /// These fields, and any that a caller adds.
    Extended(&'static [(&'static str, Shape)]),
}

use crate::text::plain;
use Shape::{Closed, Extended, Open, Text};

static CALL: Shape = Closed(&[
    (
        "subject",
        Closed(&[
            ("type", Text),
            ("id", Text),
            (
                "properties",
                Extended(&[
                    ("agent", Open),
                    ("user", Open),
                    ("team", Open),
                    ("zone", Open),
                    ("roles", Open),
                    ("verified", Open),
                    ("claims", Open),
                ]),
            ),
        ]),
    ),
    ("action", Closed(&[("name", Text), ("properties", Open)])),
    (
        "resource",
        Closed(&[
            ("type", Text),
            ("id", Text),
            (
                "properties",
                Extended(&[
                    ("server", Open),
                    ("annotations", Open),
                    ("definition_sha256", Open),
                    ("classification", Open),
                ]),
            ),
        ]),
    ),
    (
        "context",
        Extended(&[
            ("arguments", Open),
            ("agent", Text),
            ("request_id", Text),
            ("time", Text),
            ("protocol", Text),
            ("peer", Text),
            ("client", Open),
            ("approval", Open),
            ("listing", Open),
            ("params", Open),
            ("meta", Open),
            (
                "caller",
                Closed(&[
                    ("agent", Text),
                    ("user", Open),
                    ("team", Open),
                    ("zone", Text),
                    ("roles", Open),
                    ("verified", Open),
                ]),
            ),
        ]),
    ),
]);

/// What people write, and where docket has it. The longest that fits counts; what follows it is kept where it can be.
static HABITS: &[(&str, &str)] = &[
    ("action.arguments", "context.arguments"),
    ("action.args", "context.arguments"),
    ("action.id", "action.name"),
    ("action.kind", "action.name"),
    ("action.method", "action.name"),
    ("action.operation", "action.name"),
    ("action.params", "context.arguments"),
    ("action.type", "action.name"),
    ("actor", "subject.id"),
    ("agent", "context.agent"),
    ("agent_id", "context.agent"),
    ("annotations", "resource.properties.annotations"),
    ("approval", "context.approval"),
    ("args", "context.arguments"),
    ("arguments", "context.arguments"),
    ("attributes", "subject.properties"),
    ("caller", "subject.id"),
    ("claims", "subject.properties.claims"),
    ("client", "context.client"),
    ("env", "context"),
    ("environment", "context"),
    ("groups", "subject.properties.roles"),
    ("identity", "subject.id"),
    ("input", "context.arguments"),
    ("ip", "context.peer"),
    ("jwt", "subject.properties.claims"),
    ("meta", "context.meta"),
    ("method", "action.name"),
    ("operation", "action.name"),
    ("parameters", "context.arguments"),
    ("params", "context.arguments"),
    ("params.meta", "context.meta"),
    ("params.arguments", "context.arguments"),
    ("params.name", "resource.id"),
    ("params.uri", "resource.id"),
    ("path", "context.arguments.path"),
    ("peer", "context.peer"),
    ("principal", "subject.id"),
    ("principal.id", "subject.id"),
    ("protocol", "context.protocol"),
    ("remote_addr", "context.peer"),
    ("request.arguments", "context.arguments"),
    ("request.id", "context.request_id"),
    ("request.method", "action.name"),
    ("request.params", "context.arguments"),
    ("request.params.arguments", "context.arguments"),
    ("request.params.name", "resource.id"),
    ("request.time", "context.time"),
    ("request.tool", "resource.id"),
    ("request.user", "subject.properties.user"),
    ("request_id", "context.request_id"),
    ("resource.annotations", "resource.properties.annotations"),
    ("resource.args", "context.arguments"),
    ("resource.arguments", "context.arguments"),
    ("resource.attributes", "resource.properties"),
    ("resource.attrs", "resource.properties"),
    ("resource.classification", "resource.properties.classification"),
    ("resource.kind", "resource.type"),
    ("resource.name", "resource.id"),
    ("resource.path", "resource.id"),
    ("resource.server", "resource.properties.server"),
    ("resource.tool", "resource.id"),
    ("resource.uri", "resource.id"),
    ("resource.url", "resource.id"),
    ("role", "subject.properties.roles"),
    ("roles", "subject.properties.roles"),
    ("server", "resource.properties.server"),
    ("server.name", "resource.properties.server"),
    ("server_name", "resource.properties.server"),
    ("source_ip", "context.peer"),
    ("subject.agent", "subject.properties.agent"),
    ("subject.attributes", "subject.properties"),
    ("subject.attrs", "subject.properties"),
    ("subject.claims", "subject.properties.claims"),
    ("subject.groups", "subject.properties.roles"),
    ("subject.kind", "subject.type"),
    ("subject.name", "subject.id"),
    ("subject.role", "subject.properties.roles"),
    ("subject.roles", "subject.properties.roles"),
    ("subject.team", "subject.properties.team"),
    ("subject.user", "subject.properties.user"),
    ("subject.verified", "subject.properties.verified"),
    ("subject.zone", "subject.properties.zone"),
    ("team", "subject.properties.team"),
    ("time", "context.time"),
    ("timestamp", "context.time"),
    ("token", "subject.properties.claims"),
    ("token.claims", "subject.properties.claims"),
    ("tool", "resource.id"),
    ("tool.annotations", "resource.properties.annotations"),
    ("tool.args", "context.arguments"),
    ("tool.arguments", "context.arguments"),
    ("tool.input", "context.arguments"),
    ("tool.parameters", "context.arguments"),
    ("tool.server", "resource.properties.server"),
    ("tool_args", "context.arguments"),
    ("tool_call", "resource.id"),
    ("tool_call.arguments", "context.arguments"),
    ("tool_call.name", "resource.id"),
    ("tool_input", "context.arguments"),
    ("tool_name", "resource.id"),
    ("type", "resource.type"),
    ("uri", "resource.id"),
    ("url", "resource.id"),
    ("user", "subject.properties.user"),
    ("user.id", "subject.properties.user"),
    ("user.name", "subject.properties.user"),
    ("user.roles", "subject.properties.roles"),
    ("user.team", "subject.properties.team"),
    ("username", "subject.properties.user"),
    ("verb", "action.name"),
    ("zone", "subject.properties.zone"),
];

/// What is wrong with a path below `input`, said with what would be right; `None` where a call can have it.
pub(super) fn problem(path: &[String]) -> Option<String> {
    let mut at = &CALL;
    for (depth, key) in path.iter().enumerate() {
        let here = path.get(..depth).unwrap_or_default();
        let fields = match at {
            Open => return None,
            Text => {
                return Some(format!("`{}` is a string and has no `{key}`", written(here)));
            }
            Closed(fields) | Extended(fields) => *fields,
        };
        if let Some((_, below)) = fields.iter().find(|(name, _)| name == key) {
            at = below;
            continue;
        }
        let names = || fields.iter().map(|(name, _)| *name);
        let wrong = |length: usize| written(path.get(..length).unwrap_or_default());
        if matches!(at, Extended(_)) {
            let near = names().find(|name| is_slip(key, name))?;
            return Some(format!(
                "`{}` is not what docket fills in; did you mean `{}.{near}`?",
                wrong(depth + 1),
                written(here)
            ));
        }
        let meant = habit(path, depth).or_else(|| {
            let near = nearest(key, names())?;
            Some((depth + 1, format!("{}.{near}", written(here))))
        });
        if let Some((length, meant)) = meant {
            let (meant, kept) = below(&meant, path.get(length..).unwrap_or_default());
            return Some(format!("`{}` does not exist; did you mean `{meant}`?", wrong(length + kept)));
        }
        let all: Vec<String> = names().map(|name| format!("`{name}`")).collect();
        let (last, rest) = all.split_last()?;
        let (wrong, here) = (wrong(depth + 1), written(here));
        return Some(format!("`{wrong}` does not exist; `{here}` has {} and {last}", rest.join(", ")));
    }
    None
}

/// Whether a path is an object of the call, which never equals a string; with the string that may have been meant.
pub(super) fn object(path: &[String]) -> Option<&'static str> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["action"] => Some("input.action.name"),
        [] | ["resource"] => Some("input.resource.id"),
        ["subject"] => Some("input.subject.id"),
        ["context"] => Some("input.context.arguments"),
        ["context", "caller"] => Some("input.context.caller.agent"),
        _ => None,
    }
}

/// What is meant where people write `path`, whose component at `depth` is the first that does not exist; with how much
/// of the path that is.
fn habit(path: &[String], depth: usize) -> Option<(usize, String)> {
    let spelt = |length: usize| {
        let joined: Vec<String> =
            path.get(..length).unwrap_or_default().iter().map(|part| style(part)).collect();
        joined.join(".")
    };
    (depth + 1..=path.len()).rev().find_map(|length| {
        let spelt = spelt(length);
        HABITS
            .iter()
            .find(|(written, _)| *written == spelt)
            .map(|(_, meant)| (length, format!("input.{meant}")))
    })
}

/// `toolName` as the table has it: `tool_name`.
fn style(part: &str) -> String {
    let known = HABITS.iter().flat_map(|(written, _)| written.split('.'));
    known.into_iter().find(|known| plain(known) == plain(part)).unwrap_or(part).to_owned()
}

/// A path with what follows it, as far as that can exist, and how much that is.
fn below(start: &str, rest: &[String]) -> (String, usize) {
    let mut path: Vec<String> = start.split('.').skip(1).map(str::to_owned).collect();
    let before = path.len();
    for part in rest {
        path.push(part.clone());
        if problem(&path).is_some() {
            path.pop();
            break;
        }
    }
    (written(&path), path.len() - before)
}

fn written(path: &[String]) -> String {
    let path: Vec<String> = std::iter::once("input".to_owned()).chain(path.iter().cloned()).collect();
    super::super::module::written(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &str) -> Option<String> {
        problem(&path.split('.').skip(1).map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_a_call_can_have_is_fine() {
        let call = crate::call::Call {
            subject: crate::call::Caller::anonymous().subject(),
            ..serde_json::from_str(
                r#"{"subject": {"type": "x", "id": "y"}, "action": {"name": "tools/call"}, "resource": {"type": "tool", "id": "t"}}"#,
            )
            .unwrap()
        };
        let mut pending = vec![("input".to_owned(), serde_json::to_value(&call).unwrap())];
        let caller = serde_json::to_value(crate::call::Caller::anonymous()).unwrap();
        pending.push(("input.context.caller".to_owned(), caller));
        while let Some((path, value)) = pending.pop() {
            assert_eq!(said(&path), None);
            for (key, value) in value.as_object().into_iter().flatten() {
                pending.push((format!("{path}.{key}"), value.clone()));
            }
        }
        for path in [
            "input.context.arguments.tool.name",
            "input.context.client.name",
            "input.context.approval.by",
            "input.context.department",
            "input.context.times",
            "input.context.approvals",
            "input.context.args",
            "input.subject.properties.role",
            "input.subject.properties.clearance.level",
            "input.subject.properties.claims.sub",
            "input.resource.properties.owner",
            "input.resource.properties.annotations.readOnlyHint",
            "input.action.properties.method",
        ] {
            assert_eq!(said(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_meant_is_said() {
        for (path, meant) in [
            ("input.tool", "input.resource.id"),
            ("input.toolName", "input.resource.id"),
            ("input.tool.name", "input.resource.id"),
            ("input.tool.arguments.path", "input.context.arguments.path"),
            ("input.arguments.path", "input.context.arguments.path"),
            ("input.params.arguments.path", "input.context.arguments.path"),
            ("input.params.name", "input.resource.id"),
            ("input.method", "input.action.name"),
            ("input.user", "input.subject.properties.user"),
            ("input.user.email", "input.subject.properties.user.email"),
            ("input.subject.roles", "input.subject.properties.roles"),
            ("input.subjct.id", "input.subject.id"),
            ("input.resources.id", "input.resource.id"),
            ("input.subject.property.user", "input.subject.properties.user"),
            ("input.context.argument.path", "input.context.arguments"),
            ("input.context.requestId", "input.context.request_id"),
            ("input.resource.properties.anotations", "input.resource.properties.annotations"),
            ("input.context.caller.name", "`input.context.caller` has"),
            ("input.flavour", "`input` has `subject`, `action`, `resource` and `context`"),
            ("input.context.time.hour", "`input.context.time` is a string"),
        ] {
            let said = said(path).unwrap_or_else(|| panic!("{path}"));
            assert!(said.contains(&format!("`{meant}`")) || said.contains(meant), "{path}: {said}");
        }
    }

    /// Every habit leads somewhere, from somewhere that does not exist.
    #[test]
    fn habits_lead_to_what_exists() {
        for (written, meant) in HABITS {
            assert_eq!(said(&format!("input.{meant}")), None, "{meant}");
            assert!(said(&format!("input.{written}")).is_some_and(|said| said.contains(meant)), "{written}");
        }
    }
}
