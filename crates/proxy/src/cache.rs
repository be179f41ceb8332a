//! A cache of bounded size: a hit costs a look into a hash table, and what goes for a newcomer is found in a few
//! looks, whatever the size.
//!
//! ```text
//!  map: key ──▶ value, place        ring: [a] [b] [c] [d] …      of sixteen at random, the one that was not used
//!                                                                for longest goes
//! ```
//! Names that a stranger invents are used once: of sixteen some are such, and what is used now and then survives
//! a flood of them. Whoever is held outside the cache stays.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::ops::Range;
use std::rc::Rc;

/// Of so many that nobody holds the oldest goes.
const CANDIDATES: usize = 16;
/// How many are looked at in order to find them.
const LOOKS: usize = 64;
/// References to a value that nobody outside holds.
const OWN: usize = 2;
/// Suggestions that are kept.
const SUGGESTED: usize = 256;

pub(crate) trait Used {
    /// When, in nanoseconds since the epoch.
    fn used(&self) -> u64;
}

pub(crate) struct Cache<K, V> {
    map: HashMap<K, Entry<V>>,
    ring: Vec<(K, Rc<V>)>,
    suggested: VecDeque<K>,
}

struct Entry<V> {
    value: Rc<V>,
    /// In the ring.
    place: usize,
}

/// What [`Cache::make_room`] found.
pub(crate) enum Room<K, V> {
    Free,
    /// Was taken out.
    Evicted(K, Rc<V>),
    /// All that were looked at are held.
    None,
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Cache<K, V> {
        Cache { map: HashMap::new(), ring: Vec::new(), suggested: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, V: Used> Cache<K, V> {
    #[inline]
    pub(crate) fn get<Q>(&self, key: &Q) -> Option<&Rc<V>>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.map.get(key).map(|entry| &entry.value)
    }

    pub(crate) fn len(&self) -> usize {
        self.ring.len()
    }

    /// Those at these places, as far as there are so many.
    pub(crate) fn part(&self, places: Range<usize>) -> impl Iterator<Item = &Rc<V>> {
        self.ring.iter().skip(places.start).take(places.len()).map(|(_, value)| value)
    }

    /// The caller has looked that the key is not there.
    pub(crate) fn insert(&mut self, key: K, value: Rc<V>) {
        self.map.insert(key.clone(), Entry { value: value.clone(), place: self.ring.len() });
        self.ring.push((key, value));
    }

    /// Before an insertion, if at most `most` are kept.
    pub(crate) fn make_room(&mut self, most: usize) -> Room<K, V> {
        if self.ring.len() < most.max(1) {
            return Room::Free;
        }
        match self.suggestion().or_else(|| self.oldest()) {
            Some(place) => {
                let (key, value) = self.take(place);
                Room::Evicted(key, value)
            }
            None => Room::None,
        }
    }

    /// Probably nobody holds this one any more: it is the next to go.
    pub(crate) fn suggest(&mut self, key: K) {
        if self.suggested.len() == SUGGESTED {
            self.suggested.pop_front();
        }
        self.suggested.push_back(key);
    }

    /// Takes out those at these places that are old and that nobody holds, unless it is the last one.
    pub(crate) fn expire(&mut self, places: Range<usize>, is_old: impl Fn(&V) -> bool) -> Vec<(K, Rc<V>)> {
        let mut expired = Vec::new();
        for place in places.rev() {
            let Some((_, value)) = self.ring.get(place).filter(|_| self.ring.len() > 1) else { continue };
            if Rc::strong_count(value) == OWN && is_old(value) {
                expired.push(self.take(place));
            }
        }
        expired
    }

    fn suggestion(&mut self) -> Option<usize> {
        while let Some(key) = self.suggested.pop_front() {
            if let Some(entry) = self.map.get(&key)
                && Rc::strong_count(&entry.value) == OWN
            {
                return Some(entry.place);
            }
        }
        None
    }

    fn oldest(&self) -> Option<usize> {
        let many = self.ring.len();
        let (looks, candidates) = if many <= LOOKS { (many, many) } else { (LOOKS, CANDIDATES) };
        let places = (0..looks).map(|look| if many <= LOOKS { look } else { fastrand::usize(..many) });
        let free = places.filter(|place| Rc::strong_count(&self.ring[*place].1) == OWN);
        free.take(candidates).min_by_key(|place| self.ring[*place].1.used())
    }

    fn take(&mut self, place: usize) -> (K, Rc<V>) {
        let (key, value) = self.ring.swap_remove(place);
        self.map.remove(&key);
        if let Some((moved, _)) = self.ring.get(place)
            && let Some(entry) = self.map.get_mut(moved)
        {
            entry.place = place;
        }
        (key, value)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Value(Cell<u64>);

    impl Used for Value {
        fn used(&self) -> u64 {
            self.0.get()
        }
    }

    fn value(used: u64) -> Rc<Value> {
        Rc::new(Value(Cell::new(used)))
    }

    fn evicted(room: Room<u64, Value>) -> Option<u64> {
        match room {
            Room::Evicted(key, _) => Some(key),
            Room::Free | Room::None => None,
        }
    }

    #[test]
    fn of_a_few_the_one_that_nobody_holds_and_that_was_not_used_for_longest_goes() {
        let mut cache = Cache::default();
        (0..4).for_each(|key| cache.insert(key, value(10 + key)));
        assert!(matches!(cache.make_room(5), Room::Free));
        let held = cache.get(&0).cloned();
        cache.get(&1).unwrap().0.set(100);
        assert_eq!(evicted(cache.make_room(4)), Some(2));
        cache.suggest(1);
        cache.suggest(0);
        assert_eq!(evicted(cache.make_room(3)), Some(1), "suggested");
        assert_eq!(evicted(cache.make_room(2)), Some(3), "what is held stays, whatever is suggested");
        assert!(matches!(cache.make_room(1), Room::None));
        drop(held);
        assert!(cache.expire(0..1, |_| true).is_empty(), "the last one stays");
        cache.insert(7, value(0));
        assert_eq!(cache.expire(0..64, |value| value.used() == 0).len(), 1);
        assert_eq!((cache.len(), cache.get(&0).is_some(), cache.get(&7).is_some()), (1, true, false));
    }

    #[test]
    fn what_is_used_now_and_then_survives_a_flood_of_names_that_are_used_once() {
        let (most, regular) = (1000, 300);
        let (mut cache, mut clock, mut bound_again) = (Cache::default(), 0, 0);
        (0..regular).for_each(|key| cache.insert(key, value(0)));
        for stranger in 0..100_000u64 {
            clock += 1;
            if matches!(cache.make_room(most), Room::None) {
                panic!("nobody holds any");
            }
            cache.insert(1_000_000 + stranger, value(clock));
            // One request of a regular for each stranger: each every 300.
            let key = stranger % regular;
            match cache.get(&key) {
                Some(value) => value.0.set(clock),
                None => {
                    bound_again += 1;
                    cache.make_room(most);
                    cache.insert(key, value(clock));
                }
            }
        }
        assert!(cache.len() <= most && cache.map.len() == cache.ring.len());
        assert!(cache.map.values().all(|entry| Rc::ptr_eq(&entry.value, &cache.ring[entry.place].1)));
        assert!(bound_again < 1000, "{bound_again} of 100000");
    }
}
