//! Exporters against collectors of the tests' own: what arrives, and what happens when nothing does.

#[path = "export/protobuf.rs"]
mod protobuf;
#[path = "export/thrift.rs"]
mod thrift;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use protobuf::Message;
use serde_json::Value as Json;
use telemetry::Registry;
use telemetry::export::{Config, Exporting, Report, otlp, start, zipkin};
use telemetry::spans::{Event, Fact, Queue, Side, Span};
use testkit::http::Answer;
use testkit::recorder::{Recorder, Reply};
use testkit::until::until;
use thrift::{Reader, Value};

fn span(id: u64) -> Span {
    Span {
        trace_high: 0xa,
        trace: 0xb,
        id,
        parent: (id > 1).then(|| id - 1),
        side: if id == 1 { Side::Server } else { Side::Client },
        name: "out /svc/web".to_owned(),
        start: 1_700_000_000_000_001_000,
        nanos: 2_000_000,
        service: "#/io.l5d.fs/web".to_owned(),
        local: Some(([127, 0, 0, 1], 4140).into()),
        remote: Some(([10, 0, 0, 1], 80).into()),
        facts: vec![
            ("http.req.method", Fact::text("GET")),
            ("http.req.version", Fact::text("HTTP/1.1")),
            ("http.req.host", Fact::text("web:81")),
            ("http.uri", Fact::text("/a?b=c")),
            ("http.rsp.status", Fact::Number(503)),
            ("router.label", Fact::Shared("out".into())),
            ("l5d.success", Fact::Real(0.5)),
        ],
        events: vec![Event { at: 1_700_000_000_000_002_000, name: "finagle.retry".to_owned() }],
        error: Some("oh no".to_owned()),
        is_debug: id == 1,
        state: Some("a=b".to_owned()),
    }
}

/// Exporters that run.
struct Running {
    runtime: tokio::runtime::Runtime,
    exporting: Option<Exporting>,
    registry: Registry,
    queue: Option<Queue>,
}

impl Running {
    fn start(config: Config) -> Running {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let (runtime, registry) = (runtime.expect("a runtime"), Registry::default());
        let guard = runtime.enter();
        let exporting = start(&[config], &registry);
        drop(guard);
        let queue = exporting.tracer().map(|tracer| tracer.queue());
        Running { runtime, exporting: Some(exporting), registry, queue }
    }

    fn push(&self, requests: usize) {
        let queue = self.queue.as_ref().expect("somebody takes spans");
        (0..requests).for_each(|_| queue.push(1, vec![span(1), span(2)]));
    }

    fn report(&self) -> Report {
        self.exporting.as_ref().expect("running").reports().all().remove(0)
    }

    /// Waits until this holds of the report.
    #[track_caller]
    fn wait(&self, what: &str, holds: impl Fn(&Report) -> bool) -> Report {
        let found = || Some(self.report()).filter(|report| holds(report)).ok_or_else(|| Box::new(self.report()));
        until(what, Duration::from_secs(20), found)
    }

    fn finish(&mut self, limit: Duration) {
        let exporting = self.exporting.take().expect("running");
        self.runtime.block_on(exporting.finish(limit));
    }
}

fn collector(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Recorder {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Recorder::start(Reply::Script(Answer { status, headers, body: body.to_vec() }))
}

fn otlp(authority: &str) -> otlp::Config {
    otlp::Config { endpoint: format!("http://{authority}"), metrics: false, ..otlp::Config::default() }
}

fn zipkin(authority: &str, protocol: zipkin::Protocol) -> Config {
    let (host, port) = authority.split_once(':').expect("an authority");
    let port = port.parse().expect("a port");
    Config::Zipkin(zipkin::Config { host: host.to_owned(), port, sample_rate: 1.0, protocol })
}

#[track_caller]
fn attribute<'a>(attributes: &'a [(String, String)], name: &str) -> &'a str {
    let found = attributes.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("no {name} in {attributes:?}"))
}

#[test]
fn spans_arrive_in_protobuf() {
    let collector = collector(200, &[], b"");
    let config = otlp::Config {
        endpoint: format!("http://{}/prefix/", collector.authority),
        headers: vec![("x-key".to_owned(), "secret".to_owned())],
        gzip: true,
        resource: vec![("service.name".to_owned(), "edge".to_owned()), ("host.name".to_owned(), "a".to_owned())],
        ..otlp(&collector.authority)
    };
    let running = Running::start(Config::Otlp(config));
    running.push(3);
    let report = running.wait("all sent", |report| report.sent == 6);
    assert_eq!((report.kind, report.signal, report.dropped, report.failures), ("io.l5d.otlp", "traces", 0, 0));
    let requests = collector.requests();
    let request = &requests[0];
    assert_eq!((request.method.as_str(), request.uri.as_str()), ("POST", "/prefix/v1/traces"));
    let header = |name| request.header(name);
    assert_eq!(header("content-type"), Some("application/x-protobuf"));
    assert_eq!((header("content-encoding"), header("x-key")), (Some("gzip"), Some("secret")));
    let mut bytes = Vec::new();
    GzDecoder::new(request.body.as_slice()).read_to_end(&mut bytes).expect("gzip");
    let spans = Message::read(&bytes).message(1);
    let resource = spans.message(1).attributes(1);
    assert_eq!((attribute(&resource, "service.name"), attribute(&resource, "host.name")), ("edge", "a"));
    let scope = spans.message(2);
    assert_eq!(scope.message(1).text(1), "switchyard");
    let spans = scope.messages(2);
    assert_eq!(spans.len(), 6);
    let (server, client) = (&spans[0], &spans[1]);
    let trace = [0xa_u64.to_be_bytes(), 0xb_u64.to_be_bytes()].concat();
    assert_eq!(
        (server.bytes(1), server.bytes(2), server.bytes(4)),
        (trace.clone(), 1_u64.to_be_bytes().into(), vec![])
    );
    assert_eq!((client.bytes(1), client.bytes(2)), (trace, 2_u64.to_be_bytes().into()));
    assert_eq!(client.bytes(4), 1_u64.to_be_bytes());
    assert_eq!((server.number(6), client.number(6)), (2, 3), "kinds");
    assert_eq!((client.text(5), client.text(3), client.number(16)), ("out /svc/web".into(), "a=b".into(), 1));
    assert_eq!((client.number(7), client.number(8)), (1_700_000_000_000_001_000, 1_700_000_000_002_001_000));
    let attributes = client.attributes(9);
    for (name, value) in [
        ("http.request.method", "GET"),
        ("network.protocol.version", "1.1"),
        ("url.path", "/a"),
        ("url.query", "b=c"),
        ("http.response.status_code", "503"),
        ("router.label", "out"),
        ("l5d.success", "0.5"),
        ("server.address", "10.0.0.1"),
        ("server.port", "80"),
        ("network.peer.address", "10.0.0.1"),
        ("peer.service", "#/io.l5d.fs/web"),
    ] {
        assert_eq!(attribute(&attributes, name), value, "{name}");
    }
    let asked = server.attributes(9);
    assert_eq!((attribute(&asked, "server.address"), attribute(&asked, "server.port")), ("web", "81"));
    let event = client.message(11);
    assert_eq!((event.number(1), event.text(2)), (1_700_000_000_000_002_000, "finagle.retry".to_owned()));
    let status = client.message(15);
    assert_eq!((status.text(2), status.number(3)), ("oh no".to_owned(), 2));
}

#[test]
fn spans_arrive_in_otlps_json() {
    let collector = collector(200, &[], br#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"no"}}"#);
    let config = otlp::Config { encoding: otlp::Encoding::Json, ..otlp(&collector.authority) };
    let running = Running::start(Config::Otlp(config));
    running.push(1);
    let report = running.wait("sent", |report| report.exports == 1);
    assert_eq!((report.sent, report.dropped), (1, 1), "one was rejected");
    let request = &collector.requests()[0];
    assert_eq!(request.header("content-type"), Some("application/json"));
    let body: Json = serde_json::from_slice(&request.body).expect("JSON");
    let spans = &body["resourceSpans"][0];
    let resource = &spans["resource"]["attributes"][0];
    assert_eq!(*resource, serde_json::json!({"key": "service.name", "value": {"stringValue": "linkerd"}}));
    let span = &spans["scopeSpans"][0]["spans"][1];
    assert_eq!(span["traceId"], "000000000000000a000000000000000b");
    assert_eq!((&span["spanId"], &span["parentSpanId"]), (&"0000000000000002".into(), &"0000000000000001".into()));
    assert_eq!((&span["kind"], &span["startTimeUnixNano"]), (&3.into(), &"1700000000000001000".into()));
    let attributes = span["attributes"].as_array().expect("a list");
    let status = serde_json::json!({"key": "http.response.status_code", "value": {"intValue": "503"}});
    assert!(attributes.contains(&status), "{attributes:?}");
    assert_eq!(span["status"], serde_json::json!({"message": "oh no", "code": 2}));
}

#[test]
fn spans_arrive_at_zipkin_over_http() {
    let collector = collector(202, &[], b"");
    let running = Running::start(zipkin(&collector.authority, zipkin::Protocol::Http));
    running.push(1);
    running.wait("sent", |report| report.sent == 2);
    let request = &collector.requests()[0];
    assert_eq!((request.uri.as_str(), request.header("content-type")), ("/api/v2/spans", Some("application/json")));
    let spans: Json = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!(spans[1]["traceId"], "000000000000000a000000000000000b");
    assert_eq!((&spans[0]["kind"], &spans[1]["kind"]), (&"SERVER".into(), &"CLIENT".into()));
    assert_eq!(spans[1]["tags"]["http.rsp.status"], "503");
}

/// A Scribe collector that answers with these codes, one after the other, and then with 0.
fn scribe(codes: &'static [i32]) -> (String, Arc<Mutex<Vec<Vec<u8>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let authority = listener.local_addr().expect("bound").to_string();
    let frames: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let kept = frames.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            while let Some(frame) = frame(&mut stream) {
                let number = {
                    let mut kept = kept.lock().expect("no panic");
                    kept.push(frame);
                    kept.len() - 1
                };
                let code = codes.get(number).copied().unwrap_or(0);
                let mut answer = [&[0x80, 1, 0, 2, 0, 0, 0, 3][..], b"Log", &[0; 4], &[8, 0, 0]].concat();
                answer.extend_from_slice(&code.to_be_bytes());
                answer.push(0);
                let length = (answer.len() as u32).to_be_bytes();
                stream.write_all(&[&length[..], &answer].concat()).expect("written");
            }
        }
    });
    (authority, frames)
}

fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

#[test]
fn spans_arrive_at_scribe_as_the_original_sends_them() {
    let (authority, frames) = scribe(&[1]);
    let running = Running::start(zipkin(&authority, zipkin::Protocol::Scribe));
    running.push(1);
    let report = running.wait("sent", |report| report.sent == 2);
    assert_eq!((report.failures, report.dropped), (1, 0), "TRY_LATER is tried later");
    assert!(report.last_error.is_some_and(|error| error.contains("TRY_LATER")));
    let frames = frames.lock().expect("no panic").clone();
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[0], frames[1]);
    let mut reader = Reader(&frames[0]);
    assert_eq!((reader.i32() as u32, reader.bytes(), reader.i32()), (0x8001_0001, b"Log".to_vec(), 0));
    let call = Value::Struct(reader.fields());
    assert!(reader.0.is_empty());
    let entries = call.field(1).list();
    assert_eq!((entries.len(), entries[0].field(1).text()), (2, "zipkin".to_owned()));
    let binary = STANDARD.decode(entries[1].field(2).text()).expect("Base64");
    let mut reader = Reader(&binary);
    let span = Value::Struct(reader.fields());
    assert!(reader.0.is_empty());
    for (id, value) in [(1, 0xb), (4, 2), (5, 1), (10, 1_700_000_000_000_001), (11, 2000), (12, 0xa)] {
        assert_eq!(*span.field(id), Value::I64(value), "field {id}");
    }
    assert_eq!(span.field(3).text(), "out /svc/web");
    let annotations = span.field(6).list().iter().map(|annotation| {
        let host = annotation.field(3);
        assert_eq!((host.field(1), host.field(2)), (&Value::I32(0x7f00_0001), &Value::I16(4140)));
        assert_eq!(host.field(3).text(), "#/io.l5d.fs/web");
        (annotation.field(2).text(), annotation.field(1).clone())
    });
    let at = |micros: i64| Value::I64(1_700_000_000_000_000 + micros);
    let expected = [("cs", at(1)), ("cr", at(2001)), ("finagle.retry", at(2))];
    assert_eq!(annotations.collect::<Vec<_>>(), expected.map(|(name, at)| (name.to_owned(), at)));
    let facts =
        span.field(8).list().iter().map(|fact| (fact.field(1).text(), fact.field(2).clone(), fact.field(3).clone()));
    let facts = facts.collect::<Vec<_>>();
    let fact = |name: &str| facts.iter().find(|(key, ..)| key == name).map(|(_, value, kind)| (value, kind));
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
    assert_eq!(fact("http.uri"), Some((&bytes(b"/a?b=c"), &Value::I32(6))));
    assert_eq!(fact("http.rsp.status"), Some((&bytes(&503_i64.to_be_bytes()), &Value::I32(4))));
    assert_eq!(fact("l5d.success"), Some((&bytes(&0.5_f64.to_be_bytes()), &Value::I32(5))));
    assert_eq!(fact("sa"), Some((&bytes(&[1]), &Value::I32(0))));
    assert_eq!(fact("error"), Some((&bytes(b"oh no"), &Value::I32(6))));
    let binary = STANDARD.decode(entries[0].field(2).text()).expect("Base64");
    let root = Value::Struct(Reader(&binary).fields());
    assert_eq!(*root.field(9), Value::Bool(true));
    assert!(matches!(&root, Value::Struct(fields) if !fields.contains_key(&5)), "a root has no parent");
}

/// A collector that does this with each connection.
fn odd(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let authority = listener.local_addr().expect("bound").to_string();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    authority
}

fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").to_string()
}

#[test]
fn what_no_collector_takes_is_counted_and_nobody_waits() {
    let garbage = |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&[0xff; 100]);
    };
    let silence = |mut stream: TcpStream| while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {};
    let endless = |mut stream: TcpStream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while stream.write_all(b"1000\r\n").and_then(|()| stream.write_all(&[b'x'; 0x1000])).is_ok() {
            if stream.write_all(b"\r\n").is_err() {
                return;
            }
        }
    };
    let slow = |authority: &str| Config::Otlp(otlp::Config { timeout: Duration::from_millis(100), ..otlp(authority) });
    let refusing = collector(400, &[], b"no\nsuch tenant");
    let cases = [
        ("nobody", Config::Otlp(otlp(&nobody())), "refused"),
        ("nobody, scribe", zipkin(&nobody(), zipkin::Protocol::Scribe), "refused"),
        ("garbage", Config::Otlp(otlp(&odd(garbage))), ""),
        ("garbage, scribe", zipkin(&odd(garbage), zipkin::Protocol::Scribe), ""),
        ("silence", slow(&odd(silence)), "no answer within"),
        ("an endless answer", slow(&odd(endless)), ""),
        ("a refusal", Config::Otlp(otlp(&refusing.authority)), "400 Bad Request: no such tenant"),
    ];
    let cases = cases.map(|(name, config, error)| (name, Running::start(config), error));
    const REQUESTS: usize = 20_000;
    for (_, running, _) in &cases {
        let began = Instant::now();
        running.push(REQUESTS);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    for (name, mut running, error) in cases {
        let report = running.wait(name, |report| report.dropped > 0 && report.failures > 0);
        assert!(report.failing && report.sent == 0, "{name}: {report:?}");
        let last = report.last_error.unwrap_or_default();
        assert!(last.contains(error), "{name}: {last}");
        running.finish(Duration::from_secs(20));
        let snapshot = running.registry.snapshot();
        let kind = report.kind;
        let dropped = snapshot.counter(&["telemetry", kind, "traces", "dropped"]);
        let early = snapshot.counter(&["telemetry", "spans", "dropped"]);
        assert_eq!(dropped + early, 2 * REQUESTS as u64, "{name}: all are accounted for");
        assert!(early > 0, "{name}: the queue is bounded");
        assert!(snapshot.counter(&["telemetry", kind, "traces", "failures"]) > 0);
    }
    let tried = refusing.requests().len() as u64;
    assert!(tried > 0, "{tried}");
}

#[test]
fn a_collector_that_is_busy_is_asked_again() {
    let number = Mutex::new(0);
    let authority = odd(move |mut stream| {
        let mut bytes = vec![0; 65536];
        while stream.read(&mut bytes).is_ok_and(|read| read > 0) {
            let mut number = number.lock().expect("no panic");
            *number += 1;
            let answer: &[u8] = match *number {
                1 => b"HTTP/1.1 429 Slow\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n",
                2 => b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
                _ => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            };
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    });
    let running = Running::start(Config::Otlp(otlp(&authority)));
    running.push(1);
    let report = running.wait("sent at last", |report| report.sent == 2);
    assert_eq!((report.failures, report.dropped, report.exports, report.failing), (2, 0, 1, false));
}

#[test]
fn what_waits_at_the_end_is_still_sent() {
    let collector = collector(200, &[], b"");
    let mut running = Running::start(Config::Otlp(otlp(&collector.authority)));
    running.push(700);
    running.finish(Duration::from_secs(10));
    let sent = running.registry.snapshot().counter(&["telemetry", "io.l5d.otlp", "traces", "sent"]);
    assert_eq!(sent, 1400);
}

#[test]
fn metrics_arrive_as_sums_gauges_and_summaries() {
    let collector = collector(200, &[], b"");
    let config = otlp::Config {
        traces: false,
        metrics: true,
        metrics_interval: Duration::from_millis(50),
        ..otlp(&collector.authority)
    };
    let mut running = Running::start(Config::Otlp(config));
    assert!(running.queue.is_none(), "nobody takes spans");
    let shard = running.registry.shard();
    let requests = shard.counter(&["rt", "out", "service", "svc/web", "requests"]);
    requests.add(7);
    let failures = shard.counter(&["rt", "out", "service", "svc/web", "failures", "a.B"]);
    failures.inc();
    let open = shard.gauge(&["rt", "out", "server", "127.0.0.1/1", "connections"]);
    open.set(2.5);
    let latency = shard.stat(&["rt", "out", "service", "svc/web", "request_latency_ms"]);
    [1, 2, 100].into_iter().for_each(|value| latency.record(value));
    let metrics = |request: &testkit::recorder::Recorded| {
        assert_eq!(request.uri, "/v1/metrics");
        Message::read(&request.body).message(1).message(2).messages(2)
    };
    let complete = || {
        let all = collector.requests().iter().map(metrics).collect::<Vec<_>>();
        let tells = |metric: &Message| metric.text(1).ends_with("request_latency_ms");
        all.into_iter().find(|all| all.iter().any(tells)).ok_or("no latencies")
    };
    let all = until("metrics", Duration::from_secs(10), complete);
    let metric = |name: &str| {
        let found = all.iter().find(|metric| metric.text(1) == name);
        found
            .unwrap_or_else(|| panic!("no {name} in {:?}", all.iter().map(|metric| metric.text(1)).collect::<Vec<_>>()))
    };
    let sum = metric("rt.service.requests").message(7);
    assert_eq!((sum.number(2), sum.number(3)), (2, 1), "cumulative and monotonic");
    let point = sum.message(1);
    assert_eq!(point.number(6), 7);
    assert!(point.number(2) > 0 && point.number(2) < point.number(3), "start and time");
    let labels = point.attributes(7);
    assert_eq!((attribute(&labels, "rt"), attribute(&labels, "service")), ("out", "svc/web"));
    let labels = metric("rt.service.failures").message(7).message(1).attributes(7);
    assert_eq!(attribute(&labels, "exception"), "a.B");
    assert_eq!(metric("rt.server.connections").message(5).message(1).double(4), 2.5);
    let latency = metric("rt.service.request_latency_ms");
    assert_eq!(latency.text(3), "ms");
    let point = latency.message(11).message(1);
    assert_eq!((point.number(4), point.double(5)), (3, 103.0));
    let quantiles = point.messages(6).iter().map(|one| (one.double(1), one.double(2))).collect::<Vec<_>>();
    assert!(quantiles.contains(&(0.5, 2.0)) && quantiles.contains(&(1.0, 100.0)), "{quantiles:?}");
    requests.inc();
    running.finish(Duration::from_secs(10));
    let last = collector.requests().last().map(metrics).expect("one more at the end");
    let last = last.iter().find(|metric| metric.text(1) == "rt.service.requests").expect("requests");
    assert_eq!(last.message(7).message(1).number(6), 8);
}

#[test]
fn many_metrics_are_sent_in_parts() {
    let collector = collector(200, &[], b"");
    let config = otlp::Config { traces: false, metrics: true, ..otlp(&collector.authority) };
    let mut running = Running::start(Config::Otlp(config));
    let shard = running.registry.shard();
    let name = |n: usize| format!("svc/{n}");
    let all = (0..7000).map(|n| shard.counter(&["rt", "out", "service", &name(n), "requests"])).collect::<Vec<_>>();
    running.finish(Duration::from_secs(20));
    let points = |request: &testkit::recorder::Recorded| {
        let metrics = Message::read(&request.body).message(1).message(2).messages(2);
        metrics.iter().map(|metric| metric.messages(7).iter().map(|sum| sum.messages(1).len()).sum::<usize>()).sum()
    };
    let parts = collector.requests().iter().map(points).collect::<Vec<usize>>();
    assert!(parts.len() >= 2 && parts.iter().all(|part| *part < 10_000), "{parts:?}");
    assert!(parts.iter().sum::<usize>() >= all.len(), "{parts:?}");
}
