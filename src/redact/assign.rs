//! Assignments in free text: `password=…`, `"api_key": "…"`, `--token …`, `Authorization: Bearer …`.
//!
//! Shell commands, queries, configuration files, header dumps and source code give values to names without being a JSON
//! document. Here a name is read out of the text around a stem, judged as a member name would be, and its value taken up
//! to its end. Prose and code are full of the same words, so the weaker the form, the more the value itself must look
//! like a secret: after `=` almost anything does, after a colon in a sentence only what no language would write.
//! Knows no regular expressions; every byte is looked at a bounded number of times.

use std::ops::Range;

use super::looks::{MAX_WORD_BYTES, is_common, is_path, is_placeholder, is_scheme, looks_random};
use super::names::{self, Names, Sensitivity};
use super::values::{Finding, is_marked};

const MAX_BLANKS: usize = 8;
/// Marks of a sentence or of code around a value that are not taken for its end; more of them are part of it.
const MAX_TRAILING: usize = 64;
/// How often a text may be read for the values of encoded names, which may lie in one another.
const MAX_READINGS: usize = 4;

/// Finds assignments around the given stems, which come in the order of their ends.
pub(super) fn find(text: &str, stems: Vec<Range<usize>>, names: &Names, findings: &mut Vec<Finding>) {
    let text = Text(text);
    let mut done = 0;
    for stem in stems {
        if stem.start < done {
            continue;
        }
        let name = text.name_around(&stem);
        done = name.end;
        let word = text.slice(&name);
        let trimmed = word.trim_start_matches(['-', '.']);
        let flag = word.starts_with('-');
        if let Some(sensitivity) = names.sensitivity(trimmed)
            && let Some(finding) = text.value_of(&name, trimmed, flag, sensitivity)
        {
            done = finding.range.end;
            findings.push(finding);
        }
    }
}

/// Finds values of parameters whose names are percent-encoded in part, as `access%5Ftoken=…`: whoever reads such a query
/// decodes the name, so it is judged decoded.
pub(super) fn find_encoded(text: &str, names: &Names, findings: &mut Vec<Finding>) {
    let text = Text(text);
    let part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.%+~[]".contains(&byte);
    let mut budget = text.0.len().saturating_mul(MAX_READINGS);
    for (equals, _) in text.0.match_indices('=') {
        let floor = equals.saturating_sub(3 * names::MAX_NAME_BYTES);
        let start = (floor..equals).rev().find(|i| !part(text.byte(*i))).map_or(floor, |i| i + 1);
        let name = start..equals;
        let Some(word) = decoded(text.slice(&name)) else { continue };
        if let Some(sensitivity) = names.sensitivity(&word)
            && let Some(finding) = text.value_of(&name, &word, false, sensitivity)
        {
            // Nobody's query has value in value in value: what is left of such a text goes unread.
            let Some(left) = budget.checked_sub(finding.range.len()) else {
                let rest = finding.range.start.min(equals + 1)..text.0.len();
                findings.push(self::finding(rest, finding.rule, false));
                return;
            };
            budget = left;
            findings.push(finding);
        }
    }
}

/// A name without its percent-encoding; `None` where nothing in it was encoded. Encoded twice counts as well, since a proxy
/// and the server behind it may each decode; more often is nobody's habit, and would cost its square.
fn decoded(name: &str) -> Option<String> {
    let mut result = None;
    let mut name = name.to_owned();
    for _ in 0..3 {
        let mut bytes = Vec::with_capacity(name.len());
        let mut rest = name.as_bytes();
        while let Some((byte, after)) = rest.split_first() {
            let digits = after.get(..2).filter(|_| *byte == b'%');
            let encoded =
                digits.and_then(|digits| hex::decode(digits).ok()).and_then(|byte| byte.first().copied());
            bytes.push(encoded.unwrap_or(*byte));
            rest = if encoded.is_some() { after.get(2..).unwrap_or_default() } else { after };
        }
        let next = String::from_utf8_lossy(&bytes).into_owned();
        if next == name {
            break;
        }
        name.clone_from(&next);
        result = Some(next);
    }
    result
}

/// How much of the value's own look is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `password=x`: anything but a placeholder.
    Tight,
    /// `password = x`: code does that too.
    Spaced,
    /// `password: x`: so does prose.
    Colon,
    /// `--password x`.
    Flag,
    /// `password == x`: only a quoted string is a value.
    Compared,
    /// `<password>x</password>`.
    Element,
}

struct Text<'a>(&'a str);

impl Text<'_> {
    fn byte(&self, at: usize) -> u8 {
        self.0.as_bytes().get(at).copied().unwrap_or(0)
    }

    fn slice(&self, range: &Range<usize>) -> &str {
        self.0.get(range.clone()).unwrap_or_default()
    }

    /// The first index from `at` on whose byte fails the test, at most `max` further.
    fn skip(&self, at: usize, max: usize, test: impl Fn(u8) -> bool) -> usize {
        (at..at.saturating_add(max).min(self.0.len()))
            .find(|i| !test(self.byte(*i)))
            .unwrap_or_else(|| at.saturating_add(max).min(self.0.len()))
    }

    fn name_around(&self, stem: &Range<usize>) -> Range<usize> {
        let part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let floor = stem.start.saturating_sub(names::MAX_NAME_BYTES);
        let start = (floor..stem.start).rev().find(|i| !part(self.byte(*i))).map_or(floor, |i| i + 1);
        let end = self.skip(stem.end, names::MAX_NAME_BYTES, part);
        let trailing = self.slice(&(stem.end..end)).bytes().rev().take_while(|b| b"-.".contains(b)).count();
        // Only ASCII is taken from the left, so this start is a character boundary unless the floor was reached.
        let start = (start..=stem.start).find(|i| self.0.is_char_boundary(*i)).unwrap_or(stem.start);
        start..end - trailing
    }

    fn value_of(
        &self,
        name: &Range<usize>,
        word: &str,
        flag: bool,
        sensitivity: Sensitivity,
    ) -> Option<Finding> {
        let closed = self.skip(name.end, 20, |byte| b"\\\"'`]".contains(&byte));
        let separator = self.skip(closed, MAX_BLANKS, is_blank);
        let (form, after) = self.form(name, separator, closed, flag)?;
        let start = self.skip(after, MAX_BLANKS, is_blank);
        let bare = self.skip(start, 20, |byte| b"\\\"'`".contains(&byte));
        if self.marked(bare) {
            return None;
        }
        if let Some(range) = self.header_value(word, form, start) {
            return Some(finding(range, "authorization", true));
        }
        let (range, quoted) = self.extent(start, form);
        let value = self.slice(&range);
        let kept = match sensitivity {
            Sensitivity::NotPath => is_path(value),
            Sensitivity::Random | Sensitivity::Text => !looks_random(value),
            Sensitivity::Counted => value.bytes().all(|byte| byte.is_ascii_digit()),
            Sensitivity::Full => false,
        };
        // A long word is masked even so: passing over it again and again would cost its square.
        let kept = kept && value.len() <= MAX_WORD_BYTES;
        if kept || !self.is_value(value, &range, form, quoted, name) {
            return None;
        }
        let rule = if form == Form::Flag || flag { "command-line" } else { "assignment" };
        let query = name.start > 0 && matches!(self.byte(name.start - 1), b'?' | b'&');
        let sure = looks_random(value) || value.len() >= 16;
        Some(finding(range, if query { "query-parameter" } else { rule }, sure))
    }

    fn form(&self, name: &Range<usize>, at: usize, closed: usize, flag: bool) -> Option<(Form, usize)> {
        let (here, next) = (self.byte(at), self.byte(at + 1));
        let form = match (here, next) {
            (b'=' | b'!' | b'~', b'=') => {
                (Form::Compared, self.skip(at, 3, |byte| byte == b'=' || byte == here))
            }
            (b'=', b'>') | (b':', b'=') => (Form::Spaced, at + 2),
            (b':', b':') => return None,
            (b'=', _) if at == name.end && !is_blank(next) => (Form::Tight, at + 1),
            (b'=', _) => (Form::Spaced, at + 1),
            (b':', _) => (Form::Colon, at + 1),
            (b'>', _) if at == name.end && name.start > 0 && self.byte(name.start - 1) == b'<' => {
                (Form::Element, at + 1)
            }
            _ if flag && closed == name.end && at > closed => (Form::Flag, at),
            _ => return None,
        };
        Some(form)
    }

    /// `Authorization: Bearer x` and `Cookie: a=b; c=d`: the value runs to the end of the line or of the quotation.
    fn header_value(&self, word: &str, form: Form, start: usize) -> Option<Range<usize>> {
        if !matches!(form, Form::Colon | Form::Tight | Form::Spaced) {
            return None;
        }
        let ends = |suffix: &str| {
            let from = word.len().checked_sub(suffix.len());
            from.and_then(|from| word.get(from..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        };
        let start = self.skip(start, 4, |byte| b"\\\"'".contains(&byte));
        let range = if ends("authorization") {
            let scheme = self.skip(start, 24, |byte| byte.is_ascii_alphanumeric() || byte == b'-');
            let credentials = self.skip(scheme, MAX_BLANKS, is_blank);
            if !is_scheme(self.slice(&(start..scheme))) || credentials == scheme || self.marked(credentials) {
                return None;
            }
            credentials..self.line_end(credentials)
        } else if ends("cookie") && form == Form::Colon {
            let equals = self.skip(start, MAX_WORD_BYTES, |byte| {
                !byte.is_ascii_whitespace() && !b"=\\\"'`".contains(&byte)
            });
            if self.byte(equals) != b'=' {
                return None;
            }
            start..self.line_end(start)
        } else {
            return None;
        };
        let value = self.slice(&range);
        let real = !value.is_empty() && !is_placeholder(value) && !is_common(value);
        // A sentence about schemes goes on with plain words: "Authorization: Bearer tokens are required".
        let prose = range.len() <= MAX_WORD_BYTES
            && value.trim_end().contains(' ')
            && !value.contains(['=', '"'])
            && !value.split(' ').any(looks_random);
        (real && !prose).then_some(range)
    }

    /// Whether what begins here was masked before.
    fn marked(&self, at: usize) -> bool {
        self.0.get(at..).is_some_and(is_marked)
    }

    fn line_end(&self, from: usize) -> usize {
        let rest = self.0.as_bytes().get(from..).unwrap_or_default();
        let end = rest.iter().enumerate().find(|(i, byte)| {
            matches!(byte, b'"' | b'\'' | b'`' | b'\r' | b'\n')
                || (**byte == b'\\' && matches!(self.byte(from + i + 1), b'"' | b'\'' | b'n' | b'r' | b'\\'))
        });
        from + end.map_or(rest.len(), |(i, _)| i)
    }

    /// Where the value ends, and whether it is quoted. Quotes may be escaped, as in JSON inside a string.
    fn extent(&self, start: usize, form: Form) -> (Range<usize>, bool) {
        let slashes = self.skip(start, 16, |byte| byte == b'\\') - start;
        let quote = self.byte(start + slashes);
        if matches!(quote, b'"' | b'\'' | b'`') && form != Form::Element {
            let from = start + slashes + 1;
            return (from..self.closing(from, quote, slashes), true);
        }
        let stop = |at: usize| {
            let byte = self.byte(at);
            let escaped =
                byte == b'\\' && matches!(self.byte(at + 1), b'"' | b'\'' | b'n' | b'r' | b't' | b'\\');
            match form {
                Form::Element => byte == b'<',
                _ if escaped => true,
                Form::Colon if byte == b',' => true,
                _ => byte.is_ascii_whitespace() || b"\"'`&;<>|".contains(&byte),
            }
        };
        // `<name>` and `${NAME:-x}` are placeholders and would otherwise be empty.
        if self.byte(start) == b'<' && form != Form::Element {
            let end = self.skip(start, MAX_WORD_BYTES, |byte| byte != b'>' && !byte.is_ascii_whitespace());
            return (start..(end + 1).min(self.0.len()).max(start), false);
        }
        let end = (start..self.0.len()).find(|at| stop(*at)).unwrap_or(self.0.len());
        if form == Form::Element {
            return (start..end, true);
        }
        let trailing: &[char] = if form == Form::Tight {
            &[',', ')', ']', '}']
        } else {
            &['.', ',', ':', '!', '?', ')', ']', '}']
        };
        let mut value = self.slice(&(start..end));
        for _ in 0..MAX_TRAILING {
            let Some(rest) = value.strip_suffix(trailing) else { break };
            // A bracket that was opened in the value belongs to it: `{password}`, `get()`.
            let opener = match value.as_bytes().last() {
                Some(b')') => '(',
                Some(b']') => '[',
                Some(b'}') => '{',
                _ => '\0',
            };
            if rest.contains(opener) {
                break;
            }
            value = rest;
        }
        (start..start + value.len(), false)
    }

    /// The quote that closes, which has as many backslashes as the one that opened; else the end of the line.
    fn closing(&self, from: usize, quote: u8, slashes: usize) -> usize {
        let bytes = self.0.as_bytes().get(from..).unwrap_or_default();
        let mut run = 0;
        for (i, byte) in bytes.iter().enumerate() {
            match *byte {
                b'\\' => {
                    run += 1;
                    continue;
                }
                b'\n' => return from + i,
                // Unescaped: an even run before the quote is escaped backslashes, an odd one escapes it.
                byte if byte == quote && slashes == 0 && run % 2 == 0 => return from + i,
                byte if byte == quote && slashes > 0 && run <= slashes => return from + i - run,
                _ => {}
            }
            run = 0;
        }
        self.0.len()
    }

    fn is_value(
        &self,
        value: &str,
        range: &Range<usize>,
        form: Form,
        quoted: bool,
        name: &Range<usize>,
    ) -> bool {
        if value.trim().is_empty() {
            return false;
        }
        if value.len() > MAX_WORD_BYTES {
            return true;
        }
        if is_common(value) || is_placeholder(value) {
            return false;
        }
        if quoted {
            // What begins so is the rest of a sentence or of markup after a closing quote, not an opening one.
            return !value.starts_with(|c: char| c.is_whitespace() || ">,)]};:".contains(c));
        }
        match form {
            Form::Tight | Form::Element => true,
            Form::Colon => looks_random(value),
            Form::Compared => false,
            Form::Spaced => looks_random(value) || self.is_setting(value, range, name),
            Form::Flag => {
                let rest = self.skip(range.end, MAX_BLANKS, is_blank);
                let last = matches!(self.byte(rest), 0 | b'\n' | b'-' | b'&' | b'|' | b';' | b'"' | b'\'');
                !value.starts_with('-') && (looks_random(value) || last)
            }
        }
    }

    /// `password = swordfish` as a line of its own: a settings file rather than code.
    fn is_setting(&self, value: &str, range: &Range<usize>, name: &Range<usize>) -> bool {
        let first = name.start == 0 || self.byte(name.start - 1) == b'\n';
        let last = range.end >= self.0.len() || matches!(self.byte(range.end), b'\n' | b'\r');
        first && last && value.len() >= 6 && value.bytes().all(|byte| byte.is_ascii_alphanumeric())
    }
}

fn finding(range: Range<usize>, rule: &'static str, sure: bool) -> Finding {
    Finding::credential(range, rule, sure)
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}
