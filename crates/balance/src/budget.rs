//! Retry budgets: a token bucket over a time to live, with a reserve that is always there.
//!
//! One budget per service (its retries) and another per client (its requeues); they share nothing.

use thiserror::Error;

use crate::window::WindowedSum;

const DEPOSIT: i64 = 1000;
const SECOND: u64 = 1_000_000_000;

/// The keys of a `budget` section.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetConfig {
    /// How long a deposit can be used, in seconds: 1 to 60.
    pub ttl_secs: u64,
    /// Retries per second that need no deposits.
    pub min_retries_per_sec: u64,
    /// Retries per deposited request: 0 to 1000.
    pub percent_can_retry: f64,
}

impl Default for BudgetConfig {
    fn default() -> BudgetConfig {
        BudgetConfig { ttl_secs: 10, min_retries_per_sec: 10, percent_can_retry: 0.2 }
    }
}

/// A wrong `budget` section.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum BudgetError {
    #[error("ttlSecs must be between 1 and 60, not {0}")]
    Ttl(u64),
    #[error("percentCanRetry must be between 0.0 and 1000.0, not {0}")]
    Percent(f64),
}

/// Tokens. A request deposits, a retry withdraws.
#[derive(Debug, Clone)]
pub struct Budget {
    tokens: WindowedSum,
    deposit: i64,
    withdrawal: i64,
    reserve: i64,
}

impl Budget {
    /// # Errors
    /// The numbers must be within the bounds that [`BudgetConfig`] states.
    pub fn new(config: &BudgetConfig) -> Result<Budget, BudgetError> {
        if !(1..=60).contains(&config.ttl_secs) {
            return Err(BudgetError::Ttl(config.ttl_secs));
        }
        if !(0.0..=1000.0).contains(&config.percent_can_retry) {
            return Err(BudgetError::Percent(config.percent_can_retry));
        }
        let earns = config.percent_can_retry > 0.0;
        let withdrawal = if earns { ((DEPOSIT as f64 / config.percent_can_retry) as i64).max(1) } else { 1 };
        let free = i64::try_from(config.min_retries_per_sec.saturating_mul(config.ttl_secs)).unwrap_or(i64::MAX);
        Ok(Budget {
            tokens: WindowedSum::new(config.ttl_secs * SECOND),
            deposit: if earns { DEPOSIT } else { 0 },
            withdrawal,
            reserve: free.saturating_mul(withdrawal),
        })
    }

    pub fn deposit(&mut self, now: u64) {
        if self.deposit > 0 {
            self.tokens.add(self.deposit, now);
        }
    }

    /// Pays for one retry; `false` if that is more than there is, and nothing is taken.
    pub fn withdraw(&mut self, now: u64) -> bool {
        let allowed = self.available(now) >= self.withdrawal;
        if allowed {
            self.tokens.add(-self.withdrawal, now);
        }
        allowed
    }

    /// Retries that could be paid now, rounded down: the gauge `retries/budget`.
    pub fn balance(&mut self, now: u64) -> u64 {
        (self.available(now) / self.withdrawal) as u64
    }

    /// Requeues that one request may use, `ceil(0.2 × balance)`; each also costs one withdrawal.
    pub fn requeue_limit(&mut self, now: u64) -> u64 {
        self.balance(now).div_ceil(5)
    }

    fn available(&mut self, now: u64) -> i64 {
        // Deposits expire before the withdrawals that they paid for, so the sum can dip below the reserve.
        self.tokens.sum(now).saturating_add(self.reserve).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn budget(ttl_secs: u64, min_retries_per_sec: u64, percent_can_retry: f64) -> Budget {
        Budget::new(&BudgetConfig { ttl_secs, min_retries_per_sec, percent_can_retry }).expect("in bounds")
    }

    #[test]
    fn a_default_budget_starts_at_one_hundred() {
        let mut budget = Budget::new(&BudgetConfig::default()).expect("in bounds");
        assert_eq!((budget.balance(0), budget.requeue_limit(0)), (100, 20));
        budget.deposit(0);
        assert_eq!((0..101).filter(|_| budget.withdraw(0)).count(), 100);
        assert_eq!((budget.balance(0), budget.requeue_limit(0)), (0, 0));
    }

    #[test]
    fn half_a_retry_per_request_pays_for_the_third_and_not_the_fourth() {
        let mut budget = budget(10, 0, 0.5);
        assert_eq!(budget.requeue_limit(0), 0);
        budget.deposit(0);
        assert_eq!(budget.balance(0), 0);
        budget.deposit(0);
        assert_eq!((budget.balance(0), budget.requeue_limit(0)), (1, 1));
        assert!(budget.withdraw(0));
        assert_eq!(budget.requeue_limit(0), 0);
    }

    #[test]
    fn without_percent_or_reserve_there_are_no_retries() {
        let mut budget = budget(10, 0, 0.0);
        (0..100).for_each(|_| budget.deposit(0));
        assert!(!budget.withdraw(0));
    }

    #[test]
    fn deposits_expire_after_the_time_to_live() {
        let mut budget = budget(2, 0, 1.0);
        budget.deposit(0);
        assert_eq!(budget.balance(SECOND), 1);
        assert_eq!(budget.balance(2 * SECOND), 0);
    }

    #[test]
    fn numbers_out_of_bounds_are_refused() {
        let refused = |ttl_secs, percent_can_retry| {
            Budget::new(&BudgetConfig { ttl_secs, percent_can_retry, ..BudgetConfig::default() }).err()
        };
        assert_eq!(refused(0, 0.2), Some(BudgetError::Ttl(0)));
        assert_eq!(refused(61, 0.2), Some(BudgetError::Ttl(61)));
        assert_eq!(refused(10, 1000.5), Some(BudgetError::Percent(1000.5)));
        assert_eq!(refused(10, -0.1), Some(BudgetError::Percent(-0.1)));
    }

    proptest! {
        #[test]
        fn no_more_is_withdrawn_than_reserve_and_deposits_allow(
            steps in prop::collection::vec((any::<bool>(), 0u64..500), 1..300),
            percent in 0.0f64..3.0, min in 0u64..5,
        ) {
            let mut budget = budget(10, min, percent);
            // Within one time to live nothing comes back, so the total is bounded exactly.
            let (mut now, mut deposits, mut withdrawn) = (0, 0u64, 0u64);
            for (deposit, millis) in steps {
                now = (now + millis * 1_000_000 / 30).min(8 * SECOND);
                if deposit {
                    budget.deposit(now);
                    deposits += 1;
                } else if budget.withdraw(now) {
                    withdrawn += 1;
                }
                let allowed = deposits as f64 * percent * 1.01 + (min * 10) as f64;
                prop_assert!(withdrawn as f64 <= allowed, "{withdrawn} of {allowed}");
            }
        }
    }
}
