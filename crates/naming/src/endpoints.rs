//! A set of endpoints in chunks, so that two sets that differ little share most of their memory.
//!
//! ```text
//!  before  [a b c] [d e f] [g h i]
//!             │               │         the same memory: found equal by its address
//!  after   [a b c] [d e' f] [g h i]
//! ```
//! A change of one among a hundred thousand endpoints costs its readers a look at each chunk and one at the
//! endpoints of the chunk that changed. A set of a few hundred is one chunk.

use std::{cmp::Ordering, net::SocketAddr, sync::Arc};

use crate::Endpoint;

/// Endpoints of one chunk.
const MOST: usize = 512;

type Chunk = Arc<[Endpoint]>;

/// Endpoints sorted by address, without duplicates. Cheap to clone.
#[derive(Clone, Default)]
pub struct Endpoints {
    /// None is empty.
    chunks: Arc<[Chunk]>,
    len: usize,
}

impl Endpoints {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// In the order of addresses.
    pub fn iter(&self) -> Iter<'_> {
        let inside: fn(&Chunk) -> std::slice::Iter<'_, Endpoint> = |chunk| chunk.iter();
        self.chunks.iter().flat_map(inside)
    }

    pub fn to_vec(&self) -> Vec<Endpoint> {
        self.iter().cloned().collect()
    }

    /// The one at a place in the order of addresses.
    pub fn get(&self, mut place: usize) -> Option<&Endpoint> {
        for chunk in self.chunks.iter() {
            match chunk.get(place) {
                None => place -= chunk.len(),
                found => return found,
            }
        }
        None
    }

    pub fn first(&self) -> Option<&Endpoint> {
        self.chunks.first()?.first()
    }

    /// The same set, in memory that it shares with `old` where they are the same.
    pub fn sharing(self, old: &Endpoints) -> Endpoints {
        if self.len <= MOST || old.len <= MOST || Arc::ptr_eq(&self.chunks, &old.chunks) {
            return self;
        }
        let all = self.to_vec();
        let (mut chunks, mut fresh, mut rest) = (Vec::new(), Vec::new(), all.as_slice());
        for (number, chunk) in old.chunks.iter().enumerate() {
            let ends = old.chunks.get(number + 1).and_then(|next| next.first()).map(|next| next.addr);
            let here = ends.map_or(rest.len(), |ends| rest.partition_point(|endpoint| endpoint.addr < ends));
            let (here, behind) = rest.split_at(here);
            rest = behind;
            // Crumbs are joined with what follows.
            let has_room = fresh.is_empty() || fresh.len() >= MOST / 4;
            if has_room && here == &**chunk {
                cut(&mut fresh, &mut chunks);
                chunks.push(chunk.clone());
            } else {
                fresh.extend_from_slice(here);
            }
        }
        cut(&mut fresh, &mut chunks);
        Endpoints { len: self.len, chunks: chunks.into() }
    }

    fn sorted(mut endpoints: Vec<Endpoint>) -> Endpoints {
        if !endpoints.is_sorted_by(|one, other| one.addr < other.addr) {
            endpoints.sort_by_key(|endpoint| endpoint.addr);
            endpoints.dedup_by_key(|endpoint| endpoint.addr);
        }
        let (len, mut chunks) = (endpoints.len(), Vec::new());
        cut(&mut endpoints, &mut chunks);
        Endpoints { chunks: chunks.into(), len }
    }
}

/// Over all endpoints, in order.
pub type Iter<'a> = std::iter::FlatMap<
    std::slice::Iter<'a, Chunk>,
    std::slice::Iter<'a, Endpoint>,
    fn(&'a Chunk) -> std::slice::Iter<'a, Endpoint>,
>;

impl<'a> IntoIterator for &'a Endpoints {
    type Item = &'a Endpoint;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Makes chunks of equal size.
fn cut(endpoints: &mut Vec<Endpoint>, into: &mut Vec<Chunk>) {
    let pieces = endpoints.len().div_ceil(MOST);
    for piece in (0..pieces).rev() {
        let size = endpoints.len() / (piece + 1);
        into.push(endpoints.drain(..size).collect());
    }
}

impl From<Vec<Endpoint>> for Endpoints {
    /// In any order; of two with one address the first counts.
    fn from(endpoints: Vec<Endpoint>) -> Endpoints {
        Endpoints::sorted(endpoints)
    }
}

impl<const N: usize> From<[Endpoint; N]> for Endpoints {
    fn from(endpoints: [Endpoint; N]) -> Endpoints {
        Endpoints::sorted(endpoints.into())
    }
}

impl FromIterator<Endpoint> for Endpoints {
    fn from_iter<I: IntoIterator<Item = Endpoint>>(endpoints: I) -> Endpoints {
        Endpoints::sorted(endpoints.into_iter().collect())
    }
}

impl PartialEq for Endpoints {
    fn eq(&self, other: &Endpoints) -> bool {
        if self.len != other.len {
            return false;
        }
        if Arc::ptr_eq(&self.chunks, &other.chunks) {
            return true;
        }
        let aligned = self.chunks.len() == other.chunks.len()
            && self.chunks.iter().zip(&*other.chunks).all(|(one, other)| one.len() == other.len());
        match aligned {
            true => self.chunks.iter().zip(&*other.chunks).all(|(one, other)| Arc::ptr_eq(one, other) || one == other),
            false => self.iter().eq(other.iter()),
        }
    }
}

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// One step from one set to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Difference<'a> {
    /// New, or known with another weight or other metadata.
    Put(&'a Endpoint),
    Gone(SocketAddr),
}

/// The way from one set to another, in steps as small as one likes.
pub struct Differences {
    old: Side,
    new: Side,
}

/// What is left of one set. It lets go of what it passed, so that freeing a large set is spread, too.
struct Side {
    /// Last first.
    chunks: Vec<Chunk>,
    /// Where in the last chunk.
    at: usize,
}

impl Side {
    fn new(endpoints: Endpoints) -> Side {
        Side { chunks: endpoints.chunks.iter().rev().cloned().collect(), at: 0 }
    }

    fn get(&self) -> Option<&Endpoint> {
        self.chunks.last()?.get(self.at)
    }

    fn pass(&mut self) {
        self.at += 1;
        if self.chunks.last().is_some_and(|chunk| self.at >= chunk.len()) {
            self.pass_chunk();
        }
    }

    fn pass_chunk(&mut self) {
        self.chunks.pop();
        self.at = 0;
    }
}

impl Differences {
    pub fn new(old: Endpoints, new: Endpoints) -> Differences {
        Differences { old: Side::new(old), new: Side::new(new) }
    }

    /// Goes on: looks at no more than about `most` endpoints, and tells the differences among them. Whether
    /// that was all.
    pub fn step(&mut self, most: usize, mut tell: impl FnMut(Difference<'_>)) -> bool {
        for _ in 0..most {
            let (old, new) = (&mut self.old, &mut self.new);
            if let (Some(before), Some(after), 0, 0) = (old.chunks.last(), new.chunks.last(), old.at, new.at)
                && Arc::ptr_eq(before, after)
            {
                old.pass_chunk();
                new.pass_chunk();
                continue;
            }
            let order = match (old.get(), new.get()) {
                (None, None) => return true,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(after)) => before.addr.cmp(&after.addr),
            };
            match (order, old.get(), new.get()) {
                (Ordering::Less, Some(before), _) => tell(Difference::Gone(before.addr)),
                (Ordering::Greater, _, Some(after)) => tell(Difference::Put(after)),
                (_, Some(before), Some(after)) if before != after => tell(Difference::Put(after)),
                _ => {}
            }
            if order.is_le() {
                old.pass();
            }
            if order.is_ge() {
                new.pass();
            }
        }
        self.old.get().is_none() && self.new.get().is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn endpoints(numbers: &BTreeMap<u32, u32>) -> Endpoints {
        let endpoint = |(number, weight): (&u32, &u32)| {
            let addr = (std::net::Ipv4Addr::from(*number), 80).into();
            Endpoint { addr, weight: f64::from(*weight), meta: Arc::default() }
        };
        numbers.iter().rev().map(endpoint).collect()
    }

    fn apply(set: &mut BTreeMap<SocketAddr, f64>, difference: Difference<'_>) {
        match difference {
            Difference::Put(endpoint) => set.insert(endpoint.addr, endpoint.weight),
            Difference::Gone(addr) => set.remove(&addr),
        };
    }

    fn as_map(set: &Endpoints) -> BTreeMap<SocketAddr, f64> {
        set.iter().map(|endpoint| (endpoint.addr, endpoint.weight)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_set_that_shares_is_the_same_and_differences_lead_to_it(
            size in 0u32..4000, edits in prop::collection::vec((0u32..4000, 0u32..60, prop::option::of(0u32..3)), 0..8),
            step in 1usize..700,
        ) {
            let mut numbers: BTreeMap<u32, u32> = (0..size).map(|number| (number, 1)).collect();
            let mut last = endpoints(&numbers);
            for (from, many, weight) in edits {
                for number in from..from + many {
                    match weight {
                        Some(weight) => numbers.insert(number, weight),
                        None => numbers.remove(&number),
                    };
                }
                let plain = endpoints(&numbers);
                let shared = plain.clone().sharing(&last);
                prop_assert_eq!(&shared, &plain);
                prop_assert_eq!(&plain, &shared);
                prop_assert_eq!(shared.len(), numbers.len());
                prop_assert!(shared.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= MOST));
                let (mut walked, mut way) = (as_map(&last), Differences::new(last.clone(), shared.clone()));
                while !way.step(step, |difference| apply(&mut walked, difference)) {}
                prop_assert_eq!(walked, as_map(&shared));
                last = shared;
            }
        }
    }

    #[test]
    fn one_change_in_a_large_set_costs_its_readers_little() {
        let mut numbers: BTreeMap<u32, u32> = (0..100_000).map(|number| (number, 1)).collect();
        let before = endpoints(&numbers);
        numbers.insert(50_000, 2);
        numbers.insert(200_000, 1);
        numbers.remove(&7);
        let after = endpoints(&numbers).sharing(&before);
        let (mut told, mut looks, mut way) = (0, 0, Differences::new(before, after));
        while !way.step(1, |_| told += 1) {
            looks += 1;
        }
        assert_eq!(told, 3);
        assert!(looks < 3 * MOST + 200, "{looks}");
    }
}
