//! The signals that end a server.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT, SIGTERM and, where it means nothing else, SIGHUP: a terminal that closes.
pub struct Ending {
    signals: [(Signal, &'static str); 2],
    hangup: Option<Signal>,
}

impl Ending {
    /// From here on the signals end nothing by themselves.
    pub fn new() -> anyhow::Result<Ending> {
        let hangup = Some(listen(SignalKind::hangup())?);
        Ok(Ending { hangup, ..Ending::without_hangup()? })
    }

    /// For a server to which SIGHUP means that it shall read its document again.
    pub fn without_hangup() -> anyhow::Result<Ending> {
        let signals = [(listen(SignalKind::interrupt())?, "SIGINT"), (listen(SignalKind::terminate())?, "SIGTERM")];
        Ok(Ending { signals, hangup: None })
    }

    /// Waits for one of them and gives its name.
    pub async fn wanted(&mut self) -> &'static str {
        let [(interrupt, a), (terminate, b)] = &mut self.signals;
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => a,
            _ = terminate.recv() => b,
            _ = hangup => "SIGHUP",
        }
    }
}

/// From here on the signal does nothing by itself.
pub fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("cannot handle signals")
}
