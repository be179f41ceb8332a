//! `io.l5d.zipkin`: to Scribe, as the original does, or to Zipkin's own HTTP API.

pub(super) mod json;
pub(super) mod scribe;

use std::time::Duration;

/// A collector takes a batch within this time.
const LIMIT: Duration = Duration::from_secs(5);

/// The keys of `io.l5d.zipkin`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub host: String,
    pub port: u16,
    /// 0.0 to 1.0
    pub sample_rate: f64,
    /// Ours.
    pub protocol: Protocol,
}

/// In what form spans are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// Thrift to a Scribe collector, as in Linkerd 1.7.
    #[default]
    Scribe,
    /// JSON to `/api/v2/spans`.
    Http,
}

impl Default for Config {
    fn default() -> Config {
        let host = "localhost".to_owned();
        Config { host, port: 9410, sample_rate: 0.001, protocol: Protocol::Scribe }
    }
}

impl Config {
    /// `host:port`, where an IPv6 address needs brackets.
    fn authority(&self) -> String {
        let bare_v6 = self.host.contains(':') && !self.host.starts_with('[');
        if bare_v6 { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    pub(super) fn target(&self) -> String {
        match self.protocol {
            Protocol::Scribe => format!("scribe://{}", self.authority()),
            Protocol::Http => format!("http://{}/api/v2/spans", self.authority()),
        }
    }
}

/// Zipkin's unit, of nanoseconds.
fn micros(nanos: u64) -> u64 {
    nanos / 1000
}
