//! Properties over generated input: no panic, no dependence on how bytes are split, nothing
//! written that does not read back the same.

mod peer;

use http1::{
    Body, BodyError, BodyKind, Exchange, Form, HeadError, Limits, Progress, RequestHead, RequestOut, ResponseHead,
    parse_request, parse_response, write_chunk,
};
use proptest::prelude::*;

/// Small limits, so that generated heads cross them.
const LIMITS: Limits = Limits { line: 40, headers: 60 };

/// Messages made of pieces that matter to a parser, in every order.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "GET / HTTP/1.1\r\n",
        "POST http://a/ HTTP/1.0\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 204\r\n",
        "Host: a\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: x, close\r\n",
        "X: y\r\n",
        "X:",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        ":",
        "abc",
        "3\r\nabc\r\n",
        "0\r\n\r\n",
        "\u{0}",
        "é",
        "vvvvvvvvvvvvvvvvvvvv",
        "/",
        "HTTP/1.1",
        "GET ",
    ];
    let piece = prop_oneof![
        9 => proptest::sample::select(pieces.map(|piece| piece.as_bytes().to_vec()).to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

/// Parses as a reader does that gets the bytes one by one: the first verdict is final.
fn drip<H>(bytes: &[u8], parse: impl Fn(&[u8]) -> Result<(Progress, H), HeadError>) -> Result<Option<H>, HeadError> {
    for end in 0..=bytes.len() {
        if let (Progress::Complete, head) = parse(&bytes[..end])? {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

fn request(bytes: &[u8]) -> Result<(Progress, String), HeadError> {
    let mut head = RequestHead::default();
    parse_request(bytes, &LIMITS, &mut head).map(|progress| (progress, format!("{head:?}")))
}

fn response(bytes: &[u8]) -> Result<(Progress, String), HeadError> {
    let mut head = ResponseHead::default();
    parse_response(bytes, &LIMITS, Exchange::default(), &mut head).map(|progress| (progress, format!("{head:?}")))
}

fn whole<H>(parsed: Result<(Progress, H), HeadError>) -> Result<Option<H>, HeadError> {
    parsed.map(|(progress, head)| (progress == Progress::Complete).then_some(head))
}

/// Decodes in the given pieces: output, bytes used, verdict.
fn decode(kind: BodyKind, form: Form, pieces: &[&[u8]]) -> (Vec<u8>, usize, Result<bool, BodyError>) {
    let (mut body, mut out, mut used) = (Body::new(kind), Vec::new(), 0);
    for piece in pieces {
        if body.is_done() {
            break;
        }
        match body.feed(piece, form, &mut out) {
            Ok((n, _)) => used += n,
            Err(error) => return (out, 0, Err(error)),
        }
    }
    (out, used, Ok(body.is_done()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_request_reads_the_same_however_it_is_split(bytes in messages()) {
        prop_assert_eq!(whole(request(&bytes)), drip(&bytes, request));
    }

    #[test]
    fn a_response_reads_the_same_however_it_is_split(bytes in messages()) {
        prop_assert_eq!(whole(response(&bytes)), drip(&bytes, response));
    }

    #[test]
    fn another_parser_reads_the_same(bytes in messages()) {
        peer::compare_requests(&bytes);
        peer::compare_responses(&bytes);
    }

    #[test]
    fn another_parser_reads_the_same_lines(lines in proptest::collection::vec((
        "[!-~]{0,3}[A-Za-z0-9-]{0,12}", "[ \t]{0,3}", proptest::collection::vec(any::<u8>(), 0..4), "[ -~\t]{0,30}"
    ), 0..5)) {
        let mut bytes = Vec::new();
        for (name, blanks, noise, value) in &lines {
            bytes.extend_from_slice(format!("{name}:{blanks}").as_bytes());
            bytes.extend_from_slice(value.as_bytes());
            // Mostly none.
            bytes.extend_from_slice(if noise.len() == 3 { noise } else { b"" });
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        peer::compare_requests(&[b"GET /a HTTP/1.1\r\n", &bytes[..]].concat());
        peer::compare_responses(&[b"HTTP/1.1 200 OK\r\n", &bytes[..]].concat());
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = request(&bytes);
        let _ = response(&bytes);
        peer::compare_requests(&bytes);
        peer::compare_responses(&bytes);
        let _ = decode(BodyKind::Chunked, Form::Pass, &[&bytes]);
    }

    #[test]
    fn a_written_request_reads_back_the_same(bytes in messages()) {
        let mut head = RequestHead::default();
        if parse_request(&bytes, &Limits::REQUEST, &mut head) == Ok(Progress::Complete) {
            let (mut out, mut again) = (Vec::new(), RequestHead::default());
            head.write(&bytes, &RequestOut::default(), &mut out);
            prop_assert_eq!(parse_request(&out, &Limits::REQUEST, &mut again), Ok(Progress::Complete));
            prop_assert_eq!(again.len, out.len());
            prop_assert_eq!(again.body, head.body);
            prop_assert_eq!(again.host(&out), head.host(&bytes));
            prop_assert_eq!(again.method_name(&out), head.method_name(&bytes));
        }
    }

    #[test]
    fn chunks_decode_the_same_however_they_are_split(
        pieces in proptest::collection::vec(proptest::sample::select(vec![
            "2\r\nab\r\n", "01;x=y\r\nc\r\n", "0\r\n", "\r\n", "X: y\r\n", "3\r\n", "g", "\n", " ;", "1", "\r",
        ]), 0..8),
        cut in any::<proptest::sample::Index>(),
        pass in any::<bool>(),
    ) {
        let bytes = pieces.concat().into_bytes();
        let form = if pass { Form::Pass } else { Form::Payload };
        let at = cut.index(bytes.len() + 1);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let expected = decode(BodyKind::Chunked, form, &[&bytes]);
        prop_assert_eq!(&decode(BodyKind::Chunked, form, &[&bytes[..at], &bytes[at..]]), &expected);
        prop_assert_eq!(&decode(BodyKind::Chunked, form, &single), &expected);
    }

    #[test]
    fn what_passes_is_clean_and_means_the_same(payloads in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 1..40), 0..6), extension in "[ -~]{0,20}") {
        let mut raw = Vec::new();
        for payload in &payloads {
            raw.extend_from_slice(format!("{:X};{extension}\r\n", payload.len()).as_bytes());
            raw.extend_from_slice(payload);
            raw.extend_from_slice(b"\r\n");
        }
        raw.extend_from_slice(b"0\r\nX: y\r\n\r\nnext");
        let (passed, used, done) = decode(BodyKind::Chunked, Form::Pass, &[&raw]);
        prop_assert_eq!((used, done), (raw.len() - 4, Ok(true)));
        let (payload, _, _) = decode(BodyKind::Chunked, Form::Payload, &[&passed]);
        prop_assert_eq!(&payload, &payloads.concat());
        let mut canonical = Vec::new();
        payloads.iter().for_each(|payload| write_chunk(&mut canonical, payload));
        canonical.extend_from_slice(http1::LAST_CHUNK);
        prop_assert_eq!(passed.to_ascii_lowercase(), canonical.to_ascii_lowercase());
    }
}

#[test]
fn heads_over_the_limits_are_refused_at_the_same_length() {
    let line = |n: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "t".repeat(n));
    let headers = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "v".repeat(n));
    let count = |n: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "X:\r\n".repeat(n));
    for (bytes, expected) in [
        (line(4096 - 14), Ok(Progress::Complete)),
        (line(4096 - 13), Err(HeadError::LineTooLong)),
        (headers(8192 - 9 - 5), Ok(Progress::Complete)),
        (headers(8192 - 9 - 4), Err(HeadError::HeadersTooLarge)),
        (count(128), Ok(Progress::Complete)),
        (count(129), Err(HeadError::HeadersTooLarge)),
    ] {
        let mut head = RequestHead::default();
        assert_eq!(parse_request(bytes.as_bytes(), &Limits::REQUEST, &mut head), expected);
        if expected.is_err() {
            let prefix = (0..bytes.len())
                .find_map(|end| parse_request(&bytes.as_bytes()[..end], &Limits::REQUEST, &mut head).err());
            assert_eq!(prefix, expected.err());
        }
    }
}

#[test]
fn the_preface_of_http2_is_known_however_it_is_split() {
    let cases: [(&[u8], HeadError); 3] = [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HeadError::Http2Preface),
        (b"PRI * HTTP/2.1\r\n", HeadError::Version),
        (b"GET / HTTP/2.0\r\n", HeadError::Version),
    ];
    for (bytes, error) in cases {
        assert_eq!(whole(request(bytes)), Err(error), "whole");
        assert_eq!(drip(bytes, request), Err(error), "byte by byte");
    }
}
