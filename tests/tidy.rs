//! House rules that a compiler does not check: arrows between modules, who may know which crate, and what may not be left
//! lying about.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Arrows between engines that are meant to be.
const DECLARED: [(&str, &str); 2] = [("ledger", "redact"), ("upstream", "ledger")];

/// Crates that one module alone may know.
const OWNERS: [(&str, &[&str]); 4] = [
    ("regorus", &["policy"]),
    ("rusqlite", &["ledger"]),
    ("hyper_util::client", &["upstream"]),
    ("figment", &["config"]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// The top-level module a file of `src` belongs to.
fn module_of(path: &Path) -> String {
    let relative = path.strip_prefix(root().join("src")).unwrap();
    relative.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// The level table of `src/lib.rs`.
fn levels() -> BTreeMap<String, u32> {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let rows = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "))
        .filter(|row| row.starts_with(|c: char| c.is_ascii_digit()));
    rows.flat_map(|row| {
        let mut cells = row.split('|');
        let level: u32 = cells.next().unwrap().trim().parse().unwrap();
        let names = cells.next().unwrap().split(',').map(|name| name.trim().trim_matches('`').to_owned());
        names.map(move |name| (name, level)).collect::<Vec<_>>()
    })
    .collect()
}

/// A source text without its tests: what stands behind `#[cfg(test)]` at the end of a file may look anywhere.
fn production(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap()
}

#[test]
fn every_module_has_a_level() {
    let levels = levels();
    for path in files(&root().join("src"), ".rs") {
        let module = module_of(&path);
        assert!(
            ["lib", "main"].contains(&module.as_str()) || levels.contains_key(&module),
            "{module} has no level"
        );
    }
}

#[test]
fn imports_point_downward() {
    let levels = levels();
    let mut upward = Vec::new();
    for path in files(&root().join("src"), ".rs") {
        let from = module_of(&path);
        let Some(level) = levels.get(&from) else { continue };
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in
            production(&text).lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for after in line.split("crate::").skip(1) {
                let to: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let Some(target) = levels.get(&to) else { continue };
                let word = *level == 0 && *target == 0;
                let declared = DECLARED.contains(&(from.as_str(), to.as_str()));
                if to != from && target >= level && !word && !declared {
                    upward.push(format!("{}:{}: {from} → {to}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(upward.is_empty(), "upward arrows:\n{}", upward.join("\n"));
}

#[test]
fn heavy_crates_have_one_owner() {
    let mut strangers = Vec::new();
    for path in files(&root().join("src"), ".rs") {
        let module = module_of(&path);
        let text = fs::read_to_string(&path).unwrap();
        for (name, owners) in OWNERS {
            let known = production(&text).lines().any(|line| {
                let line = line.trim_start();
                !line.starts_with("//")
                    && (line.contains(&format!("{name}::")) || line.starts_with(&format!("use {name}")))
            });
            if known && !owners.contains(&module.as_str()) {
                strangers.push(format!("{} knows {name}", path.display()));
            }
        }
    }
    assert!(strangers.is_empty(), "{}", strangers.join("\n"));
}

#[test]
fn nothing_is_left_lying_about() {
    let mut found = Vec::new();
    let mut sources = files(&root().join("src"), ".rs");
    sources.extend(files(&root().join("tests"), ".rs"));
    sources.extend(files(&root().join("examples"), ".rs"));
    sources.extend(files(&root().join("policies"), ".rego"));
    for path in sources {
        if path.ends_with("tests/tidy.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let production_lines = if path.ends_with("tests.rs") || path.iter().any(|part| part == "tests") {
            0
        } else {
            production(&text).lines().count()
        };
        for (number, line) in text.lines().enumerate() {
            let in_tests = number >= production_lines;
            let parked = ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!(", "dbg!("]
                .iter()
                .find(|word| line.contains(**word));
            let long = line.chars().count() > 130
                && !line.contains("https://")
                && !line.trim_start().starts_with(['"', 'r']);
            if let Some(word) = parked {
                found.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
            if long && path.starts_with(root().join("src")) && !in_tests {
                found.push(format!(
                    "{}:{}: a line of {} characters",
                    path.display(),
                    number + 1,
                    line.chars().count()
                ));
            }
            if line.ends_with(' ') || line.ends_with('\t') {
                found.push(format!("{}:{}: white space at its end", path.display(), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn schema_steps_that_landed_are_never_edited() {
    // SHA-256 of each step as it landed. The next change is the next file.
    let landed = [
        ("1.sql", SCHEMA_1),
        ("2.sql", SCHEMA_2),
        ("3.sql", SCHEMA_3),
        ("4.sql", SCHEMA_4),
        ("5.sql", SCHEMA_5),
    ];
    for (name, digest) in landed {
        let bytes = fs::read(root().join("src/ledger/schema").join(name)).unwrap();
        assert_eq!(docket::digest::sha256(&bytes), digest, "{name} has landed; write the next step instead");
    }
}

const SCHEMA_1: &str = "sha256:46d2d03296b645c85fe3313ea0fa7e0245a8d657db7d9f54e95b7aee41c58fee";
const SCHEMA_2: &str = "sha256:f15b25387bd12e2de81aae2739093395c24d04696406f53f6268ba4999c5d937";

const SCHEMA_5: &str = "sha256:e20582aaeb0297faaff0490ef47efc2678430fdc04b84dfc4a3f002e68988d10";
const SCHEMA_4: &str = "sha256:7755882a0892ef65ba6a762d248b02c079ac14faf4ed20db2794cca9d69c10c1";
const SCHEMA_3: &str = "sha256:9cf1194a057f32073363b1dfafeb9e1e8e30ef9e907d25b70d8d7a562253a3b3";

#[test]
fn the_readme_names_only_commands_that_exist() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let help = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_docket"))
            .args(arguments)
            .arg("--help")
            .output()
            .unwrap();
        output.status.success()
    };
    let mut named = 0;
    for line in readme.lines().filter_map(|line| line.trim_start().strip_prefix("docket ")) {
        let command = line.split_whitespace().next().unwrap();
        assert!(help(&[command]), "`docket {command}` is in the README and does not exist");
        named += 1;
    }
    assert!(named > 3);
}

/// The cells of a Markdown table's rows that begin with this column's code.
fn table_rows<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

#[test]
fn the_documented_filters_are_those_there_are() {
    let page = fs::read_to_string(root().join("docs/audit.md")).unwrap();
    let documented: Vec<Vec<String>> = table_rows(&page, "Filters")
        .into_iter()
        .map(|cells| cells.into_iter().map(str::to_owned).collect())
        .collect();
    let coded: Vec<Vec<String>> = docket::ledger::filter::parameters::PARAMETERS
        .iter()
        .map(|known| {
            let others: Vec<String> = known.synonyms.iter().map(|name| format!("`{name}`")).collect();
            let others = if others.is_empty() { "—".to_owned() } else { others.join(", ") };
            vec![format!("`{}`", known.name), known.about.to_owned(), others]
        })
        .collect();
    assert_eq!(documented, coded);
    let columns: Vec<String> = table_rows(&page, "Exports")
        .iter()
        .map(|cells| cells.first().unwrap().trim_matches('`').to_owned())
        .collect();
    let coded = docket::api::export::COLUMNS;
    assert_eq!(columns, coded);
}

/// Every event name that production code writes down, by the shapes in which it does.
fn emitted() -> std::collections::BTreeSet<String> {
    let before = [
        "visit.look(",
        "refused(Kind::Decision, ",
        "const AUTH_FAILED: &str = ",
        "life_entry(&self.gate, Kind::Stop, ",
        "life_entry(gate, Kind::Start, ",
        "life_entry(&gate, Kind::Start, ",
        "entry(&self.gate, ",
        "self.entry(",
        "self.change(",
        "self.remove(id, ",
        "self.remove(&id, ",
        "self.remove(name, ",
        "Entry::event(Kind::Auth, ",
        "entry_of(gate, ",
        "let event = if done.is_ok() { ",
        "} else { ",
        "event_type: ",
        "remove_due(plan, ",
        "Kind::Erase, ",
        "const ADDED: &str = ",
        "const RELEASED: &str = ",
        "const STARTED: &str = ",
        "const REQUESTED: &str = ",
        "const COMPLETED: &str = ",
        "const INTERRUPTED: &str = ",
        "(false, _) => ",
        "(true, false) => ",
        "(true, true) => ",
        "UnknownMethod(_)) => ",
        "self.note(Kind::Decision, ",
    ];
    let mut found = std::collections::BTreeSet::new();
    for path in files(&root().join("src"), ".rs") {
        let text = fs::read_to_string(&path).unwrap();
        let joined = production(&text).split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(");
        for shape in before {
            for after in joined.split(shape).skip(1) {
                let Some(name) = after.strip_prefix('"').and_then(|rest| rest.split('"').next()) else {
                    continue;
                };
                let dotted = name.contains('.')
                    && !name.split('.').any(str::is_empty)
                    && name.chars().all(|c| c.is_ascii_lowercase() || c == '.' || c == '_');
                if dotted && !name.ends_with(".rs") && name != "docket.db" {
                    found.insert(name.to_owned());
                }
            }
        }
    }
    // Decided calls are named by their methods.
    let decided = docket::methods::all().filter(|method| *method != docket::methods::PING);
    found.extend(decided.map(|method| method.replace('/', ".")));
    found
}

#[test]
fn the_catalogue_of_events_is_what_docket_records() {
    let emitted = emitted();
    assert!(emitted.len() > 20, "the scan finds too little: {emitted:?}");
    let known: std::collections::BTreeSet<&str> =
        docket::api::events::EVENTS.iter().map(|event| event.event_type).collect();
    assert_eq!(known.len(), docket::api::events::EVENTS.len(), "an event is listed twice");
    let missing: Vec<_> = emitted.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "not in the catalogue: {missing:?}");
    // What is made from a method, or from what was wrong with a request, is written down nowhere.
    let made = |event: &docket::api::events::Event| event.kind == "decision";
    let dead: Vec<_> = docket::api::events::EVENTS
        .iter()
        .filter(|event| !made(event) && !emitted.contains(event.event_type))
        .map(|event| event.event_type)
        .collect();
    assert!(dead.is_empty(), "in the catalogue, and recorded nowhere: {dead:?}");
    let page = fs::read_to_string(root().join("docs/audit.md")).unwrap();
    let documented: Vec<Vec<String>> = table_rows(&page, "Events")
        .into_iter()
        .map(|cells| cells.into_iter().map(str::to_owned).collect())
        .collect();
    let coded: Vec<Vec<String>> = docket::api::events::EVENTS
        .iter()
        .map(|event| {
            let fields: Vec<String> = event.fields.iter().map(|field| format!("`{field}`")).collect();
            let fields = if fields.is_empty() { "—".to_owned() } else { fields.join(", ") };
            vec![format!("`{}`", event.event_type), event.kind.to_owned(), event.about.to_owned(), fields]
        })
        .collect();
    assert_eq!(documented, coded);
}
