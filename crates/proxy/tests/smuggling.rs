//! Whole exchanges of the kind that smuggling lives on: what one side sends must never become a message that
//! nobody sent on the other, nor shift who gets which answer.
//!
//! The codec alone is tested with many more cases in `http1/tests/corpus`.

mod common;

use std::io::{BufReader, Write};
use std::time::Duration;

use common::Proxy;
use common::backend::{Backend, Message, message};

/// An endpoint that answers `/x…` with these bytes and everything else with its target.
fn endpoint_saying(bytes: &[u8]) -> Backend {
    let bytes = bytes.to_vec();
    Backend::start(Box::new(move |_, request| {
        let target = request.word(1).to_owned();
        let echo = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
        Some((if target.starts_with("/x") { bytes.clone() } else { echo.into_bytes() }, false))
    }))
}

fn proxy_to(backend: &Backend) -> Proxy {
    Proxy::start(&format!("/svc/* => /$/inet/127.0.0.1/{}", backend.port))
}

fn lines(requests: &[Message]) -> Vec<String> {
    requests.iter().map(|request| format!("{} {}", request.word(0), request.word(1))).collect()
}

/// The statuses of all answers in these bytes; what is no status line does not count.
fn statuses(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let found = text.match_indices("HTTP/1.").map(|(at, _)| text[at..].chars().skip(9).take(3).collect());
    found.collect()
}

/// Sends `bytes` to a proxy and gives what the endpoint saw and what came back.
fn sent(bytes: &[u8]) -> (Vec<Message>, Vec<u8>) {
    let backend = endpoint_saying(b"");
    let proxy = proxy_to(&backend);
    let answer = proxy.raw(bytes);
    // Whatever it was, others are served.
    assert_eq!(proxy.get("/probe", &[("Host", "web")]).text(), "/probe", "{}", String::from_utf8_lossy(bytes));
    let mut requests = backend.requests();
    requests.retain(|request| request.word(1) != "/probe");
    (requests, answer)
}

const END: &str = "GET /end HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";

#[test]
fn after_a_refusal_nothing_is_a_request() {
    let many = |count: usize| (0..count).map(|n| format!("X{n}: y\r\n")).collect::<String>();
    let post = |fields: &str| format!("POST /p HTTP/1.1\r\nHost: web\r\n{fields}\r\n");
    let (long_name, long_line) = ("n".repeat(9000), "x".repeat(5000));
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n") + body;
    let extension = "e".repeat(5000);
    let cases: Vec<(String, &str)> = vec![
        (post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n", "400"),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n") + "0\r\n\r\n", "400"),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n") + "0\r\n\r\n", "400"),
        (post("Transfer-Encoding: xchunked\r\n"), "501"),
        (post("Transfer-Encoding:\r\n chunked\r\n"), "400"),
        (post("Transfer-Encoding\r\n : chunked\r\n"), "400"),
        (post("Transfer_Encoding : chunked\r\n"), "400"),
        (post("X: a\rTransfer-Encoding: chunked\r\n"), "400"),
        (post("X: a\nTransfer-Encoding: chunked\r\n"), "400"),
        (post("X: a\0b\r\n"), "400"),
        (post("Content-Length: 0\r\nContent-Length: 44\r\n"), "400"),
        (post("Content-Length: 4 4\r\n"), "400"),
        (post("Content-Length: \u{b2}\r\n"), "400"),
        (post("Content-Length: 00000000000000000000000000000000000000000099999999999999999999\r\n"), "400"),
        (post("Host: other\r\n"), "400"),
        (post("\u{a0}Host: other\r\n"), "400"),
        (post(&many(128)), "431"),
        (post(&format!("{long_name}: y\r\n")), "431"),
        (format!("GET /{long_line} HTTP/1.1\r\nHost: web\r\n\r\n"), "414"),
        ("GET /a HTTP/1.1\r\nHost: web@evil\r\n\r\n".into(), "400"),
        ("GET /a HTTP/1.1\r\nHost: web:80:81\r\n\r\n".into(), "400"),
        ("GET /a HTTP/1.1\r\nHost: [::1\r\n\r\n".into(), "400"),
        ("GET http://web:pw@evil/ HTTP/1.1\r\nHost: web\r\n\r\n".into(), "400"),
        ("GET http:///a HTTP/1.1\r\nHost: web\r\n\r\n".into(), "400"),
        ("GET /a HTTP/1.1 HTTP/1.1\r\nHost: web\r\n\r\n".into(), "400"),
        ("GET  /a HTTP/1.1\r\nHost: web\r\n\r\n".into(), "400"),
        ("GET\t/a HTTP/1.1\r\nHost: web\r\n\r\n".into(), "400"),
        ("GET /a\0b HTTP/1.1\r\nHost: web\r\n\r\n".into(), "400"),
        ("G\u{cb}T /a HTTP/1.1\r\nHost: web\r\n\r\n".into(), "400"),
        ("GET /a\r\n\r\n".into(), "400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), "505"),
        ("\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03".into(), "400"),
        ("CONNECT web:80 HTTP/1.1\r\nHost: web\r\nContent-Length: 5\r\n\r\nhello".into(), "400"),
        ("CONNECT web:80 HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(), "400"),
        ("CONNECT /a HTTP/1.1\r\nHost: web\r\n\r\n".into(), "400"),
        ("CONNECT http://web/ HTTP/1.1\r\nHost: web\r\n\r\n".into(), "400"),
        (chunked("-1\r\n"), "400"),
        (chunked("0x1\r\na\r\n0\r\n\r\n"), "400"),
        (chunked(" 1\r\na\r\n0\r\n\r\n"), "400"),
        (chunked("1 \ra\r\n0\r\n\r\n"), "400"),
        (chunked("1\na\n0\n\n"), "400"),
        (chunked("8000000000000000\r\n"), "400"),
        (chunked("00000000000000001\r\na\r\n0\r\n\r\n"), "400"),
        (chunked(&format!("1;{extension}\r\na\r\n0\r\n\r\n")), "400"),
        (chunked("1;a=\"\n\"\r\na\r\n0\r\n\r\n"), "400"),
        (chunked("1\r\nab\r\n0\r\n\r\n"), "400"),
        (chunked("0\r\nX : y\r\n\r\n"), "400"),
        (chunked("0\r\nX: y\n\r\n"), "400"),
        (chunked(&format!("0\r\n{}\r\n", many(2000))), "400"),
    ];
    let mut wrong = Vec::new();
    for (bytes, status) in cases {
        // Latin-1, so that a character is a byte.
        let attack = bytes.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1"));
        let all = attack.chain(END.bytes()).collect::<Vec<_>>();
        let shown = bytes.chars().take(100).collect::<String>();
        let (requests, answer) = sent(&all);
        // A body that turns out bad may have gone on in part: its request, but none after it.
        let all_known = requests.len() <= 1 && requests.iter().all(|seen| seen.word(1) == "/p");
        if !all_known || statuses(&answer) != [status] {
            wrong.push((shown, requests, String::from_utf8_lossy(&answer).into_owned()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_a_request_nominates_never_changes_its_framing_or_its_way() {
    let fields = "Connection: host, content-length, transfer-encoding, x-secret, via, l5d-dst-service, cookie\r\n\
                  X-Secret: 1\r\nCookie: a\r\nl5d-dst-service: /evil\r\nVia: 1.1 a\r\n";
    for (framing, body) in [
        ("Content-Length: 5\r\n", "hello"),
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nHost: evil\r\n\r\n"),
    ] {
        let bytes = format!("POST /p HTTP/1.1\r\nHost: web\r\n{fields}{framing}\r\n{body}{END}");
        let (requests, answer) = sent(bytes.as_bytes());
        assert_eq!(lines(&requests), ["POST /p", "GET /end"], "{framing}");
        let request = &requests[0];
        assert_eq!((request.body.as_slice(), request.all("host")), (&b"hello"[..], vec!["web"]), "{framing}");
        assert_eq!((request.header("x-secret"), request.header("cookie")), (None, None));
        assert_eq!(request.all("l5d-dst-service"), ["/svc/web"]);
        assert_eq!(request.all("connection").len(), 0);
        assert_eq!(statuses(&answer), ["200", "200"]);
    }
}

#[test]
fn trailers_and_chunk_extensions_end_here() {
    let body = "3;Content-Length=9\r\nabc\r\n0;x\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\nHost: e\r\n\r\n";
    let bytes =
        format!("POST /p HTTP/1.1\r\nHost: web\r\nTrailer: Host\r\nTransfer-Encoding: chunked\r\n\r\n{body}{END}");
    let (requests, answer) = sent(bytes.as_bytes());
    assert_eq!(lines(&requests), ["POST /p", "GET /end"]);
    assert_eq!((requests[0].body.as_slice(), requests[0].all("host")), (&b"abc"[..], vec!["web"]));
    assert_eq!(statuses(&answer), ["200", "200"]);
}

#[test]
fn the_authority_of_an_absolute_target_is_the_only_host() {
    let bytes = format!("GET http://web/a HTTP/1.1\r\nHost: evil\r\nConnection: host\r\n\r\n{END}");
    let (requests, _) = sent(bytes.as_bytes());
    assert_eq!(lines(&requests), ["GET /a", "GET /end"]);
    assert_eq!((requests[0].all("host"), requests[0].header("l5d-dst-service")), (vec!["web"], Some("/svc/web")));
}

#[test]
fn whatever_a_request_expects_its_body_is_its_body() {
    let smuggled = "GET /evil HTTP/1.1\r\nHost: web\r\n\r\n";
    for expect in ["100-continue", "100-Continue", "100-continue\r\nExpect: 100-continue", "100-continue, x", "200-ok"]
    {
        let length = smuggled.len();
        let bytes = format!(
            "POST /p HTTP/1.1\r\nHost: web\r\nExpect: {expect}\r\nContent-Length: {length}\r\n\r\n{smuggled}{END}"
        );
        let (requests, answer) = sent(bytes.as_bytes());
        assert_eq!(lines(&requests), ["POST /p", "GET /end"], "{expect}");
        assert_eq!(requests[0].body, smuggled.as_bytes(), "{expect}");
        let mut statuses = statuses(&answer);
        statuses.retain(|status| status != "100");
        assert_eq!(statuses, ["200", "200"], "{expect}");
    }
}

#[test]
fn an_upgrade_that_is_declined_leaves_requests_requests() {
    for offer in ["websocket", "h2c", "websocket, h2c", "TLS/1.0"] {
        let bytes = format!("GET /a HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: {offer}\r\n\r\n{END}");
        let (requests, answer) = sent(bytes.as_bytes());
        assert_eq!(lines(&requests), ["GET /a", "GET /end"], "{offer}");
        assert_eq!(requests[0].header("upgrade").is_some(), !offer.contains("h2c"), "{offer}");
        assert_eq!((requests[0].header("http2-settings"), statuses(&answer).len()), (None, 2));
    }
}

/// What a client gets that asks for `/x`, then for `/end`, on one connection.
fn answered(bytes: &[u8], ask: &str) -> (Vec<u8>, Vec<Message>) {
    let backend = endpoint_saying(bytes);
    let proxy = proxy_to(&backend);
    let answer = proxy.raw(format!("{ask}{END}").as_bytes());
    // Another client, on whatever connection to the endpoint is left.
    for n in 0..3 {
        let target = format!("/probe{n}");
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(proxy.get(&target, &[("Host", "web")]).text(), target, "after {shown:?}");
    }
    (answer, backend.requests())
}

#[test]
fn bytes_behind_an_answer_are_nobodys() {
    let second = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let get = "GET /x HTTP/1.1\r\nHost: web\r\n\r\n";
    let head = "HEAD /x HTTP/1.1\r\nHost: web\r\n\r\n";
    for (ask, first) in [
        (get, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        (get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 4\r\n\r\n"),
        (get, "HTTP/1.1 204 No Content\r\n\r\n"),
        (get, "HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\n"),
        (get, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 44\r\n\r\n"),
        (get, "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (head, "HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n"),
        (head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (get, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (get, "HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let (answer, requests) = answered((first.to_owned() + second).as_bytes(), ask);
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(!text.contains("evil") && text.ends_with("/end"), "{first:?} gives {text:?}");
        assert_eq!(lines(&requests)[1..], ["GET /end", "GET /probe0", "GET /probe1", "GET /probe2"], "{first:?}");
    }
}

#[test]
fn an_answer_that_can_be_read_in_two_ways_is_a_bad_gateway() {
    let many = |count: usize| (0..count).map(|n| format!("X{n}: y\r\n")).collect::<String>();
    let ok = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n4\r\nevil\r\n0\r\n\r\n");
    let (long, long_field) = ("x".repeat(5000), "x".repeat(66_000));
    for bytes in [
        ok("Content-Length: 4\r\nContent-Length: 9\r\n"),
        ok("Content-Length: 4, 9\r\n"),
        ok("Content-Length: +4\r\n"),
        ok("Content-Length: 4\u{a0}\r\n"),
        ok("Content-Length: 0x4\r\n"),
        ok("Content-Length: 18446744073709551620\r\n"),
        ok("Transfer-Encoding: chunked, identity\r\n"),
        ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ok("Transfer-Encoding: \x0bchunked\r\n"),
        ok("Transfer-Encoding : chunked\r\n"),
        ok("Content-Length: 4\r\n folded\r\n"),
        ok("X: a\rContent-Length: 4\r\n"),
        ok("X: a\nContent-Length: 4\r\n"),
        ok("X: a\0b\r\n"),
        ok("X\u{e9}: a\r\n"),
        ok(": a\r\n"),
        ok(&many(129)),
        ok(&format!("X: {long_field}\r\n")),
        format!("HTTP/1.1 200 {long}\r\n\r\n"),
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n".into(),
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: evil\r\n\r\nevil".into(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+4\r\nevil\r\n0\r\n\r\n".into(),
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil".into(),
        "HTTP/1.1 200 OK\nContent-Length: 4\n\nevil".into(),
        "HTTP/1.1  200 OK\r\nContent-Length: 4\r\n\r\nevil".into(),
        "HTTP/1.1\t200 OK\r\nContent-Length: 4\r\n\r\nevil".into(),
        "HTTP/2 200 OK\r\nContent-Length: 4\r\n\r\nevil".into(),
        "HTTP/1.1 2000 OK\r\nContent-Length: 4\r\n\r\nevil".into(),
        "ICY 200 OK\r\nContent-Length: 4\r\n\r\nevil".into(),
        "220 evil.example ESMTP\r\n".into(),
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(33),
        "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n".repeat(40) + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ] {
        let raw = bytes.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect::<Vec<_>>();
        let (answer, _) = answered(&raw, "GET /x HTTP/1.1\r\nHost: web\r\n\r\n");
        let shown = bytes.chars().take(120).collect::<String>();
        let text = String::from_utf8_lossy(&answer).into_owned();
        let mut seen = statuses(&answer);
        seen.retain(|status| status != "103");
        assert_eq!(seen, ["502", "200"], "{shown:?} gives {text:?}");
        assert!(!text.contains("evil") && text.ends_with("/end"), "{shown:?} gives {text:?}");
    }
}

#[test]
fn an_early_answer_never_meets_the_next_request_on_its_connection() {
    // The endpoint answers when it has seen the head; the body comes later, and is no request.
    let port = common::endpoint(|_, stream| {
        let mut stream = BufReader::new(stream);
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                match std::io::Read::read(&mut stream, &mut byte) {
                    Ok(1) => head.push(byte[0]),
                    _ => return,
                }
            }
            let target = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
            let _ = stream.get_mut().write_all(answer.as_bytes());
            // What follows an early answer is read, but answered as somebody else's.
            let mut rest = [0; 1024];
            while target.starts_with("/early") && matches!(std::io::Read::read(&mut stream, &mut rest), Ok(1..)) {
                let _ = stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
            }
        }
    });
    let proxy = Proxy::start(&format!("/svc/* => /$/inet/127.0.0.1/{port}"));
    for n in 0..10 {
        let mut stream = BufReader::new(proxy.connect());
        let head = format!("POST /early{n} HTTP/1.1\r\nHost: web\r\nContent-Length: 100000\r\n\r\n");
        stream.get_mut().write_all(head.as_bytes()).expect("written");
        stream.get_mut().write_all(&[b'x'; 500]).expect("written");
        let answer = message(&mut stream, true).expect("an answer");
        assert_eq!(String::from_utf8_lossy(&answer.body), format!("/early{n}"));
        assert_eq!(answer.header("connection"), Some("close"));
        // While that client still holds on.
        let target = format!("/other{n}");
        assert_eq!(proxy.get(&target, &[("Host", "web")]).text(), target);
    }
}

#[test]
fn an_answer_that_comes_before_its_request_is_not_taken() {
    // Every connection is greeted with an answer, as a server of another protocol would.
    let port = common::endpoint(|number, stream| {
        let mut stream = BufReader::new(stream);
        if number % 2 == 1 {
            let greeting = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
            if stream.get_mut().write_all(greeting).is_err() {
                return;
            }
        }
        while let Some(request) = message(&mut stream, true) {
            let target = request.word(1).to_owned();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
            let late = if target == "/late" { "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil" } else { "" };
            if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(if late.is_empty() { 0 } else { 30 }));
            let _ = stream.get_mut().write_all(late.as_bytes());
        }
    });
    let proxy = Proxy::start(&format!("/svc/* => /$/inet/127.0.0.1/{port}"));
    assert_eq!(proxy.get("/late", &[("Host", "web")]).text(), "/late");
    // The late bytes have come when the connection is looked at again; it is never used.
    let idle = ["rt", "http", "client", &format!("$/inet/127.0.0.1/{port}"), "pool_cached"].map(str::to_owned);
    let idle = idle.iter().map(String::as_str).collect::<Vec<_>>();
    testkit::until::until("the late bytes", Duration::from_secs(5), || match proxy.registry.snapshot().gauge(&idle) {
        Some(0.0) => Ok(()),
        other => Err(other),
    });
}
