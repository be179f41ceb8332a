//! `switchyard deploy …`: start, follow and decide deploys over the pipeline server's API.
//!
//! Exit codes are the point: CI runs `start --wait` and believes the number (`docs/exit-codes.md`).

mod remote;
mod show;
mod watch;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use crate::exit::{Exit, Failure};
use crate::output::{self, Output};
use crate::web;
use remote::{Deploy, Person, Pipeline};
use watch::{Follow, Since};

const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

#[derive(Args, Debug)]
pub struct Arguments {
    /// The pipeline server.
    #[arg(long, global = true, env = "SWITCHYARD_PIPELINE", default_value = DEFAULT_SERVER, value_name = "URL")]
    server: String,
    #[command(flatten)]
    trust: web::Trust,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value = "text")]
    output: Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Start a deploy and print its id.
    Start {
        /// The pipeline, such as `hello_world`.
        pipeline: String,
        /// A parameter; those not given keep the pipeline's defaults.
        #[arg(short, long = "parameter", value_name = "KEY=VALUE", value_parser = parameter)]
        parameters: Vec<(String, String)>,
        #[command(flatten)]
        by: Person,
        #[command(flatten)]
        follow: Follow,
    },
    /// Print all deploys, newest first.
    #[command(visible_alias = "ls")]
    List,
    /// Print where a deploy stands.
    Status {
        /// Its id; the newest deploy if not given.
        id: Option<String>,
    },
    /// Follow a deploy to its end.
    Watch {
        /// Its id; the newest deploy if not given.
        id: Option<String>,
        #[command(flatten)]
        by: Person,
        #[command(flatten)]
        follow: Follow,
    },
    /// Say Ok at the gate where a deploy waits.
    Approve(Decision),
    /// Stop a deploy and put everything back as it was.
    Abort(Decision),
    /// Have a failed deploy try again now, not only after a while by itself.
    Retry {
        /// Its id; the newest deploy if not given.
        id: Option<String>,
        #[command(flatten)]
        by: Person,
        #[command(flatten)]
        follow: Follow,
    },
    /// Print the log of a deploy.
    #[command(visible_alias = "log")]
    Logs {
        /// Its id; the newest deploy if not given.
        id: Option<String>,
        /// Go on until the deploy is over.
        #[arg(short, long)]
        follow: bool,
    },
}

#[derive(Args, Debug)]
struct Decision {
    /// Its id; the newest deploy if not given.
    id: Option<String>,
    #[command(flatten)]
    by: Person,
    #[command(flatten)]
    follow: Follow,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a parameter is KEY=VALUE".to_owned()),
    }
}

struct Session {
    pipeline: Pipeline,
    output: Output,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    web::die_of_broken_pipes();
    let server = web::address("--server", &arguments.server)?;
    let session = Session { pipeline: Pipeline::new(server, &arguments.trust)?, output: arguments.output };
    web::block_on(session.run(arguments.command))
}

impl Session {
    async fn run(&self, command: Command) -> anyhow::Result<Exit> {
        match command {
            Command::Start { pipeline, parameters, by, follow } => {
                let id = self.start(&pipeline, parameters, &by).await?;
                self.started(&id, &follow, &by).await
            }
            Command::List => self.list().await,
            Command::Status { id } => self.status(id).await,
            Command::Watch { id, by, follow } => {
                let id = self.id(id).await?;
                self.follow(&id, &follow.always(), &by, Since::default()).await
            }
            Command::Approve(decision) => self.decide("approve", decision).await,
            Command::Abort(decision) => self.decide("abort", decision).await,
            Command::Retry { id, by, follow } => self.retry(id, &follow, &by).await,
            Command::Logs { id, follow } => self.logs(id, follow).await,
        }
    }

    async fn start(&self, pipeline: &str, parameters: Vec<(String, String)>, by: &Person) -> anyhow::Result<String> {
        let mut map = Map::new();
        for (key, value) in parameters {
            if map.insert(key.clone(), Value::String(value)).is_some() {
                return Err(Failure::error(Exit::Usage, format!("parameter {key} is given twice")));
            }
        }
        self.pipeline.start(pipeline, map, by).await
    }

    async fn started(&self, id: &str, follow: &Follow, by: &Person) -> anyhow::Result<Exit> {
        match (self.output, follow.is_wanted()) {
            (Output::Text, _) => println!("{id}"),
            (Output::Json, false) => output::json(&serde_json::json!({ "id": id }))?,
            // One document on standard output: the deploy as it ends.
            (Output::Json, true) => {}
        }
        if !follow.is_wanted() {
            return Ok(Exit::Ok);
        }
        self.follow(id, follow, by, Since::default()).await
    }

    async fn list(&self) -> anyhow::Result<Exit> {
        let deploys = self.pipeline.list().await?;
        match self.output {
            Output::Json => output::json(&deploys)?,
            Output::Text => show::table(&deploys).print(),
        }
        Ok(Exit::Ok)
    }

    async fn status(&self, id: Option<String>) -> anyhow::Result<Exit> {
        let id = self.id(id).await?;
        let deploy = self.pipeline.get(&id).await?;
        self.print(&deploy)?;
        Ok(Exit::Ok)
    }

    async fn decide(&self, verb: &str, decision: Decision) -> anyhow::Result<Exit> {
        let id = self.id(decision.id).await?;
        let before = self.pipeline.get(&id).await?;
        let since = match decision.follow.is_wanted() {
            true => Some(Since::decision(&before, &self.pipeline.log(&id).await?)),
            false => None,
        };
        self.pipeline.decide(&id, verb, &decision.by, before.stage.as_deref()).await?;
        if let Some(since) = since {
            return self.follow(&id, &decision.follow, &decision.by, since).await;
        }
        match self.output {
            Output::Json => output::json(&self.pipeline.get(&id).await?)?,
            Output::Text if verb == "approve" => println!("Approved {id}"),
            Output::Text => println!("Aborted {id}"),
        }
        Ok(Exit::Ok)
    }

    async fn retry(&self, id: Option<String>, follow: &Follow, by: &Person) -> anyhow::Result<Exit> {
        let id = self.id(id).await?;
        let deploy = self.pipeline.retry(&id).await?;
        if follow.is_wanted() {
            return self.follow(&id, follow, by, Since::default()).await;
        }
        match self.output {
            Output::Json => output::json(&deploy)?,
            Output::Text => println!("Trying {id} again"),
        }
        Ok(Exit::Ok)
    }

    async fn logs(&self, id: Option<String>, follow: bool) -> anyhow::Result<Exit> {
        let id = self.id(id).await?;
        let mut printed = 0;
        loop {
            // The state is read first: what is logged before the end is then in the text.
            let over = self.pipeline.get(&id).await?.is_over();
            let log = self.pipeline.log(&id).await?;
            let new = log.get(printed..).unwrap_or("");
            match self.output {
                Output::Text => print!("{}", output::safe(new)),
                // One object a line: with --follow there is no end to wait for.
                Output::Json => {
                    for line in show::log_lines(new) {
                        println!("{}", serde_json::to_string(&line)?);
                    }
                }
            }
            printed = printed.max(log.len());
            if over || !follow {
                return Ok(Exit::Ok);
            }
            tokio::time::sleep(watch::INTERVAL).await;
        }
    }

    fn print(&self, deploy: &Deploy) -> anyhow::Result<()> {
        match self.output {
            Output::Json => output::json(deploy),
            Output::Text => {
                print!("{}", show::status(deploy, output::coloured()));
                Ok(())
            }
        }
    }

    /// The id given, or the newest deploy's.
    async fn id(&self, id: Option<String>) -> anyhow::Result<String> {
        match id {
            Some(id) => Ok(id),
            None => {
                let newest = self.pipeline.list().await?.into_iter().next();
                Ok(newest.context("there is no deploy yet; `switchyard deploy start PIPELINE` makes one")?.id)
            }
        }
    }
}
