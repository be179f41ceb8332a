//! InfluxDB's line protocol, as the original's `/admin/metrics/influxdb`: one line for all metrics right below
//! one scope.
//!
//! ```text
//!  rt:service,host=router-1:9990,rt=out,service=svc/web failures=1,request_latency_ms_p99=12,requests=8
//! ```
//! The original escapes nothing; here a blank, comma or `=` in a tag or field name has the backslash that the
//! protocol wants, without which such a line could not be read.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::histogram::Summary;
use crate::scoped::{Scoped, mangled};
use crate::snapshot::{Snapshot, Value};

/// Measurement and tags, and fields.
type Line = (String, Vec<(String, String)>);

impl Snapshot {
    /// `host` is the tag `host`: the Host of whoever asked. Lines in the order of paths.
    pub fn to_influxdb(&self, host: Option<&str>) -> String {
        // By the path of the scope: fields of one scope need not stand together in the order of paths.
        let mut lines = BTreeMap::<Vec<&str>, Line>::new();
        for (path, value) in self.iter() {
            let Some((field, scope)) = path.split_last() else { continue };
            let (_, fields) = lines.entry(scope.to_vec()).or_insert_with(|| (start(&path, host), Vec::new()));
            match value {
                Value::Counter(count) => fields.push(((*field).to_owned(), count.to_string())),
                // There is no way to write the others.
                Value::Gauge(level) if level.is_finite() => fields.push(((*field).to_owned(), format!("{level:?}"))),
                Value::Gauge(_) => {}
                Value::Stat(summary) => {
                    fields.extend(parts(&summary).map(|(part, value)| (format!("{field}_{part}"), value)));
                }
            }
        }
        let mut text = String::new();
        for (start, mut fields) in lines.into_values() {
            fields.sort();
            let fields = fields.iter().map(|(name, value)| format!("{}={value}", escaped(name))).collect::<Vec<_>>();
            if !fields.is_empty() {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{start} {}", fields.join(","));
            }
        }
        text
    }
}

/// Measurement and tags of the scope of a metric.
fn start(path: &[&str], host: Option<&str>) -> String {
    let scoped = Scoped::new(path);
    let above = scoped.name.split_last().map_or(&[][..], |(_, above)| above);
    let name = if above.is_empty() { "root".to_owned() } else { mangled(above) };
    let mut tags = scoped.labels;
    tags.push(("host", host.filter(|host| !host.is_empty()).unwrap_or("none").to_owned()));
    tags.sort();
    tags.iter().fold(name, |start, (tag, value)| format!("{start},{tag}={}", escaped(value)))
}

fn parts(summary: &Summary) -> impl Iterator<Item = (&'static str, String)> {
    let whole = [
        ("count", summary.count),
        ("sum", summary.sum),
        ("min", summary.min),
        ("max", summary.max),
        ("p50", summary.p50),
        ("p90", summary.p90),
        ("p95", summary.p95),
        ("p99", summary.p99),
        ("p999", summary.p9990),
        ("p9999", summary.p9999),
    ];
    let whole = whole.into_iter().map(|(part, value)| (part, value.to_string()));
    whole.chain([("avg", format!("{:?}", summary.avg))])
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            ' ' | ',' | '=' => escaped.extend(['\\', char]),
            // Would end the line, and cannot be escaped.
            '\n' | '\r' => escaped.push_str("\\ "),
            other => escaped.push(other),
        }
    }
    escaped
}
