//! Naming: live values, and the traits that turn a name into live endpoints.
//!
//! Knows no protocol and no concrete namer. See `Live` for how a value stays current.

mod addr;
mod explain;
mod interpreter;
mod live;
mod namer;

pub use addr::{Addr, Endpoint, Meta};
pub use explain::{Explain, ExplainError};
pub use interpreter::{Bound, BoundTree, Interpreter, Served};
pub use live::{Live, Publisher, State};
pub use namer::{Name, Namer, NamerTree, Transformer};
