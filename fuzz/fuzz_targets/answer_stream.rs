//! An endpoint's whole stream: what goes on to the client is what a strict recipient reads as one answer with
//! the same body; an answer that was cut never looks whole; interim answers are none.
#![no_main]

use http1::{
    Body, BodyKind, Delivery, Exchange, Form, LAST_CHUNK, Limits, Method, Progress, ResponseHead, ResponseOut, Version,
    parse_response, write_chunk,
};
use libfuzzer_sys::fuzz_target;

mod strict;

const LIMITS: Limits = Limits { line: 300, headers: 600 };

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, mut rest)) = bytes.split_first() else { return };
    let method = [Method::Get, Method::Head, Method::Connect, Method::Post][usize::from(choice % 4)];
    let exchange = Exchange { method, upgrade: choice & 4 != 0 };
    let client = if choice & 8 != 0 { Version::Http10 } else { Version::Http11 };
    let mut head = ResponseHead::default();
    let mut out = Vec::new();
    loop {
        let Ok(Progress::Complete) = parse_response(rest, &LIMITS, exchange, &mut head) else { return };
        if !head.is_interim() {
            break;
        }
        let mut hint = Vec::new();
        head.write(rest, &ResponseOut::default(), &mut hint);
        let asked = strict::Asked { head: false, connect: false };
        let (message, left) = strict::answer(&hint, asked).expect("an interim answer");
        assert!(message.start.starts_with("HTTP/1.1 1") && left.is_empty());
        rest = &rest[head.len..];
    }
    head.write(rest, &ResponseOut { client, extra: b"via: 1.1 linkerd\r\n", ..ResponseOut::default() }, &mut out);
    rest = &rest[head.len..];
    let delivery = head.delivery(client);
    let (mut body, mut payload) = (Body::new(head.body), Vec::new());
    let mut same = Body::new(head.body);
    let taken = body.feed(rest, Form::Payload, &mut payload);
    let mut whole = body.is_done();
    match delivery {
        Delivery::Same => assert_eq!(same.feed(rest, Form::Pass, &mut out).is_err(), taken.is_err()),
        Delivery::Chunk => {
            write_chunk(&mut out, &payload);
            whole = taken.is_ok();
            out.extend_from_slice(if whole { LAST_CHUNK } else { b"" });
        }
        Delivery::UntilClose => {
            whole = taken.is_ok() && (whole || head.body == BodyKind::UntilClose);
            out.extend_from_slice(&payload);
        }
    }
    let asked = strict::Asked { head: method == Method::Head, connect: method == Method::Connect };
    let shown = String::from_utf8_lossy(&out).into_owned();
    let (message, left) = strict::answer(&out, asked).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    assert_eq!(message.body, payload, "{shown}");
    // Where only the close ends a body, a cut is a reset, which is not in the bytes.
    if delivery != Delivery::UntilClose {
        assert_eq!(message.complete, whole, "{shown}");
    }
    assert!(left.is_empty(), "{shown}");
});
