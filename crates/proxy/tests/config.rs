//! Which documents are taken, and how they are understood; which are refused, and with which words:
//! these are what an operator sees.

use std::net::SocketAddr;
use std::time::Duration;

use balance::accrual::Policy;
use balance::{Aperture, Backoff, BudgetConfig, Strategy};
use names::Path;
use proxy::config::{self, Config};
use proxy::settings::{
    AccessLog, Classifier, Compression, Forwarded, Identifier, Labeler, LoadBalancer, Roll, Session, SocketOptions,
};
use serde_json::{Value, json};

fn document(yaml: &str) -> Result<Value, String> {
    serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
}

fn read(yaml: &str) -> Result<Config, Vec<String>> {
    let document = document(yaml).map_err(|error| vec![error])?;
    let problems = |problems: Vec<config::Problem>| problems.iter().map(ToString::to_string).collect();
    config::read(&document).finish([]).map_err(problems)
}

#[track_caller]
fn accepted(yaml: &str) -> Config {
    read(yaml).unwrap_or_else(|problems| panic!("refused:\n{yaml}\n{}", problems.join("\n")))
}

#[test]
fn bad_documents_are_refused_with_these_words() {
    let mut checked = 0;
    for case in include_str!("vectors/config_refused.txt").split("== ").skip(1) {
        let (name, rest) = case.split_once('\n').expect("a name");
        let (yaml, expected) = rest.split_once("--\n").expect("what is expected");
        let found = read(yaml).map_or_else(|problems| problems.join("\n"), |config| format!("accepted: {config:#?}"));
        assert_eq!(found, expected.trim_end(), "{name}\n{yaml}");
        checked += 1;
    }
    assert!(checked > 50, "{checked}");
}

#[test]
fn the_originals_verdicts_on_documents_hold() {
    let vectors: Value = serde_json::from_str(include_str!("vectors/errors.json")).expect("vectors");
    let mut checked = 0;
    for case in vectors.as_array().expect("a list") {
        let id = case["id"].as_str().unwrap_or_default();
        if !id.starts_with("cfg-") {
            continue;
        }
        let expect = &case["expect"];
        match (read(case["config"]["yaml"].as_str().expect(id)), expect["rejected"].as_bool()) {
            (Ok(config), Some(false)) => {
                let listens: Vec<String> =
                    config.settings.routers[0].servers.iter().map(|s| s.address.to_string()).collect();
                if !expect["servers"].is_null() {
                    assert_eq!(json!(listens), expect["servers"], "{id}");
                    assert_eq!(json!(config.admin.address.to_string()), expect["admin"], "{id}");
                }
            }
            (Err(problems), Some(true)) => {
                let said = problems.join("\n");
                for text in expect["mentions"].as_array().into_iter().flatten() {
                    assert!(said.contains(text.as_str().expect(id)), "{id}: {said}");
                }
            }
            (found, _) => panic!("{id}: {found:?}"),
        }
        checked += 1;
    }
    assert_eq!(checked, 9);
}

#[test]
fn defaults_are_the_originals() {
    let config = accepted("routers:\n- protocol: http\n  servers: [{}]\n  client:\ntelemetry:\n");
    let router = &config.settings.routers[0];
    assert_eq!(router.label, "http");
    assert_eq!(router.servers[0].address, SocketAddr::from(([127, 0, 0, 1], 4140)));
    assert_eq!(router.dst_prefix, Path::read("/svc").expect("a path"));
    assert_eq!(router.identifiers, [Identifier::HeaderToken { header: "Host".into() }]);
    assert_eq!(router.binding_timeout, Duration::from_secs(10));
    assert_eq!((router.limits.line, router.limits.headers, router.stream_after), (4096, 8192, 5120));
    assert!(router.client.entries.is_empty() && router.service.entries.is_empty());
    assert_eq!(config.admin.address, SocketAddr::from(([127, 0, 0, 1], 9990)));
    assert_eq!(config.admin.shutdown_grace, Duration::from_secs(10));
    assert_eq!((config.telemetry, config.usage), (config::Telemetry::default(), false));
}

const FULL: &str = "
admin: {ip: 0.0.0.0, port: 9999, shutdownGraceMs: 500, workerThreads: 3, socketOptions: {noDelay: true},
        security: {uiEnabled: false, pathWhitelist: ['/admin/.*']}}
usage: {orgId: somebody}
namers:
- {kind: io.l5d.fs, rootDir: disco}
- {kind: io.l5d.rewrite, prefix: /a, pattern: /b, name: /c}
telemetry:
- {kind: io.l5d.prometheus, path: /metrics, prefix: l5d_}
- {kind: io.l5d.influxdb}
- {kind: io.l5d.statsd, experimental: true}
- {kind: io.l5d.statsd, experimental: true, prefix: r1, hostname: stats, port: 9125, gaugeIntervalMs: 500, sampleRate: 1}
- {kind: io.l5d.recentRequests, sampleRate: 0.25, capacity: 50}
routers:
- protocol: http
  label: out
  dtab: /svc => /#/io.l5d.fs
  dstPrefix: /http
  identifier: [{kind: io.l5d.methodAndHost, httpUriInDst: true}, {kind: io.l5d.path, segments: 2, consume: true},
               {kind: io.l5d.header, header: X-Name}, {kind: io.l5d.header.token}, {kind: io.l5d.static, path: /a/b}]
  bindingTimeoutMs: 250
  bindingCache: {paths: 10, trees: 11, bounds: 12, clients: 13, idleTtlSecs: 14}
  maxHeadersKB: 16
  maxInitialLineKB: 8
  maxErrResponseKB: 1
  streamAfterContentLengthKB: 0
  streamingEnabled: true
  compressionLevel: 9
  originator: true
  httpAccessLog: logs/access.log
  httpAccessLogRollPolicy: Weekly(2)
  httpAccessLogAppend: false
  httpAccessLogRotateCount: 3
  announcers: []
  experimental: false
  tracePropagator: {kind: io.l5d.default}
  interpreter: {transformers: [{kind: io.l5d.port, port: 4141}]}
  servers:
  - {ip: '::1', port: 4140, label: x, maxConcurrentRequests: 7, clearContext: true, maxCallDepth: 3, announce: [],
     timeoutMs: 5000, serverSession: {idleTimeMs: 60000, lifeTimeMs: 600000}, timestampHeader: X-Start, addForwardedHeader: {by: {kind: 'ip:port'}, for: {kind: static, label: me}}}
  - {port: 4140, addForwardedHeader: {}, socketOptions: {noDelay: false, reuseAddr: false, reusePort: true,
     readTimeoutMs: 61000, writeTimeoutMs: 62000, keepAlive: true, backlog: 128}}
  client:
    kind: io.l5d.static
    configs:
    - prefix: /#/io.l5d.fs
      loadBalancer: {kind: aperture, smoothWindowMs: 1000, lowLoad: 0.1, highLoad: 3, minAperture: 2, maxEffort: 4, enableProbation: true}
      failFast: true
      clientSession: {idleTimeMs: 1000}
      socketOptions: {keepAlive: false}
      tls: {enabled: false}
      hostConnectionPool: {minSize: 1, maxSize: 5, idleTimeMs: 1000, maxWaiters: 9}
      failureAccrual: {kind: io.l5d.successRateWindowed, successRate: 0.9, window: 20, backoff: {kind: constant, ms: 100}}
    - prefix: '/#/io.l5d.fs/{name}'
      requestAttemptTimeoutMs: 30
      requeueBudget: {percentCanRetry: 0.5}
      failureAccrual: {kind: none}
  service:
    totalTimeoutMs: 1000
    retries: {budget: {ttlSecs: 5, minRetriesPerSec: 0}, backoff: {kind: jittered, minMs: 1, maxMs: 2}}
    responseClassifier: {kind: io.l5d.http.retryableRead5XX}
- protocol: http
  label: in
  servers: [{port: 4141}]
  client: {failureAccrual: {kind: io.l5d.consecutiveFailures}}
";

#[test]
fn every_key_arrives_in_the_settings() {
    let config = accepted(FULL);
    let [router, second] = config.settings.routers.as_slice() else { panic!("two routers") };
    assert_eq!((router.label.as_str(), second.label.as_str()), ("out", "in"));
    assert_eq!(router.dtab.to_string(), "/svc=>/#/io.l5d.fs");
    assert_eq!(router.dst_prefix.to_string(), "/http");
    let identifiers = [
        Identifier::MethodAndHost { uri: true },
        Identifier::Path { segments: 2, consume: true },
        Identifier::Header { header: "X-Name".into() },
        Identifier::HeaderToken { header: "Host".into() },
        Identifier::Static { path: Path::read("/a/b").expect("a path") },
    ];
    assert_eq!(router.identifiers, identifiers);
    assert_eq!(router.binding_timeout, Duration::from_millis(250));
    let cache = router.binding_cache;
    let sizes = (cache.paths, cache.trees, cache.bounds, cache.clients, cache.idle_ttl.as_secs());
    assert_eq!(sizes, (10, 11, 12, 13, 14));
    let limits = router.limits;
    assert_eq!((limits.line, limits.headers, limits.error, router.stream_after), (8192, 16384, 1024, 0));
    assert_eq!((router.streaming, router.compression, router.originator), (true, Some(Compression::All(9)), true));
    let log = AccessLog { path: "logs/access.log".into(), roll: Roll::Weekly(2), append: false, keep: Some(3) };
    assert_eq!(router.access_log, Some(log));
    assert_eq!((second.streaming, second.compression, second.originator), (true, None, false));
    assert_eq!(second.access_log, None);

    let [server, other] = router.servers.as_slice() else { panic!("two servers") };
    assert_eq!(server.address.to_string(), "[::1]:4140");
    assert_eq!((server.max_concurrent, server.clear_context, server.max_call_depth), (Some(7), true, 3));
    assert_eq!(server.timestamp_header.as_deref(), Some("X-Start"));
    assert_eq!(server.timeout, Some(Duration::from_secs(5)));
    let session = Session { idle: Some(Duration::from_secs(60)), life: Some(Duration::from_secs(600)) };
    assert_eq!((server.session, other.session), (session, Session::default()));
    let socket = SocketOptions {
        no_delay: false,
        reuse_addr: false,
        reuse_port: true,
        read_timeout: Some(Duration::from_secs(61)),
        write_timeout: Some(Duration::from_secs(62)),
        keep_alive: Some(true),
        backlog: Some(128),
    };
    assert_eq!((server.socket, other.socket), (SocketOptions::default(), socket));
    let forwarded = Forwarded { by: Labeler::IpPort, client: Labeler::Static { label: "me".into() } };
    assert_eq!((&server.forwarded, &other.forwarded), (&Some(forwarded), &Some(Forwarded::default())));

    let [(_, first), (pattern, named)] = router.client.entries.as_slice() else { panic!("two clients") };
    let aperture = Aperture { max_effort: 4, window: 1_000_000_000, low: 0.1, high: 3.0, min: 2 };
    assert_eq!(first.load_balancer, Some(LoadBalancer { strategy: Strategy::Aperture(aperture), probation: true }));
    assert_eq!(named.load_balancer, None);
    assert_eq!((first.fail_fast, named.fail_fast), (Some(true), None));
    assert_eq!(first.session, Some(Session { idle: Some(Duration::from_secs(1)), life: None }));
    assert_eq!(first.socket, Some(SocketOptions { keep_alive: Some(false), ..SocketOptions::default() }));
    let pool = first.pool.expect("a pool");
    let idle = Some(Duration::from_secs(1));
    assert_eq!((pool.min, pool.max, pool.idle, pool.max_waiters), (1, Some(5), idle, Some(9)));
    let accrual = first.accrual.expect("accrual");
    assert_eq!(accrual.policy, Policy::SuccessRateWindowed { success_rate: 0.9, window: 20_000_000_000 });
    assert_eq!(accrual.backoff, Backoff::constant(100));
    assert!(pattern.captures(&Path::read("/#/io.l5d.fs/web").expect("a path")).is_some());
    assert_eq!((named.pool, named.attempt_timeout), (None, Some(Duration::from_millis(30))));
    assert_eq!(named.accrual.expect("accrual").policy, Policy::None);
    let requeues = BudgetConfig { percent_can_retry: 0.5, ..BudgetConfig::default() };
    assert_eq!(named.requeue_budget, Some(requeues));

    let [(_, service)] = router.service.entries.as_slice() else { panic!("one service") };
    assert_eq!(service.total_timeout, Some(Duration::from_secs(1)));
    let budget = BudgetConfig { ttl_secs: 5, min_retries_per_sec: 0, percent_can_retry: 0.2 };
    assert_eq!(service.retry_budget, Some(budget));
    assert_eq!(service.backoff, Backoff::jittered(1, 2).ok());
    assert_eq!(service.classifier, Some(Classifier::RetryableRead5xx));
    let accrual = second.client.entries[0].1.accrual.expect("accrual");
    assert_eq!((accrual.policy, accrual.backoff), (Policy::ConsecutiveFailures { failures: 5 }, Backoff::ACCRUAL));

    assert_eq!(config.admin.address.to_string(), "0.0.0.0:9999");
    assert_eq!(config.admin.shutdown_grace, Duration::from_millis(500));
    assert_eq!(config.admin.worker_threads, Some(3));
    let allowed =
        ["/admin/ping", "/delegator"].map(|path| config.admin.security.allows(path, &proxy::admin::CATEGORIES));
    assert_eq!(allowed, [true, false]);
    let prometheus: Vec<_> = config.telemetry.prometheus.iter().map(|p| (p.path.as_str(), p.prefix.as_str())).collect();
    assert_eq!(prometheus, [("/metrics", "l5d_")]);
    assert!(config.telemetry.influxdb && !config.telemetry.prometheus[0].openmetrics);
    let [plain, statsd] = config.telemetry.statsd.as_slice() else { panic!("two statsd servers") };
    assert_eq!(*plain, telemetry::statsd::Config::default());
    assert_eq!((statsd.prefix.as_str(), statsd.hostname.as_str(), statsd.port), ("r1", "stats", 9125));
    assert_eq!((statsd.interval, statsd.sample_rate), (Duration::from_millis(500), 1.0));
    let recent = config.telemetry.recent_requests.expect("recent requests");
    assert_eq!((recent.sample_rate, recent.capacity), (0.25, 50));
    assert_eq!((router.recent, second.recent), (recent, recent));
    assert!(config.usage);
}

#[test]
fn every_load_balancer_has_the_originals_defaults() {
    let expected = [
        ("p2c", Strategy::P2c { max_effort: 5 }),
        ("ewma", Strategy::Ewma { max_effort: 5, decay: 10_000_000_000 }),
        (
            "aperture",
            Strategy::Aperture(Aperture { max_effort: 5, window: 5_000_000_000, low: 0.5, high: 2.0, min: 1 }),
        ),
        ("heap", Strategy::Heap),
        ("roundRobin", Strategy::RoundRobin),
    ];
    for (kind, strategy) in expected {
        let yaml =
            format!("routers:\n- protocol: http\n  servers: [{{}}]\n  client: {{loadBalancer: {{kind: {kind}}}}}\n");
        let config = accepted(&yaml);
        let found = config.settings.routers[0].client.entries[0].1.load_balancer;
        assert_eq!(found, Some(LoadBalancer { strategy, probation: false }), "{kind}");
    }
}

#[test]
fn what_is_not_ours_to_read_is_handed_on_with_its_path() {
    let draft = config::read(&document(FULL).expect("a document"));
    let raw = |list: &[config::Raw]| {
        list.iter()
            .map(|raw| (raw.path.clone(), raw.value["kind"].as_str().unwrap_or_default().to_owned()))
            .collect::<Vec<_>>()
    };
    let named =
        |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    assert_eq!(raw(&draft.namers), named(&[("namers[0]", "io.l5d.fs"), ("namers[1]", "io.l5d.rewrite")]));
    let expected = named(&[("routers[0].interpreter", "default"), ("routers[1].interpreter", "default")]);
    assert_eq!(raw(&draft.interpreters), expected);
    assert_eq!(draft.interpreters[0].value["transformers"][0]["port"], 4141);
    let more = config::Problem { path: "namers[0].rootDir".into(), message: "is no directory".into() };
    assert_eq!(draft.finish([more.clone()]).expect_err("refused"), [more]);
}

#[test]
fn the_shown_config_has_the_kinds_that_were_left_out() {
    let config =
        accepted("routers:\n- protocol: http\n  servers: [{}]\n  client: {failFast: false}\n  interpreter: {}\n");
    let expected = json!({ "routers": [{
        "protocol": "http", "servers": [{}],
        "client": { "failFast": false, "kind": "io.l5d.global" }, "interpreter": { "kind": "default" },
    }] });
    assert_eq!(config.shown, expected);
}
