//! Decisions of the data plane that need neither sockets nor clocks: which endpoint, whether it counts as
//! dead, whether one may try again, how long to wait, which branch of a split.
//!
//! Everything is pure: time is a `u64` of nanoseconds on any monotonic clock, randomness is a [`Random`],
//! so each rule is tested by exact sums. One value belongs to one thread.
//!
//! ```
//! use balance::{Balancer, Outcome, accrual};
//! let mut random = || 7u64;
//! let mut balancer = Balancer::new(accrual::Config::default());
//! balancer.update([("10.0.0.1:80", 1.0), ("10.0.0.2:80", 1.0)], 0);
//! let pick = balancer.pick(0, &mut random).expect("two endpoints");
//! balancer.release(pick, Outcome::Success, 1_000, &mut random);
//! ```

pub mod accrual;
mod admission;
mod average;
mod backoff;
mod balancer;
mod budget;
mod draw;
mod random;
mod window;

pub use accrual::{Accrual, Outcome};
pub use admission::Admission;
pub use backoff::{Backoff, BackoffError, Backoffs};
pub use balancer::{
    Aperture, Balancer, BalancerConfig, Change, Counts, Endpoint, Maintenance, Pick, Status, Strategy, StrategyError,
    Update,
};
pub use budget::{Budget, BudgetConfig, BudgetError};
pub use draw::{Branch, Draw, Independent, draw};
pub use random::Random;
