//! What a watch tells about itself: whether it is current, for how long not, and what it asked for.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use serde_json::json;

use crate::Error;

/// One watch's report. Its writer is the watch; pages and metrics read.
#[derive(Default)]
pub struct Report {
    known: Mutex<Known>,
    lists: AtomicU64,
    watches: AtomicU64,
    events: AtomicU64,
}

#[derive(Default)]
struct Known {
    /// When the server last said something.
    confirmed: Option<Instant>,
    trouble: Option<Arc<str>>,
}

/// Sums over the watches of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    pub watches: usize,
    /// Watches in trouble, or that never had an answer.
    pub failing: usize,
    /// Seconds since the server last confirmed what a watch knows, for the watch where that is longest ago.
    pub oldest: f64,
    pub list_requests: u64,
    pub watch_requests: u64,
    pub events: u64,
}

/// What metrics call a sum, and how it is read.
pub type Total = (&'static str, fn(&Totals) -> f64);

/// All of them.
pub const TOTALS: [Total; 6] = [
    ("watches", |totals| totals.watches as f64),
    ("failing_watches", |totals| totals.failing as f64),
    ("oldest_confirmed_seconds", |totals| totals.oldest),
    ("list_requests", |totals| totals.list_requests as f64),
    ("watch_requests", |totals| totals.watch_requests as f64),
    ("events", |totals| totals.events as f64),
];

impl Report {
    pub(crate) fn listed(&self) {
        self.lists.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn watched(&self) {
        self.watches.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// The server answered: what is known is current. True if it was not.
    pub(crate) fn confirm(&self) -> bool {
        let mut known = self.lock();
        known.confirmed = Some(Instant::now());
        known.trouble.take().is_some()
    }

    /// True if that is news.
    pub(crate) fn fail(&self, error: &Error) -> bool {
        let text: Arc<str> = error.to_string().into();
        let mut known = self.lock();
        let is_news = known.trouble.as_ref() != Some(&text);
        known.trouble = Some(text);
        is_news
    }

    /// Why it is not current.
    pub fn trouble(&self) -> Option<Arc<str>> {
        self.lock().trouble.clone()
    }

    /// Seconds since the server last confirmed what is known; `None`: never.
    pub fn age(&self) -> Option<f64> {
        self.lock().confirmed.map(|at| at.elapsed().as_secs_f64())
    }

    /// `{"state":"current"|"stale"|"pending","secondsSinceConfirmed":1.2,"trouble"?,"listRequests","watchRequests","events"}`
    pub fn json(&self) -> serde_json::Value {
        let (age, trouble) = (self.age(), self.trouble());
        let state = match (age, &trouble) {
            (None, _) => "pending",
            (Some(_), None) => "current",
            (Some(_), Some(_)) => "stale",
        };
        let mut shown = json!({ "state": state });
        if let Some(age) = age {
            shown["secondsSinceConfirmed"] = json!((age * 10.0).round() / 10.0);
        }
        if let Some(trouble) = trouble {
            shown["trouble"] = json!(&*trouble);
        }
        shown["listRequests"] = json!(self.lists.load(Ordering::Relaxed));
        shown["watchRequests"] = json!(self.watches.load(Ordering::Relaxed));
        shown["events"] = json!(self.events.load(Ordering::Relaxed));
        shown
    }

    /// Adds this report to the sums.
    pub(crate) fn add_to(&self, totals: &mut Totals) {
        let age = self.age();
        totals.watches += 1;
        totals.failing += usize::from(age.is_none() || self.trouble().is_some());
        totals.oldest = totals.oldest.max(age.unwrap_or(0.0));
        totals.list_requests += self.lists.load(Ordering::Relaxed);
        totals.watch_requests += self.watches.load(Ordering::Relaxed);
        totals.events += self.events.load(Ordering::Relaxed);
    }

    /// Each change is one step: a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
