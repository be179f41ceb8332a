//! Telemeters that send traces: `io.l5d.zipkin`, `io.l5d.tracelog`, and `io.l5d.otlp`, which is ours and
//! sends metrics, too.

use std::time::Duration;

use ::telemetry::export::{Config, otlp, tracelog, zipkin};
use serde::Deserialize;
use serde_json::{Map, Value};
use tracing::Level;

use super::part::{At, Problems};

pub(super) const ZIPKIN: &str = "io.l5d.zipkin";
pub(super) const OTLP: &str = "io.l5d.otlp";
pub(super) const TRACELOG: &str = "io.l5d.tracelog";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ZipkinKeys {
    host: Option<String>,
    port: Option<u16>,
    sample_rate: Option<f64>,
    protocol: Option<String>,
    /// Accepted with every kind; only experimental kinds ask for it.
    #[serde(rename = "experimental")]
    _experimental: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TracelogKeys {
    sample_rate: Option<f64>,
    level: Option<String>,
    #[serde(rename = "experimental")]
    _experimental: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct OtlpKeys {
    endpoint: Option<String>,
    protocol: Option<String>,
    headers: Option<Map<String, Value>>,
    compression: Option<String>,
    timeout_ms: Option<u64>,
    traces: Option<bool>,
    sample_rate: Option<f64>,
    metrics: Option<bool>,
    metrics_interval_ms: Option<u64>,
    resource: Option<Map<String, Value>>,
    #[serde(rename = "experimental")]
    _experimental: Option<bool>,
}

/// `kind` is one of the three.
pub(super) fn read(kind: &str, rest: &Value, at: &At, problems: &mut Problems) -> Option<Config> {
    match kind {
        ZIPKIN => Some(Config::Zipkin(zipkin(problems.read(at, rest)?, at, problems))),
        TRACELOG => Some(Config::Tracelog(tracelog(&problems.read(at, rest)?, at, problems))),
        _ => Some(Config::Otlp(otlp(problems.read(at, rest)?, at, problems))),
    }
}

fn share(rate: Option<f64>, default: f64, at: &At, problems: &mut Problems) -> f64 {
    let rate = rate.unwrap_or(default);
    if !(0.0..=1.0).contains(&rate) {
        problems.add(&at.key("sampleRate"), format!("must be between 0.0 and 1.0, not {rate}"));
    }
    rate
}

fn zipkin(keys: ZipkinKeys, at: &At, problems: &mut Problems) -> zipkin::Config {
    problems.positive(at, "port", keys.port.map(u64::from));
    let default = zipkin::Config::default();
    let protocol = match keys.protocol.as_deref() {
        None | Some("scribe") => zipkin::Protocol::Scribe,
        Some("http") => zipkin::Protocol::Http,
        Some(other) => {
            problems.add(&at.key("protocol"), format!("`{other}` is not known: use `scribe` or `http`"));
            zipkin::Protocol::Scribe
        }
    };
    let host = keys.host.unwrap_or(default.host);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte);
    if host.is_empty() || !host.bytes().all(plain) {
        problems.add(&at.key("host"), format!("`{host}` is no host: use a name or an address, without a port"));
    }
    let sample_rate = share(keys.sample_rate, default.sample_rate, at, problems);
    zipkin::Config { host, port: keys.port.unwrap_or(default.port), sample_rate, protocol }
}

/// The rate is cut, as in the original.
fn tracelog(keys: &TracelogKeys, at: &At, problems: &mut Problems) -> tracelog::Config {
    let sample_rate = keys.sample_rate.unwrap_or(1.0).clamp(0.0, 1.0);
    let name = keys.level.as_deref().unwrap_or("INFO");
    // The original's levels.
    let level = match name.to_ascii_uppercase().as_str() {
        "FATAL" | "CRITICAL" | "ERROR" => Level::ERROR,
        "WARNING" => Level::WARN,
        "INFO" => Level::INFO,
        "DEBUG" => Level::DEBUG,
        "TRACE" | "ALL" => Level::TRACE,
        _ => {
            let text = format!("`{name}` is no level: use FATAL, CRITICAL, ERROR, WARNING, INFO, DEBUG, TRACE or ALL");
            problems.add(&at.key("level"), text);
            Level::INFO
        }
    };
    tracelog::Config { sample_rate, level }
}

fn otlp(keys: OtlpKeys, at: &At, problems: &mut Problems) -> otlp::Config {
    problems.positive(at, "timeoutMs", keys.timeout_ms);
    problems.positive(at, "metricsIntervalMs", keys.metrics_interval_ms);
    let default = otlp::Config::default();
    let endpoint = keys.endpoint.unwrap_or(default.endpoint);
    problems.note(&at.key("endpoint"), otlp::check_endpoint(&endpoint));
    let encoding = match keys.protocol.as_deref() {
        None | Some("http/protobuf") => otlp::Encoding::Protobuf,
        Some("http/json") => otlp::Encoding::Json,
        Some(other) => {
            let text = format!("`{other}` is not supported: use `http/protobuf` or `http/json`");
            problems.add(&at.key("protocol"), text);
            otlp::Encoding::Protobuf
        }
    };
    let gzip = match keys.compression.as_deref() {
        None | Some("none") => false,
        Some("gzip") => true,
        Some(other) => {
            problems.add(&at.key("compression"), format!("`{other}` is not known: use `gzip` or `none`"));
            false
        }
    };
    let headers = texts(keys.headers, &at.key("headers"), problems);
    for (name, value) in &headers {
        problems.note(&at.key("headers").key(name), otlp::check_header(name, value));
    }
    let (traces, metrics) = (keys.traces.unwrap_or(true), keys.metrics.unwrap_or(true));
    if !traces && !metrics {
        problems.add(at, "exports neither traces nor metrics: leave it out");
    }
    otlp::Config {
        endpoint,
        encoding,
        headers,
        gzip,
        timeout: keys.timeout_ms.map_or(default.timeout, Duration::from_millis),
        traces,
        sample_rate: share(keys.sample_rate, default.sample_rate, at, problems),
        metrics,
        metrics_interval: keys.metrics_interval_ms.map_or(default.metrics_interval, Duration::from_millis),
        resource: texts(keys.resource, &at.key("resource"), problems),
    }
}

/// A mapping of names to texts; numbers and truth values are taken as they are written.
fn texts(map: Option<Map<String, Value>>, at: &At, problems: &mut Problems) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    for (name, value) in map.unwrap_or_default() {
        match value {
            Value::String(text) => texts.push((name, text)),
            Value::Number(_) | Value::Bool(_) => texts.push((name, value.to_string())),
            other => problems.add(&at.key(&name), format!("expected a text, not `{other}`")),
        }
    }
    texts
}
