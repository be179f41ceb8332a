//! StatsD lines, as `io.l5d.statsd` sends them: names with dots, counters, gauges and timings.
//!
//! ```text
//!  linkerd.rt.out.service.svc.web.requests:980|c
//!  linkerd.rt.out.service.svc.web.request_latency_ms:12|ms|@0.01
//!  linkerd.rt.out.client._.io_l5d_fs.web.loadbalancer.size:1|g
//! ```
//! The original sends a datagram for one in a hundred events as they happen. Here nothing happens on a
//! request: every interval, what a counter gained is sent whole, and of the samples of a histogram each with the
//! probability `sampleRate`. A server adds up the same sums, from fewer and fuller datagrams.

mod sender;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::time::Duration;

use crate::histogram::{Distribution, Reading};
use crate::registry::{Key, Registry, SEPARATOR};
use crate::snapshot::Value;

pub use sender::send_for_ever;

/// Fits any network without being taken apart.
const DATAGRAM: usize = 1432;
/// Timings of one histogram in one interval; above it the sample rate is lowered, and said so in the lines.
const TIMINGS: f64 = 1000.0;

/// The keys of `io.l5d.statsd`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Before every name, with a dot; may be empty.
    pub prefix: String,
    pub hostname: String,
    pub port: u16,
    /// `gaugeIntervalMs`: how often everything is sent.
    pub interval: Duration,
    /// Of timings: above 0, at most 1.
    pub sample_rate: f64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            prefix: "linkerd".to_owned(),
            hostname: "127.0.0.1".to_owned(),
            port: 8125,
            interval: Duration::from_secs(10),
            sample_rate: 0.01,
        }
    }
}

/// Remembers what was sent, so that each event is sent once.
#[derive(Debug)]
pub struct Encoder {
    prefix: String,
    sample_rate: f64,
    counters: HashMap<Key, u64>,
    readings: BTreeMap<Key, Reading>,
}

impl Encoder {
    pub fn new(prefix: &str, sample_rate: f64) -> Encoder {
        Encoder { prefix: prefix.to_owned(), sample_rate, counters: HashMap::new(), readings: BTreeMap::new() }
    }

    /// Datagrams with everything since the last call: each some lines, joined by line feeds. `random` gives
    /// numbers in `[0, 1)`.
    pub fn encode(&mut self, registry: &Registry, random: &mut impl FnMut() -> f64) -> Vec<String> {
        let mut datagrams = Datagrams::default();
        let snapshot = registry.snapshot_of_levels();
        let before = std::mem::take(&mut self.counters);
        for (key, value) in snapshot.keys() {
            match value {
                Value::Counter(count) => {
                    let sent = before.get(key).copied().unwrap_or(0);
                    // Less than before: it was pruned and began anew.
                    let gained = count.checked_sub(sent).unwrap_or(count);
                    if gained > 0 {
                        datagrams.push(&format!("{}:{gained}|c", self.name(key)));
                    }
                    self.counters.insert(key.into(), count);
                }
                Value::Gauge(level) if level.is_finite() => {
                    let name = self.name(key);
                    // A sign would make it a change.
                    let reset = if level < 0.0 { format!("{name}:0|g\n") } else { String::new() };
                    datagrams.push(&format!("{reset}{name}:{level}|g"));
                }
                Value::Gauge(_) | Value::Stat(_) => {}
            }
        }
        let readings = registry.readings();
        let before = std::mem::replace(&mut self.readings, readings);
        for (key, reading) in &self.readings {
            let nothing = Reading::default();
            let earlier = before.get(key).filter(|earlier| earlier.total().count <= reading.total().count);
            let distribution = reading.since(earlier.unwrap_or(&nothing));
            let rate = self.sample_rate.min(TIMINGS / distribution.count().max(1) as f64);
            let end = if rate < 1.0 { format!("|ms|@{rate}") } else { "|ms".to_owned() };
            let name = self.name(key);
            sample(&distribution, rate, random, |value| datagrams.push(&format!("{name}:{value}{end}")));
        }
        datagrams.done.into_iter().chain(Some(datagrams.open).filter(|open| !open.is_empty())).collect()
    }

    fn name(&self, key: &str) -> String {
        let mut name = self.prefix.clone();
        if !name.is_empty() {
            name.push('.');
        }
        let path = key.replace(SEPARATOR, "/");
        let plain = |char: char| if char.is_ascii_alphanumeric() || char == '/' { char } else { '_' };
        let path = path.chars().map(plain).collect::<String>();
        // Writing to a string cannot fail.
        let _ = write!(name, "{}", path.replace("//", "/").replace('/', "."));
        name
    }
}

#[derive(Debug, Default)]
struct Datagrams {
    done: Vec<String>,
    open: String,
}

impl Datagrams {
    fn push(&mut self, line: &str) {
        if !self.open.is_empty() {
            if self.open.len() + 1 + line.len() > DATAGRAM {
                self.done.push(std::mem::take(&mut self.open));
            } else {
                self.open.push('\n');
            }
        }
        self.open.push_str(line);
    }
}

/// Each sample with the same probability, at the cost of those that are taken: the gaps between them are drawn.
fn sample(distribution: &Distribution, rate: f64, random: &mut impl FnMut() -> f64, mut take: impl FnMut(u64)) {
    if rate <= 0.0 {
        return;
    }
    let mut gap = || if rate < 1.0 { ((1.0 - random()).ln() / (1.0 - rate).ln()) as u64 } else { 0 };
    let mut next = gap();
    for (value, count) in distribution.buckets() {
        let count = u64::from(count);
        while next < count {
            take(value);
            next = next.saturating_add(1).saturating_add(gap());
        }
        next -= count;
    }
}
