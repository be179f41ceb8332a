//! A sum over the last stretch of time, kept in slices so that forgetting costs nothing per event.

const SLICES: usize = 10;

/// Sum over a sliding window, exact to a tenth of it.
#[derive(Debug, Clone)]
pub(crate) struct WindowedSum {
    slice_nanos: u64,
    slices: [i64; SLICES],
    newest: u64,
}

impl WindowedSum {
    pub(crate) fn new(window_nanos: u64) -> WindowedSum {
        WindowedSum { slice_nanos: (window_nanos / SLICES as u64).max(1), slices: [0; SLICES], newest: 0 }
    }

    pub(crate) fn add(&mut self, amount: i64, now: u64) {
        self.forget(now);
        let slot = (self.newest % SLICES as u64) as usize;
        self.slices[slot] = self.slices[slot].saturating_add(amount);
    }

    pub(crate) fn sum(&mut self, now: u64) -> i64 {
        self.forget(now);
        self.slices.iter().sum()
    }

    fn forget(&mut self, now: u64) {
        let current = now / self.slice_nanos;
        let passed = current.saturating_sub(self.newest);
        for step in 1..=passed.min(SLICES as u64) {
            self.slices[((self.newest + step) % SLICES as u64) as usize] = 0;
        }
        self.newest = self.newest.max(current);
    }
}
