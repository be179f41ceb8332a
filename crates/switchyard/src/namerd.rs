//! `switchyard namerd CONFIG|-`: the control plane.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use control::{Config, Server};
use tracing::{info, warn};

use crate::document::{Located, Problem, Source};
use crate::exit::{Exit, Failure};
use crate::logs;
use crate::signals::Ending;
use crate::systemd::Systemd;

#[derive(Args, Debug)]
pub struct Arguments {
    /// The document, a namerd config file; `-` is standard input. Relative paths in it start at its directory.
    #[arg(value_name = "CONFIG|-")]
    config: String,
    /// Read the document, say what is wrong with it, and end.
    #[arg(long)]
    validate: bool,
}

pub fn run(arguments: Arguments, log: logs::Filter) -> anyhow::Result<Exit> {
    let source = Source::from(arguments.config.as_str());
    let config = read(&source)?;
    if arguments.validate {
        return Ok(Exit::Ok);
    }
    crate::runtime::room_for_descriptors();
    let runtime = crate::runtime::control()?;
    let served = runtime.block_on(serve(config, &source, log));
    // Watches of files have no end of their own.
    runtime.shutdown_background();
    served
}

/// The log's levels, as the admin server shows and changes them.
struct Levels(logs::Filter);

impl control::Levels for Levels {
    fn all(&self) -> Vec<(String, String)> {
        proxy::admin::Levels::all(&self.0).into_iter().map(|level| (level.logger, level.level)).collect()
    }

    fn set(&self, logger: &str, level: &str) -> Result<(), String> {
        proxy::admin::Levels::set(&self.0, logger, level).map_err(|unknown| unknown.to_string())
    }
}

/// An error names the file, the key, its value and what to do.
fn read(source: &Source) -> anyhow::Result<Config> {
    let document = Located::read(source)?;
    let config = Config::read(document.value.clone()).map_err(|errors| {
        let problems = errors.into_iter().map(|error| Problem { path: error.path, message: error.message });
        document.refuse(source, problems)
    })?;
    let base = std::path::absolute(std::env::current_dir()?.join(source.directory()))
        .context("cannot tell where this program runs")?;
    Ok(Config { environment: crate::runtime::environment(), ..config.absolute(&base) })
}

async fn serve(config: Config, source: &Source, log: logs::Filter) -> anyhow::Result<Exit> {
    let mut ending = Ending::new()?;
    let mut server = Server::start_with(config, Some(Arc::new(Levels(log))))
        .await
        .map_err(|error| Failure::error(Exit::Failed, format!("{}: {}", source.name(), causes::chain(&error))))?;
    let systemd = Systemd::of_this_process();
    systemd.ready("Serving");
    crate::runtime::release_text_after_start();
    crate::memory::give_back_from_here();
    let grace = tokio::select! {
        signal = ending.wanted() => {
            info!("{signal}: closing");
            None
        }
        grace = server.shutdown_asked() => {
            info!("asked to shut down: closing");
            grace
        }
    };
    systemd.stopping();
    tokio::select! {
        finished = server.stop(grace) => {
            if !finished {
                warn!("some answers were not finished within the grace");
            }
        }
        signal = ending.wanted() => warn!("{signal} again: not waiting for answers under way"),
    }
    Ok(Exit::Ok)
}
