//! `socketOptions` of the servers here, and sockets that are bound with them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// The keys, as in Linkerd 1.7. Inert; see [`bind`] and [`Port`](crate::Port).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct SocketOptions {
    pub no_delay: bool,
    pub reuse_addr: bool,
    pub reuse_port: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<bool>,
    /// Connections that may wait to be accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog: Option<u32>,
    /// Bytes of the client that are waited for must come within this time. Does not run while a request is
    /// answered: who watches has nothing to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_timeout_ms: Option<u64>,
    /// Bytes that wait to be sent must move within this time. Does not run while there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_timeout_ms: Option<u64>,
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions {
            no_delay: true,
            reuse_addr: true,
            reuse_port: false,
            keep_alive: None,
            backlog: None,
            read_timeout_ms: None,
            write_timeout_ms: None,
        }
    }
}

/// A value that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadOption {
    /// Below `socketOptions`.
    pub key: &'static str,
    pub message: String,
}

impl SocketOptions {
    /// # Errors
    /// A time of zero, in which nothing can move.
    pub fn check(&self) -> Result<(), BadOption> {
        let times = [("readTimeoutMs", self.read_timeout_ms), ("writeTimeoutMs", self.write_timeout_ms)];
        match times.into_iter().find(|(_, millis)| *millis == Some(0)) {
            Some((key, _)) => {
                let message = "must be greater than 0: give milliseconds, or take the key out".to_owned();
                Err(BadOption { key, message })
            }
            None => Ok(()),
        }
    }

    #[must_use]
    pub fn read_timeout(&self) -> Option<Duration> {
        self.read_timeout_ms.map(Duration::from_millis)
    }

    #[must_use]
    pub fn write_timeout(&self) -> Option<Duration> {
        self.write_timeout_ms.map(Duration::from_millis)
    }
}

/// Binds now, so that an address in use is an error of the start.
///
/// # Errors
/// The system's.
pub fn bind(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(options.reuse_addr)?;
    socket.set_reuse_port(options.reuse_port)?;
    if let Some(keep_alive) = options.keep_alive {
        socket.set_keepalive(keep_alive)?;
    }
    socket.bind(&address.into())?;
    socket.listen(options.backlog.and_then(|backlog| i32::try_from(backlog).ok()).unwrap_or(1024))?;
    TcpListener::from_std(socket.into())
}
