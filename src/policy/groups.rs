//! Policies that are asked together: those about the same calls that share libraries.
//!
//! Each question to an engine begins with nothing known, so that a library's rules would be computed again for each effect
//! of each policy. A group's engine holds all its policies, with a module that asks for their effects in the order in which
//! they are combined, and none that no longer matters. It is a shortcut only: where it fails, each policy is asked by itself
//! and says what is wrong. Groups are small, since regorus' cost is quadratic in the number of packages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use regorus::{Engine, Value};

use super::library::Library;
use super::module::written;
use super::set::Policy;
use crate::decision::Effect;

/// The package of the module that asks. No set with a package of that name is grouped.
const PACKAGE: &str = "docket_group";
/// Rules a library must have to be worth sharing: computing a few again costs less than a larger engine.
const MIN_RULES: usize = 12;
/// Policies in one group.
const MAX_POLICIES: usize = 8;

/// A few policies with an engine that answers for all of them.
pub(super) struct Group {
    pub engine: Engine,
}

impl Group {
    /// The rule to ask: a set of pairs, the number of the question with its answer.
    pub const PATH: &str = "data.docket_group.answers";

    /// The number of the question for an effect of the policy at a position in the group.
    pub fn question(position: usize, effect: Effect) -> usize {
        position * 3
            + match effect {
                Effect::Deny => 0,
                Effect::RequireApproval => 1,
                Effect::Allow => 2,
            }
    }

    /// The answers by the number of their question; those to be undefined, or no longer asked, are absent.
    pub fn answers(value: &Value) -> Option<BTreeMap<usize, Value>> {
        let Value::Set(pairs) = value else { return None };
        let pair = |pair: &Value| match pair {
            Value::Array(pair) => {
                Some((usize::try_from(pair.first()?.as_u64().ok()?).ok()?, pair.get(1)?.clone()))
            }
            _ => None,
        };
        pairs.iter().map(pair).collect()
    }
}

/// Puts policies into groups, and tells each its group and position. One that shares too little is in none.
pub(super) fn group(library: &Library, policies: &mut [Policy], closures: &[Vec<usize>]) -> Vec<Group> {
    if library.modules.iter().any(|module| module.package.first().is_some_and(|name| name == PACKAGE)) {
        return Vec::new();
    }
    let mut groups = Vec::new();
    for members in together(policies, closures, library) {
        if members.len() < 2 {
            continue;
        }
        let modules: BTreeSet<usize> =
            members.iter().filter_map(|at| closures.get(*at)).flatten().copied().collect();
        let modules: Vec<usize> = modules.into_iter().collect();
        let text = {
            let members: Vec<&Policy> = members.iter().filter_map(|at| policies.get(*at)).collect();
            questions(&members)
        };
        // What cannot be grouped is asked one by one, as before.
        let Ok(mut engine) = library.engine(&modules) else { continue };
        let added = engine.add_policy(format!("{PACKAGE}.rego"), text).is_ok();
        if !added || engine.eval_query("true".to_owned(), false).is_err() {
            continue;
        }
        for (position, at) in members.iter().enumerate() {
            if let Some(policy) = policies.get_mut(*at) {
                policy.group = Some((groups.len(), position));
            }
        }
        groups.push(Group { engine });
    }
    groups
}

/// A group before it has an engine.
struct Forming {
    members: Vec<usize>,
    /// Modules of the libraries its members use.
    libraries: BTreeSet<usize>,
}

/// Which policies stand in a group: with the same targets and, from the second on, a library in common.
fn together(policies: &[Policy], closures: &[Vec<usize>], library: &Library) -> Vec<Vec<usize>> {
    let mut by_targets: BTreeMap<_, Vec<Forming>> = BTreeMap::new();
    for (at, policy) in policies.iter().enumerate() {
        let closure = closures.get(at).map_or(&[][..], Vec::as_slice);
        // Who may read all of `data` would read the module that asks, which asks for it.
        if library.reads_everything(closure) {
            continue;
        }
        let large = |module: usize| {
            let mut rules = library.graph.definitions.iter().filter(|found| found.module == module);
            rules.nth(MIN_RULES - 1).is_some()
        };
        let foreign = |module: &usize| {
            let package = library.modules.get(*module).map(|module| written(&module.package));
            package.is_some_and(|package| package != policy.package) && large(*module)
        };
        let libraries: BTreeSet<usize> = closure.iter().copied().filter(foreign).collect();
        let groups = by_targets.entry(policy.targets.written()).or_default();
        let fits = |group: &&mut Forming| {
            group.members.len() < MAX_POLICIES && !group.libraries.is_disjoint(&libraries)
        };
        match groups.iter_mut().find(fits) {
            Some(group) => {
                group.members.push(at);
                group.libraries.extend(libraries);
            }
            None => groups.push(Forming { members: vec![at], libraries }),
        }
    }
    by_targets.into_values().flatten().map(|group| group.members).collect()
}

/// The module that asks: `allow` only where nothing denies or asks for approval, and so on. Anything but `false` and the
/// empty set settles the matter, values of a wrong type too.
fn questions(policies: &[&Policy]) -> String {
    let mut text = format!("package {PACKAGE}\n");
    for (effect, condition, settles) in [
        (Effect::Deny, "", Some("denied")),
        (Effect::RequireApproval, " if not denied", Some("asked")),
        (Effect::Allow, " if { not denied; not asked }", None),
    ] {
        if let Some(name) = settles {
            // So that the name exists whatever follows.
            let _ = writeln!(text, "{name} if false");
        }
        for (position, policy) in policies.iter().enumerate() {
            let Some(entry) = policy.entries.iter().find(|entry| entry.effect == effect) else { continue };
            let number = Group::question(position, effect);
            let _ = writeln!(text, "a{number} := {}{condition}", entry.path);
            let _ = writeln!(text, "answers contains [{number}, a{number}]");
            if let Some(name) = settles {
                let _ = writeln!(text, "{name} if {{ a{number} != false; a{number} != set() }}");
            }
        }
    }
    text
}
