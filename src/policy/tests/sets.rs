//! Sets: what belongs to a policy, what names it, and what a stored one is rebuilt from.

use super::*;

#[test]
fn closures_hold_what_references_need() {
    let set = set(&[
        ("lib/net.rego", "package lib.net\nimport data.base\ninternal(h) if base.suffix(h)"),
        ("lib/base.rego", "package base\nsuffix(h) if endswith(h, data.config.suffix)"),
        ("lib/unused.rego", "package lib.unused\nx := 1"),
        ("config/data.json", "{\"suffix\": \".internal\"}"),
        ("other/data.json", "{\"x\": 1}"),
        (
            "a.rego",
            "package a\nimport data.lib.net as n\nimport data.lib.unused\nallow if n.internal(input.context.arguments.h)",
        ),
        ("b.rego", "package b\ndeny if data.lib[input.context.arguments.p].x == 1"),
        ("c.rego", "package c\nallow if count(data.lib.net) >= 0\nallow if input.context.arguments.c"),
        ("d1.rego", "package d\ndeny if helper"),
        ("d2.rego", "package d\nhelper if input.context.arguments.d"),
        ("ignored.json", "{}"),
        ("a_test.rego", "package a_test\ntest_x if data.a.allow"),
    ]);
    let files = |id: &str| set.policies().iter().find(|policy| &*policy.id == id).unwrap().files.clone();
    assert_eq!(files("a"), ["a.rego", "config/data.json", "lib/base.rego", "lib/net.rego"]);
    assert_eq!(
        files("b"),
        ["b.rego", "config/data.json", "lib/base.rego", "lib/net.rego", "lib/unused.rego"]
    );
    assert_eq!(files("c"), ["c.rego", "config/data.json", "lib/base.rego", "lib/net.rego"]);
    assert_eq!(files("d"), ["d1.rego", "d2.rego"]);
    assert_eq!(decide(&set, json!({"h": "x.internal"})).effect, Effect::Allow);
    assert_eq!(decide(&set, json!({"h": "x.example"})).effect, Effect::Allow, "c counts a package");
    assert_eq!(short(&decide(&set, json!({"p": "unused"}))).1, ["b"]);
    assert_eq!(short(&decide(&set, json!({"d": true}))).1, ["d"]);
    assert!(set.warnings().iter().any(|warning| warning.file == "ignored.json"));
    assert!(set.files().all(|(path, ..)| path != "a_test.rego" && path != "ignored.json"));
}

#[test]
fn versions_change_with_their_closure_only() {
    let files = |lib: &str, config: &str, other: &str| {
        let set = set(&[
            ("a.rego", "package a\nallow if data.lib.ok == data.config.k"),
            ("b.rego", "package b\nallow if data.config.k == 2"),
            ("lib.rego", lib),
            ("config/data.json", config),
            ("other.rego", other),
        ]);
        let versions: Vec<String> = set.policies().iter().map(|policy| policy.version.to_string()).collect();
        (versions, set.reference().manifest_sha.clone())
    };
    let lib = "package lib\nok := 1";
    let (first, sha) = files(lib, "{\"k\": 1}", "package other");
    assert!(first.iter().chain([&sha]).all(|digest| digest.len() == 71 && digest.starts_with("sha256:")));
    let (again, again_sha) = files(lib, "{\"k\": 1}", "package other");
    assert_eq!((&first, &sha), (&again, &again_sha));
    let (changed, changed_sha) = files("package lib\nok := 2", "{\"k\": 1}", "package other");
    assert!(first[0] != changed[0] && first[1] == changed[1] && sha != changed_sha);
    let (changed, _) = files(lib, "{\"k\": 2}", "package other");
    assert!(first[0] != changed[0] && first[1] != changed[1]);
    let (changed, changed_sha) = files(lib, "{\"k\": 1}", "package other\nx := 1");
    assert!(first == changed && sha != changed_sha);
}

#[test]
fn ids_and_targets_come_from_metadata() {
    let set = set(&[
        (
            "a.rego",
            "# METADATA\n# title: A\n# description: About A\n# custom:\n#   id: pol_a\n#   targets:\n#     tools: [\"rm*\"]\n#     servers: [\"f?\"]\npackage x.a\ndeny := true",
        ),
        (
            "b.rego",
            "# METADATA\n# custom:\n#   targets: {actions: [\"resources/*\"]}\npackage x[\"b-c\"]\ndeny := true",
        ),
    ]);
    let [a, b] = set.policies() else { panic!() };
    assert_eq!((&*a.id, a.title.as_deref(), a.description.as_deref()), ("pol_a", Some("A"), Some("About A")));
    assert_eq!((&*b.id, a.effects.as_slice()), ("x[\"b-c\"]", [Effect::Deny].as_slice()));
    assert_eq!(short(&decide(&set, json!({}))).1, ["pol_a"]);
    let mut other = call(&json!({}));
    other.action.name = "resources/read".into();
    other.resource.kind = "resource".into();
    assert_eq!(short(&set.decide(&other, &moment())).1, ["x[\"b-c\"]"]);
    for (text, says) in [
        ("# METADATA\n# custom: {targets: {tool: [x]}}\npackage a\ndeny := true", "has no `tool`"),
        ("# METADATA\n# custom: {id: pol}\npackage a\ndeny := true", "same id `pol`"),
    ] {
        let other = "# METADATA\n# custom: {id: pol}\npackage b\ndeny := true";
        let findings = PolicySet::compile(source(&[("a.rego", text), ("b.rego", other)]), Limits::default());
        let findings = findings.map(|_| ()).unwrap_err();
        assert!(findings[0].message.contains(says), "{findings:?}");
    }
}

#[test]
fn a_set_is_rebuilt_from_what_is_stored() {
    let text =
        "package p\ndeny contains sprintf(\"%v %v\", [rand.intn(\"x\", 1000), time.now_ns()]) if data.on";
    let set = set(&[("p.rego", text), ("data.json", "{\"on\": true}")]);
    let bytes = set.manifest().to_vec();
    let canonical =
        serde_json_canonicalizer::to_vec(&serde_json::from_slice::<Json>(&bytes).unwrap()).unwrap();
    assert_eq!(bytes, canonical);
    let stored: std::collections::BTreeMap<String, Vec<u8>> =
        set.files().map(|(_, digest, bytes)| (digest.to_owned(), bytes.to_vec())).collect();
    let again =
        PolicySet::from_stored(&bytes, |digest| stored.get(digest).cloned(), Limits::default()).unwrap();
    assert_eq!(again.reference(), set.reference());
    let (one, two) = (decide(&set, json!({})), decide(&again, json!({})));
    assert_eq!((&one.diagnostics, &one.determining), (&two.diagnostics, &two.determining));
    assert!(one.diagnostics[0].message.as_deref().unwrap().ends_with(" 1000"));
    let missing = PolicySet::from_stored(&bytes, |_| None, Limits::default()).map(|_| ());
    assert!(matches!(missing, Err(StoredError::Missing { .. })));
    let forged =
        PolicySet::from_stored(&bytes, |_| Some(b"package p".to_vec()), Limits::default()).map(|_| ());
    assert!(matches!(forged, Err(StoredError::Digest { .. })));
    let garbled = PolicySet::from_stored(b"{}", |_| None, Limits::default()).map(|_| ());
    assert!(matches!(garbled, Err(StoredError::Manifest(_))));
}

#[test]
fn a_set_no_client_can_use_warns() {
    let codes = |text: &str| {
        set(&[("p.rego", text)]).warnings().iter().map(|warning| warning.message.clone()).collect::<Vec<_>>()
    };
    let warned = codes("package p\nallow if input.action.name == \"tools/call\"");
    assert!(
        warned.len() == 2 && warned[0].contains("`initialize`") && warned[1].contains("`tools/list`"),
        "{warned:?}"
    );
    assert!(codes("package p\nallow if input.action.name in {\"initialize\", \"tools/list\"}").is_empty());
}

#[test]
fn sets_are_shared_by_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let set = set(&[("p.rego", "package p\nallow if regex.match(\"^a+$\", input.context.arguments.x)")]);
    shared(&set);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert_eq!(decide(&set, json!({"x": "aa"})).effect, Effect::Allow);
                }
            });
        }
    });
}
