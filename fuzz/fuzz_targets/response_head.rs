//! Response heads: no panic, the same verdict for every split, what is written reads back, and another parser
//! reads the same.
#![no_main]

#[path = "../../crates/http1/tests/peer/mod.rs"]
#[allow(dead_code)]
mod peer;

use http1::{BodyKind, Delivery, Exchange, Limits, Method, Progress, ResponseHead, ResponseOut, parse_response};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { line: 200, headers: 400 };

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let method = [Method::Get, Method::Head, Method::Connect][usize::from(choice % 3)];
    let exchange = Exchange { method, upgrade: choice & 4 != 0 };
    let mut head = ResponseHead::default();
    let whole = parse_response(bytes, &LIMITS, exchange, &mut head);
    if whole == Ok(Progress::Complete) {
        let mut out = Vec::new();
        let edit = ResponseOut::default();
        head.write(bytes, &edit, &mut out);
        let mut again = ResponseHead::default();
        assert_eq!(parse_response(&out, &Limits::RESPONSE, exchange, &mut again), Ok(Progress::Complete));
        assert_eq!((again.len, again.status), (out.len(), head.status));
        match head.delivery(edit.client) {
            Delivery::Chunk => assert_eq!(again.body, BodyKind::Chunked),
            _ => assert_eq!(again.body, head.body),
        }
    }
    let mut prefix = ResponseHead::default();
    let verdict = (0..=bytes.len())
        .map(|end| parse_response(&bytes[..end], &LIMITS, exchange, &mut prefix))
        .find(|verdict| *verdict != Ok(Progress::Partial));
    assert_eq!(whole, verdict.unwrap_or(Ok(Progress::Partial)));
    peer::compare_responses(bytes);
});
