//! The task that sends. UDP: what is lost is lost, and nobody waits.

use std::io;

use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Config, Encoder};
use crate::registry::Registry;

/// Sends every interval, for ever. Spawn it on the control runtime. A host that has no address, or no server
/// that listens, is told once in the log, and tried again.
pub async fn send_for_ever(registry: Registry, config: Config) {
    let mut encoder = Encoder::new(&config.prefix, config.sample_rate);
    let mut ticks = interval_at(Instant::now() + config.interval, config.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut target = None;
    let mut works = true;
    loop {
        ticks.tick().await;
        let sent = send(&registry, &config, &mut encoder, &mut target).await;
        let to = format_args!("{}:{}", config.hostname, config.port);
        match sent {
            Ok(()) if works => {}
            Ok(()) => tracing::info!(%to, "sending to statsd again"),
            Err(ref error) if works => tracing::warn!(%to, %error, "cannot send to statsd; trying again"),
            Err(ref error) => tracing::debug!(%to, %error, "cannot send to statsd"),
        }
        works = sent.is_ok();
    }
}

async fn send(
    registry: &Registry,
    config: &Config,
    encoder: &mut Encoder,
    target: &mut Option<UdpSocket>,
) -> io::Result<()> {
    // Without a target nothing is encoded, so that counters are sent whole later. After an error the name is
    // looked up again: it may have moved.
    let socket = match target.take() {
        Some(socket) => socket,
        None => connect(&config.hostname, config.port).await?,
    };
    for datagram in encoder.encode(registry, &mut fastrand::f64) {
        socket.send(datagram.as_bytes()).await?;
    }
    *target = Some(socket);
    Ok(())
}

async fn connect(hostname: &str, port: u16) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((hostname, port)).await? {
        let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let connected = async {
            let socket = UdpSocket::bind(local).await?;
            socket.connect(address).await?;
            io::Result::Ok(socket)
        };
        match connected.await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}
