//! Request heads: no panic, the same verdict for every split, what is written reads back, and another parser
//! reads the same.
#![no_main]

#[path = "../../crates/http1/tests/peer/mod.rs"]
#[allow(dead_code)]
mod peer;

use http1::{HeadError, Limits, Progress, RequestHead, RequestOut, parse_request};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { line: 200, headers: 400 };

fuzz_target!(|bytes: &[u8]| {
    let mut head = RequestHead::default();
    let whole = parse_request(bytes, &LIMITS, &mut head);
    if whole == Ok(Progress::Complete) {
        let mut out = Vec::new();
        head.write(bytes, &RequestOut::default(), &mut out);
        let mut again = RequestHead::default();
        assert_eq!(parse_request(&out, &Limits::REQUEST, &mut again), Ok(Progress::Complete));
        assert_eq!((again.len, again.body), (out.len(), head.body));
        assert_eq!(again.host(&out), head.host(bytes));
    }
    let mut prefix = RequestHead::default();
    let verdict = (0..=bytes.len())
        .map(|end| parse_request(&bytes[..end], &LIMITS, &mut prefix))
        .find(|verdict| *verdict != Ok(Progress::Partial));
    let expected: Result<Progress, HeadError> = verdict.unwrap_or(Ok(Progress::Partial));
    assert_eq!(whole, expected);
    peer::compare_requests(bytes);
});
