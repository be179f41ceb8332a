//! What systemd wants to hear (`sd_notify`), and the sockets that it may have bound for us
//! (`LISTEN_FDS`). Without systemd nothing here does anything.

use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use anyhow::Context;
use rustix::io::{FdFlags, fcntl_setfd};

/// Where `sd_notify` goes.
#[derive(Debug, Clone, Default)]
pub struct Systemd {
    socket: Option<SocketAddr>,
    /// A sign of life is wanted this often.
    watchdog: Option<Duration>,
}

impl Systemd {
    /// As the environment says.
    pub fn of_this_process() -> Systemd {
        let socket = std::env::var("NOTIFY_SOCKET").ok().filter(|name| !name.is_empty());
        let socket = socket.and_then(|name| match address(&name) {
            Ok(address) => Some(address),
            Err(error) => {
                tracing::warn!(name, %error, "NOTIFY_SOCKET is no socket's address: systemd is told nothing");
                None
            }
        });
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        // Half of it, so that one that is late does no harm.
        let watchdog = number("WATCHDOG_USEC").filter(|_| ours).map(|micros| Duration::from_micros(micros / 2));
        Systemd { socket, watchdog: watchdog.filter(|every| !every.is_zero()) }
    }

    /// It serves; `status` is what `systemctl status` shows.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}\nMAINPID={}", std::process::id()));
    }

    /// It reads its document again; [`Systemd::ready`] says when it is done.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=Reading the document again"));
    }

    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=Finishing what is under way");
    }

    /// Another process is the service from here on; this one only finishes.
    pub fn handed_over(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}"));
    }

    /// How often [`Systemd::alive`] is wanted.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// Systemd that does not listen is no reason to fail; it will say itself what it misses.
    fn tell(&self, text: &str) {
        let Some(address) = &self.socket else { return };
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(text.as_bytes(), address)
        });
        if let Err(error) = sent {
            tracing::warn!(%error, "cannot tell systemd");
        }
    }
}

fn address(name: &str) -> std::io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

/// Listening sockets of a `.socket` unit. Call it once, before anything else opens descriptors.
///
/// # Errors
/// Something among them is no TCP socket that listens.
pub fn sockets() -> anyhow::Result<Vec<TcpListener>> {
    const FIRST: RawFd = 3;
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    // The environment is inherited further than the sockets are: they are for the process that is named.
    let count = number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(std::process::id())).unwrap_or(0);
    let take = |fd: RawFd| {
        // SAFETY: systemd opened the descriptors from 3 on for this process and nobody else has taken them:
        // nothing was opened before this call, which is made once.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        fcntl_setfd(&owned, FdFlags::CLOEXEC).with_context(|| format!("descriptor {fd} of LISTEN_FDS"))?;
        let listener = TcpListener::from(owned);
        listener.local_addr().with_context(|| format!("descriptor {fd} of LISTEN_FDS is no TCP socket"))?;
        Ok(listener)
    };
    (0..RawFd::try_from(count).unwrap_or(0)).map(|number| take(FIRST + number)).collect()
}
