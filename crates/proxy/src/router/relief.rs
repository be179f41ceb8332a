//! File descriptors that ran out: idle connections to endpoints go, so that a request that needs a new one gets it.
//!
//! A router of ten thousand names with ten endpoints each keeps a hundred thousand connections if nobody limits them
//! (`hostConnectionPool`, `idleTimeMs`), and its process may open fewer. What is idle is only kept for speed: it is
//! given up before a request fails. Other workers cannot be asked at once; they give up some of theirs at their next
//! tick (see [`crate::room::Room::shortages`]).

use super::Router;
use crate::cache::Used;
use crate::client::Client;

/// Connections that are closed at a time: what the kernel does for them takes less than a millisecond.
const AT_ONCE: usize = 64;
/// Clients that are looked at in order to find them.
const LOOKS: usize = 1024;
/// Those used within this come last: one second.
const LATELY: u64 = 1_000_000_000;

impl Router {
    /// Closes some connections that wait for that, or that are idle: of clients that were not used lately if there are
    /// such. Returns how many.
    #[cold]
    pub(crate) fn close_idle(&self, now: u64) -> usize {
        let waiting = self.worker.closing.now(AT_ONCE);
        if waiting > 0 {
            return waiting;
        }
        let not_lately = self.close_idle_of(|client| now.saturating_sub(client.used()) >= LATELY);
        if not_lately > 0 { not_lately } else { self.close_idle_of(|_| true) }
    }

    /// For a connection to an endpoint something ran out: whether another attempt is worth while. Other workers
    /// follow at their next tick.
    pub(crate) fn relieve(&self, now: u64) -> bool {
        self.worker.room.report_shortage();
        self.close_idle(now) > 0
    }

    fn close_idle_of(&self, may_go: impl Fn(&Client) -> bool) -> usize {
        let clients = self.clients.borrow();
        let (many, mut closed) = (clients.len(), 0);
        for _ in 0..many.min(LOOKS) {
            let at = self.relieved.get() % many;
            if let Some(client) = clients.part(at..at + 1).next().filter(|client| may_go(client)) {
                closed += client.close_idle(AT_ONCE - closed);
            }
            if closed >= AT_ONCE {
                break;
            }
            self.relieved.set(at + 1);
        }
        closed
    }
}
