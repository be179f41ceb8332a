//! Listening sockets, and the HTTP/1.1 connections that come in on them.
//!
//! Connections are bounded in number, heads in time; on shutdown each connection ends after the answer
//! that is under way.

mod foreign;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::config::SocketOptions;

pub(crate) use foreign::Door;

/// Who is at the other end of the connection; in each request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Connections of one listener at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 8192;

/// How long a connection may take for a head, and stay idle between requests. Longer than clients keep
/// idle connections, so that they do not use one that is being closed.
const HEAD_WITHIN: Duration = Duration::from_secs(120);

/// Binds now, so that an address in use is an error of the start.
pub(crate) fn bind(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpListener> {
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

/// A bound socket, and how its connections are.
pub(crate) struct Listener {
    pub(crate) listener: TcpListener,
    pub(crate) options: SocketOptions,
    pub(crate) tls: Option<tls::server::Live>,
    /// Looks at what comes in, where it may be another protocol than HTTP.
    pub(crate) door: Option<Door>,
}

/// Serves until `closing`; connections are tasks of `tracker`.
pub(crate) async fn serve(
    Listener { listener, options, tls, door }: Listener,
    router: Router,
    closing: CancellationToken,
    tracker: TaskTracker,
) {
    let door = door.map(Arc::new);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closing.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Err(error) = stream.set_nodelay(options.no_delay) {
                    tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
                }
                let (router, closing, tls) = (router.clone(), closing.clone(), tls.clone());
                // A TLS port is guarded by its handshake, which knows no other protocol than HTTP/1.1.
                let door = door.clone().filter(|_| tls.is_none());
                tracker.spawn(async move {
                    let admitted = async {
                        let stream = match &door {
                            Some(door) => door.admit(stream).await?,
                            None => stream,
                        };
                        tls::listen::accept(stream, tls.as_ref()).await
                    };
                    let accepted = tokio::select! {
                        accepted = admitted => accepted,
                        () = closing.cancelled() => return,
                    };
                    match accepted {
                        Ok(stream) => connection(stream, Peer(peer), router, closing).await,
                        Err(error) => tracing::debug!(%peer, %error, "a connection was not accepted"),
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // Too many open files, or a connection that is gone already.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn connection(stream: tls::listen::Stream, peer: Peer, router: Router, closing: CancellationToken) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(64 * 1024)
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
