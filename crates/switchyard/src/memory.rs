//! Who gives memory back to the system: a control thread, never a worker.
//!
//! The allocator notes which pages are free for a while, and whichever thread allocates next after that lets the
//! system have them. When somebody has read the metrics of ten thousand names, a worker thus spent a millisecond in
//! `madvise` for each 4 MiB, a dozen times in a row, while requests waited. So threads are told to wait for so long
//! that a control thread always comes first.

use std::ffi::c_long;
use std::time::Duration;

use libmimalloc_sys::{mi_collect, mi_option_get, mi_option_set_default, mi_option_t};

/// `mi_option_purge_delay` of mimalloc 3; the bindings do not name it. That it is this one is tested by its value.
const PURGE_DELAY: mi_option_t = 15;
/// What the allocator waits by itself, in milliseconds.
const USUAL: c_long = 1000;
/// Nobody waits so long: the control thread is first. In milliseconds.
const NEVER: c_long = 3_600_000;
/// How often the control thread gives back what is free. It costs microseconds where there is nothing.
const EVERY: Duration = Duration::from_secs(1);

/// From here on memory goes back to the system from this runtime's threads. To be called once, on the control runtime.
/// `MIMALLOC_PURGE_DELAY` in the environment wins, and then everything is as the allocator does it.
pub fn give_back_from_here() {
    // SAFETY: reads and sets a number that the allocator reads atomically.
    let is_usual = unsafe { mi_option_get(PURGE_DELAY) } == USUAL;
    if !is_usual {
        tracing::debug!("the allocator's settings are not the usual ones: memory goes back as they say");
        return;
    }
    // SAFETY: as above.
    unsafe { mi_option_set_default(PURGE_DELAY, NEVER) };
    tokio::spawn(async {
        loop {
            tokio::time::sleep(EVERY).await;
            // SAFETY: may be called by any thread at any time; it frees only what nobody uses.
            unsafe { mi_collect(true) };
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: reads numbers.
        let [before, value, after] = [-1, 0, 1].map(|step| unsafe { mi_option_get(PURGE_DELAY + step) });
        // Between `deprecated_eager_commit_delay` and `use_numa_nodes`.
        assert_eq!((before, value, after), (1, USUAL, 0));
    }
}
