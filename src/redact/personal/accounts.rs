//! Payment cards and bank accounts: long numbers with a check digit.

use super::{Found, before, byte, joined_before};

/// Digits of a payment card (ISO/IEC 7812).
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 13..=19;
/// Groups of digits that one card is written in, at most, and the digits of each: those of a UUID are longer.
const MAX_GROUPS: usize = 6;
const MAX_GROUP_DIGITS: usize = 6;

/// Finds payment cards: 13 to 19 digits, in one run or in groups with one space or dash between them, of which the first has
/// at least four digits and the number begins as cards of the large schemes do, with 2 to 6. A run is taken whole or not at
/// all: digits within a longer run of digits, letters or a decimal fraction are no card.
pub(super) fn cards(text: &str, found: &mut Vec<Found>) {
    let groups = groups(text);
    let mut from = 0;
    while let Some(first) = groups.get(from) {
        match card_from(text, groups.get(from..).unwrap_or_default()) {
            Some((count, digits)) if first.starts && !is_in_iban(text, first.start) => {
                let end = groups.get(from + count - 1).map_or(first.end, |last| last.end);
                found.push(Found { range: first.start..end, spelling: digits });
                from += count;
            }
            _ => from += 1,
        }
    }
}

/// A run of digits, and how it is joined to the next.
struct Group {
    start: usize,
    end: usize,
    /// What stands between it and the next one, if that is one separator.
    separator: Option<u8>,
    /// Whether a number may begin here, and whether one may end here.
    starts: bool,
    ends: bool,
}

fn groups(text: &str) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        // A percent-encoded byte is none of the digits that it is written with.
        if byte(text, at) == b'%'
            && byte(text, at + 1).is_ascii_hexdigit()
            && byte(text, at + 2).is_ascii_hexdigit()
        {
            at += 3;
            continue;
        }
        if !byte(text, at).is_ascii_digit() {
            at += 1;
            continue;
        }
        let start = at;
        while byte(text, at).is_ascii_digit() {
            at += 1;
        }
        let next = byte(text, at);
        let width = if text.get(at..at + 3) == Some("%20") { 3 } else { 1 };
        let separator = match next {
            b' ' | b'-' | b'+' => Some(next),
            _ if width == 3 => Some(b' '),
            _ => None,
        };
        let fraction = |dot: u8, digit: u8| dot == b'.' && digit.is_ascii_digit();
        groups.push(Group {
            start,
            end: at,
            separator: separator.filter(|_| byte(text, at + width).is_ascii_digit()),
            starts: !(joined_before(text, start)
                || start >= 2 && fraction(before(text, start), byte(text, start - 2))),
            ends: !next.is_ascii_alphabetic() && !fraction(next, byte(text, at + 1)),
        });
    }
    groups
}

/// How many groups from the first one on are a card, and its digits.
fn card_from(text: &str, groups: &[Group]) -> Option<(usize, String)> {
    let first = groups.first()?;
    let length = first.end - first.start;
    if !matches!(byte(text, first.start), b'2'..=b'6') || !(4..=*CARD_DIGITS.end()).contains(&length) {
        return None;
    }
    let mut digits = String::new();
    let mut card = None;
    for (index, group) in groups.iter().take(MAX_GROUPS).enumerate() {
        if index > 0 && (group.end - group.start).max(length) > MAX_GROUP_DIGITS {
            break;
        }
        digits.push_str(text.get(group.start..group.end)?);
        if digits.len() > *CARD_DIGITS.end() {
            break;
        }
        if group.ends && digits.len() >= *CARD_DIGITS.start() && is_luhn(&digits) {
            card = Some((index + 1, digits.clone()));
        }
        if group.separator.is_none() || group.separator != first.separator {
            break;
        }
    }
    card
}

/// Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B).
fn is_luhn(digits: &str) -> bool {
    let sum = digits.bytes().rev().enumerate().fold(0, |sum, (index, digit)| {
        let digit = u32::from(digit - b'0') << (index % 2);
        sum + digit / 10 + digit % 10
    });
    sum % 10 == 0
}

/// Lengths of the account numbers of each country in the registry of ISO 13616.
const IBAN_LENGTHS: &str = "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24\
    FI18FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20LU20LV21LY25MC27\
    MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24SC31SD18SE24SI19SK24SM27SO23ST25SV28\
    TL23TN24TR26UA29VA22VG24XK20YE30";

/// The shortest of them, and the longest with a space behind every fourth character.
const MIN_IBAN: usize = 15;
const MAX_IBAN_TEXT: usize = 42;

/// Finds bank account numbers by country, length and checksum, in one run or in groups with one space between them.
pub(super) fn ibans(text: &str, found: &mut Vec<Found>) {
    let mut from = 0;
    while from + MIN_IBAN <= text.len() {
        let digits = byte(text, from + 2).is_ascii_digit() && byte(text, from + 3).is_ascii_digit();
        let may_begin = digits && !joined_before(text, from);
        match may_begin.then(|| iban_at(text, from)).flatten().filter(|(_, iban)| has_good_checksum(iban)) {
            Some((end, spelling)) => {
                found.push(Found { range: from..end, spelling });
                from = end;
            }
            None => from += 1,
        }
    }
}

/// Whether a place is within what is written as a bank account number, right or wrong: groups of its digits may have the
/// check digit of a card by chance.
fn is_in_iban(text: &str, at: usize) -> bool {
    let mut starts = at.saturating_sub(MAX_IBAN_TEXT)..at;
    starts.any(|start| {
        let digits = byte(text, start + 2).is_ascii_digit() && byte(text, start + 3).is_ascii_digit();
        digits && !joined_before(text, start) && iban_at(text, start).is_some_and(|(end, _)| end > at)
    })
}

/// Where what begins here as a bank account number does ends, and its one spelling; its checksum may be wrong.
fn iban_at(text: &str, start: usize) -> Option<(usize, String)> {
    let (first, second) = (byte(text, start), byte(text, start + 1));
    if !first.is_ascii_alphabetic() || !second.is_ascii_alphabetic() {
        return None;
    }
    let country = [first.to_ascii_uppercase(), second.to_ascii_uppercase()];
    let entry = IBAN_LENGTHS.as_bytes().chunks(4).find(|entry| entry.starts_with(&country))?;
    let length: usize = std::str::from_utf8(entry.get(2..)?).ok()?.parse().ok()?;
    let (mut spelling, mut at) = (String::with_capacity(length), start);
    while spelling.len() < length {
        if byte(text, at) == b' ' && byte(text, at + 1).is_ascii_alphanumeric() {
            at += 1;
        }
        let c = byte(text, at);
        if !c.is_ascii_alphanumeric() {
            return None;
        }
        spelling.push(char::from(c.to_ascii_uppercase()));
        at += 1;
    }
    (!byte(text, at).is_ascii_alphanumeric()).then_some((at, spelling))
}

/// ISO 7064 MOD 97-10: with the first four at the end, and letters as 10 to 35, the remainder is 1.
fn has_good_checksum(iban: &str) -> bool {
    let (head, tail) = iban.split_at_checked(4).unwrap_or_default();
    let remainder = tail.bytes().chain(head.bytes()).fold(0u32, |sum, c| match c {
        b'0'..=b'9' => (sum * 10 + u32::from(c - b'0')) % 97,
        c => (sum * 100 + u32::from(c - b'A') + 10) % 97,
    });
    remainder == 1
}
