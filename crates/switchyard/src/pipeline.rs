//! `switchyard pipeline CONFIG|-`: the pipeline server.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use discovery::Clusters;
use pipeline::{Config, Server, Surroundings};
use tracing::info;

use crate::document::{self, Source};
use crate::exit::Exit;
use crate::signals::Ending;
use crate::systemd::Systemd;

#[derive(Args, Debug)]
pub struct Arguments {
    /// The document; `-` is standard input. Relative paths in it start at its directory.
    #[arg(value_name = "CONFIG|-")]
    config: String,
    /// Read the document, say what is wrong with it, and end.
    #[arg(long)]
    validate: bool,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let source = Source::from(arguments.config.as_str());
    let config = absolute(document::read(&source)?, &source)?;
    if arguments.validate {
        return Ok(Exit::Ok);
    }
    crate::runtime::control()?.block_on(serve(config))?;
    Ok(Exit::Ok)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut ending = Ending::new()?;
    let executable = std::env::current_exe().context("cannot tell where this program is")?;
    let clusters = Clusters::new(crate::runtime::environment());
    let server = Server::start(config, Surroundings { switchyard: executable, clusters }).await?;
    info!("serving the pipeline on {}", server.address());
    let systemd = Systemd::of_this_process();
    systemd.ready("Serving");
    crate::runtime::release_text_after_start();
    info!("{}: ending; deploys in flight stay in the journal", ending.wanted().await);
    systemd.stopping();
    server.stop().await;
    Ok(())
}

fn absolute(mut config: Config, source: &Source) -> anyhow::Result<Config> {
    let base = std::path::absolute(std::env::current_dir()?.join(source.directory()))?;
    let Config { state, processes, logs, registrations, kubernetes, pipelines, .. } = &mut config;
    let optional = [processes, logs, registrations, &mut kubernetes.kubeconfig];
    for path in std::iter::once(state).chain(optional.into_iter().flatten()).chain(pipelines) {
        *path = base.join(std::mem::take::<PathBuf>(path));
    }
    config.control_plane_tls = config.control_plane_tls.map(|tls| tls.absolute(&base));
    config.tls = config.tls.map(|tls| tls.absolute(&base));
    Ok(config)
}
