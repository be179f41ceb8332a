//! Writes: create, update, delete.

use std::io::Read;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::Session;
use super::go_json;
use super::remote::{Body, DTAB, JSON, Note, VersionedDtab, Written};
use crate::exit::{Exit, Failure};
use crate::output::{self, Output};

/// What every write may say.
#[derive(Args, Debug)]
pub struct NoteArguments {
    /// Who writes, for the history.
    #[arg(long, env = "USER", value_name = "NAME")]
    author: Option<String>,
    /// Why, for the history.
    #[arg(short = 'm', long = "message", value_name = "TEXT")]
    comment: Option<String>,
    /// Wait until each live router serves the change; exit 5 if one does not (the write stands).
    #[arg(long, value_name = "DURATION", value_parser = duration, num_args = 0..=1, default_missing_value = "5s")]
    wait: Option<Duration>,
}

impl NoteArguments {
    pub fn note(&self) -> Note {
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Note { author: some(&self.author), comment: some(&self.comment), wait: self.wait }
    }
}

/// `5s`, `250ms`, `1m30s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    crate::helloworld::duration::parse(text).ok_or_else(|| "not a duration such as 5s or 250ms".to_owned())
}

#[derive(Args, Debug)]
pub struct Create {
    namespace: String,
    /// The dtab, as text or as the JSON of `get -o json`; `-` is standard input.
    file: String,
    #[command(flatten)]
    note: NoteArguments,
}

#[derive(Args, Debug)]
pub struct Update {
    namespace: String,
    /// The dtab, as text or as the JSON of `get -o json`; `-` is standard input. A version in it
    /// (the line `# version V`, or in the JSON) must still be the current one.
    file: String,
    /// Write only if this is the current version.
    #[arg(long)]
    version: Option<String>,
    /// Ignore the version in the file.
    #[arg(long, conflicts_with = "version")]
    force: bool,
    #[command(flatten)]
    note: NoteArguments,
}

#[derive(Args, Debug)]
pub struct Delete {
    namespace: String,
    #[command(flatten)]
    note: NoteArguments,
}

/// A dtab as it came from a file.
pub struct Input {
    pub version: Option<String>,
    pub body: Body,
}

impl Input {
    /// The first byte decides: `{` or `[` is JSON, anything else goes on as it is.
    pub fn read(file: &str) -> anyhow::Result<Input> {
        let text = read_text(file)?;
        if text.starts_with(['{', '[']) {
            if text.starts_with('[') {
                let message = "json: cannot unmarshal array into Go value of type namer.VersionedDtab";
                return Err(Failure::error(Exit::Usage, message));
            }
            let input: VersionedDtab = serde_json::from_str(&text)?;
            let version = Some(input.version).filter(|version| !version.is_empty());
            let body = Body { content_type: JSON, text: go_json::entries(&input.dtab) };
            return Ok(Input { version, body });
        }
        Ok(Input { version: None, body: Body { content_type: DTAB, text } })
    }

    /// The version of the line `# version V` that `get` prints.
    pub fn version_line(&self) -> Option<String> {
        let first = self.body.text.lines().next()?;
        let version = first.strip_prefix("# version ")?.trim();
        (self.body.content_type == DTAB && !version.is_empty()).then(|| version.to_owned())
    }
}

fn read_text(file: &str) -> anyhow::Result<String> {
    if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        Failure::error(Exit::Failed, format!("open {file}: {reason}"))
    })
}

impl Create {
    pub async fn run(&self, session: &Session) -> anyhow::Result<Exit> {
        let input = Input::read(&self.file)?;
        let written = session.control_plane.create(&self.namespace, input.body, &self.note.note()).await?;
        session.report("Created", &self.namespace, &written)
    }
}

impl Update {
    pub async fn run(&self, session: &Session) -> anyhow::Result<Exit> {
        let input = Input::read(&self.file)?;
        let version = match (&self.version, self.force) {
            (_, true) => None,
            (Some(version), _) => Some(version.clone()),
            (None, false) => input.version.clone().or_else(|| input.version_line()),
        };
        let written =
            session.control_plane.update(&self.namespace, version.as_deref(), input.body, &self.note.note()).await?;
        session.report("Updated", &self.namespace, &written)
    }
}

impl Delete {
    pub async fn run(&self, session: &Session) -> anyhow::Result<Exit> {
        let written = session.control_plane.delete(&self.namespace, &self.note.note()).await?;
        session.report("Deleted", &self.namespace, &written)
    }
}

impl Session {
    /// Says what a write came to.
    pub fn report(&self, done: &str, namespace: &str, written: &Written) -> anyhow::Result<Exit> {
        match self.output {
            Output::Json => output::json(&serde_json::json!({
                "namespace": namespace,
                "action": done.to_lowercase(),
                "version": written.version,
                "fleet": written.fleet,
                "laggards": written.laggards,
            }))?,
            Output::Text => {
                println!("{done} {}", output::safe(namespace));
                if let Some(version) = &written.version {
                    eprintln!("# version {version}");
                }
                match written.fleet {
                    None => {}
                    Some(0) => eprintln!("# no router follows {}", output::safe(namespace)),
                    Some(routers) => {
                        eprintln!("# served by all {routers} routers that follow {}", output::safe(namespace));
                    }
                }
            }
        }
        let Some(laggards) = &written.laggards else {
            return Ok(Exit::Ok);
        };
        eprintln!("the write stands, but not every router serves it yet:");
        for laggard in laggards.as_array().into_iter().flatten() {
            let of = |key: &str| output::safe(laggard[key].as_str().unwrap_or("-"));
            eprintln!(
                "  {} of process {} serves {} ({} ms behind)",
                of("router"),
                of("process"),
                of("version"),
                laggard["behindMs"]
            );
        }
        Ok(Exit::TimedOut)
    }
}
