//! `switchyard namerd CONFIG|-`: the control plane.

use anyhow::Context;
use clap::Args;
use control::{Config, Server};
use tracing::{info, warn};

use crate::document::{Located, Problem, Source};
use crate::exit::{Exit, Failure};
use crate::signals::Ending;

#[derive(Args, Debug)]
pub struct Arguments {
    /// The document, a namerd config file; `-` is standard input. Relative paths in it start at its directory.
    #[arg(value_name = "CONFIG|-")]
    config: String,
    /// Read the document, say what is wrong with it, and end.
    #[arg(long)]
    validate: bool,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let source = Source::from(arguments.config.as_str());
    let config = read(&source)?;
    if arguments.validate {
        return Ok(Exit::Ok);
    }
    crate::runtime::control()?.block_on(serve(config, &source))
}

/// An error names the file, the key, its value and what to do.
fn read(source: &Source) -> anyhow::Result<Config> {
    let document = Located::read(source)?;
    let config = Config::read(document.value.clone())
        .map_err(|error| document.refuse(source, [Problem { path: error.path, message: error.message }]))?;
    let base = std::path::absolute(std::env::current_dir()?.join(source.directory()))
        .context("cannot tell where this program runs")?;
    Ok(config.absolute(&base))
}

async fn serve(config: Config, source: &Source) -> anyhow::Result<Exit> {
    let mut ending = Ending::new()?;
    let mut server = Server::start(config)
        .await
        .map_err(|error| Failure::new(Exit::Failed, format!("{}: {}", source.name(), crate::web::chain(&error))))?;
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
