//! What the kernel knows about a TCP connection.

use std::os::fd::AsRawFd;

/// Bytes that the peer's kernel acknowledged since the connection was opened (`tcpi_bytes_acked`; the
/// connection's own SYN is not a byte). `None` where the kernel does not say.
pub(crate) fn acknowledged(stream: &impl AsRawFd) -> Option<u64> {
    // The SYN counts as one there.
    Some(info(stream)?.bytes_acked.saturating_sub(1))
}

/// Bytes that have come, read or not (`tcpi_bytes_received`).
pub(crate) fn received(stream: &impl AsRawFd) -> Option<u64> {
    Some(info(stream)?.bytes_received)
}

fn info(stream: &impl AsRawFd) -> Option<Info> {
    let mut info = std::mem::MaybeUninit::<Info>::zeroed();
    let mut length = std::mem::size_of::<Info>() as libc::socklen_t;
    // SAFETY: `info` is valid for writes of `length` bytes, and the kernel writes at most that many.
    let answer = unsafe {
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut length)
    };
    if answer != 0 || (length as usize) < std::mem::size_of::<Info>() {
        return None;
    }
    // SAFETY: every bit pattern is a valid `Info`, and all of it was zeroed before.
    Some(unsafe { info.assume_init() })
}

/// Whether bytes, an end or an error wait to be read: asks the kernel, not the event loop.
pub(crate) fn has_news(stream: &impl std::os::fd::AsFd) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    let peeked = socket2::SockRef::from(stream).peek(&mut byte);
    !matches!(peeked, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Whether an error is about what this process or machine has run out of, and not about the other side. (No
/// free port is about the pair of both: another endpoint is worth a try.)
pub(crate) fn is_exhausted(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Whether the peer of a connection that nobody reads from has closed its sending side, or all of it; `None`:
/// neither.
pub(crate) fn closed(stream: &impl AsRawFd) -> Option<Closed> {
    /// `TCP_CLOSE` and `TCP_CLOSE_WAIT` of the kernel's `tcp_states.h`.
    const CLOSE: u8 = 7;
    const CLOSE_WAIT: u8 = 8;
    match info(stream)?.states[0] {
        CLOSE => Some(Closed::Entirely),
        CLOSE_WAIT => Some(Closed::Sending),
        _ => None,
    }
}

/// What a peer has closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    Sending,
    Entirely,
}

/// The beginning of the kernel's `struct tcp_info`, which only ever grows at its end.
#[repr(C)]
struct Info {
    states: [u8; 8],
    counts: [u32; 24],
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
    bytes_received: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_close_shows_although_nobody_reads() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let open = || {
            let far = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("open");
            (listener.accept().expect("open").0, far)
        };
        let limit = std::time::Duration::from_secs(5);
        let becomes = |near: &std::net::TcpStream, wanted| {
            testkit::until::until("the state", limit, || match closed(near) {
                state if state == wanted => Ok(()),
                other => Err(other),
            });
        };
        let (near, mut far) = open();
        far.write_all(b"unread").expect("written");
        assert_eq!(closed(&near), None);
        far.shutdown(std::net::Shutdown::Write).expect("shut");
        becomes(&near, Some(Closed::Sending));
        let (near, mut far) = open();
        far.write_all(b"unread").expect("written");
        socket2::SockRef::from(&far).set_linger(Some(std::time::Duration::ZERO)).expect("an option");
        drop(far);
        becomes(&near, Some(Closed::Entirely));
    }

    #[test]
    fn bytes_count_once_the_peer_has_them() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut near = std::net::TcpStream::connect(listener.local_addr().expect("bound")).expect("open");
        let (mut far, _) = listener.accept().expect("open");
        assert_eq!(acknowledged(&near), Some(0));
        near.write_all(b"hello").expect("written");
        far.read_exact(&mut [0; 5]).expect("read");
        // The answer carries the acknowledgement.
        far.write_all(b"x").expect("written");
        near.read_exact(&mut [0]).expect("read");
        assert_eq!(acknowledged(&near), Some(5));
    }
}
