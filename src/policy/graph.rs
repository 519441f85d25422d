//! The graph of rules and functions: what exists, who uses whom, and what must not be.
//!
//! Recursion among functions overflows the stack and ends the process, recursion among rules fails only when the call
//! that meets it comes; both are refused here, as are chains and bodies too deep for a thread's stack, unknown functions
//! and wrong numbers of arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;

use regorus::unstable::{BUILTINS, Span};

use super::builtins;
use super::finding::{Finding, Place};
use super::module::{Module, constant_path, written};
use super::near::nearest;
use super::outputs::Edit;
use super::refs::{self, Definition, Used};
use super::stand_ins;

/// Calls and references in a row.
const MAX_CHAIN: u32 = 100;
/// Nested expressions and loops along the deepest chain. One unit costs up to 1.3 KiB of stack, measured with
/// `the_deepest_chain_fits_a_worker_thread`: half of a worker thread's 2 MiB is never reached.
pub(super) const MAX_STACK_UNITS: u32 = 400;
/// Definitions tried on the way out of a timeout: regorus goes on with a function's next definition after an error.
const MAX_ALTERNATIVES: u64 = 1_000_000;

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

    /// Everything that is wrong.
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = self.check_calls();
        let cycles = self.check_recursion();
        let acyclic = cycles.is_empty();
        findings.extend(cycles);
        if acyclic {
            findings.extend(self.check_depth());
        }
        findings.extend(self.check_conflicts());
        findings.extend(self.check_kinds());
        findings
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
            self.nodes.extend_edge(from, edge);
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

    fn check_calls(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for definition in &self.definitions {
            for used in &definition.uses {
                let (Used::Call { path, .. } | Used::Replace { by: path, .. }) = &used.what else { continue };
                let name = written(path);
                let callee = self.callee(definition.module, path);
                if let Callee::Refused(why) = callee {
                    findings.push(Finding::at(
                        "refused_function",
                        &used.span,
                        format!("`{name}` is refused: {why}"),
                    ));
                }
                let Used::Call { args, statement, .. } = &used.what else { continue };
                let arity = match callee {
                    Callee::Node(at) => {
                        let Some(arity) = self.nodes.get(at).and_then(|node| node.arity) else {
                            let message =
                                format!("`{name}` is a rule, not a function; refer to it without `(…)`");
                            findings.push(Finding::at("unknown_function", &used.span, message));
                            continue;
                        };
                        arity
                    }
                    Callee::Builtin(arity) => usize::from(arity),
                    Callee::Print | Callee::Refused(_) => continue,
                    Callee::Unknown => {
                        let message = match self.nearest(definition.module, &path.join(".")) {
                            Some(near) => format!("there is no function `{name}`; did you mean `{near}`?"),
                            None => format!("there is no function `{name}`"),
                        };
                        findings.push(Finding::at("unknown_function", &used.span, message));
                        continue;
                    }
                };
                if *args != arity && !(*statement && *args == arity + 1) {
                    let message = format!("`{name}` takes {}, not {args}", count(arity, "argument"));
                    findings.push(Finding::at("wrong_arity", &used.span, message));
                }
            }
        }
        findings
    }

    /// The rule or import that a name in a module was probably meant to be.
    pub fn nearest_name(&self, module: usize, name: &str) -> Option<&str> {
        let package = self.packages.get(module)?;
        let own = self.nodes.iter().filter_map(|node| node.path.strip_prefix(package.as_slice())?.first());
        let imported = self.imports.get(module)?.keys();
        nearest(name, own.chain(imported).map(String::as_str))
    }

    /// The known function whose name is nearest to one that is not known.
    fn nearest(&self, module: usize, name: &str) -> Option<String> {
        let package = self.packages.get(module)?;
        let own = self.nodes.iter().filter(|node| node.arity.is_some()).map(|node| {
            match node.path.strip_prefix(package.as_slice()) {
                Some(rest) => written(rest),
                None => format!("data.{}", written(&node.path)),
            }
        });
        let known = BUILTINS
            .keys()
            .map(|name| (*name).to_owned())
            .chain(builtins::NAMES.map(str::to_owned))
            .chain(own);
        let known: Vec<String> = known.filter(|known| builtins::refused(known).is_none()).collect();
        nearest(name, known.iter().map(String::as_str)).map(str::to_owned)
    }

    /// Depth first; an edge back onto the path is a cycle. Each cycle is reported once, at its first edge.
    fn check_recursion(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut done = vec![false; self.nodes.len()];
        for start in 0..self.nodes.len() {
            // The path from the start: node, next edge to follow.
            let mut path: Vec<(usize, usize)> = Vec::new();
            let mut on_path = BTreeSet::new();
            if !done.get(start).copied().unwrap_or(true) {
                path.push((start, 0));
                on_path.insert(start);
            }
            while let Some((at, next)) = path.last_mut() {
                let (at, edge) = (*at, self.nodes.get(*at).and_then(|node| node.edges.get(*next)));
                *next += 1;
                match edge {
                    Some(edge) if on_path.contains(&edge.to) => {
                        let cycle: Vec<(usize, usize)> =
                            path.iter().copied().skip_while(|(node, _)| *node != edge.to).collect();
                        findings.push(self.cycle(&cycle));
                    }
                    Some(edge) if !done.get(edge.to).copied().unwrap_or(true) => {
                        on_path.insert(edge.to);
                        path.push((edge.to, 0));
                    }
                    Some(_) => {}
                    None => {
                        if let Some(done) = done.get_mut(at) {
                            *done = true;
                        }
                        on_path.remove(&at);
                        path.pop();
                    }
                }
            }
        }
        findings
    }

    /// The path holds each node with the number of the edge *after* the one it left by.
    fn cycle(&self, cycle: &[(usize, usize)]) -> Finding {
        let mut steps = Vec::new();
        let mut first = None;
        for (node, next) in cycle {
            let Some(node) = self.nodes.get(*node) else { continue };
            let Some(edge) = next.checked_sub(1).and_then(|edge| node.edges.get(edge)) else { continue };
            first.get_or_insert(&edge.span);
            steps.push(format!("`{}` ({})", full(&node.path), Place::of(&edge.span)));
        }
        let start = cycle.first().and_then(|(node, _)| self.nodes.get(*node));
        steps.extend(start.map(|node| format!("`{}`", full(&node.path))));
        let message = format!("rules and functions must not recurse: {}", steps.join(" uses "));
        match first {
            Some(span) => Finding::at("recursion", span, message),
            None => Finding::file("recursion", "", message),
        }
    }

    /// Longest chains, in nodes, in stack units and in alternatives; only where there is no cycle.
    fn check_depth(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut costs: Vec<Option<Cost>> = vec![None; self.nodes.len()];
        for start in 0..self.nodes.len() {
            let mut pending = vec![start];
            while let Some(&at) = pending.last() {
                let Some(node) = self.nodes.get(at).filter(|_| costs.get(at).is_some_and(Option::is_none))
                else {
                    pending.pop();
                    continue;
                };
                let unknown: Vec<usize> = node
                    .edges
                    .iter()
                    .map(|edge| edge.to)
                    .filter(|to| costs.get(*to).is_some_and(Option::is_none))
                    .collect();
                if !unknown.is_empty() {
                    pending.extend(unknown);
                    continue;
                }
                let cost = self.cost(node, &costs);
                if let Some(slot) = costs.get_mut(at) {
                    *slot = Some(cost);
                }
                pending.pop();
                if findings.is_empty()
                    && let Some(message) = cost.excess(&full(&node.path))
                    && let Some(definition) = node.definitions.first().and_then(|d| self.definitions.get(*d))
                {
                    findings.push(Finding::at("too_deep", &definition.span, message));
                }
            }
        }
        findings
    }

    fn cost(&self, node: &Node, costs: &[Option<Cost>]) -> Cost {
        let mut cost = Cost { chain: 1, units: 0, alternatives: 0 };
        for edge in &node.edges {
            let Some(below) = costs.get(edge.to).copied().flatten() else { continue };
            cost.chain = cost.chain.max(below.chain + 1);
            cost.units = cost.units.max(edge.depth.saturating_add(CALL_UNITS).saturating_add(below.units));
        }
        let mut widest = 1;
        for number in &node.definitions {
            cost.units =
                cost.units.max(self.definitions.get(*number).map_or(0, |definition| definition.depth));
            let edges = node.edges.iter().filter(|edge| edge.definition == *number);
            let below = edges.filter_map(|edge| costs.get(edge.to).copied().flatten());
            let tried = below.map(|below| below.alternatives).max().unwrap_or(1).max(1);
            cost.alternatives = cost.alternatives.saturating_add(tried);
            widest = widest.max(tried);
        }
        // A failing rule fails whoever asked; only functions go on with their next definition.
        cost.alternatives = if node.arity.is_some() { cost.alternatives.max(1) } else { widest };
        cost
    }

    /// A rule where a package is, or below one: which of the two a reference means would depend on the reader.
    fn check_conflicts(&self) -> Vec<Finding> {
        let packages: BTreeSet<&Vec<String>> = self.packages.iter().collect();
        let mut findings = Vec::new();
        for (path, span) in self.rules() {
            let from = (Bound::Included(path.to_vec()), Bound::Unbounded);
            let below = packages.range::<Vec<String>, _>(from).next();
            if let Some(package) = below.filter(|package| package.starts_with(path)) {
                let message = format!("rule `{}` conflicts with package `{}`", full(path), written(package));
                findings.push(Finding::at("conflict", span, message));
            }
        }
        findings
    }

    /// A name that is a value here and a set, an object or a function there. regorus notices only when a call makes both
    /// produce something, and then the call fails; OPA refuses it when the policy is loaded.
    fn check_kinds(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for node in &self.nodes {
            let mut definitions = node.definitions.iter().filter_map(|number| self.definitions.get(*number));
            let Some(first) = definitions.next() else { continue };
            let kind = Kind::of(first);
            let mut defaults = usize::from(first.is_default);
            for other in definitions {
                defaults += usize::from(other.is_default);
                if Kind::of(other) != kind {
                    let (name, here, there) = (full(&node.path), Kind::of(other), Place::of(&first.span));
                    let message = format!(
                        "`{name}` is {here} here and {kind} at {there}; give one of them another name"
                    );
                    findings.push(Finding::at("conflict", &other.span, message));
                    break;
                }
                if defaults > 1 && other.is_default {
                    let message = format!("`{}` has a second default value; keep one", full(&node.path));
                    findings.push(Finding::at("conflict", &other.span, message));
                    break;
                }
            }
        }
        findings
    }
}

/// What a definition makes of its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Complete,
    Set,
    Object,
    Function(usize),
}

impl Kind {
    fn of(definition: &Definition) -> Self {
        match definition.arity {
            Some(arity) => Self::Function(arity),
            None if definition.is_set => Self::Set,
            None if definition.partial => Self::Object,
            None => Self::Complete,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("a rule with one value (`… := …` or `… if …`)"),
            Self::Set => f.write_str("a set (`… contains …`)"),
            Self::Object => f.write_str("an object (`…[key] := …`)"),
            Self::Function(arity) => write!(f, "a function of {}", count(*arity, "argument")),
        }
    }
}

/// Stack units of one call or reference besides the expressions it stands in.
const CALL_UNITS: u32 = 3;

#[derive(Clone, Copy)]
struct Cost {
    chain: u32,
    units: u32,
    alternatives: u64,
}

impl Cost {
    fn excess(self, name: &str) -> Option<String> {
        if self.chain > MAX_CHAIN {
            Some(format!(
                "`{name}` begins a chain of {} rules and functions; at most {MAX_CHAIN} are allowed",
                self.chain
            ))
        } else if self.units > MAX_STACK_UNITS {
            Some(format!(
                "`{name}` nests expressions, loops and calls {} deep in all; at most {MAX_STACK_UNITS} are allowed",
                self.units
            ))
        } else if self.alternatives > MAX_ALTERNATIVES {
            Some(format!(
                "`{name}` may try more than {MAX_ALTERNATIVES} combinations of function definitions; use fewer definitions or `else`"
            ))
        } else {
            None
        }
    }
}

trait ExtendEdge {
    fn extend_edge(&mut self, from: usize, edge: Edge);
}

impl ExtendEdge for Vec<Node> {
    fn extend_edge(&mut self, from: usize, edge: Edge) {
        if let Some(node) = self.get_mut(from) {
            node.edges.push(edge);
        }
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

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
