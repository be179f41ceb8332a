//! Request targets and authorities (RFC 9112 §3.2, RFC 3986 §3.2).

use crate::error::HeadError;
use crate::field::Span;
use crate::request::Method;

/// The four forms of a request target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://authority/path?query`, as sent to proxies.
    Absolute,
    /// `host:port`, CONNECT only.
    Authority,
    /// `*`, OPTIONS only.
    Asterisk,
}

/// A target taken apart.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target {
    pub form: TargetForm,
    /// Absolute and authority form.
    pub authority: Span,
    /// Path and query; may be empty, or start with `?`, in absolute-form.
    pub path: Span,
}

impl Target {
    /// `at` is where `target` starts in the buffer.
    pub(crate) fn parse(target: &[u8], at: usize, method: Method) -> Result<Target, HeadError> {
        check_characters(target)?;
        let whole = Span::new(at, at + target.len());
        let form = |form, authority, path| Ok(Target { form, authority, path });
        match target {
            _ if method == Method::Connect => match split_port(target) {
                Some((host, port)) if !host.is_empty() && !port.is_empty() => {
                    form(TargetForm::Authority, whole, Span::default())
                }
                _ => Err(HeadError::Authority),
            },
            [b'/', ..] => form(TargetForm::Origin, Span::default(), whole),
            b"*" if method == Method::Options => form(TargetForm::Asterisk, Span::default(), whole),
            _ => {
                let scheme = scheme_end(target).ok_or(HeadError::Target)?;
                let rest = &target[scheme..];
                let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
                let end = end.unwrap_or(rest.len());
                match split_port(&rest[..end]) {
                    Some((host, _)) if !host.is_empty() => form(
                        TargetForm::Absolute,
                        Span::new(at + scheme, at + scheme + end),
                        Span::new(at + scheme + end, at + target.len()),
                    ),
                    _ => Err(HeadError::Authority),
                }
            }
        }
    }
}

/// Offset after `scheme://`.
fn scheme_end(target: &[u8]) -> Option<usize> {
    let colon = target.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = target.split_at(colon);
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let named = scheme.first().is_some_and(u8::is_ascii_alphabetic) && scheme.iter().all(plain);
    (named && rest.starts_with(b"://")).then_some(colon + 3)
}

/// Visible ASCII without `#`, and percent signs only before two hexadecimal digits.
fn check_characters(target: &[u8]) -> Result<(), HeadError> {
    let mut percent = false;
    for byte in target {
        if !matches!(byte, 0x21..=0x7e) || *byte == b'#' {
            return Err(HeadError::Target);
        }
        percent |= *byte == b'%';
    }
    if percent && !escapes_hold(target) {
        return Err(HeadError::Target);
    }
    Ok(())
}

fn escapes_hold(text: &[u8]) -> bool {
    text.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| text.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)))
}

/// Whether this is `uri-host [":" port]` (RFC 9110 §7.2); empty is valid.
#[must_use]
pub fn valid_authority(text: &[u8]) -> bool {
    split_port(text).is_some()
}

/// Host and port (without the colon) of a valid authority without userinfo.
fn split_port(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (host, rest) = if text.first() == Some(&b'[') {
        let end = text.iter().position(|byte| *byte == b']')? + 1;
        let inner = &text[1..end - 1];
        let legal = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
        if inner.is_empty() || !inner.iter().all(legal) {
            return None;
        }
        text.split_at(end)
    } else {
        let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
        let (host, rest) = text.split_at(end);
        if !host.iter().all(|byte| REG_NAME[*byte as usize]) || !escapes_hold(host) {
            return None;
        }
        (host, rest)
    };
    match rest {
        [] => Some((host, rest)),
        [b':', port @ ..] if port.iter().all(u8::is_ascii_digit) => Some((host, port)),
        _ => None,
    }
}

/// `reg-name` of RFC 3986 §3.2.2: unreserved, sub-delims and percent.
const REG_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric()
            || matches!(b, b'-' | b'.' | b'_' | b'~' | b'%')
            || matches!(b, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
        byte += 1;
    }
    table
};
