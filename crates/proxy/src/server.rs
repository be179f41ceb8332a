//! A server: one listening address of a router, on one worker.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use telemetry::Counter;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::connection;
use crate::handshake;
use crate::limits::Limits;
use crate::listen::end_handshakes;
use crate::metrics::{Connections, Forget, Requests, Scope, Statuses};
use crate::router::Router;
use crate::settings;
use crate::stream::{self, Stream};

/// After `accept` failed because something ran out, and while there is no room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Trouble that lasts is told about this often.
const TELL_EVERY: u64 = 10_000_000_000;

/// How long handshakes may take that were under way when the server stopped listening.
const HANDSHAKES: Duration = Duration::from_millis(50);

pub(crate) struct Server {
    pub settings: settings::Server,
    pub requests: Requests,
    pub statuses: Statuses,
    pub connections: Connections,
    pub nacks: Counter,
    /// None where nothing is limited.
    pub limits: Option<Rc<Limits>>,
    /// Requests under way over all workers, where they are bounded.
    under_way: Option<Arc<AtomicUsize>>,
    /// Where it speaks TLS.
    pub secured: Option<Secured>,
    is_leaving: Cell<bool>,
    is_replaced: Cell<bool>,
    replaced_by: RefCell<Option<Rc<Server>>>,
    // Behind the cells: whoever drops the last of them forgets the scope.
    pub router: Rc<Router>,
    forget: Forget,
}

/// How a server's connections are encrypted.
pub(crate) struct Secured {
    pub live: tls::server::Live,
    pub metrics: Rc<stream::Metrics>,
}

/// A request that counts as under way.
pub(crate) struct UnderWay(Option<Arc<AtomicUsize>>);

impl Server {
    /// `under_way` is shared by the workers.
    pub(crate) fn new(
        router: &Rc<Router>,
        settings: &settings::Server,
        tls: Option<&tls::server::Live>,
        under_way: &Arc<AtomicUsize>,
    ) -> Rc<Server> {
        let address = settings.address;
        let place = format!("{}/{}", address.ip(), address.port());
        let scope = Scope::new(&router.worker.shard, &["rt", &router.settings.label, "server", &place]);
        Rc::new(Server {
            requests: Requests::new(&scope),
            statuses: Statuses::new(&scope),
            connections: Connections::new(&scope),
            nacks: scope.counter(&["nacks"]),
            limits: Limits::new(settings.session, settings.socket, &scope),
            under_way: settings.max_concurrent.map(|_| under_way.clone()),
            secured: tls.map(|live| Secured { live: live.clone(), metrics: stream::Metrics::new(&scope) }),
            settings: settings.clone(),
            is_leaving: Cell::new(false),
            is_replaced: Cell::new(false),
            replaced_by: RefCell::default(),
            router: router.clone(),
            forget: Forget::new(&scope),
        })
    }

    /// Its connections go on as connections of `next`, each from its next request on.
    pub(crate) fn replace(&self, next: &Rc<Server>) {
        if self.router.settings.label != next.router.settings.label {
            self.forget.want();
        }
        *self.replaced_by.borrow_mut() = Some(next.clone());
        self.is_replaced.set(true);
    }

    /// Its connections close, each after the answer that is under way.
    pub(crate) fn leave(&self) {
        self.forget.want();
        self.is_leaving.set(true);
    }

    #[inline]
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving.get()
    }

    #[inline]
    pub(crate) fn is_replaced(&self) -> bool {
        self.is_replaced.get()
    }

    /// The server that a connection belongs to now; counts it there.
    #[cold]
    pub(crate) fn newest(self: &Rc<Server>) -> Rc<Server> {
        let mut newest = self.clone();
        loop {
            let Some(next) = newest.replaced_by.borrow().clone() else { break };
            newest.connections.moved(&next.connections);
            newest = next;
        }
        newest
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

/// Stops listening without losing anybody who got through. `accepting` goes on as long as handshakes may end.
pub(crate) async fn close(server: Rc<Server>, listener: Rc<TcpListener>, accepting: JoinHandle<()>) {
    match end_handshakes(&*listener) {
        Ok(()) => tokio::time::sleep(HANDSHAKES).await,
        // Some callers may be reset; that is no reason to go on listening.
        Err(error) => {
            tracing::debug!(server = %server.settings.address, %error, "closing without waiting for handshakes")
        }
    }
    accepting.abort();
    accept_rest(&server, &listener);
}

fn accept_rest(server: &Rc<Server>, listener: &TcpListener) {
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Ok((stream, peer))) = listener.poll_accept(&mut context) {
        serve(server, stream, peer);
    }
}

fn serve(server: &Rc<Server>, stream: TcpStream, peer: SocketAddr) {
    if server.settings.socket.no_delay {
        // A connection that ended already has no options to set, and its task notices.
        let _ = stream.set_nodelay(true);
    }
    let (server, place) = (server.clone(), server.router.worker.room.take());
    // Two tasks of different weight: a plain connection does not carry a handshake.
    if server.secured.is_some() {
        tokio::task::spawn_local(async move {
            handshake::serve(server, stream, peer).await;
            drop(place);
        });
        return;
    }
    tokio::task::spawn_local(async move {
        connection::serve(server, Stream::Plain(stream), peer).await;
        drop(place);
    });
}
