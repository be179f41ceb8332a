//! The supervisor of one directory.

use std::path::Path;
use std::time::Duration;

use crate::{Spec, SpecError};

/// Handle to the supervisor of one directory; cheap to clone. Needs a tokio runtime.
#[derive(Clone, Debug)]
pub struct Supervisor {}

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
    /// They are stopped, in the reverse order of their names; specs and logs stay.
    Stopped,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{directory}: another supervisor (process {holder}) looks after this directory")]
    Locked { directory: String, holder: String },
    #[error("supervise directory {directory}")]
    Directory {
        directory: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error("no process named {0}")]
    Unknown(String),
    #[error("{name} is not ready after {after:?}: {trouble}")]
    NotReady {
        name: String,
        after: Duration,
        trouble: String,
    },
    #[error("the supervisor has been closed")]
    Closed,
}

impl Supervisor {
    /// Takes the directory's lock (creating the directory), adopts what runs, starts what should run.
    pub async fn open(directory: &Path) -> Result<Supervisor, Error> {
        let _ = directory;
        unimplemented!("first published as a signature")
    }

    /// Makes it so that `spec` runs: writes it, starts it if it is new, restarts it if it changed
    /// (the generation is counted up here). Returns at once; see [`Supervisor::ready`].
    pub async fn run(&self, spec: Spec) -> Result<(), Error> {
        let _ = spec;
        unimplemented!("first published as a signature")
    }

    /// Waits until the process is ready.
    pub async fn ready(&self, name: &str, limit: Duration) -> Result<(), Error> {
        let _ = (name, limit);
        unimplemented!("first published as a signature")
    }

    /// SIGTERM, the spec's grace, SIGKILL; then forgets spec and state. Well if it is already gone.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let _ = name;
        unimplemented!("first published as a signature")
    }

    /// Everything that should run, by name.
    pub fn statuses(&self) -> Vec<Status> {
        unimplemented!("first published as a signature")
    }

    /// Changes whenever a status does.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        unimplemented!("first published as a signature")
    }

    /// Ends the supervision and gives the lock back.
    pub async fn close(&self, leave: Leave) {
        let _ = leave;
        unimplemented!("first published as a signature")
    }
}
