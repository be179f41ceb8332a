//! The router's pages: the overview of a process, why one request went where it went.
//!
//! The types are read from `/admin/overview.json` and `/admin/requests.json`.

mod overview;
mod request;

use serde::Deserialize;

use crate::format;
use crate::parts::Moment;

pub use overview::OverviewPage;
pub use request::RequestPage;

/// `/admin/overview.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Overview {
    pub process: Process,
    pub routers: Vec<Router>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    pub version: String,
    pub pid: u32,
    pub uptime_ms: u64,
    pub resident_bytes: Option<f64>,
    pub cpu_seconds: Option<f64>,
    /// The last time that the document was read again.
    #[serde(default)]
    pub reload: Option<Reload>,
}

/// What came of reading the document again.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Reload {
    /// `applied`, `unchanged`, `refused`, `needsRestart`, `failed`
    pub result: String,
    pub time: Moment,
    pub by: String,
    #[serde(default)]
    pub error: String,
    #[serde(default)]
    pub changes: Vec<Words>,
    #[serde(default)]
    pub problems: Vec<Words>,
}

/// A change or a problem, as a person reads it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Words {
    pub words: String,
}

impl Reload {
    fn title(&self) -> &'static str {
        match self.result.as_str() {
            "applied" => "applied",
            "unchanged" => "nothing had changed",
            "refused" => "refused: the document before it goes on",
            "needsRestart" => "needs a restart: the document before it goes on",
            _ => "failed",
        }
    }

    fn is_good(&self) -> bool {
        matches!(self.result.as_str(), "applied" | "unchanged")
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Router {
    pub label: String,
    pub interpreter: Interpreter,
    pub servers: Vec<Figures>,
    pub services: Vec<Figures>,
    pub clients: Vec<Client>,
    /// Of all, where only the busiest are listed.
    #[serde(rename = "serviceCount")]
    pub service_count: usize,
    #[serde(rename = "clientCount")]
    pub client_count: usize,
    /// Clients that have no endpoint now.
    #[serde(rename = "withoutEndpoints")]
    pub without_endpoints: u64,
}

/// What a router binds names with, and how fresh that is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Interpreter {
    pub kind: String,
    pub namespace: Option<String>,
    pub version: Option<String>,
    pub confirmed: Option<Moment>,
    /// Why what it serves is old.
    pub stale: Option<String>,
}

/// A server, a service or a client, in figures.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Figures {
    pub name: String,
    /// Since the start of the process.
    pub requests: Option<u64>,
    pub failures: Option<u64>,
    pub pending: Option<f64>,
    /// The last minute.
    pub last: Option<Column>,
    /// The ten minutes behind it, oldest first; only of the chosen router.
    #[serde(default)]
    pub columns: Vec<Column>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Client {
    #[serde(flatten)]
    pub figures: Figures,
    /// Which services it was for, since the start.
    #[serde(default)]
    pub services: Vec<ServiceShare>,
    pub addr: Option<Addr>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ServiceShare {
    pub name: String,
    pub requests: Option<u64>,
    pub failures: Option<u64>,
}

/// The endpoints that a client knows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Addr {
    Bound { endpoints: Vec<Endpoint> },
    Neg,
    Failed { cause: String },
    Pending,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Endpoint {
    pub addr: String,
    pub weight: f64,
}

/// A stretch of time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Column {
    pub seconds: f64,
    pub requests: u64,
    pub failures: u64,
    pub per_second: Option<f64>,
    pub latency_ms: Option<Latency>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

/// One of `/admin/requests.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    pub id: u64,
    pub time: Moment,
    pub peer: Option<String>,
    pub method: String,
    pub host: Option<String>,
    pub uri: String,
    pub name: Option<String>,
    #[serde(default)]
    pub local_dtab: String,
    pub dtab_version: Option<String>,
    pub attempts: Vec<Attempt>,
    pub status: Option<u16>,
    pub error: Option<String>,
    pub total_micros: u64,
    pub router: String,
    pub our_micros: u64,
    #[serde(default)]
    pub remarkable: Vec<Remark>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Attempt {
    pub client: String,
    pub share: Option<f64>,
    pub endpoint: Option<String>,
    pub status: Option<u16>,
    pub error: Option<String>,
    pub micros: u64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Remark {
    pub kind: String,
    pub why: String,
}

impl Column {
    /// 0 to 1; `None` without requests.
    fn success(&self) -> Option<f64> {
        (self.requests > 0).then(|| 1.0 - self.failures as f64 / self.requests as f64)
    }
}

impl Figures {
    fn last(&self) -> Option<&Column> {
        self.last.as_ref()
    }

    /// A name as it was written: metric scopes drop the first slash.
    pub(crate) fn path(&self) -> String {
        slashed(&self.name)
    }

    pub(crate) fn rate(&self) -> Figure {
        Figure::of(self.last().and_then(|last| last.per_second), format::rate)
    }

    pub(crate) fn success(&self) -> Figure {
        Figure::of(self.last().and_then(Column::success), format::percent)
    }

    pub(crate) fn p50(&self) -> Figure {
        Figure::of(self.last().and_then(|last| last.latency_ms).map(|latency| latency.p50), whole_millis)
    }

    pub(crate) fn p99(&self) -> Figure {
        Figure::of(self.last().and_then(|last| last.latency_ms).map(|latency| latency.p99), whole_millis)
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.last().and_then(Column::success).is_some_and(|success| success < 0.99)
    }
}

impl Request {
    /// The last try decides.
    pub(crate) fn last(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.remarkable.iter().any(|remark| remark.kind == "failed")
    }

    pub(crate) fn status_text(&self) -> String {
        self.status.map_or_else(|| "gone".to_owned(), |status| status.to_string())
    }

    pub(crate) fn took(&self) -> String {
        format::millis(self.total_micros as f64 / 1e3)
    }

    pub(crate) fn href(&self) -> String {
        format!("/requests/{}", self.id)
    }
}

/// A figure as text and as the number that sorts it.
pub(crate) struct Figure {
    pub(crate) text: String,
    value: Option<f64>,
}

impl Figure {
    fn of(value: Option<f64>, show: impl Fn(f64) -> String) -> Figure {
        Figure { text: value.map_or_else(|| format::NONE.to_owned(), show), value }
    }

    /// What is not known sorts below everything.
    pub(crate) fn sort(&self) -> String {
        self.value.map_or_else(|| "-1".to_owned(), |value| format!("{value:.6}"))
    }

    pub(crate) fn is_none(&self) -> bool {
        self.value.is_none()
    }
}

/// The histograms count whole milliseconds, so 0 is anything below one.
fn whole_millis(value: f64) -> String {
    if value == 0.0 { "< 1 ms".to_owned() } else { format::millis(value) }
}

fn slashed(name: &str) -> String {
    if name.starts_with('/') { name.to_owned() } else { format!("/{name}") }
}
