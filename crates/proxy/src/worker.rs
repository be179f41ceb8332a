//! One thread of the data plane and what its tasks share: a read buffer, output buffers, the clock, and
//! the table through which tasks are woken for deadlines and for draining.
//!
//! Nothing here is shared with other workers. The read buffer belongs to whoever reads, until its next
//! `await` that waits: bytes that must live longer are copied out.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use http1::ResponseHead;
use telemetry::Shard;

use crate::closing::Closing;
use crate::connection::Parser;
use crate::gather::Hoard;
use crate::housekeeping::Pauses;
use crate::record::Sampler;
use crate::room::Room;
use crate::spans::Tracing;
use crate::stream::Stream;
use crate::thread::Seat;

/// One read takes at most this much, whatever the connection.
pub(crate) const READ: usize = 128 * 1024;
/// Of a body that is on its way so much is read at once: what the other side does not take must be kept.
pub(crate) const BODY: usize = 32 * 1024;
/// After so much of a body it is others' turn.
pub(crate) const TURN: usize = 256 * 1024;
/// An answer's head, and as much of its body.
pub(crate) const ANSWER: usize = 68 * 1024;
/// The same when the other side was found to be slow.
pub(crate) const SLOW_BODY: usize = 16 * 1024;
/// Output buffers kept for the next exchange, and the largest that is kept.
const SPARE: usize = 256;
pub(crate) const SPARE_BYTES: usize = 16 * 1024;
const NEVER: u64 = u64::MAX;

pub(crate) struct Worker {
    pub number: usize,
    pub workers: usize,
    /// The same for all workers of the process.
    pub seed: u64,
    pub shard: Shard,
    /// For request heads, and for answers' heads: used between two waits, never across one.
    pub parser: RefCell<Parser>,
    pub response: RefCell<ResponseHead>,
    pub sampler: Sampler,
    /// `None`: nobody takes spans.
    pub tracing: Option<Tracing>,
    pub pauses: Pauses,
    /// Connections that are closed between requests.
    pub closing: Closing,
    /// For clients, shared by all workers.
    pub room: Arc<Room>,
    pub hoard: Rc<Hoard>,
    buffer: RefCell<Box<[u8]>>,
    spare: RefCell<Vec<Vec<u8>>>,
    slots: RefCell<Slots>,
    mood: Cell<Mood>,
    /// Connections of clients.
    pub open: Cell<usize>,
    epoch: Instant,
    coarse: Cell<u64>,
}

/// How idle clients are looked upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Patient,
    /// There is little room: who is idle, or slow with a head, is sent away after a while.
    Tight,
    /// Who is idle is sent away, and answers say that it is the last.
    Draining,
}

/// What can be woken: a deadline and a waker per connection.
#[derive(Default)]
struct Slots {
    deadlines: Vec<u64>,
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// A connection's place in the table, given back when dropped.
pub(crate) struct Slot {
    worker: Rc<Worker>,
    index: usize,
}

impl Worker {
    pub(crate) fn new(seat: &Seat) -> Rc<Worker> {
        Rc::new(Worker {
            number: seat.number,
            workers: seat.workers,
            seed: seat.seed,
            shard: seat.shard.clone(),
            parser: RefCell::default(),
            response: RefCell::default(),
            sampler: Sampler::default(),
            tracing: seat.tracing.clone(),
            pauses: Pauses::new(&seat.shard),
            closing: Closing::default(),
            room: seat.room.clone(),
            hoard: Hoard::new(seat.workers),
            buffer: RefCell::new(vec![0; READ].into_boxed_slice()),
            spare: RefCell::default(),
            slots: RefCell::default(),
            mood: Cell::new(Mood::Patient),
            open: Cell::new(0),
            epoch: seat.epoch,
            coarse: Cell::new(0),
        })
    }

    /// Nanoseconds since the epoch.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        let now = self.epoch.elapsed().as_nanos() as u64;
        self.coarse.set(now);
        now
    }

    /// The last reading of the clock: free, and at most a tick old.
    pub(crate) fn coarse_now(&self) -> u64 {
        self.coarse.get()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.mood.get() == Mood::Draining
    }

    pub(crate) fn mood(&self) -> Mood {
        self.mood.get()
    }

    /// Idle connections close, and answers from now on say so.
    pub(crate) fn drain(&self) {
        self.mood.set(Mood::Draining);
        self.wake_all();
    }

    /// There is little room, or enough again.
    pub(crate) fn set_tight(&self, is_tight: bool) {
        match (self.mood.get(), is_tight) {
            (Mood::Patient, true) => {
                self.mood.set(Mood::Tight);
                self.wake_all();
            }
            (Mood::Tight, false) => self.mood.set(Mood::Patient),
            _ => {}
        }
    }

    /// Lets every connection look at what changed around it.
    pub(crate) fn wake_all(&self) {
        let wakers = self.slots.borrow().wakers.clone();
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Reads once into the shared buffer; 0 is the end of the stream.
    #[inline]
    pub(crate) fn poll_read(&self, stream: &mut Stream, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_read_some(stream, context, READ)
    }

    /// Reads at most `limit` bytes.
    #[inline]
    pub(crate) fn poll_read_some(
        &self,
        stream: &mut Stream,
        context: &mut Context<'_>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = self.buffer.borrow_mut();
        let limit = limit.min(buffer.len());
        stream.poll_read_into(context, &mut buffer[..limit])
    }

    /// Looks at what was just read.
    #[inline]
    pub(crate) fn with_read<R>(&self, length: usize, look: impl FnOnce(&[u8]) -> R) -> R {
        look(&self.buffer.borrow()[..length])
    }

    /// An empty output buffer.
    pub(crate) fn take_buffer(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(4096))
    }

    pub(crate) fn give_buffer(&self, mut buffer: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if buffer.capacity() > 0 && buffer.capacity() <= SPARE_BYTES && spare.len() < SPARE {
            buffer.clear();
            spare.push(buffer);
        }
    }

    /// Wakes the tasks whose deadline has passed. Called every tick.
    pub(crate) fn expire(&self) {
        let now = self.now();
        let mut due = Vec::new();
        {
            let slots = self.slots.borrow();
            for (index, deadline) in slots.deadlines.iter().enumerate() {
                if *deadline <= now {
                    due.extend(slots.wakers[index].clone());
                }
            }
        }
        due.into_iter().for_each(Waker::wake);
    }

    /// Whether any deadline is set.
    pub(crate) fn has_deadlines(&self) -> bool {
        self.slots.borrow().deadlines.iter().any(|deadline| *deadline != NEVER)
    }
}

impl Slot {
    /// Takes a place; nobody is woken before [`Slot::wake`] says whom.
    pub(crate) fn new(worker: &Rc<Worker>) -> Slot {
        let mut slots = worker.slots.borrow_mut();
        let index = slots.free.pop().unwrap_or_else(|| {
            slots.deadlines.push(NEVER);
            slots.wakers.push(None);
            slots.wakers.len() - 1
        });
        slots.deadlines[index] = NEVER;
        Slot { worker: worker.clone(), index }
    }

    /// The task that is woken; it must stay that task's waker.
    pub(crate) fn wake(&self, waker: &Waker) {
        self.worker.slots.borrow_mut().wakers[self.index] = Some(waker.clone());
    }

    /// Whether its deadline has passed.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.worker.slots.borrow().deadlines[self.index] <= self.worker.coarse.get()
    }

    /// Moves the deadline to `deadline` if it is later, or if there is none.
    pub(crate) fn set_earlier(&self, deadline: u64) {
        let mut slots = self.worker.slots.borrow_mut();
        let current = &mut slots.deadlines[self.index];
        *current = deadline.min(*current);
    }

    /// Wakes the task at about `deadline` (nanoseconds since the epoch); `None`: not at all.
    #[inline]
    pub(crate) fn set(&self, deadline: Option<u64>) {
        self.worker.slots.borrow_mut().deadlines[self.index] = deadline.unwrap_or(NEVER);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = self.worker.slots.borrow_mut();
        slots.wakers[self.index] = None;
        slots.deadlines[self.index] = NEVER;
        slots.free.push(self.index);
    }
}
