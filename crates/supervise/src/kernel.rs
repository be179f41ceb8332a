//! What only the kernel knows: start times, process descriptors, who carries our mark.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use tokio::io::unix::AsyncFd;

/// In each process's environment: `DIRECTORY/NAME#GENERATION`.
pub(crate) const MARK: &str = "SWITCHYARD_SUPERVISED";

fn watched(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and stays the same open description until it is dropped.
    Ok(unsafe { AsyncFd::register(descriptor) }?)
}

/// One process, held by descriptor: its number cannot come to mean another one.
#[derive(Debug)]
pub(crate) struct Process {
    pub pid: u32,
    pub start_time: u64,
    descriptor: AsyncFd<OwnedFd>,
    /// Started by this very process, so ours to reap.
    own: bool,
}

impl Process {
    /// A child that has not been reaped yet.
    pub fn child(pid: u32) -> io::Result<Process> {
        let start_time = start_time(pid).unwrap_or(0);
        Ok(Process { pid, start_time, descriptor: watched(descriptor(pid)?)?, own: true })
    }

    /// Another supervisor's child, if it still is the one that started at `start_time`.
    pub fn adopt(pid: u32, start_time_then: u64) -> Option<Process> {
        let opened = watched(descriptor(pid).ok()?).ok()?;
        // Checked after the descriptor is open, so the answer is about the process that it holds.
        (start_time(pid)? == start_time_then).then_some(Process {
            pid,
            start_time: start_time_then,
            descriptor: opened,
            own: false,
        })
    }

    /// Waits for its end, reaps it if it is a child, and says how it ended.
    pub async fn ended(&self) -> String {
        loop {
            match self.descriptor.readable().await {
                Ok(mut ready) => {
                    if let Some(text) = self.how_it_ended() {
                        return text;
                    }
                    ready.clear_ready();
                }
                // The runtime is ending; so is whoever waits.
                Err(error) => return format!("cannot be watched: {error}"),
            }
        }
    }

    fn how_it_ended(&self) -> Option<String> {
        if !self.own {
            return Some("ended".to_owned());
        }
        let mut status = 0;
        // SAFETY: waits for one child of ours and writes to a local.
        match unsafe { libc::waitpid(self.pid as i32, &mut status, libc::WNOHANG) } {
            0 => None,
            -1 => Some("ended".to_owned()),
            _ if libc::WIFSIGNALED(status) => Some(format!("ended by signal {}", libc::WTERMSIG(status))),
            _ => Some(format!("ended with status {}", libc::WEXITSTATUS(status))),
        }
    }

    /// Gone already is well.
    pub fn signal(&self, signal: i32) {
        let none: *const libc::siginfo_t = std::ptr::null();
        // SAFETY: a valid descriptor and no siginfo.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.descriptor.as_raw_fd(), signal, none, 0) };
    }

    /// Given up without ending it. A child that ends later is still reaped.
    pub fn leave(self) {
        if self.own {
            let pid = self.pid as i32;
            let reaper = std::thread::Builder::new().name("reaper".to_owned());
            let reaped = reaper.spawn(move || {
                let mut status = 0;
                // SAFETY: as above; blocks this thread only.
                unsafe { libc::waitpid(pid, &mut status, 0) };
            });
            if let Err(error) = reaped {
                tracing::warn!(pid, %error, "nobody reaps this process");
            }
        }
    }
}

fn descriptor(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is a new descriptor (close-on-exec by definition) or -1.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

/// Ends a process by number and start time. Used when no runtime is there to hold a descriptor.
pub(crate) fn kill(pid: u32, start_time_then: u64) -> bool {
    let Ok(opened) = descriptor(pid) else { return false };
    if start_time(pid) != Some(start_time_then) {
        return false;
    }
    let none: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a valid descriptor and no siginfo.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, opened.as_raw_fd(), libc::SIGKILL, none, 0) == 0 }
}

/// Ticks since boot at which the process started; `None` if there is none, or only its shell.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&text)
}

/// The name in parentheses may hold anything, so fields are counted after the last one.
fn parse_stat(text: &str) -> Option<u64> {
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.nth(18)?.parse().ok()).flatten()
}

/// Start times count from this.
pub(crate) fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

pub(crate) fn mark(directory: &Path, name: &str, generation: u64) -> String {
    format!("{}/{name}#{generation}", directory.display())
}

/// Processes that carry the mark of this directory: name → (pid, start time, generation).
/// Only leaders of their session count: the mark is inherited, the session of its own is not.
pub(crate) fn marked(directory: &Path) -> BTreeMap<String, (u32, u64, u64)> {
    let prefix = format!("{MARK}={}/", directory.display());
    let mut found = BTreeMap::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return found };
    for pid in processes.flatten().filter_map(|item| item.file_name().to_str()?.parse::<u32>().ok()) {
        let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { continue };
        let mark = environment
            .split(|byte| *byte == 0)
            .filter_map(|one| std::str::from_utf8(one).ok()?.strip_prefix(&prefix))
            .next();
        let Some((name, generation)) = mark.and_then(|mark| mark.rsplit_once('#')) else { continue };
        // SAFETY: no pointers.
        let leader = unsafe { libc::getsid(pid as i32) } == pid as i32;
        if let (true, Some(start_time), Ok(generation)) = (leader, start_time(pid), generation.parse()) {
            found.insert(name.to_owned(), (pid, start_time, generation));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_cannot_confuse_the_start_time() {
        let stat = "7 (a) S 1) Z 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(parse_stat(&stat.replace(" Z ", " S ")), Some(4242));
        assert_eq!(parse_stat(stat), None, "a zombie is no process");
        assert!(start_time(std::process::id()).is_some_and(|ticks| ticks > 0));
        assert_eq!(parse_stat(""), None);
    }
}
