//! Naming: live values, and the traits that turn a name into live endpoints.
//!
//! Knows no protocol and no concrete namer. See `Live` for how a value stays current.

mod addr;
mod bind;
mod configured;
mod endpoints;
mod explain;
mod explainer;
mod interpreter;
pub mod json;
mod live;
mod lookups;
mod namer;
mod reach;
mod shared;
mod transformed;

pub use addr::{Addr, Endpoint, Meta};
pub use configured::ConfiguredInterpreter;
pub use endpoints::{Difference, Differences, Endpoints};
pub use explain::{Explain, ExplainError};
pub use interpreter::{Bound, BoundTree, Explaining, Interpreter, Served, is_same};
pub use live::{Live, Publisher, State};
pub use namer::{Name, Namer, NamerTree, Namers, Transformer};
pub use shared::{Fed, Shared};
pub use transformed::{AddrMap, Transformed, TransformedNamer};
