//! `tracePropagator`: what endpoints get of a trace.

mod common;

use common::backend::{Backend, Message};
use common::{Proxy, router};
use proxy::settings::{B3, ByPrefix, Classifier, Router, Service, TracePropagator};

/// What an endpoint gets of a request with these headers.
fn sent(propagator: TracePropagator, headers: &[(&str, &str)]) -> Message {
    sent_by(propagator, headers, |_| {})
}

fn sent_by(propagator: TracePropagator, headers: &[(&str, &str)], change: impl FnOnce(&mut Router)) -> Message {
    let backend = Backend::ok();
    let mut router = router(&format!("/svc => /$/inet/127.0.0.1/{}", backend.port));
    router.trace_propagator = propagator;
    change(&mut router);
    let proxy = Proxy::of(router, 1);
    let headers = [&[("Host", "web")], headers].concat();
    assert_eq!(proxy.get("/", &headers).status, 200, "{headers:?}");
    backend.requests().remove(0)
}

const ZIPKIN: TracePropagator = TracePropagator::Zipkin { write: B3::Multi };
const TRACE: &str = "80f198ee56343ba864fe8b2a57d3eff7";
const B3_NAMES: [&str; 6] = ["x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags", "b3"];

#[track_caller]
fn hex(message: &Message, name: &str) -> String {
    let values = message.all(name);
    assert_eq!(values.len(), 1, "{name}: {:?}", message.headers);
    assert!(values[0].bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f')), "{}", values[0]);
    values[0].to_owned()
}

#[test]
fn b3_goes_on_as_a_new_span_below_the_routers_own() {
    let caller = [
        ("X-B3-TraceId", TRACE),
        ("X-B3-SpanId", "e457b5a2e4d86bd1"),
        ("X-B3-ParentSpanId", "05e3ac9a4f6e3b90"),
        ("X-B3-Sampled", "1"),
        ("X-B3-Flags", "0"),
        ("l5d-ctx-trace", "AAAAAAAAAAEAAAAAAAAAAgAAAAAAAAADAAAAAAAAAAY="),
        ("l5d-sample", "0"),
    ];
    let request = sent(ZIPKIN, &caller);
    assert_eq!(hex(&request, "x-b3-traceid"), TRACE);
    let (span, parent) = (hex(&request, "x-b3-spanid"), hex(&request, "x-b3-parentspanid"));
    for id in [&span, &parent] {
        assert!(id.len() == 16 && *id != "e457b5a2e4d86bd1" && *id != "05e3ac9a4f6e3b90", "{id}");
    }
    assert_ne!(span, parent);
    assert_eq!((request.header("x-b3-sampled"), request.header("x-b3-flags")), (Some("1"), Some("0")));
    for name in ["l5d-ctx-trace", "l5d-sample", "l5d-reqid", "b3"] {
        assert_eq!(request.header(name), None, "{name}");
    }
    for (name, _) in &request.headers {
        assert!(!name.to_ascii_lowercase().starts_with("x-b3-") || *name == name.to_ascii_lowercase(), "{name}");
    }
}

#[test]
fn without_a_span_id_b3_begins_a_trace() {
    let request = sent(ZIPKIN, &[("X-B3-TraceId", TRACE), ("X-B3-Sampled", "0")]);
    assert_ne!(hex(&request, "x-b3-traceid"), TRACE);
    assert_eq!(request.header("x-b3-sampled"), Some("0"));
    let request = sent(ZIPKIN, &[]);
    assert_eq!(hex(&request, "x-b3-traceid").len(), 16);
    assert_eq!(request.header("x-b3-sampled"), None, "nobody decided");
}

#[test]
fn the_single_header_is_read_and_written_where_that_is_asked_for() {
    let caller =
        [("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-d"), ("x-b3-traceid", "1"), ("x-b3-spanid", "2")];
    let request = sent(ZIPKIN, &caller);
    assert_eq!(hex(&request, "x-b3-traceid"), TRACE, "the single header wins");
    assert_eq!((request.header("b3"), request.header("x-b3-flags")), (None, Some("1")));
    let request = sent(TracePropagator::Zipkin { write: B3::Single }, &caller);
    assert_eq!(B3_NAMES.map(|name| request.all(name).len()), [0, 0, 0, 0, 0, 1]);
    let value = request.header("b3").expect("written");
    assert!(value.starts_with(&format!("{TRACE}-")) && value.contains("-d-"), "{value}");
    let request = sent(TracePropagator::Zipkin { write: B3::Both }, &caller);
    assert_eq!(B3_NAMES.map(|name| request.all(name).len()), [1; 6]);
}

#[test]
fn w3c_goes_on_with_its_state() {
    let parent = format!("00-{TRACE}-e457b5a2e4d86bd1-01");
    let request = sent(TracePropagator::W3c, &[("traceparent", &parent), ("tracestate", "a=1"), ("tracestate", "b=2")]);
    let value = request.header("traceparent").expect("written");
    assert!(value.starts_with(&format!("00-{TRACE}-")) && value.ends_with("-01") && value.len() == 55, "{value}");
    assert!(!value.contains("e457b5a2e4d86bd1"), "{value}");
    assert_eq!(request.all("tracestate"), ["a=1,b=2"]);
    assert_eq!((request.header("l5d-ctx-trace"), request.header("l5d-reqid")), (None, None));
}

#[test]
fn a_broken_traceparent_is_as_none() {
    let good = format!("00-{TRACE}-e457b5a2e4d86bd1-01");
    let bad = good.replacen("00", "ff", 1);
    for caller in [
        vec![("traceparent", bad.as_str()), ("tracestate", "a=1")],
        vec![("traceparent", good.as_str()), ("traceparent", good.as_str()), ("tracestate", "a=1")],
        vec![("tracestate", "a=1")],
    ] {
        let request = sent(TracePropagator::W3c, &caller);
        let values = request.all("traceparent");
        assert!(values.len() == 1 && !values[0].contains(TRACE) && values[0].len() == 55, "{values:?}");
        assert_eq!(request.header("tracestate"), None);
    }
    let request = sent(TracePropagator::W3c, &[("traceparent", &good), ("tracestate", "=")]);
    assert!(request.header("traceparent").is_some_and(|value| value.contains(TRACE)));
    assert_eq!(request.header("tracestate"), None, "a broken state does not break the trace");
}

#[test]
fn what_a_propagator_does_not_know_it_passes_on() {
    let caller = [("traceparent", "nonsense"), ("b3", "0"), ("x-b3-traceid", "7")];
    let request = sent(TracePropagator::Linkerd, &caller);
    for (name, value) in caller {
        assert_eq!(request.all(name), [value]);
    }
    assert!(request.header("l5d-ctx-trace").is_some());
    let request = sent(TracePropagator::W3c, &[("b3", "0")]);
    assert_eq!(request.all("b3"), ["0"]);
}

#[test]
fn a_cleared_context_is_linkerds_own() {
    let clear = |router: &mut Router| router.servers[0].clear_context = true;
    let caller = [("x-b3-traceid", "7"), ("x-b3-spanid", "8"), ("l5d-sample", "1")];
    let request = sent_by(ZIPKIN, &caller, clear);
    assert_eq!(request.header("x-b3-traceid"), Some("0000000000000007"));
    let request = sent_by(TracePropagator::W3c, &[("l5d-sample", "1.0")], clear);
    assert!(request.header("traceparent").is_some_and(|value| value.ends_with("-00")), "{:?}", request.headers);
    let request = sent(TracePropagator::W3c, &[("l5d-sample", "1.0")]);
    assert!(request.header("traceparent").is_some_and(|value| value.ends_with("-01")), "{:?}", request.headers);
}

#[test]
fn a_retry_is_a_span_of_its_own_below_the_same_server_span() {
    let backend = Backend::start(Box::new(|number, _| {
        let status = if number == 0 { "500 No" } else { "200 OK" };
        Some((format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes(), false))
    }));
    let mut router = router(&format!("/svc => /$/inet/127.0.0.1/{}", backend.port));
    router.trace_propagator = ZIPKIN;
    let classifier = Some(Classifier::RetryableAll5xx);
    router.service = ByPrefix::global(Service { classifier, ..Service::default() });
    let proxy = Proxy::of(router, 1);
    let mut connection = testkit::http::Connection::open(&proxy.address.to_string()).expect("open");
    let headers = [("Host", "web")];
    let request = testkit::http::Request { method: "POST", target: "/", headers: &headers, body: Some(b"a body") };
    assert_eq!(connection.send(&request).expect("sent").status, 200);
    let [first, second] = <[Message; 2]>::try_from(backend.requests()).expect("two attempts");
    for name in ["x-b3-traceid", "x-b3-parentspanid"] {
        assert_eq!(hex(&first, name), hex(&second, name));
    }
    assert_ne!(hex(&first, "x-b3-spanid"), hex(&second, "x-b3-spanid"));
    for attempt in [&first, &second] {
        assert_eq!((attempt.body.as_slice(), attempt.all("l5d-dst-service").len()), (&b"a body"[..], 1));
        assert_eq!(attempt.headers.len(), first.headers.len());
    }
}
