//! `f(x, out)` as `f(x) = out`, for functions regorus does not have.
//!
//! Rego lets a statement name a function's result as one argument more. regorus knows that for its own functions and for
//! those of the policies, not for extensions. So the text it is given is changed, in place: byte for byte where the comma
//! is followed by a space, so that lines stay the same and columns almost always do.

use std::borrow::Cow;

/// From, to, and what to put there.
pub(super) type Edit = (usize, usize, Cow<'static, str>);

/// The text with the calls whose names begin at these bytes rewritten. A place where no such call stands is left alone.
pub(super) fn rewritten(text: &str, calls: impl IntoIterator<Item = usize>) -> String {
    edited(text, edits(text, calls))
}

/// What to put where, as byte ranges, for the calls whose names begin at these bytes.
pub(super) fn edits(text: &str, calls: impl IntoIterator<Item = usize>) -> Vec<Edit> {
    let found = calls.into_iter().filter_map(|at| edit(text, at)).flatten();
    found.map(|(from, to, new)| (from, to, new.into())).collect()
}

/// A text with byte ranges replaced; of two that overlap, the first.
pub(super) fn edited(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_unstable();
    let mut out = String::with_capacity(text.len() + edits.len());
    let mut done = 0;
    for (from, to, new) in edits {
        out.push_str(text.get(done..from).unwrap_or_default());
        out.push_str(&new);
        done = to.max(done);
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

/// What to put where, as byte ranges, for the call that begins at a byte.
fn edit(text: &str, at: usize) -> Option<Vec<(usize, usize, &'static str)>> {
    let open = at + text.get(at..)?.find('(')?;
    let (commas, close) = arguments(text, open)?;
    let mut edits = vec![(close, close + 1, " ")];
    let mut commas = commas.into_iter().rev();
    let mut comma = commas.next()?;
    if text
        .get(comma + 1..close)?
        .lines()
        .all(|line| line.split('#').next().unwrap_or_default().trim().is_empty())
    {
        // A comma after the last argument.
        edits.push((comma, comma + 1, " "));
        comma = commas.next()?;
    }
    let spaced = text.get(comma + 1..)?.starts_with(' ');
    edits.push((comma, comma + 1 + usize::from(spaced), ")="));
    Some(edits)
}

/// Where the commas between a call's arguments stand, and its closing bracket.
pub(super) fn arguments(text: &str, open: usize) -> Option<(Vec<usize>, usize)> {
    let (mut depth, mut commas) = (0usize, Vec::new());
    let mut quote = None;
    let mut chars = text.get(open..)?.char_indices();
    while let Some((offset, c)) = chars.next() {
        match (quote, c) {
            (Some('"'), '\\') => {
                chars.next();
            }
            (Some(q), _) => quote = (c != q).then_some(q),
            (None, '"' | '`') => quote = Some(c),
            (None, '#') => while chars.next().is_some_and(|(_, c)| c != '\n') {},
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some((commas, open + offset));
                }
            }
            (None, ',') if depth == 1 => commas.push(open + offset),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_argument_moves_and_nothing_else() {
        for (text, expected) in [
            ("f(x, y)", "f(x)=y "),
            ("f(x,y)", "f(x)=y "),
            ("f(x, [a, b])\ng", "f(x)=[a, b] \ng"),
            (
                "f(\"a,)\", {\"k\": `(`}, # one, two)\n  y,\n) # z",
                "f(\"a,)\", {\"k\": `(`})=# one, two)\n  y \n  # z",
            ),
            ("f(x", "f(x"),
            ("f", "f"),
        ] {
            assert_eq!(rewritten(text, [0]), expected);
        }
        assert_eq!(rewritten("f([x | g(a, x)], y); é(1, 2)", [0, 7]), "f([x | g(a)=x ])=y ; é(1, 2)");
    }
}
