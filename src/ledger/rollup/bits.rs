//! Sets of places in a block, and columns of numbers, as they are stored.

/// Entries of a block.
pub const BLOCK: usize = 4_096;

const WORDS: usize = BLOCK / 64;

/// Bytes of a set with a bit for each place.
const DENSE_BYTES: usize = BLOCK / 8;

/// The places of one value, as stored: few by number, many by bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bits {
    /// In ascending order.
    Few(Vec<u16>),
    /// A bit for each place.
    Many(Mask),
}

/// A bit for each place of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask(Box<[u64; WORDS]>);

impl Bits {
    /// Places in ascending order.
    #[must_use]
    pub fn of(places: Vec<u16>) -> Self {
        if places.len() * 2 < DENSE_BYTES {
            return Self::Few(places);
        }
        let mut mask = Mask::none();
        for place in places {
            mask.insert(usize::from(place));
        }
        Self::Many(mask)
    }

    /// As stored.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        if bytes.len() == DENSE_BYTES {
            let mut mask = Mask::none();
            for (word, chunk) in mask.0.iter_mut().zip(bytes.chunks_exact(8)) {
                *word = chunk.try_into().map_or(0, u64::from_le_bytes);
            }
            return Self::Many(mask);
        }
        let places = bytes.chunks_exact(2).map(|pair| pair.try_into().map_or(0, u16::from_le_bytes));
        Self::Few(places.collect())
    }

    /// To be stored.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Few(places) => places.iter().flat_map(|place| place.to_le_bytes()).collect(),
            Self::Many(mask) => mask.0.iter().flat_map(|word| word.to_le_bytes()).collect(),
        }
    }

    /// The highest place.
    #[must_use]
    pub fn last(&self) -> Option<usize> {
        match self {
            Self::Few(places) => places.last().map(|place| usize::from(*place)),
            Self::Many(mask) => mask.last(),
        }
    }

    /// Calls back for each place, in ascending order.
    pub fn each(&self, mut with: impl FnMut(usize)) {
        match self {
            Self::Few(places) => places.iter().for_each(|place| with(usize::from(*place))),
            Self::Many(mask) => mask.each(with),
        }
    }

    /// As a set of its own.
    #[must_use]
    pub fn mask(&self) -> Mask {
        let mut mask = Mask::none();
        mask.add(self);
        mask
    }
}

impl Mask {
    /// No place.
    #[must_use]
    pub fn none() -> Self {
        Self(Box::new([0; WORDS]))
    }

    /// The first so many places.
    #[must_use]
    pub fn first(count: usize) -> Self {
        let mut mask = Self::none();
        let mut left = count;
        for word in mask.0.iter_mut() {
            *word = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
            left = left.saturating_sub(64);
        }
        mask
    }

    /// Adds a place.
    pub fn insert(&mut self, place: usize) {
        if let Some(word) = self.0.get_mut(place / 64) {
            *word |= 1 << (place % 64);
        }
    }

    /// Whether a place is in it.
    #[must_use]
    pub fn contains(&self, place: usize) -> bool {
        self.0.get(place / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }

    /// Adds these places.
    pub fn add(&mut self, bits: &Bits) {
        match bits {
            Bits::Few(places) => {
                for place in places {
                    self.insert(usize::from(*place));
                }
            }
            Bits::Many(mask) => {
                for (word, other) in self.0.iter_mut().zip(mask.0.iter()) {
                    *word |= other;
                }
            }
        }
    }

    /// Keeps the places that are in the other, too.
    pub fn keep(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(other.0.iter()) {
            *word &= other;
        }
    }

    /// Keeps the places that are not in the other.
    pub fn remove(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(other.0.iter()) {
            *word &= !other;
        }
    }

    /// Keeps the places for which this is true.
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        for (at, word) in self.0.iter_mut().enumerate() {
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                if !keep(at * 64 + bit as usize) {
                    *word &= !(1 << bit);
                }
            }
        }
    }

    /// How many places there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Whether it has every place of the other.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0.iter()).all(|(word, other)| other & !word == 0)
    }

    /// The highest place.
    #[must_use]
    pub fn last(&self) -> Option<usize> {
        self.places().next_back()
    }

    /// In ascending order.
    pub fn places(&self) -> impl DoubleEndedIterator<Item = usize> {
        (0..BLOCK).filter(|place| self.contains(*place))
    }

    /// Calls back for each place, in ascending order.
    pub fn each(&self, mut with: impl FnMut(usize)) {
        for (at, word) in self.0.iter().enumerate() {
            let mut left = *word;
            while left != 0 {
                with(at * 64 + left.trailing_zeros() as usize);
                left &= left - 1;
            }
        }
    }

    /// Calls back for each place that is in the other, too, with the number of places before it.
    pub fn each_among(&self, other: &Self, mut with: impl FnMut(usize, u32)) {
        let mut before = 0;
        for (at, (word, other)) in self.0.iter().zip(other.0.iter()).enumerate() {
            let mut left = word & other;
            while left != 0 {
                let bit = left.trailing_zeros();
                with(at * 64 + bit as usize, before + (word & ((1 << bit) - 1)).count_ones());
                left &= left - 1;
            }
            before += word.count_ones();
        }
    }
}

/// Numbers as LEB128, one after the other.
#[must_use]
pub fn encode_numbers(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for mut number in numbers {
        while number >= 0x80 {
            bytes.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
            number >>= 7;
        }
        bytes.push(u8::try_from(number).unwrap_or(0));
    }
    bytes
}

/// The same numbers back.
#[must_use]
pub fn decode_numbers(bytes: &[u8]) -> Vec<u64> {
    let mut numbers = Vec::with_capacity(BLOCK);
    let mut bytes = bytes.iter();
    while let Some(first) = bytes.next() {
        let mut number = u64::from(first & 0x7f);
        if first & 0x80 != 0 {
            let mut shift = 7;
            for byte in bytes.by_ref() {
                number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
        }
        numbers.push(number);
    }
    numbers
}

/// Times as steps from one to the next, beginning at `first_ms`.
#[must_use]
pub fn encode_times(first_ms: i64, times: &[i64]) -> Vec<u8> {
    let mut last = first_ms;
    encode_numbers(times.iter().map(|time| {
        let step = time.wrapping_sub(last);
        last = *time;
        ((step << 1) ^ (step >> 63)).cast_unsigned()
    }))
}

/// The same times back.
#[must_use]
pub fn decode_times(first_ms: i64, bytes: &[u8]) -> Vec<i64> {
    let mut last = first_ms;
    let mut times = Vec::with_capacity(BLOCK);
    for number in decode_numbers(bytes) {
        let step = (number >> 1).cast_signed() ^ -((number & 1).cast_signed());
        last = last.wrapping_add(step);
        times.push(last);
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_come_back_as_they_were() {
        for step in [1, 2, 7, 16, 17, 100, 5_000] {
            let places: Vec<u16> = (0..4_096).step_by(step).collect();
            let bits = Bits::of(places.clone());
            assert_eq!(Bits::decode(&bits.encode()), bits);
            assert!(bits.encode().len() <= DENSE_BYTES);
            let mask = bits.mask();
            assert_eq!(mask.places().map(|place| u16::try_from(place).unwrap()).collect::<Vec<_>>(), places);
            assert_eq!(mask.count(), places.len() as u64);
            let half = Mask::first(100);
            let mut among = Vec::new();
            half.each_among(&mask, |place, before| among.push((place, before)));
            assert_eq!(
                among,
                (0..100)
                    .step_by(step)
                    .map(|place| (place, u32::try_from(place).unwrap()))
                    .collect::<Vec<_>>()
            );
            let below = places.iter().filter(|place| **place < 100).count() as u64;
            let mut kept = mask.clone();
            kept.keep(&half);
            assert_eq!(kept.count(), below);
            let mut each = Vec::new();
            mask.each(|place| each.push(u16::try_from(place).unwrap()));
            assert_eq!(each, places);
        }
        assert_eq!(Mask::first(BLOCK).count(), 4_096);
        assert!(Mask::first(0).is_empty());
    }

    #[test]
    fn numbers_and_times_come_back() {
        let numbers = [0, 1, 127, 128, 16_383, 16_384, u64::MAX];
        assert_eq!(decode_numbers(&encode_numbers(numbers)), numbers);
        let times = [5, 3, 1_795_158_000_000, -7, i64::MAX, 0];
        assert_eq!(decode_times(5, &encode_times(5, &times)), times);
    }
}
