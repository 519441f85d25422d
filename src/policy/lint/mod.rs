//! What `docket check` says of a policy set: every error that keeps it from being used, and whatever can be seen to be
//! meant otherwise.
//!
//! Loading a set ([`PolicySet::compile`]) looks for errors only; this looks for the rest, takes its time, and runs only
//! where an author asks. Rego is silent where other languages complain: a path that does not exist is undefined, and a
//! `deny` that reads it does not fire. So each family here is about something that silently does nothing, or too much.
//! A lint reports what is certain from the set alone; where it cannot know, it keeps quiet. What the author means all
//! the same, a `# docket:allow` comment turns off ([`codes`] has the words).

mod allow;
pub mod codes;
mod conditions;
mod data_paths;
mod effects;
mod inputs;
mod masks;
mod methods;
mod names;
mod shape;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::Rule;

use super::bundle::{Source, SourceFile, is_data, is_rego, is_test};
use super::deep;
use super::finding::{Finding, Severity};
use super::library::Library;
use super::module::{Module, Node, constant_path, each_part, head_of};
use super::refs::Definition;
use super::set::{Limits, PolicySet};
use super::targets::Targets;
use crate::decision::Effect;

/// What was found in a set.
pub struct Checked {
    /// In the order of their places; those about the set as a whole come first.
    pub findings: Vec<Finding>,
    /// How many `.rego` and data files were looked at.
    pub files: usize,
    /// The set, where it can be used.
    pub set: Option<PolicySet>,
}

impl Checked {
    /// How many findings are that bad.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// Checks a source, its tests included.
#[must_use]
pub fn check(source: Source, limits: Limits) -> Checked {
    let wanted = |file: &&SourceFile| is_rego(&file.path) || is_data(&file.path);
    let files: Vec<SourceFile> = source.files.iter().filter(wanted).cloned().collect();
    let mut findings = deep::run(|| lint(&files)).unwrap_or_else(|error| {
        vec![Finding::file("internal", "", format!("cannot look for mistakes: {error}"))]
    });
    let set = match PolicySet::compile(source, limits) {
        Ok(set) => {
            findings.extend(set.warnings().iter().cloned());
            Some(set)
        }
        Err(errors) => {
            findings.extend(errors);
            None
        }
    };
    // What cannot be compiled may be why something seems to be of no use.
    if set.is_none() {
        findings.retain(|finding| !["unused_rule", "unused_import"].contains(&finding.code));
    }
    // The comments that turn findings off are read once more, as they are about both kinds.
    let kept = deep::run(|| {
        let modules: Vec<Module> = files
            .iter()
            .filter(|file| is_rego(&file.path))
            .filter_map(|file| Module::parse(&file.path, &file.bytes).ok())
            .collect();
        allow::apply(&modules, findings)
    });
    let mut findings = kept.unwrap_or_else(|error| {
        vec![Finding::file("internal", "", format!("cannot look for mistakes: {error}"))]
    });
    let key = |f: &Finding| (f.file.clone(), f.line, f.column, f.severity, f.code, f.message.clone());
    findings.sort_by_cached_key(key);
    findings.dedup();
    Checked { findings, files: files.len(), set }
}

/// Everything but what loading the set says. Must run on a deep stack.
fn lint(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let library = match Library::read(files) {
        Ok(library) => {
            // Errors outside of tests are found, and reported, when the set is loaded.
            let in_tests = |finding: &Finding| is_test(&finding.file);
            let mut errors = library.check();
            if errors.is_empty() {
                errors = library.prepare_all();
            }
            findings.extend(errors.into_iter().filter(in_tests));
            Some((library, true))
        }
        Err(errors) => {
            let unread = errors.iter().all(|finding| is_test(&finding.file));
            findings.extend(errors);
            let others: Vec<SourceFile> = files.iter().filter(|file| !is_test(&file.path)).cloned().collect();
            // Where a policy cannot be read, what it defines is not known.
            if unread { Library::read(&others).ok().map(|library| (library, false)) } else { None }
        }
    };
    let Some((library, with_tests)) = library else { return findings };
    let set = Set::new(&library);
    findings.extend(inputs::check(&set));
    findings.extend(data_paths::check(&set));
    findings.extend(effects::check(&set));
    findings.extend(conditions::check(&set));
    findings.extend(methods::check(&set));
    findings.extend(masks::check(&set));
    // An import of what does not exist is told as that; that nothing uses it follows.
    let told: BTreeSet<(String, u32)> =
        findings.iter().map(|finding| (finding.file.clone(), finding.line)).collect();
    let unused = names::check(&set, with_tests).into_iter();
    findings
        .extend(unused.filter(|f| f.code != "unused_import" || !told.contains(&(f.file.clone(), f.line))));
    findings
}

/// What the lints look at: the parsed files, and which of their packages are in force.
struct Set<'l> {
    library: &'l Library,
    /// Every package in force with its modules; tests are not, and neither is `data.system`, which has an `input` and
    /// names of its own.
    packages: BTreeMap<&'l [String], Vec<usize>>,
    /// All of those modules.
    in_force: BTreeSet<usize>,
    /// The names each package defines, with their definitions.
    names: BTreeMap<&'l [String], BTreeMap<&'l str, Vec<usize>>>,
}

impl<'l> Set<'l> {
    fn new(library: &'l Library) -> Self {
        let mut packages: BTreeMap<&[String], Vec<usize>> = BTreeMap::new();
        for (index, module) in library.modules.iter().enumerate() {
            if !is_test(&module.path) && module.package.first().is_none_or(|first| first != "system") {
                packages.entry(&module.package).or_default().push(index);
            }
        }
        let mut names: BTreeMap<&[String], BTreeMap<&str, Vec<usize>>> = BTreeMap::new();
        for (number, definition) in library.graph.definitions.iter().enumerate() {
            let Some(module) = library.modules.get(definition.module) else { continue };
            let (Some(name), true) =
                (definition.name.first(), packages.contains_key(module.package.as_slice()))
            else {
                continue;
            };
            if !is_test(&module.path) {
                names.entry(&module.package).or_default().entry(name).or_default().push(number);
            }
        }
        let in_force = packages.values().flatten().copied().collect();
        Self { library, packages, in_force, names }
    }

    /// The modules in force.
    fn modules(&self) -> impl Iterator<Item = (usize, &'l Module)> {
        self.in_force.iter().filter_map(|index| Some((*index, self.library.modules.get(*index)?)))
    }

    /// The rules in force, with their modules.
    fn rules(&self) -> impl Iterator<Item = (usize, &'l Rule)> {
        self.modules()
            .flat_map(|(index, module)| module.syntax.policy.iter().map(move |rule| (index, rule.as_ref())))
    }

    /// The definitions in force.
    fn definitions(&self) -> impl Iterator<Item = &'l Definition> {
        self.library.graph.definitions.iter().filter(|definition| self.in_force.contains(&definition.module))
    }

    /// What `with` puts something else in place of, anywhere in force.
    fn replaced(&self) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        for (_, rule) in self.rules() {
            each_part(rule, |part| {
                if let Node::Query(query) = part {
                    let modifiers = query.stmts.iter().flat_map(|stmt| &stmt.with_mods);
                    paths.extend(modifiers.filter_map(|with| constant_path(&with.refr)));
                }
            });
        }
        paths
    }

    /// The rule a definition was read from: a module's definitions stand in the order of its rules.
    fn syntax_of(&self, number: usize) -> Option<&'l Rule> {
        let definitions = &self.library.graph.definitions;
        let module = definitions.get(number)?.module;
        let first = definitions.partition_point(|definition| definition.module < module);
        let rule = self.library.modules.get(module)?.syntax.policy.get(number.checked_sub(first)?)?;
        Some(rule.as_ref())
    }

    /// The effects a package has: where it has one it is a policy.
    fn is_policy(&self, package: &[String]) -> bool {
        let effects = [Effect::Allow, Effect::Deny, Effect::RequireApproval];
        self.names
            .get(package)
            .is_some_and(|names| effects.iter().any(|effect| names.contains_key(effect.as_str())))
    }

    /// The targets that limit a rule: those of its package, where it is an effect. Others may use its helpers.
    fn targets_of(&self, module: usize, rule: &Rule) -> Option<Targets> {
        let name = constant_path(head_of(rule))?;
        let is_effect =
            [Effect::Allow, Effect::Deny, Effect::RequireApproval].iter().any(|e| name == [e.as_str()]);
        let package = self.library.modules.get(module).filter(|_| is_effect)?.package.as_slice();
        let modules = self.packages.get(package)?.iter().filter_map(|index| self.library.modules.get(*index));
        let block = modules
            .filter_map(Module::package_metadata)
            .find(|block| block.custom.contains_key("targets"))?;
        Targets::read(&block.custom).ok()
    }

    /// Whether a package's METADATA limits what it is about.
    fn has_targets(&self, package: &[String]) -> bool {
        let modules = self.packages.get(package).into_iter().flatten();
        let mut blocks = modules.filter_map(|index| self.library.modules.get(*index)?.package_metadata());
        blocks.any(|block| block.custom.contains_key("targets"))
    }
}
