//! Writing heads: one output buffer, filled by copying runs of lines that stay as they are.

use crate::framing::{BodyKind, Delivery, Version};
use crate::known::{Known, KnownSet};
use crate::request::RequestHead;
use crate::response::ResponseHead;
use crate::target::TargetForm;

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The last chunk, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

const LENGTH: KnownSet = KnownSet::of(&[Known::ContentLength]);
const ENCODING: KnownSet = KnownSet::of(&[Known::TransferEncoding]);
const HOST: KnownSet = KnownSet::of(&[Known::Host]);
const UPGRADE: KnownSet = KnownSet::of(&[Known::Upgrade]);

/// How a request head goes on.
#[derive(Clone, Copy, Debug)]
pub struct RequestOut<'a> {
    /// The target instead of [`RequestHead::path`].
    pub target: Option<&'a [u8]>,
    /// The Host instead of the request's own.
    pub host: Option<&'a [u8]>,
    /// Names to leave out. Framing fields are the codec's affair and need not be listed.
    pub remove: KnownSet,
    /// Whole lines, each with its CRLF, after the copied ones; see [`write_line`].
    pub extra: &'a [u8],
    /// Ask the server to switch protocols, if the client did.
    pub upgrade: bool,
}

impl Default for RequestOut<'_> {
    fn default() -> Self {
        let remove = KnownSet::HOP_BY_HOP;
        RequestOut { target: None, host: None, remove, extra: b"", upgrade: false }
    }
}

/// How a response head goes on.
#[derive(Clone, Copy, Debug)]
pub struct ResponseOut<'a> {
    /// Names to leave out. Framing fields are the codec's affair and need not be listed.
    pub remove: KnownSet,
    /// Whole lines, each with its CRLF, after the copied ones; see [`write_line`].
    pub extra: &'a [u8],
    /// The version of the request that this answers.
    pub client: Version,
    /// Whether the client's connection stays open. With [`Delivery::UntilClose`] it does not.
    pub keep_alive: bool,
}

impl Default for ResponseOut<'_> {
    fn default() -> Self {
        let (remove, client) = (KnownSet::HOP_BY_HOP, Version::Http11);
        ResponseOut { remove, extra: b"", client, keep_alive: true }
    }
}

impl RequestHead {
    /// Appends this head as it goes to the server: origin-form, one Host, hop-by-hop fields and
    /// nominated lines gone, framing as it came.
    pub fn write(&self, buffer: &[u8], edit: &RequestOut<'_>, out: &mut Vec<u8>) {
        out.reserve(self.len + edit.extra.len() + 64);
        let mut remove = edit.remove.without(LENGTH).without(ENCODING);
        let absolute = self.form == TargetForm::Absolute;
        let same_line = edit.target.is_none() && !absolute;
        let host = match edit.host {
            None if absolute || self.form == TargetForm::Authority => Some(self.host(buffer)),
            // An HTTP/1.1 request is never sent on without Host, which its caller let pass.
            None if self.lacks_host() => Some(&b""[..]),
            host => host,
        };
        let upgrade = edit.upgrade && self.wants_upgrade;
        if host.is_some() {
            remove = remove.with(HOST);
        }
        if upgrade {
            remove = remove.without(UPGRADE);
        }
        if self.odd_length {
            remove = remove.with(LENGTH);
        }
        if !same_line {
            self.write_request_line(buffer, edit.target, out);
        } else if host.is_some() {
            out.extend_from_slice(self.line.of(buffer));
        }
        if let Some(host) = host {
            write_line(out, b"host", host);
        }
        let from = (same_line && host.is_none()).then_some(self.line.start as usize);
        self.fields.copy(buffer, from, remove, out);
        if let (true, BodyKind::Length(length)) = (self.odd_length, self.body) {
            write_length(out, length);
        }
        if upgrade {
            out.extend_from_slice(b"connection: upgrade\r\n");
        }
        out.extend_from_slice(edit.extra);
        out.extend_from_slice(b"\r\n");
    }

    fn write_request_line(&self, buffer: &[u8], target: Option<&[u8]>, out: &mut Vec<u8>) {
        out.extend_from_slice(self.method_name(buffer));
        out.push(b' ');
        let target = target.unwrap_or(self.path(buffer));
        if matches!(target, [] | [b'?', ..]) {
            out.push(b'/');
        }
        out.extend_from_slice(target);
        out.extend_from_slice(match self.version {
            Version::Http10 => b" HTTP/1.0\r\n",
            Version::Http11 => b" HTTP/1.1\r\n",
        });
    }
}

impl ResponseHead {
    /// Appends this head as it goes to the client: HTTP/1.1, framing by
    /// [`ResponseHead::delivery`], the Connection field of the client's side. For interim answers
    /// too.
    pub fn write(&self, buffer: &[u8], edit: &ResponseOut<'_>, out: &mut Vec<u8>) {
        out.reserve(self.len + edit.extra.len() + 64);
        let delivery = self.delivery(edit.client);
        let mut remove = edit.remove.without(LENGTH).without(ENCODING);
        // With HEAD and 304 an odd length describes a body that nobody sends: it stays.
        // A body that ends with the connection has no length: if it had one, the body was changed.
        if self.drop_length || self.body == BodyKind::UntilClose || (self.odd_length && self.body != BodyKind::None) {
            remove = remove.with(LENGTH);
        }
        if self.body != BodyKind::Chunked || delivery != Delivery::Same {
            remove = remove.with(ENCODING);
        }
        if self.status == 101 {
            remove = remove.without(UPGRADE);
        }
        let same_line = self.version == Version::Http11 && !self.reason.is_empty();
        if !same_line {
            write_status_line(out, self.status, self.reason(buffer));
        }
        let from = same_line.then_some(0);
        self.fields.copy(buffer, from, remove, out);
        if let (true, BodyKind::Length(length)) = (self.odd_length, self.body) {
            write_length(out, length);
        }
        if delivery == Delivery::Chunk {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        let keep_alive = edit.keep_alive && delivery != Delivery::UntilClose;
        out.extend_from_slice(match (self.status, keep_alive, edit.client) {
            (101, _, _) => b"connection: upgrade\r\n",
            (..200, _, _) => b"",
            _ if self.is_tunnel => b"",
            (_, false, _) => b"connection: close\r\n",
            (_, true, Version::Http10) => b"connection: keep-alive\r\n",
            (_, true, Version::Http11) => b"",
        });
        out.extend_from_slice(edit.extra);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends `name: value`.
pub fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    write_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

fn write_decimal(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn write_status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// Appends the size line of a chunk of `length` bytes, which must not be 0: that would end the body.
pub fn chunk_start(out: &mut Vec<u8>, length: usize) {
    let mut digits = [0u8; 16];
    let (mut at, mut value) = (digits.len(), length);
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[value & 15];
        value >>= 4;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Appends what follows the data of a chunk.
pub fn chunk_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Appends a whole chunk; nothing for empty data.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        chunk_start(out, data.len());
        out.extend_from_slice(data);
        chunk_end(out);
    }
}

/// Appends an answer of our own, in HTTP/1.1, with Content-Length; `extra` holds whole lines.
/// To a HEAD request send what comes before the body (the answer's length minus `body.len()`).
pub fn write_error(out: &mut Vec<u8>, status: u16, extra: &[u8], body: &[u8]) {
    write_status_line(out, status, reason(status).as_bytes());
    write_length(out, body.len() as u64);
    out.extend_from_slice(extra);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}

/// Appends Linkerd 1's answer to a head that cannot be read: HTTP/1.0, no body, then close.
pub fn write_refusal(out: &mut Vec<u8>, status: u16) {
    out.extend_from_slice(b"HTTP/1.0 ");
    write_decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
}

/// The reason phrase of a status that we may answer ourselves.
#[must_use]
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "Request-URI Too Long",
        417 => "Expectation Failed",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}
