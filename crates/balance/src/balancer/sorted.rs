//! A sorted list in chunks: finding an entry is a binary search, changing one moves a chunk at most.

use super::order::Entry;

/// Entries of a chunk. Half of it is what an insertion moves on average: 2 KiB.
const MOST: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// None is empty.
    chunks: Vec<Vec<Entry>>,
    /// How many entries stand before each chunk.
    before: Vec<u32>,
    len: usize,
}

impl Sorted {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, place: usize) -> Option<Entry> {
        let chunk = match self.chunks.len() {
            0 | 1 => 0,
            _ => self.before.partition_point(|before| *before as usize <= place).saturating_sub(1),
        };
        let place = place - *self.before.get(chunk)? as usize;
        self.chunks[chunk].get(place).copied()
    }

    /// The first that is greater.
    pub(super) fn after(&self, entry: Entry) -> Option<Entry> {
        let chunk = self.chunk_of(entry);
        let inside = self.chunks.get(chunk)?;
        let place = inside.partition_point(|other| *other <= entry);
        inside.get(place).or_else(|| self.chunks.get(chunk + 1)?.first()).copied()
    }

    /// Nothing happens if it is there.
    pub(super) fn insert(&mut self, entry: Entry) {
        if self.chunks.is_empty() {
            self.chunks.push(Vec::new());
            self.before.push(0);
        }
        let mut chunk = self.chunk_of(entry);
        let Err(mut place) = self.chunks[chunk].binary_search(&entry) else { return };
        if self.chunks[chunk].len() >= MOST {
            let is_end = chunk + 1 == self.chunks.len() && place == self.chunks[chunk].len();
            // What only grows at its end fills its chunks.
            let kept = if is_end { place } else { MOST / 2 };
            let rest = self.chunks[chunk].split_off(kept);
            self.chunks.insert(chunk + 1, rest);
            self.before.insert(chunk + 1, self.before[chunk] + kept as u32);
            if place > kept || is_end {
                chunk += 1;
                place -= kept;
            }
        }
        self.chunks[chunk].insert(place, entry);
        self.before[chunk + 1..].iter_mut().for_each(|before| *before += 1);
        self.len += 1;
    }

    /// Nothing happens if it is not there.
    pub(super) fn remove(&mut self, entry: Entry) {
        let chunk = self.chunk_of(entry);
        let Some(Ok(place)) = self.chunks.get(chunk).map(|inside| inside.binary_search(&entry)) else { return };
        self.chunks[chunk].remove(place);
        self.before[chunk + 1..].iter_mut().for_each(|before| *before -= 1);
        self.len -= 1;
        let left = self.chunks[chunk].len();
        let next = self.chunks.get(chunk + 1).map_or(MOST, Vec::len);
        if left == 0 {
            self.chunks.remove(chunk);
            self.before.remove(chunk);
        } else if left + next <= MOST / 2 {
            let next = self.chunks.remove(chunk + 1);
            self.before.remove(chunk + 1);
            self.chunks[chunk].extend(next);
        }
    }

    /// Where it is, or belongs.
    fn chunk_of(&self, entry: Entry) -> usize {
        match self.chunks.len() {
            0 | 1 => 0,
            _ => self
                .chunks
                .partition_point(|chunk| chunk.first().is_some_and(|first| *first <= entry))
                .saturating_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(sorted: &Sorted) -> Vec<Entry> {
        (0..=sorted.len()).filter_map(|place| sorted.get(place)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn it_is_what_one_sorted_list_would_be(steps in prop::collection::vec((0u32..3, 0u32..2000, 0u32..800), 1..24)) {
            let (mut sorted, mut plain) = (Sorted::default(), std::collections::BTreeSet::new());
            for (what, from, many) in steps {
                for number in from..from + many {
                    // Scattered, so that chunks split in the middle, too.
                    let entry = (number.wrapping_mul(2_654_435_761) >> 20, number);
                    if what == 0 {
                        sorted.remove(entry);
                        plain.remove(&entry);
                    } else {
                        sorted.insert(entry);
                        plain.insert(entry);
                    }
                }
                prop_assert_eq!(sorted.len(), plain.len());
                prop_assert_eq!(shown(&sorted), plain.iter().copied().collect::<Vec<_>>());
                let probe = (from, many);
                let after = plain.range((std::ops::Bound::Excluded(probe), std::ops::Bound::Unbounded)).next();
                prop_assert_eq!(sorted.after(probe), after.copied());
                prop_assert!(sorted.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= MOST));
            }
        }
    }

    #[test]
    fn what_grows_at_its_end_fills_its_chunks() {
        let mut sorted = Sorted::default();
        (0..10 * MOST as u32).for_each(|slot| sorted.insert((0, slot)));
        assert_eq!(sorted.chunks.len(), 10);
    }
}
