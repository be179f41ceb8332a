//! The way of ordinary requests: names, context headers, answers, metrics.

mod common;

use std::io::Write;
use std::time::Duration;

use common::backend::Backend;
use common::{Proxy, read_until, router};
use testkit::http::Answer;
use testkit::recorder::{Recorder, Reply};
use testkit::until::until;

fn backend(body: &str) -> Recorder {
    let headers = vec![("X-Backend".to_owned(), "yes".to_owned())];
    Recorder::start(Reply::Script(Answer { status: 200, headers, body: body.as_bytes().to_vec() }))
}

fn inet(recorder: &Recorder) -> String {
    format!("/$/inet/{}", recorder.authority.replace(':', "/"))
}

#[test]
fn a_request_reaches_the_endpoint_that_its_name_is_bound_to() {
    let world = backend("world");
    let proxy = Proxy::start(&format!("/svc/world => {}", inet(&world)));
    let answer = proxy.get("/a?b=c", &[("Host", "world")]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "world"));
    assert_eq!(answer.header("x-backend"), Some("yes"));
    assert_eq!(answer.header("l5d-success-class"), Some("1.0"));
    assert_eq!(answer.header("via"), Some("1.1 linkerd"));
    let requests = world.requests();
    let request = requests.first().expect("one request");
    assert_eq!((request.method.as_str(), request.uri.as_str()), ("GET", "/a?b=c"));
    assert_eq!(request.header("host"), Some("world"));
    assert_eq!(request.header("via"), Some("1.1 linkerd"));
    assert_eq!(request.header("l5d-dst-service"), Some("/svc/world"));
    assert_eq!(request.header("l5d-dst-client"), Some(inet(&world).as_str()));
    assert!(request.header("l5d-ctx-trace").is_some());
}

#[test]
fn a_kept_connection_carries_many_requests_also_in_one_packet() {
    let world = backend("world");
    let proxy = Proxy::start(&format!("/svc => {}", inet(&world)));
    let mut stream = proxy.connect();
    for n in [1, 3, 50] {
        let text = "GET / HTTP/1.1\r\nHost: world\r\n\r\n".repeat(n);
        stream.write_all(text.as_bytes()).expect("written");
        for _ in 0..n {
            let answer = read_until(&mut stream, b"world");
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{:?}", String::from_utf8_lossy(&answer));
        }
    }
    assert_eq!(world.requests().len(), 54);
}

#[test]
fn a_request_is_counted_where_the_original_counts_it() {
    let world = backend("world");
    let proxy = Proxy::start(&format!("/svc => {}", inet(&world)));
    proxy.get("/", &[("Host", "world")]);
    proxy.get("/", &[("Host", "world")]);
    let id = inet(&world).trim_start_matches('/').to_owned();
    let paths: [&[&str]; 5] = [
        &["server", "127.0.0.1/0", "requests"],
        &["server", "127.0.0.1/0", "status", "200"],
        &["service", "svc/world", "success"],
        &["client", &id, "requests"],
        &["client", &id, "service", "svc/world", "success"],
    ];
    for path in paths {
        let path = [&["rt", "http"], path].concat();
        until("the count", Duration::from_secs(2), || match proxy.counter(&path) {
            2 => Ok(()),
            other => Err((path.clone(), other)),
        });
    }
    assert_eq!(proxy.status().clients().len(), 1);
    let requests = proxy.status().requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].name.as_deref(), Some("/svc/world"));
    assert_eq!((requests[0].method.as_str(), requests[0].host.as_deref()), ("GET", Some("world")));
    assert_eq!(requests[0].attempts.len(), 1);
}

#[test]
fn retries_reuse_the_connection_and_spend_the_budget() {
    use proxy::settings::{ByPrefix, Classifier, Service};
    let backend = Backend::start(Box::new(|number, _| {
        let status = if number % 3 == 2 { "200 OK" } else { "503 Service Unavailable" };
        Some((format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno").into_bytes(), false))
    }));
    let mut router = router(&format!("/svc/* => /$/inet/127.0.0.1/{}", backend.port));
    let classifier = Some(Classifier::RetryableRead5xx);
    router.service = ByPrefix::global(Service { classifier, ..Service::default() });
    let proxy = Proxy::of(router, 1);
    let service = ["rt", "http", "service", "svc/world"];
    let of_service = |name: &[&'static str]| [&service[..], name].concat();
    for n in 1..=4_u64 {
        assert_eq!(proxy.get("/", &[("Host", "world")]).status, 200);
        assert_eq!(proxy.counter(&of_service(&["retries", "total"])), 2 * n);
    }
    let client = format!("$/inet/127.0.0.1/{}", backend.port);
    assert_eq!(proxy.counter(&["rt", "http", "client", &client, "connects"]), 1);
    until("the spent budget", Duration::from_secs(3), || {
        match proxy.registry.snapshot().gauge(&of_service(&["retries", "budget"])) {
            // A hundred to begin with; four requests earn less than one.
            Some(92.0) => Ok(()),
            other => Err(other),
        }
    });
}

#[test]
fn names_that_left_the_cache_leave_no_series_behind() {
    let world = backend("world");
    let mut router = router(&format!("/svc => {}", inet(&world)));
    router.binding_cache.paths = 3;
    let proxy = Proxy::of(router, 1);
    for n in 0..30 {
        assert_eq!(proxy.get("/", &[("Host", &format!("name-{n}"))]).status, 200);
    }
    let snapshot = proxy.registry.snapshot();
    let client = inet(&world);
    let of = |prefix: &[&str]| snapshot.children(prefix);
    let left = [of(&["rt", "http", "service"]), of(&["rt", "http", "client", &client[1..], "service"])];
    for names in left {
        assert!(names.len() <= 3 && names.contains(&"svc/name-29".to_owned()), "{names:?}");
    }
    assert_eq!(snapshot.counter(&["rt", "http", "client", &client[1..], "requests"]), 30, "totals stay");
}
