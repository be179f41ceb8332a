//! Response heads.
//!
//! What a response means depends on the request: [`Exchange`] carries that. After a complete
//! response, bytes left in the buffer, or bytes that come while the connection is idle, belong to
//! no request: close the connection, never read them as an answer.

use crate::error::HeadError;
use crate::field::{Fields, Span};
use crate::framing::{self, BodyKind, Delivery, Version};
use crate::known::Known;
use crate::limits::Limits;
use crate::request::{Method, Progress, RequestHead, Window};
use crate::scan;

/// What a response must be read against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    /// The method that was sent.
    pub method: Method,
    /// Whether the request went out with Upgrade, so that 101 may be the answer.
    pub upgrade: bool,
}

impl Exchange {
    /// For a request that goes out as `head`, with its wish to upgrade or without.
    #[must_use]
    pub fn of(head: &RequestHead, upgrade: bool) -> Exchange {
        Exchange { method: head.method, upgrade: upgrade && head.wants_upgrade }
    }
}

/// A response head. Reuse one per connection.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The status, 100 to 999.
    pub status: u16,
    /// The version it came in.
    pub version: Version,
    /// The header lines.
    pub fields: Fields,
    /// The framing of the body.
    pub body: BodyKind,
    /// Whether the server's connection may carry another request after this body.
    pub keep_alive: bool,
    /// The connection is a tunnel from here on: 101, or 2xx to CONNECT.
    pub is_tunnel: bool,
    /// Bytes of the buffer that the head takes.
    pub len: usize,
    pub(crate) reason: Span,
    pub(crate) odd_length: bool,
    pub(crate) drop_length: bool,
}

impl ResponseHead {
    /// A 1xx that is not the answer: drop it or pass it on (never to an HTTP/1.0 client), then
    /// parse again behind it. Bound how many are taken.
    #[inline]
    #[must_use]
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// The reason phrase; may be empty.
    #[must_use]
    pub fn reason<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        self.reason.of(buffer)
    }

    /// Whether a known name is present.
    #[inline]
    #[must_use]
    pub fn has(&self, name: Known) -> bool {
        self.fields.present().has(name)
    }

    /// The first value of a known name.
    #[must_use]
    pub fn first<'b>(&self, buffer: &'b [u8], name: Known) -> Option<&'b [u8]> {
        self.fields.first(buffer, name)
    }

    /// How the body goes to a client of this version. [`Delivery::UntilClose`] means that the
    /// client's connection closes after it.
    #[inline]
    #[must_use]
    pub fn delivery(&self, client: Version) -> Delivery {
        match (self.body, client) {
            (BodyKind::None | BodyKind::Length(_), _) => Delivery::Same,
            (BodyKind::Chunked, Version::Http11) => Delivery::Same,
            (BodyKind::UntilClose, Version::Http11) => Delivery::Chunk,
            (_, Version::Http10) => Delivery::UntilClose,
        }
    }
}

/// Parses the head at the start of `buffer`, with the same independence of splits as
/// [`parse_request`](crate::parse_request).
///
/// # Errors
/// Any error means 502 for the client, and the end of the server's connection.
pub fn parse_response(
    buffer: &[u8],
    limits: &Limits,
    exchange: Exchange,
    head: &mut ResponseHead,
) -> Result<Progress, HeadError> {
    head.fields.clear();
    // Empty lines before a response are bytes of nobody.
    if matches!(buffer.first(), Some(b'\r' | b'\n')) {
        return Err(HeadError::Line);
    }
    let window = Window::of(buffer, 0, limits);
    let Some(line) = scan::status_line(window.bytes)? else {
        return window.partial();
    };
    match scan::lines(window.bytes, line.next, &mut head.fields)? {
        Some(end) => fill(buffer, &line, end, exchange, head)?,
        None => return window.partial(),
    }
    Ok(Progress::Complete)
}

/// What the head means; `end` is where its empty line starts.
fn fill(
    buffer: &[u8],
    line: &scan::StatusLine,
    end: usize,
    exchange: Exchange,
    head: &mut ResponseHead,
) -> Result<(), HeadError> {
    let status = line.status;
    let found = framing::collect(buffer, end, &mut head.fields)?;
    head.status = status;
    head.version = line.version;
    head.reason = line.reason;
    head.len = end + 2;
    head.odd_length = found.odd_length;
    head.drop_length = found.chunked || status < 200 || status == 204;
    let http10 = head.version == Version::Http10;
    if found.chunked && http10 {
        return Err(HeadError::TransferEncoding);
    }
    if status == 101 && !(exchange.upgrade && head.has(Known::Upgrade)) {
        return Err(HeadError::Switch);
    }
    head.is_tunnel = status == 101 || (exchange.method == Method::Connect && (200..300).contains(&status));
    let bodiless = head.is_tunnel || exchange.method == Method::Head || status < 200 || matches!(status, 204 | 304);
    head.body = match (found.chunked, found.length) {
        _ if bodiless => BodyKind::None,
        (true, _) => BodyKind::Chunked,
        (false, Some(length)) => BodyKind::Length(length),
        (false, None) => BodyKind::UntilClose,
    };
    // Fields that promise a body where none may be are a reason to trust nothing that follows.
    let doubtful = (found.chunked && found.length.is_some())
        || ((status < 200 || status == 204) && (found.chunked || found.length.is_some_and(|n| n > 0)));
    head.keep_alive = !found.close
        && !doubtful
        && !head.is_tunnel
        && head.body != BodyKind::UntilClose
        && (!http10 || found.keep_alive);
    Ok(())
}
