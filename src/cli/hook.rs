//! `docket hook`: write a redaction hook, and see what one does before docket runs it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::redact::PARTS;
use super::{EXIT_FINDINGS, open};
use crate::config::{DEADLINE_MS, MEMORY_BYTES};
use crate::json::{self, Object};
use crate::ledger::Filter;
use crate::redact::hooks::{
    About, Bounds, Cause, HookSpec, Hooks, Host, Loaded, OnFailure, Run, Wasi, try_out,
};
use crate::redact::{HashKey, Redactor, Settings};
use crate::text::truncated;

/// The name that a hook has while it is checked.
const CHECKED: &str = "check";
/// Values are hashed with this key where there is no ledger, so that runs can be compared.
const HASH_KEY: [u8; 32] = [0; 32];
/// Longest text of an edited value in the table.
const MAX_SHOWN_BYTES: usize = 120;

/// Subcommands of `docket hook`.
#[derive(Debug, Subcommand)]
pub enum Hook {
    /// Load a component as docket would, run it on records, and show its edits and its timing.
    ///
    /// Exits with 0 if it answered every time, 1 if it failed, 2 if it cannot be loaded.
    Check(Box<Check>),
    /// Write a hook to start from: it finds payment cards and e-mail addresses.
    New(New),
}

/// Arguments of `docket hook check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The component.
    component: PathBuf,
    /// What the hook is told of its settings.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    settings: String,
    /// Run it on these records instead of samples: one JSON object a line, with `context`, `diagnostics`, `metadata` and the
    /// other parts of an entry, or without any of them the arguments of a call. `-` reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "ledger")]
    records: Option<PathBuf>,
    /// Run it on the newest decisions of a ledger.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// So many of them.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Calls at least, for the timing; records are shown to it again and again.
    #[arg(long, value_name = "N", default_value_t = 100)]
    calls: usize,
    /// As `redaction.hooks.deadline_ms`.
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(DEADLINE_MS))]
    deadline_ms: u64,
    /// As `redaction.hooks.max_memory_bytes`.
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20, value_parser = clap::value_parser!(u64).range(MEMORY_BYTES))]
    max_memory_bytes: u64,
    /// As `redaction.hooks.wasi`.
    #[arg(long, value_enum, default_value_t = WasiFlag::Deny)]
    wasi: WasiFlag,
    /// Print one JSON object: component, timing, and each record with its edits.
    #[arg(long)]
    json: bool,
}

/// `--wasi`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WasiFlag {
    /// A component that imports WASI does not load.
    Deny,
    /// It loads, and calling WASI ends the call.
    Trap,
}

/// Arguments of `docket hook new`.
#[derive(Debug, Args)]
pub struct New {
    /// The language.
    #[arg(long, value_enum)]
    lang: Language,
    /// The folder; made if absent, and nothing in it is overwritten.
    folder: PathBuf,
}

/// Languages with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    /// Rust.
    Rust,
    /// C.
    C,
    /// JavaScript, in `QuickJS`.
    #[value(alias = "javascript")]
    Js,
    /// Python, in `CPython`.
    Python,
}

impl Hook {
    /// Runs the command.
    ///
    /// # Errors
    /// The component cannot be loaded, there is nothing to run it on, or the folder cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Check(check) => check.run(),
            Self::New(new) => new.run(),
        }
    }
}

/// What came of one record.
struct Checked {
    record: Object,
    edits: Value,
}

impl Check {
    fn run(self) -> anyhow::Result<ExitCode> {
        let settings: Object = serde_json::from_str(&self.settings)
            .with_context(|| format!("`--settings`: `{}` is not a JSON object", self.settings))?;
        let records = self.records()?;
        if records.is_empty() {
            bail!("there is no record to run the hook on");
        }
        let spec = HookSpec {
            name: CHECKED.to_owned(),
            component: self.component.clone(),
            settings: Value::Object(settings).to_string(),
            on_failure: OnFailure::Withhold,
            bounds: Bounds {
                deadline: Duration::from_millis(self.deadline_ms),
                max_memory_bytes: usize::try_from(self.max_memory_bytes).unwrap_or(usize::MAX),
            },
            log: true,
            wasi: if self.wasi == WasiFlag::Trap { Wasi::Trap } else { Wasi::Deny },
            unhealthy_after: u32::MAX,
        };
        let loaded = Host::default().load(&spec, None)?;
        let about = about_component(&loaded);
        if let Err(error) = try_out(&spec, &loaded) {
            eprintln!("docket: {error}");
        }
        let runs = Arc::new(Mutex::new(Vec::<(f64, Option<Cause>)>::new()));
        let seen = runs.clone();
        let note = move |run: Run<'_>| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push((run.seconds, run.cause));
        };
        let redactor = Redactor::new(&Settings::default(), HashKey::new(&HASH_KEY))
            .with_hooks(Hooks::new(vec![(spec, loaded)], Box::new(note)));
        let checked: Vec<Checked> = records.iter().map(|record| run_on(&redactor, record)).collect();
        let rest = self.calls.saturating_sub(records.len());
        for record in records.iter().cycle().take(rest) {
            run_on(&redactor, record);
        }
        let runs = std::mem::take(&mut *runs.lock().unwrap_or_else(PoisonError::into_inner));
        let failures: Vec<&'static str> =
            runs.iter().filter_map(|(_, cause)| Some((*cause)?.as_str())).collect();
        let timing = timing(&runs);
        if self.json {
            let checked: Vec<Value> = checked
                .into_iter()
                .map(|checked| json!({"record": checked.record, "edits": checked.edits}))
                .collect();
            let report = json!({
                "component": about, "timing": timing, "failures": failures.len(), "causes": counted(&failures), "records": checked,
            });
            writeln!(std::io::stdout().lock(), "{}", serde_json::to_string_pretty(&report)?)?;
        } else {
            self.show(&about, &timing, &failures, &checked)?;
        }
        Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FINDINGS) })
    }

    fn records(&self) -> anyhow::Result<Vec<Object>> {
        if let Some(file) = &self.ledger {
            return recorded(file, self.limit);
        }
        let Some(file) = &self.records else { return samples() };
        let text = if file == Path::new("-") {
            std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
        } else {
            std::fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?
        };
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines
            .map(|(at, line)| match json::parse(line.as_bytes()) {
                Ok(Value::Object(record)) => Ok(record),
                Ok(_) => Err(anyhow!("`{}`, line {}: a record is a JSON object", file.display(), at + 1)),
                Err(error) => Err(anyhow!("`{}`, line {}: {error}", file.display(), at + 1)),
            })
            .collect()
    }

    fn show(
        &self,
        about: &Value,
        timing: &Value,
        failures: &[&'static str],
        checked: &[Checked],
    ) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        let field = |name: &str| super::render::field(about, name);
        writeln!(out, "component  {}", self.component.display())?;
        writeln!(out, "sha256     {}", field("sha256"))?;
        writeln!(out, "size       {} bytes, compiled in {} ms", field("bytes"), field("compile_ms"))?;
        let imports = about.get("imports").and_then(Value::as_array).into_iter().flatten();
        let imports: Vec<&str> = imports.filter_map(Value::as_str).collect();
        let imports = if imports.is_empty() { "nothing".to_owned() } else { imports.join(", ") };
        writeln!(out, "imports    {imports}")?;
        let took = |name: &str| super::render::field(timing, name);
        writeln!(
            out,
            "timing     {} calls: p50 {} µs, p99 {} µs, the longest {} µs (of {} ms)",
            took("calls"),
            took("p50_us"),
            took("p99_us"),
            took("max_us"),
            self.deadline_ms
        )?;
        for (at, checked) in checked.iter().enumerate() {
            let edits = checked.edits.as_array().map_or(&[][..], Vec::as_slice);
            if !edits.is_empty() {
                writeln!(out, "\nrecord {}", at + 1)?;
            }
            for edit in edits {
                let path = super::render::field(edit, "path");
                let left = Value::Object(checked.record.clone());
                let left = left.pointer(&path).map_or_else(|| "is gone".to_owned(), ToString::to_string);
                writeln!(
                    out,
                    "  {:8} {:14} {:20} {path}  {}",
                    super::render::field(edit, "op"),
                    super::render::field(edit, "category"),
                    super::render::field(edit, "by"),
                    truncated(&left, MAX_SHOWN_BYTES)
                )?;
            }
        }
        let untouched =
            checked.iter().filter(|checked| checked.edits.as_array().is_none_or(Vec::is_empty)).count();
        if untouched > 0 {
            writeln!(out, "\n{untouched} of {} records without an edit", checked.len())?;
        }
        if !failures.is_empty() {
            writeln!(out, "\nfailed {} times: {}", failures.len(), counted(failures))?;
        }
        Ok(())
    }
}

/// Runs the redactor over a record.
fn run_on(redactor: &Redactor, record: &Object) -> Checked {
    let known = PARTS.iter().any(|root| record.contains_key(*root));
    let roots = if known {
        PARTS.iter().filter_map(|root| Some((*root, record.get(*root)?.clone()))).collect()
    } else {
        vec![("context", json!({"arguments": record}))]
    };
    let redacted = redactor.record_about(&About::default(), roots).into_inner();
    let record = redacted.roots.into_iter().map(|(root, value)| (root.to_owned(), value)).collect();
    Checked { record, edits: json!(redacted.edits) }
}

/// The newest decisions of a ledger, as records.
fn recorded(file: &Path, limit: u32) -> anyhow::Result<Vec<Object>> {
    let filter = Filter { limit: Some(limit), ..Filter::default().decisions() };
    let entries = open(file)?.entries(&filter)?;
    let mut records = Vec::with_capacity(entries.len());
    for entry in entries {
        let Value::Object(mut entry) = serde_json::to_value(entry)? else { continue };
        let mut record: Object =
            PARTS.iter().filter_map(|root| Some(((*root).to_owned(), entry.remove(*root)?))).collect();
        // An entry is shown with its context among its metadata.
        if let Some(Value::Object(metadata)) = record.get_mut("metadata")
            && let Some(context) = metadata.remove("context")
        {
            record.insert("context".to_owned(), context);
        }
        records.push(record);
    }
    Ok(records)
}

/// Records with what hooks are mostly written for.
fn samples() -> anyhow::Result<Vec<Object>> {
    let samples = json!([
        {
            "subject": {"type": "identity", "id": "billing-bot", "properties": {"team": "finance"}},
            "action": {"name": "tools/call"},
            "resource": {"type": "tool", "id": "send_mail", "properties": {"server": "mail"}},
            "context": {"arguments": {
                "to": ["Ada Lovelace <ada@example.com>", "ops@example.org"],
                "subject": "Refund",
                "body": "The card 4111 1111 1111 1111 was charged twice; call +44 20 7946 0958.",
            }},
            "diagnostics": [{"policy_id": "mail", "effect": "deny", "rule": "external", "message": "ada@example.com is not one of ours"}],
        },
        {
            "resource": {"type": "tool", "id": "create_payment", "properties": {"server": "shop"}},
            "context": {"arguments": {
                "card": {"number": 4_111_111_111_111_111_u64, "expires": "12/29"},
                "iban": "DE89 3704 0044 0532 0130 00",
                "payload": "{\"email\":\"grace@example.com\",\"order\":4711}",
            }},
        },
        {
            "resource": {"type": "tool", "id": "read_file", "properties": {"server": "files"}},
            "context": {"arguments": {"path": "/srv/reports/2026-11.csv", "lines": 200, "follow": false, "tags": []}},
        },
    ]);
    Ok(serde_json::from_value(samples)?)
}

fn about_component(loaded: &Loaded) -> Value {
    json!({
        "sha256": loaded.sha256,
        "bytes": loaded.bytes,
        "imports": loaded.imports,
        "compile_ms": u64::try_from(loaded.took.as_millis()).unwrap_or(u64::MAX),
    })
}

fn timing(runs: &[(f64, Option<Cause>)]) -> Value {
    let micros =
        |seconds: f64| u64::try_from(Duration::from_secs_f64(seconds).as_micros()).unwrap_or(u64::MAX);
    let mut micros: Vec<u64> = runs.iter().map(|(seconds, _)| micros(*seconds)).collect();
    micros.sort_unstable();
    let at = |percent: usize| {
        let last = micros.len().saturating_sub(1);
        micros.get(last * percent / 100).copied()
    };
    json!({"calls": runs.len(), "p50_us": at(50), "p99_us": at(99), "max_us": at(100)})
}

/// `deadline × 3, trap × 1`
fn counted(causes: &[&'static str]) -> String {
    let mut all = std::collections::BTreeMap::<&str, usize>::new();
    for cause in causes {
        *all.entry(cause).or_default() += 1;
    }
    all.iter().map(|(cause, count)| format!("{cause} × {count}")).collect::<Vec<_>>().join(", ")
}

/// The interface, which every template brings.
const WIT: (&str, &str) = ("wit/redactor.wit", include_str!("../../wit/redactor.wit"));

macro_rules! file {
    ($path:literal, $example:literal) => {
        ($path, include_str!(concat!("../../examples/redactors/", $example)))
    };
}

impl Language {
    /// The files of the template: those of the example in that language.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // By links, since a published crate holds no other package.
            Self::Rust => &[
                file!("Cargo.toml", "template/rust-manifest.toml"),
                file!("Cargo.lock", "template/rust-lock.toml"),
                file!(".cargo/config.toml", "template/rust-config.toml"),
                file!("src/lib.rs", "template/rust-lib.rs"),
            ],
            Self::C => &[
                file!("hook.c", "c/hook.c"),
                file!("redactor.c", "c/redactor.c"),
                file!("redactor.h", "c/redactor.h"),
            ],
            Self::Js => &[
                file!("hook.js", "javascript/hook.js"),
                file!("package.json", "javascript/package.json"),
                file!("package-lock.json", "javascript/package-lock.json"),
            ],
            Self::Python => {
                &[file!("app.py", "python/app.py"), file!("requirements.txt", "python/requirements.txt")]
            }
        }
    }

    /// What makes a component of it, on an ordinary machine.
    fn commands(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["rustup target add wasm32-unknown-unknown", "cargo build --release"],
            Self::C => &[
                "pip install ziglang==0.17.0",
                "python -m ziglang cc -target wasm32-wasi -mexec-model=reactor -Os -Wl,--strip-all hook.c redactor.c -o core.wasm",
                "wasm-tools component embed wit core.wasm | wasm-tools component new -o redactor.wasm",
            ],
            Self::Js => &["npm install", "npm run build"],
            Self::Python => &[
                "pip install -r requirements.txt",
                "componentize-py -d wit -w redactor componentize --stub-wasi app -o redactor.wasm",
            ],
        }
    }

    fn component(self) -> &'static str {
        match self {
            Self::Rust => "target/wasm32-unknown-unknown/release/redactor.wasm",
            _ => "redactor.wasm",
        }
    }
}

impl New {
    fn run(self) -> anyhow::Result<ExitCode> {
        let files = || self.lang.files().iter().chain([&WIT]);
        // Looked at before anything is written, so that a folder is not left half filled.
        if let Some((path, _)) = files().find(|(path, _)| self.folder.join(path).exists()) {
            bail!("`{}` is there already; name an empty folder", self.folder.join(path).display());
        }
        for (path, text) in files() {
            let path = self.folder.join(path);
            let write = || {
                path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
                // Not through a link that leads elsewhere.
                std::fs::File::create_new(&path)?.write_all(text.as_bytes())
            };
            write().with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "a hook is in `{}`; build and try it there:\n", self.folder.display())?;
        for command in self.lang.commands() {
            writeln!(out, "  {command}")?;
        }
        writeln!(out, "  docket hook check {}\n", self.lang.component())?;
        writeln!(out, "and put it in force in docket.toml:\n")?;
        writeln!(out, "  [[redaction.hooks]]\n  name = \"cards\"")?;
        writeln!(out, "  component = \"{}\"", self.folder.join(self.lang.component()).display())?;
        writeln!(out, "  settings = {{ cards = \"keep-last-4\" }}")?;
        Ok(ExitCode::SUCCESS)
    }
}
