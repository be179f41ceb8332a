//! The endpoints of one weight, arranged as the strategy wants them.
//!
//! ```text
//!  p2c, ewma    members: [open … open │ others …]     two random ones, the better
//!  heap         members: a heap                       the top
//!  round robin  members as p2c, and an order          the next that is open
//!  aperture     members as p2c, and an order          two random ones of its first k, the better
//! ```

use super::chunked::Chunked;
use super::config::{Aperture, Strategy};
use super::heap;
use super::node::{Node, Status};
use super::order::Order;
use crate::average::MovingAverage;
use crate::random::Random;

#[derive(Debug)]
pub(super) struct Class {
    pub weight: f64,
    pub members: Vec<u32>,
    /// How many of them are open.
    pub open: usize,
    arrangement: Arrangement,
}

#[derive(Debug)]
enum Arrangement {
    /// Open ones stand first.
    Partition,
    Heap,
    Ring {
        order: Order,
        /// Rank and slot of the one that was taken; none before the first pick, which starts anywhere.
        last: Option<(u32, u32)>,
        /// The next place while nothing is open.
        place: usize,
    },
    Window {
        order: Order,
        window: Window,
    },
}

/// How many endpoints an aperture lets in, and why.
#[derive(Debug)]
pub(super) struct Window {
    size: usize,
    /// Requests outstanding at the class's endpoints.
    load: u64,
    pub(super) offered: MovingAverage,
    pub(super) widened: u64,
    pub(super) narrowed: u64,
}

/// What [`Class::choose`] found.
pub(super) struct Choice {
    pub slot: u32,
    /// As many tries as allowed found nothing open.
    pub exhausted: bool,
}

impl Class {
    pub(super) fn new(weight: f64, strategy: &Strategy) -> Class {
        let arrangement = match strategy {
            Strategy::P2c { .. } | Strategy::Ewma { .. } => Arrangement::Partition,
            Strategy::Heap => Arrangement::Heap,
            Strategy::RoundRobin => Arrangement::Ring { order: Order::default(), last: None, place: 0 },
            Strategy::Aperture(aperture) => {
                let offered = MovingAverage::new(aperture.window as f64);
                let window = Window { size: 1, load: 0, offered, widened: 0, narrowed: 0 };
                Arrangement::Window { order: Order::default(), window }
            }
        };
        Class { weight, members: Vec::new(), open: 0, arrangement }
    }

    /// What it weighs against other classes.
    pub(super) fn share(&self) -> f64 {
        self.weight * self.members.len() as f64
    }

    pub(super) fn enter(&mut self, nodes: &mut Chunked<Node>, slot: u32) {
        let node = &nodes[slot as usize];
        let (status, rank, outstanding) = (node.status, node.rank, node.outstanding);
        if let Arrangement::Heap = self.arrangement {
            heap::push(&mut self.members, nodes, slot);
        } else {
            nodes[slot as usize].position = self.members.len() as u32;
            self.members.push(slot);
        }
        match &mut self.arrangement {
            Arrangement::Partition | Arrangement::Heap => {}
            Arrangement::Ring { order, .. } => order.enter(rank, slot, status),
            Arrangement::Window { order, window } => {
                order.enter(rank, slot, status);
                window.load += u64::from(outstanding);
            }
        }
        if status == Status::Open {
            self.swap_members(nodes, self.members.len() - 1, self.open);
            self.open += 1;
        }
    }

    pub(super) fn leave(&mut self, nodes: &mut Chunked<Node>, slot: u32) {
        let node = &nodes[slot as usize];
        let (status, rank, outstanding) = (node.status, node.rank, node.outstanding);
        let mut place = node.position as usize;
        if status == Status::Open {
            self.open -= 1;
            if !matches!(self.arrangement, Arrangement::Heap) {
                self.swap_members(nodes, place, self.open);
                place = self.open;
            }
        }
        if let Arrangement::Heap = self.arrangement {
            heap::remove(&mut self.members, nodes, place);
            return;
        }
        self.members.swap_remove(place);
        if let Some(moved) = self.members.get(place) {
            nodes[*moved as usize].position = place as u32;
        }
        match &mut self.arrangement {
            Arrangement::Partition | Arrangement::Heap => {}
            Arrangement::Ring { order, .. } => order.leave(rank, slot, status),
            Arrangement::Window { order, window } => {
                order.leave(rank, slot, status);
                window.load = window.load.saturating_sub(u64::from(outstanding));
            }
        }
    }

    /// A member's status changed; sets it.
    pub(super) fn change(&mut self, nodes: &mut Chunked<Node>, slot: u32, after: Status) {
        let node = &mut nodes[slot as usize];
        let (before, rank, place) = (node.status, node.rank, node.position as usize);
        node.status = after;
        if let Arrangement::Heap = self.arrangement {
            heap::sift(&mut self.members, nodes, place);
        }
        match (before == Status::Open, after == Status::Open) {
            (true, false) => {
                self.open -= 1;
                self.swap_members(nodes, place, self.open);
            }
            (false, true) => {
                self.swap_members(nodes, place, self.open);
                self.open += 1;
            }
            _ => {}
        }
        match &mut self.arrangement {
            Arrangement::Partition | Arrangement::Heap => {}
            Arrangement::Ring { order, .. } | Arrangement::Window { order, .. } => {
                order.change(slot, rank, before, after);
            }
        }
    }

    /// Nothing for a heap, whose places mean something else.
    fn swap_members(&mut self, nodes: &mut Chunked<Node>, one: usize, other: usize) {
        if !matches!(self.arrangement, Arrangement::Heap) {
            self.members.swap(one, other);
            nodes[self.members[one] as usize].position = one as u32;
            nodes[self.members[other] as usize].position = other as u32;
        }
    }

    /// The endpoint for one request; `None` only without members.
    pub(super) fn choose(
        &mut self,
        nodes: &mut Chunked<Node>,
        strategy: &Strategy,
        now: u64,
        random: &mut impl Random,
    ) -> Option<Choice> {
        let sure = |slot: &u32| Choice { slot: *slot, exhausted: false };
        let Class { members, open, arrangement, .. } = self;
        let (bound, by) = match (&mut *arrangement, strategy) {
            (Arrangement::Heap, _) => return members.first().map(sure),
            (Arrangement::Ring { order, last, place }, _) => {
                let slot = match (&*last, order.open()) {
                    (_, 0) => {
                        *place = place.wrapping_add(1);
                        order.at(*place)?
                    }
                    (None, open) => order.at(random.below(open as u64) as usize)?,
                    (Some((rank, slot)), _) => order.open_after(*rank, *slot)?,
                };
                *last = Some((nodes[slot as usize].rank, slot));
                return Some(sure(&slot));
            }
            (Arrangement::Window { order, window }, Strategy::Aperture(aperture)) => {
                (window.size(aperture, order.len()), By::Load)
            }
            (_, Strategy::Ewma { decay, .. }) => (members.len(), By::Peak(*decay)),
            _ => (members.len(), By::Load),
        };
        let at = |place: u64| match &*arrangement {
            Arrangement::Window { order, .. } => order.at(place as usize),
            _ => members.get(place as usize).copied(),
        };
        // With nothing open there is nothing to try for.
        let tries = if *open > 0 { strategy.max_effort() } else { 0 };
        for _ in 0..tries {
            let slot = pair(nodes, bound, at, by, now, random)?;
            if nodes[slot as usize].status == Status::Open {
                return Some(Choice { slot, exhausted: false });
            }
        }
        // The original would take one more random pair; taking an open one spares requests that would fail.
        // Open ones are the first of the members, and of an order.
        let among = if matches!(arrangement, Arrangement::Window { .. }) { bound.min(*open) } else { *open };
        let slot = match among {
            0 => pair(nodes, bound, at, by, now, random)?,
            among => at(random.below(among as u64))?,
        };
        Some(Choice { slot, exhausted: true })
    }

    /// A request goes out to a member, which counts it already.
    pub(super) fn acquired(&mut self, nodes: &mut Chunked<Node>, strategy: &Strategy, slot: u32, now: u64) {
        match (&mut self.arrangement, strategy) {
            (Arrangement::Heap, _) => {
                heap::sift(&mut self.members, nodes, nodes[slot as usize].position as usize);
            }
            (Arrangement::Window { order, window }, Strategy::Aperture(aperture)) => {
                window.load += 1;
                window.adjust(aperture, order.len(), now);
            }
            _ => {}
        }
    }

    /// A request of a member ended, which counts it no longer.
    pub(super) fn released(
        &mut self,
        nodes: &mut Chunked<Node>,
        strategy: &Strategy,
        slot: u32,
        now: u64,
        random: &mut impl Random,
    ) {
        match (&mut self.arrangement, strategy) {
            (Arrangement::Heap, _) => {
                let node = &nodes[slot as usize];
                let place = node.position as usize;
                if node.least_loaded() == (Status::Open, 0) {
                    heap::shuffle(&mut self.members, nodes, place, random);
                } else {
                    heap::sift(&mut self.members, nodes, place);
                }
            }
            (Arrangement::Window { order, window }, Strategy::Aperture(aperture)) => {
                window.load = window.load.saturating_sub(1);
                window.adjust(aperture, order.len(), now);
            }
            _ => {}
        }
    }

    /// How many endpoints are let in, with what led to it; `None` for other strategies.
    pub(super) fn window(&self, strategy: &Strategy) -> Option<(usize, &Window)> {
        match (&self.arrangement, strategy) {
            (Arrangement::Window { order, window }, Strategy::Aperture(aperture)) => {
                Some((window.size(aperture, order.len()), window))
            }
            _ => None,
        }
    }

    /// Of the endpoints that an aperture leaves out, in order, how many there are, and each at its place
    /// among them.
    pub(super) fn outside(&self, strategy: &Strategy) -> (usize, impl Fn(usize) -> Option<u32> + '_) {
        let size = self.window(strategy).map(|(size, _)| size);
        let order = match &self.arrangement {
            Arrangement::Window { order, .. } => Some(order),
            _ => None,
        };
        let found = size.zip(order);
        let many = found.map_or(0, |(size, order)| order.len().saturating_sub(size));
        (many, move |place| found.and_then(|(size, order)| order.at(size + place)))
    }
}

#[derive(Clone, Copy)]
enum By {
    Load,
    /// Peak EWMA with this decay time.
    Peak(u64),
}

/// Two distinct ones of the first `bound`: the healthier, then the one with less to do, then the first.
fn pair(
    nodes: &mut Chunked<Node>,
    bound: usize,
    at: impl Fn(u64) -> Option<u32>,
    by: By,
    now: u64,
    random: &mut impl Random,
) -> Option<u32> {
    let first = random.below(bound as u64);
    let first_slot = at(first)?;
    if bound < 2 {
        return Some(first_slot);
    }
    // A number below bound − 1 with the first one's place skipped is uniform over the others.
    let second = random.below(bound as u64 - 1);
    let second_slot = at(second + u64::from(second >= first))?;
    let second_is_better = match by {
        By::Load => nodes[second_slot as usize].least_loaded() < nodes[first_slot as usize].least_loaded(),
        By::Peak(decay) => {
            let (first, second) = (nodes[first_slot as usize].status, nodes[second_slot as usize].status);
            if first == second {
                nodes[second_slot as usize].peak_load(decay, now) < nodes[first_slot as usize].peak_load(decay, now)
            } else {
                second < first
            }
        }
    };
    Some(if second_is_better { second_slot } else { first_slot })
}

impl Window {
    fn size(&self, aperture: &Aperture, members: usize) -> usize {
        let min = (aperture.min as usize).clamp(1, members.max(1));
        self.size.clamp(min, members.max(1))
    }

    /// One step at most, towards a load per endpoint within the band.
    fn adjust(&mut self, aperture: &Aperture, members: usize, now: u64) {
        let size = self.size(aperture, members);
        let each = self.offered.update(now as f64, self.load as f64) / size as f64;
        let min = (aperture.min as usize).clamp(1, members.max(1));
        self.size = size;
        if each >= aperture.high && size < members {
            self.size += 1;
            self.widened += 1;
        } else if each <= aperture.low && size > min {
            self.size -= 1;
            self.narrowed += 1;
        }
    }
}
