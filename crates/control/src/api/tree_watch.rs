//! A bound tree together with the addresses of its leaves, waited for and watched as one.

use std::sync::Arc;

use futures_util::{StreamExt, stream::FuturesUnordered};
use names::NameTree;
use naming::{Addr, BoundTree, Live, State};

/// See the module's documentation.
pub(super) struct TreeWatch {
    tree: Live<BoundTree>,
    /// Those of the tree that was read last.
    addrs: Vec<Live<Addr>>,
}

impl TreeWatch {
    pub(super) fn new(tree: Live<BoundTree>) -> TreeWatch {
        TreeWatch { tree, addrs: Vec::new() }
    }

    /// The tree, as soon as it and the addresses of all its leaves are known; or why it is not.
    pub(super) async fn settled(&mut self) -> Result<BoundTree, Arc<str>> {
        loop {
            match self.tree.take() {
                State::Failed(why) => return Err(why),
                State::Ok(tree) => {
                    self.addrs.clear();
                    leaves(&tree, &mut self.addrs);
                    let pending = |addr: &mut Live<Addr>| matches!(addr.take(), State::Pending);
                    // All of them are read, so that `changed` waits for what comes after this.
                    if self.addrs.iter_mut().map(pending).filter(|pending| *pending).count() == 0 {
                        return Ok(tree);
                    }
                }
                State::Pending => self.addrs.clear(),
            }
            self.changed().await;
        }
    }

    /// Waits until the tree or an address changes.
    pub(super) async fn changed(&mut self) {
        let mut addrs: FuturesUnordered<_> = self.addrs.iter_mut().map(Live::next_change).collect();
        tokio::select! {
            () = self.tree.next_change() => {}
            Some(()) = addrs.next() => {}
        }
    }
}

fn leaves(tree: &BoundTree, into: &mut Vec<Live<Addr>>) {
    match tree {
        NameTree::Leaf(bound) => into.push(bound.addr.clone()),
        NameTree::Alt(trees) => trees.iter().for_each(|tree| leaves(tree, into)),
        NameTree::Union(branches) => branches.iter().for_each(|branch| leaves(&branch.tree, into)),
        NameTree::Neg | NameTree::Fail | NameTree::Empty => {}
    }
}
