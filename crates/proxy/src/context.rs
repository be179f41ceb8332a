//! The request's context: what `l5d-*` headers bring along, and in what form it goes on.
//!
//! Behaviour: Linkerd 1.7.5's `LinkerdHeaders`. Read are `l5d-ctx-dtab`, `l5d-dtab` and `l5d-ctx-deadline`,
//! and in `crate::trace` `l5d-ctx-trace` and `l5d-sample`; everything else that starts with `l5d-` passes through.

use http1::{Known, KnownSet, RequestHead};
use names::{Dtab, ParseError};

/// Every header of Linkerd's own.
pub(crate) const ALL: KnownSet = KnownSet::of(&[
    Known::L5dDtab,
    Known::L5dSample,
    Known::L5dReqid,
    Known::L5dErr,
    Known::L5dSuccessClass,
    Known::L5dRetryable,
    Known::L5dAddContext,
    Known::L5dCtxDtab,
    Known::L5dCtxTrace,
    Known::L5dCtxDeadline,
    Known::L5dCtxOther,
    Known::L5dDstService,
    Known::L5dDstClient,
    Known::L5dDstResidual,
    Known::L5dDstOther,
    Known::L5dOther,
]);

/// What this router writes itself, or has read and writes anew.
pub(crate) const REWRITTEN: KnownSet = KnownSet::of(&[
    Known::L5dDtab,
    Known::L5dCtxDtab,
    Known::L5dCtxTrace,
    Known::L5dSample,
    Known::L5dReqid,
    Known::L5dDstService,
    Known::L5dDstClient,
    Known::L5dDstResidual,
]);

const DTABS: KnownSet = KnownSet::of(&[Known::L5dCtxDtab, Known::L5dDtab]);

/// A deadline as it travels: nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline {
    pub timestamp: u128,
    pub deadline: u128,
}

impl Deadline {
    fn read(value: &[u8]) -> Option<Deadline> {
        let (timestamp, deadline) = std::str::from_utf8(value).ok()?.split_once(' ')?;
        Some(Deadline { timestamp: timestamp.parse().ok()?, deadline: deadline.parse().ok()? })
    }

    /// From now on for this long.
    pub(crate) fn within(limit: std::time::Duration) -> Deadline {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let timestamp = now.map_or(0, |since| since.as_nanos());
        Deadline { timestamp, deadline: timestamp + limit.as_nanos() }
    }

    /// The stricter of both: latest timestamp, earliest deadline.
    pub(crate) fn with(self, other: Deadline) -> Deadline {
        Deadline { timestamp: self.timestamp.max(other.timestamp), deadline: self.deadline.min(other.deadline) }
    }

    /// All valid values of the request folded into one.
    pub(crate) fn of(head: &RequestHead, bytes: &[u8]) -> Option<Deadline> {
        head.fields.all(bytes, Known::L5dCtxDeadline).filter_map(Deadline::read).reduce(Deadline::with)
    }

    /// Appends the whole header line.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"l5d-ctx-deadline: ");
        // Formatting through `std::fmt` costs a tenth of a request.
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(digits.format(self.timestamp).as_bytes());
        out.push(b' ');
        out.extend_from_slice(digits.format(self.deadline).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends what distinguishes the request's own dtabs from another request's: nothing if it has none.
#[inline]
pub(crate) fn dtab_key(head: &RequestHead, bytes: &[u8], key: &mut Vec<u8>) {
    if head.fields.present().any(DTABS) {
        for known in [Known::L5dCtxDtab, Known::L5dDtab] {
            for value in head.fields.all(bytes, known) {
                // No header value contains these, so that no two lists share a key.
                key.push(b'\n');
                key.extend_from_slice(value);
            }
        }
    }
}

/// The request's own dtab: all of `l5d-ctx-dtab`, then all of `l5d-dtab`, which wins.
pub(crate) fn dtab(head: &RequestHead, bytes: &[u8]) -> Result<Dtab, ParseError> {
    let mut local = Dtab::empty();
    for known in [Known::L5dCtxDtab, Known::L5dDtab] {
        for value in head.fields.all(bytes, known) {
            local = local.concat(&Dtab::read(&String::from_utf8_lossy(value))?);
        }
    }
    Ok(local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_written_as_it_is_read() {
        for (timestamp, deadline) in [(0, 9), (1_500_000_000_000_000_000, u128::from(u64::MAX)), (1 << 64, u128::MAX)] {
            let mut line = Vec::new();
            Deadline { timestamp, deadline }.write(&mut line);
            assert_eq!(String::from_utf8_lossy(&line), format!("l5d-ctx-deadline: {timestamp} {deadline}\r\n"));
        }
    }

    #[test]
    fn of_two_deadlines_the_stricter_parts_hold() {
        let read = |text: &str| Deadline::read(text.as_bytes());
        let both = read("1 10").zip(read("2 8")).map(|(a, b)| a.with(b));
        assert_eq!(both, Some(Deadline { timestamp: 2, deadline: 8 }));
        assert_eq!(read("1"), None);
        assert_eq!(read("a b"), None);
    }
}
