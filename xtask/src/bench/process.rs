//! Running programs: started on a core, with all they start themselves; what they cost; their end.

use std::fs::{self, File};
use std::ops::Sub;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long a program may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(3);

/// A program that runs until it is stopped or dropped.
pub struct Running {
    child: Child,
    pub started: Instant,
}

/// CPU time of a process tree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    /// Nanoseconds on a core, exact.
    pub total: f64,
    /// Clock ticks in user mode; only good for shares.
    user: f64,
    system: f64,
}

impl Cpu {
    /// The share of `total` that was spent in user mode.
    pub fn user_share(self) -> f64 {
        let ticks = self.user + self.system;
        if ticks > 0.0 { self.user / ticks } else { 0.0 }
    }
}

impl Sub for Cpu {
    type Output = Cpu;

    fn sub(self, before: Cpu) -> Cpu {
        Cpu { total: self.total - before.total, user: self.user - before.user, system: self.system - before.system }
    }
}

impl Running {
    /// Starts `command` on `core`, with as many open files as the system allows and its output in `log`.
    pub fn start(command: &[String], core: usize, log: &Path) -> anyhow::Result<Running> {
        let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let files = hard_file_limit()?;
        let started = Instant::now();
        // setpriv: when the bench is killed, what it started does not go on.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "prlimit", &format!("--nofile={files}:{files}")])
            .args(["taskset", "-c", &core.to_string()])
            .args(command)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start setpriv (Debian package util-linux)")?;
        Ok(Running { child, started })
    }

    /// The process, and all processes below it.
    pub fn tree(&self) -> Vec<u32> {
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse::<u32>().ok()) {
                parents.push((pid, parent));
            }
        }
        let mut tree = vec![self.child.id()];
        let mut at = 0;
        while at < tree.len() {
            let parent = tree[at];
            tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        tree
    }

    /// Whether it has ended by itself.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended with {status}");
        }
        Ok(())
    }

    /// Ends the tree: asks first, then insists.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.end()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let tree = self.tree();
        signal("-TERM", &tree[..1])?;
        let deadline = Instant::now() + GRACE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                signal("-KILL", &tree)?;
                self.child.wait()?;
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // Workers that outlive their master would be measured with the next target.
        let orphans: Vec<u32> = tree[1..].iter().copied().filter(|pid| stat(*pid).is_some()).collect();
        if orphans.is_empty() { Ok(()) } else { signal("-KILL", &orphans) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("cannot end process {}: {error:#}", self.child.id());
        }
    }
}

/// What these processes have cost so far. Threads that ended count in the shares only.
pub fn cpu(tree: &[u32]) -> Cpu {
    let mut cpu = Cpu::default();
    for pid in tree {
        let Some(fields) = stat(*pid) else { continue };
        let ticks = |n: usize| fields.get(n).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        cpu.user += ticks(11);
        cpu.system += ticks(12);
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
            cpu.total += text.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
        }
    }
    cpu
}

/// Resident memory of these processes together, in MiB. Pages that they share count for each.
pub fn resident(tree: &[u32]) -> f64 {
    let one = |pid: &u32| -> Option<f64> {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
    };
    tree.iter().filter_map(one).sum::<f64>() / 1024.0
}

/// The fields of `/proc/PID/stat` behind the name: state, parent, …
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn signal(signal: &str, pids: &[u32]) -> anyhow::Result<()> {
    // One that has gone meanwhile is no error, so the status says nothing.
    let arguments = pids.iter().map(u32::to_string);
    Command::new("kill").arg(signal).args(arguments).stderr(Stdio::null()).status().context("cannot start kill")?;
    Ok(())
}

fn hard_file_limit() -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/self/limits").context("/proc/self/limits")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    Ok(line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or("1024").to_owned())
}
