//! What the kernel knows about a TCP connection.

use std::os::fd::AsRawFd;

/// Bytes that the peer's kernel acknowledged since the connection was opened (`tcpi_bytes_acked`; the
/// connection's own SYN is not a byte). `None` where the kernel does not say.
pub(crate) fn acknowledged(stream: &impl AsRawFd) -> Option<u64> {
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
    let info = unsafe { info.assume_init() };
    // The SYN counts as one there.
    Some(info.bytes_acked.saturating_sub(1))
}

/// Whether bytes, an end or an error wait to be read: asks the kernel, not the event loop.
pub(crate) fn has_news(stream: &impl std::os::fd::AsFd) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    let peeked = socket2::SockRef::from(stream).peek(&mut byte);
    !matches!(peeked, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// The beginning of the kernel's `struct tcp_info`, which only ever grows at its end.
#[repr(C)]
struct Info {
    states: [u8; 8],
    counts: [u32; 24],
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

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
