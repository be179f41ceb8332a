//! A client's connection: reads heads, has each request exchanged, in order, until one side has enough.
//!
//! ```text
//!  idle ── bytes ──▶ head ──▶ exchange ──▶ idle
//!   │                  │          │
//!   └── closed, drain  └ refusal  └ close
//! ```
//! While idle it holds no buffer. Bytes that came early (pipelined requests, the start of a head) wait in
//! `carry`, whose size the head limits bound; while an exchange runs, no more than [`EARLY`] are read.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http1::{Body, Form, HeadError, Limits, Method, Progress, RequestHead, parse_request, write_refusal};
use tokio::io::AsyncWriteExt;

use crate::exchange::{self, Exchange, Flight, Settled};
use crate::failure::{Failure, Kind, Manner};
use crate::forwarded::Forwarder;
use crate::metrics::Life;
use crate::record;
use crate::request::{Request, Scratch, keeps_alive, prepare};
use crate::server::Server;
use crate::stream::Stream;
use crate::worker::{Mood, Slot, Worker};

/// While there is little room, who sends nothing has so long.
const TIGHT: u64 = 2_000_000_000;
/// A connection that is opened while the worker drains must send its request within this time.
const FIRST_REQUEST: u64 = 1_000_000_000;
/// A kept connection may send one more request for so long after it was decided to close it.
const LAST_REQUEST: u64 = 250_000_000;
/// Bytes read ahead of their turn.
pub(crate) const EARLY: usize = 64 * 1024;
/// After an answer that the client may still be sending against: how long and how much is read away, so
/// that the kernel does not reset the connection before the answer has arrived.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

pub(crate) struct Connection {
    pub worker: Rc<Worker>,
    pub server: Rc<Server>,
    pub stream: Stream,
    pub peer: SocketAddr,
    pub slot: Slot,
    /// Bytes that were read ahead; those before `carry_from` are used.
    carry: Vec<u8>,
    carry_from: usize,
    /// The client will send no more.
    pub ended: bool,
    pub life: Life,
    forwarder: Forwarder,
}

/// What a connection reuses from request to request, one for the worker: it is only used while nobody waits.
#[derive(Default)]
pub(crate) struct Parser {
    head: RequestHead,
    scratch: Scratch,
}

/// What became of bytes.
enum Taken {
    /// More are needed.
    Partial,
    Request(Box<Request>, Vec<u8>),
    /// A head that could not be read, or did not come in time: the status that says so.
    Refused(u16),
    /// A request that is answered here, because of its head or its body.
    Failed(Failure, Ending),
}

/// What became of a request, or of what was none.
// Boxed, the usual case would cost an allocation per request.
#[allow(clippy::large_enum_variant)]
enum Begun<'a> {
    /// The usual case is on its way already.
    Exchange(Exchange<'a>, Option<Flight>),
    /// An answer of our own.
    Aside(Pin<Box<dyn Future<Output = Next> + 'a>>),
    Over,
}

/// How to go on after an answer of our own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    pub method: Method,
    /// The client's connection stays open.
    pub keep_alive: bool,
}

/// Whether the connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Request,
    /// Close; what the client still sends is read away first.
    Linger,
    Close,
}

/// The task of one connection. All that it needs is in the connection from the start: arguments would weigh
/// on every idle one.
pub(crate) fn serve(server: Rc<Server>, stream: Stream, peer: SocketAddr) -> impl Future<Output = ()> {
    let worker = server.router.worker.clone();
    let slot = Slot::new(&worker);
    server.connections.opened();
    worker.open.set(worker.open.get() + 1);
    let life = Life { opened: worker.now(), ..Life::default() };
    let forwarder = Forwarder::default();
    let carry = Vec::new();
    let mut connection =
        Connection { worker, server, stream, peer, slot, carry, carry_from: 0, ended: false, life, forwarder };
    async move {
        poll_fn(|context| {
            connection.slot.wake(context.waker());
            Poll::Ready(())
        })
        .await;
        if connection.run().await == Next::Linger {
            Box::pin(connection.linger()).await;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.server.connections.closed(&self.life, self.worker.coarse_now());
        self.worker.open.set(self.worker.open.get() - 1);
    }
}

impl Connection {
    async fn run(&mut self) -> Next {
        loop {
            // An idle connection carries the weight of all that lives across an `await` here: what is usual is
            // held once, in `begun`, and what takes longer is boxed.
            let mut begun = match self.read().await {
                Ok(taken) => self.begin(taken),
                Err(_) => return Next::Close,
            };
            let next = match &mut begun {
                Begun::Exchange(exchange, flight) => {
                    let settled = match flight {
                        Some(sent) => {
                            let upstream = &mut sent.upstream;
                            let event = poll_fn(|context| exchange.poll_event(upstream, context)).await;
                            exchange.settle(flight, event)
                        }
                        None => Settled::Begin,
                    };
                    let (end, next) = match settled {
                        Settled::Done(end, next) => (end, next),
                        Settled::Delivering(delivering) => Box::pin(exchange.deliver(*delivering)).await,
                        Settled::Unclear(flight) => Box::pin(exchange.go(Some(flight))).await,
                        Settled::Begin => Box::pin(exchange.go(None)).await,
                    };
                    exchange.conclude(&end);
                    next
                }
                Begun::Aside(answering) => answering.await,
                Begun::Over => Next::Close,
            };
            if next != Next::Request {
                return next;
            }
        }
    }

    /// Begins to do what was asked for.
    #[inline]
    fn begin(&mut self, taken: Taken) -> Begun<'_> {
        match taken {
            Taken::Request(request, out) => {
                self.life.requests += 1;
                self.slot.set(None);
                match self.server.admit() {
                    Some(under_way) => {
                        let mut exchange = Exchange::new(self, request, out, under_way);
                        let flight = exchange.dispatch();
                        Begun::Exchange(exchange, flight)
                    }
                    None => Begun::Aside(Box::pin(exchange::refuse(self, request, out))),
                }
            }
            Taken::Failed(failure, ending) => {
                self.life.requests += 1;
                self.slot.set(None);
                Begun::Aside(Box::pin(self.answer(failure, ending)))
            }
            Taken::Refused(status) => Begun::Aside(Box::pin(self.refuse(status))),
            Taken::Partial => Begun::Over,
        }
    }

    /// Answers what is no request.
    async fn refuse(&mut self, status: u16) -> Next {
        let mut out = self.worker.take_buffer();
        write_refusal(&mut out, status);
        let written = self.stream.write_all(&out).await;
        self.sent(out.len());
        self.worker.give_buffer(out);
        if written.is_ok() { Next::Linger } else { Next::Close }
    }

    /// Reads until there is a request. `Partial` is the end of the connection.
    async fn read(&mut self) -> io::Result<Taken> {
        if !self.carry.is_empty() {
            let taken = self.take_carried();
            if !matches!(taken, Taken::Partial) {
                return Ok(taken);
            }
        }
        if !self.carry.is_empty() {
            self.await_head();
        } else if let Some(limits) = &self.server.limits {
            self.slot.set(Some(limits.idle_ends(self.worker.coarse_now(), limits.dies(self.life.opened))));
        }
        loop {
            if self.ended {
                return Ok(Taken::Partial);
            }
            let read = poll_fn(|context| self.poll_idle(context)).await?;
            if read == 0 {
                return Ok(self.end_of_input());
            }
            self.received(read);
            let worker = self.worker.clone();
            let taken = worker.with_read(read, |bytes| self.take_more(bytes));
            if !matches!(taken, Taken::Partial) {
                return Ok(taken);
            }
            self.await_head();
        }
    }

    /// A head was begun: from its first byte on it has so much time, however it trickles in.
    fn await_head(&self) {
        let limit = self.server.settings.head_timeout.as_nanos() as u64;
        self.slot.set_earlier(self.worker.coarse_now() + limit);
    }

    /// Its time is over before a request has begun; where times are limited, that is counted.
    fn overdue(&self) {
        let leaves = self.is_leaving() || self.worker.mood() == Mood::Tight;
        if let Some(limits) = self.server.limits.as_ref().filter(|_| self.carry.is_empty() && !leaves) {
            limits.count_idle(limits.dies(self.life.opened), self.worker.coarse_now());
        }
    }

    /// The client closed, or its time for a head is over.
    fn end_of_input(&self) -> Taken {
        let rest = &self.carry[self.carry_from..];
        let began = rest.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
        match (began, self.slot.is_due()) {
            (true, true) => Taken::Refused(408),
            (true, false) => Taken::Refused(HeadError::Line.status()),
            (false, _) => Taken::Partial,
        }
    }

    /// Waits for bytes, which are then in the worker's buffer; 0 is the end.
    #[inline]
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.worker.poll_read(&mut self.stream, context) {
            Poll::Pending => self.poll_waiting(),
            other => other,
        }
    }

    /// Nothing came: is it time to go?
    fn poll_waiting(&mut self) -> Poll<io::Result<usize>> {
        self.follow_reload();
        if self.slot.is_due() {
            // Bytes that the event loop has not seen yet wake this task.
            let has_news = self.is_leaving() && self.stream.has_news();
            if has_news {
                return Poll::Pending;
            }
            self.overdue();
            return Poll::Ready(Ok(0));
        }
        if self.is_leaving() {
            // Not at once: a request may be on its way, and its answer says that this connection ends. A
            // connection that is new must have one on its way.
            let patience = if self.life.requests == 0 { FIRST_REQUEST } else { LAST_REQUEST };
            self.slot.set_earlier(self.worker.now() + patience);
        } else if self.worker.mood() == Mood::Tight {
            self.slot.set_earlier(self.worker.coarse_now() + TIGHT);
        }
        Poll::Pending
    }

    /// The worker drains, or the server is no more: this connection closes at the next chance.
    #[inline]
    pub(crate) fn is_leaving(&self) -> bool {
        self.worker.is_draining() || self.server.is_leaving()
    }

    /// After a reload the connection goes on under the new settings, from its next request.
    #[inline]
    fn follow_reload(&mut self) {
        if self.server.is_replaced() {
            self.server = self.server.newest();
        }
    }

    pub(crate) fn received(&mut self, bytes: usize) {
        self.life.received += bytes as u64;
        self.server.connections.received.add(bytes as u64);
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.life.sent += bytes as u64;
        self.server.connections.sent.add(bytes as u64);
    }

    #[inline]
    fn take_more(&mut self, bytes: &[u8]) -> Taken {
        if self.carry.is_empty() {
            let (taken, used) = self.take(bytes);
            self.keep(&bytes[used..]);
            return taken;
        }
        self.keep(bytes);
        // A head ends with a line: no use in looking before there is one, unless it is too long anyway.
        let limits = self.server.router.settings.limits;
        if memchr::memchr(b'\n', bytes).is_none() && self.carried() < limits.line.min(limits.headers) {
            return Taken::Partial;
        }
        self.take_carried()
    }

    fn take_carried(&mut self) -> Taken {
        let carry = std::mem::take(&mut self.carry);
        let from = std::mem::take(&mut self.carry_from);
        let (taken, used) = self.take(&carry[from..]);
        if from + used == carry.len() {
            self.worker.give_buffer(carry);
        } else {
            (self.carry, self.carry_from) = (carry, from + used);
        }
        taken
    }

    /// Takes one request off `bytes`, and says how much of them it was.
    fn take(&mut self, bytes: &[u8]) -> (Taken, usize) {
        self.follow_reload();
        let worker = self.worker.clone();
        let server = self.server.clone();
        let mut parser = worker.parser.borrow_mut();
        let Parser { head, scratch } = &mut *parser;
        let limits = server.router.settings.limits;
        let limits = Limits { line: limits.line, headers: limits.headers };
        match parse_request(bytes, &limits, head) {
            Ok(Progress::Complete) => {}
            Ok(Progress::Partial) => return (Taken::Partial, 0),
            Err(error) => return (Taken::Refused(error.status()), 0),
        }
        let mut out = worker.take_buffer();
        let prepared = prepare(&server, &mut self.forwarder, self.peer, head, bytes, scratch, &mut out);
        let rest = &bytes[head.len..];
        let mut request = match prepared {
            Ok(request) => request,
            Err(failure) => {
                worker.give_buffer(out);
                return reject(failure, head, rest);
            }
        };
        request.started = worker.now();
        if let Some(drawn) = request.name.try_draw(&server.router, request.started) {
            request.enter(&drawn, server.router.settings.trace_propagator, self.stream.certificate(), &mut out);
            request.drawn = Some(drawn);
        }
        match request.body.feed(rest, request.form(), &mut out) {
            Ok((used, _)) => {
                if request.measures && request.body.is_done() {
                    request.measure(&mut out);
                }
                (Taken::Request(request, out), head.len + used)
            }
            Err(error) => {
                worker.give_buffer(out);
                let failure = Failure::new(Kind::Request, error.to_string());
                (Taken::Failed(failure, Ending { method: head.method, keep_alive: false }), bytes.len())
            }
        }
    }

    /// Bytes read ahead.
    pub(crate) fn carried(&self) -> usize {
        self.carry.len() - self.carry_from
    }

    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            if self.carry.capacity() == 0 {
                self.carry = self.worker.take_buffer();
            }
            // A client that is always ahead never empties it: what is used goes once it is the larger part.
            if self.carry_from > self.carried() {
                self.carry.drain(..self.carry_from);
                self.carry_from = 0;
            }
            self.carry.extend_from_slice(bytes);
        }
    }

    /// What was read ahead, for a tunnel.
    pub(crate) fn take_early(&mut self) -> Vec<u8> {
        let from = std::mem::take(&mut self.carry_from);
        std::mem::take(&mut self.carry).split_off(from)
    }

    /// Answers a request that had no exchange.
    async fn answer(&mut self, failure: Failure, ending: Ending) -> Next {
        let started = self.worker.coarse_now();
        let next = self.write_failure(&failure, ending).await;
        let nanos = self.worker.now().saturating_sub(started);
        self.server.statuses.count(failure.kind.status(), nanos);
        self.server.requests.answered(failure.kind.status() < 500, nanos);
        record::rejected(self, &failure, ending.method);
        next
    }

    /// Writes an answer of our own.
    pub(crate) async fn write_failure(&mut self, failure: &Failure, ending: Ending) -> Next {
        let keep_alive = ending.keep_alive && !self.is_leaving() && !self.ended;
        let manner = Manner {
            limits: self.server.router.settings.limits,
            keep_alive,
            head_only: ending.method == Method::Head,
            clear_context: self.server.settings.clear_context,
        };
        let mut out = self.worker.take_buffer();
        failure.write(&manner, &mut out);
        let written = self.stream.write_all(&out).await;
        self.sent(out.len());
        self.worker.give_buffer(out);
        match (written, keep_alive) {
            (Err(_), _) => Next::Close,
            (Ok(()), true) => Next::Request,
            (Ok(()), false) => Next::Linger,
        }
    }

    /// Reads away what the client still sends, for a while.
    async fn linger(&mut self) {
        if self.ended || self.stream.shutdown().await.is_err() {
            return;
        }
        let drained = async {
            let mut read = 0;
            while read < LINGER_BYTES {
                match poll_fn(|context| self.worker.poll_read(&mut self.stream, context)).await {
                    Ok(0) | Err(_) => return,
                    Ok(bytes) => read += bytes,
                }
            }
        };
        // Whether it was all or the time is over: the connection closes now.
        let _ = tokio::time::timeout(LINGER, drained).await;
    }
}

/// A request that is answered without being sent: the connection goes on if its body is over.
fn reject(failure: Failure, head: &RequestHead, rest: &[u8]) -> (Taken, usize) {
    let mut body = Body::new(head.body);
    let mut sink = Vec::new();
    let (used, over) = match body.feed(rest, Form::Payload, &mut sink) {
        Ok((used, _)) => (used, body.is_done()),
        Err(_) => (rest.len(), false),
    };
    (Taken::Failed(failure, Ending { method: head.method, keep_alive: keeps_alive(head) && over }), head.len + used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F: Future>(_: impl Fn(Rc<Server>, Stream, SocketAddr) -> F) -> usize {
        size_of::<F>()
    }

    /// A task is this and some 130 bytes, in a block of the next size of the allocator. The goal is 2 KiB for
    /// all that an idle connection holds.
    #[test]
    fn an_idle_connection_holds_little() {
        let size = size_of_future(serve);
        assert!(size <= 1152, "{size}");
    }
}
