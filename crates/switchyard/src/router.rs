//! `switchyard router CONFIG|-`: the data plane, also as `linkerd`.
//!
//! ```text
//!  document ──▶ Plan ──▶ Built: namers, interpreters   on the control runtime
//!                   │             │ Arc<dyn Interpreter>
//!                   │             ▼
//!                   ├──▶ workers               a thread each
//!                   └──▶ admin server           on the control runtime, first to listen, last to end
//! ```
//! A reload builds beside what runs, and swaps; a takeover starts with another process' sockets.

mod admin;
mod assembled;
mod built;
mod difference;
mod handover;
mod ingress;
mod plan;
mod reload;

use std::path::PathBuf;

use clap::Args;
use proxy::config::Problem;

use crate::document::{self, Located, Source};
use crate::exit::Exit;
use crate::{logs, runtime, systemd};
use assembled::{Assembled, Handover, Options, Stopped};
use plan::Plan;

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
    /// Take the place of the router that runs here: get its sockets, serve on them, and let it finish. If
    /// none runs, start as usual.
    #[arg(long)]
    takeover: bool,
    /// Where a new process finds the one that runs; `off`: nowhere
    /// [default: router-PORT.sock of the admin port, in /run/switchyard or the session's runtime directory].
    #[arg(long, value_name = "PATH|off", env = "SWITCHYARD_HANDOVER")]
    handover: Option<PathBuf>,
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
    let activated = systemd::sockets()?;
    runtime::room_for_descriptors();
    let control = match plan.config.admin.worker_threads {
        Some(threads) => runtime::control_on(threads)?,
        None => runtime::control()?,
    };
    let options = Options {
        source: source.clone(),
        workers: arguments.workers.map_or_else(runtime::cores, usize::from),
        log,
        takeover: arguments.takeover,
        handover: match arguments.handover {
            None => Handover::Default,
            Some(path) if path.as_os_str() == "off" => Handover::Off,
            Some(path) => Handover::At(path),
        },
    };
    let served = control.block_on(async {
        let router = Assembled::start(plan, options, activated).await?;
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
