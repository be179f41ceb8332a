//! The access log of a running router.

mod common;

use std::time::Duration;

use common::backend::Backend;
use common::{Proxy, router};
use proxy::settings::{AccessLog, ByPrefix, Classifier, Roll, Service};
use regex::Regex;

#[test]
fn every_answer_of_an_endpoint_has_a_line_and_nothing_else_has() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("logs/access.log");
    let backend = Backend::start(Box::new(|number, _| {
        let answer: &[u8] = match number {
            0 => b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno",
            1 => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            _ => b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
        };
        Some((answer.to_vec(), false))
    }));
    let mut router = router(&format!("/svc/web => /$/inet/127.0.0.1/{}", backend.port));
    let classifier = Some(Classifier::RetryableRead5xx);
    router.service = ByPrefix::global(Service { classifier, ..Service::default() });
    router.access_log = Some(AccessLog { path: path.clone(), roll: Roll::Daily, append: true, keep: None });
    let mut proxy = Proxy::of(router, 2);
    assert_eq!(proxy.get("/a?b", &[("Host", "web"), ("Referer", "r"), ("User-Agent", "me (1)")]).status, 200);
    assert_eq!(proxy.get("/", &[("Host", "nope")]).status, 502);
    assert_eq!(proxy.get("/c", &[("Host", "web")]).status, 404);
    // The end of the process writes what is left.
    proxy.drain(Duration::from_secs(5));
    let text = std::fs::read_to_string(&path).expect("written");
    let lines = text.lines().collect::<Vec<_>>();
    let time = r"\[\d\d/\d\d/\d{4}:\d\d:\d\d:\d\d [A-Z+\-0-9]+\]";
    // The two connections may have come to two workers, whose lines come as they like.
    let expected = [
        format!(r#"^web 127\.0\.0\.1 - - {time} "GET /a\?b HTTP/1\.1" 503 2 "r" "me \(1\)"$"#),
        format!(r#"^web 127\.0\.0\.1 - - {time} "GET /a\?b HTTP/1\.1" 200 - "r" "me \(1\)"$"#),
        format!(r#"^web 127\.0\.0\.1 - - {time} "GET /c HTTP/1\.1" 404 0 "-" "-"$"#),
    ];
    assert_eq!(lines.len(), expected.len(), "{text}");
    for pattern in expected {
        let pattern = Regex::new(&pattern).expect("a pattern");
        assert_eq!(lines.iter().filter(|line| pattern.is_match(line)).count(), 1, "{pattern}\n{text}");
    }
    assert_eq!(proxy.counter(&["rt", "http", "access_log", "lines"]), 3);
}

#[test]
fn a_full_disk_fails_no_request() {
    let backend = Backend::ok();
    let mut router = router(&format!("/svc => /$/inet/127.0.0.1/{}", backend.port));
    router.access_log = Some(AccessLog { path: "/dev/full".into(), roll: Roll::Never, append: true, keep: None });
    let mut proxy = Proxy::of(router, 1);
    for _ in 0..20 {
        assert_eq!(proxy.get("/", &[("Host", "web")]).status, 200);
    }
    proxy.drain(Duration::from_secs(5));
    assert_eq!(proxy.counter(&["rt", "http", "access_log", "dropped_lines"]), 20);
}

#[test]
fn a_log_that_cannot_be_written_is_an_error_at_the_start() {
    let mut router = router("");
    router.access_log = Some(AccessLog { path: "/proc/x/a.log".into(), roll: Roll::Never, append: true, keep: None });
    let settings = proxy::settings::Settings { routers: vec![router] };
    let table = common::names::Table::new(names::NameTree::Neg);
    let started = proxy::start(settings, vec![std::sync::Arc::new(table)], &telemetry::Registry::default(), 1);
    let error = started.err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some("router http: cannot write the access log /proc/x/a.log"));
}
