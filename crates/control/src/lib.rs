//! The control plane: stored dtabs with history, their evaluation, the fleet that serves them, leases;
//! the HTTP API over all that; and the client side for routers.
//!
//! ```text
//!   store ──▶ spaces (a dtab and its interpreter) ──▶ api (bind, addr, …)
//!     │                        │
//!     └──▶ api (dtabs) ◀─ fleet ◀─ acks ─ follow ◀──trees, versions──▶ client (in routers)
//! ```
//! Knows nothing of the data plane: a router gets an `Arc<dyn Interpreter>` from [`client`].

mod admin;
mod api;
pub mod client;
mod config;
mod control;
mod fleet;
pub mod follow;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod listen;
mod metrics;
mod pages;
mod server;
mod spaces;
mod time;

pub use admin::Levels;
pub use config::{Admin, Config, Interface, Kind, Prometheus, Storage};
pub use control::Control;
pub use fleet::FORGOTTEN_AFTER;
pub use server::{Server, StartError};
