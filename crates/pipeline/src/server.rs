//! Start and stop of the pipeline server.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::response::IntoResponse;
use nix::fcntl::{Flock, FlockArg};
use serving::{Bounds, Port, Whole};
use supervise::{Leave, Supervisor};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::Cluster;
use crate::config::Reach;
use crate::control::Control;
use crate::deploys::{Deploys, Parts};
use crate::file::TargetConfig;
use crate::journal::{Journal, JournalError};
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::{Config, ConfigError, http, read};

/// Of a request's body.
const LONGEST_BODY: usize = 256 * 1024;

/// Pages keep a connection each for their stream of events.
fn bounds() -> Bounds {
    let bounds = Bounds::default();
    let body = Whole { bytes: LONGEST_BODY, ..bounds.body };
    Bounds { head_within: Duration::from_secs(60), body, ..bounds }
}

/// Answers under way, event streams above all, get this long at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// A running server. Dropping it does not stop it; see [`Server::stop`].
pub struct Server {
    address: SocketAddr,
    deploys: Deploys,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    runners: CancellationToken,
    _lock: Flock<File>,
    /// Looks after certificates as long as it is there.
    _reloader: tls::Reloader,
}

/// What the process around a server has.
pub struct Surroundings {
    /// This binary, for `{switchyard}` in a target's argv.
    pub switchyard: PathBuf,
    /// Reached as the environment says.
    pub clusters: kubernetes::Clusters,
}

/// Why it cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("cannot listen on {address} for the pipeline server")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Supervise(#[from] supervise::Error),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("{}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: another pipeline server uses this state directory", directory.display())]
    Locked { directory: PathBuf },
}

impl Server {
    /// Reads the pipeline files, opens the journal, adopts the processes, takes up the deploys that
    /// were in flight, and serves.
    pub async fn start(config: Config, surroundings: Surroundings) -> Result<Server, StartError> {
        let Surroundings { switchyard, clusters } = surroundings;
        let files = read::read_all(&config)?;
        config.socket_options.check().map_err(|bad| wrong(&format!("socketOptions.{}", bad.key), bad.message))?;
        let reloader = tls::Reloader::default();
        let secured = config.tls.as_ref().map(|section| {
            let live = tls::server::Live::start(section, "tls", &reloader);
            live.map_err(|error| error.under("tls")).map_err(|error| wrong(&error.key, error.message))
        });
        let secured = secured.transpose()?;
        let control = Control::new(&config.control_plane, config.control_plane_tls.as_ref(), &reloader);
        let control = control.map_err(|error| wrong(&error.key, error.message))?;
        if !config.frontend.starts_with("http://") {
            return Err(wrong("frontend", "must be a URL such as http://127.0.0.1:4142".to_owned()).into());
        }
        if config.ports.is_some_and(|ports| ports.from == 0 || ports.from > ports.to) {
            return Err(wrong("ports", "must be a range such as {from: 7721, to: 7899}".to_owned()).into());
        }
        let directories = [Some(&config.state), config.logs.as_ref(), config.registrations.as_ref()];
        for directory in directories.into_iter().flatten() {
            std::fs::create_dir_all(directory)
                .map_err(|source| StartError::File { path: directory.clone(), source })?;
        }
        let lock = lock(&config.state)?;
        let identity = identity(&config.state)?;
        let (journal, stories) = Journal::open(&config.state.join("journal"))?;
        let wants_cluster = |file: &crate::file::File| matches!(file.target, TargetConfig::Kubernetes(_));
        let is_wanted = config.kubernetes != Reach::default()
            || files.iter().any(wants_cluster)
            || stories.iter().any(|story| !story.is_final() && wants_cluster(&story.head.file));
        let cluster = match is_wanted {
            true => {
                let connected = clusters.get(&config.kubernetes.connection());
                let connected =
                    connected.map_err(|error| wrong(&format!("kubernetes.{}", error.key), error.message))?;
                Some(Cluster::new(connected))
            }
            false => None,
        };
        let address = SocketAddr::from((config.ip, config.port));
        let listen = |source| StartError::Listen { address, source };
        let listener = serving::bind(address, &config.socket_options).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let supervisor = match &config.processes {
            Some(directory) => Some(Supervisor::open(directory).await?),
            None => None,
        };
        let options = config.socket_options.clone();
        let parts = Parts { address, config, switchyard, identity, files, control, journal, supervisor, cluster };
        let deploys = Deploys::new(parts);
        deploys.resume(stories)?;
        let stop = CancellationToken::new();
        let metrics = Metrics::new();
        metrics.watch_deploys(&deploys);
        metrics.watch_certificates(&reloader);
        let (counts, routes) = (metrics.port(), http::routes(deploys.clone(), metrics));
        let refusal = |status, text| Problem::new(status, text).into_response();
        let port = Port { options, bounds: bounds(), tls: secured, counts, refusal, ..Port::new(listener) };
        let stopped = stop.clone();
        let serving = tokio::spawn(async move {
            let connections = TaskTracker::new();
            port.serve(move || routes.clone(), stopped, connections.clone()).await;
            connections.close();
            connections.wait().await;
        });
        let runners = deploys.stopping();
        Ok(Server { address, deploys, stop, serving, runners, _lock: lock, _reloader: reloader })
    }

    /// Whether it speaks TLS.
    pub fn is_secured(&self) -> bool {
        self.deploys.config().tls.is_some()
    }

    /// Where it listens (port 0 is resolved).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops serving. Deploys in flight stay in the journal and processes run on, unless the
    /// config's `processesDieWithMe` says otherwise: then they are stopped first.
    pub async fn stop(mut self) {
        self.runners.cancel();
        self.deploys.runners().close();
        self.deploys.runners().wait().await;
        self.stop.cancel();
        if tokio::time::timeout(LAST_ANSWERS, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
        let leave = if self.deploys.config().processes_die_with_me { Leave::Stopped } else { Leave::Running };
        if let Ok(supervisor) = self.deploys.supervisor() {
            supervisor.close(leave).await;
        }
    }
}

fn wrong(path: &str, message: String) -> ConfigError {
    ConfigError { file: "pipeline server".to_owned(), path: path.to_owned(), message }
}

fn lock(state: &Path) -> Result<Flock<File>, StartError> {
    let path = state.join(".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|source| StartError::File { path, source })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| StartError::Locked { directory: state.to_owned() })
}

/// A name of its own for this server's state, so that its leases are told from another server's.
fn identity(state: &Path) -> Result<String, StartError> {
    let path = state.join("identity");
    let failed = |source| StartError::File { path: path.clone(), source };
    let mut text = String::new();
    match File::open(&path) {
        Ok(mut file) => drop(file.read_to_string(&mut text).map_err(failed)?),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        Err(_) => {}
    }
    if text.trim().is_empty() {
        text = format!("{:08x}", fastrand::u32(..));
        let temporary = state.join("identity.new");
        std::fs::write(&temporary, &text).and_then(|()| std::fs::rename(&temporary, &path)).map_err(failed)?;
    }
    Ok(text.trim().to_owned())
}
