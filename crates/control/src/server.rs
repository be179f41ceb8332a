//! Start and stop of the control plane.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use discovery::{Clusters, ConfigError, Precedence, Surroundings};
use serving::{Counts, Port, SocketOptions};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::{
    Control, Levels, admin, api,
    config::{Config, Kind, OpenError, bad_section},
    listen,
};

/// A running control plane. Dropping it does not stop it; see [`Server::stop`].
pub struct Server {
    control: Control,
    interfaces: Vec<SocketAddr>,
    admin: SocketAddr,
    grace: Duration,
    tasks: TaskTracker,
    shutdown: mpsc::Receiver<Option<Duration>>,
    /// Looks after certificates as long as it is there.
    _reloader: tls::Reloader,
}

/// Why it cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("storage")]
    Store(#[from] store::Error),
    #[error("{key}: cannot listen on {address}")]
    Listen { key: String, address: SocketAddr, source: std::io::Error },
}

impl Server {
    /// Opens the store, binds the sockets, and serves.
    ///
    /// # Errors
    /// What cannot be built, by key; files and addresses by name.
    pub async fn start(config: Config) -> Result<Server, StartError> {
        Server::start_with(config, None).await
    }

    /// The same, with log levels that can be changed.
    ///
    /// # Errors
    /// As `start`.
    pub async fn start_with(config: Config, levels: Option<Arc<dyn Levels>>) -> Result<Server, StartError> {
        let surroundings = Surroundings::new(Clusters::new(config.environment.clone()));
        let namers = discovery::build_namers(&config.namers, Precedence::NoOverlap, &surroundings)
            .map_err(|error| under_list(error, "namers"))?;
        let store = config.storage.open(surroundings.clusters()).await.map_err(|error| match error {
            OpenError::Config(error) => StartError::Config(error),
            OpenError::Store(error) => StartError::Store(error),
        })?;
        let control = Control::over(store, namers, config.offers_follow).await?;
        control.inner.metrics.watch_clusters(surroundings.clusters());
        Server::serve(config, control, levels).await
    }

    async fn serve(config: Config, control: Control, levels: Option<Arc<dyn Levels>>) -> Result<Server, StartError> {
        let (closing, registry) = (control.inner.closing.clone(), &control.inner.metrics.registry);
        let tasks = TaskTracker::new();
        let reloader = tls::Reloader::default();
        let mut listeners = Vec::new();
        for (number, interface) in config.interfaces.iter().enumerate() {
            let key = format!("interfaces[{number}].port");
            let tls = secured(interface.tls.as_ref(), &format!("interfaces[{number}].tls"), &reloader)?;
            listeners.push((bind(key, interface.address, &interface.socket_options)?, interface.clone(), tls));
        }
        let admin_tls = secured(config.admin.tls.as_ref(), "admin.tls", &reloader)?;
        control.inner.metrics.watch_certificates(&reloader);
        let admin_listener = bind("admin.port".to_owned(), config.admin.address(), &config.admin.socket_options)?;
        let mut interfaces = Vec::new();
        for (listener, interface, tls) in listeners {
            let address = local(&listener, interface.address);
            interfaces.push(address);
            let router = match interface.kind {
                Kind::HttpController => api::router(control.clone()),
                Kind::Thrift | Kind::Mesh => {
                    tracing::warn!(
                        "{} on {address} speaks HTTP: routers of this program may use it, a Linkerd is refused",
                        interface.kind.name()
                    );
                    api::resolving_router(control.clone())
                }
            };
            // A TLS port is guarded by its handshake, which knows no other protocol than HTTP/1.1.
            let door = if tls.is_none() { listen::door(interface.kind) } else { None };
            let counts = Counts::under(registry, &["interface", interface.kind.name()]);
            let (options, bounds) = (interface.socket_options, listen::bounds());
            let port = Port { options, bounds, tls, door, counts, ..Port::new(listener) };
            tasks.spawn(port.serve(move || router.clone(), closing.clone(), tasks.clone()));
            tracing::info!("serving {} on {address}", interface.kind.name());
        }
        let (asked, shutdown) = mpsc::channel(1);
        let admin = local(&admin_listener, config.admin.address());
        let grace = config.admin.shutdown_grace();
        let options = config.admin.socket_options.clone();
        let router = admin::router(control.clone(), config, levels, asked)?;
        let (bounds, counts) = (listen::bounds(), Counts::under(registry, &["admin"]));
        let port = Port { options, bounds, tls: admin_tls, counts, ..Port::new(admin_listener) };
        tasks.spawn(port.serve(move || router.clone(), closing.clone(), tasks.clone()));
        tracing::info!("serving admin on {admin}");
        let keep = control.inner.fleet.clone().run(control.inner.store.clone());
        let ends = closing.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = keep => {}
                () = ends.cancelled() => {}
            }
        });
        Ok(Server { control, interfaces, admin, grace, tasks, shutdown, _reloader: reloader })
    }

    /// Where the interfaces listen, in the order of the document (port 0 is resolved).
    pub fn interfaces(&self) -> &[SocketAddr] {
        &self.interfaces
    }

    /// Where the admin server listens.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Waits until somebody asks the admin server for a shutdown; with the grace that was asked for.
    pub async fn shutdown_asked(&mut self) -> Option<Duration> {
        match self.shutdown.recv().await {
            Some(grace) => grace,
            None => std::future::pending().await,
        }
    }

    /// Stops: no new connections; streams end, answers under way get `grace` (by default
    /// `admin.shutdownGraceMs`) to be finished. False if some were not.
    pub async fn stop(self, grace: Option<Duration>) -> bool {
        self.control.inner.closing.cancel();
        self.tasks.close();
        tokio::time::timeout(grace.unwrap_or(self.grace), self.tasks.wait()).await.is_ok()
    }
}

fn bind(key: String, address: SocketAddr, options: &SocketOptions) -> Result<tokio::net::TcpListener, StartError> {
    serving::bind(address, options).map_err(|source| StartError::Listen { key, address, source })
}

/// Reads a section's files, if there is one.
fn secured(
    config: Option<&tls::server::Config>,
    at: &str,
    reloader: &tls::Reloader,
) -> Result<Option<tls::server::Live>, ConfigError> {
    let live = config.map(|config| tls::server::Live::start(config, at, reloader)).transpose();
    live.map_err(|error| bad_section(error.under(at)))
}

fn local(listener: &tokio::net::TcpListener, wanted: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(wanted)
}

/// `[0].rootDir` of a list makes `namers[0].rootDir`.
fn under_list(error: ConfigError, list: &str) -> ConfigError {
    ConfigError { path: format!("{list}{}", error.path), ..error }
}
