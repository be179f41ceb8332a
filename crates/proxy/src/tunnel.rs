//! After 101, or a 2xx to CONNECT: bytes both ways, until both sides have closed, or one is gone for good.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt, copy_bidirectional};

use crate::stream::Stream;
use crate::tcp::{self, Closed};

/// How often it is looked for a side that is gone: nothing is read from it while the other takes nothing.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A tunnel of which one side sends no more may stand still for so long.
const HALF_CLOSED: Duration = Duration::from_secs(60);

/// `to_client` (the answer's head and what followed it) and `to_endpoint` (what the client sent early) go
/// first.
pub(crate) async fn run(
    client: &mut Stream,
    endpoint: &mut Stream,
    to_client: &[u8],
    to_endpoint: &[u8],
) -> io::Result<()> {
    let sides = [client.as_raw_fd(), endpoint.as_raw_fd()];
    let carried = async {
        client.write_all(to_client).await?;
        endpoint.write_all(to_endpoint).await?;
        copy_bidirectional(client, endpoint).await?;
        Ok(())
    };
    tokio::select! {
        carried = carried => carried,
        () = abandoned(sides) => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// Ends when a side is gone for good, or sends no more and nothing moves. The sockets are open all the while,
/// because whoever waits for this holds them.
async fn abandoned(sides: [RawFd; 2]) {
    let mut moved = (0, Instant::now());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let closed = sides.map(|side| tcp::closed(&side));
        if closed.contains(&Some(Closed::Entirely)) {
            return;
        }
        let now = sides.map(|side| tcp::received(&side).unwrap_or(0)).iter().sum::<u64>();
        if now != moved.0 || !closed.contains(&Some(Closed::Sending)) {
            moved = (now, Instant::now());
        } else if moved.1.elapsed() >= HALF_CLOSED {
            return;
        }
    }
}
