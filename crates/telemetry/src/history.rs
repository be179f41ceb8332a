//! The last minutes per router part, for pages: columns of requests, failures and latencies, made by the
//! control thread from differences of totals. The data plane knows nothing of it.
//!
//! ```text
//!  rt/outgoing/service/svc/world   … [5 s: 980 requests, 2 failures, latencies] [5 s: …] ← now
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::histogram::{Distribution, Reading};
use crate::registry::{Key, Registry, SEPARATOR};

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
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    history: &'a History,
    part: &'a Part,
}

impl<'a> Series<'a> {
    /// As many as were sampled since the part is known, also those in which nothing happened.
    pub fn columns(self) -> impl DoubleEndedIterator<Item = Column> + 'a {
        let Series { history, part } = self;
        let numbers = part.known_since.max(history.first)..history.first + history.stretches.len() as u64;
        numbers.map(move |number| match part.busy.binary_search_by_key(&number, |(number, _)| *number) {
            Ok(position) => part.busy[position].1.clone(),
            Err(_) => {
                let (end, length) = history.stretches[(number - history.first) as usize];
                Column { end, length, ..Column::default() }
            }
        })
    }

    /// Everything that happened after `since`.
    pub fn total(self, since: Duration) -> Column {
        let mut total = Column::default();
        for column in self.columns().rev().take_while(|column| column.end > since) {
            total.end = total.end.max(column.end);
            total.length += column.length;
            total.requests += column.requests;
            total.failures += column.failures;
            total.latency_ms.merge(&column.latency_ms);
        }
        total
    }
}

/// What is kept of one part: the stretches in which something happened, by their numbers.
#[derive(Debug, Default)]
struct Part {
    known_since: u64,
    busy: VecDeque<(u64, Column)>,
    totals: (u64, u64),
    reading: Reading,
}

/// Series by part: `["rt", label, "server" | "service" | "client", scope]`.
#[derive(Debug)]
pub struct History {
    columns: usize,
    sampled: Option<Duration>,
    /// End and length of each stretch that is kept.
    stretches: VecDeque<(Duration, Duration)>,
    /// The number of the oldest of them.
    first: u64,
    parts: BTreeMap<Key, Part>,
}

/// Totals of one part.
#[derive(Default)]
struct Totals {
    requests: Option<u64>,
    failures: u64,
    reading: Reading,
}

impl Default for History {
    /// Ten minutes if it is sampled every five seconds.
    fn default() -> History {
        History::new(120)
    }
}

impl History {
    pub fn new(columns: usize) -> History {
        History { columns, sampled: None, stretches: VecDeque::new(), first: 0, parts: BTreeMap::new() }
    }

    /// Ends a column; the very first call only takes totals. Parts that were pruned from the registry are
    /// forgotten.
    pub fn sample(&mut self, registry: &Registry, now: Duration) {
        let mut totals = BTreeMap::<Key, Totals>::new();
        let is_told = |name: &str| matches!(name, REQUESTS | FAILURES | LATENCY);
        for (key, entry) in registry.merged(is_part, |_, name, _| is_told(name)) {
            let Some((part, name)) = key.rsplit_once(SEPARATOR) else { continue };
            let target = match totals.get_mut(part) {
                Some(target) => target,
                None => totals.entry(part.into()).or_default(),
            };
            match name {
                REQUESTS => target.requests = entry.counted(),
                FAILURES => target.failures = entry.counted().unwrap_or_default(),
                _ => target.reading = entry.reading().unwrap_or_default(),
            }
        }
        totals.retain(|_, totals| totals.requests.is_some());
        self.parts.retain(|part, _| totals.contains_key(part));
        // The first sample only says where counting starts: it has no length.
        let stretch = self.sampled.map(|sampled| (now, now.saturating_sub(sampled)));
        self.stretches.extend(stretch);
        while self.stretches.len() > self.columns {
            self.stretches.pop_front();
            self.first += 1;
        }
        let newest = (self.first + self.stretches.len() as u64).saturating_sub(1);
        for (key, Totals { requests, failures, reading }) in totals {
            let requests = requests.unwrap_or_default();
            let part = self.parts.entry(key).or_insert_with(|| Part { known_since: newest, ..Part::default() });
            let before = std::mem::replace(&mut part.totals, (requests, failures));
            while part.busy.front().is_some_and(|(number, _)| *number < self.first) {
                part.busy.pop_front();
            }
            let latency_ms = reading.since(&part.reading);
            let column = |(end, length)| Column {
                end,
                length,
                requests: requests.saturating_sub(before.0),
                failures: failures.saturating_sub(before.1),
                latency_ms,
            };
            let column = stretch.map(column).filter(|column| {
                column.requests > 0 || column.failures > 0 || column.latency_ms != Distribution::default()
            });
            part.busy.extend(column.map(|column| (newest, column)));
            part.reading = reading;
        }
        self.sampled = Some(now);
    }

    pub fn get(&self, part: &[&str]) -> Option<Series<'_>> {
        let part = self.parts.get(part.join("\0").as_str())?;
        Some(Series { history: self, part })
    }
}

const REQUESTS: &str = "requests";
const FAILURES: &str = "failures";
const LATENCY: &str = "request_latency_ms";

/// Whether this is what a part of a router is called.
fn is_part(path: &str) -> bool {
    let mut elements = path.split(SEPARATOR);
    elements.next() == Some("rt")
        && elements.next().is_some()
        && matches!(elements.next(), Some("server" | "service" | "client"))
        && elements.next().is_some()
        && elements.next().is_none()
}
