//! A worker's thread: its runtime, its accept loops, its ticks, and its end.

use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use naming::Interpreter;
use telemetry::Shard;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};

use crate::directory::Directory;
use crate::room::Room;
use crate::router::Router;
use crate::server::{self, Server};
use crate::settings;
use crate::worker::Worker;

/// How late a deadline may be noticed.
const TICK: Duration = Duration::from_millis(10);
/// How often it is looked whether there are deadlines at all.
const IDLE_TICK: Duration = Duration::from_millis(50);
/// How often caches and pools are swept and gauges set.
const MAINTENANCE: Duration = Duration::from_secs(1);

/// What the outside tells a worker.
pub(crate) enum Command {
    /// Finish within this time, and end.
    Drain(Duration),
}

/// One router's part of a worker.
pub(crate) struct Part {
    pub settings: Arc<settings::Router>,
    pub interpreter: Arc<dyn Interpreter>,
    pub directory: Directory,
    /// In the order of the servers, each with the count of its requests under way on all workers.
    pub listeners: Vec<(StdListener, Arc<AtomicUsize>)>,
}

/// Which worker this is.
pub(crate) struct Seat {
    pub number: usize,
    pub workers: usize,
    pub shard: Shard,
    /// Where all workers count time from.
    pub epoch: Instant,
    /// A number of this process, the same for all workers.
    pub seed: u64,
    /// For clients, shared by all workers.
    pub room: Arc<Room>,
    /// Told when it runs, or why it does not.
    pub ready: Sender<io::Result<()>>,
}

fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

/// Runs until it is told to drain, or until nobody can tell it any more.
pub(crate) fn run(seat: Seat, parts: Vec<Part>, commands: mpsc::UnboundedReceiver<Command>) {
    match runtime() {
        Ok(runtime) => runtime.block_on(work(seat, parts, commands)),
        // Whoever starts us waits for this.
        Err(error) => drop(seat.ready.send(Err(error))),
    }
}

async fn work(seat: Seat, parts: Vec<Part>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let worker = Worker::new(&seat);
    let (mut routers, mut accepting) = (Vec::new(), Vec::new());
    for part in parts {
        let router = Router::new(&worker, part.settings, part.interpreter, part.directory);
        for (settings, (listener, under_way)) in router.settings.servers.iter().zip(part.listeners) {
            let server = Server::new(&router, settings, &under_way);
            let listener = match TcpListener::from_std(listener) {
                Ok(listener) => Rc::new(listener),
                Err(error) => return drop(seat.ready.send(Err(error))),
            };
            let task = spawn_local(server::accept(server.clone(), listener.clone()));
            accepting.push((server, listener, task));
        }
        routers.push(router);
    }
    drop(seat.ready.send(Ok(())));
    let ticking = [spawn_local(tick(worker.clone())), spawn_local(keep_house(worker.clone(), routers))];
    let Some(Command::Drain(grace)) = commands.recv().await else {
        return;
    };
    worker.drain();
    let mut servers = Vec::new();
    for (server, listener, task) in accepting {
        task.abort();
        server::accept_rest(&server, &listener);
        servers.push(server);
        drop(listener);
    }
    let idle = async {
        while servers.iter().any(|server| *server.open.borrow() > 0) {
            tokio::time::sleep(TICK).await;
        }
    };
    if tokio::time::timeout(grace, idle).await.is_err() {
        let left = servers.iter().map(|server| *server.open.borrow()).sum::<usize>();
        tracing::warn!(
            worker = worker.number,
            connections = left,
            "cutting connections at the end of the grace period"
        );
    }
    ticking.iter().for_each(JoinHandle::abort);
}

/// Wakes what is due.
async fn tick(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(if worker.has_deadlines() { TICK } else { IDLE_TICK }).await;
        worker.expire();
        worker.set_tight(worker.room.is_tight());
    }
}

async fn keep_house(worker: Rc<Worker>, routers: Vec<Rc<Router>>) {
    loop {
        for router in &routers {
            router.maintain(worker.now()).await;
        }
        tokio::time::sleep(MAINTENANCE).await;
    }
}
