//! `l5d-ctx-trace`: padded Base64 of big-endian words: span, parent, trace, flags and, for traces of
//! 128 bits, the high half of the trace id. As in Linkerd 1.7.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http1::{Known, KnownSet, RequestHead};

use super::{Found, Trace, asked_rate, write_hex};

pub(super) const HEADERS: KnownSet = KnownSet::of(&[Known::L5dCtxTrace, Known::L5dSample]);
const WORD: usize = 8;

pub(super) fn read(head: &RequestHead, bytes: &[u8]) -> Found {
    let caller = head.first(bytes, Known::L5dCtxTrace).and_then(decode);
    Found { caller, rate: asked_rate(head, bytes), ..Found::default() }
}

/// Anything but 32 or 40 bytes is no trace.
fn decode(value: &[u8]) -> Option<Trace> {
    let bytes = STANDARD.decode(value).ok()?;
    let word = |n: usize| Some(u64::from_be_bytes(bytes.get(n * WORD..(n + 1) * WORD)?.try_into().ok()?));
    let high = match bytes.len() {
        32 => None,
        40 => Some(word(4)?),
        _ => return None,
    };
    Some(Trace { span: word(0)?, parent: word(1)?, trace: word(2)?, flags: word(3)?, high })
}

/// Appends the lines `l5d-ctx-trace` and `l5d-reqid`.
#[inline]
pub(super) fn write(trace: &Trace, out: &mut Vec<u8>) {
    let mut bytes = [0; 5 * WORD];
    let words = [trace.span, trace.parent, trace.trace, trace.flags, trace.high.unwrap_or(0)];
    for (target, word) in bytes.chunks_exact_mut(WORD).zip(words) {
        target.copy_from_slice(&word.to_be_bytes());
    }
    let length = if trace.high.is_some() { 5 * WORD } else { 4 * WORD };
    out.extend_from_slice(b"l5d-ctx-trace: ");
    write_base64(&bytes[..length], out);
    out.extend_from_slice(b"\r\nl5d-reqid: ");
    write_hex(trace.trace, out);
    out.extend_from_slice(b"\r\n");
}

/// Padded Base64 of a few bytes: shorter than the general encoder's set-up.
#[inline]
fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = [b'='; 4 * (5 * WORD).div_ceil(3)];
    let letter = |bits: u32, shift: u32| ALPHABET[(bits >> shift) as usize & 63];
    let (groups, rest) = bytes.as_chunks::<3>();
    let (fours, _) = text.as_chunks_mut::<4>();
    for (four, [a, b, c]) in fours.iter_mut().zip(groups) {
        let bits = u32::from(*a) << 16 | u32::from(*b) << 8 | u32::from(*c);
        *four = [letter(bits, 18), letter(bits, 12), letter(bits, 6), letter(bits, 0)];
    }
    if let (Some(four), [first, second @ ..]) = (fours.get_mut(groups.len()), rest) {
        let bits = u32::from(*first) << 16 | second.first().map_or(0, |byte| u32::from(*byte) << 8);
        let third = if second.is_empty() { b'=' } else { letter(bits, 6) };
        *four = [letter(bits, 18), letter(bits, 12), third, b'='];
    }
    out.extend_from_slice(&text[..4 * bytes.len().div_ceil(3)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_original_writes() {
        let trace = decode(b"AAAAAAAAAAEAAAAAAAAAAgAAAAAAAAADAAAAAAAAAAY=");
        assert_eq!(trace, Some(Trace { span: 1, parent: 2, trace: 3, flags: 6, high: None }));
        let trace = decode(b"AAAAAAAAAAEAAAAAAAAAAgAAAAAAAAADAAAAAAAAAAAAAAAAAAAACQ==");
        assert_eq!(trace, Some(Trace { span: 1, parent: 2, trace: 3, flags: 0, high: Some(9) }));
        assert_eq!(decode(b"AAAA"), None);
        assert_eq!(decode(b"no base64!"), None);
    }

    /// As in finagle: the bit counts where it is known that somebody decided.
    #[test]
    fn sampled_without_known_decides_nothing() {
        for (flags, decision) in [(4, None), (6, Some(true)), (2, Some(false)), (1, Some(true)), (5, Some(true))] {
            assert_eq!(Trace { span: 1, parent: 2, trace: 3, flags, high: None }.decision(), decision, "{flags}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for high in [None, Some(9)] {
            let trace = Trace { span: 1, parent: 2, trace: 0xabcdef, flags: 6, high };
            let mut out = Vec::new();
            write(&trace, &mut out);
            let text = String::from_utf8(out).expect("ASCII");
            let value = text.lines().next().and_then(|line| line.strip_prefix("l5d-ctx-trace: ")).expect("a line");
            assert_eq!(decode(value.as_bytes()), Some(trace));
            assert!(text.ends_with("\r\nl5d-reqid: 0000000000abcdef\r\n"), "{text}");
        }
    }
}
