//! The original's Prometheus text: `rt:service:requests{rt="out", service="svc/web"} 8`.
//!
//! Scopes that name a router, server, service or client become labels; failure causes and exception
//! classes become the label `exception`. No HELP or TYPE lines, as in the original.

use std::fmt::Write;

use crate::histogram::Summary;
use crate::scoped::Scoped;
use crate::snapshot::{Snapshot, Value};

impl Snapshot {
    /// `prefix` is put before every name; empty by default.
    pub fn to_prometheus(&self, prefix: &str) -> String {
        let mut text = String::new();
        for (path, value) in self.iter() {
            let series = Series::of(&path);
            match value {
                Value::Counter(count) => series.line(&mut text, prefix, "", None, &count.to_string()),
                Value::Gauge(level) => series.line(&mut text, prefix, "", None, &format!("{level:?}")),
                Value::Stat(summary) => series.summary(&mut text, prefix, &summary),
            }
        }
        text
    }
}

struct Series {
    name: String,
    labels: Vec<(&'static str, String)>,
}

impl Series {
    fn of(path: &[&str]) -> Series {
        let scoped = Scoped::with_causes(path);
        Series { name: scoped.mangled(), labels: scoped.labels }
    }

    fn line(&self, text: &mut String, prefix: &str, suffix: &str, quantile: Option<&str>, value: &str) {
        let mut labels =
            self.labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect::<Vec<_>>();
        labels.extend(quantile.map(|quantile| format!("quantile=\"{quantile}\"")));
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(", ")) };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{prefix}{}{suffix}{labels} {value}", self.name);
    }

    fn summary(&self, text: &mut String, prefix: &str, summary: &Summary) {
        self.line(text, prefix, "_count", None, &summary.count.to_string());
        self.line(text, prefix, "_sum", None, &summary.sum.to_string());
        self.line(text, prefix, "_avg", None, &format!("{:?}", summary.avg));
        if summary.count == 0 {
            return;
        }
        let quantiles = [
            ("0", summary.min),
            ("0.5", summary.p50),
            ("0.9", summary.p90),
            ("0.95", summary.p95),
            ("0.99", summary.p99),
            ("0.999", summary.p9990),
            ("0.9999", summary.p9999),
            ("1", summary.max),
        ];
        for (quantile, value) in quantiles {
            self.line(text, prefix, "", Some(quantile), &value.to_string());
        }
    }
}

/// The original turns each of backslash, quote and newline into two backslashes (so the quote is lost).
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for char in value.chars() {
        match char {
            '\\' | '"' | '\n' => escaped.push_str("\\\\"),
            other => escaped.push(other),
        }
    }
    escaped
}
