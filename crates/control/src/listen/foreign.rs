//! What comes in on a port that an old document calls `io.l5d.thriftNameInterpreter` or `io.l5d.mesh`, and is
//! not HTTP/1.1: a Linkerd that speaks Mux or HTTP/2. It is refused in its own protocol.
//!
//! ```text
//! Mux:     00 00 00 0e | 7f | 00 00 01 | tinit check        ──▶ Rerr with the same tag and a text
//! HTTP/2:  PRI * HTTP/2.0…                                  ──▶ SETTINGS, GOAWAY(HTTP_1_1_REQUIRED) with a text
//! ```

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::config::Kind;

/// What the other side is told, and the log.
const TEXT: &str = "this control plane speaks HTTP here: its clients are Switchyard's routers; \
                    Linkerd needs interpreter kind io.l5d.namerd.http and the port of io.l5d.httpController";
/// For the first bytes, and for the other side to go.
const WITHIN: Duration = Duration::from_secs(10);
/// Between two lines of the log.
const QUIET_SECONDS: i64 = 60;

/// For a port of this kind; none where only HTTP was ever spoken.
pub(crate) fn door(kind: Kind) -> Option<serving::Door> {
    let door = (kind != Kind::HttpController).then(|| Arc::new(Door { kind, said: AtomicI64::new(0) }))?;
    Some(Arc::new(move |stream| {
        let door = door.clone();
        Box::pin(async move { door.admit(stream).await })
    }))
}

/// Tells foreign connections of one listener from ours.
struct Door {
    kind: Kind,
    /// When the log last said so, in seconds since 1970.
    said: AtomicI64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
    /// The tag of the first message.
    Mux([u8; 3]),
    Unknown,
}

impl Door {
    /// The stream, if it brings HTTP/1.1.
    ///
    /// # Errors
    /// Whatever else it brings, after it was refused.
    async fn admit(&self, stream: TcpStream) -> io::Result<TcpStream> {
        let protocol = tokio::time::timeout(WITHIN, first(&stream)).await.unwrap_or(Ok(Protocol::Unknown))?;
        if protocol == Protocol::Http1 {
            return Ok(stream);
        }
        let now = Timestamp::now().as_second();
        let before = self.said.load(Ordering::Relaxed);
        if now - before >= QUIET_SECONDS {
            self.said.store(now, Ordering::Relaxed);
            let peer = stream.peer_addr().ok();
            tracing::warn!(interface = self.kind.name(), ?peer, "refusing a connection that is not HTTP/1.1: {TEXT}");
        }
        match tokio::time::timeout(WITHIN, refuse(stream, protocol)).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) | Err(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "not HTTP/1.1")),
        }
    }
}

/// By the first eight bytes; nothing is taken from the stream.
async fn first(stream: &TcpStream) -> io::Result<Protocol> {
    let mut bytes = [0; 8];
    let read = stream.peek(&mut bytes).await?;
    Ok(protocol(bytes.get(..read).unwrap_or_default()))
}

fn protocol(bytes: &[u8]) -> Protocol {
    match bytes {
        [b'P', b'R', b'I', b' ', b'*', ..] => Protocol::Http2,
        [first, ..] if first.is_ascii_alphabetic() => Protocol::Http1,
        // Mux: a length below 16 MiB, a type, a tag.
        [0, _, _, _, _, a, b, c] => Protocol::Mux([*a, *b, *c]),
        _ => Protocol::Unknown,
    }
}

async fn refuse(mut stream: TcpStream, protocol: Protocol) -> io::Result<()> {
    stream.write_all(&answer(protocol)).await?;
    stream.shutdown().await?;
    // So that the answer is not lost to a reset.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

fn answer(protocol: Protocol) -> Vec<u8> {
    const RERR: u8 = 0x80;
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const HTTP_1_1_REQUIRED: u8 = 13;
    let text = TEXT.as_bytes();
    let mut bytes = Vec::new();
    match protocol {
        Protocol::Mux(tag) => {
            bytes.extend((text.len() as u32 + 4).to_be_bytes());
            bytes.push(RERR);
            bytes.extend(tag);
            bytes.extend(text);
        }
        Protocol::Http2 => {
            bytes.extend(SETTINGS);
            let length = (text.len() as u32 + 8).to_be_bytes();
            bytes.extend([length[1], length[2], length[3], 7, 0, 0, 0, 0, 0]);
            bytes.extend([0, 0, 0, 0, 0, 0, 0, HTTP_1_1_REQUIRED]);
            bytes.extend(text);
        }
        Protocol::Http1 | Protocol::Unknown => {}
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        let check = |bytes: &[u8], expected| assert_eq!(protocol(bytes), expected, "{bytes:?}");
        check(b"POST /ap", Protocol::Http1);
        check(b"G", Protocol::Http1);
        check(b"PRI * HT", Protocol::Http2);
        check(b"\0\0\0\x0e\x7f\0\0\x01", Protocol::Mux([0, 0, 1]));
        check(b"\x16\x03\x01\0\0\0\0\0", Protocol::Unknown);
        check(b"\0\0", Protocol::Unknown);
        check(b"", Protocol::Unknown);
    }

    #[test]
    fn refusals_are_whole_messages() {
        let mux = answer(Protocol::Mux([0, 0, 1]));
        assert_eq!(mux[..4], (mux.len() as u32 - 4).to_be_bytes());
        assert_eq!((mux[4], &mux[5..8], &mux[8..]), (0x80, &[0, 0, 1][..], TEXT.as_bytes()));
        let http2 = answer(Protocol::Http2);
        let goaway = &http2[9..];
        assert_eq!(usize::from(goaway[1]) << 8 | usize::from(goaway[2]), goaway.len() - 9);
        assert_eq!((goaway[3], goaway[16], &goaway[17..]), (7, 13, TEXT.as_bytes()));
    }
}
