//! Connections to endpoints that nobody needs any more are closed between requests, in turns: the kernel takes some
//! ten microseconds for each, and a client that goes, or an endpoint that discovery takes away, may leave hundreds.

use std::cell::RefCell;
use std::rc::Rc;

use tokio::sync::Notify;

use crate::housekeeping::Turn;
use crate::pool::Upstream;
use crate::worker::Worker;

/// Of one worker.
#[derive(Default)]
pub(crate) struct Closing {
    waiting: RefCell<Vec<Upstream>>,
    more: Notify,
}

impl Closing {
    pub(crate) fn later(&self, connections: Vec<Upstream>) {
        if !connections.is_empty() {
            self.waiting.borrow_mut().extend(connections);
            self.more.notify_one();
        }
    }

    /// Closes so many at most now; how many it were.
    pub(crate) fn now(&self, most: usize) -> usize {
        (0..most).map_while(|_| self.next()).map(drop).count()
    }

    fn next(&self) -> Option<Upstream> {
        self.waiting.borrow_mut().pop()
    }
}

/// Closes what comes, for ever.
pub(crate) async fn close(worker: Rc<Worker>) {
    loop {
        worker.closing.more.notified().await;
        let turn = Turn::new(&worker, "closing connections");
        while let Some(connection) = worker.closing.next() {
            drop(connection);
            turn.pause().await;
        }
    }
}

/// Closes what waits when it is dropped: connections hold the worker, which holds them.
pub(crate) struct Rest(pub Rc<Worker>);

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.closing.now(usize::MAX);
    }
}
