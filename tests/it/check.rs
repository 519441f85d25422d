//! `docket check` as an author sees it.

use std::fs;

use docket::policy::lint::codes::CODES;
use insta::assert_snapshot;
use serde_json::Value;

use crate::harness::{POLICY, docket, folder_with};

/// One mistake of every family, as somebody might make them who comes from another system.
const MISTAKEN: &str = r#"# METADATA
# title: Files
package acme.files

import data.acme.path

default allow := true

allow if {
	input.tool == "read_file"
	startswith(input.arguments.path, "/workspace/")
	in_office_hours
}

in_office_hours if data.acme.path.hours.open

denies contains "no deleting" if {
	input.action.name == "tool/call"
	input.resource.id == "delete_file"
	input.resource.id == "remove_file"
}

deny contains {"rule": "eve", "message": "not for Eve"} if {
	input.subject == "eve"
	path.is_inside(concat("é", [input.context.argument.path]), "/etc")
}

unfinished := input.context.client.name

require_approval if input.context.aproval # docket:allow undefined_input
"#;

const LIBRARY: &str = "package acme.paths\n\nis_inside(path, root) if startswith(path, root)\n";

#[test]
fn mistakes_are_shown_with_what_would_be_right() {
    let folder = folder_with("", MISTAKEN);
    fs::write(folder.path().join("policies/paths.rego"), LIBRARY).unwrap();
    fs::write(folder.path().join("policies/other.json"), "{}").unwrap();
    let (code, text, error) = docket(&["check", "policies"], folder.path());
    assert_eq!((code, error.as_str()), (1, ""), "{text}");
    assert_snapshot!("mistakes", text);
    let (code, json, _) = docket(&["check", "policies", "--json"], folder.path());
    assert_eq!(code, 1);
    assert_snapshot!("mistakes_json", json);
    // The same by another way: one file, in short.
    let (code, text, _) = docket(&["check", "-q", "policies/policy.rego"], folder.path());
    assert_eq!(code, 1);
    assert_snapshot!("mistakes_in_short", text);
}

#[test]
fn errors_are_shown_where_they_are() {
    for (name, text) in [
        ("error_syntax", "package p\n\nallow if {\n\tinput.resource.id ==\n}\n"),
        (
            "error_function",
            "package p\n\nallow if starts_with(input.resource.id, \"a\", 1)\n\ndeny if count(1, 2, 3)\n",
        ),
        ("error_recursion", "package p\n\nallow if a\n\na if b(1)\n\nb(x) if a\n"),
        (
            "error_variables",
            "package p\n\ndeny contains msg if input.resource.id == \"a\"\n\ndeny contains {\"who\": who} if {\n\tnot who == \"eve\"\n\tcount([n | some m in input.context.arguments.list]) > 2\n}\n",
        ),
        ("error_name", "package p\n\nis_reader if input.resource.id == \"a\"\n\nallow if is_raeder\n"),
        (
            "error_metadata",
            "# METADATA\n# custom:\n#   id: p\n#   targets: {tool: [a]}\npackage p\n\nallow if input.resource.id == \"a\"\n",
        ),
        ("error_no_policy", "package p\n\nalow if input.resource.id == \"a\"\n"),
    ] {
        let folder = folder_with("", text);
        let (code, shown, error) = docket(&["check"], folder.path());
        assert_eq!((code, error.as_str()), (1, ""), "{name}\n{shown}");
        assert_snapshot!(name, shown);
    }
    // Two policies with one id.
    let folder = folder_with("", POLICY);
    fs::write(
        folder.path().join("policies/copy.rego"),
        POLICY.replace("package test.tools", "package test.copy"),
    )
    .unwrap();
    assert_snapshot!("error_duplicate_id", docket(&["check"], folder.path()).1);
}

#[test]
fn exit_codes_and_quiet() {
    let folder = folder_with("", POLICY);
    let (code, text, _) = docket(&["check"], folder.path());
    assert!(code == 0 && text.starts_with("nothing found: 1 policy in 1 file, manifest sha256:"), "{text}");
    assert_eq!(docket(&["check", "--quiet"], folder.path()), (0, String::new(), String::new()));
    assert_eq!(docket(&["check", "--json"], folder.path()).1.trim(), "[]");
    let (code, text, error) = docket(&["check", "nowhere"], folder.path());
    assert_eq!((code, text.as_str()), (2, ""));
    assert!(error.contains("`nowhere` does not exist"), "{error}");
    // A warning alone is a finding too.
    fs::write(folder.path().join("policies/policy.rego"), format!("{POLICY}\nhelper := 1\n")).unwrap();
    assert_eq!(docket(&["check"], folder.path()).0, 1);
    let (_, help, _) = docket(&["check", "--help"], folder.path());
    for code in CODES {
        assert!(help.contains(code.name), "--help lacks `{}`", code.name);
    }
}

/// What docket gives people to start from has nothing to find.
#[test]
fn what_is_published_is_clean() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let (code, text, _) = docket(&["check", "policies"], root);
    assert_eq!(code, 0, "{text}");
    // A policy of the README stands alone there; with the starter set's handshake a client can connect.
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let samples: Vec<&str> =
        readme.split("```rego\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!samples.is_empty());
    for sample in samples.into_iter().filter(|sample| sample.contains("\npackage ")) {
        let folder = folder_with("", sample);
        fs::copy(root.join("policies/handshake.rego"), folder.path().join("policies/handshake.rego"))
            .unwrap();
        let (code, text, _) = docket(&["check"], folder.path());
        assert_eq!(code, 0, "{text}");
    }
    let (_, json, _) = docket(&["check", "policies", "--json"], root);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), serde_json::json!([]));
}
