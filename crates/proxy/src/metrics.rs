//! The cells of one server, service or client, under the original's names.
//!
//! Resolved once, then written with plain stores. Statuses and exceptions are resolved as they first come.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use telemetry::{Counter, Gauge, Shard, Stat};

const CLASSIFIED: &str = "com.twitter.finagle.service.ResponseClassificationSyntheticException";
const MILLI: u64 = 1_000_000;

/// Where a group of cells is registered.
#[derive(Clone)]
pub(crate) struct Scope {
    shard: Shard,
    /// Shared: each group of cells of a name has it.
    path: Rc<[Box<str>]>,
}

impl Scope {
    pub(crate) fn new(shard: &Shard, path: &[&str]) -> Scope {
        Scope { shard: shard.clone(), path: path.iter().map(|element| Box::from(*element)).collect() }
    }

    pub(crate) fn below(&self, path: &[&str]) -> Scope {
        let more = path.iter().map(|element| Box::from(*element));
        Scope { shard: self.shard.clone(), path: self.path.iter().cloned().chain(more).collect() }
    }

    fn full<'a>(&'a self, name: &[&'a str]) -> Vec<&'a str> {
        self.path.iter().map(|element| &**element).chain(name.iter().copied()).collect()
    }

    pub(crate) fn counter(&self, name: &[&str]) -> Counter {
        self.shard.counter(&self.full(name))
    }

    pub(crate) fn gauge(&self, name: &[&str]) -> Gauge {
        self.shard.gauge(&self.full(name))
    }

    pub(crate) fn stat(&self, name: &[&str]) -> Stat {
        self.shard.stat(&self.full(name))
    }

    /// Has everything below forgotten, if no worker holds a cell of it.
    pub(crate) fn prune(&self) {
        self.shard.prune(&self.full(&[]));
    }
}

/// Forgets a scope when it is dropped, if it is told to. Stands behind all cells of its scope.
pub(crate) struct Forget {
    scope: Scope,
    is_wanted: Cell<bool>,
}

impl Forget {
    pub(crate) fn new(scope: &Scope) -> Forget {
        Forget { scope: scope.clone(), is_wanted: Cell::new(false) }
    }

    pub(crate) fn want(&self) {
        self.is_wanted.set(true);
    }
}

impl Drop for Forget {
    fn drop(&mut self) {
        if self.is_wanted.get() {
            self.scope.prune();
        }
    }
}

/// What servers, services, clients and clients of one service all count.
pub(crate) struct Requests {
    pub scope: Scope,
    pub requests: Counter,
    success: Counter,
    failures: Counter,
    pub pending: Gauge,
    latency: Stat,
    classified: Counter,
    exceptions: RefCell<HashMap<&'static str, Vec<Counter>>>,
}

impl Requests {
    pub(crate) fn new(scope: &Scope) -> Requests {
        Requests {
            requests: scope.counter(&["requests"]),
            success: scope.counter(&["success"]),
            failures: scope.counter(&["failures"]),
            pending: scope.gauge(&["pending"]),
            latency: scope.stat(&["request_latency_ms"]),
            classified: scope.counter(&["failures", CLASSIFIED]),
            exceptions: RefCell::default(),
            scope: scope.clone(),
        }
    }

    /// An answer came, good or not.
    #[inline]
    pub(crate) fn answered(&self, success: bool, nanos: u64) {
        self.requests.inc();
        if success {
            self.success.inc();
        } else {
            self.failures.inc();
            self.classified.inc();
        }
        self.latency.record(nanos / MILLI);
    }

    /// No answer came: `exceptions` are names, the first above the next.
    pub(crate) fn failed(&self, exceptions: &'static [&'static str], nanos: u64) {
        self.requests.inc();
        self.failures.inc();
        self.latency.record(nanos / MILLI);
        let Some(first) = exceptions.first() else { return };
        let mut known = self.exceptions.borrow_mut();
        let counters = known.entry(first).or_insert_with(|| {
            let named = |depth: usize| {
                let path = [&["failures"], &exceptions[..=depth]].concat();
                self.scope.counter(&path)
            };
            (0..exceptions.len()).map(named).collect()
        });
        counters.iter().for_each(Counter::inc);
    }
}

/// Counts by status, which servers and clients have.
pub(crate) struct Statuses {
    scope: Scope,
    codes: RefCell<Vec<(u16, Counter)>>,
    classes: [(Counter, Stat); 5],
    error: (Counter, Stat),
}

const CLASSES: [&str; 5] = ["1XX", "2XX", "3XX", "4XX", "5XX"];

impl Statuses {
    pub(crate) fn new(scope: &Scope) -> Statuses {
        let pair = |name: &str| (scope.counter(&["status", name]), scope.stat(&["time", name]));
        Statuses { codes: RefCell::default(), classes: CLASSES.map(pair), error: pair("error"), scope: scope.clone() }
    }

    #[inline]
    pub(crate) fn count(&self, status: u16, nanos: u64) {
        let (class, time) = match (status / 100).checked_sub(1).and_then(|class| self.classes.get(usize::from(class))) {
            Some(pair) => pair,
            None => &self.error,
        };
        class.inc();
        time.record(nanos / MILLI);
        let mut codes = self.codes.borrow_mut();
        if let Some((_, code)) = codes.iter().find(|(code, _)| *code == status) {
            code.inc();
            return;
        }
        let code = self.scope.counter(&["status", &status.to_string()]);
        code.inc();
        codes.push((status, code));
    }

    pub(crate) fn error(&self, nanos: u64) {
        self.error.0.inc();
        self.error.1.record(nanos / MILLI);
    }
}

/// What is counted of connections.
pub(crate) struct Connections {
    pub connects: Counter,
    closes: Counter,
    open: Gauge,
    pub received: Counter,
    pub sent: Counter,
    duration: Stat,
    requests: Stat,
    received_each: Stat,
    sent_each: Stat,
}

/// The life of one connection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Life {
    /// When it was opened, in nanoseconds since the epoch.
    pub opened: u64,
    pub requests: u64,
    pub received: u64,
    pub sent: u64,
}

impl Connections {
    pub(crate) fn new(scope: &Scope) -> Connections {
        Connections {
            connects: scope.counter(&["connects"]),
            closes: scope.counter(&["closes"]),
            open: scope.gauge(&["connections"]),
            received: scope.counter(&["received_bytes"]),
            sent: scope.counter(&["sent_bytes"]),
            duration: scope.stat(&["connection_duration"]),
            requests: scope.stat(&["connection_requests"]),
            received_each: scope.stat(&["connection_received_bytes"]),
            sent_each: scope.stat(&["connection_sent_bytes"]),
        }
    }

    pub(crate) fn opened(&self) {
        self.connects.inc();
        self.open.inc();
    }

    /// The connection goes on as one of `next`.
    pub(crate) fn moved(&self, next: &Connections) {
        self.open.dec();
        next.open.inc();
    }

    pub(crate) fn closed(&self, life: &Life, now: u64) {
        self.closes.inc();
        self.open.dec();
        self.duration.record(now.saturating_sub(life.opened) / MILLI);
        self.requests.record(life.requests);
        self.received_each.record(life.received);
        self.sent_each.record(life.sent);
    }
}
