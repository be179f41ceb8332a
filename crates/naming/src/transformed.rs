//! Transformers at work: around an interpreter, around a namer, and over single address sets.

use std::sync::Arc;

use futures_util::{StreamExt, stream::FuturesUnordered};
use names::{Dtab, NameTree, Path};

use crate::{
    Addr, Bound, BoundTree, Explain, ExplainError, Fed, Interpreter, Live, Name, Namer, NamerTree, Served, Shared,
    State, Transformer,
    configured::{BindKey, publish_keeping_good},
    interpreter::Explaining,
};

type Transformers = Arc<[Arc<dyn Transformer>]>;

/// Applies a change to address sets, live: one task per set that is being read.
#[derive(Clone)]
pub struct AddrMap {
    shared: Shared<(Path, u64), Addr>,
    change: Arc<dyn Fn(&Addr) -> Addr + Send + Sync>,
}

impl AddrMap {
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(change: impl Fn(&Addr) -> Addr + Send + Sync + 'static) -> AddrMap {
        AddrMap { shared: Shared::new(), change: Arc::new(change) }
    }

    /// `bound` under `prefix`, with changed addresses.
    pub fn bound(&self, prefix: &Path, bound: &Bound) -> Bound {
        let change = self.change.clone();
        let mut from = bound.addr.clone();
        let key = (bound.id.clone(), from.id());
        let feed = move |fed: Arc<Fed<Addr, ()>>| async move {
            loop {
                let state = match from.take() {
                    State::Ok(addr) => State::Ok(change(&addr)),
                    other => other,
                };
                fed.value.publish(state);
                from.next_change().await;
            }
        };
        Bound { id: prefix.concat(&bound.id), addr: self.shared.get(key, feed).0, ..bound.clone() }
    }
}

/// `tree` behind all transformers in order, with the trees that some of them read besides.
fn apply(transformers: &Transformers, others: &[Option<State<BoundTree>>], tree: BoundTree) -> State<BoundTree> {
    let mut tree = tree;
    for (transformer, other) in transformers.iter().zip(others) {
        tree = match other {
            None => transformer.transform(&tree, None),
            Some(State::Ok(other)) => transformer.transform(&tree, Some(other)),
            Some(State::Pending) => return State::Pending,
            Some(State::Failed(why)) => return State::Failed(why.clone()),
        };
    }
    State::Ok(tree)
}

/// The trees that transformers read besides the one transformed.
struct Others(Vec<Option<Live<BoundTree>>>);

impl Others {
    fn of(transformers: &Transformers) -> Others {
        Others(transformers.iter().map(|transformer| transformer.other()).collect())
    }

    fn take(&mut self) -> Vec<Option<State<BoundTree>>> {
        self.0.iter_mut().map(|other| other.as_mut().map(Live::take)).collect()
    }

    /// For ever, if none can change.
    async fn changed(&mut self) {
        let mut changes: FuturesUnordered<_> = self.0.iter_mut().flatten().map(Live::next_change).collect();
        if changes.next().await.is_none() {
            std::future::pending().await
        }
    }
}

/// An interpreter whose bound trees go through transformers, the first in the list first.
pub struct Transformed {
    inner: Arc<dyn Interpreter>,
    transformers: Transformers,
    bindings: Shared<BindKey, BoundTree>,
}

impl Transformed {
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(inner: Arc<dyn Interpreter>, transformers: Vec<Arc<dyn Transformer>>) -> Transformed {
        Transformed { inner, transformers: transformers.into(), bindings: Shared::new() }
    }
}

impl Interpreter for Transformed {
    fn bind(&self, local: &Dtab, path: &Path) -> Live<BoundTree> {
        let (inner, transformers) = (self.inner.clone(), self.transformers.clone());
        let (local, path) = (local.clone(), path.clone());
        let key = BindKey { local: local.clone(), path: path.clone() };
        let feed = move |fed: Arc<Fed<BoundTree, ()>>| async move {
            let mut live = inner.bind(&local, &path);
            let mut others = Others::of(&transformers);
            loop {
                let others_now = others.take();
                let state = match live.take() {
                    State::Ok(tree) => apply(&transformers, &others_now, tree),
                    other => other,
                };
                if let Some(why) = publish_keeping_good(&fed.value, state) {
                    tracing::debug!(name = %path, %why, "keeping the last good tree");
                }
                tokio::select! {
                    () = live.next_change() => {}
                    () = others.changed() => {}
                }
            }
        };
        self.bindings.get(key, feed).0
    }

    fn explain<'a>(&'a self, local: &'a Dtab, path: &'a Path) -> Explaining<'a> {
        Box::pin(async move {
            if self.transformers.iter().any(|transformer| transformer.other().is_some()) {
                return Err(ExplainError::Unsupported);
            }
            let mut tree = (*self.inner.explain(local, path).await?).clone();
            for transformer in self.transformers.iter() {
                let mut leaves = Vec::new();
                leaf_addrs(&tree, &**transformer, &mut leaves);
                let mut known = Vec::new();
                for (bound, mut addr) in leaves {
                    let addr = match addr.settled().await {
                        State::Ok(addr) => addr,
                        State::Failed(why) => Addr::Failed(why),
                        State::Pending => Addr::Neg,
                    };
                    known.push((bound, addr));
                }
                tree = transformed(tree, &**transformer, &mut known.into_iter());
            }
            Ok(Arc::new(tree))
        })
    }

    fn served(&self) -> Live<Served> {
        self.inner.served()
    }

    fn bound_names(&self) -> Live<Arc<[Path]>> {
        self.inner.bound_names()
    }

    fn state(&self) -> serde_json::Value {
        self.inner.state()
    }
}

/// The bound names that `transformer` makes of the leaves, in order.
fn leaf_addrs(tree: &Explain, transformer: &dyn Transformer, into: &mut Vec<(Bound, Live<Addr>)>) {
    match tree {
        Explain::Leaf { bound, .. } => {
            if let NameTree::Leaf(after) = transformer.transform(&NameTree::Leaf(bound.clone()), None) {
                let addr = after.addr.clone();
                into.push((after, addr));
            }
        }
        Explain::Delegate { next, .. } | Explain::Transformation { next, .. } => {
            leaf_addrs(next, transformer, into);
        }
        Explain::Alt { alternatives, .. } => {
            alternatives.iter().for_each(|tree| leaf_addrs(tree, transformer, into));
        }
        Explain::Union { branches, .. } => {
            branches.iter().for_each(|(_, tree)| leaf_addrs(tree, transformer, into));
        }
        Explain::Neg { .. } | Explain::Fail { .. } | Explain::Empty { .. } | Explain::Exception { .. } => {}
    }
}

/// `tree` with each leaf replaced by its transformation; `after` holds what the leaves become, in order.
fn transformed(
    tree: Explain,
    transformer: &dyn Transformer,
    after: &mut dyn Iterator<Item = (Bound, Addr)>,
) -> Explain {
    match tree {
        Explain::Leaf { path, dentry, bound, addr } => match after.next() {
            Some((new, new_addr)) => {
                let next = Explain::Leaf { path: new.id.clone(), dentry, bound: new, addr: new_addr };
                let name = transformer.explain_name().into();
                Explain::Transformation { path, name, bound, addr, next: Box::new(next) }
            }
            None => Explain::Leaf { path, dentry, bound, addr },
        },
        Explain::Delegate { path, dentry, next } => {
            Explain::Delegate { path, dentry, next: Box::new(transformed(*next, transformer, after)) }
        }
        Explain::Transformation { path, name, bound, addr, next } => {
            let next = Box::new(transformed(*next, transformer, after));
            Explain::Transformation { path, name, bound, addr, next }
        }
        Explain::Alt { path, dentry, alternatives } => {
            let alternatives = alternatives.into_iter().map(|tree| transformed(tree, transformer, after)).collect();
            Explain::Alt { path, dentry, alternatives }
        }
        Explain::Union { path, dentry, branches } => {
            let change = |(weight, tree)| (weight, transformed(tree, transformer, after));
            Explain::Union { path, dentry, branches: branches.into_iter().map(change).collect() }
        }
        end => end,
    }
}

/// A namer whose answers go through transformers where they are fully bound; rewrites pass untouched.
pub struct TransformedNamer {
    inner: Arc<dyn Namer>,
    transformers: Transformers,
    lookups: Shared<Path, NamerTree>,
}

impl TransformedNamer {
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(inner: Arc<dyn Namer>, transformers: Vec<Arc<dyn Transformer>>) -> TransformedNamer {
        TransformedNamer { inner, transformers: transformers.into(), lookups: Shared::new() }
    }
}

impl Namer for TransformedNamer {
    fn lookup(&self, path: &Path) -> Live<NamerTree> {
        let (inner, transformers, asked) = (self.inner.clone(), self.transformers.clone(), path.clone());
        let feed = move |fed: Arc<Fed<NamerTree, ()>>| async move {
            let mut live = inner.lookup(&asked);
            let mut others = Others::of(&transformers);
            loop {
                let others_now = others.take();
                let state = match live.take() {
                    State::Ok(tree) => match fully_bound(&tree) {
                        Some(bound) => match apply(&transformers, &others_now, bound) {
                            State::Ok(tree) => State::Ok(tree.map(&mut |bound| Name::Bound(bound.clone()))),
                            State::Pending => State::Pending,
                            State::Failed(why) => State::Failed(why),
                        },
                        None => State::Ok(tree),
                    },
                    other => other,
                };
                fed.value.put(state);
                tokio::select! {
                    () = live.next_change() => {}
                    () = others.changed() => {}
                }
            }
        };
        self.lookups.get(path.clone(), feed).0
    }

    fn bound_names(&self) -> Live<Arc<[Path]>> {
        self.inner.bound_names()
    }

    fn state(&self) -> serde_json::Value {
        self.inner.state()
    }
}

/// The tree as one of bound names, if it holds no rewrite.
fn fully_bound(tree: &NamerTree) -> Option<BoundTree> {
    let mut bound = true;
    let mapped = tree.map(&mut |name| match name {
        Name::Bound(name) => Some(name.clone()),
        Name::Path(_) => {
            bound = false;
            None
        }
    });
    bound.then(|| all(&mapped))
}

fn all(tree: &NameTree<Option<Bound>>) -> BoundTree {
    match tree {
        NameTree::Leaf(Some(bound)) => NameTree::Leaf(bound.clone()),
        NameTree::Leaf(None) | NameTree::Neg => NameTree::Neg,
        NameTree::Fail => NameTree::Fail,
        NameTree::Empty => NameTree::Empty,
        NameTree::Alt(trees) => NameTree::Alt(trees.iter().map(all).collect()),
        NameTree::Union(branches) => NameTree::Union(
            branches.iter().map(|branch| names::Weighted { weight: branch.weight, tree: all(&branch.tree) }).collect(),
        ),
    }
}
