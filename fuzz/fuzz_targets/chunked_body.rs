//! Chunked bodies: no panic, the same output and verdict for every split, and what is passed on is
//! a clean chunked body with the same payload.
#![no_main]

use http1::{Body, BodyError, BodyKind, Form};
use libfuzzer_sys::fuzz_target;

fn decode<'a>(form: Form, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Result<bool, BodyError>) {
    let (mut body, mut out) = (Body::new(BodyKind::Chunked), Vec::new());
    for piece in pieces {
        if body.is_done() {
            break;
        }
        if let Err(error) = body.feed(piece, form, &mut out) {
            return (out, Err(error));
        }
    }
    (out, Ok(body.is_done()))
}

fuzz_target!(|bytes: &[u8]| {
    for form in [Form::Pass, Form::Payload] {
        assert_eq!(decode(form, std::iter::once(bytes)), decode(form, bytes.chunks(1)));
    }
    let (payload, verdict) = decode(Form::Payload, std::iter::once(bytes));
    let (passed, _) = decode(Form::Pass, std::iter::once(bytes));
    let (again, clean) = decode(Form::Payload, std::iter::once(&passed[..]));
    assert_eq!(again, payload);
    if verdict.is_ok() {
        assert_eq!(clean, verdict);
    }
});
