//! What an exporter did, for metrics, the admin server and the log.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

use super::Config;
use crate::handle::SharedCounter;
use crate::registry::Registry;

/// One exporter's counts. Spans and points of metrics are its items.
#[derive(Debug)]
pub(super) struct State {
    kind: &'static str,
    signal: &'static str,
    target: String,
    sample_rate: Option<f64>,
    sent: SharedCounter,
    pub(super) dropped: SharedCounter,
    exports: SharedCounter,
    failures: SharedCounter,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    last_success: Option<SystemTime>,
    last_error: Option<(SystemTime, String)>,
    fails: bool,
}

/// What an exporter tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `io.l5d.zipkin`
    pub kind: &'static str,
    /// `traces` or `metrics`
    pub signal: &'static str,
    pub target: String,
    pub sample_rate: Option<f64>,
    /// Spans, or points of metrics, that the collector took.
    pub sent: u64,
    /// That did not fit, that the collector refused, or that could not be sent in time.
    pub dropped: u64,
    /// Requests to the collector that it took.
    pub exports: u64,
    /// Those that it did not.
    pub failures: u64,
    /// Milliseconds since the Unix epoch.
    pub last_success_ms: Option<u64>,
    pub last_error_ms: Option<u64>,
    pub last_error: Option<String>,
    /// Whether the last request failed.
    pub failing: bool,
}

impl State {
    /// `waiting` tells how many requests are in the inbox.
    pub(super) fn of_traces(
        config: &Config,
        name: &str,
        rate: f64,
        registry: &Registry,
        waiting: impl Fn() -> usize + Send + Sync + 'static,
    ) -> Arc<State> {
        registry.gauge_with(&["telemetry", name, "traces", "queue_size"], move || waiting() as f64);
        State::new(config, name, "traces", Some(rate), registry)
    }

    pub(super) fn of_metrics(config: &Config, name: &str, registry: &Registry) -> Arc<State> {
        State::new(config, name, "metrics", None, registry)
    }

    fn new(
        config: &Config,
        name: &str,
        signal: &'static str,
        sample_rate: Option<f64>,
        registry: &Registry,
    ) -> Arc<State> {
        let counter = |what| registry.shared_counter(&["telemetry", name, signal, what]);
        Arc::new(State {
            kind: config.kind(),
            signal,
            target: config.target(),
            sample_rate,
            sent: counter("sent"),
            dropped: counter("dropped"),
            exports: counter("exports"),
            failures: counter("failures"),
            health: Mutex::default(),
        })
    }

    /// The collector took so many items, and not those that it rejected.
    pub(super) fn sent(&self, items: u64, rejected: u64) {
        self.sent.add(items.saturating_sub(rejected));
        self.dropped.add(rejected);
        self.exports.inc();
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.last_success = Some(SystemTime::now());
        if std::mem::take(&mut health.fails) {
            tracing::info!(kind = self.kind, signal = self.signal, target = %self.target, "exporting again");
        }
        if rejected > 0 {
            let text = format!("the collector rejected {rejected} of {items}");
            tracing::debug!(kind = self.kind, signal = self.signal, target = %self.target, "{text}");
            health.last_error = Some((SystemTime::now(), text));
        }
    }

    /// A request to the collector failed.
    pub(super) fn failed(&self, error: &str) {
        self.failures.inc();
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut health.fails, true) {
            tracing::warn!(kind = self.kind, signal = self.signal, target = %self.target, error, "cannot export");
        } else {
            tracing::debug!(kind = self.kind, signal = self.signal, target = %self.target, error, "cannot export");
        }
        health.last_error = Some((SystemTime::now(), error.to_owned()));
    }

    pub(super) fn report(&self) -> Report {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        let millis =
            |time: &SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        Report {
            kind: self.kind,
            signal: self.signal,
            target: self.target.clone(),
            sample_rate: self.sample_rate,
            sent: self.sent.value(),
            dropped: self.dropped.value(),
            exports: self.exports.value(),
            failures: self.failures.value(),
            last_success_ms: health.last_success.as_ref().map(millis),
            last_error_ms: health.last_error.as_ref().map(|(time, _)| millis(time)),
            last_error: health.last_error.as_ref().map(|(_, text)| text.clone()),
            failing: health.fails,
        }
    }
}
