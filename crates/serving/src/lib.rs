//! HTTP/1.1 connections of our own servers: the control plane's interfaces and admin server, the pipeline server.
//!
//! They are bounded in number, and heads in time and length; on shutdown each ends after the answer that is under
//! way. Answers may go on for as long as they like: they are streams of changes. Not here: the router's data
//! plane, which has an engine of its own, and sockets, TLS and routes, which the caller brings.

#![forbid(unsafe_code)]

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Who is at the other end of the connection; in each request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// What the connections of one listener may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// At a time; more wait in the kernel's queue.
    pub connections: usize,
    /// For a head, and idle between requests.
    pub head_within: Duration,
}

/// Longest head, in bytes.
const HEAD: usize = 64 * 1024;
/// After a connection could not be accepted: there are too many open files, most likely.
const PAUSE: Duration = Duration::from_millis(20);

/// Serves until `closing`; connections are tasks of `tracker`. `admit` makes of a socket what is served on it: it
/// sets its options, speaks TLS, or refuses it.
pub async fn serve<A, F, S>(
    listener: TcpListener,
    bounds: Bounds,
    admit: A,
    router: Router,
    closing: CancellationToken,
    tracker: TaskTracker,
) where
    A: Fn(TcpStream) -> F,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let places = Arc::new(Semaphore::new(bounds.connections));
    loop {
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            () = closing.cancelled() => return,
        };
        let Ok(place) = place else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, closing, admitted) = (router.clone(), closing.clone(), admit(stream));
                tracker.spawn(async move {
                    let admitted = tokio::select! {
                        admitted = admitted => admitted,
                        () = closing.cancelled() => return,
                    };
                    match admitted {
                        Ok(stream) => connection(stream, Peer(peer), bounds.head_within, router, closing).await,
                        Err(error) => tracing::debug!(%peer, %error, "a connection was not accepted"),
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // Too many open files, or a connection that is gone already.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection<S>(stream: S, peer: Peer, head_within: Duration, router: Router, closing: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_within)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %peer.0, %error, "a connection ended");
    }
}
