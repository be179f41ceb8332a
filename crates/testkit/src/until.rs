//! Waiting for a fact, not for a time.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Asks `fact` again and again until it is `Ok`; fails with its last `Err` when `limit` is over.
#[track_caller]
pub fn until<T, E: Debug>(what: &str, limit: Duration, mut fact: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match fact() {
            Ok(value) => return value,
            Err(error) if start.elapsed() > limit => {
                panic!("{what}: not within {limit:?}: {error:?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
