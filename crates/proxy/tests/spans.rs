//! Spans of requests, from the client's connection to the collector.

mod common;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use common::backend::{Backend, Message};
use common::{Proxy, closed_port, router};
use naming::ConfiguredInterpreter;
use proxy::settings::{B3, ByPrefix, Classifier, Router, Service, TracePropagator};
use serde_json::Value;
use telemetry::export::{Config, otlp, tracelog, zipkin};
use testkit::http::{Answer, Connection, Request};
use testkit::recorder::{Recorder, Reply};
use testkit::until::until;

/// A router that sends its spans to a collector.
struct Traced {
    proxy: Proxy,
    collector: Recorder,
}

impl Traced {
    fn start(rate: f64, router: Router) -> Traced {
        let collector = Recorder::start(Reply::Script(Answer { status: 202, headers: Vec::new(), body: Vec::new() }));
        let (host, port) = collector.authority.split_once(':').expect("an authority");
        let config = Config::Zipkin(zipkin::Config {
            host: host.to_owned(),
            port: port.parse().expect("a port"),
            sample_rate: rate,
            protocol: zipkin::Protocol::Http,
        });
        let proxy = Proxy::traced(router, 1, &[config], |namers| Arc::new(ConfiguredInterpreter::new(None, namers)));
        Traced { proxy, collector }
    }

    /// The spans that arrived, as soon as there are so many.
    #[track_caller]
    fn spans(&self, count: usize) -> Vec<Value> {
        until("spans", Duration::from_secs(20), || {
            let bodies = self.collector.requests();
            let spans = bodies.iter().flat_map(|request| {
                let spans: Value = serde_json::from_slice(&request.body).expect("JSON");
                spans.as_array().expect("a list").clone()
            });
            let spans = spans.collect::<Vec<_>>();
            if spans.len() >= count { Ok(spans) } else { Err(spans) }
        })
    }
}

fn to(backend: &Backend) -> Router {
    let mut router = router(&format!("/svc => /$/inet/127.0.0.1/{}", backend.port));
    router.trace_propagator = TracePropagator::Zipkin { write: B3::Multi };
    router
}

fn retrying(mut router: Router) -> Router {
    let classifier = Some(Classifier::RetryableAll5xx);
    router.service = ByPrefix::global(Service { classifier, ..Service::default() });
    router
}

#[track_caller]
fn check(span: &Value, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(span["tags"][key], *value, "{key} in {span:#}");
    }
}

fn events(span: &Value) -> Vec<&str> {
    let events = span["annotations"].as_array().expect("a list");
    events.iter().map(|event| event["value"].as_str().expect("a text")).collect()
}

fn header<'a>(message: &'a Message, name: &str) -> &'a str {
    message.header(name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn a_request_is_a_server_span_below_its_caller_and_a_client_span_below_that() {
    let backend = Backend::start(Box::new(|_, _| {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi";
        Some((answer.to_vec(), false))
    }));
    let traced = Traced::start(0.0, to(&backend));
    let caller = [
        ("Host", "web"),
        ("X-B3-TraceId", "80f198ee56343ba864fe8b2a57d3eff7"),
        ("X-B3-SpanId", "e457b5a2e4d86bd1"),
        ("X-B3-Sampled", "1"),
        ("l5d-dtab", "/unused => /nothing"),
    ];
    assert_eq!(traced.proxy.get("/a?b=c", &caller).status, 200);
    let [server, client] = <[Value; 2]>::try_from(traced.spans(2)).expect("two spans");
    let request = backend.requests().remove(0);
    for span in [&server, &client] {
        assert_eq!(span["traceId"], "80f198ee56343ba864fe8b2a57d3eff7");
    }
    assert_eq!((&server["kind"], &client["kind"]), (&"SERVER".into(), &"CLIENT".into()));
    assert_eq!(server["parentId"], "e457b5a2e4d86bd1");
    assert_eq!((&server["id"], &client["parentId"]), (&header(&request, "x-b3-parentspanid").into(), &server["id"]));
    assert_eq!(client["id"], header(&request, "x-b3-spanid"));
    let bound = format!("/$/inet/127.0.0.1/{}", backend.port);
    assert_eq!(server["name"], "http /svc/web");
    assert_eq!(client["name"], "GET");
    assert_eq!(client["localEndpoint"]["serviceName"], bound.trim_start_matches('/'));
    assert_eq!(client["remoteEndpoint"]["port"], backend.port);
    let both = [
        ("client", bound.as_str()),
        ("residual", "/web"),
        ("http.uri", "/a?b=c"),
        ("http.req.method", "GET"),
        ("http.req.host", "web"),
        ("http.req.version", "HTTP/1.1"),
        ("http.rsp.status", "200"),
        ("http.rsp.version", "HTTP/1.1"),
        ("http.rsp.content-type", "text/plain"),
        ("http.rsp.content-length", "2"),
        ("l5d.success", "1.0"),
    ];
    check(&server, &both);
    check(&client, &both);
    let dtab = format!("/svc=>{bound}");
    let of_server = [
        ("router.label", "http"),
        ("service", "/svc/web"),
        ("dtab.base", dtab.as_str()),
        ("dtab.local", "/unused=>/nothing"),
    ];
    check(&server, &of_server);
    assert_eq!(events(&server), ["namer.success"]);
    let (from, took) = (server["timestamp"].as_u64(), server["duration"].as_u64());
    let inner = (client["timestamp"].as_u64(), client["duration"].as_u64());
    assert!(from <= inner.0 && took >= inner.1, "{server:#} {client:#}");
}

#[test]
fn each_retry_is_a_span_and_says_how_it_was_classified() {
    let backend = Backend::start(Box::new(|number, _| {
        let status = if number == 0 { "500 No" } else { "200 OK" };
        Some((format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes(), false))
    }));
    let traced = Traced::start(1.0, retrying(to(&backend)));
    assert_eq!(traced.proxy.get("/", &[("Host", "web")]).status, 200);
    let [server, first, second] = <[Value; 3]>::try_from(traced.spans(3)).expect("three spans");
    let requests = backend.requests();
    assert_eq!(header(&requests[0], "x-b3-sampled"), "1", "who comes later is told");
    for (span, request) in [(&first, &requests[0]), (&second, &requests[1])] {
        assert_eq!((&span["id"], &span["parentId"]), (&header(request, "x-b3-spanid").into(), &server["id"]));
    }
    assert_eq!(server.get("parentId"), None, "nobody is above it");
    assert_eq!(events(&server), ["namer.success", "finagle.retry"]);
    assert_eq!(events(&first), ["l5d.retryable"]);
    check(&first, &[("http.rsp.status", "500"), ("error", "status 500")]);
    check(&second, &[("http.rsp.status", "200"), ("l5d.success", "1.0")]);
    // The same ids are on the page of recent requests.
    let kept = traced.proxy.status().requests().remove(0);
    assert_eq!(kept.trace_id.as_deref(), server["traceId"].as_str());
    let ids = kept.attempts.iter().map(|attempt| attempt.span_id.as_deref());
    assert_eq!(ids.collect::<Vec<_>>(), [first["id"].as_str(), second["id"].as_str()]);
    assert!(kept.is_traced);
}

#[test]
fn what_goes_wrong_is_in_the_spans() {
    let traced = Traced::start(1.0, router(&format!("/svc/down => /$/inet/127.0.0.1/{}; /svc/no => !", closed_port())));
    for host in ["down", "no"] {
        assert_eq!(traced.proxy.get("/x", &[("Host", host)]).status, 502, "{host}");
    }
    let spans = traced.spans(3);
    let server = |host: &str| {
        let name = format!("/svc/{host}");
        spans.iter().find(|span| span["kind"] == "SERVER" && span["tags"]["service"] == name.as_str()).expect("a span")
    };
    let down = server("down");
    check(down, &[("http.rsp.status", "502"), ("http.uri", "/x"), ("http.req.host", "down")]);
    assert_eq!(events(down), ["namer.success", "l5d.failure"]);
    let text = down["tags"]["error"].as_str().expect("a text");
    assert!(text.starts_with("Unable to establish connection"), "{text}");
    let client = spans.iter().find(|span| span["parentId"] == down["id"]).expect("a client span");
    assert!(events(client).iter().filter(|event| **event == "finagle.retry").count() > 1, "{client:#}");
    assert!(client["tags"]["error"].as_str().is_some_and(|text| text.contains("refused")), "{client:#}");
    let unbound = "com.twitter.finagle.naming.buoyant.RichNoBrokersAvailableException";
    check(server("no"), &[("namer.failure", unbound), ("io.buoyant.router.Failure", unbound)]);
    assert_eq!(spans.iter().filter(|span| span["parentId"] == server("no")["id"]).count(), 0);
}

#[test]
fn a_client_that_goes_away_leaves_a_span() {
    let backend = Backend::start(Box::new(|_, _| None));
    let traced = Traced::start(1.0, to(&backend));
    let mut stream = traced.proxy.connect();
    stream.write_all(b"GET /gone HTTP/1.1\r\nHost: web\r\n\r\n").expect("written");
    until("at the endpoint", Duration::from_secs(10), || backend.requests().pop().ok_or("nothing"));
    // A reset: who only closes its sending side may still wait.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option");
    drop(stream);
    let spans = traced.spans(2);
    check(&spans[0], &[("error", "the client went away before the answer"), ("http.uri", "/gone")]);
}

#[test]
fn what_is_not_sampled_goes_nowhere_and_others_are_told() {
    let backend = Backend::ok();
    let traced = Traced::start(0.0, to(&backend));
    for headers in [vec![("Host", "web")], vec![("Host", "web"), ("X-B3-Sampled", "0"), ("X-B3-SpanId", "1")]] {
        assert_eq!(traced.proxy.get("/", &headers).status, 200);
    }
    assert_eq!(traced.proxy.get("/", &[("Host", "web"), ("X-B3-Flags", "1")]).status, 200);
    let spans = traced.spans(2);
    assert_eq!(spans.len(), 2, "only the last one's");
    assert_eq!(spans[0]["debug"], true);
    let sampled = backend.requests().into_iter().map(|request| header(&request, "x-b3-sampled").to_owned());
    assert_eq!(sampled.collect::<Vec<_>>(), ["0", "0", "1"]);
}

#[test]
fn linkerds_own_sample_header_decides_for_our_exporters() {
    let backend = Backend::ok();
    let mut router = to(&backend);
    router.trace_propagator = TracePropagator::Linkerd;
    let traced = Traced::start(0.0, router);
    // The caller's flags say sampled: 6.
    let caller = ("l5d-ctx-trace", "AAAAAAAAAAEAAAAAAAAAAgAAAAAAAAADAAAAAAAAAAY=");
    traced.proxy.get("/no", &[("Host", "web"), ("l5d-sample", "0"), caller]);
    traced.proxy.get("/yes", &[("Host", "web"), ("l5d-sample", "1")]);
    traced.proxy.get("/too", &[("Host", "web"), caller]);
    let spans = traced.spans(4);
    let uris = spans.iter().map(|span| span["tags"]["http.uri"].as_str().expect("a text"));
    assert_eq!(uris.collect::<Vec<_>>(), ["/yes", "/yes", "/too", "/too"]);
    assert_eq!((&spans[2]["traceId"], &spans[2]["parentId"]), (&"0000000000000003".into(), &"0000000000000001".into()));
}

#[test]
fn a_dead_collector_costs_no_request_and_holds_no_more_than_its_queue() {
    let backend = Backend::ok();
    let dead = Config::Otlp(otlp::Config {
        endpoint: format!("http://127.0.0.1:{}", closed_port()),
        metrics_interval: Duration::from_millis(20),
        ..otlp::Config::default()
    });
    let log = Config::Tracelog(tracelog::Config::default());
    let interpreter = |namers| Arc::new(ConfiguredInterpreter::new(None, namers)) as Arc<dyn naming::Interpreter>;
    let proxy = Proxy::traced(to(&backend), 1, &[dead, log], interpreter);
    let mut connection = Connection::open(&proxy.address.to_string()).expect("open");
    let headers = [("Host", "web")];
    for _ in 0..500 {
        let answer = connection.send(&Request { method: "GET", target: "/", headers: &headers, body: None });
        assert_eq!(answer.expect("an answer").status, 200);
    }
    let reports = until("failures", Duration::from_secs(20), || {
        let reports = proxy.exporting.reports().all();
        let bad = reports.iter().filter(|report| report.failures > 0).count();
        let log = reports.iter().find(|report| report.kind == "io.l5d.tracelog").is_some_and(|log| log.sent > 0);
        if bad == 2 && log { Ok(reports) } else { Err(reports) }
    });
    let kinds = reports.iter().map(|report| (report.kind, report.signal)).collect::<Vec<_>>();
    assert_eq!(kinds, [("io.l5d.otlp", "traces"), ("io.l5d.otlp", "metrics"), ("io.l5d.tracelog", "traces")]);
    let waiting = proxy.registry.snapshot().gauge(&["telemetry", "io.l5d.otlp", "traces", "queue_size"]);
    assert!(waiting.is_some_and(|waiting| waiting <= 2048.0), "{waiting:?}");
}
