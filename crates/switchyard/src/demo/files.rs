//! The files of a demo directory: config documents, discovery files, the repository.
//!
//! Documents are written anew at each start; what the demo or a person changes later (repository,
//! discovery, store) is left as it is.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use super::topology::{INSTANCES, Topology, WORLD_PORTS};

/// The tutorial's pipeline: the same file that is an example.
const HELLO_WORLD: &str = include_str!("../../../../examples/pipelines/hello_world.yaml");

pub fn write(topology: &Topology, executable: &Path) -> anyhow::Result<()> {
    for directory in ["disco", "log", "bin", "pipelines", "pipeline"] {
        make(&topology.path(directory))?;
    }
    put(&topology.path("namerd.yaml"), &fill(include_str!("templates/namerd.yaml"), topology))?;
    put(&topology.path("linkerd.yaml"), &fill(include_str!("templates/linkerd.yaml"), topology))?;
    put(&topology.path("pipeline.yaml"), &fill(include_str!("templates/pipeline.yaml"), topology))?;
    put(&topology.path("pipelines/hello_world.yaml"), HELLO_WORLD)?;

    let addresses = |port: &dyn Fn(u16) -> u16| -> String {
        (1..=INSTANCES).map(|number| format!("127.0.0.1 {}\n", port(number))).collect()
    };
    put(&topology.path("disco/hello"), &addresses(&|number| topology.port(7710 + number)))?;
    if !topology.pipeline_processes().exists() {
        put(&topology.path("disco/world-v1"), &addresses(&|number| topology.world_port(number)))?;
    }
    for name in ["switchyard", "namerctl", "namerd", "linkerd"] {
        link(executable, &topology.path("bin").join(name))?;
    }
    repository(&topology.path("repo"))
}

/// `{name}` → value, and `{4140}` → that port, moved.
fn fill(template: &str, topology: &Topology) -> String {
    // JSON strings are YAML strings: a directory may have any name.
    let quoted = |name: &str| serde_json::Value::from(topology.path(name).display().to_string()).to_string();
    let mut text = template.to_owned();
    for name in ["disco", "dtabs.db", "repo", "log", "pipeline", "pipeline/processes", "pipelines/hello_world.yaml"] {
        text = text.replace(&format!("{{{name}}}"), &quoted(name));
    }
    for port in [4140, 4141, 4142, 4180, 8080, 9990, 9991, WORLD_PORTS.0, WORLD_PORTS.1] {
        text = text.replace(&format!("{{{port}}}"), &topology.port(port).to_string());
    }
    text
}

fn make(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("{}", directory.display()))
}

fn put(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("{}", file.display()))
}

fn link(target: &Path, name: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(name) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("{}", name.display()));
        }
        _ => {}
    }
    std::os::unix::fs::symlink(target, name).with_context(|| format!("{}", name.display()))
}

/// A real repository with the one file that the tutorial changes. It is made beside its place and
/// renamed, so that half of one, of a demo that was killed, is never taken for it.
fn repository(place: &Path) -> anyhow::Result<()> {
    if place.exists() {
        return Ok(());
    }
    let parent = place.parent().context("the repository has no place")?;
    let new = tempfile::Builder::new().prefix(".repo-").tempdir_in(parent).context("a new repository")?;
    let directory = new.path().join("repo");
    fill_repository(&directory)?;
    std::fs::rename(&directory, place).with_context(|| format!("{}", place.display()))
}

fn fill_repository(directory: &Path) -> anyhow::Result<()> {
    make(&directory.join("k8s-daemonset/helloworld"))?;
    put(&directory.join("k8s-daemonset/helloworld/world.txt"), "world\n")?;
    let git = |arguments: &[&str]| git(directory, arguments);
    git(&["init", "--quiet", "--initial-branch=master"])?;
    // Without an identity of their own people could not commit here.
    git(&["config", "user.name", "Switchyard demo"])?;
    git(&["config", "user.email", "demo@localhost"])?;
    git(&["config", "commit.gpgsign", "false"])?;
    git(&["add", "."])?;
    git(&["commit", "--quiet", "--message", "The text that world answers"])
}

fn git(directory: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(arguments)
        .output()
        .context("cannot start git; the demo needs it (Debian package git)")?;
    if !output.status.success() {
        bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
