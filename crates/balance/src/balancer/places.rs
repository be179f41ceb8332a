//! Slots by the hash of their key, in a table that never moves more than a small part of itself: a hundred
//! thousand entries would take milliseconds to hash again.

use hashbrown::HashTable;

/// Up to so many entries one table is enough.
const FEW: usize = 2048;
/// Tables after that. They fill at random, so that they do not all grow at once.
const PARTS: usize = 64;

#[derive(Debug)]
pub(super) struct Places {
    /// One, or [`PARTS`]. Never empty.
    parts: Vec<HashTable<u32>>,
    len: usize,
}

impl Default for Places {
    fn default() -> Places {
        Places { parts: vec![HashTable::new()], len: 0 }
    }
}

impl Places {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(&u32) -> bool) -> Option<u32> {
        self.parts[self.part_of(hash)].find(hash, is_it).copied()
    }

    /// The caller has looked that it is not there. `hash_of` gives the hash of a slot that is.
    pub(super) fn insert(&mut self, hash: u64, slot: u32, hash_of: impl Fn(&u32) -> u64) {
        if self.len == FEW && self.parts.len() == 1 {
            let all = std::mem::take(&mut self.parts[0]);
            self.parts.resize_with(PARTS, HashTable::new);
            for slot in all {
                let hash = hash_of(&slot);
                let part = self.part_of(hash);
                self.parts[part].insert_unique(hash, slot, &hash_of);
            }
        }
        let part = self.part_of(hash);
        self.parts[part].insert_unique(hash, slot, hash_of);
        self.len += 1;
    }

    pub(super) fn remove(&mut self, hash: u64, slot: u32) {
        let part = self.part_of(hash);
        if let Ok(entry) = self.parts[part].find_entry(hash, |other| *other == slot) {
            entry.remove();
            self.len -= 1;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &u32> {
        self.parts.iter().flatten()
    }

    /// By bits that a table itself does not look at: it takes the lowest and the highest.
    fn part_of(&self, hash: u64) -> usize {
        (hash >> 40) as usize % self.parts.len()
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    #[test]
    fn slots_are_found_whatever_their_number() {
        let (mut places, hasher) = (Places::default(), RandomState::new());
        let hash = |slot: &u32| hasher.hash_one(slot);
        let all = 2 * FEW as u32;
        (0..all).for_each(|slot| places.insert(hash(&slot), slot, hash));
        assert_eq!((places.len(), places.parts.len()), (all as usize, PARTS));
        let largest = places.parts.iter().map(HashTable::len).max();
        assert!(largest.is_some_and(|largest| largest < 3 * all as usize / PARTS), "{largest:?}: what grows at once");
        assert!((0..all).all(|slot| places.find(hash(&slot), |other| *other == slot) == Some(slot)));
        (0..all).filter(|slot| slot % 3 != 0).for_each(|slot| places.remove(hash(&slot), slot));
        places.remove(hash(&1), 1);
        let mut left = places.iter().copied().collect::<Vec<_>>();
        left.sort_unstable();
        assert_eq!((left.len(), left), (places.len(), (0..all).step_by(3).collect::<Vec<_>>()));
    }
}
