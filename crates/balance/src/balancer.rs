//! Power of two choices over the endpoints of one client: of two random ones the healthier, then the one
//! with fewer requests outstanding.
//!
//! ```text
//!  update([(address, weight)])  discovery says what exists; endpoints that stay keep their state
//!  pick(now) ──▶ Pick           one more outstanding; a revived endpoint's first pick is its probe
//!  release(pick, outcome)       one less; failure accrual judges
//! ```
//! Endpoints of one weight form a class; a class is drawn by weight × size, classes without an open
//! endpoint last. A pick costs the same for ten endpoints and for a hundred thousand; it is linear only in
//! the number of different weights, which is one unless discovery sets weights.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;

use crate::accrual::{self, Accrual, Outcome, State};
use crate::random::Random;

/// Pairs tried for an open endpoint before the balancer takes what there is.
const MAX_EFFORT: usize = 5;

/// Worse is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    Open,
    /// Avoided, but used if there is nothing better.
    Busy,
    /// Known not to take connections; used last.
    Closed,
}

/// A picked endpoint; give it back with [`Balancer::release`]. Not `Clone`: one pick, one release.
#[derive(Debug, PartialEq, Eq)]
pub struct Pick {
    slot: u32,
    generation: u32,
}

/// What [`Balancer::update`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update<K> {
    pub added: Vec<K>,
    pub removed: Vec<K>,
}

/// What a release did to an endpoint, for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Marked dead for this many nanoseconds.
    Died(u64),
    Revived,
}

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
}

/// See the module.
#[derive(Debug)]
pub struct Balancer<K> {
    accrual: accrual::Config,
    slots: Vec<Slot<K>>,
    free: Vec<u32>,
    index: HashMap<K, u32>,
    classes: Vec<Class>,
    /// When dead endpoints may be probed: `(time, slot, generation)`; entries of removed ones are skipped.
    waiting: BinaryHeap<Reverse<(u64, u32, u32)>>,
    counts: Counts,
}

#[derive(Debug)]
struct Slot<K> {
    key: Option<K>,
    generation: u32,
    class: usize,
    /// Where in the class's members.
    position: usize,
    outstanding: u32,
    picks: u64,
    accrual: Accrual,
    connection: Status,
    /// Of both, as counted in the class.
    status: Status,
}

#[derive(Debug)]
struct Class {
    weight: f64,
    members: Vec<u32>,
    open: usize,
}

impl<K: Clone + Eq + Hash> Balancer<K> {
    pub fn new(accrual: accrual::Config) -> Balancer<K> {
        Balancer {
            accrual,
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            classes: Vec::new(),
            waiting: BinaryHeap::new(),
            counts: Counts::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Replaces the set. Endpoints in both sets keep outstanding requests and accrual state, even if their
    /// weight changed. Releasing a pick of a removed endpoint is harmless.
    pub fn update(&mut self, endpoints: impl IntoIterator<Item = (K, f64)>, now: u64) -> Update<K> {
        let wanted = endpoints.into_iter().collect::<HashMap<_, _>>();
        let removed = self.index.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect::<Vec<_>>();
        let mut added = Vec::new();
        for key in &removed {
            self.remove(key);
        }
        for (key, weight) in wanted {
            match self.index.get(&key) {
                Some(&slot) => {
                    if self.classes[self.slots[slot as usize].class].weight != weight {
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
        self.counts.updates += 1;
        self.counts.adds += added.len() as u64;
        self.counts.removes += removed.len() as u64;
        Update { added, removed }
    }

    /// The endpoint for one request; `None` only if there are none.
    pub fn pick(&mut self, now: u64, random: &mut impl Random) -> Option<Pick> {
        self.advance(now);
        let mut chosen = self.choose(random)?;
        for _ in 1..MAX_EFFORT {
            if self.slots[chosen as usize].status == Status::Open {
                break;
            }
            chosen = self.choose(random)?;
        }
        if self.slots[chosen as usize].status != Status::Open {
            self.counts.max_effort_exhausted += 1;
            self.counts.rebuilds += 1;
            chosen = self.any_open(random).or_else(|| self.choose(random))?;
        }
        let slot = &mut self.slots[chosen as usize];
        slot.outstanding += 1;
        slot.picks += 1;
        let pick = Pick { slot: chosen, generation: slot.generation };
        if slot.accrual.dispatched() {
            self.refresh(chosen);
        }
        Some(pick)
    }

    /// Where a pick goes; `None` if the endpoint was removed since.
    pub fn key(&self, pick: &Pick) -> Option<&K> {
        self.slots.get(pick.slot as usize).filter(|slot| slot.generation == pick.generation)?.key.as_ref()
    }

    /// A request ended.
    pub fn release(&mut self, pick: Pick, outcome: Outcome, now: u64, random: &mut impl Random) -> Option<Change> {
        let slot = self.slots.get_mut(pick.slot as usize).filter(|slot| slot.generation == pick.generation)?;
        slot.outstanding = slot.outstanding.saturating_sub(1);
        let before = slot.accrual.state();
        slot.accrual.ended(outcome, now, random);
        let after = slot.accrual.state();
        if before == after {
            return None;
        }
        self.refresh(pick.slot);
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
        self.members().map(|slot| slot.status).min().unwrap_or(Status::Closed)
    }

    /// In no particular order.
    pub fn endpoints(&mut self, now: u64) -> Vec<Endpoint<K>> {
        self.advance(now);
        let weight = |slot: &Slot<K>| self.classes[slot.class].weight;
        self.members()
            .filter_map(|slot| {
                Some(Endpoint {
                    key: slot.key.clone()?,
                    weight: weight(slot),
                    status: slot.status,
                    accrual: slot.accrual.state(),
                    outstanding: slot.outstanding,
                    picks: slot.picks,
                })
            })
            .collect()
    }

    /// Linear in the number of endpoints: for scrapes.
    pub fn counts(&mut self, now: u64) -> Counts {
        self.advance(now);
        let of = |status| self.members().filter(|slot| slot.status == status).count();
        let used = self.classes.iter().filter(|class| !class.members.is_empty());
        let weights = used.clone().map(|class| class.weight * class.members.len() as f64).sum::<f64>();
        Counts {
            size: self.len(),
            available: of(Status::Open),
            busy: of(Status::Busy),
            closed: of(Status::Closed),
            load: self.members().map(|slot| u64::from(slot.outstanding)).sum(),
            mean_weight: if self.is_empty() { 0.0 } else { weights / self.len() as f64 },
            weight_classes: used.clone().count(),
            busy_weight_classes: used.filter(|class| class.open == 0).count(),
            ..self.counts
        }
    }

    fn members(&self) -> impl Iterator<Item = &Slot<K>> {
        self.slots.iter().filter(|slot| slot.key.is_some())
    }

    fn add(&mut self, key: K, weight: f64, now: u64) {
        let fresh = Slot {
            key: Some(key.clone()),
            generation: 0,
            class: 0,
            position: 0,
            outstanding: 0,
            picks: 0,
            accrual: Accrual::new(&self.accrual, now),
            connection: Status::Open,
            status: Status::Open,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                let generation = self.slots[slot as usize].generation;
                self.slots[slot as usize] = Slot { generation, ..fresh };
                slot
            }
            None => {
                self.slots.push(fresh);
                (self.slots.len() - 1) as u32
            }
        };
        self.index.insert(key, slot);
        self.enter_class(slot, weight);
    }

    fn remove(&mut self, key: &K) {
        if let Some(slot) = self.index.remove(key) {
            self.leave_class(slot);
            let removed = &mut self.slots[slot as usize];
            removed.key = None;
            removed.generation = removed.generation.wrapping_add(1);
            self.free.push(slot);
        }
    }

    fn enter_class(&mut self, slot: u32, weight: f64) {
        // An empty class may take any weight, so that classes do not pile up.
        let class = self.classes.iter().position(|class| class.weight == weight);
        let class = class.or_else(|| self.classes.iter().position(|class| class.members.is_empty()));
        let class = class.unwrap_or_else(|| {
            self.classes.push(Class { weight, members: Vec::new(), open: 0 });
            self.classes.len() - 1
        });
        let target = &mut self.classes[class];
        target.weight = weight;
        let entering = &mut self.slots[slot as usize];
        (entering.class, entering.position) = (class, target.members.len());
        target.members.push(slot);
        target.open += usize::from(entering.status == Status::Open);
    }

    fn leave_class(&mut self, slot: u32) {
        let leaving = &self.slots[slot as usize];
        let (position, open) = (leaving.position, leaving.status == Status::Open);
        let class = &mut self.classes[leaving.class];
        class.open -= usize::from(open);
        class.members.swap_remove(position);
        if let Some(&moved) = class.members.get(position) {
            self.slots[moved as usize].position = position;
        }
    }

    /// Lets dead endpoints whose wait is over be probed.
    fn advance(&mut self, now: u64) {
        while let Some(&Reverse((until, slot, generation))) = self.waiting.peek() {
            if until > now {
                break;
            }
            self.waiting.pop();
            let waiting = &mut self.slots[slot as usize];
            if waiting.generation == generation && waiting.key.is_some() {
                waiting.accrual.advance(now);
                self.counts.probes += u64::from(waiting.accrual.state() == State::ProbeOpen);
                self.refresh(slot);
            }
        }
    }

    /// Keeps the class's count of open endpoints in step.
    fn refresh(&mut self, slot: u32) {
        let slot = &mut self.slots[slot as usize];
        let accrual = if slot.accrual.is_busy() { Status::Busy } else { Status::Open };
        let status = accrual.max(slot.connection);
        let class = &mut self.classes[slot.class];
        class.open -= usize::from(slot.status == Status::Open);
        class.open += usize::from(status == Status::Open);
        slot.status = status;
    }

    /// Two distinct members of one class; the better.
    fn choose(&self, random: &mut impl Random) -> Option<u32> {
        let members = &self.class(random)?.members;
        let count = members.len() as u64;
        let first = random.below(count);
        let first_slot = members[first as usize];
        if count == 1 {
            return Some(first_slot);
        }
        // A number below count − 1 with the first one's place skipped is uniform over the others.
        let second = random.below(count - 1);
        let second_slot = members[(second + u64::from(second >= first)) as usize];
        let rank = |slot: u32| (self.slots[slot as usize].status, self.slots[slot as usize].outstanding);
        Some(if rank(second_slot) < rank(first_slot) { second_slot } else { first_slot })
    }

    fn class(&self, random: &mut impl Random) -> Option<&Class> {
        if let [class] = self.classes.as_slice() {
            return Some(class).filter(|class| !class.members.is_empty());
        }
        let some_open = self.classes.iter().any(|class| class.open > 0);
        let usable = |class: &&Class| !class.members.is_empty() && (class.open > 0 || !some_open);
        let share = |class: &Class| class.weight.max(0.0) * class.members.len() as f64;
        let total = self.classes.iter().filter(usable).map(share).sum::<f64>();
        let mut left = random.unit() * total;
        let weighted = self.classes.iter().filter(usable).find(|class| {
            left -= share(class);
            left < 0.0
        });
        weighted.or_else(|| self.classes.iter().rfind(usable))
    }

    /// After luck failed: an open endpoint if there is one. The original would take one more random pair;
    /// looking costs time only while most endpoints are dead, and spares requests that would fail.
    fn any_open(&self, random: &mut impl Random) -> Option<u32> {
        let class = self.classes.iter().filter(|class| class.open > 0).max_by(|a, b| a.weight.total_cmp(&b.weight))?;
        let start = random.below(class.members.len() as u64) as usize;
        let mut around = class.members[start..].iter().chain(&class.members[..start]);
        around.find(|slot| self.slots[**slot as usize].status == Status::Open).copied()
    }
}
