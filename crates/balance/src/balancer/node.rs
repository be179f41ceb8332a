//! What a choice looks at: small, so that a choice among a hundred thousand touches few cache lines.

/// Worse is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    Open,
    /// Avoided, but used if there is nothing better.
    Busy,
    /// Known not to take connections; used last.
    Closed,
}

/// Above any load that was measured, and below nothing: an endpoint that never answered and has a request
/// outstanding is not tried by everybody at once. Finagle's number.
const PENALTY: f64 = (i64::MAX >> 16) as f64;

/// Of [`Node::idle_since`].
pub(super) const NEVER: u64 = u64::MAX;

/// The hot part of an endpoint: one cache line, and all that an ordinary request needs.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub(super) struct Node {
    /// Of accrual and connections together.
    pub status: Status,
    pub generation: u32,
    /// Whose endpoint, by weight.
    pub class: u32,
    /// Where in the class's members.
    pub position: u32,
    /// Where an ordered strategy puts it; ties go by slot.
    pub rank: u32,
    pub outstanding: u32,
    /// Accrual wants to know of the next request: it is a probe.
    pub probe: bool,
    /// Accrual has nothing to learn from a success.
    pub calm: bool,
    pub picks: u64,
    /// Since when nothing is outstanding; [`NEVER`] if something is, or never was, or it was told.
    pub idle_since: u64,
    cost: f64,
    stamp: u64,
}

impl Node {
    pub(super) fn new(rank: u32, now: u64) -> Node {
        Node {
            status: Status::Open,
            generation: 0,
            class: 0,
            position: 0,
            rank,
            outstanding: 0,
            probe: false,
            calm: false,
            picks: 0,
            idle_since: NEVER,
            cost: 0.0,
            stamp: now,
        }
    }

    /// Another endpoint takes the place of one that was removed.
    pub(super) fn renew(&mut self, rank: u32, now: u64) {
        *self = Node { generation: self.generation, ..Node::new(rank, now) };
    }

    /// By requests outstanding; worse is greater.
    pub(super) fn least_loaded(&self) -> (Status, u32) {
        (self.status, self.outstanding)
    }

    /// Peak EWMA: a latency above the average is the new average; below it, the average follows by
    /// e^(−Δt/decay).
    pub(super) fn observe(&mut self, nanos: f64, decay: u64, now: u64) {
        let passed = now.saturating_sub(self.stamp) as f64;
        let past = if decay > 0 { (-passed / decay as f64).exp() } else { 0.0 };
        self.cost = if nanos > self.cost { nanos } else { self.cost * past + nanos * (1.0 - past) };
        self.stamp = self.stamp.max(now);
    }

    /// What one more request would cost. Looking lets time pass for the average, too.
    pub(super) fn peak_load(&mut self, decay: u64, now: u64) -> f64 {
        self.observe(0.0, decay, now);
        let pending = f64::from(self.outstanding);
        if self.cost == 0.0 && self.outstanding > 0 { PENALTY + pending } else { self.cost * (pending + 1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    #[test]
    fn a_node_is_one_cache_line() {
        assert_eq!((size_of::<Node>(), align_of::<Node>()), (64, 64));
    }

    #[test]
    fn peaks_count_at_once_and_fade_by_e_per_decay_time() {
        let decay = 10_000 * MILLI;
        let mut node = Node::new(0, 0);
        assert_eq!(node.peak_load(decay, 0), 0.0);
        node.outstanding = 1;
        assert_eq!(node.peak_load(decay, 0), 140_737_488_355_327.0 + 1.0, "unknown and busy");
        node.observe(5e6, decay, 0);
        assert_eq!(node.peak_load(decay, 0), 1e7, "of a second request");
        node.outstanding = 0;
        let faded = 5e6 * (-1.0f64).exp();
        assert_eq!(node.peak_load(decay, decay), faded);
        node.observe(9e6, decay, decay);
        assert_eq!(node.peak_load(decay, decay), 9e6);
        let past = (-0.1f64).exp();
        node.observe(1e6, decay, decay + decay / 10);
        let expected = 9e6 * past + 1e6 * (1.0 - past);
        assert!((node.peak_load(decay, decay + decay / 10) - expected).abs() < 1.0);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_changes_nothing() {
        let mut node = Node::new(0, 100);
        node.observe(7.0, 10, 100);
        node.observe(1.0, 10, 50);
        assert_eq!(node.peak_load(10, 50), 7.0);
    }
}
