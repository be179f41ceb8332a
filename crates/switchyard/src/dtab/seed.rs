//! `switchyard dtab seed`: what the tutorial's `namerctl` job does. Creates the namespaces that are not there
//! yet, and leaves those alone that are.

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use super::Session;
use super::remote::{Body, ControlPlane, DTAB, Note, Weights};
use super::write::{Input, NoteArguments, duration};
use crate::exit::{Exit, Failure};
use crate::output::{self, Output};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub struct Seed {
    /// A namespace and the file with its first dtab, text or JSON.
    #[arg(value_name = "NAMESPACE=FILE", required = true, value_parser = pair)]
    seeds: Vec<(String, String)>,
    /// How long to try while the control plane cannot be reached or fails.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    within: Duration,
    #[command(flatten)]
    note: NoteArguments,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((namespace, file)) if !namespace.is_empty() && !file.is_empty() => Ok((namespace.into(), file.into())),
        _ => Err("not a namespace and a file, such as internal=internal.dtab".to_owned()),
    }
}

impl Seed {
    pub async fn run(&self, session: &Session) -> anyhow::Result<Exit> {
        let read = |(namespace, file): &(String, String)| anyhow::Ok((namespace.clone(), Input::read(file)?.body));
        let seeds = self.seeds.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
        let note = self.note.note();
        let until = Instant::now() + self.within;
        for (namespace, body) in &seeds {
            let is_new = loop {
                match create(&session.control_plane, namespace, body, &note).await {
                    Ok(is_new) => break is_new,
                    Err(error) if is_passing(&error) && Instant::now() < until => {
                        eprintln!("# trying again: {error:#}");
                        tokio::time::sleep(PAUSE).await;
                    }
                    Err(error) => return Err(error),
                }
            };
            match session.output {
                Output::Json => output::json(&serde_json::json!({ "namespace": namespace, "created": is_new }))?,
                Output::Text if is_new => println!("Created {}", output::safe(namespace)),
                Output::Text => println!("{} exists already", output::safe(namespace)),
            }
        }
        Ok(Exit::Ok)
    }
}

/// The same for this process's own dtabs; the names of those created.
pub async fn seed(base: &str, namespaces: &[(&str, &str)]) -> anyhow::Result<Vec<String>> {
    let control_plane = ControlPlane::new(base.parse()?, &crate::web::Trust::default())?;
    let note =
        Note { author: Some("demo".to_owned()), comment: Some("the tutorial's first dtab".to_owned()), wait: None };
    let mut created = Vec::new();
    for (namespace, dtab) in namespaces {
        let body = Body { content_type: DTAB, text: (*dtab).to_owned() };
        if create(&control_plane, namespace, &body, &note).await? {
            created.push((*namespace).to_owned());
        }
    }
    Ok(created)
}

/// Whether it was not there before.
async fn create(control_plane: &ControlPlane, namespace: &str, body: &Body, note: &Note) -> anyhow::Result<bool> {
    match control_plane.create(namespace, body.clone(), note).await {
        Ok(_) => Ok(true),
        Err(error) if exit_of(&error) == Some(Exit::Conflict) => {
            control_plane.get(namespace, Weights::Exact).await.with_context(|| format!("{namespace} exists"))?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Whether it may be different in a moment: not where the dtab or the request makes no sense.
fn is_passing(error: &anyhow::Error) -> bool {
    exit_of(error) == Some(Exit::Failed)
}

fn exit_of(error: &anyhow::Error) -> Option<Exit> {
    error.downcast_ref::<Failure>().map(|failure| failure.exit)
}
