//! Why a message is refused, and the status that says so.

use thiserror::Error;

/// A head that must not be forwarded. The connection is closed after the answer: where the next
/// message would start is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// Request or status line longer than [`crate::Limits::line`].
    #[error("initial line too long")]
    LineTooLong,
    /// Header lines longer than [`crate::Limits::headers`], or more than [`crate::Limits::COUNT`].
    #[error("header fields too large")]
    HeadersTooLarge,
    /// Not a request line or status line at all; also HTTP/0.9.
    #[error("malformed initial line")]
    Line,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    #[error("unsupported HTTP version")]
    Version,
    /// The HTTP/2 connection preface, where HTTP/1 was expected.
    #[error("HTTP/2 connection preface")]
    Http2Preface,
    /// A line ended by a bare LF, or a CR that does not end a line.
    #[error("bare CR or LF")]
    BareLineEnd,
    /// A field name that is no token: empty, blank before the colon, no colon, obs-fold.
    #[error("malformed header name")]
    Name,
    /// A control character in a field value.
    #[error("malformed header value")]
    Value,
    /// Non-ASCII, blank, fragment or bad percent escape in the target, or a form that the method
    /// does not allow.
    #[error("malformed request target")]
    Target,
    /// An authority (absolute-form, CONNECT) with userinfo, no host or characters outside RFC 3986.
    #[error("malformed authority in the request target")]
    Authority,
    /// More than one Host line, or a value that is no `uri-host [":" port]`.
    #[error("invalid Host")]
    Host,
    /// Content-Length that is not one line of digits below 2^63.
    #[error("invalid Content-Length")]
    ContentLength,
    /// Content-Length beside Transfer-Encoding.
    #[error("Content-Length and Transfer-Encoding together")]
    LengthAndEncoding,
    /// Transfer-Encoding that is repeated, in HTTP/1.0, or does not parse.
    #[error("invalid Transfer-Encoding")]
    TransferEncoding,
    /// A transfer coding other than chunked.
    #[error("unsupported transfer coding")]
    Coding,
    /// More connection options than any honest message has.
    #[error("too many Connection options")]
    Connection,
    /// 101 that nobody asked for, or without an Upgrade field.
    #[error("unexpected protocol switch")]
    Switch,
}

impl HeadError {
    /// The status that a refused request is answered with. (A refused response is always a 502.)
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            HeadError::LineTooLong => 414,
            HeadError::HeadersTooLarge => 431,
            HeadError::Coding => 501,
            HeadError::Version | HeadError::Http2Preface => 505,
            _ => 400,
        }
    }
}

/// A body that must not be passed on any further. Both connections are to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BodyError {
    /// Chunk size without digits, of more than 16 digits, or of 2^63 bytes and more.
    #[error("malformed chunk size")]
    ChunkSize,
    /// Chunk extension with a control character, or a chunk line over 4 KiB.
    #[error("malformed chunk extension")]
    ChunkExtension,
    /// CRLF missing after a chunk's size or data.
    #[error("chunk not ended by CRLF")]
    ChunkEnd,
    /// A trailer line that is no field, or trailers over 8 KiB.
    #[error("malformed trailer")]
    Trailer,
    /// The peer closed before the body was complete.
    #[error("body cut short")]
    Truncated,
}
