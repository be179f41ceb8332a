//! The interpreter: binds a name, under the caller's dtab, to a live tree of bound names.

use std::{pin::Pin, sync::Arc};

use names::{Dtab, NameTree, Path};

use crate::{Addr, Explain, ExplainError, Live, State};

/// A bound name. Equality does not look at the addresses, which are live.
#[derive(Clone)]
pub struct Bound {
    /// `/#/io.l5d.fs/world-v1`, transformer prefixes included.
    pub id: Path,
    /// The part of the path that the namer did not consume.
    pub residual: Path,
    /// The endpoints, live.
    pub addr: Live<Addr>,
    /// The innermost weight that it stands under, shown as `namer_nametree_weight` in its metadata;
    /// `None` outside unions. It says nothing that the tree does not, except where siblings fell away.
    pub weight: Option<f64>,
}

impl Bound {
    /// Outside any union.
    pub fn new(id: Path, residual: Path, addr: Live<Addr>) -> Bound {
        Bound { id, residual, addr, weight: None }
    }
}

impl PartialEq for Bound {
    fn eq(&self, other: &Bound) -> bool {
        self.id == other.id && self.residual == other.residual && self.weight == other.weight
    }
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.id, self.residual)
    }
}

/// A bound tree holds no `Alt`: leaves, unions, and the three ends.
pub type BoundTree = NameTree<Bound>;

/// Whether a reader of `old` learns nothing from `new`: equal, and the addresses come from the same
/// source. An equal tree with another source is news, because the old source may have ended.
pub fn is_same(old: &State<BoundTree>, new: &State<BoundTree>) -> bool {
    fn sources(tree: &BoundTree, into: &mut Vec<u64>) {
        match tree {
            NameTree::Leaf(bound) => into.push(bound.addr.id()),
            NameTree::Alt(trees) => trees.iter().for_each(|tree| sources(tree, into)),
            NameTree::Union(branches) => branches.iter().for_each(|branch| sources(&branch.tree, into)),
            NameTree::Neg | NameTree::Fail | NameTree::Empty => {}
        }
    }
    if old != new {
        return false;
    }
    let (mut before, mut after) = (Vec::new(), Vec::new());
    if let (State::Ok(old), State::Ok(new)) = (old, new) {
        sources(old, &mut before);
        sources(new, &mut after);
    }
    before == after
}

/// What an interpreter's own dtab is, as far as this process knows: for pages, recent requests and fleet reports.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Served {
    /// The namespace, where there is one.
    pub namespace: Option<Arc<str>>,
    /// The version text (base64, as in the ETag) that all bound names have reached; `None`: not known yet.
    pub version: Option<Arc<str>>,
    /// When that version was last confirmed by its source.
    pub confirmed: Option<std::time::SystemTime>,
    /// Why it is not current, if it is not: the last good trees serve on.
    pub stale: Option<Arc<str>>,
}

/// What `Interpreter::explain` gives.
pub type Explaining<'a> = Pin<Box<dyn Future<Output = Result<Arc<Explain>, ExplainError>> + Send + 'a>>;

/// Binds and explains. A process has one per router; the data plane sees nothing else of naming.
pub trait Interpreter: Send + Sync {
    /// `local` is the router's dtab followed by the request's; it wins over the interpreter's own.
    /// Dropping the result stops the watch.
    fn bind(&self, local: &Dtab, path: &Path) -> Live<BoundTree>;

    /// The explain tree, evaluated once, when all of it is known; the caller limits the time.
    fn explain<'a>(&'a self, local: &'a Dtab, path: &'a Path) -> Explaining<'a>;

    /// Which version of its own dtab it serves; `Served` of `None`s where it has no dtab of its own.
    fn served(&self) -> Live<Served>;

    /// Ids that namers can list.
    fn bound_names(&self) -> Live<Arc<[Path]>> {
        Live::constant(Arc::from([]))
    }

    /// Watch state for `/interpreter_state/…`.
    fn state(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}
