//! A client's whole stream: what goes on to the endpoint is what a strict recipient reads as the same
//! requests, with the same bodies, and nothing else.
#![no_main]

use http1::{Body, Form, Limits, Progress, RequestHead, RequestOut, parse_request};
use libfuzzer_sys::fuzz_target;

mod strict;

const LIMITS: Limits = Limits { line: 300, headers: 600 };

fuzz_target!(|bytes: &[u8]| {
    let (mut rest, mut out, mut sent) = (bytes, Vec::new(), Vec::new());
    let mut head = RequestHead::default();
    while let Ok(Progress::Complete) = parse_request(rest, &LIMITS, &mut head) {
        let edit = RequestOut { upgrade: head.wants_upgrade, extra: b"via: 1.1 linkerd\r\n", ..RequestOut::default() };
        head.write(rest, &edit, &mut out);
        rest = &rest[head.len..];
        let (mut pass, mut payload) = (Body::new(head.body), Body::new(head.body));
        let mut body = Vec::new();
        let passed = pass.feed(rest, Form::Pass, &mut out);
        let paid = payload.feed(rest, Form::Payload, &mut body);
        sent.push((body, pass.is_done()));
        match (passed, paid) {
            (Ok((used, true)), Ok((same, true))) => {
                assert_eq!(used, same);
                rest = &rest[used..];
            }
            (passed, paid) => {
                assert_eq!(passed.is_err(), paid.is_err());
                break;
            }
        }
    }
    let read = strict::requests(&out).unwrap_or_else(|error| panic!("{error}\n{}", String::from_utf8_lossy(&out)));
    let read = read.into_iter().map(|message| (message.body, message.complete)).collect::<Vec<_>>();
    assert_eq!(read, sent, "{}", String::from_utf8_lossy(&out));
});
