//! Endpoints of one class in a fixed order, the healthy before the others.
//!
//! ```text
//!  open [a c d]  busy [b]  closed [e]     at(0) = a … at(3) = b, at(4) = e
//! ```
//! Looking up is constant; a change of status moves entries of eight bytes (a fraction of 100 µs for a
//! hundred thousand).

use std::mem;

use super::node::{Node, Status};

/// Rank, then slot.
type Entry = (u32, u32);

#[derive(Debug, Default)]
pub(super) struct Order {
    open: Vec<Entry>,
    busy: Vec<Entry>,
    closed: Vec<Entry>,
    /// Since the last [`Order::settle`].
    entered: Vec<u32>,
    left: Vec<Entry>,
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
        let place = place.checked_rem(self.len())?;
        let lists = [&self.open, &self.busy, &self.closed];
        lists
            .into_iter()
            .try_fold(place, |place, list| match list.get(place) {
                Some((_, slot)) => Err(*slot),
                None => Ok(place - list.len()),
            })
            .err()
    }

    /// Counts from the next [`Order::settle`] on; until then its status must stay.
    pub(super) fn enter(&mut self, node: &mut Node, slot: u32) {
        node.entering = true;
        self.entered.push(slot);
    }

    /// Counts until the next [`Order::settle`].
    pub(super) fn leave(&mut self, node: &mut Node, slot: u32) {
        if mem::take(&mut node.entering) {
            // Never was in a list, and what waits to be is looked at again.
            return;
        }
        self.left.push((node.rank, slot));
    }

    /// Takes out those that left and puts in those that entered: passes over the lists alone, and a sort that
    /// finds nearly everything in order.
    pub(super) fn settle(&mut self, nodes: &mut [Node]) {
        if !self.left.is_empty() {
            self.left.sort_unstable();
            for list in [&mut self.open, &mut self.busy, &mut self.closed] {
                let mut left = self.left.iter().peekable();
                list.retain(|entry| {
                    while left.next_if(|gone| *gone < entry).is_some() {}
                    left.peek() != Some(&entry)
                });
            }
            self.left.clear();
        }
        if self.entered.is_empty() {
            return;
        }
        for slot in mem::take(&mut self.entered) {
            let node = &mut nodes[slot as usize];
            if mem::take(&mut node.entering) {
                let (status, rank) = (node.status, node.rank);
                self.list(status).push((rank, slot));
            }
        }
        for list in [&mut self.open, &mut self.busy, &mut self.closed] {
            list.sort();
        }
    }

    /// The open one that follows the place where this one stands or stood, round and round.
    pub(super) fn open_after(&self, rank: u32, slot: u32) -> Option<u32> {
        let place = self.open.partition_point(|entry| *entry <= (rank, slot));
        self.open.get(place).or_else(|| self.open.first()).map(|(_, slot)| *slot)
    }

    /// Takes an entry to the list of its new status.
    pub(super) fn change(&mut self, slot: u32, rank: u32, before: Status, after: Status) {
        let entry = (rank, slot);
        if let Ok(place) = self.list(before).binary_search(&entry) {
            self.list(before).remove(place);
        }
        if let Err(place) = self.list(after).binary_search(&entry) {
            self.list(after).insert(place, entry);
        }
    }

    fn list(&mut self, status: Status) -> &mut Vec<Entry> {
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
        let mut nodes = [5, 1, 3, 1].map(|rank| Node::new(rank, 0)).to_vec();
        let mut order = Order::default();
        assert_eq!(order.at(0), None);
        (0..4).for_each(|slot| order.enter(&mut nodes[slot as usize], slot));
        order.settle(&mut nodes);
        assert_eq!(shown(&order), [1, 3, 2, 0]);
        assert_eq!(order.at(5), Some(3), "round and round");
        order.change(3, 1, Status::Open, Status::Busy);
        nodes[3].status = Status::Busy;
        assert_eq!(shown(&order), [1, 2, 0, 3]);
        assert_eq!(
            (order.open_after(1, 1), order.open_after(1, 3), order.open_after(5, 0)),
            (Some(2), Some(2), Some(1))
        );
        order.change(1, 1, Status::Open, Status::Closed);
        nodes[1].status = Status::Closed;
        assert_eq!((shown(&order), order.open()), (vec![2, 0, 3, 1], 2));
        order.change(3, 1, Status::Busy, Status::Open);
        nodes[3].status = Status::Open;
        assert_eq!(shown(&order), [3, 2, 0, 1]);
        order.leave(&mut nodes[2], 2);
        order.leave(&mut nodes[1], 1);
        order.settle(&mut nodes);
        assert_eq!(shown(&order), [3, 0]);
        for slot in [1, 2] {
            order.enter(&mut nodes[slot as usize], slot);
            order.leave(&mut nodes[slot as usize], slot);
        }
        order.enter(&mut nodes[1], 1);
        order.settle(&mut nodes);
        assert_eq!(shown(&order), [3, 0, 1]);
    }
}
