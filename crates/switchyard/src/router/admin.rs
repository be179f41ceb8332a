//! The admin server: listens before the routers do, and answers until they have ended.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Answers that are being written at the very end may take this long.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A server that runs.
pub struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Serving {
    pub fn start(listener: TcpListener, routes: axum::Router) -> Serving {
        let (stop, stopped) = oneshot::channel();
        let server = axum::serve(listener, routes).with_graceful_shutdown(async move {
            // A sender that is dropped says the same.
            let _ = stopped.await;
        });
        Serving { stop, task: tokio::spawn(server.into_future()) }
    }

    /// Ends it; what is being answered is answered, within reason.
    pub async fn stop(self) -> anyhow::Result<()> {
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
