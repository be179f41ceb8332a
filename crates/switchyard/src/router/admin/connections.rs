//! The connections of the admin server and its like: bounded in number, heads and bodies in time and length, so
//! that whoever drips, or opens connections for nothing, keeps nobody out for long and takes no memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use proxy::settings::SocketOptions;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// What one server's clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at a time; more wait in the kernel's queue.
    connections: usize,
    /// For a handshake, a head, a body; and for being idle between requests.
    patience: Duration,
    /// Bytes of a request's body.
    body: usize,
    no_delay: bool,
    /// `socketOptions.readTimeoutMs`, `writeTimeoutMs`: a connection on which nothing moved for so long closes.
    read: Option<Duration>,
    write: Option<Duration>,
}

/// Bytes of a request's head.
const HEAD: usize = 64 * 1024;

impl Bounds {
    /// Those of a server with these options.
    #[must_use]
    pub fn of(options: &SocketOptions) -> Bounds {
        Bounds {
            connections: 1024,
            patience: Duration::from_secs(30),
            body: 4 * 1024 * 1024,
            no_delay: options.no_delay,
            read: options.read_timeout,
            write: options.write_timeout,
        }
    }
}

/// Accepts connections until `stop`; ends with the last of them. `routes` are those of the moment.
pub async fn serve(
    listener: TcpListener,
    secured: Option<tls::server::Live>,
    bounds: Bounds,
    routes: impl Fn() -> axum::Router + Clone + Send + Sync + 'static,
    stop: CancellationToken,
) {
    let (places, tracker) = (Arc::new(Semaphore::new(bounds.connections)), TaskTracker::new());
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Err(error) = stream.set_nodelay(bounds.no_delay) {
                    tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
                }
                let (secured, routes, stop) = (secured.clone(), routes.clone(), stop.clone());
                tracker.spawn(async move {
                    let accepted = tokio::select! {
                        accepted = tls::listen::accept(stream, secured.as_ref()) => accepted,
                        () = stop.cancelled() => return,
                    };
                    match accepted {
                        Ok(stream) => connection(stream, peer, bounds, routes, &stop).await,
                        Err(error) => tracing::debug!(%peer, %error, "no TLS connection to the admin server"),
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // Too many open files, or a connection that is gone already.
                tracing::warn!(%error, "the admin server cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    tracker.close();
    tracker.wait().await;
}

async fn connection(
    stream: tls::listen::Stream,
    peer: SocketAddr,
    bounds: Bounds,
    routes: impl Fn() -> axum::Router + Clone,
    stop: &CancellationToken,
) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_read_timeout(bounds.read);
    stream.set_write_timeout(bounds.write);
    let service = service_fn(move |request| answer(routes(), request, bounds));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.patience)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection to the admin server ended");
    }
}

/// Reads the body whole before anybody looks at it: they are short here.
async fn answer(
    routes: axum::Router,
    request: Request<Incoming>,
    bounds: Bounds,
) -> Result<Response, std::convert::Infallible> {
    let (head, body) = request.into_parts();
    let mut whole = Body::empty();
    if !body.is_end_stream() {
        let too_long = || (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {} bytes\n", bounds.body));
        if body.size_hint().lower() > bounds.body as u64 {
            return Ok(too_long().into_response());
        }
        let read = axum::body::to_bytes(Body::new(body), bounds.body);
        whole = match tokio::time::timeout(bounds.patience, read).await {
            Ok(Ok(bytes)) => Body::from(bytes),
            Ok(Err(_)) => return Ok(too_long().into_response()),
            Err(_) => {
                let text = format!("the body did not come within {} seconds\n", bounds.patience.as_secs());
                return Ok((StatusCode::REQUEST_TIMEOUT, text).into_response());
            }
        };
    }
    routes.oneshot(Request::from_parts(head, whole)).await
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::router::admin::Serving;

    const PING: &[u8] = b"GET /ping HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    const WITHIN: Duration = Duration::from_secs(10);

    fn bounds() -> Bounds {
        let patience = Duration::from_millis(300);
        Bounds { connections: 4, patience, body: 1000, ..Bounds::of(&SocketOptions::default()) }
    }

    fn start(bounds: Bounds) -> (Serving, SocketAddr) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let routes = axum::Router::new()
            .route("/ping", axum::routing::get(|| async { "pong" }))
            .route("/echo", axum::routing::post(|body: axum::body::Bytes| async { body }));
        (Serving::within(bounds, listener, None, routes).expect("a server"), address)
    }

    /// All that comes until the server closes; what a client gets that is cut off is what it has read.
    async fn ask(address: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("open");
        stream.write_all(bytes).await.expect("written");
        rest(&mut stream).await
    }

    async fn rest(stream: &mut TcpStream) -> String {
        let mut all = Vec::new();
        let read = async {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut part).await {
                all.extend_from_slice(&part[..count]);
            }
        };
        tokio::time::timeout(WITHIN, read).await.expect("the server closes");
        String::from_utf8_lossy(&all).into_owned()
    }

    #[tokio::test]
    async fn who_drips_or_is_idle_makes_room_for_others() {
        let (serving, address) = start(bounds());
        let mut others = Vec::new();
        for number in 0..12 {
            let mut stream = TcpStream::connect(address).await.expect("open");
            if number % 2 == 0 {
                stream.write_all(b"GET /pi").await.expect("written");
            }
            others.push(stream);
        }
        let began = Instant::now();
        assert!(ask(address, PING).await.ends_with("pong"));
        // Three times four of them were in the queue before it.
        assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
        for mut stream in others {
            let said = rest(&mut stream).await;
            assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
        }
        serving.stop().await.expect("ended");
    }

    #[tokio::test]
    async fn bodies_are_short_and_come_in_time() {
        let (serving, address) = start(bounds());
        let post = |length: &str, body: &str| {
            format!("POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{length}\r\n\r\n{body}").into_bytes()
        };
        let long = "x".repeat(1001);
        let chunked = format!("3e9\r\n{long}\r\n0\r\n\r\n");
        let cases = [
            (post("content-length: 2", "hi"), "200", "hi"),
            (post("content-length: 1001", &long), "413", "the body is longer than 1000 bytes\n"),
            (post("transfer-encoding: chunked", &chunked), "413", "the body is longer than 1000 bytes\n"),
            (post("content-length: 10", "hi"), "408", "the body did not come within 0 seconds\n"),
        ];
        for (request, status, end) in cases {
            let said = ask(address, &request).await;
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")) && said.ends_with(end), "{status}: {said}");
        }
        serving.stop().await.expect("ended");
    }

    #[tokio::test]
    async fn a_socket_on_which_nothing_moves_closes_after_its_time() {
        let read = Some(Duration::from_millis(100));
        let (serving, address) = start(Bounds { patience: Duration::from_secs(60), read, ..bounds() });
        let mut stream = TcpStream::connect(address).await.expect("open");
        stream.write_all(b"GET /ping HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("written");
        assert!(rest(&mut stream).await.ends_with("pong"));
        serving.stop().await.expect("ended");
    }

    #[tokio::test]
    async fn an_end_waits_for_nobody_who_is_idle() {
        let (serving, address) = start(Bounds { patience: Duration::from_secs(60), ..bounds() });
        let mut stream = TcpStream::connect(address).await.expect("open");
        stream.write_all(b"GET /ping HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("written");
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200");
        serving.stop().await.expect("ended");
        rest(&mut stream).await;
        assert!(TcpStream::connect(address).await.is_err());
    }
}
