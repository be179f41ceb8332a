//! Trying again: how long, how often, and telling why it takes so long.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::control::Trouble;
use crate::slot::Slot;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// One effect's patience.
#[derive(Clone, Debug)]
pub(crate) struct Patience {
    slot: Arc<Slot>,
    /// `None`: for ever.
    limit: Option<Duration>,
}

impl Patience {
    pub fn new(slot: Arc<Slot>, limit: Option<Duration>) -> Patience {
        Patience { slot, limit }
    }

    /// The same, but not longer than this, whatever happens.
    pub fn at_most(&self, limit: Duration) -> Patience {
        Patience { slot: self.slot.clone(), limit: Some(self.limit.map_or(limit, |own| own.min(limit))) }
    }

    pub fn begin(&self) -> Tries {
        Tries { patience: self.clone(), since: Instant::now(), pause: FIRST_PAUSE }
    }

    /// Asks until there is an answer; `Err` says what went on too long, or will never go well.
    pub async fn ask<T, F: Future<Output = Result<T, Trouble>>>(
        &self,
        mut question: impl FnMut() -> F,
    ) -> Result<T, String> {
        let mut tries = self.begin();
        loop {
            match question().await {
                Ok(answer) => {
                    tries.went_well();
                    return Ok(answer);
                }
                Err(Trouble::Lasting(why)) => return Err(why),
                Err(Trouble::Passing(why)) => tries.again(&why).await?,
            }
        }
    }
}

/// The attempts at one thing.
#[derive(Debug)]
pub(crate) struct Tries {
    patience: Patience,
    since: Instant,
    pause: Duration,
}

impl Tries {
    /// Tells why and pauses, or gives up.
    pub async fn again(&mut self, why: &str) -> Result<(), String> {
        let elapsed = self.since.elapsed();
        if self.patience.limit.is_some_and(|limit| elapsed + self.pause > limit) {
            return Err(format!("{why} (tried for {} s)", elapsed.as_secs_f64().ceil()));
        }
        self.patience.slot.update_doing(|doing| {
            doing.trouble = Some(why.to_owned());
            doing.attempt += 1;
        });
        // Jitter: two that collided do not collide again.
        tokio::time::sleep(self.pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }

    fn went_well(&self) {
        if self.patience.slot.doing().is_some_and(|doing| doing.trouble.is_some()) {
            self.patience.slot.update_doing(|doing| doing.trouble = None);
        }
    }
}
