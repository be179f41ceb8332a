//! How a message is framed: decided here once, for both directions. Not here: reading chunks
//! ([`crate::Body`]) and targets.
//!
#![doc = include_str!("../../../docs/framing.md")]

use crate::error::HeadError;
use crate::field::{Fields, Span};
use crate::known::{Known, KnownSet};

/// The two versions that are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyKind {
    /// There is none.
    #[default]
    None,
    /// This many bytes.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// Everything until the server closes (responses only).
    UntilClose,
}

/// In what form a response body goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// As it came: nothing, a length, or clean chunks ([`crate::Form::Pass`]).
    Same,
    /// A body until close is sent on in chunks, so that its end can be told from a failure.
    Chunk,
    /// Payload only, then close: chunks cannot be sent to an HTTP/1.0 client.
    UntilClose,
}

/// Nobody names more fields than this in Connection.
const MAX_CONNECTION_OPTIONS: usize = 64;
/// Fields that a Connection field cannot take away: routing and framing depend on them.
const NOT_NOMINATED: KnownSet = KnownSet::of(&[Known::Host, Known::ContentLength, Known::TransferEncoding]);

/// What the header lines say about framing, before the message kind decides.
#[derive(Default)]
pub(crate) struct Collected {
    pub length: Option<u64>,
    /// The length is not written the shortest way.
    pub odd_length: bool,
    pub chunked: bool,
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade_option: bool,
    pub host: Option<Span>,
    pub expect_continue: bool,
}

/// What decides the framing.
const FRAMING: KnownSet =
    KnownSet::of(&[Known::Host, Known::ContentLength, Known::TransferEncoding, Known::Connection, Known::Expect]);

/// Collects what decides framing from the scanned lines; `end` is where the empty line behind them starts.
pub(crate) fn collect(buffer: &[u8], end: usize, fields: &mut Fields) -> Result<Collected, HeadError> {
    let mut collected = Collected::default();
    let mut nominations = false;
    fields.end = end;
    for field in fields.list.iter_mut().filter(|field| FRAMING.has(field.known)) {
        let value = field.value(buffer);
        match field.known {
            Known::Host => {
                let repeated = collected.host.replace(field.place()).is_some();
                let valid = !repeated && crate::target::valid_authority(value);
                valid.then_some(()).ok_or(HeadError::Host)?;
            }
            Known::ContentLength => {
                let length = decimal(value).ok_or(HeadError::ContentLength)?;
                if collected.length.replace(length).is_some() {
                    return Err(HeadError::ContentLength);
                }
                collected.odd_length = value.len() > 1 && value[0] == b'0';
            }
            Known::TransferEncoding => {
                if collected.chunked {
                    return Err(HeadError::TransferEncoding);
                }
                check_coding(value)?;
                collected.chunked = true;
            }
            Known::Connection => nominations |= connection(value, &mut collected)?,
            Known::Expect if value.eq_ignore_ascii_case(b"100-continue") => {
                collected.expect_continue = true;
                field.drop_line();
            }
            _ => {}
        }
    }
    if nominations || (collected.keep_alive && fields.present.has(Known::KeepAlive)) {
        drop_nominated(buffer, fields);
    }
    Ok(collected)
}

/// Decimal digits only, below 2^63: what every recipient can hold.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    (value <= i64::MAX as u64).then_some(value)
}

/// Only the single word `chunked` is a framing that all recipients agree on.
fn check_coding(value: &[u8]) -> Result<(), HeadError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let is_chunked = |coding: &[u8]| coding.is_empty() || coding.eq_ignore_ascii_case(b"chunked");
    if value.split(|byte| *byte == b',').map(trim).all(is_chunked) {
        return Err(HeadError::TransferEncoding);
    }
    Err(HeadError::Coding)
}

/// Reads one Connection value; true if it names fields.
fn connection(value: &[u8], collected: &mut Collected) -> Result<bool, HeadError> {
    let mut nominates = false;
    for (n, option) in value.split(|byte| *byte == b',').map(trim).enumerate() {
        if n >= MAX_CONNECTION_OPTIONS {
            return Err(HeadError::Connection);
        }
        if option.eq_ignore_ascii_case(b"close") {
            collected.close = true;
        } else if option.eq_ignore_ascii_case(b"keep-alive") {
            collected.keep_alive = true;
        } else if option.eq_ignore_ascii_case(b"upgrade") {
            collected.upgrade_option = true;
        } else if !option.is_empty() {
            nominates = true;
        }
    }
    Ok(nominates)
}

/// Drops the lines that Connection names (RFC 9110 §7.6.1).
fn drop_nominated(buffer: &[u8], fields: &mut Fields) {
    for at in 0..fields.list.len() {
        let Some(field) = fields.list.get(at).filter(|f| f.known == Known::Connection) else {
            continue;
        };
        let value = field.value(buffer);
        for field in &mut fields.list {
            let free = !NOT_NOMINATED.has(field.known);
            let name = field.name(buffer);
            let named = |option: &[u8]| trim(option).eq_ignore_ascii_case(name);
            if free && value.split(|byte| *byte == b',').any(named) {
                field.drop_line();
            }
        }
    }
}

/// Cuts optional white space (blank and tab, nothing else).
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
