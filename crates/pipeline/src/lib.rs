//! The pipeline server: runs `rollout` plans. Journal, effects, API and pages of deploys.
//!
//! ```text
//! HTTP ──▶ Deploys ──▶ Slot ──▶ Runner:  event ─▶ rollout ─▶ Journal ─▶ effect ─▶ event
//!                       ▲ story, doing          (nothing is done that is not written first)
//! ```
//!
//! Not here: the rules of a deploy (crate `rollout`, pure) and the routing (the control plane's).

pub mod api;
mod cluster;
pub mod config;
mod control;
mod deploys;
mod effects;
mod entry;
pub mod file;
mod http;
mod journal;
mod manifests;
mod metrics;
mod pages;
mod patience;
mod plan;
mod pods;
mod problem;
mod read;
mod runner;
mod server;
mod slot;
mod story;
mod template;
mod view;

pub use config::{Config, ConfigError};
pub use journal::JournalError;
pub use server::{Server, StartError, Surroundings};
