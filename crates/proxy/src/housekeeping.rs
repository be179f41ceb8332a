//! Work of a worker that is no request: done in turns so short that no request notices.
//!
//! `worker/pause_us` in the metrics tells how long each turn took: what it says of the largest is what
//! housekeeping can add to the latency of a request.

use std::cell::Cell;
use std::rc::Rc;

use crate::worker::Worker;

/// A turn ends at the first look at the clock after this: 200 µs.
const TURN: u64 = 200_000;

/// The time for one turn, from its beginning.
pub(crate) struct Turn<'a> {
    worker: &'a Rc<Worker>,
    began: Cell<u64>,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(worker: &'a Rc<Worker>) -> Turn<'a> {
        Turn { worker, began: Cell::new(worker.now()) }
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
        }
    }

    fn record(&self) {
        self.worker.pauses.record(self.worker.coarse_now().saturating_sub(self.began.get()) / 1000);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.worker.now();
        self.record();
    }
}
