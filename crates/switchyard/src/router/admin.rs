//! The admin server and its like: they listen before the routers do, answer until these have ended, and
//! answer by other routes after a reload.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use proxy::settings::SocketOptions;
use serving::Port;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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
        listener.set_nonblocking(true)?;
        let served = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
        let routes = Arc::new(RwLock::new(routes));
        let current = routes.clone();
        let now = move || current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (is_secured, stop) = (secured.is_some(), CancellationToken::new());
        let port = Port { options: served_with(options), tls: secured, ..Port::new(served) };
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let connections = TaskTracker::new();
            port.serve(now, stopped, connections.clone()).await;
            connections.close();
            connections.wait().await;
        });
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

/// What of them holds for connections; the socket has the others already.
fn served_with(options: &SocketOptions) -> serving::SocketOptions {
    let millis = |time: Option<Duration>| time.and_then(|time| u64::try_from(time.as_millis()).ok());
    serving::SocketOptions {
        no_delay: options.no_delay,
        read_timeout_ms: millis(options.read_timeout),
        write_timeout_ms: millis(options.write_timeout),
        ..serving::SocketOptions::default()
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(10);

    fn start(options: &SocketOptions) -> (Serving, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        (Serving::start(listener, None, options, says("before")).expect("a server"), address)
    }

    fn says(text: &'static str) -> axum::Router {
        axum::Router::new().route("/", axum::routing::get(move || async move { text }))
    }

    async fn ask(stream: &mut TcpStream) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("written");
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.expect("an answer");
        String::from_utf8_lossy(&part[..count]).into_owned()
    }

    async fn closes(mut stream: TcpStream) {
        let mut part = [0; 4096];
        let read = async { while let Ok(1..) = stream.read(&mut part).await {} };
        tokio::time::timeout(WITHIN, read).await.expect("the server closes");
    }

    #[tokio::test]
    async fn an_open_connection_is_answered_by_new_routes_and_an_end_waits_for_nobody_who_is_idle() {
        let (serving, address) = start(&SocketOptions::default());
        let mut stream = TcpStream::connect(address).await.expect("open");
        assert!(ask(&mut stream).await.ends_with("before"));
        serving.swap(says("behind"));
        assert!(ask(&mut stream).await.ends_with("behind"));
        serving.stop().await.expect("ended");
        closes(stream).await;
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_socket_on_which_nothing_moves_closes_after_its_time() {
        let read_timeout = Some(Duration::from_millis(100));
        let (serving, address) = start(&SocketOptions { read_timeout, ..SocketOptions::default() });
        let mut stream = TcpStream::connect(address).await.expect("open");
        assert!(ask(&mut stream).await.ends_with("before"));
        closes(stream).await;
        serving.stop().await.expect("ended");
    }

    #[test]
    fn the_address_is_told_as_others_reach_it() {
        assert_eq!(url("127.0.0.1:9990".parse().unwrap(), false), "http://127.0.0.1:9990");
        assert_eq!(url("[::1]:1".parse().unwrap(), true), "https://[::1]:1");
        assert_eq!(url("0.0.0.0:9990".parse().unwrap(), false), format!("http://{}:9990", host()));
    }
}
