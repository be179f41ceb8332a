//! Attacks on the router as a process, under a steady load of other clients, who must not notice.
//!
//! Each runs for a few seconds; `SWITCHYARD_ATTACK_SECONDS` makes those that repeat themselves last longer, and
//! `SWITCHYARD_BINARY` has another build attacked. Each prints what it measured (`-- --nocapture`).
#![allow(clippy::unwrap_used)] // A test says what it needs by failing.

mod common;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{LIMIT, switchyard};
use serde_json::json;
use testkit::http::{Answer, Connection, Request};
use testkit::load::{Load, Plan, Report};
use testkit::process::Process;
use testkit::until::until;

/// How long an attack that repeats itself goes on.
fn length() -> Duration {
    let seconds = std::env::var("SWITCHYARD_ATTACK_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(3))
}

/// A router with one worker, whose services are the entries of a directory of files.
struct Router {
    process: Process,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Router {
    /// `files`: the most open files that it may have.
    fn start(services: &[(&str, &[u16])], files: usize) -> Router {
        let directory = tempfile::tempdir().unwrap();
        let disco = directory.path().join("disco");
        std::fs::create_dir(&disco).unwrap();
        for (name, ports) in services {
            let lines = ports.iter().map(|port| format!("127.0.0.1 {port}\n")).collect::<String>();
            std::fs::write(disco.join(name), lines).unwrap();
        }
        let document = json!({
            "admin": { "port": 0 },
            "namers": [{ "kind": "io.l5d.fs", "rootDir": disco }],
            "routers": [{
                "protocol": "http",
                "label": "out",
                "dtab": "/svc => /#/io.l5d.fs",
                // So few that they are soon all in use.
                "bindingCache": { "paths": 100 },
                "servers": [{ "port": 0 }],
            }],
        });
        let file = directory.path().join("linkerd.json");
        std::fs::write(&file, document.to_string()).unwrap();
        let binary = std::env::var_os("SWITCHYARD_BINARY").unwrap_or_else(|| switchyard().get_program().to_owned());
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]).arg(binary);
        let process = Process::start(command.arg("router").arg(&file).args(["--workers", "1"]));
        let line = process.line("serving out on ", LIMIT);
        let address = line.split_once("serving out on ").unwrap().1.split_whitespace().next().unwrap().parse().unwrap();
        Router { process, address, directory }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// Others, who ask for `/svc/web` all the time.
    fn load(&self, classify: fn(&Answer) -> Result<String, String>) -> Load {
        let url = format!("http://{}/", self.address);
        // Everybody's Host is the address, so that is the name of the service.
        let name = self.directory.path().join("disco").join(self.address.to_string());
        if !name.exists() {
            std::fs::copy(self.directory.path().join("disco/web"), name).unwrap();
            until("the service of the load", LIMIT, || {
                let mut connection = Connection::open(&self.address.to_string()).map_err(|error| error.to_string())?;
                let host = self.address.to_string();
                let request = Request { method: "GET", target: "/", headers: &[("Host", &host)], body: None };
                let answer = connection.send(&request).map_err(|error| error.to_string())?;
                classify(&answer)
            });
        }
        Load::start(&Plan { url, pause: Duration::from_millis(2), keeping: 2, opening: 2, classify })
    }

    /// Memory of its own in KiB. Pages of program text do not count: they come and go with what runs, and are given back
    /// after the start.
    fn resident(&self) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Memory once it does not change much any more.
    fn settled(&self) -> usize {
        let mut last = 0;
        until("memory to settle", LIMIT, || {
            std::thread::sleep(Duration::from_millis(300));
            let now = self.resident();
            let before = std::mem::replace(&mut last, now);
            if now.abs_diff(before) < 100 { Ok(now) } else { Err((before, now)) }
        })
    }

    fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.pid())).unwrap().count()
    }
}

fn ok(answer: &Answer) -> Result<String, String> {
    if answer.status == 200 { Ok("200".to_owned()) } else { Err(format!("{}: {}", answer.status, answer.text())) }
}

#[track_caller]
fn unharmed(what: &str, report: &Report) {
    let (p50, p99) = (report.but(0.5), report.but(0.01));
    let worst = report.took.last().copied().unwrap_or_default();
    eprintln!("{what}: others: {} requests, p50 {p50:?}, p99 {p99:?}, slowest {worst:?}", report.requests);
    assert!(
        report.failures.is_empty(),
        "{what}: {} of {}: {:?}",
        report.failures.len(),
        report.requests,
        report.failures
    );
    assert!(report.requests > 50, "{what}: {}", report.requests);
}

/// An endpoint, on all addresses of 127.0.0.0/8, that runs `serve` for each connection on a thread of its own.
fn endpoint(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let serve = serve.clone();
            let _ = stream.set_nodelay(true);
            std::thread::spawn(move || serve(number, stream));
        }
    });
    port
}

/// Reads one request; its target and body.
fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut line, mut length, mut target) = (String::new(), 0, None);
    loop {
        line.clear();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if target.is_none() {
            target = line.split(' ').nth(1).map(str::to_owned);
        }
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((target?, body))
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An endpoint that answers everything.
fn good() -> u16 {
    endpoint(|_, stream| {
        let mut stream = BufReader::new(stream);
        while request(&mut stream).is_some() {
            if stream.get_mut().write_all(OK).is_err() {
                return;
            }
        }
    })
}

#[test]
fn two_hundred_clients_that_do_not_read_ten_megabytes_cost_ten_mebibytes() {
    const BODY: usize = 10_000_000;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let large = endpoint(move |_, stream| {
        let mut stream = BufReader::new(stream);
        while request(&mut stream).is_some() {
            count.fetch_add(1, Ordering::Relaxed);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
            let sent = stream.get_mut().write_all(head.as_bytes());
            if sent.and_then(|()| stream.get_mut().write_all(&vec![b'x'; BODY])).is_err() {
                return;
            }
        }
    });
    let router = Router::start(&[("web", &[good()]), ("large", &[large])], 4096);
    let load = router.load(ok);
    let before = router.settled();
    let slow = (0..200)
        .map(|_| {
            let mut stream = router.connect();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: large\r\n\r\n").unwrap();
            stream
        })
        .collect::<Vec<_>>();
    until("all requests", LIMIT, || match asked.load(Ordering::Relaxed) {
        200 => Ok(()),
        other => Err(other),
    });
    let during = router.settled();
    // Then each reads a little, all the time. A kernel that has closed its window may take seconds to open it
    // again, which is nobody's fault here.
    slow.iter().for_each(|stream| stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap());
    let (began, mut most, mut read, mut bytes) = (Instant::now(), 0, 0, vec![0; 20_000]);
    while began.elapsed() < length() {
        for mut stream in &slow {
            match stream.read(&mut bytes) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                other => {
                    let more = other.unwrap();
                    assert!(more > 0, "cut after {read} bytes");
                    read += more;
                }
            }
        }
        most = most.max(router.resident());
    }
    assert!(read > slow.len() * bytes.len(), "{read} bytes in all");
    eprintln!("slow readers: {before} KiB before, {during} not reading, at most {most} reading slowly");
    assert!(during.max(most) < before + 10 * 1024, "{before} KiB before, then {during}, at most {most}");
    drop(slow);
    unharmed("slow readers", &load.stop());
}

#[test]
fn a_head_that_drips_costs_sixteen_kibibytes() {
    let router = Router::start(&[("web", &[good()])], 4096);
    let load = router.load(ok);
    let before = router.settled();
    let drips = (0..1000)
        .map(|_| {
            let mut stream = router.connect();
            let head = format!("GET / HTTP/1.1\r\nHost: web\r\nX: {}", "x".repeat(6000));
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect::<Vec<_>>();
    // Byte by byte, up to what just fits.
    for n in 0..20 {
        for mut stream in &drips {
            stream.write_all(&[b'x'; 100][..90 + n % 10]).unwrap();
        }
    }
    let during = router.settled();
    let each = during.saturating_sub(before) / drips.len();
    eprintln!("dripping heads: {before} KiB before, {during} with {}: {each} KiB each", drips.len());
    assert!(each <= 16, "{each} KiB each");
    drop(drips);
    unharmed("dripping heads", &load.stop());
}

#[test]
fn a_flood_of_connections_takes_nothing_from_others() {
    let files = 300;
    let router = Router::start(&[("web", &[good()])], files);
    let load = router.load(ok);
    let (stop, opened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let flood = (0..4)
        .map(|n| {
            let (stop, opened, address) = (stop.clone(), opened.clone(), router.address);
            std::thread::spawn(move || {
                let mut held = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    // Nothing, a byte, or the most of a head.
                    let bytes = [&b""[..], b"G", b"GET / HTTP/1.1\r\nHost: web\r\n"][n % 3];
                    if let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
                        let _ = stream.write_all(bytes);
                        held.push(stream);
                        opened.fetch_add(1, Ordering::Relaxed);
                    }
                    if held.len() > 500 {
                        held.drain(..250);
                    }
                }
            })
        })
        .collect::<Vec<_>>();
    let (began, mut most) = (Instant::now(), 0);
    while began.elapsed() < length().max(Duration::from_secs(6)) {
        most = most.max(router.files());
        std::thread::sleep(Duration::from_millis(20));
    }
    stop.store(true, Ordering::Relaxed);
    for attacker in flood {
        attacker.join().unwrap();
    }
    let opened = opened.load(Ordering::Relaxed);
    eprintln!("flood: {opened} connections, at most {most} of {files} files open");
    assert!(opened > files && most < files, "{opened} opened, {most} files");
    unharmed("flood", &load.stop());
    let complaints = router.process.text().lines().filter(|line| line.contains("accept")).count();
    assert!(complaints < 10, "{complaints} lines in the log");
}

#[test]
fn more_endpoints_than_open_files_fail_no_request() {
    let (files, endpoints) = (150, 1000);
    let port = good();
    let router = Router::start(&[("web", &[port])], files);
    let address = |number: usize| format!("127.1.{}.{} {port}\n", number / 250, number % 250);
    let web = router.directory.path().join("disco/web");
    std::fs::write(&web, (0..endpoints).map(address).collect::<String>()).unwrap();
    let load = router.load(ok);
    let (mut most, mut stream) = (0, BufReader::new(router.connect()));
    for number in 0..2 * endpoints {
        stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n").unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "request {number}: {line}");
        read_answer(&mut stream);
        most = most.max(router.files());
    }
    eprintln!("{endpoints} endpoints: at most {most} of {files} files open");
    assert!(most > files / 2, "it kept connections as long as there was room: {most}");
    unharmed("more endpoints than open files", &load.stop());
}

#[test]
fn a_kept_connection_that_closes_just_as_a_request_is_sent_costs_none() {
    // Closes at a moment that wanders around the one in which the next request comes.
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let record = seen.clone();
    let closes = endpoint(move |number, stream| {
        let mut stream = BufReader::new(stream);
        if let Some((target, body)) = request(&mut stream) {
            if !body.is_empty() {
                record.lock().unwrap().push(target);
            }
            let _ = stream.get_mut().write_all(OK);
            let wait = Instant::now();
            while wait.elapsed() < Duration::from_micros(number as u64 % 40 * 10) {
                std::hint::spin_loop();
            }
        }
    });
    let router = Router::start(&[("race", &[closes])], 4096);
    let mut connection = Connection::open(&router.address.to_string()).unwrap();
    let (began, mut gets, mut posts, mut failed) = (Instant::now(), 0, 0, 0);
    while began.elapsed() < length() {
        let target = format!("/{gets}");
        let headers = [("Host", "race")];
        let get = Request { method: "GET", target: &target, headers: &headers, body: None };
        assert_eq!(connection.send(&get).unwrap().status, 200, "request {gets}");
        gets += 1;
        let post = Request { method: "POST", body: Some(b"once"), ..get };
        let status = connection.send(&post).unwrap().status;
        assert!(matches!(status, 200 | 502), "{status}");
        posts += 1;
        failed += usize::from(status != 200);
    }
    let mut seen = seen.lock().unwrap().clone();
    let all = seen.len();
    seen.sort();
    seen.dedup();
    eprintln!("closing race: {gets} GETs, none failed; {posts} POSTs, {failed} failed, none sent twice");
    assert_eq!(seen.len(), all, "a POST was taken twice");
    assert!(gets > 100, "{gets}");
}

#[test]
fn endpoints_restarted_in_turn_fail_no_request() {
    // Real processes on fixed ports, killed or told to end.
    let ports: Vec<u16> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()).collect();
    let start = |port: u16| {
        let process =
            Process::start(switchyard().args(["helloworld", "--text", "hi", "--addr", &format!("127.0.0.1:{port}")]));
        until("an endpoint", LIMIT, || TcpStream::connect(("127.0.0.1", port)).map(drop));
        process
    };
    let mut endpoints = ports.iter().map(|port| start(*port)).collect::<Vec<_>>();
    let router = Router::start(&[("web", &ports)], 4096);
    let load = router.load(ok);
    let (began, mut restarts) = (Instant::now(), 0);
    while restarts < 6 || began.elapsed() < length() {
        let n = restarts % endpoints.len();
        let signal = if restarts % 2 == 0 { "TERM" } else { "KILL" };
        endpoints[n].signal(signal);
        endpoints[n].wait(LIMIT);
        endpoints[n] = start(ports[n]);
        restarts += 1;
    }
    eprintln!("{restarts} restarts of endpoints");
    unharmed("restarts", &load.stop());
}

#[test]
fn bad_endpoints_harm_nobody_else() {
    let hangs = endpoint(|_, stream| drop((&stream).read_to_end(&mut Vec::new())));
    let resets = endpoint(|_, stream| {
        let _ = (&stream).read(&mut [0; 100]);
        let _ = socket2_linger(&stream);
    });
    let garbage = endpoint(|number, mut stream| {
        let mut bytes = vec![0; 70_000];
        let mut state = number as u64 | 1;
        for byte in &mut bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = state as u8;
        }
        let _ = stream.read(&mut [0; 100]);
        let _ = stream.write_all(&bytes);
    });
    let half = endpoint(|number, mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let all = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\nX: y\r\n\r\nhello";
        let _ = stream.write_all(&all[..number % all.len()]);
    });
    let crumbs = endpoint(|_, stream| {
        let mut stream = BufReader::new(stream);
        while request(&mut stream).is_some() {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            let body = [head, b"1;e=f\r\nx\r\n".repeat(1_000_000), b"0\r\nT: y\r\n\r\n".to_vec()].concat();
            if stream.get_mut().write_all(&body).is_err() {
                return;
            }
        }
    });
    let bad = [("hangs", hangs), ("resets", resets), ("garbage", garbage), ("half", half), ("crumbs", crumbs)];
    let ports = bad.map(|(_, port)| [port]);
    let mut services = bad.iter().zip(&ports).map(|((name, _), port)| (*name, &port[..])).collect::<Vec<_>>();
    let web = [good()];
    services.push(("web", &web));
    let router = Router::start(&services, 4096);
    let load = router.load(ok);
    let before = router.settled();
    let stop = Arc::new(AtomicBool::new(false));
    let callers = bad.map(|(name, _)| {
        let (stop, address) = (stop.clone(), router.address);
        std::thread::spawn(move || {
            let mut answers = std::collections::BTreeMap::<String, usize>::new();
            while !stop.load(Ordering::Relaxed) {
                let mut stream = TcpStream::connect(address).unwrap();
                stream
                    .set_read_timeout(Some(Duration::from_millis(if name == "hangs" { 50 } else { 20_000 })))
                    .unwrap();
                let head = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).unwrap();
                let mut answer = Vec::new();
                let ended = stream.read_to_end(&mut answer);
                let status = String::from_utf8_lossy(answer.get(..12).unwrap_or_default()).into_owned();
                let end = ended.map_or_else(|error| format!("{:?}", error.kind()), |_| "end".to_owned());
                // Half an answer has 20 bytes to come, and never looks whole.
                assert!(
                    !(name == "half" && answer.ends_with(b"hello") && answer.len() > 20 && status.ends_with("502"))
                );
                *answers.entry(format!("{status} {end}")).or_default() += 1;
            }
            (name, answers)
        })
    });
    let began = Instant::now();
    while began.elapsed() < length() {
        std::thread::sleep(Duration::from_millis(50));
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        let (name, answers) = caller.join().unwrap();
        eprintln!("{name}: {answers:?}");
        let good = answers.keys().all(|key| match name {
            "hangs" => key.ends_with("WouldBlock"),
            "resets" | "garbage" => key == "HTTP/1.1 502 end",
            "half" => key == "HTTP/1.1 502 end" || key == "HTTP/1.1 200 end",
            _ => key == "HTTP/1.1 200 end",
        });
        assert!(good, "{name}: {answers:?}");
    }
    unharmed("bad endpoints", &load.stop());
    // Exchanges with the hanging one end with their clients.
    until("the end of all exchanges", LIMIT, || match router.files() {
        ..60 => Ok(()),
        other => Err(other),
    });
    let after = router.settled();
    eprintln!("bad endpoints: {before} KiB before, {after} after");
    assert!(after < before + 8 * 1024, "{before} KiB before, {after} after");
}

/// A close that is a reset.
fn socket2_linger(stream: &TcpStream) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option's value is a `linger` of this size, and lives until the call returns.
    let set = unsafe {
        let size = size_of::<libc::linger>() as libc::socklen_t;
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), size)
    };
    if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn clients_that_come_and_go_and_names_that_nobody_has_leave_nothing_behind() {
    let router = Router::start(&[("web", &[good()])], 4096);
    let load = router.load(ok);
    let churn = |first: usize, count: usize| {
        let mut stream = router.connect();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        for n in (first..first + count).step_by(20) {
            // A name that nobody has, one that brings its own dtab, and one that is fine.
            let all = (n..n + 20)
                .map(|n| match n % 3 {
                    0 => format!("GET / HTTP/1.1\r\nHost: nobody{n}\r\n\r\n"),
                    1 => format!("GET / HTTP/1.1\r\nHost: x{n}\r\nl5d-dtab: /svc/x{n} => /svc/web ;\r\n\r\n"),
                    _ => "GET / HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
                })
                .collect::<String>();
            stream.write_all(all.as_bytes()).unwrap();
            for _ in 0..20 {
                read_answer(&mut answers);
            }
        }
    };
    // The first round fills the caches, which hold a thousand names.
    const FULL: usize = 2_100;
    churn(0, FULL);
    let before = router.settled();
    let (began, mut n) = (Instant::now(), FULL);
    while n < 2 * FULL || began.elapsed() < length() {
        churn(n, 300);
        n += 300;
    }
    let after = router.settled();
    eprintln!("churn: {n} names, {before} KiB after the first {FULL}, {after} at the end");
    assert!(after < before + 6 * 1024, "{before} KiB after the first {FULL} names, {after} after {n}");
    unharmed("churn", &load.stop());
}

fn read_answer(stream: &mut BufReader<TcpStream>) {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).unwrap() > 0, "closed");
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
}

#[test]
fn a_client_that_sends_ahead_and_reads_nothing_is_held_back() {
    let router = Router::start(&[("web", &[good()])], 4096);
    let load = router.load(ok);
    let before = router.settled();
    let block = "GET / HTTP/1.1\r\nHost: web\r\n\r\n".repeat(1000);
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut stream = router.connect();
        stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        let began = Instant::now();
        loop {
            match stream.write_all(block.as_bytes()) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                other => other.unwrap(),
            }
            assert!(began.elapsed() < LIMIT, "it takes everything");
        }
        held.push(stream);
    }
    let during = router.settled();
    eprintln!("sending ahead: {before} KiB before, {during} with {}", held.len());
    assert!(during < before + 20 * 400, "{before} KiB before, {during} with {}", held.len());
    drop(held);
    unharmed("sending ahead", &load.stop());
}
