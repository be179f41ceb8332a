//! The door to the data plane: settings in, running workers out; other settings in, the same workers on.
//!
//! Listeners are bound first, all of them, so that an address in use is an error and not half a start, nor
//! half a reload.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use naming::Interpreter;
use telemetry::Registry;
use telemetry::spans::Tracer;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::access_log::{self, AccessLog};
use crate::admin::{Status, certificates};
use crate::directory::Directory;
use crate::listen::{Binder, Inherited, Listening};
use crate::room::Room;
use crate::secrets::Secrets;
use crate::settings::{self, Router, Settings};
use crate::spans::Tracing;
use crate::thread::{self, Command, Part, ServerPart};

pub use crate::thread::Stop;

/// Why the data plane does not run.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("router {router}: cannot listen on {address}")]
    Listen { router: String, address: SocketAddr, source: io::Error },
    /// `httpAccessLog` cannot be written.
    #[error("router {router}: cannot write the access log {path}")]
    AccessLog { router: String, path: std::path::PathBuf, source: io::Error },
    /// One interpreter per router, in order.
    #[error("{routers} routers, but {interpreters} interpreters")]
    Interpreters { routers: usize, interpreters: usize },
    /// A `tls` section, by its key path in the document.
    #[error(transparent)]
    Tls(#[from] tls::Error),
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

/// What a data plane starts with.
pub struct Start<'a> {
    pub settings: Settings,
    /// In the order of the routers.
    pub interpreters: Vec<Arc<dyn Interpreter>>,
    pub registry: &'a Registry,
    /// `None`: nobody takes spans.
    pub tracer: Option<Tracer>,
    /// Threads, at least one.
    pub workers: usize,
    /// Sockets that are bound already; those that no server wants are closed.
    pub inherited: Vec<Inherited>,
    /// Looks after the certificates.
    pub reloader: tls::Reloader,
}

/// A router as it is after a reload.
pub struct Next {
    pub settings: Router,
    pub interpreter: Arc<dyn Interpreter>,
    pub change: Change,
}

/// What a reload does to the router with the same label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Settings and interpreter are the ones it has: bindings, balancers, pools and counts stay.
    None,
    /// It begins anew. Connections to servers whose address stays go on from their next request, except
    /// to these addresses, where they close after the answer that is under way.
    Some { closing: Vec<SocketAddr> },
}

/// The sockets of a data plane, for the process that takes over.
pub struct HandOver {
    /// The router's label.
    pub router: String,
    /// As the settings say it.
    pub configured: SocketAddr,
    /// With the port that was taken.
    pub address: SocketAddr,
    pub sockets: Vec<TcpListener>,
}

/// A running data plane. Dropped, it ends without draining.
pub struct Running {
    listening: Vec<Listening>,
    servers: Vec<ServerAddress>,
    routers: Vec<(String, Directory)>,
    workers: Vec<WorkerThread>,
    next_key: u64,
    reloader: tls::Reloader,
    registry: Registry,
    logs: Vec<OpenLog>,
    /// Logs of routers that were reloaded or are gone: old connections may still have lines for them.
    retired: Vec<AccessLog>,
}

/// The access log of a router.
struct OpenLog {
    router: String,
    settings: settings::AccessLog,
    log: AccessLog,
}

/// What workers tell, and whom.
#[derive(Clone)]
pub struct Telemetry {
    pub registry: Registry,
    /// `None`: nobody takes spans.
    pub tracer: Option<Tracer>,
}

impl From<&Registry> for Telemetry {
    fn from(registry: &Registry) -> Telemetry {
        Telemetry { registry: registry.clone(), tracer: None }
    }
}

struct WorkerThread {
    commands: mpsc::UnboundedSender<Command>,
    thread: JoinHandle<()>,
}

/// [`Start::go`] without anything inherited.
///
/// # Errors
/// See [`StartError`]; nothing is left running then.
pub fn start(
    settings: Settings,
    interpreters: Vec<Arc<dyn Interpreter>>,
    telemetry: impl Into<Telemetry>,
    workers: usize,
) -> Result<Running, StartError> {
    let Telemetry { registry, tracer } = telemetry.into();
    let (inherited, reloader) = (Vec::new(), tls::Reloader::default());
    Start { settings, interpreters, registry: &registry, tracer, workers, inherited, reloader }.go()
}

impl Start<'_> {
    /// Starts the data plane. Binding of names runs wherever the interpreters do, never on a worker.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub fn go(self) -> Result<Running, StartError> {
        let Start { settings, interpreters, registry, tracer, workers, mut inherited, reloader } = self;
        let count = (settings.routers.len(), interpreters.len());
        if count.0 != count.1 {
            return Err(StartError::Interpreters { routers: count.0, interpreters: count.1 });
        }
        let next = settings.routers.into_iter().zip(interpreters).map(|(settings, interpreter)| Next {
            settings,
            interpreter,
            change: Change::Some { closing: Vec::new() },
        });
        let mut running = Running {
            listening: Vec::new(),
            servers: Vec::new(),
            routers: Vec::new(),
            workers: Vec::new(),
            next_key: 0,
            reloader,
            registry: registry.clone(),
            logs: Vec::new(),
            retired: Vec::new(),
        };
        let workers = workers.max(1);
        let prepared = running.prepare(next.collect(), workers, &mut inherited)?;
        if !running.reloader.status().is_empty() {
            certificates::register(registry, &running.reloader);
        }
        let (epoch, seed, room) = (Instant::now(), fastrand::u64(..), Room::of_process());
        let parts = running.commit(prepared);
        for (number, parts) in parts.into_iter().enumerate() {
            let (commands, received) = mpsc::unbounded_channel();
            let shard = registry.shard();
            let (ready, is_ready) = std::sync::mpsc::channel();
            let tracing = tracer.clone().map(Tracing::new);
            let room = room.clone();
            let seat = thread::Seat { number, workers, shard, epoch, seed, room, tracing, ready };
            let run = move || thread::run(seat, parts, received);
            let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(run);
            let thread = thread.map_err(|source| StartError::Worker { number, source })?;
            running.workers.push(WorkerThread { commands, thread });
            let ready = is_ready.recv().unwrap_or_else(|ended| Err(io::Error::other(ended)));
            ready.map_err(|source| StartError::Worker { number, source })?;
        }
        Ok(running)
    }
}

/// A set of routers whose sockets are all there.
struct Prepared {
    listening: Vec<Listening>,
    routers: Vec<(String, Directory)>,
    /// One list for each worker.
    parts: Vec<Vec<Part>>,
    /// Access logs that are new; and the labels of routers whose logs go on.
    logs: Vec<OpenLog>,
    kept_logs: Vec<String>,
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

    /// Certificates in use, and those that are to come.
    #[must_use]
    pub fn reloader(&self) -> &tls::Reloader {
        &self.reloader
    }

    /// Whether all workers are there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.workers.iter().any(|worker| worker.thread.is_finished())
    }

    /// Copies of all listening sockets, which stay open in this process too.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn hand_over(&self) -> io::Result<Vec<HandOver>> {
        let copy = |listening: &Listening| {
            Ok(HandOver {
                router: listening.router.clone(),
                configured: listening.configured,
                address: listening.address,
                sockets: listening.sockets.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?,
            })
        };
        self.listening.iter().map(copy).collect()
    }

    /// Serves these routers instead. Servers whose address stays keep their sockets, and what waits there;
    /// new ones are bound before anything changes, and those that are gone close when the others serve.
    ///
    /// # Errors
    /// See [`StartError`]. Unless a worker is at fault, everything goes on as it was.
    pub async fn reload(&mut self, next: Vec<Next>) -> Result<(), StartError> {
        let prepared = self.prepare(next, self.workers.len(), &mut Vec::new())?;
        let mut applied = Vec::new();
        let parts = self.commit(prepared);
        for (worker, parts) in self.workers.iter().zip(parts) {
            let (done, is_done) = oneshot::channel();
            // A worker that is gone answers nothing, which is noticed below.
            let _ = worker.commands.send(Command::Apply(parts, done));
            applied.push(is_done);
        }
        for (number, applied) in applied.into_iter().enumerate() {
            let applied = applied.await.unwrap_or_else(|gone| Err(io::Error::other(gone)));
            applied.map_err(|source| StartError::Worker { number, source })?;
        }
        Ok(())
    }

    fn prepare(
        &mut self,
        next: Vec<Next>,
        workers: usize,
        inherited: &mut Vec<Inherited>,
    ) -> Result<Prepared, StartError> {
        let wanted = |listening: &Listening| {
            let mut servers =
                next.iter().flat_map(|next| next.settings.servers.iter().map(move |server| (next, server)));
            servers.any(|(next, server)| listening.is_of(&next.settings.label, server))
        };
        let leaving: Vec<_> = self.listening.iter().filter(|old| !wanted(old)).map(|old| old.address).collect();
        let mut kept: Vec<Option<&Listening>> = self.listening.iter().map(Some).collect();
        let mut binder = Binder { workers, inherited, leaving: &leaving, next_key: &mut self.next_key };
        let mut prepared = Prepared {
            listening: Vec::new(),
            routers: Vec::new(),
            parts: (0..workers).map(|_| Vec::new()).collect(),
            logs: Vec::new(),
            kept_logs: Vec::new(),
        };
        for Next { settings, interpreter, change } in next {
            let label = settings.label.clone();
            let known = self.routers.iter().find(|(other, _)| *other == label);
            let directory = known.map_or_else(|| Directory::new(settings.recent.capacity), |(_, known)| known.clone());
            let mut servers: Vec<Vec<ServerPart>> = (0..workers).map(|_| Vec::new()).collect();
            for server in &settings.servers {
                let failed = |source| StartError::Listen { router: label.clone(), address: server.address, source };
                let old = kept.iter_mut().find(|old| old.is_some_and(|old| old.is_of(&label, server)));
                let (listening, shares) = match old.and_then(Option::take) {
                    Some(old) => {
                        let kept = old.copied(&label).and_then(|kept| kept.set(&server.socket).map(|()| kept));
                        (kept.map_err(failed)?, (0..workers).map(|_| Vec::new()).collect())
                    }
                    None => {
                        let new = binder.bind(&label, server)?;
                        let shares = new.shares(workers).map_err(failed)?;
                        (new, shares)
                    }
                };
                let closes_old = matches!(&change, Change::Some { closing } if closing.contains(&server.address));
                for (parts, listeners) in servers.iter_mut().zip(shares) {
                    let (key, under_way) = (listening.key, listening.under_way.clone());
                    parts.push(ServerPart { key, listeners, under_way, closes_old });
                }
                prepared.listening.push(listening);
            }
            let secrets = Arc::new(Secrets::read(&settings, &self.reloader)?);
            let log = open_log(&settings, &self.logs, &self.registry, &mut prepared)?;
            let settings = Arc::new(settings);
            for (parts, servers) in prepared.parts.iter_mut().zip(servers) {
                parts.push(Part {
                    settings: settings.clone(),
                    interpreter: interpreter.clone(),
                    directory: directory.clone(),
                    secrets: secrets.clone(),
                    log: log.clone(),
                    is_unchanged: change == Change::None,
                    servers,
                });
            }
            prepared.routers.push((label, directory));
        }
        let servers = prepared
            .parts
            .iter()
            .take(1)
            .flatten()
            .flat_map(|part| part.settings.servers.iter().map(move |server| (&part.settings.label, server)));
        for (listening, (label, server)) in prepared.listening.iter().zip(servers) {
            let failed = |source| StartError::Listen { router: label.clone(), address: server.address, source };
            listening.open(&server.socket).map_err(failed)?;
        }
        Ok(prepared)
    }

    fn commit(&mut self, prepared: Prepared) -> Vec<Vec<Part>> {
        let address =
            |listening: &Listening| ServerAddress { router: listening.router.clone(), address: listening.address };
        self.servers = prepared.listening.iter().map(address).collect();
        // Sockets that are not wanted any more close here; the workers close theirs.
        self.listening = prepared.listening;
        self.routers = prepared.routers;
        for open in std::mem::replace(&mut self.logs, prepared.logs) {
            if prepared.kept_logs.contains(&open.router) {
                self.logs.push(open);
            } else {
                self.retired.push(open.log);
            }
        }
        prepared.parts
    }

    /// Stops accepting; requests under way are finished, and their answers close the connection; idle
    /// connections close. What is left after `grace` is cut. Returns when all workers have ended.
    pub async fn drain(self, grace: Duration) {
        self.stop(grace, Stop::Close).await;
    }

    /// [`Running::drain`], where the sockets may have been handed over.
    pub async fn stop(mut self, grace: Duration, stop: Stop) {
        // The workers' are the last.
        self.listening.clear();
        for worker in &self.workers {
            // A worker that is gone has nothing to drain.
            let _ = worker.commands.send(Command::Drain(grace, stop));
        }
        let threads = std::mem::take(&mut self.workers);
        let (logs, retired) = (std::mem::take(&mut self.logs), std::mem::take(&mut self.retired));
        let joined = tokio::task::spawn_blocking(move || {
            for WorkerThread { commands, thread } in threads {
                if thread.join().is_err() {
                    tracing::error!("a worker panicked");
                }
                drop(commands);
            }
            logs.into_iter().map(|open| open.log).chain(retired).for_each(AccessLog::finish);
        });
        if joined.await.is_err() {
            tracing::error!("the workers could not be waited for");
        }
    }
}

/// The access log of a router: the one it has, if nothing about it changes.
fn open_log(
    router: &Router,
    open: &[OpenLog],
    registry: &Registry,
    prepared: &mut Prepared,
) -> Result<Option<access_log::Sender>, StartError> {
    let Some(settings) = &router.access_log else { return Ok(None) };
    if let Some(same) = open.iter().find(|open| open.router == router.label && open.settings == *settings) {
        prepared.kept_logs.push(router.label.clone());
        return Ok(Some(same.log.sender()));
    }
    let failed = |source| StartError::AccessLog { router: router.label.clone(), path: settings.path.clone(), source };
    let log = AccessLog::start(settings, &router.label, registry).map_err(failed)?;
    let sender = log.sender();
    prepared.logs.push(OpenLog { router: router.label.clone(), settings: settings.clone(), log });
    Ok(Some(sender))
}
