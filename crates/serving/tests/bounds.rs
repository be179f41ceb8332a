//! What a port promises to those who behave: places, bodies, answers that last, an end that cuts off nobody.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use common::{GET, LIMIT, SHORT, bounds, read_until, rest, start, start_with};
use serving::{BadOption, Bounds, Port, SocketOptions, Whole};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[tokio::test]
async fn an_answer_under_way_is_finished_at_the_end() {
    let server = start(Bounds { connections: 4, ..bounds() }).await;
    let mut idle = server.connect("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    read_until(&mut idle, "here 127.0.0.1").await;
    let slow = server.connect("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    timeout(LIMIT, server.asked.notified()).await.expect("the request is under way");
    let (address, go) = (server.address, server.go.clone());
    let ending = tokio::spawn(server.end());
    rest(idle).await;
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
    go.notify_one();
    assert!(rest(slow).await.ends_with("slow"));
    ending.await.unwrap();
}

#[tokio::test]
async fn the_port_is_closed_at_the_end_also_when_no_place_is_free() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closing = CancellationToken::new();
    let port = Port { bounds: Bounds { connections: 0, ..bounds() }, ..Port::new(listener) };
    let served = tokio::spawn(port.serve(Router::new, closing.clone(), TaskTracker::new()));
    closing.cancel();
    timeout(LIMIT, served).await.expect("serving ends").unwrap();
}

#[tokio::test]
async fn bodies_are_short_and_whole() {
    let server = start(bounds()).await;
    let post = |path: &str, length: &str, body: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{length}\r\n\r\n{body}")
    };
    let long = "x".repeat(1001);
    let chunked = format!("3e9\r\n{long}\r\n0\r\n\r\n");
    let cases = [
        (post("/echo", "content-length: 2", "hi"), "200", "hi"),
        (post("/echo", "transfer-encoding: chunked", "2\r\nhi\r\n0\r\n\r\n"), "200", "\r\n\r\nhi"),
        (post("/echo", "content-length: 1000", &long[1..]), "200", "x"),
        (post("/echo", "content-length: 1001", &long), "413", "the body is larger than 1000 bytes\n"),
        (post("/echo", "transfer-encoding: chunked", &chunked), "413", "the body is larger than 1000 bytes\n"),
        (post("/long", "content-length: 1001", &long), "200", "1001"),
        (post("/echo", "transfer-encoding: chunked", "x\r\n"), "400", "the body broke off\n"),
    ];
    for (request, status, end) in cases {
        let said = server.ask(&request).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")) && said.ends_with(end), "{status}: {said}");
    }
    assert_eq!(server.count("refused/body_too_long"), 2);
    server.end().await;
}

#[tokio::test]
async fn a_refusal_arrives_although_much_more_was_sent() {
    let server = start(bounds()).await;
    for _ in 0..20 {
        let mut stream = server.connect("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 4000000\r\n\r\n").await;
        // What nobody wants is taken all the same: a reset could overtake the refusal.
        stream.write_all(&vec![b'x'; 4_000_000]).await.unwrap();
        let said = rest(stream).await;
        assert!(said.starts_with("HTTP/1.1 413 "), "{said:?}");
    }
    server.end().await;
}

#[tokio::test]
async fn all_bodies_together_have_a_bound() {
    let server = start(Bounds { bodies: 1000, ..bounds() }).await;
    let half = "x".repeat(600);
    let mut slow =
        server.connect(&format!("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 700\r\n\r\n{half}")).await;
    let other = format!("POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 600\r\n\r\n{half}");
    // Until what the slow one sent has been read there is room.
    let mut said = String::new();
    let asking = async {
        while !said.starts_with("HTTP/1.1 503 ") {
            said = server.ask(&other).await;
        }
    };
    timeout(LIMIT, asking).await.expect("no room at last");
    assert!(said.ends_with("try again\n"), "{said}");
    assert_eq!(server.count("refused/body_no_room"), 1);
    slow.write_all("x".repeat(100).as_bytes()).await.unwrap();
    read_until(&mut slow, &"x".repeat(700)).await;
    assert!(server.ask(&other).await.starts_with("HTTP/1.1 200 "));
    server.end().await;
}

#[tokio::test]
async fn a_streamed_body_is_read_as_it_comes_and_for_as_long_as_it_likes() {
    let body = Whole { within: SHORT, ..bounds().body };
    let options = SocketOptions { read_timeout_ms: Some(100), ..SocketOptions::default() };
    let server = start_with(Bounds { body, ..bounds() }, options, None).await;
    let mut streamed =
        server.connect("POST /streamed HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await;
    read_until(&mut streamed, "one").await;
    // Who comes later is over his time sooner.
    let late = server.connect("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n").await;
    assert!(common::drip(late, b'x').await.starts_with("HTTP/1.1 408 "));
    streamed.write_all(b"3\r\ntwo\r\n").await.unwrap();
    read_until(&mut streamed, "two\r\n").await;
    // Its end is seen at once, not only when nothing has moved for a while.
    streamed.shutdown().await.unwrap();
    rest(streamed).await;
    server.until("the stream is over", |server| server.count("connections") == 0).await;
    server.end().await;
}

#[tokio::test]
async fn routes_change_between_two_requests_of_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, closing) = (listener.local_addr().unwrap(), CancellationToken::new());
    let says = |text: &'static str| Router::new().route("/", get(move || async move { text }));
    let current = Arc::new(Mutex::new(says("before")));
    let now = current.clone();
    let routes = move || now.lock().unwrap().clone();
    let tracker = TaskTracker::new();
    tracker.spawn(Port::new(listener).serve(routes, closing.clone(), tracker.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    for text in ["before", "behind"] {
        *current.lock().unwrap() = says(text);
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        read_until(&mut stream, text).await;
    }
    closing.cancel();
    tracker.close();
    timeout(LIMIT, tracker.wait()).await.expect("all connections end");
}

#[tokio::test]
async fn more_connections_than_places_are_served_one_after_the_other() {
    let server = start(Bounds { connections: 4, ..bounds() }).await;
    let mut watches = vec![server.watch().await, server.watch().await, server.watch().await];
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let address = server.address;
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(GET.as_bytes()).await.unwrap();
                rest(stream).await
            })
        })
        .collect();
    for client in clients {
        assert!(client.await.unwrap().ends_with("here 127.0.0.1"));
    }
    assert!(server.count("full") > 0);
    // The last place goes, too: whoever comes then waits until somebody leaves.
    watches.push(server.watch().await);
    let waiting = server.connect(GET).await;
    let mut first = [0];
    assert!(timeout(SHORT, waiting.peek(&mut first)).await.is_err(), "four places have five");
    assert_eq!(server.count("connections"), 4);
    drop(watches.pop());
    // Whether a client that closed is gone shows when it is sent something.
    let answered = async {
        while timeout(SHORT, waiting.peek(&mut first)).await.is_err() {
            server.news.notify_waiters();
        }
    };
    timeout(LIMIT, answered).await.expect("a place is free");
    assert!(rest(waiting).await.ends_with("here 127.0.0.1"));
    server.news.notify_waiters();
    read_until(&mut watches[0], "line\n").await;
    drop(watches);
}

#[test]
fn a_time_of_zero_is_refused_by_name() {
    let check = |options: SocketOptions| options.check().map_err(|BadOption { key, .. }| key);
    assert_eq!(check(SocketOptions { read_timeout_ms: Some(0), ..SocketOptions::default() }), Err("readTimeoutMs"));
    assert_eq!(check(SocketOptions { write_timeout_ms: Some(0), ..SocketOptions::default() }), Err("writeTimeoutMs"));
    assert_eq!(check(SocketOptions { write_timeout_ms: Some(1), ..SocketOptions::default() }), Ok(()));
}
