//! `switchyard demo`: the tutorial on one machine. Real processes, real sockets, a real git
//! repository and a store on disk, all below one directory.
//!
//! ```text
//! DIR/ demo.json   what runs where, kept true       namerd.yaml linkerd.yaml pipeline.yaml
//!      disco/      files of the io.l5d.fs namer     repo/       the repository to deploy from
//!      dtabs.db    the store                        processes/  what the demo supervises
//!      pipeline/   journal, processes of world      log/ bin/   logs; our names in the tutorial
//! ```
//!
//! The demo supervises control plane, router, pipeline and hello; the pipeline supervises world.
//! Killed, it leaves everything running; started again on the same directory, it adopts it.

mod files;
mod overview;
mod specs;
mod state;
mod topology;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use supervise::{Leave, Supervisor};

use crate::dtab::seed;
use crate::exit::Exit;
use crate::signals::Ending;
use crate::web;
use topology::Topology;

#[derive(Args, Debug)]
pub struct Arguments {
    /// Add N to every port.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=55_000))]
    port_offset: Option<u16>,
    /// Keep all state there, and go on with what is there (default: a temporary directory, removed
    /// at the end).
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// How long one part may take to get ready.
const READY: Duration = Duration::from_secs(60);
/// How often `demo.json` is compared with what runs.
const LOOK: Duration = Duration::from_millis(100);

pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let place = Place::new(arguments.dir.as_deref())?;
    let topology = Topology::new(&place.path, arguments.port_offset)?;
    let temporary = place.temporary.is_some();
    let result = web::block_on(demo(&topology, temporary));
    if let Some(directory) = place.temporary {
        directory.close().context("cannot remove the temporary directory")?;
    }
    result.map(|()| Exit::Ok)
}

/// The directory, and whether it is ours to remove.
struct Place {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Place {
    fn new(wanted: Option<&Path>) -> anyhow::Result<Place> {
        match wanted {
            Some(path) => {
                let make = || -> std::io::Result<PathBuf> {
                    std::fs::create_dir_all(path)?;
                    path.canonicalize()
                };
                Ok(Place { path: make().with_context(|| format!("--dir {}", path.display()))?, temporary: None })
            }
            None => {
                let directory = tempfile::Builder::new().prefix("switchyard-demo-").tempdir()?;
                Ok(Place { path: directory.path().canonicalize()?, temporary: Some(directory) })
            }
        }
    }
}

async fn demo(topology: &Topology, temporary: bool) -> anyhow::Result<()> {
    let mut ending = Ending::new()?;
    topology.check_ports()?;
    let supervisor = match Supervisor::open(&topology.processes()).await {
        Ok(supervisor) => supervisor,
        Err(error @ supervise::Error::Locked { .. }) => {
            return Err(error).with_context(|| format!("another demo runs in {}", topology.directory.display()));
        }
        Err(error) => return Err(error.into()),
    };
    topology.keep_offset()?;
    say(&format!("Switchyard demo in {}", topology.directory.display()));
    let started = tokio::select! {
        started = start(topology, &supervisor, temporary) => started,
        _ = ending.wanted() => Ok(Next::End),
    };
    let lived = match started {
        Ok(Next::Live) => live(topology, &supervisor, &mut ending).await,
        Ok(Next::End) => Ok(()),
        Err(error) => Err(error),
    };
    say("ending everything");
    let ended = end(topology, supervisor).await;
    lived.and(ended)
}

/// Starts each part and waits until it is ready, in the order of their needs.
async fn start(topology: &Topology, supervisor: &Supervisor, temporary: bool) -> anyhow::Result<Next> {
    let executable = std::env::current_exe().context("cannot tell where this program is")?;
    files::write(topology, &executable)?;
    let specs = specs::Specs { topology, executable: &executable, die_with_us: temporary };
    specs.seed_world()?;

    let begin = Begin { topology, supervisor };
    begin.part("control plane", specs.namerd()).await?;
    let seeded = seed(&topology.namerd(), &topology::NAMESPACES).await.context("cannot create the namespaces")?;
    for namespace in seeded {
        say(&format!("  created the namespace {namespace}"));
    }
    begin.part("router", specs.router()).await?;
    begin.part("pipeline, with world-v1", specs.pipeline()).await?;
    for number in 1..=topology::INSTANCES {
        begin.part("hello", specs.hello(number)).await?;
    }
    begin.first_request().await?;
    Ok(Next::Live)
}

/// What comes after the start.
enum Next {
    Live,
    /// It was interrupted.
    End,
}

struct Begin<'a> {
    topology: &'a Topology,
    supervisor: &'a Supervisor,
}

impl Begin<'_> {
    async fn part(&self, what: &str, spec: supervise::Spec) -> anyhow::Result<()> {
        let name = spec.name.clone();
        let log = spec.log.clone();
        let port = spec.port.unwrap_or(0);
        let start = Instant::now();
        let label = if name.starts_with(what) { name.clone() } else { format!("{name} ({what})") };
        say(&format!("  starting {label} on port {port}"));
        self.supervisor.run(spec).await?;
        self.supervisor.ready(&name, READY).await.with_context(|| {
            format!("{name} does not get ready; its log is {}:\n{}", log.display(), last_lines(&log))
        })?;
        self.listening(&name, port).await?;
        say(&format!("  {name} is ready after {:.1} s", start.elapsed().as_secs_f64()));
        Ok(())
    }

    async fn listening(&self, name: &str, port: u16) -> anyhow::Result<()> {
        let start = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if start.elapsed() > READY {
                bail!(
                    "{name} runs, but does not listen on port {port}; its log is {}",
                    self.topology.log(name).display()
                );
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// The tutorial's first request, through every hop.
    async fn first_request(&self) -> anyhow::Result<()> {
        let url = self.topology.frontend();
        let client = web::client(&url.parse()?, &web::Trust::default())?;
        let start = Instant::now();
        loop {
            let answer = client.get(&url).send().await;
            let trouble = match answer {
                Ok(answer) if answer.status().is_success() => {
                    let text = answer.text().await.unwrap_or_default();
                    say(&format!("  the first request was answered: {text}"));
                    return Ok(());
                }
                Ok(answer) => format!("{}: {}", answer.status(), answer.text().await.unwrap_or_default()),
                Err(error) => causes::chain(&error),
            };
            if start.elapsed() > READY {
                bail!("everything runs, but {url} does not answer: {trouble}");
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// From `ready` to the signal: keeps `demo.json` true.
async fn live(topology: &Topology, supervisor: &Supervisor, ending: &mut Ending) -> anyhow::Result<()> {
    let mut state = state::State::default();
    state.write_if_changed(topology, supervisor)?;
    let mut trouble = None;
    say(&overview::text(topology));
    say("ready");
    let mut changes = supervisor.changes();
    loop {
        tokio::select! {
            _ = ending.wanted() => return Ok(()),
            changed = changes.changed() => changed.context("the supervisor has ended")?,
            // The pipeline's processes are in its own care: they are looked at, not followed.
            () = tokio::time::sleep(LOOK) => {}
        }
        // A full disk is no reason to end what serves: the file is tried again at the next look.
        match state.write_if_changed(topology, supervisor) {
            Ok(lines) => {
                trouble = None;
                for line in lines {
                    say(&line);
                }
            }
            Err(error) => {
                let text = format!("{error:#}");
                if trouble.as_ref() != Some(&text) {
                    complain(&format!("cannot keep demo.json true: {text}"));
                    trouble = Some(text);
                }
            }
        }
    }
}

/// Callers before those they call, so that nothing is asked of what is gone. The pipeline goes
/// before its processes: it must not restart what we stop. Trouble with one of them does not leave
/// the others running; the first is the result.
async fn end(topology: &Topology, supervisor: Supervisor) -> anyhow::Result<()> {
    let mut result = Ok(());
    for number in (1..=topology::INSTANCES).rev() {
        result = result.and(remove(&supervisor, &format!("hello-{number}")).await);
    }
    result = result.and(remove(&supervisor, "pipeline").await);
    if topology.pipeline_processes().exists() {
        match Supervisor::open(&topology.pipeline_processes()).await {
            Ok(world) => world.close(Leave::Stopped).await,
            Err(error) => result = result.and(Err(error).context("cannot end the processes of the pipeline")),
        }
    }
    result = result.and(remove(&supervisor, "router").await);
    result = result.and(remove(&supervisor, "namerd").await);
    supervisor.close(Leave::Stopped).await;
    result.and(state::remove(topology))
}

async fn remove(supervisor: &Supervisor, name: &str) -> anyhow::Result<()> {
    match supervisor.remove(name).await {
        Ok(()) | Err(supervise::Error::Unknown(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A line for the person at the terminal. One who is gone (`demo | head`, Ctrl-C in `demo | tee`) is
/// not told, and nothing else changes: what was started is still ended in good order.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The same on standard error.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
