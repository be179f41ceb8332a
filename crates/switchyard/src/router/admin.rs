//! The admin server and its like: they listen before the routers do, answer until these have ended, and
//! answer by other routes after a reload.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use axum::extract::Request;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::ServiceExt;

/// Answers that are being written at the very end may take this long.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A server that runs.
pub struct Serving {
    /// For the process that takes over.
    listener: TcpListener,
    routes: Arc<RwLock<axum::Router>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Serving {
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(listener: TcpListener, routes: axum::Router) -> io::Result<Serving> {
        listener.set_nonblocking(true)?;
        let served = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
        let (stop, stopped) = oneshot::channel();
        let routes = Arc::new(RwLock::new(routes));
        let current = routes.clone();
        let dispatch = move |request: Request| {
            let routes = current.read().unwrap_or_else(PoisonError::into_inner).clone();
            async move { routes.oneshot(request).await }
        };
        let server = axum::serve(served, axum::Router::new().fallback(dispatch)).with_graceful_shutdown(async move {
            // A sender that is dropped says the same.
            let _ = stopped.await;
        });
        Ok(Serving { listener, routes, stop, task: tokio::spawn(server.into_future()) })
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
        // A server that has ended already needs no word.
        let _ = self.stop.send(());
        match tokio::time::timeout(LAST_WORDS, self.task).await {
            Ok(ended) => ended.context("the admin server's task")?.context("the admin server"),
            // Somebody keeps a connection open: their loss.
            Err(_) => Ok(()),
        }
    }
}

/// `http://127.0.0.1:9990`, as others reach it: a wildcard address is told by this machine's name.
pub fn url(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("http://{}:{}", host(), address.port())
    } else {
        format!("http://{address}")
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
        assert_eq!(url("127.0.0.1:9990".parse().unwrap()), "http://127.0.0.1:9990");
        assert_eq!(url("[::1]:1".parse().unwrap()), "http://[::1]:1");
        assert_eq!(url("0.0.0.0:9990".parse().unwrap()), format!("http://{}:9990", host()));
    }
}
