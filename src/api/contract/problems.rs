//! What problem types mean, as a page: for people whose program was refused.

use std::fmt::Write as _;

use crate::web::{PROBLEMS_PATH, ProblemType};

const INTRODUCTION: &str = "What docket answers instead of what was asked for is a problem document (RFC 9457): `type`, `title`, \
    `status`, `detail` and `request_id`, and where a decision was made `decision`, `class` and `retryable`. The `type` names a \
    section of this page, which every docket serves on both planes. `detail` says what was wrong this time.";

/// The page as docket serves it.
#[must_use]
pub fn html() -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>docket: problem types</title>\n\
         <h1>Problem types</h1>\n<p>{}</p>\n",
        marked(INTRODUCTION)
    );
    for problem in ProblemType::ALL {
        // Writing to a string cannot fail.
        let _ = write!(
            page,
            "<section id=\"{}\">\n<h2>{}</h2>\n<p>Status {}</p>\n<p>{}</p>\n</section>\n",
            problem.slug(),
            problem.title(),
            statuses(problem),
            marked(problem.about())
        );
    }
    page.push_str("</html>\n");
    page
}

/// The page as it lies in the documentation.
#[must_use]
pub fn markdown() -> String {
    let mut page = format!("# Problem types\n\n{INTRODUCTION}\n");
    for problem in ProblemType::ALL {
        let _ = write!(
            page,
            "\n## {}\n\n`{PROBLEMS_PATH}#{}`, status {}: {}.\n\n{}\n",
            problem.slug(),
            problem.slug(),
            statuses(problem),
            problem.title(),
            problem.about()
        );
    }
    page
}

fn statuses(problem: ProblemType) -> String {
    problem.statuses().iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

/// A text with its backticks as elements, and everything else escaped.
fn marked(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let pieces = escaped.split('`').enumerate();
    pieces
        .map(|(at, piece)| if at % 2 == 1 { format!("<code>{piece}</code>") } else { piece.to_owned() })
        .collect()
}
