//! The admin server and its like: they listen before the routers do, answer until these have ended, and
//! answer by other routes after a reload.

mod connections;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use proxy::settings::SocketOptions;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use connections::Bounds;

/// Answers that are being written at the very end may take this long.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A server that runs.
pub struct Serving {
    /// For the process that takes over.
    listener: TcpListener,
    routes: Arc<RwLock<axum::Router>>,
    is_secured: bool,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Serving {
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        listener: TcpListener,
        secured: Option<tls::server::Live>,
        options: &SocketOptions,
        routes: axum::Router,
    ) -> io::Result<Serving> {
        Serving::within(Bounds::of(options), listener, secured, routes)
    }

    fn within(
        bounds: Bounds,
        listener: TcpListener,
        secured: Option<tls::server::Live>,
        routes: axum::Router,
    ) -> io::Result<Serving> {
        listener.set_nonblocking(true)?;
        let served = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
        let routes = Arc::new(RwLock::new(routes));
        let current = routes.clone();
        let now = move || current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (is_secured, stop) = (secured.is_some(), CancellationToken::new());
        let task = tokio::spawn(connections::serve(served, secured, bounds, now, stop.clone()));
        Ok(Serving { listener, routes, is_secured, stop, task })
    }

    /// Whether it speaks TLS.
    pub fn is_secured(&self) -> bool {
        self.is_secured
    }

    /// Requests from now on are answered by these.
    pub fn swap(&self, routes: axum::Router) {
        *self.routes.write().unwrap_or_else(PoisonError::into_inner) = routes;
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// A copy of its socket.
    pub fn hand_over(&self) -> io::Result<TcpListener> {
        self.listener.try_clone()
    }

    /// Ends it; what is being answered is answered, within reason.
    pub async fn stop(self) -> anyhow::Result<()> {
        drop(self.listener);
        self.stop.cancel();
        match tokio::time::timeout(LAST_WORDS, self.task).await {
            Ok(ended) => ended.context("the admin server's task"),
            // Somebody keeps a connection open: their loss.
            Err(_) => Ok(()),
        }
    }
}

/// `http://127.0.0.1:9990`, as others reach it: a wildcard address is told by this machine's name.
pub fn url(address: SocketAddr, is_secured: bool) -> String {
    let scheme = if is_secured { "https" } else { "http" };
    if address.ip().is_unspecified() {
        format!("{scheme}://{}:{}", host(), address.port())
    } else {
        format!("{scheme}://{address}")
    }
}

/// This machine's name.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_told_as_others_reach_it() {
        assert_eq!(url("127.0.0.1:9990".parse().unwrap(), false), "http://127.0.0.1:9990");
        assert_eq!(url("[::1]:1".parse().unwrap(), true), "https://[::1]:1");
        assert_eq!(url("0.0.0.0:9990".parse().unwrap(), false), format!("http://{}:9990", host()));
    }
}
