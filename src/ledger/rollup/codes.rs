//! What the decisions of a block are grouped by: a list of sets, and for each decision the number of its own.
//!
//! [`Bits`] answer which entries have a value; this is the same table read the other way, so that counting by value takes one
//! walk over the decisions, however many values there are.

use std::collections::HashMap;

use rustc_hash::FxHashMap;

use super::bits::Bits;
use super::block::ValueId;

/// How many decisions have a value, and how many of them were denied. Ids are salted digests: nobody can choose them so that they
/// collide.
pub type Tally = FxHashMap<ValueId, (u64, u64)>;

/// Adds to what is counted of a value.
pub fn add(tally: &mut Tally, id: ValueId, count: u64, deny: u64) {
    if count > 0 {
        let sums = tally.entry(id).or_default();
        sums.0 += count;
        sums.1 += deny;
    }
}

/// Of no decision.
pub static NONE: Codes = Codes { ids: Vec::new(), ends: Vec::new(), of: Vec::new() };

/// The sets of a block's decisions. Most have one member at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codes {
    /// The members of all sets, one set after the other.
    ids: Vec<ValueId>,
    /// Where each set ends.
    ends: Vec<usize>,
    /// One for each decision: the number of its set, from 1, or 0.
    of: Vec<u16>,
}

impl Codes {
    /// Of a column's values. `numbers` says of each place of the block which decision is there.
    pub fn of<'a>(
        count: usize,
        numbers: &[Option<u16>],
        values: impl Iterator<Item = (ValueId, &'a Bits)>,
    ) -> Self {
        let mut sets: Vec<Vec<ValueId>> = vec![Vec::new()];
        let mut joined: HashMap<(usize, ValueId), usize> = HashMap::new();
        let mut of_decisions = vec![0_usize; count];
        for (id, bits) in values {
            bits.each(|place| {
                let number = numbers.get(place).copied().flatten().map(usize::from);
                let Some(set) = number.and_then(|number| of_decisions.get_mut(number)) else { return };
                *set = *joined.entry((*set, id)).or_insert_with(|| {
                    let mut larger = sets.get(*set).cloned().unwrap_or_default();
                    larger.push(id);
                    sets.push(larger);
                    sets.len() - 1
                });
            });
        }
        let mut codes = Self::default();
        // Sets that grew by another value are nobody's.
        let mut kept: HashMap<usize, u16> = HashMap::from([(0, 0)]);
        for set in of_decisions {
            let members = sets.get(set).map(Vec::as_slice).unwrap_or_default();
            let code = *kept.entry(set).or_insert_with(|| codes.push(members));
            codes.of.push(code);
        }
        codes
    }

    /// Of one number for each decision, or none.
    pub fn of_numbers(numbers: impl Iterator<Item = Option<ValueId>>) -> Self {
        let mut codes = Self::default();
        let mut known: FxHashMap<ValueId, u16> = FxHashMap::default();
        for number in numbers {
            let code =
                number.map_or(0, |number| *known.entry(number).or_insert_with(|| codes.push(&[number])));
            codes.of.push(code);
        }
        codes
    }

    /// A set more, and its number.
    fn push(&mut self, set: &[ValueId]) -> u16 {
        self.ids.extend(set);
        self.ends.push(self.ids.len());
        u16::try_from(self.ends.len()).unwrap_or(0)
    }

    /// As stored; `None` where it is not what docket stores.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk::<4>()?;
        let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
        let (lengths, rest) = rest.split_at_checked(count.checked_mul(4)?)?;
        let mut ends = Vec::with_capacity(count);
        let mut end = 0_usize;
        for length in lengths.as_chunks::<4>().0 {
            end = end.checked_add(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
            ends.push(end);
        }
        let (ids, codes) = rest.split_at_checked(end.checked_mul(8)?)?;
        let ids = ids.as_chunks::<8>().0.iter().map(|id| i64::from_le_bytes(*id)).collect();
        let codes: Vec<u16> = if count < 256 {
            codes.iter().map(|code| u16::from(*code)).collect()
        } else {
            codes.as_chunks::<2>().0.iter().map(|code| u16::from_le_bytes(*code)).collect()
        };
        Some(Self { ids, ends, of: codes })
    }

    /// To be stored.
    pub fn encode(&self) -> Vec<u8> {
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = small(self.ends.len()).to_vec();
        let mut start = 0;
        for end in &self.ends {
            bytes.extend(small(end - start));
            start = *end;
        }
        bytes.extend(self.ids.iter().flat_map(|id| id.to_le_bytes()));
        if self.ends.len() < 256 {
            bytes.extend(self.of.iter().map(|code| u8::try_from(*code).unwrap_or(0)));
        } else {
            bytes.extend(self.of.iter().flat_map(|code| code.to_le_bytes()));
        }
        bytes
    }

    /// Takes away what these decisions have.
    pub fn remove(&mut self, decisions: &[u16]) {
        for number in decisions {
            if let Some(code) = self.of.get_mut(usize::from(*number)) {
                *code = 0;
            }
        }
    }

    fn set(&self, code: usize) -> &[ValueId] {
        let end = |code: Option<usize>| code.and_then(|code| self.ends.get(code)).copied().unwrap_or(0);
        self.ids.get(end(code.checked_sub(2))..end(code.checked_sub(1))).unwrap_or_default()
    }

    #[inline]
    fn code(&self, number: u16) -> usize {
        self.of.get(usize::from(number)).map_or(0, |code| usize::from(*code))
    }

    /// How many of these decisions have each set.
    fn counts(&self, decisions: &[u16]) -> Vec<u64> {
        let mut counts = vec![0; self.ends.len() + 1];
        for number in decisions {
            if let Some(count) = counts.get_mut(self.code(*number)) {
                *count += 1;
            }
        }
        counts
    }

    /// The sets of these decisions, each with how many have it.
    pub fn counted(&self, decisions: &[u16]) -> impl Iterator<Item = (&[ValueId], u64)> {
        let counts = self.counts(decisions).into_iter().enumerate();
        counts.filter(|(_, count)| *count > 0).map(|(code, count)| (self.set(code), count))
    }

    /// Counts the values of these decisions; `denials` are some of them.
    pub fn tally(&self, decisions: &[u16], denials: &[u16], into: &mut Tally) {
        let counts = self.counts(decisions).into_iter().zip(self.counts(denials));
        for (code, (count, deny)) in counts.enumerate() {
            self.set(code).iter().for_each(|id| add(into, *id, count, deny));
        }
    }

    /// What each of these decisions has, by what `of` makes of its set.
    pub fn each<T: Copy + Default>(&self, decisions: &[u16], of: impl Fn(&[ValueId]) -> T) -> Vec<T> {
        let made = self.made(of);
        decisions.iter().map(|number| made(*number)).collect()
    }

    /// Those of these decisions for whose set this is true.
    pub fn having(&self, decisions: &[u16], is: impl Fn(&[ValueId]) -> bool) -> Vec<u16> {
        let has = self.made(is);
        decisions.iter().copied().filter(|number| has(*number)).collect()
    }

    /// What `of` makes of a decision's set: once for each set, however many have it.
    fn made<T: Copy + Default>(&self, of: impl Fn(&[ValueId]) -> T) -> impl Fn(u16) -> T {
        let made: Vec<T> = (0..=self.ends.len()).map(|code| of(self.set(code))).collect();
        move |number| made.get(self.code(number)).copied().unwrap_or_default()
    }

    /// These decisions by the first value of each, `None` for those that have none.
    pub fn parts(&self, decisions: &[u16]) -> Vec<(Option<ValueId>, Vec<u16>)> {
        let mut parts = vec![Vec::new(); self.ends.len() + 1];
        for number in decisions {
            if let Some(part) = parts.get_mut(self.code(*number)) {
                part.push(*number);
            }
        }
        let parts = parts.into_iter().enumerate().filter(|(_, part)| !part.is_empty());
        parts.map(|(code, part)| (self.set(code).first().copied(), part)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::rollup::BLOCK;

    /// Values of a column, each with the places that have it, where every place from the third on is a decision.
    fn codes(values: &[(ValueId, &[u16])]) -> Codes {
        let numbers: Vec<Option<u16>> =
            (0..BLOCK).map(|place| u16::try_from(place).unwrap().checked_sub(2)).collect();
        let values: Vec<(ValueId, Bits)> =
            values.iter().map(|(id, places)| (*id, Bits::of(places.to_vec()))).collect();
        Codes::of(BLOCK - 2, &numbers, values.iter().map(|(id, bits)| (*id, bits)))
    }

    fn sorted(tally: Tally) -> Vec<(ValueId, (u64, u64))> {
        let mut tally: Vec<_> = tally.into_iter().collect();
        tally.sort_unstable();
        tally
    }

    #[test]
    fn codes_come_back_and_count() {
        let every: Vec<u16> = (0..4_096).collect();
        let many: Vec<(ValueId, Vec<u16>)> =
            (0..700).map(|id| (id, vec![u16::try_from(id).unwrap()])).collect();
        let many: Vec<(ValueId, &[u16])> = many.iter().map(|(id, places)| (*id, &places[..])).collect();
        // Two values of one place, in any combination; one that all have; more than a byte can number.
        for values in
            [&[(-7, &[0_u16, 4][..]), (9, &[2, 3, 4, 5]), (11, &[4, 4_095])][..], &[(5, &every)], &many, &[]]
        {
            let codes = codes(values);
            assert_eq!(Codes::decode(&codes.encode()).as_ref(), Some(&codes));
            let mut tally = Tally::default();
            codes.tally(&[0, 1, 2], &[2], &mut tally);
            let mut expected: Vec<_> = values
                .iter()
                .map(|(id, places)| {
                    let count = places.iter().filter(|place| (2..5).contains(*place)).count() as u64;
                    (*id, (count, u64::from(places.contains(&4))))
                })
                .filter(|(_, (count, _))| *count > 0)
                .collect();
            expected.sort_unstable();
            assert_eq!(sorted(tally), expected);
        }
    }

    #[test]
    fn what_is_removed_counts_no_more() {
        let mut codes = codes(&[(1, &[2, 3]), (2, &[3, 5])]);
        codes.remove(&[1]);
        let mut tally = Tally::default();
        codes.tally(&[0, 1, 2, 3], &[], &mut tally);
        assert_eq!(sorted(tally), [(1, (1, 0)), (2, (1, 0))]);
        let parts = codes.parts(&[0, 1, 2, 3, 4]);
        assert_eq!(parts, [(None, vec![1, 2, 4]), (Some(1), vec![0]), (Some(2), vec![3])]);
        assert_eq!(codes.each(&[3, 1, 0], |set| set.first().copied()), [Some(2), None, Some(1)]);
    }

    #[test]
    fn what_docket_did_not_store_is_no_codes() {
        for bytes in [&b""[..], b"\x01\0\0", b"\xff\xff\xff\xff", b"\x01\0\0\0\xff\xff\xff\xff"] {
            assert_eq!(Codes::decode(bytes), None);
        }
    }
}
