//! OpenMetrics 1.0: the same series as [`Snapshot::to_prometheus`], with summaries and the `_total` of counters,
//! for whoever asks for `application/openmetrics-text`.
//!
//! ```text
//!  # TYPE rt:server:requests counter
//!  # HELP rt:server:requests Requests.
//!  rt:server:requests_total{rt="out",server="127.0.0.1/4140"} 10
//!  # EOF
//! ```
//! A histogram is a summary: quantiles of the last window, count and sum since the start.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::help::help;
use crate::histogram::{Summary, Total};
use crate::scoped::Scoped;
use crate::snapshot::{Snapshot, Value};

/// Of [`Snapshot::to_openmetrics`].
pub const OPENMETRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Counter,
    Gauge,
    Summary,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
        }
    }

    /// What a family called so takes: its name, and its samples'.
    fn names(self, family: &str) -> impl Iterator<Item = String> {
        let suffixes: &[&str] = match self {
            Kind::Counter => &["", "_total"],
            Kind::Gauge => &[""],
            Kind::Summary => &["", "_count", "_sum"],
        };
        suffixes.iter().map(move |suffix| format!("{family}{suffix}"))
    }
}

/// By labels.
type Samples = BTreeMap<String, Sample>;

#[derive(Debug, Clone, Copy)]
enum Sample {
    Counter(u64),
    Gauge(f64),
    Summary(Total, Summary),
}

struct Family {
    /// A path with stars.
    shape: String,
    samples: Samples,
}

impl Snapshot {
    /// `prefix` is put before every name; empty by default.
    pub fn to_openmetrics(&self, prefix: &str) -> String {
        let mut families = BTreeMap::<(String, Kind), Family>::new();
        for (path, value) in self.iter() {
            let scoped = Scoped::with_causes(&path);
            let (kind, sample) = match value {
                Value::Counter(count) => (Kind::Counter, Sample::Counter(count)),
                Value::Gauge(level) => (Kind::Gauge, Sample::Gauge(level)),
                Value::Stat(summary) => {
                    (Kind::Summary, Sample::Summary(self.total(&path).unwrap_or_default(), summary))
                }
            };
            let family = (family_name(prefix, &scoped, kind), kind);
            let family =
                families.entry(family).or_insert_with(|| Family { shape: scoped.shape, samples: Samples::new() });
            add(&mut family.samples, labels(&scoped.labels), sample);
        }
        let mut text = String::new();
        let mut taken = BTreeSet::new();
        for ((name, kind), family) in &families {
            // A name has one type, and is no sample of another; else its type becomes part of it, until it is free.
            let mut shown = name.clone();
            while kind.names(&shown).any(|name| taken.contains(&name)) {
                shown = format!("{shown}_{}", kind.name());
            }
            taken.extend(kind.names(&shown));
            family.show(&mut text, &shown, *kind);
        }
        text.push_str("# EOF\n");
        text
    }
}

impl Family {
    fn show(&self, text: &mut String, name: &str, kind: Kind) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# TYPE {name} {}", kind.name());
        let _ = writeln!(text, "# HELP {name} {}", escaped(&help(&self.shape)));
        for (labels, sample) in &self.samples {
            let braced = |more: &str| match (labels.as_str(), more) {
                ("", "") => String::new(),
                ("", more) => format!("{{{more}}}"),
                (labels, "") => format!("{{{labels}}}"),
                (labels, more) => format!("{{{labels},{more}}}"),
            };
            let _ = match sample {
                Sample::Counter(count) => writeln!(text, "{name}_total{} {count}", braced("")),
                Sample::Gauge(level) => writeln!(text, "{name}{} {}", braced(""), number(*level)),
                Sample::Summary(total, summary) => {
                    for (quantile, value) in quantiles(summary) {
                        let _ = writeln!(text, "{name}{} {value}", braced(&format!("quantile=\"{quantile}\"")));
                    }
                    let _ = writeln!(text, "{name}_count{} {}", braced(""), total.count);
                    writeln!(text, "{name}_sum{} {}", braced(""), total.sum)
                }
            };
        }
    }
}

/// Two paths can end up as one series, when letters were replaced that a name cannot hold.
fn add(samples: &mut Samples, labels: String, sample: Sample) {
    let known = samples.entry(labels).or_insert(match sample {
        Sample::Counter(_) => Sample::Counter(0),
        Sample::Gauge(_) => Sample::Gauge(0.0),
        Sample::Summary(_, summary) => Sample::Summary(Total::default(), summary),
    });
    match (known, sample) {
        (Sample::Counter(known), Sample::Counter(count)) => *known = known.wrapping_add(count),
        (Sample::Gauge(known), Sample::Gauge(level)) => *known += level,
        (Sample::Summary(known, first), Sample::Summary(total, summary)) => {
            *known = Total { count: known.count.wrapping_add(total.count), sum: known.sum.wrapping_add(total.sum) };
            // Quantiles cannot be added: those of the busier one tell more.
            if summary.count > first.count {
                *first = summary;
            }
        }
        // Samples of a family are of its kind.
        (_, _) => {}
    }
}

fn family_name(prefix: &str, scoped: &Scoped<'_>, kind: Kind) -> String {
    let mut name = format!("{prefix}{}", scoped.mangled());
    if kind == Kind::Counter
        && let Some(stem) = name.strip_suffix("_total")
    {
        name.truncate(stem.len());
    }
    if !name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_' || first == ':') {
        name.insert(0, '_');
    }
    name
}

pub(crate) fn quantiles(summary: &Summary) -> impl Iterator<Item = (&'static str, u64)> {
    let all = [
        ("0", summary.min),
        ("0.5", summary.p50),
        ("0.9", summary.p90),
        ("0.95", summary.p95),
        ("0.99", summary.p99),
        ("0.999", summary.p9990),
        ("0.9999", summary.p9999),
        ("1", summary.max),
    ];
    let some = summary.count > 0;
    all.into_iter().filter(move |_| some)
}

fn labels(labels: &[(&'static str, String)]) -> String {
    let shown = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    shown.collect::<Vec<_>>().join(",")
}

/// As both text formats write it.
pub(crate) fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => format!("{value:?}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Whether an `Accept` header asks for OpenMetrics at least as much as for plain text.
pub fn accepts_openmetrics(accept: &str) -> bool {
    let quality = |wanted: &str| {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let matches = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
            let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            matches.then(|| quality.map_or(1.0, |quality| quality.parse::<f64>().unwrap_or(0.0)))
        });
        ranges.fold(0.0, f64::max)
    };
    let openmetrics = quality("application/openmetrics-text");
    openmetrics > 0.0 && openmetrics >= quality("text/plain")
}
