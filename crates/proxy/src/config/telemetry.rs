//! `telemetry` and `usage`.

use std::time::Duration;

use ::telemetry::{export, spans, statsd};
use serde::Deserialize;
use serde_json::Value;

use super::exporters;
use super::part::{At, Plugin, Problems};
use crate::admin::Prometheus;
use crate::settings::Recent;

const TELEMETER: Plugin = Plugin {
    what: "telemeter",
    default: None,
    built: &[
        PROMETHEUS,
        INFLUXDB,
        STATSD,
        "io.l5d.recentRequests",
        exporters::TRACELOG,
        exporters::ZIPKIN,
        exporters::OTLP,
    ],
    not_built: &[],
};
const PROMETHEUS: &str = "io.l5d.prometheus";
const INFLUXDB: &str = "io.l5d.influxdb";
const STATSD: &str = "io.l5d.statsd";
/// What is remembered is held in memory.
const MOST_REMEMBERED: usize = 100_000;

/// What is told, besides `/admin/metrics.json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// Paths are unique.
    pub prometheus: Vec<Prometheus>,
    pub recent_requests: Option<Recent>,
    /// `/admin/metrics/influxdb`
    pub influxdb: bool,
    /// Servers that everything is sent to.
    pub statsd: Vec<statsd::Config>,
    /// Those of traces, and of whatever is pushed.
    pub exporters: Vec<export::Config>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrometheusKeys {
    path: Option<String>,
    prefix: Option<String>,
    /// Accepted with every kind; only experimental kinds ask for it.
    #[serde(rename = "experimental")]
    _experimental: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InfluxdbKeys {
    #[serde(rename = "experimental")]
    _experimental: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct StatsdKeys {
    prefix: Option<String>,
    hostname: Option<String>,
    port: Option<u16>,
    gauge_interval_ms: Option<u64>,
    sample_rate: Option<f64>,
    #[serde(rename = "experimental")]
    _experimental: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RecentRequestsKeys {
    sample_rate: f64,
    capacity: Option<usize>,
    #[serde(rename = "experimental")]
    _experimental: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct UsageKeys {
    #[serde(rename = "orgId")]
    _org_id: Option<String>,
    enabled: Option<bool>,
}

pub(super) fn read(list: &[Value], at: &At, problems: &mut Problems) -> Telemetry {
    let mut telemetry = Telemetry::default();
    for (number, value) in list.iter().enumerate() {
        one(value, &at.nth(number), &mut telemetry, problems);
    }
    let traced = telemetry.exporters.iter().filter(|exporter| exporter.traces()).count();
    if traced > spans::MOST_EXPORTERS {
        problems.add(at, format!("{traced} of them take traces: there may be {}", spans::MOST_EXPORTERS));
    }
    telemetry
}

fn one(value: &Value, at: &At, telemetry: &mut Telemetry, problems: &mut Problems) -> Option<()> {
    if value.get("kind").and_then(Value::as_str) == Some(STATSD)
        && value.get("experimental") != Some(&Value::Bool(true))
    {
        let text = "The io.l5d.statsd telemeter is experimental and must be explicitly enabled by setting the \
                    `experimental' parameter to `true'.";
        problems.add(&at.key("kind"), text);
    }
    let (kind, rest) = problems.kind(at, value, &TELEMETER)?;
    if kind == INFLUXDB {
        problems.read::<InfluxdbKeys>(at, &rest)?;
        telemetry.influxdb = true;
        return Some(());
    }
    if [exporters::ZIPKIN, exporters::OTLP, exporters::TRACELOG].contains(&kind.as_str()) {
        telemetry.exporters.extend(exporters::read(&kind, &rest, at, problems));
        return Some(());
    }
    if kind == STATSD {
        let keys = problems.read(at, &rest)?;
        telemetry.statsd.push(statsd(keys, at, problems));
        return Some(());
    }
    if kind == PROMETHEUS {
        let prometheus = prometheus(problems.read(at, &rest)?, at, problems);
        if telemetry.prometheus.iter().any(|other| other.path == prometheus.path) {
            problems.add(&at.key("path"), format!("`{}` is told by another telemeter already", prometheus.path));
        }
        telemetry.prometheus.push(prometheus);
        return Some(());
    }
    let keys = problems.read::<RecentRequestsKeys>(at, &rest)?;
    if !(0.0..=1.0).contains(&keys.sample_rate) {
        problems.add(&at.key("sampleRate"), format!("must be between 0.0 and 1.0, not {}", keys.sample_rate));
    }
    let capacity = keys.capacity.unwrap_or(10);
    if capacity == 0 || capacity > MOST_REMEMBERED {
        problems.add(&at.key("capacity"), format!("must be between 1 and {MOST_REMEMBERED}, not {capacity}"));
    }
    if telemetry.recent_requests.is_some() {
        problems.add(&at.key("kind"), "recent requests are remembered once: leave one of them out");
    }
    telemetry.recent_requests = Some(Recent { sample_rate: keys.sample_rate, capacity });
    Some(())
}

fn prometheus(keys: PrometheusKeys, at: &At, problems: &mut Problems) -> Prometheus {
    let path = keys.path.unwrap_or_else(|| Prometheus::default().path);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if !path.starts_with('/') || !path.bytes().all(is_plain) {
        let text = format!("`{path}` is no path of an admin page: letters, digits, `.`, `_`, `-`, after a `/`");
        problems.add(&at.key("path"), text);
    } else if crate::admin::is_taken(&path) {
        problems.add(&at.key("path"), format!("`{path}` is another page of the admin server"));
    }
    Prometheus { path, prefix: keys.prefix.unwrap_or_default(), openmetrics: false }
}

fn statsd(keys: StatsdKeys, at: &At, problems: &mut Problems) -> statsd::Config {
    problems.positive(at, "port", keys.port.map(u64::from));
    problems.positive(at, "gaugeIntervalMs", keys.gauge_interval_ms);
    let default = statsd::Config::default();
    let sample_rate = keys.sample_rate.unwrap_or(default.sample_rate);
    if !(sample_rate > 0.0 && sample_rate <= 1.0) {
        let text = format!("must be greater than 0.0 and at most 1.0, not {sample_rate}");
        problems.add(&at.key("sampleRate"), text);
    }
    statsd::Config {
        prefix: keys.prefix.unwrap_or(default.prefix),
        hostname: keys.hostname.unwrap_or(default.hostname),
        port: keys.port.unwrap_or(default.port),
        interval: keys.gauge_interval_ms.map_or(default.interval, Duration::from_millis),
        sample_rate,
    }
}

/// Whether `usage` is there and not switched off: the original would send something.
pub(super) fn usage(value: &Value, at: &At, problems: &mut Problems) -> bool {
    problems.read::<UsageKeys>(at, value).is_some_and(|keys| keys.enabled.unwrap_or(true))
}
