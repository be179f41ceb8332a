//! Binding: one evaluation of a name over what is known now.
//!
//! A pure walk over snapshots: `Lookups` remembers what it read, so that the caller can wait for a
//! change of any of that and evaluate again. Behaviour: Finagle's `Namer.bind`.

use std::sync::Arc;

use names::{NameTree, Path, Weighted};

use crate::{
    Bound, BoundTree, Name, NamerTree, State,
    lookups::{Layers, Lookups, MAX_DEPTH, MAX_LOOKUPS, MAX_NESTING, too_many_lookups, too_nested},
};

/// Evaluates `path` once. The result holds no alternates.
pub(crate) fn evaluate(layers: &Layers, lookups: &mut Lookups<'_>, path: &Path) -> State<BoundTree> {
    lookups.begin();
    let mut evaluation = Evaluation { layers, lookups, work: 0 };
    let state = evaluation.path(Place { depth: 0, nesting: 0, weight: None }, path);
    let work = evaluation.work;
    lookups.end();
    if work > MAX_LOOKUPS { State::Failed(too_many_lookups()) } else { state }
}

struct Evaluation<'a, 'b> {
    layers: &'a Layers,
    lookups: &'a mut Lookups<'b>,
    work: usize,
}

/// Where in the walk a tree stands.
#[derive(Clone, Copy)]
struct Place {
    /// Leaves followed since the root.
    depth: usize,
    /// Trees around it since the root.
    nesting: usize,
    /// The innermost weight above it.
    weight: Option<f64>,
}

impl Evaluation<'_, '_> {
    fn path(&mut self, at: Place, path: &Path) -> State<BoundTree> {
        self.work += 1;
        if self.work > MAX_LOOKUPS {
            return State::Failed(too_many_lookups());
        }
        let below = Place { depth: at.depth + 1, ..at };
        self.lookups.looks_up(path);
        match self.layers.lookup(path) {
            // Also where the one entry that matches says `~`: the original cannot tell the two apart.
            NameTree::Neg => match self.lookups.ask(path) {
                State::Ok(tree) => self.tree(below, &tree),
                State::Pending => State::Pending,
                State::Failed(why) => State::Failed(why),
            },
            tree => self.tree(below, &tree.map(&mut |leaf| Name::Path(leaf.clone()))),
        }
    }

    fn tree(&mut self, at: Place, tree: &NamerTree) -> State<BoundTree> {
        if at.depth > MAX_DEPTH {
            return State::Failed(format!("Max recursion level: {MAX_DEPTH} reached in Namer lookup").into());
        }
        if at.nesting > MAX_NESTING {
            return State::Failed(too_nested());
        }
        let inside = Place { nesting: at.nesting + 1, ..at };
        match tree {
            NameTree::Neg => State::Ok(NameTree::Neg),
            NameTree::Fail => State::Ok(NameTree::Fail),
            NameTree::Empty => State::Ok(NameTree::Empty),
            NameTree::Leaf(Name::Bound(bound)) => {
                State::Ok(NameTree::Leaf(Bound { weight: at.weight.or(bound.weight), ..bound.clone() }))
            }
            NameTree::Leaf(Name::Path(path)) => self.path(inside, path),
            NameTree::Alt(trees) => self.alternates(inside, trees),
            NameTree::Union(branches) => self.union(inside, branches),
        }
    }

    /// The first that is not neg. One that is pending or failed stops the walk: trouble never falls through.
    fn alternates(&mut self, at: Place, trees: &[NamerTree]) -> State<BoundTree> {
        for tree in trees {
            match self.tree(at, tree) {
                State::Ok(NameTree::Neg) => {}
                other => return other,
            }
        }
        State::Ok(NameTree::Neg)
    }

    /// The branches that are known; the others are left out as long as one is known.
    fn union(&mut self, at: Place, branches: &[Weighted<Name>]) -> State<BoundTree> {
        let mut known = Vec::new();
        let mut failed: Option<Arc<str>> = None;
        for branch in branches {
            match self.tree(Place { weight: Some(branch.weight), ..at }, &branch.tree) {
                State::Ok(tree) => known.push(Weighted { weight: branch.weight, tree }),
                State::Failed(why) => failed = failed.or(Some(why)),
                State::Pending => {}
            }
        }
        match (known.is_empty(), failed) {
            (false, _) => State::Ok(NameTree::Union(known).simplified()),
            (true, Some(why)) => State::Failed(why),
            (true, None) => State::Pending,
        }
    }
}
