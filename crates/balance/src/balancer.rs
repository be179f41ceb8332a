//! Which endpoint of one client a request goes to: the healthier first, then as the strategy says.
//!
//! ```text
//!  update([(address, weight)])  discovery says what exists; endpoints that stay keep their state
//!  pick(now) ──▶ Pick           one more outstanding; a revived endpoint's first pick is its probe
//!  release(pick, outcome)       one less; failure accrual judges
//!  maintain(now)                now and then: what left, what needs no connections any more
//! ```
//! Endpoints of one weight form a class; a class is drawn by weight × size, classes without an open
//! endpoint last. A pick costs the same for ten endpoints and for a hundred thousand (heap: their
//! logarithm), allocates nothing, and takes an open endpoint if there is one.

mod class;
mod config;
mod counts;
mod heap;
mod node;
mod order;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem;

use crate::accrual::{self, Accrual, Outcome, State};
use crate::random::Random;
use class::Class;
use node::{NEVER, Node};

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
    nodes: Vec<Node>,
    /// The rest of it.
    slots: Vec<Slot<K>>,
    free: Vec<u32>,
    index: HashMap<K, u32>,
    /// None is empty after an update.
    classes: Vec<Class>,
    by_weight: HashMap<u64, u32>,
    /// The sums of shares up to each class that can be drawn; kept only while there are several.
    shares: Vec<(f64, u32)>,
    /// When dead endpoints may be probed: `(time, slot, generation)`; entries of removed ones are skipped.
    waiting: BinaryHeap<Reverse<(u64, u32, u32)>>,
    counts: Counts,
}

#[derive(Debug)]
struct Slot<K> {
    key: Option<K>,
    /// The last update that named it.
    seen: u64,
    accrual: Accrual,
    connection: Status,
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
            nodes: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            classes: Vec::new(),
            by_weight: HashMap::new(),
            shares: Vec::new(),
            waiting: BinaryHeap::new(),
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
        self.index.is_empty()
    }

    /// Replaces the set. Endpoints in both sets keep outstanding requests and accrual state, even if their
    /// weight changed; of one that is named twice the last weight holds. With probation, those that are not
    /// named stay while they are open. Releasing a pick of a removed endpoint is harmless.
    pub fn update(&mut self, endpoints: impl IntoIterator<Item = (K, f64)>, now: u64) -> Update<K> {
        self.advance(now);
        self.counts.updates += 1;
        let (seen, mut added) = (self.counts.updates, Vec::new());
        for (key, weight) in endpoints {
            let weight = sane(weight);
            match self.index.get(&key) {
                Some(&slot) => {
                    self.slots[slot as usize].seen = seen;
                    if self.class_of(slot).weight != weight {
                        self.leave_class(slot);
                        self.enter_class(slot, weight);
                    }
                }
                None => {
                    self.add(key.clone(), weight, now);
                    added.push(key);
                }
            }
        }
        let removed = self.remove_where(|balancer, slot| {
            let on_probation = balancer.config.probation && balancer.nodes[slot as usize].status == Status::Open;
            balancer.slots[slot as usize].seen != seen && !on_probation
        });
        self.settle();
        self.counts.adds += added.len() as u64;
        Update { added, removed }
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
        node.picks += 1;
        node.idle_since = NEVER;
        let (pick, probe) = (Pick { slot: choice.slot, generation: node.generation, at: now }, node.probe);
        class.acquired(&mut self.nodes, strategy, choice.slot, now);
        if probe {
            self.slots[choice.slot as usize].accrual.dispatched();
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
        let accrual = &mut self.slots[pick.slot as usize].accrual;
        let before = accrual.state();
        accrual.ended(outcome, now, random);
        let after = accrual.state();
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
        if let Some(&slot) = self.index.get(key) {
            self.slots[slot as usize].connection = status;
            self.refresh(slot);
        }
    }

    /// Open if any endpoint is; with no endpoints, Closed.
    pub fn status(&mut self, now: u64) -> Status {
        self.advance(now);
        if self.classes.iter().any(|class| class.open > 0) {
            return Status::Open;
        }
        let members = self.classes.iter().flat_map(|class| &class.members);
        members.map(|slot| self.nodes[*slot as usize].status).min().unwrap_or(Status::Closed)
    }

    /// Every few seconds: ends probations, and tells which connections need not be kept. Linear in the
    /// number of endpoints.
    pub fn maintain(&mut self, now: u64) -> Maintenance<K> {
        self.advance(now);
        let removed = if self.config.probation {
            let updates = self.counts.updates;
            let removed = self.remove_where(|balancer, slot| {
                let is_open = balancer.nodes[slot as usize].status == Status::Open;
                balancer.slots[slot as usize].seen != updates && !is_open
            });
            self.settle();
            removed
        } else {
            Vec::new()
        };
        let mut idle = Vec::new();
        if let Strategy::Aperture(aperture) = &self.config.strategy {
            for slot in self.classes.iter().flat_map(|class| class.outside(&self.config.strategy)) {
                let node = &mut self.nodes[slot as usize];
                if node.idle_since != NEVER && now.saturating_sub(node.idle_since) >= aperture.idle_time() {
                    node.idle_since = NEVER;
                    idle.extend(self.slots[slot as usize].key.clone());
                }
            }
            self.counts.expired += idle.len() as u64;
        }
        Maintenance { removed, idle }
    }

    fn add(&mut self, key: K, weight: f64, now: u64) {
        let fresh = Slot {
            key: Some(key.clone()),
            seen: self.counts.updates,
            accrual: Accrual::new(&self.accrual, now),
            connection: Status::Open,
        };
        let rank = match self.config.strategy {
            Strategy::Aperture(_) => {
                let mut hasher = DefaultHasher::new();
                self.config.seed.hash(&mut hasher);
                key.hash(&mut hasher);
                (hasher.finish() >> 32) as u32
            }
            // Ties go by slot: the order of the first update, newcomers where somebody left.
            _ => 0,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.nodes[slot as usize].renew(rank, now);
                self.slots[slot as usize] = fresh;
                slot
            }
            None => {
                self.nodes.push(Node::new(rank, now));
                self.slots.push(fresh);
                (self.slots.len() - 1) as u32
            }
        };
        self.nodes[slot as usize].calm = self.slots[slot as usize].accrual.is_calm();
        self.index.insert(key, slot);
        self.enter_class(slot, weight);
    }

    fn remove_where(&mut self, goes: impl Fn(&Balancer<K>, u32) -> bool) -> Vec<K> {
        let gone = self.index.iter().filter(|(_, slot)| goes(self, **slot));
        let gone = gone.map(|(key, slot)| (key.clone(), *slot)).collect::<Vec<_>>();
        for (key, slot) in &gone {
            self.index.remove(key);
            self.leave_class(*slot);
            let node = &mut self.nodes[*slot as usize];
            node.generation = node.generation.wrapping_add(1);
            self.slots[*slot as usize].key = None;
            self.free.push(*slot);
        }
        self.counts.removes += gone.len() as u64;
        gone.into_iter().map(|(key, _)| key).collect()
    }

    fn class_of(&self, slot: u32) -> &Class {
        &self.classes[self.nodes[slot as usize].class as usize]
    }

    fn enter_class(&mut self, slot: u32, weight: f64) {
        let class = *self.by_weight.entry(weight.to_bits()).or_insert_with(|| {
            self.classes.push(Class::new(weight, &self.config.strategy));
            (self.classes.len() - 1) as u32
        });
        self.nodes[slot as usize].class = class;
        self.classes[class as usize].enter(&mut self.nodes, slot);
    }

    fn leave_class(&mut self, slot: u32) {
        let class = self.nodes[slot as usize].class as usize;
        self.classes[class].leave(&mut self.nodes, slot);
    }

    /// After endpoints came or went.
    fn settle(&mut self) {
        if self.classes.iter().any(|class| class.members.is_empty()) {
            self.drop_empty_classes();
        }
        self.classes.iter_mut().for_each(|class| class.settle(&mut self.nodes));
        self.share_out();
    }

    fn drop_empty_classes(&mut self) {
        let (kept, dropped): (Vec<_>, Vec<_>) =
            mem::take(&mut self.classes).into_iter().partition(|class| !class.members.is_empty());
        self.classes = kept;
        for (_, window) in dropped.iter().filter_map(|class| class.window(&self.config.strategy)) {
            self.counts.widened += window.widened;
            self.counts.narrowed += window.narrowed;
        }
        self.by_weight.clear();
        for (number, class) in (0..).zip(&self.classes) {
            self.by_weight.insert(class.weight.to_bits(), number);
            class.members.iter().for_each(|slot| self.nodes[*slot as usize].class = number);
        }
    }

    /// Which classes can be drawn, and how likely.
    fn share_out(&mut self) {
        self.shares.clear();
        if self.classes.len() < 2 {
            return;
        }
        let some_open = self.classes.iter().any(|class| class.open > 0);
        let mut sum = 0.0;
        for (number, class) in self.classes.iter().enumerate() {
            if class.open > 0 || !some_open {
                sum += class.share();
                self.shares.push((sum, number as u32));
            }
        }
    }

    fn draw(&self, random: &mut impl Random) -> Option<usize> {
        if self.classes.len() < 2 {
            return self.classes.len().checked_sub(1);
        }
        let (total, _) = self.shares.last()?;
        let drawn = if *total > 0.0 {
            let point = random.unit() * total;
            let drawn = self.shares.partition_point(|(sum, _)| *sum <= point);
            // Rounding may leave the last sliver uncovered.
            drawn.min(self.shares.len() - 1)
        } else {
            random.below(self.shares.len() as u64) as usize
        };
        self.shares.get(drawn).map(|(_, class)| *class as usize)
    }

    /// Lets dead endpoints whose wait is over be probed.
    fn advance(&mut self, now: u64) {
        while let Some(&Reverse((until, slot, generation))) = self.waiting.peek() {
            if until > now {
                break;
            }
            self.waiting.pop();
            if self.nodes[slot as usize].generation == generation {
                let accrual = &mut self.slots[slot as usize].accrual;
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
        node.calm = accrual.is_calm();
        node.probe = accrual.state() == State::ProbeOpen;
        let accrual = if accrual.is_busy() { Status::Busy } else { Status::Open };
        let status = accrual.max(*connection);
        if node.status == status {
            return;
        }
        let class = &mut self.classes[node.class as usize];
        let was_open = class.open > 0;
        class.change(&mut self.nodes, slot, status);
        if was_open != (class.open > 0) {
            self.share_out();
        }
    }
}

/// Discovery may say anything; a class's share must be a number.
fn sane(weight: f64) -> f64 {
    if weight > 0.0 { weight.min(f64::from(f32::MAX)) } else { 0.0 }
}
