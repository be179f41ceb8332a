//! Answers that go on whole: short ones, so that one that breaks off is a 502 and not half an answer; all of
//! them with `streamingEnabled: false`; and those that get a diagnostic text (`l5d-add-context`).
//!
//! What is held is bounded, per message and for the worker.

use std::cell::Cell;
use std::fmt::Write;
use std::future::poll_fn;
use std::rc::Rc;

use http1::{Body, BodyKind, Form, ResponseHead};

use crate::exchange::{Arrived, Exchange};
use crate::pool::Upstream;
use crate::wire::{Broken, Event, Place};

/// The longest message that is held whole.
pub(crate) const MOST: u64 = 64 * 1024 * 1024;
/// All that the workers of a process hold.
const MOST_HELD: u64 = 512 * 1024 * 1024;
/// Answers up to this length are held until they are whole, if `streamAfterContentLengthKB` allows.
pub(crate) const SHORT: u64 = 64 * 1024;

/// Bytes that a worker holds for messages that must be whole.
#[derive(Default)]
pub(crate) struct Hoard {
    held: Cell<u64>,
    most: u64,
}

/// A part of the hoard, given back when dropped.
pub(crate) struct Held {
    hoard: Rc<Hoard>,
    bytes: u64,
}

impl Hoard {
    pub(crate) fn new(workers: usize) -> Rc<Hoard> {
        Rc::new(Hoard { held: Cell::new(0), most: (MOST_HELD / workers.max(1) as u64).max(MOST) })
    }

    /// Room for so many bytes, if there is any.
    pub(crate) fn hold(self: &Rc<Hoard>, bytes: u64) -> Option<Held> {
        let mut held = Held { hoard: self.clone(), bytes: 0 };
        held.grow(bytes).then_some(held)
    }
}

impl Held {
    /// Room for so many bytes in all; `false` if there is none.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let all = self.hoard.held.get() + more;
        if all > self.hoard.most {
            return false;
        }
        self.hoard.held.set(all);
        self.bytes += more;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.hoard.held.set(self.hoard.held.get() - self.bytes);
    }
}

/// What an answer's body becomes.
struct Gathering {
    body: Body,
    head: Vec<u8>,
    payload: Vec<u8>,
    held: Held,
    /// Bytes came behind the body.
    surplus: bool,
}

impl Gathering {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let (used, _) = self.body.feed(bytes, Form::Payload, &mut self.payload).map_err(Broken::Body)?;
        self.surplus |= used < bytes.len();
        let length = self.payload.len() as u64;
        if length > MOST || !self.held.grow(length) {
            return Err(Broken::TooLong);
        }
        Ok(())
    }
}

impl Exchange<'_> {
    /// Reads the answer whose head is in the worker's parser to its end. The head may be another's
    /// afterwards.
    pub(crate) async fn gather(
        &mut self,
        upstream: &mut Upstream,
        place: Place,
        attempt_ends: Option<u64>,
    ) -> Result<Place, Broken> {
        let worker = self.connection.worker.clone();
        let (mut bytes, ended) = match place {
            Place::Read(length) => (worker.with_read(length, <[u8]>::to_vec), false),
            Place::Kept { bytes, ended } => (bytes, ended),
            Place::Whole { .. } => return Ok(place),
        };
        let (length, kind, keep_alive) = {
            let head = worker.response.borrow();
            if head.is_tunnel || head.body == BodyKind::None {
                return Ok(Place::Kept { bytes, ended });
            }
            if self.request.adds_context && !self.is_held(&head) {
                let payload = placeholder(&head, &bytes).into_bytes();
                bytes.truncate(head.len);
                bytes.extend_from_slice(&payload);
                return Ok(Place::Whole { bytes, reusable: false });
            }
            (head.len, head.body, head.keep_alive)
        };
        let first = bytes.split_off(length);
        let Some(held) = worker.hoard.hold(first.len() as u64) else { return Err(Broken::TooLong) };
        let mut gathering = Gathering { body: Body::new(kind), head: bytes, payload: Vec::new(), held, surplus: false };
        if matches!(kind, BodyKind::Length(length) if length > MOST) {
            return Err(Broken::TooLong);
        }
        gathering.take(&first)?;
        drop(first);
        let mut closed = ended;
        while !gathering.body.is_done() {
            if closed {
                if gathering.body.close().is_err() {
                    return Err(Broken::Closed { began: true });
                }
                break;
            }
            self.arm(attempt_ends);
            match poll_fn(|context| self.poll_event(upstream, context)).await {
                Event::Read(0) | Event::Closed => closed = true,
                Event::Read(read) => {
                    upstream.received(read);
                    worker.with_read(read, |bytes| gathering.take(bytes))?;
                }
                Event::ClientGone => return Err(Broken::ClientGone),
                Event::BadBody(error) => return Err(Broken::BadBody(error)),
                Event::Due => {
                    if let Some(broken) = self.due(upstream, attempt_ends) {
                        return Err(broken);
                    }
                }
            }
        }
        let reusable = keep_alive && !closed && !gathering.surplus;
        let Gathering { head: mut bytes, payload, .. } = gathering;
        bytes.extend_from_slice(&payload);
        Ok(Place::Whole { bytes, reusable })
    }

    /// Whether the original would hold this answer whole.
    fn is_held(&self, head: &ResponseHead) -> bool {
        let settings = &self.connection.server.router.settings;
        match head.body {
            BodyKind::None => true,
            BodyKind::Length(length) => !settings.streaming || length <= settings.stream_after,
            BodyKind::Chunked | BodyKind::UntilClose => !settings.streaming,
        }
    }

    /// Adds what a diagnostic TRACE asked for to its answer, which is whole.
    pub(crate) async fn add_context(&mut self, arrived: &mut Arrived) {
        let text = self.context(&arrived.drawn, Some(arrived.picked.endpoint.address)).await;
        let Place::Whole { bytes, .. } = &mut arrived.place else { return };
        let length = self.parse_again(bytes);
        let said = String::from_utf8_lossy(&bytes[length..]).trim().to_owned();
        bytes.truncate(length);
        bytes.extend_from_slice(said.as_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }

    /// The head of an answer that was held meanwhile, into the worker's parser; its length.
    pub(crate) fn parse_again(&self, bytes: &[u8]) -> usize {
        // It was parsed before.
        let _ = self.parse_bytes(bytes, true);
        self.connection.worker.response.borrow().len
    }
}

/// What stands in place of a streamed answer: as in the original.
fn placeholder(head: &ResponseHead, bytes: &[u8]) -> String {
    let mut text = String::new();
    for field in head.fields.iter() {
        let (name, value) = (String::from_utf8_lossy(field.name(bytes)), String::from_utf8_lossy(field.value(bytes)));
        let _ = writeln!(text, "{name}: {value}");
    }
    let _ = writeln!(text, "HTTP {} - {}", head.status, String::from_utf8_lossy(head.reason(bytes)));
    text.push_str("Diagnostic trace encountered chunked response. Response content discarded.");
    text
}
