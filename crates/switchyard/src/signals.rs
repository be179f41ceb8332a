//! The signals that end a server.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT, SIGTERM, and SIGHUP: a terminal that closes.
pub struct Ending {
    signals: [(Signal, &'static str); 3],
}

impl Ending {
    /// From here on the signals end nothing by themselves.
    pub fn new() -> anyhow::Result<Ending> {
        let of = |kind, name| Ok::<_, anyhow::Error>((signal(kind).context("cannot handle signals")?, name));
        Ok(Ending {
            signals: [
                of(SignalKind::interrupt(), "SIGINT")?,
                of(SignalKind::terminate(), "SIGTERM")?,
                of(SignalKind::hangup(), "SIGHUP")?,
            ],
        })
    }

    /// Waits for one of them and gives its name.
    pub async fn wanted(&mut self) -> &'static str {
        let [(interrupt, a), (terminate, b), (hangup, c)] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => a,
            _ = terminate.recv() => b,
            _ = hangup.recv() => c,
        }
    }
}
