//! Work of a worker that is no request: done in turns so short that no request notices.
//!
//! `worker/pause_us` in the metrics tells how long each turn took: what it says of the largest is what
//! housekeeping can add to the latency of a request. `worker/pause_cpu_us` tells how much of that the worker spent on
//! the CPU; the rest it stood aside for other threads and processes of the machine.

use std::cell::Cell;
use std::rc::Rc;

use telemetry::{Shard, Stat};

use crate::worker::Worker;

/// A turn ends at the first look at the clock after this: 200 µs.
const TURN: u64 = 200_000;
/// A turn that takes so much CPU is told in the log: 1 ms.
const LONG: u64 = 1_000_000;

/// How long work that is no request held the worker up, in microseconds at a time.
pub(crate) struct Pauses {
    whole: Stat,
    cpu: Stat,
}

impl Pauses {
    pub(crate) fn new(shard: &Shard) -> Pauses {
        Pauses { whole: shard.stat(&["worker", "pause_us"]), cpu: shard.stat(&["worker", "pause_cpu_us"]) }
    }
}

/// The time for one turn, from its beginning.
pub(crate) struct Turn<'a> {
    worker: &'a Rc<Worker>,
    what: &'static str,
    began: Cell<u64>,
    /// The CPU time of this thread then.
    cpu_began: Cell<u64>,
}

impl<'a> Turn<'a> {
    /// `what`: the work, for the log.
    pub(crate) fn new(worker: &'a Rc<Worker>, what: &'static str) -> Turn<'a> {
        Turn { worker, what, began: Cell::new(worker.now()), cpu_began: Cell::new(cpu_now()) }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.worker.now().saturating_sub(self.began.get()) >= TURN
    }

    /// Lets others have their turn, if this one is over.
    pub(crate) async fn pause(&self) {
        if self.is_over() {
            self.record();
            tokio::task::yield_now().await;
            self.began.set(self.worker.now());
            self.cpu_began.set(cpu_now());
        }
    }

    fn record(&self) {
        let passed = self.worker.coarse_now().saturating_sub(self.began.get());
        self.worker.pauses.whole.record(passed / 1000);
        let cpu = cpu_now().saturating_sub(self.cpu_began.get());
        self.worker.pauses.cpu.record(cpu / 1000);
        if cpu >= LONG {
            tracing::debug!(what = self.what, us = cpu / 1000, "a long turn of a worker's housekeeping");
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.worker.now();
        self.record();
    }
}

/// What this thread has spent on the CPU, in nanoseconds; 0 where the system does not tell.
fn cpu_now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes, and nothing else is touched.
    match unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } {
        0 => time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64,
        _ => 0,
    }
}
