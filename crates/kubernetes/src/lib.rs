//! Kubernetes, as far as several crates need it: how a cluster is reached, and `Watch`, which lists
//! a kind of object and follows it for ever.
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
mod report;
mod watch;

pub use connection::{Cluster, Clusters, Connection, ConnectionError};
pub use error::{Error, Problem};
pub use k8s_openapi;
pub use kube;
pub use report::{Report, Totals};
pub use watch::{AsMeta, Backoff, Event, List, Patience, Resource, Watch};
