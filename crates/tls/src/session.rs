//! A TLS connection without its socket: bytes of the one side in, bytes of the other out.
//!
//! ```text
//!  socket ──▶ receive ──▶ plain text        plain text ──▶ seal ──▶ socket
//!                 └─────▶ answers of the protocol itself ──────────▶ socket
//! ```
//! Between calls it holds the keys and, at most, the beginning of a record that has not come whole: an idle
//! connection has no buffers. Callers send what lies in `out` before anything else, in order.

use std::io;

use rustls::client::ClientConnectionData;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use crate::{client, explain, server};

/// The longest record, and a handshake message over several records, which rustls bounds by 64 KiB.
const MOST_REST: usize = 96 * 1024;
/// What a record adds to its contents, at most, in what we send.
const RECORD: usize = 64;
const CONTENTS: usize = 16 * 1024;

/// One connection.
pub struct Session {
    side: Side,
    /// What came of a record that is not whole.
    rest: Vec<u8>,
    open: bool,
    peer_closed: bool,
    we_closed: bool,
    failed: bool,
}

enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// What came of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// They were taken; whatever they held was passed on.
    Some,
    /// The other side said that it will send no more (close_notify).
    End,
}

impl Session {
    /// The side that was connected to.
    ///
    /// # Errors
    /// A configuration that cannot be used.
    pub fn server(live: &server::Live) -> io::Result<Session> {
        let connection = UnbufferedServerConnection::new(live.config()).map_err(|error| broken(&error))?;
        Ok(Session::new(Side::Server(Box::new(connection))))
    }

    /// The side that connects. Begins with [`Session::start`].
    ///
    /// # Errors
    /// A configuration that cannot be used.
    pub fn client(live: &client::Live, name: ServerName<'static>) -> io::Result<Session> {
        let connection = UnbufferedClientConnection::new(live.config(), name).map_err(|error| broken(&error))?;
        Ok(Session::new(Side::Client(Box::new(connection))))
    }

    fn new(side: Side) -> Session {
        Session { side, rest: Vec::new(), open: false, peer_closed: false, we_closed: false, failed: false }
    }

    /// Appends the first message, if it is ours to send.
    ///
    /// # Errors
    /// What cannot be sent.
    pub fn start(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.drive(&mut [], &Task::Receive, &mut |_| {}, out).1.map(drop)
    }

    /// Whether the handshake is over.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the other side has ended its half.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.peer_closed
    }

    /// Bytes of a record that waits for its rest; they take as much of the `scratch` of [`Session::receive`].
    #[must_use]
    pub fn part(&self) -> usize {
        self.rest.len()
    }

    /// Calls `read` once, with space in `scratch`, and takes what it gives. Plain text goes to `plain`, in
    /// order; what the protocol has to say to `out`, also with an error.
    ///
    /// # Errors
    /// Those of `read`; `UnexpectedEof` where the other side closed without saying so; `InvalidData`, with a
    /// text for people, for whatever is wrong with what it sent. Nothing can be received after those two.
    pub fn receive(
        &mut self,
        scratch: &mut [u8],
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
        plain: &mut dyn FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> io::Result<Received> {
        if self.peer_closed {
            return Ok(Received::End);
        }
        if self.failed {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the connection has failed before"));
        }
        let kept = self.rest.len();
        if kept >= MOST_REST || kept >= scratch.len() {
            self.failed = true;
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
        }
        let got = read(&mut scratch[kept..])?;
        if got == 0 {
            self.failed = true;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        scratch[..kept].copy_from_slice(&self.rest);
        let bytes = &mut scratch[..kept + got];
        let (used, result) = self.drive(bytes, &Task::Receive, plain, out);
        let rest = &bytes[used..];
        self.rest.clear();
        if rest.is_empty() {
            // An idle connection keeps nothing.
            self.rest = Vec::new();
        } else {
            self.rest.extend_from_slice(rest);
        }
        result?;
        Ok(if self.peer_closed { Received::End } else { Received::Some })
    }

    /// Appends `plain`, encrypted. Only after the handshake.
    ///
    /// # Errors
    /// A connection that is not open, or whose keys are used up.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.send(&Task::Seal(plain), out)
    }

    /// Appends the word that we send no more.
    ///
    /// # Errors
    /// As [`Session::seal`].
    pub fn close(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if self.we_closed {
            return Ok(());
        }
        self.we_closed = true;
        self.send(&Task::Close, out)
    }

    fn send(&mut self, task: &Task<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        if self.failed || !self.open {
            return Err(io::ErrorKind::NotConnected.into());
        }
        // rustls may have looked at a part of what waits here: it must see the same again.
        let mut rest = std::mem::take(&mut self.rest);
        let (used, result) = self.drive(&mut rest, task, &mut |_| {}, out);
        rest.drain(..used);
        self.rest = rest;
        match result? {
            Done::Task => Ok(()),
            Done::Waits => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn drive(
        &mut self,
        bytes: &mut [u8],
        task: &Task<'_>,
        plain: &mut dyn FnMut(&[u8]),
        out: &mut Vec<u8>,
    ) -> (usize, io::Result<Done>) {
        let (used, result) = match &mut self.side {
            Side::Server(connection) => drive(&mut **connection, bytes, task, &mut self.peer_closed, plain, out),
            Side::Client(connection) => drive(&mut **connection, bytes, task, &mut self.peer_closed, plain, out),
        };
        if let Ok(Done::Task) = result {
            self.open = true;
        }
        self.failed |= result.is_err();
        (used, result)
    }

    /// The certificate that the other side proved to have.
    #[must_use]
    pub fn peer(&self) -> Option<&CertificateDer<'static>> {
        let chain = match &self.side {
            Side::Server(connection) => connection.peer_certificates(),
            Side::Client(connection) => connection.peer_certificates(),
        };
        chain?.first()
    }

    /// Which protocol and cipher suite were agreed on: `TLSv1_3 TLS13_AES_256_GCM_SHA384`.
    #[must_use]
    pub fn agreed(&self) -> String {
        let (version, suite) = match &self.side {
            Side::Server(connection) => (connection.protocol_version(), connection.negotiated_cipher_suite()),
            Side::Client(connection) => (connection.protocol_version(), connection.negotiated_cipher_suite()),
        };
        match (version, suite) {
            (Some(version), Some(suite)) => format!("{version:?} {:?}", suite.suite()),
            _ => "nothing yet".to_owned(),
        }
    }
}

/// What a session is driven for.
enum Task<'a> {
    Receive,
    Seal(&'a [u8]),
    Close,
}

/// How far it was driven.
enum Done {
    /// The task is done, and the connection open.
    Task,
    /// Bytes of the other side are needed first.
    Waits,
}

/// Both sides of rustls' unbuffered interface.
trait Process {
    type Data;
    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Process for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(bytes)
    }
}

impl Process for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(bytes)
    }
}

/// Takes all of `bytes` that are whole records, then does the task; says how many bytes were used.
fn drive<P: Process>(
    connection: &mut P,
    bytes: &mut [u8],
    task: &Task<'_>,
    peer_closed: &mut bool,
    plain: &mut dyn FnMut(&[u8]),
    out: &mut Vec<u8>,
) -> (usize, io::Result<Done>) {
    let mut used = 0;
    loop {
        let UnbufferedStatus { discard, state } = connection.process(&mut bytes[used..]);
        let done = match state {
            Ok(state) => advance(state, task, peer_closed, plain, out),
            Err(error) => {
                used += discard;
                // The alert that tells the other side why.
                let last = connection.process(&mut bytes[used..]);
                if let Ok(ConnectionState::EncodeTlsData(mut data)) = last.state {
                    encoded(out, 64, |space| match data.encode(space) {
                        Ok(written) => Ok(written),
                        Err(EncodeError::InsufficientSize(size)) => Err(size.required_size),
                        Err(EncodeError::AlreadyEncoded) => Ok(0),
                    });
                }
                return (used, Err(broken(&error)));
            }
        };
        used += discard;
        match done {
            Ok(None) => {}
            Ok(Some(done)) => return (used, Ok(done)),
            Err(error) => return (used, Err(error)),
        }
    }
}

/// One state of the connection; `None`: there is another.
fn advance<D>(
    state: ConnectionState<'_, '_, D>,
    task: &Task<'_>,
    peer_closed: &mut bool,
    plain: &mut dyn FnMut(&[u8]),
    out: &mut Vec<u8>,
) -> io::Result<Option<Done>> {
    match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                plain(record.map_err(|error| broken(&error))?.payload);
            }
            Ok(None)
        }
        ConnectionState::EncodeTlsData(mut data) => {
            encoded(out, 256, |space| match data.encode(space) {
                Ok(written) => Ok(written),
                Err(EncodeError::InsufficientSize(size)) => Err(size.required_size),
                Err(EncodeError::AlreadyEncoded) => Ok(0),
            });
            Ok(None)
        }
        // It lies in `out`, which goes before anything else.
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(None)
        }
        ConnectionState::PeerClosed => {
            *peer_closed = true;
            Ok(None)
        }
        ConnectionState::BlockedHandshake | ConnectionState::Closed => Ok(Some(Done::Waits)),
        ConnectionState::WriteTraffic(mut traffic) => {
            let mut exhausted = false;
            let mut size = |error| match error {
                EncryptError::InsufficientSize(size) => Err(size.required_size),
                EncryptError::EncryptExhausted => {
                    exhausted = true;
                    Ok(0)
                }
            };
            match task {
                Task::Receive => {}
                Task::Seal(bytes) => {
                    let size_of_all = bytes.len() + (bytes.len() / CONTENTS + 1) * RECORD;
                    encoded(out, size_of_all, |space| traffic.encrypt(bytes, space).or_else(&mut size));
                }
                Task::Close => encoded(out, 64, |space| traffic.queue_close_notify(space).or_else(&mut size)),
            }
            if exhausted {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the keys of the connection are used up"));
            }
            Ok(Some(Done::Task))
        }
        // Early data are never offered, and there is no other state that asks for something.
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "unexpected state of the connection")),
    }
}

/// Appends what `write` writes into the space that it is given, at first `guess` bytes; it says how much it
/// needs, if that is more.
fn encoded(out: &mut Vec<u8>, guess: usize, mut write: impl FnMut(&mut [u8]) -> Result<usize, usize>) {
    let at = out.len();
    out.resize(at + guess, 0);
    let written = match write(&mut out[at..]) {
        Ok(written) => written,
        Err(needed) => {
            out.resize(at + needed, 0);
            write(&mut out[at..]).unwrap_or(0)
        }
    };
    out.truncate(at + written);
}

fn broken(error: &rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, explain(error))
}
