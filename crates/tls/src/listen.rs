//! TLS over tokio's sockets, for servers and clients that hold a runtime: admin ports, the control plane and
//! those who talk to it. Plain sockets pass through, so that callers have one type.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::{HANDSHAKE, client, explain, server};

/// A connection, encrypted or not.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What somebody is told who uses `http://` where `https://` is meant.
pub const PLAIN: &str = "This port speaks TLS: use https://\n";

/// Answers a client's handshake, where there is to be one. A client that speaks plain HTTP is told so.
///
/// # Errors
/// A handshake that failed or took too long, with a text for people.
pub async fn accept(stream: TcpStream, tls: Option<&server::Live>) -> io::Result<Stream> {
    let Some(live) = tls else { return Ok(Stream::Plain(stream)) };
    let accepted = async {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
            return refuse(stream).await;
        }
        TlsAcceptor::from(live.config()).accept(stream).await
    };
    let accepted = in_time(accepted).await?;
    Ok(Stream::Tls(Box::new(TlsStream::Server(accepted))))
}

/// Tells a client that speaks plain HTTP what to do instead.
async fn refuse<T>(mut stream: TcpStream) -> io::Result<T> {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{PLAIN}",
        PLAIN.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // So that the answer is not lost to a reset.
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Err(io::Error::new(io::ErrorKind::InvalidData, "the client speaks plain HTTP"))
}

/// Begins a handshake, where there is to be one.
///
/// # Errors
/// As [`accept`].
pub async fn connect(stream: TcpStream, tls: Option<(&client::Live, ServerName<'static>)>) -> io::Result<Stream> {
    let Some((live, name)) = tls else { return Ok(Stream::Plain(stream)) };
    let connected = in_time(TlsConnector::from(live.config()).connect(name, stream)).await?;
    Ok(Stream::Tls(Box::new(TlsStream::Client(connected))))
}

async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(done) => done.map_err(|error| readable(&error)),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took longer than ten seconds")),
    }
}

/// The same error in our words, where it is one of TLS.
#[must_use]
pub fn readable(error: &io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(inner) => io::Error::new(error.kind(), explain(inner)),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

impl Stream {
    /// Who is at the other end, by certificate.
    #[must_use]
    pub fn peer(&self) -> Option<Arc<str>> {
        let Stream::Tls(stream) = self else { return None };
        let certificate = stream.get_ref().1.peer_certificates()?.first()?;
        Some(crate::Certificate::of(certificate)?.subject.into())
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
