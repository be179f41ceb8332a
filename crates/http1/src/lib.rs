//! HTTP/1.1 framing without IO: bytes in, events out.
//!
//! What it is: parsers for request and response heads ([`parse_request`], [`parse_response`]), the one
//! place that decides how a message is framed ([`framing`]), body decoders that pass bytes on or give the
//! payload ([`Body`]), and writers that build an outgoing head by copying runs of unedited lines
//! ([`RequestHead::write`], [`ResponseHead::write`]).
//! What it is not: sockets, timers, routing, header maps. Nothing here allocates per message: heads
//! are reused, their parts are [`Span`]s of the read buffer.
//!
//! ```
//! use http1::{BodyKind, Known, Limits, Progress, RequestHead, RequestOut, parse_request};
//!
//! let buffer = b"GET http://world/a HTTP/1.1\r\nConnection: x\r\nX: 1\r\nAccept: */*\r\n\r\nrest";
//! let mut head = RequestHead::default();
//! assert_eq!(parse_request(buffer, &Limits::REQUEST, &mut head), Ok(Progress::Complete));
//! assert_eq!(head.host(buffer), b"world");
//! assert_eq!(head.path(buffer), b"/a");
//! assert_eq!(head.body, BodyKind::None);
//! assert!(!head.has(Known::Via));
//!
//! let mut out = Vec::new();
//! head.write(buffer, &RequestOut { extra: b"via: 1.1 me\r\n", ..RequestOut::default() }, &mut out);
//! assert_eq!(out, b"GET /a HTTP/1.1\r\nhost: world\r\nAccept: */*\r\nvia: 1.1 me\r\n\r\n");
//! ```

#![forbid(unsafe_code)]

mod body;
mod chunk;
mod error;
mod field;
pub mod framing;
mod known;
mod limits;
mod request;
mod response;
mod scan;
mod target;
mod write;

pub use body::{Body, Form, Run};
pub use error::{BodyError, HeadError};
pub use field::{Field, Fields, Span};
pub use framing::{BodyKind, Delivery, Version};
pub use known::{Known, KnownSet};
pub use limits::Limits;
pub use request::{Method, Progress, RequestHead, parse_request};
pub use response::{Exchange, ResponseHead, parse_response};
pub use target::{TargetForm, valid_authority};
pub use write::{
    CONTINUE, LAST_CHUNK, RequestOut, ResponseOut, chunk_end, chunk_start, reason, write_chunk, write_error,
    write_line, write_refusal,
};
