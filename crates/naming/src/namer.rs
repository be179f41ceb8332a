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
    /// `path` comes without the namer's prefix (`/#/io.l5d.fs`).
    fn lookup(&self, path: &Path) -> Live<NamerTree>;
    /// Full ids that can be listed, for `/api/1/bound-names`; empty where listing makes no sense.
    fn bound_names(&self) -> Live<Arc<[Path]>> { Live::constant(Arc::from([])) }
    /// Watch state for `/namer_state/<prefix>.json`.
    fn state(&self) -> serde_json::Value { serde_json::Value::Null }
}

/// Changes bound trees: filters or replaces addresses, prefixes ids with its own `/%/…`.
pub trait Transformer: Send + Sync {
    fn transform(&self, tree: &BoundTree) -> BoundTree;
    /// The effective prefix, `/%/io.l5d.port/4141`.
    fn prefix(&self) -> &Path;
    /// The class name that explain shows, `DelegatingNameTreeTransformer$`.
    fn explain_name(&self) -> &'static str;
    /// A bound leaf as the transformer makes it, for explain; `None` where it cannot explain.
    fn transform_leaf(&self, bound: &Bound) -> Option<BoundTree>;
}
