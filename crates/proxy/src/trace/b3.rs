//! B3, as Zipkin's own tracers write it: `x-b3-traceid`, `-spanid`, `-parentspanid`, `-sampled` and `-flags`,
//! or all of it in one header.
//!
//! ```text
//!  b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90
//!      trace id                         span id          │ parent; may be missing, and what is before it
//!                                                        └ 1, 0, or d for debug
//! ```
//! As in Linkerd 1.7 a request without a span id begins a trace, and `x-b3-sampled` may be a share.

use http1::{Known, KnownSet, RequestHead};

use super::{Flags, Found, Trace, read_hex, sample_rate, write_hex};
use crate::settings::B3;

pub(super) const HEADERS: KnownSet = KnownSet::of(&[
    Known::B3,
    Known::B3TraceId,
    Known::B3SpanId,
    Known::B3ParentSpanId,
    Known::B3Sampled,
    Known::B3Flags,
]);

/// The single header wins, as in Linkerd 1.7.
pub(super) fn read(head: &RequestHead, bytes: &[u8]) -> Found {
    match head.first(bytes, Known::B3) {
        Some(value) => single(value),
        None => multi(|name| head.first(bytes, name)),
    }
}

fn single(value: &[u8]) -> Found {
    let parts = value.split(|byte| *byte == b'-').collect::<Vec<_>>();
    match *parts.as_slice() {
        [sampling] => Found { rate: sampling_of(sampling), debug: sampling == b"d", ..Found::default() },
        [trace, span] => found(Some(trace), Some(span), None, None),
        [trace, span, sampling] => found(Some(trace), Some(span), None, Some(sampling)),
        [trace, span, sampling, parent] => found(Some(trace), Some(span), Some(parent), Some(sampling)),
        _ => Found::default(),
    }
}

fn multi<'a>(first: impl Fn(Known) -> Option<&'a [u8]>) -> Found {
    let debug = first(Known::B3Flags) == Some(b"1");
    let sampling = if debug { Some(&b"d"[..]) } else { first(Known::B3Sampled) };
    found(first(Known::B3TraceId), first(Known::B3SpanId), first(Known::B3ParentSpanId), sampling)
}

fn found(trace: Option<&[u8]>, span: Option<&[u8]>, parent: Option<&[u8]>, sampling: Option<&[u8]>) -> Found {
    let rate = sampling.and_then(sampling_of);
    let caller = span.and_then(read_hex).filter(|span| *span != 0).and_then(|span| {
        let (high, trace) = match trace {
            Some(id) => trace_id(id)?,
            None => (None, span),
        };
        let parent = parent.and_then(read_hex).unwrap_or(span);
        Some(Trace { span, parent, trace, flags: 0, high })
    });
    Found { caller, rate, debug: sampling == Some(b"d"), state: None }
}

/// The high half, if there are more than 64 bits, and the low one.
fn trace_id(digits: &[u8]) -> Option<(Option<u64>, u64)> {
    match digits.len().checked_sub(16) {
        None | Some(0) => Some((None, read_hex(digits)?)),
        Some(high) => Some((Some(read_hex(&digits[..high])?), read_hex(&digits[high..])?)),
    }
}

fn sampling_of(value: &[u8]) -> Option<f64> {
    match value {
        b"d" | b"true" => Some(1.0),
        b"false" => Some(0.0),
        share => sample_rate(share),
    }
}

pub(super) fn write(trace: &Trace, form: B3, out: &mut Vec<u8>) {
    let debug = trace.flags & Flags::DEBUG != 0;
    let sampled: Option<&[u8]> = match trace.decision() {
        Some(true) => Some(b"1"),
        Some(false) => Some(b"0"),
        None => None,
    };
    if matches!(form, B3::Multi | B3::Both) {
        out.extend_from_slice(b"x-b3-traceid: ");
        write_trace_id(trace, out);
        out.extend_from_slice(b"\r\nx-b3-spanid: ");
        write_hex(trace.span, out);
        out.extend_from_slice(b"\r\nx-b3-parentspanid: ");
        write_hex(trace.parent, out);
        if let Some(sampled) = sampled {
            out.extend_from_slice(b"\r\nx-b3-sampled: ");
            out.extend_from_slice(sampled);
        }
        out.extend_from_slice(if debug { b"\r\nx-b3-flags: 1\r\n" } else { b"\r\nx-b3-flags: 0\r\n" });
    }
    if matches!(form, B3::Single | B3::Both) {
        out.extend_from_slice(b"b3: ");
        write_trace_id(trace, out);
        out.push(b'-');
        write_hex(trace.span, out);
        if let Some(sampled) = sampled {
            out.push(b'-');
            out.extend_from_slice(if debug { b"d" } else { sampled });
            out.push(b'-');
            write_hex(trace.parent, out);
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn write_trace_id(trace: &Trace, out: &mut Vec<u8>) {
    if let Some(high) = trace.high {
        write_hex(high, out);
    }
    write_hex(trace.trace, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "80f198ee56343ba864fe8b2a57d3eff7";

    fn trace(high: Option<u64>, flags: u64) -> Trace {
        Trace { span: 0xe457_b5a2_e4d8_6bd1, parent: 0x05e3, trace: 0x64fe_8b2a_57d3_eff7, flags, high }
    }

    #[track_caller]
    fn check(value: &str, caller: Option<Trace>, rate: Option<f64>, debug: bool) {
        let found = single(value.as_bytes());
        assert_eq!((found.caller, found.rate, found.debug), (caller, rate, debug), "{value}");
    }

    #[test]
    fn the_single_header_is_read_in_all_its_forms() {
        let high = Some(0x80f1_98ee_5634_3ba8);
        let own = Trace { parent: trace(None, 0).span, ..trace(high, 0) };
        check(&format!("{LONG}-e457b5a2e4d86bd1"), Some(own), None, false);
        check(&format!("{LONG}-e457b5a2e4d86bd1-1-00000000000005e3"), Some(trace(high, 0)), Some(1.0), false);
        check(&format!("{LONG}-e457b5a2e4d86bd1-0-5e3"), Some(trace(high, 0)), Some(0.0), false);
        check(&format!("{LONG}-e457b5a2e4d86bd1-d-5e3"), Some(trace(high, 0)), Some(1.0), true);
        check(&format!("{}-E457B5A2E4D86BD1-d-5e3", &LONG[16..]), Some(trace(None, 0)), Some(1.0), true);
        check("0", None, Some(0.0), false);
        check("d", None, Some(1.0), true);
        for nonsense in ["", "-", "x-y", "a-b-c-d-e", "0-0", &format!("{LONG}0-1"), "zz-1", "1-", "-1"] {
            check(nonsense, None, None, false);
        }
    }

    #[test]
    fn many_headers_need_a_span_id() {
        let headers = |span: Option<&'static [u8]>| {
            move |name: Known| match name {
                Known::B3TraceId => Some(&b"3"[..]),
                Known::B3SpanId => span,
                Known::B3Sampled => Some(&b"0.5"[..]),
                _ => None,
            }
        };
        let caller = multi(headers(Some(b"2"))).caller;
        assert_eq!(caller, Some(Trace { span: 2, parent: 2, trace: 3, flags: 0, high: None }));
        for span in [None, Some(&b"x"[..])] {
            let found = multi(headers(span));
            assert_eq!((found.caller, found.rate), (None, Some(0.5)));
        }
    }

    #[test]
    fn what_is_written_says_what_is_known() {
        let shown = |trace: Trace, form| {
            let mut out = Vec::new();
            write(&trace, form, &mut out);
            String::from_utf8(out).expect("ASCII")
        };
        let ids = "x-b3-traceid: 64fe8b2a57d3eff7\r\nx-b3-spanid: e457b5a2e4d86bd1\r\nx-b3-parentspanid: \
                   00000000000005e3\r\n";
        assert_eq!(shown(trace(None, 0), B3::Multi), format!("{ids}x-b3-flags: 0\r\n"));
        assert_eq!(shown(trace(None, 2), B3::Multi), format!("{ids}x-b3-sampled: 0\r\nx-b3-flags: 0\r\n"));
        assert_eq!(shown(trace(None, 6), B3::Multi), format!("{ids}x-b3-sampled: 1\r\nx-b3-flags: 0\r\n"));
        assert_eq!(shown(trace(None, 1), B3::Multi), format!("{ids}x-b3-sampled: 1\r\nx-b3-flags: 1\r\n"));
        let high = Some(0x80f1_98ee_5634_3ba8);
        assert_eq!(shown(trace(high, 0), B3::Single), format!("b3: {LONG}-e457b5a2e4d86bd1\r\n"));
        assert_eq!(shown(trace(high, 7), B3::Single), format!("b3: {LONG}-e457b5a2e4d86bd1-d-00000000000005e3\r\n"));
        assert!(
            shown(trace(high, 6), B3::Both).ends_with(&format!("b3: {LONG}-e457b5a2e4d86bd1-1-00000000000005e3\r\n"))
        );
    }
}
