//! A connection's bytes, and how long each side may let the other wait.
//!
//! | waits for | how long | who is cut off |
//! |---|---|---|
//! | bytes of the client, while no request is answered | `readTimeoutMs`, if there is one | who is silent |
//! | the client to read, while bytes are to be sent | `writeTimeoutMs`, or the port's bound | who asks and does not read |
//! | an answer that the client still wants after it closed its side | until nothing has moved for the port's time | who is gone |
//!
//! A watch that has nothing to tell waits for none of these.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::Counts;

/// How long bytes that nobody wants are read away, so that a refusal is not lost to a reset.
const LINGER: Duration = Duration::from_secs(2);
/// Reads of them in a row, before others have their turn.
const AT_ONCE: usize = 16;

const WAITING: u8 = 0;
const ANSWERING: u8 = 1;
const ANSWERING_WHILE_MORE_COMES: u8 = 2;

/// What the request of the moment is about; shared by the connection's bytes and its requests.
#[derive(Clone, Default)]
pub(crate) struct Flow {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: AtomicU8,
    lingers: AtomicBool,
    reader: AtomicWaker,
}

/// While this is there, a request is answered.
pub(crate) struct Answering(Flow);

impl Flow {
    /// The request is here, whole.
    pub(crate) fn answering(&self) -> Answering {
        self.answering_as(ANSWERING)
    }

    /// The request's body goes on while it is answered.
    pub(crate) fn answering_while_more_comes(&self) -> Answering {
        self.answering_as(ANSWERING_WHILE_MORE_COMES)
    }

    fn answering_as(&self, state: u8) -> Answering {
        self.shared.state.store(state, Ordering::Relaxed);
        Answering(self.clone())
    }

    /// The connection's end waits for what the client is still sending.
    pub(crate) fn linger(&self) {
        self.shared.lingers.store(true, Ordering::Relaxed);
    }

    fn state(&self) -> u8 {
        self.shared.state.load(Ordering::Relaxed)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.shared.state.store(WAITING, Ordering::Relaxed);
        self.0.shared.reader.wake();
    }
}

/// A time until which something must have happened.
#[derive(Default)]
struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    is_set: bool,
}

impl Alarm {
    /// Ready when it is over. The first call after `off` begins it.
    fn poll(&mut self, context: &mut Context<'_>, within: Duration) -> Poll<()> {
        if !self.is_set {
            self.set(Instant::now() + within);
        }
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().poll(context),
            None => Poll::Pending,
        }
    }

    fn set(&mut self, until: Instant) {
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(until),
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(until))),
        }
        self.is_set = true;
    }

    fn off(&mut self) {
        self.is_set = false;
    }
}

/// How long each wait may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) read: Option<Duration>,
    pub(crate) write: Duration,
    pub(crate) half_closed: Duration,
}

/// A stream whose waits are bounded.
pub(crate) struct Timed<S> {
    stream: S,
    flow: Flow,
    times: Times,
    counts: Counts,
    reading: Alarm,
    writing: Alarm,
    /// The client closed its side.
    ended: bool,
    half_closed: Alarm,
    lingering: Alarm,
    is_shut: bool,
}

impl<S> Timed<S> {
    pub(crate) fn new(stream: S, flow: Flow, times: Times, counts: Counts) -> Timed<S> {
        Timed {
            stream,
            flow,
            times,
            counts,
            reading: Alarm::default(),
            writing: Alarm::default(),
            ended: false,
            half_closed: Alarm::default(),
            lingering: Alarm::default(),
            is_shut: false,
        }
    }

    /// Nothing has come: is it time that something did?
    fn wait_to_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flow.shared.reader.register(context.waker());
        let Some(within) = self.times.read else { return Poll::Pending };
        if self.flow.state() != WAITING || self.writing.is_set {
            self.reading.off();
            return Poll::Pending;
        }
        if self.reading.poll(context, within).is_pending() {
            return Poll::Pending;
        }
        self.counts.read_timeout();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing came for {within:?}"))))
    }

    /// The client closed its side, and may still want its answer: hyper, once told, drops that.
    fn hide_end(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flow.shared.reader.register(context.waker());
        let answers = match self.flow.state() {
            ANSWERING => true,
            ANSWERING_WHILE_MORE_COMES => false,
            _ => self.writing.is_set,
        };
        if answers && self.half_closed.poll(context, self.times.half_closed).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// What came of an attempt to send.
    fn sent<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.half_closed.off();
            if self.writing.is_set {
                self.writing.off();
                // Reading looks at it.
                self.flow.shared.reader.wake();
            }
            return polled;
        }
        if self.writing.poll(context, self.times.write).is_pending() {
            return Poll::Pending;
        }
        self.counts.write_timeout();
        let text = format!("the client has not read for {:?}", self.times.write);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ended {
            return this.hide_end(context);
        }
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) if buffer.filled().len() == before && buffer.remaining() > 0 => {
                this.ended = true;
                this.hide_end(context)
            }
            Poll::Ready(read) => {
                this.reading.off();
                Poll::Ready(read)
            }
            Poll::Pending => this.wait_to_read(context),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.sent(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.sent(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            // A flush of nothing says nothing about what moves.
            Poll::Ready(done) if !self.writing.is_set => Poll::Ready(done),
            polled => self.sent(context, polled),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.is_shut {
            let polled = Pin::new(&mut this.stream).poll_shutdown(context);
            std::task::ready!(this.sent(context, polled))?;
            this.is_shut = true;
        }
        if this.ended || !this.flow.shared.lingers.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let mut unwanted = [0; 8192];
        for _ in 0..AT_ONCE {
            if this.lingering.poll(context, LINGER).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut unwanted);
            match Pin::new(&mut this.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
    use tokio::task::JoinHandle;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(50);

    /// Between both sides there is room for one byte.
    fn pair(flow: &Flow) -> (DuplexStream, ReadHalf<Timed<DuplexStream>>, WriteHalf<Timed<DuplexStream>>) {
        let (client, server) = tokio::io::duplex(1);
        let times = Times { read: Some(SHORT), write: LONG, half_closed: LONG };
        let (reader, writer) = tokio::io::split(Timed::new(server, flow.clone(), times, Counts::default()));
        (client, reader, writer)
    }

    /// Reads once.
    fn reading(mut reader: ReadHalf<Timed<DuplexStream>>) -> JoinHandle<io::Result<usize>> {
        tokio::spawn(async move { reader.read(&mut [0; 8]).await })
    }

    async fn times_out(reading: JoinHandle<io::Result<usize>>) {
        let read = tokio::time::timeout(LONG, reading).await.expect("reading ends").expect("no panic");
        assert_eq!(read.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
    }

    /// Gives every other task its turn, and a silence longer than a client may keep.
    async fn silence() {
        tokio::time::sleep(SHORT * 3).await;
    }

    #[tokio::test]
    async fn the_time_to_read_runs_from_the_end_of_an_answer() {
        let flow = Flow::default();
        let (_client, reader, _writer) = pair(&flow);
        let answering = flow.answering();
        let reading = reading(reader);
        silence().await;
        assert!(!reading.is_finished(), "nothing is waited for while a request is answered");
        drop(answering);
        times_out(reading).await;
    }

    #[tokio::test]
    async fn the_time_to_read_runs_from_when_the_answer_was_taken() {
        let (mut client, reader, mut writer) = pair(&Flow::default());
        let writing = tokio::spawn(async move {
            let written = writer.write_all(b"two").await;
            (writer, written)
        });
        tokio::task::yield_now().await;
        let reading = reading(reader);
        silence().await;
        assert!(!reading.is_finished(), "nothing is waited for while bytes wait to be sent");
        let mut taken = [0; 3];
        client.read_exact(&mut taken).await.expect("taken");
        writing.await.expect("no panic").1.expect("written");
        times_out(reading).await;
    }
}
