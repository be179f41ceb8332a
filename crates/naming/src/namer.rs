//! Namers and transformers.

use std::sync::Arc;

use names::{NameTree, Path};

use crate::{Bound, BoundTree, Live};

/// A leaf that a namer answers with.
#[derive(Clone, Debug, PartialEq)]
pub enum Name {
    /// A rewrite: looked up again in the dtab.
    Path(Path),
    /// The end of the way.
    Bound(Bound),
}

/// What a namer answers.
pub type NamerTree = NameTree<Name>;

/// Looks up names below its prefix, live.
pub trait Namer: Send + Sync {
    /// `path` comes without the namer's prefix (`/#/io.l5d.fs`). Never waits: what takes time is
    /// `Pending` until it is known.
    fn lookup(&self, path: &Path) -> Live<NamerTree>;

    /// Full ids that can be listed, for `/api/1/bound-names`; empty where listing makes no sense.
    fn bound_names(&self) -> Live<Arc<[Path]>> {
        Live::constant(Arc::from([]))
    }

    /// Watch state for `/namer_state/<prefix>.json`.
    fn state(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

/// Changes bound trees: filters or replaces addresses, prefixes ids with its own `/%/…`.
pub trait Transformer: Send + Sync {
    /// The tree as it is behind this transformer. `other` is the value of `Self::other`, if it has one.
    fn transform(&self, tree: &BoundTree, other: Option<&BoundTree>) -> BoundTree;

    /// A tree that decides besides the one transformed; nothing is known as long as it is pending.
    /// A transformer that has one cannot explain.
    fn other(&self) -> Option<Live<BoundTree>> {
        None
    }

    /// The effective prefix, `/%/io.l5d.port/4141`.
    fn prefix(&self) -> &Path;

    /// The class name that explain shows, `DelegatingNameTreeTransformer$`.
    fn explain_name(&self) -> &'static str;
}

/// The namers of one process, in the order in which they are asked.
#[derive(Clone)]
pub struct Namers {
    /// With full prefixes (`/#/io.l5d.fs`), first asked first.
    configured: Vec<(Path, Arc<dyn Namer>)>,
    /// Answers what nobody else claims; it gets whole paths (`/$/inet/…`).
    global: Arc<dyn Namer>,
}

impl Namers {
    pub fn new(configured: Vec<(Path, Arc<dyn Namer>)>, global: Arc<dyn Namer>) -> Namers {
        Namers { configured, global }
    }

    /// With their full prefixes, in the order in which they are asked.
    pub fn configured(&self) -> &[(Path, Arc<dyn Namer>)] {
        &self.configured
    }

    /// The one that answers what nobody else claims.
    pub fn global(&self) -> &Arc<dyn Namer> {
        &self.global
    }

    /// Those that may answer for `path`, each with what it gets to see of it; the global namer last.
    pub(crate) fn asked(&self, path: &Path) -> Vec<(Arc<dyn Namer>, Path)> {
        let configured = self.configured.iter().filter(|(prefix, _)| path.starts_with(prefix));
        configured
            .map(|(prefix, namer)| (namer.clone(), path.drop_first(prefix.len())))
            .chain(std::iter::once((self.global.clone(), path.clone())))
            .collect()
    }
}
