//! Addresses: what a bound name stands for.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

/// Metadata of an endpoint or a set: `nodeName`, `authority`, `endpoint_addr_weight`, … as JSON values.
pub type Meta = BTreeMap<String, serde_json::Value>;

/// One place to send requests to.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    pub addr: SocketAddr,
    /// Relative weight inside its set (`endpoint_addr_weight`), 1.0 by default.
    pub weight: f64,
    pub meta: Arc<Meta>,
}

/// A set of endpoints, or why there is none. "Not known yet" is `State::Pending` around it.
#[derive(Clone, Debug, PartialEq)]
pub enum Addr {
    /// Sorted by address, without duplicates; may be empty.
    Bound {
        endpoints: Arc<[Endpoint]>,
        meta: Arc<Meta>,
    },
    /// No such thing (any more).
    Neg,
    Failed(Arc<str>),
}
