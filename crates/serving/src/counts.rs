//! What a port counts, under the names that finagle's servers have, where they have one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use telemetry::{Registry, SharedCounter};

/// Clones share. The default counts for nobody.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    open: Arc<AtomicU64>,
    connects: SharedCounter,
    full: SharedCounter,
    not_admitted: SharedCounter,
    body_too_long: SharedCounter,
    body_too_late: SharedCounter,
    body_no_room: SharedCounter,
    read_timeout: SharedCounter,
    write_timeout: SharedCounter,
}

/// A connection that is open, until it is dropped.
pub(crate) struct Open(Arc<AtomicU64>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    TooLong,
    TooLate,
    NoRoom,
}

impl Counts {
    /// Counts under these scopes: `connects`, `connections` (open), `full` (times that connections had to wait
    /// for a place), `refused/admission`, `refused/body_too_long`, `refused/body_too_late`,
    /// `refused/body_no_room`, `read_timeout`, `write_timeout`.
    #[must_use]
    pub fn under(registry: &Registry, scope: &[&str]) -> Counts {
        let counter = |names: &[&str]| registry.shared_counter(&[scope, names].concat());
        let open = Arc::<AtomicU64>::default();
        let shown = open.clone();
        registry.gauge_with(&[scope, &["connections"]].concat(), move || shown.load(Ordering::Relaxed) as f64);
        Counts {
            open,
            connects: counter(&["connects"]),
            full: counter(&["full"]),
            not_admitted: counter(&["refused", "admission"]),
            body_too_long: counter(&["refused", "body_too_long"]),
            body_too_late: counter(&["refused", "body_too_late"]),
            body_no_room: counter(&["refused", "body_no_room"]),
            read_timeout: counter(&["read_timeout"]),
            write_timeout: counter(&["write_timeout"]),
        }
    }

    pub(crate) fn opened(&self) -> Open {
        self.connects.inc();
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(self.open.clone())
    }

    pub(crate) fn full(&self) {
        self.full.inc();
    }

    pub(crate) fn not_admitted(&self) {
        self.not_admitted.inc();
    }

    pub(crate) fn refused(&self, why: Refused) {
        match why {
            Refused::TooLong => self.body_too_long.inc(),
            Refused::TooLate => self.body_too_late.inc(),
            Refused::NoRoom => self.body_no_room.inc(),
        }
    }

    pub(crate) fn read_timeout(&self) {
        self.read_timeout.inc();
    }

    pub(crate) fn write_timeout(&self) {
        self.write_timeout.inc();
    }
}
