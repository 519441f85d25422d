//! The parsed files of a set: which packages are policies, and what each needs.

use std::collections::{BTreeMap, BTreeSet};

use regorus::Engine;

use super::bundle::{SourceFile, is_rego};
use super::data::Data;
use super::finding::{Finding, Located, line_of};
use super::graph::Graph;
use super::log::is_about_log;
use super::manifest::sha256;
use super::module::{Module, lengths, written};
use super::outputs::rewritten;
use super::set::{Entry, Policy, RuleInfo};
use super::stand_ins;
use super::targets::Targets;
use super::{builtins, variables};
use crate::decision::Effect;

/// The parsed files of a set, with the graph of what they define.
pub(super) struct Library {
    pub modules: Vec<Module>,
    pub graph: Graph,
    pub data: Data,
    paths: Vec<BTreeSet<Vec<String>>>,
    builtins: Vec<BTreeSet<String>>,
}

/// A policy before its engine is prepared.
pub(super) struct Draft {
    modules: Vec<usize>,
    id: String,
    targets: Targets,
    entries: Vec<Entry>,
    rules: Vec<RuleInfo>,
}

impl Library {
    /// Parses every `.rego` and data file among `files`. Must run on a deep stack.
    pub fn read(files: &[SourceFile]) -> Result<Self, Vec<Finding>> {
        let (modules, data) = Self::parse(files, Module::parse)?;
        Ok(Self::of(modules, data))
    }

    /// As [`Self::read`], for tests: Rego of before OPA 1.0 is read too, and `with` can replace every built-in.
    pub fn read_tests(files: &[SourceFile]) -> Result<Self, Vec<Finding>> {
        let (modules, data) = Self::parse(files, Module::parse_any)?;
        Ok(Self::of(stand_ins::put(modules), data))
    }

    fn parse(
        files: &[SourceFile],
        parse: impl Fn(&str, &[u8]) -> Result<Module, Vec<Finding>>,
    ) -> Result<(Vec<Module>, Data), Vec<Finding>> {
        let mut findings = Vec::new();
        let mut modules = Vec::new();
        for file in files.iter().filter(|file| is_rego(&file.path)) {
            match parse(&file.path, &file.bytes) {
                Ok(module) => modules.push(module),
                Err(found) => findings.extend(found),
            }
        }
        let (data, found) = Data::read(files);
        findings.extend(found);
        if findings.is_empty() { Ok((modules, data)) } else { Err(findings) }
    }

    fn of(mut modules: Vec<Module>, data: Data) -> Self {
        let graph = Graph::new(&modules);
        for (index, module) in modules.iter_mut().enumerate() {
            let calls = graph.outputs(index);
            if !calls.is_empty() {
                module.evaluated = rewritten(&module.text, calls).into();
            }
        }
        let paths = (0..modules.len()).map(|module| graph.data_paths(module)).collect();
        let builtins = (0..modules.len()).map(|module| graph.builtins(module)).collect();
        Self { modules, graph, data, paths, builtins }
    }

    /// Everything that is wrong without looking at what the engine says. Must run on a deep stack.
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = self.check_stored();
        findings.extend(variables::check(&self.graph, &self.modules));
        findings
    }

    /// Only what could hurt the host, or mean one thing to one reader and another to the next: a set that was in force
    /// must be explained as it was, mistakes included.
    pub fn check_stored(&self) -> Vec<Finding> {
        let mut findings = self.graph.check();
        findings.extend(self.check_data());
        findings
    }

    /// Rules that stand where data does.
    fn check_data(&self) -> Vec<Finding> {
        let conflicting = self.graph.rules().filter(|(path, _)| self.data.conflicts_with(path));
        let finding = |(path, span): (&[String], _)| {
            let message = format!("rule `data.{}` conflicts with a value in a data file", written(path));
            Finding::at("data_conflict", span, message)
        };
        conflicting.map(finding).collect()
    }

    /// The modules a package needs: its own, and those its references lead to, transitively.
    pub fn closure(&self, package: &[String]) -> Vec<usize> {
        let mut found: BTreeSet<usize> = BTreeSet::new();
        let mut pending: Vec<usize> = self.of_package(package).collect();
        while let Some(module) = pending.pop() {
            if !found.insert(module) {
                continue;
            }
            for path in self.paths.get(module).into_iter().flatten() {
                for (other, candidate) in self.modules.iter().enumerate() {
                    let package = candidate.package.as_slice();
                    // A package above the path may define what it names; those below are part of it.
                    if !found.contains(&other) && (path.starts_with(package) || package.starts_with(path)) {
                        pending.extend(self.of_package(package));
                    }
                }
            }
        }
        found.into_iter().collect()
    }

    /// Whether one of these modules may refer to any data at all.
    pub fn reads_everything(&self, modules: &[usize]) -> bool {
        modules.iter().filter_map(|module| self.paths.get(*module)).flatten().any(Vec::is_empty)
    }

    fn of_package(&self, package: &[String]) -> impl Iterator<Item = usize> {
        let own = self.modules.iter().enumerate().filter(move |(_, module)| module.package == package);
        own.map(|(index, _)| index)
    }

    /// An engine with some modules and all data, ready to be cloned and asked.
    pub fn engine(&self, modules: &[usize]) -> Result<Engine, Finding> {
        self.engine_for(modules, modules)
    }

    /// As [`Self::engine`], with the functions that `callers` call.
    pub fn engine_for(&self, modules: &[usize], callers: &[usize]) -> Result<Engine, Finding> {
        let mut engine = Engine::new();
        engine.set_policy_length_config(lengths());
        let failed = |error: &anyhow::Error| {
            let text = error.to_string();
            let located = Located::read(&text);
            let module = located.place.and_then(|place| self.modules.iter().find(|m| *m.path == *place.file));
            let (file, source) = module.map_or(("", ""), |module| (&*module.path, &*module.text));
            self.clearer(Finding::engine("compile", file, source, &text))
        };
        let chosen = || modules.iter().filter_map(|module| self.modules.get(*module));
        let wanted = |name: &str| {
            callers.iter().filter_map(|module| self.builtins.get(*module)).any(|names| names.contains(name))
        };
        builtins::extend(&mut engine, wanted).map_err(|error| failed(&error))?;
        for module in chosen() {
            engine.set_rego_v0(module.v0);
            engine
                .add_policy(module.path.to_string(), module.evaluated.to_string())
                .map_err(|error| failed(&error))?;
        }
        // Queries are asked in today's Rego, whatever the last file was.
        engine.set_rego_v0(false);
        engine.add_data(self.data.document.clone()).map_err(|error| failed(&error))?;
        // Otherwise `print` writes to standard error, past every redaction.
        engine.set_gather_prints(true);
        // Any query prepares the engine; this one evaluates no rule.
        engine.eval_query("true".to_owned(), false).map_err(|error| failed(&error))?;
        Ok(engine)
    }

    /// What regorus says of a name it does not know, with the name that was probably meant.
    fn clearer(&self, mut finding: Finding) -> Finding {
        let name = finding.message.strip_prefix("use of undefined variable `");
        let name = name.and_then(|rest| rest.strip_suffix("` is unsafe")).map(str::to_owned);
        let module = self.modules.iter().position(|module| *module.path == *finding.file);
        if let (Some(name), Some(module)) = (name, module) {
            let near = self.graph.nearest_name(module, &name);
            let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            finding.message =
                format!("`{name}` is no rule or import, and nothing before it gives it a value{hint}");
        }
        finding
    }

    /// Compiles everything together, for conflicts across packages; where that fails, each package by itself, so that
    /// more than the first error is found.
    pub fn prepare_all(&self) -> Vec<Finding> {
        let all: Vec<usize> = (0..self.modules.len()).collect();
        let Err(first) = self.engine(&all) else { return Vec::new() };
        let packages: BTreeSet<&Vec<String>> = self.modules.iter().map(|module| &module.package).collect();
        let each = packages.into_iter().filter_map(|package| self.engine(&self.closure(package)).err());
        std::iter::once(first).chain(each).collect()
    }

    /// The packages that are policies.
    pub fn policies(&self, findings: &mut Vec<Finding>) -> Vec<Draft> {
        let packages: BTreeSet<&Vec<String>> = self.modules.iter().map(|module| &module.package).collect();
        let mut drafts: Vec<Draft> = Vec::new();
        let mut ids: BTreeMap<String, String> = BTreeMap::new();
        for package in packages.into_iter().filter(|package| !is_about_log(package)) {
            let modules: Vec<usize> = self.of_package(package).collect();
            let (entries, rules) = self.entries(package, &modules, findings);
            if entries.is_empty() {
                continue;
            }
            let draft = self.draft(package, modules, entries, rules, findings);
            let name = written(package);
            if let Some(other) = ids.insert(draft.id.clone(), name.clone()) {
                let message = format!(
                    "packages `{other}` and `{name}` have the same id `{}`; give each its own",
                    draft.id
                );
                let modules = draft.modules.iter().filter_map(|at| self.modules.get(*at));
                let mut blocks = modules.filter_map(|module| Some((module, module.package_metadata()?)));
                findings.push(match blocks.find(|(_, block)| block.id().is_some()) {
                    Some((module, block)) => at_line(module, block.line, "duplicate_id", message),
                    None => Finding::file("duplicate_id", "", message),
                });
            }
            drafts.push(draft);
        }
        drafts
    }

    /// The one policy of a set with an entry point: the package whose rule decides everything.
    pub fn entrypoint(&self, path: &str, findings: &mut Vec<Finding>) -> Vec<Draft> {
        let rules = || self.graph.rules().map(|(path, _)| format!("data.{}", written(path)));
        let definitions: Vec<_> = self
            .graph
            .definitions
            .iter()
            .filter(|found| found.arity.is_none() && found.name.len() == 1)
            .filter(|found| {
                let module = self.modules.get(found.module);
                let package = module.map(|module| module.package.clone()).unwrap_or_default();
                let full: Vec<String> = package.into_iter().chain(found.name.iter().cloned()).collect();
                format!("data.{}", written(&full)) == path
            })
            .collect();
        let (Some(first), Some(package)) = (
            definitions.iter().find(|found| !found.is_default).or(definitions.first()),
            definitions.first().and_then(|found| self.modules.get(found.module)).map(|m| m.package.clone()),
        ) else {
            let nearest = rules()
                .max_by(|a, b| strsim::jaro_winkler(a, path).total_cmp(&strsim::jaro_winkler(b, path)));
            let hint = nearest.map_or_else(String::new, |rule| format!("; did you mean `{rule}`?"));
            let message = format!("entry point `{path}` is no rule of this set{hint}");
            findings.push(Finding::file("entrypoint", "", message));
            return Vec::new();
        };
        let modules: Vec<usize> = self.of_package(&package).collect();
        let full = |name: &str| package.iter().cloned().chain([name.to_owned()]).collect::<Vec<_>>();
        let name = first.name.first().map(String::as_str).unwrap_or_default();
        // Where the entry point only says what `allow` came to, it is the rules of `allow` that explain it.
        let explained = if name == "allow" { vec![full(name)] } else { vec![full(name), full("allow")] };
        let entry = Entry {
            effect: Effect::Allow,
            path: path.to_owned(),
            rule: None,
            explained,
            file: first.span.source.get_path().clone(),
            line: first.span.line,
            column: first.span.col,
        };
        vec![self.draft(&package, modules, vec![entry], Vec::new(), findings)]
    }

    /// A policy with what its METADATA says.
    fn draft(
        &self,
        package: &[String],
        modules: Vec<usize>,
        entries: Vec<Entry>,
        rules: Vec<RuleInfo>,
        findings: &mut Vec<Finding>,
    ) -> Draft {
        let blocks = || {
            modules
                .iter()
                .filter_map(|at| self.modules.get(*at))
                .filter_map(|m| Some((m, m.package_metadata()?)))
        };
        let mut targets = Targets::default();
        for (module, block) in blocks() {
            match Targets::read(&block.custom) {
                Ok(read) if block.custom.contains_key("targets") => targets = read,
                Ok(_) => {}
                Err(message) => findings.push(at_line(module, block.line, "metadata", message)),
            }
        }
        let name = written(package);
        for what in ["id", "targets"] {
            let values: Vec<_> =
                blocks().filter_map(|(m, block)| Some((m, block.line, block.custom.get(what)?))).collect();
            if let [(_, _, first), rest @ ..] = values.as_slice()
                && let Some((module, line, _)) = rest.iter().find(|(_, _, value)| value != first)
            {
                let message = format!("package `{name}` has another `custom.{what}` in another file");
                findings.push(at_line(module, *line, "metadata", message));
            }
        }
        let id = blocks().find_map(|(_, block)| block.id()).unwrap_or(&name).to_owned();
        Draft { modules, id, targets, entries, rules }
    }

    /// The effects a package defines.
    fn entries(
        &self,
        package: &[String],
        modules: &[usize],
        findings: &mut Vec<Finding>,
    ) -> (Vec<Entry>, Vec<RuleInfo>) {
        let (mut entries, mut rules) = (Vec::new(), Vec::new());
        for effect in [Effect::Deny, Effect::RequireApproval, Effect::Allow] {
            let mut titles = BTreeSet::new();
            let mut definitions = 0;
            let mut first = None;
            for definition in self.graph.definitions.iter().filter(|found| modules.contains(&found.module)) {
                if definition.name.first().is_none_or(|name| name != effect.as_str()) {
                    continue;
                }
                let word = effect.as_str();
                if definition.arity.is_some() {
                    let message =
                        format!("`{word}` must be a rule, not a function: give the function another name");
                    findings.push(Finding::at("effect_shape", &definition.span, message));
                } else if definition.name.len() > 1 || (definition.partial && !definition.is_set) {
                    let message = format!(
                        "`{word}` must be `true` or a set, and this makes it an object: write `{word} contains {{…}} if …`"
                    );
                    findings.push(Finding::at("effect_shape", &definition.span, message));
                }
                let Some(module) = self.modules.get(definition.module) else { continue };
                let block = module.rule_metadata(definition.span.line);
                if !definition.is_default {
                    definitions += 1;
                    titles.extend(block.and_then(|block| block.title.clone()));
                }
                first.get_or_insert(&definition.span);
                rules.push(RuleInfo {
                    effect,
                    file: module.path.to_string(),
                    line: definition.span.line,
                    title: block.and_then(|block| block.title.clone()),
                    description: block.and_then(|block| block.description.clone()),
                });
            }
            let Some(span) = first else { continue };
            let own = if definitions == 1 { titles.pop_first() } else { None };
            let mut blocks = modules.iter().filter_map(|at| self.modules.get(*at)?.package_metadata());
            let rule = own.or_else(|| blocks.find_map(|block| block.title.clone()));
            let mut path: Vec<String> = vec!["data".to_owned()];
            path.extend(package.iter().cloned());
            path.push(effect.as_str().to_owned());
            let explained = vec![path.iter().skip(1).cloned().collect()];
            let (file, line, column) = (span.source.get_path().clone(), span.line, span.col);
            entries.push(Entry { effect, path: written(&path), rule, explained, file, line, column });
        }
        (entries, rules)
    }

    /// The policy, with the modules of its closure.
    pub fn build(
        &self,
        draft: Draft,
        digests: &BTreeMap<&str, String>,
    ) -> Result<(Policy, Vec<usize>), Finding> {
        let package = draft.modules.first().and_then(|at| self.modules.get(*at)).map(|m| m.package.clone());
        let package = package.unwrap_or_default();
        let closure = self.closure(&package);
        let engine = self.engine(&closure)?;
        let mut files: BTreeSet<&str> =
            closure.iter().filter_map(|at| self.modules.get(*at)).map(|module| &*module.path).collect();
        let paths: BTreeSet<&Vec<String>> =
            closure.iter().filter_map(|at| self.paths.get(*at)).flatten().collect();
        let data = self.data.files.iter().filter(|file| paths.iter().any(|path| file.overlaps(path)));
        files.extend(data.map(|file| file.path.as_str()));
        let joined: Vec<&str> =
            files.iter().filter_map(|file| digests.get(file)).map(String::as_str).collect();
        let metadata = || draft.modules.iter().filter_map(|at| self.modules.get(*at)?.package_metadata());
        let policy = Policy {
            id: draft.id.as_str().into(),
            title: metadata().find_map(|block| block.title.as_deref()).map(Into::into),
            description: metadata().find_map(|block| block.description.clone()),
            version: sha256(joined.join("\n").as_bytes()).into(),
            package: written(&package),
            effects: draft.entries.iter().map(|entry| entry.effect).collect(),
            files: files.into_iter().map(str::to_owned).collect(),
            targets: draft.targets,
            rules: draft.rules,
            engine,
            entries: draft.entries,
            group: None,
        };
        Ok((policy, closure))
    }
}

fn at_line(module: &Module, line: u32, code: &'static str, message: String) -> Finding {
    let mut finding = Finding::file(code, &module.path, message);
    finding.line = line;
    finding.column = 1;
    finding.excerpt = line_of(&module.text, line);
    let shown = finding.excerpt.as_deref().map_or(0, |line| line.trim_end().chars().count());
    finding.length = u32::try_from(shown).unwrap_or(u32::MAX);
    finding
}
