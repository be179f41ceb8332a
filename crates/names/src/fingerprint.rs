//! Hashes of tables that are parts of one another: a large table is read once, and what is put behind it costs
//! only itself.
//!
//! The hash of entries a, b, c is ((a·x + b)·x + c) modulo the prime 2⁶¹ − 1, for an x of the process: so the hash
//! of two tables one behind the other follows from theirs, and whoever sends dtabs cannot make them collide.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::OnceLock;

use crate::{Dentry, NameTree, Path};

const PRIME: u64 = (1 << 61) - 1;

/// Of a sequence of entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fingerprint {
    hash: u64,
    /// x to the power of their number.
    power: u64,
}

struct Seeds {
    state: RandomState,
    x: u64,
}

impl Fingerprint {
    pub(crate) fn of(entries: &[Dentry]) -> Fingerprint {
        static SEEDS: OnceLock<Seeds> = OnceLock::new();
        let seeds = SEEDS.get_or_init(|| {
            let state = RandomState::new();
            Seeds { x: state.hash_one(0) % PRIME, state }
        });
        entries.iter().fold(Fingerprint { hash: 0, power: 1 }, |before, entry| {
            let mut hasher = seeds.state.build_hasher();
            entry.prefix.hash(&mut hasher);
            feed(&entry.dst, &mut hasher);
            before.then(Fingerprint { hash: hasher.finish() % PRIME, power: seeds.x })
        })
    }

    /// Of these entries and then those of `next`.
    pub(crate) fn then(self, next: Fingerprint) -> Fingerprint {
        let hash = (times(self.hash, next.power) + next.hash) % PRIME;
        Fingerprint { hash, power: times(self.power, next.power) }
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

fn times(one: u64, other: u64) -> u64 {
    (u128::from(one) * u128::from(other) % u128::from(PRIME)) as u64
}

fn feed(tree: &NameTree<Path>, hasher: &mut impl Hasher) {
    std::mem::discriminant(tree).hash(hasher);
    match tree {
        NameTree::Alt(trees) => {
            trees.len().hash(hasher);
            trees.iter().for_each(|tree| feed(tree, hasher));
        }
        NameTree::Union(branches) => {
            branches.len().hash(hasher);
            for branch in branches {
                // -0 and 0 are equal.
                (branch.weight + 0.0).to_bits().hash(hasher);
                feed(&branch.tree, hasher);
            }
        }
        NameTree::Leaf(path) => path.hash(hasher),
        NameTree::Neg | NameTree::Fail | NameTree::Empty => {}
    }
}
