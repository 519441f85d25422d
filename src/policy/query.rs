//! One query over modules, data and an input, as `opa eval` answers it.
//!
//! For authors and for the compliance suite; a call is decided by [`super::PolicySet::decide`] instead. Modules and query
//! pass the same checks as a set in force, and the same built-ins and bounds apply.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{QueryResults, Value};
use serde_json::Value as Json;

use super::bundle::{Source, SourceFile, is_data, is_rego};
use super::finding::{Finding, Located};
use super::library::Library;
use super::set::Limits;
use super::{builtins, deep, value};
use crate::call::Moment;
use crate::json::Object;

/// The name a query has in findings.
const QUERY_FILE: &str = "query";
/// The package the query's text is checked in. Nothing of it is evaluated. A function, since
/// `data` in a query does not refer to functions, so that the query is no part of what it asks for.
const QUERY_HEAD: &str = "package docket_query\nquery(_) if { ";

/// What to ask, and in which circumstances.
#[derive(Clone, Debug)]
pub struct Query {
    /// An expression, or several separated by `;` or newlines.
    pub text: String,
    /// `input`; undefined where absent.
    pub input: Option<Json>,
    /// Clock and seed.
    pub moment: Moment,
    /// Bounds on evaluating it.
    pub limits: Limits,
    /// Whether a failing built-in is an error, as when deciding, or makes its expression undefined, as OPA has it.
    pub strict: bool,
}

/// All rows for which the query holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// In the order they were found.
    pub rows: Vec<Row>,
    /// What was printed, each with file and line.
    pub prints: Vec<String>,
}

/// One way to satisfy a query. Sets are sorted arrays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The value of each expression, with its text.
    pub expressions: Vec<(String, Json)>,
    /// The value of each variable of the query.
    pub bindings: Object,
}

/// Asks a query of a source: of its modules, tests included, and its data. A source without files is fine.
///
/// # Errors
/// Everything that keeps the source or the query from compiling, or the one error that ended the evaluation: its code is
/// then `evaluation`, `timeout` or `panic`.
pub fn query(source: &Source, query: &Query) -> Result<Answer, Vec<Finding>> {
    deep::run(|| run(source, query)).unwrap_or_else(|error| {
        Err(vec![Finding::file("internal", "", format!("cannot evaluate the query: {error}"))])
    })
}

fn run(source: &Source, query: &Query) -> Result<Answer, Vec<Finding>> {
    let wanted = |file: &&SourceFile| is_rego(&file.path) || is_data(&file.path);
    let mut files: Vec<SourceFile> = source.files.iter().filter(wanted).cloned().collect();
    let checked = SourceFile {
        path: format!("{QUERY_FILE}.rego"),
        bytes: format!("{QUERY_HEAD}{}\n}}\n", query.text).into_bytes(),
    };
    // Read by itself first, so that its errors are told as the query's.
    Library::read(std::slice::from_ref(&checked)).map_err(as_query)?;
    files.retain(|file| file.path != checked.path);
    files.push(checked);
    let library = Library::read(&files)?;
    let findings = as_query(library.check());
    if !findings.is_empty() {
        return Err(findings);
    }
    let all: Vec<usize> = (0..library.modules.len()).collect();
    // The query's own module, read last, is only for the checks.
    let modules = all.split_last().map_or([].as_slice(), |(_, others)| others);
    let mut engine = library.engine_for(modules, &all).map_err(|finding| vec![finding])?;
    engine.set_strict_builtin_errors(query.strict);
    if let Some(input) = &query.input {
        engine.set_input(value::from_json(input));
    }
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit: query.limits.timeout,
        check_interval: std::num::NonZeroU32::MIN,
    });
    let deadline = Instant::now() + query.limits.timeout;
    let evaluated = catch_unwind(AssertUnwindSafe(|| {
        let mut evaluate = || engine.eval_query(query.text.clone(), false);
        builtins::during(&query.moment, deadline, || {
            if query.strict { evaluate() } else { builtins::leniently(evaluate) }
        })
    }));
    match evaluated {
        Ok(Ok(results)) => {
            Ok(Answer { rows: rows(results), prints: engine.take_prints().unwrap_or_default() })
        }
        Ok(Err(error)) => {
            let text = error.to_string();
            let code = if text.contains(builtins::TIME_IS_UP) { "timeout" } else { "evaluation" };
            let located = Located::read(&text);
            let place = located.place.as_ref();
            let module = place.and_then(|place| library.modules.iter().find(|m| *m.path == *place.file));
            let (file, source) = module.map_or((QUERY_FILE, query.text.as_str()), |m| (&*m.path, &*m.text));
            let mut finding = Finding::engine(code, file, source, &text);
            if module.is_none() {
                finding.file = QUERY_FILE.into();
            }
            Err(vec![finding])
        }
        Err(_) => Err(vec![Finding::file("panic", QUERY_FILE, "the policy engine panicked")]),
    }
}

fn rows(results: QueryResults) -> Vec<Row> {
    let row = |result: regorus::QueryResult| {
        let expressions = result.expressions.iter();
        let expressions = expressions.map(|e| (e.text.to_string(), value::to_json(&e.value))).collect();
        let bindings = match value::to_json(&result.bindings) {
            Json::Object(bindings) => bindings,
            _ => Object::new(),
        };
        Row { expressions, bindings }
    };
    // An expression that is undefined satisfies nothing; regorus lists it all the same.
    let defined = |result: &regorus::QueryResult| {
        result.expressions.iter().all(|expression| expression.value != Value::Undefined)
    };
    results.result.into_iter().filter(defined).map(row).collect()
}

/// Findings about the text the query was wrapped in, as about the query itself.
fn as_query(findings: Vec<Finding>) -> Vec<Finding> {
    let head = u32::try_from(QUERY_HEAD.lines().last().map_or(0, str::len)).unwrap_or(0);
    let unwrapped = |mut finding: Finding| {
        if finding.file.strip_suffix(".rego") == Some(QUERY_FILE) {
            finding.file = QUERY_FILE.into();
            if finding.line == 2 {
                finding.column = finding.column.saturating_sub(head);
                finding.excerpt = finding
                    .excerpt
                    .and_then(|line| line.get(QUERY_HEAD.lines().last()?.len()..).map(str::to_owned));
            }
            finding.line = finding.line.saturating_sub(1);
        }
        finding
    };
    findings.into_iter().map(unwrapped).collect()
}
