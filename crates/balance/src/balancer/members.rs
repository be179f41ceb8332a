//! Endpoints that come and go. Each costs the same whatever their number, but for a logarithm.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};
use std::mem;

use super::class::Class;
use super::config::Strategy;
use super::node::{NEVER, Node, Status};
use super::{Balancer, MAINTAINED_AT_ONCE, Slot, Update};

impl<K: Clone + Eq + Hash> Balancer<K> {
    /// An endpoint exists, with this weight: one that is there already keeps its outstanding requests and
    /// accrual state, even if its weight changed. True if it is new. [`Balancer::settle`] when all is said.
    pub fn put(&mut self, key: K, weight: f64, now: u64) -> bool {
        let weight = sane(weight);
        match self.slot_of(&key) {
            Some(slot) => {
                self.slots[slot as usize].on_probation = false;
                let class = self.nodes[slot as usize].class;
                if self.classes[class as usize].weight != weight {
                    self.leave_class(slot);
                    self.enter_class(slot, weight);
                }
                false
            }
            None => {
                self.add(key, weight, now);
                self.counts.adds += 1;
                true
            }
        }
    }

    /// An endpoint exists no longer; gives it back, unless it is not there, or stays on probation because it
    /// is open: then [`Balancer::maintain`] tells when it goes. Releasing a pick of it is harmless.
    /// [`Balancer::settle`] when all is said.
    pub fn take(&mut self, key: &K) -> Option<K> {
        let slot = self.slot_of(key)?;
        if self.config.probation && self.nodes[slot as usize].status == Status::Open {
            let generation = self.nodes[slot as usize].generation;
            let kept = &mut self.slots[slot as usize];
            kept.on_probation = true;
            if !mem::replace(&mut kept.is_listed, true) {
                self.probation.push((slot, generation));
            }
            return None;
        }
        self.remove(slot)
    }

    /// After endpoints came or went: weights that nobody has any more are forgotten.
    pub fn settle(&mut self) {
        for number in mem::take(&mut self.emptied) {
            let class = &self.classes[number as usize];
            let is_counted = self.by_weight.get(&class.weight.to_bits()) == Some(&number);
            if !is_counted || !class.members.is_empty() {
                continue;
            }
            if let Some((_, window)) = class.window(&self.config.strategy) {
                self.counts.widened += window.widened;
                self.counts.narrowed += window.narrowed;
            }
            self.by_weight.remove(&class.weight.to_bits());
            self.free_classes.push(number);
        }
        self.find_sole();
    }

    /// Says that a new set begins, for the count of them.
    pub fn begin_update(&mut self, now: u64) {
        self.advance(now);
        self.counts.updates += 1;
    }

    /// Replaces the set in one go. Of an endpoint that is named twice the last weight holds. With probation,
    /// those that are not named stay while they are open.
    pub fn update(&mut self, endpoints: impl IntoIterator<Item = (K, f64)>, now: u64) -> Update<K> {
        self.begin_update(now);
        let (seen, mut added) = (self.counts.updates, Vec::new());
        for (key, weight) in endpoints {
            let name = key.clone();
            if self.put(key, weight, now) {
                added.push(name.clone());
            }
            if let Some(slot) = self.slot_of(&name) {
                self.slots[slot as usize].seen = seen;
            }
        }
        let unseen = self.index.iter().map(|slot| &self.slots[*slot as usize]).filter(|slot| slot.seen != seen);
        let gone = unseen.filter_map(|slot| slot.key.clone()).collect::<Vec<_>>();
        let removed = gone.iter().filter_map(|key| self.take(key)).collect();
        self.settle();
        Update { added, removed }
    }

    pub(super) fn end_probations(&mut self) -> Vec<K> {
        let mut removed = Vec::new();
        for _ in 0..self.probation.len().min(MAINTAINED_AT_ONCE) {
            if self.probation_at >= self.probation.len() {
                self.probation_at = 0;
            }
            let Some(&(slot, generation)) = self.probation.get(self.probation_at) else { break };
            let node = &self.nodes[slot as usize];
            if node.generation == generation {
                if self.slots[slot as usize].on_probation {
                    if node.status == Status::Open {
                        self.probation_at += 1;
                        continue;
                    }
                    removed.extend(self.remove(slot));
                }
                self.slots[slot as usize].is_listed = false;
            }
            self.probation.swap_remove(self.probation_at);
        }
        if !removed.is_empty() {
            self.settle();
        }
        removed
    }

    /// Those outside the aperture that have been idle for so long.
    pub(super) fn rest_outside(&mut self, idle_time: u64, now: u64) -> Vec<K> {
        let (mut skip, mut left, mut idle) = (self.outside_at, MAINTAINED_AT_ONCE, Vec::new());
        for class in &self.classes {
            let (many, at) = class.outside(&self.config.strategy);
            for slot in (skip..many.min(skip + left)).filter_map(at) {
                let node = &mut self.nodes[slot as usize];
                if node.idle_since != NEVER && now.saturating_sub(node.idle_since) >= idle_time {
                    node.idle_since = NEVER;
                    idle.extend(self.slots[slot as usize].key.clone());
                }
            }
            left -= many.saturating_sub(skip).min(left);
            skip = skip.saturating_sub(many);
            if left == 0 {
                break;
            }
        }
        self.outside_at = if left == 0 { self.outside_at + MAINTAINED_AT_ONCE } else { 0 };
        self.counts.expired += idle.len() as u64;
        idle
    }

    pub(super) fn slot_of(&self, key: &K) -> Option<u32> {
        let same = |slot: &u32| self.slots[*slot as usize].key.as_ref() == Some(key);
        self.index.find(self.hasher.hash_one(key), same)
    }

    fn add(&mut self, key: K, weight: f64, now: u64) {
        let hash = self.hasher.hash_one(&key);
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
        let fresh = Slot {
            key: Some(key),
            seen: self.counts.updates,
            since: now,
            accrual: None,
            connection: Status::Open,
            on_probation: false,
            is_listed: false,
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
        self.nodes[slot as usize].calm = self.accrual.is_calm();
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash = |slot: &u32| slots[*slot as usize].key.as_ref().map_or(0, |key| hasher.hash_one(key));
        self.index.insert(hash, slot, rehash);
        self.by_status[Status::Open as usize] += 1;
        self.enter_class(slot, weight);
    }

    fn remove(&mut self, slot: u32) -> Option<K> {
        let key = self.slots[slot as usize].key.take()?;
        self.index.remove(self.hasher.hash_one(&key), slot);
        self.slots[slot as usize].accrual = None;
        self.leave_class(slot);
        let node = &mut self.nodes[slot as usize];
        node.generation = node.generation.wrapping_add(1);
        self.by_status[node.status as usize] -= 1;
        self.counts.load = self.counts.load.saturating_sub(u64::from(node.outstanding));
        self.free.push(slot);
        self.counts.removes += 1;
        Some(key)
    }

    fn enter_class(&mut self, slot: u32, weight: f64) {
        let number = match self.by_weight.get(&weight.to_bits()) {
            Some(number) => *number,
            None => self.new_class(weight),
        };
        self.nodes[slot as usize].class = number;
        let class = &mut self.classes[number as usize];
        let was_open = class.open > 0;
        class.enter(&mut self.nodes, slot);
        self.share_out(number, was_open);
    }

    fn leave_class(&mut self, slot: u32) {
        let number = self.nodes[slot as usize].class;
        let class = &mut self.classes[number as usize];
        let was_open = class.open > 0;
        class.leave(&mut self.nodes, slot);
        if class.members.is_empty() {
            self.emptied.push(number);
        }
        self.share_out(number, was_open);
    }

    fn new_class(&mut self, weight: f64) -> u32 {
        let fresh = Class::new(weight, &self.config.strategy);
        let number = match self.free_classes.pop() {
            Some(number) => {
                self.classes[number as usize] = fresh;
                number
            }
            None => {
                self.classes.push(fresh);
                (self.classes.len() - 1) as u32
            }
        };
        self.by_weight.insert(weight.to_bits(), number);
        self.find_sole();
        number
    }

    fn find_sole(&mut self) {
        self.sole = self.by_weight.values().next().copied().filter(|_| self.by_weight.len() == 1);
    }

    /// A class has other members, or others of them are open: how likely it is drawn, and among which.
    pub(super) fn share_out(&mut self, number: u32, was_open: bool) {
        let class = &self.classes[number as usize];
        let share = class.share();
        let is_open = class.open > 0;
        self.open_classes = self.open_classes + usize::from(is_open) - usize::from(was_open);
        self.shares.set(number as usize, if is_open { share } else { 0.0 }, share);
    }
}

/// Discovery may say anything; a class's share must be a number.
fn sane(weight: f64) -> f64 {
    if weight > 0.0 { weight.min(f64::from(f32::MAX)) } else { 0.0 }
}
