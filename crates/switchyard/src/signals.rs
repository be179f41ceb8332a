//! The signals that end a server, and those that interrupt a command that waits.

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

/// SIGINT and SIGTERM for a command that has something to say before it ends.
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    Interrupt,
    Terminate,
}

impl Interrupts {
    /// From here on they end nothing by themselves.
    pub fn new() -> anyhow::Result<Interrupts> {
        Ok(Interrupts { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    pub async fn next(&mut self) -> Interrupt {
        tokio::select! {
            _ = self.interrupt.recv() => Interrupt::Interrupt,
            _ = self.terminate.recv() => Interrupt::Terminate,
        }
    }
}

impl Interrupt {
    pub fn name(self) -> &'static str {
        match self {
            Interrupt::Interrupt => "SIGINT",
            Interrupt::Terminate => "SIGTERM",
        }
    }

    /// Ends this process as the signal would have: whoever started it sees which one it was.
    pub fn end_by_it(self) -> ! {
        let number = match self {
            Interrupt::Interrupt => libc::SIGINT,
            Interrupt::Terminate => libc::SIGTERM,
        };
        // SAFETY: the default action has no handler to race with; raise has no preconditions.
        unsafe {
            libc::signal(number, libc::SIG_DFL);
            libc::raise(number);
        }
        // Where the signal is blocked.
        std::process::exit(128 + number)
    }
}

/// From here on the signal does nothing by itself.
pub fn listen(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("cannot handle signals")
}
