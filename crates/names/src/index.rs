//! Entry numbers by prefix: a lookup in a large table reads only entries that match.
//!
//! ```text
//!  0  /svc/a   => …      root ─ svc ─ a      last 2, before it 0
//!  1  /svc/*/c => …                └ * ─ c   last 1
//!  2  /svc/a   => …
//! ```
//! Some 60 bytes an entry.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::{Elem, Label, Path, Prefix};

const NONE: u32 = u32::MAX;

/// Numbers of entries, by the elements of their prefixes.
pub(crate) struct Index {
    /// The root is the first.
    nodes: Vec<Node>,
    /// Nodes by the node before them and the label between.
    labels: HashTable<u32>,
    hasher: RandomState,
    /// For each entry the one before it with the same prefix.
    before: Vec<u32>,
}

struct Node {
    parent: u32,
    /// None at the root and behind a `*`.
    label: Option<Label>,
    /// The last entry whose prefix ends here.
    last: u32,
    /// Behind a `*`.
    any: u32,
    has_labels: bool,
}

impl Node {
    fn new(parent: u32, label: Option<Label>) -> Node {
        Node { parent, label, last: NONE, any: NONE, has_labels: false }
    }
}

impl Index {
    pub(crate) fn of<'a>(prefixes: impl Iterator<Item = &'a Prefix>) -> Index {
        let (nodes, hasher) = (vec![Node::new(NONE, None)], RandomState::new());
        let mut index = Index { nodes, labels: HashTable::new(), hasher, before: Vec::new() };
        for (number, prefix) in (0..).zip(prefixes) {
            let node = prefix.elems().iter().fold(0, |node, elem| index.child(node, elem));
            let node = &mut index.nodes[node as usize];
            index.before.push(std::mem::replace(&mut node.last, number));
        }
        index
    }

    fn child(&mut self, node: u32, elem: &Elem) -> u32 {
        let next = self.nodes.len() as u32;
        match elem {
            Elem::Any => {
                if self.nodes[node as usize].any == NONE {
                    self.nodes[node as usize].any = next;
                    self.nodes.push(Node::new(node, None));
                }
                self.nodes[node as usize].any
            }
            Elem::Label(label) => {
                if let Some(child) = self.labelled(node, label) {
                    return child;
                }
                self.nodes[node as usize].has_labels = true;
                self.nodes.push(Node::new(node, Some(label.clone())));
                let (nodes, hasher) = (&self.nodes, &self.hasher);
                let hash = |child: &u32| {
                    let child = &nodes[*child as usize];
                    hasher.hash_one((child.parent, child.label.as_deref().unwrap_or_default()))
                };
                self.labels.insert_unique(hasher.hash_one((node, &**label)), next, hash);
                next
            }
        }
    }

    fn labelled(&self, node: u32, label: &Label) -> Option<u32> {
        let same = |child: &u32| {
            let child = &self.nodes[*child as usize];
            child.parent == node && child.label.as_ref() == Some(label)
        };
        self.labels.find(self.hasher.hash_one((node, &**label)), same).copied()
    }

    /// Numbers of the entries whose prefix `path` begins with, the last first. Looks at the nodes on the way
    /// alone: where a label and a `*` lead on, at both.
    pub(crate) fn matching(&self, path: &Path) -> Vec<u32> {
        let (mut found, mut here, mut next) = (Vec::new(), vec![0u32], Vec::new());
        let mut labels = path.labels().iter();
        while !here.is_empty() {
            let label = labels.next();
            for number in here.drain(..) {
                let node = &self.nodes[number as usize];
                let mut entry = node.last;
                while let Some(before) = self.before.get(entry as usize) {
                    found.push(entry);
                    entry = *before;
                }
                if let Some(label) = label {
                    next.extend(Some(node.any).filter(|any| *any != NONE));
                    if node.has_labels {
                        next.extend(self.labelled(number, label));
                    }
                }
            }
            std::mem::swap(&mut here, &mut next);
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        found
    }
}
