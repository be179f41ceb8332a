//! `admin`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::part::{At, Problems, given};
use super::server::{Side, address, socket_options, tls};
use crate::admin::{Security, SecurityConfig};
use crate::settings::{Section, SocketOptions};

/// What the admin server is told.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    pub socket: SocketOptions,
    /// How long requests in flight may take when the process ends.
    pub shutdown_grace: Duration,
    /// Threads of the admin server and of everything else that is no worker; `None`: two.
    pub worker_threads: Option<usize>,
    /// Tells what the routers would identify.
    pub identifier: Option<SocketAddr>,
    pub security: Security,
    /// `tls`, also of `httpIdentifierPort`.
    pub tls: Option<Section<tls::server::Config>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Keys {
    ip: Option<IpAddr>,
    port: Option<u16>,
    tls: Option<Value>,
    socket_options: Option<Value>,
    worker_threads: Option<usize>,
    shutdown_grace_ms: Option<u64>,
    http_identifier_port: Option<u16>,
    security: Option<Value>,
    /// Ours: where the pages of the other parts are. The pages read it from the document.
    links: Option<Value>,
}

const DEFAULT_PORT: u16 = 9990;
/// Each would be a stack and a scheduler's entry for nothing.
const MOST_THREADS: usize = 64;

pub(super) fn read(value: Option<&Value>, at: &At, problems: &mut Problems) -> Option<Admin> {
    let keys = match value {
        Some(value) => problems.read::<Keys>(at, value)?,
        None => Keys::default(),
    };
    let socket = socket_options(keys.socket_options.as_ref(), at, Side::Admin, problems);
    if keys.worker_threads.is_some_and(|threads| threads == 0 || threads > MOST_THREADS) {
        let threads = keys.worker_threads.unwrap_or_default();
        problems.add(&at.key("workerThreads"), format!("must be between 1 and {MOST_THREADS}, not {threads}"));
    }
    if let Some(links) = given(keys.links.as_ref()) {
        problems.read::<::admin::Links>(&at.key("links"), links);
    }
    let address = address(value.unwrap_or(&Value::Null), keys.ip, keys.port, DEFAULT_PORT);
    Some(Admin {
        address,
        socket: socket.unwrap_or_default(),
        shutdown_grace: Duration::from_millis(keys.shutdown_grace_ms.unwrap_or(10_000)),
        worker_threads: keys.worker_threads,
        identifier: keys.http_identifier_port.map(|port| SocketAddr::new(address.ip(), port)),
        tls: given(keys.tls.as_ref()).and_then(|value| tls(value, &at.key("tls"), problems)),
        security: security(given(keys.security.as_ref()), &at.key("security"), problems)?,
    })
}

fn security(value: Option<&Value>, at: &At, problems: &mut Problems) -> Option<Security> {
    let config = match value {
        Some(value) => problems.read::<SecurityConfig>(at, value)?,
        None => SecurityConfig::default(),
    };
    match Security::build(config) {
        Ok(security) => Some(security),
        Err(error) => {
            problems.add(&at.key(&error.key), format!("cannot read `{}`: {}", error.expression, error.reason));
            None
        }
    }
}
