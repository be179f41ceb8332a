//! Start and stop of the pipeline server.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::Config;

/// A running server. Dropping it does not stop it; see [`Server::stop`].
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
}

/// Why it cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] crate::ConfigError),
    #[error("cannot listen on {address} for the pipeline server")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Supervise(#[from] supervise::Error),
}

impl Server {
    /// Reads the pipeline files, opens the journal, adopts the processes, takes up the deploys that
    /// were in flight, and serves. `switchyard` is this binary, for `{switchyard}` in a target's argv.
    pub async fn start(config: Config, switchyard: PathBuf) -> Result<Server, StartError> {
        let _ = (config, switchyard);
        unimplemented!("first published as a signature")
    }

    /// Where it listens (port 0 is resolved).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops serving. Deploys in flight stay in the journal and processes run on, unless the
    /// config's `processesDieWithMe` says otherwise: then they are stopped first.
    pub async fn stop(self) {
        unimplemented!("first published as a signature")
    }
}
