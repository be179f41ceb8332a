//! The supervisor of one directory: who should run, orders to their keepers, what they do now.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tokio::sync::{mpsc, oneshot, watch};

use crate::keeper::{Keeper, Order};
use crate::kernel::{self, Process};
use crate::{Running, Spec, SpecError};

/// Handle to the supervisor of one directory; cheap to clone. Needs a tokio runtime.
#[derive(Clone, Debug)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

/// What a process does now.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub spec: Spec,
    /// `None` between two starts.
    pub pid: Option<u32>,
    pub ready: bool,
    pub restarts: u32,
    /// Why it is not up, or how it last ended.
    pub trouble: Option<String>,
}

/// What `close` does with the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// They run on; the next supervisor of the directory adopts them.
    Running,
    /// They are stopped, all at once; specs and logs stay.
    Stopped,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{directory}: another supervisor (process {holder}) looks after this directory")]
    Locked { directory: String, holder: String },
    #[error("supervise directory {directory}")]
    Directory { directory: String, source: std::io::Error },
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("no process named {0}")]
    Unknown(String),
    #[error("{name} is not ready after {after:?}: {trouble}")]
    NotReady { name: String, after: Duration, trouble: String },
    #[error("the supervisor has been closed")]
    Closed,
}

#[derive(Debug)]
pub(crate) struct Shared {
    directory: PathBuf,
    slots: Mutex<BTreeMap<String, Slot>>,
    changes: watch::Sender<u64>,
    /// Held until `close`, or until the last handle goes.
    lock: Mutex<Option<Flock<File>>>,
}

#[derive(Debug)]
struct Slot {
    status: Status,
    orders: mpsc::Sender<Order>,
}

impl Shared {
    fn slots(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Slot>> {
        // Updates are single assignments: a panic in between leaves nothing half done.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a status, and wakes the watchers if it really changed.
    pub(crate) fn update(&self, name: &str, change: impl FnOnce(&mut Status)) {
        if let Some(slot) = self.slots().get_mut(name) {
            let before = slot.status.clone();
            change(&mut slot.status);
            if before != slot.status {
                self.changes.send_modify(|count| *count += 1);
            }
        }
    }
}

impl Supervisor {
    /// Takes the directory's lock (creating the directory), adopts what runs, starts what should run.
    pub async fn open(directory: &Path) -> Result<Supervisor, Error> {
        let failed = |source| Error::Directory { directory: directory.display().to_string(), source };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let directory = directory.canonicalize().map_err(failed)?;
        let lock = lock(&directory)?;
        let specs = Spec::read_all(&directory)?;
        let shared = Arc::new(Shared {
            directory: directory.clone(),
            slots: Mutex::default(),
            changes: watch::channel(0).0,
            lock: Mutex::new(Some(lock)),
        });
        let supervisor = Supervisor { shared };
        let mut marked = kernel::marked(&directory);
        for (name, spec) in specs {
            let adopted = adopt(&directory, &name, marked.remove(&name));
            supervisor.keep(spec, adopted);
        }
        // Their specs are gone: a stop was under way when the last supervisor ended.
        for (name, (pid, start_time, _)) in marked {
            tracing::warn!(process = %name, pid, "has no spec any more, so it is killed");
            kernel::kill(pid, start_time);
        }
        Ok(supervisor)
    }

    fn keep(&self, spec: Spec, adopted: Option<(Process, u64, u32)>) {
        let (orders, received) = mpsc::channel(4);
        let restarts = adopted.as_ref().map_or(0, |(_, _, restarts)| *restarts);
        let status = Status { spec: spec.clone(), pid: None, ready: false, restarts, trouble: None };
        let directory = self.shared.directory.clone();
        self.shared.slots().insert(spec.name.clone(), Slot { status, orders });
        let keeper = Keeper { shared: self.shared.clone(), directory, spec, orders: received, restarts };
        // Ends by an order, or when the last `orders` sender goes with its slot.
        tokio::spawn(keeper.keep(adopted.map(|(process, generation, _)| (process, generation))));
    }

    /// Makes it so that `spec` runs: writes it, starts it if it is new, restarts it if it changed
    /// (the generation is counted up here). Returns at once; see [`Supervisor::ready`].
    pub async fn run(&self, mut spec: Spec) -> Result<(), Error> {
        let known = self.shared.slots().get(&spec.name).map(|slot| (slot.status.spec.clone(), slot.orders.clone()));
        let Some((before, orders)) = known else {
            spec.write(&self.shared.directory)?;
            self.keep(spec, None);
            return Ok(());
        };
        spec.generation = before.generation;
        if spec == before {
            return Ok(());
        }
        spec.generation += 1;
        spec.write(&self.shared.directory)?;
        self.shared.update(&spec.name, |status| {
            status.spec = spec.clone();
            status.ready = false;
        });
        orders.send(Order::Run(Box::new(spec))).await.map_err(|_| Error::Closed)
    }

    /// Waits until the process is ready.
    pub async fn ready(&self, name: &str, limit: Duration) -> Result<(), Error> {
        let mut changes = self.changes();
        let waited = tokio::time::timeout(limit, async {
            loop {
                changes.mark_unchanged();
                let status = self.status(name).ok_or_else(|| Error::Unknown(name.to_owned()))?;
                if status.ready {
                    return Ok(());
                }
                changes.changed().await.map_err(|_| Error::Closed)?;
            }
        });
        waited.await.unwrap_or_else(|_| {
            let trouble =
                self.status(name).and_then(|status| status.trouble).unwrap_or_else(|| "it has not answered".to_owned());
            Err(Error::NotReady { name: name.to_owned(), after: limit, trouble })
        })
    }

    /// SIGTERM, the spec's grace, SIGKILL; then forgets spec and state. Well if it is already gone.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let Some(orders) = self.shared.slots().get(name).map(|slot| slot.orders.clone()) else { return Ok(()) };
        // The spec goes first: a supervisor that dies here must not start it again.
        let path = self.shared.directory.join(format!("{name}.json"));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(SpecError::File { path, source: error }.into());
            }
            _ => {}
        }
        let (done, ended) = oneshot::channel();
        if orders.send(Order::Stop(Leave::Stopped, done)).await.is_ok() {
            ended.await.map_err(|_| Error::Closed)?;
        }
        self.shared.slots().remove(name);
        self.shared.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Everything that should run, by name.
    pub fn statuses(&self) -> Vec<Status> {
        self.shared.slots().values().map(|slot| slot.status.clone()).collect()
    }

    pub fn status(&self, name: &str) -> Option<Status> {
        self.shared.slots().get(name).map(|slot| slot.status.clone())
    }

    /// Changes whenever a status does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Ends the supervision and gives the lock back.
    pub async fn close(&self, leave: Leave) {
        let slots = std::mem::take(&mut *self.shared.slots());
        let mut waiting = Vec::new();
        for slot in slots.values() {
            let (done, ended) = oneshot::channel();
            if slot.orders.send(Order::Stop(leave, done)).await.is_ok() {
                waiting.push(ended);
            }
        }
        for ended in waiting {
            // A keeper that is gone has nothing left to stop.
            drop(ended.await);
        }
        self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.changes.send_modify(|count| *count += 1);
    }
}

/// Kills what a directory's state files and marks name, without a supervisor: for whoever cleans up
/// after one that was killed. The number of processes that were still there.
pub fn kill_recorded(directory: &Path) -> usize {
    let Ok(directory) = directory.canonicalize() else { return 0 };
    kernel::marked(&directory).values().filter(|(pid, start_time, _)| kernel::kill(*pid, *start_time)).count()
}

fn lock(directory: &Path) -> Result<Flock<File>, Error> {
    let shown = directory.display().to_string();
    let failed = |source| Error::Directory { directory: shown.clone(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(directory.join(".lock"))
        .map_err(failed)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0).map_err(failed)?;
            lock.rewind().map_err(failed)?;
            write!(&mut *lock, "{}", std::process::id()).map_err(failed)?;
            Ok(lock)
        }
        Err((mut file, _)) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(failed)?;
            Err(Error::Locked { directory: shown, holder })
        }
    }
}

/// What runs for this name: by its state file, else by its mark.
fn adopt(directory: &Path, name: &str, marked: Option<(u32, u64, u64)>) -> Option<(Process, u64, u32)> {
    let recorded =
        Running::read(directory, name).filter(|running| running.boot == kernel::boot()).and_then(|running| {
            Some((Process::adopt(running.pid, running.start_time)?, running.generation, running.restarts))
        });
    let found =
        || marked.and_then(|(pid, start_time, generation)| Some((Process::adopt(pid, start_time)?, generation, 0)));
    let adopted = recorded.or_else(found);
    if let Some((process, ..)) = &adopted {
        tracing::info!(process = %name, pid = process.pid, "adopted");
    }
    adopted
}
