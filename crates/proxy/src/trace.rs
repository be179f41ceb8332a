//! A request's place in its trace: how it comes in, which spans are made of it, and how it goes on.
//!
//! ```text
//!  headers ──propagator──▶ caller's span ──child──▶ server span ──child──▶ client span ──▶ headers
//!                                                                (one per attempt)
//! ```
//! The ids of both spans are made for every request, whether it is sampled or not: who comes later may
//! have decided to.

mod b3;
mod linkerd;
mod w3c;

use http1::{Known, KnownSet, RequestHead};

use crate::settings::TracePropagator;

/// Bits of the flags word, which are those of finagle.
pub(crate) struct Flags;

impl Flags {
    /// Sampled, whoever asks.
    pub(crate) const DEBUG: u64 = 1;
    /// Whether to sample is decided.
    pub(crate) const KNOWN: u64 = 2;
    pub(crate) const SAMPLED: u64 = 4;
}

/// One span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trace {
    pub span: u64,
    /// The span itself, if it has none above it.
    pub parent: u64,
    pub trace: u64,
    pub flags: u64,
    /// The high half of a trace id of 128 bits.
    pub high: Option<u64>,
}

/// What a request brought, as a server span.
pub(crate) struct Received {
    pub server: Trace,
    /// Whether somebody decided to sample it, or not to; what that means for our own exporters.
    pub decision: Option<bool>,
    /// `tracestate`, checked.
    pub state: Option<Box<[u8]>>,
}

/// What a propagator found.
#[derive(Default)]
struct Found {
    caller: Option<Trace>,
    /// The share in which to sample.
    rate: Option<f64>,
    /// Sampled, whoever asks; also without a caller's span.
    debug: bool,
    state: Option<Box<[u8]>>,
}

impl Trace {
    /// The first span of a new trace.
    #[inline]
    pub(crate) fn root(random: &mut impl FnMut() -> u64) -> Trace {
        let span = random();
        Trace { span, parent: span, trace: span, flags: 0, high: None }
    }

    /// A span below this one.
    #[inline]
    pub(crate) fn child(self, random: &mut impl FnMut() -> u64) -> Trace {
        Trace { span: random(), parent: self.span, ..self }
    }

    /// The id of the span above it.
    pub(crate) fn above(&self) -> Option<u64> {
        (self.parent != self.span).then_some(self.parent)
    }

    pub(crate) fn is_debug(&self) -> bool {
        self.flags & Flags::DEBUG != 0
    }

    pub(crate) fn decision(&self) -> Option<bool> {
        if self.is_debug() {
            return Some(true);
        }
        (self.flags & Flags::KNOWN != 0).then_some(self.flags & Flags::SAMPLED != 0)
    }

    /// From here on everybody knows.
    pub(crate) fn decide(&mut self, sampled: bool) {
        self.flags = self.flags & !Flags::SAMPLED | Flags::KNOWN | if sampled { Flags::SAMPLED } else { 0 };
    }

    /// Appends whole header lines.
    #[inline]
    pub(crate) fn write(&self, propagator: TracePropagator, state: Option<&[u8]>, out: &mut Vec<u8>) {
        match propagator {
            TracePropagator::Linkerd => linkerd::write(self, out),
            TracePropagator::Zipkin { write } => b3::write(self, write, out),
            TracePropagator::W3c => w3c::write(self, state, out),
        }
    }
}

impl TracePropagator {
    /// What it writes itself, or has read.
    #[inline]
    pub(crate) fn rewritten(self) -> KnownSet {
        match self {
            TracePropagator::Linkerd => KnownSet::NONE,
            TracePropagator::Zipkin { .. } => b3::HEADERS,
            TracePropagator::W3c => w3c::HEADERS,
        }
    }

    /// What the request brought; `clear`: nothing in Linkerd's own headers counts.
    #[inline]
    pub(crate) fn receive(
        self,
        head: &RequestHead,
        bytes: &[u8],
        clear: bool,
        random: &mut impl FnMut() -> u64,
    ) -> Received {
        let present = head.fields.present();
        let found = match self {
            TracePropagator::Linkerd if clear || !present.any(linkerd::HEADERS) => Found::default(),
            TracePropagator::Linkerd => linkerd::read(head, bytes),
            TracePropagator::Zipkin { .. } if present.any(b3::HEADERS) => b3::read(head, bytes),
            TracePropagator::Zipkin { .. } => Found::default(),
            TracePropagator::W3c => w3c::read(head, bytes, clear),
        };
        let mut server = match found.caller {
            Some(caller) => caller.child(random),
            None => Trace { high: (self == TracePropagator::W3c).then(&mut *random), ..Trace::root(random) },
        };
        if found.debug {
            server.flags |= Flags::DEBUG;
        }
        let decision = match found.rate {
            Some(rate) => Some(telemetry::spans::is_sampled(server.trace, rate)),
            None => server.decision(),
        };
        match decision {
            // On the wire a rate can only add, as in the original, which forgets to take the flag away.
            Some(false) if self == TracePropagator::Linkerd => {}
            Some(sampled) => server.decide(sampled),
            None => {}
        }
        Received { server, decision, state: found.state }
    }
}

/// `l5d-sample`: a share of 0 to 1, from which larger and smaller numbers are cut.
pub(crate) fn sample_rate(value: &[u8]) -> Option<f64> {
    let rate: f64 = std::str::from_utf8(value).ok()?.trim().parse().ok()?;
    (!rate.is_nan()).then(|| rate.clamp(0.0, 1.0))
}

/// The rate that Linkerd's own header asks for.
fn asked_rate(head: &RequestHead, bytes: &[u8]) -> Option<f64> {
    head.first(bytes, Known::L5dSample).and_then(sample_rate)
}

/// Appends 16 digits.
#[inline]
fn write_hex(word: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 16];
    let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit & 15)];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(word.to_be_bytes()) {
        *pair = [hex(byte >> 4), hex(byte)];
    }
    out.extend_from_slice(&digits);
}

/// A trace's id as it is shown: 16 digits, or 32.
pub(crate) fn shown_id(trace: &Trace) -> String {
    let mut digits = Vec::with_capacity(32);
    if let Some(high) = trace.high {
        write_hex(high, &mut digits);
    }
    write_hex(trace.trace, &mut digits);
    String::from_utf8_lossy(&digits).into_owned()
}

/// Up to 16 hexadecimal digits, at least one.
fn read_hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0, |word, digit| Some(word << 4 | u64::from(char::from(*digit).to_digit(16)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_rate_is_cut_to_a_share() {
        for (value, rate) in
            [("yes", None), ("0", Some(0.0)), ("1", Some(1.0)), ("1.5", Some(1.0)), ("-2", Some(0.0)), ("NaN", None)]
        {
            assert_eq!(sample_rate(value.as_bytes()), rate, "{value}");
        }
    }

    #[test]
    fn ids_are_hexadecimal() {
        for (text, word) in [("a", Some(10)), ("00000000000000Ff", Some(255)), ("", None), ("+1", None), ("g", None)] {
            assert_eq!(read_hex(text.as_bytes()), word, "{text}");
        }
        assert_eq!(read_hex(&[b'1'; 17]), None);
        let mut out = Vec::new();
        write_hex(0xabc, &mut out);
        assert_eq!(out, b"0000000000000abc");
    }
}
