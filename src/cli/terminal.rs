//! Whether somebody looks at what is printed, how wide their terminal is, and whether it shows colours.

use std::io::IsTerminal;

use rustix::termios::tcgetwinsize;

/// What a terminal that does not know its width is taken for.
const USUAL_WIDTH: usize = 80;

/// How many characters a line of standard output may have; `None` off a terminal, where whoever reads wants all of it.
pub fn width() -> Option<usize> {
    let out = std::io::stdout();
    let known = out.is_terminal().then(|| tcgetwinsize(&out).map_or(0, |size| usize::from(size.ws_col)))?;
    Some(if known == 0 { USUAL_WIDTH } else { known })
}

/// Whether it is a terminal that shows colours, and nobody asked for none (no-color.org).
pub fn has_colours(out: &impl IsTerminal) -> bool {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    !is_plain && !is_dumb && out.is_terminal()
}
