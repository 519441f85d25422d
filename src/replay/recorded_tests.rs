//! Recorded decisions as a Rego unit test file: what was decided stays decided.
//!
//! Each call becomes one test that asks the same rules of the same packages for it, as the recorded policies are now
//! seen to answer. What does not come out as it was recorded becomes a `todo_test_`, which is skipped, and says why. The
//! file is plain Rego: `docket test` and `opa test` run it beside the recorded policies.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Replayer, Unreplayable, call_of, parsed, redacted};
use crate::call::{Call, Moment};
use crate::decision::Effect;
use crate::ledger::{Filter, MAX_LIMIT, Order, Stored};
use crate::policy::{PolicySet, RuleValue, Spoken};

/// Tests written unless told otherwise.
pub const DEFAULT_LIMIT: u32 = 100;
/// Tests written at most.
pub const MAX_TESTS: u32 = 10_000;
/// Request ids that can be given at once.
const MAX_REQUESTS: usize = 1_000;
/// A `.rego` file may have 1 MiB.
const MAX_FILE_BYTES: usize = 1_000_000;
/// Characters of one line of a test: less than a `.rego` file may have.
const MAX_LINE_CHARS: usize = 30_000;
/// Brackets within brackets of one call: less than a `.rego` file may have.
const MAX_NESTING: usize = 20;
/// Characters of a name within a test's name.
const MAX_NAME_CHARS: usize = 40;

/// Which recorded decisions to write tests from, and how to call their package. Everything set must hold.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only these requests.
    pub request_ids: Vec<String>,
    /// Only decisions that fit.
    pub filter: Filter,
    /// At most this many tests, of the newest decisions; 100 if not set.
    pub limit: Option<u32>,
    /// The package of the file; `docket_recorded_test` if not set.
    pub package: Option<String>,
}

/// A file of tests.
#[derive(Clone, Debug, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[schema(as = WrittenTests)]
pub struct Written {
    /// The file.
    pub rego: String,
    /// Tests in it.
    pub tests: usize,
    /// How many of them are skipped, because the decision does not come out as it was recorded.
    pub skipped: usize,
    /// Decisions that are the same as one with a test, but for ids and times.
    pub repeated: usize,
    /// Decisions without a test: request id and why.
    #[schema(value_type = Vec<Vec<String>>)]
    pub left_out: Vec<(String, String)>,
    /// Request ids under which no decision is recorded.
    pub unknown: Vec<String>,
}

/// One decision with everything a test needs.
struct Recorded<'a> {
    entry: &'a Stored,
    call: Call,
    moment: Moment,
    effect: Effect,
}

/// Writes tests from recorded decisions. Blocks.
///
/// # Errors
/// What is wanted cannot be, or the ledger cannot be read.
pub fn write(replayer: &Replayer, wanted: &Wanted) -> Result<Written, String> {
    let package = wanted.package.as_deref().unwrap_or("docket_recorded_test");
    check_package(package)?;
    let filter = &wanted.filter;
    if wanted.request_ids.is_empty() && filter.request_id.is_none() && filter.since_ms.is_none() {
        return Err("say which decisions: request ids, or since when".into());
    }
    if wanted.request_ids.len() > MAX_REQUESTS {
        return Err(format!("at most {MAX_REQUESTS} request ids can be given at once; use a time instead"));
    }
    let mut written = Written::default();
    let mut entries = select(replayer, wanted, &mut written.unknown)?;
    entries.sort_by_key(|entry| entry.seq);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut chosen: Vec<(String, Recorded<'_>)> = Vec::new();
    for entry in &entries {
        match recorded(entry) {
            Ok(recorded) => {
                let key = sameness(&recorded);
                let count = counts.entry(key.clone()).or_default();
                *count += 1;
                if *count == 1 {
                    chosen.push((key, recorded));
                }
            }
            Err(why) => written.left_out.push((request_id(entry), why)),
        }
    }
    written.repeated = counts.values().map(|count| count - 1).sum();
    let mut out = format!(
        "# Written by `docket policy test-from` from recorded decisions. Run it beside the policies that were recorded with\n\
         # them: `docket test`, or `opa test`.\npackage {package}\n\nimport rego.v1\n"
    );
    let mut names = BTreeSet::new();
    for (key, recorded) in &chosen {
        let again = counts.get(key).map_or(0, |count| count - 1);
        match test(replayer, recorded, again, &mut names) {
            Ok((text, _)) if out.len() + text.len() > MAX_FILE_BYTES => {
                let why = "the file would be larger than a `.rego` file may be; write several, with --limit";
                written.left_out.push((request_id(recorded.entry), why.into()));
            }
            Ok((text, skipped)) => {
                out.push_str(&text);
                written.tests += 1;
                written.skipped += usize::from(skipped);
            }
            Err(why) => written.left_out.push((request_id(recorded.entry), why)),
        }
    }
    written.rego = out;
    Ok(written)
}

fn check_package(package: &str) -> Result<(), String> {
    let is_name = |name: &str| {
        let mut chars = name.chars();
        chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if package.split('.').all(is_name) {
        return Ok(());
    }
    Err(format!("`{package}` is not a package name; write it as `acme.recorded_test`"))
}

/// The decisions to write tests from, and the request ids that have none.
fn select(replayer: &Replayer, wanted: &Wanted, unknown: &mut Vec<String>) -> Result<Vec<Stored>, String> {
    let limit = usize::try_from(wanted.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_TESTS)).unwrap_or(usize::MAX);
    let ids = wanted.request_ids.iter().chain(&wanted.filter.request_id);
    let mut requests: Vec<Option<String>> = ids.cloned().map(Some).collect();
    if requests.is_empty() {
        requests.push(None);
    }
    let mut found: Vec<Stored> = Vec::new();
    for request_id in requests {
        let before = found.len();
        let mut filter = Filter {
            request_id,
            order: Order::Newest,
            limit: Some(MAX_LIMIT),
            ..wanted.filter.clone().decisions()
        };
        while found.len() < limit {
            let page = replayer.reader().entries(&filter).map_err(|error| error.to_string())?;
            let Some(last) = page.last() else { break };
            filter.before_seq = Some(last.seq);
            found.extend(page);
        }
        if before < limit && found.len() == before {
            unknown.extend(filter.request_id);
        }
    }
    found.truncate(limit);
    Ok(found)
}

fn request_id(entry: &Stored) -> String {
    entry.request_id.clone().unwrap_or_default()
}

fn recorded(entry: &Stored) -> Result<Recorded<'_>, String> {
    let (call, moment) = call_of(entry).map_err(|error| error.to_string())?;
    if entry.evaluation_status.as_deref() != Some("complete") {
        return Err("a policy failed or ran too long, which no test can ask for".into());
    }
    let effect = match entry.decision.as_deref() {
        Some("allow") => Effect::Allow,
        Some("require_approval") => Effect::RequireApproval,
        Some("deny") => Effect::Deny,
        _ => return Err(Unreplayable::NoCall.to_string()),
    };
    Ok(Recorded { entry, call, moment, effect })
}

/// Equal for decisions that differ in ids, times and ports only.
fn sameness(recorded: &Recorded<'_>) -> String {
    let mut call = recorded.call.clone();
    for own in ["request_id", "time", "peer"] {
        call.context.remove(own);
    }
    let call = serde_json::to_string(&call).unwrap_or_default();
    format!("{} {call}", recorded.effect.as_str())
}

/// The text of one test, and whether it is to be skipped.
fn test(
    replayer: &Replayer,
    recorded: &Recorded<'_>,
    again: usize,
    names: &mut BTreeSet<String>,
) -> Result<(String, bool), String> {
    let Recorded { entry, call, moment, effect } = recorded;
    let reference = entry.policy_set.as_ref().ok_or_else(|| Unreplayable::NoCall.to_string())?;
    let set = replayer.set(&reference.manifest_sha).map_err(|error| error.to_string())?;
    let mut values = set.rule_values(call, moment)?;
    let skipped = differs(&set, recorded);
    if skipped.is_some() {
        as_recorded(&mut values, entry, *effect);
    }
    let clock = set.mentions(call, "time.now_ns").then_some(moment.time_ns);
    let literal = literal(&serde_json::to_value(call).map_err(|error| error.to_string())?, 1)?;
    let conditions = conditions(&values, *effect, clock);
    if conditions.is_empty() {
        return Err("no policy is about this call, so there is no rule a test could ask".into());
    }
    let mut comments = vec![described(recorded)];
    if again > 0 {
        comments.push(format!("{again} more such calls were decided in the same way."));
    }
    let unseen = set.read_among(call, redacted(entry.redactions.get()));
    if !unseen.is_empty() {
        comments.push(format!(
            "Redacted, though a policy reads it: {}. The test has what was recorded in its place.",
            unseen.join(", ")
        ));
    }
    for chance in ["rand.intn", "uuid.rfc4122"] {
        if set.mentions(call, chance) {
            comments.push(format!("A policy uses `{chance}`, which gives something else in a test."));
        }
    }
    if let Some(why) = &skipped {
        comments.push(format!("Skipped: {why}"));
    }
    let name = name(recorded, names);
    let comments = comments.iter().fold(String::new(), |text, comment| {
        // What comes from a call could end the line.
        text + "# " + &comment.replace(char::is_control, " ") + "\n"
    });
    let todo = if skipped.is_some() { "todo_" } else { "" };
    let body = conditions.iter().fold(String::new(), |body, condition| body + "\t" + condition + "\n");
    let text = format!("\n{comments}{todo}{name} if {{\n\tcall := {literal}\n\n{body}}}\n");
    if text.lines().any(|line| line.chars().count() > MAX_LINE_CHARS) {
        return Err(format!("the call has a text of more than {MAX_LINE_CHARS} characters"));
    }
    Ok((text, skipped.is_some()))
}

/// One line about a decision, for people.
fn described(recorded: &Recorded<'_>) -> String {
    let Recorded { entry, call, effect, .. } = recorded;
    let server = entry.server.as_ref().map(|server| format!(" of server {server}")).unwrap_or_default();
    format!(
        "{}: {} for {}{server} by {} at {}, request {}.",
        effect.as_str(),
        call.action.name,
        call.resource.id,
        call.subject.id,
        entry.occurred_at,
        request_id(entry)
    )
}

/// `test_deny_delete_file_1x2y3z4a`
fn name(recorded: &Recorded<'_>, names: &mut BTreeSet<String>) -> String {
    let Recorded { entry, call, effect, .. } = recorded;
    let what = if call.action.name == "tools/call" {
        call.resource.id.clone()
    } else {
        format!("{} {}", call.action.name, call.resource.id)
    };
    let mut plain = String::new();
    for c in what.chars().take(MAX_NAME_CHARS) {
        let c = if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        if c != '_' || !plain.ends_with('_') {
            plain.push(c);
        }
    }
    let plain = plain.trim_matches('_');
    let id = entry.call_id.as_deref().unwrap_or_default().to_ascii_lowercase();
    let short = id.get(id.len().saturating_sub(8)..).unwrap_or_default();
    let joined: Vec<&str> =
        ["test", effect.as_str(), plain, short].into_iter().filter(|p| !p.is_empty()).collect();
    let name = joined.join("_");
    let name = if names.contains(&name) { format!("{name}_{}", entry.seq) } else { name };
    names.insert(name.clone());
    name
}

/// Why the recorded policies do not give again what was recorded; `None` where they do.
fn differs(set: &PolicySet, recorded: &Recorded<'_>) -> Option<String> {
    #[derive(Deserialize)]
    struct Said {
        policy_id: String,
    }
    let Recorded { entry, call, moment, effect } = recorded;
    let now = set.decide(call, moment);
    if now.effect != *effect {
        let redacted = redacted(entry.redactions.get());
        let because = if redacted.is_empty() {
            String::new()
        } else {
            format!(", since {} was redacted", redacted.join(", "))
        };
        return Some(format!("evaluated again the effect is {}{because}.", now.effect.as_str()));
    }
    let said: Vec<Said> =
        entry.determining_policies.as_deref().and_then(|raw| parsed(raw.get())).unwrap_or_default();
    let before: BTreeSet<&str> = said.iter().map(|said| said.policy_id.as_str()).collect();
    let after: BTreeSet<&str> = now.determining.iter().map(|policy| &*policy.policy_id).collect();
    (before != after).then(|| {
        let listed = |ids: BTreeSet<&str>| ids.into_iter().collect::<Vec<_>>().join(", ");
        format!("recorded as decided by {}, evaluated again by {}.", listed(before), listed(after))
    })
}

/// Puts what was recorded in place of what the rules come to now.
fn as_recorded(values: &mut [RuleValue], entry: &Stored, effect: Effect) {
    #[derive(Deserialize)]
    struct Determined {
        policy_id: String,
    }
    #[derive(Deserialize)]
    struct Said {
        policy_id: Option<String>,
        rule: Option<String>,
    }
    for RuleValue { value, .. } in values.iter_mut() {
        if let Spoken::Fields(fields) = value {
            for (_, said) in fields {
                *said =
                    if said.is_boolean() { (effect == Effect::Allow).into() } else { effect.as_str().into() };
            }
        }
    }
    let determining: Vec<Determined> =
        entry.determining_policies.as_deref().and_then(|raw| parsed(raw.get())).unwrap_or_default();
    let said: Vec<Said> = entry.diagnostics.as_deref().and_then(|raw| parsed(raw.get())).unwrap_or_default();
    for RuleValue { policy_id, value, .. } in values.iter_mut().filter(|value| value.effect == effect) {
        let determines = determining.iter().any(|policy| *policy.policy_id == **policy_id);
        *value = match (&*value, determines) {
            (Spoken::Set(_), true) => {
                let own = said.iter().filter(|said| said.policy_id.as_deref() == Some(policy_id));
                let item = |said: &Said| said.rule.as_ref().map_or(Value::Null, |rule| json!({"rule": rule}));
                Spoken::Set(own.map(item).collect())
            }
            (_, true) => Spoken::True,
            (Spoken::Set(_), false) => Spoken::Set(Vec::new()),
            (_, false) => Spoken::Nothing,
        };
    }
}

/// What a test asks of the rules so that together they give the effect.
fn conditions(values: &[RuleValue], effect: Effect, clock: Option<i64>) -> Vec<String> {
    let with = match clock {
        Some(time_ns) => format!("with input as call with time.now_ns as {time_ns}"),
        None => "with input as call".to_owned(),
    };
    if let [RuleValue { path, value: Spoken::Fields(fields), .. }] = values {
        return fields.iter().map(|(name, said)| format!("{path}.{name} == {said} {with}")).collect();
    }
    let mut conditions = Vec::new();
    let mut found = 0;
    let decided = values.iter().any(|value| value.effect == effect && value.value.is_yes());
    let order = [Effect::Deny, Effect::RequireApproval, Effect::Allow];
    for own in order {
        let rules = values.iter().filter(|value| value.effect == own);
        if own == effect && decided {
            for RuleValue { path, value, .. } in rules.filter(|rule| rule.value.is_yes()) {
                present(&mut conditions, &mut found, path, value, &with);
            }
            break;
        }
        for RuleValue { path, value, .. } in rules {
            conditions.push(match value {
                Spoken::Set(_) => format!("count({path}) == 0 {with}"),
                Spoken::Nothing | Spoken::True | Spoken::Fields(_) => format!("not {path} {with}"),
            });
        }
    }
    conditions
}

/// Asks for what an effect rule says.
fn present(conditions: &mut Vec<String>, found: &mut usize, path: &str, value: &Spoken, with: &str) {
    let Spoken::Set(items) = value else {
        conditions.push(format!("{path} {with}"));
        return;
    };
    let mut asked = BTreeSet::new();
    for item in items {
        let key =
            ["rule", "message", "msg"].into_iter().find(|key| item.get(key).is_some_and(Value::is_string));
        let condition = match (item, key) {
            (Value::String(_), _) => format!("{item} in {path} {with}"),
            (_, Some(key)) => {
                let text = item.get(key).map(ToString::to_string).unwrap_or_default();
                if !asked.insert(text.clone()) {
                    continue;
                }
                *found += 1;
                format!("some said_{found} in {path} {with}\n\tsaid_{found}.{key} == {text}")
            }
            _ => format!("count({path}) > 0 {with}"),
        };
        if !conditions.contains(&condition) {
            conditions.push(condition);
        }
    }
}

/// A value as Rego, over several lines.
fn literal(value: &Value, depth: usize) -> Result<String, String> {
    if depth > MAX_NESTING {
        return Err(format!("the call is nested more than {MAX_NESTING} deep"));
    }
    let pad = "\t".repeat(depth);
    let lines = |lines: Vec<String>, open: char, close: char| {
        let inner = lines.iter().fold(String::new(), |text, line| text + &pad + "\t" + line + ",\n");
        format!("{open}\n{inner}{pad}{close}")
    };
    match value {
        Value::Array(items) if items.iter().any(|item| item.is_array() || item.is_object()) => {
            let items = items.iter().map(|item| literal(item, depth + 1)).collect::<Result<Vec<_>, _>>()?;
            Ok(lines(items, '[', ']'))
        }
        Value::Array(items) => {
            Ok(format!("[{}]", items.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")))
        }
        Value::Object(fields) if fields.is_empty() => Ok("{}".into()),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                Ok(format!("{}: {}", Value::from(key.as_str()), literal(value, depth + 1)?))
            };
            Ok(lines(fields.iter().map(field).collect::<Result<Vec<_>, String>>()?, '{', '}'))
        }
        scalar => Ok(scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(path: &str, effect: Effect, value: Spoken) -> RuleValue {
        RuleValue { policy_id: "p".into(), path: path.into(), effect, value }
    }

    #[test]
    fn what_is_asked_follows_from_the_effect() {
        let rules = |deny: Spoken, approval: Spoken, allow: Spoken| {
            vec![
                value("data.a.deny", Effect::Deny, deny),
                value("data.b.require_approval", Effect::RequireApproval, approval),
                value("data.a.allow", Effect::Allow, allow),
            ]
        };
        let none = || Spoken::Set(Vec::new());
        let said = Spoken::Set(vec![
            json!({"rule": "r"}),
            json!({"msg": "m"}),
            json!("text"),
            json!({"rule": "r"}),
            json!(5),
        ]);
        assert_eq!(
            conditions(&rules(said, none(), Spoken::True), Effect::Deny, Some(7)),
            [
                "some said_1 in data.a.deny with input as call with time.now_ns as 7\n\tsaid_1.rule == \"r\"",
                "some said_2 in data.a.deny with input as call with time.now_ns as 7\n\tsaid_2.msg == \"m\"",
                "\"text\" in data.a.deny with input as call with time.now_ns as 7",
                "count(data.a.deny) > 0 with input as call with time.now_ns as 7",
            ]
        );
        assert_eq!(
            conditions(&rules(none(), Spoken::Nothing, Spoken::True), Effect::Allow, None),
            [
                "count(data.a.deny) == 0 with input as call",
                "not data.b.require_approval with input as call",
                "data.a.allow with input as call"
            ]
        );
        assert_eq!(
            conditions(&rules(none(), Spoken::True, Spoken::True), Effect::RequireApproval, None),
            ["count(data.a.deny) == 0 with input as call", "data.b.require_approval with input as call"]
        );
        assert_eq!(
            conditions(&rules(Spoken::Nothing, none(), none()), Effect::Deny, None),
            [
                "not data.a.deny with input as call",
                "count(data.b.require_approval) == 0 with input as call",
                "count(data.a.allow) == 0 with input as call"
            ]
        );
    }

    #[test]
    fn calls_become_literals() {
        let call = json!({"b": [1, "x"], "a": {"é \"q\"\n": null, "e": {}}, "c": [{"d": 1.5}], "f": []});
        let expected = "{\n\t\t\"a\": {\n\t\t\t\"e\": {},\n\t\t\t\"é \\\"q\\\"\\n\": null,\n\t\t},\n\t\t\"b\": [1, \"x\"],\n\t\t\"c\": [\n\t\t\t{\n\t\t\t\t\"d\": 1.5,\n\t\t\t},\n\t\t],\n\t\t\"f\": [],\n\t}";
        assert_eq!(literal(&call, 1).unwrap(), expected);
        let deep = (0..30).fold(json!(1), |inner, _| json!([inner]));
        assert!(literal(&deep, 1).unwrap_err().contains("nested"));
    }

    #[test]
    fn packages_are_names() {
        for good in ["docket_recorded_test", "a.b_test"] {
            assert_eq!(check_package(good), Ok(()));
        }
        for bad in ["", "a..b", "1a", "a b", "a\nallow := true", "a[\"b\"]"] {
            assert!(check_package(bad).is_err(), "{bad}");
        }
    }
}
