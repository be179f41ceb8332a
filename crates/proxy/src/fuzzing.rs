//! Doors for `fuzz/`, and for tests that go through them with less time; in no other build.

use std::net::{IpAddr, Ipv4Addr};

use http1::{Known, Limits, Progress, RequestHead, parse_request};

use crate::access_log::Line;
use crate::compress::Coding;
use crate::context::{self, Deadline};
use crate::forwarded::quoted;
use crate::request::write_via;
use crate::settings::{B3, Identifier, TracePropagator};
use crate::trace::sample_rate;

const LIMITS: Limits = Limits { line: 400, headers: 2000 };
const PROPAGATORS: [TracePropagator; 5] = [
    TracePropagator::Linkerd,
    TracePropagator::Zipkin { write: B3::Multi },
    TracePropagator::Zipkin { write: B3::Single },
    TracePropagator::Zipkin { write: B3::Both },
    TracePropagator::W3c,
];

/// All that is read from a request's headers, and what is written of it: lines that are lines, and read back.
///
/// # Panics
/// If they do not.
pub fn request(bytes: &[u8]) {
    let mut head = RequestHead::default();
    if parse_request(bytes, &LIMITS, &mut head) != Ok(Progress::Complete) {
        return;
    }
    traces(&head, bytes);
    identifiers(&head, bytes);
    let (mut key, mut line) = (Vec::new(), Vec::new());
    context::dtab_key(&head, bytes, &mut key);
    if let Ok(dtab) = context::dtab(&head, bytes) {
        let shown = dtab.to_string();
        assert!(shown.bytes().all(|byte| (b' '..127).contains(&byte)), "{shown:?}");
        names::Dtab::read(&shown).expect("what goes on");
    }
    if let Some(deadline) = Deadline::of(&head, bytes) {
        deadline.write(&mut line);
        assert_eq!(read(&line, Deadline::of), Some(deadline));
    }
    if let Some(rate) = head.first(bytes, Known::L5dSample).and_then(sample_rate) {
        assert!((0.0..=1.0).contains(&rate));
    }
    let _ = Coding::wanted(&head, bytes);
    let mut via = Vec::new();
    write_via(&head, bytes, head.has(Known::Via), &mut via);
    let passed = |value: &[u8]| value.split(|byte| *byte == b',').count();
    let before = head.fields.all(bytes, Known::Via).map(passed).sum::<usize>();
    let after = read(&via, |head, bytes| head.first(bytes, Known::Via).map(passed)).expect("a Via");
    assert_eq!(after, before + 1);
    let mut forwarded = b"forwarded: host=".to_vec();
    quoted(head.first(bytes, Known::Host).unwrap_or_default(), &mut forwarded);
    forwarded.extend_from_slice(b"\r\n");
    let text = read(&forwarded, |head, bytes| head.fields.named(bytes, "forwarded").next().map(<[u8]>::to_vec));
    let quotes = text.expect("a line").iter().filter(|byte| **byte == b'"').count();
    assert!(quotes == 0 || quotes == 2);
    access_line(&bytes[..head.len]);
}

/// Reads these lines as those of a request.
fn read<T>(lines: &[u8], found: impl Fn(&RequestHead, &[u8]) -> T) -> T {
    let bytes = [b"GET / HTTP/1.1\r\nhost: a\r\n", lines, b"\r\n"].concat();
    let mut head = RequestHead::default();
    let parsed = parse_request(&bytes, &Limits { line: 100, headers: 8000 }, &mut head);
    assert_eq!(parsed, Ok(Progress::Complete), "{}", String::from_utf8_lossy(lines));
    found(&head, &bytes)
}

fn traces(head: &RequestHead, bytes: &[u8]) {
    for propagator in PROPAGATORS {
        let mut next = 100;
        let mut random = || {
            next += 1;
            next
        };
        let received = propagator.receive(head, bytes, false, &mut random);
        let client = received.server.child(&mut random);
        let mut lines = Vec::new();
        client.write(propagator, received.state.as_deref(), &mut lines);
        let again = read(&lines, |head, bytes| propagator.receive(head, bytes, false, &mut || 7));
        assert_eq!((again.server.trace, again.server.parent), (client.trace, client.span), "{propagator:?}");
        // What is decided is told. Of Linkerd's word no flag is lost: SAMPLED alone decides nothing, DEBUG alone
        // is a decision, which whoever reads it adds.
        let told = received.server.decision();
        assert!(told.is_none() || again.decision == told, "{propagator:?}");
        assert!(propagator != TracePropagator::Linkerd || again.server.flags & client.flags == client.flags);
    }
}

fn identifiers(head: &RequestHead, bytes: &[u8]) {
    let all = [
        Identifier::default(),
        Identifier::Header { header: "l5d-name".to_owned() },
        Identifier::MethodAndHost { uri: true },
        Identifier::Path { segments: 1, consume: true },
        Identifier::Path { segments: 2, consume: true },
    ];
    for identifier in all {
        let (mut key, mut target) = (Vec::new(), Vec::new());
        if identifier.key(head, bytes, &mut key).is_err() {
            continue;
        }
        if let Ok(path) = identifier.name(&key) {
            assert_eq!(names::Path::read(&path.show()).expect("what is shown"), path);
        }
        if identifier.target(head, bytes, &mut target) {
            assert!(target.starts_with(b"/"));
            let whole = [b"GET ", &*target, b" HTTP/1.1\r\nhost: a\r\n\r\n"].concat();
            let parsed = parse_request(&whole, &Limits { line: 500, headers: 100 }, &mut RequestHead::default());
            assert_eq!(parsed, Ok(Progress::Complete), "{}", String::from_utf8_lossy(&whole));
        }
    }
}

/// One request, one line, however it is made.
fn access_line(bytes: &[u8]) {
    let line =
        Line { request: bytes, host: None, peer: IpAddr::V4(Ipv4Addr::LOCALHOST), status: 200, length: Some(b"1") };
    let mut out = Vec::new();
    line.append(b"now", &mut out);
    let controls = out.iter().filter(|byte| byte.is_ascii_control() && **byte != b'\t').count();
    assert!(controls == 1 && out.ends_with(b"\n"), "{}", String::from_utf8_lossy(&out));
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_written_of_a_request_reads_back() {
        let seeds: [&[u8]; 2] = [
            include_bytes!("../../../fuzz/seeds/request_context/linkerd"),
            include_bytes!("../../../fuzz/seeds/request_context/others"),
        ];
        testkit::mutation::mutations(&seeds, 20_000).for_each(|bytes| super::request(&bytes));
    }
}
