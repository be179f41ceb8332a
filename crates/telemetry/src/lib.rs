//! Counters, gauges and histograms that cost the data plane a load and a store, and the shapes in which
//! they are shown.
//!
//! A path is a list of scope elements, each of which may contain `/`:
//! `["rt", "outgoing", "service", "svc/world", "requests"]`. Handles are resolved once and then held: no
//! look-up happens per request. A handle is `Send` but neither `Sync` nor `Clone`, so that it has one
//! writer by construction; the same path may be resolved many times (by several threads), and a snapshot
//! sums what it finds.
//!
//! ```
//! let registry = telemetry::Registry::default();
//! let shard = registry.shard();
//! let requests = shard.counter(&["rt", "outgoing", "service", "svc/world", "requests"]);
//! requests.inc();
//! assert_eq!(registry.snapshot().to_json(), r#"{"rt/outgoing/service/svc/world/requests":1}"#);
//! ```
//!
//! Not here: HTTP endpoints (whoever serves an admin port mounts [`metrics_json`],
//! [`scraped`] and [`Snapshot::to_influxdb`]) and time:
//! [`Registry::tick`] is called by the control thread, which also spawns [`statsd::send_for_ever`].

mod entry;
pub mod export;
mod exposition;
mod group;
mod handle;
mod help;
mod histogram;
mod history;
mod influxdb;
mod openmetrics;
mod process;
mod prometheus;
mod registry;
mod scoped;
mod snapshot;
pub mod spans;
pub mod statsd;

pub use exposition::{Answer, metrics_json, scraped};
pub use handle::{Counter, Gauge, SharedCounter, Stat};
pub use histogram::{Distribution, RELATIVE_ERROR, Summary, Total};
pub use history::{Column, History, Series};
pub use openmetrics::{OPENMETRICS_TYPE, accepts_openmetrics};
pub use process::register_process;
pub use prometheus::PROMETHEUS_TYPE;
pub use registry::{Limits, OVERFLOW, Registry, Shard};
pub use snapshot::{Snapshot, Value};
