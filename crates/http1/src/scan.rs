//! Where the parts of a head are: tokens and line ends, in one pass over its bytes (RFC 9112 §2 to §5). What
//! the parts mean is decided in [`crate::framing`].
//!
//! The first byte that nothing behind it could make right is the error, so the verdict does not depend on how
//! the bytes were split. Every line ends with CRLF here; a bare LF is none.

use crate::error::HeadError;
use crate::field::{Field, Fields, Span};
use crate::framing::Version;
use crate::known::Known;
use crate::limits::Limits;

/// What was found; `None`: well-formed so far, and not all there.
pub(crate) type Found<T> = Result<Option<T>, HeadError>;

/// `tchar` (RFC 9110 §5.6.2).
pub(crate) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.')
        || matches!(byte, b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Bytes of values, reasons and chunk extensions: anything but controls, tab excepted.
pub(crate) const fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

/// [`is_token`] of each byte: names are looked at byte by byte, on the way of every request.
static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_token(byte as u8);
        byte += 1;
    }
    table
};

/// A request line. Offsets into the scanned bytes.
pub(crate) struct RequestLine {
    pub method_end: usize,
    pub target_end: usize,
    pub version: Version,
    /// Where the next line starts.
    pub next: usize,
}

/// The request line that starts at `start`.
pub(crate) fn request_line(bytes: &[u8], start: usize) -> Found<RequestLine> {
    let method_end = position(bytes, start, |byte| TOKEN[usize::from(byte)]);
    match bytes.get(method_end) {
        None => return Ok(None),
        Some(b' ') if method_end > start => {}
        Some(_) => return Err(HeadError::Line),
    }
    let target = method_end + 1;
    let target_end = position(bytes, target, |byte| byte.is_ascii_graphic());
    match bytes.get(target_end) {
        None => return Ok(None),
        Some(b' ') if target_end > target => {}
        Some(byte) if !byte.is_ascii() => return Err(HeadError::Target),
        Some(_) => return Err(HeadError::Line),
    }
    let at = target_end + 1;
    let Some(version) = version(&bytes[at..])? else { return Ok(None) };
    let next = line_end(bytes, at + VERSION.len())?;
    Ok(next.map(|next| RequestLine { method_end, target_end, version, next }))
}

/// The first byte from `start` on that is not legal, or the end.
#[inline]
fn position(bytes: &[u8], start: usize, is_legal: impl Fn(u8) -> bool) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    start + rest.iter().position(|byte| !is_legal(*byte)).unwrap_or(rest.len())
}

const VERSION: &[u8] = b"HTTP/1.1";

/// The version at the start of `rest`.
fn version(rest: &[u8]) -> Found<Version> {
    match rest.get(..VERSION.len()) {
        Some(b"HTTP/1.1") => Ok(Some(Version::Http11)),
        Some(b"HTTP/1.0") => Ok(Some(Version::Http10)),
        None if b"HTTP/1.".starts_with(rest) => Ok(None),
        _ => Err(HeadError::Version),
    }
}

/// A status line at the start of the bytes.
pub(crate) struct StatusLine {
    pub version: Version,
    pub status: u16,
    pub reason: Span,
    /// Where the next line starts.
    pub next: usize,
}

pub(crate) fn status_line(bytes: &[u8]) -> Found<StatusLine> {
    const CODE: usize = VERSION.len() + 1;
    let Some(version) = version(bytes)? else { return Ok(None) };
    match bytes.get(VERSION.len()) {
        None => return Ok(None),
        Some(b' ') => {}
        Some(_) => return Err(HeadError::Version),
    }
    let mut status = 0;
    for at in CODE..CODE + 3 {
        match bytes.get(at) {
            None => return Ok(None),
            Some(digit @ b'0'..=b'9') => status = status * 10 + u16::from(digit - b'0'),
            Some(_) => return Err(HeadError::Line),
        }
    }
    if status < 100 {
        return Err(HeadError::Line);
    }
    let code_end = CODE + 3;
    let start = match bytes.get(code_end) {
        None => return Ok(None),
        Some(b' ') => code_end + 1,
        // Some leave out the blank together with the reason.
        Some(b'\r' | b'\n') => code_end,
        Some(_) => return Err(HeadError::Line),
    };
    let end = text_end(bytes, start);
    match bytes.get(end..) {
        Some([] | [b'\r']) | None => Ok(None),
        Some([b'\r', b'\n', ..]) => {
            Ok(Some(StatusLine { version, status, reason: Span::new(start, end), next: end + 2 }))
        }
        Some([b'\n', ..]) => Err(HeadError::BareLineEnd),
        Some(_) => Err(HeadError::Line),
    }
}

/// The header lines from `at` on: puts them into `fields`, and gives where the empty line behind them starts.
pub(crate) fn lines(bytes: &[u8], mut at: usize, fields: &mut Fields) -> Found<usize> {
    loop {
        let name_end = position(bytes, at, |byte| TOKEN[usize::from(byte)]);
        match bytes.get(name_end) {
            None if at == name_end || fields.list.len() < Limits::COUNT => return Ok(None),
            Some(b'\r' | b'\n') if at == name_end => return Ok(line_end(bytes, at)?.map(|_| at)),
            _ if fields.list.len() == Limits::COUNT => return Err(HeadError::HeadersTooLarge),
            Some(b':') if at < name_end => {}
            _ => return Err(HeadError::Name),
        }
        let name = bytes.get(at..name_end).unwrap_or_default();
        // What a field's length is kept in.
        if name.len() > usize::from(u16::MAX) {
            return Err(HeadError::HeadersTooLarge);
        }
        let start = position(bytes, name_end + 1, |byte| matches!(byte, b' ' | b'\t'));
        let line_end = text_end(bytes, start);
        match bytes.get(line_end..) {
            Some([] | [b'\r']) | None => return Ok(None),
            Some([b'\r', b'\n', ..]) => {}
            Some([b'\n', ..]) => return Err(HeadError::BareLineEnd),
            Some(_) => return Err(HeadError::Value),
        }
        let mut end = line_end;
        while end > start && matches!(bytes[end - 1], b' ' | b'\t') {
            end -= 1;
        }
        let value = if start < end { Span::new(start, end) } else { Span::new(name_end, name_end) };
        let known = Known::of(name);
        fields.present.insert(known);
        fields.list.push(Field::new(Span::new(at, name_end), known, value));
        at = line_end + 2;
    }
}

/// Behind the CRLF at `at`.
#[inline]
fn line_end(bytes: &[u8], at: usize) -> Found<usize> {
    match bytes.get(at..) {
        Some([] | [b'\r']) | None => Ok(None),
        Some([b'\r', b'\n', ..]) => Ok(Some(at + 2)),
        Some(_) => Err(HeadError::BareLineEnd),
    }
}

/// The first control character from `at` on that is no tab, or the end. Eight bytes at a time: of the bytes
/// that either test marks, the lowest is always one (a borrow can only mark bytes above it).
#[inline]
fn text_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        let low = word.wrapping_sub(0x20 * ONES) & !word;
        let delete = word ^ (0x7f * ONES);
        let delete = delete.wrapping_sub(ONES) & !delete;
        let marked = (low | delete) & HIGH;
        if marked == 0 {
            at += 8;
            continue;
        }
        at += marked.trailing_zeros() as usize / 8;
        if bytes.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
    position(bytes, at, is_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_text_is_the_first_control_character_wherever_it_stands() {
        for length in 0..20 {
            for at in 0..length {
                for byte in 0..=255 {
                    let mut text = vec![b'v'; length];
                    text[at] = byte;
                    let expected = if byte != b'\t' && byte.is_ascii_control() { at } else { length };
                    assert_eq!(text_end(&text, 0), expected, "{byte} at {at} of {length}");
                    // One behind it, which a borrow could hide or bring forward.
                    for (next, ends) in [(b'\r', true), (0x80, false), (b' ', false), (0x7f, true), (b'\t', false)] {
                        let mut text = text.clone();
                        text.push(next);
                        let expected = if expected < length || ends { expected } else { length + 1 };
                        assert_eq!(text_end(&text, 0), expected, "{byte} at {at} of {length}, {next}");
                    }
                }
            }
        }
    }
}
