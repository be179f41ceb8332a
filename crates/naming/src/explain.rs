//! The explain ("delegate") tree: every step from a name to its endpoints, and what was not taken.

use std::sync::Arc;
use names::{Dentry, Path};
use crate::{Addr, Bound};

/// A node; `dentry` is the entry that produced it, absent on the root. JSON shapes live at the edges.
#[derive(Clone, Debug)]
pub enum Explain {
    Delegate { path: Path, dentry: Option<Dentry>, next: Box<Explain> },
    Alt { path: Path, dentry: Option<Dentry>, alternatives: Vec<Explain> },
    Union { path: Path, dentry: Option<Dentry>, branches: Vec<(f64, Explain)> },
    /// With its addresses as they are now.
    Leaf { path: Path, dentry: Option<Dentry>, bound: Bound, addr: Addr },
    /// `path` is `~` where it was written so.
    Neg { path: Option<Path>, dentry: Option<Dentry> },
    /// `path` is `!` where it was written so.
    Fail { path: Option<Path>, dentry: Option<Dentry> },
    Empty { path: Path, dentry: Option<Dentry> },
    Exception { path: Path, dentry: Option<Dentry>, message: Arc<str> },
    Transformation { path: Path, name: Arc<str>, bound: Bound, addr: Addr, next: Box<Explain> },
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
