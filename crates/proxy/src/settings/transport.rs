//! What is set on connections: how long they live, and their sockets.

use std::time::Duration;

/// `serverSession`, `clientSession`: after what time a connection that carries nothing closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Session {
    /// `idleTimeMs`: since the end of its last request.
    pub idle: Option<Duration>,
    /// `lifeTimeMs`: since it was opened; a request under way is finished.
    pub life: Option<Duration>,
}

/// `socketOptions`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// `noDelay`
    pub no_delay: bool,
    /// `reuseAddr`, of listening sockets.
    pub reuse_addr: bool,
    /// `reusePort`: other processes that say so, too, may listen on the same address.
    pub reuse_port: bool,
    /// `readTimeoutMs`: bytes that are waited for must come within this time.
    pub read_timeout: Option<Duration>,
    /// `writeTimeoutMs`: bytes that wait to be sent must move within this time.
    pub write_timeout: Option<Duration>,
    /// `keepAlive`: TCP's probes; `None`: as the system does it.
    pub keep_alive: Option<bool>,
    /// `backlog`: connections that wait to be accepted, of a listening socket.
    pub backlog: Option<i32>,
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions {
            no_delay: true,
            reuse_addr: true,
            reuse_port: false,
            read_timeout: None,
            write_timeout: None,
            keep_alive: None,
            backlog: None,
        }
    }
}

/// `compressionLevel`, other than 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// -1: text, at the usual level.
    Textual,
    /// 1 to 9: everything.
    All(u8),
}
