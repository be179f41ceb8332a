//! What a stranger can do to a server of ours: hold connections, and say nothing on them.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use serving::{Bounds, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const LIMIT: Duration = Duration::from_secs(20);

/// Told when somebody has asked for `/slow`.
type Asked = Arc<Notify>;

async fn start(bounds: Bounds) -> (SocketAddr, CancellationToken, TaskTracker, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (closing, tracker) = (CancellationToken::new(), TaskTracker::new());
    let asked = Asked::default();
    let told = asked.clone();
    let slow = get(|| async move {
        told.notify_one();
        tokio::time::sleep(Duration::from_millis(300)).await;
        "slow"
    });
    let router = Router::new().route("/", get(|| async { "here" })).route("/slow", slow);
    let admit = |stream| std::future::ready(Ok::<TcpStream, _>(stream));
    tracker.spawn(serve(listener, bounds, admit, router, closing.clone(), tracker.clone()));
    (address, closing, tracker, asked)
}

async fn connect(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Everything until the server closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("the server closes").unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn who_says_nothing_does_not_keep_others_out() {
    let (address, ..) = start(Bounds { connections: 4, head_within: Duration::from_millis(200) }).await;
    let mut silent = Vec::new();
    for text in ["", "GET / HT", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX:"] {
        silent.push(connect(address, text).await);
    }
    // All places are taken, and are free again when their time is over.
    let answer = rest(connect(address, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("here"), "{answer}");
    for stream in silent {
        let answer = rest(stream).await;
        assert!(!answer.contains("200"), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_under_way_is_finished_at_the_end() {
    let (address, closing, tracker, asked) = start(Bounds { connections: 4, head_within: LIMIT }).await;
    let mut idle = connect(address, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let slow = connect(address, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    timeout(LIMIT, asked.notified()).await.expect("the request is under way");
    closing.cancel();
    tracker.close();
    assert!(rest(slow).await.ends_with("slow"));
    rest(idle).await;
    timeout(LIMIT, tracker.wait()).await.expect("all connections end");
}

#[tokio::test]
async fn the_port_is_closed_at_the_end_also_when_no_place_is_free() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closing = CancellationToken::new();
    let admit = |stream| std::future::ready(Ok::<TcpStream, _>(stream));
    let bounds = Bounds { connections: 0, head_within: LIMIT };
    let served = tokio::spawn(serve(listener, bounds, admit, Router::new(), closing.clone(), TaskTracker::new()));
    closing.cancel();
    timeout(LIMIT, served).await.expect("serving ends").unwrap();
}
