//! The beginning of a connection to a server that speaks TLS.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http1::write_error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::connection;
use crate::metrics::Life;
use crate::server::Server;
use crate::stream::{self, Stream};

/// How long a client that was told so may take to go.
const LINGER: Duration = Duration::from_secs(1);

/// The task of one connection: a handshake, which has [`tls::HANDSHAKE`], then requests.
pub(crate) async fn serve(server: Rc<Server>, tcp: TcpStream, peer: SocketAddr) {
    let open = Open::new(&server);
    // Boxed: an idle connection does not carry its weight.
    let shaken = Box::pin(shake(&server, tcp)).await;
    match shaken {
        Ok(stream) => {
            // Counts itself, from here on.
            drop(open);
            connection::serve(server, stream, peer).await;
        }
        Err(error) => {
            tracing::debug!(server = %server.settings.address, %peer, %error, "no TLS connection");
            server.connections.opened();
            server.connections.closed(&Life::default(), 0);
        }
    }
}

async fn shake(server: &Server, tcp: TcpStream) -> io::Result<Stream> {
    let Some(secured) = &server.secured else { return Ok(Stream::Plain(tcp)) };
    match tokio::time::timeout(tls::HANDSHAKE, first(&tcp)).await {
        Ok(first) if first.as_ref().is_ok_and(u8::is_ascii_uppercase) => {
            refuse(tcp).await;
            Err(io::Error::new(io::ErrorKind::InvalidData, "the client speaks plain HTTP"))
        }
        Ok(first) => {
            first?;
            stream::accept(tcp, &secured.live, &secured.metrics).await
        }
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came for ten seconds")),
    }
}

/// A connection that has no requests yet, and that a drain waits for.
struct Open(Rc<Server>);

impl Open {
    fn new(server: &Rc<Server>) -> Open {
        let worker = &server.router.worker;
        worker.open.set(worker.open.get() + 1);
        Open(server.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let worker = &self.0.router.worker;
        worker.open.set(worker.open.get() - 1);
    }
}

/// The first byte, left where it is.
async fn first(tcp: &TcpStream) -> io::Result<u8> {
    let mut byte = [0];
    match tcp.peek(&mut byte).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(byte[0]),
    }
}

/// Somebody used `http://` where `https://` was meant.
async fn refuse(mut tcp: TcpStream) {
    let mut answer = Vec::new();
    write_error(&mut answer, 400, b"content-type: text/plain\r\nconnection: close\r\n", tls::listen::PLAIN.as_bytes());
    let told = async {
        tcp.write_all(&answer).await?;
        tcp.shutdown().await?;
        // So that the answer is not lost to a reset.
        while tcp.read(&mut [0; 1024]).await? > 0 {}
        io::Result::Ok(())
    };
    // Whether it read it or not: the connection closes now.
    let _ = tokio::time::timeout(LINGER, told).await;
}
