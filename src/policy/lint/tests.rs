//! Each lint finds what it is for, and nothing once that is mended; and what is well written is left alone.

use super::codes::CODES;
use super::*;

/// Without this every set would be told that no client can connect.
const BASE: &str = "# METADATA\n# custom: {id: base}\npackage base\n\nallow if input.action.name in {\"initialize\", \"tools/list\"}\n";
const HEAD: &str = "# METADATA\n# custom: {id: p}\npackage p\n\n";

fn source(files: &[(&str, &str)]) -> Source {
    let file =
        |(path, text): &(&str, &str)| SourceFile { path: (*path).into(), bytes: text.as_bytes().to_vec() };
    Source { id: "set".into(), revision: None, files: files.iter().map(file).collect(), entrypoint: None }
}

/// What is found in some files beside [`BASE`].
fn found(files: &[(&str, &str)]) -> Vec<Finding> {
    let all: Vec<(&str, &str)> = [("base.rego", BASE)].into_iter().chain(files.iter().copied()).collect();
    check(source(&all), Limits::default()).findings
}

/// What is found in a policy that begins with [`HEAD`].
fn found_in(text: &str) -> Vec<Finding> {
    found(&[("p.rego", &format!("{HEAD}{text}\n"))])
}

fn codes_of(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(|finding| finding.code).collect()
}

/// Code, a policy that has it, the place, and the same policy mended.
type Row = (&'static str, &'static str, Place, &'static str);
/// Line after the head, column, length.
type Place = (u32, u32, u32);

const TABLE: [Row; 28] = [
    ("undefined_input", "deny if input.tool == \"rm\"", (1, 9, 10), "deny if input.resource.id == \"rm\""),
    (
        "undefined_input",
        "import input.args as args\n\ndeny if args.path == \"/\"",
        (1, 8, 10),
        "import input.context.arguments as args\n\ndeny if args.path == \"/\"",
    ),
    (
        "undefined_input",
        "import input.subject\n\ndeny if subject.user == \"eve\"",
        (3, 9, 12),
        "import input.subject\n\ndeny if subject.properties.user == \"eve\"",
    ),
    (
        "undefined_input",
        "deny if {\n\tsome x in input.context[\"argument\"].paths\n\tx == \"/\"\n}",
        (2, 12, 31),
        "deny if {\n\tsome x in input.context[\"arguments\"].paths\n\tx == \"/\"\n}",
    ),
    (
        "undefined_input",
        "deny if object.get(input, [\"tool\", \"name\"], \"\") == \"rm\"",
        (1, 9, 39),
        "deny if object.get(input, [\"resource\", \"id\"], \"\") == \"rm\"",
    ),
    (
        "wrong_type",
        "deny if input.action == \"tools/call\"",
        (1, 9, 12),
        "deny if input.action.name == \"tools/call\"",
    ),
    (
        "wrong_type",
        "deny if input.resource in {\"rm\", \"mv\"}",
        (1, 9, 14),
        "deny if input.resource.id in {\"rm\", \"mv\"}",
    ),
    (
        "undefined_data",
        "import data.base.tols\n\ndeny if tols.x",
        (1, 8, 14),
        "import data.base\n\ndeny if base.allow",
    ),
    ("undefined_data", "deny if data.settings.on", (1, 9, 16), "deny if data.base.allow"),
    (
        "undefined_data",
        "import data.base\n\ndeny if base.alow",
        (3, 9, 9),
        "import data.base\n\ndeny if base.allow",
    ),
    ("misspelt_effect", "allow if input.x.y\n\ndenies if input.resource.id == \"rm\"", (3, 1, 6), ""),
    (
        "misspelt_effect",
        "allow if input.resource.id == \"x\"\n\nrequire_aproval contains \"m\" if input.resource.id == \"rm\"",
        (3, 1, 15),
        "allow if input.resource.id == \"x\"\n\nrequire_approval contains \"m\" if input.resource.id == \"rm\"",
    ),
    (
        "never_true",
        "deny contains \"x\" if {\n\tfalse\n}",
        (2, 2, 5),
        "deny contains \"x\" if {\n\tinput.resource.id == \"x\"\n}",
    ),
    (
        "never_true",
        "deny if {\n\tinput.action.name == \"a\"\n\tinput.action.name == \"b\"\n}",
        (3, 2, 24),
        "deny if {\n\tinput.action.name in {\"a\", \"b\"}\n}",
    ),
    (
        "never_true",
        "deny if {\n\tinput.action.name in {\"a\", \"b\"}\n\tnot input.action.name == \"a\"\n\tinput.action.name != \"b\"\n}",
        (4, 2, 24),
        "deny if {\n\tinput.action.name in {\"a\", \"b\"}\n\tnot input.action.name == \"a\"\n}",
    ),
    (
        "never_true",
        "deny if {\n\t\"a\" == \"b\"\n\tinput.resource.id\n}",
        (2, 2, 10),
        "deny if {\n\t\"a\" == \"a\"\n\tinput.resource.id\n}",
    ),
    (
        "constant_effect",
        "default deny := false\n\nallow if input.resource.id == \"a\"",
        (1, 9, 4),
        "allow if input.resource.id == \"a\"",
    ),
    (
        "default_allow",
        "default allow := true\n\nallow if input.resource.id == \"a\"",
        (1, 9, 5),
        "default allow := false\n\nallow if input.resource.id == \"a\"",
    ),
    ("allows_everything", "allow if true", (1, 1, 5), "allow if input.resource.id == \"a\""),
    (
        "allows_everything",
        "allow contains {\"rule\": \"all\"}",
        (1, 1, 5),
        "allow contains {\"rule\": \"all\"} if input.resource.id == \"a\"",
    ),
    (
        "unknown_method",
        "allow if input.action.name == \"tool/call\"",
        (1, 31, 11),
        "allow if input.action.name == \"tools/call\"",
    ),
    (
        "unknown_method",
        "allow if input.action.name in {\"tools/call\", \"resources/raed\"}",
        (1, 46, 16),
        "allow if input.action.name in {\"tools/call\", \"resources/read\"}",
    ),
    (
        "unused_rule",
        "allow if input.resource.id == \"a\"\n\nhelper(x) := x",
        (3, 1, 6),
        "allow if input.resource.id == helper(\"a\")\n\nhelper(x) := x",
    ),
    (
        "unused_import",
        "import data.base\n\nallow if input.resource.id == \"a\"",
        (1, 8, 9),
        "import data.base\n\nallow if {\n\tinput.resource.id == \"a\"\n\tbase.allow\n}",
    ),
    (
        "unbound_variable",
        "deny contains msg if input.resource.id == \"a\"",
        (1, 15, 3),
        "deny contains msg if {\n\tinput.resource.id == \"a\"\n\tmsg := \"no\"\n}",
    ),
    (
        "unbound_variable",
        "deny if not input.context.arguments.list[i] == 3",
        (1, 42, 1),
        "deny if {\n\tsome i\n\tinput.context.arguments.list[i] != 3\n}",
    ),
    (
        "unknown_allow",
        "# docket:allow never_tru\nallow if input.resource.id == \"a\"",
        (1, 1, 24),
        "allow if input.resource.id == \"a\"",
    ),
    (
        "unused_allow",
        "allow if input.resource.id == \"a\" # docket:allow never_true",
        (1, 35, 25),
        "allow if input.resource.id == \"a\"",
    ),
];

#[test]
fn each_lint_finds_its_own_and_nothing_once_mended() {
    for (code, bad, (line, column, length), good) in TABLE {
        let findings = found_in(bad);
        let own: Vec<&Finding> = findings.iter().filter(|finding| finding.code == code).collect();
        let [finding] = own.as_slice() else { panic!("{code} in\n{bad}\n{findings:#?}") };
        assert_eq!((finding.line, finding.column, finding.length), (line + 4, column, length), "{finding:#}");
        if !good.is_empty() {
            assert_eq!(codes_of(&findings), [code], "{bad}\n{findings:#?}");
            assert_eq!(codes_of(&found_in(good)), [] as [&str; 0], "{good}\n{:#?}", found_in(good));
        }
    }
    // Those about more than one file, or about no rule.
    let nameless = found(&[("p.rego", "package p\n\nallow if input.resource.id == \"a\"\n")]);
    assert_eq!(codes_of(&nameless), ["missing_id"]);
    let target =
        "# METADATA\n# custom:\n#   id: p\n#   targets: {actions: [tool/call]}\npackage p\n\nallow if true\n";
    let target = found(&[("p.rego", target)]);
    assert_eq!(codes_of(&target), ["unknown_method"]);
    assert_eq!((target[0].line, target[0].column), (4, 25));
    for (effect, name, value, codes) in [
        ("allow", "input.action.name", "\"tools/list\"", vec!["never_true"]),
        ("deny", "input.resource.id", "\"make\"", vec!["never_true"]),
        ("deny", "input.resource.type", "\"prompt\"", vec!["never_true"]),
        ("deny", "input.resource.id", "\"delete_it\"", vec![]),
        ("deny", "input.resource.properties.server", "\"any\"", vec![]),
    ] {
        let text = format!(
            "# METADATA\n# custom: {{id: p, targets: {{actions: [tools/call], tools: [delete_*]}}}}\npackage p\n\n{effect} if {name} == {value}\n"
        );
        assert_eq!(codes_of(&found(&[("p.rego", &text)])), codes, "{text}");
    }
    let lists = check(
        source(&[("p.rego", &format!("{HEAD}allow if input.resource.id == \"a\"\n"))]),
        Limits::default(),
    );
    assert_eq!(codes_of(&lists.findings), ["unreachable", "unreachable"]);
    let other = found(&[("p.json", "{}")]);
    assert_eq!(codes_of(&other), ["ignored_file"]);
    let mut tested: BTreeSet<&str> = TABLE.iter().map(|(code, ..)| *code).collect();
    let masks = |path: &str| {
        let text = format!(
            "package system.log\n\nmask contains \"{path}\"\n\nmask contains {{\"op\": \"remove\", \"path\": \"{path}\"}}\n"
        );
        codes_of(&found(&[("log.rego", &text)]))
    };
    assert_eq!(masks("/context/x"), ["mask_path", "mask_path"]);
    assert_eq!(masks("input/context/x"), ["mask_path", "mask_path"]);
    assert_eq!(masks("/input/context/arguments/rows/0"), ["mask_path", "mask_path"]);
    assert_eq!(masks("/input/context/arguments/rows/0/x"), [""; 0]);
    assert_eq!(masks("/input/context/x"), [""; 0]);
    tested.extend(["missing_id", "unreachable", "ignored_file", "mask_path"]);
    for code in CODES.iter().filter(|code| code.is_warning) {
        assert!(tested.contains(code.name), "no case for {}", code.name);
    }
}

#[test]
fn findings_say_what_would_be_right() {
    for (text, says) in [
        ("deny if input.tool == \"rm\"", "did you mean `input.resource.id`?"),
        ("deny if input.arguments.path == \"/\"", "did you mean `input.context.arguments.path`?"),
        ("deny if data.bas.allow", "did you mean `data.base.allow`?"),
        ("deny if data.lib.base.allow", "`data.lib.base.allow`"),
        ("denied if input.resource.id", "did you mean `deny`?"),
        ("permit if input.resource.id", "did you mean `allow`?"),
        ("needs_approval if input.resource.id", "did you mean `require_approval`?"),
        ("deny if input.subject == \"alice\"", "did you mean `input.subject.id`?"),
        ("allow if input.action.name == \"tools_call\"", "did you mean `tools/call`?"),
    ] {
        let findings = found_in(text);
        assert!(findings.iter().any(|finding| finding.message.contains(says)), "{text}\n{findings:#?}");
    }
}

#[test]
fn comments_turn_warnings_off() {
    let bad = "deny if input.tool == \"rm\"";
    for text in [
        format!("{bad} # docket:allow undefined_input"),
        format!("# docket:allow undefined_input\n{bad}"),
        format!("# docket:allow undefined_input, never_true\n# Because.\n\n{bad}"),
        "deny if {\n\t# docket:allow undefined_input\n\tinput.tool == \"rm\"\n}".to_owned(),
    ] {
        let left = codes_of(&found_in(&text));
        assert!(
            !left.contains(&"undefined_input") && left.iter().all(|code| *code == "unused_allow"),
            "{text}\n{left:?}"
        );
    }
    let file = format!("# docket:allow undefined_input missing_id\npackage p\n\n{bad}\n");
    assert_eq!(codes_of(&found(&[("p.rego", &file)])), [] as [&str; 0]);
    let set = format!("# docket:allow unreachable\n{HEAD}allow if input.resource.id == \"x\"\n");
    assert_eq!(codes_of(&check(source(&[("p.rego", &set)]), Limits::default()).findings), [] as [&str; 0]);
    // Errors cannot be turned off, and a comment elsewhere turns nothing off.
    let error = found_in("deny contains msg if input.resource.id # docket:allow unbound_variable");
    assert_eq!(codes_of(&error), ["unbound_variable", "unknown_allow"]);
    let elsewhere =
        found_in(&format!("{bad}\n\nallow if input.resource.id == \"x\" # docket:allow undefined_input"));
    assert_eq!(codes_of(&elsewhere), ["undefined_input", "unused_allow"]);
}

/// What authors of other systems, and of this one, write rightly.
#[test]
fn good_policies_are_left_alone() {
    let decision_api = r#"# A policy for an application behind the decision API.
# METADATA
# title: Documents
# custom:
#   id: acme.documents
package acme.documents

import data.acme.roles
import rego.v1

default allow := false

allow if {
	input.action.name == "read"
	input.resource.type == "document"
	is_reader
}

allow if {
	input.action.name in {"read", "write", "call", "list"}
	input.resource.properties.owner == input.subject.id
	input.subject.properties.clearance >= input.resource.properties.level
	input.context.department == input.subject.properties.department
	time.parse_rfc3339_ns(input.context.time) > input.resource.properties.valid_from
}

is_reader if {
	some role in input.subject.properties.role
	role in roles.readers
}

is_reader if roles.grants[input.subject.id][_] == "read"

deny contains {"rule": "frozen", "message": message} if {
	frozen := {id | some id, why in roles.frozen; why != ""}
	input.resource.id in frozen
	message := sprintf("%s is frozen", [input.resource.id])
}

deny contains "two people" if {
	not input.context.caller.verified
	not approved_by_other
}

approved_by_other if {
	some approval in object.get(input.context, "approvals", [])
	approval.by != input.subject.id
	every other in input.context.others {
		other != approval.by
	}
}
"#;
    let roles =
        r#"{"acme": {"roles": {"readers": ["a"], "grants": {"alice": ["read"]}, "frozen": {"x": "why"}}}}"#;
    let style_guide = r#"package lib.style

import data.lib.other as other_lib

# Functions of a library need not be used here, nor its rules.
is_admin(user) if "admin" in user.roles

names := [name | name := input.context.arguments.users[_].name]

by_name[name] := user if {
	some user in input.context.arguments.users
	name := user.name
}

first(list) := list[0] if is_array(list)

else := null

full_name(user) := name if {
	name := concat(" ", [user.first, user.last])
} else := user.login

deny_message(what) := sprintf("%s is denied", [what])

violation_of(rule) := other_lib.find(rule)

numbered contains {"at": i, "value": value} if {
	some i, value in input.context.arguments.list
	not value in {1, 2}
}

unify if {
	[_, name] = ["a", input.resource.id]
	startswith(name, "a")
}

"#;
    let other = "package lib.other\n\nfind(x) := data.lib.table[x]\n\ntable_of := data.lib.table[input.context.arguments.name].rows\n";
    let mcp = r#"# METADATA
# title: MCP
# custom:
#   id: acme.mcp
#   targets:
#     servers: ["git*"]
#     actions: ["tools/call", "tasks/*"]
package acme.mcp

import data.lib.style
import input.context.arguments as args

# Within its targets it may allow all.
allow contains {"rule": "all"}

deny contains {"rule": "admin", "message": msg, "data": {"path": path}} if {
	some path in paths
	not style.is_admin(input.subject.properties)
	msg := style.deny_message(path)
}

paths contains path if {
	some key in ["path", "file"]
	path := args[key]
}

paths contains path if walk(args, [path, "/etc/passwd"])

require_approval if {
	input.resource.properties.annotations.destructiveHint == true
	input.resource.properties.classification == "secret"
	input.context.approval == null
}
"#;
    let mask = "package system.log\n\nmask contains \"/input/password\" if input.input.password\n\nmask contains x if x := data.nowhere.x\n";
    let table = r#"{"lib": {"table": {"a": 1}}}"#;
    let findings = found(&[
        ("documents.rego", decision_api),
        ("data.json", roles),
        ("lib/style.rego", style_guide),
        ("lib/other.rego", other),
        ("more/data.json", table),
        ("lib/table/data.json", "{\"b\": 2}"),
        ("mcp.rego", mcp),
        ("mask.rego", mask),
        (
            "documents_test.rego",
            "package acme.documents_test\n\nimport data.acme.documents\n\ntest_x if documents.allow with input as {\"x\": 1} with data.acme.q as 1\n",
        ),
    ]);
    let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn a_helper_that_only_tests_use_is_used() {
    let text = format!("{HEAD}allow if input.resource.id == \"a\"\n\nhelper := 1\n");
    let tests = "package p_test\n\nimport data.p\n\ntest_it if p.helper == 1\n";
    assert_eq!(codes_of(&found(&[("p.rego", &text)])), ["unused_rule"]);
    assert_eq!(codes_of(&found(&[("p.rego", &text), ("p_test.rego", tests)])), [] as [&str; 0]);
    // A test that cannot be read is told, and what it may use is left alone.
    assert_eq!(
        codes_of(&found(&[("p.rego", &text), ("p_test.rego", "package p_test\n\nx := {")])),
        ["syntax"]
    );
    let unbound = found(&[("p.rego", &text), ("p_test.rego", &format!("{tests}\ntest_two if q"))]);
    assert_eq!((unbound[0].file.as_str(), unbound[0].line), ("p_test.rego", 7));
}

#[test]
fn the_starter_set_is_clean() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let checked = check(Source::read(&root.join("policies")).unwrap(), Limits::default());
    let told: Vec<String> = checked.findings.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}

/// Every code that is given to a finding anywhere in this engine has its line in the table.
#[test]
fn every_code_is_explained() {
    let given = regex::Regex::new(
        r#"Finding::(?:at|file|within|engine)\(\s*"([a-z_]+)"|"([a-z_]+)", (?:&module|&?whole|&comment)"#,
    )
    .unwrap();
    let mut pending = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/policy")];
    let mut seen = BTreeSet::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod ").next().unwrap();
            seen.extend(
                given
                    .captures_iter(text)
                    .map(|found| found.get(1).or(found.get(2)).unwrap().as_str().to_owned()),
            );
        }
    }
    // Said of an evaluation, not of a set.
    let evaluating = ["panic", "evaluation", "timeout"];
    for code in seen.iter().filter(|code| !evaluating.contains(&code.as_str())) {
        assert!(CODES.iter().any(|known| known.name == code), "`{code}` is not explained");
    }
    assert!(seen.len() > 15, "{seen:?}");
    let documented =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policies.md"))
            .unwrap();
    for code in CODES {
        assert!(
            documented.contains(&format!("| `{}` | {} |", code.name, code.meaning)),
            "docs/policies.md lacks `{}`",
            code.name
        );
    }
}
