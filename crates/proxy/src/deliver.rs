//! The answer's way to the client: head and first part of the body in one write, the rest as both sides
//! go along.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use http1::{
    Body, BodyError, BodyKind, Delivery, Field, Form, Known, KnownSet, LAST_CHUNK, ResponseHead, ResponseOut, Version,
    write_chunk,
};
use tokio::io::AsyncWrite;

use crate::classify::Class;
use crate::client::Picked;
use crate::compress::{self, Coding, Squeeze};
use crate::connection::{Ending, Next};
use crate::context;
use crate::exchange::{Arrived, End, Exchange};
use crate::failure::{Failure, Kind};
use crate::limits::Waits;
use crate::pool::Upstream;
use crate::wire::{CRUMB, HALF_CLOSED, Place};
use crate::worker::{BODY, SLOW_BODY, SPARE_BYTES, TURN};

/// A body part up to this size is copied behind the head; a larger one is written from where it lies.
const COPY: usize = 4 * 1024;
/// Output that waits for the client: the endpoint is not read while there is any.
const ANSWERED: KnownSet = KnownSet::HOP_BY_HOP.with(KnownSet::of(&[Known::L5dSuccessClass]));

/// The way of one answer's body.
pub(crate) struct Way {
    body: Body,
    delivery: Delivery,
    /// The body is complete.
    is_over: bool,
    /// The endpoint's connection may carry another request.
    reusable: bool,
    /// So much is read at once.
    room: usize,
    squeeze: Option<Box<Squeeze>>,
}

/// How a body's way ended.
enum Ended {
    Whole,
    /// The endpoint broke off, or sent nonsense: the client must see that the answer is cut.
    Cut,
    ClientGone,
}

/// An answer on its way to the client.
pub(crate) struct Delivering {
    upstream: Upstream,
    picked: Picked,
    way: Way,
    end: End,
    class: Class,
    keep_alive: bool,
    stage: Stage,
}

/// How the rest of an answer goes.
enum Stage {
    Body,
    Tunnel,
    /// Its body is malformed from the start, and nothing was sent yet: the client is told instead.
    Refused(BodyError),
    /// Its body is malformed, and a part of it was sent.
    Cut,
}

impl Exchange<'_> {
    /// Sends the answer to the client; `Err` is what cannot go without waiting.
    #[inline]
    pub(crate) fn begin_delivery(&mut self, arrived: Arrived, class: Class) -> Result<(End, Next), Box<Delivering>> {
        let worker = self.connection.worker.clone();
        if let Place::Whole { bytes, .. } = &arrived.place {
            self.parse_again(bytes);
        }
        let now = worker.now();
        let patience = self.connection.ended.then_some(now + HALF_CLOSED);
        let look = self.watch.as_ref().map(|watch| watch.look_at(now));
        self.connection.slot.set(patience.into_iter().chain(look).min());
        self.count_answer(&arrived, class, now);
        let answer_failed = arrived.answer.status >= 500;
        self.record.keep_head(&worker, &self.out, &self.request, answer_failed);
        if self.request.wanted != 0 {
            self.record.keep_answer(&worker, &arrived.place);
        }
        let Arrived { upstream, picked, place, answer, .. } = arrived;
        let nanos = now.saturating_sub(self.request.started);
        let end = End::Answered { status: answer.status, class, nanos };
        let complete = self.request.is_complete() && self.overflow.is_empty();
        let leaves = self.connection.is_leaving() || self.connection.ended;
        let mut keep_alive = self.request.keep_alive && complete && !leaves;
        let limits = self.connection.server.limits.as_ref();
        if let Some(limits) = limits.filter(|limits| keep_alive && now >= limits.dies(self.connection.life.opened)) {
            keep_alive = false;
            limits.life_count.inc();
        }
        let (stage, way, keep_alive) = match &place {
            Place::Read(length) => worker.with_read(*length, |bytes| self.begin(bytes, false, class, keep_alive)),
            Place::Kept { bytes, ended } => self.begin(bytes, *ended, class, keep_alive),
            Place::Whole { bytes, reusable } => {
                worker.response.borrow_mut().body = BodyKind::UntilClose;
                let (stage, mut way, keep_alive) = self.begin(bytes, true, class, keep_alive);
                way.reusable = *reusable;
                (stage, way, keep_alive)
            }
        };
        if let Place::Kept { bytes, .. } | Place::Whole { bytes, .. } = place {
            worker.give_buffer(bytes);
        }
        let over = matches!(stage, Stage::Body) && way.is_over && self.sent == self.out.len();
        let delivering = Delivering { upstream, picked, way, end, class, keep_alive, stage };
        if over {
            return Ok(self.finish(delivering, Ended::Whole));
        }
        Err(Box::new(delivering))
    }

    /// Sends the rest of an answer.
    pub(crate) async fn deliver(&mut self, mut delivering: Delivering) -> (End, Next) {
        let ended = match &delivering.stage {
            Stage::Body => {
                let Delivering { way, upstream, .. } = &mut delivering;
                poll_fn(|context| self.poll_way(way, upstream, context)).await
            }
            Stage::Cut => Ended::Cut,
            Stage::Refused(error) => {
                let now = self.connection.worker.now();
                let failure = Failure::new(Kind::Response, error.to_string());
                delivering.picked.release(balance::Outcome::Failure, now);
                self.out.clear();
                let ending = Ending { method: self.request.method, keep_alive: delivering.keep_alive };
                let next = self.connection.write_failure(&failure, ending).await;
                return (End::Failed(failure), next);
            }
            Stage::Tunnel => {
                let next = self.tunnel(delivering.upstream).await;
                delivering.picked.release(delivering.class.outcome(), self.connection.worker.now());
                return (delivering.end, next);
            }
        };
        self.finish(delivering, ended)
    }

    #[inline]
    fn finish(&mut self, delivering: Delivering, ended: Ended) -> (End, Next) {
        let Delivering { upstream, picked, way, end, class, keep_alive, .. } = delivering;
        let worker = self.connection.worker.clone();
        let complete = self.request.is_complete() && self.overflow.is_empty();
        let next = match ended {
            Ended::Whole if keep_alive => Next::Request,
            // A client that means to close sends nothing that could have the kernel reset the connection.
            Ended::Whole if complete && !self.request.keep_alive => Next::Close,
            Ended::Whole => Next::Linger,
            Ended::Cut => {
                self.cut(&way);
                Next::Close
            }
            Ended::ClientGone => Next::Close,
        };
        let is_whole = matches!(ended, Ended::Whole);
        let later = if is_whole { worker.coarse_now() } else { worker.now() };
        let outcome = if matches!(ended, Ended::Cut) { balance::Outcome::Failure } else { class.outcome() };
        let http11 = self.request.version == Version::Http11;
        if is_whole && way.reusable && complete && !self.refuses && http11 {
            picked.endpoint.give_back(upstream, later);
        }
        picked.release(outcome, later);
        (end, next)
    }

    /// Writes the head and what there is of the body; what the kernel does not take stays in `out`.
    fn begin(&mut self, bytes: &[u8], ended: bool, class: Class, keep_alive: bool) -> (Stage, Way, bool) {
        let worker = self.connection.worker.clone();
        let mut head = worker.response.borrow_mut();
        let conceals = self.connection.server.settings.clear_context && conceal(&mut head, bytes);
        let measured = ended && head.body == BodyKind::UntilClose;
        if measured {
            head.body = BodyKind::Length((bytes.len() - head.len) as u64);
        }
        let (body, reusable) = (Body::new(head.body), head.keep_alive && !conceals);
        let mut lines = Vec::new();
        if conceals {
            lines.extend_from_slice(b"content-length: 0\r\n");
        }
        let squeeze = self.request.coding.and_then(|coding| self.compress(coding, &mut head, bytes, &mut lines));
        if measured && squeeze.is_none() {
            // The length that it came with may be another's by now.
            let lengths = head.fields.iter_mut().filter(|field| field.known == Known::ContentLength);
            lengths.for_each(Field::drop_line);
            lines.extend_from_slice(format!("content-length: {}\r\n", bytes.len() - head.len).as_bytes());
        }
        if let Some(renamed) = &self.request.renamed {
            renamed.turn_back(&mut head, bytes, &mut lines);
        }
        let delivery = head.delivery(self.request.version);
        let keep_alive = keep_alive && delivery != Delivery::UntilClose;
        self.out.clear();
        self.sent = 0;
        self.write_head(&head, bytes, class, keep_alive, &lines);
        let rest = if conceals { &[] } else { &bytes[head.len..] };
        let room = if squeeze.is_some() { compress::PART } else { BODY };
        let mut way = Way { body, delivery, is_over: false, reusable, room, squeeze };
        if head.is_tunnel {
            self.out.extend_from_slice(rest);
            return (Stage::Tunnel, way, false);
        }
        let stage = if rest.len() <= COPY || delivery != Delivery::Same {
            match way.take(rest, &mut self.out) {
                Ok(used) => {
                    way.reusable &= used == rest.len();
                    self.write_now(&[]);
                    Stage::Body
                }
                Err(error) => Stage::Refused(error),
            }
        } else {
            match way.body.next(rest, Form::Pass) {
                Ok(run) => {
                    let written = self.write_now(&rest[run.start..run.end]);
                    self.out.extend_from_slice(&rest[run.start + written..run.end]);
                    way.is_over = run.done;
                    let more = &rest[run.consumed..];
                    match if run.done { Ok(0) } else { way.take(more, &mut self.out) } {
                        Ok(used) => {
                            way.reusable &= used == more.len();
                            Stage::Body
                        }
                        Err(_) => Stage::Cut,
                    }
                }
                Err(error) => Stage::Refused(error),
            }
        };
        way.is_over |= way.body.is_done();
        (stage, way, keep_alive)
    }

    /// Makes the head that of a compressed answer, if this is one to compress.
    fn compress(
        &self,
        coding: Coding,
        head: &mut ResponseHead,
        bytes: &[u8],
        lines: &mut Vec<u8>,
    ) -> Option<Box<Squeeze>> {
        let setting = self.connection.server.router.settings.compression?;
        compress::applies(setting, head, bytes).then(|| {
            compress::announce(coding, head, bytes, lines);
            Box::new(Squeeze::new(coding, setting))
        })
    }

    #[inline]
    fn write_head(&mut self, head: &ResponseHead, bytes: &[u8], class: Class, keep_alive: bool, lines: &[u8]) {
        let mut remove = ANSWERED;
        let clear = self.connection.server.settings.clear_context;
        let mut long = Vec::new();
        let extra: &[u8] = match (clear, class.is_success(), head.version) {
            (true, ..) => b"via: 1.1 linkerd\r\n",
            (false, true, Version::Http11) => b"via: 1.1 linkerd\r\nl5d-success-class: 1.0\r\n",
            (false, false, Version::Http11) => b"via: 1.1 linkerd\r\nl5d-success-class: 0.0\r\n",
            (false, true, Version::Http10) => b"via: 1.0 linkerd\r\nl5d-success-class: 1.0\r\n",
            (false, false, Version::Http10) => b"via: 1.0 linkerd\r\nl5d-success-class: 0.0\r\n",
        };
        let has_via = head.has(Known::Via);
        let extra = if has_via || !lines.is_empty() {
            if has_via {
                remove = remove.with(KnownSet::of(&[Known::Via]));
                long.extend_from_slice(b"via: ");
                for value in head.fields.all(bytes, Known::Via) {
                    long.extend_from_slice(value);
                    long.extend_from_slice(b", ");
                }
                long.extend_from_slice(&extra[b"via: ".len()..]);
            } else {
                long.extend_from_slice(extra);
            }
            long.extend_from_slice(lines);
            &long
        } else {
            extra
        };
        if clear {
            remove = remove.with(context::ALL);
        }
        let edit = ResponseOut { remove, extra, client: self.request.version, keep_alive };
        head.write(bytes, &edit, &mut self.out);
    }

    /// Writes `out` and, behind it, `more`, as far as the kernel takes them; says how much of `more` went.
    #[inline]
    fn write_now(&mut self, more: &[u8]) -> usize {
        let rest = &self.out[self.sent..];
        let stream = &mut self.connection.stream;
        let written = if more.is_empty() { stream.try_write(rest) } else { stream.try_write_both(rest, more) };
        // Trouble shows again when the rest is written.
        let written = written.unwrap_or(0);
        let own = written.min(rest.len());
        self.sent += own;
        self.connection.sent(written);
        written - own
    }

    /// Moves the body, and what is left of the request's body, as far as all sides go along.
    fn poll_way(&mut self, way: &mut Way, upstream: &mut Upstream, context: &mut Context<'_>) -> Poll<Ended> {
        if !self.refuses
            && (!self.request.is_complete() || self.overflow_sent < self.overflow.len())
            && let Poll::Ready(Some(_)) = self.poll_body(upstream, context)
        {
            // The client's side of the exchange is over before its time; the answer may still interest it.
            self.refuses = true;
        }
        let mut moved = 0;
        loop {
            while self.sent < self.out.len() {
                match Pin::new(&mut self.connection.stream).poll_write(context, &self.out[self.sent..]) {
                    Poll::Ready(Ok(written)) => {
                        self.sent += written;
                        self.connection.sent(written);
                        self.progressed();
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Ended::ClientGone),
                    Poll::Pending => {
                        way.room = way.room.min(SLOW_BODY);
                        // What is out already is not held for a slow client.
                        if self.out.capacity() - (self.out.len() - self.sent) > SPARE_BYTES {
                            self.out.drain(..self.sent);
                            self.sent = 0;
                            self.out.shrink_to_fit();
                        }
                        return self.pending(upstream, context);
                    }
                }
            }
            self.out.clear();
            self.sent = 0;
            // What a slow client's first part took is not held for the rest.
            if self.out.capacity() > SPARE_BYTES {
                self.out.shrink_to(SPARE_BYTES);
            }
            if way.is_over {
                return Poll::Ready(Ended::Whole);
            }
            match self.connection.worker.poll_read_some(&mut upstream.stream, context, way.room) {
                Poll::Ready(Ok(read)) if read > 0 => {
                    upstream.received(read);
                    if self.pass(way, read).is_err() {
                        return Poll::Ready(Ended::Cut);
                    }
                    moved += read;
                    // Others first; compressing takes its time.
                    if (way.squeeze.is_some() || moved >= TURN) && !way.is_over {
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Poll::Ready(end) => {
                    way.reusable = false;
                    if end.is_err() || way.body.close().is_err() {
                        return Poll::Ready(Ended::Cut);
                    }
                    way.is_over = true;
                    if way.squeeze(&mut self.out).is_err() {
                        return Poll::Ready(Ended::Cut);
                    }
                    if way.delivery == Delivery::Chunk {
                        self.out.extend_from_slice(LAST_CHUNK);
                    }
                }
                Poll::Pending => return self.pending(upstream, context),
            }
        }
    }

    /// Nothing moves just now: is the client still there?
    fn pending(&mut self, upstream: &Upstream, context: &mut Context<'_>) -> Poll<Ended> {
        let watches = self.request.is_complete() || self.refuses;
        if watches && self.poll_client(context).is_err() {
            return Poll::Ready(Ended::ClientGone);
        }
        let moved = upstream.life.sent + upstream.life.received + self.connection.life.sent;
        if self.connection.slot.is_due() {
            self.connection.slot.set(None);
            if (self.is_unwatched() && self.is_abandoned(moved)) || self.connection.ended && self.watch.is_none() {
                return Poll::Ready(Ended::ClientGone);
            }
            if let Some(ended) = self.overdue(upstream) {
                return Poll::Ready(ended);
            }
        }
        if self.is_unwatched() {
            self.look_later(moved);
        }
        Poll::Pending
    }

    /// It is time to look whether a socket with limits stands still.
    fn overdue(&mut self, upstream: &Upstream) -> Option<Ended> {
        let moved = self.moved(upstream);
        let waits = if self.sent < self.out.len() { Waits::ClientTakes } else { Waits::EndpointSends };
        let (now, ended) = (self.connection.worker.now(), self.connection.ended);
        let watch = self.watch.as_mut()?;
        if ended && watch.gives_up(now) {
            return Some(Ended::ClientGone);
        }
        if watch.stands_still(waits, moved, now) {
            return Some(if waits == Waits::ClientTakes { Ended::ClientGone } else { Ended::Cut });
        }
        self.connection.slot.set(Some(watch.look_at(now)));
        None
    }

    /// A client that closed its sending side is believed in as long as it takes something now and then.
    fn progressed(&mut self) {
        if self.connection.ended {
            self.connection.slot.set(Some(self.connection.worker.coarse_now() + HALF_CLOSED));
        }
    }

    /// Sends on what was read of the body.
    fn pass(&mut self, way: &mut Way, read: usize) -> Result<(), BodyError> {
        let worker = self.connection.worker.clone();
        worker.with_read(read, |bytes| {
            if way.delivery != Delivery::Same {
                let used = way.take(bytes, &mut self.out)?;
                way.reusable &= used == bytes.len();
                self.write_now(&[]);
                return Ok(());
            }
            let mut at = 0;
            while at < bytes.len() && !way.is_over {
                let run = way.body.next(&bytes[at..], Form::Pass)?;
                let data = &bytes[at + run.start..at + run.end];
                let written = if data.len() <= CRUMB { 0 } else { self.write_now(data) };
                self.out.extend_from_slice(&data[written..]);
                at += run.consumed;
                way.is_over = run.done;
            }
            way.reusable &= at == bytes.len();
            if self.sent < self.out.len() {
                self.write_now(&[]);
            }
            if self.sent > 0 {
                self.progressed();
            }
            Ok(())
        })
    }

    /// The client must not take a cut answer for a whole one: where only the close ends it, it is a reset.
    fn cut(&mut self, way: &Way) {
        self.connection.stream.cut();
        if way.delivery == Delivery::UntilClose {
            let socket = socket2::SockRef::from(&self.connection.stream);
            if let Err(error) = socket.set_linger(Some(std::time::Duration::ZERO)) {
                tracing::debug!(%error, "cannot reset a connection");
            }
        }
    }

    /// From here on bytes go both ways until both sides close.
    async fn tunnel(&mut self, mut upstream: Upstream) -> Next {
        let early = self.connection.take_early();
        let result = crate::tunnel::run(&mut self.connection.stream, &mut upstream.stream, &self.out, &early).await;
        if let Err(error) = result {
            tracing::debug!(%error, "a tunnel broke off");
        }
        Next::Close
    }
}

impl Way {
    /// Appends what `bytes` give to the client; says how many belong to the body.
    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError> {
        if self.delivery == Delivery::Same {
            let (used, done) = self.body.feed(bytes, Form::Pass, out)?;
            self.is_over |= done;
            return Ok(used);
        }
        let mut at = 0;
        while at < bytes.len() && !self.is_over {
            let run = self.body.next(&bytes[at..], Form::Payload)?;
            let data = &bytes[at + run.start..at + run.end];
            match (self.delivery, &mut self.squeeze) {
                // Memory is all that can fail here, and it does not.
                (_, Some(squeeze)) => squeeze.push(data).map_err(|_| BodyError::Truncated)?,
                (Delivery::Chunk, None) => write_chunk(out, data),
                (Delivery::UntilClose | Delivery::Same, None) => out.extend_from_slice(data),
            }
            at += run.consumed;
            self.is_over = run.done;
        }
        if self.squeeze.is_some() {
            self.squeeze(out)?;
            if self.is_over {
                out.extend_from_slice(LAST_CHUNK);
            }
        }
        Ok(at)
    }

    /// Appends what the compressor has, all of it if the body is over.
    fn squeeze(&mut self, out: &mut Vec<u8>) -> Result<(), BodyError> {
        let Some(squeeze) = &mut self.squeeze else { return Ok(()) };
        write_chunk(out, &squeeze.take(self.is_over).map_err(|_| BodyError::Truncated)?);
        Ok(())
    }
}

/// What `clearContext` does to another router's own answer: its text goes the way of its `l5d-err`. The
/// connection that it came on is not used again, so nobody reads that text.
#[cold]
fn conceal(head: &mut ResponseHead, bytes: &[u8]) -> bool {
    let conceals =
        head.has(Known::L5dErr) && !head.is_tunnel && !matches!(head.body, BodyKind::None | BodyKind::Length(0));
    if conceals {
        head.body = BodyKind::Length(0);
        let about_body = ["content-length", "content-encoding"];
        let is_dropped =
            |field: &&mut Field| about_body.iter().any(|name| field.name(bytes).eq_ignore_ascii_case(name.as_bytes()));
        head.fields.iter_mut().filter(is_dropped).for_each(Field::drop_line);
    }
    conceals
}
