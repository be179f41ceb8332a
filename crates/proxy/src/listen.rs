//! Listening sockets: bound, taken over, kept through a reload, and closed without losing a caller.
//!
//! Every worker has a socket of its own for every server (`SO_REUSEPORT`), and the kernel spreads
//! connections over them. A socket that was inherited (from the process that this one replaces, or from
//! systemd) is served by exactly one worker: nobody waits in a queue that nobody empties.
//!
//! ```text
//!  Listening { out, 127.0.0.1:4140 }
//!     socket 0 ──dup──▶ worker 0        what stays here is for a successor, and for a reload
//!     socket 1 ──dup──▶ worker 1
//! ```

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use crate::settings::{self, SocketOptions};
use crate::start::StartError;

const BACKLOG: i32 = 1024;

/// The sockets of one server.
pub(crate) struct Listening {
    /// Tells servers apart through reloads.
    pub key: u64,
    pub router: String,
    /// As the settings say it, perhaps with port 0.
    pub configured: SocketAddr,
    /// With the port that was taken.
    pub address: SocketAddr,
    pub sockets: Vec<TcpListener>,
    /// Requests under way on all workers.
    pub under_way: Arc<AtomicUsize>,
}

/// Sockets of one address that somebody else bound. What no server wants is closed.
#[derive(Debug)]
pub struct Inherited {
    /// The router's label and the configured address, where the one who bound them knew: they find a server
    /// whose port is 0.
    pub place: Option<(String, SocketAddr)>,
    pub address: SocketAddr,
    pub sockets: Vec<TcpListener>,
}

impl Listening {
    /// Whether this is the place of that server.
    pub(crate) fn is_of(&self, router: &str, server: &settings::Server) -> bool {
        self.configured == server.address && (server.address.port() != 0 || self.router == router)
    }

    /// The same sockets once more, perhaps of another router now.
    pub(crate) fn copied(&self, router: &str) -> io::Result<Listening> {
        Ok(Listening {
            key: self.key,
            router: router.to_owned(),
            configured: self.configured,
            address: self.address,
            sockets: self.sockets.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?,
            under_way: self.under_way.clone(),
        })
    }

    /// Lets sockets listen that were only bound so far: from here on the kernel gives them connections, which
    /// would be reset if they were closed because something else of the start went wrong.
    pub(crate) fn open(&self, options: &SocketOptions) -> io::Result<()> {
        for socket in &self.sockets {
            let socket = SockRef::from(socket);
            if !socket.is_listener()? {
                socket.listen(options.backlog.unwrap_or(BACKLOG))?;
            }
        }
        Ok(())
    }

    /// Other options from now on.
    pub(crate) fn set(&self, options: &SocketOptions) -> io::Result<()> {
        self.sockets.iter().try_for_each(|socket| set(socket, options))
    }

    /// Each worker's part of the sockets, as descriptors of its own.
    pub(crate) fn shares(&self, workers: usize) -> io::Result<Vec<Vec<TcpListener>>> {
        let mut shares: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
        for (number, socket) in self.sockets.iter().enumerate() {
            shares[number % workers].push(socket.try_clone()?);
        }
        Ok(shares)
    }
}

/// What is bound for a server that is new.
pub(crate) struct Binder<'a> {
    pub workers: usize,
    pub inherited: &'a mut Vec<Inherited>,
    /// Servers that are going away: their addresses may overlap with a new one.
    pub leaving: &'a [SocketAddr],
    pub next_key: &'a mut u64,
}

impl Binder<'_> {
    pub(crate) fn bind(&mut self, router: &str, server: &settings::Server) -> Result<Listening, StartError> {
        let failed = |source| StartError::Listen { router: router.to_owned(), address: server.address, source };
        let (address, sockets) = match self.take(router, server.address) {
            Some(found) => self.completed(found, &server.socket).map_err(failed)?,
            None => self.bound(server.address, &server.socket).map_err(failed)?,
        };
        *self.next_key += 1;
        let (router, configured) = (router.to_owned(), server.address);
        Ok(Listening { key: *self.next_key, router, configured, address, sockets, under_way: Arc::default() })
    }

    fn take(&mut self, router: &str, configured: SocketAddr) -> Option<Inherited> {
        let is_it = |inherited: &Inherited| match &inherited.place {
            _ if configured.port() != 0 => inherited.address == configured,
            Some(place) => *place == (router.to_owned(), configured),
            None => false,
        };
        let index = self.inherited.iter().position(is_it)?;
        Some(self.inherited.remove(index))
    }

    /// A socket for every worker: where there are too few, new ones beside them or, if whoever bound them
    /// shares no port, the same ones once more. The new ones do not listen yet.
    fn completed(&self, inherited: Inherited, options: &SocketOptions) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
        let Inherited { address, mut sockets, .. } = inherited;
        for socket in &sockets {
            socket.set_nonblocking(true)?;
            set(socket, options)?;
        }
        let given = sockets.len();
        while sockets.len() < self.workers {
            let more = match bind(address, &shared(options)) {
                Ok(more) => {
                    let more = more.into();
                    set(&more, &SocketOptions { backlog: None, ..*options })?;
                    more
                }
                Err(_) => sockets[sockets.len() % given].try_clone()?,
            };
            sockets.push(more);
        }
        Ok((address, sockets))
    }

    fn bound(&self, mut address: SocketAddr, options: &SocketOptions) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
        let overlaps = self.leaving.iter().any(|leaving| leaving.port() == address.port());
        if address.port() == 0 || !overlaps {
            // Without SO_REUSEPORT, unless that is wanted, to notice that somebody else, perhaps another router of
            // ours, is there.
            let probe = bind(address, options)?;
            address = probe.local_addr()?.as_socket().unwrap_or(address);
        }
        let options = shared(options);
        let sockets = (0..self.workers).map(|_| listener(address, &options)).collect::<io::Result<Vec<_>>>()?;
        Ok((address, sockets))
    }
}

/// Workers listen side by side.
fn shared(options: &SocketOptions) -> SocketOptions {
    SocketOptions { reuse_port: true, ..*options }
}

/// A socket that listens, non-blocking; what it accepts has its options (they are inherited).
///
/// # Errors
/// The address cannot be had.
pub fn listener(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpListener> {
    let socket = bind(address, options)?;
    socket.listen(options.backlog.unwrap_or(BACKLOG))?;
    let listener = socket.into();
    set(&listener, options)?;
    Ok(listener)
}

/// What can be set on a socket that listens already.
fn set(listener: &TcpListener, options: &SocketOptions) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_tcp_nodelay(options.no_delay)?;
    if let Some(keep_alive) = options.keep_alive {
        socket.set_keepalive(keep_alive)?;
    }
    if let Some(backlog) = options.backlog {
        socket.listen(backlog)?;
    }
    Ok(())
}

fn bind(address: SocketAddr, options: &SocketOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(options.reuse_addr)?;
    socket.set_reuse_port(options.reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// From here on no new handshake begins on this socket, while those under way end and are accepted. Closed at
/// once instead, it would reset whoever had just got through. A client whose SYN is dropped sends it again a
/// second later, and then meets whoever listens, or a refusal.
pub(crate) fn end_handshakes(socket: &impl AsFd) -> io::Result<()> {
    let code = |code: u32| code as u16;
    let filter = [
        // The flags of the TCP header, which is where the filter of a TCP socket begins.
        SockFilter::new(code(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS), 0, 0, 13),
        SockFilter::new(code(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K), 0, 1, 0x02),
        SockFilter::new(code(libc::BPF_RET | libc::BPF_K), 0, 0, 0),
        SockFilter::new(code(libc::BPF_RET | libc::BPF_K), 0, 0, u32::MAX),
    ];
    SockRef::from(socket).attach_filter(&filter)
}
