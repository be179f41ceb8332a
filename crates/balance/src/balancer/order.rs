//! Endpoints of one class in a fixed order, the healthy before the others.
//!
//! ```text
//!  open [a c d]  busy [b]  closed [e]     at(0) = a … at(3) = b, at(4) = e
//! ```
//! Looking up and changing cost the same for ten entries and, within a few hundred nanoseconds, for a
//! hundred thousand: the lists are kept in chunks.

use super::node::Status;
use super::sorted::Sorted;

/// Rank, then slot.
pub(super) type Entry = (u32, u32);

#[derive(Debug, Default)]
pub(super) struct Order {
    open: Sorted,
    busy: Sorted,
    closed: Sorted,
}

impl Order {
    pub(super) fn len(&self) -> usize {
        self.open.len() + self.busy.len() + self.closed.len()
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// The slot at a place; places are taken round.
    pub(super) fn at(&self, place: usize) -> Option<u32> {
        let mut place = place.checked_rem(self.len())?;
        for list in [&self.open, &self.busy, &self.closed] {
            match list.get(place) {
                Some((_, slot)) => return Some(slot),
                None => place -= list.len(),
            }
        }
        None
    }

    pub(super) fn enter(&mut self, rank: u32, slot: u32, status: Status) {
        self.list(status).insert((rank, slot));
    }

    pub(super) fn leave(&mut self, rank: u32, slot: u32, status: Status) {
        self.list(status).remove((rank, slot));
    }

    /// The open one that follows the place where this one stands or stood, round and round.
    pub(super) fn open_after(&self, rank: u32, slot: u32) -> Option<u32> {
        self.open.after((rank, slot)).or_else(|| self.open.get(0)).map(|(_, slot)| slot)
    }

    /// Takes an entry to the list of its new status.
    pub(super) fn change(&mut self, slot: u32, rank: u32, before: Status, after: Status) {
        self.leave(rank, slot, before);
        self.enter(rank, slot, after);
    }

    fn list(&mut self, status: Status) -> &mut Sorted {
        match status {
            Status::Open => &mut self.open,
            Status::Busy => &mut self.busy,
            Status::Closed => &mut self.closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(order: &Order) -> Vec<u32> {
        (0..order.len()).filter_map(|place| order.at(place)).collect()
    }

    #[test]
    fn healthy_ones_stand_first_and_come_back_to_their_place() {
        let mut order = Order::default();
        assert_eq!(order.at(0), None);
        for (slot, rank) in (0..).zip([5, 1, 3, 1]) {
            order.enter(rank, slot, Status::Open);
        }
        assert_eq!(shown(&order), [1, 3, 2, 0]);
        assert_eq!(order.at(5), Some(3), "round and round");
        order.change(3, 1, Status::Open, Status::Busy);
        assert_eq!(shown(&order), [1, 2, 0, 3]);
        assert_eq!(
            (order.open_after(1, 1), order.open_after(1, 3), order.open_after(5, 0)),
            (Some(2), Some(2), Some(1))
        );
        order.change(1, 1, Status::Open, Status::Closed);
        assert_eq!((shown(&order), order.open()), (vec![2, 0, 3, 1], 2));
        order.change(3, 1, Status::Busy, Status::Open);
        assert_eq!(shown(&order), [3, 2, 0, 1]);
        order.leave(3, 2, Status::Open);
        order.leave(1, 1, Status::Closed);
        assert_eq!(shown(&order), [3, 0]);
        order.enter(1, 1, Status::Open);
        assert_eq!(shown(&order), [1, 3, 0]);
    }
}
