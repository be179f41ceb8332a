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
    #[error("process name {0:?}: use letters, digits, `-`, `_` and `.`, and do not start with a dot")]
    Name(String),
    #[error("{name}: argv is empty")]
    NoProgram { name: String },
    #[error("{}: not a process spec", path.display())]
    Read { path: PathBuf, source: serde_json::Error },
    #[error("{}", path.display())]
    File { path: PathBuf, source: std::io::Error },
}

impl Spec {
    /// Writes `DIRECTORY/NAME.json` by rename. A supervisor that opens the directory later starts it:
    /// this is how a demo seeds what the pipeline server will look after.
    pub fn write(&self, directory: &Path) -> Result<(), SpecError> {
        self.check()?;
        write_json(&directory.join(format!("{}.json", self.name)), self)
    }

    pub(crate) fn check(&self) -> Result<(), SpecError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty()
            || self.name.starts_with('.')
            || !self.name.chars().all(plain)
            || self.name.ends_with(".state")
        {
            return Err(SpecError::Name(self.name.clone()));
        }
        if self.argv.first().is_none_or(String::is_empty) {
            return Err(SpecError::NoProgram { name: self.name.clone() });
        }
        Ok(())
    }

    /// All specs of a directory, by name. A file that is no spec is an error: it may be a half of one.
    pub fn read_all(directory: &Path) -> Result<BTreeMap<String, Spec>, SpecError> {
        let mut specs = BTreeMap::new();
        let file = |source| SpecError::File { path: directory.to_owned(), source };
        for item in std::fs::read_dir(directory).map_err(file)? {
            let path = item.map_err(file)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with('.') || name.ends_with(".state.json") || !name.ends_with(".json") {
                continue;
            }
            let bytes = std::fs::read(&path).map_err(|source| SpecError::File { path: path.clone(), source })?;
            let spec: Spec =
                serde_json::from_slice(&bytes).map_err(|source| SpecError::Read { path: path.clone(), source })?;
            spec.check()?;
            specs.insert(spec.name.clone(), spec);
        }
        Ok(specs)
    }
}

impl Running {
    pub(crate) fn path(directory: &Path, name: &str) -> PathBuf {
        directory.join(format!("{name}.state.json"))
    }

    /// `None` if there is no readable state: the process is then looked for by its environment.
    pub fn read(directory: &Path, name: &str) -> Option<Running> {
        serde_json::from_slice(&std::fs::read(Running::path(directory, name)).ok()?).ok()
    }

    pub(crate) fn write(&self, directory: &Path, name: &str) -> Result<(), SpecError> {
        write_json(&Running::path(directory, name), self)
    }
}

/// Whole or not at all, and on the disk before it counts.
fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), SpecError> {
    let file = |source| SpecError::File { path: path.to_owned(), source };
    let bytes = serde_json::to_vec_pretty(value).map_err(|source| SpecError::Read { path: path.to_owned(), source })?;
    let (directory, name) = (path.parent().unwrap_or(Path::new(".")), path.file_name().unwrap_or_default());
    let temporary = directory.join(format!(".{}.new", name.to_string_lossy()));
    let written = std::fs::File::create(&temporary).and_then(|mut target| {
        std::io::Write::write_all(&mut target, &bytes)?;
        target.sync_all()
    });
    written.and_then(|()| std::fs::rename(&temporary, path)).map_err(|source| {
        // What is left of the attempt is worth nothing; the reason is already on its way.
        drop(std::fs::remove_file(&temporary));
        file(source)
    })
}
