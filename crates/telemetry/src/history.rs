//! The last minutes per router part, for pages: columns of requests, failures and latencies, made by the
//! control thread from differences of totals. The data plane knows nothing of it.
//!
//! ```text
//!  rt/outgoing/service/svc/world   … [5 s: 980 requests, 2 failures, latencies] [5 s: …] ← now
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::histogram::{Distribution, Reading};
use crate::registry::Registry;
use crate::snapshot::Value;

/// One stretch of time of one part.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Column {
    /// When it ended, on the clock given to [`History::sample`].
    pub end: Duration,
    /// How long it was.
    pub length: Duration,
    pub requests: u64,
    pub failures: u64,
    pub latency_ms: Distribution,
}

/// The columns of one part, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Series {
    columns: VecDeque<Column>,
    totals: (u64, u64),
    reading: Reading,
}

impl Series {
    pub fn columns(&self) -> impl DoubleEndedIterator<Item = &Column> + '_ {
        self.columns.iter()
    }

    /// Everything that happened after `since`.
    pub fn total(&self, since: Duration) -> Column {
        let mut total = Column::default();
        for column in self.columns.iter().filter(|column| column.end > since) {
            total.end = column.end;
            total.length += column.length;
            total.requests += column.requests;
            total.failures += column.failures;
            total.latency_ms.merge(&column.latency_ms);
        }
        total
    }
}

/// Series by part: `["rt", label, "server" | "service" | "client", scope]`.
#[derive(Debug)]
pub struct History {
    columns: usize,
    sampled: Option<Duration>,
    series: BTreeMap<Vec<String>, Series>,
}

impl Default for History {
    /// Ten minutes if it is sampled every five seconds.
    fn default() -> History {
        History::new(120)
    }
}

impl History {
    pub fn new(columns: usize) -> History {
        History { columns, sampled: None, series: BTreeMap::new() }
    }

    /// Ends a column; the very first call only takes totals. Parts that were pruned from the registry are
    /// forgotten.
    pub fn sample(&mut self, registry: &Registry, now: Duration) {
        let length = self.sampled.map_or(Duration::ZERO, |sampled| now.saturating_sub(sampled));
        let snapshot = registry.snapshot();
        let readings = registry.readings();
        let mut totals = BTreeMap::<Vec<String>, (u64, u64)>::new();
        for (path, value) in snapshot.iter() {
            if let (["rt", _, "server" | "service" | "client", _, name], Value::Counter(count)) =
                (path.as_slice(), value)
            {
                let part = || path[..4].iter().map(|element| (*element).to_owned()).collect::<Vec<_>>();
                match *name {
                    "requests" => totals.entry(part()).or_default().0 = count,
                    "failures" => totals.entry(part()).or_default().1 = count,
                    _ => {}
                }
            }
        }
        self.series.retain(|part, _| totals.contains_key(part));
        for (part, (requests, failures)) in totals {
            let reading =
                readings.get(&format!("{}\0request_latency_ms", part.join("\0"))).cloned().unwrap_or_default();
            let series = self.series.entry(part).or_default();
            // The first sample only says where counting starts: it has no length.
            if self.sampled.is_some() {
                series.columns.push_back(Column {
                    end: now,
                    length,
                    requests: requests.saturating_sub(series.totals.0),
                    failures: failures.saturating_sub(series.totals.1),
                    latency_ms: reading.since(&series.reading),
                });
            }
            while series.columns.len() > self.columns {
                series.columns.pop_front();
            }
            series.totals = (requests, failures);
            series.reading = reading;
        }
        self.sampled = Some(now);
    }

    pub fn get(&self, part: &[&str]) -> Option<&Series> {
        let part = part.iter().map(|element| (*element).to_owned()).collect::<Vec<_>>();
        self.series.get(&part)
    }

    /// Parts and their series, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[String], &Series)> + '_ {
        self.series.iter().map(|(part, series)| (part.as_slice(), series))
    }
}
