//! Scribe: framed Thrift, in each entry a span in Thrift's binary form, in Base64. What Linkerd 1.7 sends, and
//! what Zipkin's collectors with `COLLECTOR_SCRIBE` take.
//!
//! ```text
//!  frame length │ call "Log" │ 1: list of { 1: "zipkin", 2: Base64(span) } │ stop
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Config, LIMIT, micros};
use crate::export::delivery::{Again, Protocol, Undelivered, short};
use crate::spans::{Fact, Side, Span};

const CALL: u32 = 0x8001_0001;
const REPLY: u32 = 0x8001_0002;
const CATEGORY: &str = "zipkin";
/// No answer is longer.
const ANSWER: usize = 64 * 1024;
const TRY_LATER: i32 = 1;
/// `AnnotationType`
const DOUBLE: i32 = 5;
const I64: i32 = 4;
const TEXT: i32 = 6;

pub(in crate::export) struct Scribe {
    authority: String,
    connection: Option<TcpStream>,
}

impl Scribe {
    pub(in crate::export) fn new(config: &Config) -> Scribe {
        Scribe { authority: config.authority(), connection: None }
    }

    async fn exchange(&mut self, frame: &[u8]) -> io::Result<Vec<u8>> {
        // Taken out, so that one that failed, or was given up on, is not used again.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => TcpStream::connect(&self.authority).await?,
        };
        connection.write_all(frame).await?;
        let length = connection.read_u32().await? as usize;
        if length > ANSWER {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("an answer of {length} bytes")));
        }
        let mut answer = vec![0; length];
        connection.read_exact(&mut answer).await?;
        self.connection = Some(connection);
        Ok(answer)
    }
}

impl Protocol for Scribe {
    fn encode(&self, spans: &[&Span]) -> Bytes {
        let mut call = Thrift(vec![0; 4]);
        call.u32(CALL);
        call.text("Log");
        call.i32(0);
        call.list(1, spans.len());
        for span in spans {
            let mut binary = Thrift(Vec::new());
            binary.span(span);
            call.field_text(1, CATEGORY);
            call.field_text(2, &STANDARD.encode(binary.0));
            call.stop();
        }
        call.stop();
        let length = (call.0.len() - 4) as u32;
        call.0[..4].copy_from_slice(&length.to_be_bytes());
        call.0.into()
    }

    async fn send(&mut self, frame: Bytes) -> Result<u64, Undelivered> {
        let kept = self.connection.is_some();
        let answer = match self.exchange(&frame).await {
            // A kept connection may have been closed while nobody used it.
            Err(_) if kept => self.exchange(&frame).await,
            answer => answer,
        };
        let answer = answer.map_err(Undelivered::later)?;
        match result(&answer) {
            Ok(0) => Ok(0),
            Ok(TRY_LATER) => Err(Undelivered::later("the collector said TRY_LATER")),
            Ok(other) => Err(Undelivered { text: format!("the collector said {other}"), again: Again::Never }),
            Err(text) => {
                self.connection = None;
                Err(Undelivered { text, again: Again::Later })
            }
        }
    }

    fn limit(&self) -> Duration {
        LIMIT
    }
}

/// The code in an answer.
fn result(answer: &[u8]) -> Result<i32, String> {
    let nonsense = || "the collector's answer is no Thrift".to_owned();
    let word = |at: usize| Some(u32::from_be_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let kind = word(0).ok_or_else(nonsense)?;
    let name = word(4).ok_or_else(nonsense)? as usize;
    let fields = answer.get(12_usize.saturating_add(name)..).ok_or_else(nonsense)?;
    match (kind, fields) {
        (REPLY, [8, 0, 0, a, b, c, d, ..]) => Ok(i32::from_be_bytes([*a, *b, *c, *d])),
        (REPLY, _) => Err(nonsense()),
        (0x8001_0003, fields) => Err(format!("the collector failed: {}", short(&String::from_utf8_lossy(fields)))),
        _ => Err(nonsense()),
    }
}

/// Thrift's binary protocol, as far as a span needs it.
struct Thrift(Vec<u8>);

impl Thrift {
    fn u32(&mut self, word: u32) {
        self.0.extend_from_slice(&word.to_be_bytes());
    }

    fn i32(&mut self, word: i32) {
        self.0.extend_from_slice(&word.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn field(&mut self, kind: u8, id: i16) {
        self.0.push(kind);
        self.0.extend_from_slice(&id.to_be_bytes());
    }

    fn field_i64(&mut self, id: i16, value: u64) {
        self.field(10, id);
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    fn field_i32(&mut self, id: i16, value: i32) {
        self.field(8, id);
        self.i32(value);
    }

    fn field_text(&mut self, id: i16, text: &str) {
        self.field_bytes(id, text.as_bytes());
    }

    fn field_bytes(&mut self, id: i16, bytes: &[u8]) {
        self.field(11, id);
        self.bytes(bytes);
    }

    /// Of structs.
    fn list(&mut self, id: i16, length: usize) {
        self.field(15, id);
        self.0.push(12);
        self.u32(length as u32);
    }

    fn stop(&mut self) {
        self.0.push(0);
    }

    fn span(&mut self, span: &Span) {
        let (from, to) = match span.side {
            Side::Server => ("sr", "ss"),
            Side::Client => ("cs", "cr"),
        };
        let end = span.start.saturating_add(span.nanos);
        let events = span.events.iter().map(|event| (event.at, event.name.as_str()));
        let annotations = [(span.start, from), (end, to)].into_iter().chain(events).collect::<Vec<_>>();
        self.field_i64(1, span.trace);
        self.field_text(3, &span.name);
        self.field_i64(4, span.id);
        if let Some(parent) = span.parent {
            self.field_i64(5, parent);
        }
        self.list(6, annotations.len());
        for (at, value) in annotations {
            self.field_i64(1, micros(at));
            self.field_text(2, value);
            self.endpoint(3, &span.service, span.local);
            self.stop();
        }
        let error = span.error.as_deref().map(|error| ("error", Fact::text(error)));
        let remote = span.remote.is_some() as usize;
        self.list(8, span.facts.len() + error.iter().len() + remote);
        for (key, fact) in span.facts.iter().chain(&error) {
            self.fact(key, fact, span);
        }
        if let Some(remote) = span.remote {
            // Zipkin knows the other side by a flag with its address.
            self.field_text(1, if span.side == Side::Server { "ca" } else { "sa" });
            self.field_bytes(2, &[1]);
            self.field_i32(3, 0);
            self.endpoint(4, "", Some(remote));
            self.stop();
        }
        if span.is_debug {
            self.field(2, 9);
            self.0.push(1);
        }
        self.field_i64(10, micros(span.start));
        self.field_i64(11, micros(span.nanos).max(1));
        if span.trace_high != 0 {
            self.field_i64(12, span.trace_high);
        }
        self.stop();
    }

    fn fact(&mut self, key: &str, fact: &Fact, span: &Span) {
        self.field_text(1, key);
        let kind = match fact {
            Fact::Text(text) => {
                self.field_text(2, text);
                TEXT
            }
            Fact::Shared(text) => {
                self.field_text(2, text);
                TEXT
            }
            Fact::Number(number) => {
                self.field_bytes(2, &number.to_be_bytes());
                I64
            }
            Fact::Real(number) => {
                self.field_bytes(2, &number.to_be_bytes());
                DOUBLE
            }
        };
        self.field_i32(3, kind);
        self.endpoint(4, &span.service, span.local);
        self.stop();
    }

    fn endpoint(&mut self, id: i16, service: &str, address: Option<SocketAddr>) {
        self.field(12, id);
        let ip = address.map(|address| address.ip().to_canonical());
        let v4 = match ip {
            Some(IpAddr::V4(ip)) => i32::from_be_bytes(ip.octets()),
            _ => 0,
        };
        self.field_i32(1, v4);
        self.field(6, 2);
        self.0.extend_from_slice(&address.map_or(0, |address| address.port()).to_be_bytes());
        self.field_text(3, service);
        if let Some(IpAddr::V6(ip)) = ip {
            self.field_bytes(4, &ip.octets());
        }
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_nonsense_is_none() {
        let answer = |kind: u32, fields: &[u8]| {
            let mut thrift = Thrift(Vec::new());
            thrift.u32(kind);
            thrift.text("Log");
            thrift.i32(0);
            thrift.0.extend_from_slice(fields);
            thrift.0
        };
        assert_eq!(result(&answer(REPLY, &[8, 0, 0, 0, 0, 0, 0, 0])), Ok(0));
        assert_eq!(result(&answer(REPLY, &[8, 0, 0, 0, 0, 0, 1, 0])), Ok(TRY_LATER));
        assert!(result(&answer(0x8001_0003, b"oh no")).is_err_and(|text| text.ends_with("oh no")));
        let huge = [&REPLY.to_be_bytes()[..], &[0xff; 4]].concat();
        for nonsense in [&b""[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", &answer(REPLY, &[0]), &answer(CALL, &[]), &huge]
        {
            assert!(result(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
