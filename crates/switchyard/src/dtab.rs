//! `switchyard dtab …`: read, edit and explain delegation tables, over the HTTP API of the control
//! plane. `namerctl` speaks the same API with the original's command line and output.

mod config_file;
mod edit;
mod explain;
pub mod go_json;
mod history;
mod layout;
pub mod namerctl;
mod remote;
mod seed;
mod write;

use clap::{Args, Subcommand};

use crate::exit::Exit;
use crate::output::{self, Output};
use crate::web;
use remote::{ControlPlane, Weights};
pub use seed::seed;
pub use write::duration;

/// Where the control plane is, when nobody says.
const DEFAULT_BASE_URL: &str = "http://127.0.0.1:4180";

#[derive(Args, Debug)]
pub struct Arguments {
    /// The control plane's HTTP API.
    #[arg(long, global = true, env = "NAMERCTL_BASE_URL", default_value = DEFAULT_BASE_URL, value_name = "URL")]
    base_url: String,
    #[command(flatten)]
    trust: web::Trust,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value = "text")]
    output: Output,
    /// The same as `-o json`.
    #[arg(long, global = true, hide = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Print the names of all namespaces.
    #[command(visible_alias = "ls")]
    List,
    /// Print a dtab under its version.
    #[command(visible_alias = "cat")]
    Get {
        namespace: String,
        /// As it was at this version.
        #[arg(long)]
        version: Option<String>,
    },
    /// Create a namespace.
    #[command(visible_alias = "new")]
    Create(write::Create),
    /// Replace a dtab.
    #[command(visible_alias = "up")]
    Update(write::Update),
    /// Create the namespaces that are not there yet; for jobs that prepare a control plane.
    Seed(seed::Seed),
    /// Delete a namespace; its history stays.
    #[command(visible_aliases = ["del", "rm"])]
    Delete(write::Delete),
    /// Edit a dtab in `$EDITOR`, or set single entries.
    Edit(edit::Edit),
    /// Show what differs between a dtab and a file, or between two versions.
    Diff(history::Diff),
    /// Print all versions of a dtab, newest first.
    History(history::History),
    /// Put an earlier version back, as a new version.
    Undo(history::Undo),
    /// Show, step by step, where a name leads and why.
    Explain(explain::Explain),
}

/// What each command needs.
pub struct Session {
    control_plane: ControlPlane,
    output: Output,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    web::die_of_broken_pipes();
    let base = web::address("--base-url", &arguments.base_url)?;
    let session = Session {
        control_plane: ControlPlane::new(base, &arguments.trust)?,
        output: if arguments.json { Output::Json } else { arguments.output },
    };
    web::block_on(session.run(arguments.command))
}

impl Session {
    async fn run(&self, command: Command) -> anyhow::Result<Exit> {
        match command {
            Command::List => self.list().await,
            Command::Get { namespace, version } => self.get(&namespace, version.as_deref()).await,
            Command::Create(create) => create.run(self).await,
            Command::Update(update) => update.run(self).await,
            Command::Seed(seed) => seed.run(self).await,
            Command::Delete(delete) => delete.run(self).await,
            Command::Edit(edit) => edit.run(self).await,
            Command::Diff(diff) => diff.run(self).await,
            Command::History(history) => history.run(self).await,
            Command::Undo(undo) => undo.run(self).await,
            Command::Explain(explain) => explain.run(self).await,
        }
    }

    async fn list(&self) -> anyhow::Result<Exit> {
        let names = self.control_plane.list().await?;
        match self.output {
            Output::Json => output::json(&names)?,
            Output::Text => names.iter().for_each(|name| println!("{}", output::safe(name))),
        }
        Ok(Exit::Ok)
    }

    async fn get(&self, namespace: &str, version: Option<&str>) -> anyhow::Result<Exit> {
        let found = match version {
            Some(version) => self.control_plane.get_revision(namespace, version).await?,
            None => self.control_plane.get(namespace, Weights::Exact).await?,
        };
        match self.output {
            Output::Json => output::json(&found)?,
            Output::Text => print!("{}", layout::pretty(&found)),
        }
        Ok(Exit::Ok)
    }
}
