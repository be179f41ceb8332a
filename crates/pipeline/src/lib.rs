//! The pipeline server: runs `rollout` plans. Journal, effects, API and pages of deploys.
//!
//! Not here: the rules of a deploy (crate `rollout`, pure) and the routing (the control plane's).

pub mod api;
pub mod config;
pub mod file;
mod server;

pub use config::{Config, ConfigError};
pub use server::{Server, StartError};
