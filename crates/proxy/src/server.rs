//! A server: one listening address of a router, on one worker.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use telemetry::Counter;
use tokio::net::{TcpListener, TcpStream};

use crate::connection;
use crate::metrics::{Connections, Requests, Scope, Statuses};
use crate::router::Router;
use crate::settings;

/// After `accept` failed because something ran out, and while there is no room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Trouble that lasts is told about this often.
const TELL_EVERY: u64 = 10_000_000_000;

pub(crate) struct Server {
    pub router: Rc<Router>,
    pub settings: settings::Server,
    pub requests: Requests,
    pub statuses: Statuses,
    pub connections: Connections,
    pub nacks: Counter,
    /// Connections of this server on this worker.
    pub open: RefCell<usize>,
    /// Requests under way over all workers, where they are bounded.
    under_way: Option<Arc<AtomicUsize>>,
}

/// A request that counts as under way.
pub(crate) struct UnderWay(Option<Arc<AtomicUsize>>);

impl Server {
    /// `under_way` is shared by the workers.
    pub(crate) fn new(router: &Rc<Router>, settings: &settings::Server, under_way: &Arc<AtomicUsize>) -> Rc<Server> {
        let address = settings.address;
        let place = format!("{}/{}", address.ip(), address.port());
        let scope = Scope::new(&router.worker.shard, &["rt", &router.settings.label, "server", &place]);
        Rc::new(Server {
            router: router.clone(),
            requests: Requests::new(&scope),
            statuses: Statuses::new(&scope),
            connections: Connections::new(&scope),
            nacks: scope.counter(&["nacks"]),
            open: RefCell::new(0),
            under_way: settings.max_concurrent.map(|_| under_way.clone()),
            settings: settings.clone(),
        })
    }

    /// Lets a request in, or not.
    #[inline]
    pub(crate) fn admit(&self) -> Option<UnderWay> {
        let (Some(under_way), Some(most)) = (&self.under_way, self.settings.max_concurrent) else {
            return Some(UnderWay(None));
        };
        let admitted = UnderWay(Some(under_way.clone()));
        (under_way.fetch_add(1, Ordering::AcqRel) < most).then_some(admitted)
    }
}

impl Drop for UnderWay {
    #[inline]
    fn drop(&mut self) {
        if let Some(under_way) = &self.0 {
            under_way.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Takes connections until the listener is dropped.
pub(crate) async fn accept(server: Rc<Server>, listener: Rc<TcpListener>) {
    let worker = server.router.worker.clone();
    let mut told = None;
    loop {
        let trouble = if worker.room.is_full() {
            None
        } else {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    serve(&server, stream, peer);
                    continue;
                }
                Err(error) => Some(error),
            }
        };
        let now = worker.now();
        if told.is_none_or(|told| now.saturating_sub(told) >= TELL_EVERY) {
            told = Some(now);
            let (server, open, most) = (server.settings.address, worker.room.open(), worker.room.full());
            match trouble {
                Some(error) => tracing::warn!(%server, open, most, %error, "cannot accept a connection"),
                None => tracing::warn!(%server, open, most, "accepting nobody: raise the limit of open files"),
            }
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Takes what is waiting, so that nobody who got through is reset when the listener closes.
pub(crate) fn accept_rest(server: &Rc<Server>, listener: &TcpListener) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    while let std::task::Poll::Ready(Ok((stream, peer))) = listener.poll_accept(&mut context) {
        serve(server, stream, peer);
    }
}

fn serve(server: &Rc<Server>, stream: TcpStream, peer: SocketAddr) {
    // A connection that ended already has no options to set, and its task notices.
    let _ = stream.set_nodelay(true);
    let (server, place) = (server.clone(), server.router.worker.room.take());
    tokio::task::spawn_local(async move {
        connection::serve(server, stream, peer).await;
        drop(place);
    });
}
