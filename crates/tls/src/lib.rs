//! TLS for all parts: certificates and keys from files, checked, reloaded while running; and a session
//! without sockets for the data plane.
//!
//! ```text
//!  document ──▶ server::Config ──load──▶ server::Live ──▶ new connections
//!               client::Config ──load──▶ client::Live ──▶ new connections
//!                                           ▲
//!               files ──(Reloader, once a second)
//! ```
//! rustls with ring: both build with a C compiler alone, also for musl, and in a few seconds. The provider is
//! always named, so that no crate of the workspace decides for another.
//!
//! What this is not: it opens no sockets, except in [`listen`] for those who have a tokio
//! runtime to themselves. The data plane drives [`Session`] from its own sockets.

pub mod client;
mod error;
mod explain;
pub mod listen;
mod peer;
pub mod pem;
mod reload;
pub mod server;
mod session;
mod suites;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use error::Error;
pub use explain::explain;
pub use peer::{Certificate, forwarded};
pub use reload::{Reloader, Status, TOTALS, Total};
pub use rustls;
pub use session::{Received, Session};

/// How long a handshake may take, on both sides.
pub const HANDSHAKE: std::time::Duration = std::time::Duration::from_secs(10);

/// The only protocol that is spoken within TLS so far (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// The cryptography that everybody uses.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
