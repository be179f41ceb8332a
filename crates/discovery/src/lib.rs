//! Discovery: where endpoints come from. One file per kind, config beside the code that it builds.
//!
//! Built: the namer kinds `io.l5d.fs` and `io.l5d.rewrite`, names under `/$/` (`inet`, `fixedinet`,
//! `nil`, `fail`, the utility namers), the transformers that need no cluster, and the interpreter
//! `io.l5d.fs`. Other kinds of the original are known, and refused by name.
//! Knows nothing of the data plane.

mod address_set;
mod assemble;
mod config;
mod dns;
pub mod dtab_file;
pub mod fs;
pub mod global;
pub mod rewrite;
pub mod transformer;
mod utility;
mod watch;

pub use assemble::{Precedence, build_namers, transformed};
pub use config::{ConfigError, InterpreterConfig, NamerConfig, NotBuilt, TransformerConfig};
