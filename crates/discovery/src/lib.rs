//! Discovery: where endpoints come from. One file per kind, config beside the code that it builds.
//!
//! Built: the namer kinds `io.l5d.fs`, `io.l5d.rewrite` and those of Kubernetes, names under `/$/`
//! (`inet`, `fixedinet`, `nil`, `fail`, the utility namers), the transformers, and the interpreter
//! `io.l5d.fs`. Other kinds of the original are known, and refused by name.
//! Knows nothing of the data plane.

mod address_set;
mod assemble;
mod config;
mod dns;
pub mod dtab_file;
pub mod fs;
pub mod global;
pub mod kubernetes;
pub mod rewrite;
mod surroundings;
pub mod transformer;
mod utility;
mod watch;

pub use ::kubernetes::{Clusters, Connection, TOTALS, Totals};
pub use assemble::{Precedence, build_namers, build_namers_after, transformed};
pub use config::{ConfigError, InterpreterConfig, NamerConfig, NotBuilt, TransformerConfig};
pub use surroundings::Surroundings;
