//! The rules of a set by their path, to descend into the one a condition leads to.

use std::collections::BTreeMap;

use regorus::unstable::{Expr, Ref, Rule, RuleHead};

use super::super::library::Library;
use super::super::metadata::Metadata;
use super::super::module::{constant_prefix, head_of};
use super::syntax::arguments;

/// Where each rule or function is defined.
pub(in crate::policy) struct Rules {
    by_path: BTreeMap<Vec<String>, Vec<Place>>,
    arities: BTreeMap<Vec<String>, usize>,
}

/// One definition: a module of the library, and a rule of that module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Place {
    pub module: usize,
    pub rule: usize,
}

impl Rules {
    pub fn new(library: &Library) -> Self {
        let mut by_path: BTreeMap<Vec<String>, Vec<Place>> = BTreeMap::new();
        let mut arities = BTreeMap::new();
        for (number, module) in library.modules.iter().enumerate() {
            for (rule, syntax) in module.syntax.policy.iter().enumerate() {
                let Some((name, _)) = constant_prefix(head_of(syntax)) else { continue };
                let path: Vec<String> = module.package.iter().cloned().chain(name).collect();
                if let Some(args) = arguments(syntax) {
                    arities.insert(path.clone(), args.len());
                }
                by_path.entry(path).or_default().push(Place { module: number, rule });
            }
        }
        Self { by_path, arities }
    }

    pub fn has(&self, path: &[String]) -> bool {
        self.by_path.contains_key(path)
    }

    pub fn arity(&self, path: &[String]) -> Option<usize> {
        self.arities.get(path).copied()
    }

    /// The definitions a path leads to: those of the rule it names, or of the rule whose value it looks into. Also says
    /// how much of the path names the rule.
    pub fn find(&self, path: &[String]) -> Option<(usize, &[Place])> {
        (1..=path.len()).rev().find_map(|length| {
            let places = self.by_path.get(path.get(..length)?)?;
            Some((length, places.as_slice()))
        })
    }
}

/// A definition as its parts.
pub(super) struct Definition<'a> {
    pub place: Place,
    pub rule: &'a Rule,
}

impl<'a> Definition<'a> {
    pub fn of(library: &'a Library, place: Place) -> Option<Self> {
        let rule = library.modules.get(place.module)?.syntax.policy.get(place.rule)?;
        Some(Self { place, rule: rule.as_ref() })
    }

    pub fn is_default(&self) -> bool {
        matches!(self.rule, Rule::Default { .. })
    }

    /// The expression of the head whose value the rule has, or adds to its set; `None` where that is `true`.
    pub fn head(&self, body: Option<usize>) -> Option<&'a Ref<Expr>> {
        let Rule::Spec { head, bodies, .. } = self.rule else { return None };
        let own = body.and_then(|body| bodies.get(body)).and_then(|body| body.assign.as_ref());
        match head {
            _ if own.is_some() => own.map(|assign| &assign.value),
            // `else` without a value is `true`, whatever the head says.
            _ if body.and_then(|body| bodies.get(body)).is_some_and(|body| body.is_else) => None,
            RuleHead::Set { key, .. } => key.as_ref(),
            RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => {
                assign.as_ref().map(|a| &a.value)
            }
        }
    }

    pub fn is_set(&self) -> bool {
        matches!(self.rule, Rule::Spec { head: RuleHead::Set { .. }, .. })
    }

    /// First and last line.
    pub fn lines(&self) -> (u32, u32) {
        let span = self.rule.span();
        let breaks = span.text().trim_end().matches('\n').count();
        (span.line, span.line.saturating_add(u32::try_from(breaks).unwrap_or(u32::MAX)))
    }

    /// What the rule calls itself: the constant `rule` of the object it adds, or the constant text.
    pub fn own_name(&self) -> Option<String> {
        let text = |expr: &Expr| match expr {
            Expr::String { value, .. } | Expr::RawString { value, .. } => {
                value.as_string().ok().map(ToString::to_string)
            }
            _ => None,
        };
        if !self.is_set() {
            return None;
        }
        match self.head(None)?.as_ref() {
            Expr::Object { fields, .. } => {
                let named = |(_, key, value): &(_, Ref<Expr>, Ref<Expr>)| {
                    (text(key)? == "rule").then(|| text(value)).flatten()
                };
                fields.iter().find_map(named)
            }
            expr => text(expr),
        }
    }

    pub fn metadata(&self, library: &'a Library) -> Option<&'a Metadata> {
        library.modules.get(self.place.module)?.rule_metadata(self.rule.span().line)
    }
}
