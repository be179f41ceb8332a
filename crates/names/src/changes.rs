//! Which names a change of a table can reach.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::{Dentry, Dtab, Prefix};

/// Up to so many entries are simply taken for changed where they stand between others that are.
const FEW: usize = 64;

/// The prefixes of entries that were added, removed, changed, or moved among others: for a path that begins
/// with none of them, both tables have the same entries in the same order. May hold some that need not be
/// there, and some twice.
pub(crate) fn changed(old: &Dtab, new: &Dtab) -> Vec<Prefix> {
    let (mut old, mut new) = (old.entries(), new.entries());
    while let ([first, left @ ..], [other, right @ ..]) = (old, new)
        && first == other
    {
        (old, new) = (left, right);
    }
    while let ([left @ .., last], [right @ .., other]) = (old, new)
        && last == other
    {
        (old, new) = (left, right);
    }
    let prefixes = |entries: &mut dyn Iterator<Item = &Dentry>| entries.map(|entry| entry.prefix.clone()).collect();
    if old.len() + new.len() <= FEW {
        return prefixes(&mut old.iter().chain(new));
    }
    if old.len() == new.len() {
        let differing = old.iter().zip(new).filter(|(old, new)| old != new);
        return prefixes(&mut differing.flat_map(|(old, new)| [old, new]));
    }
    let (kept_old, kept_new) = kept(old, new);
    let left = old.iter().zip(kept_old).filter(|(_, kept)| !kept).map(|(entry, _)| entry);
    prefixes(&mut left.chain(new.iter().zip(kept_new).filter(|(_, kept)| !kept).map(|(entry, _)| entry)))
}

/// Which entries of each can be seen as having stayed, in the same order: as many as possible, unless some
/// stand in a table several times.
fn kept(old: &[Dentry], new: &[Dentry]) -> (Vec<bool>, Vec<bool>) {
    let hasher = RandomState::new();
    let hash = |entry: &Dentry| hasher.hash_one(entry.to_string());
    // Last first, so that the first is taken first.
    let mut places = HashMap::<u64, Vec<usize>>::new();
    old.iter().enumerate().rev().for_each(|(place, entry)| places.entry(hash(entry)).or_default().push(place));
    let pairs = new.iter().enumerate().filter_map(|(here, entry)| {
        let place = places.get_mut(&hash(entry))?.pop()?;
        (old[place] == *entry).then_some((place, here))
    });
    let pairs = pairs.collect::<Vec<_>>();
    let (mut kept_old, mut kept_new) = (vec![false; old.len()], vec![false; new.len()]);
    for (place, here) in longest_rising(&pairs) {
        kept_old[place] = true;
        kept_new[here] = true;
    }
    (kept_old, kept_new)
}

/// The longest choice of pairs whose first parts rise; the second parts do anyway.
fn longest_rising(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // Of the choices of each length, the pair that ends the one that ends lowest; and what stands before each.
    let (mut ends, mut before) = (Vec::<usize>::new(), vec![None; pairs.len()]);
    for (number, (place, _)) in pairs.iter().enumerate() {
        let length = ends.partition_point(|end| pairs[*end].0 < *place);
        before[number] = length.checked_sub(1).map(|shorter| ends[shorter]);
        match ends.get_mut(length) {
            Some(end) => *end = number,
            None => ends.push(number),
        }
    }
    let mut chosen = Vec::with_capacity(ends.len());
    let mut at = ends.last().copied();
    while let Some(number) = at {
        chosen.push(pairs[number]);
        at = before[number];
    }
    chosen
}
