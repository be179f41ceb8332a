//! W3C Trace Context: `traceparent` and `tracestate`.
//!
//! ```text
//!  traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
//!               version  trace id                   parent id        flags: 1 is sampled
//! ```
//! What the specification calls invalid is as if it were not there; with `traceparent` goes `tracestate`.

use http1::{Known, KnownSet, RequestHead};

use super::{Flags, Found, Trace, asked_rate, read_hex, write_hex};

pub(super) const HEADERS: KnownSet = KnownSet::of(&[Known::TraceParent, Known::TraceState]);

/// The length of version 00; later ones may append to it after a dash.
const LENGTH: usize = 55;
const SAMPLED: u64 = 1;
/// Members of `tracestate` (§3.3.1.1).
const MEMBERS: usize = 32;
/// What has to be passed on of it (§3.3.1.5), and is.
const STATE: usize = 512;
/// Members above this length are the first to go.
const LONG_MEMBER: usize = 128;

pub(super) fn read(head: &RequestHead, bytes: &[u8], clear: bool) -> Found {
    let rate = if clear { None } else { asked_rate(head, bytes) };
    if !head.has(Known::TraceParent) {
        return Found { rate, ..Found::default() };
    }
    let mut parents = head.fields.all(bytes, Known::TraceParent);
    let caller = match (parents.next(), parents.next()) {
        (Some(value), None) => traceparent(value),
        // Two say two things.
        _ => None,
    };
    let has_state = caller.is_some() && head.has(Known::TraceState);
    let state = if has_state { tracestate(head.fields.all(bytes, Known::TraceState)) } else { None };
    Found { caller, rate, state, debug: false }
}

fn traceparent(value: &[u8]) -> Option<Trace> {
    let lower_hex = |part: &[u8]| !part.iter().any(u8::is_ascii_uppercase);
    let (fixed, more) = value.split_at_checked(LENGTH)?;
    let [version, trace, parent, flags] =
        <[&[u8]; 4]>::try_from(fixed.split(|byte| *byte == b'-').collect::<Vec<_>>()).ok()?;
    let lengths = (version.len(), trace.len(), parent.len(), flags.len());
    if lengths != (2, 32, 16, 2) || !lower_hex(fixed) {
        return None;
    }
    match (read_hex(version)?, more) {
        (0xff, _) => return None,
        (_, []) | (1.., [b'-', ..]) => {}
        _ => return None,
    }
    let (high, low, span) = (read_hex(&trace[..16])?, read_hex(&trace[16..])?, read_hex(parent)?);
    if (high, low) == (0, 0) || span == 0 {
        return None;
    }
    let mut trace = Trace { span, parent: span, trace: low, flags: 0, high: Some(high) };
    trace.decide(read_hex(flags)? & SAMPLED != 0);
    Some(trace)
}

/// All lines as one, if every member is one; cut to what must be passed on.
fn tracestate<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Box<[u8]>> {
    let mut members: Vec<(&[u8], &[u8])> = Vec::new();
    for line in lines {
        for member in line.split(|byte| *byte == b',') {
            let member = member.trim_ascii();
            if member.is_empty() {
                continue;
            }
            let at = member.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (&member[..at], &member[at + 1..]);
            let known = members.iter().any(|(_, other)| *other == key);
            if members.len() == MEMBERS || known || !is_key(key) || !is_value(value) {
                return None;
            }
            members.push((member, key));
        }
    }
    let total = |members: &[(&[u8], &[u8])]| members.iter().map(|(member, _)| member.len() + 1).sum::<usize>();
    while total(&members) > STATE + 1 {
        let long = members.iter().rposition(|(member, _)| member.len() > LONG_MEMBER);
        members.remove(long.unwrap_or(members.len() - 1));
    }
    let joined = members.iter().map(|(member, _)| *member).collect::<Vec<_>>().join(&b","[..]);
    (!joined.is_empty()).then(|| joined.into())
}

/// `vendor`, or `tenant@vendor` (§3.3.1.3.1).
fn is_key(key: &[u8]) -> bool {
    let rest = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(byte);
    let is_name = |name: &[u8], most: usize, digit_first: bool| match name {
        [first, others @ ..] if others.len() < most => {
            (first.is_ascii_lowercase() || digit_first && first.is_ascii_digit()) && others.iter().all(rest)
        }
        _ => false,
    };
    match key.iter().position(|byte| *byte == b'@') {
        Some(at) => is_name(&key[..at], 241, true) && is_name(&key[at + 1..], 14, false),
        None => is_name(key, 256, false),
    }
}

fn is_value(value: &[u8]) -> bool {
    let is_letter = |byte: &u8| matches!(byte, 0x20..=0x7e) && !b",=".contains(byte);
    (1..=256).contains(&value.len()) && value.iter().all(is_letter)
}

/// Appends `traceparent` and, if there is one, `tracestate`.
pub(super) fn write(trace: &Trace, state: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"traceparent: 00-");
    write_hex(trace.high.unwrap_or(0), out);
    write_hex(trace.trace, out);
    out.push(b'-');
    write_hex(trace.span, out);
    let sampled = trace.flags & (Flags::SAMPLED | Flags::DEBUG) != 0;
    out.extend_from_slice(if sampled { b"-01\r\n" } else { b"-00\r\n" });
    if let Some(state) = state {
        out.extend_from_slice(b"tracestate: ");
        out.extend_from_slice(state);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_good_traceparent_is_read_and_written() {
        let trace = traceparent(GOOD.as_bytes()).expect("good");
        let (high, low) = (0x4bf9_2f35_77b3_4da6, 0xa3ce_929d_0e0e_4736);
        let span = 0x00f0_67aa_0ba9_02b7;
        assert_eq!(trace, Trace { span, parent: span, trace: low, flags: 6, high: Some(high) });
        let mut out = Vec::new();
        write(&trace, Some(b"a=b"), &mut out);
        assert_eq!(out, format!("traceparent: {GOOD}\r\ntracestate: a=b\r\n").as_bytes());
    }

    #[test]
    fn versions_to_come_may_be_longer() {
        let trace = |text: &str| traceparent(text.as_bytes());
        assert_eq!(trace(&GOOD.replacen("00", "cc", 1)), trace(GOOD));
        assert_eq!(trace(&format!("{}-what-the-future-holds", GOOD.replacen("00", "cc", 1))), trace(GOOD));
        assert_eq!(trace(&GOOD.replace("-01", "-fe")).map(|trace| trace.flags), Some(Flags::KNOWN));
    }

    #[test]
    fn a_bad_traceparent_is_none() {
        let cases = [
            GOOD.replacen("00", "ff", 1),
            GOOD.to_ascii_uppercase(),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            format!("{GOOD}-more"),
            format!("{}.more", GOOD.replacen("00", "01", 1)),
            GOOD.replace("-01", "-0"),
            GOOD.replace("-01", "-0x"),
            GOOD.replace('-', "_"),
            GOOD.replace("a3ce", "a-ce"),
            String::new(),
            "00".to_owned(),
        ];
        for case in cases {
            assert_eq!(traceparent(case.as_bytes()), None, "{case}");
        }
    }

    #[track_caller]
    fn check(lines: &[&str], expected: Option<&str>) {
        let state = tracestate(lines.iter().map(|line| line.as_bytes()));
        assert_eq!(state.as_deref(), expected.map(str::as_bytes), "{lines:?}");
    }

    #[test]
    fn tracestate_is_passed_on_if_it_is_one() {
        check(&["rojo=00f067aa0ba902b7, congo=t61rcWkgMzE"], Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"));
        check(&["a=1,", "\t0tenant@b=2"], Some("a=1,0tenant@b=2"));
        check(&["a=1 2"], Some("a=1 2"));
        check(&["", " ,"], None);
        for bad in ["a", "a=", "=1", "A=1", "0a=1", "a=1=2", "a=1,a=2", "a@=1", "a=\u{1}", "a=é"] {
            check(&[bad], None);
        }
        let many = |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        check(&[&many(32)], Some(&many(32)));
        check(&[&many(33)], None);
        check(&[&format!("a={}", "x".repeat(257))], None);
    }

    #[test]
    fn of_a_long_tracestate_long_members_go_first_and_then_the_last() {
        let long = format!("long={}", "x".repeat(200));
        let short = |n: usize| format!("k{n:02}={}", "y".repeat(40));
        let all = (0..12).map(short).collect::<Vec<_>>();
        check(&[&format!("{long},{}", all[..9].join(","))], Some(&all[..9].join(",")));
        check(&[&all.join(",")], Some(&all[..11].join(",")));
    }
}
