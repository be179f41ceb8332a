//! What can be typed. Each command's own arguments live beside the command.

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::exit::Exit;
use crate::{demo, deploy, dtab, helloworld, logs, namerd, pipeline, router};

/// Moves production traffic from one version of a service to the next, safely.
///
/// Exit codes: 0 well, 1 failed, 2 usage, 3 reverted, 4 waits at a gate, 5 timed out, 6 conflict.
#[derive(Parser, Debug)]
#[command(name = "switchyard", version, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(flatten)]
    pub logs: logs::Logs,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Read, edit and explain the delegation tables of a control plane.
    Dtab(dtab::Arguments),
    /// Run the whole tutorial on this machine.
    Demo(demo::Arguments),
    /// Start, follow and decide deploys.
    Deploy(deploy::Arguments),
    /// The control plane: stores dtabs and serves their API.
    Namerd(namerd::Arguments),
    /// The pipeline server: deploys, their page and their API.
    Pipeline(pipeline::Arguments),
    /// The data plane: routes requests by a linkerd config file.
    Router(router::Arguments),
    /// The tutorial's hello/world application.
    Helloworld(helloworld::Arguments),
    /// Print a shell's completions.
    Completions(CompletionsArguments),
}

impl Command {
    /// Whether it runs until it is told to end.
    pub fn is_server(&self) -> bool {
        matches!(self, Command::Helloworld(_) | Command::Namerd(_) | Command::Pipeline(_) | Command::Router(_))
    }
}

#[derive(Args, Debug)]
pub struct CompletionsArguments {
    /// Whose completions.
    shell: Shell,
}

/// `switchyard completions bash > /etc/bash_completion.d/switchyard`
pub fn completions(arguments: CompletionsArguments) -> anyhow::Result<Exit> {
    crate::web::die_of_broken_pipes();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "switchyard", &mut std::io::stdout());
    Ok(Exit::Ok)
}
