//! What is refused when a set is loaded.

use super::*;

/// A stricter docket still explains what a laxer one decided.
#[test]
fn a_stored_set_may_have_mistakes_that_are_refused_now() {
    let good = set(&[("p.rego", "package p\ndeny contains \"m\" if input.resource.id == \"rm\"\n")]);
    let bad = "package p\ndeny contains msg if input.resource.id == \"rm\"\n";
    assert_eq!(refused("deny contains msg if input.resource.id == \"rm\"")[0].code, "unbound_variable");
    let manifest = String::from_utf8(good.manifest().to_vec()).unwrap();
    let (_, digest, _) = good.files().next().unwrap();
    let now = crate::digest::sha256(bad.as_bytes());
    let manifest = manifest.replace(&digest["sha256:".len()..], &now["sha256:".len()..]);
    let stored =
        PolicySet::from_stored(manifest.as_bytes(), |_| Some(bad.as_bytes().to_vec()), Limits::default());
    assert!(stored.is_ok());
}

#[test]
fn hostile_policies_are_refused_at_load() {
    let chain = |n: usize| {
        let links: String = (1..n).fold(String::new(), |all, i| format!("{all}r{i} if r{}\n", i - 1));
        format!("r0 := true\n{links}allow if r{}", n - 1)
    };
    let calls = |n: usize| {
        let links: String = (1..n).fold(String::new(), |all, i| format!("{all}f{i}(x) := f{}(x)\n", i - 1));
        format!("f0(x) := x\n{links}allow if f{}(true)", n - 1)
    };
    let wide: String = (0..12).map(|i| format!("f{i}(x) := f{}(x)\n", i + 1).repeat(10)).collect();
    for (text, code, says) in [
        ("allow if f(1)\nf(x) := f(x + 1)".to_owned(), "recursion", "data.p.f"),
        ("allow if allow".to_owned(), "recursion", "data.p.allow"),
        ("allow if a\na if b\nb if a".to_owned(), "recursion", "p.rego:3"),
        ("allow if f(1)\nf(x) if g(x)\ng(x) if f(x)".to_owned(), "recursion", "data.p.g"),
        ("allow if f(1)\nf(x) if r\nr if f(2)".to_owned(), "recursion", "data.p.r"),
        ("allow if g(1) with f as g\ng(x) := f(x)\nf(x) := x".to_owned(), "recursion", "data.p.f"),
        ("allow if data.p".to_owned(), "recursion", "data.p.allow"),
        ("allow if data[input.x]".to_owned(), "recursion", "data.p.allow"),
        ("import data.p as me\nallow if me.f(1)\nf(x) := me.f(x)".to_owned(), "recursion", "data.p.f"),
        ("allow if [x | x := allow] == [1]".to_owned(), "recursion", "data.p.allow"),
        (chain(10_000), "too_deep", "chain"),
        (calls(150), "too_deep", "chain"),
        (format!("{wide}f12(x) := x\nallow if f0(1)"), "too_deep", "combinations"),
        (format!("allow if {{\n{}\n}}", "some _ in input.x\n".repeat(2_000)), "too_deep", "nests"),
        (format!("allow := {}", "[".repeat(60_000)), "too_deep", "nested"),
        (format!("allow := 1{}", format!("\n{}", "+1".repeat(500)).repeat(1_000)), "too_deep", "operations"),
        (format!("allow := \"{}\"", "x".repeat(1_000_000)), "syntax", ""),
        ("allow if startwith(input.x, \"a\")".to_owned(), "unknown_function", "`startswith`"),
        ("allow if is_admn(1)\nis_admin(x) := x".to_owned(), "unknown_function", "`is_admin`"),
        ("allow if data.lib.f(1)".to_owned(), "unknown_function", "data.lib.f"),
        ("allow if count(1, 2, 3)".to_owned(), "wrong_arity", "1 argument,"),
        ("allow if x := count([1], 2)".to_owned(), "wrong_arity", "not 2"),
        ("allow if f(1)\nf(x, y) := x + y".to_owned(), "wrong_arity", "2 arguments"),
        ("r := 1\nallow if r(1)".to_owned(), "unknown_function", "not a function"),
        ("allow if http.send({})".to_owned(), "refused_function", "network"),
        ("allow if opa.runtime()".to_owned(), "refused_function", "replayed"),
        ("allow(x) := x".to_owned(), "effect_shape", "not a function"),
        ("deny.x := 1".to_owned(), "effect_shape", "object"),
        ("deny[x] := 1 if some x in [1]".to_owned(), "effect_shape", "object"),
        ("allow if x > 1".to_owned(), "compile", "x"),
        ("allow if {".to_owned(), "syntax", ""),
        ("x := 1".to_owned(), "no_policy", "no package defines"),
    ] {
        let findings = refused(&text);
        let shown: String = text.chars().take(100).collect();
        assert_eq!(findings[0].code, code, "{shown}\n{findings:?}");
        assert!(findings.iter().any(|f| f.message.contains(says)), "{shown}\n{findings:?}");
        assert!(code == "no_policy" || findings[0].line > 0 || text.len() > 500_000, "{findings:?}");
    }
    let legal = "import data.p.helpers\nf(x) := y if { y := x }\nallow if { count([1], n); n == 1; f(f(1)) == 1; print(\"x\", n); y := 1; y in {1}; every a in [1] { a == f(a) } }\nlocal := 1\nother if { local := 2; local == 2 }";
    assert_eq!(decide(&set(&[("p.rego", &format!("package p\n{legal}"))]), json!({})).effect, Effect::Allow);
}

#[test]
fn a_name_means_one_kind_of_thing() {
    for text in [
        "allow if input.x\nallow contains \"y\" if input.y",
        "allow contains 1\ndefault allow := false",
        "x if input.x\nx[k] := 1 if some k in [1]\nallow if x",
        "x contains 1\nx[k] := 1 if some k in [1]\nallow if x",
        "x := 1\nx(y) := y\nallow if x",
        "x(y) := y\nx(y, z) := z\nallow if x(1)",
        "default x := 1\ndefault x := 2\nallow if x",
    ] {
        let findings = refused(text);
        assert_eq!((findings[0].code, findings[0].line), ("conflict", 3), "{text}: {findings:?}");
    }
    assert!(refused("allow if true\nallow contains 1")[0].message.contains("is a set (`… contains …`) here"));
    let legal = "x.a := 1\nx.b contains 1\nx.c[k] := 1 if some k in [1]\nf(1) := 1\nf(x) := 2 if x > 1\ndefault f(_) := 0\n\
                 default allow := false\nallow if count(x) == 3\nallow if f(2) == 2";
    assert_eq!(decide(&set(&[("p.rego", &format!("package p\n{legal}"))]), json!({})).effect, Effect::Allow);
}

#[test]
fn every_error_is_found() {
    let findings = PolicySet::compile(
        source(&[
            ("a.rego", "package a\nallow if nope(1)\ndeny if count(1, 2, 3)\n"),
            ("b.rego", "package b\nallow if b\nb if allow\n"),
        ]),
        Limits::default(),
    )
    .map(|_| ())
    .unwrap_err();
    let found: Vec<(&str, u32, &str)> = findings.iter().map(|f| (f.file.as_str(), f.line, f.code)).collect();
    assert_eq!(
        found,
        [("a.rego", 2, "unknown_function"), ("a.rego", 3, "wrong_arity"), ("b.rego", 2, "recursion")]
    );
    assert!(
        findings[0].to_string().starts_with("a.rego:2:10: error: there is no function `nope`"),
        "{}",
        findings[0]
    );
    let syntax =
        PolicySet::compile(source(&[("a.rego", "package a\nx :="), ("b.rego", "pack b")]), Limits::default());
    assert_eq!(syntax.map(|_| ()).unwrap_err().len(), 2);
}

/// The deepest thing the load checks let through must fit the stack of a worker thread with room to spare.
#[test]
fn the_deepest_chain_fits_a_worker_thread() {
    let nest = |depth: usize, inner: &str| format!("{}{inner}{}", "[".repeat(depth), "]".repeat(depth));
    let spread = |f: &dyn Fn(usize) -> String, last: &str| {
        let text = |n: usize| {
            let links: String = (1..n).map(|i| f(i) + "\n").collect();
            format!("package p\n{links}{last}\nallow if f{}(1) == 7\n", n - 1)
        };
        let fits = |n: usize| PolicySet::compile(source(&[("p.rego", &text(n))]), Limits::default()).ok();
        // The longest chain of this form that still compiles.
        let (mut low, mut high) = (2, 130);
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if fits(middle).is_some() { low = middle } else { high = middle }
        }
        fits(low).unwrap()
    };
    let sets = [
        spread(&|i| format!("f{i}(x) := f{}(x)", i - 1), "f0(x) := x"),
        spread(&|i| format!("f{i}(x) := {}", nest(6, &format!("f{}(x)", i - 1))), "f0(x) := x"),
        spread(
            &|i| format!("f{i}(x) := [y | some a in [x]; some b in [a]; some c in [b]; y := f{}(c)]", i - 1),
            "f0(x) := x",
        ),
        spread(
            &|i| {
                format!(
                    "f{i}(x) if {{ every a in [x] {{ every b in [a] {{ not not_{i}(b) }} }} }}\nnot_{i}(x) if {{ some a in {{x | x := x}}; {{a: f{}(a) | a in [1]}} }}",
                    i - 1
                )
            },
            "f0(x) := x",
        ),
        spread(
            &|i| format!("f{i}(x) if f{}(x) with input as {{\"a\": x}} with data.z as 1", i - 1),
            "f0(x) := x",
        ),
    ];
    std::thread::scope(|scope| {
        let deciding = std::thread::Builder::new().stack_size(1024 * 1024);
        deciding
            .spawn_scoped(scope, || {
                for set in &sets {
                    let _ = decide(set, json!({}));
                }
            })
            .unwrap();
    });
}

#[test]
fn data_conflicts_with_rules_are_refused() {
    for (path, text) in
        [("p/data.json", "{\"allow\": 1}"), ("data.json", "{\"p\": 5}"), ("p/allow/data.yaml", "x: 1")]
    {
        let findings = PolicySet::compile(
            source(&[("p.rego", "package p\nallow := true"), (path, text)]),
            Limits::default(),
        );
        assert_eq!(findings.map(|_| ()).unwrap_err()[0].code, "data_conflict", "{path}");
    }
    let nested = [("p.rego", "package p\nq := 1\nallow := true"), ("q.rego", "package p.q\nx := 1")];
    assert_eq!(
        PolicySet::compile(source(&nested), Limits::default()).map(|_| ()).unwrap_err()[0].code,
        "conflict"
    );
}

#[test]
fn what_some_declares_must_get_a_value() {
    for body in [
        "some prefix\n\tstartswith(input.path, prefix)\n\tprefix == \"/etc/\"",
        "some x\n\tx > 3",
        "some i\n\tf(i)\n\ti == 4",
        "every v in input.list {\n\t\tsome q\n\t\tq == v\n\t}",
    ] {
        let findings = refused(&format!("f(x) if x > 1\ndeny if {{\n\t{body}\n}}"));
        assert!(findings.iter().any(|found| found.code == "unbound_variable"), "{body}: {findings:?}");
    }
    for body in [
        "some i\n\tinput.list[i] == 1",
        "some x\n\tx = input.y",
        "some x, y\n\t[x, y] = input.pair",
        "some x\n\tplus(1, 2, x)\n\tx == 3",
        "some p, v\n\twalk(input, [p, v])\n\tv == 1",
        "some x\n\tf2(1, x)\n\tx == 2",
        "some i\n\tcount(input.lists[i]) > 1",
        "some x\n\t{\"a\": x} = input.object",
    ] {
        let body = body.replace("plus(1, 2, x)", "split(\"a\", \"b\", x)").replace("x == 3", "x != []");
        set(&[("p.rego", &format!("package p\nf2(a) := a + 1\ndeny if {{\n\t{body}\n}}"))]);
    }
}
