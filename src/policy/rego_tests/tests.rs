//! Libraries in the styles that are published, run unchanged; failures that name their condition; coverage.

use super::*;

fn source(files: &[(&str, &str)]) -> Source {
    let file =
        |(path, text): &(&str, &str)| SourceFile { path: (*path).into(), bytes: text.as_bytes().to_vec() };
    Source { id: "tests".into(), revision: None, files: files.iter().map(file).collect(), entrypoint: None }
}

fn run_with(files: &[(&str, &str)], options: &TestOptions) -> TestReport {
    run_tests(&source(files), options).unwrap_or_else(|findings| {
        panic!("{}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

/// One line a test: its short name, what it came to, and where it failed.
fn outcomes(report: &TestReport) -> Vec<String> {
    let place = |failure: &Failure| {
        let at = |c: &crate::policy::explain::Condition| {
            format!("{}:{}:{} {}", c.file, c.line, c.column, c.condition)
        };
        let because = failure.because.as_ref().map(|because| format!(" <- {}", at(&because.condition)));
        format!("{}{}", at(&failure.condition), because.unwrap_or_default())
    };
    let line = |result: &TestResult| {
        let name = result.name.rsplit('.').next().unwrap_or_default();
        let mut line = match &result.outcome {
            TestOutcome::Pass => format!("{name} pass"),
            TestOutcome::Fail => format!("{name} fail"),
            TestOutcome::Todo => format!("{name} todo"),
            TestOutcome::Error(message) => format!("{name} error {message}"),
        };
        for failure in &result.failures {
            line = format!("{line}; {}", place(failure));
        }
        for case in &result.cases {
            let failures: Vec<String> = case.failures.iter().map(place).collect();
            let outcome = if case.passed { "pass".to_owned() } else { failures.join("; ") };
            line = format!("{line}; {}: {outcome}", case.name);
        }
        line
    };
    report.results.iter().map(line).collect()
}

fn check(files: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(outcomes(&run_with(files, &TestOptions::default())), expected);
}

const P_TEST: &str = "package p_test\nimport data.p\ntest_yes if p.allow with input as {\"x\": 1}\n\
     test_no if p.allow with input as {\"x\": 2}\ntest_error if to_number(\"x\")\ntodo_test_later if false\n\
     test_prints if print(\"hello\", 1)\ntest_time if time.now_ns() == 5 with time.now_ns as 5\n";

#[test]
fn outcomes_prints_and_the_clock() {
    let files = [("p.rego", "package p\nallow if input.x == 1\n"), ("p_test.rego", P_TEST)];
    let strict = TestOptions { strict: true, ..TestOptions::default() };
    let report = run_with(&files, &strict);
    let lines = outcomes(&report);
    assert_eq!(
        lines[..2],
        [
            "test_yes pass",
            "test_no fail; p_test.rego:4:12 p.allow with input as {\"x\": 2} <- p.rego:2:10 input.x == 1"
        ]
    );
    assert!(lines[2].starts_with("test_error error p_test.rego:5:"), "{}", lines[2]);
    assert_eq!(lines[3..], ["todo_test_later todo", "test_prints pass", "test_time pass"]);
    assert_eq!(report.results[4].prints, ["p_test.rego:7: hello 1"]);
    // As OPA has it, a built-in that fails makes its expression undefined.
    assert_eq!(
        outcomes(&run_with(&files, &TestOptions::default()))[2],
        "test_error fail; p_test.rego:5:15 to_number(\"x\")"
    );
    let some =
        TestOptions { run: Some(Regex::new("p_test.test_(yes|time)$").unwrap()), ..TestOptions::default() };
    assert_eq!(outcomes(&run_with(&files, &some)), ["test_yes pass", "test_time pass"]);
}

#[test]
fn everything_can_be_replaced() {
    let policy = "package mock\n\nallow if {\n\tresp := http.send({\"method\": \"get\", \"url\": \"http://x/y\"})\n\tresp.status_code == 200\n}\n\n\
        verified if {\n\t[valid, _, payload] := io.jwt.decode_verify(input.token, {\"secret\": \"x\"})\n\tvalid\n\tpayload.sub == \"alice\"\n}\n\n\
        is_admin(user) if user in data.admins\n\nadmin if is_admin(input.user)\n\nhash := crypto.sha256(input.text)\n\n\
        env := opa.runtime().env.HOME\n\nmerged := net.cidr_merge([\"10.0.0.0/24\", \"10.0.1.0/24\"])\n\nallowed_ip if net.cidr_contains(\"10.0.0.0/8\", input.ip)\n";
    let tests = "package mock_test # the import stands before this\n\nimport data.mock\n\nmock_send(req) := {\"status_code\": 200} if req.method == \"get\"\n\n\
        mock_verify(token, _) := [true, {}, {\"sub\": token}]\n\nyes(_) := true\n\n\
        test_a if mock.allow with http.send as mock_send\n\
        test_b if mock.allow with http.send as {\"status_code\": 200}\n\
        test_c if not mock.allow with http.send as {\"status_code\": 500}\n\
        test_d if mock.allow with http.send as {\"status_code\": 500}\n\
        test_e if mock.allow\n\
        test_f if mock.verified with io.jwt.decode_verify as mock_verify with input.token as \"alice\"\n\
        test_g if mock.verified with io.jwt.decode_verify as mock_verify with input.token as \"bob\"\n\
        test_h if mock.admin with data.admins as [\"bob\"] with input as {\"user\": \"bob\"}\n\
        test_i if mock.admin with data.mock.is_admin as true with input as {\"user\": \"bob\"}\n\
        test_j if mock.admin with mock.is_admin as yes with input as {\"user\": \"bob\"}\n\
        test_k if mock.hash == \"x\" with crypto.sha256 as \"x\" with input.text as \"t\"\n\
        test_l if mock.hash == crypto.sha256(\"t\") with input.text as \"t\"\n\
        test_m if mock.env == \"/h\" with opa.runtime as {\"env\": {\"HOME\": \"/h\"}}\n\
        test_n if count(mock.merged) == 1\n\
        test_o if mock.allowed_ip with net.cidr_contains as true with input.ip as \"1.1.1.1\"\n\
        test_p if mock.merged == 5 with net.cidr_merge as 5\n";
    let files = [("mock.rego", policy), ("mock_test.rego", tests)];
    let report = run_with(&files, &TestOptions::default());
    let lines = outcomes(&report);
    let failed: Vec<&String> = lines.iter().filter(|line| !line.ends_with(" pass")).collect();
    assert_eq!(
        failed,
        [
            "test_d fail; mock_test.rego:14:11 mock.allow with http.send as {\"status_code\": 500} <- mock.rego:5:2 resp.status_code == 200",
            "test_e fail; mock_test.rego:15:11 mock.allow <- mock.rego:4:2 resp := http.send({\"method\": \"get\", \"url\": \"http://x/y\"})",
            "test_g fail; mock_test.rego:17:11 mock.verified with io.jwt.decode_verify as mock_verify with input.token as \"bob\" <- mock.rego:11:2 payload.sub == \"alice\"",
        ]
    );
    let because = report.results[4].failures[0].because.as_ref().unwrap();
    assert!(because.condition.note.as_ref().unwrap().contains("`http.send` is refused"), "{because:?}");
    // In force both would be refused.
    let warned: Vec<u32> = report.warnings.iter().map(|warning| warning.line).collect();
    assert_eq!(warned, [4, 20], "{:?}", report.warnings);
}

#[test]
fn libraries_of_before_opa_1() {
    let policy = "package k8srequiredlabels\n\nviolation[{\"msg\": msg}] {\n  value := input.review.labels[key]\n  expected := input.parameters.labels[_]\n  expected.key == key\n\
        \x20 not re_match(expected.allowedRegex, value)\n  msg := sprintf(\"Label <%v: %v> does not match\", [key, value])\n}\n";
    let tests = "package k8srequiredlabels\n\ntest_input_allowed {\n    input := {\"review\": review({\"a\": \"yes\"}), \"parameters\": {\"labels\": [lbl(\"a\", \"^yes$\")]}}\n\
        \x20   results := violation with input as input\n    count(results) == 0\n}\n\ntest_input_wrong {\n    inp := {\"review\": review({\"a\": \"no\"}), \"parameters\": {\"labels\": [lbl(\"a\", \"^yes$\")]}}\n\
        \x20   results := violation with input as inp\n    count(results) == 0\n}\n\n\
        test_shadow {\n    input := {\"review\": review({\"a\": \"no\"}), \"parameters\": {\"labels\": [lbl(\"a\", \"^yes$\")]}}\n\
        \x20   results := violation with input as input\n    count(results) == 0\n}\n\nreview(labels) = output {\n  output = {\"labels\": labels}\n}\n\nlbl(k, v) = out {\n  out = {\"key\": k, \"allowedRegex\": v}\n}\n";
    let files = [("src.rego", policy), ("src_test.rego", tests)];
    let expected = [
        "test_input_allowed pass",
        "test_input_wrong fail; src_test.rego:12:5 count(results) == 0",
        "test_shadow fail; src_test.rego:18:5 count(results) == 0",
    ];
    check(&files, &expected);
    let report = run_with(&files, &TestOptions::default());
    let warned: Vec<(&str, &str)> = report.warnings.iter().map(|w| (w.code, w.file.as_str())).collect();
    assert_eq!(warned, [("rego_v0", "src.rego")]);
    assert!(crate::policy::PolicySet::compile(source(&files), Limits::default()).is_err());
}

#[test]
fn failures_name_their_condition() {
    let tests = "package t\n\ntest_concat[note] if {\n\tsome note, tc in {\n\t\t\"empty\": {\"a\": [], \"b\": [], \"exp\": []},\n\t\t\"filled\": {\"a\": [1], \"b\": [2], \"exp\": [1]},\n\t}\n\tact := array.concat(tc.a, tc.b)\n\tact == tc.exp\n}\n\n\
        test_nested[suite][note] if {\n\tsome suite, cases in {\"a\": {\"x\": 1}, \"b\": {\"z\": 3}}\n\tsome note, n in cases\n\tn < 3\n}\n\n\
        test_set contains note if {\n\tsome note, n in {\"one\": 1, \"two\": 2}\n\tn == 1\n}\n\n\
        test_else if {\n\t1 == 2\n} else if {\n\tx := 3\n\tx == 4\n}\n\ntest_many if input.x == 1\n\ntest_many if input.y == 2\n\n\
        test_false := x if x := 1 > 2\n\ntest_every if {\n\tevery x in [1, 2, 3] { x < 3 }\n}\n\ntest_not if not helper with input as {\"a\": 5}\n\nhelper if input.a > 3\n\n\
        test_deep if {\n\tuser := \"bob\"\n\tinner with input as {\"user\": user}\n}\n\ninner if helper with input.a as count(input.user)\n\ntest_type := 1\n\nutil.test_ref if true\n";
    check(
        &[("t_test.rego", tests)],
        &[
            "test_concat fail; empty: pass; filled: t_test.rego:9:2 act == tc.exp",
            "test_nested fail; a / x: pass; b / z: t_test.rego:15:2 n < 3",
            "test_set fail; one: pass; two: t_test.rego:20:2 n == 1",
            "test_else fail; t_test.rego:24:2 1 == 2; t_test.rego:27:2 x == 4",
            "test_many fail; t_test.rego:30:14 input.x == 1; t_test.rego:32:14 input.y == 2",
            "test_false fail; t_test.rego:34:15 x",
            "test_every fail; t_test.rego:37:2 every x in [1, 2, 3] { x < 3 } <- t_test.rego:37:25 x < 3",
            "test_not fail; t_test.rego:40:13 not helper with input as {\"a\": 5}",
            "test_deep fail; t_test.rego:46:2 inner with input as {\"user\": user} <- t_test.rego:42:11 input.a > 3",
            "test_type error a test must be true or false, not a value of type number",
            "test_ref pass",
        ],
    );
}

#[test]
fn coverage_counts_conditions_and_heads() {
    let policy = "package cov\n\ndefault allow := false\n\nallow if input.user == \"alice\"\n\nallow if {\n\tinput.user == \"bob\"\n\tstartswith(input.path, \"/tmp/\")\n}\n\n\
        deny contains \"one\" if input.x == 1\n\ndeny contains \"two\" if {\n\tevery y in input.ys { y > 1 }\n\tcount([z | some z in input.zs; z > 3]) > 0\n}\n\n\
        level := 1 if input.l < 5 else := 2 if input.l < 10 else := 3\n\nf(x) if x > 1\n\nf(x) if {\n\tx < -5\n}\n\nnever := \"x\" if {\n\tinput.never\n}\n\ntest_beside if true\n";
    let tests = "package cov_test\n\nimport data.cov\n\ntest_a if cov.allow with input as {\"user\": \"alice\"}\ntest_b if not cov.allow with input as {\"user\": \"bob\", \"path\": \"/etc\"}\n\
        test_c if count(cov.deny) == 1 with input as {\"x\": 2, \"ys\": [2], \"zs\": [4]}\ntest_d if cov.level == 1 with input as {\"l\": 3}\ntest_f if cov.f(3)\n";
    let options = TestOptions { coverage: true, ..TestOptions::default() };
    let report = run_with(&[("cov.rego", policy), ("cov_test.rego", tests)], &options);
    assert!(
        report.results.iter().all(|result| result.outcome == TestOutcome::Pass),
        "{:?}",
        outcomes(&report)
    );
    let coverage = report.coverage.unwrap();
    // 7: bob never got through; 12: `deny` was asked and `x` never 1; 19: never `else`; 23: never below -5; 27 and 28: never read.
    let [file] = coverage.files.as_slice() else { panic!("{coverage:?}") };
    assert_eq!(file.path, "cov.rego");
    assert_eq!(file.not_covered, [(7, 7), (12, 12), (19, 19), (23, 23), (27, 28)]);
    assert_eq!(file.covered, [(3, 3), (5, 5), (8, 9), (14, 16), (21, 21), (24, 24)]);
    assert!((file.percent() - 60.0).abs() < 0.01, "{}", file.percent());
}
