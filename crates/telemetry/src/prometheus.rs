//! Prometheus' text format 0.0.4 with the original's names, labels, values and escapes:
//! `rt:service:requests{rt="out", service="svc/web"} 8`.
//!
//! Scopes that name a router, server, service or client become labels; failure causes and exception
//! classes become the label `exception`. The original writes neither HELP nor TYPE and its lines in no order; here
//! lines of one name stand together below their HELP and TYPE, as the format wants it.
//!
//! What a histogram shows is of its window, as in the original, and so rises and falls: all its parts are gauges,
//! each a family of its own. A summary's count would have to grow ([`Snapshot::to_openmetrics`] has those).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::rc::Rc;

use crate::help::help;
use crate::histogram::Summary;
use crate::openmetrics::{number, quantiles};
use crate::scoped::Scoped;
use crate::snapshot::{Snapshot, Value};

/// Of [`Snapshot::to_prometheus`].
pub const PROMETHEUS_TYPE: &str = "text/plain; version=0.0.4";

/// By name, and thus grouped.
type Families = BTreeMap<String, Family>;

struct Family {
    kind: Kind,
    help: String,
    samples: Vec<Sample>,
}

struct Sample {
    /// `rt="out", service="svc/web"`; a scope's many series share it.
    labels: Rc<str>,
    quantile: Option<&'static str>,
    number: Number,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    /// Counters and gauges whose names cannot be told apart.
    Untyped,
}

/// As it is written: the original's gauges have a decimal, its counts have none.
#[derive(Debug, Clone, Copy)]
enum Number {
    Whole(u64),
    Real(f64),
}

impl Snapshot {
    /// `prefix` is put before every name; empty by default.
    pub fn to_prometheus(&self, prefix: &str) -> String {
        let mut families = Families::new();
        let mut last = Rc::<str>::default();
        for (path, value) in self.iter() {
            let scoped = Scoped::with_causes(&path);
            let labels = labels(&scoped.labels);
            if *labels != *last {
                last = labels.into();
            }
            let name = name(prefix, &scoped);
            let mut series = Series { name, labels: &last, shape: &scoped.shape, families: &mut families };
            match value {
                Value::Counter(count) => series.add("", Kind::Counter, "", None, Number::Whole(count)),
                Value::Gauge(level) => series.add("", Kind::Gauge, "", None, Number::Real(level)),
                Value::Stat(summary) => series.add_summary(&summary),
            }
        }
        let mut text = String::new();
        for (name, mut family) in families {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {}", family.help, family.kind.name());
            family.samples.sort_by(|one, other| one.series().cmp(&other.series()));
            for same in family.samples.chunk_by(|one, other| one.series() == other.series()) {
                let number = same.iter().map(|sample| sample.number).reduce(Number::and);
                if let (Some(Sample { labels, quantile, .. }), Some(number)) = (same.first(), number) {
                    let (number, comma) = (number.shown(), if labels.is_empty() { "" } else { ", " });
                    let _ = match quantile {
                        None if labels.is_empty() => writeln!(text, "{name} {number}"),
                        None => writeln!(text, "{name}{{{labels}}} {number}"),
                        Some(quantile) => writeln!(text, "{name}{{{labels}{comma}quantile=\"{quantile}\"}} {number}"),
                    };
                }
            }
        }
        text
    }
}

impl Sample {
    fn series(&self) -> (&str, Option<&'static str>) {
        (&self.labels, self.quantile)
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Untyped => "untyped",
        }
    }
}

impl Number {
    fn shown(self) -> String {
        match self {
            Number::Whole(count) => count.to_string(),
            Number::Real(level) => number(level),
        }
    }

    /// Two paths can end up as one series, when letters were replaced that a name or label cannot hold.
    fn and(self, other: Number) -> Number {
        match (self, other) {
            (Number::Whole(one), Number::Whole(other)) => Number::Whole(one.wrapping_add(other)),
            (one, other) => Number::Real(one.real() + other.real()),
        }
    }

    fn real(self) -> f64 {
        match self {
            Number::Whole(count) => count as f64,
            Number::Real(level) => level,
        }
    }
}

/// Where one path's values go.
struct Series<'a> {
    name: String,
    labels: &'a Rc<str>,
    shape: &'a str,
    families: &'a mut Families,
}

impl Series<'_> {
    fn add(&mut self, suffix: &str, kind: Kind, remark: &str, quantile: Option<&'static str>, number: Number) {
        let new = || Family { kind, help: sentence(self.shape, remark), samples: Vec::new() };
        let family = self.families.entry(format!("{}{suffix}", self.name)).or_insert_with(new);
        if family.kind != kind {
            family.kind = Kind::Untyped;
        }
        family.samples.push(Sample { labels: self.labels.clone(), quantile, number });
    }

    fn add_summary(&mut self, summary: &Summary) {
        let of_window = [
            ("_count", "number of values in the last minute", Number::Whole(summary.count)),
            ("_sum", "sum of the values of the last minute", Number::Whole(summary.sum)),
            ("_avg", "average of the last minute", Number::Real(summary.avg)),
        ];
        for (suffix, remark, value) in of_window {
            self.add(suffix, Kind::Gauge, remark, None, value);
        }
        for (quantile, value) in quantiles(summary) {
            self.add("", Kind::Gauge, "quantiles of the last minute", Some(quantile), Number::Whole(value));
        }
    }
}

/// Whatever a path holds: letters, digits, `:` and `_`, and no digit first.
fn name(prefix: &str, scoped: &Scoped<'_>) -> String {
    let mut name = format!("{prefix}{}", scoped.mangled());
    if !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_' || first == ':') {
        name.insert(0, '_');
    }
    name
}

fn sentence(shape: &str, remark: &str) -> String {
    let help = help(shape).replace('\\', "\\\\").replace('\n', "\\n");
    match remark {
        "" => help,
        remark => format!("{}: {remark}.", help.trim_end_matches('.')),
    }
}

/// As the original: each of backslash, quote and line feed becomes an escaped backslash (so the quote is lost).
fn labels(labels: &[(&'static str, String)]) -> String {
    let shown = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", value.replace(['\\', '"', '\n'], "\\\\")));
    shown.collect::<Vec<_>>().join(", ")
}
