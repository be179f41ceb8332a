//! Kubernetes, as far as several crates need it: how a cluster is reached, `Watch`, which lists a kind of
//! object and follows it for ever, and `Objects`, single requests for kinds that a manifest names.
//!
//! ```text
//! Connection (keys of a document) ──▶ Clusters ──▶ Cluster (one client) ──▶ Watch ──▶ Event, Event, …
//!                                                                             └────▶ Report (state, age, counts)
//! ```
//!
//! Knows nothing of names, dtabs or stores; what the objects mean is their readers' business. Nothing
//! here decides to forget: a watch that fails keeps trying, and says so in its `Report`.

mod connection;
mod error;
mod objects;
mod report;
mod watch;

pub use connection::{Cluster, Clusters, Connection, ConnectionError};
pub use error::{Error, Problem};
pub use k8s_openapi;
pub use kube;
pub use objects::{Dependents, Kind, Objects};
pub use report::{Report, TOTALS, Totals};
pub use watch::{AsMeta, Backoff, Event, List, Patience, Resource, Watch};

/// Whether Kubernetes would let a namespace or a service be called so; nothing else goes into a URL.
pub fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let outer = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 253
        && outer(bytes.first().copied())
        && outer(bytes.last().copied())
        && bytes.iter().all(|byte| inner(*byte))
}
