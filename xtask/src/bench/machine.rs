//! This machine: what it is, and how busy its cores are.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use super::record::Machine;

/// Jiffies that a core has spent since boot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Core {
    pub total: f64,
    pub idle: f64,
    /// Taken away by the hypervisor.
    pub stolen: f64,
}

/// All cores, by number, from `/proc/stat`.
pub fn cores() -> anyhow::Result<Vec<Core>> {
    let text = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let lines = text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
    let core = |line: &str| {
        // user nice system idle iowait irq softirq steal (guest times are part of user and nice)
        let times: Vec<f64> = line.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
        let at = |n: usize| times.get(n).copied().unwrap_or(0.0);
        Core { total: times.iter().sum(), idle: at(3) + at(4), stolen: at(7) }
    };
    Ok(lines.map(core).collect())
}

/// Runnable tasks over the last minute.
pub fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

/// What this process starts stays on `core` unless it is told otherwise.
pub fn pin_this_process(core: usize) -> anyhow::Result<()> {
    let pid = std::process::id().to_string();
    let output = Command::new("taskset")
        .args(["-acp", &core.to_string(), &pid])
        .output()
        .context("cannot start taskset (Debian package util-linux)")?;
    if !output.status.success() {
        bail!("cannot stay on core {core}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

pub fn describe(root: &Path) -> Machine {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    let git = |arguments: &[&str]| said("git", &[&["-C", &root.to_string_lossy()], arguments].concat());
    let changed = git(&["status", "--porcelain", "--", "crates", "Cargo.lock", "Cargo.toml"]);
    Machine {
        date: said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        cpu: model.map_or_else(|| said("uname", &["-m"]), |(_, model)| model.to_owned()),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        memory_mib: kib.unwrap_or(0.0) / 1024.0,
        kernel: said("uname", &["-sr"]),
        commit: git(&["rev-parse", "--short=12", "HEAD"]),
        changed: !changed.is_empty(),
    }
}

/// What a program prints, on either stream; nothing if it does not run.
pub fn said(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else { return String::new() };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).trim().to_owned()
}
