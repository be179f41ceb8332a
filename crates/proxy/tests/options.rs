//! Keys that are off by default: what each does when it is on.

mod common;

use std::io::{BufReader, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::backend::{Backend, Message, message};
use common::names::{Set, Table};
use common::{Proxy, closed_port, endpoint, read_until, router};
use proxy::settings::{ByPrefix, Classifier, Client, Compression, Router, Service, Session, SocketOptions};
use testkit::http::Answer;
use testkit::until::until;

const LIMIT: Duration = Duration::from_secs(10);
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn with(port: u16, change: impl FnOnce(&mut Router)) -> Proxy {
    let mut router = router(&format!("/svc/* => /$/inet/127.0.0.1/{port}"));
    change(&mut router);
    Proxy::of(router, 1)
}

fn get(proxy: &Proxy) -> Answer {
    proxy.get("/", &[("Host", "web")])
}

/// Sends bytes, and reads one answer.
#[track_caller]
fn call(proxy: &Proxy, bytes: &[u8]) -> Message {
    let mut stream = BufReader::new(proxy.connect());
    stream.get_mut().write_all(bytes).expect("written");
    message(&mut stream, false).expect("an answer")
}

fn scripted(answer: &'static [u8]) -> Backend {
    Backend::start(Box::new(move |_, _| Some((answer.to_vec(), false))))
}

fn server_count(proxy: &Proxy, name: &str) -> u64 {
    proxy.counter(&["rt", "http", "server", "127.0.0.1/0", name])
}

fn client_count(proxy: &Proxy, port: u16, name: &[&str]) -> u64 {
    let id = format!("$/inet/127.0.0.1/{port}");
    proxy.counter(&[&["rt", "http", "client", &id], name].concat())
}

#[track_caller]
fn wait_for(what: &str, wanted: u64, count: impl Fn() -> u64) {
    until(what, LIMIT, || match count() {
        found if found == wanted => Ok(()),
        found => Err(found),
    });
}

const MILLIS: Duration = Duration::from_millis(150);

#[test]
fn an_idle_client_connection_closes_after_its_idle_time() {
    let backend = scripted(OK);
    let session = Session { idle: Some(MILLIS), life: None };
    let proxy = with(backend.port, |router| router.servers[0].session = session);
    for begins in [false, true] {
        let mut stream = proxy.connect();
        if begins {
            stream.write_all(GET).expect("written");
            read_until(&mut stream, b"ok");
        }
        assert_eq!(stream.read(&mut [0]).expect("closed, not reset"), 0);
    }
    assert_eq!((server_count(&proxy, "idle"), server_count(&proxy, "lifetime")), (2, 0));
}

#[test]
fn a_client_connection_that_lived_long_enough_closes_with_an_answer_or_when_it_is_idle() {
    // The second answer takes longer than the connection may live.
    let backend = endpoint(|_, stream| {
        let mut stream = BufReader::new(stream);
        let mut number = 0;
        while message(&mut stream, true).is_some() {
            if number > 0 {
                std::thread::sleep(MILLIS * 2);
            }
            number += 1;
            stream.get_mut().write_all(OK).expect("written");
        }
    });
    let session = Session { idle: None, life: Some(MILLIS) };
    let proxy = with(backend, |router| router.servers[0].session = session);
    let mut stream = BufReader::new(proxy.connect());
    for closes in [None, Some("close")] {
        stream.get_mut().write_all(GET).expect("written");
        let answer = message(&mut stream, false).expect("an answer");
        assert_eq!((answer.word(1), answer.header("connection")), ("200", closes));
    }
    assert_eq!(stream.read(&mut [0]).expect("closed"), 0);
    assert_eq!(server_count(&proxy, "lifetime"), 1);
    let mut idle = proxy.connect();
    assert_eq!(idle.read(&mut [0]).expect("closed"), 0);
    assert_eq!((server_count(&proxy, "idle"), server_count(&proxy, "lifetime")), (0, 2));
}

#[test]
fn connections_to_endpoints_have_idle_and_life_times() {
    for (session, counter) in
        [(Session { idle: Some(MILLIS), life: None }, "idle"), (Session { idle: None, life: Some(MILLIS) }, "lifetime")]
    {
        let backend = scripted(OK);
        let proxy = with(backend.port, |router| {
            router.client = ByPrefix::global(Client { session: Some(session), ..Client::default() });
        });
        assert_eq!((get(&proxy).status, get(&proxy).status), (200, 200));
        assert_eq!(client_count(&proxy, backend.port, &["connects"]), 1, "{counter}");
        wait_for(counter, 1, || client_count(&proxy, backend.port, &[counter]));
        assert_eq!(get(&proxy).status, 200);
        assert_eq!(client_count(&proxy, backend.port, &["connects"]), 2, "{counter}");
    }
}

#[test]
fn a_server_has_a_limit_for_requests_and_tells_endpoints() {
    let backend = Backend::start(Box::new(|_, _| None));
    let proxy = with(backend.port, |router| router.servers[0].timeout = Some(MILLIS));
    let answer = get(&proxy);
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (
            503,
            "exceeded 150.milliseconds to unspecified while waiting for a response for an individual request, \
             excluding retries. Remote Info: Not Available"
        )
    );
    assert!(backend.requests()[0].header("l5d-ctx-deadline").is_some());
}

#[test]
fn sockets_that_stand_still_are_closed_after_their_timeouts() {
    let slow = SocketOptions { read_timeout: Some(MILLIS), write_timeout: Some(MILLIS), ..SocketOptions::default() };
    // An endpoint that never answers, and one that stops in the middle of a long answer.
    for first in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegin"] {
        let port = endpoint(move |_, mut stream| {
            read_until(&mut stream, b"\r\n\r\n");
            stream.write_all(first).expect("written");
            // Until the router closes.
            let _ = stream.read(&mut [0]);
        });
        let proxy = with(port, |router| {
            router.client = ByPrefix::global(Client { socket: Some(slow), ..Client::default() });
        });
        let began = Instant::now();
        let closing = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
        let answer = String::from_utf8_lossy(&proxy.raw(closing)).into_owned();
        assert!(began.elapsed() < LIMIT, "{answer}");
        if first.is_empty() {
            assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("ChannelException"), "{answer}");
        } else {
            assert!(answer.ends_with("begin"), "{answer}");
        }
        assert_eq!(client_count(&proxy, port, &["read_timeout"]), 1);
    }
    // A client that says nothing, one that stops in its head, in a short body and in a long one.
    let backend = scripted(OK);
    let proxy = with(backend.port, |router| router.servers[0].socket = slow);
    for text in ["", "GET / HT", "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 9\r\n\r\nab"] {
        let mut stream = proxy.connect();
        stream.write_all(text.as_bytes()).expect("written");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("closed");
    }
    let mut stream = proxy.connect();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000\r\n\r\nab").expect("written");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("closed");
    assert!(server_count(&proxy, "read_timeout") >= 3, "{}", server_count(&proxy, "read_timeout"));
}

#[test]
fn a_client_that_takes_nothing_loses_its_connection() {
    let port = endpoint(|_, mut stream| {
        read_until(&mut stream, b"\r\n\r\n");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        while stream.write_all(&[b'x'; 65536]).is_ok() {}
    });
    let limited = SocketOptions { write_timeout: Some(MILLIS), ..SocketOptions::default() };
    let proxy = with(port, |router| router.servers[0].socket = limited);
    let mut stream = proxy.connect();
    stream.write_all(GET).expect("written");
    wait_for("the timeout", 1, || server_count(&proxy, "write_timeout"));
    wait_for("the end", 1, || server_count(&proxy, "closes"));
}

#[test]
fn without_streaming_messages_go_on_whole_and_can_be_tried_again() {
    let backend = Backend::start(Box::new(|number, _| {
        Some(match number {
            0 => (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n".to_vec(), false),
            1 => (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n".to_vec(),
                false,
            ),
            _ => (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\ncut".to_vec(), true),
        })
    }));
    let proxy = with(backend.port, |router| {
        router.streaming = false;
        let classifier = Some(Classifier::RetryableIdempotent5xx);
        router.service = ByPrefix::global(Service { classifier, ..Service::default() });
    });
    let chunked = b"PUT / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n3\r\nbar\r\n0\r\n\r\n";
    let answer = call(&proxy, chunked);
    assert_eq!((answer.word(1), answer.body.as_slice()), ("200", &b"abc"[..]));
    assert_eq!((answer.header("content-length"), answer.header("transfer-encoding")), (Some("3"), None));
    let requests = backend.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert_eq!((request.header("content-length"), request.header("transfer-encoding")), (Some("6"), None));
        assert_eq!(request.body, b"foobar");
        assert_eq!(request.header("finagle-http-retryable-request"), Some(""));
    }
    assert_eq!(client_count(&proxy, backend.port, &["connects"]), 1, "the connection is kept");
    assert_eq!(get(&proxy).status, 502, "a part of an answer is none");
}

#[test]
fn without_streaming_what_is_too_long_is_refused() {
    let backend = scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
    let proxy = with(backend.port, |router| router.streaming = false);
    let answer = call(&proxy, b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000000\r\n\r\n");
    assert_eq!(answer.word(1), "413");
    assert!(answer.body.starts_with(b"The request is too long: with `streamingEnabled: false`"), "{answer:?}");
    assert_eq!(backend.requests().len(), 0);
    let answer = get(&proxy);
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("is too long: with `streamingEnabled: false`"), "{}", answer.text());
}

#[test]
fn a_short_answer_that_breaks_off_is_a_bad_gateway_and_half_of_a_slow_one_waits() {
    let port = endpoint(|number, mut stream| {
        read_until(&mut stream, b"\r\n\r\n");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").expect("written");
        if number > 1 {
            std::thread::sleep(MILLIS);
            stream.write_all(b"cd").expect("written");
        }
    });
    let proxy = with(port, |_| {});
    let post = call(&proxy, b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(post.word(1), "502", "what may have been done is not done again");
    let answer = get(&proxy);
    assert_eq!((answer.status, answer.text().as_str()), (200, "abcd"), "a GET is sent once more");
}

#[test]
fn an_endpoint_with_an_authority_gets_it_as_host_and_the_client_its_own_name() {
    let backend = scripted(
        b"HTTP/1.1 302 Found\r\nLocation: http://web.service.consul/login?next=web.service.consul\r\n\
          Refresh: 5; url=http://web.service.consul/\r\nX: web.service.consul\r\nContent-Length: 0\r\n\r\n",
    );
    let set = Set::new("/set", &[backend.port]);
    set.set_with_authority(&[backend.port], "web.service.consul");
    let table = Table::new(set.leaf.clone());
    let proxy = Proxy::with(router(""), 1, |_| Arc::new(table));
    let request = b"GET /a HTTP/1.1\r\nAccept: x\r\nHost: www.example.com:80\r\nY: z\r\n\r\n";
    let answer = call(&proxy, request);
    assert_eq!(answer.header("location"), Some("http://www.example.com:80/login?next=www.example.com:80"));
    assert_eq!(answer.header("refresh"), Some("5; url=http://www.example.com:80/"));
    assert_eq!(answer.header("x"), Some("web.service.consul"));
    let first = backend.requests().remove(0);
    assert_eq!(first.all("host"), ["web.service.consul"]);
    assert_eq!(first.header("l5d-dst-service"), Some("/svc/www.example.com:80"));
    assert_eq!((first.header("accept"), first.header("y")), (Some("x"), Some("z")));
    // Discovery thinks better of it.
    set.set(&[backend.port]);
    let answer = call(&proxy, request);
    assert_eq!(answer.header("refresh"), Some("5; url=http://web.service.consul/"));
    assert_eq!(backend.requests().remove(1).all("host"), ["www.example.com:80"]);
}

#[test]
fn a_trace_that_asks_for_context_gets_it_behind_the_endpoints_answer() {
    let trace =
        |more: &str| format!("TRACE / HTTP/1.1\r\nHost: web\r\nl5d-add-context: True\r\n{more}\r\n").into_bytes();
    let backend = scripted(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\n hello\n\n");
    let proxy = with(backend.port, |_| {});
    for more in ["", "Max-Forwards: 3\r\n"] {
        let answer = call(&proxy, &trace(more));
        let body = String::from_utf8(answer.body.clone()).expect("text");
        let body = body.replace(&backend.port.to_string(), "PORT");
        let (before, after) = body.split_once("request duration: ").unwrap_or_else(|| panic!("{body}"));
        let (_, after) = after.split_once(" ms\n").expect("a duration");
        assert_eq!(before, "hello\n\n--- Router: http ---\n");
        assert_eq!(
            after,
            "service name: /svc/web\nclient name: /$/inet/127.0.0.1/PORT\naddresses: [127.0.0.1:PORT]\n\
             selected address: 127.0.0.1:PORT\ndtab resolution:\n  /svc/web\n  /$/inet/127.0.0.1/PORT \
             (/svc/*=>/$/inet/127.0.0.1/PORT)\n"
        );
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    }
    assert_eq!(backend.requests()[1].header("max-forwards"), Some("2"));
    let chunked = scripted(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    let proxy = with(chunked.port, |_| {});
    let answer = call(&proxy, &trace(""));
    let body = String::from_utf8(answer.body).expect("text");
    let expected = "Transfer-Encoding: chunked\nHTTP 200 - OK\nDiagnostic trace encountered chunked response. \
                    Response content discarded.\n\n--- Router: http ---\n";
    assert!(body.starts_with(expected), "{body}");
    assert!(call(&proxy, b"TRACE / HTTP/1.1\r\nHost: web\r\n\r\n").body == b"hi");
}

#[test]
fn an_endpoint_that_failed_fast_is_left_alone_until_it_takes_connections_again() {
    let port = closed_port();
    let proxy = with(port, |router| {
        router.client = ByPrefix::global(Client { fail_fast: Some(true), ..Client::default() });
    });
    let first = get(&proxy);
    assert_eq!(first.status, 502);
    let answer = get(&proxy);
    assert_eq!((answer.status, answer.header("l5d-retryable")), (502, Some("true")));
    let text = format!("Endpoint $/inet/127.0.0.1/{port} is marked down. For more details see: ");
    assert!(answer.text().starts_with(&text), "{}", answer.text());
    assert_eq!(client_count(&proxy, port, &["failfast", "marked_dead"]), 1);
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            while message(&mut stream, true).is_some() {
                stream.get_mut().write_all(OK).expect("written");
            }
        }
    });
    wait_for("the endpoint", 1, || client_count(&proxy, port, &["failfast", "marked_available"]));
    assert_eq!(get(&proxy).status, 200);
}

fn inflated(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut text),
        _ => flate2::read::ZlibDecoder::new(body).read_to_end(&mut text),
    }
    .expect("compressed");
    text
}

#[test]
fn answers_are_compressed_for_callers_that_accept_it() {
    let text = "hello world, ".repeat(20_000);
    let plain = text.clone();
    let backend = Backend::start(Box::new(move |_, request| {
        let kind = if request.word(1) == "/png" { "image/png" } else { "text/plain" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nETag: \"x\"\r\nContent-Length: {}\r\n\r\n",
            plain.len()
        );
        let body = if request.word(0) == "HEAD" { "" } else { &plain };
        Some(([head.as_bytes(), body.as_bytes()].concat(), false))
    }));
    let request =
        |line: &str, accepts: &str| format!("{line} HTTP/1.1\r\nHost: web\r\nAccept-Encoding: {accepts}\r\n\r\n");
    for (level, line, accepts, coding) in [
        (Compression::Textual, "GET /", "gzip", Some("gzip")),
        (Compression::Textual, "GET /", "deflate", Some("deflate")),
        (Compression::Textual, "GET /png", "gzip", None),
        (Compression::All(9), "GET /png", "gzip, deflate", Some("gzip")),
        (Compression::All(1), "GET /", "identity", None),
    ] {
        let proxy = with(backend.port, |router| router.compression = Some(level));
        let answer = call(&proxy, request(line, accepts).as_bytes());
        assert_eq!(answer.header("content-encoding"), coding, "{level:?} {line} {accepts}");
        match coding {
            None => assert_eq!(answer.body, text.as_bytes()),
            Some(coding) => {
                assert!(answer.body.len() < text.len() / 20, "{}", answer.body.len());
                assert_eq!(inflated(coding, &answer.body), text.as_bytes());
                assert_eq!((answer.header("etag"), answer.header("vary")), (Some("W/\"x\""), Some("accept-encoding")));
                assert_eq!(answer.header("content-length"), None);
            }
        }
        assert_eq!(client_count(&proxy, backend.port, &["connects"]), 1);
    }
    let proxy = with(backend.port, |router| router.compression = Some(Compression::All(9)));
    let mut stream = BufReader::new(proxy.connect());
    // The connection goes on after a compressed answer, and a HEAD is none.
    for _ in 0..3 {
        stream.get_mut().write_all(request("GET /", "gzip").as_bytes()).expect("written");
        let answer = message(&mut stream, false).expect("an answer");
        assert_eq!(inflated("gzip", &answer.body), text.as_bytes());
    }
    stream.get_mut().write_all(request("HEAD /", "gzip").as_bytes()).expect("written");
    let head = String::from_utf8(read_until(stream.get_mut(), b"\r\n\r\n")).expect("text");
    assert!(head.contains(&format!("Content-Length: {}", text.len())) && !head.contains("encoding"), "{head}");
}

#[test]
fn a_compressed_answer_that_is_streamed_is_not_held_up() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let port = endpoint(move |_, mut stream| {
        read_until(&mut stream, b"\r\n\r\n");
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(format!("{head}6\r\nfirst\n\r\n").as_bytes()).expect("written");
        gone.lock().expect("no panic").recv().expect("told");
        stream.write_all(b"7\r\nsecond\n\r\n0\r\n\r\n").expect("written");
    });
    let proxy = with(port, |router| router.compression = Some(Compression::Textual));
    let mut stream = BufReader::new(proxy.connect());
    stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: web\r\nAccept-Encoding: gzip\r\n\r\n").expect("written");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let mut chunk = || {
        use std::io::BufRead;
        let mut line = String::new();
        stream.read_line(&mut line).expect("a size");
        let mut data = vec![0; usize::from_str_radix(line.trim(), 16).expect("a size") + 2];
        stream.read_exact(&mut data).expect("a chunk");
        data.truncate(data.len() - 2);
        data
    };
    let first = chunk();
    // All of the first part can be read before the second exists.
    let mut decoder = flate2::read::GzDecoder::new(first.as_slice());
    let mut text = [0; 6];
    decoder.read_exact(&mut text).expect("flushed");
    assert_eq!(&text, b"first\n");
    go.send(()).expect("somebody waits");
    let mut all = first.clone();
    loop {
        let next = chunk();
        if next.is_empty() {
            break;
        }
        all.extend(next);
    }
    assert_eq!(inflated("gzip", &all), b"first\nsecond\n");
}

#[test]
fn a_router_that_originates_says_so() {
    let proxy = with(1, |router| router.originator = true);
    assert_eq!(proxy.registry.snapshot().gauge(&["rt", "http", "originator"]), Some(1.0));
    let other = with(1, |_| {});
    assert_eq!(other.registry.snapshot().gauge(&["rt", "http", "originator"]), None);
}
