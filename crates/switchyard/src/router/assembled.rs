//! Everything that runs in a router's process, from its start to its end.
//!
//! ```text
//!            ┌──────────── signals: SIGTERM, SIGINT end · SIGHUP reload · SIGUSR2 upgrade
//!  Assembled ┼── admin server: POST /admin/shutdown, POST /admin/reload
//!            └── handover: a successor wants the sockets, a successor serves
//! ```

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use control::client::Farewell;
use discovery::{Clusters, Surroundings};
use naming::ConfiguredInterpreter;
use proxy::admin::{Phase, Readiness, Reloaded, Reloads, RouterSource, Sources};
use proxy::config::{Config, Problem};
use proxy::settings::SocketOptions;
use proxy::{Inherited, Running, Start, StartError, Stop};
use serde_json::Value;
use telemetry::export::Exporting;
use telemetry::{History, Registry};
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::admin::{self, Serving};
use super::built::{Built, Place};
use super::handover::{self, Event, Offered, Predecessor, Purpose, Waiting};
use super::ingress;
use super::plan::Plan;
use crate::document::Source;
use crate::logs;
use crate::signals::{self, Ending};
use crate::systemd::Systemd;

/// What exporters still have to send at the end is lost after this time.
const LAST_SPANS: Duration = Duration::from_secs(1);
/// A control plane that does not take a goodbye within this time does without.
const GOODBYE: Duration = Duration::from_millis(500);

/// What the command line said.
pub struct Options {
    pub source: Source,
    pub workers: usize,
    pub log: logs::Filter,
    /// Take the place of the router that waits at `handover`.
    pub takeover: bool,
    /// Where a successor finds this router.
    pub handover: Handover,
}

/// See [`Options::handover`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handover {
    /// [`handover::default_path`]; a router that cannot wait there serves all the same.
    Default,
    At(PathBuf),
    Off,
}

impl Handover {
    fn path(&self, admin: SocketAddr) -> Option<PathBuf> {
        match self {
            Handover::Default => handover::default_path(admin),
            Handover::At(path) => Some(path.clone()),
            Handover::Off => None,
        }
    }
}

/// Why there is no router.
pub enum Stopped {
    /// Something in the document that only showed when it was built.
    Refused(Problem),
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Stopped {
    fn from(error: E) -> Stopped {
        Stopped::Failed(error.into())
    }
}

/// See the module's documentation.
pub struct Assembled {
    pub(super) options: Options,
    /// The document that is served.
    pub(super) document: Value,
    pub(super) built: Built,
    pub(super) running: Running,
    pub(super) admin: Serving,
    pub(super) identifier: Option<Serving>,
    pub(super) farewell: Farewell,
    pub(super) grace: Duration,
    pub(super) shared: Shared,
    pub(super) systemd: Systemd,
    exporting: Exporting,
    waiting: Option<Waiting>,
    ears: Ears,
    /// Whether a process that we started is about to take over.
    upgrading: bool,
    /// Whether the registry tells of clusters.
    shows_clusters: bool,
}

/// What stays the same through reloads, and is told by the admin server.
pub(super) struct Shared {
    pub registry: Registry,
    pub history: Arc<Mutex<History>>,
    pub readiness: Readiness,
    pub reloads: Reloads,
    pub surroundings: Surroundings,
    pub shutdown: mpsc::Sender<Option<Duration>>,
    pub started: Instant,
}

/// What can be said to a router.
struct Ears {
    ending: Ending,
    reload: Signal,
    upgrade: Signal,
    asked_to_end: mpsc::Receiver<Option<Duration>>,
    asked_to_reload: mpsc::Receiver<oneshot::Sender<Reloaded>>,
    handover: mpsc::Receiver<Event>,
    successor: mpsc::Receiver<std::process::ExitStatus>,
    successor_ended: mpsc::Sender<std::process::ExitStatus>,
    offers: mpsc::Sender<Event>,
}

/// How it ends.
enum End {
    Asked(Option<Duration>),
    Succeeded { pid: u32, released: oneshot::Sender<()> },
}

impl Assembled {
    /// `activated`: sockets that systemd bound.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start(plan: Plan, options: Options, activated: Vec<TcpListener>) -> Result<Assembled, Stopped> {
        let started = Instant::now();
        let (handover_sender, handover) = mpsc::channel(1);
        let (shutdown, asked_to_end) = mpsc::channel(1);
        let (reloads, asked_to_reload) = Reloads::new();
        let (successor_ended, successor) = mpsc::channel(1);
        let ears = Ears {
            ending: Ending::without_hangup()?,
            reload: signals::listen(SignalKind::hangup())?,
            upgrade: signals::listen(SignalKind::user_defined2())?,
            asked_to_end,
            asked_to_reload,
            handover,
            successor,
            successor_ended,
            offers: handover_sender,
        };
        let path = options.handover.path(plan.config.admin.address);
        let (predecessor, mut offered) = predecessor(&options, path.as_ref()).await?;
        offered.extend(activated.into_iter().map(of_systemd).collect::<std::io::Result<Vec<_>>>()?);
        let admin_address = plan.config.admin.address;
        let listener = take(&mut offered, &Purpose::Admin, admin_address, &plan.config.admin.socket, "admin.port")?;
        let bound = listener.local_addr()?;
        let readiness = Readiness::default();
        let reloader = tls::Reloader::default();
        let secured = plan.config.admin.tls.as_ref().map(|section| {
            let live = tls::server::Live::start(&section.config, &section.at, &reloader);
            live.map_err(|error| Stopped::Refused(bad_section(error.under(&section.at))))
        });
        let secured = secured.transpose()?;
        let admin = Serving::start(
            listener,
            secured.clone(),
            &plan.config.admin.socket,
            proxy::admin::starting(readiness.clone()),
        )?;
        let identifier = match plan.config.admin.identifier {
            Some(address) => {
                let listener = take(
                    &mut offered,
                    &Purpose::Identifier,
                    address,
                    &plan.config.admin.socket,
                    "admin.httpIdentifierPort",
                )?;
                let routes = proxy::admin::identifier(plan.config.settings.routers.clone());
                Some(Serving::start(listener, secured.clone(), &plan.config.admin.socket, routes)?)
            }
            None => None,
        };

        let farewell = Farewell::default();
        let surroundings = Surroundings::new(Clusters::new(crate::runtime::environment()));
        let place =
            Place { admin: admin::url(bound, secured.is_some()), farewell: &farewell, surroundings: &surroundings };
        let built = Built::of(&plan, None, &place).map_err(Stopped::Refused)?;
        ingress::fill(&plan.config.settings, &surroundings).await.map_err(|problems| {
            match problems.into_iter().next() {
                Some(problem) => Stopped::Refused(problem),
                None => Stopped::Failed(anyhow::anyhow!("an identifier cannot be built")),
            }
        })?;
        let registry = Registry::default();
        telemetry::register_process(&registry);
        let history = Arc::new(Mutex::new(History::default()));
        let Config { settings, telemetry, usage, shown, .. } = plan.config;
        let routers = settings.routers.clone();
        let exporting = ::telemetry::export::start(&telemetry.exporters, &registry);
        for report in exporting.reports().all() {
            info!("sending {} to {} ({})", report.signal, report.target, report.kind);
        }
        let start = Start {
            settings,
            interpreters: built.interpreters.iter().map(|interpreter| interpreter.built.clone()).collect(),
            registry: &registry,
            tracer: exporting.tracer(),
            workers: options.workers,
            inherited: offered.into_iter().map(inherited).collect(),
            reloader,
        };
        let running = start.go().map_err(|error| bind_failed(error, &routers))?;
        let shared = Shared { registry, history, readiness, reloads, surroundings, shutdown, started };
        for config in telemetry.statsd.clone() {
            info!("sending to statsd at {}:{} as {}", config.hostname, config.port, config.prefix);
            tokio::spawn(::telemetry::statsd::send_for_ever(shared.registry.clone(), config));
        }
        tokio::spawn(proxy::admin::keep_history(shared.registry.clone(), shared.history.clone()));
        if usage {
            info!("usage: accepted, nothing is sent");
        }
        let mut assembled = Assembled {
            options,
            document: shown.clone(),
            built,
            running,
            admin,
            identifier,
            farewell,
            grace: plan.config.admin.shutdown_grace,
            shared,
            systemd: Systemd::of_this_process(),
            exporting,
            waiting: None,
            ears,
            upgrading: false,
            shows_clusters: false,
        };
        assembled.show_clusters();
        assembled.admin.swap(assembled.routes(plan.config.admin.security, telemetry, shown));
        assembled.begin(bound, predecessor, path).await?;
        Ok(assembled)
    }

    /// How the watches of clusters do, once a document has any.
    pub(super) fn show_clusters(&mut self) {
        let clusters = self.shared.surroundings.clusters();
        if self.shows_clusters || !clusters.are_used() {
            return;
        }
        for (name, read) in discovery::TOTALS {
            let clusters = clusters.clone();
            self.shared.registry.gauge_with(&["kubernetes", name], move || read(&clusters.totals()));
        }
        self.shows_clusters = true;
    }

    /// Says that it serves, to everybody who waits for that.
    async fn begin(
        &mut self,
        admin: SocketAddr,
        predecessor: Option<Predecessor>,
        path: Option<PathBuf>,
    ) -> anyhow::Result<()> {
        self.shared.readiness.set(Phase::Ready);
        if let Some(predecessor) = predecessor {
            let pid = predecessor.pid;
            match tokio::task::spawn_blocking(move || predecessor.release()).await? {
                Ok(()) => info!("took over from process {pid}"),
                // It was about to end anyway, or somebody ended it: we serve.
                Err(error) => warn!("process {pid} did not say that it stopped: {error:#}"),
            }
        }
        if let Some(path) = path {
            match Waiting::start(&path, self.ears.offers.clone()) {
                Ok(waiting) => self.waiting = Some(waiting),
                Err(error) if self.options.handover == Handover::Default => {
                    info!("no new process can take over from this one: {error:#}");
                }
                Err(error) => return Err(error.context("--handover")),
            }
        }
        info!("admin on {admin}");
        if let Some(identifier) = &self.identifier {
            info!("identifying on {}", identifier.address()?);
        }
        for server in self.running.servers() {
            info!("serving {} on {}", server.router, server.address);
        }
        // What scripts wait for.
        info!("initialized");
        self.tell_systemd();
        crate::runtime::release_text_after_start();
        crate::memory::give_back_from_here();
        Ok(())
    }

    pub(super) fn tell_systemd(&self) {
        let servers = self.running.servers().len();
        self.systemd.ready(&format!("Serving on {servers} address{}", if servers == 1 { "" } else { "es" }));
    }

    /// The admin server's routes for what runs now.
    pub(super) fn routes(
        &self,
        security: proxy::admin::Security,
        telemetry: proxy::config::Telemetry,
        shown: Value,
    ) -> axum::Router {
        let source = |interpreter: &super::built::Interpreter| {
            Some(RouterSource {
                label: interpreter.router.clone(),
                interpreter_kind: interpreter.kind.to_owned(),
                dtab: interpreter.dtab.clone(),
                interpreter: interpreter.built.clone(),
                status: self.running.status(&interpreter.router)?,
            })
        };
        proxy::admin::routes(Sources {
            registry: self.shared.registry.clone(),
            prometheus: telemetry.prometheus,
            influxdb: telemetry.influxdb,
            exporters: self.exporting.reports(),
            history: self.shared.history.clone(),
            routers: self.built.interpreters.iter().filter_map(source).collect(),
            namers: self.built.namers.configured().to_vec(),
            bare: Arc::new(ConfiguredInterpreter::new(None, self.built.namers.clone())),
            config: shown,
            levels: Some(Arc::new(self.options.log.clone())),
            shutdown: self.shared.shutdown.clone(),
            readiness: self.shared.readiness.clone(),
            reloads: self.shared.reloads.clone(),
            security,
            tls: self.running.reloader().clone(),
            started: self.shared.started,
            version: format!("switchyard {}", env!("CARGO_PKG_VERSION")),
        })
    }

    /// Until it is told to end, and all is answered or cut.
    pub async fn serve(mut self) -> anyhow::Result<()> {
        let end = self.listen().await;
        self.shared.readiness.set(Phase::Draining);
        let Assembled { running, admin, identifier, farewell, mut ears, systemd, exporting, waiting, grace, .. } = self;
        // Its path is the successor's.
        drop(waiting);
        ears.asked_to_reload.close();
        let (grace, stop) = match end {
            End::Asked(asked) => {
                systemd.stopping();
                (asked.unwrap_or(grace), Stop::Close)
            }
            End::Succeeded { .. } => (grace, Stop::HandedOver),
        };
        let mut draining = Box::pin(running.stop(grace, stop));
        let admin = match end {
            End::Succeeded { pid, released } => {
                // The workers stop accepting with the first step of this future.
                tokio::select! {
                    biased;
                    () = &mut draining => {}
                    () = std::future::ready(()) => {}
                }
                admin.stop().await?;
                if let Some(identifier) = identifier {
                    identifier.stop().await?;
                }
                systemd.handed_over(pid);
                // A successor that does not listen any more serves all the same.
                let _ = released.send(());
                info!("process {pid} took over: finishing what is under way");
                None
            }
            End::Asked(_) => Some(admin),
        };
        tokio::select! {
            () = draining => {}
            signal = ears.ending.wanted() => {
                warn!("{signal} again: not waiting for requests under way");
                return Ok(());
            }
        }
        // Only now: until here requests were routed, and a change that nobody waits for might lose them.
        if !farewell.say(GOODBYE).await {
            warn!("could not say goodbye to every control plane; this router will count as lagging for a while");
        }
        exporting.finish(LAST_SPANS).await;
        match admin {
            Some(admin) => admin.stop().await,
            None => Ok(()),
        }
    }

    async fn listen(&mut self) -> End {
        let mut watchdog = self.systemd.watchdog().map(tokio::time::interval);
        loop {
            let bark = async {
                match &mut watchdog {
                    Some(interval) => interval.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                signal = self.ears.ending.wanted() => {
                    info!("{signal}: draining");
                    return End::Asked(None);
                }
                asked = self.ears.asked_to_end.recv() => {
                    info!("asked to shut down: draining");
                    return End::Asked(asked.flatten());
                }
                _ = self.ears.reload.recv() => drop(self.reload("SIGHUP").await),
                Some(tell) = self.ears.asked_to_reload.recv() => {
                    let reloaded = self.reload("POST /admin/reload").await;
                    // Who asked may have gone; it is in the log, too.
                    let _ = tell.send(reloaded);
                }
                _ = self.ears.upgrade.recv() => self.upgrade(),
                Some(ended) = self.ears.successor.recv() => {
                    self.upgrading = false;
                    warn!("the new process ended before it took over ({ended}): serving on");
                }
                Some(event) = self.ears.handover.recv() => match event {
                    Event::Wanted(tell) => match self.offered() {
                        // A successor that went away is told about by its connection.
                        Ok(offered) => drop(tell.send(offered)),
                        Err(error) => warn!(%error, "cannot offer the sockets"),
                    },
                    Event::Ready { pid, released } => return End::Succeeded { pid, released },
                },
                _ = bark => {
                    if self.running.is_whole() {
                        self.systemd.alive();
                    } else {
                        error!("a worker is gone: systemd is not told that all is well");
                    }
                }
            }
        }
    }

    /// Copies of all sockets.
    fn offered(&self) -> std::io::Result<Vec<Offered>> {
        let one = |serving: &Serving, purpose| {
            Ok::<_, std::io::Error>(Offered {
                purpose,
                address: serving.address()?,
                sockets: vec![serving.hand_over()?],
            })
        };
        let mut offered = vec![one(&self.admin, Purpose::Admin)?];
        if let Some(identifier) = &self.identifier {
            offered.push(one(identifier, Purpose::Identifier)?);
        }
        offered.extend(self.running.hand_over()?.into_iter().map(|server| Offered {
            purpose: Purpose::Server { router: server.router, configured: server.configured },
            address: server.address,
            sockets: server.sockets,
        }));
        Ok(offered)
    }

    /// SIGUSR2: starts the program that is now where this one was started from, and lets it take over.
    fn upgrade(&mut self) {
        if self.upgrading {
            return warn!("a new process is starting already");
        }
        if self.options.source == Source::StandardInput {
            return error!(
                "cannot start a new process: the document came from standard input; start one with --takeover"
            );
        }
        if self.waiting.is_none() {
            return error!("cannot start a new process: this one waits nowhere for it; see --handover");
        }
        let mut arguments: Vec<_> = std::env::args_os().collect();
        if !arguments.iter().any(|argument| argument == "--takeover") {
            arguments.push("--takeover".into());
        }
        let (program, arguments) = arguments.split_at(1);
        match program.first().context("a program has a name").and_then(|program| {
            info!("starting {} to take over", program.to_string_lossy());
            Ok(Command::new(program).args(arguments).stdin(std::process::Stdio::null()).spawn()?)
        }) {
            Ok(mut child) => {
                self.upgrading = true;
                let ended = self.ears.successor_ended.clone();
                tokio::spawn(async move {
                    match child.wait().await {
                        // Nobody listens any more if it took over and ended before us.
                        Ok(status) => drop(ended.send(status).await),
                        Err(error) => error!(%error, "cannot wait for the new process"),
                    }
                });
            }
            Err(error) => error!("cannot start a new process: {error:#}"),
        }
    }
}

/// Takes the sockets of the router that runs, if that is wanted and one runs.
async fn predecessor(options: &Options, path: Option<&PathBuf>) -> anyhow::Result<(Option<Predecessor>, Vec<Offered>)> {
    if !options.takeover {
        return Ok((None, Vec::new()));
    }
    let path = path.context(
        "--takeover: nothing says where the running router waits: give its --handover PATH (there is none for port 0)",
    )?;
    let at = path.clone();
    match tokio::task::spawn_blocking(move || handover::take_over(&at)).await?? {
        Some((predecessor, offered)) => Ok((Some(predecessor), offered)),
        None => {
            info!("no router waits at {}: starting without one to take over from", path.display());
            Ok((None, Vec::new()))
        }
    }
}

fn of_systemd(listener: TcpListener) -> std::io::Result<Offered> {
    let address = listener.local_addr()?;
    // Whatever it is for: it is found by its address.
    let purpose = Purpose::Server { router: String::new(), configured: address };
    Ok(Offered { purpose, address, sockets: vec![listener] })
}

fn inherited(offered: Offered) -> Inherited {
    let Offered { purpose, address, sockets } = offered;
    let place = match purpose {
        Purpose::Server { router, configured } => Some((router, configured)),
        Purpose::Admin | Purpose::Identifier => None,
    };
    Inherited { place, address, sockets }
}

/// The socket for this purpose, inherited if there is one with that address, or new.
fn take(
    offered: &mut Vec<Offered>,
    purpose: &Purpose,
    address: SocketAddr,
    options: &SocketOptions,
    key: &str,
) -> Result<TcpListener, Stopped> {
    let is_it = |offered: &Offered| match address.port() {
        0 => offered.purpose == *purpose,
        _ => offered.address == address,
    };
    let found = offered.iter().position(is_it).and_then(|index| offered.remove(index).sockets.pop());
    match found {
        Some(listener) => Ok(listener),
        None => proxy::listener(address, options).map_err(|error| {
            Stopped::Refused(Problem { path: key.to_owned(), message: format!("cannot listen on {address}: {error}") })
        }),
    }
}

/// A `tls` section, whose key is a whole path already.
fn bad_section(error: tls::Error) -> Problem {
    Problem { path: error.key, message: error.message }
}

/// Names the key of the server whose address cannot be had.
fn bind_failed(error: StartError, routers: &[proxy::settings::Router]) -> Stopped {
    match unbound(&error, routers) {
        Some(problem) => Stopped::Refused(problem),
        None => Stopped::Failed(error.into()),
    }
}

/// The same as a problem of the document; `None` where it is none.
pub(super) fn unbound(error: &StartError, routers: &[proxy::settings::Router]) -> Option<Problem> {
    let (router, address, source) = match error {
        StartError::Listen { router, address, source } => (router, address, source),
        StartError::AccessLog { router, path, source } => {
            let number = routers.iter().position(|other| other.label == *router).unwrap_or_default();
            let message = format!("cannot write {}: {source}", path.display());
            return Some(Problem { path: format!("routers[{number}].httpAccessLog"), message });
        }
        StartError::Tls(error) => return Some(bad_section(error.clone())),
        _ => return None,
    };
    let place = routers.iter().enumerate().find(|(_, other)| other.label == *router).and_then(|(number, router)| {
        let server = router.servers.iter().position(|server| server.address == *address)?;
        Some(format!("routers[{number}].servers[{server}].port"))
    });
    let message = format!("cannot listen on {address}: {source}");
    Some(Problem { path: place.unwrap_or_else(|| "routers".to_owned()), message })
}
