//! A worker's thread: its runtime, its accept loops, its ticks, and its end.

use std::cell::RefCell;
use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use naming::Interpreter;
use telemetry::Shard;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_local};

use crate::access_log::{self, Lines};
use crate::closing;
use crate::directory::Directory;
use crate::room::Room;
use crate::router::Router;
use crate::secrets::Secrets;
use crate::serving::Served;
use crate::settings;
use crate::spans::Tracing;
use crate::worker::Worker;

/// How late a deadline may be noticed.
const TICK: Duration = Duration::from_millis(10);
/// How often it is looked whether there are deadlines at all.
const IDLE_TICK: Duration = Duration::from_millis(50);
/// How often caches and pools are swept and gauges set.
const MAINTENANCE: Duration = Duration::from_secs(1);

/// What the outside tells a worker.
pub(crate) enum Command {
    /// Serve this from now on; the answer says when it is done.
    Apply(Vec<Part>, oneshot::Sender<io::Result<()>>),
    /// Finish within this time, and end.
    Drain(Duration, Stop),
}

/// What becomes of the sockets of a data plane that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// They close; who got through is served.
    Close,
    /// Another process serves them, and also who waits there already.
    HandedOver,
}

/// One router's part of a worker.
pub(crate) struct Part {
    pub settings: Arc<settings::Router>,
    pub interpreter: Arc<dyn Interpreter>,
    pub directory: Directory,
    pub log: Option<access_log::Sender>,
    pub secrets: Arc<Secrets>,
    /// It goes on as it is: everything above and below is what the worker has already.
    pub is_unchanged: bool,
    /// In the order of the settings.
    pub servers: Vec<ServerPart>,
}

/// One server's part of a worker.
pub(crate) struct ServerPart {
    /// The same key is the same sockets.
    pub key: u64,
    /// This worker's; none where it has them already.
    pub listeners: Vec<StdListener>,
    /// The count of its requests under way on all workers.
    pub under_way: Arc<AtomicUsize>,
    /// Connections of its predecessor with the same key close instead of going on under the new settings.
    pub closes_old: bool,
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
    /// `None`: nobody takes spans.
    pub tracing: Option<Tracing>,
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
    let mut served = Served::default();
    let applied = served.apply(&worker, parts);
    let failed = applied.is_err();
    drop(seat.ready.send(applied));
    if failed {
        return;
    }
    let routers = Rc::new(RefCell::new(served.routers.clone()));
    let ticking = [
        spawn_local(tick(worker.clone(), routers.clone())),
        spawn_local(keep_house(worker.clone(), routers.clone())),
        spawn_local(closing::close(worker.clone())),
    ];
    let _rest = closing::Rest(worker.clone());
    let (grace, stop) = loop {
        match commands.recv().await {
            Some(Command::Apply(parts, done)) => {
                let applied = served.apply(&worker, parts);
                routers.borrow_mut().clone_from(&served.routers);
                // Whoever asked may have gone; the work is done all the same.
                let _ = done.send(applied);
            }
            Some(Command::Drain(grace, stop)) => break (grace, stop),
            None => return,
        }
    };
    worker.drain();
    let idle = async {
        served.stop(stop).await;
        while worker.open.get() > 0 {
            tokio::time::sleep(TICK).await;
        }
    };
    if tokio::time::timeout(grace, idle).await.is_err() {
        tracing::warn!(
            worker = worker.number,
            connections = worker.open.get(),
            "cutting connections at the end of the grace period"
        );
    }
    ticking.iter().for_each(JoinHandle::abort);
}

/// Wakes what is due.
async fn tick(worker: Rc<Worker>, routers: Rc<RefCell<Vec<Rc<Router>>>>) {
    let mut shortages = worker.room.shortages();
    loop {
        tokio::time::sleep(if worker.has_deadlines() { TICK } else { IDLE_TICK }).await;
        worker.expire();
        worker.set_tight(worker.room.is_tight());
        if worker.room.shortages() != shortages {
            shortages = worker.room.shortages();
            for router in &*routers.borrow() {
                router.close_idle(worker.coarse_now());
            }
        }
        routers.borrow().iter().filter_map(|router| router.log.as_ref()).for_each(Lines::flush);
    }
}

async fn keep_house(worker: Rc<Worker>, routers: Rc<RefCell<Vec<Rc<Router>>>>) {
    loop {
        // A copy: a reload may come between two turns.
        let current = routers.borrow().clone();
        for router in current {
            router.maintain(worker.now()).await;
        }
        tokio::time::sleep(MAINTENANCE).await;
    }
}
