//! The delegation JSON, and the questions asked of it.

use serde::Deserialize;

use crate::format;

/// One entry of a dtab as text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub struct Entry {
    pub prefix: String,
    pub dst: String,
    /// With every digit of its weights, where that is known.
    #[serde(skip)]
    pub exact: Option<String>,
}

impl Entry {
    pub(crate) fn text(&self) -> String {
        format!("{} => {}", self.prefix, self.shown())
    }

    /// Its destination as people write it.
    pub(crate) fn shown(&self) -> String {
        format::destination(self.exact.as_ref().unwrap_or(&self.dst))
    }

    /// The same in the words of a delegation, which rounds weights.
    pub(crate) fn is_same(&self, other: &Entry) -> bool {
        self.prefix == other.prefix && self.dst == other.dst
    }
}

/// A step from a name towards endpoints; `dentry` is the entry that led here.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Node {
    Delegate { path: String, dentry: Option<Entry>, delegate: Box<Node> },
    Alt { path: String, dentry: Option<Entry>, alt: Vec<Node> },
    Union { path: String, dentry: Option<Entry>, union: Vec<Weighted> },
    Leaf { path: String, dentry: Option<Entry>, bound: Bound },
    Neg { path: String, dentry: Option<Entry> },
    Fail { path: String, dentry: Option<Entry> },
    Empty { path: String, dentry: Option<Entry> },
    Exception { path: String, dentry: Option<Entry>, message: String },
    Transformation { path: String, name: String, bound: Bound, tree: Box<Node> },
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Weighted {
    pub weight: f64,
    pub tree: Node,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Bound {
    pub addr: Address,
    pub id: String,
    /// The residual.
    #[serde(default)]
    pub path: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Address {
    Bound {
        #[serde(default)]
        addrs: Vec<SocketAddress>,
    },
    Neg,
    Failed {
        cause: String,
    },
    Pending,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SocketAddress {
    pub ip: String,
    pub port: u16,
}

impl SocketAddress {
    pub(crate) fn text(&self) -> String {
        if self.ip.contains(':') {
            format!("[{}]:{}", self.ip, self.port)
        } else {
            format!("{}:{}", self.ip, self.port)
        }
    }
}

impl Node {
    pub(crate) fn dentry(&self) -> Option<&Entry> {
        match self {
            Node::Delegate { dentry, .. }
            | Node::Alt { dentry, .. }
            | Node::Union { dentry, .. }
            | Node::Leaf { dentry, .. }
            | Node::Neg { dentry, .. }
            | Node::Fail { dentry, .. }
            | Node::Empty { dentry, .. }
            | Node::Exception { dentry, .. } => dentry.as_ref(),
            // What it makes of a name carries the entry that led there.
            Node::Transformation { tree, .. } => tree.dentry(),
        }
    }

    /// Finds nothing, so that the next alternative is tried. Everything else is an answer, even a bad one.
    pub(crate) fn is_nothing(&self) -> bool {
        match self {
            Node::Neg { .. } => true,
            Node::Leaf { bound, .. } => bound.addr == Address::Neg,
            Node::Delegate { delegate: next, .. } | Node::Transformation { tree: next, .. } => next.is_nothing(),
            Node::Alt { alt, .. } => alt.iter().all(Node::is_nothing),
            Node::Union { union, .. } => union.iter().all(|branch| branch.tree.is_nothing()),
            Node::Fail { .. } | Node::Empty { .. } | Node::Exception { .. } => false,
        }
    }

    /// Where requests go: each bound id with its share.
    pub(crate) fn goes(&self, share: f64, found: &mut Vec<(String, f64)>) {
        match self {
            Node::Leaf { bound, .. } if matches!(bound.addr, Address::Bound { .. } | Address::Pending) => {
                match found.iter_mut().find(|(id, _)| *id == bound.id) {
                    Some((_, sum)) => *sum += share,
                    None => found.push((bound.id.clone(), share)),
                }
            }
            Node::Delegate { delegate: next, .. } | Node::Transformation { tree: next, .. } => next.goes(share, found),
            Node::Alt { alt, .. } => {
                if let Some(taken) = alt.iter().find(|node| !node.is_nothing()) {
                    taken.goes(share, found);
                }
            }
            Node::Union { union, .. } => {
                let live = || union.iter().filter(|branch| !branch.tree.is_nothing());
                let sum = live().map(|branch| branch.weight).sum::<f64>();
                for branch in live().filter(|branch| branch.weight > 0.0) {
                    branch.tree.goes(share * branch.weight / sum, found);
                }
            }
            _ => {}
        }
    }

    /// The entries on the way to this bound id, and those at its branches that were not used.
    pub(crate) fn trace(&self, id: &str) -> Option<Trace> {
        let mut below = match self {
            Node::Leaf { bound, .. } if bound.id == id => Trace::default(),
            Node::Delegate { delegate: next, .. } => next.trace(id)?,
            Node::Transformation { bound, tree, name, .. } => {
                let mut trace = tree.trace(id).or_else(|| (bound.id == id).then(Trace::default))?;
                trace.transformers.push(added(tree, &bound.id).unwrap_or(name).to_owned());
                trace
            }
            Node::Alt { alt, .. } => {
                let (at, mut trace) =
                    alt.iter().enumerate().find_map(|(n, node)| node.trace(id).map(|trace| (n, trace)))?;
                let others = alt.iter().enumerate().filter(|(n, _)| *n != at);
                for (n, other) in others {
                    let why = if n < at { "nothing there" } else { "an earlier alternative leads somewhere" };
                    trace.unused.extend(other.dentry().map(|entry| (entry.clone(), why)));
                }
                trace
            }
            Node::Union { union, .. } => union.iter().find_map(|branch| branch.tree.trace(id))?,
            _ => return None,
        };
        if let Some(entry) = self.dentry().filter(|entry| below.used.first() != Some(entry)) {
            below.used.insert(0, entry.clone());
        }
        Some(below)
    }
}

/// What a transformer put before an id, which says more than its class: `io.l5d.port/4141`.
pub(crate) fn added<'a>(tree: &'a Node, before: &str) -> Option<&'a str> {
    let Node::Leaf { path, .. } = tree else { return None };
    path.strip_suffix(before)?.strip_prefix("/%/")
}

/// How one request came to its bound id.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Trace {
    /// In the order they were used.
    pub(crate) used: Vec<Entry>,
    pub(crate) unused: Vec<(Entry, &'static str)>,
    pub(crate) transformers: Vec<String>,
}
