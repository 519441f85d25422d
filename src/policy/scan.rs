//! A first look at Rego text: its comments, and how deeply its brackets nest.
//!
//! regorus drops comments, and with them METADATA. Its parser also tries a bracket as a comprehension first and reads it
//! again as a literal when that fails, so that nesting costs exponential time; and it recurses for every negation. Both
//! are counted here, so that they can be bounded before parsing.

/// One comment, without its `#`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Comment<'a> {
    /// Line, from 1.
    pub line: u32,
    /// Column of the `#` in characters, from 1.
    pub column: u32,
    pub text: &'a str,
}

/// What the first look found.
#[derive(Debug, Default)]
pub(super) struct Scan<'a> {
    pub comments: Vec<Comment<'a>>,
    /// Greatest number of brackets open at once, and the line and column of the innermost.
    pub nesting: usize,
    /// Sum over all brackets of two to the power of their depth.
    pub effort: u64,
    pub deepest: (u32, u32),
    /// Minus signs that negate something other than a literal number.
    pub negations: usize,
}

/// Reads comments and nesting, skipping strings (`"…"` with escapes, and raw ones between backticks).
pub(super) fn scan(text: &str) -> Scan<'_> {
    let mut found = Scan::default();
    let (mut line, mut column, mut open) = (1u32, 0u32, 0usize);
    let mut chars = text.char_indices();
    let mut quote = None;
    // The last character that is neither space nor comment: a minus after a value subtracts.
    let mut last = ' ';
    while let Some((at, c)) = chars.next() {
        column += 1;
        if quote.is_none() && c == '-' {
            let subtracts = last.is_alphanumeric() || "_)]}\"`".contains(last);
            let literal =
                text.get(at + 1..).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            found.negations += usize::from(!subtracts && !literal);
        }
        if quote.is_none() && c != '#' && !c.is_whitespace() {
            last = c;
        }
        match (quote, c) {
            (_, '\n') => {
                (line, column) = (line + 1, 0);
                // An unclosed `"` ends with its line: the parser will report it.
                quote = quote.filter(|q| *q == '`');
            }
            (Some('"'), '\\') => {
                if let Some((_, escaped)) = chars.next() {
                    (line, column) = if escaped == '\n' { (line + 1, 0) } else { (line, column + 1) };
                }
            }
            (Some(q), _) => quote = (c != q).then_some(q),
            (None, '"' | '`') => quote = Some(c),
            (None, '#') => {
                let rest = text.get(at + 1..).unwrap_or_default();
                let comment = rest.split('\n').next().unwrap_or_default();
                found.comments.push(Comment { line, column, text: comment.trim_end_matches('\r') });
                let after = at + 1 + comment.len();
                while chars.offset() < after && chars.next().is_some() {}
            }
            (None, '(' | '[' | '{') => {
                open += 1;
                let cost =
                    u32::try_from(open).ok().and_then(|depth| 1u64.checked_shl(depth)).unwrap_or(u64::MAX);
                found.effort = found.effort.saturating_add(cost);
                if open > found.nesting {
                    (found.nesting, found.deepest) = (open, (line, column));
                }
            }
            (None, ')' | ']' | '}') => open = open.saturating_sub(1),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_told_from_strings() {
        let text = "# one\nx := \"# not \\\" # this\" # two\ny := `#\n# nor this\n` # three\r\n";
        let found: Vec<(u32, &str)> =
            scan(text).comments.into_iter().map(|comment| (comment.line, comment.text)).collect();
        assert_eq!(found, [(1, " one"), (2, " two"), (5, " three")]);
    }

    #[test]
    fn nesting_counts_brackets_outside_strings_and_comments() {
        assert_eq!(scan("[{(\"[[[\")}] # ((((((").nesting, 3);
        assert_eq!(scan(&"[".repeat(1000)).nesting, 1000);
        assert_eq!(scan("x := -y - z * -1 - (-f(-\"-\")) #--\n- --").negations, 5);
    }
}
