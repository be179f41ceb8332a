//! What the measuring tools share: the request that everybody sends, the sockets, quantiles.

use std::fmt::Display;
use std::net::{SocketAddr, TcpListener};
use std::str::FromStr;

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of the small body, which every path but [`LARGE_PATH`] answers.
pub const SMALL: usize = 100;
/// Bytes of the large body.
pub const LARGE: usize = 64 * 1024;
/// The path that answers the large body.
pub const LARGE_PATH: &str = "/64k";
/// The path that answers the head of the request, to see what a proxy made of it.
pub const ECHO_PATH: &str = "/echo";
/// The host that every proxy routes by name.
pub const HOST: &str = "web.bench";

/// A GET as a small client library sends it, with the same headers that wrk is told to send.
#[must_use]
pub fn get(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: bench/1\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\
         X-Request-Id: 0b9a7e52-61d4-4f7e-9c36-2f8d1c40aa17\r\n\r\n"
    )
    .into_bytes()
}

/// A listener that does not block, with a long queue.
///
/// # Errors
/// Whatever the system says to socket, bind or listen.
pub fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into()).with_context(|| format!("cannot listen on {address}"))?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// What ten thousand names with their idle connections may need, in each of the processes.
const OPEN_FILES: u64 = 500_000;

/// As many open files as the system allows, also for the processes that are started from here: beyond the hard
/// limit where this process may raise it (as root).
///
/// # Errors
/// The system refuses.
pub fn raise_file_limit() -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let more = Some(OPEN_FILES.max(now.maximum.unwrap_or(u64::MAX)));
    if now.maximum.is_none() || setrlimit(Resource::Nofile, Rlimit { current: more, maximum: more }).is_err() {
        let all = Rlimit { current: now.maximum, maximum: now.maximum };
        setrlimit(Resource::Nofile, all).context("cannot raise the limit of open files")?;
    }
    Ok(())
}

/// Three quarters of what was allowed, for the processes that are started from here on: they need fewer than one that
/// serves them all.
///
/// # Errors
/// The system refuses.
pub fn lower_file_limit() -> anyhow::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.current.map(|files| files - files / 4);
    setrlimit(Resource::Nofile, limit).context("cannot lower the limit of open files")
}

/// Argument number `n`, called `name`.
///
/// # Errors
/// It is missing or does not read.
pub fn argument<T: FromStr>(n: usize, name: &str) -> anyhow::Result<T>
where
    T::Err: Display,
{
    let text = std::env::args().nth(n).with_context(|| format!("argument {n} is missing: {name}"))?;
    text.parse().map_err(|error| anyhow::anyhow!("{name}: `{text}`: {error}"))
}

/// The value below which the share `q` of `sorted` lies; 0 of nothing.
#[must_use]
pub fn quantile(sorted: &[u32], q: f64) -> u32 {
    let at = (sorted.len() as f64 * q) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}
