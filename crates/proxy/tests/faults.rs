//! What goes wrong on either side, and what the other side sees of it.

mod common;

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::backend::{Backend, message};
use common::names::{Set, Table, union};
use common::{Proxy, closed_port, connect, endpoint, read_until, router};
use proxy::settings::{ByPrefix, Client, Router, Service};
use testkit::http::{Answer, Connection, Request};
use testkit::until::until;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n";
const LIMIT: Duration = Duration::from_secs(10);

fn of_port(port: u16) -> Proxy {
    Proxy::start(&format!("/svc/* => /$/inet/127.0.0.1/{port}"))
}

fn with_table(table: &Table, change: impl FnOnce(&mut Router)) -> Proxy {
    let mut router = router("");
    change(&mut router);
    let table = table.clone();
    Proxy::with(router, 1, |_| Arc::new(table))
}

fn get(proxy: &Proxy) -> Answer {
    proxy.get("/", &[("Host", "web")])
}

#[test]
fn a_refusing_endpoint_among_good_ones_fails_no_request() {
    let good = Backend::ok();
    let set = Set::new("/set", &[good.port, closed_port(), closed_port()]);
    let proxy = with_table(&Table::new(set.leaf.clone()), |_| {});
    for _ in 0..50 {
        assert_eq!(get(&proxy).status, 200);
    }
    assert_eq!(good.requests().len(), 50);
    assert!(proxy.counter(&["rt", "http", "client", "set", "retries", "requeues"]) > 0);
}

#[test]
fn an_endpoint_that_closes_idle_connections_fails_no_request() {
    // One answer per connection, without a word about closing.
    let port = endpoint(|_, stream| {
        let mut stream = BufReader::new(stream);
        if message(&mut stream, true).is_some() {
            stream.get_mut().write_all(OK).expect("written");
        }
    });
    let proxy = of_port(port);
    let mut connection = Connection::open(&proxy.address.to_string()).expect("open");
    for n in 0..100 {
        let (method, body) = if n % 2 == 0 { ("GET", None) } else { ("POST", Some(&b"hi"[..])) };
        let request = Request { method, target: "/", headers: &[("Host", "web")], body };
        assert_eq!(connection.send(&request).expect("an answer").status, 200, "request {n}");
    }
}

/// Answers the first request of each connection, and reads the second without answering it.
fn takes_and_closes() -> u16 {
    endpoint(|_, stream| {
        let mut stream = BufReader::new(stream);
        if message(&mut stream, true).is_some() {
            stream.get_mut().write_all(OK).expect("written");
            message(&mut stream, true);
        }
    })
}

#[test]
fn on_a_kept_connection_that_dies_unanswered_only_what_is_idempotent_is_sent_again() {
    let proxy = of_port(takes_and_closes());
    let status = |method, body| {
        let mut connection = Connection::open(&proxy.address.to_string()).expect("open");
        let request = Request { method, target: "/", headers: &[("Host", "web")], body };
        connection.send(&request).expect("an answer").status
    };
    assert_eq!(status("GET", None), 200);
    assert_eq!(status("GET", None), 200, "sent again on a new connection, which is kept");
    assert_eq!(status("POST", Some(&b"hi"[..])), 502, "it may have been acted on");
    assert_eq!(status("PUT", Some(&b"hi"[..])), 200);
}

#[test]
fn an_answer_that_breaks_off_is_seen_to_break_off() {
    // A short one with a length is a 502: it waits until it is whole.
    for head in ["Content-Length: 100000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let text = format!("HTTP/1.1 200 OK\r\n{head}\r\n5\r\nab");
        let port = endpoint(move |_, mut stream| {
            read_until(&mut stream, b"\r\n\r\n");
            stream.write_all(text.as_bytes()).expect("written");
        });
        let proxy = of_port(port);
        let mut stream = BufReader::new(proxy.connect());
        stream.get_mut().write_all(GET).expect("written");
        assert!(message(&mut stream, true).is_none(), "{head}: it looks whole");
    }
}

#[test]
fn an_endpoint_that_closes_or_resets_without_an_answer_is_a_bad_gateway() {
    for resets in [false, true] {
        let port = endpoint(move |_, mut stream| {
            read_until(&mut stream, b"\r\n\r\n");
            if resets {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option");
            }
        });
        let proxy = of_port(port);
        let answer = get(&proxy);
        assert_eq!(answer.status, 502);
        assert!(answer.text().starts_with("ChannelException at remote address: 127.0.0.1/127.0.0.1:"), "{answer:?}");
        assert_eq!(get(&proxy).status, 502);
    }
}

#[test]
fn when_the_client_goes_away_its_exchange_upstream_is_closed() {
    // A reset is noticed at once, a close within the time that a half-closed client is believed in.
    for (resets, limit) in [(true, Duration::from_secs(2)), (false, LIMIT)] {
        let (closed, is_closed) = mpsc::channel();
        let closed = std::sync::Mutex::new(closed);
        let port = endpoint(move |_, mut stream| {
            read_until(&mut stream, b"\r\n\r\n");
            let end = stream.read(&mut [0]);
            closed.lock().expect("no panic").send(matches!(end, Ok(0) | Err(_))).expect("somebody waits");
        });
        let proxy = of_port(port);
        let mut stream = proxy.connect();
        stream.write_all(GET).expect("written");
        let pending = ["rt", "http", "server", "127.0.0.1/0", "pending"];
        until("the request", LIMIT, || match proxy.registry.snapshot().gauge(&pending) {
            Some(1.0) => Ok(()),
            other => Err(other),
        });
        if resets {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option");
        }
        drop(stream);
        assert_eq!(is_closed.recv_timeout(limit), Ok(true), "resets: {resets}");
    }
}

#[test]
fn a_client_that_closes_its_sending_side_gets_its_answer() {
    let (go, may_answer) = mpsc::channel::<()>();
    let may_answer = std::sync::Mutex::new(may_answer);
    let port = endpoint(move |_, mut stream| {
        read_until(&mut stream, b"\r\n\r\n");
        may_answer.lock().expect("no panic").recv().expect("told to");
        stream.write_all(OK).expect("written");
    });
    let proxy = of_port(port);
    let mut stream = proxy.connect();
    stream.write_all(GET).expect("written");
    stream.shutdown(std::net::Shutdown::Write).expect("shut");
    go.send(()).expect("it waits");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    assert!(answer.ends_with(b"\r\n\r\nok"), "{:?}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_slow_client_holds_back_the_endpoint_and_not_the_memory() {
    const BODY: u64 = 256 << 20;
    let written = Arc::new(AtomicU64::new(0));
    let count = written.clone();
    let port = endpoint(move |_, mut stream| {
        read_until(&mut stream, b"\r\n\r\n");
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n").as_bytes()).expect("written");
        let block = vec![b'x'; 64 * 1024];
        while count.load(Ordering::Relaxed) < BODY && stream.write_all(&block).is_ok() {
            count.fetch_add(block.len() as u64, Ordering::Relaxed);
        }
    });
    let proxy = of_port(port);
    let mut stream = proxy.connect();
    stream.write_all(GET).expect("written");
    // Nothing is read: the endpoint comes to a halt long before the end.
    let mut last = 0;
    let stalled = until("a halt", LIMIT, || {
        std::thread::sleep(Duration::from_millis(200));
        let now = written.load(Ordering::Relaxed);
        let halted = now > 0 && now == std::mem::replace(&mut last, now);
        if halted { Ok(now) } else { Err(now) }
    });
    assert!(stalled < 64 << 20, "{stalled} bytes are somewhere");
    // And all of it arrives once it is read.
    let (mut read, mut block) = (0, vec![0; 1 << 20]);
    read_until(&mut stream, b"\r\n\r\n");
    while read < BODY {
        read += stream.read(&mut block).expect("more") as u64;
    }
    assert_eq!(read, BODY);
}

#[test]
fn a_slow_endpoint_holds_back_an_upload() {
    const BODY: usize = 128 << 20;
    let (go, may_read) = mpsc::channel::<()>();
    let may_read = std::sync::Mutex::new(may_read);
    let port = endpoint(move |_, mut stream| {
        read_until(&mut stream, b"\r\n\r\n");
        may_read.lock().expect("no panic").recv().expect("told to");
        let (mut read, mut block) = (0, vec![0; 1 << 20]);
        while read < BODY {
            read += stream.read(&mut block).expect("more");
        }
        stream.write_all(OK).expect("written");
    });
    let proxy = of_port(port);
    let stream = proxy.connect();
    let mut sending = stream.try_clone().expect("a clone");
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let sender = std::thread::spawn(move || {
        let head = format!("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: {BODY}\r\n\r\n");
        sending.write_all(head.as_bytes()).expect("written");
        let block = vec![b'x'; 64 * 1024];
        while count.load(Ordering::Relaxed) < BODY {
            sending.write_all(&block).expect("written");
            count.fetch_add(block.len(), Ordering::Relaxed);
        }
    });
    let mut last = 0;
    let stalled = until("a halt", LIMIT, || {
        std::thread::sleep(Duration::from_millis(200));
        let now = sent.load(Ordering::Relaxed);
        let halted = now > 0 && now == std::mem::replace(&mut last, now);
        if halted { Ok(now) } else { Err(now) }
    });
    assert!(stalled < 64 << 20, "{stalled} bytes are somewhere");
    go.send(()).expect("it waits");
    sender.join().expect("all sent");
    let mut stream = stream;
    // The kernel may take half a minute to notice that a window it had closed is open again.
    stream.set_read_timeout(Some(12 * LIMIT)).expect("a timeout");
    assert!(read_until(&mut stream, b"\r\n\r\nok").starts_with(b"HTTP/1.1 200 "));
}

#[test]
fn interim_answers_never_shift_later_answers() {
    let port = endpoint(|_, stream| {
        let mut stream = BufReader::new(stream);
        let mut n = 0;
        while message(&mut stream, true).is_some() {
            n += 1;
            let text = format!(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <{n}>\r\n\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}"
            );
            stream.get_mut().write_all(text.as_bytes()).expect("written");
        }
    });
    let proxy = of_port(port);
    let mut stream = BufReader::new(proxy.connect());
    for n in 1..=5 {
        stream.get_mut().write_all(GET).expect("written");
        let hint = message(&mut stream, true).expect("a hint");
        assert_eq!((hint.word(1), hint.header("link")), ("103", Some(format!("<{n}>").as_str())));
        let answer = message(&mut stream, true).expect("an answer");
        assert_eq!((answer.word(1), &answer.body), ("200", &n.to_string().into_bytes()));
    }
}

#[test]
fn an_invited_body_is_invited_once_and_forwarded() {
    let backend = Backend::ok();
    let proxy = of_port(backend.port);
    for length in [2, 20_000] {
        let mut stream = BufReader::new(proxy.connect());
        let head = format!("POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n");
        stream.get_mut().write_all(head.as_bytes()).expect("written");
        assert_eq!(message(&mut stream, true).expect("an invitation").word(1), "100");
        stream.get_mut().write_all(&vec![b'x'; length]).expect("written");
        assert_eq!(message(&mut stream, true).expect("an answer").word(1), "200");
        let requests = backend.requests();
        let last = requests.last().expect("a request");
        assert_eq!((last.body.len(), last.header("expect")), (length, None));
    }
}

#[test]
fn a_hanging_endpoint_times_out_as_configured() {
    let hangs = Backend::start(Box::new(|_, _| None));
    let set = Set::new("/set", &[hangs.port]);
    for (attempt, total, text) in [
        (Some(150), None, "exceeded 150.milliseconds to set while waiting for a response for an individual request"),
        (None, Some(150), "exceeded 150.milliseconds to svc/web while waiting for a response for the request"),
        (Some(9000), Some(150), "exceeded 150.milliseconds to svc/web"),
    ] {
        let proxy = with_table(&Table::new(set.leaf.clone()), |router| {
            let attempt_timeout = attempt.map(Duration::from_millis);
            router.client = ByPrefix::global(Client { attempt_timeout, ..Client::default() });
            let total_timeout = total.map(Duration::from_millis);
            router.service = ByPrefix::global(Service { total_timeout, ..Service::default() });
        });
        let began = Instant::now();
        let answer = get(&proxy);
        assert_eq!(answer.status, 503);
        assert!(answer.text().starts_with(text), "{}", answer.text());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        let asked = hangs.requests().last().expect("a request").header("l5d-ctx-deadline").map(str::to_owned);
        assert!(asked.is_some(), "the deadline goes on");
    }
}

#[test]
fn a_request_uses_the_newest_tree_and_the_newest_endpoints() {
    let (old, new) = (Backend::ok(), Backend::ok());
    let (v1, v2) = (Set::new("/v1", &[old.port]), Set::new("/v2", &[new.port]));
    let table = Table::new(v1.leaf.clone());
    let proxy = with_table(&table, |_| {});
    let mut connection = Connection::open(&proxy.address.to_string()).expect("open");
    let mut send = || {
        let request = Request { method: "GET", target: "/", headers: &[("Host", "web")], body: None };
        assert_eq!(connection.send(&request).expect("an answer").status, 200);
    };
    for n in 1..20_usize {
        table.set(if n % 2 == 0 { v1.leaf.clone() } else { v2.leaf.clone() });
        send();
        assert_eq!((old.requests().len(), new.requests().len()), (n / 2, n.div_ceil(2)), "request {n}");
    }
    // The same client with other endpoints.
    table.set(v1.leaf.clone());
    v1.set(&[new.port]);
    let before = new.requests().len();
    send();
    assert_eq!(new.requests().len(), before + 1);
}

#[test]
fn idle_connections_to_a_removed_endpoint_are_closed() {
    let (closed, is_closed) = mpsc::channel();
    let closed = std::sync::Mutex::new(closed);
    let leaving = endpoint(move |_, stream| {
        let mut stream = BufReader::new(stream);
        while message(&mut stream, true).is_some() {
            stream.get_mut().write_all(OK).expect("written");
        }
        closed.lock().expect("no panic").send(()).expect("somebody waits");
    });
    let staying = Backend::ok();
    let set = Set::new("/set", &[leaving]);
    let proxy = with_table(&Table::new(set.leaf.clone()), |_| {});
    assert_eq!(get(&proxy).status, 200);
    set.set(&[staying.port]);
    is_closed.recv_timeout(LIMIT).expect("closed without another request");
    assert_eq!(get(&proxy).status, 200);
    assert_eq!(staying.requests().len(), 1);
}

#[test]
fn a_split_is_drawn_per_request_and_an_empty_branch_keeps_its_share() {
    let (a, b) = (Backend::ok(), Backend::ok());
    let (first, second) = (Set::new("/a", &[a.port]), Set::new("/b", &[b.port]));
    let table = Table::new(union(&[(1.0, &first), (3.0, &second)]));
    let proxy = with_table(&table, |_| {});
    let mut connection = Connection::open(&proxy.address.to_string()).expect("open");
    let mut statuses = || {
        let mut counts = BTreeMap::<u16, usize>::new();
        for _ in 0..400 {
            let request = Request { method: "GET", target: "/", headers: &[("Host", "web")], body: None };
            *counts.entry(connection.send(&request).expect("an answer").status).or_default() += 1;
        }
        counts
    };
    assert_eq!(statuses(), BTreeMap::from([(200, 400)]));
    // Five standard deviations of 400 draws at 1/4.
    let share = a.requests().len();
    assert!((57..=143).contains(&share), "{share} of 400");
    first.set(&[]);
    let counts = statuses();
    let failed = counts.get(&502).copied().unwrap_or_default();
    assert!((57..=143).contains(&failed), "{counts:?}");
}

#[test]
fn one_request_too_many_is_refused_at_once() {
    let hangs = Backend::start(Box::new(|_, _| None));
    let set = Set::new("/set", &[hangs.port]);
    let proxy = with_table(&Table::new(set.leaf.clone()), |router| router.servers[0].max_concurrent = Some(1));
    let mut first = proxy.connect();
    first.write_all(GET).expect("written");
    until("the first request", LIMIT, || match hangs.requests().len() {
        1 => Ok(()),
        other => Err(other),
    });
    let answer = get(&proxy);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("0")));
    assert_eq!(answer.header("finagle-http-nack"), Some("true"));
}

#[test]
fn draining_finishes_what_is_under_way_and_closes_the_rest() {
    let (go, may_answer) = mpsc::channel::<()>();
    let may_answer = std::sync::Mutex::new(may_answer);
    let (asked, is_asked) = mpsc::channel::<()>();
    let asked = std::sync::Mutex::new(asked);
    let port = endpoint(move |_, stream| {
        let mut stream = BufReader::new(stream);
        while let Some(request) = message(&mut stream, true) {
            if request.word(1) == "/slow" {
                asked.lock().expect("no panic").send(()).expect("somebody waits");
                may_answer.lock().expect("no panic").recv().expect("told to");
            }
            stream.get_mut().write_all(OK).expect("written");
        }
    });
    let mut proxy = of_port(port);
    let address = proxy.address;
    let mut idle = proxy.connect();
    idle.write_all(GET).expect("written");
    read_until(&mut idle, b"\r\n\r\nok");
    let mut busy = proxy.connect();
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: web\r\n\r\n").expect("written");
    is_asked.recv_timeout(LIMIT).expect("it is under way");
    let drained = std::thread::spawn(move || proxy.drain(LIMIT));
    assert_eq!(idle.read(&mut [0]).expect("an end"), 0, "idle connections close");
    until("the listener's end", LIMIT, || match TcpStream::connect(address) {
        Ok(_) => Err("still open"),
        Err(_) => Ok(()),
    });
    go.send(()).expect("it waits");
    let answer = read_until(&mut busy, b"\r\n\r\nok");
    let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 200 ") && answer.contains("connection: close"), "{answer}");
    drained.join().expect("drained");
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut router = router("");
    router.servers[0].address = taken.local_addr().expect("bound");
    let settings = proxy::settings::Settings { routers: vec![router] };
    let set = Set::new("/set", &[]);
    let table: Vec<Arc<dyn naming::Interpreter>> = vec![Arc::new(Table::new(set.leaf.clone()))];
    let error = proxy::start(settings, table, &telemetry::Registry::default(), 1).err().expect("in use");
    assert_eq!(error.to_string(), format!("router http: cannot listen on {}", taken.local_addr().expect("bound")));
}

#[test]
fn a_tunnel_carries_bytes_both_ways() {
    let port = endpoint(|_, mut stream| {
        read_until(&mut stream, b"\r\n\r\n");
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello";
        stream.write_all(switch).expect("written");
        let mut bytes = [0; 4];
        while stream.read_exact(&mut bytes).is_ok() {
            stream.write_all(&bytes).expect("written");
        }
    });
    let proxy = of_port(port);
    let mut stream = connect(proxy.address);
    let ask = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nping";
    stream.write_all(ask).expect("written");
    let head = read_until(&mut stream, b"hello");
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{:?}", String::from_utf8_lossy(&head));
    read_until(&mut stream, b"ping");
    stream.write_all(b"pong").expect("written");
    read_until(&mut stream, b"pong");
}

#[test]
fn what_follows_a_refused_connect_is_no_request() {
    let backend = Backend::ok();
    let proxy = Proxy::start(&format!("/svc/web => /$/inet/127.0.0.1/{}", backend.port));
    let bytes = b"CONNECT other:80 HTTP/1.1\r\nHost: other:80\r\n\r\nGET /b HTTP/1.1\r\nHost: web\r\n\r\n";
    let answer = String::from_utf8_lossy(&proxy.raw(bytes)).into_owned();
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("connection: close"), "{answer}");
    assert_eq!(backend.requests().len(), 0);
}
