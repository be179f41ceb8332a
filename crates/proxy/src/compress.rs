//! Compression of answers, `compressionLevel`: gzip or deflate (zlib), for callers that accept it.
//!
//! Off without the key. Each part of a body that comes is passed on at once, so that a streamed answer is not
//! held up; parts are small, and after each one the worker turns to others.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http1::{BodyKind, Fields, Method, RequestHead, ResponseHead, Version};

use crate::settings;

/// So much of a body is compressed before others get their turn.
pub(crate) const PART: usize = 16 * 1024;

/// Types that `-1` compresses: those of finagle's `TextualContentCompressor`, besides `text/*`.
const TEXTUAL: &[&[u8]] = &[
    b"application/json",
    b"application/javascript",
    b"application/x-javascript",
    b"application/xml",
    b"application/xhtml+xml",
    b"application/atom+xml",
    b"application/rss+xml",
    b"image/svg+xml",
];
/// Fields that say something about the bytes as they were: such an answer goes on as it came.
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// What a caller takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    /// The coding that the caller likes best, if it likes one at least as much as none
    /// (RFC 9110 §12.5.3; of two that it likes equally, gzip).
    pub(crate) fn wanted(head: &RequestHead, bytes: &[u8]) -> Option<Coding> {
        if head.method == Method::Head || head.version == Version::Http10 {
            return None;
        }
        let (mut gzip, mut deflate, mut identity, mut any) = (None, None, None, None);
        for value in head.fields.named(bytes, "accept-encoding") {
            for item in value.split(|byte| *byte == b',') {
                let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
                let name = parts.next().unwrap_or_default();
                let weight = parts.find_map(weight).unwrap_or(1000);
                match name.to_ascii_lowercase().as_slice() {
                    b"gzip" | b"x-gzip" => gzip = gzip.max(Some(weight)),
                    b"deflate" => deflate = deflate.max(Some(weight)),
                    b"identity" => identity = identity.max(Some(weight)),
                    b"*" => any = any.max(Some(weight)),
                    _ => {}
                }
            }
        }
        let named = |weight: Option<u32>| weight.or(any).unwrap_or(0);
        let (gzip, deflate) = (named(gzip), named(deflate));
        // What nobody mentions is acceptable, but less than what is asked for.
        let (coding, weight) = if gzip >= deflate { (Coding::Gzip, gzip) } else { (Coding::Deflate, deflate) };
        (weight > 0 && weight >= identity.unwrap_or(0)).then_some(coding)
    }

    fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }
}

/// `q=0.5` in thousandths.
fn weight(parameter: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(parameter).ok()?;
    let (name, value) = text.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    // What cannot be read is no wish.
    let share: f64 = value.trim().parse().ok().filter(|share| (0.0..=1.0).contains(share)).unwrap_or(0.0);
    Some((share * 1000.0) as u32)
}

/// Whether this answer is one to compress.
pub(crate) fn applies(setting: settings::Compression, head: &ResponseHead, bytes: &[u8]) -> bool {
    if head.is_tunnel || matches!(head.status, ..200 | 204..=206 | 304) {
        return false;
    }
    if matches!(head.body, BodyKind::None | BodyKind::Length(0)) {
        return false;
    }
    let fields = &head.fields;
    let mut codings = fields.named(bytes, "content-encoding");
    if codings.any(|value| !value.eq_ignore_ascii_case(b"identity")) {
        return false;
    }
    let mut directives = fields.named(bytes, "cache-control").flat_map(|value| value.split(|byte| *byte == b','));
    if directives.any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform")) {
        return false;
    }
    if DIGESTS.iter().any(|name| fields.named(bytes, name).next().is_some()) {
        return false;
    }
    match setting {
        settings::Compression::Textual => is_textual(fields, bytes),
        settings::Compression::All(_) => true,
    }
}

fn is_textual(fields: &Fields, bytes: &[u8]) -> bool {
    let kind = fields.named(bytes, "content-type").next().unwrap_or_default();
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let is_text = kind.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"text/"));
    is_text || TEXTUAL.iter().any(|textual| kind.eq_ignore_ascii_case(textual))
}

/// Turns the head into that of the compressed answer: its body goes in chunks, its entity tag is weak (the
/// bytes are others, the meaning is not: RFC 9110 §8.8.1), and caches know what it depends on.
pub(crate) fn announce(coding: Coding, head: &mut ResponseHead, bytes: &[u8], extra: &mut Vec<u8>) {
    // Written like one that ends with the connection: without a length.
    head.body = BodyKind::UntilClose;
    http1::write_line(extra, b"content-encoding", coding.name().as_bytes());
    let mut vary = Vec::new();
    for field in head.fields.iter_mut() {
        let name = field.name(bytes);
        if name.eq_ignore_ascii_case(b"vary") {
            vary.extend_from_slice(field.value(bytes));
            vary.extend_from_slice(b", ");
        } else if name.eq_ignore_ascii_case(b"etag") {
            let value = field.value(bytes);
            let weak: &[u8] = if value.starts_with(b"W/") { b"" } else { b"W/" };
            http1::write_line(extra, b"etag", &[weak, value].concat());
        } else if !name.eq_ignore_ascii_case(b"content-encoding") && !name.eq_ignore_ascii_case(b"accept-ranges") {
            continue;
        }
        field.drop_line();
    }
    vary.extend_from_slice(b"accept-encoding");
    http1::write_line(extra, b"vary", &vary);
}

/// A body on its way through the compressor.
pub(crate) enum Squeeze {
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
}

impl Squeeze {
    pub(crate) fn new(coding: Coding, setting: settings::Compression) -> Squeeze {
        let level = match setting {
            settings::Compression::Textual => Compression::default(),
            settings::Compression::All(level) => Compression::new(level.into()),
        };
        match coding {
            Coding::Gzip => Squeeze::Gzip(GzEncoder::new(Vec::new(), level)),
            Coding::Deflate => Squeeze::Deflate(ZlibEncoder::new(Vec::new(), level)),
        }
    }

    /// Takes a part of the body. Fails only where memory does.
    pub(crate) fn push(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            Squeeze::Gzip(encoder) => encoder.write_all(data),
            Squeeze::Deflate(encoder) => encoder.write_all(data),
        }
    }

    /// All that the parts so far have become; `is_over`: there are no more.
    pub(crate) fn take(&mut self, is_over: bool) -> io::Result<Vec<u8>> {
        fn out<E: Write>(encoder: &mut E, end: impl FnOnce(&mut E) -> io::Result<()>, is_over: bool) -> io::Result<()> {
            if is_over { end(encoder) } else { encoder.flush() }
        }
        match self {
            Squeeze::Gzip(encoder) => {
                out(encoder, GzEncoder::try_finish, is_over)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Squeeze::Deflate(encoder) => {
                out(encoder, ZlibEncoder::try_finish, is_over)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http1::{Exchange, Limits, Progress, parse_request, parse_response};

    use super::*;

    #[track_caller]
    fn wanted(headers: &str) -> Option<Coding> {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let mut head = RequestHead::default();
        assert_eq!(parse_request(text.as_bytes(), &Limits::REQUEST, &mut head), Ok(Progress::Complete));
        Coding::wanted(&head, text.as_bytes())
    }

    #[test]
    fn the_caller_decides_which_coding_it_gets() {
        for (value, coding) in [
            ("gzip", Some(Coding::Gzip)),
            ("deflate, gzip", Some(Coding::Gzip)),
            ("gzip;q=0.5, deflate;q=0.8", Some(Coding::Deflate)),
            ("GZIP ; Q=1.0", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("deflate", Some(Coding::Deflate)),
            ("*", Some(Coding::Gzip)),
            ("*;q=0.1, gzip;q=0", Some(Coding::Deflate)),
            ("gzip;q=0", None),
            ("*;q=0", None),
            ("identity", None),
            ("gzip;q=0.4, identity;q=0.5", None),
            ("br, zstd", None),
            ("gzip;q=yes", None),
            ("", None),
        ] {
            assert_eq!(wanted(&format!("Accept-Encoding: {value}\r\n")), coding, "{value}");
        }
        assert_eq!(wanted(""), None);
        assert_eq!(wanted("Accept-Encoding: br\r\nAccept-Encoding: deflate\r\n"), Some(Coding::Deflate));
    }

    fn response(text: &str) -> ResponseHead {
        let mut head = ResponseHead::default();
        let parsed = parse_response(text.as_bytes(), &Limits::RESPONSE, Exchange::default(), &mut head);
        assert_eq!(parsed, Ok(Progress::Complete), "{text}");
        head
    }

    #[test]
    fn only_answers_whose_bytes_may_change_are_compressed() {
        use settings::Compression::{All, Textual};
        for (head, textual, all) in [
            ("200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5", true, true),
            ("200 OK\r\nContent-Type: Application/JSON\r\nTransfer-Encoding: chunked", true, true),
            ("404 No\r\nContent-Type: image/svg+xml\r\nContent-Length: 5", true, true),
            ("200 OK\r\nContent-Type: image/png\r\nContent-Length: 5", false, true),
            ("200 OK\r\nContent-Length: 5", false, true),
            ("200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0", false, false),
            ("204 No\r\nContent-Type: text/plain", false, false),
            ("304 No\r\nContent-Type: text/plain\r\nContent-Length: 5", false, false),
            ("206 Part\r\nContent-Type: text/plain\r\nContent-Length: 5", false, false),
            ("200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: br\r\nContent-Length: 5", false, false),
            ("200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: identity\r\nContent-Length: 5", true, true),
            (
                "200 OK\r\nContent-Type: text/plain\r\nCache-Control: public, No-Transform\r\nContent-Length: 5",
                false,
                false,
            ),
            ("200 OK\r\nContent-Type: text/plain\r\nRepr-Digest: sha-256=:x:\r\nContent-Length: 5", false, false),
        ] {
            let text = format!("HTTP/1.1 {head}\r\n\r\n");
            let parsed = response(&text);
            let found = [Textual, All(9)].map(|setting| applies(setting, &parsed, text.as_bytes()));
            assert_eq!(found, [textual, all], "{head}");
        }
    }

    #[test]
    fn the_head_says_what_was_done() {
        let text =
            "HTTP/1.1 200 OK\r\nVary: Origin\r\nETag: \"a\"\r\nContent-Length: 5\r\nAccept-Ranges: bytes\r\n\r\n";
        let mut head = response(text);
        let mut extra = Vec::new();
        announce(Coding::Deflate, &mut head, text.as_bytes(), &mut extra);
        let mut out = Vec::new();
        let edit = http1::ResponseOut { extra: &extra, ..http1::ResponseOut::default() };
        head.write(text.as_bytes(), &edit, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-encoding: deflate\r\netag: W/\"a\"\r\n\
             vary: Origin, accept-encoding\r\n\r\n"
        );
    }
}
