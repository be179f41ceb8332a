//! Gauges of the process itself: `process/*`, and the three `jvm/*` names that dashboards made for the
//! original read (`jvm/uptime` and `jvm/start_time` in milliseconds, `jvm/num_cpus`). The other `jvm/*`
//! names describe a heap and a collector that do not exist here and are not invented.

use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::registry::Registry;

/// Linux reports processor time in ticks of 1/100 s on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Registers `process/{resident_bytes,threads,open_fds,cpu_seconds,uptime_seconds}` and the `jvm` names.
/// Values that the system does not give (no `/proc`) are 0. Call once, at start.
pub fn register_process(registry: &Registry) {
    let started = Instant::now();
    let start_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_millis() as f64);
    let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    registry.gauge_with(&["jvm", "uptime"], move || started.elapsed().as_millis() as f64);
    registry.gauge_with(&["jvm", "start_time"], move || start_time);
    registry.gauge_with(&["jvm", "num_cpus"], move || processors);
    registry.gauge_with(&["process", "uptime_seconds"], move || started.elapsed().as_secs_f64());
    registry.gauge_with(&["process", "resident_bytes"], || status_field("VmRSS:") * 1024.0);
    registry.gauge_with(&["process", "threads"], || status_field("Threads:"));
    registry
        .gauge_with(&["process", "open_fds"], || fs::read_dir("/proc/self/fd").map_or(0.0, |list| list.count() as f64));
    registry.gauge_with(&["process", "cpu_seconds"], cpu_seconds);
}

fn status_field(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The command name in parentheses may contain blanks; user and system time are fields 14 and 15.
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    let ticks = after.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>();
    ticks / TICKS_PER_SECOND
}
