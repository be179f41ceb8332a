//! Addresses: what a bound name stands for.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use crate::{Endpoints, Publisher, State};

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
    /// May be empty.
    Bound {
        endpoints: Endpoints,
        meta: Arc<Meta>,
    },
    /// No such thing (any more).
    Neg,
    Failed(Arc<str>),
}

impl Publisher<Addr> {
    /// Like `set`. Of a large set in which little has changed, the rest is kept as it is: whoever reads it
    /// finds the difference without looking at the whole.
    pub fn publish(&self, state: State<Addr>) {
        let state = match (self.get(), state) {
            (State::Ok(Addr::Bound { endpoints: old, .. }), State::Ok(Addr::Bound { endpoints, meta })) => {
                State::Ok(Addr::Bound { endpoints: endpoints.sharing(&old), meta })
            }
            (_, state) => state,
        };
        self.set(state);
    }
}
