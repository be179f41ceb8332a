//! `failFast`: an endpoint that took no connection counts as down until it takes one; requests for it fail at
//! once meanwhile.
//!
//! Behaviour: finagle's `FailFastFactory`. A task tries to connect after pauses that grow from one second to
//! half a minute.

use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::client::Client;
use crate::pool::{CONNECT_TIMEOUT, Endpoint};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(32);

/// Marks the endpoint down, and tries until it is up or nobody's any more.
pub(crate) fn mark_down(client: &Client, endpoint: &Rc<Endpoint>) {
    if endpoint.is_down.replace(true) {
        return;
    }
    client.metrics.marked_dead.inc();
    let (endpoint, up) = (Rc::downgrade(endpoint), client.metrics.clone());
    tokio::task::spawn_local(async move {
        let mut pause = FIRST;
        loop {
            // Not all at the same time.
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            let Some(endpoint) = endpoint.upgrade().filter(|endpoint| !endpoint.is_gone()) else { return };
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(endpoint.address)).await;
            if matches!(connected, Ok(Ok(_))) {
                endpoint.is_down.set(false);
                up.marked_available.inc();
                return;
            }
            pause = (pause * 2).min(LONGEST);
        }
    });
}
