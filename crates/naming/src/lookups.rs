//! What an evaluation reads: dtabs and namer lookups, as they are now.
//!
//! Lookups stay open between evaluations, so that the same name is not asked for twice and a change
//! of any of them can be waited for.

use std::{collections::HashMap, sync::Arc};

use futures_util::{StreamExt, stream::FuturesUnordered};
use names::{Dentry, Dtab, NameTree, Path};

use crate::{Addr, Live, NamerTree, Namers, State};

/// Finagle's `namerMaxDepth`: how often one branch may be looked up.
pub(crate) const MAX_DEPTH: usize = 100;

/// Lookups that one evaluation may do in all. `/svc => /svc & /svc` doubles the work at every level,
/// so that a bound on depth alone would let one entry take the process down.
pub(crate) const MAX_LOOKUPS: usize = 10_000;

/// How deep trees within trees may get over all levels of one branch: a bound for the stack.
pub(crate) const MAX_NESTING: usize = 400;

pub(crate) fn too_many_lookups() -> Arc<str> {
    format!("more than {MAX_LOOKUPS} lookups for one name: entries of the dtab multiply each other").into()
}

pub(crate) fn too_nested() -> Arc<str> {
    format!("trees nested more than {MAX_NESTING} deep on the way from one name").into()
}

/// The tables that decide a name, without copying them together.
#[derive(Clone)]
pub(crate) struct Layers {
    /// The interpreter's own.
    pub own: Dtab,
    /// The caller's, which wins.
    pub local: Dtab,
}

impl Layers {
    /// The entries that match, in the order in which they count.
    pub(crate) fn matching(&self, path: &Path) -> Vec<&Dentry> {
        self.local.matching(path).into_iter().chain(self.own.matching(path)).map(|(_, entry)| entry).collect()
    }

    pub(crate) fn lookup(&self, path: &Path) -> NameTree<Path> {
        let mut trees: Vec<_> = self.matching(path).into_iter().map(|entry| entry.rewrite(path)).collect();
        match trees.len() {
            0 => NameTree::Neg,
            1 => trees.swap_remove(0),
            _ => NameTree::Alt(trees),
        }
    }
}

/// A live value and the round in which it was last read.
struct Read<T> {
    live: Live<T>,
    round: u64,
}

/// The live values that evaluations of one name have read, kept open while they are read.
pub(crate) struct Lookups<'a> {
    namers: &'a Namers,
    /// By path, and the place in the order in which namers are asked for it.
    names: HashMap<(usize, Path), Read<NamerTree>>,
    addrs: HashMap<u64, Read<Addr>>,
    /// What the last evaluation looked up in the dtabs.
    looked_up: Vec<Path>,
    round: u64,
}

impl<'a> Lookups<'a> {
    pub(crate) fn new(namers: &'a Namers) -> Lookups<'a> {
        Lookups { namers, names: HashMap::new(), addrs: HashMap::new(), looked_up: Vec::new(), round: 0 }
    }

    /// Before an evaluation.
    pub(crate) fn begin(&mut self) {
        self.round += 1;
        self.looked_up.clear();
    }

    /// Notes that the evaluation looks up `path` in the dtabs.
    pub(crate) fn looks_up(&mut self, path: &Path) {
        self.looked_up.push(path.clone());
    }

    /// What the last evaluation looked up in the dtabs, once.
    pub(crate) fn looked_up(&mut self) -> Vec<Path> {
        std::mem::take(&mut self.looked_up)
    }

    /// After an evaluation: what it did not read is watched no longer.
    pub(crate) fn end(&mut self) {
        let round = self.round;
        self.names.retain(|_, read| read.round == round);
        self.addrs.retain(|_, read| read.round == round);
    }

    /// What the namers say to `path`: the first answer that is not neg.
    pub(crate) fn ask(&mut self, path: &Path) -> State<NamerTree> {
        let round = self.round;
        for (order, (namer, rest)) in self.namers.asked(path).into_iter().enumerate() {
            let open = || Read { live: namer.lookup(&rest), round };
            let read = self.names.entry((order, path.clone())).or_insert_with(open);
            read.round = round;
            match read.live.take() {
                State::Ok(NameTree::Neg) => {}
                answer => return answer,
            }
        }
        State::Ok(NameTree::Neg)
    }

    pub(crate) fn addr(&mut self, live: &Live<Addr>) -> State<Addr> {
        let round = self.round;
        let read = self.addrs.entry(live.id()).or_insert_with(|| Read { live: live.clone(), round });
        read.round = round;
        read.live.take()
    }

    /// Waits until something that the last evaluation read has changed; for ever, if nothing can.
    pub(crate) async fn changed(&mut self) {
        let mut trees: FuturesUnordered<_> = self.names.values_mut().map(|read| read.live.next_change()).collect();
        let mut addrs: FuturesUnordered<_> = self.addrs.values_mut().map(|read| read.live.next_change()).collect();
        tokio::select! {
            Some(()) = trees.next() => {}
            Some(()) = addrs.next() => {}
            else => std::future::pending().await,
        }
    }
}
