//! The runtimes of servers. The data plane's workers have their own; this is for everything else.

use std::collections::BTreeMap;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

/// The cores this process may use, by affinity and cgroup.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Keeps the kernel from backing the allocator's first, mostly empty arenas with pages of 2 MiB: an idle
/// router is 13 MB with small pages and 22 MB without. Inherited over `exec`; what we supervise gets
/// the system's setting back.
pub fn small_pages() {
    // SAFETY: sets a flag of this process; no memory is involved. A kernel that refuses it costs memory,
    // and nothing else.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// For control work: at most two threads, so that it never crowds the workers out.
pub fn control() -> anyhow::Result<Runtime> {
    control_on(cores().min(2))
}

/// For control work, on so many threads.
pub fn control_on(threads: usize) -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("control")
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// The process's environment. Variables that are not text are nobody's here.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
