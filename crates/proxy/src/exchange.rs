//! One exchange: from a prepared request to the end of its answer, retries included.
//!
//! ```text
//!  run ── draw ──▶ attempt ── pick, connect ──▶ wire::converse ──▶ answer's head
//!   ▲                 ▲  └ nothing was taken: requeue ┘               │
//!   └ classifier says retry, budget allows ───────────────────────────┤
//!                                                       deliver ──▶ body, end
//! ```
//! One task does all of it. What must outlive a wait is in [`Exchange`]; heads live in the worker's
//! parsers and are used only between two waits.

use std::mem;
use std::rc::Rc;
use std::time::Duration;

use balance::{Backoffs, Outcome};
use http1::Form;
use tokio::io::AsyncWriteExt;

use crate::access_log::{Line, Lines};
use crate::classify::{Asked, Class};
use crate::client::{CONNECT_REQUEUES, Picked};
use crate::connection::{Connection, Ending, Next};
use crate::deliver::Delivering;
use crate::fail_fast;
use crate::failure::{Failure, Kind};
use crate::gather;
use crate::limits::Watch;
use crate::name::Drawn;
use crate::pool::{Endpoint, NoConnection, Upstream};
use crate::record::Record;
use crate::request::Request;
use crate::server::UnderWay;
use crate::wire::{Answer, Broken, Event, Parsed, Place};

pub(crate) struct Exchange<'a> {
    pub connection: &'a mut Connection,
    pub request: Box<Request>,
    /// The outgoing request; later what the client is to get.
    pub out: Vec<u8>,
    /// How much of `out` is written.
    pub sent: usize,
    /// Parts of a streamed request body that the endpoint did not take yet.
    pub overflow: Vec<u8>,
    pub overflow_sent: usize,
    /// Bytes of the request's body went out that are not in `out`: it cannot be sent again.
    pub has_streamed: bool,
    /// The endpoint takes no more of the request.
    pub refuses: bool,
    /// It was sent again although it may have been taken.
    was_risked: bool,
    /// How much had gone through when it was last decided to look for a silent client.
    pub looked_at: Option<u64>,
    pub record: Record,
    /// Looks after sockets that have limits; mostly none have.
    pub watch: Option<Box<Watch>>,
    total_ends: Option<u64>,
    /// An endpoint that was picked, and had no idle connection.
    picked: Option<Picked>,
    _under_way: UnderWay,
}

/// An answer's head has arrived; it lies in the worker's parser.
pub(crate) struct Arrived {
    pub upstream: Upstream,
    pub picked: Picked,
    pub drawn: Drawn,
    pub place: Place,
    pub answer: Answer,
    pub dispatched: u64,
}

/// Why an attempt has no answer.
pub(crate) enum Stop {
    Failure(Failure),
    /// Nobody is there to be answered.
    ClientGone,
    /// What the client sends is no body.
    BadBody(String),
}

/// How an exchange ended, for metrics.
pub(crate) enum End {
    /// With the endpoint's answer.
    Answered {
        status: u16,
        class: Class,
        nanos: u64,
    },
    /// With an answer of our own.
    Failed(Failure),
    Gone,
}

/// A request that went out on a connection.
pub(crate) struct Flight {
    pub upstream: Upstream,
    pub picked: Picked,
    pub drawn: Drawn,
    pub dispatched: u64,
    pub attempt_ends: Option<u64>,
}

/// What the first event of a flight led to.
pub(crate) enum Settled {
    Done(End, Next),
    /// The answer's body goes on.
    Delivering(Box<Delivering>),
    /// Anything else, to be dealt with at length.
    Unclear(Box<(Flight, Event)>),
    /// Nothing was sent yet.
    Begin,
}

impl<'a> Exchange<'a> {
    /// The exchange of one request, which counts as under way from here.
    pub(crate) fn new(
        connection: &'a mut Connection,
        request: Box<Request>,
        out: Vec<u8>,
        under_way: UnderWay,
    ) -> Exchange<'a> {
        let server = &connection.server;
        server.requests.pending.inc();
        let service = &request.name.service;
        service.requests.pending.inc();
        let limit = [service.settings.total_timeout, request.server_timeout].into_iter().flatten().min();
        let total_ends = limit.map(|limit| request.started.saturating_add(limit.as_nanos() as u64));
        Exchange {
            connection,
            request,
            out,
            sent: 0,
            overflow: Vec::new(),
            overflow_sent: 0,
            has_streamed: false,
            refuses: false,
            looked_at: None,
            was_risked: false,
            record: Record::default(),
            watch: None,
            total_ends,
            picked: None,
            _under_way: under_way,
        }
    }

    /// The usual case: name bound, request whole, a connection idle. Sends it; `None`: not the usual case.
    #[inline]
    pub(crate) fn dispatch(&mut self) -> Option<Flight> {
        if !self.request.is_complete() || self.request.ends_here {
            return None;
        }
        let drawn = self.request.drawn.take()?;
        let now = self.request.started;
        let client = &drawn.leaf.client;
        if client.is_restrained() {
            self.request.drawn = Some(drawn);
            return None;
        }
        let picked = if drawn.is_ready(now) == Some(true) { client.pick(now) } else { None };
        let look = !self.request.method.is_idempotent();
        let upstream = picked.as_ref().and_then(|picked| picked.endpoint.reuse(now, look));
        let (picked, mut upstream) = match (picked, upstream) {
            (Some(picked), Some(upstream)) => (picked, upstream),
            (picked, _) => {
                self.picked = picked;
                self.request.drawn = Some(drawn);
                return None;
            }
        };
        self.request.name.service.deposit(now);
        self.record.begin(&drawn, &picked.endpoint, now, self.request.client_span);
        self.request.rename_for(client, &picked.endpoint, &mut self.out);
        let attempt_ends = self.send(&mut upstream, client);
        Some(Flight { upstream, picked, drawn, dispatched: now, attempt_ends })
    }

    /// The usual end: the first that comes is the answer's head, and all of the answer can be passed on.
    #[inline]
    pub(crate) fn settle(&mut self, flight: &mut Option<Flight>, event: Event) -> Settled {
        let Some(mut flight) = flight.take() else { return Settled::Begin };
        let Event::Read(read @ 1..) = event else {
            return Settled::Unclear(Box::new((flight, event)));
        };
        let worker = self.connection.worker.clone();
        let parsed = worker.with_read(read, |bytes| self.parse_bytes(bytes, false));
        let Ok(Parsed::Final(answer)) = parsed else {
            return Settled::Unclear(Box::new((flight, event)));
        };
        let class = self.asked().answered(answer.status, answer.says_retryable);
        if answer.nack.is_some() || class == Class::Retryable || answer.is_partial || self.request.gathers {
            return Settled::Unclear(Box::new((flight, event)));
        }
        flight.upstream.received(read);
        let Flight { upstream, picked, drawn, dispatched, .. } = flight;
        let arrived = Arrived { upstream, picked, drawn, place: Place::Read(read), answer, dispatched };
        match self.begin_delivery(arrived, class) {
            Ok((end, next)) => Settled::Done(end, next),
            Err(delivering) => Settled::Delivering(delivering),
        }
    }

    /// Counts what was exchanged, and gives the connection back.
    #[inline]
    pub(crate) fn conclude(&mut self, end: &End) {
        let (out, overflow) = (mem::take(&mut self.out), mem::take(&mut self.overflow));
        let record = mem::take(&mut self.record);
        let Exchange { connection, request, .. } = self;
        let (server, worker) = (&connection.server, &connection.worker);
        let (service, started) = (&request.name.service, request.started);
        connection.slot.set(None);
        worker.give_buffer(out);
        worker.give_buffer(overflow);
        server.requests.pending.dec();
        service.requests.pending.dec();
        match end {
            End::Answered { status, class, nanos } => {
                server.requests.answered(class.is_success(), *nanos);
                service.requests.answered(class.is_success(), *nanos);
                server.statuses.count(*status, *nanos);
            }
            End::Failed(failure) => {
                let nanos = worker.now().saturating_sub(started);
                server.requests.answered(failure.kind.status() < 500, nanos);
                service.requests.failed(failure.kind.exceptions(), nanos);
                server.statuses.count(failure.kind.status(), nanos);
            }
            End::Gone => {
                let nanos = worker.now().saturating_sub(started);
                server.requests.failed(&["com.twitter.finagle.ChannelClosedException"], nanos);
                service.requests.failed(&["com.twitter.finagle.CancelledRequestException"], nanos);
                server.statuses.error(nanos);
            }
        }
        record.finish(connection, request, end);
    }

    /// The exchange at length: from the start, or from what came of the first dispatch.
    pub(crate) async fn go(&mut self, first: Option<Box<(Flight, Event)>>) -> (End, Next) {
        if first.is_none() {
            if !self.request.is_complete()
                && let Err(stop) = self.begin_body().await
            {
                return self.stop(stop).await;
            }
            if self.request.ends_here {
                return match self.answer_trace().await {
                    Ok(ended) => ended,
                    Err(stop) => self.stop(stop).await,
                };
            }
            self.request.name.service.deposit(self.request.started);
        }
        let mut first = first;
        let mut backoffs = None;
        let mut retries = 0;
        let ended = loop {
            let (class, arrived) = match self.attempt(first.take()).await {
                Ok(arrived) => {
                    let class = self.asked().answered(arrived.answer.status, arrived.answer.says_retryable);
                    (class, Ok(arrived))
                }
                Err(Stop::Failure(failure)) => {
                    let class = self.asked().failed(failure.kind);
                    self.record.classify(self.request.client_span, class);
                    (class, Err(failure))
                }
                Err(stop) => break self.stop(stop).await,
            };
            if class == Class::Retryable && self.may_retry() {
                retries += 1;
                if let Ok(arrived) = arrived {
                    self.discard(arrived, class);
                }
                match self.back_off(&mut backoffs).await {
                    Ok(()) => continue,
                    Err(failure) => break self.stop(Stop::Failure(failure)).await,
                }
            }
            break match arrived {
                Ok(mut arrived) => {
                    if self.request.adds_context {
                        self.add_context(&mut arrived).await;
                    }
                    match self.begin_delivery(arrived, class) {
                        Ok(ended) => ended,
                        Err(delivering) => self.deliver(*delivering).await,
                    }
                }
                Err(failure) => self.stop(Stop::Failure(failure)).await,
            };
        };
        if retries > 0 {
            self.request.name.service.retries_each.record(retries);
        }
        ended
    }

    fn asked(&self) -> Asked {
        Asked {
            classifier: self.request.name.service.settings.classifier.unwrap_or_default(),
            method: self.request.method,
            is_streamed: !self.request.is_buffered,
        }
    }

    /// Invites the body if the client waits for that, and reads a short one whole.
    async fn begin_body(&mut self) -> Result<(), Stop> {
        if self.request.expect_continue {
            let written = self.connection.stream.write_all(http1::CONTINUE).await;
            written.map_err(|_| Stop::ClientGone)?;
        }
        while self.request.is_buffered && !self.request.is_complete() {
            let connection = &mut *self.connection;
            let worker = connection.worker.clone();
            let reading = std::future::poll_fn(|context| worker.poll_read(&mut connection.stream, context));
            let read = match connection.server.limits.as_ref().and_then(|limits| limits.read) {
                None => reading.await,
                Some(limit) => match tokio::time::timeout(Duration::from_nanos(limit), reading).await {
                    Ok(read) => read,
                    Err(_) => {
                        connection.server.limits.iter().for_each(|limits| limits.read_count.inc());
                        return Err(Stop::ClientGone);
                    }
                },
            };
            let read = read.map_err(|_| Stop::ClientGone)?;
            if read == 0 {
                return Err(Stop::ClientGone);
            }
            connection.received(read);
            let form = self.request.form();
            let (body, out) = (&mut self.request.body, &mut self.out);
            let fed = worker.with_read(read, |bytes| {
                let (used, _) = body.feed(bytes, form, out)?;
                connection.keep(&bytes[used..]);
                Ok::<(), http1::BodyError>(())
            });
            fed.map_err(|error| Stop::BadBody(error.to_string()))?;
            let length = self.out.len() as u64;
            let fits = length <= gather::MOST || !self.request.measures;
            if !(fits && self.request.held.as_mut().is_none_or(|held| held.grow(length))) {
                return Err(Stop::Failure(Failure::long_request()));
            }
        }
        if self.request.measures && self.request.is_complete() {
            self.request.measure(&mut self.out);
        }
        Ok(())
    }

    /// Draws a leaf, unless one is drawn, and gets an answer's head from one of its endpoints.
    async fn attempt(&mut self, first: Option<Box<(Flight, Event)>>) -> Result<Arrived, Stop> {
        let worker = self.connection.worker.clone();
        let mut now = worker.coarse_now();
        let (drawn, mut first) = match first.map(|first| *first) {
            Some((flight, event)) => {
                let Flight { upstream, picked, drawn, dispatched, attempt_ends } = flight;
                (drawn, Some((upstream, picked, dispatched, attempt_ends, Some(event))))
            }
            None => (self.drawn().await?, None),
        };
        let leaf = drawn.leaf.clone();
        let client = &leaf.client;
        let (mut connects, mut requeues, mut limit) = (0, 0, None);
        let mut fresh = false;
        loop {
            let (mut upstream, picked, dispatched, attempt_ends, event) = match first.take() {
                Some(first) => first,
                None => {
                    if client.is_restrained() && !client.admits(now) {
                        return Err(Stop::Failure(Failure::restrained()));
                    }
                    let before = self.picked.take().filter(|picked| picked.is_of(client));
                    let Some(picked) = before.or_else(|| client.pick(now)) else {
                        return Err(Stop::Failure(self.connection.server.router.unbound(&self.request.name)));
                    };
                    let endpoint = picked.endpoint.clone();
                    let look = !self.request.method.is_idempotent();
                    let reused = if fresh { None } else { endpoint.reuse(now, look) };
                    let mut upstream = match reused {
                        Some(upstream) => upstream,
                        None => match self.connect(&drawn, &endpoint, fresh).await {
                            Ok(upstream) => upstream,
                            Err(failure) => {
                                now = worker.now();
                                let refused = matches!(failure.kind, Kind::Connect | Kind::MarkedDown | Kind::Tls);
                                picked.release(if refused { Outcome::Failure } else { Outcome::Ignored }, now);
                                if refused && self.has_time(now) {
                                    if connects < client.connect_requeues(now) {
                                        connects += 1;
                                        client.metrics.requeues.inc();
                                        continue;
                                    }
                                    if connects < CONNECT_REQUEUES {
                                        client.metrics.not_open.inc();
                                    }
                                }
                                return Err(Stop::Failure(failure));
                            }
                        },
                    };
                    let dispatched = if upstream.reused { now } else { worker.now() };
                    self.record.begin(&drawn, &endpoint, dispatched, self.request.client_span);
                    self.request.rename_for(client, &endpoint, &mut self.out);
                    let attempt_ends = self.send(&mut upstream, client);
                    (upstream, picked, dispatched, attempt_ends, None)
                }
            };
            let endpoint = picked.endpoint.clone();
            let was_reused = upstream.reused;
            let mut refused = None;
            let heard = match self.converse(&mut upstream, attempt_ends, event).await {
                Ok((place, answer)) if answer.nack.is_none() && (answer.is_partial || self.request.gathers) => {
                    self.gather(&mut upstream, place, attempt_ends).await.map(|place| (place, answer))
                }
                heard => heard,
            };
            let broken = match heard {
                Ok((place, answer)) => {
                    let Some(retry) = answer.nack else {
                        if requeues > 0 {
                            client.metrics.requeues_each.record(requeues);
                        }
                        let drawn = Drawn { leaf: leaf.clone(), share: drawn.share };
                        return Ok(Arrived { upstream, picked, drawn, place, answer, dispatched });
                    };
                    client.answered(true, dispatched);
                    refused = Some(place);
                    Broken::Nacked { retry }
                }
                Err(broken) => broken,
            };
            now = worker.now();
            let nanos = now.saturating_sub(dispatched);
            let resend = self.may_resend(&broken, &upstream, was_reused);
            let fault = upstream.stream.fault().map(str::to_owned);
            match refused {
                Some(place) => self.recycle(upstream, &picked, &place, now),
                None => drop(upstream),
            }
            if resend == Resend::Stale {
                // It died while nobody used it, which says nothing about the endpoint.
                picked.release(Outcome::Ignored, now);
                client.metrics.requeues.inc();
                self.record.note(None, Some("the idle connection had been closed"), now);
                fresh = true;
                continue;
            }
            let stop = match (fault, broken) {
                (Some(fault), Broken::Closed { .. }) => {
                    Stop::Failure(Failure::tls(&fault, endpoint.address, &client.id))
                }
                (_, broken) => self.broken(broken, &drawn, &endpoint),
            };
            let Stop::Failure(failure) = &stop else {
                picked.release(Outcome::Ignored, now);
                self.record.note(None, Some("the client went away"), now);
                return Err(stop);
            };
            if client.is_restrained() && failure.kind != Kind::Nacked {
                client.answered(false, now);
            }
            client.metrics.requests.failed(failure.kind.exceptions(), nanos);
            leaf.requests.failed(failure.kind.exceptions(), nanos);
            client.metrics.statuses.error(nanos);
            picked.release(Outcome::Failure, now);
            self.record.note(None, Some(&failure.text), now);
            if resend == Resend::No {
                client.metrics.cannot_retry.inc();
                return Err(stop);
            }
            let limit = *limit.get_or_insert_with(|| client.requeue_limit(now));
            if requeues >= limit {
                client.metrics.request_limit.inc();
                return Err(stop);
            }
            if !client.withdraw(now) {
                client.metrics.budget_exhausted.inc();
                return Err(stop);
            }
            requeues += 1;
            client.metrics.requeues.inc();
        }
    }

    /// What was drawn when the head was read, or is drawn now.
    #[inline]
    pub(crate) async fn drawn(&mut self) -> Result<Drawn, Stop> {
        match self.request.drawn.take() {
            Some(drawn) if drawn.is_ready(self.connection.worker.coarse_now()) == Some(true) => Ok(drawn),
            first => self.draw(first).await,
        }
    }

    async fn draw(&mut self, first: Option<Drawn>) -> Result<Drawn, Stop> {
        let router = self.connection.server.router.clone();
        let name = self.request.name.clone();
        let now = router.worker.now();
        let drawing = name.draw(&router, now, first);
        let drawn = match self.total_left(now) {
            None => drawing.await,
            Some(left) => match tokio::time::timeout(left, drawing).await {
                Ok(drawn) => drawn,
                Err(_) => Err(self.total_timeout()),
            },
        };
        let drawn = drawn.map_err(Stop::Failure)?;
        self.request.enter(
            &drawn,
            router.settings.trace_propagator,
            self.connection.stream.certificate(),
            &mut self.out,
        );
        Ok(drawn)
    }

    async fn connect(&mut self, drawn: &Drawn, endpoint: &Rc<Endpoint>, fresh: bool) -> Result<Upstream, Failure> {
        let client = &drawn.leaf.client;
        if endpoint.is_down.get() {
            return Err(Failure::marked_down(&client.id));
        }
        let worker = self.connection.worker.clone();
        let began = worker.now();
        let binding = self.connection.server.router.settings.binding_timeout;
        let left = Duration::from_nanos((self.request.started + binding.as_nanos() as u64).saturating_sub(began));
        let (left, is_total) = match self.total_left(began) {
            Some(total) if total < left => (total, true),
            _ => (left, false),
        };
        let name = &self.request.name.service.name;
        let connecting = async {
            let secured = client.secured.as_ref();
            match endpoint.connect(&client.metrics, secured, began, fresh).await {
                Err(NoConnection::Exhausted(_)) if self.connection.server.router.relieve(began) => {
                    endpoint.connect(&client.metrics, secured, began, fresh).await
                }
                connected => connected,
            }
        };
        match tokio::time::timeout(left, connecting).await {
            Ok(Ok(upstream)) => Ok(upstream),
            Ok(Err(NoConnection::Io(error))) => {
                let nanos = worker.now().saturating_sub(began);
                client.metrics.connect_failed(nanos);
                if client.settings.fail_fast == Some(true) {
                    fail_fast::mark_down(client, endpoint);
                }
                tracing::debug!(client = %client.id, endpoint = %endpoint.address, %error, "no connection");
                self.record.refused(drawn, endpoint, began, self.request.client_span, (&error, nanos));
                Err(Failure::connect(endpoint.address, name, &client.id, &client.addresses()))
            }
            Ok(Err(NoConnection::Exhausted(error))) => {
                let nanos = worker.now().saturating_sub(began);
                client.metrics.connect_failed(nanos);
                self.record.refused(drawn, endpoint, began, self.request.client_span, (&error, nanos));
                Err(Failure::exhausted(endpoint.address, &error))
            }
            Ok(Err(NoConnection::Tls(error))) => {
                let nanos = worker.now().saturating_sub(began);
                client.metrics.connect_failed(nanos);
                tracing::debug!(client = %client.id, endpoint = %endpoint.address, %error, "no TLS connection");
                self.record.refused(drawn, endpoint, began, self.request.client_span, (&error, nanos));
                Err(Failure::tls(&error.to_string(), endpoint.address, &client.id))
            }
            Ok(Err(NoConnection::Waiters)) => {
                Err(Failure::new(Kind::Waiters, "com.twitter.finagle.TooManyWaitersException"))
            }
            Err(_) => {
                client.metrics.cancelled_connects.inc();
                Err(if is_total {
                    self.total_timeout()
                } else {
                    Failure::binding_timeout(binding, name, Some(&client.id))
                })
            }
        }
    }

    /// Whether there is time for another connection.
    fn has_time(&self, now: u64) -> bool {
        let binding = self.connection.server.router.settings.binding_timeout.as_nanos() as u64;
        now < self.request.started.saturating_add(binding) && self.total_ends.is_none_or(|ends| now < ends)
    }

    pub(crate) fn total_ends(&self) -> Option<u64> {
        self.total_ends
    }

    fn total_left(&self, now: u64) -> Option<Duration> {
        self.total_ends.map(|ends| Duration::from_nanos(ends.saturating_sub(now)))
    }

    fn total_timeout(&self) -> Failure {
        let service = &self.request.name.service;
        match (service.settings.total_timeout, self.request.server_timeout) {
            (total, Some(limit)) if total.is_none_or(|total| limit < total) => Failure::server_timeout(limit),
            (total, _) => Failure::total_timeout(total.unwrap_or_default(), &service.name),
        }
    }

    /// Whether the request can go out again although it went out, and at whose expense.
    fn may_resend(&mut self, broken: &Broken, upstream: &Upstream, was_reused: bool) -> Resend {
        match broken {
            Broken::Nacked { retry } if *retry && !self.has_streamed && self.request.is_buffered => Resend::Unsent,
            Broken::Closed { began } if !self.has_streamed => {
                let before = upstream.life.sent.saturating_sub(self.sent as u64);
                let untaken = !began && upstream.stream.took_nothing(before);
                let idempotent = self.request.method.is_idempotent();
                match (was_reused && !began, untaken || idempotent) {
                    (true, true) => Resend::Stale,
                    _ if untaken => Resend::Unsent,
                    // The endpoint may have died of it: only once.
                    _ if idempotent && !std::mem::replace(&mut self.was_risked, true) => Resend::Risked,
                    _ => Resend::No,
                }
            }
            _ => Resend::No,
        }
    }

    fn broken(&self, broken: Broken, drawn: &Drawn, endpoint: &Endpoint) -> Stop {
        let client = &drawn.leaf.client;
        Stop::Failure(match broken {
            Broken::ClientGone => return Stop::ClientGone,
            Broken::BadBody(error) => return Stop::BadBody(error.to_string()),
            Broken::Closed { .. } | Broken::StoodStill => Failure::closed(&client.id, endpoint.address),
            Broken::Head(error) => Failure::response(&error.to_string(), &client.id, endpoint.address),
            Broken::Lengths(text) => Failure::response(&text, &client.id, endpoint.address),
            Broken::Nacked { .. } => Failure::nacked(),
            Broken::AttemptTimeout => {
                let limit = client.settings.attempt_timeout.unwrap_or_default();
                Failure::attempt_timeout(limit, &client.id, endpoint.address)
            }
            Broken::TotalTimeout => self.total_timeout(),
            Broken::Body(error) => Failure::new(Kind::Response, error.to_string()),
            Broken::TooLong => Failure::long_response(&client.id),
        })
    }

    /// Pays for a retry, if the request can be sent again.
    fn may_retry(&self) -> bool {
        let now = self.connection.worker.now();
        let service = &self.request.name.service;
        if self.has_streamed || self.total_ends.is_some_and(|ends| now >= ends) {
            return false;
        }
        let pays = service.withdraw(now);
        if pays {
            service.retries.inc();
        } else {
            service.budget_exhausted.inc();
        }
        pays
    }

    /// An answer that the client does not get.
    fn discard(&mut self, arrived: Arrived, class: Class) {
        let now = self.connection.worker.now();
        self.count_answer(&arrived, class, now);
        let Arrived { upstream, picked, place, .. } = arrived;
        self.recycle(upstream, &picked, &place, now);
        picked.release(class.outcome(), now);
    }

    /// Keeps the connection of an answer that nobody gets, if all of it has come; else it closes, because
    /// reading the rest away might take for ever.
    fn recycle(&self, upstream: Upstream, picked: &Picked, place: &Place, now: u64) {
        let worker = &self.connection.worker;
        let is_whole = |bytes: &[u8]| {
            let head = worker.response.borrow();
            let mut body = http1::Body::new(head.body);
            let rest = &bytes[head.len..];
            let taken = body.feed(rest, Form::Payload, &mut Vec::new());
            head.keep_alive && body.is_done() && matches!(taken, Ok((used, _)) if used == rest.len())
        };
        let whole = match place {
            Place::Read(length) => worker.with_read(*length, is_whole),
            Place::Kept { bytes, ended } => !ended && is_whole(bytes),
            Place::Whole { reusable, .. } => *reusable,
        };
        if whole && self.request.is_complete() && self.request.version == http1::Version::Http11 {
            picked.endpoint.give_back(upstream, now);
        }
    }

    pub(crate) fn count_answer(&mut self, arrived: &Arrived, class: Class, now: u64) {
        let nanos = now.saturating_sub(arrived.dispatched);
        let leaf = &arrived.drawn.leaf;
        leaf.client.metrics.requests.answered(class.is_success(), nanos);
        leaf.requests.answered(class.is_success(), nanos);
        leaf.client.metrics.statuses.count(arrived.answer.status, nanos);
        if class.is_success() {
            leaf.client.deposit(now);
        }
        self.record.note(Some(arrived.answer.status), None, now);
        self.record.classify(self.request.client_span, class);
        if leaf.client.is_restrained() {
            leaf.client.answered(false, now);
        }
        if let Some(lines) = &self.connection.server.router.log {
            self.log(lines, arrived);
        }
    }

    /// A line of the access log: the request still lies in `out`, the answer's head in the worker's parser.
    fn log(&self, lines: &Lines, arrived: &Arrived) {
        let head = self.connection.worker.response.borrow();
        let write = |bytes: &[u8]| {
            lines.write(&Line {
                request: &self.out[..self.request.tail.min(self.out.len())],
                host: self.request.renamed.as_ref().and_then(|renamed| renamed.original.as_deref()),
                peer: self.connection.peer.ip(),
                status: arrived.answer.status,
                length: head.first(bytes, http1::Known::ContentLength),
            });
        };
        match &arrived.place {
            Place::Read(length) => self.connection.worker.with_read(*length, write),
            Place::Kept { bytes, .. } | Place::Whole { bytes, .. } => write(bytes),
        }
    }

    /// Waits before a retry, but no longer than the request may take.
    async fn back_off(&self, backoffs: &mut Option<Backoffs>) -> Result<(), Failure> {
        let backoffs = backoffs.get_or_insert_with(|| self.request.name.service.backoff().start());
        let wait = backoffs.next_wait(&mut || fastrand::u64(..));
        if wait == 0 {
            return Ok(());
        }
        let wait = Duration::from_nanos(wait);
        match self.total_left(self.connection.worker.now()) {
            Some(left) if left <= wait => {
                tokio::time::sleep(left).await;
                Err(self.total_timeout())
            }
            _ => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
        }
    }

    /// Ends with an answer of our own, if there is somebody to get it.
    async fn stop(&mut self, stop: Stop) -> (End, Next) {
        self.record.keep_head(&self.connection.worker, &self.out, &self.request, true);
        let failure = match stop {
            Stop::ClientGone => return (End::Gone, Next::Close),
            Stop::BadBody(text) => Failure::new(Kind::Request, text),
            Stop::Failure(failure) => failure,
        };
        let keep_alive = self.request.keep_alive && self.request.is_complete();
        let ending = Ending { method: self.request.method, keep_alive };
        let next = self.connection.write_failure(&failure, ending).await;
        (End::Failed(failure), next)
    }
}

/// Whether a request that was sent can be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resend {
    No,
    /// The kept connection had been closed before it was used: not counted against any budget, because a
    /// new connection follows.
    Stale,
    /// Surely not taken.
    Unsent,
    /// Perhaps taken, but harmless to repeat (RFC 9110 §9.2.2): the connection broke off, and of the answer the
    /// client has seen nothing.
    Risked,
}

/// More requests than the server may have under way.
pub(crate) async fn refuse(connection: &mut Connection, request: Box<Request>, out: Vec<u8>) -> Next {
    connection.worker.give_buffer(out);
    connection.server.nacks.inc();
    let ending = Ending { method: request.method, keep_alive: request.keep_alive && request.is_complete() };
    let text = "Request was not processed by the server due to an error and is safe to retry";
    connection.write_failure(&Failure::new(Kind::Overload, text), ending).await
}
