//! A new process takes the place of a running router: it gets copies of all listening sockets, serves on
//! them, and says so; the old one stops accepting and finishes what is under way. The sockets stay open
//! all the time, so nobody is refused and nobody who waits in their queues is lost.
//!
//! ```text
//!  successor                          predecessor
//!     │── connect ────────────────────────▶│  both look at who the other one is (SO_PEERCRED)
//!     │◀─ {"sockets":[{kind,address,…}]} ──│
//!     │◀─ descriptors (SCM_RIGHTS) ────────│  goes on serving
//!     │   builds, starts its workers       │
//!     │── {"ready":true} ─────────────────▶│  accepts nothing more, gives up the path of this socket
//!     │◀─ {"released":true} ───────────────│  drains, ends with 0
//! ```
//! One that goes away before it is ready changes nothing. Messages are a length (four bytes, big endian)
//! and JSON; descriptors come with single bytes, at most [`AT_ONCE`] each.

use std::fs::Permissions;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg, sockopt::socket_peercred,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

/// Descriptors in one message; the kernel takes 253.
const AT_ONCE: usize = 128;
/// Sockets of one router process; more are nobody's.
const MOST: usize = 65_536;
/// A message is a list of sockets at most.
const LONGEST: usize = 16 << 20;
/// Between two steps, except while the successor builds what it needs.
const STEP: Duration = Duration::from_secs(10);
/// How long a successor may take until it serves.
const BUILDING: Duration = Duration::from_secs(120);

/// What a socket is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Purpose {
    Admin,
    Identifier,
    /// A server of a router: its label, and the address as the document says it.
    Server {
        router: String,
        configured: SocketAddr,
    },
}

/// Sockets with the same purpose and address.
#[derive(Debug)]
pub struct Offered {
    pub purpose: Purpose,
    pub address: SocketAddr,
    pub sockets: Vec<TcpListener>,
}

/// How the list of sockets is written.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    purpose: Purpose,
    address: SocketAddr,
    count: usize,
}

#[derive(Debug, Serialize, Deserialize)]
struct List {
    version: String,
    sockets: Vec<Entry>,
}

/// What a successor begins with; who only looks whether somebody waits says nothing.
#[derive(Serialize, Deserialize)]
struct AskingWord {
    version: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct ReadyWord {
    ready: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct ReleasedWord {
    released: bool,
}

/// Where a router waits for its successor, if nobody says another place: in the runtime directory that
/// systemd or the session gives, else below `/run`. None for an admin port that is not known before.
pub fn default_path(admin: SocketAddr) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let given = set("RUNTIME_DIRECTORY").map(|list| {
        let list = list.to_string_lossy();
        PathBuf::from(list.split(':').next().unwrap_or_default())
    });
    let session = || set("XDG_RUNTIME_DIR").map(|directory| Path::new(&directory).join("switchyard"));
    let directory = given.or_else(session).unwrap_or_else(|| "/run/switchyard".into());
    (admin.port() != 0).then(|| directory.join(format!("router-{}.sock", admin.port())))
}

/// What the main loop hears.
pub enum Event {
    /// Somebody wants to take over: copies of all sockets.
    Wanted(oneshot::Sender<Vec<Offered>>),
    /// It serves now. Release everything, then say so.
    Ready { pid: u32, released: oneshot::Sender<()> },
}

/// A router that can be taken over, as long as this lives.
pub struct Waiting {
    path: PathBuf,
    /// Of the socket's file: another process may have put its own there.
    inode: u64,
    task: tokio::task::JoinHandle<()>,
}

impl Waiting {
    /// # Errors
    /// The path cannot be had, for example because a router waits there already.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(path: &Path, events: mpsc::Sender<Event>) -> anyhow::Result<Waiting> {
        let listener = listen(path)?;
        let inode = std::fs::metadata(path)?.ino();
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => serve(stream, &events).await,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a successor");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(Waiting { path: path.to_owned(), inode, task })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.task.abort();
        if std::fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // One that cannot be removed is replaced by the next router.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.with_context(|| format!("cannot make {}", directory.display()))?;
    }
    if std::fs::symlink_metadata(path).is_ok() {
        ensure!(UnixStream::connect(path).is_err(), "another router waits at {}", path.display());
        std::fs::remove_file(path).with_context(|| format!("cannot replace {}", path.display()))?;
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// One successor; a second one waits until this one is done.
async fn serve(stream: tokio::net::UnixStream, events: &mpsc::Sender<Event>) {
    let prepared = stream.into_std().and_then(|stream| stream.set_nonblocking(false).map(|()| stream));
    let events = events.clone();
    let served = match prepared {
        // Descriptors are sent by calls that wait.
        Ok(stream) => tokio::task::spawn_blocking(move || offer(stream, &events)).await,
        Err(error) => Ok(Err(error.into())),
    };
    match served {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("not taken over, and serving on: {error:#}"),
        Err(error) => tracing::error!(%error, "a takeover panicked"),
    }
}

fn offer(mut stream: UnixStream, events: &mpsc::Sender<Event>) -> anyhow::Result<()> {
    let peer = trusted(&stream)?;
    limit(&stream, STEP)?;
    let word: AskingWord = match receive(&mut stream) {
        Ok(word) => word,
        // Somebody looked whether this router is here.
        Err(error) if is_end(&error) => return Ok(()),
        Err(error) => return Err(error.context("it did not say what it wants")),
    };
    tracing::info!(pid = peer, version = word.version, "somebody wants to take over");
    let (ask, asked) = oneshot::channel();
    let ending = "this router is ending itself";
    events.blocking_send(Event::Wanted(ask)).ok().context(ending)?;
    let offered = asked.blocking_recv().context(ending)?;
    let entry = |offered: &Offered| Entry {
        purpose: offered.purpose.clone(),
        address: offered.address,
        count: offered.sockets.len(),
    };
    let list = List { version: env!("CARGO_PKG_VERSION").to_owned(), sockets: offered.iter().map(entry).collect() };
    send(&mut stream, &list)?;
    let sockets: Vec<_> = offered.iter().flat_map(|offered| &offered.sockets).map(AsFd::as_fd).collect();
    for chunk in sockets.chunks(AT_ONCE) {
        send_descriptors(&stream, chunk)?;
    }
    drop(offered);
    limit(&stream, BUILDING)?;
    let word: ReadyWord = receive(&mut stream).context("the successor went away before it was ready")?;
    ensure!(word.ready, "the successor is not ready");
    let (tell, released) = oneshot::channel();
    events.blocking_send(Event::Ready { pid: peer, released: tell }).ok().context(ending)?;
    released.blocking_recv().context(ending)?;
    send(&mut stream, &ReleasedWord { released: true })
}

/// A successor's side, after it got the sockets.
pub struct Predecessor {
    stream: UnixStream,
    pub pid: u32,
}

/// The sockets of the router that waits at `path`; `None` if nobody does.
///
/// # Errors
/// Somebody is there, and something went wrong. That router goes on.
pub fn take_over(path: &Path) -> anyhow::Result<Option<(Predecessor, Vec<Offered>)>> {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot take over at {}", path.display())),
    };
    let pid = trusted(&stream)?;
    limit(&stream, STEP)?;
    send(&mut stream, &AskingWord { version: env!("CARGO_PKG_VERSION").to_owned() })?;
    let list: List = receive(&mut stream).context("no list of sockets came")?;
    let count = list.sockets.iter().fold(0usize, |sum, entry| sum.saturating_add(entry.count));
    ensure!(count <= MOST, "{count} sockets are too many");
    let mut descriptors = Vec::new();
    while descriptors.len() < count {
        receive_descriptors(&stream, &mut descriptors)?;
    }
    let mut descriptors = descriptors.into_iter().map(TcpListener::from);
    let offered = list.sockets.into_iter().map(|entry| Offered {
        purpose: entry.purpose,
        address: entry.address,
        sockets: descriptors.by_ref().take(entry.count).collect(),
    });
    Ok(Some((Predecessor { stream, pid }, offered.collect())))
}

impl Predecessor {
    /// We serve: it may go. Blocks until it accepts nothing more.
    pub fn release(mut self) -> anyhow::Result<()> {
        send(&mut self.stream, &ReadyWord { ready: true })?;
        let word: ReleasedWord = receive(&mut self.stream)?;
        ensure!(word.released, "it released nothing");
        Ok(())
    }
}

/// The process at the other end, which must be of the same user, or of root.
fn trusted(stream: &UnixStream) -> anyhow::Result<u32> {
    let peer = socket_peercred(stream).context("cannot tell who is at the other end")?;
    let own = rustix::process::geteuid();
    if peer.uid != own && !peer.uid.is_root() {
        bail!("process {} of user {} is not trusted with our sockets", peer.pid.as_raw_nonzero(), peer.uid.as_raw());
    }
    Ok(peer.pid.as_raw_nonzero().get().unsigned_abs())
}

fn limit(stream: &UnixStream, time: Duration) -> io::Result<()> {
    stream.set_read_timeout(Some(time))?;
    stream.set_write_timeout(Some(time))
}

fn send(stream: &mut UnixStream, message: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len())?;
    stream.write_all(&[&length.to_be_bytes(), text.as_slice()].concat())?;
    Ok(())
}

fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> anyhow::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    ensure!(length <= LONGEST, "a message of {length} bytes is too long");
    let mut text = vec![0; length];
    stream.read_exact(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Whether the other end closed where a message could begin.
fn is_end(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
}

fn send_descriptors(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(control.push(SendAncillaryMessage::ScmRights(descriptors)), "too many descriptors for one message");
    sendmsg(stream, &[IoSlice::new(b"F")], &mut control, SendFlags::NOSIGNAL).context("cannot send the sockets")?;
    Ok(())
}

fn receive_descriptors(stream: &UnixStream, into: &mut Vec<OwnedFd>) -> anyhow::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let before = into.len();
    let read = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
        .context("cannot receive the sockets")?;
    ensure!(read.bytes == 1, "the router at the other end went away");
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            into.extend(descriptors);
        }
    }
    // The kernel drops what finds no place in our table.
    ensure!(into.len() > before, "no descriptors came: the limit of open files may be too low");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_arrive_whole_and_in_order() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/router.sock");
        assert!(take_over(&path).unwrap().is_none(), "nobody is there");
        let (events, mut heard) = mpsc::channel(1);
        let waiting = runtime.block_on(async { Waiting::start(&path, events) }).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let second = runtime.block_on(async { Waiting::start(&path, mpsc::channel(1).0) });
        assert!(second.err().unwrap().to_string().contains("another router waits"));

        let sockets: Vec<_> = (0..300).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let configured = "127.0.0.1:0".parse().unwrap();
        let server = move |router: &str| Purpose::Server { router: router.to_owned(), configured };
        let answering = runtime.spawn(async move {
            let mut sockets = sockets.into_iter();
            let Some(Event::Wanted(tell)) = heard.recv().await else { panic!("nobody asks") };
            let mut next = |purpose, count| Offered {
                purpose,
                address: configured,
                sockets: sockets.by_ref().take(count).collect(),
            };
            tell.send(vec![next(Purpose::Admin, 1), next(server("a"), 298), next(server("b"), 1)]).unwrap();
            let Some(Event::Ready { pid, released }) = heard.recv().await else { panic!("nobody is ready") };
            assert_eq!(pid, std::process::id());
            drop(waiting);
            released.send(()).unwrap();
        });
        let (predecessor, offered) = take_over(&path).unwrap().unwrap();
        let counts: Vec<_> = offered.iter().map(|offered| (offered.purpose.clone(), offered.sockets.len())).collect();
        assert_eq!(counts, [(Purpose::Admin, 1), (server("a"), 298), (server("b"), 1)]);
        let got: Vec<_> =
            offered.iter().flat_map(|offered| &offered.sockets).map(|s| s.local_addr().unwrap()).collect();
        assert_eq!(got, addresses);
        predecessor.release().unwrap();
        runtime.block_on(answering).unwrap();
        assert!(!path.exists(), "the path is free for the successor");
    }

    #[test]
    fn a_file_that_a_killed_router_left_is_replaced() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("router.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists() && take_over(&path).unwrap().is_none());
        let (events, _heard) = mpsc::channel(1);
        let waiting = runtime.block_on(async { Waiting::start(&path, events) }).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        drop(waiting);
        assert!(!path.exists());
    }
}
