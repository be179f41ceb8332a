//! Names: paths, name trees and dtabs as values. Parse, show, match, simplify, one lookup step.
//!
//! No IO, no clock, no randomness, no serde: JSON shapes live at the edges.
//! Behaviour: Finagle 21.4 as Linkerd 1.7.5 uses it; error texts are part of the contract.

mod changes;
mod dtab;
mod error;
mod fingerprint;
mod index;
mod matcher;
mod parser;
mod path;
mod tree;
mod weight;

pub use dtab::{Dentry, Dtab, Elem, Prefix};
pub use error::ParseError;
pub use matcher::PathMatcher;
pub use path::{Label, Path};
pub use tree::{NameTree, Weighted};
