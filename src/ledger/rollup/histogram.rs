//! How long things took, in classes: sixteen for each doubling, so that no figure is off by more than 4 %.

use serde::{Deserialize, Serialize};

/// Times in microseconds, each to within 4 %.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// Half took no longer.
    pub p50: Option<u64>,
    /// 99 of 100 took no longer.
    pub p99: Option<u64>,
}

/// How often each length of time came: sixteen classes for each doubling.
#[derive(Default)]
pub struct Histogram {
    classes: Vec<u64>,
    count: u64,
}

/// Classes there are.
const CLASSES: usize = 1_024;

/// The class of a length of time.
pub fn class_of(value: u64) -> usize {
    let shift = (64 - value.leading_zeros()).saturating_sub(5);
    usize::try_from(u64::from(shift) * 16 + (value >> shift)).unwrap_or(0)
}

impl Histogram {
    pub fn add(&mut self, class: usize, times: u64) {
        if self.classes.is_empty() {
            self.classes.resize(CLASSES, 0);
        }
        if let Some(count) = self.classes.get_mut(class) {
            *count += times;
            self.count += times;
        }
    }

    pub fn merge(&mut self, other: &Self) {
        if self.classes.len() < other.classes.len() {
            self.classes.resize(other.classes.len(), 0);
        }
        for (class, more) in self.classes.iter_mut().zip(&other.classes) {
            *class += more;
        }
        self.count += other.count;
    }

    /// The middle of the class in which so many of 100 are done.
    fn at(&self, percent: u64) -> Option<u64> {
        let wanted = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (class, count) in self.classes.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted {
                let class = class as u64;
                let shift = (class / 16).saturating_sub(1);
                let lowest = (class - shift * 16) << shift;
                return Some(lowest + (1 << shift) / 2);
            }
        }
        None
    }

    pub fn percentiles(&self) -> Percentiles {
        Percentiles { count: self.count, p50: self.at(50), p99: self.at(99) }
    }
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "what is compared is small, or need not be exact")]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_near() {
        let mut histogram = Histogram::default();
        (1..=100_000).for_each(|us| histogram.add(class_of(us), 1));
        for (percent, exact) in [(50, 50_000_f64), (99, 99_000_f64)] {
            let found = histogram.at(percent).unwrap() as f64;
            assert!((found / exact - 1.0).abs() < 0.04, "{percent}: {found}");
        }
        for value in [0, 1, 15, 16, 31, 32, 33, 1_000, u64::MAX] {
            let mut one = Histogram::default();
            one.add(class_of(value), 1);
            let found = one.at(50).unwrap() as f64;
            assert!((found - value as f64).abs() <= value as f64 * 0.04, "{value}: {found}");
        }
        assert_eq!(Histogram::default().at(50), None);
    }
}
