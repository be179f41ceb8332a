//! An exchange on its connections: sends the request, streams its body, and waits for the answer's head,
//! all at once, because an endpoint may answer before it has read everything.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http1::{
    BodyError, BodyKind, Exchange as Asked, Form, HeadError, Known, Limits, Progress, ResponseHead, ResponseOut,
    Version, parse_response,
};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::client::Client;
use crate::connection::EARLY;
use crate::exchange::Exchange;
use crate::limits::{Waits, Watch};
use crate::pool::Upstream;
use crate::worker::{ANSWER, BODY, TURN};

/// Parts of a body up to this size are gathered before they are written: a body of a million chunks must not
/// cost a million writes.
pub(crate) const CRUMB: usize = 4 * 1024;
/// Interim answers that are taken before one answer.
const MAX_INTERIM: usize = 32;
/// An HTTP/1.0 answer without a length is kept up to this size, to be given one.
const KEPT_UNTIL_CLOSE: usize = 64 * 1024;
/// A client that closed its sending side may still wait for the answer, or be gone: so long it is believed.
pub(crate) const HALF_CLOSED: u64 = 5_000_000_000;

/// Where the bytes of an answer are.
pub(crate) enum Place {
    /// At the start of the worker's buffer: so many, until somebody else reads.
    Read(usize),
    /// Here; with `ended`, the endpoint closed after them.
    Kept { bytes: Vec<u8>, ended: bool },
    /// Here, the whole payload behind the head; the connection can carry another exchange, or not.
    Whole { bytes: Vec<u8>, reusable: bool },
}

/// What decides how an exchange goes on.
pub(crate) struct Answer {
    pub status: u16,
    pub says_retryable: bool,
    /// The endpoint refused the request unread; true: it may be tried again.
    pub nack: Option<bool>,
    /// Short, and not all of it has come: it is waited for.
    pub is_partial: bool,
}

impl Answer {
    #[inline]
    fn of(head: &ResponseHead, bytes: &[u8]) -> Answer {
        let mut answer = Answer { status: head.status, says_retryable: false, nack: None, is_partial: false };
        if head.status >= 500 {
            let says = |name, value: &[u8]| head.first(bytes, name).is_some_and(|found| found == value);
            answer.says_retryable = says(Known::L5dRetryable, b"true");
            let nonretryable = head.has(Known::FinagleNonretryableNack);
            let refused = nonretryable || head.has(Known::FinagleNack) || says(Known::RetryAfter, b"0");
            answer.nack = (head.status == 503 && refused).then_some(!nonretryable);
        }
        answer
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Broken {
    ClientGone,
    BadBody(BodyError),
    /// The endpoint closed; `began`: after a part of an answer.
    Closed {
        began: bool,
    },
    /// What it sent is no answer.
    Head(HeadError),
    /// It says more than once how long its answer is.
    Lengths(String),
    Nacked {
        retry: bool,
    },
    AttemptTimeout,
    TotalTimeout,
    /// Its socket has a time limit, within which nothing moved.
    StoodStill,
    /// Its body is no body.
    Body(BodyError),
    /// It must be held whole, and is too long.
    TooLong,
}

/// Why a head is none, with what it says.
#[cold]
fn unread(error: HeadError, bytes: &[u8]) -> Broken {
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).take_while(|line| !line.is_empty());
    let length = |line: &[u8]| {
        let (name, value) = line.split_at_checked(b"content-length:".len())?;
        name.eq_ignore_ascii_case(b"content-length:").then(|| String::from_utf8_lossy(value.trim_ascii()).into_owned())
    };
    let lengths = lines.filter_map(length).collect::<Vec<_>>();
    if error == HeadError::ContentLength && lengths.len() > 1 {
        return Broken::Lengths(format!("Multiple Content-Length values found: [{}]", lengths.join(", ")));
    }
    Broken::Head(error)
}

/// What an exchange has to decide about.
pub(crate) enum Event {
    /// This was read from the endpoint; 0: it closed.
    Read(usize),
    /// The connection broke.
    Closed,
    ClientGone,
    BadBody(BodyError),
    Due,
}

impl Exchange<'_> {
    /// Sends as much of the request as goes at once, and sets the deadlines; gives that of the attempt.
    #[inline]
    pub(crate) fn send(&mut self, upstream: &mut Upstream, client: &Rc<Client>) -> Option<u64> {
        (self.sent, self.refuses) = (0, false);
        upstream.life.requests += 1;
        upstream.stream.mark();
        self.send_now(upstream);
        let server = self.connection.server.limits.as_ref();
        if server.is_some() || client.limits.is_some() {
            self.watch = Watch::new(server, client, self.connection.worker.now());
        }
        let attempt_ends =
            client.settings.attempt_timeout.map(|limit| self.connection.worker.now() + limit.as_nanos() as u64);
        self.arm(attempt_ends);
        attempt_ends
    }

    /// Waits for a final answer's head, which is then in the worker's parser. `event` has happened already.
    pub(crate) async fn converse(
        &mut self,
        upstream: &mut Upstream,
        attempt_ends: Option<u64>,
        mut event: Option<Event>,
    ) -> Result<(Place, Answer), Broken> {
        let mut kept = Vec::new();
        let mut interims = 0;
        loop {
            let event = match event.take() {
                Some(event) => event,
                None => poll_fn(|context| self.poll_event(upstream, context)).await,
            };
            let read = match event {
                Event::Read(0) => return self.closed(kept),
                // No end, so nothing that only the end makes whole.
                Event::Closed => return Err(Broken::Closed { began: !kept.is_empty() }),
                Event::Read(read) => read,
                Event::ClientGone => return Err(Broken::ClientGone),
                Event::BadBody(error) => return Err(Broken::BadBody(error)),
                Event::Due => match self.due(upstream, attempt_ends) {
                    Some(broken) => return Err(broken),
                    None => {
                        self.connection.slot.set(None);
                        self.arm(attempt_ends);
                        continue;
                    }
                },
            };
            upstream.received(read);
            let mut place = if kept.is_empty() {
                Place::Read(read)
            } else {
                self.connection.worker.with_read(read, |bytes| kept.extend_from_slice(bytes));
                Place::Kept { bytes: std::mem::take(&mut kept), ended: false }
            };
            loop {
                match self.parse(&place)? {
                    Parsed::Final(answer) => return Ok((place, answer)),
                    Parsed::More => {
                        kept = self.keep(place);
                        break;
                    }
                    Parsed::Interim(length) => {
                        interims += 1;
                        if interims > MAX_INTERIM {
                            return Err(Broken::Head(HeadError::HeadersTooLarge));
                        }
                        kept = self.pass_interim(place, length).await?;
                        if kept.is_empty() {
                            break;
                        }
                        place = Place::Kept { bytes: std::mem::take(&mut kept), ended: false };
                    }
                }
            }
        }
    }

    /// The endpoint closed while an answer was waited for.
    fn closed(&mut self, kept: Vec<u8>) -> Result<(Place, Answer), Broken> {
        if kept.is_empty() {
            return Err(Broken::Closed { began: false });
        }
        // An answer that ends with the connection, kept to be measured.
        let place = Place::Kept { bytes: kept, ended: true };
        match self.parse(&place) {
            Ok(Parsed::Final(answer)) => Ok((place, answer)),
            Ok(Parsed::More | Parsed::Interim(_)) => Err(Broken::Closed { began: true }),
            Err(broken) => Err(broken),
        }
    }

    #[inline]
    fn parse(&mut self, place: &Place) -> Result<Parsed, Broken> {
        let worker = &self.connection.worker;
        match place {
            Place::Read(length) => worker.with_read(*length, |bytes| self.parse_bytes(bytes, false)),
            Place::Kept { bytes, ended } => self.parse_bytes(bytes, *ended),
            Place::Whole { bytes, .. } => self.parse_bytes(bytes, true),
        }
    }

    #[inline]
    pub(crate) fn parse_bytes(&self, bytes: &[u8], ended: bool) -> Result<Parsed, Broken> {
        let asked = Asked { method: self.request.method, upgrade: self.request.wants_upgrade };
        let mut head = self.connection.worker.response.borrow_mut();
        match parse_response(bytes, &Limits::RESPONSE, asked, &mut head).map_err(|error| unread(error, bytes))? {
            Progress::Partial => Ok(Parsed::More),
            Progress::Complete if head.is_interim() => Ok(Parsed::Interim(head.len)),
            Progress::Complete => {
                let measured = head.version == Version::Http10
                    && head.body == BodyKind::UntilClose
                    && self.request.version == Version::Http11;
                if measured && !ended && bytes.len() - head.len < KEPT_UNTIL_CLOSE {
                    return Ok(Parsed::More);
                }
                let mut answer = Answer::of(&head, bytes);
                if let BodyKind::Length(length) = head.body {
                    let here = (bytes.len() - head.len) as u64;
                    answer.is_partial = here < length && length <= self.connection.server.router.short;
                }
                Ok(Parsed::Final(answer))
            }
        }
    }

    fn keep(&self, place: Place) -> Vec<u8> {
        match place {
            Place::Kept { bytes, .. } | Place::Whole { bytes, .. } => bytes,
            Place::Read(length) => {
                let mut kept = self.connection.worker.take_buffer();
                self.connection.worker.with_read(length, |bytes| kept.extend_from_slice(bytes));
                kept
            }
        }
    }

    /// Passes an interim answer on (a 100 only says what the client was told already) and gives what
    /// follows it.
    async fn pass_interim(&mut self, place: Place, length: usize) -> Result<Vec<u8>, Broken> {
        let mut kept = self.keep(place);
        let worker = self.connection.worker.clone();
        let passes = {
            let head = worker.response.borrow();
            head.status != 100 && self.request.version == Version::Http11
        };
        if passes {
            let mut out = worker.take_buffer();
            worker.response.borrow().write(&kept, &ResponseOut::default(), &mut out);
            let written = self.connection.stream.write_all(&out).await;
            worker.give_buffer(out);
            written.map_err(|_| Broken::ClientGone)?;
        }
        kept.drain(..length);
        Ok(kept)
    }

    /// Why a deadline woke us; `None`: it did not.
    pub(crate) fn due(&mut self, upstream: &Upstream, attempt_ends: Option<u64>) -> Option<Broken> {
        let now = self.connection.worker.now();
        let over = |ends: Option<u64>| ends.is_some_and(|ends| now >= ends);
        if over(self.total_ends()) {
            Some(Broken::TotalTimeout)
        } else if over(attempt_ends) {
            Some(Broken::AttemptTimeout)
        } else if self.is_gone(upstream, now) {
            Some(Broken::ClientGone)
        } else if self.watch.is_some() {
            self.stands_still(upstream, now)
        } else {
            None
        }
    }

    /// Nobody waits for the answer any more.
    fn is_gone(&mut self, upstream: &Upstream, now: u64) -> bool {
        let is_abandoned = self.is_unwatched() && self.is_abandoned(upstream.life.sent);
        is_abandoned || self.connection.ended && self.watch.as_mut().is_none_or(|watch| watch.gives_up(now))
    }

    /// The side that this exchange waits for moved nothing for too long.
    fn stands_still(&mut self, upstream: &Upstream, now: u64) -> Option<Broken> {
        let waits = if self.refuses {
            Waits::EndpointSends
        } else if self.sent < self.out.len() || self.overflow_sent < self.overflow.len() {
            Waits::EndpointTakes
        } else if !self.request.is_complete() {
            Waits::ClientSends
        } else {
            Waits::EndpointSends
        };
        let moved = self.moved(upstream);
        let over = self.watch.as_mut().is_some_and(|watch| watch.stands_still(waits, moved, now));
        over.then(|| if waits == Waits::ClientSends { Broken::ClientGone } else { Broken::StoodStill })
    }

    /// All bytes that ever moved on both connections.
    pub(crate) fn moved(&self, upstream: &Upstream) -> u64 {
        let (client, endpoint) = (&self.connection.life, &upstream.life);
        client.received + client.sent + endpoint.received + endpoint.sent
    }

    /// Has the task woken in time.
    #[inline]
    pub(crate) fn arm(&mut self, attempt_ends: Option<u64>) {
        let ends = attempt_ends.into_iter().chain(self.total_ends()).min();
        if let Some(watch) = &self.watch {
            let look = watch.look_at(self.connection.worker.coarse_now());
            let patience = self.connection.ended.then(|| self.connection.worker.coarse_now() + HALF_CLOSED);
            self.connection.slot.set(ends.into_iter().chain(patience).chain([look]).min());
        } else if ends.is_some() || self.connection.ended {
            let patience = self.connection.ended.then(|| self.connection.worker.coarse_now() + HALF_CLOSED);
            self.connection.slot.set(ends.into_iter().chain(patience).min());
        }
    }

    /// Writes as much of the request as the kernel takes at once.
    #[inline]
    fn send_now(&mut self, upstream: &mut Upstream) {
        match upstream.stream.try_write(&self.out) {
            Ok(written) => {
                self.sent = written;
                upstream.sent(written);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // It may have answered before it closed: reading tells.
            Err(_) => self.refuses = true,
        }
    }

    /// Moves everything that can move; ready when the exchange has to decide something.
    #[inline]
    pub(crate) fn poll_event(&mut self, upstream: &mut Upstream, context: &mut Context<'_>) -> Poll<Event> {
        if !self.refuses
            && (self.sent < self.out.len() || !self.request.is_complete())
            && let Poll::Ready(Some(event)) = self.poll_send(upstream, context)
        {
            return Poll::Ready(event);
        }
        match self.connection.worker.poll_read_some(&mut upstream.stream, context, ANSWER) {
            Poll::Ready(Ok(read)) => return Poll::Ready(Event::Read(read)),
            Poll::Ready(Err(_)) => return Poll::Ready(Event::Closed),
            Poll::Pending => {}
        }
        if self.request.is_complete() && self.poll_client(context).is_err() {
            return Poll::Ready(Event::ClientGone);
        }
        if self.connection.slot.is_due() {
            return Poll::Ready(Event::Due);
        }
        if self.is_unwatched() {
            self.look_later(upstream.life.sent);
        }
        Poll::Pending
    }

    /// Nothing is read from the client: because the endpoint takes nothing of the body just now or no more at
    /// all, or because too much came early. Its end does not show then.
    pub(crate) fn is_unwatched(&self) -> bool {
        let held_back = self.refuses || self.sent < self.out.len() || self.overflow_sent < self.overflow.len();
        if self.request.is_complete() { self.connection.carried() >= EARLY } else { held_back }
    }

    /// Has the task woken after a while, to look for the client; `moved` is what has gone through so far.
    pub(crate) fn look_later(&mut self, moved: u64) {
        let when = self.connection.worker.coarse_now() + HALF_CLOSED;
        self.connection.slot.set_earlier(when);
        self.looked_at.get_or_insert(moved);
    }

    /// Looks for a client that nothing is read from: whether it is gone.
    pub(crate) fn is_abandoned(&mut self, moved: u64) -> bool {
        let before = self.looked_at.take();
        match crate::tcp::closed(&self.connection.stream) {
            Some(crate::tcp::Closed::Entirely) => true,
            // It may have sent everything: it is believed in as long as something moves.
            Some(crate::tcp::Closed::Sending) => before == Some(moved),
            None => false,
        }
    }

    /// Sends the rest of the request. Ready with `None` when it is out, or cannot go out.
    fn poll_send(&mut self, upstream: &mut Upstream, context: &mut Context<'_>) -> Poll<Option<Event>> {
        while self.sent < self.out.len() {
            match Pin::new(&mut upstream.stream).poll_write(context, &self.out[self.sent..]) {
                Poll::Ready(Ok(written)) => {
                    self.sent += written;
                    upstream.sent(written);
                }
                Poll::Ready(Err(_)) => {
                    self.refuses = true;
                    return Poll::Ready(None);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        self.poll_body(upstream, context)
    }

    /// Streams the request's body as far as both sides go along.
    pub(crate) fn poll_body(&mut self, upstream: &mut Upstream, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut moved = 0;
        loop {
            while self.overflow_sent < self.overflow.len() {
                let rest = &self.overflow[self.overflow_sent..];
                match Pin::new(&mut upstream.stream).poll_write(context, rest) {
                    Poll::Ready(Ok(written)) => {
                        self.overflow_sent += written;
                        upstream.sent(written);
                    }
                    Poll::Ready(Err(_)) => {
                        self.refuses = true;
                        return Poll::Ready(None);
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.overflow.clear();
            self.overflow_sent = 0;
            if self.request.is_complete() {
                return Poll::Ready(None);
            }
            if moved >= TURN {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let connection = &mut *self.connection;
            let read = match connection.worker.poll_read_some(&mut connection.stream, context, BODY) {
                Poll::Ready(Ok(read)) if read > 0 => read,
                Poll::Ready(_) => return Poll::Ready(Some(Event::ClientGone)),
                Poll::Pending => return Poll::Pending,
            };
            connection.received(read);
            moved += read;
            self.has_streamed = true;
            if let Err(error) = self.pass_body(upstream, read) {
                return Poll::Ready(Some(Event::BadBody(error)));
            }
        }
    }

    /// Sends on what was read of the body; what the kernel does not take goes to the overflow.
    fn pass_body(&mut self, upstream: &mut Upstream, read: usize) -> Result<(), BodyError> {
        let worker = self.connection.worker.clone();
        worker.with_read(read, |bytes| {
            let mut at = 0;
            while at < bytes.len() && !self.request.body.is_done() {
                let run = self.request.body.next(&bytes[at..], Form::Pass)?;
                let mut data = &bytes[at + run.start..at + run.end];
                // Crumbs are written together.
                if self.overflow.is_empty() && data.len() > CRUMB {
                    // Trouble shows again when the overflow is written.
                    let written = upstream.stream.try_write(data).unwrap_or(0);
                    upstream.sent(written);
                    data = &data[written..];
                }
                self.overflow.extend_from_slice(data);
                at += run.consumed;
            }
            self.connection.keep(&bytes[at..]);
            Ok(())
        })
    }

    /// Notices what the client does while it should wait: bytes of its next request, or its end.
    pub(crate) fn poll_client(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let connection = &mut *self.connection;
        while !connection.ended && connection.carried() < EARLY {
            match connection.worker.poll_read_some(&mut connection.stream, context, EARLY) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => {
                    connection.ended = true;
                    let soonest = connection.worker.now() + HALF_CLOSED;
                    connection.slot.set_earlier(soonest);
                }
                Poll::Ready(Ok(read)) => {
                    connection.received(read);
                    let worker = connection.worker.clone();
                    worker.with_read(read, |bytes| connection.keep(bytes));
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

/// How far an answer's head is.
pub(crate) enum Parsed {
    Final(Answer),
    /// A 1xx of so many bytes.
    Interim(usize),
    More,
}
