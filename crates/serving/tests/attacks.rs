//! What a stranger can do to a server of ours: hold places, and say nothing, or little, or read nothing.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::{BIG, GET, LIMIT, SHORT, bounds, drip, read_until, rest, start, start_with};
use serving::{Bounds, SocketOptions, Whole};
use testkit::certificates::Authority;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn who_says_nothing_does_not_keep_others_out() {
    let server = start(Bounds { connections: 4, head_within: SHORT, ..bounds() }).await;
    let mut silent = Vec::new();
    // Twice as many as there are places.
    for text in ["", "GET / HT", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX:"].repeat(2) {
        silent.push(server.connect(text).await);
    }
    let began = Instant::now();
    assert!(server.ask(GET).await.ends_with("here 127.0.0.1"));
    assert!(began.elapsed() > SHORT, "nobody was in its way: {:?}", began.elapsed());
    for stream in silent {
        let said = rest(stream).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_head_that_drips_ends() {
    let server = start(Bounds { head_within: SHORT, ..bounds() }).await;
    let dripping = server.connect("GET / HTTP/1.1\r\nhost: a\r\nx: ").await;
    let said = drip(dripping, b'x').await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    server.until("its place is free", |server| server.count("connections") == 0).await;
    server.end().await;
}

#[tokio::test]
async fn a_head_without_end_ends() {
    let server = start(bounds()).await;
    let mut stream = server.connect("GET / HTTP/1.1\r\nhost: a\r\nx: ").await;
    // It is refused before all of it is there.
    let _ = stream.write_all(&vec![b'x'; 1 << 20]).await;
    let said = rest(stream).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    server.until("its place is free", |server| server.count("connections") == 0).await;
    server.end().await;
}

#[tokio::test]
async fn a_body_that_drips_is_refused() {
    for framing in ["content-length: 1000", "transfer-encoding: chunked"] {
        let body = Whole { bytes: 1000, within: SHORT };
        let server = start(Bounds { body, ..bounds() }).await;
        let dripping = server.connect(&format!("POST /echo HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n")).await;
        // Leading zeros of a chunk's size, or bytes of a body.
        let said = drip(dripping, b'0').await;
        if framing.starts_with("content-length") {
            assert!(said.starts_with("HTTP/1.1 408 ") && said.ends_with("within 0.2 seconds\n"), "{said}");
            assert_eq!(server.count("refused/body_too_late"), 1);
        } else {
            assert!(said.starts_with("HTTP/1.1 4"), "{said}");
        }
        server.until("its place is free", |server| server.count("connections") == 0).await;
        server.end().await;
    }
}

#[tokio::test]
async fn who_asks_and_never_reads_loses_its_place() {
    let configured = SocketOptions { write_timeout_ms: Some(SHORT.as_millis() as u64), ..SocketOptions::default() };
    let cases = [
        // As the port's bound says, or the socket's options.
        (Bounds { written_within: SHORT, ..bounds() }, SocketOptions::default()),
        (bounds(), configured),
    ];
    for (bounds, options) in cases {
        let server = start_with(bounds, options, None).await;
        let unread = server.connect("GET /big HTTP/1.1\r\nhost: a\r\n\r\n").await;
        server.until("its place is free", |s| s.count("connects") == 1 && s.count("connections") == 0).await;
        assert_eq!((server.count("write_timeout"), server.count("read_timeout")), (1, 0));
        drop(unread);
        server.end().await;
    }
}

#[tokio::test]
async fn who_asks_over_tls_and_never_reads_loses_its_place() {
    let (server, client) = start_secured(Bounds { written_within: SHORT, ..bounds() }).await;
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let mut unread = client.connect(stream).await;
    unread.write_all(b"GET /big HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    unread.flush().await.unwrap();
    server.until("its place is free", |s| s.count("write_timeout") == 1 && s.count("connections") == 0).await;
    server.end().await;
}

#[tokio::test]
async fn who_reads_slowly_is_served_to_the_end() {
    let server = start(Bounds { written_within: SHORT * 3, ..bounds() }).await;
    let mut stream = server.connect("GET /big HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let (began, mut all) = (Instant::now(), 0);
    let mut part = vec![0; 1 << 20];
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    loop {
        // For three times as long as it may stand still, then as fast as it can.
        if began.elapsed() < SHORT * 9 {
            ticks.tick().await;
        }
        match stream.read(&mut part).await.unwrap() {
            0 => break,
            count => all += count,
        }
    }
    assert!(all > BIG, "{all}");
    assert_eq!(server.count("write_timeout"), 0);
    server.end().await;
}

#[tokio::test]
async fn a_quiet_watch_stays_open_and_who_is_idle_goes() {
    let millis = Some(SHORT.as_millis() as u64);
    let options = SocketOptions { read_timeout_ms: millis, write_timeout_ms: millis, ..SocketOptions::default() };
    let server = start_with(bounds(), options, None).await;
    let mut watch = server.watch().await;
    // Each of these comes after the watch, and is closed after the time of silence.
    for _ in 0..3 {
        let said = server.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(said.ends_with("here 127.0.0.1"), "{said}");
        assert_eq!(server.ask("GET / HTTP/1.1\r\nho").await, "");
    }
    assert_eq!(server.count("read_timeout"), 6);
    server.news.notify_waiters();
    read_until(&mut watch, "line\n").await;
    assert_eq!((server.count("connections"), server.count("write_timeout")), (1, 0));
    // And it is over when its client is gone.
    drop(watch);
    let told = || server.news.notify_waiters();
    server
        .until("its place is free", |server| {
            told();
            server.count("connections") == 0
        })
        .await;
    server.end().await;
}

#[tokio::test]
async fn a_body_that_stands_still_is_refused_after_the_time_of_silence() {
    let options = SocketOptions { read_timeout_ms: Some(SHORT.as_millis() as u64), ..SocketOptions::default() };
    let server = start_with(bounds(), options, None).await;
    for framing in ["content-length: 10", "transfer-encoding: chunked"] {
        let said = server.ask(&format!("POST /echo HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n2")).await;
        assert!(said.starts_with("HTTP/1.1 408 ") && said.ends_with("the body stood still\n"), "{said}");
    }
    assert_eq!(server.count("read_timeout"), 2);
    server.end().await;
}

#[tokio::test]
async fn the_time_of_silence_begins_again_behind_a_long_answer() {
    let options = SocketOptions { read_timeout_ms: Some(SHORT.as_millis() as u64), ..SocketOptions::default() };
    let server = start_with(bounds(), options, None).await;
    let mut stream = server.connect("").await;
    // It may ask again, and goes when it does not.
    for _ in 0..2 {
        stream.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        server.asked.notified().await;
        // Comes later, and goes first.
        assert!(server.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.ends_with("here 127.0.0.1"));
        server.go.notify_one();
        read_until(&mut stream, "slow").await;
    }
    assert_eq!(rest(stream).await, "");
    assert_eq!(server.count("read_timeout"), 3);
    // So it is when the answer had to wait for the client, too.
    let big = server.connect("GET /big HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(server.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.ends_with("here 127.0.0.1"));
    assert!(rest(big).await.len() > BIG);
    assert_eq!(server.count("read_timeout"), 5);
    server.end().await;
}

#[tokio::test]
async fn who_closes_its_side_gets_its_answer() {
    let server = start(bounds()).await;
    let mut short = server.connect("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    short.shutdown().await.unwrap();
    assert!(rest(short).await.ends_with("here 127.0.0.1"));

    let mut slow = server.connect("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    slow.shutdown().await.unwrap();
    server.asked.notified().await;
    server.go.notify_one();
    assert!(rest(slow).await.ends_with("slow"));

    let mut big = server.connect("GET /big HTTP/1.1\r\nhost: a\r\n\r\n").await;
    big.shutdown().await.unwrap();
    assert!(rest(big).await.len() > BIG);

    let mut cut = server.connect("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhi").await;
    cut.shutdown().await.unwrap();
    let said = rest(cut).await;
    assert!(said.starts_with("HTTP/1.1 400 ") || said.is_empty(), "{said}");
    server.until("all places are free", |server| server.count("connections") == 0).await;
    server.end().await;
}

#[tokio::test]
async fn who_closes_its_side_is_told_news_as_long_as_there_are_some() {
    let server = start(Bounds { half_closed_within: SHORT * 2, ..bounds() }).await;
    let mut watch = server.watch().await;
    watch.shutdown().await.unwrap();
    let began = Instant::now();
    let mut ticks = tokio::time::interval(SHORT / 4);
    while began.elapsed() < SHORT * 6 {
        ticks.tick().await;
        server.news.notify_waiters();
        read_until(&mut watch, "line\n").await;
    }
    rest(watch).await;
    server.end().await;
}

#[tokio::test]
async fn who_closes_its_side_and_waits_for_nothing_goes() {
    let server = start(Bounds { half_closed_within: SHORT, ..bounds() }).await;
    let mut watch = server.watch().await;
    watch.shutdown().await.unwrap();
    rest(watch).await;
    let mut slow = server.connect("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    slow.shutdown().await.unwrap();
    assert_eq!(rest(slow).await, "");
    server.until("all places are free", |server| server.count("connections") == 0).await;
    server.end().await;
}

#[tokio::test]
async fn a_handshake_that_never_ends_does_not_keep_others_out() {
    let (server, client) = start_secured(Bounds { connections: 2, admitted_within: SHORT, ..bounds() }).await;
    // Nothing; the beginning of a ClientHello of 512 bytes; one that drips.
    let mut stuck = vec![server.connect("").await, server.connect("\x16\x03\x01\x02\0\x01").await];
    stuck.push(server.connect("\x16\x03\x01\x02\0\x01").await);
    let dripping = tokio::spawn(drip(stuck.pop().unwrap(), 0));
    let began = Instant::now();
    assert!(client.ask(&server, GET).await.ends_with("here 127.0.0.1"));
    assert!(began.elapsed() < tls::HANDSHAKE / 2, "{:?}", began.elapsed());
    for stream in stuck {
        assert_eq!(rest(stream).await, "");
    }
    dripping.await.unwrap();
    assert_eq!(server.count("refused/admission"), 3);
    // Who speaks plain HTTP is told.
    let said = server.ask(GET).await;
    assert!(said.starts_with("HTTP/1.1 400 ") && said.ends_with(tls::listen::PLAIN), "{said}");
    server.end().await;
}

#[tokio::test]
async fn strangers_bytes_are_no_request() {
    let server = start(bounds()).await;
    for text in ["\x16\x03\x01\x02\0\x01\0\x01", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0\0\r\n\r\n", "GET\r\n\r\n"]
    {
        let mut stream = server.connect(text).await;
        stream.shutdown().await.unwrap();
        let said = tokio::time::timeout(LIMIT, rest(stream)).await.unwrap();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 400 ") || said.starts_with("HTTP/1.1 505 "), "{said}");
    }
    server.end().await;
}

/// Connects to a server that has a certificate.
struct Client {
    live: tls::client::Live,
    _reloader: tls::Reloader,
    _files: tempfile::TempDir,
}

impl Client {
    async fn connect(&self, stream: tokio::net::TcpStream) -> tls::listen::Stream {
        let name = tls::rustls::pki_types::ServerName::try_from("localhost").unwrap();
        tls::listen::connect(stream, Some((&self.live, name))).await.unwrap()
    }

    async fn ask(&self, server: &common::Server, text: &str) -> String {
        let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let mut stream = self.connect(stream).await;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(LIMIT, stream.read_to_string(&mut answer)).await.expect("the server closes").unwrap();
        answer
    }
}

async fn start_secured(bounds: Bounds) -> (common::Server, Client) {
    let files = tempfile::tempdir().unwrap();
    let authority = Authority::new("here");
    let server = authority.server("localhost").write(files.path(), "server");
    let trusted = authority.write(files.path(), "ca");
    let reloader = tls::Reloader::default();
    let config = tls::server::Config {
        cert_path: server.certificate,
        key_path: server.key,
        intermediate_certs_path: None,
        ca_cert_path: None,
        ciphers: None,
        require_client_auth: false,
        protocols: None,
    };
    let live = tls::server::Live::start(&config, "tls", &reloader).unwrap();
    let config = tls::client::Config { trust_certs: Some(vec![trusted]), ..tls::client::Config::default() };
    let client = tls::client::Live::start(&config, tls::client::Naming::Url, "tls", &reloader).unwrap();
    let server = start_with(bounds, SocketOptions::default(), Some(live)).await;
    (server, Client { live: client, _reloader: reloader, _files: files })
}
