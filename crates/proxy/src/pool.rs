//! Endpoints and the connections that a worker keeps to them: the last one used is used first.
//!
//! An idle connection is watched without cost: what the peer does to it (bytes, close, reset) shows in the
//! readiness that the event loop records anyway. A connection with any such sign is never used again,
//! because bytes that nobody asked for would be taken for an answer.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::client::Metrics;
use crate::housekeeping::Turn;
use crate::limits::Limits;
use crate::metrics::Life;
use crate::settings::{Pool, SocketOptions};
use crate::stream::{self, Secured, Stream};

/// Fixed in the original, too.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Idle longer than this, a connection is looked at once more before something is sent on it that
/// could not be sent again.
const LOOK_AFTER: u64 = 20_000_000;

/// A connection to an endpoint.
pub(crate) struct Upstream {
    pub stream: Stream,
    pub life: Life,
    /// It carried an exchange before this one.
    pub reused: bool,
    /// When it has lived long enough.
    dies: u64,
    idle_since: u64,
    metrics: Rc<Metrics>,
    permit: Option<OwnedSemaphorePermit>,
}

/// One address of a client, with the connections that are idle.
pub(crate) struct Endpoint {
    pub address: SocketAddr,
    /// It took no connection (`failFast`).
    pub is_down: Cell<bool>,
    idle: RefCell<Vec<Upstream>>,
    /// Discovery took it away: connections close when they are done.
    gone: Cell<bool>,
    bounds: Bounds,
    limits: Option<Rc<Limits>>,
    permits: Option<Arc<Semaphore>>,
    waiting: Cell<usize>,
    /// Stands in `all_idle`.
    is_listed: Cell<bool>,
    all_idle: Rc<Idle>,
}

/// The endpoints of a client that have idle connections, so that nobody has to look at the others.
#[derive(Default)]
pub(crate) struct Idle {
    endpoints: RefCell<Vec<Rc<Endpoint>>>,
    /// Where the next sweep begins.
    at: Cell<usize>,
    connections: Cell<usize>,
}

/// Endpoints that are swept each time that house is kept, and how many of them without a look at the clock.
const SWEPT: usize = 512;
const SWEPT_AT_ONCE: usize = 32;

impl Idle {
    /// How many connections are idle.
    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Closes what died while idle, and what was idle for too long; of a large client, a part at a time.
    pub(crate) async fn sweep(&self, now: u64, turn: &Turn<'_>) {
        let mut left = self.endpoints.borrow().len().min(SWEPT);
        while left > 0 {
            let many = left.min(SWEPT_AT_ONCE);
            self.sweep_some(now, many);
            left -= many;
            turn.pause().await;
        }
    }

    fn sweep_some(&self, now: u64, many: usize) {
        for _ in 0..many {
            let at = self.at.get();
            let Some(endpoint) = self.endpoints.borrow().get(at).cloned() else {
                self.at.set(0);
                continue;
            };
            endpoint.sweep(now);
            if endpoint.idle.borrow().is_empty() {
                endpoint.is_listed.set(false);
                self.endpoints.borrow_mut().swap_remove(at);
            } else {
                self.at.set(at + 1);
            }
        }
    }

    /// Closes some of what is idle, `most` endpoints' at most; how many connections that were.
    pub(crate) fn close_some(&self, most: usize) -> usize {
        let before = self.connections();
        for _ in 0..most {
            let Some(endpoint) = self.endpoints.borrow_mut().pop() else { break };
            endpoint.is_listed.set(false);
            drop(endpoint.take_idle());
        }
        before.saturating_sub(self.connections())
    }

    /// The client is gone.
    pub(crate) fn close(&self) {
        for endpoint in self.endpoints.take() {
            endpoint.remove();
        }
    }

    fn count(&self, more: usize, fewer: usize) {
        self.connections.set((self.connections.get() + more).saturating_sub(fewer));
    }
}

/// One worker's part of [`Pool`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    min: usize,
    max: Option<usize>,
    idle: Option<u64>,
    max_waiters: Option<usize>,
    no_delay: bool,
    keep_alive: Option<bool>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum NoConnection {
    Io(io::Error),
    /// Something ran out here: file descriptors, ports, memory.
    Exhausted(io::Error),
    /// A handshake that failed; the error's text says why.
    Tls(io::Error),
    Waiters,
}

impl Bounds {
    /// The share of worker `number` of `workers`: shares add up, but none is left without.
    pub(crate) fn new(pool: &Pool, socket: SocketOptions, number: usize, workers: usize) -> Bounds {
        let share = |all: usize| all / workers + usize::from(number < all % workers);
        Bounds {
            min: share(pool.min),
            max: pool.max.map(|max| share(max).max(1)),
            idle: pool.idle.map(|idle| idle.as_nanos() as u64),
            max_waiters: pool.max_waiters.map(share),
            no_delay: socket.no_delay,
            keep_alive: socket.keep_alive,
        }
    }
}

impl Endpoint {
    pub(crate) fn new(
        address: SocketAddr,
        bounds: Bounds,
        limits: Option<Rc<Limits>>,
        all_idle: &Rc<Idle>,
    ) -> Rc<Endpoint> {
        Rc::new(Endpoint {
            address,
            is_down: Cell::new(false),
            limits,
            idle: RefCell::default(),
            gone: Cell::new(false),
            bounds,
            permits: bounds.max.map(|max| Arc::new(Semaphore::new(max))),
            waiting: Cell::new(0),
            is_listed: Cell::new(false),
            all_idle: all_idle.clone(),
        })
    }

    /// An idle connection that is good as far as is known. `look`: ask the kernel, too.
    pub(crate) fn reuse(&self, now: u64, look: bool) -> Option<Upstream> {
        if self.permits.is_some() {
            return None;
        }
        self.pop(now, look)
    }

    fn pop(&self, now: u64, look: bool) -> Option<Upstream> {
        loop {
            let mut upstream = self.idle.borrow_mut().pop()?;
            self.all_idle.count(0, 1);
            if self.limits.is_some() && self.is_over(&upstream, now) {
                continue;
            }
            let look = look && now.saturating_sub(upstream.idle_since) > LOOK_AFTER;
            if upstream.is_quiet() && !(look && upstream.stream.has_news()) {
                upstream.reused = true;
                return Some(upstream);
            }
        }
    }

    /// Whether an idle connection has reached a limit, which is counted.
    fn is_over(&self, upstream: &Upstream, now: u64) -> bool {
        let Some(limits) = &self.limits else { return false };
        let over = limits.idle_ends(upstream.idle_since, upstream.dies) <= now;
        if over {
            limits.count_idle(upstream.dies, now);
        }
        over
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// A connection, idle or new; waits its turn where the pool is bounded. `fresh`: a new one.
    pub(crate) async fn connect(
        &self,
        metrics: &Rc<Metrics>,
        secured: Option<&Secured>,
        now: u64,
        fresh: bool,
    ) -> Result<Upstream, NoConnection> {
        let permit = match &self.permits {
            None => None,
            Some(permits) => Some(self.wait_turn(permits, metrics).await?),
        };
        if permit.is_some()
            && !fresh
            && let Some(mut upstream) = self.pop(now, true)
        {
            upstream.permit = permit;
            return Ok(upstream);
        }
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(self.address)).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if crate::tcp::is_exhausted(&error) => return Err(NoConnection::Exhausted(error)),
            Ok(Err(error)) => return Err(NoConnection::Io(error)),
            Err(_) => return Err(NoConnection::Io(io::ErrorKind::TimedOut.into())),
        };
        if self.bounds.no_delay {
            stream.set_nodelay(true).map_err(NoConnection::Io)?;
        }
        if let Some(keep_alive) = self.bounds.keep_alive {
            socket2::SockRef::from(&stream).set_keepalive(keep_alive).map_err(NoConnection::Io)?;
        }
        let stream = match secured {
            None => Stream::Plain(stream),
            // Boxed: plain connections do not carry its weight.
            Some(secured) => {
                let shaken = Box::pin(stream::connect(stream, self.address.ip(), secured)).await;
                shaken.map_err(NoConnection::Tls)?
            }
        };
        metrics.connections.opened();
        let opened = metrics.worker.now();
        metrics.connect_latency.record(opened.saturating_sub(now) / 1_000_000);
        let life = Life { opened, ..Life::default() };
        let dies = Limits::death(self.limits.as_ref(), opened);
        Ok(Upstream { stream, life, reused: false, dies, idle_since: opened, metrics: metrics.clone(), permit })
    }

    async fn wait_turn(
        &self,
        permits: &Arc<Semaphore>,
        metrics: &Metrics,
    ) -> Result<OwnedSemaphorePermit, NoConnection> {
        if let Ok(permit) = permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        if self.bounds.max_waiters.is_some_and(|max| self.waiting.get() >= max) {
            metrics.too_many_waiters.inc();
            return Err(NoConnection::Waiters);
        }
        metrics.waited.inc();
        let _waiting = Waiting::new(&self.waiting, &metrics.waiters);
        let permit = permits.clone().acquire_owned().await;
        permit.map_err(|closed| NoConnection::Io(io::Error::other(closed)))
    }

    /// Takes back a connection that is between exchanges.
    pub(crate) fn give_back(self: &Rc<Endpoint>, mut upstream: Upstream, now: u64) {
        upstream.permit = None;
        if !self.gone.get() {
            upstream.idle_since = now;
            self.idle.borrow_mut().push(upstream);
            self.all_idle.count(1, 0);
            if !self.is_listed.replace(true) {
                self.all_idle.endpoints.borrow_mut().push(self.clone());
            }
        }
    }

    fn take_idle(&self) -> Vec<Upstream> {
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        self.all_idle.count(0, idle.len());
        idle
    }

    /// Nobody will need it for a while: what is idle closes.
    pub(crate) fn rest(&self) {
        close_later(self.take_idle());
    }

    /// Discovery took the endpoint away: what is idle closes, and what is busy when it is done.
    pub(crate) fn remove(&self) {
        self.gone.set(true);
        self.rest();
    }

    /// Closes what died while idle, and what was idle for too long.
    fn sweep(&self, now: u64) {
        let mut idle = std::mem::take(&mut *self.idle.borrow_mut());
        let mut closing = idle.extract_if(.., |upstream| !upstream.is_quiet()).collect::<Vec<_>>();
        if self.limits.is_some() {
            closing.extend(idle.extract_if(.., |upstream| self.is_over(upstream, now)));
        }
        if let Some(limit) = self.bounds.idle {
            // The longest idle are in front.
            let most = idle.len().saturating_sub(self.bounds.min);
            let old = idle.iter().take(most).take_while(|upstream| now.saturating_sub(upstream.idle_since) >= limit);
            let old = old.count();
            closing.extend(idle.drain(..old));
        }
        self.all_idle.count(0, closing.len());
        *self.idle.borrow_mut() = idle;
        close_later(closing);
    }
}

/// Closes connections between requests; see [`crate::closing`].
fn close_later(connections: Vec<Upstream>) {
    if let Some(worker) = connections.first().map(|first| first.metrics.worker.clone()) {
        worker.closing.later(connections);
    }
}

impl Upstream {
    /// Nothing came and nobody closed, as far as the event loop has seen.
    fn is_quiet(&mut self) -> bool {
        self.stream.is_quiet()
    }

    /// Bytes went out on it.
    #[inline]
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.life.sent += bytes as u64;
        self.metrics.connections.sent.add(bytes as u64);
    }

    #[inline]
    pub(crate) fn received(&mut self, bytes: usize) {
        self.life.received += bytes as u64;
        self.metrics.connections.received.add(bytes as u64);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.metrics.connections.closed(&self.life, self.metrics.worker.coarse_now());
    }
}

/// A place in the line for a connection.
struct Waiting<'a> {
    waiting: &'a Cell<usize>,
    gauge: &'a telemetry::Gauge,
}

impl<'a> Waiting<'a> {
    fn new(waiting: &'a Cell<usize>, gauge: &'a telemetry::Gauge) -> Waiting<'a> {
        waiting.set(waiting.get() + 1);
        gauge.inc();
        Waiting { waiting, gauge }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiting.set(self.waiting.get() - 1);
        self.gauge.dec();
    }
}
