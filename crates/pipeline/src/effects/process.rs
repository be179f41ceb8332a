//! The target `process`: instances in the care of `supervise`, named by one file of `io.l5d.fs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rollout::Outcome;
use supervise::{Ready, Spec, Status, Supervisor};
use tokio::time::Instant;

use super::Job;
use super::target::Instance;
use crate::deploys::Deploys;
use crate::file::ProcessTarget;

/// An instance that was started again this often within `CRASHES_WITHIN` does not work.
const CRASHES: usize = 3;
const CRASHES_WITHIN: Duration = Duration::from_secs(60);
/// One that ran and answers no more gets this long.
const SILENT: Duration = Duration::from_secs(10);
/// How often is looked whether connections are left.
const LOOK: Duration = Duration::from_millis(100);

/// Names of versions that run or are registered.
pub(super) fn present(deploys: &Deploys) -> Result<BTreeSet<String>, String> {
    let mut present: BTreeSet<String> =
        deploys.supervisor()?.statuses().into_iter().filter_map(|status| status.spec.group).collect();
    let directory = deploys.config().directory("registrations")?;
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    for item in std::fs::read_dir(directory).map_err(failed)? {
        present.extend(item.map_err(failed)?.file_name().into_string());
    }
    Ok(present)
}

fn instances(deploys: &Deploys, version: &str) -> Vec<Status> {
    let of_version = |status: &Status| status.spec.group.as_deref() == Some(version);
    let all = deploys.supervisor().map(Supervisor::statuses).unwrap_or_default();
    all.into_iter().filter(of_version).collect()
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Addresses of the instances of a version.
pub(super) fn addresses(deploys: &Deploys, version: &str) -> Vec<Instance> {
    let of = |status: Status| {
        let port = status.spec.port?;
        Some(Instance { name: status.spec.name, address: address(port), port: Some(port) })
    };
    instances(deploys, version).into_iter().filter_map(of).collect()
}

/// Starts all instances, waits until they are ready, registers them.
pub(super) async fn start(job: &Job, target: &ProcessTarget, version: &str) -> Result<Outcome, String> {
    let supervisor = job.deploys.supervisor()?;
    let mut names = Vec::new();
    for number in 1..=target.instances {
        let name = format!("{version}-{number}");
        // A port is chosen once; after a crash in the middle it is what the spec says.
        let port = match supervisor.status(&name).and_then(|status| status.spec.port) {
            Some(port) => port,
            None => free_port(&job.deploys)?,
        };
        let spec = spec(job, target, version, &name, port)?;
        supervisor.run(spec).await.map_err(|error| causes::chain(&error))?;
        names.push(name);
    }
    ready(job, &names, Duration::from_secs(target.ready.timeout_seconds)).await?;
    let addresses = addresses(&job.deploys, version);
    let ports = addresses.iter().filter_map(|instance| instance.port);
    let lines: String = ports.map(|port| format!("127.0.0.1 {port}\n")).collect();
    let directory = job.deploys.config().directory("registrations")?;
    register(directory, version, &lines)
        .map_err(|error| format!("cannot register {version} in {}: {error}", directory.display()))?;
    let shown: Vec<&str> = addresses.iter().map(|instance| instance.address.as_str()).collect();
    Ok(Outcome::Done { detail: format!("{version} is ready and registered: {}", shown.join(", ")) })
}

fn spec(job: &Job, target: &ProcessTarget, version: &str, name: &str, port: u16) -> Result<Spec, String> {
    let config = job.deploys.config();
    let values = job.story.values(&config.frontend).with(&[
        ("port", &port.to_string()),
        ("address", &address(port)),
        ("name", name),
        ("switchyard", &job.deploys.switchyard().display().to_string()),
    ]);
    let fill = |text: &String| values.fill(text).map_err(|error| error.to_string());
    let environment = target.environment.iter().map(|(name, text)| Ok((name.clone(), fill(text)?)));
    Ok(Spec {
        name: name.to_owned(),
        group: Some(version.to_owned()),
        owner: Some(job.owner()),
        argv: target.argv.iter().map(fill).collect::<Result<_, _>>()?,
        env: environment.collect::<Result<BTreeMap<_, _>, String>>()?,
        cwd: None,
        log: config.directory("logs")?.join(format!("{name}.log")),
        port: Some(port),
        ready: Ready::Http(fill(&target.ready.url)?),
        generation: 0,
        grace_ms: target.grace_seconds * 1000,
        dies_with_supervisor: config.processes_die_with_me,
    })
}

/// One that no spec has and nobody listens on.
fn free_port(deploys: &Deploys) -> Result<u16, String> {
    let taken: BTreeSet<u16> = deploys.supervisor()?.statuses().iter().filter_map(|status| status.spec.port).collect();
    let is_free = |port: u16| !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    match deploys.config().ports {
        Some(ports) => (ports.from..=ports.to)
            .find(|port| is_free(*port))
            .ok_or_else(|| format!("no port from {} to {} is free for an instance", ports.from, ports.to)),
        None => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
            listener.map(|address| address.port()).map_err(|error| format!("no port is free for an instance: {error}"))
        }
    }
}

async fn ready(job: &Job, names: &[String], limit: Duration) -> Result<(), String> {
    let supervisor = job.deploys.supervisor()?;
    let deadline = Instant::now() + limit;
    let mut changes = supervisor.changes();
    loop {
        changes.mark_unchanged();
        let statuses: Vec<Status> = names.iter().filter_map(|name| supervisor.status(name)).collect();
        let Some(late) = statuses.iter().find(|status| !status.ready) else { return Ok(()) };
        let trouble = late.trouble.clone().unwrap_or_else(|| "it has not answered".to_owned());
        let count = statuses.iter().filter(|status| status.ready).count();
        job.slot.update_doing(|doing| {
            doing.trouble = (count > 0 || late.trouble.is_some())
                .then(|| format!("{count} of {} are ready; {}: {trouble}", names.len(), late.spec.name));
        });
        if let Some(broken) = statuses.iter().find(|status| status.restarts as usize >= CRASHES) {
            let trouble = broken.trouble.as_deref().unwrap_or("it ended");
            return Err(format!(
                "{} ends again and again: {trouble}{}",
                broken.spec.name,
                last_words(&broken.spec.log)
            ));
        }
        let changed = tokio::time::timeout_at(deadline, changes.changed()).await;
        if changed.is_err() {
            return Err(format!(
                "{} is not ready after {} s: {trouble}{}",
                late.spec.name,
                limit.as_secs(),
                last_words(&late.spec.log)
            ));
        }
    }
}

/// The end of an instance's log, for the reason of a failure.
fn last_words(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(400)..]).into_owned();
    match tail.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("; the last line of {} is: {}", log.display(), line.trim()),
        None => String::new(),
    }
}

/// By rename, so that no reader sees half of it.
fn register(directory: &Path, version: &str, lines: &str) -> std::io::Result<()> {
    let (target, temporary) = (directory.join(version), unfinished(directory, version));
    if std::fs::read(&target).is_ok_and(|there| there == lines.as_bytes()) {
        return Ok(());
    }
    let written = std::fs::File::create(&temporary).and_then(|mut file| {
        file.write_all(lines.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, &target)?;
        std::fs::File::open(directory)?.sync_all()
    });
    if written.is_err() {
        // What is left of the attempt is worth nothing; the reason is already on its way.
        drop(std::fs::remove_file(&temporary));
    }
    written
}

/// A registration that is being written.
fn unfinished(directory: &Path, version: &str) -> PathBuf {
    directory.join(format!(".{version}.new"))
}

/// `false`: it was not there.
fn unlink(path: &Path) -> Result<bool, String> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("cannot unregister {}: {error}", path.display())),
    }
}

/// Unregisters, drains and stops.
pub(super) async fn remove(job: &Job, target: &ProcessTarget, version: &str) -> Result<Outcome, String> {
    let directory = job.deploys.config().directory("registrations")?;
    unlink(&unfinished(directory, version))?;
    let was_registered = unlink(&directory.join(version))?;
    let statuses = instances(&job.deploys, version);
    let ports: BTreeSet<u16> = statuses.iter().filter_map(|status| status.spec.port).collect();
    drain(&ports, Duration::from_secs(target.drain_seconds)).await;
    let supervisor = job.deploys.supervisor()?;
    let removals = statuses.iter().map(|status| supervisor.remove(&status.spec.name));
    for removed in futures_util::future::join_all(removals).await {
        removed.map_err(|error| causes::chain(&error))?;
    }
    let detail = match (statuses.len(), was_registered) {
        (0, false) => format!("{version} was gone already"),
        (0, true) => format!("{version} is unregistered; none of its processes is in the care of this server"),
        (count, _) => format!("{version} is unregistered and its {count} processes have ended"),
    };
    Ok(Outcome::Done { detail })
}

/// Waits until nobody is connected, or until that took long enough.
async fn drain(ports: &BTreeSet<u16>, limit: Duration) {
    let deadline = Instant::now() + limit;
    while !ports.is_empty() && is_connected(ports) && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
}

fn is_connected(ports: &BTreeSet<u16>) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        text.lines().skip(1).any(|line| established(line).is_some_and(|port| ports.contains(&port)))
    })
}

/// The local port of an established connection.
fn established(line: &str) -> Option<u16> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let local = fields.next()?;
    let state = fields.nth(1)?;
    let port = local.rsplit_once(':')?.1;
    (state == "01").then(|| u16::from_str_radix(port, 16).ok()).flatten()
}

#[derive(Default)]
struct Watched {
    restarts: Option<u32>,
    ends: VecDeque<Instant>,
    last_end: String,
    silent_since: Option<Instant>,
}

/// Watches the instances of a version while a deploy rests on them; says what broke.
pub(super) async fn watch(deploys: &Deploys, version: &str, wanted: u32) -> String {
    let mut changes = match deploys.supervisor() {
        Ok(supervisor) => supervisor.changes(),
        Err(why) => return why,
    };
    let mut watched: BTreeMap<String, Watched> = BTreeMap::new();
    loop {
        let statuses = instances(deploys, version);
        if statuses.len() < wanted as usize {
            return format!("only {} of {wanted} instances of {version} are left", statuses.len());
        }
        let now = Instant::now();
        for status in statuses {
            let one = watched.entry(status.spec.name.clone()).or_default();
            let before = one.restarts.replace(status.restarts).unwrap_or(status.restarts);
            for _ in before..status.restarts {
                one.ends.push_back(now);
                one.last_end = status.trouble.clone().unwrap_or_else(|| one.last_end.clone());
            }
            one.ends.retain(|end| now - *end < CRASHES_WITHIN);
            if one.ends.len() >= CRASHES {
                let words = last_words(&status.spec.log);
                return format!("{} ends again and again: {}{words}", status.spec.name, one.last_end);
            }
            if status.ready {
                one.silent_since = None;
            } else if now - *one.silent_since.get_or_insert(now) > SILENT {
                let trouble = status.trouble.unwrap_or_default();
                return format!("{} does not answer any more: {trouble}", status.spec.name);
            }
        }
        // By time as well, because silence is no change. A closed supervisor has no more of them.
        let waited = tokio::time::timeout(Duration::from_millis(500), changes.changed()).await;
        if matches!(waited, Ok(Err(_))) {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn established_connections_are_told_by_their_local_port() {
        let line = "   1: 0100007F:1E29 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 1";
        assert_eq!(established(line), Some(0x1e29));
        assert_eq!(established(&line.replace(" 01 ", " 0A ")), None);
        assert_eq!(established(""), None);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let ports = BTreeSet::from([address.port()]);
        assert!(!is_connected(&ports));
        let _client = std::net::TcpStream::connect(address).unwrap();
        assert!(is_connected(&ports));
    }
}
