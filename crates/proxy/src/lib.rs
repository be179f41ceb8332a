//! The data plane, and the admin server of its process.

pub mod admin;
pub mod config;
pub mod settings;
