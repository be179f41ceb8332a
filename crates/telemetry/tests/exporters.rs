//! The exact texts of OpenMetrics, InfluxDB and StatsD, from §8.4 of the reference and the formats' own documents.

use std::time::Duration;

use telemetry::{Limits, OVERFLOW, Registry, accepts_openmetrics, metrics_json, statsd};
use tokio::net::UdpSocket;

fn registry() -> Registry {
    let registry = Registry::default();
    let shard = registry.shard();
    shard.counter(&["rt", "out", "server", "127.0.0.1/4140", "requests"]).add(10);
    shard.counter(&["rt", "out", "service", "svc/down", "failures"]).inc();
    shard.counter(&["rt", "out", "service", "svc/down", "failures", "restartable", "com.twitter.X"]).inc();
    shard.counter(&["rt", "out", "client", "#/io.l5d.fs/web", "service", "svc/web", "requests"]).add(8);
    registry.gauge_with(&["rt", "out", "client", "#/io.l5d.fs/web", "loadbalancer", "size"], || 1.0);
    let latency = shard.stat(&["rt", "out", "service", "svc/web", "request_latency_ms"]);
    [1, 1, 1, 2, 2, 25, 30, 108].into_iter().for_each(|millis| latency.record(millis));
    shard.stat(&["rt", "out", "service", "svc/web", "retries", "per_request"]);
    shard.counter(&["odd", "na\"me"]).add(3);
    registry
}

#[test]
fn openmetrics_has_types_help_and_an_end() {
    let expected = r##"# TYPE odd:na_me counter
# HELP odd:na_me odd/na\"me of /admin/metrics.json.
odd:na_me_total 3
# TYPE rt:client:loadbalancer:size gauge
# HELP rt:client:loadbalancer:size Endpoints.
rt:client:loadbalancer:size{rt="out",client="#/io.l5d.fs/web"} 1.0
# TYPE rt:client:service:requests counter
# HELP rt:client:service:requests Requests that ended or are under way.
rt:client:service:requests_total{rt="out",client="#/io.l5d.fs/web",service="svc/web"} 8
# TYPE rt:server:requests counter
# HELP rt:server:requests Requests that ended or are under way.
rt:server:requests_total{rt="out",server="127.0.0.1/4140"} 10
# TYPE rt:service:failures counter
# HELP rt:service:failures Requests that failed.
rt:service:failures_total{rt="out",service="svc/down"} 1
rt:service:failures_total{rt="out",service="svc/down",exception="restartable:com.twitter.X"} 1
# TYPE rt:service:request_latency_ms summary
# HELP rt:service:request_latency_ms Milliseconds from a request's head to the end of its answer.
rt:service:request_latency_ms{rt="out",service="svc/web",quantile="0"} 1
rt:service:request_latency_ms{rt="out",service="svc/web",quantile="0.5"} 2
rt:service:request_latency_ms{rt="out",service="svc/web",quantile="0.9"} 30
rt:service:request_latency_ms{rt="out",service="svc/web",quantile="0.95"} 108
rt:service:request_latency_ms{rt="out",service="svc/web",quantile="0.99"} 108
rt:service:request_latency_ms{rt="out",service="svc/web",quantile="0.999"} 108
rt:service:request_latency_ms{rt="out",service="svc/web",quantile="0.9999"} 108
rt:service:request_latency_ms{rt="out",service="svc/web",quantile="1"} 108
rt:service:request_latency_ms_count{rt="out",service="svc/web"} 8
rt:service:request_latency_ms_sum{rt="out",service="svc/web"} 170
# TYPE rt:service:retries:per_request summary
# HELP rt:service:retries:per_request Retries per request.
rt:service:retries:per_request_count{rt="out",service="svc/web"} 0
rt:service:retries:per_request_sum{rt="out",service="svc/web"} 0
# EOF
"##;
    assert_eq!(registry().snapshot().to_openmetrics(""), expected);
}

#[test]
fn openmetrics_counts_go_on_when_a_window_ends() {
    let registry = Registry::default();
    let stat = registry.shard().stat(&["took"]);
    stat.record(5);
    registry.end_window();
    registry.end_window();
    stat.record(7);
    let shown = registry.snapshot().to_openmetrics("l5d_");
    let expected = "# TYPE l5d_took summary\n# HELP l5d_took took of /admin/metrics.json.\nl5d_took_count 2\n\
                    l5d_took_sum 12\n# EOF\n";
    assert_eq!(shown, expected);
    assert_eq!(registry.snapshot().total(&["took"]).map(|total| (total.count, total.sum)), Some((2, 12)));
}

#[test]
fn openmetrics_names_no_series_twice_and_gives_no_name_two_types() {
    let registry = Registry::default();
    let shard = registry.shard();
    shard.counter(&["a-b"]).add(1);
    shard.counter(&["a_b"]).add(2);
    shard.counter(&["made_total"]).add(4);
    let level = shard.gauge(&["a+b"]);
    level.set(f64::INFINITY);
    shard.counter(&["9"]).inc();
    shard.counter(&["rt", "o\"u\\t\n", "x"]).inc();
    let shown = registry.snapshot().to_openmetrics("");
    let samples = shown.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>();
    let expected = ["_9_total 1", "a_b_total 3", "a_b_gauge +Inf", "made_total 4", r#"rt:x_total{rt="o\"u\\t\n"} 1"#];
    assert_eq!(samples, expected);
}

#[test]
fn openmetrics_is_for_those_who_ask_for_it() {
    let cases = [
        ("", false),
        ("*/*", false),
        ("text/plain", false),
        ("application/openmetrics-text", true),
        ("Application/OpenMetrics-Text; version=1.0.0", true),
        ("application/openmetrics-text;q=0", false),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", true),
        ("text/plain;version=0.0.4;q=1,application/openmetrics-text;q=0.9", false),
        ("application/openmetrics-text;q=many", false),
    ];
    for (accept, expected) in cases {
        assert_eq!(accepts_openmetrics(accept), expected, "{accept}");
    }
}

#[test]
fn influxdb_has_one_line_per_scope() {
    let expected = "odd,host=none na\"me=3\n\
        rt:client:loadbalancer,client=#/io.l5d.fs/web,host=none,rt=out size=1.0\n\
        rt:client:service,client=#/io.l5d.fs/web,host=none,rt=out,service=svc/web requests=8\n\
        rt:server,host=none,rt=out,server=127.0.0.1/4140 requests=10\n\
        rt:service,host=none,rt=out,service=svc/down failures=1\n\
        rt:service:failures:restartable,host=none,rt=out,service=svc/down com.twitter.X=1\n\
        rt:service,host=none,rt=out,service=svc/web request_latency_ms_avg=21.25,request_latency_ms_count=8,\
        request_latency_ms_max=108,request_latency_ms_min=1,request_latency_ms_p50=2,request_latency_ms_p90=30,\
        request_latency_ms_p95=108,request_latency_ms_p99=108,request_latency_ms_p999=108,\
        request_latency_ms_p9999=108,request_latency_ms_sum=170\n\
        rt:service:retries,host=none,rt=out,service=svc/web per_request_avg=0.0,per_request_count=0,\
        per_request_max=0,per_request_min=0,per_request_p50=0,per_request_p90=0,per_request_p95=0,per_request_p99=0,\
        per_request_p999=0,per_request_p9999=0,per_request_sum=0\n";
    assert_eq!(registry().snapshot().to_influxdb(None), expected);
}

/// The original's own tests, and what would break a line.
#[test]
fn influxdb_sorts_fields_and_tags_and_names_the_root() {
    let check = |paths: &[&[&str]], host, expected: &str| {
        let registry = Registry::default();
        paths.iter().for_each(|path| registry.shard().counter(path).inc());
        assert_eq!(registry.snapshot().to_influxdb(host), expected);
    };
    check(&[&["foo", "bar", "bas"]], None, "foo:bar,host=none bas=1\n");
    check(&[&["def"], &["abc"]], None, "root,host=none abc=1,def=1\n");
    check(
        &[&["rt", "incoming", "service", "/svc/foo", "requests"]],
        Some("127.0.0.1:9990"),
        "rt:service,host=127.0.0.1:9990,rt=incoming,service=/svc/foo requests=1\n",
    );
    check(
        &[&["rt", "incoming", "client", "/#/bar", "service", "/svc/foo", "requests"]],
        Some(""),
        "rt:client:service,client=/#/bar,host=none,rt=incoming,service=/svc/foo requests=1\n",
    );
    check(
        &[&["rt", "in", "x"], &["rt", "in", "server", "s", "y"]],
        None,
        "rt,host=none,rt=in x=1\nrt:server,host=none,rt=in,server=s y=1\n",
    );
    check(&[&["rt", "a b,c=d\ne", "x y"]], None, "rt,host=none,rt=a\\ b\\,c\\=d\\ e x\\ y=1\n");
    let registry = Registry::default();
    registry.gauge_with(&["a", "bad"], || f64::NAN);
    assert_eq!(registry.snapshot().to_influxdb(None), "");
}

/// Uniform numbers that are the same in every run.
fn seeded() -> impl FnMut() -> f64 {
    let mut state = 7u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[test]
fn statsd_lines_have_the_originals_names() {
    let mut encoder = statsd::Encoder::new("linkerd", 1.0);
    let expected = "linkerd.odd.na_me:3|c\n\
        linkerd.rt.out.client._.io_l5d_fs.web.loadbalancer.size:1|g\n\
        linkerd.rt.out.client._.io_l5d_fs.web.service.svc.web.requests:8|c\n\
        linkerd.rt.out.server.127_0_0_1.4140.requests:10|c\n\
        linkerd.rt.out.service.svc.down.failures:1|c\n\
        linkerd.rt.out.service.svc.down.failures.restartable.com_twitter_X:1|c\n";
    let timings = [1, 1, 1, 2, 2, 25, 30, 108];
    let timings = timings.map(|millis| format!("linkerd.rt.out.service.svc.web.request_latency_ms:{millis}|ms"));
    let datagrams = encoder.encode(&registry(), &mut seeded());
    assert_eq!(datagrams.join("\n"), expected.to_owned() + &timings.join("\n"));
}

#[test]
fn statsd_sends_each_event_once() {
    let registry = Registry::default();
    let shard = registry.shard();
    let (counter, stat, level) = (shard.counter(&["n"]), shard.stat(&["took"]), shard.gauge(&["level"]));
    let mut encoder = statsd::Encoder::new("", 1.0);
    let mut sent = || encoder.encode(&registry, &mut seeded());
    assert_eq!(sent(), ["level:0|g"]);
    counter.add(5);
    stat.record(3);
    level.set(-2.5);
    assert_eq!(sent(), ["level:0|g\nlevel:-2.5|g\nn:5|c\ntook:3|ms"]);
    level.set(f64::NAN);
    assert_eq!(sent(), Vec::<String>::new());
    counter.inc();
    stat.record(4);
    assert_eq!(sent(), ["n:1|c\ntook:4|ms"]);
    drop((counter, stat));
    registry.prune(&["n"]);
    registry.prune(&["took"]);
    registry.shard().counter(&["n"]).add(2);
    registry.shard().stat(&["took"]).record(9);
    assert_eq!(sent(), ["n:2|c\ntook:9|ms"], "began anew");
}

#[test]
fn statsd_samples_timings_at_the_rate_that_it_tells() {
    let registry = Registry::default();
    let stat = registry.shard().stat(&["took"]);
    (0..20_000).for_each(|sample| stat.record(sample % 100));
    let mut encoder = statsd::Encoder::new("", 0.01);
    let mut random = seeded();
    let lines = encoder.encode(&registry, &mut random).join("\n");
    let values = lines.lines().map(|line| {
        let value = line.strip_prefix("took:").and_then(|rest| rest.strip_suffix("|ms|@0.01"));
        value.unwrap_or_else(|| panic!("{line}")).parse::<f64>().expect("a number")
    });
    let values = values.collect::<Vec<_>>();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    // 200 are expected; five standard deviations either way.
    assert!((130..270).contains(&values.len()) && (39.0..60.0).contains(&mean), "{} {mean}", values.len());

    // No more than a thousand or so, at a rate that makes up for it.
    (0..1_000_000).for_each(|sample| stat.record(sample % 100));
    let datagrams = encoder.encode(&registry, &mut random);
    let lines = datagrams.iter().flat_map(|datagram| datagram.lines()).collect::<Vec<_>>();
    assert!((800..1200).contains(&lines.len()) && lines[0].ends_with("|ms|@0.001"), "{} {}", lines.len(), lines[0]);
    assert!(datagrams.len() > 5 && datagrams.iter().all(|datagram| datagram.len() <= 1432));
}

#[tokio::test]
async fn statsd_arrives() {
    let server = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let port = server.local_addr().expect("bound").port();
    let registry = registry();
    let config = statsd::Config {
        hostname: "localhost".to_owned(),
        port,
        interval: Duration::from_millis(10),
        sample_rate: 1.0,
        ..statsd::Config::default()
    };
    let sending = tokio::spawn(statsd::send_for_ever(registry.clone(), config));
    let mut buffer = vec![0; 65536];
    let receive = tokio::time::timeout(Duration::from_secs(20), server.recv(&mut buffer));
    let length = receive.await.expect("in time").expect("received");
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(text.contains("linkerd.rt.out.server.127_0_0_1.4140.requests:10|c"), "{text}");
    sending.abort();
}

#[test]
fn names_beyond_the_limit_are_counted() {
    let registry = Registry::new(Limits { children: 2, ..Limits::default() });
    let shard = registry.shard();
    for name in ["a", "b", "c", "d", "a", "c"] {
        shard.counter(&["service", name, "requests"]).inc();
    }
    assert_eq!(registry.overflowed(), 3);
    let snapshot = registry.snapshot();
    assert_eq!(snapshot.counter(&["telemetry", "overflowed"]), 3);
    assert_eq!(snapshot.counter(&["service", OVERFLOW, "requests"]), 3);
    let nothing = Registry::default();
    assert_eq!(metrics_json(&nothing.snapshot(), []).body, "{}", "shown only once there are any");
}
