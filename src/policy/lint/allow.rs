//! `# docket:allow CODE, CODE`: comments by which an author turns warnings off.
//!
//! At the end of a line it is about that line; on a line of its own about the next line of code; above `package` about
//! the whole file, and about what is said of the set as a whole.

use super::super::finding::{Finding, Severity, line_of};
use super::super::module::Module;
use super::super::near::nearest;
use super::super::scan::{Comment, scan};
use super::codes;

const MARK: &str = "docket:allow";

/// What one comment turns off.
struct Allowed {
    file: String,
    /// `None` for the whole file.
    line: Option<u32>,
    code: &'static str,
    used: bool,
    /// Said of the comment where it turned out to be of no use.
    otherwise: Finding,
}

/// Drops the warnings that comments turn off, and adds what is wrong with the comments.
pub(super) fn apply(modules: &[Module], findings: Vec<Finding>) -> Vec<Finding> {
    let (mut all, mut kept) = (Vec::new(), Vec::new());
    for module in modules {
        read(module, &mut all, &mut kept);
    }
    for finding in findings {
        let mut off = false;
        for allowed in &mut all {
            if finding.severity == Severity::Warning && allowed.covers(&finding) {
                allowed.used = true;
                off = true;
            }
        }
        if !off {
            kept.push(finding);
        }
    }
    kept.extend(all.into_iter().filter(|allowed| !allowed.used).map(|allowed| allowed.otherwise));
    kept
}

impl Allowed {
    fn covers(&self, finding: &Finding) -> bool {
        // What is said of the set, or of a file that has no comments, can be turned off in any file.
        let elsewhere = finding.line == 0 && self.line.is_none();
        let here = finding.file == self.file && self.line.is_none_or(|line| line == finding.line);
        finding.code == self.code && (elsewhere || here)
    }
}

fn read(module: &Module, all: &mut Vec<Allowed>, wrong: &mut Vec<Finding>) {
    let lines: Vec<&str> = module.text.lines().collect();
    let line_at = |number: u32| lines.get(usize::try_from(number.saturating_sub(1)).ok()?).copied();
    let package = module.syntax.package.span.line;
    for comment in scan(&module.text).comments {
        let Some(list) = comment.text.trim().strip_prefix(MARK) else { continue };
        let alone = line_at(comment.line).is_some_and(|line| line.trim_start().starts_with('#'));
        let code_line = |line: &u32| line_at(*line).is_some_and(|text| !is_blank(text));
        let line = match alone {
            false => Some(comment.line),
            true if comment.line < package => None,
            true => (comment.line + 1..=u32::try_from(lines.len()).unwrap_or(u32::MAX)).find(code_line),
        };
        let names: Vec<&str> = list
            .split(|c: char| c == ',' || c.is_whitespace() || c == ':')
            .filter(|name| !name.is_empty())
            .collect();
        if names.is_empty() {
            wrong.push(at(
                module,
                &comment,
                "unknown_allow",
                format!("`{MARK}` names no code: write `# {MARK} CODE`"),
            ));
        }
        for name in names {
            let found = codes::find(name);
            match found {
                Some(code) if code.is_warning => all.push(Allowed {
                    file: module.path.to_string(),
                    line,
                    code: code.name,
                    used: false,
                    otherwise: at(
                        module,
                        &comment,
                        "unused_allow",
                        format!("nothing is found here that `{name}` would turn off; take the comment away"),
                    ),
                }),
                Some(_) => {
                    let message = format!("`{name}` is an error, and errors cannot be turned off");
                    wrong.push(at(module, &comment, "unknown_allow", message));
                }
                None => {
                    let near = nearest(name, codes::CODES.iter().map(|code| code.name));
                    let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                    let message = format!("no finding has the code `{name}`{hint}");
                    wrong.push(at(module, &comment, "unknown_allow", message));
                }
            }
        }
    }
}

fn is_blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// A warning about a comment.
fn at(module: &Module, comment: &Comment<'_>, code: &'static str, message: String) -> Finding {
    let mut finding = Finding::file(code, &module.path, message).warning();
    (finding.line, finding.column) = (comment.line, comment.column);
    finding.length = u32::try_from(comment.text.trim_end().chars().count() + 1).unwrap_or(u32::MAX);
    finding.excerpt = line_of(&module.text, comment.line);
    finding
}
