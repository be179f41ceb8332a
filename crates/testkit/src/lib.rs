//! What tests of several crates need: real processes, browsers, a plain HTTP client, servers that record,
//! steady load. For tests only (dev-dependency).
//!
//! Everything binds port 0 or a range it has locked, and ends what it started when dropped.

pub mod browser;
pub mod certificates;
pub mod http;
pub mod kube;
pub mod load;
pub mod mutation;
pub mod ports;
pub mod process;
pub mod recorder;
pub mod until;
