//! What is wrong with a policy set, said so that its author can mend it: file, line, column, and the line itself.
//!
//! Also the one place that reads regorus' error texts, which carry their location in the message.

use std::fmt;

use regorus::unstable::Span;
use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[schema(as = FindingSeverity)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The set cannot be put in force, or its tests cannot run.
    Error,
    /// The set works, but probably not as meant.
    Warning,
}

impl Severity {
    /// The word used in messages and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing to say about a policy set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Finding {
    /// Whether the set can be used in spite of it.
    pub severity: Severity,
    /// Path of the file within the set; empty where the set as a whole is meant.
    pub file: String,
    /// Line, from 1; 0 where the file as a whole is meant.
    pub line: u32,
    /// Column in characters, from 1; 0 where the whole line is meant.
    pub column: u32,
    /// How many characters from there on are meant, as far as they stand on the same line; 0 where that is not known.
    pub length: u32,
    /// Stable word for the kind of finding, such as `recursion` or `unknown_function`.
    pub code: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
    /// The source line, for the caret.
    pub excerpt: Option<String>,
}

/// Where a span begins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub file: String,
    pub line: u32,
    pub column: u32,
}

impl Place {
    pub fn of(span: &Span) -> Self {
        Self { file: span.source.get_path().clone(), line: span.line, column: span.col }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl Finding {
    /// An error about a file as a whole, or about the set where `file` is empty.
    #[must_use]
    pub fn file(code: &'static str, file: &str, message: impl Into<String>) -> Self {
        let (file, message) = (file.to_owned(), message.into());
        Self { severity: Severity::Error, file, line: 0, column: 0, length: 0, code, message, excerpt: None }
    }

    /// An error at a place in the source.
    pub(super) fn at(code: &'static str, span: &Span, message: impl Into<String>) -> Self {
        let text = span.source.get_contents();
        Self::within(code, span.source.get_path(), text, (span.start, span.end), message)
    }

    /// An error about a range of bytes of a file whose text is `text`.
    pub(super) fn within(
        code: &'static str,
        file: &str,
        text: &str,
        (start, end): (u32, u32),
        message: impl Into<String>,
    ) -> Self {
        let mut finding = Self::file(code, file, message);
        let byte = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
        let before = text.get(..byte(start)).unwrap_or_default();
        let own = before.rfind('\n').map_or(0, |at| at + 1);
        let meant = text.get(byte(start)..byte(end)).unwrap_or_default().lines().next().unwrap_or_default();
        let count = |text: &str| u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        finding.line =
            u32::try_from(before.matches('\n').count()).map_or(u32::MAX, |line| line.saturating_add(1));
        finding.column = count(before.get(own..).unwrap_or_default()).saturating_add(1);
        finding.length = count(meant.trim_end());
        finding.excerpt = line_of(text, finding.line);
        finding
    }

    /// regorus' error while reading or preparing `file`, whose text is `source`.
    pub(super) fn engine(code: &'static str, file: &str, source: &str, error: &str) -> Self {
        let located = Located::read(error);
        let mut finding = Self::file(code, located.place.as_ref().map_or(file, |p| &p.file), located.message);
        if let Some(place) = located.place {
            finding.line = place.line;
            finding.column = place.column;
            finding.excerpt = if place.file == file { line_of(source, place.line) } else { None };
            finding.length = finding.excerpt.as_deref().map_or(0, |line| word_at(line, place.column));
        }
        finding
    }

    pub(super) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

/// `file:line:column: severity: message`, then the line with what is meant underlined; `{:#}` adds the code.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
            if self.line > 0 {
                write!(f, "{}:{}:", self.line, self.column)?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{}: {}", self.severity.as_str(), self.message)?;
        if f.alternate() {
            write!(f, " [{}]", self.code)?;
        }
        if let Some(excerpt) = &self.excerpt {
            let number = self.line.to_string();
            let caret = usize::try_from(self.column.saturating_sub(1)).unwrap_or(0);
            // Tabs are kept so that the caret stands under its character whatever the terminal's tab width.
            let pad: String =
                excerpt.chars().take(caret).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            // Never past the end of the line, which may have been cut.
            let length = usize::try_from(self.length).unwrap_or(0);
            let carets = "^".repeat(length.min(excerpt.chars().count().saturating_sub(caret)).max(1));
            write!(f, "\n {number} | {excerpt}\n {:width$} | {pad}{carets}", "", width = number.len())?;
        }
        Ok(())
    }
}

/// The `line`th line of a text, from 1; long lines are cut, as an excerpt is for eyes.
pub(super) fn line_of(text: &str, line: u32) -> Option<String> {
    const MAX_EXCERPT_CHARS: usize = 200;
    let index = usize::try_from(line.checked_sub(1)?).ok()?;
    text.lines().nth(index).map(|line| line.chars().take(MAX_EXCERPT_CHARS).collect())
}

/// The length of the word that stands at a column of a line, in characters: 0 where there is none.
fn word_at(line: &str, column: u32) -> u32 {
    let skip = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
    let word = line.chars().skip(skip).take_while(|c| c.is_alphanumeric() || *c == '_');
    u32::try_from(word.count()).unwrap_or(u32::MAX)
}

/// An error text of regorus, taken apart: it prints location, excerpt and message into one string.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Located {
    pub place: Option<Place>,
    pub message: String,
}

impl Located {
    pub fn read(error: &str) -> Self {
        let Some((_, rest)) = error.split_once("--> ") else {
            return Self { place: None, message: error.trim().to_owned() };
        };
        let (location, rest) = rest.split_once('\n').unwrap_or((rest, ""));
        let mut parts = location.rsplitn(3, ':');
        let column = parts.next().and_then(|text| text.trim().parse().ok());
        let line = parts.next().and_then(|text| text.parse().ok());
        let file = parts.next();
        let message = rest.split_once("\nerror: ").map_or(rest, |(_, message)| message);
        // A second location inside the message is a quotation of the first, or of a chain of rules; the head says it.
        let message = message.split("\n-->").next().unwrap_or(message).trim().trim_end_matches(':');
        let place = match (file, line, column) {
            (Some(file), Some(line), Some(column)) => Some(Place { file: file.to_owned(), line, column }),
            _ => None,
        };
        Self { place, message: message.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_regorus_errors() {
        let text = "\n--> a/b.rego:3:7\n  |\n3 | x := 1 +\n  |       ^\nerror: expecting expression";
        let located = Located::read(text);
        assert_eq!(located.place, Some(Place { file: "a/b.rego".into(), line: 3, column: 7 }));
        assert_eq!(located.message, "expecting expression");
        assert_eq!(Located::read("plain").message, "plain");
    }

    #[test]
    fn prints_a_caret_under_the_column() {
        let finding =
            Finding::engine("syntax", "p.rego", "package p\n\tx := 1 +", "\n--> p.rego:2:4\n  |\nerror: bad");
        assert_eq!(finding.to_string(), "p.rego:2:4: error: bad\n 2 | \tx := 1 +\n   | \t  ^");
        assert_eq!(Finding::file("empty", "", "nothing").to_string(), "error: nothing");
    }
}
