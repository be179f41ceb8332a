//! What goes out for what came in: heads as they are written, byte by byte.

use http1::{
    Delivery, Exchange, Known, KnownSet, Limits, Method, Progress, RequestHead, RequestOut, ResponseHead, ResponseOut,
    Version, parse_request, parse_response,
};

fn request(raw: &str) -> RequestHead {
    let mut head = RequestHead::default();
    let parsed = parse_request(raw.as_bytes(), &Limits::REQUEST, &mut head);
    assert_eq!(parsed, Ok(Progress::Complete), "{raw}");
    head
}

fn check_request(raw: &str, edit: &RequestOut<'_>, expected: &str) {
    let raw = raw.replace('~', "\r\n");
    let mut out = b"before ".to_vec();
    request(&raw).write(raw.as_bytes(), edit, &mut out);
    let out = String::from_utf8(out).expect("ASCII");
    assert_eq!(out.replace("\r\n", "~"), format!("before {expected}"), "for {raw}");
}

#[test]
fn a_request_goes_on_in_origin_form_without_hop_by_hop_fields() {
    for (raw, expected) in [
        ("GET /a HTTP/1.1~Host: h~~", "GET /a HTTP/1.1~Host: h~~"),
        ("~GET /a HTTP/1.1~host:h  ~X:y~~", "GET /a HTTP/1.1~host:h  ~X:y~~"),
        ("GET /a HTTP/1.0~~", "GET /a HTTP/1.0~~"),
        ("GET http://r/x HTTP/1.1~A: 1~Host: h~B: 2~~", "GET /x HTTP/1.1~host: r~A: 1~B: 2~~"),
        ("GET http://r?q HTTP/1.0~~", "GET /?q HTTP/1.0~host: r~~"),
        ("OPTIONS http://r HTTP/1.1~~", "OPTIONS * HTTP/1.1~host: r~~"),
        ("CONNECT r:1 HTTP/1.1~Host: h~~", "CONNECT r:1 HTTP/1.1~host: r:1~~"),
        ("GET / HTTP/1.1~~", "GET / HTTP/1.1~host: ~~"),
        (
            "GET / HTTP/1.1~Te: x~Host: h~Connection: close, a ,B~A: 1~C: 2~b: 3~Upgrade: x~~",
            "GET / HTTP/1.1~Host: h~C: 2~~",
        ),
        (
            "GET / HTTP/1.1~Host: h~Connection: host, x~X: 1~Proxy-Authorization: y~Trailer: z~~",
            "GET / HTTP/1.1~Host: h~~",
        ),
        ("GET / HTTP/1.1~Host: h~Keep-Alive: 5~~", "GET / HTTP/1.1~Host: h~Keep-Alive: 5~~"),
        ("GET / HTTP/1.1~Host: h~Connection: keep-alive~Keep-Alive: 5~~", "GET / HTTP/1.1~Host: h~~"),
        ("PUT / HTTP/1.1~Host: h~Content-Length: 5~~", "PUT / HTTP/1.1~Host: h~Content-Length: 5~~"),
        ("PUT / HTTP/1.1~Host: h~Content-Length: 005~X: y~~", "PUT / HTTP/1.1~Host: h~X: y~content-length: 5~~"),
        (
            "PUT / HTTP/1.1~Host: h~Transfer-Encoding: Chunked~Expect: 100-continue~X: y~~",
            "PUT / HTTP/1.1~Host: h~Transfer-Encoding: Chunked~X: y~~",
        ),
        (
            "PUT / HTTP/1.1~Host: h~Connection: content-length, transfer-encoding~Content-Length: 5~~",
            "PUT / HTTP/1.1~Host: h~Content-Length: 5~~",
        ),
        ("GET / HTTP/1.1~Host: h~Connection: Upgrade~Upgrade: websocket~~", "GET / HTTP/1.1~Host: h~~"),
    ] {
        check_request(raw, &RequestOut::default(), expected);
    }
}

#[test]
fn a_request_is_edited_as_asked() {
    let raw = "GET /a?q HTTP/1.1~Via: 1.0 x~Host: h~L5d-Dtab: a~X: y~~";
    let remove = KnownSet::HOP_BY_HOP.with(KnownSet::of(&[Known::Via, Known::L5dDtab]));
    let edit = RequestOut { remove, extra: b"via: 1.0 x, 1.1 me\r\n", ..RequestOut::default() };
    check_request(raw, &edit, "GET /a?q HTTP/1.1~Host: h~X: y~via: 1.0 x, 1.1 me~~");
    let edit = RequestOut { target: Some(b"/b"), ..edit };
    check_request(raw, &edit, "GET /b HTTP/1.1~Host: h~X: y~via: 1.0 x, 1.1 me~~");
    let edit = RequestOut { host: Some(b"z:1"), extra: b"", target: None, ..edit };
    check_request(raw, &edit, "GET /a?q HTTP/1.1~host: z:1~X: y~~");
    let upgrade = RequestOut { upgrade: true, ..RequestOut::default() };
    check_request(
        "GET /a HTTP/1.1~Host: h~Connection: keep-alive, Upgrade~Upgrade: websocket~~",
        &upgrade,
        "GET /a HTTP/1.1~Host: h~Upgrade: websocket~connection: upgrade~~",
    );
    check_request("GET /a HTTP/1.1~Host: h~Upgrade: websocket~~", &upgrade, "GET /a HTTP/1.1~Host: h~~");
}

#[test]
fn a_dropped_line_is_left_out() {
    let raw = "GET /a HTTP/1.1\r\nHost: h\r\nX: 1\r\nY: 2\r\nX: 3\r\n\r\n";
    let mut head = request(raw);
    for field in head.fields.iter_mut() {
        if field.name(raw.as_bytes()) == b"X" {
            field.drop_line();
        }
    }
    let mut out = Vec::new();
    head.write(raw.as_bytes(), &RequestOut::default(), &mut out);
    assert_eq!(out, b"GET /a HTTP/1.1\r\nHost: h\r\nY: 2\r\n\r\n");
}

struct Answer<'a> {
    raw: &'a str,
    method: Method,
    client: Version,
    keep_alive: bool,
}

fn check_answer(case: &Answer<'_>, delivery: Delivery, expected: &str) {
    let raw = case.raw.replace('~', "\r\n");
    let mut head = ResponseHead::default();
    let exchange = Exchange { method: case.method, upgrade: true };
    let parsed = parse_response(raw.as_bytes(), &Limits::RESPONSE, exchange, &mut head);
    assert_eq!(parsed, Ok(Progress::Complete), "{raw}");
    let mut out = Vec::new();
    let edit = ResponseOut { client: case.client, keep_alive: case.keep_alive, ..ResponseOut::default() };
    head.write(raw.as_bytes(), &edit, &mut out);
    let out = String::from_utf8(out).expect("ASCII");
    assert_eq!(head.delivery(case.client), delivery, "for {raw}");
    assert_eq!(out.replace("\r\n", "~"), expected, "for {raw}");
}

#[test]
fn an_answer_is_framed_for_its_client() {
    let (get, head) = (Method::Get, Method::Head);
    let (new, old) = (Version::Http11, Version::Http10);
    let (same, chunk, until) = (Delivery::Same, Delivery::Chunk, Delivery::UntilClose);
    let ok = "HTTP/1.1 200 OK~";
    for (lines, method, client, keep_alive, delivery, expected) in [
        ("Content-Length: 2~X: y~", get, new, true, same, "Content-Length: 2~X: y~~"),
        ("Content-Length: 2~", get, new, false, same, "Content-Length: 2~connection: close~~"),
        ("Content-Length: 2~", get, old, true, same, "Content-Length: 2~connection: keep-alive~~"),
        ("Content-Length: 02~", get, new, true, same, "content-length: 2~~"),
        ("Content-Length: 02~", head, new, true, same, "Content-Length: 02~~"),
        ("Transfer-Encoding: chunked~", get, new, true, same, "Transfer-Encoding: chunked~~"),
        ("Transfer-Encoding: chunked~", get, old, true, until, "connection: close~~"),
        ("Transfer-Encoding: chunked~", head, new, true, same, "~"),
        ("Content-Length: 2~Transfer-Encoding: chunked~", get, new, true, same, "Transfer-Encoding: chunked~~"),
        ("X: y~", get, new, true, chunk, "X: y~transfer-encoding: chunked~~"),
        ("", get, old, true, until, "connection: close~~"),
        ("Connection: close, x~X: y~Content-Length: 0~", get, new, true, same, "Content-Length: 0~~"),
    ] {
        let raw = format!("{ok}{lines}~");
        let case = Answer { raw: &raw, method, client, keep_alive };
        check_answer(&case, delivery, &format!("{ok}{expected}"));
    }
}

#[test]
fn odd_status_lines_are_written_anew_and_interim_answers_carry_no_framing() {
    for (raw, expected) in [
        ("HTTP/1.0 200 OK~Content-Length: 0~~", "HTTP/1.1 200 OK~Content-Length: 0~~"),
        ("HTTP/1.1 200~Content-Length: 0~~", "HTTP/1.1 200 ~Content-Length: 0~~"),
        ("HTTP/1.1 204 No Content~Content-Length: 0~~", "HTTP/1.1 204 No Content~~"),
        ("HTTP/1.1 304 X~Content-Length: 7~~", "HTTP/1.1 304 X~Content-Length: 7~~"),
        ("HTTP/1.1 103 X~Link: y~Content-Length: 7~~", "HTTP/1.1 103 X~Link: y~~"),
        ("HTTP/1.1 103 X~Transfer-Encoding: chunked~~", "HTTP/1.1 103 X~~"),
    ] {
        let case = Answer { raw, method: Method::Get, client: Version::Http11, keep_alive: true };
        check_answer(&case, Delivery::Same, expected);
    }
}

#[test]
fn answers_of_our_own_are_well_formed() {
    let mut out = Vec::new();
    http1::write_error(&mut out, 502, b"l5d-err: x\r\n", b"why");
    assert_eq!(out, b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\nl5d-err: x\r\n\r\nwhy");
    out.clear();
    http1::write_refusal(&mut out, 414);
    let text = "HTTP/1.0 414 Request-URI Too Long\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(out, text.as_bytes());
    out.clear();
    http1::write_chunk(&mut out, &[b'x'; 26]);
    http1::write_chunk(&mut out, b"");
    out.extend_from_slice(http1::LAST_CHUNK);
    assert_eq!(out, b"1a\r\nxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n0\r\n\r\n");
}
