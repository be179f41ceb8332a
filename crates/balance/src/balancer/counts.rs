//! What metrics and pages read.

use std::hash::Hash;

use super::Balancer;
use super::config::Strategy;
use super::node::Status;
use super::shares::Among;
use crate::accrual::State;

/// One endpoint, for pages and `client_state.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint<K> {
    pub key: K,
    pub weight: f64,
    pub status: Status,
    pub accrual: State,
    pub outstanding: u32,
    /// Picks since the endpoint was added.
    pub picks: u64,
    /// Discovery took it away; it stays while it is healthy.
    pub on_probation: bool,
}

/// Levels of now and counts since the start, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    pub size: usize,
    pub available: usize,
    pub busy: usize,
    pub closed: usize,
    /// Requests outstanding.
    pub load: u64,
    pub mean_weight: f64,
    pub weight_classes: usize,
    pub busy_weight_classes: usize,
    pub adds: u64,
    pub removes: u64,
    pub updates: u64,
    pub rebuilds: u64,
    pub max_effort_exhausted: u64,
    /// Failure accrual: times an endpoint was marked dead, came back, was probed; milliseconds of it.
    pub removals: u64,
    pub revivals: u64,
    pub probes: u64,
    pub removed_for_ms: u64,
    /// Aperture, summed over weight classes: `logical_aperture`, `loadband/offered_load_ema`,
    /// `loadband/widen`, `loadband/narrow`, `expired`. All 0 for other strategies.
    pub aperture: usize,
    pub offered_load: f64,
    pub widened: u64,
    pub narrowed: u64,
    pub expired: u64,
}

impl<K: Clone + Eq + Hash> Balancer<K> {
    /// In no particular order.
    pub fn endpoints(&mut self, now: u64) -> Vec<Endpoint<K>> {
        self.advance(now);
        let shown = |slot: &u32| {
            let (node, slot) = (&self.nodes[*slot as usize], &self.slots[*slot as usize]);
            Some(Endpoint {
                key: slot.key.clone()?,
                weight: self.classes[node.class as usize].weight,
                status: node.status,
                accrual: slot.accrual_state(),
                outstanding: node.outstanding,
                picks: node.picks,
                on_probation: slot.on_probation,
            })
        };
        self.index.iter().filter_map(shown).collect()
    }

    /// In no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.index.iter().filter_map(|slot| self.slots[*slot as usize].key.as_ref())
    }

    /// Costs the same for any number of endpoints (with an aperture: linear in that of weights).
    pub fn counts(&mut self, now: u64) -> Counts {
        self.advance(now);
        let [available, busy, closed] = self.by_status;
        let mut counts = Counts {
            size: self.len(),
            available,
            busy,
            closed,
            weight_classes: self.by_weight.len(),
            busy_weight_classes: self.by_weight.len() - self.open_classes,
            ..self.counts
        };
        if let Strategy::Aperture(_) = self.config.strategy {
            let live = self.classes.iter().filter(|class| !class.members.is_empty());
            for (size, window) in live.filter_map(|class| class.window(&self.config.strategy)) {
                counts.aperture += size;
                counts.offered_load += window.offered.value();
                counts.widened += window.widened;
                counts.narrowed += window.narrowed;
            }
        }
        let weights = self.shares.total(Among::All);
        counts.mean_weight = if self.is_empty() { 0.0 } else { weights / self.len() as f64 };
        counts
    }
}
