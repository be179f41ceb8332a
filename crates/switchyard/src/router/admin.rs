//! The admin server and its like: they listen before the routers do, answer until these have ended, and
//! answer by other routes after a reload.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use axum::extract::Request;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tower::ServiceExt;

/// Answers that are being written at the very end may take this long.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Handshakes at a time; more connections wait in the kernel's queue.
const HANDSHAKES: usize = 256;

/// A server that runs.
pub struct Serving {
    /// For the process that takes over.
    listener: TcpListener,
    routes: Arc<RwLock<axum::Router>>,
    is_secured: bool,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Serving {
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(
        listener: TcpListener,
        secured: Option<tls::server::Live>,
        routes: axum::Router,
    ) -> io::Result<Serving> {
        listener.set_nonblocking(true)?;
        let served = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
        let (stop, stopped) = oneshot::channel();
        let routes = Arc::new(RwLock::new(routes));
        let current = routes.clone();
        let dispatch = move |request: Request| {
            let routes = current.read().unwrap_or_else(PoisonError::into_inner).clone();
            async move { routes.oneshot(request).await }
        };
        let stopped = async move {
            // A sender that is dropped says the same.
            let _ = stopped.await;
        };
        let is_secured = secured.is_some();
        let task = tokio::spawn(serve(served, secured, axum::Router::new().fallback(dispatch), stopped));
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
        // A server that has ended already needs no word.
        let _ = self.stop.send(());
        match tokio::time::timeout(LAST_WORDS, self.task).await {
            Ok(ended) => ended.context("the admin server's task")?.context("the admin server"),
            // Somebody keeps a connection open: their loss.
            Err(_) => Ok(()),
        }
    }
}

/// Serves until `stopped`, with TLS where there is a section for it.
async fn serve(
    listener: tokio::net::TcpListener,
    secured: Option<tls::server::Live>,
    routes: axum::Router,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    match secured {
        None => axum::serve(listener, routes).with_graceful_shutdown(stopped).await,
        Some(live) => axum::serve(Secured::new(listener, live)?, routes).with_graceful_shutdown(stopped).await,
    }
}

/// Connections whose handshake is over. Handshakes go on side by side, so that one that drips keeps nobody out.
struct Secured {
    ready: mpsc::Receiver<(tls::listen::Stream, SocketAddr)>,
    address: SocketAddr,
}

impl Secured {
    fn new(listener: tokio::net::TcpListener, live: tls::server::Live) -> io::Result<Secured> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(1);
        tokio::spawn(shake_hands(listener, live, sender));
        Ok(Secured { ready, address })
    }
}

impl axum::serve::Listener for Secured {
    type Io = tls::listen::Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (tls::listen::Stream, SocketAddr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Until nobody wants connections any more.
async fn shake_hands(
    listener: tokio::net::TcpListener,
    live: tls::server::Live,
    ready: mpsc::Sender<(tls::listen::Stream, SocketAddr)>,
) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (live, ready) = (live.clone(), ready.clone());
                tokio::spawn(async move {
                    match tls::listen::accept(stream, Some(&live)).await {
                        // Nobody wants it if the server ends just now.
                        Ok(stream) => drop(ready.send((stream, peer)).await),
                        Err(error) => tracing::debug!(%peer, %error, "no TLS connection to the admin server"),
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin server cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
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
