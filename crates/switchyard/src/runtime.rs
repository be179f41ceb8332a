//! The runtimes of servers. The data plane's workers have their own; this is for everything else.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::time::Duration;

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

/// Descriptors that a process has room for from the start.
const DESCRIPTORS: u64 = 16_384;

/// Has the kernel make its table of descriptors (8 bytes each) large now. Later, with threads that share it, each
/// doubling waits for all cores to have let go of the old table: the `accept` or `socket` that needs it stood for
/// 7 to 15 ms, and with it all requests of that worker. To be called before there are threads.
pub fn room_for_descriptors() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(DESCRIPTORS);
    let last = DESCRIPTORS.min(limit).saturating_sub(1);
    // The copy is closed at once. Where there is none (no standard error, a limit that was lowered meanwhile) the
    // table grows as it is needed.
    drop(rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), last as i32));
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

/// Until then a server has started, and has answered its first requests.
const STARTED: Duration = Duration::from_secs(1);

/// Lets go of the pages of program text that only the start needed, once it is over: 9 of an idle router's
/// 15 MiB. They are the file's, unchanged, and come back from it one by one if they are needed again, so it
/// is done once: what requests use stays from then on.
pub fn release_text_after_start() {
    tokio::spawn(async {
        tokio::time::sleep(STARTED).await;
        // SAFETY: the callback keeps nothing of what it is shown; it reads it while the loader holds it still.
        unsafe { libc::dl_iterate_phdr(Some(release_text), std::ptr::null_mut()) };
    });
}

/// Releases the read-only segments of one loaded file: program text and constants. What the loader has
/// written to (relocations) lies in segments that are writable by their headers, and stays.
unsafe extern "C" fn release_text(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: asks for a constant.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
    // SAFETY: the loader hands over a valid description, whose headers are an array of that length.
    let (base, headers) =
        unsafe { ((*info).dlpi_addr, std::slice::from_raw_parts((*info).dlpi_phdr, usize::from((*info).dlpi_phnum))) };
    for header in headers {
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = base + header.p_vaddr;
        let (from, to) = (start.next_multiple_of(page), (start + header.p_memsz) / page * page);
        if from < to {
            // SAFETY: a private mapping of a file that nobody has written to: its pages are read again from
            // the file when they are next used. Where the kernel refuses, the pages stay, and that is all.
            unsafe { libc::madvise(from as *mut c_void, (to - from) as usize, libc::MADV_DONTNEED) };
        }
    }
    0
}

/// The process's environment. Variables that are not text are nobody's here.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
