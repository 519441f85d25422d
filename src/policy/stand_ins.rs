//! Functions that stand before built-ins, so that a test's `with` can replace them.
//!
//! regorus knows how to replace its own built-ins and functions of policies that are called by their whole name, not
//! extensions. Where a test replaces one
//! of docket's own built-ins, or one that docket refuses, every file that uses a built-in of that name's root (`io`,
//! `http`) imports a package in place of it, whose functions do nothing but call the built-in. The import stands on the
//! line of `package`, so that every other place in the file is where its author left it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use regorus::unstable::BUILTINS;

use super::builtins;
use super::graph::Graph;
use super::module::{Module, written};
use super::refs::Used;

/// The package of all stand-ins.
const PACKAGE: &str = "docket_stand_in";

/// Whether a path (without `data`) is that of a stand-in.
pub(super) fn is_one(path: &[String]) -> bool {
    path.first().is_some_and(|first| first == PACKAGE)
}

/// The modules with stand-ins where a test needs them.
pub(super) fn put(mut modules: Vec<Module>) -> Vec<Module> {
    let graph = Graph::new(&modules);
    let mut roots = BTreeSet::new();
    let mut functions = BTreeSet::new();
    for definition in &graph.definitions {
        for used in &definition.uses {
            let Used::Target(target) = &used.what else { continue };
            let own = graph.function_path(definition.module, target).filter(|path| graph.is_function(path));
            match (own, target.as_slice()) {
                (Some(own), _) => {
                    functions.insert(own);
                }
                (None, [root, _, ..]) => {
                    let name = target.join(".");
                    if !BUILTINS.contains_key(name.as_str()) && builtins::is_known(&name) {
                        roots.insert(root.clone());
                    }
                }
                (None, _) => {}
            }
        }
    }
    let mut wanted = BTreeMap::new();
    let mut imports: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for (number, module) in modules.iter().enumerate() {
        for root in &roots {
            let prefix = format!("{root}.");
            let names: Vec<String> =
                graph.builtins(number).into_iter().filter(|name| name.starts_with(&prefix)).collect();
            // A rule or import of that name hides the built-ins from the whole file.
            if names.is_empty() || graph.resolve_name(number, std::slice::from_ref(root)).is_some() {
                continue;
            }
            wanted.extend(names.into_iter().filter_map(|name| arity(&name).map(|arity| (name, arity))));
            imports.entry(number).or_default().push(format!("data.{PACKAGE}.{root}"));
        }
        // regorus replaces a function of a policy only where it is called by its whole name, as an import makes it.
        for function in &functions {
            if let Some((name, package)) = function.split_last()
                && package == module.package
                && graph.builtins(number).contains(name)
            {
                imports.entry(number).or_default().push(format!("data.{}", written(function)));
            }
        }
    }
    for (number, imports) in imports {
        let Some(slot) = modules.get_mut(number) else { continue };
        if let Some(changed) = importing(slot, &imports) {
            *slot = changed;
        }
    }
    let mut packages: BTreeMap<Vec<String>, String> = BTreeMap::new();
    for (name, arity) in wanted {
        let mut path: Vec<String> = name.split('.').map(str::to_owned).collect();
        let Some(last) = path.pop() else { continue };
        let args = (0..arity).map(|at| format!("a{at}")).collect::<Vec<_>>().join(", ");
        let text = packages.entry(path).or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{last}({args}) := {name}({args})");
    }
    for (path, functions) in packages {
        let package: Vec<String> = std::iter::once(PACKAGE.to_owned()).chain(path).collect();
        let text = format!("package {}\n\n{functions}", written(&package));
        modules.extend(Module::parse(&package.join("/"), text.as_bytes()));
    }
    modules
}

fn arity(name: &str) -> Option<u8> {
    let own = BUILTINS.get(name).map(|(_, arity)| *arity).or_else(|| builtins::arity(name));
    own.or_else(|| builtins::refused_arity(name))
}

/// A module with more imports.
fn importing(module: &Module, imports: &[String]) -> Option<Module> {
    let line = usize::try_from(module.syntax.package.span.line.checked_sub(1)?).ok()?;
    let start: usize = module.text.split_inclusive('\n').take(line).map(str::len).sum();
    let package = module.text.get(start..)?.lines().next()?;
    let at = start + package.find('#').unwrap_or(package.len());
    let (before, after) = module.text.split_at_checked(at)?;
    let mut text = before.to_owned();
    for import in imports {
        text.push_str(" import ");
        text.push_str(import);
    }
    text.push(' ');
    text.push_str(after);
    let parse = if module.v0 { Module::parse_any } else { Module::parse };
    parse(&module.path, text.as_bytes()).ok()
}
