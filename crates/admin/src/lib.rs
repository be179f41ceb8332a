//! The web pages of all processes: the kit that serves them, what they show, and how.
//!
//! ```text
//!  a server's own data ──▶ page struct (one a page) ──▶ template ──▶ web::page(…) with the policy
//!                                │
//!                                └─ fields are what the documented endpoints answer, read with serde
//! ```
//! A page struct is made of what an endpoint answers, so whatever a page shows, curl shows. Templates
//! escape everything; the only ways around that are the components in [`parts`] and [`Data`], each of
//! which is a template or escapes by itself.
//!
//! Not here: routes of pages (each server mounts its own) and knowledge of any server's types.

mod assets;
pub mod control;
mod data;
pub mod diff;
pub mod explain;
pub mod format;
mod missing;
pub mod parts;
pub mod pipeline;
pub mod router;
mod security;
mod shell;
pub mod web;

pub use assets::assets;
pub use data::Data;
pub use missing::MissingPage;
pub use security::{Categories, Security, SecurityConfig, SecurityError, is_foreign};
pub use shell::{Count, Links, Part, Shell};
