//! `demo.json`: what runs where, as a file for programs; written when ready and kept true.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use supervise::{Running, Spec, Supervisor};

use super::topology::Topology;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Document {
    frontend: String,
    outgoing: String,
    incoming: String,
    namerd: String,
    namerd_admin: String,
    router_admin: String,
    pipeline: String,
    repo: String,
    processes: Vec<Process>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Process {
    name: String,
    pid: u32,
    port: u16,
}

/// What was written last.
#[derive(Default)]
pub struct State {
    written: Option<Document>,
}

impl State {
    /// Compares with what runs; what to tell a person about the difference.
    pub fn write_if_changed(&mut self, topology: &Topology, supervisor: &Supervisor) -> anyhow::Result<Vec<String>> {
        let document = document(topology, processes(topology, supervisor));
        if self.written.as_ref() == Some(&document) {
            return Ok(Vec::new());
        }
        write(topology, &document)?;
        let news = self.written.replace(document.clone()).map(|old| news(&old.processes, &document.processes));
        Ok(news.unwrap_or_default())
    }
}

fn document(topology: &Topology, processes: Vec<Process>) -> Document {
    Document {
        frontend: topology.frontend(),
        outgoing: topology.outgoing(),
        incoming: topology.incoming(),
        namerd: topology.namerd(),
        namerd_admin: topology.namerd_admin(),
        router_admin: topology.router_admin(),
        pipeline: topology.pipeline(),
        repo: topology.path("repo").display().to_string(),
        processes,
    }
}

/// By rename, so that a reader never sees half a file.
fn write(topology: &Topology, document: &Document) -> anyhow::Result<()> {
    let file = topology.path("demo.json");
    // As any file: it holds no secret, and programs of other users may read it.
    let readable = std::fs::Permissions::from_mode(0o644);
    let mut next = tempfile::Builder::new().permissions(readable).tempfile_in(&topology.directory)?;
    serde_json::to_writer_pretty(&mut next, document)?;
    next.persist(&file).with_context(|| format!("{}", file.display()))?;
    Ok(())
}

/// At the end nothing runs, and the file does not say otherwise.
pub fn remove(topology: &Topology) -> anyhow::Result<()> {
    match std::fs::remove_file(topology.path("demo.json")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("demo.json"),
        _ => Ok(()),
    }
}

fn processes(topology: &Topology, supervisor: &Supervisor) -> Vec<Process> {
    let ours = supervisor.statuses().into_iter().filter_map(|status| {
        let pid = status.pid?;
        Some(Process { port: status.spec.port.unwrap_or(0), name: status.spec.name, pid })
    });
    let mut all: Vec<Process> = ours.chain(processes_of(&topology.pipeline_processes())).collect();
    let order = |name: &str| ["namerd", "router", "pipeline"].iter().position(|first| *first == name).unwrap_or(3);
    all.sort_by(|a, b| (order(&a.name), &a.name).cmp(&(order(&b.name), &b.name)));
    all
}

/// What runs according to a directory that another process supervises.
fn processes_of(directory: &Path) -> Vec<Process> {
    let Ok(files) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    files
        .flatten()
        .filter_map(|file| {
            let name = file.file_name().to_str()?.strip_suffix(".state.json")?.to_owned();
            let running = running(directory, &name)?;
            let spec: Spec = read(&directory.join(format!("{name}.json")))?;
            Some(Process { name, pid: running.pid, port: spec.port.unwrap_or(0) })
        })
        .collect()
}

/// Whether the process of this name, as that directory knows it, is alive.
pub fn is_running(directory: &Path, name: &str) -> bool {
    running(directory, name).is_some()
}

fn running(directory: &Path, name: &str) -> Option<Running> {
    let running: Running = read(&directory.join(format!("{name}.state.json")))?;
    is_alive(&running).then_some(running)
}

/// The same process, not another one with its number.
fn is_alive(running: &Running) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", running.pid)) else {
        return false;
    };
    // The program's name, in parentheses, may hold anything; what follows it does not.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let is_zombie = fields.first().is_some_and(|state| *state == "Z");
    let start_time = fields.get(19).and_then(|text| text.parse().ok());
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    !is_zombie && start_time == Some(running.start_time) && boot.trim() == running.boot.trim()
}

/// `None` while the file is not there; its supervisor replaces it whole.
fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

fn news(old: &[Process], new: &[Process]) -> Vec<String> {
    let gone = old.iter().filter(|old| !new.iter().any(|new| new.name == old.name));
    let come = new.iter().filter_map(|new| match old.iter().find(|old| old.name == new.name) {
        None => Some(format!("{} is up, process {} on port {}", new.name, new.pid, new.port)),
        Some(old) if old.pid != new.pid => Some(format!("{} was started again, process {}", new.name, new.pid)),
        Some(_) => None,
    });
    gone.map(|old| format!("{} is down, process {}", old.name, old.pid)).chain(come).collect()
}
