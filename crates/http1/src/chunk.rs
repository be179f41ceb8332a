//! The chunked coding (RFC 9112 §7.1), strictly, byte by byte outside the data.
//!
//! State lives in a few words, so any split of the input reads the same.

use crate::body::{Form, Run};
use crate::error::BodyError;
use crate::scan::{is_text, is_token};

/// Digits of a chunk size: more only serve to confuse other parsers.
const MAX_DIGITS: u8 = 16;
/// Bytes of extensions on one chunk line.
const MAX_EXTENSION: u32 = 4 * 1024;
/// Bytes of all trailer lines.
const MAX_TRAILERS: u32 = 8 * 1024;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Size,
    /// Blanks after the size, which only an extension may follow.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// Start of a trailer line, or of the empty line that ends the body.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// A chunked body being read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chunked {
    step: Step,
    digits: u8,
    /// Bytes of extension on this line, or of trailers.
    extra: u32,
    left: u64,
}

impl Chunked {
    pub(crate) fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    pub(crate) fn next(&mut self, input: &[u8], form: Form) -> Result<Run, BodyError> {
        let (mut start, mut end, mut at) = (0, 0, 0);
        while at < input.len() && self.step != Step::Done {
            let from = at;
            let kept = if self.step == Step::Data {
                let room = input.len() - at;
                let take = room.min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= take as u64;
                at += take;
                if self.left == 0 {
                    self.step = Step::DataCr;
                }
                true
            } else {
                let kept = match self.framing(input[from]) {
                    Ok(kept) => kept && form == Form::Pass,
                    // The good bytes first, whatever the split; the bad one comes again.
                    Err(_) if start < end => break,
                    Err(error) => return Err(error),
                };
                at += 1;
                kept
            };
            match (kept, start == end) {
                (true, true) => (start, end) = (from, at),
                (true, false) => end = at,
                (false, true) => {}
                (false, false) => break,
            }
        }
        Ok(Run { start, end, consumed: at, done: self.step == Step::Done })
    }

    /// Takes one byte that is not data; true if it is part of the framing that is passed on.
    fn framing(&mut self, byte: u8) -> Result<bool, BodyError> {
        let (next, kept) = match (self.step, byte) {
            (Step::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.digit(byte)?;
                (Step::Size, true)
            }
            (Step::Size, _) if self.digits == 0 => return Err(BodyError::ChunkSize),
            (Step::Size | Step::Extension, b'\r') => (Step::SizeLf, true),
            (Step::Size | Step::Blank, b' ' | b'\t') => (Step::Blank, false),
            (Step::Size | Step::Blank, b';') => (Step::Extension, false),
            (Step::Size | Step::Blank, _) => return Err(BodyError::ChunkSize),
            (Step::Extension, byte) if is_text(byte) => (Step::Extension, false),
            (Step::Extension, _) => return Err(BodyError::ChunkExtension),
            (Step::SizeLf, b'\n') => (self.after_size(), true),
            (Step::DataCr, b'\r') => (Step::DataLf, true),
            (Step::DataLf, b'\n') => (Step::Size, true),
            (Step::SizeLf | Step::DataCr | Step::DataLf, _) => return Err(BodyError::ChunkEnd),
            (Step::Trailer, b'\r') => (Step::EndLf, true),
            (Step::TrailerName, b':') => (Step::TrailerValue, false),
            (Step::Trailer | Step::TrailerName, byte) if is_token(byte) => (Step::TrailerName, false),
            (Step::TrailerValue, b'\r') => (Step::TrailerLf, false),
            (Step::TrailerValue, byte) if is_text(byte) => (Step::TrailerValue, false),
            (Step::TrailerLf, b'\n') => (Step::Trailer, false),
            (Step::EndLf, b'\n') => (Step::Done, true),
            _ => return Err(BodyError::Trailer),
        };
        if !kept {
            self.count(next)?;
        }
        self.step = next;
        Ok(kept)
    }

    fn digit(&mut self, byte: u8) -> Result<(), BodyError> {
        let value = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        self.digits += 1;
        if self.digits > MAX_DIGITS || self.left > (i64::MAX as u64) >> 4 {
            return Err(BodyError::ChunkSize);
        }
        self.left = self.left << 4 | u64::from(value);
        Ok(())
    }

    fn after_size(&mut self) -> Step {
        self.digits = 0;
        self.extra = 0;
        if self.left == 0 { Step::Trailer } else { Step::Data }
    }

    /// Counts a byte that is dropped.
    fn count(&mut self, step: Step) -> Result<(), BodyError> {
        self.extra += 1;
        match step {
            Step::Blank | Step::Extension if self.extra > MAX_EXTENSION => Err(BodyError::ChunkExtension),
            _ if self.extra > MAX_TRAILERS => Err(BodyError::Trailer),
            _ => Ok(()),
        }
    }
}
