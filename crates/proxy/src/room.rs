//! Room for clients: how many connections this process takes, so that file descriptors are left for
//! endpoints, files and the admin server.
//!
//! ```text
//!  0 ........................ tight ... full ........ limit of the process
//!    everybody is welcome       │         │   reserve for the rest
//!                               │         └ nobody is accepted
//!                               └ who is idle, or slow with a head, is sent away
//! ```
//! Counted over all workers. A flood of connections thus costs idle clients their connection, which any
//! HTTP client copes with, and nobody an answer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is kept for the rest: this share of the limit, but some even of a small one.
const RESERVE: usize = 4;
const LEAST_RESERVE: usize = 64;

/// See the module.
pub(crate) struct Room {
    open: AtomicUsize,
    full: usize,
    /// How often descriptors ran out for a connection to an endpoint.
    shortages: AtomicUsize,
}

/// A client's place, given back when dropped.
pub(crate) struct Taken(Arc<Room>);

impl Room {
    /// As much as the process has.
    pub(crate) fn of_process() -> Arc<Room> {
        Room::new(file_limit().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot ask for the limit of open files");
            usize::MAX
        }))
    }

    fn new(files: usize) -> Arc<Room> {
        let reserve = (files / RESERVE).max(LEAST_RESERVE).min(files / 2);
        Arc::new(Room { open: AtomicUsize::new(0), full: (files - reserve).max(1), shortages: AtomicUsize::new(0) })
    }

    pub(crate) fn take(self: &Arc<Room>) -> Taken {
        self.open.fetch_add(1, Ordering::Relaxed);
        Taken(self.clone())
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The most that are accepted.
    pub(crate) fn full(&self) -> usize {
        self.full
    }

    pub(crate) fn is_full(&self) -> bool {
        self.open() >= self.full
    }

    /// There was no descriptor for a connection to an endpoint: each worker closes some that are idle.
    pub(crate) fn report_shortage(&self) {
        self.shortages.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn shortages(&self) -> usize {
        self.shortages.load(Ordering::Relaxed)
    }

    /// Fifteen sixteenths: from here on who is idle is sent away.
    pub(crate) fn is_tight(&self) -> bool {
        self.open() >= self.full - self.full / 16
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `RLIMIT_NOFILE`, the soft one: it is what the kernel goes by.
fn file_limit() -> io::Result<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for writes, and nothing else is touched.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_always_left_for_the_rest() {
        for (files, full) in
            [(20_000, 15_000), (1024, 768), (200, 136), (100, 50), (1, 1), (usize::MAX, usize::MAX / 4 * 3 + 3)]
        {
            assert_eq!(Room::new(files).full(), full, "{files}");
        }
    }

    #[test]
    fn places_are_given_back() {
        let room = Room::new(36);
        let taken = (0..18).map(|_| room.take()).collect::<Vec<_>>();
        assert!(room.is_full() && room.is_tight());
        drop(taken);
        assert!(!room.is_full() && !room.is_tight());
        let taken = (0..17).map(|_| room.take()).collect::<Vec<_>>();
        assert!(!room.is_full() && room.is_tight(), "{}", taken.len());
    }
}
