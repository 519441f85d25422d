//! OPA's own evaluation cases, through docket's engine with its extensions and load checks.
//!
//! The cases are not part of this repository: they are read from `../shared/data/rego-compliance` (or below the directory
//! that `DOCKET_SHARED` names), and where that is absent the test says so and passes. What is known to fail stands in
//! `rego_compliance_known.txt` with the reason; a case that fails and is not listed fails the test, and so does one that
//! is listed and passes. `DOCKET_BLESS=1` rewrites the list, keeping the reasons it has.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use docket::call::Moment;
use docket::policy::{Finding, Limits, Query, Source, SourceFile, query};
use serde::Deserialize;
use serde_json::Value as Json;

/// Of the cases without `input_term`.
const MUST_PASS: usize = 1_560;
/// One evaluation; the slowest case needs a few milliseconds.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Case {
    note: String,
    query: String,
    #[serde(default)]
    modules: Option<Vec<String>>,
    #[serde(default)]
    data: Option<Json>,
    input: Option<Json>,
    input_term: Option<String>,
    want_result: Option<Vec<Json>>,
    want_error: Option<String>,
    want_error_code: Option<String>,
    #[serde(default)]
    strict_error: bool,
    #[serde(default)]
    sort_bindings: bool,
    #[serde(default)]
    ignore_generated_vars: bool,
}

enum Outcome {
    Passed,
    Failed(String),
    Panicked,
}

fn folder() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    std::env::var_os("DOCKET_SHARED").map_or_else(beside, PathBuf::from).join("data/rego-compliance")
}

fn known_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rego_compliance_known.txt")
}

/// Case names with their reasons. A line `[folder] reason` begins a group, the lines after it name its cases.
fn known() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(known_file()).unwrap_or_default();
    let mut reason = String::new();
    let mut known = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        if let Some((_, why)) = line.strip_prefix('[').and_then(|line| line.split_once("] ")) {
            why.clone_into(&mut reason);
        } else {
            assert!(known.insert(line.trim().to_owned(), reason.clone()).is_none(), "listed twice: {line}");
        }
    }
    known
}

#[test]
fn compliance() {
    let folder = folder();
    let Ok(files) = std::fs::read_dir(&folder) else {
        println!("rego_compliance: skipped, {} is absent", folder.display());
        return;
    };
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let known = known();
    let (mut plain, mut passed, mut panics) = (0, 0, 0);
    let mut failed: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut with_term = [0, 0];
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        for case in cases {
            // Some names are used more than once; the number tells them apart.
            let note = (1..).map(|n| if n == 1 { case.note.clone() } else { format!("{} #{n}", case.note) });
            let note = note.map(|note| note.replace('\n', " ")).find(|note| !seen.contains(note)).unwrap();
            seen.insert(note.clone());
            let outcome = run(&case);
            match outcome {
                Outcome::Passed if case.input_term.is_some() => with_term[0] += 1,
                Outcome::Passed => plain += 1,
                Outcome::Failed(why) => {
                    with_term[1] += usize::from(case.input_term.is_some());
                    failed.insert(note, (name.clone(), why));
                    continue;
                }
                Outcome::Panicked => {
                    panics += 1;
                    failed.insert(note, (name.clone(), "panicked".to_owned()));
                    continue;
                }
            }
            passed += 1;
        }
    }
    println!("rego_compliance: passed={passed} failed={} skipped=0 panics={panics}", failed.len());
    println!(
        "  without input_term: passed={plain}; with it: passed={} failed={}",
        with_term[0], with_term[1]
    );
    if std::env::var_os("DOCKET_BLESS").is_some() {
        write_known(&failed, &known);
        return;
    }
    let mut wrong = String::new();
    for (note, (folder, why)) in failed.iter().filter(|(note, _)| !known.contains_key(*note)) {
        writeln!(wrong, "fails: [{folder}] {note}: {why}").unwrap();
    }
    for note in known.keys().filter(|note| !failed.contains_key(*note)) {
        let what = if seen.contains(note) { "passes now, take it off the list" } else { "is no case" };
        writeln!(wrong, "{what}: {note}").unwrap();
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert_eq!(panics, 0);
    assert!(plain >= MUST_PASS, "{plain} of at least {MUST_PASS} pass");
}

fn write_known(failed: &BTreeMap<String, (String, String)>, known: &BTreeMap<String, String>) {
    let mut groups: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (note, (folder, why)) in failed {
        let why = known.get(note).map_or(why.lines().next().unwrap_or_default(), String::as_str);
        groups.entry((folder, why)).or_default().push(note);
    }
    let mut text =
        "# Cases of OPA's suite that docket fails, by folder, with the reason. See rego_compliance.rs.\n"
            .to_owned();
    for ((folder, why), notes) in groups {
        writeln!(text, "\n[{folder}] {why}").unwrap();
        for note in notes {
            writeln!(text, "{note}").unwrap();
        }
    }
    std::fs::write(known_file(), text).unwrap();
}

fn ask(
    case: &Case,
    text: &str,
    input: Option<Json>,
    files: Vec<SourceFile>,
) -> Result<Vec<docket::policy::Row>, Vec<Finding>> {
    let source = Source { id: "case".into(), revision: None, files, entrypoint: None };
    let _ = case;
    let moment =
        Moment { call_id: "01K00000000000000000000000".parse().unwrap(), time_ns: 1_767_225_600_000_000_000 };
    let limits = Limits { timeout: TIMEOUT };
    let asked = Query { text: text.to_owned(), input, moment, limits, strict: case.strict_error };
    query(&source, &asked).map(|answer| answer.rows)
}

fn run(case: &Case) -> Outcome {
    let modules = case.modules.iter().flatten().enumerate();
    let mut files: Vec<SourceFile> = modules
        .map(|(n, text)| SourceFile { path: format!("module-{n}.rego"), bytes: text.clone().into_bytes() })
        .collect();
    files.extend(
        case.data
            .as_ref()
            .map(|data| SourceFile { path: "data.json".into(), bytes: data.to_string().into() }),
    );
    let input = match &case.input_term {
        None => case.input.clone(),
        // A term may be a set or hold variables, so it is evaluated as Rego where the query is.
        Some(term) => match ask(case, term, None, Vec::new()) {
            Ok(rows) => rows
                .into_iter()
                .next()
                .and_then(|row| row.expressions.into_iter().next())
                .map(|(_, value)| value),
            Err(findings) => return Outcome::Failed(format!("input_term: {}", said(&findings))),
        },
    };
    let answer = ask(case, &case.query, input, files);
    if let Err(findings) = &answer
        && findings.iter().any(|finding| matches!(finding.code, "panic" | "internal"))
    {
        return Outcome::Panicked;
    }
    match answer {
        Ok(rows) => match &case.want_result {
            Some(want) => {
                let mut rows: Vec<Json> = rows.into_iter().map(|row| Json::Object(row.bindings)).collect();
                let mut want = want.clone();
                if case.ignore_generated_vars {
                    let keys: BTreeSet<String> =
                        want.iter().filter_map(Json::as_object).flat_map(|row| row.keys().cloned()).collect();
                    rows.iter_mut()
                        .filter_map(Json::as_object_mut)
                        .for_each(|row| row.retain(|key, _| keys.contains(key)));
                }
                if case.sort_bindings {
                    rows.iter_mut().chain(&mut want).for_each(sort_arrays);
                }
                // Rows have no order.
                rows.sort_by_key(ToString::to_string);
                want.sort_by_key(ToString::to_string);
                if same(&Json::from(rows.clone()), &Json::from(want)) {
                    Outcome::Passed
                } else {
                    Outcome::Failed(format!("wrong answer: {}", Json::from(rows)))
                }
            }
            None => Outcome::Failed("no error where one is wanted".to_owned()),
        },
        Err(findings) => {
            let wanted = case.want_error.is_some() || case.want_error_code.is_some();
            // Not knowing a function or a piece of syntax is no way to find what is wrong with its arguments.
            let ignorance =
                findings.iter().all(|finding| matches!(finding.code, "unknown_function" | "syntax"));
            let compiling = case.want_error_code.as_deref().is_some_and(|code| {
                ["rego_type_error", "rego_parse_error", "rego_compile_error", "rego_unsafe_var_error"]
                    .contains(&code)
            });
            if wanted && (!ignorance || compiling) {
                Outcome::Passed
            } else {
                Outcome::Failed(said(&findings))
            }
        }
    }
}

fn said(findings: &[Finding]) -> String {
    findings.first().map_or_else(String::new, |finding| format!("{}: {}", finding.code, finding.message))
}

/// What the suite does with results whose order its authors did not want to pin.
fn sort_arrays(json: &mut Json) {
    match json {
        Json::Array(items) => {
            items.iter_mut().for_each(sort_arrays);
            items.sort_by_key(ToString::to_string);
        }
        Json::Object(fields) => fields.values_mut().for_each(sort_arrays),
        _ => {}
    }
}

/// Equal as values: numbers by value, whatever their spelling.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}
