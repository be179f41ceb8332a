//! A vector that never moves more than a chunk when it grows: what is there of a hundred thousand endpoints would
//! take milliseconds to move.

use std::ops::{Index, IndexMut};

/// Entries of a chunk: 64 KiB of nodes.
const CHUNK: usize = 1024;

#[derive(Debug)]
pub(super) struct Chunked<T> {
    /// Grows as vectors do, up to a chunk: most sets are small.
    first: Vec<T>,
    /// All but the last are full.
    more: Vec<Vec<T>>,
}

impl<T> Default for Chunked<T> {
    fn default() -> Chunked<T> {
        Chunked { first: Vec::new(), more: Vec::new() }
    }
}

impl<T> Chunked<T> {
    pub(super) fn len(&self) -> usize {
        match self.more.last() {
            None => self.first.len(),
            Some(last) => self.more.len() * CHUNK + last.len(),
        }
    }

    pub(super) fn push(&mut self, value: T) {
        if self.first.len() < CHUNK {
            self.first.push(value);
            return;
        }
        match self.more.last_mut().filter(|last| last.len() < CHUNK) {
            Some(last) => last.push(value),
            None => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(value);
                self.more.push(chunk);
            }
        }
    }

    #[inline]
    pub(super) fn get(&self, place: usize) -> Option<&T> {
        match place.checked_sub(CHUNK) {
            None => self.first.get(place),
            Some(place) => self.more.get(place / CHUNK)?.get(place % CHUNK),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        match place.checked_sub(CHUNK) {
            None => self.first.get_mut(place),
            Some(place) => self.more.get_mut(place / CHUNK)?.get_mut(place % CHUNK),
        }
    }
}

impl<T> Index<usize> for Chunked<T> {
    type Output = T;

    #[inline]
    fn index(&self, place: usize) -> &T {
        match place.checked_sub(CHUNK) {
            None => &self.first[place],
            Some(place) => &self.more[place / CHUNK][place % CHUNK],
        }
    }
}

impl<T> IndexMut<usize> for Chunked<T> {
    #[inline]
    fn index_mut(&mut self, place: usize) -> &mut T {
        match place.checked_sub(CHUNK) {
            None => &mut self.first[place],
            Some(place) => &mut self.more[place / CHUNK][place % CHUNK],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_where_they_were_put() {
        let mut all = Chunked::default();
        for number in 0..3 * CHUNK + 7 {
            assert_eq!(all.len(), number);
            all.push(number);
        }
        for number in [0, CHUNK - 1, CHUNK, 2 * CHUNK - 1, 2 * CHUNK, 3 * CHUNK + 6] {
            assert_eq!((all[number], all.get(number)), (number, Some(&number)));
            *all.get_mut(number).expect("an entry") += 1;
            all[number] += 1;
            assert_eq!(all[number], number + 2);
        }
        assert!(all.get(3 * CHUNK + 7).is_none() && all.get_mut(4 * CHUNK).is_none());
        let before = (all.first.as_ptr(), all.more[0].as_ptr());
        (0..CHUNK).for_each(|number| all.push(number));
        assert_eq!(before, (all.first.as_ptr(), all.more[0].as_ptr()));
    }
}
