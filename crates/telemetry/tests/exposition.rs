//! The shapes of the original's metrics endpoints, from `observed/linkerd-metrics.md` of the reference.

use std::sync::mpsc::channel;
use std::time::Duration;

use telemetry::{History, Limits, OVERFLOW, Registry, metrics_json};

fn observed() -> Registry {
    let registry = Registry::default();
    let shard = registry.shard();
    shard.counter(&["rt", "out", "server", "127.0.0.1/4140", "requests"]).add(10);
    shard.counter(&["rt", "out", "service", "svc/down", "failures"]).inc();
    shard.counter(&["rt", "out", "service", "svc/down", "failures", "restartable"]).inc();
    shard.counter(&["rt", "out", "service", "svc/down", "failures", "restartable", "com.twitter.X"]).inc();
    shard.counter(&["rt", "out", "service", "svc/down", "retries", "total"]);
    shard.counter(&["rt", "out", "client", "#/io.l5d.fs/web", "service", "svc/web", "requests"]).add(8);
    shard.counter(&["rt", "out", "client", "#/io.l5d.fs/web", "service_creation", "failures", "com.twitter.X"]).add(5);
    shard.counter(&["rt", "out", "client", "#/io.l5d.fs/web", "exn", "com.twitter.X"]).add(2);
    shard.counter(&["rt", "out", "bindcache", "path", "misses"]).add(3);
    registry.gauge_with(&["rt", "out", "client", "#/io.l5d.fs/web", "loadbalancer", "size"], || 1.0);
    let latency = shard.stat(&["rt", "out", "service", "svc/web", "request_latency_ms"]);
    [1, 1, 1, 2, 2, 25, 30, 108].into_iter().for_each(|millis| latency.record(millis));
    registry
}

#[test]
fn prometheus_text_is_the_originals_below_help_and_type() {
    let shown = observed().snapshot().to_prometheus("");
    let expected = r##"# HELP rt:bindcache:path:misses Names that had to be bound.
# TYPE rt:bindcache:path:misses counter
rt:bindcache:path:misses{rt="out"} 3
# HELP rt:client:exceptions Exceptions, by class.
# TYPE rt:client:exceptions counter
rt:client:exceptions{rt="out", client="#/io.l5d.fs/web", exception="com.twitter.X"} 2
# HELP rt:client:loadbalancer:size Endpoints.
# TYPE rt:client:loadbalancer:size gauge
rt:client:loadbalancer:size{rt="out", client="#/io.l5d.fs/web"} 1.0
# HELP rt:client:service:requests Requests that ended or are under way.
# TYPE rt:client:service:requests counter
rt:client:service:requests{rt="out", client="#/io.l5d.fs/web", service="svc/web"} 8
# HELP rt:client:service_creation:failures:com_twitter_X rt/*/client/*/service_creation/failures/com.twitter.X of /admin/metrics.json.
# TYPE rt:client:service_creation:failures:com_twitter_X counter
rt:client:service_creation:failures:com_twitter_X{rt="out", client="#/io.l5d.fs/web"} 5
# HELP rt:server:requests Requests that ended or are under way.
# TYPE rt:server:requests counter
rt:server:requests{rt="out", server="127.0.0.1/4140"} 10
# HELP rt:service:failures Requests that failed.
# TYPE rt:service:failures counter
rt:service:failures{rt="out", service="svc/down"} 1
rt:service:failures{rt="out", service="svc/down", exception="restartable"} 1
rt:service:failures{rt="out", service="svc/down", exception="restartable:com.twitter.X"} 1
# HELP rt:service:request_latency_ms Milliseconds from a request's head to the end of its answer: quantiles of the last minute.
# TYPE rt:service:request_latency_ms gauge
rt:service:request_latency_ms{rt="out", service="svc/web", quantile="0"} 1
rt:service:request_latency_ms{rt="out", service="svc/web", quantile="0.5"} 2
rt:service:request_latency_ms{rt="out", service="svc/web", quantile="0.9"} 30
rt:service:request_latency_ms{rt="out", service="svc/web", quantile="0.95"} 108
rt:service:request_latency_ms{rt="out", service="svc/web", quantile="0.99"} 108
rt:service:request_latency_ms{rt="out", service="svc/web", quantile="0.999"} 108
rt:service:request_latency_ms{rt="out", service="svc/web", quantile="0.9999"} 108
rt:service:request_latency_ms{rt="out", service="svc/web", quantile="1"} 108
# HELP rt:service:request_latency_ms_avg Milliseconds from a request's head to the end of its answer: average of the last minute.
# TYPE rt:service:request_latency_ms_avg gauge
rt:service:request_latency_ms_avg{rt="out", service="svc/web"} 21.25
# HELP rt:service:request_latency_ms_count Milliseconds from a request's head to the end of its answer: number of values in the last minute.
# TYPE rt:service:request_latency_ms_count gauge
rt:service:request_latency_ms_count{rt="out", service="svc/web"} 8
# HELP rt:service:request_latency_ms_sum Milliseconds from a request's head to the end of its answer: sum of the values of the last minute.
# TYPE rt:service:request_latency_ms_sum gauge
rt:service:request_latency_ms_sum{rt="out", service="svc/web"} 170
# HELP rt:service:retries:total Requests that were tried again after an answer that the classifier calls retryable.
# TYPE rt:service:retries:total counter
rt:service:retries:total{rt="out", service="svc/down"} 0
"##;
    assert_eq!(shown, expected);
}

#[test]
fn labels_are_escaped_as_the_original_does_and_a_prefix_starts_every_name() {
    let registry = Registry::default();
    registry.shard().counter(&["rt", "o\"u\\t\n", "a-b"]).inc();
    let text = registry.snapshot().to_prometheus("linkerd_");
    let expected = "# HELP linkerd_rt:a_b rt/*/a-b of /admin/metrics.json.\n\
        # TYPE linkerd_rt:a_b counter\n\
        linkerd_rt:a_b{rt=\"o\\\\u\\\\t\\\\\"} 1\n";
    assert_eq!(text, expected);
}

#[test]
fn flat_and_nested_json_are_the_originals() {
    let registry = Registry::default();
    let shard = registry.shard();
    shard.counter(&["a", "b/c", "failures"]).add(2);
    shard.counter(&["a", "b/c", "failures", "x"]).add(1);
    shard.gauge(&["a", "dropped"]).set(3.0);
    let level = shard.gauge(&["a", "level"]);
    level.set(2.0);
    shard.stat(&["a", "quiet"]);
    shard.stat(&["a", "took"]).record(7);
    let snapshot = registry.snapshot();
    let flat = r#"{"a/b/c/failures":2,"a/b/c/failures/x":1,"a/level":2.0,"a/quiet.count":0,"a/took.avg":7.0,"a/took.count":1,"a/took.max":7,"a/took.min":7,"a/took.p50":7,"a/took.p90":7,"a/took.p95":7,"a/took.p99":7,"a/took.p9990":7,"a/took.p9999":7,"a/took.sum":7}"#;
    assert_eq!(metrics_json(&snapshot, []).body, flat);
    let tree = r#"{"counter":2,"x":{"counter":1}}"#;
    assert_eq!(metrics_json(&snapshot, [("tree", "1"), ("q", "a/b/c/failures")]).status, 404);
    let whole = metrics_json(&snapshot, [("tree", "1")]).body;
    assert!(
        whole.starts_with(&format!(
            r#"{{"a":{{"b/c":{{"failures":{tree}}},"level":{{"gauge":2.0}},"quiet":{{"stat.count":0}},"#
        )),
        "{whole}"
    );
    let sub = metrics_json(&snapshot, [("q", "a/level"), ("tree", "1"), ("pretty", "1")]);
    assert_eq!(sub.body, "{\n  \"gauge\": 2.0\n}");
    let missing = metrics_json(&snapshot, [("q", "no/such")]);
    assert_eq!((missing.status, missing.body.as_str()), (404, r#"{"error": "No such subtree: no/such"}"#));
}

#[test]
fn one_path_in_many_threads_is_summed_and_counts_outlive_their_handles() {
    let registry = Registry::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let shard = registry.shard();
            scope.spawn(move || {
                let counter = shard.counter(&["n"]);
                (0..1000).for_each(|_| counter.inc());
            });
        }
    });
    let shared = registry.shared_counter(&["n"]);
    shared.clone().add(5);
    assert_eq!(registry.snapshot().counter(&["n"]), 4005);
    drop(shared);
    assert_eq!(registry.snapshot().counter(&["n"]), 4005);
}

#[test]
fn a_subtree_is_pruned_by_whoever_drops_the_last_handle() {
    let registry = Registry::default();
    let (first, second) = (registry.shard(), registry.shard());
    let kept = first.counter(&["rt", "out", "service", "svc/ab", "requests"]);
    let one = first.counter(&["rt", "out", "service", "svc/a", "requests"]);
    let other = second.counter(&["rt", "out", "service", "svc/a", "requests"]);
    drop(one);
    assert!(!registry.prune(&["rt", "out", "service", "svc/a"]));
    assert_eq!(registry.snapshot().children(&["rt", "out", "service"]), ["svc/a", "svc/ab"]);
    drop(other);
    assert!(registry.prune(&["rt", "out", "service", "svc/a"]));
    assert_eq!(registry.snapshot().children(&["rt", "out", "service"]), ["svc/ab"]);
    kept.inc();
    assert_eq!(registry.snapshot().counter(&["rt", "out", "service", "svc/ab", "requests"]), 1);
}

#[test]
fn children_beyond_the_limit_share_one_series_until_some_are_pruned() {
    let registry = Registry::new(Limits { children: 2, ..Limits::default() });
    let shard = registry.shard();
    for name in ["a", "b", "c", "d", "a"] {
        shard.counter(&["service", name, "requests"]).inc();
    }
    let snapshot = registry.snapshot();
    assert_eq!(snapshot.counter(&["service", "a", "requests"]), 2);
    assert_eq!(snapshot.counter(&["service", OVERFLOW, "requests"]), 2);
    assert!(registry.prune(&["service", "a"]));
    shard.counter(&["service", "e", "requests"]).inc();
    assert_eq!(registry.snapshot().counter(&["service", "e", "requests"]), 1);
}

#[test]
fn a_histogram_shows_the_running_window_and_later_the_last_whole_one() {
    let registry = Registry::new(Limits { window: Duration::from_secs(60), ..Limits::default() });
    let stat = registry.shard().stat(&["took"]);
    let count = || registry.snapshot().stat(&["took"]).map(|summary| summary.count);
    registry.tick(Duration::from_secs(100));
    stat.record(5);
    assert_eq!(count(), Some(1));
    registry.tick(Duration::from_secs(159));
    stat.record(6);
    assert_eq!(count(), Some(2));
    registry.tick(Duration::from_secs(160));
    stat.record(7);
    assert_eq!(count(), Some(2), "the last whole window");
    registry.tick(Duration::from_secs(220));
    assert_eq!(registry.snapshot().stat(&["took"]).map(|summary| (summary.count, summary.max)), Some((1, 7)));
    registry.end_window();
    assert_eq!(count(), Some(0));
}

#[test]
fn a_name_that_was_pruned_while_a_window_ended_begins_anew() {
    let registry = Registry::default();
    let (shard, over) = (registry.shard(), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                registry.end_window();
            }
        });
        for round in 0..2000 {
            shard.stat(&["service", "a", "took"]).record(7);
            assert!(registry.prune(&["service", "a"]));
            let took = shard.stat(&["service", "a", "took"]);
            let count = registry.snapshot().stat(&["service", "a", "took"]).map(|summary| summary.count);
            drop(took);
            if count != Some(0) {
                over.store(true, std::sync::atomic::Ordering::Relaxed);
                panic!("round {round}: {count:?} of another's window");
            }
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn history_columns_hold_differences_and_forget_the_oldest() {
    let registry = Registry::default();
    let shard = registry.shard();
    let scope = ["rt", "out", "service", "svc/web"];
    let requests = shard.counter(&["rt", "out", "service", "svc/web", "requests"]);
    let failures = shard.counter(&["rt", "out", "service", "svc/web", "failures"]);
    let latency = shard.stat(&["rt", "out", "service", "svc/web", "request_latency_ms"]);
    let mut history = History::new(2);
    for second in [5, 10, 15] {
        requests.add(second);
        failures.inc();
        latency.record(second);
        history.sample(&registry, Duration::from_secs(second));
    }
    let series = history.get(&scope).expect("sampled");
    let shown = series.columns().map(|column| (column.requests, column.failures, column.latency_ms.quantile(0.5)));
    assert_eq!(shown.collect::<Vec<_>>(), [(10, 1, 10), (15, 1, 15)]);
    let total = series.total(Duration::from_secs(5));
    assert_eq!((total.requests, total.length, total.latency_ms.count()), (25, Duration::from_secs(10), 2));
    drop((requests, failures, latency));
    registry.prune(&scope);
    history.sample(&registry, Duration::from_secs(20));
    assert_eq!(history.get(&scope).map(|series| series.columns().count()), None);
}

#[test]
fn the_process_describes_itself() {
    let registry = Registry::default();
    telemetry::register_process(&registry);
    let snapshot = registry.snapshot();
    assert!(snapshot.gauge(&["process", "resident_bytes"]).expect("gauge") > 100_000.0);
    assert!(snapshot.gauge(&["process", "threads"]).expect("gauge") >= 1.0);
    assert!(snapshot.gauge(&["jvm", "num_cpus"]).expect("gauge") >= 1.0);
}

#[test]
fn a_registry_is_read_in_parts_and_whole() {
    let registry = Registry::default();
    let shards = [registry.shard(), registry.shard()];
    let counter = |number: usize| {
        let counter = shards[number % 2].counter(&["rt", "out", "client", &format!("c{number}"), "requests"]);
        counter.add(number as u64);
        counter
    };
    let counters: Vec<_> = (0..1000).map(counter).collect();
    let mut history = History::new(3);
    history.sample(&registry, Duration::from_secs(5));
    counters[777].add(1);
    history.sample(&registry, Duration::from_secs(10));
    history.sample(&registry, Duration::from_secs(15));
    let snapshot = registry.snapshot();
    for number in 0..1000 {
        let path = ["rt", "out", "client", &format!("c{number}")];
        let count = number as u64 + u64::from(number == 777);
        assert_eq!(snapshot.counter(&[path[0], path[1], path[2], path[3], "requests"]), count);
        // Columns in which nothing happened are there, too.
        let columns = history.get(&path).expect("sampled").columns();
        let columns: Vec<_> = columns.map(|column| (column.end.as_secs(), column.requests)).collect();
        assert_eq!(columns, [(10, u64::from(number == 777)), (15, 0)], "{number}");
    }
}

#[test]
fn paths_of_one_element_and_paths_that_go_on_are_pruned_alone() {
    let registry = Registry::default();
    let shard = registry.shard();
    let kept = [shard.counter(&["a"]), shard.counter(&["a", "bc"]), shard.counter(&["ab"])];
    drop([shard.counter(&["a", "b"]), shard.counter(&["a", "b", "c"]), shard.counter(&["x"])]);
    assert!(!registry.prune(&["a"]), "it has handles");
    assert!(registry.prune(&["a", "b"]) && registry.prune(&["x"]) && registry.prune(&["nobody", "knows"]));
    let snapshot = registry.snapshot();
    let paths = snapshot.iter().map(|(path, _)| path.join("/")).collect::<Vec<_>>();
    assert_eq!(paths, ["a", "a/bc", "ab"], "in the order of paths");
    drop(kept);
    assert!(registry.prune(&[]));
    assert_eq!(registry.snapshot().iter().count(), 0);
}

#[test]
fn a_worker_neither_waits_for_a_reader_nor_loses_what_it_registers_meanwhile() {
    let registry = Registry::new(Limits { children: 1_000_000, ..Limits::default() });
    let shard = registry.shard();
    let (first, reader) = (shard.counter(&["first"]), registry.clone());
    let ((began, reading), (done, wait)) = (channel(), channel());
    // Asked while the registry is held, until the worker is done.
    let read = std::thread::spawn(move || {
        let slow = |_: std::str::Split<'_, char>| began.send(()).and(Ok(wait.recv().is_ok())).unwrap_or(false);
        reader.snapshot_matching(slow).iter().count()
    });
    reading.recv().expect("it reads");
    let counters = (0..100).map(|n| shard.counter(&["n", &n.to_string(), "requests"])).collect::<Vec<_>>();
    counters.iter().for_each(telemetry::Counter::inc);
    shard.prune(&["n", "7"]);
    done.send(()).expect("it waits");
    assert_eq!(read.join().expect("read"), 1, "what there was when it began");
    let seven = ["n", "7", "requests"];
    assert_eq!(registry.snapshot().counter(&seven), 1, "it was held when the pruning had its turn");
    drop(counters);
    shard.prune(&["n", "8"]);
    let snapshot = registry.snapshot();
    assert_eq!((snapshot.counter(&seven), snapshot.children(&["n"]).len()), (1, 99), "nobody held 8");
    drop(first);
}
