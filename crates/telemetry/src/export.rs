//! Exporters of traces and metrics: one task each on the control runtime, with a bounded inbox.
//!
//! ```text
//!  inbox ─ batch ─ encode ─ send ─┬─ taken: counted
//!    │                            ├─ refused for good: dropped, counted
//!    └ full: dropped, counted     └─ no answer: again after a while, a few times; then dropped, counted
//! ```
//! A collector that is away, slow or talks nonsense costs what is in the inbox, and nothing else. What each
//! exporter did is told by [`Exporting::reports`] and by metrics below `telemetry/<kind>`.

mod delivery;
mod http;
pub mod otlp;
mod state;
pub mod tracelog;
pub mod zipkin;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::registry::Registry;
use crate::spans::{Inbox, Sampled, Share, Tracer, collect};
use state::State;

pub use state::Report;

/// Requests that wait for one exporter.
const INBOX: usize = 2048;

/// One exporter.
#[derive(Debug, Clone, PartialEq)]
pub enum Config {
    /// `io.l5d.zipkin`
    Zipkin(zipkin::Config),
    /// `io.l5d.otlp`
    Otlp(otlp::Config),
    /// `io.l5d.tracelog`
    Tracelog(tracelog::Config),
}

/// Exporters that run.
#[derive(Debug)]
pub struct Exporting {
    tracer: Option<Tracer>,
    states: Vec<Arc<State>>,
    ending: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What is common to the tasks of one exporter.
struct Task {
    state: Arc<State>,
    ending: watch::Receiver<bool>,
}

/// Starts all exporters. No more than [`crate::spans::MOST_EXPORTERS`] of them may take spans.
///
/// # Panics
/// Outside a tokio runtime.
#[must_use]
pub fn start(configs: &[Config], registry: &Registry) -> Exporting {
    let (ending, ended) = watch::channel(false);
    let mut exporting = Exporting { tracer: None, states: Vec::new(), ending, tasks: Vec::new() };
    let (mut shares, mut inboxes) = (Vec::new(), Vec::new());
    for (number, config) in configs.iter().enumerate() {
        let before = configs[..number].iter().filter(|other| other.kind() == config.kind()).count();
        let name = if before == 0 { config.kind().to_owned() } else { format!("{}-{}", config.kind(), before + 1) };
        if let Some(share) = config.share() {
            let (sender, inbox) = mpsc::channel(INBOX);
            let waiting = sender.downgrade();
            let state = State::of_traces(config, &name, share.rate, registry, move || {
                waiting.upgrade().map_or(0, |sender| sender.max_capacity() - sender.capacity())
            });
            inboxes.push(Inbox { sender, dropped: state.dropped.clone() });
            shares.push(share);
            let task = Task { state: state.clone(), ending: ended.clone() };
            exporting.tasks.push(config.spawn_traces(inbox, task));
            exporting.states.push(state);
        }
        if let Config::Otlp(otlp) = config
            && otlp.metrics
        {
            let state = State::of_metrics(config, &name, registry);
            let task = Task { state: state.clone(), ending: ended.clone() };
            exporting.tasks.push(tokio::spawn(otlp::metrics::run(otlp.clone(), registry.clone(), task)));
            exporting.states.push(state);
        }
    }
    if !shares.is_empty() {
        let tracer = Tracer::new(shares, registry);
        exporting.tasks.push(tokio::spawn(collect(tracer.clone(), inboxes, ended)));
        exporting.tracer = Some(tracer);
    }
    exporting
}

impl Config {
    /// `io.l5d.zipkin`
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Config::Zipkin(_) => "io.l5d.zipkin",
            Config::Otlp(_) => "io.l5d.otlp",
            Config::Tracelog(_) => "io.l5d.tracelog",
        }
    }

    /// Whether it takes spans.
    #[must_use]
    pub fn traces(&self) -> bool {
        self.share().is_some()
    }

    fn share(&self) -> Option<Share> {
        match self {
            Config::Zipkin(config) => Some(Share { rate: config.sample_rate, tells: true }),
            Config::Otlp(config) => config.traces.then_some(Share { rate: config.sample_rate, tells: true }),
            // As in the original, a log does not make others trace.
            Config::Tracelog(config) => Some(Share { rate: config.sample_rate, tells: false }),
        }
    }

    fn target(&self) -> String {
        match self {
            Config::Zipkin(config) => config.target(),
            Config::Otlp(config) => config.endpoint.clone(),
            Config::Tracelog(config) => format!("log {} {}", tracelog::LOGGER, config.level),
        }
    }

    fn spawn_traces(&self, inbox: mpsc::Receiver<Arc<Sampled>>, task: Task) -> JoinHandle<()> {
        match self {
            Config::Zipkin(config) => match config.protocol {
                zipkin::Protocol::Scribe => {
                    tokio::spawn(delivery::run(zipkin::scribe::Scribe::new(config), inbox, task))
                }
                zipkin::Protocol::Http => tokio::spawn(delivery::run(zipkin::json::Json::new(config), inbox, task)),
            },
            Config::Otlp(config) => tokio::spawn(delivery::run(otlp::traces::Traces::new(config), inbox, task)),
            Config::Tracelog(config) => tokio::spawn(tracelog::run(*config, inbox, task)),
        }
    }
}

impl Exporting {
    /// `None`: nobody takes spans.
    #[must_use]
    pub fn tracer(&self) -> Option<Tracer> {
        self.tracer.clone()
    }

    /// A view of what they did, which outlives them.
    #[must_use]
    pub fn reports(&self) -> Reports {
        Reports { states: self.states.clone() }
    }

    /// Sends what is still waiting, as far as that goes within `limit`, and ends.
    pub async fn finish(self, limit: Duration) {
        // Without anybody who listens all have ended already.
        let _ = self.ending.send(true);
        let tasks = self.tasks;
        let aborts = tasks.iter().map(JoinHandle::abort_handle).collect::<Vec<_>>();
        let all = async {
            for task in tasks {
                if let Err(error) = task.await {
                    tracing::error!(%error, "an exporter ended badly");
                }
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            aborts.iter().for_each(tokio::task::AbortHandle::abort);
        }
    }
}

/// What exporters did so far. Clones share.
#[derive(Debug, Clone, Default)]
pub struct Reports {
    states: Vec<Arc<State>>,
}

impl Reports {
    /// In the order of the document; an exporter of traces and metrics has two.
    #[must_use]
    pub fn all(&self) -> Vec<Report> {
        self.states.iter().map(|state| state.report()).collect()
    }
}
