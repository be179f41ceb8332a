//! What should run, and what does: the two files per process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One process that should run. `name` is its identity and its file's name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Spec {
    pub name: String,
    /// Processes that come and go together: `world-v2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Who wanted it: `deploy 12`, `demo`. A group whose owner is gone may be swept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Program and arguments, passed as they are. No shell.
    pub argv: Vec<String>,
    /// Added to (and winning over) what the supervisor's own environment holds.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// Output is appended here.
    pub log: PathBuf,
    /// The port it listens on, for people and for drains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(default)]
    pub ready: Ready,
    /// Counts the rewrites of this spec. A change ends the running process and starts the new one.
    #[serde(default)]
    pub generation: u64,
    /// From SIGTERM to SIGKILL.
    #[serde(default = "default_grace_ms")]
    pub grace_ms: u64,
    /// The process gets SIGKILL when its supervisor's process ends (`PR_SET_PDEATHSIG`).
    #[serde(default)]
    pub dies_with_supervisor: bool,
}

fn default_grace_ms() -> u64 {
    10_000
}

/// When it counts as ready.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ready {
    /// As soon as it runs.
    #[default]
    Started,
    /// When a GET answers 2xx or 3xx. Plain `http://HOST:PORT/PATH`.
    Http(String),
}

/// What runs for a spec: `NAME.state.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: with it, a reused process id is not taken for the process.
    pub start_time: u64,
    pub generation: u64,
    /// `/proc/sys/kernel/random/boot_id`: start times of another boot mean nothing.
    pub boot: String,
    /// How often it was started again since the spec was written.
    pub restarts: u32,
}

/// A spec that cannot be read, written or run.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error(
        "process name {0:?}: use letters, digits, `-`, `_` and `.`, and do not start with a dot"
    )]
    Name(String),
    #[error("{name}: argv is empty")]
    NoProgram { name: String },
    #[error("{}: not a process spec", path.display())]
    Read {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{}", path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl Spec {
    /// Writes `DIRECTORY/NAME.json` by rename. A supervisor that opens the directory later starts it:
    /// this is how a demo seeds what the pipeline server will look after.
    pub fn write(&self, directory: &Path) -> Result<(), SpecError> {
        let _ = directory;
        unimplemented!("first published as a signature")
    }
}
