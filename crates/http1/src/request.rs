//! Request heads.
//!
//! A [`RequestHead`] is reused from message to message; all its parts are offsets into the buffer
//! given to [`parse_request`], and every accessor takes that buffer again.

use crate::error::HeadError;
use crate::field::{Fields, Span};
use crate::framing::{self, BodyKind, Version, trim};
use crate::known::Known;
use crate::limits::Limits;
use crate::scan;
use crate::target::{Target, TargetForm};

/// Empty lines before a request that are skipped (RFC 9112 §2.2 asks for at least one).
const MAX_LEADING_LINES: usize = 8;

/// The first line of an HTTP/2 connection (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// The method, as far as framing and retries depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    Other,
}

impl Method {
    /// Methods are case-sensitive (RFC 9110 §9.1).
    #[inline]
    #[must_use]
    pub fn of(name: &[u8]) -> Method {
        match name {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"CONNECT" => Method::Connect,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            _ => Method::Other,
        }
    }

    /// GET, HEAD, OPTIONS, TRACE (RFC 9110 §9.2.1).
    #[must_use]
    pub fn is_safe(self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Options | Method::Trace)
    }

    /// The safe ones, PUT and DELETE (RFC 9110 §9.2.2).
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Method::Put | Method::Delete)
    }
}

/// Whether a head was there in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The head is filled; its `len` bytes are used up.
    Complete,
    /// Well-formed so far: read more, parse again from the same start.
    Partial,
}

/// A request head. Reuse one per connection.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The version; a request is sent on in the version it came in.
    pub version: Version,
    /// The form of the target.
    pub form: TargetForm,
    /// The header lines.
    pub fields: Fields,
    /// The framing of the body.
    pub body: BodyKind,
    /// Whether the client's connection may carry another request.
    pub keep_alive: bool,
    /// Whether the client waits for an interim 100 (never in HTTP/1.0). The line itself is dropped.
    pub expect_continue: bool,
    /// Whether the client asks to switch protocols: HTTP/1.1, no body, one Upgrade line without
    /// h2c, listed in Connection.
    pub wants_upgrade: bool,
    /// Bytes of the buffer that the head takes, empty lines before it included.
    pub len: usize,
    pub(crate) line: Span,
    pub(crate) method_name: Span,
    pub(crate) target: Span,
    pub(crate) path: Span,
    pub(crate) host: Span,
    pub(crate) has_host: bool,
    pub(crate) odd_length: bool,
}

impl RequestHead {
    /// The method as it was sent.
    #[inline]
    #[must_use]
    pub fn method_name<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        self.method_name.of(buffer)
    }

    /// The whole target as it was sent.
    #[inline]
    #[must_use]
    pub fn target<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        self.target.of(buffer)
    }

    /// The target in origin-form: path and query; `*` for OPTIONS; empty for CONNECT. An absolute
    /// target without a path gives `/` (before a query: the query alone, completed when written).
    #[inline]
    #[must_use]
    pub fn path<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        match self.path.of(buffer) {
            [] if self.form == TargetForm::Absolute => self.empty_path(),
            path => path,
        }
    }

    /// RFC 9112 §3.2.4: OPTIONS without a path means the server itself.
    pub(crate) fn empty_path(&self) -> &'static [u8] {
        if self.method == Method::Options { b"*" } else { b"/" }
    }

    /// The authority that the request is for: of the target if it has one, else of Host. Port
    /// kept, case kept; empty when there is none.
    #[inline]
    #[must_use]
    pub fn host<'b>(&self, buffer: &'b [u8]) -> &'b [u8] {
        self.host.of(buffer)
    }

    /// An HTTP/1.1 request without Host and without an absolute target, which MUST be answered
    /// with 400 (RFC 9112 §3.2). Left to the caller because identifiers have their own texts.
    #[must_use]
    pub fn lacks_host(&self) -> bool {
        self.version == Version::Http11 && !self.has_host && self.host.is_empty()
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
}

/// Parses the head at the start of `buffer`. What it answers does not depend on how the bytes were
/// split over reads: an error is final, and `Partial` never stands for a head over the limits.
///
/// # Errors
/// See [`HeadError`]; [`HeadError::status`] is the answer, after which the connection is closed.
pub fn parse_request(buffer: &[u8], limits: &Limits, head: &mut RequestHead) -> Result<Progress, HeadError> {
    head.fields.clear();
    let Some(start) = skip_empty_lines(buffer)? else {
        return Ok(Progress::Partial);
    };
    let window = Window::of(buffer, start, limits);
    // From the start of the buffer, as all offsets are.
    let bytes = &buffer[..start + window.bytes.len()];
    let line = match scan::request_line(bytes, start) {
        Ok(Some(line)) => line,
        Ok(None) => return window.partial(),
        Err(HeadError::Version) if window.bytes.starts_with(PREFACE) => return Err(HeadError::Http2Preface),
        // It may become one yet; the version alone would be another error.
        Err(HeadError::Version) if PREFACE.starts_with(window.bytes) => return window.partial(),
        // A third word that is no HTTP version: perhaps the target has a blank.
        Err(HeadError::Version) if !names_http(window.bytes) => return Err(HeadError::Line),
        Err(error) => return Err(error),
    };
    match scan::lines(bytes, line.next, &mut head.fields)? {
        Some(end) => fill(buffer, start, &line, end, head)?,
        None => return window.partial(),
    }
    Ok(Progress::Complete)
}

/// The bytes that a legal head may take, so that limits hold however much was read.
pub(crate) struct Window<'b> {
    pub bytes: &'b [u8],
    /// The error if `bytes` holds no whole head.
    full: Option<HeadError>,
}

impl<'b> Window<'b> {
    pub(crate) fn of(buffer: &'b [u8], start: usize, limits: &Limits) -> Window<'b> {
        let rest = &buffer[start..];
        // Whatever fits the smaller bound fits both: no need to look for the end of the line.
        if rest.len() <= limits.line.min(limits.headers) {
            return Window { bytes: rest, full: None };
        }
        let line = &rest[..rest.len().min(limits.line + 2)];
        match memchr::memchr(b'\n', line) {
            None if rest.len() >= limits.line + 2 => Window { bytes: line, full: Some(HeadError::LineTooLong) },
            None => Window { bytes: rest, full: None },
            Some(newline) => {
                let most = newline + 1 + limits.headers + 2;
                let full = (rest.len() >= most).then_some(HeadError::HeadersTooLarge);
                Window { bytes: &rest[..rest.len().min(most)], full }
            }
        }
    }

    pub(crate) fn partial(&self) -> Result<Progress, HeadError> {
        self.full.map_or(Ok(Progress::Partial), Err)
    }
}

/// Whether the third word of the first line begins like `HTTP/`, as far as it has come.
fn names_http(bytes: &[u8]) -> bool {
    let third = bytes.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default();
    third.iter().zip(b"HTTP/").all(|(byte, wanted)| byte == wanted)
}

/// Offset of the first line, or `None` if only empty lines have come.
fn skip_empty_lines(buffer: &[u8]) -> Result<Option<usize>, HeadError> {
    let mut at = 0;
    loop {
        match &buffer[at..] {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => at += 2,
            [b'\r' | b'\n', ..] => return Err(HeadError::BareLineEnd),
            _ => return Ok(Some(at)),
        }
        if at > 2 * MAX_LEADING_LINES {
            return Err(HeadError::Line);
        }
    }
}

/// What the head means; `end` is where its empty line starts.
fn fill(
    buffer: &[u8],
    start: usize,
    line: &scan::RequestLine,
    end: usize,
    head: &mut RequestHead,
) -> Result<(), HeadError> {
    head.method_name = Span::new(start, line.method_end);
    head.method = Method::of(head.method_name.of(buffer));
    head.target = Span::new(line.method_end + 1, line.target_end);
    head.line = Span::new(start, line.next);
    head.version = line.version;
    let parts = Target::parse(head.target.of(buffer), line.method_end + 1, head.method)?;
    let found = framing::collect(buffer, end, &mut head.fields)?;

    head.form = parts.form;
    head.path = parts.path;
    head.has_host = found.host.is_some();
    let of_target = matches!(parts.form, TargetForm::Absolute | TargetForm::Authority);
    head.host = if of_target { parts.authority } else { found.host.unwrap_or_default() };
    head.body = match (found.chunked, found.length) {
        (true, Some(_)) => return Err(HeadError::LengthAndEncoding),
        (true, None) if head.version == Version::Http10 => return Err(HeadError::TransferEncoding),
        (true, None) => BodyKind::Chunked,
        (false, Some(length)) => BodyKind::Length(length),
        (false, None) => BodyKind::None,
    };
    if head.method == Method::Connect && !matches!(head.body, BodyKind::None | BodyKind::Length(0)) {
        return Err(HeadError::ContentLength);
    }
    let http11 = head.version == Version::Http11;
    head.odd_length = found.odd_length;
    head.keep_alive = !found.close && (http11 || found.keep_alive);
    head.expect_continue = found.expect_continue && http11;
    head.wants_upgrade = http11 && found.upgrade_option && head.body == BodyKind::None && offers(buffer, &head.fields);
    head.len = end + 2;
    Ok(())
}

/// One Upgrade line that does not offer h2c, which only the next hop could speak for itself.
fn offers(buffer: &[u8], fields: &Fields) -> bool {
    let mut lines = fields.all(buffer, Known::Upgrade);
    let (Some(value), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let h2c = |offer: &[u8]| trim(offer).eq_ignore_ascii_case(b"h2c");
    !value.is_empty() && !value.split(|byte| *byte == b',').any(h2c)
}
