//! `switchyard router CONFIG|-`: the data plane, also as `linkerd`.
//!
//! ```text
//!  document ──▶ Plan ──▶ namers, interpreters   on the control runtime
//!                   │             │ Arc<dyn Interpreter>
//!                   │             ▼
//!                   ├──▶ workers               a thread each
//!                   └──▶ admin server           on the control runtime, first to listen, last to end
//! ```

mod admin;
mod ingress;
mod plan;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use control::client::{Farewell, Identity};
use discovery::{Clusters, ConfigError, Precedence, Surroundings};
use naming::ConfiguredInterpreter;
use proxy::admin::{RouterSource, Sources};
use proxy::config::{Config, Problem};
use proxy::{Running, StartError};
use telemetry::{History, Registry};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::document::{self, Located, Source};
use crate::exit::Exit;
use crate::signals::Ending;
use crate::{logs, runtime};
use plan::Plan;

/// A control plane that does not take a goodbye within this time does without.
const GOODBYE: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub struct Arguments {
    /// A linkerd config file; `-` is standard input.
    #[arg(value_name = "CONFIG|-")]
    config: String,
    /// Threads of the data plane [default: the cores that this process may use].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Read the document, say everything that is wrong with it, and end.
    #[arg(long)]
    validate: bool,
}

pub fn run(arguments: Arguments, log: logs::Filter) -> anyhow::Result<Exit> {
    let source = Source::from(arguments.config.as_str());
    let located = Located::read(&source)?;
    let refuse = |problems: Vec<Problem>| {
        let problems = problems.into_iter().map(|Problem { path, message }| document::Problem { path, message });
        located.refuse(&source, problems)
    };
    let plan = Plan::read(&located.value).map_err(refuse)?;
    if arguments.validate {
        return Ok(Exit::Ok);
    }
    let control = match plan.config.admin.worker_threads {
        Some(threads) => runtime::control_on(threads)?,
        None => runtime::control()?,
    };
    let workers = arguments.workers.map_or_else(runtime::cores, usize::from);
    let served = control.block_on(async {
        let router = Assembled::start(plan, workers, log).await?;
        router.serve().await.map_err(Stopped::Failed)
    });
    // Watches of files and streams have no end of their own.
    control.shutdown_background();
    match served {
        Ok(()) => Ok(Exit::Ok),
        Err(Stopped::Refused(problem)) => Err(refuse(vec![problem])),
        Err(Stopped::Failed(error)) => Err(error),
    }
}

/// Why there is no router.
enum Stopped {
    /// Something in the document that only showed when it was built.
    Refused(Problem),
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Stopped {
    fn from(error: anyhow::Error) -> Stopped {
        Stopped::Failed(error)
    }
}

/// Everything that runs.
struct Assembled {
    admin: admin::Serving,
    running: Running,
    farewell: Farewell,
    ending: Ending,
    shutdown: mpsc::Receiver<Option<Duration>>,
    grace: Duration,
}

impl Assembled {
    /// # Panics
    /// Outside a tokio runtime.
    async fn start(plan: Plan, workers: usize, log: logs::Filter) -> Result<Assembled, Stopped> {
        let ending = Ending::new()?;
        let Plan { config, namers, interpreters } = plan;
        let Config { settings, admin, telemetry, usage, shown } = config;
        let surroundings = Surroundings::new(Clusters::new(crate::runtime::environment()));
        let namers =
            discovery::build_namers(&namers, Precedence::LastWins, &surroundings).map_err(refused("namers"))?;
        let listener = listen(admin.address, "admin.port").await?;
        let admin_address = listener.local_addr().map_err(anyhow::Error::from)?;
        let identifier = match admin.identifier {
            Some(address) => Some(listen(address, "admin.httpIdentifierPort").await?),
            None => None,
        };

        ingress::fill(&settings, &surroundings).await.map_err(|problems| match problems.into_iter().next() {
            Some(problem) => Stopped::Refused(problem),
            None => Stopped::Failed(anyhow::anyhow!("an identifier cannot be built")),
        })?;
        let (mut built, farewell) = (Vec::new(), Farewell::default());
        for (number, (interpreter, router)) in interpreters.iter().zip(&settings.routers).enumerate() {
            let at = format!("routers[{number}].interpreter");
            let identity = Identity::of_this_process(&router.label, Some(admin::url(admin_address)), &farewell);
            built.push(interpreter.build(&namers, identity, &surroundings).map_err(refused(&at))?);
        }
        let registry = Registry::default();
        telemetry::register_process(&registry);
        for (name, read) in discovery::TOTALS {
            let clusters = surroundings.clusters().clone();
            registry.gauge_with(&["kubernetes", name], move || read(&clusters.totals()));
        }
        let history = Arc::new(Mutex::new(History::default()));
        let routers = settings.routers.clone();
        let running = proxy::start(settings, built.clone(), &registry, workers);
        let running = running.map_err(|error| bind_failed(error, &routers))?;

        let (ask, shutdown) = mpsc::channel(1);
        let sources = Sources {
            registry: registry.clone(),
            prometheus: telemetry.prometheus,
            influxdb: telemetry.influxdb,
            history: history.clone(),
            routers: routers
                .iter()
                .zip(interpreters.iter().zip(built))
                .filter_map(|(router, (interpreter, built))| {
                    Some(RouterSource {
                        label: router.label.clone(),
                        interpreter_kind: interpreter.kind().to_owned(),
                        interpreter: built,
                        status: running.status(&router.label)?,
                    })
                })
                .collect(),
            namers: namers.configured().to_vec(),
            bare: Arc::new(ConfiguredInterpreter::new(None, namers.clone())),
            config: shown,
            levels: Some(Arc::new(log)),
            shutdown: ask,
            security: admin.security,
            version: format!("switchyard {}", env!("CARGO_PKG_VERSION")),
        };
        for config in telemetry.statsd {
            info!("sending to statsd at {}:{} as {}", config.hostname, config.port, config.prefix);
            tokio::spawn(telemetry::statsd::send_for_ever(registry.clone(), config));
        }
        tokio::spawn(proxy::admin::keep_history(registry, history));
        let serving = admin::Serving::start(listener, proxy::admin::routes(sources));
        info!("admin on {admin_address}");
        if let Some(listener) = identifier {
            info!("identifying on {}", listener.local_addr().map_err(anyhow::Error::from)?);
            tokio::spawn(axum::serve(listener, proxy::admin::identifier(routers)).into_future());
        }
        if usage {
            info!("usage: accepted, nothing is sent");
        }
        for server in running.servers() {
            info!("serving {} on {}", server.router, server.address);
        }
        Ok(Assembled { admin: serving, running, farewell, ending, shutdown, grace: admin.shutdown_grace })
    }

    /// Until it is told to end, and all is answered or cut.
    async fn serve(mut self) -> anyhow::Result<()> {
        let asked = tokio::select! {
            signal = self.ending.wanted() => {
                info!("{signal}: draining");
                None
            }
            asked = self.shutdown.recv() => {
                info!("asked to shut down: draining");
                asked.flatten()
            }
        };
        tokio::select! {
            () = self.running.drain(asked.unwrap_or(self.grace)) => {}
            signal = self.ending.wanted() => warn!("{signal} again: not waiting for requests under way"),
        }
        // Only now: until here requests were routed, and a change that nobody waits for might lose them.
        if !self.farewell.say(GOODBYE).await {
            warn!("could not say goodbye to every control plane; this router will count as lagging for a while");
        }
        self.admin.stop().await
    }
}

async fn listen(address: std::net::SocketAddr, key: &str) -> Result<TcpListener, Stopped> {
    TcpListener::bind(address).await.map_err(|error| {
        Stopped::Refused(Problem { path: key.to_owned(), message: format!("cannot listen on {address}: {error}") })
    })
}

/// A part that could not be built, as a problem of the document.
fn refused(path: &str) -> impl Fn(ConfigError) -> Stopped {
    move |error| Stopped::Refused(plan::problem(&error, path))
}

/// Names the key of the server whose address cannot be had.
fn bind_failed(error: StartError, routers: &[proxy::settings::Router]) -> Stopped {
    let StartError::Listen { router, address, source } = &error else {
        return Stopped::Failed(error.into());
    };
    let place = routers.iter().enumerate().find(|(_, other)| other.label == *router).and_then(|(number, router)| {
        let server = router.servers.iter().position(|server| server.address == *address)?;
        Some(format!("routers[{number}].servers[{server}].port"))
    });
    let message = format!("cannot listen on {address}: {source}");
    Stopped::Refused(Problem { path: place.unwrap_or_else(|| "routers".to_owned()), message })
}
