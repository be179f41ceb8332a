//! The hello/world application as a process: answers, setters, refusals, and an end that loses
//! nothing.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use common::{LIMIT, switchyard};
use testkit::http::{self, Connection, Request};
use testkit::process::{self, Process};

/// An instance on a port of its own.
struct App {
    process: Process,
    url: String,
    address: String,
}

fn app(arguments: &[&str], environment: &[(&str, &str)]) -> App {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let mut command = switchyard();
    command.args(["helloworld", "-addr", &address]).args(arguments).envs(environment.iter().copied());
    let process = Process::start(&mut command);
    process.line("starting HTTP server on", LIMIT);
    App { process, url: format!("http://{address}"), address }
}

#[test]
fn hello_calls_world_and_both_say_where_they_are() {
    let world = app(&["-text", "world"], &[("POD_IP", "10.0.0.2")]);
    let hello = app(&["-target", &world.address], &[("POD_IP", "10.0.0.1")]);
    assert_eq!(http::get(&hello.url, &[]).text(), "Hello (10.0.0.1) world (10.0.0.2)!!");
    let json = app(&["--json", "--text=a&b"], &[]);
    assert_eq!(http::get(&json.url, &[]).text(), r#"{"api_result":"a\u0026b"}"#);
    let other = app(&["-text", "x"], &[("TARGET_WORLD", "from the environment")]);
    assert_eq!(http::get(&other.url, &[]).text(), "from the environment!");
}

#[test]
fn a_failing_target_is_a_503_with_its_reason() {
    let world = app(&["-failure-rate", "1"], &[]);
    let answer = http::get(&world.url, &[]);
    assert_eq!((answer.status, answer.text().as_str()), (500, "\n"));
    let hello = app(&["-target", &world.address], &[]);
    let answer = http::get(&hello.url, &[]);
    assert_eq!((answer.status, answer.text().as_str()), (503, "invalid response 500\n"));
}

#[test]
fn context_headers_go_on_and_others_do_not() {
    let recorder = testkit::recorder::Recorder::start(testkit::recorder::Reply::Script(http::Answer {
        status: 200,
        headers: Vec::new(),
        body: b"ok".to_vec(),
    }));
    let hello = app(&["-target", "world"], &[("http_proxy", &recorder.authority)]);
    let headers = [("l5d-ctx-dtab", "/a=>/b"), ("L5D-CTX-trace", "x"), ("l5d-dtab", "/c=>/d"), ("x-other", "y")];
    assert_eq!(http::get(&hello.url, &headers).text(), "Hello ok!");
    let request = recorder.requests().remove(0);
    assert_eq!(request.uri, "http://world/", "absolute, because it goes to a proxy");
    assert_eq!(request.header("l5d-ctx-dtab"), Some("/a=>/b"));
    assert_eq!(request.header("l5d-ctx-trace"), Some("x"));
    assert_eq!((request.header("l5d-dtab"), request.header("x-other")), (None, None));
}

#[test]
fn the_setters_check_what_they_are_given() {
    let app = app(&[], &[]);
    let cases = [
        ("GET", "/setLatency?latency=1s", 405, "POST required\n"),
        ("POST", "/setLatency", 400, "missing required parameter: latency\n"),
        ("POST", "/setLatency?latency=soon", 400, "latency is not a valid duration\n"),
        ("POST", "/setLatency?latency=1ms", 200, "ok"),
        ("POST", "/setFailureRate", 400, "missing required parameter: failureRate\n"),
        ("POST", "/setFailureRate?failureRate=x", 400, "failureRate is not a valid float\n"),
        ("POST", "/setFailureRate?failureRate=2", 400, "failureRate must be between 0.0 and 1.0\n"),
        ("POST", "/setFailureRate?failureRate=1.0", 200, "ok"),
        ("GET", "/anything", 500, "\n"),
    ];
    for (method, path, status, text) in cases {
        let answer = http::request(method, &format!("{}{path}", app.url), &[], None).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (status, text), "{method} {path}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let cases: [(&[&str], &str); 5] = [
        (&["-protocol", "grpc"], "grpc is not supported yet"),
        (&["-protocol", "x"], "unsupported protocol: x"),
        (&["-latency", "11s"], "latency cannot exceed 10s"),
        (&["-latency", "soon"], "-latency soon"),
        (&["-failure-rate", "2"], "-failure-rate 2"),
    ];
    for (arguments, message) in cases {
        let finished = process::run(switchyard().arg("helloworld").args(arguments), b"");
        assert_eq!(finished.code, 1, "{arguments:?}");
        assert!(finished.stderr.contains(message), "{arguments:?}: {}", finished.stderr);
    }
}

#[test]
fn a_drain_answers_what_is_in_flight_and_what_still_comes() {
    let mut app = app(&["-latency", "300ms"], &[]);
    let request = |path| Request { method: "GET", target: path, headers: &[("Host", "x")], body: None };
    let mut kept = Connection::open(&app.address).unwrap();
    assert!(kept.send(&request("/")).unwrap().header("connection").is_none());

    let address = app.address.clone();
    let in_flight = std::thread::spawn(move || Connection::open(&address).unwrap().send(&request("/")).unwrap());
    // In flight for sure: it takes 300 ms, and we look after 100.
    std::thread::sleep(Duration::from_millis(100));
    app.process.signal("TERM");
    app.process.line("draining", LIMIT);
    let answer = kept.send(&request("/")).unwrap();
    assert_eq!(answer.text(), "Hello!");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(in_flight.join().unwrap().text(), "Hello!");
    let begun = Instant::now();
    assert_eq!(app.process.wait(LIMIT), 0);
    assert!(begun.elapsed() < Duration::from_secs(3));
}
