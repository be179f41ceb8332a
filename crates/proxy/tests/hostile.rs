//! Clients and endpoints that mean harm, or might as well: what they cost the router, and everybody else.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::backend::Backend;
use common::{Proxy, endpoint, read_until, router};
use proxy::settings::{ByPrefix, Classifier, Router, Service};
use testkit::until::until;

const LIMIT: Duration = Duration::from_secs(10);

fn of_port(port: u16, change: impl FnOnce(&mut Router)) -> Proxy {
    let mut router = router(&format!("/svc/* => /$/inet/127.0.0.1/{port}"));
    change(&mut router);
    Proxy::of(router, 1)
}

/// Memory of this process, in MiB.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("a file of the kernel");
    let pages: usize = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096 / (1024 * 1024)
}

#[test]
fn a_client_that_is_always_ahead_costs_no_memory() {
    // Requests without a Host are answered by the router itself; no write ends with one.
    let request = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(7000));
    let (count, block) = (20_000, 9_999);
    let proxy = of_port(1, |_| {});
    let mut stream = proxy.connect();
    let mut reading = stream.try_clone().expect("a clone");
    let reader = std::thread::spawn(move || {
        let (mut answers, mut bytes, mut last) = (0, vec![0; 64 * 1024], [0; 3]);
        while answers < count {
            let read = reading.read(&mut bytes).expect("answers");
            assert!(read > 0, "closed after {answers} answers");
            let text = [&last[..], &bytes[..read]].concat();
            answers += text.windows(4).filter(|four| four == b"HTTP").count();
            last = text[text.len() - 3..].try_into().expect("three bytes");
        }
    });
    let before = resident();
    let all = request.len() * count;
    let (mut at, bytes) = (0, request.repeat(4));
    while at < all {
        let from = at % request.len();
        let length = block.min(all - at);
        stream.write_all(&bytes.as_bytes()[from..from + length]).expect("written");
        at += length;
    }
    reader.join().expect("all answers");
    let grown = resident().saturating_sub(before);
    assert!(grown < 40, "{grown} MiB for {} MiB of requests", all >> 20);
}

#[test]
fn a_head_that_trickles_in_has_a_limit() {
    let backend = Backend::ok();
    let proxy = of_port(backend.port, |router| router.servers[0].head_timeout = Duration::from_millis(400));
    let mut stream = proxy.connect();
    // The second head's time is not that of the first.
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").expect("written");
    read_until(&mut stream, b"\r\n\r\n");
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("an option");
    let (mut answer, began) = (Vec::new(), Instant::now());
    for byte in b"GET / HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'x')) {
        assert!(began.elapsed() < LIMIT, "still open");
        let _ = stream.write_all(&[*byte]);
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => break,
        }
    }
    assert!(answer.starts_with(b"HTTP/1.0 408 "), "{:?}", String::from_utf8_lossy(&answer));
    assert!(began.elapsed() > Duration::from_millis(350), "{:?}", began.elapsed());
    assert_eq!(proxy.get("/", &[("Host", "web")]).status, 200);
}

#[test]
fn an_idle_connection_has_no_limit_of_a_head() {
    let backend = Backend::ok();
    let proxy = of_port(backend.port, |router| router.servers[0].head_timeout = Duration::from_millis(200));
    let mut stream = proxy.connect();
    stream.set_read_timeout(Some(Duration::from_millis(600))).expect("an option");
    // The head came in two parts, and was refused: its time is over, too.
    for request in ["GET / HTTP/1.1\r\n|Host: web\r\n\r\n", "GET / HTTP/1.1\r\n|\r\n"] {
        for part in request.split('|') {
            stream.write_all(part.as_bytes()).expect("written");
            let pending = stream.try_clone().expect("a clone");
            pending.set_nodelay(true).expect("an option");
        }
        let mut bytes = [0; 4096];
        assert!(stream.read(&mut bytes).expect("an answer") > 0);
        let idle = stream.read(&mut bytes).map_err(|error| error.kind());
        assert!(matches!(idle, Err(ErrorKind::WouldBlock)), "{idle:?} after {request:?}");
    }
}

const SERVER: [&str; 4] = ["rt", "http", "server", "127.0.0.1/0"];

/// Sends until the router does not read all of it any more. What it left fits its kernel's buffer, so that an
/// end that follows shows there.
fn fill(proxy: &Proxy, stream: &mut std::net::TcpStream) {
    let received = || proxy.counter(&[&SERVER[..], &["received_bytes"]].concat());
    let block = vec![b'x'; 32 * 1024];
    let mut sent = received();
    loop {
        stream.write_all(&block).expect("written");
        sent += block.len() as u64;
        let began = Instant::now();
        while received() < sent {
            if began.elapsed() > Duration::from_millis(500) {
                return;
            }
            std::thread::yield_now();
        }
    }
}

fn until_nothing_is_under_way(proxy: &Proxy) {
    let pending = [&SERVER[..], &["pending"]].concat();
    until("the end of the exchange", Duration::from_secs(15), || match proxy.registry.snapshot().gauge(&pending) {
        Some(0.0) => Ok(()),
        other => Err(other),
    });
}

#[test]
fn an_upload_that_nobody_takes_ends_with_its_client() {
    for resets in [true, false] {
        let (closed, is_closed) = mpsc::channel();
        let (go, may_read) = mpsc::channel::<()>();
        let (closed, may_read) = (Mutex::new(closed), Mutex::new(may_read));
        let port = endpoint(move |_, mut stream| {
            read_until(&mut stream, b"\r\n\r\n");
            // Takes nothing until the client is gone; then the end must come soon.
            may_read.lock().expect("no panic").recv().expect("told to");
            let (began, mut bytes) = (Instant::now(), vec![0; 1 << 20]);
            stream.set_read_timeout(Some(LIMIT)).expect("an option");
            let end = loop {
                match stream.read(&mut bytes) {
                    Ok(0) => break true,
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => break true,
                    Ok(_) => {}
                    Err(_) => break false,
                }
            };
            closed.lock().expect("no panic").send((end, began.elapsed())).expect("somebody waits");
        });
        let proxy = of_port(port, |_| {});
        let mut stream = proxy.connect();
        stream.write_all(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 1000000000\r\n\r\n").expect("written");
        fill(&proxy, &mut stream);
        if resets {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option");
        }
        drop(stream);
        // The endpoint reads nothing: only the gauge tells.
        until_nothing_is_under_way(&proxy);
        go.send(()).expect("it waits");
        let (end, _) = is_closed.recv_timeout(LIMIT).expect("an end");
        assert!(end, "resets: {resets}");
    }
}

#[test]
fn a_client_that_sent_too_much_ahead_and_is_gone_is_noticed() {
    let hangs = Backend::start(Box::new(|_, _| None));
    let proxy = of_port(hangs.port, |_| {});
    let mut stream = proxy.connect();
    let get = "GET / HTTP/1.1\r\nHost: web\r\n\r\n";
    stream.write_all(get.as_bytes()).expect("written");
    until("the request", LIMIT, || if hangs.requests().is_empty() { Err("none") } else { Ok(()) });
    fill(&proxy, &mut stream);
    drop(stream);
    until_nothing_is_under_way(&proxy);
}

#[test]
fn waiting_for_a_retry_ends_with_the_time_of_the_request() {
    let backend = Backend::start(Box::new(|_, _| {
        Some((b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_vec(), false))
    }));
    let proxy = of_port(backend.port, |router| {
        router.service = ByPrefix::global(Service {
            classifier: Some(Classifier::RetryableRead5xx),
            total_timeout: Some(Duration::from_millis(300)),
            backoff: Some(balance::Backoff::constant(60_000)),
            ..Service::default()
        });
    });
    let began = Instant::now();
    let answer = proxy.get("/", &[("Host", "web")]);
    assert_eq!(answer.status, 503);
    assert!(answer.text().starts_with("exceeded 300.milliseconds to svc/web"), "{answer:?}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(backend.requests().len(), 1);
}

#[test]
fn a_tunnel_to_an_endpoint_that_takes_nothing_ends_with_its_client() {
    let (closed, is_closed) = mpsc::channel();
    let (go, may_read) = mpsc::channel::<()>();
    let (closed, may_read) = (Mutex::new(closed), Mutex::new(may_read));
    let port = endpoint(move |_, mut stream| {
        read_until(&mut stream, b"\r\n\r\n");
        stream.write_all(b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").expect("written");
        may_read.lock().expect("no panic").recv().expect("told to");
        let mut bytes = vec![0; 1 << 20];
        while matches!(stream.read(&mut bytes), Ok(1..)) {}
        closed.lock().expect("no panic").send(()).expect("somebody waits");
    });
    let proxy = of_port(port, |_| {});
    let mut stream = proxy.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").expect("written");
    read_until(&mut stream, b"\r\n\r\n");
    stream.set_write_timeout(Some(Duration::from_millis(300))).expect("an option");
    while stream.write_all(&[b'x'; 64 * 1024]).is_ok() {}
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option");
    drop(stream);
    until_nothing_is_under_way(&proxy);
    go.send(()).expect("it waits");
    is_closed.recv_timeout(LIMIT).expect("an end");
}

/// All that can go wrong with an answer at every one of its bytes: never a whole answer that is not it.
#[test]
fn an_answer_cut_at_any_byte_is_whole_or_visibly_cut() {
    const CHUNKS: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    const COUNTED: &[u8] = b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\n\r\nhello";
    for (all, resets) in [(CHUNKS, false), (CHUNKS, true), (COUNTED, false), (COUNTED, true)] {
        let port = endpoint(move |_, stream| {
            let mut stream = std::io::BufReader::new(stream);
            let Some(request) = common::backend::message(&mut stream, true) else { return };
            let cut: usize = request.word(1)[1..].parse().expect("a number");
            let _ = stream.get_mut().write_all(&all[..cut]);
            if resets {
                // What was written must arrive before the reset does.
                let _ = stream.get_mut().set_read_timeout(Some(Duration::from_millis(2)));
                let _ = stream.read(&mut [0]);
                let _ = socket2::SockRef::from(stream.get_ref()).set_linger(Some(Duration::ZERO));
            }
        });
        let proxy = of_port(port, |_| {});
        for cut in 0..=all.len() {
            let get = format!("GET /{cut} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n");
            let answer = proxy.raw(get.as_bytes());
            let text = String::from_utf8_lossy(&answer).into_owned();
            let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
            let shown = format!("{} bytes, resets: {resets}: {text:?}", cut);
            let whole_head = all[..cut].windows(4).any(|four| four == b"\r\n\r\n");
            match head.get(9..12) {
                Some("502") => assert!(cut < all.len(), "{shown}"),
                Some("200") => {
                    let ends = if all == CHUNKS { body.ends_with("0\r\n\r\n") } else { body == "hello" };
                    assert!(whole_head && ends == (cut == all.len()), "{shown}");
                }
                _ => panic!("{shown}"),
            }
        }
    }
}

#[test]
fn an_idempotent_request_whose_connection_breaks_off_unanswered_is_sent_once_more() {
    for began in [false, true] {
        let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let seen = count.clone();
        // Each connection breaks off at its first request, also the new ones.
        let port = endpoint(move |_, mut stream| {
            read_until(&mut stream, b"\r\n\r\n");
            seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let _ = stream.write_all(if began { b"HTTP/1.1 200 OK\r\nX" } else { b"" });
        });
        let proxy = of_port(port, |_| {});
        let taken = || count.swap(0, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(proxy.get("/", &[("Host", "web")]).status, 502);
        assert_eq!(taken(), 2, "once more, not for ever");
        let answer = proxy.raw(b"POST / HTTP/1.1\r\nHost: web\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert!(answer.starts_with(b"HTTP/1.1 502 "));
        assert_eq!(taken(), 1, "it may have been acted on");
    }
}

#[test]
fn endpoints_that_all_count_as_dead_are_tried_before_a_request_fails() {
    use common::names::{Set, Table};
    let ports = [common::closed_port(), common::closed_port(), common::closed_port()];
    let set = Set::new("/set", &ports);
    let table = Table::new(set.leaf.clone());
    let proxy = Proxy::with(router(""), 1, |_| std::sync::Arc::new(table));
    until("dead endpoints", LIMIT, || {
        proxy.get("/", &[("Host", "web")]);
        let removals = proxy.counter(&["rt", "http", "client", "set", "failure_accrual", "removals"]);
        if removals >= 3 { Ok(()) } else { Err(removals) }
    });
    // One is back long before anybody is to look at it again.
    let listener = std::net::TcpListener::bind(("127.0.0.1", ports[0])).expect("the port is free again");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            read_until(&mut stream, b"\r\n\r\n");
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let failed = (0..50).filter(|_| proxy.get("/", &[("Host", "web")]).status != 200).count();
    assert_eq!(failed, 0);
}

/// An endpoint that can be killed: its listener and all its connections close at once.
struct Mortal {
    port: u16,
    open: std::sync::Arc<Mutex<Vec<std::net::TcpStream>>>,
    listening: Option<std::thread::JoinHandle<()>>,
    dies: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Mortal {
    fn start(port: u16) -> Mortal {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
        let port = listener.local_addr().expect("bound").port();
        let (open, dies) = (std::sync::Arc::<Mutex<Vec<_>>>::default(), std::sync::Arc::default());
        let (opened, dying): (_, std::sync::Arc<std::sync::atomic::AtomicBool>) =
            (open.clone(), std::sync::Arc::clone(&dies));
        let listening = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if dying.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                opened.lock().expect("no panic").push(stream.try_clone().expect("a clone"));
                std::thread::spawn(move || {
                    let mut stream = std::io::BufReader::new(stream);
                    while common::backend::message(&mut stream, true).is_some() {
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        if stream.get_mut().write_all(answer).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Mortal { port, open, listening: Some(listening), dies }
    }

    fn kill(&mut self) {
        self.dies.store(true, std::sync::atomic::Ordering::Relaxed);
        drop(std::net::TcpStream::connect(("127.0.0.1", self.port)));
        self.listening.take().map(std::thread::JoinHandle::join).expect("it lives").expect("no panic");
        for stream in self.open.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Also when the test fails.
struct Stops<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn endpoints_killed_in_turn_fail_no_request() {
    use common::names::{Set, Table};
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    let mut endpoints = (0..3).map(|_| Mortal::start(0)).collect::<Vec<_>>();
    let ports = endpoints.iter().map(|endpoint| endpoint.port).collect::<Vec<_>>();
    let set = Set::new("/set", &ports);
    let table = Table::new(set.leaf.clone());
    let proxy = Proxy::with(router(""), 1, |_| std::sync::Arc::new(table));
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let failed = std::thread::scope(|scope| {
        let callers = (0..4)
            .map(|caller| {
                let (proxy, stop, done) = (&proxy, &stop, &done);
                scope.spawn(move || {
                    let mut failed = Vec::new();
                    let mut kept = testkit::http::Connection::open(&proxy.address.to_string()).expect("open");
                    while !stop.load(Ordering::Relaxed) {
                        let headers = [("Host", "web")];
                        let get = testkit::http::Request { method: "GET", target: "/", headers: &headers, body: None };
                        let answer =
                            if caller % 2 == 0 { proxy.get("/", &headers) } else { kept.send(&get).expect("open") };
                        if answer.status != 200 {
                            failed.push(answer.text());
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    failed
                })
            })
            .collect::<Vec<_>>();
        let stops = Stops(&stop);
        for n in 0..15 {
            let some = |what: &str| {
                let before = done.load(Ordering::Relaxed);
                until(what, LIMIT, || match done.load(Ordering::Relaxed) - before {
                    40.. => Ok(()),
                    other => Err(other),
                });
            };
            endpoints[n % 3].kill();
            some("requests while it is down");
            endpoints[n % 3] = Mortal::start(ports[n % 3]);
            some("requests when it is back");
        }
        drop(stops);
        callers.into_iter().flat_map(|caller| caller.join().expect("no panic")).collect::<Vec<_>>()
    });
    let all = done.load(Ordering::Relaxed);
    assert!(failed.is_empty(), "{} of {all}: {:?}", failed.len(), failed.first());
}
