//! After 101, or a 2xx to CONNECT: bytes both ways, until both sides have closed.

use std::io;

use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

/// `to_client` (the answer's head and what followed it) and `to_endpoint` (what the client sent early) go
/// first.
pub(crate) async fn run(
    client: &mut TcpStream,
    endpoint: &mut TcpStream,
    to_client: &[u8],
    to_endpoint: &[u8],
) -> io::Result<()> {
    client.write_all(to_client).await?;
    endpoint.write_all(to_endpoint).await?;
    copy_bidirectional(client, endpoint).await?;
    Ok(())
}
