//! Personal-data rules: whom a text is about. Off unless an operator switches them on, as most tools are about somebody.
//!
//! Each kind has a grammar of its own and, where there is one, a check digit, so that an order number is left alone. A text
//! with neither a digit nor an at sign is passed over; any other is read a bounded number of times, whatever is in it. What
//! is hashed is hashed in one spelling, so that `4111 1111 …` and `4111-1111-…` correlate.

mod accounts;
mod people;

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Number;

use super::edit::{MARK, Op};
use super::hash::HashKey;
use super::values::Finding;

/// The category of every edit that these rules make.
pub(super) const PERSONAL_DATA: &str = "personal-data";

/// What is done with one kind of personal data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Treatment {
    /// It is recorded.
    #[default]
    Off,
    /// A mark stands in its place.
    Mask,
    /// Its [`HashKey`] hash stands in its place.
    Hash,
}

/// What is done with each kind of personal data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PersonalData {
    /// E-mail addresses.
    pub email: Treatment,
    /// Telephone numbers: international ones, and those of North America with their usual separators.
    pub phone: Treatment,
    /// Payment cards: 13 to 19 digits with a good check digit.
    pub payment_card: Treatment,
    /// International bank account numbers (ISO 13616).
    pub iban: Treatment,
    /// United States social security numbers and United Kingdom national insurance numbers.
    pub national_id: Treatment,
}

/// What a rule found: where, and its one spelling.
struct Found {
    range: Range<usize>,
    spelling: String,
}

/// Finds one kind of personal data in a text.
type Find = fn(&str, &mut Vec<Found>);

struct Rule {
    name: &'static str,
    find: Find,
    /// The fewest digits of any match: a text with fewer is not read.
    min_digits: usize,
    hashed: bool,
}

/// No number below has as many digits as a card.
const LEAST_CARD: f64 = 1e12;

/// The rules that are switched on.
pub(super) struct Personal {
    rules: Vec<Rule>,
    hash_key: Option<HashKey>,
}

impl Personal {
    /// The rules that are switched on, if any is.
    pub(super) fn new(settings: &PersonalData, hash_key: Option<HashKey>) -> Option<Self> {
        let rule = |name: &'static str, treatment: Treatment, min_digits: usize, find: Find| {
            let hashed = treatment == Treatment::Hash;
            (treatment != Treatment::Off).then_some(Rule { name, find, min_digits, hashed })
        };
        let kinds = [
            rule("email", settings.email, 0, people::emails),
            rule("payment-card", settings.payment_card, 13, accounts::cards),
            rule("iban", settings.iban, 2, accounts::ibans),
            rule("national-id", settings.national_id, 6, people::national_ids),
            rule("phone", settings.phone, 8, people::phones),
        ];
        let rules: Vec<Rule> = kinds.into_iter().flatten().collect();
        (!rules.is_empty()).then_some(Self { rules, hash_key })
    }

    /// The personal data in a text, in no order.
    pub(super) fn find(&self, text: &str, findings: &mut Vec<Finding>) {
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        if digits == 0 && !text.contains('@') {
            return;
        }
        let mut found = Vec::new();
        for rule in self.rules.iter().filter(|rule| digits >= rule.min_digits) {
            (rule.find)(text, &mut found);
            findings.extend(found.drain(..).map(|found| self.finding(rule, found)));
        }
    }

    /// What stands in the place of a number, if it is personal data as a whole: only cards are written as one.
    pub(super) fn number(&self, number: &Number) -> Option<Finding> {
        let text = match number.as_f64() {
            Some(float) if float < LEAST_CARD => return None,
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the guard says that it is whole and small enough"
            )]
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e18 => {
                (float as i64).to_string()
            }
            _ => number.to_string(),
        };
        let mut findings = Vec::new();
        self.find(&text, &mut findings);
        findings.into_iter().find(|finding| finding.range == (0..text.len()))
    }

    fn finding(&self, rule: &Rule, found: Found) -> Finding {
        let key = self.hash_key.as_ref().filter(|_| rule.hashed);
        let (op, mark) = match key {
            Some(key) => (Op::Hash, Cow::Owned(key.hash(found.spelling.as_bytes()))),
            None => (Op::Mask, Cow::Borrowed(MARK)),
        };
        Finding { range: found.range, rule: rule.name, sure: true, op, mark, category: PERSONAL_DATA }
    }
}

/// The byte at an index; 0 beyond the ends.
fn byte(text: &str, at: usize) -> u8 {
    text.as_bytes().get(at).copied().unwrap_or(0)
}

/// The byte before an index; 0 at the beginning.
fn before(text: &str, at: usize) -> u8 {
    at.checked_sub(1).map_or(0, |at| byte(text, at))
}

/// Whether an ASCII letter or digit stands before an index and is not the end of a percent-encoded byte.
fn joined_before(text: &str, at: usize) -> bool {
    let encoded = at >= 3
        && byte(text, at - 3) == b'%'
        && byte(text, at - 2).is_ascii_hexdigit()
        && byte(text, at - 1).is_ascii_hexdigit();
    !encoded && before(text, at).is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests;
