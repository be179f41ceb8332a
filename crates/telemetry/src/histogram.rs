//! Log-linear histograms: whole numbers below 128 exactly, above that 64 buckets per power of two.
//!
//! A bucket is reported by its middle, so a quantile is off by at most half a bucket: 1/128, under
//! 0.8 % ([`RELATIVE_ERROR`]). Count and sum are exact. A recorder only ever grows; a window is the
//! difference of two readings, so the writer never has to be stopped to reset it.
//!
//! ```text
//!  value   0 1 2 … 127 | 128-129 130-131 … 254-255 | 256-259 … | …
//!  bucket  0 1 2 … 127 | 128     129       191     | 192       | …   up to u64::MAX: 3776 buckets
//! ```
//! Memory: 32 bytes while empty, then 280 for the numbers below 64, those below 128, and each power of two above
//! that was seen. A router holds thousands, most of which see one or two of these.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The bound on a quantile's relative error.
pub const RELATIVE_ERROR: f64 = 1.0 / 128.0;

const ROW: usize = 64;
/// Buckets that stand together, in a chain in the order in which they were first needed.
#[derive(Debug)]
struct Row {
    number: usize,
    counts: [AtomicU32; ROW],
    next: OnceLock<Box<Row>>,
}

impl Row {
    fn new(number: usize) -> Box<Row> {
        Box::new(Row { number, counts: std::array::from_fn(|_| AtomicU32::new(0)), next: OnceLock::new() })
    }
}

/// The cell behind a [`crate::Stat`]. Bucket counts wrap at 2^32; differences of readings stay right as
/// long as fewer samples than that fall into one window.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    count: AtomicU64,
    sum: AtomicU64,
    rows: OnceLock<Box<Row>>,
}

impl Recorder {
    /// One writer only: the caller is a handle that is neither `Sync` nor `Clone`.
    #[inline]
    pub(crate) fn record(&self, value: u64) {
        let index = bucket_of(value);
        let number = index / ROW;
        let mut row = self.rows.get_or_init(|| Row::new(number));
        while row.number != number {
            row = row.next.get_or_init(|| Row::new(number));
        }
        let cell = &row.counts[index % ROW];
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        self.sum.store(self.sum.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
        self.count.store(self.count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Adds what was recorded so far to a reading.
    pub(crate) fn read_into(&self, reading: &mut Reading) {
        reading.sum = reading.sum.wrapping_add(self.sum.load(Ordering::Relaxed));
        reading.count = reading.count.wrapping_add(self.count.load(Ordering::Relaxed));
        let mut next = self.rows.get();
        while let Some(row) = next {
            for (place, cell) in row.counts.iter().enumerate() {
                reading.bucket((row.number * ROW + place) as u16, cell.load(Ordering::Relaxed));
            }
            next = row.next.get();
        }
    }
}

/// All that one path's recorders ever counted, modulo the wrap of the cells.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    sum: u64,
    count: u64,
    /// Those that are not empty, in ascending order.
    buckets: Vec<(u16, u32)>,
}

impl Reading {
    fn bucket(&mut self, index: u16, count: u32) {
        if count == 0 {
            return;
        }
        match self.buckets.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(place) => self.buckets[place].1 = self.buckets[place].1.wrapping_add(count),
            Err(place) => self.buckets.insert(place, (index, count)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many samples there were since the start, and their sum.
    pub(crate) fn total(&self) -> Total {
        Total { count: self.count, sum: self.sum }
    }

    pub(crate) fn add(&mut self, other: &Reading) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.count = self.count.wrapping_add(other.count);
        other.buckets.iter().for_each(|(index, count)| self.bucket(*index, *count));
    }

    /// What was recorded after `earlier` was read.
    pub(crate) fn since(&self, earlier: &Reading) -> Distribution {
        let mut later = Reading { buckets: self.buckets.clone(), ..Reading::default() };
        earlier.buckets.iter().for_each(|(index, count)| later.bucket(*index, 0u32.wrapping_sub(*count)));
        later.buckets.retain(|(_, count)| *count > 0);
        Distribution { sum: self.sum.wrapping_sub(earlier.sum), buckets: later.buckets }
    }
}

/// All samples since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    pub count: u64,
    pub sum: u64,
}

/// The samples of one stretch of time: non-empty buckets in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    sum: u64,
    buckets: Vec<(u16, u32)>,
}

impl Distribution {
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// `(middle of the bucket, samples)` in ascending order, for drawing.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.buckets.iter().map(|(index, count)| (middle_of(usize::from(*index)), *count))
    }

    /// The sample of rank `quantile × count`, rounded as the original does (so the median of an even number
    /// is the lower middle, and the 0.9 of eight samples is the seventh); 0 if empty.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let count = self.count();
        let rank = ((quantile * count as f64).round() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        for (value, count) in self.buckets() {
            seen += u64::from(count);
            if seen >= rank {
                return value;
            }
        }
        0
    }

    pub fn merge(&mut self, other: &Distribution) {
        self.sum = self.sum.wrapping_add(other.sum);
        for (index, count) in &other.buckets {
            match self.buckets.binary_search_by_key(index, |(index, _)| *index) {
                Ok(position) => self.buckets[position].1 = self.buckets[position].1.saturating_add(*count),
                Err(position) => self.buckets.insert(position, (*index, *count)),
            }
        }
    }

    pub fn summary(&self) -> Summary {
        let count = self.count();
        Summary {
            count,
            max: self.quantile(1.0),
            min: self.quantile(0.0),
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p95: self.quantile(0.95),
            p99: self.quantile(0.99),
            p9990: self.quantile(0.999),
            p9999: self.quantile(0.9999),
            sum: self.sum,
            avg: if count == 0 { 0.0 } else { self.sum as f64 / count as f64 },
        }
    }
}

/// The original's summary of a window. All zero when `count` is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    pub count: u64,
    pub max: u64,
    pub min: u64,
    pub p50: u64,
    pub p90: u64,
    pub p95: u64,
    pub p99: u64,
    pub p9990: u64,
    pub p9999: u64,
    pub sum: u64,
    pub avg: f64,
}

fn bucket_of(value: u64) -> usize {
    if value < 2 * ROW as u64 {
        return value as usize;
    }
    let shift = 57 - value.leading_zeros() as usize;
    // `value >> shift` lies in 64..128, so rows of 64 follow each other without a gap.
    shift * ROW + (value >> shift) as usize
}

fn middle_of(index: usize) -> u64 {
    if index < 2 * ROW {
        return index as u64;
    }
    let shift = index / ROW - 1;
    let low = ((index % ROW + ROW) as u64) << shift;
    low + ((1u64 << shift) - 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn recorded(values: &[u64]) -> Distribution {
        let recorder = Recorder::default();
        values.iter().for_each(|value| recorder.record(*value));
        let mut reading = Reading::default();
        recorder.read_into(&mut reading);
        reading.since(&Reading::default())
    }

    #[test]
    fn buckets_follow_each_other_from_zero_to_the_largest_number() {
        assert_eq!(bucket_of(127), 127);
        assert_eq!(bucket_of(128), 128);
        assert_eq!(bucket_of(129), 128);
        assert_eq!(bucket_of(256), 192);
        // Rows 0 and 1 are the exact numbers; then one per power of two from 2^7 to 2^63.
        assert_eq!(bucket_of(u64::MAX), (2 + 57) * ROW - 1);
    }

    #[test]
    fn the_summary_of_an_observed_window_is_the_originals() {
        let summary = recorded(&[1, 1, 1, 2, 2, 25, 30, 108]).summary();
        assert_eq!((summary.count, summary.sum, summary.avg), (8, 170, 21.25));
        assert_eq!((summary.min, summary.p50, summary.p95, summary.max), (1, 2, 108, 108));
    }

    #[test]
    fn an_empty_window_sums_up_to_nothing() {
        assert_eq!(Distribution::default().summary(), Summary::default());
    }

    proptest! {
        #[test]
        fn a_bucket_is_within_the_stated_error(value: u64) {
            let error = middle_of(bucket_of(value)).abs_diff(value);
            prop_assert!(error as f64 <= value as f64 * RELATIVE_ERROR, "{value} is off by {error}");
        }

        #[test]
        fn quantiles_are_within_the_stated_error(mut values in prop::collection::vec(0u64..10_000_000, 1..200)) {
            let shown = recorded(&values);
            values.sort_unstable();
            for quantile in [0.0, 0.5, 0.9, 0.99, 1.0] {
                let rank = ((quantile * values.len() as f64).round() as usize).max(1);
                let exact = values[rank - 1] as f64;
                prop_assert!((shown.quantile(quantile) as f64 - exact).abs() <= exact * RELATIVE_ERROR);
            }
            prop_assert_eq!(shown.sum(), values.iter().sum::<u64>());
        }

        #[test]
        fn a_difference_of_readings_holds_just_the_later_samples(
            first in prop::collection::vec(0u64..5000, 0..50),
            second in prop::collection::vec(0u64..5000, 0..50),
        ) {
            let recorder = Recorder::default();
            first.iter().for_each(|value| recorder.record(*value));
            let mut before = Reading::default();
            recorder.read_into(&mut before);
            second.iter().for_each(|value| recorder.record(*value));
            let mut after = Reading::default();
            recorder.read_into(&mut after);
            prop_assert_eq!(after.since(&before), recorded(&second));
        }
    }
}
