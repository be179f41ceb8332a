//! The server around the application: listens, and ends without losing a request.
//!
//! Draining has two steps. For `LINGER` it goes on accepting and answers with
//! `Connection: close`, because a caller may have a request on the wire or not know yet that we
//! end; then it stops listening, closes idle connections and waits for the requests in flight.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use super::answer::Application;

/// How long a caller may take to notice that we end.
const LINGER: Duration = Duration::from_millis(500);
/// The original's write timeout. Its read timeout also cuts idle connections, which costs callers
/// requests; ours stay.
const TIMEOUT: Duration = Duration::from_secs(11);

/// The two steps of the end.
#[derive(Clone, Default)]
struct Ending {
    draining: CancellationToken,
    closing: CancellationToken,
}

/// Serves until a signal, then drains.
pub async fn serve(address: String, application: Application) -> anyhow::Result<()> {
    let listener = listen(&address).await.with_context(|| format!("cannot listen on {address}"))?;
    info!("starting HTTP server on {address}");
    let application = Arc::new(application);
    let ending = Ending::default();
    let connections = TaskTracker::new();
    let mut end = pin!(end(ending.clone()));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, application.clone(), ending.clone()));
                }
                Err(error) => {
                    // Out of file descriptors, as a rule: wait for some to come back.
                    debug!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            },
            result = &mut end => {
                result?;
                break;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    info!("all requests are answered, ending");
    Ok(())
}

/// Resolves when it is time to stop listening.
async fn end(ending: Ending) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: draining"),
        _ = interrupt.recv() => info!("SIGINT: draining"),
    }
    ending.draining.cancel();
    tokio::time::sleep(LINGER).await;
    ending.closing.cancel();
    Ok(())
}

async fn connection(stream: TcpStream, peer: SocketAddr, application: Arc<Application>, ending: Ending) {
    let _ = stream.set_nodelay(true);
    let draining = ending.draining.clone();
    let service = service_fn(move |request| {
        let (application, draining) = (application.clone(), draining.clone());
        async move {
            // Over the time a write may take, the original closes without an answer.
            let Ok(mut response) = tokio::time::timeout(TIMEOUT, application.answer(request)).await else {
                return Err(TooSlow);
            };
            if draining.is_cancelled() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }
    });
    let io = TokioIo::new(stream);
    let served = http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(None).serve_connection(io, service);
    let mut served = pin!(served);
    let result = tokio::select! {
        result = &mut served => result,
        () = ending.closing.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        debug!(%peer, %error, "connection ended");
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", TIMEOUT.as_secs())]
struct TooSlow;

impl From<Infallible> for TooSlow {
    fn from(never: Infallible) -> TooSlow {
        match never {}
    }
}

/// `:7777` is every address, IPv6 and IPv4, as in Go.
async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    if let Some(port) = address.strip_prefix(':') {
        let port: u16 = port.parse().with_context(|| format!("`{port}` is not a port"))?;
        let every_v6 = TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, port)).await;
        return match every_v6 {
            Ok(listener) => Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(error.into()),
            Err(_) => Ok(TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await?),
        };
    }
    Ok(TcpListener::bind(address).await?)
}
