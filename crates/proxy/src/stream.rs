//! A connection of the data plane, plain or encrypted, with one set of operations.
//!
//! Plain connections go straight to the socket. Encrypted ones share their thread's two buffers for what is
//! received and what is to be sent, so that an idle one holds its keys and no buffer:
//!
//! ```text
//!  socket ─▶ thread's buffer ─▶ session ─▶ the worker's read buffer ─▶ (what does not fit: `plain`)
//!  socket ◀─ (what the kernel did not take: `pending`) ◀─ thread's buffer ◀─ session ◀─ bytes to write
//! ```
//! **Writes count when the kernel has them.** Bytes that were encrypted and not sent yet are not reported as
//! written: the caller offers the same bytes again, as it does anyway when the kernel is full, and is told
//! then. So back-pressure, "all is written" and "nothing was taken" mean the same on both kinds.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use telemetry::{Counter, Gauge};
use tls::rustls::pki_types::ServerName;
use tls::{Received, Session};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::metrics::Scope;
use crate::tcp;

/// Received at once, at most.
const RECEIVE: usize = 128 * 1024;
/// A record with its header.
const LEAST: usize = 17 * 1024;
/// Encrypted at once, at most: four records.
const SEAL: usize = 64 * 1024;
/// What the protocol itself may want to say while the other side takes nothing.
const MOST_PENDING: usize = 256 * 1024;

pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<Secure>),
}

/// An encrypted connection.
pub(crate) struct Secure {
    tcp: TcpStream,
    session: Session,
    /// Encrypted, and not taken by the kernel; those before `pending_from` are.
    pending: Vec<u8>,
    pending_from: usize,
    /// So many bytes of what the caller offers first are in `pending`.
    accepted: usize,
    /// Decrypted, and not asked for yet.
    plain: Vec<u8>,
    plain_from: usize,
    /// Encrypted bytes that the kernel took, since the beginning, and at the last [`Stream::mark`].
    wire: u64,
    marked: u64,
    /// What is wrong with it, for people.
    fault: Option<String>,
    /// Ends without a word, so that nobody takes what was sent for the whole.
    is_cut: bool,
    /// The line that tells endpoints of the client's certificate.
    certificate: Option<Box<[u8]>>,
    metrics: Option<Rc<Metrics>>,
}

/// Encrypted connections of one server or client.
pub(crate) struct Metrics {
    open: Gauge,
    failed: Counter,
}

/// How a client's connections are encrypted.
pub(crate) struct Secured {
    pub live: tls::client::Live,
    /// What is verified and sent as SNI; `None`: nothing, the address stands for it.
    pub name: Option<Result<ServerName<'static>, tls::Error>>,
    pub metrics: Rc<Metrics>,
}

struct Buffers {
    received: Box<[u8]>,
    sealed: Vec<u8>,
}

thread_local! {
    /// Of the worker: only used between two waits.
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        received: vec![0; RECEIVE].into_boxed_slice(),
        sealed: Vec::with_capacity(SEAL + 1024),
    });
}

impl Metrics {
    pub(crate) fn new(scope: &Scope) -> Rc<Metrics> {
        Rc::new(Metrics {
            open: scope.gauge(&["tls", "connections"]),
            failed: scope.counter(&["exn", "javax.net.ssl.SSLHandshakeException"]),
        })
    }
}

impl Stream {
    /// As [`TcpStream::try_write`].
    #[inline]
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.try_write(bytes),
            Stream::Tls(secure) => secure.try_write(bytes, &[]),
        }
    }

    /// Both, in this order.
    #[inline]
    pub(crate) fn try_write_both(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.try_write_vectored(&[io::IoSlice::new(first), io::IoSlice::new(second)]),
            Stream::Tls(secure) => secure.try_write(first, second),
        }
    }

    /// Reads once; 0 is the end. An encrypted connection that ends without saying so is an error.
    #[inline]
    pub(crate) fn poll_read_into(&mut self, context: &mut Context<'_>, target: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(tcp) => {
                let mut target = ReadBuf::new(target);
                match Pin::new(tcp).poll_read(context, &mut target) {
                    Poll::Ready(Ok(())) => Poll::Ready(Ok(target.filled().len())),
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Pending => Poll::Pending,
                }
            }
            Stream::Tls(secure) => secure.poll_read(context, target),
        }
    }

    /// Whether nothing came and nobody closed, as far as the event loop has seen. What the protocol says
    /// within itself (session tickets, new keys) is taken, and counts as nothing.
    #[inline]
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        match self {
            Stream::Plain(tcp) => tcp.poll_read_ready(&mut context).is_pending(),
            Stream::Tls(secure) => {
                let mut byte = [0];
                secure.plain.is_empty() && secure.poll_read(&mut context, &mut byte).is_pending()
            }
        }
    }

    /// Whether bytes, an end or an error wait to be read: asks the kernel.
    pub(crate) fn has_news(&self) -> bool {
        tcp::has_news(self)
    }

    /// From here on [`Stream::took_nothing`] counts.
    #[inline]
    pub(crate) fn mark(&mut self) {
        if let Stream::Tls(secure) = self {
            secure.marked = secure.wire;
        }
    }

    /// Whether the other side's kernel has surely taken nothing since the mark, before which `sent` plain
    /// bytes were written on it.
    pub(crate) fn took_nothing(&self, sent: u64) -> bool {
        let before = match self {
            Stream::Plain(_) => sent,
            Stream::Tls(secure) => secure.marked,
        };
        tcp::acknowledged(self).is_some_and(|bytes| bytes <= before)
    }

    /// It ends without a word: what was sent is not the whole.
    pub(crate) fn cut(&mut self) {
        if let Stream::Tls(secure) = self {
            secure.is_cut = true;
        }
    }

    /// What is wrong with an encrypted connection, if that is why it ended.
    pub(crate) fn fault(&self) -> Option<&str> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(secure) => secure.fault.as_deref(),
        }
    }

    /// The line `x-forwarded-client-cert`, if the client has proved to have a certificate.
    #[inline]
    pub(crate) fn certificate(&self) -> Option<&[u8]> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(secure) => secure.certificate.as_deref(),
        }
    }
}

/// Answers a client's handshake.
pub(crate) async fn accept(tcp: TcpStream, live: &tls::server::Live, metrics: &Rc<Metrics>) -> io::Result<Stream> {
    let mut secure = shake(Secure::new(tcp, Session::server(live)?), metrics).await?;
    secure.certificate = secure.session.peer().map(|certificate| {
        let mut line = Vec::new();
        http1::write_line(&mut line, b"x-forwarded-client-cert", tls::forwarded(certificate).as_bytes());
        line.into()
    });
    Ok(Stream::Tls(secure))
}

/// Begins a handshake with an endpoint.
pub(crate) async fn connect(tcp: TcpStream, address: IpAddr, secured: &Secured) -> io::Result<Stream> {
    let name = match &secured.name {
        None => tls::client::nameless(address),
        Some(Ok(name)) => name.clone(),
        Some(Err(error)) => return Err(io::Error::new(io::ErrorKind::InvalidInput, error.to_string())),
    };
    let mut secure = Secure::new(tcp, Session::client(&secured.live, name)?);
    let mut first = Vec::new();
    secure.session.start(&mut first)?;
    secure.pending = first;
    shake(secure, &secured.metrics).await.map(Stream::Tls)
}

async fn shake(mut secure: Secure, metrics: &Rc<Metrics>) -> io::Result<Box<Secure>> {
    let shaken = std::future::poll_fn(|context| secure.poll_shake(context));
    let result = match tokio::time::timeout(tls::HANDSHAKE, shaken).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake takes longer than ten seconds")),
    };
    if let Err(error) = result {
        metrics.failed.inc();
        return Err(error);
    }
    metrics.open.inc();
    secure.metrics = Some(metrics.clone());
    Ok(Box::new(secure))
}

impl Secure {
    fn new(tcp: TcpStream, session: Session) -> Secure {
        Secure {
            tcp,
            session,
            pending: Vec::new(),
            pending_from: 0,
            accepted: 0,
            plain: Vec::new(),
            plain_from: 0,
            wire: 0,
            marked: 0,
            fault: None,
            is_cut: false,
            certificate: None,
            metrics: None,
        }
    }

    fn poll_shake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_flush(context))?;
            if self.session.is_open() {
                return Poll::Ready(Ok(()));
            }
            match self.receive(&mut []) {
                Ok(_) if self.session.is_ended() => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.tcp.poll_read_ready(context))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Reads once from the socket; says how much of `target` was filled.
    fn receive(&mut self, target: &mut [u8]) -> io::Result<usize> {
        BUFFERS.with_borrow_mut(|Buffers { received, sealed }| {
            sealed.clear();
            let Secure { tcp, session, plain: spill, .. } = self;
            // So much at a time that little spills, and that a record fits.
            let limit = received.len().min(session.part() + target.len().max(LEAST));
            let mut filled = 0;
            let mut keep = |bytes: &[u8]| {
                let fits = bytes.len().min(target.len() - filled);
                target[filled..filled + fits].copy_from_slice(&bytes[..fits]);
                filled += fits;
                spill.extend_from_slice(&bytes[fits..]);
            };
            let result = session.receive(&mut received[..limit], |space| tcp.try_read(space), &mut keep, sealed);
            let said = self.say(sealed);
            match result {
                Ok(Received::Some | Received::End) => said.map(|()| filled),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
                Err(error) => {
                    if error.kind() == io::ErrorKind::InvalidData && self.fault.is_none() {
                        self.fault = Some(error.to_string());
                    }
                    // What came before the fault is good; the fault is told next time.
                    if filled > 0 { Ok(filled) } else { Err(error) }
                }
            }
        })
    }

    fn poll_read(&mut self, context: &mut Context<'_>, target: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let waiting = &self.plain[self.plain_from..];
            if !waiting.is_empty() {
                let read = waiting.len().min(target.len());
                target[..read].copy_from_slice(&waiting[..read]);
                self.plain_from += read;
                if self.plain_from == self.plain.len() {
                    (self.plain, self.plain_from) = (Vec::new(), 0);
                }
                return Poll::Ready(Ok(read));
            }
            if self.session.is_ended() {
                return Poll::Ready(Ok(0));
            }
            match self.receive(target) {
                Ok(0) => {}
                Ok(read) => return Poll::Ready(Ok(read)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.tcp.poll_read_ready(context))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Sends what the protocol itself has to say, as far as the kernel takes it.
    fn say(&mut self, sealed: &[u8]) -> io::Result<()> {
        if sealed.is_empty() {
            return Ok(());
        }
        let mut rest = sealed;
        while self.pending.is_empty() && !rest.is_empty() {
            match self.tcp.try_write(rest) {
                Ok(written) => {
                    self.wire += written as u64;
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.pending.extend_from_slice(rest);
        if self.pending.len() > MOST_PENDING {
            return Err(io::Error::other("the other side asks much and takes nothing"));
        }
        Ok(())
    }

    fn try_write(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        match self.write(None, first, second) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Without a context it only tries.
    fn write(&mut self, mut context: Option<&mut Context<'_>>, first: &[u8], second: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.flush(context.as_deref_mut()))?;
        if self.accepted > 0 {
            let written = std::mem::take(&mut self.accepted);
            debug_assert!(written <= first.len() + second.len(), "other bytes than before are offered");
            return Poll::Ready(Ok(written));
        }
        let first = &first[..first.len().min(SEAL)];
        let second = &second[..second.len().min(SEAL - first.len())];
        BUFFERS.with_borrow_mut(|Buffers { sealed, .. }| {
            sealed.clear();
            for part in [first, second].into_iter().filter(|part| !part.is_empty()) {
                self.session.seal(part, sealed)?;
            }
            self.say(sealed)
        })?;
        if self.pending.is_empty() {
            return Poll::Ready(Ok(first.len() + second.len()));
        }
        self.accepted = first.len() + second.len();
        ready!(self.flush(context))?;
        Poll::Ready(Ok(std::mem::take(&mut self.accepted)))
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flush(Some(context))
    }

    fn flush(&mut self, mut context: Option<&mut Context<'_>>) -> Poll<io::Result<()>> {
        while self.pending_from < self.pending.len() {
            match self.tcp.try_write(&self.pending[self.pending_from..]) {
                Ok(written) => {
                    self.wire += written as u64;
                    self.pending_from += written;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match &mut context {
                    Some(context) => ready!(self.tcp.poll_write_ready(context))?,
                    None => return Poll::Pending,
                },
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if !self.pending.is_empty() {
            (self.pending, self.pending_from) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(context))?;
        let mut last = Vec::new();
        self.session.close(&mut last)?;
        self.say(&last)?;
        ready!(self.poll_flush(context))?;
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        if let Some(metrics) = &self.metrics {
            metrics.open.dec();
        }
        if !self.is_cut && self.pending.is_empty() {
            let mut last = Vec::new();
            if self.session.close(&mut last).is_ok() {
                // Whether the kernel takes it or not: the connection closes now.
                let _ = self.tcp.try_write(&last);
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Plain(tcp) => tcp.as_fd(),
            Stream::Tls(secure) => secure.tcp.as_fd(),
        }
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Stream::Tls(secure) => {
                let read = ready!(secure.poll_read(context, buffer.initialize_unfilled()))?;
                buffer.advance(read);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Stream::Tls(secure) => secure.write(Some(context), bytes, &[]),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Stream::Tls(secure) => secure.poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Stream::Tls(secure) => secure.poll_shutdown(context),
        }
    }
}
