//! What must not be in the graph of rules and functions.
//!
//! Recursion among functions overflows the stack and ends the process, recursion among rules fails only when the call
//! that meets it comes; both are refused here, as are chains and bodies too deep for a thread's stack, unknown functions
//! and wrong numbers of arguments.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Bound;

use regorus::unstable::BUILTINS;

use super::super::builtins;
use super::super::finding::{Finding, Place};
use super::super::module::written;
use super::super::near::nearest;
use super::super::refs::{Definition, Used};
use super::{Callee, Graph, Node, full};

/// Calls and references in a row.
const MAX_CHAIN: u32 = 100;
/// Nested expressions and loops along the deepest chain. One unit costs up to 1.3 KiB of stack, measured with
/// `the_deepest_chain_fits_a_worker_thread`: half of a worker thread's 2 MiB is never reached.
const MAX_STACK_UNITS: u32 = 400;
/// Definitions tried on the way out of a timeout: regorus goes on with a function's next definition after an error.
const MAX_ALTERNATIVES: u64 = 1_000_000;

impl Graph {
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

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
