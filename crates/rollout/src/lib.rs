//! A deploy as a pure state machine: event → state and what to do next.
//!
//! ```text
//! clone → deploy → integration testing ⏸ → step 1 ⏸ → … → step n ⏸ → cleanup → succeeded
//!    └──────────┴──────── failure, abort ────────┴───────────────┴──→ revert → reverted
//! ```
//!
//! At any time at most one [`Effect`] is outstanding. Whoever runs it reports its [`Outcome`] with the
//! effect's number; an effect that is replaced must have ended before the next one begins. Effects can be
//! run again: after a crash the one that is outstanding in the stored state simply is.
//!
//! Not here: IO, clocks, randomness, and how an effect is done (crate `pipeline`).

mod effect;
mod machine;
mod plan;
mod revert;
mod texts;
mod version;

pub use effect::{Effect, Event, Found, Numbered, Outcome};
pub use machine::{Deploy, Facts, Refusal, StageRecord, StageState, State};
pub use plan::{CLEANUP, CLONE, DEPLOY, Gate, Plan, PlanError, Share, Step};
pub use texts::{Kind, Level, Note};
pub use version::{next, number, target};
