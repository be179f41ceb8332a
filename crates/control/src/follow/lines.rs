//! Lines of a stream of bytes, and bytes that wait to be sent: both bounded.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use tokio::sync::mpsc;

/// Longest line that is read.
const LONGEST: usize = 8 * 1024 * 1024;

/// Reads lines. Dropping a pending `next` loses nothing.
pub(crate) struct Lines<S> {
    stream: S,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line feed.
    searched: usize,
}

/// Why there are no more lines.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("a line of more than {LONGEST} bytes")]
    TooLong,
    #[error("the stream broke off: {0}")]
    Stream(String),
}

impl<S, E> Lines<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::error::Error + 'static,
{
    pub(crate) fn new(stream: S) -> Lines<S> {
        Lines { stream, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next line without its line feed; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(line) = self.buffered()? {
                return Ok(Some(line));
            }
            match self.stream.next().await {
                Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Err(error)) => return Err(Broken::Stream(causes::chain(&error))),
                // What stands behind the last line feed is no line.
                None => return Ok(None),
            }
        }
    }

    /// A line that has come already.
    pub(crate) fn buffered(&mut self) -> Result<Option<Bytes>, Broken> {
        match self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                let mut line = self.buffer.split_to(self.searched + end + 1);
                self.searched = 0;
                line.truncate(line.len() - 1);
                Ok(Some(line.freeze()))
            }
            None if self.buffer.len() > LONGEST => Err(Broken::TooLong),
            None => {
                self.searched = self.buffer.len();
                Ok(None)
            }
        }
    }

    /// What has come and is no whole line.
    pub(crate) fn rest(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }
}

/// Above this, nothing more is put into an outbox.
const FULL: usize = 64 * 1024;

/// Lines that wait to be sent as one piece.
pub(crate) struct Outbox {
    lines: Vec<u8>,
    sender: mpsc::Sender<Bytes>,
    /// When something was last let through, or put into the empty box.
    moved: Instant,
}

impl Outbox {
    pub(crate) fn new(sender: mpsc::Sender<Bytes>) -> Outbox {
        Outbox { lines: Vec::new(), sender, moved: Instant::now() }
    }

    /// Puts in a line. Whoever asks [`Outbox::has_room`] first keeps it bounded.
    pub(crate) fn put(&mut self, message: &impl Serialize) {
        self.touch();
        // Into memory, of values whose keys are texts: this cannot fail, and half a line is never sent.
        let start = self.lines.len();
        if let Err(error) = serde_json::to_writer(&mut self.lines, message) {
            tracing::error!(%error, "a message cannot be written");
            self.lines.truncate(start);
            return;
        }
        self.lines.push(b'\n');
    }

    /// Puts in an empty line, where nothing waits.
    pub(crate) fn keep_alive(&mut self) {
        if self.lines.is_empty() {
            self.touch();
            self.lines.push(b'\n');
        }
    }

    fn touch(&mut self) {
        if self.lines.is_empty() {
            self.moved = Instant::now();
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.lines.len() < FULL
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Since when what waits has not moved.
    pub(crate) fn stuck_since(&self) -> Option<Instant> {
        (!self.lines.is_empty()).then_some(self.moved)
    }

    /// Sends what waits, as soon as it is let through. `Err` when nobody reads any more. Dropping it
    /// pending loses nothing.
    pub(crate) async fn send(&mut self) -> Result<(), ()> {
        let place = self.sender.reserve().await.map_err(|_| ())?;
        place.send(std::mem::take(&mut self.lines).into());
        self.moved = Instant::now();
        Ok(())
    }

    /// Resolves when nobody reads any more.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + use<> {
        let sender = self.sender.clone();
        async move { sender.closed().await }
    }
}
