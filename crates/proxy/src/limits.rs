//! Time limits of connections that are off by default: idle and life times, and sockets that stand still.
//!
//! No byte that moves costs anything: whether a side stands still is looked at now and then, by comparing
//! what moved in all. Such a limit is kept to a quarter of its length.

use std::rc::Rc;
use std::time::Duration;

use telemetry::Counter;

use crate::client::Client;
use crate::metrics::Scope;
use crate::settings::{Session, SocketOptions};
use crate::wire::HALF_CLOSED;

const NEVER: u64 = u64::MAX;
/// Not looked at more often than this.
const LEAST_LOOK: u64 = 10_000_000;

/// Limits of the connections of one server or client, in nanoseconds, with their counters.
pub(crate) struct Limits {
    pub idle: Option<u64>,
    pub life: Option<u64>,
    pub read: Option<u64>,
    pub write: Option<u64>,
    pub idle_count: Counter,
    pub life_count: Counter,
    pub read_count: Counter,
    pub write_count: Counter,
}

impl Limits {
    /// None where nothing is limited.
    pub(crate) fn new(session: Session, socket: SocketOptions, scope: &Scope) -> Option<Rc<Limits>> {
        let nanos = |limit: Option<Duration>| limit.map(|limit| u64::try_from(limit.as_nanos()).unwrap_or(NEVER));
        let all = [session.idle, session.life, socket.read_timeout, socket.write_timeout].map(nanos);
        let [idle, life, read, write] = all;
        all.iter().any(Option::is_some).then(|| {
            Rc::new(Limits {
                idle,
                life,
                read,
                write,
                idle_count: scope.counter(&["idle"]),
                life_count: scope.counter(&["lifetime"]),
                read_count: scope.counter(&["read_timeout"]),
                write_count: scope.counter(&["write_timeout"]),
            })
        })
    }

    /// When a connection that was opened then has lived long enough.
    pub(crate) fn dies(&self, opened: u64) -> u64 {
        self.life.map_or(NEVER, |life| opened.saturating_add(life))
    }

    /// The same of a connection whose limits are perhaps none.
    pub(crate) fn death(limits: Option<&Rc<Limits>>, opened: u64) -> u64 {
        limits.map_or(NEVER, |limits| limits.dies(opened))
    }

    /// When a connection that is idle since `since` closes.
    pub(crate) fn idle_ends(&self, since: u64, dies: u64) -> u64 {
        let ends = [self.idle, self.read].into_iter().flatten().map(|limit| since.saturating_add(limit));
        ends.min().map_or(dies, |ends| ends.min(dies))
    }

    /// Counts that an idle connection closes.
    pub(crate) fn count_idle(&self, dies: u64, now: u64) {
        if dies <= now {
            self.life_count.inc();
        } else if self.idle.is_some_and(|idle| self.read.is_none_or(|read| idle <= read)) {
            self.idle_count.inc();
        } else {
            self.read_count.inc();
        }
    }
}

/// Who an exchange waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    ClientSends,
    ClientTakes,
    EndpointSends,
    EndpointTakes,
}

/// Looks after an exchange whose sockets have limits.
pub(crate) struct Watch {
    server: Option<Rc<Limits>>,
    client: Rc<Client>,
    moved: u64,
    since: u64,
    /// How long a client that closed its sending side is believed in.
    believed: Option<u64>,
}

impl Watch {
    /// None where nothing is limited.
    pub(crate) fn new(server: Option<&Rc<Limits>>, client: &Rc<Client>, now: u64) -> Option<Box<Watch>> {
        let watches = |limits: &&Rc<Limits>| limits.read.is_some() || limits.write.is_some();
        let server = server.filter(watches).cloned();
        if server.is_none() && client.limits.as_ref().filter(watches).is_none() {
            return None;
        }
        Some(Box::new(Watch { server, client: client.clone(), moved: 0, since: now, believed: None }))
    }

    fn limits(&self, waits: Waits) -> Option<&Rc<Limits>> {
        match waits {
            Waits::ClientSends | Waits::ClientTakes => self.server.as_ref(),
            Waits::EndpointSends | Waits::EndpointTakes => self.client.limits.as_ref(),
        }
    }

    /// When to look again.
    pub(crate) fn look_at(&self, now: u64) -> u64 {
        let limits = [self.server.as_ref(), self.client.limits.as_ref()];
        let limits = limits.into_iter().flatten().flat_map(|limits| [limits.read, limits.write]).flatten();
        limits.min().map_or(NEVER, |limit| now.saturating_add((limit / 4).max(LEAST_LOOK)))
    }

    /// The client closed its sending side, and it is time not to believe in it any more.
    pub(crate) fn gives_up(&mut self, now: u64) -> bool {
        now >= *self.believed.get_or_insert(now + HALF_CLOSED)
    }

    /// Whether the side that is waited for stands still for too long, which is counted. `moved`: all bytes
    /// that ever moved on both connections.
    pub(crate) fn stands_still(&mut self, waits: Waits, moved: u64, now: u64) -> bool {
        if moved != self.moved {
            (self.moved, self.since) = (moved, now);
            return false;
        }
        let reads = matches!(waits, Waits::ClientSends | Waits::EndpointSends);
        let Some(limits) = self.limits(waits) else { return false };
        let limit = if reads { limits.read } else { limits.write };
        let over = limit.is_some_and(|limit| now.saturating_sub(self.since) >= limit);
        if over {
            if reads { limits.read_count.inc() } else { limits.write_count.inc() }
        }
        over
    }
}
