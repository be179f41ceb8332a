//! All metrics, every interval: counters as cumulative sums, gauges, and histograms as summaries with the
//! quantiles of the last window. Scopes are attributes, as in OpenMetrics; names are joined by dots.
//!
//! ```text
//!  rt/out/service/svc/web/request_latency_ms ─▶ rt.service.request_latency_ms {rt="out", service="svc/web"} ms
//! ```

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::{MissedTickBehavior, timeout};

use super::proto::{
    Data, ExportMetrics, Gauge, KeyValue, Metric, Number, NumberPoint, Quantile, ResourceMetrics, ScopeMetrics, Sum,
    Summary, SummaryPoint,
};
use super::{Config, scope, text};
use crate::export::Task;
use crate::export::delivery::Undelivered;
use crate::export::http::Http;
use crate::help::help;
use crate::registry::Registry;
use crate::scoped::Scoped;
use crate::snapshot::{Snapshot, Value};

const CUMULATIVE: i32 = 2;
/// Points in one request: collectors bound the size of what they take.
const POINTS: usize = 5000;

/// Sends until all ends, and once more then. What could not be sent is part of what is sent next: sums are
/// cumulative.
pub(in crate::export) async fn run(config: Config, registry: Registry, mut task: Task) {
    let http = config.http("/v1/metrics");
    let started = now();
    let mut ticks = tokio::time::interval(config.metrics_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once, when there is nothing to tell.
    ticks.tick().await;
    loop {
        let over = tokio::select! {
            _ = ticks.tick() => false,
            _ = task.ending.wait_for(|over| *over) => true,
        };
        for (body, points) in requests(&config, &http, &registry.snapshot(), started, now()) {
            let sent = timeout(config.timeout, http.post(body)).await;
            let sent =
                sent.unwrap_or_else(|_| Err(Undelivered::later(format!("no answer within {:?}", config.timeout))));
            match sent {
                Ok(answer) => task.state.sent(points, config.rejected(&answer)),
                Err(undelivered) => {
                    task.state.dropped.add(points);
                    task.state.failed(&undelivered.text);
                    break;
                }
            }
        }
        if over {
            return;
        }
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Bodies, each with its number of points.
fn requests(config: &Config, http: &Http, snapshot: &Snapshot, started: u64, now: u64) -> Vec<(Bytes, u64)> {
    let mut requests = Vec::new();
    let (mut metrics, mut points) = (Vec::new(), 0);
    let mut all = families(snapshot, started, now).into_iter().peekable();
    while let Some((metric, count)) = all.next() {
        metrics.push(metric);
        points += count;
        if points >= POINTS || all.peek().is_none() {
            let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics: std::mem::take(&mut metrics) }];
            let resource_metrics = vec![ResourceMetrics { resource: Some(config.resource()), scope_metrics }];
            let body = config.encode(http, &ExportMetrics { resource_metrics });
            requests.push((body, std::mem::take(&mut points) as u64));
        }
    }
    requests
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Sum,
    Gauge,
    Summary,
}

/// Metrics of at most [`POINTS`] points, each with its number of points.
fn families(snapshot: &Snapshot, started: u64, now: u64) -> Vec<(Metric, usize)> {
    let mut families = BTreeMap::<(String, Kind), (String, Vec<NumberPoint>, Vec<SummaryPoint>)>::new();
    for (path, value) in snapshot.iter() {
        let scoped = Scoped::with_causes(&path);
        let attributes = scoped.labels.iter().map(|(name, value)| text(name, value)).collect();
        let kind = match value {
            Value::Counter(_) => Kind::Sum,
            Value::Gauge(_) => Kind::Gauge,
            Value::Stat(_) => Kind::Summary,
        };
        let name = scoped.mangled().replace(':', ".");
        let (_, numbers, summaries) = families.entry((name, kind)).or_insert((scoped.shape, Vec::new(), Vec::new()));
        match value {
            Value::Counter(count) => {
                numbers.push(number(attributes, started, now, Number::AsInt(i64::try_from(count).unwrap_or(i64::MAX))));
            }
            Value::Gauge(level) => numbers.push(number(attributes, 0, now, Number::AsDouble(level))),
            Value::Stat(summary) => {
                let total = snapshot.total(&path).unwrap_or_default();
                let quantile = |(quantile, value): (f64, u64)| Quantile { quantile, value: value as f64 };
                let quantiles = [
                    (0.0, summary.min),
                    (0.5, summary.p50),
                    (0.9, summary.p90),
                    (0.95, summary.p95),
                    (0.99, summary.p99),
                    (0.999, summary.p9990),
                    (0.9999, summary.p9999),
                    (1.0, summary.max),
                ];
                summaries.push(SummaryPoint {
                    attributes,
                    start_time_unix_nano: started,
                    time_unix_nano: now,
                    count: total.count,
                    sum: total.sum as f64,
                    quantile_values: if summary.count > 0 { quantiles.map(quantile).to_vec() } else { Vec::new() },
                });
            }
        }
    }
    let mut metrics = Vec::new();
    for ((name, kind), (shape, numbers, summaries)) in families {
        let mut add = |data, points| {
            let (description, unit) = (help(&shape), unit(&name).to_owned());
            metrics.push((Metric { name: name.clone(), description, unit, data: Some(data) }, points));
        };
        for points in numbers.chunks(POINTS) {
            let data_points = points.to_vec();
            let data = match kind {
                Kind::Sum => Data::Sum(Sum { data_points, aggregation_temporality: CUMULATIVE, is_monotonic: true }),
                Kind::Gauge | Kind::Summary => Data::Gauge(Gauge { data_points }),
            };
            add(data, points.len());
        }
        for points in summaries.chunks(POINTS) {
            add(Data::Summary(Summary { data_points: points.to_vec() }), points.len());
        }
    }
    metrics
}

fn number(attributes: Vec<KeyValue>, start_time_unix_nano: u64, time_unix_nano: u64, value: Number) -> NumberPoint {
    NumberPoint { attributes, start_time_unix_nano, time_unix_nano, value: Some(value) }
}

/// UCUM's sign of what a name ends in.
fn unit(name: &str) -> &'static str {
    if name.ends_with("_ms") {
        "ms"
    } else if name.ends_with("_us") {
        "us"
    } else if name.ends_with("_bytes") {
        "By"
    } else {
        ""
    }
}
