//! How long to wait before the next try.

use thiserror::Error;

use crate::random::Random;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;

/// A rule for waits, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// The same wait each time. The default of service retries is 0.
    Constant { nanos: u64 },
    /// First `min`; then uniform in `[previous, min(3 × previous, max))`, so waits never get shorter. That
    /// is what the original does; textbook decorrelated jitter differs.
    Jittered { min: u64, max: u64 },
    /// First `start`; then half + random(half) with half = start × 2^(k−1), until it would exceed `max`;
    /// from there on constantly `max`.
    EqualJittered { start: u64, max: u64 },
}

/// A wrong `backoff` section.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BackoffError {
    #[error("minMs must be greater than 0")]
    MinNotPositive,
    #[error("maxMs must be greater than 0")]
    MaxNotPositive,
    #[error("minMs ({min}) must not be greater than maxMs ({max})")]
    MinAboveMax { min: u64, max: u64 },
}

impl Backoff {
    /// The default of failure accrual: 5 s, at most 300 s.
    pub const ACCRUAL: Backoff = Backoff::EqualJittered { start: 5 * SECOND, max: 300 * SECOND };
    /// The default of service retries: try again at once.
    pub const NONE: Backoff = Backoff::Constant { nanos: 0 };

    /// `kind: constant`.
    pub fn constant(millis: u64) -> Backoff {
        Backoff::Constant { nanos: millis.saturating_mul(MILLI) }
    }

    /// `kind: jittered`.
    ///
    /// # Errors
    /// Both bounds must be positive and in order.
    pub fn jittered(min: u64, max: u64) -> Result<Backoff, BackoffError> {
        match (min, max) {
            (0, _) => Err(BackoffError::MinNotPositive),
            (_, 0) => Err(BackoffError::MaxNotPositive),
            (min, max) if min > max => Err(BackoffError::MinAboveMax { min, max }),
            (min, max) => Ok(Backoff::Jittered { min: min.saturating_mul(MILLI), max: max.saturating_mul(MILLI) }),
        }
    }

    /// The waits from the start.
    pub fn start(self) -> Backoffs {
        Backoffs { rule: self, attempt: 0, previous: 0 }
    }
}

/// A place in a series of waits. The series does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoffs {
    rule: Backoff,
    attempt: u32,
    previous: u64,
}

impl Backoffs {
    /// The next wait in nanoseconds.
    pub fn next_wait(&mut self, random: &mut impl Random) -> u64 {
        let wait = match self.rule {
            Backoff::Constant { nanos } => nanos,
            Backoff::Jittered { min, .. } if self.attempt == 0 => min,
            Backoff::Jittered { max, .. } => {
                let upper = self.previous.saturating_mul(3).min(max);
                self.previous + random.below(upper.saturating_sub(self.previous))
            }
            Backoff::EqualJittered { start, max } if self.attempt == 0 => start.min(max),
            // Once the bound was reached it holds, whatever the dice say.
            Backoff::EqualJittered { max, .. } if self.previous == max => max,
            Backoff::EqualJittered { start, max } => {
                let half = 1u64.checked_shl(self.attempt - 1).map_or(u64::MAX, |factor| start.saturating_mul(factor));
                half.saturating_add(random.below(half)).min(max)
            }
        };
        self.attempt = self.attempt.saturating_add(1);
        self.previous = wait;
        wait
    }

    pub fn reset(&mut self) {
        *self = self.rule.start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_accrual_default_doubles_from_five_seconds_to_five_minutes() {
        let waits = |bits: u64| {
            let mut series = Backoff::ACCRUAL.start();
            (0..10).map(|_| series.next_wait(&mut || bits) / SECOND).collect::<Vec<_>>()
        };
        assert_eq!(waits(0), [5, 5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(waits(1 << 63), [5, 7, 15, 30, 60, 120, 240, 300, 300, 300]);
    }

    #[test]
    fn jittered_needs_positive_ordered_bounds() {
        assert_eq!(Backoff::jittered(0, 5), Err(BackoffError::MinNotPositive));
        assert_eq!(Backoff::jittered(5, 0), Err(BackoffError::MaxNotPositive));
        assert_eq!(Backoff::jittered(6, 5), Err(BackoffError::MinAboveMax { min: 6, max: 5 }));
        assert_eq!(Backoff::jittered(5, 5).map(|rule| rule.start().next_wait(&mut || 9)), Ok(5 * MILLI));
    }

    proptest! {
        #[test]
        fn jittered_waits_never_get_shorter_or_leave_their_bounds(
            bits in prop::collection::vec(any::<u64>(), 1..40), min in 1u64..1000, more in 0u64..10_000,
        ) {
            let mut series = Backoff::jittered(min, min + more).expect("ordered").start();
            let mut previous = min * MILLI;
            for (number, bits) in bits.into_iter().enumerate() {
                let wait = series.next_wait(&mut || bits);
                prop_assert!(wait >= previous && wait <= (min + more) * MILLI);
                prop_assert!(number > 0 || wait == min * MILLI);
                prop_assert!(number == 0 || wait <= previous * 3);
                previous = wait;
            }
        }
    }
}
