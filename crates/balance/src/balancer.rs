//! Which endpoint of one client a request goes to: the healthier first, then as the strategy says.
//!
//! ```text
//!  put, take, settle            discovery says what exists; endpoints that stay keep their state
//!  pick(now) ──▶ Pick           one more outstanding; a revived endpoint's first pick is its probe
//!  release(pick, outcome)       one less; failure accrual judges
//!  maintain(now)                now and then: what left, what needs no connections any more
//! ```
//! Endpoints of one weight form a class; a class is drawn by weight × size, classes without an open
//! endpoint last. A pick costs the same for ten endpoints and for a hundred thousand (heap: their
//! logarithm), allocates nothing, and takes an open endpoint if there is one. An endpoint that comes or
//! goes costs under a microsecond whatever their number, and no table moves as a whole when it grows: a large set can be taken
//! over in steps.

mod chunked;
mod class;
mod config;
mod counts;
mod heap;
mod members;
mod node;
mod order;
mod places;
mod shares;
mod sorted;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{Hash, RandomState};

use crate::accrual::{self, Accrual, Outcome, State};
use crate::random::Random;
use chunked::Chunked;
use class::Class;
use node::{NEVER, Node};
use places::Places;
use shares::{Among, Shares};

pub use config::{Aperture, BalancerConfig, Strategy, StrategyError};
pub use counts::{Counts, Endpoint};
pub use node::Status;

/// A picked endpoint; give it back with [`Balancer::release`]. Not `Clone`: one pick, one release.
#[derive(Debug, PartialEq, Eq)]
pub struct Pick {
    slot: u32,
    generation: u32,
    /// When, for the latency.
    at: u64,
}

/// How many of those on probation, or outside an aperture, one [`Balancer::maintain`] looks at.
const MAINTAINED_AT_ONCE: usize = 4096;
/// How many whose time has come one call takes note of; the next ones take the others.
const ADVANCED_AT_ONCE: usize = 64;

/// What [`Balancer::update`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update<K> {
    /// In the order of the update.
    pub added: Vec<K>,
    /// Without those that stay on probation; [`Balancer::maintain`] tells when they go.
    pub removed: Vec<K>,
}

/// What [`Balancer::maintain`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance<K> {
    /// Were on probation, and are no longer healthy: removed.
    pub removed: Vec<K>,
    /// Outside the aperture, and idle for so long that their connections can be closed. Told once.
    pub idle: Vec<K>,
}

impl<K> Slot<K> {
    fn accrual_state(&self) -> State {
        self.accrual.as_ref().map_or(State::Alive, |accrual| accrual.state())
    }
}

/// What a release did to an endpoint, for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Marked dead for this many nanoseconds.
    Died(u64),
    Revived,
}

/// See the module.
#[derive(Debug)]
pub struct Balancer<K> {
    config: BalancerConfig,
    accrual: accrual::Config,
    /// Of each slot the part that a choice looks at.
    nodes: Chunked<Node>,
    /// The rest of it.
    slots: Chunked<Slot<K>>,
    free: Vec<u32>,
    /// Slots by the hash of their key.
    index: Places,
    hasher: RandomState,
    classes: Vec<Class>,
    /// Lost their last member since the last [`Balancer::settle`], which frees them for other weights.
    emptied: Vec<u32>,
    free_classes: Vec<u32>,
    by_weight: HashMap<u64, u32>,
    /// The class, if there is only one.
    sole: Option<u32>,
    shares: Shares,
    open_classes: usize,
    /// When dead endpoints may be probed: `(time, slot, generation)`; entries of removed ones are skipped.
    waiting: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// Slots with their generation that are or were on probation, and where the next look begins.
    probation: Vec<(u32, u32)>,
    probation_at: usize,
    /// Where among those outside an aperture the next look begins.
    outside_at: usize,
    /// Open, busy, closed.
    by_status: [usize; 3],
    counts: Counts,
}

#[derive(Debug)]
struct Slot<K> {
    key: Option<K>,
    /// The last update that named it.
    seen: u64,
    /// When it came.
    since: u64,
    /// None while there is nothing to remember: most endpoints never fail.
    accrual: Option<Box<Accrual>>,
    connection: Status,
    on_probation: bool,
    /// Stands in the list of those.
    is_listed: bool,
}

impl<K: Clone + Eq + Hash> Balancer<K> {
    /// p2c with the original's numbers.
    pub fn new(accrual: accrual::Config) -> Balancer<K> {
        Balancer::with(BalancerConfig::default(), accrual)
    }

    /// Any strategy. Numbers that [`Strategy::check`] refuses make poor choices, and nothing worse.
    pub fn with(config: BalancerConfig, accrual: accrual::Config) -> Balancer<K> {
        Balancer {
            config,
            accrual,
            nodes: Chunked::default(),
            slots: Chunked::default(),
            free: Vec::new(),
            index: Places::default(),
            hasher: RandomState::new(),
            classes: Vec::new(),
            emptied: Vec::new(),
            free_classes: Vec::new(),
            by_weight: HashMap::new(),
            sole: None,
            shares: Shares::default(),
            open_classes: 0,
            waiting: BinaryHeap::new(),
            probation: Vec::new(),
            probation_at: 0,
            outside_at: 0,
            by_status: [0; 3],
            counts: Counts::default(),
        }
    }

    pub fn config(&self) -> &BalancerConfig {
        &self.config
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.len() == 0
    }

    /// The endpoint for one request; `None` only if there are none.
    pub fn pick(&mut self, now: u64, random: &mut impl Random) -> Option<Pick> {
        self.advance(now);
        let drawn = self.draw(random)?;
        let class = self.classes.get_mut(drawn)?;
        let strategy = &self.config.strategy;
        let choice = class.choose(&mut self.nodes, strategy, now, random)?;
        self.counts.max_effort_exhausted += u64::from(choice.exhausted);
        self.counts.rebuilds += u64::from(choice.exhausted);
        let node = &mut self.nodes[choice.slot as usize];
        node.outstanding += 1;
        self.counts.load += 1;
        node.picks += 1;
        node.idle_since = NEVER;
        let (pick, probe) = (Pick { slot: choice.slot, generation: node.generation, at: now }, node.probe);
        class.acquired(&mut self.nodes, strategy, choice.slot, now);
        if probe {
            if let Some(accrual) = &mut self.slots[choice.slot as usize].accrual {
                accrual.dispatched();
            }
            self.refresh(choice.slot);
        }
        Some(pick)
    }

    /// Where a pick goes; `None` if the endpoint was removed since.
    pub fn key(&self, pick: &Pick) -> Option<&K> {
        self.nodes.get(pick.slot as usize).filter(|node| node.generation == pick.generation)?;
        self.slots.get(pick.slot as usize)?.key.as_ref()
    }

    /// A request ended. Its latency is what passed since the pick.
    pub fn release(&mut self, pick: Pick, outcome: Outcome, now: u64, random: &mut impl Random) -> Option<Change> {
        let node = self.nodes.get_mut(pick.slot as usize).filter(|node| node.generation == pick.generation)?;
        node.outstanding = node.outstanding.saturating_sub(1);
        self.counts.load = self.counts.load.saturating_sub(1);
        if let Strategy::Ewma { decay, .. } = self.config.strategy {
            node.observe(now.saturating_sub(pick.at) as f64, decay, now);
        }
        if node.outstanding == 0 {
            node.idle_since = now;
        }
        let (class, calm) = (node.class as usize, node.calm);
        self.classes.get_mut(class)?.released(&mut self.nodes, &self.config.strategy, pick.slot, now, random);
        if calm && outcome != Outcome::Failure {
            return None;
        }
        let slot = &mut self.slots[pick.slot as usize];
        let (config, since) = (&self.accrual, slot.since);
        let accrual = slot.accrual.get_or_insert_with(|| Box::new(Accrual::new(config, since)));
        let before = accrual.state();
        accrual.ended(outcome, now, random);
        let after = accrual.state();
        if accrual.is_calm() {
            slot.accrual = None;
        }
        self.refresh(pick.slot);
        if before == after {
            return None;
        }
        match after {
            State::Dead(until) => {
                self.waiting.push(Reverse((until, pick.slot, pick.generation)));
                self.counts.removals += 1;
                self.counts.removed_for_ms += (until - now) / 1_000_000;
                Some(Change::Died(until - now))
            }
            State::Alive => {
                self.counts.revivals += 1;
                Some(Change::Revived)
            }
            State::ProbeOpen | State::ProbeClosed => None,
        }
    }

    /// What the pool or failFast knows about an endpoint's connections.
    pub fn set_connection(&mut self, key: &K, status: Status) {
        if let Some(slot) = self.slot_of(key) {
            self.slots[slot as usize].connection = status;
            self.refresh(slot);
        }
    }

    /// Open if any endpoint is; with no endpoints, Closed.
    pub fn status(&mut self, now: u64) -> Status {
        self.advance(now);
        match self.by_status {
            [0, 0, _] => Status::Closed,
            [0, ..] => Status::Busy,
            _ => Status::Open,
        }
    }

    /// Every few seconds: ends probations, and tells which connections need not be kept. Looks at some
    /// thousands at a time; large sets take several calls.
    pub fn maintain(&mut self, now: u64) -> Maintenance<K> {
        self.advance(now);
        let removed = self.end_probations();
        let idle = match &self.config.strategy {
            Strategy::Aperture(aperture) => self.rest_outside(aperture.idle_time(), now),
            _ => Vec::new(),
        };
        Maintenance { removed, idle }
    }

    #[inline]
    fn draw(&self, random: &mut impl Random) -> Option<usize> {
        if let Some(sole) = self.sole {
            return Some(sole as usize);
        }
        let among = if self.open_classes > 0 { Among::Open } else { Among::All };
        let total = self.shares.total(among);
        if total > 0.0 {
            return self.shares.find(among, random.unit() * total);
        }
        // Only the class of weight 0 has no share.
        self.by_weight.get(&0.0f64.to_bits()).map(|class| *class as usize)
    }

    /// Lets dead endpoints whose wait is over be probed.
    fn advance(&mut self, now: u64) {
        for _ in 0..ADVANCED_AT_ONCE {
            let Some(&Reverse((until, slot, generation))) = self.waiting.peek() else { return };
            if until > now {
                return;
            }
            self.waiting.pop();
            if self.nodes[slot as usize].generation == generation
                && let Some(accrual) = &mut self.slots[slot as usize].accrual
            {
                accrual.advance(now);
                self.counts.probes += u64::from(accrual.state() == State::ProbeOpen);
                self.refresh(slot);
            }
        }
    }

    /// Keeps what the strategy sees in step with accrual and connections.
    fn refresh(&mut self, slot: u32) {
        let Slot { accrual, connection, .. } = &self.slots[slot as usize];
        let node = &mut self.nodes[slot as usize];
        node.calm = accrual.as_ref().map_or(self.accrual.is_calm(), |accrual| accrual.is_calm());
        node.probe = accrual.as_ref().is_some_and(|accrual| accrual.state() == State::ProbeOpen);
        let is_busy = accrual.as_ref().is_some_and(|accrual| accrual.is_busy());
        let accrual = if is_busy { Status::Busy } else { Status::Open };
        let status = accrual.max(*connection);
        if node.status == status {
            return;
        }
        self.by_status[node.status as usize] -= 1;
        self.by_status[status as usize] += 1;
        let number = node.class;
        let class = &mut self.classes[number as usize];
        let was_open = class.open > 0;
        class.change(&mut self.nodes, slot, status);
        if was_open != (class.open > 0) {
            self.share_out(number, was_open);
        }
    }
}
