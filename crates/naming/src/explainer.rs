//! Explaining: like binding, but every branch is followed and every step is kept.
//!
//! Behaviour: the delegation tree of Linkerd's `ConfiguredDtabNamer`. Unlike `bind`, a single entry
//! that says `~` ends here, and trouble inside alternates and unions becomes a node of its own.

use std::sync::Arc;

use names::{Dentry, NameTree, Path};

use crate::{
    Explain, Name, NamerTree, State,
    lookups::{Layers, Lookups, MAX_DEPTH, MAX_LOOKUPS, MAX_NESTING, too_many_lookups, too_nested},
};

/// Explains `path` once; pending as long as anything on the way, addresses included, is.
pub(crate) fn explain(layers: &Layers, lookups: &mut Lookups<'_>, path: &Path) -> State<Explain> {
    lookups.begin();
    let mut explainer = Explainer { layers, lookups, work: 0, pending: false };
    let explained = explainer.look(Place { depth: 0, nesting: 0 }, path, None);
    let pending = explainer.pending;
    lookups.end();
    match explained {
        _ if pending => State::Pending,
        Ok(tree) => State::Ok(tree),
        Err(why) => State::Failed(why),
    }
}

struct Explainer<'a, 'b> {
    layers: &'a Layers,
    lookups: &'a mut Lookups<'b>,
    work: usize,
    /// Something is not known yet: the result will not be used.
    pending: bool,
}

#[derive(Clone, Copy)]
struct Place {
    depth: usize,
    nesting: usize,
}

type Explained = Result<Explain, Arc<str>>;

impl Explainer<'_, '_> {
    /// What becomes of `path`, a name that `dentry` led to.
    fn look(&mut self, at: Place, path: &Path, dentry: Option<&Dentry>) -> Explained {
        // What a lookup leads to stands one deeper than the name: that, not the lookup, is what is bounded.
        if at.depth >= MAX_DEPTH {
            return Err("Max recursion level reached.".into());
        }
        self.work += 1;
        if self.work > MAX_LOOKUPS {
            return Err(too_many_lookups());
        }
        let layers = self.layers;
        let entries = layers.matching(path);
        match entries.as_slice() {
            [] => self.ask(at, path, dentry),
            [entry] => {
                let next = self.entry(at, path, entry)?;
                Ok(Explain::delegate(path.clone(), dentry.cloned(), next))
            }
            entries => {
                let trees = entries
                    .iter()
                    .map(|entry| {
                        let explained = self.entry(at, path, entry);
                        explained.unwrap_or_else(|why| exception(path, dentry, why))
                    })
                    .collect();
                Ok(Explain::alternates(path.clone(), dentry.cloned(), trees))
            }
        }
    }

    fn entry(&mut self, at: Place, path: &Path, entry: &Dentry) -> Explained {
        let tree = entry.rewrite(path).map(&mut |leaf| Name::Path(leaf.clone()));
        self.tree(at, path, Some(entry), &tree)
    }

    fn ask(&mut self, at: Place, path: &Path, dentry: Option<&Dentry>) -> Explained {
        match self.lookups.ask(path) {
            State::Ok(NameTree::Neg) => {
                // The original shows the empty name as it shows a written `~`.
                let path = Some(path.clone()).filter(|path| !path.is_empty());
                Ok(Explain::Neg { path, dentry: dentry.cloned() })
            }
            State::Ok(tree) => self.tree(at, path, dentry, &tree),
            State::Failed(why) => Ok(exception(path, dentry, why)),
            State::Pending => self.not_yet(path, dentry),
        }
    }

    fn not_yet(&mut self, path: &Path, dentry: Option<&Dentry>) -> Explained {
        self.pending = true;
        Ok(Explain::Empty { path: path.clone(), dentry: dentry.cloned() })
    }

    /// A tree that stands for `path` because of `dentry`.
    fn tree(&mut self, at: Place, path: &Path, dentry: Option<&Dentry>, tree: &NamerTree) -> Explained {
        if at.nesting > MAX_NESTING {
            return Err(too_nested());
        }
        let inside = Place { nesting: at.nesting + 1, ..at };
        let owned = || (path.clone(), dentry.cloned());
        let (own_path, own_dentry) = owned();
        Ok(match tree {
            NameTree::Neg => Explain::Neg { path: None, dentry: own_dentry },
            NameTree::Empty => Explain::Empty { path: own_path, dentry: own_dentry },
            NameTree::Fail => Explain::Fail { path: Some(own_path).filter(is_global_fail), dentry: own_dentry },
            NameTree::Leaf(Name::Path(next)) => {
                return self.look(Place { depth: at.depth + 1, ..inside }, next, dentry);
            }
            NameTree::Leaf(Name::Bound(bound)) => match self.lookups.addr(&bound.addr) {
                State::Ok(addr) => Explain::Leaf { path: own_path, dentry: own_dentry, bound: bound.clone(), addr },
                State::Failed(why) => {
                    let addr = crate::Addr::Failed(why);
                    Explain::Leaf { path: own_path, dentry: own_dentry, bound: bound.clone(), addr }
                }
                State::Pending => return self.not_yet(path, dentry),
            },
            NameTree::Alt(trees) => {
                let trees = trees.iter().map(|tree| self.branch(inside, path, dentry, tree)).collect();
                Explain::alternates(own_path, own_dentry, trees)
            }
            NameTree::Union(branches) => {
                let explain =
                    |branch: &names::Weighted<Name>| (branch.weight, self.branch(inside, path, dentry, &branch.tree));
                Explain::union(own_path, own_dentry, branches.iter().map(explain).collect())
            }
        })
    }

    /// Trouble below alternates and unions is told in its place.
    fn branch(&mut self, at: Place, path: &Path, dentry: Option<&Dentry>, tree: &NamerTree) -> Explain {
        self.tree(at, path, dentry, tree).unwrap_or_else(|why| exception(path, dentry, why))
    }
}

fn exception(path: &Path, dentry: Option<&Dentry>, message: Arc<str>) -> Explain {
    Explain::Exception { path: path.clone(), dentry: dentry.cloned(), message }
}

/// Whether a `!` came from `/$/fail…` rather than from an entry that says so.
fn is_global_fail(path: &Path) -> bool {
    matches!(path.labels(), [dollar, fail, ..] if **dollar == *b"$" && **fail == *b"fail")
}
