//! The door to the data plane: settings in, running workers out.
//!
//! Listeners are bound first, all of them, so that an address in use is an error and not half a start.
//! Every worker has a listener of its own for every server (`SO_REUSEPORT`), and the kernel spreads
//! connections over them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use naming::Interpreter;
use socket2::{Domain, Protocol, Socket, Type};
use telemetry::Registry;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::admin::Status;
use crate::directory::Directory;
use crate::room::Room;
use crate::settings::{Router, Settings};
use crate::thread::{self, Command, Part};

const BACKLOG: i32 = 1024;

/// Why the data plane does not run.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("router {router}: cannot listen on {address}")]
    Listen { router: String, address: SocketAddr, source: io::Error },
    /// One interpreter per router, in order.
    #[error("{routers} routers, but {interpreters} interpreters")]
    Interpreters { routers: usize, interpreters: usize },
    #[error("cannot start worker {number}")]
    Worker { number: usize, source: io::Error },
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// The router's label.
    pub router: String,
    /// With the port that was taken where the settings say 0.
    pub address: SocketAddr,
}

/// A running data plane. Dropped, it ends without draining.
pub struct Running {
    servers: Vec<ServerAddress>,
    routers: Vec<(String, Directory)>,
    workers: Vec<WorkerThread>,
}

struct WorkerThread {
    commands: mpsc::UnboundedSender<Command>,
    thread: JoinHandle<()>,
}

/// Starts the data plane. `interpreters` stand in the order of the routers; `workers` threads are started,
/// at least one. Binding runs wherever the interpreters do, never on a worker.
///
/// # Errors
/// See [`StartError`]; nothing is left running then.
pub fn start(
    settings: Settings,
    interpreters: Vec<Arc<dyn Interpreter>>,
    registry: &Registry,
    workers: usize,
) -> Result<Running, StartError> {
    let count = (settings.routers.len(), interpreters.len());
    if count.0 != count.1 {
        return Err(StartError::Interpreters { routers: count.0, interpreters: count.1 });
    }
    let workers = workers.max(1);
    let mut servers = Vec::new();
    let mut routers = Vec::new();
    let mut parts: Vec<Vec<Part>> = (0..workers).map(|_| Vec::new()).collect();
    for (router, interpreter) in settings.routers.into_iter().zip(interpreters) {
        let directory = Directory::new(router.recent.capacity);
        let listeners = listen(&router, workers, &mut servers)?;
        let under_way: Vec<Arc<AtomicUsize>> = router.servers.iter().map(|_| Arc::default()).collect();
        routers.push((router.label.clone(), directory.clone()));
        let router = Arc::new(router);
        for (parts, listeners) in parts.iter_mut().zip(listeners) {
            parts.push(Part {
                settings: router.clone(),
                interpreter: interpreter.clone(),
                directory: directory.clone(),
                listeners: listeners.into_iter().zip(under_way.iter().cloned()).collect(),
            });
        }
    }
    let (epoch, seed, room) = (Instant::now(), fastrand::u64(..), Room::of_process());
    let mut running = Running { servers, routers, workers: Vec::new() };
    for (number, parts) in parts.into_iter().enumerate() {
        let (commands, received) = mpsc::unbounded_channel();
        let shard = registry.shard();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let seat = thread::Seat { number, workers, shard, epoch, seed, room: room.clone(), ready };
        let run = move || thread::run(seat, parts, received);
        let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(run);
        let thread = thread.map_err(|source| StartError::Worker { number, source })?;
        running.workers.push(WorkerThread { commands, thread });
        let ready = is_ready.recv().unwrap_or_else(|ended| Err(io::Error::other(ended)));
        ready.map_err(|source| StartError::Worker { number, source })?;
    }
    Ok(running)
}

/// One list of listeners per worker, each in the order of the servers.
fn listen(
    router: &Router,
    workers: usize,
    servers: &mut Vec<ServerAddress>,
) -> Result<Vec<Vec<std::net::TcpListener>>, StartError> {
    let mut listeners: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    for server in &router.servers {
        let mut address = server.address;
        let failed = |address, source| StartError::Listen { router: router.label.clone(), address, source };
        // Without SO_REUSEPORT, to notice that somebody else, perhaps another router of ours, is there.
        let probe = bind(address, false).map_err(|source| failed(address, source))?;
        let bound = probe.local_addr().map_err(|source| failed(address, source))?;
        address = bound.as_socket().unwrap_or(address);
        drop(probe);
        for listeners in &mut listeners {
            let socket = bind(address, true).map_err(|source| failed(address, source))?;
            socket.listen(BACKLOG).map_err(|source| failed(address, source))?;
            listeners.push(socket.into());
        }
        servers.push(ServerAddress { router: router.label.clone(), address });
    }
    Ok(listeners)
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

impl Running {
    /// Where servers listen, in the order of the settings.
    #[must_use]
    pub fn servers(&self) -> &[ServerAddress] {
        &self.servers
    }

    /// What the admin server asks of the router with this label.
    #[must_use]
    pub fn status(&self, label: &str) -> Option<Arc<dyn Status>> {
        let (_, directory) = self.routers.iter().find(|(router, _)| router == label)?;
        Some(Arc::new(directory.clone()))
    }

    /// Stops accepting; requests under way are finished, and their answers close the connection; idle
    /// connections close. What is left after `grace` is cut. Returns when all workers have ended.
    pub async fn drain(mut self, grace: Duration) {
        for worker in &self.workers {
            // A worker that is gone has nothing to drain.
            let _ = worker.commands.send(Command::Drain(grace));
        }
        let threads = std::mem::take(&mut self.workers);
        let joined = tokio::task::spawn_blocking(|| {
            for WorkerThread { commands, thread } in threads {
                if thread.join().is_err() {
                    tracing::error!("a worker panicked");
                }
                drop(commands);
            }
        });
        if joined.await.is_err() {
            tracing::error!("the workers could not be waited for");
        }
    }
}
