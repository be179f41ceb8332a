//! Listening sockets, and what comes in on them before it is served as HTTP/1.1 ([`serving`]).

mod foreign;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use serving::Bounds;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config::SocketOptions;

pub(crate) use foreign::Door;
pub(crate) use serving::Peer;

/// Heads have longer than clients keep idle connections, so that they do not use one that is being closed.
const BOUNDS: Bounds = Bounds { connections: 8192, head_within: Duration::from_secs(120) };

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
    // A TLS port is guarded by its handshake, which knows no other protocol than HTTP/1.1.
    let door = door.filter(|_| tls.is_none()).map(Arc::new);
    let admit = move |stream: tokio::net::TcpStream| {
        if let Err(error) = stream.set_nodelay(options.no_delay) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let (door, tls) = (door.clone(), tls.clone());
        async move {
            let stream = match &door {
                Some(door) => door.admit(stream).await?,
                None => stream,
            };
            tls::listen::accept(stream, tls.as_ref()).await
        }
    };
    serving::serve(listener, BOUNDS, admit, router, closing, tracker).await;
}
