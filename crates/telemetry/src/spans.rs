//! Spans of sampled requests, and their way from the workers to whoever exports them.
//!
//! ```text
//!  worker ─ Queue ─┐            ┌─ inbox ─ io.l5d.zipkin ─▶ collector
//!  worker ─ Queue ─┼─ collect ──┤
//!  worker ─ Queue ─┘            └─ inbox ─ io.l5d.otlp ───▶ collector
//!   try_send, never waits        bounded: what does not fit is dropped and counted
//! ```
//! A request that is not sampled costs a comparison and touches nothing here. A queue wakes nobody: the
//! control runtime looks into all of them ten times a second.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::MissedTickBehavior;

use crate::handle::SharedCounter;
use crate::registry::Registry;

/// Requests that wait for [`collect`], per worker.
const QUEUE: usize = 1024;
const COLLECT_EVERY: Duration = Duration::from_millis(100);
/// Longer texts are cut.
const TEXT: usize = 2048;

/// One unit of work, as tracing systems understand it.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The high half of a trace id of 128 bits; 0 for one of 64.
    pub trace_high: u64,
    pub trace: u64,
    pub id: u64,
    /// `None`: the first of its trace.
    pub parent: Option<u64>,
    pub side: Side,
    pub name: String,
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    /// How long it took, in nanoseconds.
    pub nanos: u64,
    /// Who recorded it: for a server span the server (`127.0.0.1/4140`), for a client span the bound id.
    pub service: String,
    /// Where it was recorded.
    pub local: Option<SocketAddr>,
    /// The other side.
    pub remote: Option<SocketAddr>,
    /// By the original's names: `router.label`, `http.rsp.status`.
    pub facts: Vec<(&'static str, Fact)>,
    pub events: Vec<Event>,
    /// Why it failed.
    pub error: Option<String>,
    /// Sampled whoever asks.
    pub is_debug: bool,
    /// `tracestate`
    pub state: Option<String>,
}

/// Whether a span is the receiving or the sending side of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Server,
    Client,
}

/// What is known of a span.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    Text(String),
    /// The same for many spans.
    Shared(Arc<str>),
    Number(i64),
    Real(f64),
}

/// Something that happened while a span lasted.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Nanoseconds since the Unix epoch.
    pub at: u64,
    pub name: String,
}

impl Fact {
    /// A text, cut to what is exported of it.
    #[must_use]
    pub fn text(text: &str) -> Fact {
        Fact::Text(cut(text).to_owned())
    }

    /// As text.
    pub(crate) fn shown(&self) -> String {
        match self {
            Fact::Text(text) => text.clone(),
            Fact::Shared(text) => text.as_ref().to_owned(),
            Fact::Number(number) => number.to_string(),
            Fact::Real(number) => format!("{number:?}"),
        }
    }
}

/// The start of a text, as much as is exported.
#[must_use]
pub fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT)]
}

/// Whether a trace belongs to the share of `rate` (0.0 to 1.0) that this process samples, as in finagle: all
/// spans of a trace or none, and who samples less samples a part of what others do.
#[must_use]
pub fn is_sampled(trace: u64, rate: f64) -> bool {
    // One salt per process, so that processes sample different traces.
    static SALT: OnceLock<u64> = OnceLock::new();
    let salt = SALT.get_or_init(|| fastrand::u64(..));
    (((trace ^ salt) as i64).unsigned_abs() % 10_000) < (rate * 10_000.0) as u64
}

/// Which exporters want a request: a bit for each.
pub type Wanted = u32;

/// Exporters that a tracer can have.
pub const MOST_EXPORTERS: usize = Wanted::BITS as usize;

/// All spans of one request.
#[derive(Debug)]
pub(crate) struct Sampled {
    pub wanted: Wanted,
    pub spans: Vec<Span>,
}

/// How one exporter samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share {
    pub rate: f64,
    /// Whether who comes later is told the decision.
    pub tells: bool,
}

/// Decides what is sampled, and gives out queues. Clones share.
#[derive(Debug, Clone)]
pub struct Tracer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shares: Vec<Share>,
    tells: bool,
    queues: Mutex<Vec<mpsc::Receiver<Sampled>>>,
    dropped: SharedCounter,
}

/// One worker's way out.
#[derive(Debug, Clone)]
pub struct Queue {
    sender: mpsc::Sender<Sampled>,
    dropped: SharedCounter,
}

/// What a tracer decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub wanted: Wanted,
    /// What those who come later are told; `None`: nothing.
    pub told: Option<bool>,
}

impl Tracer {
    pub(crate) fn new(shares: Vec<Share>, registry: &Registry) -> Tracer {
        let dropped = registry.shared_counter(&["telemetry", "spans", "dropped"]);
        let tells = shares.iter().any(|share| share.tells);
        Tracer { inner: Arc::new(Inner { shares, tells, queues: Mutex::default(), dropped }) }
    }

    /// What to do with a request of this trace; `decided`: somebody before us decided.
    #[must_use]
    pub fn decide(&self, decided: Option<bool>, trace: u64) -> Decision {
        let shares = &self.inner.shares;
        let bits = |wants: &dyn Fn(&Share) -> bool| {
            let wanted = shares.iter().enumerate().filter(|(_, share)| wants(share));
            wanted.fold(0, |bits, (number, _)| bits | 1 << number)
        };
        match decided {
            Some(true) => Decision { wanted: bits(&|_| true), told: None },
            Some(false) => Decision { wanted: 0, told: None },
            None => {
                let tells = bits(&|share| share.tells && is_sampled(trace, share.rate));
                let wanted = tells | bits(&|share| !share.tells && (tells != 0 || is_sampled(trace, share.rate)));
                Decision { wanted, told: self.inner.tells.then_some(tells != 0) }
            }
        }
    }

    /// A queue for one worker.
    #[must_use]
    pub fn queue(&self) -> Queue {
        let (sender, receiver) = mpsc::channel(QUEUE);
        locked(&self.inner.queues).push(receiver);
        Queue { sender, dropped: self.inner.dropped.clone() }
    }
}

impl Queue {
    /// Hands over the spans of one request, or drops them.
    pub fn push(&self, wanted: Wanted, spans: Vec<Span>) {
        let count = spans.len() as u64;
        if self.sender.try_send(Sampled { wanted, spans }).is_err() {
            self.dropped.add(count);
        }
    }
}

/// Where [`collect`] brings spans.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub sender: mpsc::Sender<Arc<Sampled>>,
    pub dropped: SharedCounter,
}

/// Brings spans from the queues to the exporters until `ending`; what is in the queues then still goes.
pub(crate) async fn collect(tracer: Tracer, inboxes: Vec<Inbox>, mut ending: tokio::sync::watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(COLLECT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let over = tokio::select! {
            _ = ticks.tick() => false,
            // Nobody who could say so is an end, too.
            _ = ending.wait_for(|over| *over) => true,
        };
        locked(&tracer.inner.queues).retain_mut(|queue| empty(queue, &inboxes));
        if over {
            return;
        }
    }
}

/// Says whether there may be more.
fn empty(queue: &mut mpsc::Receiver<Sampled>, inboxes: &[Inbox]) -> bool {
    // Who fills it faster than this has dropped some already.
    for _ in 0..2 * QUEUE {
        let sampled = match queue.try_recv() {
            Ok(sampled) => Arc::new(sampled),
            Err(TryRecvError::Empty) => return true,
            Err(TryRecvError::Disconnected) => return false,
        };
        for (number, inbox) in inboxes.iter().enumerate() {
            if sampled.wanted & 1 << number != 0 && inbox.sender.try_send(sampled.clone()).is_err() {
                inbox.dropped.add(sampled.spans.len() as u64);
            }
        }
    }
    true
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(shares: &[(f64, bool)]) -> Tracer {
        let shares = shares.iter().map(|(rate, tells)| Share { rate: *rate, tells: *tells }).collect();
        Tracer::new(shares, &Registry::default())
    }

    #[test]
    fn rates_of_one_and_zero_decide_for_every_trace() {
        for trace in [0, 1, u64::MAX, i64::MIN as u64, 12345] {
            assert!(is_sampled(trace, 1.0));
            assert!(!is_sampled(trace, 0.0));
        }
        let some = (0..100_000).filter(|_| is_sampled(fastrand::u64(..), 0.1)).count();
        // 10,000 are expected; ten standard deviations either way.
        assert!((9_000..11_000).contains(&some), "{some}");
    }

    #[test]
    fn a_decision_that_came_along_holds_for_all() {
        let tracer = tracer(&[(1.0, true), (0.0, true), (0.0, false)]);
        assert_eq!(tracer.decide(Some(true), 1), Decision { wanted: 0b111, told: None });
        assert_eq!(tracer.decide(Some(false), 1), Decision { wanted: 0, told: None });
    }

    #[test]
    fn without_one_each_exporter_decides_and_a_log_tells_nobody() {
        let decide = |shares: &[(f64, bool)]| tracer(shares).decide(None, 1);
        assert_eq!(decide(&[(1.0, true), (0.0, true), (0.0, false)]), Decision { wanted: 0b101, told: Some(true) });
        assert_eq!(decide(&[(0.0, true)]), Decision { wanted: 0, told: Some(false) });
        assert_eq!(decide(&[(1.0, false)]), Decision { wanted: 1, told: None });
        assert_eq!(decide(&[(0.0, false)]), Decision { wanted: 0, told: None });
    }

    #[test]
    fn a_text_is_cut_between_letters() {
        let text = "é".repeat(TEXT);
        assert_eq!(cut(&text).len(), TEXT);
        assert_eq!(cut(&text[..10]), &text[..10]);
        let odd = format!("a{text}");
        assert_eq!(cut(&odd).len(), TEXT - 1);
    }
}
