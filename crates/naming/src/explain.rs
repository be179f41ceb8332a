//! The explain ("delegate") tree: every step from a name to its endpoints, and what was not taken.

use std::sync::Arc;

use names::{Dentry, Path};

use crate::{Addr, Bound};

/// A node; `dentry` is the entry that produced it, absent on the root. JSON shapes live in `json`.
#[derive(Clone, Debug)]
pub enum Explain {
    Delegate {
        path: Path,
        dentry: Option<Dentry>,
        next: Box<Explain>,
    },
    Alt {
        path: Path,
        dentry: Option<Dentry>,
        alternatives: Vec<Explain>,
    },
    Union {
        path: Path,
        dentry: Option<Dentry>,
        branches: Vec<(f64, Explain)>,
    },
    /// With its addresses as they are now.
    Leaf {
        path: Path,
        dentry: Option<Dentry>,
        bound: Bound,
        addr: Addr,
    },
    /// `None` where a `~` was written.
    Neg {
        path: Option<Path>,
        dentry: Option<Dentry>,
    },
    /// `None` where a `!` was written.
    Fail {
        path: Option<Path>,
        dentry: Option<Dentry>,
    },
    Empty {
        path: Path,
        dentry: Option<Dentry>,
    },
    Exception {
        path: Path,
        dentry: Option<Dentry>,
        message: Arc<str>,
    },
    /// A transformer at a leaf: `bound` and `addr` before it, `next` what it made of them.
    Transformation {
        path: Path,
        name: Arc<str>,
        bound: Bound,
        addr: Addr,
        next: Box<Explain>,
    },
}

/// Why there is no tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    #[error("{0}")]
    Failed(Arc<str>),
    /// `replace` and `const` transformers make an interpreter that cannot explain.
    #[error("name interpreter cannot show delegations")]
    Unsupported,
    #[error("Request timed out.")]
    TimedOut,
}

impl Explain {
    /// The name at this node; `None` for a written `~` or `!`.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Explain::Delegate { path, .. }
            | Explain::Alt { path, .. }
            | Explain::Union { path, .. }
            | Explain::Leaf { path, .. }
            | Explain::Empty { path, .. }
            | Explain::Exception { path, .. }
            | Explain::Transformation { path, .. } => Some(path),
            Explain::Neg { path, .. } | Explain::Fail { path, .. } => path.as_ref(),
        }
    }

    fn with_dentry(mut self, new: Option<Dentry>) -> Explain {
        match &mut self {
            Explain::Delegate { dentry, .. }
            | Explain::Alt { dentry, .. }
            | Explain::Union { dentry, .. }
            | Explain::Leaf { dentry, .. }
            | Explain::Neg { dentry, .. }
            | Explain::Fail { dentry, .. }
            | Explain::Empty { dentry, .. }
            | Explain::Exception { dentry, .. } => *dentry = new,
            Explain::Transformation { .. } => {}
        }
        self
    }

    /// A node `path` that goes on to `next`: the two are one where `next` has the same name and is not an end.
    pub(crate) fn delegate(path: Path, dentry: Option<Dentry>, next: Explain) -> Explain {
        let end = matches!(next, Explain::Neg { .. } | Explain::Fail { .. } | Explain::Empty { .. });
        if !end && next.path() == Some(&path) {
            return next.with_dentry(dentry);
        }
        Explain::Delegate { path, dentry, next: Box::new(next) }
    }

    /// Alternates below the same name are alternates of this one; a single one is a delegation.
    pub(crate) fn alternates(path: Path, dentry: Option<Dentry>, trees: Vec<Explain>) -> Explain {
        let mut alternatives = Vec::with_capacity(trees.len());
        for tree in trees {
            match tree {
                Explain::Alt { path: inner, alternatives: more, .. } if inner == path => alternatives.extend(more),
                other => alternatives.push(other),
            }
        }
        match alternatives.len() {
            0 => Explain::Neg { path: Some(path), dentry },
            1 => Explain::delegate(path, dentry, alternatives.swap_remove(0)),
            _ => Explain::Alt { path, dentry, alternatives },
        }
    }

    /// A union of one is a delegation.
    pub(crate) fn union(path: Path, dentry: Option<Dentry>, mut branches: Vec<(f64, Explain)>) -> Explain {
        match branches.len() {
            0 => Explain::Neg { path: Some(path), dentry },
            1 => Explain::delegate(path, dentry, branches.swap_remove(0).1),
            _ => Explain::Union { path, dentry, branches },
        }
    }
}
