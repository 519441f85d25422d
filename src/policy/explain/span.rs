//! Where things stand in a source. regorus' spans leave out quotes, and count a tab as four columns.

use regorus::unstable::{Expr, Literal, LiteralStmt, Span};

/// Where an expression stands in its source, quotes included: regorus' spans of strings leave them out, and so do the
/// spans of whatever begins or ends with one.
pub(in crate::policy) fn range(expr: &Expr) -> (u32, u32) {
    let span = expr.span();
    let mut range = (span.start, span.end);
    let mut include = |part: &Expr| {
        let (start, end) = self::range(part);
        range = (range.0.min(start), range.1.max(end));
    };
    match expr {
        Expr::String { .. } | Expr::RawString { .. } => return (span.start.saturating_sub(1), span.end + 1),
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => [lhs, rhs].into_iter().for_each(|part| include(part)),
        Expr::Membership { key, value, collection, .. } => {
            key.iter().chain([value, collection]).for_each(|part| include(part));
        }
        Expr::UnaryExpr { expr, .. } => include(expr),
        // The span of an object begins at its last member.
        Expr::Object { fields, .. } => {
            if let Some((_, key, _)) = fields.first() {
                let first = usize::try_from(self::range(key).0).unwrap_or(0);
                let before = span.source.get_contents().get(..first).unwrap_or_default();
                range.0 = before.rfind('{').and_then(|at| u32::try_from(at).ok()).unwrap_or(range.0);
            }
        }
        // The span of `set()` ends with the token after it.
        Expr::Set { items, .. } if items.is_empty() => {
            let length = span.text().find(')').and_then(|at| u32::try_from(at + 1).ok());
            range.1 = length.map_or(range.1, |length| range.0 + length);
        }
        // Everything else begins with a name or bracket and ends with one.
        _ => {}
    }
    range
}

/// Where a statement stands, quotes included.
pub(in crate::policy) fn range_of(stmt: &LiteralStmt) -> (u32, u32) {
    let mut all = (stmt.span.start, stmt.span.end);
    let mut include = |part: &Expr| {
        let (start, end) = range(part);
        all = (all.0.min(start), all.1.max(end));
    };
    match &stmt.literal {
        Literal::SomeIn { collection, .. } => include(collection),
        Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => include(expr),
        Literal::SomeVars { .. } | Literal::Every { .. } => {}
    }
    for with in &stmt.with_mods {
        include(&with.r#as);
    }
    all
}

/// Where a span begins in its line, in characters from 1. regorus counts a tab as four.
pub(super) fn column_of(span: &Span) -> u32 {
    let start = usize::try_from(span.start).unwrap_or(0);
    let before = span.source.get_contents().get(..start).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    u32::try_from(line.chars().count()).unwrap_or(u32::MAX).saturating_add(1)
}
