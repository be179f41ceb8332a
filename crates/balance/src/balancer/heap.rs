//! A binary heap of slots, the one with the least to do on top, where each node knows its place.

use super::chunked::Chunked;
use super::node::Node;
use crate::random::Random;

pub(super) fn push(members: &mut Vec<u32>, nodes: &mut Chunked<Node>, slot: u32) {
    let place = members.len();
    members.push(slot);
    nodes[slot as usize].position = place as u32;
    up(members, nodes, place);
}

pub(super) fn remove(members: &mut Vec<u32>, nodes: &mut Chunked<Node>, place: usize) {
    members.swap_remove(place);
    if let Some(moved) = members.get(place) {
        nodes[*moved as usize].position = place as u32;
        sift(members, nodes, place);
    }
}

/// Puts a node that changed where it belongs.
pub(super) fn sift(members: &mut [u32], nodes: &mut Chunked<Node>, place: usize) {
    let place = up(members, nodes, place);
    down(members, nodes, place);
}

/// A node that has nothing left to do changes places with a random one: otherwise, of those that are idle,
/// always the same would be on top. Nothing is less than it, so it may stand anywhere that its parent is not
/// greater.
pub(super) fn shuffle(members: &mut [u32], nodes: &mut Chunked<Node>, place: usize, random: &mut impl Random) {
    let Some(last) = members.len().checked_sub(1) else { return };
    if place < last {
        swap(members, nodes, place, last);
        // All but the last are a heap again after this. (Finagle only lets it sink, and so loses the order.)
        sift(&mut members[..last], nodes, place);
    }
    let other = random.below(members.len() as u64) as usize;
    swap(members, nodes, other, last);
    up(members, nodes, other);
    up(members, nodes, last);
}

fn up(members: &mut [u32], nodes: &mut Chunked<Node>, mut place: usize) -> usize {
    while place > 0 {
        let parent = (place - 1) / 2;
        if !less(members, nodes, place, parent) {
            break;
        }
        swap(members, nodes, place, parent);
        place = parent;
    }
    place
}

fn down(members: &mut [u32], nodes: &mut Chunked<Node>, mut place: usize) {
    loop {
        let left = 2 * place + 1;
        if left >= members.len() {
            break;
        }
        let right = left + 1;
        let child = if right < members.len() && !less(members, nodes, left, right) { right } else { left };
        if !less(members, nodes, child, place) {
            break;
        }
        swap(members, nodes, place, child);
        place = child;
    }
}

fn less(members: &[u32], nodes: &Chunked<Node>, one: usize, other: usize) -> bool {
    nodes[members[one] as usize].least_loaded() < nodes[members[other] as usize].least_loaded()
}

fn swap(members: &mut [u32], nodes: &mut Chunked<Node>, one: usize, other: usize) {
    members.swap(one, other);
    nodes[members[one] as usize].position = one as u32;
    nodes[members[other] as usize].position = other as u32;
}
