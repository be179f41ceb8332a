//! Sets of endpoints in their one order.

use std::sync::Arc;

use naming::{Addr, Endpoint, Meta};

/// Sorted by address; of two with the same address the first counts.
pub(crate) fn bound(endpoints: Vec<Endpoint>, meta: Arc<Meta>) -> Addr {
    Addr::Bound { endpoints: endpoints.into(), meta }
}

pub(crate) fn plain(addresses: impl IntoIterator<Item = std::net::SocketAddr>) -> Addr {
    let endpoint = |addr| Endpoint { addr, weight: 1.0, meta: Arc::default() };
    bound(addresses.into_iter().map(endpoint).collect(), Arc::default())
}
