//! How a router ends, case by case: who asks for it, how long it may take, what is still answered meanwhile.
#![allow(clippy::unwrap_used)] // A test says what it needs by failing.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{LIMIT, switchyard};
use serde_json::json;
use testkit::http::{self, Answer, Connection, Request};
use testkit::process::Process;
use testkit::until::until;

/// Who ends it: a signal, or a POST with this query.
enum By {
    Signal(&'static str),
    Post(&'static str),
}

struct Case {
    by: By,
    /// `admin.shutdownGraceMs`
    document: Option<u64>,
    /// Whether a request that takes until 400 ms after the end began is answered.
    is_answered: bool,
}

#[test]
fn a_request_under_way_has_as_long_as_the_grace_of_the_post_or_the_documents() {
    let case = |by, document, is_answered| Case { by, document, is_answered };
    let cases = [
        case(By::Signal("TERM"), None, true),
        case(By::Signal("INT"), None, true),
        case(By::Signal("TERM"), Some(100), false),
        case(By::Signal("INT"), Some(100), false),
        case(By::Post(""), None, true),
        case(By::Post(""), Some(100), false),
        case(By::Post("?grace=30.seconds"), Some(100), true),
        case(By::Post("?grace=1.minute"), Some(0), true),
        case(By::Post("?grace=100.milliseconds"), None, false),
        case(By::Post("?grace=0.seconds"), Some(30_000), false),
    ];
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || ends(&case));
        }
    });
}

fn ends(case: &Case) {
    let slow = Slow::start();
    let directory = tempfile::tempdir().unwrap();
    let mut document = json!({
        "admin": { "port": 0 },
        "routers": [{
            "protocol": "http", "label": "out", "servers": [{ "port": 0 }],
            "dtab": format!("/svc => /$/inet/{}", slow.authority.replace(':', "/")),
        }],
    });
    if let Some(grace) = case.document {
        document["admin"]["shutdownGraceMs"] = json!(grace);
    }
    let file = directory.path().join("linkerd.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let mut process = Process::start(switchyard().arg("router").arg(&file).args(["--workers", "1"]));
    process.line("initialized", LIMIT);
    let said = process.text();
    let admin = format!("http://{}", after(&said, "admin on "));
    let authority = after(&said, "serving out on ");
    let at = |text: &str| said.find(text).unwrap();
    assert!(at("admin on ") < at("serving out on ") && at("serving out on ") < at("initialized"), "{said}");

    let server = authority.clone();
    let asking = std::thread::spawn(move || get(&server));
    slow.arrived.recv_timeout(LIMIT).expect("the request arrived");
    let began = Instant::now();
    match case.by {
        By::Signal(name) => process.signal(name),
        By::Post(query) => {
            let url = format!("{admin}/admin/shutdown{query}");
            let answer = http::request("POST", &url, &[], Some(b"")).unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "quitting\n"));
        }
    }
    if case.is_answered {
        until("nobody listens any more", LIMIT, || match TcpStream::connect(&authority) {
            Err(_) => Ok(()),
            Ok(_) => Err("connected"),
        });
        until("a shorter grace would be over", LIMIT, || {
            if began.elapsed() > Duration::from_millis(400) { Ok(()) } else { Err(began.elapsed()) }
        });
        // The admin server closes last: what drains can be watched.
        let metrics = http::get(&format!("{admin}/admin/metrics.json"), &[]).json();
        assert_eq!(metrics["rt/out/server/127.0.0.1/0/pending"], 1.0);
        assert_eq!(http::get(&format!("{admin}/admin/ready"), &[]).text(), "draining\n");
        slow.go.send(()).unwrap();
        let answer = asking.join().unwrap().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "slow"));
        assert_eq!(answer.header("connection"), Some("close"));
    } else {
        assert!(asking.join().unwrap().is_err(), "an answer from nobody");
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        // The other side may be gone.
        let _ = slow.go.send(());
    }
    assert_eq!(process.wait(LIMIT), 0, "{}", process.text());
    assert!(TcpStream::connect(admin.trim_start_matches("http://")).is_err());
}

fn after(text: &str, start: &str) -> String {
    let (_, rest) = text.split_once(start).unwrap();
    rest.split_whitespace().next().unwrap().to_owned()
}

fn get(authority: &str) -> std::io::Result<Answer> {
    let request = Request { method: "GET", target: "/", headers: &[("Host", "web")], body: None };
    Connection::open(authority)?.send(&request)
}

/// An application that answers one request, when it is told to.
struct Slow {
    authority: String,
    arrived: mpsc::Receiver<()>,
    go: mpsc::Sender<()>,
}

impl Slow {
    fn start() -> Slow {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let (here, arrived) = mpsc::channel();
        let (go, wait) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            here.send(()).unwrap();
            wait.recv().unwrap();
            // The router may have cut it.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow");
        });
        Slow { authority, arrived, go }
    }
}
