//! Paths below `data` that nothing in the set defines: no package, no rule, no data file.

use std::collections::BTreeSet;

use regorus::Value;

use super::super::data::lookup;
use super::super::finding::Finding;
use super::super::graph::full;
use super::super::module::constant_path;
use super::super::near::nearest;
use super::super::refs::Used;
use super::Set;
use super::inputs::whole;

type Path = Vec<String>;

/// The findings of this family.
pub(super) fn check(set: &Set<'_>) -> Vec<Finding> {
    let known = Known::new(set);
    let graph = &set.library.graph;
    let mut findings = Vec::new();
    for (index, module) in set.modules() {
        let mut undefined: Vec<Path> = Vec::new();
        for import in &module.syntax.imports {
            let Some(path) = constant_path(&import.refr) else { continue };
            if let Some((root, rest)) = path.split_first()
                && root == "data"
                && !known.has(rest)
            {
                undefined.push(rest.to_vec());
                findings.push(known.finding(rest, &whole(&import.refr)));
            }
        }
        for used in graph.definitions.iter().filter(|d| d.module == index).flat_map(|d| &d.uses) {
            let (path, direct) = match &used.what {
                Used::Data(path) => (Some(path.clone()), true),
                Used::Name(path) => (graph.resolve_name(index, path), false),
                _ => continue,
            };
            let Some(path) = path.filter(|path| !known.has(path)) else { continue };
            // What comes of an import is told where the import stands.
            if direct || !undefined.iter().any(|import| path.starts_with(import)) {
                findings.push(known.finding(&path, &used.span));
            }
        }
    }
    findings
}

/// What there is below `data`.
struct Known<'l> {
    /// Packages, rules and functions in force, with everything above them.
    paths: BTreeSet<&'l [String]>,
    /// Rules: what is below one is its value, which is not known.
    rules: BTreeSet<Path>,
    document: &'l Value,
    /// What `with` puts there.
    replaced: Vec<Path>,
}

impl<'l> Known<'l> {
    fn new(set: &Set<'l>) -> Self {
        let mut paths = BTreeSet::new();
        let mut rules = BTreeSet::new();
        for (_, module) in set.modules() {
            paths.extend((1..=module.package.len()).filter_map(|length| module.package.get(..length)));
        }
        // Rules of `data.system` count as defined, although nothing is said of them.
        for definition in set.definitions() {
            let Some(module) = set.library.modules.get(definition.module) else { continue };
            rules.insert(module.package.iter().chain(&definition.name).cloned().collect());
        }
        let below_data = |path: Path| {
            let (root, rest) = path.split_first()?;
            (root == "data").then(|| rest.to_vec())
        };
        let replaced = set.replaced().into_iter().filter_map(below_data).collect();
        Self { paths, rules, document: &set.library.data.document, replaced }
    }

    fn has(&self, path: &[String]) -> bool {
        let Some(first) = path.first() else { return true };
        first == "system"
            || self.paths.contains(path)
            || self.of_rule(path)
            || self.of_document(path)
            || self.replaced.iter().any(|replaced| path.starts_with(replaced) || replaced.starts_with(path))
    }

    /// Whether a rule stands at, above or below a path.
    fn of_rule(&self, path: &[String]) -> bool {
        let above = (1..=path.len()).filter_map(|length| path.get(..length));
        let below = self
            .rules
            .range::<[String], _>((std::ops::Bound::Included(path), std::ops::Bound::Unbounded))
            .next();
        above.into_iter().any(|prefix| self.rules.contains(prefix))
            || below.is_some_and(|rule| rule.starts_with(path))
    }

    fn of_document(&self, path: &[String]) -> bool {
        lookup(self.document, path).is_some()
    }

    fn finding(&self, path: &[String], span: &regorus::unstable::Span) -> Finding {
        let hint = match self.meant(path) {
            Some(meant) => format!("; did you mean `{}`?", full(&meant)),
            None => ", so that whatever reads it is undefined and silently does not fire".to_owned(),
        };
        let message = format!("nothing in this set defines `{}`{hint}", full(path));
        Finding::at("undefined_data", span, message).warning()
    }

    /// What is near: another name in the same place, or the same name in another.
    fn meant(&self, path: &[String]) -> Option<Path> {
        let defined =
            (0..path.len()).rev().find(|length| path.get(..*length).is_some_and(|start| self.has(start)))?;
        let (start, rest) = path.split_at_checked(defined)?;
        let (wrong, below) = rest.split_first()?;
        let here = self.children(start);
        let with = |name: &str, below: &[String]| -> Path {
            start.iter().cloned().chain([name.to_owned()]).chain(below.iter().cloned()).collect()
        };
        if let Some(near) = nearest(wrong, here.iter().map(String::as_str)) {
            let longer = with(near, below);
            return Some(if self.has(&longer) { longer } else { with(near, &[]) });
        }
        let elsewhere = self.paths.iter().map(|path| path.to_vec()).chain(self.rules.iter().cloned());
        elsewhere.filter(|other| other.len() > rest.len() && other.ends_with(rest)).min_by_key(Vec::len)
    }

    /// The names directly below a path.
    fn children(&self, path: &[String]) -> BTreeSet<String> {
        let next = |other: &[String]| other.strip_prefix(path).and_then(|rest| rest.first()).cloned();
        let mut names: BTreeSet<String> = self.paths.iter().filter_map(|other| next(other)).collect();
        names.extend(self.rules.iter().filter_map(|other| next(other)));
        if let Some(Value::Object(fields)) = lookup(self.document, path) {
            names.extend(fields.iter().filter_map(|(key, _)| key.as_string().ok().map(ToString::to_string)));
        }
        names
    }
}
