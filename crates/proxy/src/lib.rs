//! The data plane, and the admin server of its process.

pub mod admin;
mod classify;
mod client;
mod cluster;
pub mod config;
mod connection;
mod context;
mod deliver;
mod diagnose;
mod directory;
mod exchange;
mod failure;
mod forwarded;
mod housekeeping;
mod identify;
mod listen;
mod metrics;
mod name;
mod pool;
mod record;
mod request;
mod room;
mod router;
mod server;
mod service;
mod serving;
pub mod settings;
mod start;
mod tcp;
mod thread;
mod trace;
mod tunnel;
mod wire;
mod worker;

pub use listen::Inherited;
pub use start::{Change, HandOver, Next, Running, ServerAddress, Start, StartError, Stop, start};
