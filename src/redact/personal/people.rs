//! E-mail addresses, telephone numbers, and the numbers that states give their people.

use super::{Found, before, byte, joined_before};

/// Longest part before the at sign (RFC 5321, section 4.5.3.1.1).
const MAX_LOCAL_BYTES: usize = 64;
/// Longest host name (RFC 1035).
const MAX_HOST_BYTES: usize = 253;
/// Digits of a telephone number (ITU-T E.164).
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 8..=15;

/// Endings of files that are also named with an at sign, as `logo@2x.png`.
const IMAGES: [&str; 6] = ["png", "jpg", "jpeg", "gif", "svg", "webp"];

/// Finds e-mail addresses: letters, digits and `.!#$%&'*+/=?^_{|}~-` as far as people use them, `@` (or `%40`), and a host
/// name of two parts or more. The user of a URL's host and the `git@` of a repository are none.
pub(super) fn emails(text: &str, found: &mut Vec<Found>) {
    if !text.contains(['@', '%']) {
        return;
    }
    let mut done = 0;
    for at in 0..text.len() {
        let width = match byte(text, at) {
            b'@' => 1,
            b'%' if text.get(at..at + 3) == Some("%40") => 3,
            _ => continue,
        };
        let local = |byte: u8| byte.is_ascii_alphanumeric() || b"._%+'-".contains(&byte);
        let floor = at.saturating_sub(MAX_LOCAL_BYTES).max(done);
        let start =
            (floor..at).rev().find(|index| !local(byte(text, *index))).map_or(floor, |index| index + 1);
        let start = (start..at).find(|index| !b".%'-".contains(&byte(text, *index))).unwrap_or(at);
        let name = text.get(start..at).unwrap_or_default();
        let in_url = text.get(..start).is_some_and(|before| before.ends_with("://"));
        if name.is_empty() || name.ends_with('.') || name == "git" || in_url {
            continue;
        }
        let Some(host) = host(text.get(at + width..).unwrap_or_default()) else { continue };
        done = at + width + host.len();
        let spelling = format!("{name}@{host}").to_lowercase();
        found.push(Found { range: start..done, spelling });
    }
}

/// The host name that a text begins with, if it has two parts or more and ends in letters.
fn host(text: &str) -> Option<&str> {
    let part = |c: char| c.is_alphanumeric() || c == '-' || c == '.';
    let end = text
        .char_indices()
        .find(|(at, c)| !part(*c) || *at > MAX_HOST_BYTES)
        .map_or(text.len(), |(at, _)| at);
    let host = text.get(..end)?.trim_end_matches(['.', '-']);
    let labels_are_whole =
        host.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
    let (_, last) = host.rsplit_once('.')?;
    let letters = last.chars().count() >= 2 && last.chars().all(char::is_alphabetic);
    (labels_are_whole && letters && !IMAGES.contains(&last)).then_some(host)
}

/// Finds telephone numbers: `+` and 8 to 15 digits in groups, and `555-234-5678` or `(555) 234-5678`.
pub(super) fn phones(text: &str, found: &mut Vec<Found>) {
    if !text.contains(['+', '-', '.', '(']) {
        return;
    }
    let mut done = 0;
    for at in 0..text.len() {
        let here = byte(text, at);
        if at < done || !(here == b'+' || here == b'(' || here.is_ascii_digit()) || joined_before(text, at) {
            continue;
        }
        let phone = if here == b'+' { international(text, at) } else { north_american(text, at) };
        if let Some((end, spelling)) = phone {
            found.push(Found { range: at..end, spelling });
            done = end;
        }
    }
}

fn international(text: &str, start: usize) -> Option<(usize, String)> {
    let mut spelling = String::from("+");
    let (mut at, mut end) = (start + 1, start);
    if !matches!(byte(text, at), b'1'..=b'9') {
        return None;
    }
    loop {
        let here = byte(text, at);
        if here.is_ascii_digit() {
            spelling.push(char::from(here));
            if spelling.len() - 1 > *PHONE_DIGITS.end() {
                return None;
            }
            end = at + 1;
        } else if !b" .-()/".contains(&here) || at > end + 1 {
            break;
        }
        at += 1;
    }
    let joined = byte(text, end).is_ascii_alphabetic();
    (PHONE_DIGITS.contains(&(spelling.len() - 1)) && !joined).then_some((end, spelling))
}

/// A number of the North American plan, as `555-234-5678`, perhaps with `1-` before it or parentheses around the area code.
fn north_american(text: &str, start: usize) -> Option<(usize, String)> {
    const PATTERNS: [&str; 6] = [
        "NDD-NDD-DDDD",
        "NDD.NDD.DDDD",
        "(NDD) NDD-DDDD",
        "(NDD)NDD-DDDD",
        "1-NDD-NDD-DDDD",
        "1 (NDD) NDD-DDDD",
    ];
    PATTERNS.iter().find_map(|pattern| {
        let mut digits = digits_of(text, start, pattern)?;
        if digits.len() == 10 {
            digits.insert(0, '1');
        }
        Some((start + pattern.len(), format!("+{digits}")))
    })
}

/// The digits of what stands at `start`, if it is as the pattern says and nothing is joined to it: `D` is a digit, `N` one
/// from 2 to 9, anything else itself.
fn digits_of(text: &str, start: usize, pattern: &str) -> Option<String> {
    let mut digits = String::new();
    for (index, expected) in pattern.bytes().enumerate() {
        let here = byte(text, start + index);
        let fits = match expected {
            b'D' => here.is_ascii_digit(),
            b'N' => matches!(here, b'2'..=b'9'),
            literal => here == literal,
        };
        if !fits {
            return None;
        }
        if here.is_ascii_digit() {
            digits.push(char::from(here));
        }
    }
    let end = start + pattern.len();
    let goes_on = |sign: u8, next: u8| matches!(sign, b'-' | b'.') && next.is_ascii_alphanumeric();
    let joined = byte(text, end).is_ascii_alphanumeric()
        || goes_on(byte(text, end), byte(text, end + 1))
        || (start >= 2 && goes_on(before(text, start), byte(text, start - 2)));
    (!joined).then_some(digits)
}

/// Finds social security numbers of the United States (`AAA-GG-SSSS`, in dashes or spaces) and national insurance numbers of
/// the United Kingdom (`AA123456C`, in capitals, perhaps in pairs).
pub(super) fn national_ids(text: &str, found: &mut Vec<Found>) {
    let mut done = 0;
    for at in 0..text.len() {
        let here = byte(text, at);
        if at < done || !(here.is_ascii_digit() || here.is_ascii_uppercase()) || joined_before(text, at) {
            continue;
        }
        let id = if here.is_ascii_digit() { social_security(text, at) } else { national_insurance(text, at) };
        if let Some((end, spelling)) = id {
            found.push(Found { range: at..end, spelling });
            done = end;
        }
    }
}

fn social_security(text: &str, start: usize) -> Option<(usize, String)> {
    let digits = ["DDD-DD-DDDD", "DDD DD DDDD"].iter().find_map(|pattern| digits_of(text, start, pattern))?;
    let (area, rest) = digits.split_at_checked(3)?;
    let (group, serial) = rest.split_at_checked(2)?;
    let issued =
        !matches!(area, "000" | "666") && !area.starts_with('9') && group != "00" && serial != "0000";
    issued.then_some((start + "DDD-DD-DDDD".len(), digits))
}

fn national_insurance(text: &str, start: usize) -> Option<(usize, String)> {
    let (first, second) = (byte(text, start), byte(text, start + 1));
    let allowed = first.is_ascii_uppercase()
        && second.is_ascii_uppercase()
        && !b"DFIQUV".contains(&first)
        && !b"DFIOQUV".contains(&second)
        && !["BG", "GB", "NK", "KN", "TN", "NT", "ZZ"].contains(&text.get(start..start + 2)?);
    if !allowed {
        return None;
    }
    let (mut spelling, mut at) = (text.get(start..start + 2)?.to_owned(), start + 2);
    while spelling.len() < 9 {
        if byte(text, at) == b' ' && spelling.len() % 2 == 0 {
            at += 1;
        }
        let here = byte(text, at);
        let fits = if spelling.len() == 8 { matches!(here, b'A'..=b'D') } else { here.is_ascii_digit() };
        if !fits {
            return None;
        }
        spelling.push(char::from(here));
        at += 1;
    }
    (!byte(text, at).is_ascii_alphanumeric()).then_some((at, spelling))
}
