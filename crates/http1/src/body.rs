//! Body decoders: find the end of a body, and give the bytes to send on.
//!
//! ```
//! use http1::{Body, BodyKind, Form};
//!
//! let mut body = Body::new(BodyKind::Chunked);
//! let (mut rest, mut out) = (&b"5;ext=1\r\nhello\r\n0\r\nTrailer: x\r\n\r\nGET /"[..], Vec::new());
//! loop {
//!     let run = body.next(rest, Form::Pass)?;
//!     out.extend_from_slice(&rest[run.start..run.end]);
//!     rest = &rest[run.consumed..];
//!     if run.done || rest.is_empty() { break }
//! }
//! assert_eq!(out, b"5\r\nhello\r\n0\r\n\r\n");
//! assert_eq!(rest, b"GET /");
//! # Ok::<(), http1::BodyError>(())
//! ```

use crate::chunk::Chunked;
use crate::error::BodyError;
use crate::framing::BodyKind;

/// What [`Body::next`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The bytes as they came, for a recipient that gets the same framing. Chunk extensions and
    /// trailers are left out; mostly that is one run, the whole input.
    Pass,
    /// The payload alone, for re-framing.
    Payload,
}

/// The next run of an input: send `input[start..end]`, go on at `consumed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First byte to send.
    pub start: usize,
    /// One past the last byte to send; `start == end` when this input has nothing to send.
    pub end: usize,
    /// Bytes of the input that are used up.
    pub consumed: usize,
    /// The body is complete; what follows `consumed` belongs to the next message.
    pub done: bool,
}

/// The state of one body. Small and plain: keep it by value.
#[derive(Clone, Copy, Debug)]
pub struct Body(State);

#[derive(Clone, Copy, Debug)]
enum State {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

impl Body {
    /// A decoder at the start of a body.
    #[must_use]
    pub fn new(kind: BodyKind) -> Body {
        Body(match kind {
            BodyKind::None => State::Length(0),
            BodyKind::Length(length) => State::Length(length),
            BodyKind::Chunked => State::Chunked(Chunked::default()),
            BodyKind::UntilClose => State::UntilClose,
        })
    }

    /// Whether the body is complete (true from the start where there is none).
    #[inline]
    #[must_use]
    pub fn is_done(&self) -> bool {
        match &self.0 {
            State::Length(left) => *left == 0,
            State::Chunked(chunked) => chunked.is_done(),
            State::UntilClose => false,
        }
    }

    /// Takes the next run from `input`. Call again with the rest until `done` or nothing is left.
    ///
    /// # Errors
    /// Malformed chunks. What was given out before is not to be completed: close.
    #[inline]
    pub fn next(&mut self, input: &[u8], form: Form) -> Result<Run, BodyError> {
        match &mut self.0 {
            State::Length(left) => {
                let take = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= take as u64;
                Ok(Run { start: 0, end: take, consumed: take, done: *left == 0 })
            }
            State::Chunked(chunked) => chunked.next(input, form),
            State::UntilClose => Ok(Run { start: 0, end: input.len(), consumed: input.len(), done: false }),
        }
    }

    /// Appends to `out` all that `input` gives; answers how much was used up, and whether the body
    /// is done. For small inputs; large ones are better sent run by run.
    ///
    /// # Errors
    /// As [`Body::next`].
    pub fn feed(&mut self, input: &[u8], form: Form, out: &mut Vec<u8>) -> Result<(usize, bool), BodyError> {
        let mut at = 0;
        loop {
            let run = self.next(&input[at..], form)?;
            out.extend_from_slice(&input[at + run.start..at + run.end]);
            at += run.consumed;
            if run.done || at == input.len() {
                return Ok((at, run.done));
            }
        }
    }

    /// The peer closed: right only for a body until close, or a complete one.
    ///
    /// # Errors
    /// [`BodyError::Truncated`].
    pub fn close(&self) -> Result<(), BodyError> {
        match self.0 {
            State::UntilClose => Ok(()),
            _ if self.is_done() => Ok(()),
            _ => Err(BodyError::Truncated),
        }
    }
}
