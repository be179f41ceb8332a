//! A server on a port of its own, and clients that do what they like.

#![allow(dead_code, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::routing::{get, post};
use serving::{Bounds, Counts, Peer, Port, SocketOptions, Whole};
use telemetry::{Registry, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Whatever takes longer never ends.
pub const LIMIT: Duration = Duration::from_secs(20);
pub const SHORT: Duration = Duration::from_millis(200);
/// More than kernels buffer.
pub const BIG: usize = 64 << 20;
pub const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
pub const WATCH: &str = "GET /watch HTTP/1.1\r\nhost: a\r\n\r\n";

/// Bounds that no test reaches, to be made shorter.
pub fn bounds() -> Bounds {
    Bounds {
        connections: 100,
        admitted_within: LIMIT * 2,
        head_within: LIMIT * 2,
        body: Whole { bytes: 1000, within: LIMIT * 2 },
        body_of,
        bodies: 1 << 20,
        written_within: LIMIT * 2,
        half_closed_within: LIMIT * 2,
    }
}

fn body_of(head: &Parts, whole: Whole) -> serving::Body {
    match head.uri.path() {
        "/streamed" => serving::Body::Streamed,
        "/long" => serving::Body::Whole(Whole { bytes: whole.bytes * 2, ..whole }),
        _ => serving::Body::Whole(whole),
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub closing: CancellationToken,
    pub tracker: TaskTracker,
    pub registry: Registry,
    /// Somebody asked for `/slow`.
    pub asked: Arc<Notify>,
    /// Lets `/slow` answer.
    pub go: Arc<Notify>,
    /// Watches get one more line.
    pub news: Arc<Notify>,
}

pub async fn start(bounds: Bounds) -> Server {
    start_with(bounds, SocketOptions::default(), None).await
}

pub async fn start_with(bounds: Bounds, options: SocketOptions, tls: Option<tls::server::Live>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (closing, tracker, registry) = (CancellationToken::new(), TaskTracker::new(), Registry::default());
    let (asked, go, news) = (Arc::<Notify>::default(), Arc::<Notify>::default(), Arc::<Notify>::default());
    let routes = routes(asked.clone(), go.clone(), news.clone());
    let counts = Counts::under(&registry, &["here"]);
    let port = Port { bounds, options, tls, counts, ..Port::new(listener) };
    tracker.spawn(port.serve(move || routes.clone(), closing.clone(), tracker.clone()));
    Server { address, closing, tracker, registry, asked, go, news }
}

fn routes(asked: Arc<Notify>, go: Arc<Notify>, news: Arc<Notify>) -> Router {
    let slow = get(move || async move {
        asked.notify_one();
        go.notified().await;
        "slow"
    });
    let watch = get(move || async move {
        let lines = futures_util::stream::unfold(None::<Arc<Notify>>, move |before| {
            let news = news.clone();
            async move {
                if let Some(before) = before {
                    before.notified().await;
                }
                Some((Ok::<_, std::convert::Infallible>(Bytes::from_static(b"line\n")), Some(news)))
            }
        });
        Body::from_stream(lines)
    });
    let big = get(async || {
        let piece = Bytes::from(vec![b'x'; 1 << 16]);
        let pieces = std::iter::repeat_n(piece, BIG >> 16).map(Ok::<_, std::convert::Infallible>);
        Body::from_stream(futures_util::stream::iter(pieces))
    });
    Router::new()
        .route("/", get(|axum::Extension(peer): axum::Extension<Peer>| async move { format!("here {}", peer.0.ip()) }))
        .route("/slow", slow)
        .route("/watch", watch)
        .route("/big", big)
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/long", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/streamed", post(async |body: Body| body))
}

impl Server {
    pub async fn connect(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// All of the answer.
    pub async fn ask(&self, text: &str) -> String {
        rest(self.connect(text).await).await
    }

    /// A watch whose first line is here.
    pub async fn watch(&self) -> TcpStream {
        let mut stream = self.connect(WATCH).await;
        read_until(&mut stream, "line\n").await;
        stream
    }

    pub fn count(&self, name: &str) -> u64 {
        let path: Vec<&str> = std::iter::once("here").chain(name.split('/')).collect();
        let snapshot = self.registry.snapshot();
        let found = snapshot.iter().find(|(at, _)| *at == path).map(|(_, value)| match value {
            Value::Counter(count) => count,
            Value::Gauge(level) => level as u64,
            Value::Stat(_) => panic!("{name} is a histogram"),
        });
        found.unwrap_or_else(|| panic!("no metric {name}"))
    }

    pub async fn until(&self, what: &str, mut fact: impl FnMut(&Server) -> bool) {
        let began = Instant::now();
        while !fact(self) {
            assert!(began.elapsed() < LIMIT, "{what}: not within {LIMIT:?}: {}", self.registry.snapshot().to_json());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends it, and everybody who is idle.
    pub async fn end(self) {
        self.closing.cancel();
        self.tracker.close();
        timeout(LIMIT, self.tracker.wait()).await.expect("all connections end");
    }
}

/// Everything until the server closes, also if it closes in anger.
pub async fn rest(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let read = async {
        let mut part = [0; 1 << 16];
        while let Ok(count @ 1..) = stream.read(&mut part).await {
            all.extend_from_slice(&part[..count]);
        }
    };
    timeout(LIMIT, read).await.expect("the server closes");
    String::from_utf8(all).unwrap()
}

pub async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&all).contains(end) {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).await.unwrap(), 1, "closed behind {:?}", String::from_utf8_lossy(&all));
            all.push(byte[0]);
        }
    };
    timeout(LIMIT, read).await.unwrap_or_else(|_| panic!("never comes: {end:?}"));
    String::from_utf8(all).unwrap()
}

/// Sends a byte every few milliseconds until the other side closes; what it said.
pub async fn drip(stream: TcpStream, byte: u8) -> String {
    let (mut reader, mut writer) = stream.into_split();
    let dripping = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        loop {
            ticks.tick().await;
            if writer.write_all(&[byte]).await.is_err() {
                return std::future::pending::<()>().await;
            }
        }
    };
    let mut all = Vec::new();
    let reading = async {
        let mut part = [0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut part).await {
            all.extend_from_slice(&part[..count]);
        }
    };
    tokio::select! {
        () = dripping => {}
        ended = timeout(LIMIT, reading) => ended.expect("the server closes"),
    }
    String::from_utf8(all).unwrap()
}
