//! The graph of rules and functions: what exists, who uses whom, and what a name means where. What must not be in it is in
//! `checks`.

mod checks;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use regorus::unstable::{BUILTINS, Span};

use super::builtins;
use super::module::{Module, constant_path, written};
use super::near::nearest;
use super::outputs::Edit;
use super::refs::{self, Definition, Used};
use super::stand_ins;

/// Every rule and function of a set of modules.
pub(super) struct Graph {
    pub definitions: Vec<Definition>,
    nodes: Vec<Node>,
    /// Full path without `data`, to the node.
    index: BTreeMap<Vec<String>, usize>,
    /// Import aliases of each module: the full path, `data` or `input` included.
    imports: Vec<BTreeMap<String, Vec<String>>>,
    packages: Vec<Vec<String>>,
}

struct Node {
    path: Vec<String>,
    arity: Option<usize>,
    definitions: Vec<usize>,
    edges: Vec<Edge>,
}

struct Edge {
    to: usize,
    span: Span,
    depth: u32,
    definition: usize,
}

/// What a call means.
enum Callee {
    Node(usize),
    Builtin(u8),
    Print,
    Refused(&'static str),
    Unknown,
}

impl Graph {
    /// Reads the modules.
    pub fn new(modules: &[Module]) -> Self {
        let definitions: Vec<Definition> =
            modules.iter().enumerate().flat_map(|(index, module)| refs::definitions(index, module)).collect();
        let packages: Vec<Vec<String>> = modules.iter().map(|module| module.package.clone()).collect();
        let imports = modules.iter().map(imports_of).collect();
        let mut graph = Self { definitions, nodes: Vec::new(), index: BTreeMap::new(), imports, packages };
        for (number, definition) in graph.definitions.iter().enumerate() {
            let package = graph.packages.get(definition.module).cloned().unwrap_or_default();
            let path: Vec<String> = package.into_iter().chain(definition.name.iter().cloned()).collect();
            let next = graph.nodes.len();
            let at = *graph.index.entry(path.clone()).or_insert(next);
            if at == next {
                let arity = definition.arity;
                graph.nodes.push(Node { path, arity, definitions: vec![number], edges: Vec::new() });
            } else if let Some(node) = graph.nodes.get_mut(at) {
                node.definitions.push(number);
                node.arity = node.arity.or(definition.arity);
            }
        }
        let edges: Vec<Vec<Edge>> = graph
            .nodes
            .iter()
            .map(|node| node.definitions.iter().flat_map(|&number| graph.edges_of(number)).collect())
            .collect();
        for (node, edges) in graph.nodes.iter_mut().zip(edges) {
            node.edges = edges;
        }
        graph.add_replacements();
        graph
    }

    /// How many arguments a function takes, where there is one of that name.
    pub fn arity(&self, module: usize, path: &[String]) -> Option<usize> {
        match self.callee(module, path) {
            Callee::Node(node) => self.nodes.get(node)?.arity,
            Callee::Builtin(arity) => Some(usize::from(arity)),
            Callee::Print | Callee::Refused(_) | Callee::Unknown => None,
        }
    }

    /// The full data paths (without `data`) a module refers to, whether or not something is there.
    pub fn data_paths(&self, module: usize) -> BTreeSet<Vec<String>> {
        let mut paths = BTreeSet::new();
        for definition in self.definitions.iter().filter(|definition| definition.module == module) {
            for used in &definition.uses {
                paths.extend(match &used.what {
                    Used::Data(path) => Some(path.clone()),
                    Used::Name(path) => self.resolve_name(module, path),
                    Used::Call { path, .. } => self.function_path(module, path),
                    Used::Replace { by, .. } => self.function_path(module, by),
                    // Whoever calls the target refers to it.
                    Used::Target(_) | Used::Input(_) => None,
                });
            }
        }
        paths
    }

    /// The names of the built-ins a module calls or puts in another's place.
    pub fn builtins(&self, module: usize) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for definition in self.definitions.iter().filter(|definition| definition.module == module) {
            for used in &definition.uses {
                if let Used::Call { path, .. } | Used::Replace { by: path, .. } | Used::Target(path) =
                    &used.what
                {
                    names.insert(path.join("."));
                }
            }
        }
        names
    }

    /// Where a module names the result of one of docket's own functions as an argument more: the bytes at which those
    /// calls begin.
    pub fn outputs(&self, module: usize) -> Vec<usize> {
        let definitions = self.definitions.iter().filter(|definition| definition.module == module);
        let calls = definitions.flat_map(|definition| &definition.uses).filter(|used| {
            let Used::Call { path, args, statement: true } = &used.what else { return false };
            !BUILTINS.contains_key(path.join(".").as_str())
                && matches!(self.callee(module, path), Callee::Builtin(arity) if *args == usize::from(arity) + 1)
        });
        calls.filter_map(|used| usize::try_from(used.span.start).ok()).collect()
    }

    /// Paths of all rules and functions, with where each is first defined.
    pub fn rules(&self) -> impl Iterator<Item = (&[String], &Span)> {
        self.nodes.iter().filter_map(|node| {
            let definition = self.definitions.get(*node.definitions.first()?)?;
            Some((node.path.as_slice(), &definition.span))
        })
    }

    /// Every rule and function with its definitions, by their place in [`Graph::definitions`], and the modules that refer
    /// to it.
    pub fn referrers(&self) -> Vec<(&[String], &[usize], BTreeSet<usize>)> {
        let mut all: Vec<_> = self
            .nodes
            .iter()
            .map(|node| (node.path.as_slice(), node.definitions.as_slice(), BTreeSet::new()))
            .collect();
        for edge in self.nodes.iter().flat_map(|node| &node.edges) {
            let module = self.definitions.get(edge.definition).map(|definition| definition.module);
            if let Some((_, _, modules)) = all.get_mut(edge.to) {
                modules.extend(module);
            }
        }
        all
    }

    fn edges_of(&self, number: usize) -> Vec<Edge> {
        let Some(definition) = self.definitions.get(number) else { return Vec::new() };
        let module = definition.module;
        let mut edges = Vec::new();
        for used in &definition.uses {
            let targets = match &used.what {
                Used::Data(path) => self.matching(path),
                Used::Name(path) => {
                    self.resolve_name(module, path).map_or(Vec::new(), |path| self.matching(&path))
                }
                Used::Call { path, .. } | Used::Replace { by: path, .. } => {
                    let path = self.function_path(module, path);
                    path.and_then(|path| self.index.get(&path)).copied().into_iter().collect()
                }
                Used::Target(_) | Used::Input(_) => Vec::new(),
            };
            let edge = |to| Edge { to, span: used.span.clone(), depth: used.depth, definition: number };
            edges.extend(targets.into_iter().map(edge));
        }
        edges
    }

    /// `with f as g` means that whoever calls `f` may reach `g`: an edge from `f` to `g`, wherever it is written.
    fn add_replacements(&mut self) {
        let mut found = Vec::new();
        for (number, definition) in self.definitions.iter().enumerate() {
            for used in &definition.uses {
                let Used::Replace { target, by } = &used.what else { continue };
                let path = |path: &[String]| self.function_path(definition.module, path);
                let node = |path: Option<Vec<String>>| path.and_then(|path| self.index.get(&path).copied());
                if let (Some(from), Some(to)) = (node(path(target)), node(path(by))) {
                    let edge = Edge { to, span: used.span.clone(), depth: used.depth, definition: number };
                    found.push((from, edge));
                }
            }
        }
        for (from, edge) in found {
            if let Some(node) = self.nodes.get_mut(from) {
                node.edges.push(edge);
            }
        }
    }

    /// Rules a data path may evaluate: those above it, and those below it. Functions only by their exact path.
    fn matching(&self, path: &[String]) -> Vec<usize> {
        let above = (1..=path.len()).filter_map(|length| self.index.get(path.get(..length)?)).copied();
        let from = (Bound::Excluded(path.to_vec()), Bound::Unbounded);
        let below = self.index.range::<Vec<String>, _>(from).take_while(|(key, _)| key.starts_with(path));
        let is_rule =
            |at: &usize| self.nodes.get(*at).is_some_and(|node| node.arity.is_none() || node.path == path);
        above.chain(below.map(|(_, at)| *at)).filter(is_rule).collect()
    }

    /// A name that is no local: a rule of the package, else an import. Without `data`; `None` for locals and `input`.
    pub fn resolve_name(&self, module: usize, path: &[String]) -> Option<Vec<String>> {
        let (name, rest) = path.split_first()?;
        let mut own = self.packages.get(module)?.clone();
        own.push(name.clone());
        let below = (Bound::Included(own.clone()), Bound::Unbounded);
        if self.index.range::<Vec<String>, _>(below).next().is_some_and(|(key, _)| key.starts_with(&own)) {
            own.extend(rest.iter().cloned());
            return Some(own);
        }
        let (root, target) = self.imports.get(module)?.get(name)?.split_first()?;
        (root == "data").then(|| target.iter().chain(rest).cloned().collect())
    }

    /// The full path (without `data`) of the function a call names, in regorus' order: import, `data.…`, own package.
    pub fn function_path(&self, module: usize, path: &[String]) -> Option<Vec<String>> {
        let (name, rest) = path.split_first()?;
        if name == "data" {
            return Some(rest.to_vec());
        }
        let imported =
            self.imports.get(module)?.get(name).filter(|import| import.first().is_some_and(|r| r == "data"));
        let imported = imported.map(|import| import.iter().skip(1).chain(rest).cloned().collect::<Vec<_>>());
        if let Some(path) = imported.as_ref()
            && self.index.contains_key(path)
        {
            return imported;
        }
        let own: Vec<String> = self.packages.get(module)?.iter().chain(path).cloned().collect();
        if self.index.contains_key(&own) { Some(own) } else { imported }
    }

    /// Where a module reads data by the name of an import: what to write there instead to name it in full.
    pub fn aliases(&self, module: usize) -> Vec<Edit> {
        let definitions = self.definitions.iter().filter(|definition| definition.module == module);
        let imports = self.imports.get(module);
        let named = definitions.flat_map(|definition| &definition.uses).filter_map(|used| {
            let Used::Name(path) = &used.what else { return None };
            let name = path.first()?;
            let import = imports?.get(name).filter(|path| path.first().is_some_and(|r| r == "data"))?;
            let full = self.resolve_name(module, path.get(..1)?)?;
            let start = usize::try_from(used.span.start).ok()?;
            (full == import.get(1..)?).then(|| (start, start + name.len(), written(import).into()))
        });
        named.collect()
    }

    /// Whether a call in a module is one of a policy's functions, and no stand-in for a built-in.
    pub fn is_own_function(&self, module: usize, path: &[String]) -> bool {
        let own = self.function_path(module, path).filter(|path| self.is_function(path));
        own.is_some_and(|path| !stand_ins::is_one(&path))
    }

    /// Whether a path (without `data`) is that of a function.
    pub fn is_function(&self, path: &[String]) -> bool {
        let node = self.index.get(path).and_then(|at| self.nodes.get(*at));
        node.is_some_and(|node| node.arity.is_some())
    }

    /// What a name stands for where an import makes it part of `input`: the full path.
    pub fn input_import(&self, module: usize, name: &str) -> Option<Vec<String>> {
        let path = self.imports.get(module)?.get(name)?;
        path.first().is_some_and(|root| root == "input").then(|| path.clone())
    }

    fn callee(&self, module: usize, path: &[String]) -> Callee {
        if let Some(at) = self.function_path(module, path).and_then(|path| self.index.get(&path).copied()) {
            return Callee::Node(at);
        }
        let name = path.join(".");
        if let Some(why) = builtins::refused(&name) {
            return Callee::Refused(why);
        }
        match BUILTINS.get(name.as_str()) {
            _ if name == "print" => Callee::Print,
            Some((_, arity)) => Callee::Builtin(*arity),
            None => builtins::arity(&name).map_or(Callee::Unknown, Callee::Builtin),
        }
    }

    /// The rule or import that a name in a module was probably meant to be.
    pub fn nearest_name(&self, module: usize, name: &str) -> Option<&str> {
        let package = self.packages.get(module)?;
        let own = self.nodes.iter().filter_map(|node| node.path.strip_prefix(package.as_slice())?.first());
        let imported = self.imports.get(module)?.keys();
        nearest(name, own.chain(imported).map(String::as_str))
    }
}

fn imports_of(module: &Module) -> BTreeMap<String, Vec<String>> {
    let mut aliases = BTreeMap::new();
    for import in &module.syntax.imports {
        let Some(path) = constant_path(&import.refr) else { continue };
        if path.first().is_some_and(|root| root == "data" || root == "input") {
            let alias =
                import.r#as.as_ref().map(|alias| alias.text().to_owned()).or_else(|| path.last().cloned());
            aliases.extend(alias.map(|alias| (alias, path)));
        }
    }
    aliases
}

/// A path below `data`, written with it.
pub(super) fn full(path: &[String]) -> String {
    let path: Vec<String> = std::iter::once("data".to_owned()).chain(path.iter().cloned()).collect();
    written(&path)
}
